"""Fits of rows that are never in memory together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmixed.design import parse_formula
from skmixed.design.batch_reader import Reader
from skmixed.design.batches import batch_design, check_same_rows, learnt_design, with_spec
from skmixed.design.grouping import GroupSpec
from skmixed.design.scan import Scan
from skmixed.estimators._checks import check_absorbed, check_counts, check_design
from skmixed.estimators._foreign import KnowsOtherNames
from skmixed.estimators._operation import watched
from skmixed.estimators._sources import Progress, open_source
from skmixed.linalg.refine import TOLERANCE
from skmixed.models.batch_coordinates import Coordinates
from skmixed.models.batches import absorbed, batch_sums, profiled_deviance

_RANK_NOTE = (
    f". Batches are judged by cross-products, at {TOLERANCE:g} of a column's size; a fit in "
    "memory decides at 1e-12"
)


class FitsBatches(KnowsOtherNames):
    """Fit and predict batch by batch."""

    @watched
    def fit_batches(self, source, levels=None, *, sample_weight=None):
        """Fit the model to rows that come in batches, which need not fit into memory.

        The source is read twice, and what is kept does not grow with the number of rows: first
        levels, categories, means and what transforms learn, then the cross-products of all rows.
        Estimates, predictions and attributes are those of :meth:`fit` to all rows at once, but for
        rounding, in whatever order the batches come.

        Parameters
        ----------
        source : path, list of paths, pyarrow Dataset, Dask DataFrame or callable
            Parquet files or folders; a Dataset of anything that pyarrow reads; a Dask DataFrame,
            whose partitions are worked on by Dask's scheduler; or a function without arguments
            that starts a new iterator of pandas DataFrames, every time with the same rows.
        levels : dict, optional
            ``{"user": index}``: the levels of grouping factors, or the categories of covariates,
            where they are known: these columns are not scanned, and another level is an error.
            Those without rows are left out, as :meth:`fit` does.
        sample_weight : str, optional
            The column that tells how often each row counts.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As :meth:`fit`; for a formula without the response, and for transforms that need all
            rows at once (quantiles, splines without ``knots``); for batches with other columns or
            kinds; where the second reading gives other rows than the first.
        TypeError
            For a source that cannot be read twice, such as a generator.
        ImportError
            Where pyarrow is not installed for Parquet files.

        See Also
        --------
        predict_batches

        Examples
        --------
        >>> import numpy as np
        >>> from skmixed import MixedLinearRegressor
        >>> from skmixed.datasets import load_sleepstudy
        >>> sleep = load_sleepstudy().frame
        >>> def batches():
        ...     for start in range(0, len(sleep), 50):
        ...         yield sleep[start : start + 50]
        >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)")
        >>> round(model.fit_batches(batches).deviance_, 4)
        1743.6283
        >>> np.concatenate(list(model.predict_batches(batches)))[:2].round(2)
        array([253.66, 273.33])
        """
        terms = self._batch_terms()
        opened = open_source(source)
        reader = Reader.of(
            terms,
            opened.names,
            levels=levels,
            frequencies=sample_weight,
            prior_weights=self.prior_weights,
            missing=self.missing,
        )
        if hasattr(opened, "as_categories"):
            opened.as_categories(reader.text_groups)
        scan = self._scanned(opened, reader)
        design = learnt_design(scan, reader)
        n_rows, seed = sum(scan.n_rows), int(self.random_state)
        coordinates = Coordinates.of(design, n_rows, solver=self.solver, seed=seed)
        coordinates.check_memory(design, len(scan.n_rows))
        firsts = np.cumsum([0, *scan.n_rows])[:-1]
        shared = _Second(reader, design.spec, coordinates, firsts)
        found = opened.reduce(
            _sums_of,
            _added,
            shared,
            columns=reader.names,
            progress=Progress("cross-products", self.verbose, scan.n_input),
        )
        found = _Found(None, 0, 0, 0.0) if found is None else found
        check_same_rows(scan, reader, found.n_rows, found.check)
        design, found = _with_rows(design, found.sums)
        stand_in = _stand_in(design, found)
        check_counts(stand_in, type(self).__name__)
        check_design(stand_in)
        objective = profiled_deviance(
            found,
            coordinates,
            design,
            reml=self.reml,
            solver=self.solver,
            n_probes=None if self.n_probes == "auto" else int(self.n_probes),
            seed=seed,
        )
        del found, stand_in  # the iterations need the memory of the sums
        if self.reml and not objective.exact:
            check_absorbed(design, absorbed(objective))
        fit = self._search(objective)
        self._tell_monte_carlo(fit.monte_carlo)
        names = np.asarray([n for n in opened.names if n != sample_weight], dtype=object)
        return self._publish(
            design,
            fit,
            rank_note=_RANK_NOTE,
            feature_names_in_=names,
            n_features_in_=len(names),
        )

    def _batch_terms(self):
        who = type(self).__name__
        if self.formula is None or "~" not in self.formula:
            raise ValueError(
                f"{who}.fit_batches reads the response from the batches: give a formula with two "
                "sides, such as 'y ~ x + (1 | g)'"
            )
        if self.trusted:
            raise ValueError(
                f"{who}.fit_batches cannot know what Python code learns from the rows: fit with "
                "trusted=False"
            )
        if self.residual is not None:
            raise ValueError(f"{who}.fit_batches has no residual= structure: use fit")
        if self.relationship is not None:
            raise ValueError(f"{who}.fit_batches has no relationship= between levels: use fit")
        return parse_formula(self.formula)

    def _scanned(self, opened, reader):
        who = type(self).__name__
        progress = Progress("levels and means", self.verbose)
        scan = opened.reduce(_scan_of, _merged, reader, columns=reader.names, progress=progress)
        if scan is None or not sum(scan.n_rows):
            some = f" that is complete, of {scan.n_input}" if scan and scan.n_input else ""
            raise ValueError(f"{who}.fit_batches: the source has no row{some}")
        if reader.terms.random and sum(scan.n_rows) == 1:
            raise ValueError(f"{who}: random effects cannot be estimated from 1 sample")
        return scan

    def predict_batches(self, source, *, random_effects=True):
        """Predictions of :meth:`predict`, batch by batch.

        Parameters
        ----------
        source : as for :meth:`fit_batches`
            It is read once: an iterator of DataFrames will do.
        random_effects : bool or list of str, default True
            As for :meth:`predict`.

        Yields
        ------
        ndarray of shape (rows of the batch,)
        """
        check_is_fitted(self)
        if hasattr(source, "__next__"):
            frames = source
        else:
            frames = open_source(source, "predict_batches").frames()
        for frame in frames:
            if len(frame):
                yield self.predict(frame, random_effects=random_effects)
            else:
                yield np.zeros(0)


@dataclass(frozen=True, eq=False)
class _Second:
    """What the second pass needs: specification, coordinates, number of every batch's first row."""

    reader: Reader
    spec: object
    coordinates: Coordinates
    firsts: np.ndarray


