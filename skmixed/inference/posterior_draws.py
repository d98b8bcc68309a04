"""What `posterior` returns: draws of everything, their summary, effects and predictions."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from skmixed._warn import warn
from skmixed.exceptions import PosteriorWarning, UnseenGroupsWarning
from skmixed.inference.intervals import check_level, component_name
from skmixed.inference.numbers import column, common_decimals
from skmixed.inference.priors import Prior
from skmixed.inference.tables import as_html, as_text, wrapped
from skmixed.linalg.system import Effects
from skmixed.models.components import variance_parameters

KINDS = ("mean", "observation")
_LEVEL = 0.95
_BOUNDS = {"sd": (0.0, np.inf), "sigma": (0.0, np.inf), "cor": (-1.0, 1.0)}
# Draws beyond a limit below which it is none, and below which it is a rough one.
_FEWEST, _FEW = 1, 5
# Random effects drawn at a time, and how many are kept for the next question.
_AT_A_TIME, _KEPT = 1 << 21, 1 << 25


class Posterior:
    """Equally weighted draws from the posterior distribution of a linear mixed model.

    Made by :func:`skmixed.inference.posterior`.

    Attributes
    ----------
    draws : DataFrame (n_draws, parameters)
        Fixed effects, standard deviations and correlations of the random effects, and sigma, named
        as in ``confint``. Columns that were left out of the fit are left out here.
    pareto_k : float
        Shape of the tail of the importance weights: below 0.5 very good, above 0.7 (less for few
        draws) not to be relied on.
    ess : float
        So many independent points the importance sample is worth.
    prior : Prior
    bounds : dict of str to (lower, upper)
        What standard deviations and correlations lie between.
    notes : tuple of str
        What has to be known to read the draws.
    """

    def __init__(self, model, density, prior, sample, n_draws, rng, remarks=()):
        fit = model.result_
        self.prior: Prior = prior
        self.pareto_k: float = sample.k
        self.ess: float = sample.ess
        self._model, self._density = model, density
        self._point = sample.resampled(n_draws, rng)
        self._V = sample.points[self._point]
        self._normal = rng.standard_normal((n_draws, fit.rank))
        self._seed = int(rng.integers(2**63))
        # in the engine's units, see ProfiledDeviance
        self._gamma = self._fixed_draws(sample.found)
        rows = model._coefficient_rows
        known = ~np.isnan(rows).any(axis=1)
        beta = self._coefficients @ (rows[known] @ fit.basis.to_coef).T
        names = [name for name, own in zip(fit.names, known, strict=True) if own]
        components = variance_parameters(fit.layout)
        kinds = {component_name(fit, c): c.kind for c in components}
        self.bounds = {name: _BOUNDS[kind] for name, kind in kinds.items()}
        names += list(kinds)
        values = np.hstack([beta, density.chart.values(self._V)])
        self.draws = pd.DataFrame(values, columns=pd.Index(names, name="parameter"))
        self.notes = (*_notes(sample, fit, known), *remarks)

    def _fixed_draws(self, found):
        """Draws (n_draws, r) of the fixed effects, in the engine's units."""
        if found.fixed_root is not None:
            scale = self._density.chart.sigma(self._V)
            return found.fixed_draws(self._point, scale, self._normal)
        groups = self._density.objective.layout.groups
        drawn = []
        for at in self._slices():
            zeros = [np.zeros((g.n_columns, at.stop - at.start, g.n_levels)) for g in groups]
            drawn.append(self._density.draws(self._V[at], Effects(zeros, self._normal[at].T)))
        return np.concatenate([own.fixed.T for own in drawn])

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return len(self._V)

    @property
    def _coefficients(self):
        """Coefficients (n_draws, r) on the orthonormal basis of X, in the user's units."""
        objective = self._density.objective
        return objective.gamma + objective.y_scale * self._gamma

    # Summary

    def summary(self, level=_LEVEL) -> pd.DataFrame:
        """Mean, standard deviation, median and interval of every parameter.

        Parameters
        ----------
        level : float, default 0.95
            Probability of the interval of highest density: the shortest one.

        Returns
        -------
        DataFrame
            Columns mean, sd, median, lower, upper, mcse and ess by parameter: ``mcse`` is the
            standard error of the mean as an estimate from these draws, ``ess`` the number of
            independent draws with that standard error.

        Raises
        ------
        ValueError
            For a level that the draws are too few for: not one is expected beyond a limit.

        Warns
        -----
        PosteriorWarning
            Where less than five are.
        """
        check_level(level)
        self._check_tail(level)
        return self._table(level)

    def _table(self, level):
        rows = {name: self._row(x.to_numpy(), level) for name, x in self.draws.items()}
        columns = ["mean", "sd", "median", "lower", "upper", "mcse", "ess"]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
        return table.rename_axis("parameter")

    def _beyond(self, level):
        """Draws that are expected beyond each limit."""
        return self.n_draws * (1.0 - level) / 2.0

    def _check_tail(self, level):
        beyond = self._beyond(level)
        if beyond >= _FEW - 1e-9:
            return
        needed = int(np.ceil(2 * _FEW / (1.0 - level) - 1e-9))
        told = (
            f"summary(level={level:g}) of {self.n_draws} draws has {beyond:.2g} of them beyond "
            f"each limit: take n_draws={needed} or more, or a lower level"
        )
        if beyond < _FEWEST:
            raise ValueError(told)
        warn(told, PosteriorWarning)

    def _row(self, x, level):
        mean, sd = x.mean(), x.std(ddof=1) if len(x) > 1 else np.nan
        # draws from one point of the importance sample are one cluster
        mcse = np.sqrt(np.square(np.bincount(self._point, x - mean)).sum()) / len(x)
        ess = min((sd / mcse) ** 2, float(len(x))) if mcse > 0 else np.nan
        return [mean, sd, np.median(x), *highest_density(x, level), mcse, ess]

    # Effects and predictions

    def effects(self, group) -> np.ndarray:
        """Draws of the random effects of a grouping factor.

        Parameters
        ----------
        group : str

        Returns
        -------
        array (n_draws, levels, effects)
            Levels and effects in the order of the model's ``random_effects_``; a prior mean of 0.

        Raises
        ------
        ValueError
            For a name that is no grouping factor.
        """
        fit, labels = self._model.result_, self._model.labels_
        terms = [
            t for t, own in enumerate(labels.terms) if own.group == group and not own.is_smooth
        ]
        if not terms:
            if any(own.group == group for own in labels.terms):
                raise ValueError(
                    f"{group!r} is a smooth function, which has no levels: predict has draws of it"
                )
            known = ", ".join(map(repr, labels.levels)) or "smooth functions"
            raise ValueError(f"the model has no grouping factor {group!r}, only {known}")
        found = []
        for _, b in self._blocks():
            layouts = [fit.layout.terms[t] for t in terms]
            own = []
            for at in layouts:
                levels = fit.layout.groups[at.group].at_levels(b[at.group][at.columns])
                own.append(at.users_effects(levels.transpose(1, 2, 0)))
            found.append(fit.unit * np.concatenate(own, axis=2))
        return np.concatenate(found)

    def predict(self, X, kind="mean", groups=None, *, random_effects=True) -> np.ndarray:
        """Draws of means or of observations of new rows.

        A level that the fit did not have gets effects drawn from their population, the same for
        all of its rows in one draw. With the model's ``unseen_groups="nan"`` its rows are NaN.

        Parameters
        ----------
        X : table of n rows
        kind : {"mean", "observation"}
            x'beta + z'b, or that with a new residual, whose variance is divided by the prior
            weight of the row.
        groups : array (n,), optional
            As for ``predict`` of the model.
        random_effects : bool or list of str
            Grouping factors whose effects enter, as for ``predict`` of the model.

        Returns
        -------
        array (n_draws, n)
            NaN in rows with missing covariates, if the model drops these.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be 'mean' or 'observation', got {kind!r}")
        model, fit = self._model, self._model.result_
        rows = model._new_rows(X, groups, random_effects)
        design = rows.design
        eta = self._coefficients @ fit.basis.orthonormal(model._estimable(design.X)).T
        if design.offset is not None:
            eta += design.offset
        if any(term is not None for term in rows.terms):
            own = rows.terms
            if rows.unseen.any() and model.unseen_groups != "nan":
                with warnings.catch_warnings():  # told above
                    warnings.simplefilter("ignore", UnseenGroupsWarning)
                    own = model._new_rows(X, groups, random_effects, levels="own").terms
            for at, b in self._blocks():
                eta[at] += fit.unit * self._random_part(rows.terms, own, b, at)
        if model.unseen_groups == "nan":
            eta[:, rows.unseen] = np.nan
        if kind == "observation":
            sd = np.exp(self._V[:, -1:]) / np.sqrt(model._new_weights(X)[design.rows])
            eta += sd * self._generator(1).standard_normal(eta.shape)
        return rows.over_input(eta.T).T

    def _random_part(self, terms, own, b, at):
        """z'b (k, n) of a block of draws, in the engine's units."""
        layout, chart = self._model.result_.layout, self._density.chart
        factors = chart.factors(self._V[at])
        scale = chart.sigma(self._V[at])
        total = 0.0
        for t, (term, new, place) in enumerate(zip(terms, own, layout.terms, strict=True)):
            if term is None:
                continue
            z, codes = place.covariates(term.z), term.codes
            effects = layout.groups[place.group].at_levels(b[place.group][place.columns])
            effects = effects[:, :, codes]
            unseen = codes < 0
            if unseen.any():
                T = factors[place.group][:, place.columns, place.columns]
                effects[:, :, unseen] = self._new_effects(T, scale, new.codes[unseen], t, at)
            total = total + np.einsum("ns,skn->kn", z, effects)
        return total

    def _new_effects(self, T, scale, codes, t, at):
        """Effects (s, k, n) of new levels; rows whose code is unknown are levels of their own."""
        alone = codes < 0
        codes = np.where(alone, codes.max(initial=0) + 1 + np.arange(len(codes)), codes)
        levels, codes = np.unique(codes, return_inverse=True)
        rng = self._generator(2, t, at.start)
        u = rng.standard_normal((len(T), T.shape[1], len(levels)))
        return np.einsum("k,kst,ktl->skl", scale, T, u)[:, :, codes.ravel()]

    def _generator(self, *use):
        """Random numbers for one use, the same every time."""
        return np.random.default_rng([self._seed, *use])

    def _blocks(self):
        """(slice of the draws, Effects) of all random effects, in the engine's units."""
        groups = self._model.result_.layout.groups
        if self.n_draws * sum(g.size for g in groups) <= _KEPT:
            return self._kept_blocks
        return self._drawn_blocks()

    @cached_property
    def _kept_blocks(self):
        return list(self._drawn_blocks())

    def _drawn_blocks(self):
        density, rng = self._density, self._generator(0)
        groups = density.objective.layout.groups
        for at in self._slices():
            shapes = [(g.n_columns, at.stop - at.start, g.n_levels) for g in groups]
            normal = Effects([rng.standard_normal(s) for s in shapes], self._normal[at].T)
            with density.objective.threads():
                yield at, density.draws(self._V[at], normal)

    def _slices(self):
        """Slices of the draws whose random effects are drawn at a time."""
        n_effects = sum(g.size for g in self._density.objective.layout.groups)
        width = max(1, _AT_A_TIME // n_effects)
        return [slice(lo, min(lo + width, self.n_draws)) for lo in range(0, self.n_draws, width)]

    # Elsewhere

    def to_arviz(self, X=None, y=None, groups=None) -> Any:
        """An ArviZ data set: an xarray DataTree.

        Parameters
        ----------
        X : table, optional
            Rows, as those of the fit, for the group ``posterior_predictive``.
        y : array, optional
            Their response for ``observed_data``; two-sided formulas find it in X.
        groups : array, optional

        Returns
        -------
        DataTree
            ``posterior`` has a variable for every parameter and one ``effects|g`` (level, effect)
            for every grouping factor.

        Raises
        ------
        ImportError
            Where arviz-base is not installed.
        """
        try:
            from arviz_base import from_dict
        except ImportError as error:
            raise ImportError(
                "to_arviz needs arviz-base: pip install 'scikit-mixed[arviz]'"
            ) from error
        fit, levels = self._model.result_, self._model.labels_.levels
        tree: dict = {"posterior": {name: x.to_numpy()[None] for name, x in self.draws.items()}}
        coords: dict = {}
        dims: dict = {}
        for group in levels:
            name, at = f"effects|{group}", (f"level|{group}", f"effect|{group}")
            tree["posterior"][name] = self.effects(group)[None]
            effects = [e for own, names in fit.source.random for e in names if own == group]
            dims[name] = list(at)
            coords |= {at[0]: [str(v) for v in levels[group]], at[1]: effects}
        if X is not None:
            if y is None:
                y = self._model._response_of(X)
            tree["posterior_predictive"] = {"y": self.predict(X, "observation", groups)[None]}
            tree["observed_data"] = {"y": np.asarray(y, dtype=float)}
            dims["y"] = ["row"]
            coords["row"] = np.arange(len(tree["observed_data"]["y"]))
        return from_dict(tree, coords=coords, dims=dims)

    # Text

    @property
    def _title(self):
        return f"Posterior of {self._model.formula}: {self.n_draws} draws"

    def _shown(self):
        """(table of text, notes) of the summary; limits only where there are draws for them."""
        table, notes = self._table(_LEVEL), self.notes
        if self._beyond(_LEVEL) < _FEWEST:
            table[["lower", "upper"]], notes = np.nan, (*notes, "Limits need more draws.")
        decimals = common_decimals(table["sd"], 3)
        for name in ("mean", "sd", "median", "lower", "upper"):
            table[name] = column(table[name], 5, decimals, missing=".")
        table["mcse"] = column(table["mcse"], 2, missing=".")
        table["ess"] = column(table["ess"], decimals=0, missing=".")
        return table, notes

    def __str__(self) -> str:
        table, notes = self._shown()
        return "\n\n".join([self._title, as_text(table), "\n".join(map(wrapped, notes))])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self._title, *self._shown())


def highest_density(x, level):
    """(lower, upper): the shortest interval that holds a share ``level`` of x (n,)."""
    x = np.sort(x)
    inside = min(max(int(np.ceil(level * len(x))), 1), len(x))
    widths = x[inside - 1 :] - x[: len(x) - inside + 1]
    lo = int(np.argmin(widths))
    return float(x[lo]), float(x[lo + inside - 1])


def _notes(sample, fit, known):
    """Sentences below the summary."""
    yield (
        f"Importance weights: k = {sample.k:.2f}, {len(sample.points)} points worth "
        f"{sample.ess:.0f}."
    )
    if not sample.is_reliable:
        yield "The weights are so uneven that the draws are not to be relied on."
    lost = [name for name, own in zip(fit.names, known, strict=True) if not own]
    if lost:
        yield f"Left out, since they depend on other columns: {', '.join(lost)}."