@dataclass(frozen=True, eq=False)
class _Found:
    """Sums of some batches (None without rows), number of rows, and what tells their identity."""

    sums: object
    n_input: int
    n_rows: int
    check: Any


def _scan_of(reader, number, frame):
    return Scan.of(frame, reader)


def _merged(reader, a, b):
    return a.merged(b, reader)


def _sums_of(shared, number, frame):
    design, check = batch_design(frame, shared.reader, shared.spec)
    if design is None:
        return _Found(None, len(frame), 0, 0.0)
    first = shared.firsts[number] if number < len(shared.firsts) else 0
    sums = batch_sums(design, shared.coordinates, int(first))
    return _Found(sums, len(frame), len(design.y), check)


def _added(shared, a, b):
    both = [own.sums for own in (a, b) if own.sums is not None]
    sums = both[0] + both[1] if len(both) == 2 else (both or [None])[0]
    return _Found(sums, a.n_input + b.n_input, a.n_rows + b.n_rows, a.check + b.check)


def _with_rows(design, found):
    """Design and sums without declared levels that no row has."""
    spec, kept = design.spec, {}
    for term, own in zip(design.random, spec.terms.random, strict=True):
        kept.setdefault(term.group, own.group)
    masks = [counts > 0 for counts in found.sums.counts]
    if all(mask.all() for mask in masks):
        return design, found
    groups = dict(spec.groups)
    for name, mask in zip(kept.values(), masks, strict=True):
        if not mask.all():
            levels = groups[name].levels[mask]
            groups[name] = GroupSpec(groups[name].columns, (levels,), None, levels)
    return with_spec(design, replace(spec, groups=groups)), found.of_levels(masks)


def _stand_in(design, found):
    """A design that tells of all rows what checks of a design ask, and holds none of them."""
    totals, peaks = found.totals, found.peaks
    return replace(
        design,
        y=np.array([-peaks["low"], peaks["high"]]),
        X=np.broadcast_to(0.0, (totals["rows"], design.X.shape[1])),
        offset=None,
        weights=np.array([peaks["weights"]]),
        frequencies=np.array([totals["obs"]]),
    )
