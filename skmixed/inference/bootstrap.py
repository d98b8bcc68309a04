"""Bootstrap of fitted mixed models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skmixed._warn import warn
from skmixed.exceptions import BootstrapWarning
from skmixed.inference.bootstrap_result import Bootstrap, Replicate
from skmixed.inference.observed import level_codes, outermost
from skmixed.inference.refitted import Estimates, Refitted, UserStatistic, refits_of
from skmixed.inference.replicates import (
    check_count,
    reason_of,
    replicate,
    run,
    told_reasons,
)
from skmixed.models.resampling import Levels, is_nested
from skmixed.models.separation import SeparatedFit

# Errors of data that determine no fit.
REFUSALS = ArithmeticError, ValueError, np.linalg.LinAlgError
_CROSSED = (
    "kind='cases' draws the levels of one factor, and no grouping factor contains whole levels of "
    "the others, as they are crossed: name the one to draw, by='...'. Levels of the others stay "
    "what they are"
)
KINDS = ("parametric", "residual", "cases")
EFFECTS = ("new", "conditional")
_WHO = "bootstrap"


def bootstrap(
    model,
    X,
    y=None,
    *,
    n=1000,
    kind="parametric",
    statistic=None,
    random_effects="new",
    by=None,
    within=False,
    groups=None,
    sample_weight=None,
    random_state=None,
    n_jobs=None,
    verbose=0,
) -> Bootstrap:
    """Refits of a mixed model to data drawn from it, or drawn again from its own.

    ============ =================================================================================
    parametric   responses drawn from the fitted model: new random effects and new residuals, or
                 outcomes of the family; residuals that are correlated as ``residual=`` says
    residual     the model's own modes of the random effects and residuals, each drawn with
                 replacement, after they were centred and made as variable as the estimated
                 effects and residuals are; linear models
    cases        all rows of levels of a factor, the levels drawn with replacement
    ============ =================================================================================

    The first two change the response alone: a refit shares the cross-products of X and Z, and its
    search starts at the parameters of the fit. A linear model is fitted again by its own criterion.

    Parameters
    ----------
    model : fitted MixedLinearRegressor, MixedGLMRegressor or MixedLogisticClassifier
        With random effects or without.
    X : DataFrame or array of n rows
        The data of the fit.
    y : (n,), optional
        The response; two-sided formulas find it in X.
    n : int, default 1000
        Number of refits.
    kind : {"parametric", "residual", "cases"}
    statistic : callable, optional
        Function of the refitted model that returns a number, an array, a Series or a dict. By
        default the fixed effects, standard deviations, correlations and sigma, with the names that
        they have in ``confint``.
    random_effects : {"new", "conditional"}
        Of the parametric bootstrap: whether every replicate draws random effects, or all keep the
        conditional modes (lme4's ``use.u``).
    by : str or (n,) array, optional
        Of cases, and of the acceleration of BCa intervals: a grouping factor, a column of X, or
        the level of every row. By default the grouping factor that contains whole levels of all
        others; with crossed factors there is none, and one has to be named. A model without random
        effects has its rows for levels.
    within : bool, default False
        Of cases: draw the rows of every level with replacement, too.
    groups, sample_weight : optional
        As at the fit. Rows that count twice are drawn as two rows.
    random_state : int, Generator, RandomState, SeedSequence or None
        One seed has one answer, whatever ``n_jobs``; its first replicates are the same for all n.
    n_jobs : int, optional
        Processes, by joblib; ``joblib.parallel_config(backend="threading")`` makes them threads.
    verbose : int, default 0
        Print lines on the progress.

    Returns
    -------
    Bootstrap
        With ``draws``, ``confint``, ``summary``, ``bias``, ``std_error`` and ``failures``.

    Raises
    ------
    TypeError
        For other models, and a statistic that is none.
    ValueError
        For data that are not those of the fit, unknown kinds and arguments of other kinds, ``by``
        missing where factors are crossed, too few levels for ``kind="residual"``, and where every
        refit fails.

    Warns
    -----
    BootstrapWarning
        How many refits failed, and why; how many have not converged. The draws of a refit that
        failed are NaN.

    Notes
    -----
    Smooth functions are fixed effects: what is drawn has the fitted curve. Without random effects
    but with correlated residuals, levels of cases are those of the residual structure.

    A level that is drawn twice is two levels, as are the levels of factors nested in it; those of
    other factors and related levels stay what they are. A fixed effect that the rows drawn do not
    determine is NaN in that replicate.

    References
    ----------
    Carpenter, Goldstein and Rasbash (2003), Applied Statistics 52, 431-443, for residuals; Davison
    and Hinkley (1997), Bootstrap Methods and their Application, section 3.8 for levels of factors.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.inference import bootstrap
    >>> sleep = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)
    >>> boot = bootstrap(model, sleep, n=200, random_state=0)
    >>> boot.draws.shape
    (200, 6)
    >>> boot.confint(["Days", "sigma"]).round(0)
               estimate  lower  upper
    parameter
    Days           10.0    7.0   13.0
    sigma          26.0   23.0   28.0
    """
    check_count(n, 2, _WHO)
    _check_choice("kind", kind, KINDS)
    _check_choice("random_effects", random_effects, EFFECTS)
    for what, given, own in (
        ("random_effects='conditional'", random_effects == "conditional", "parametric"),
        ("within=True", within, "cases"),
    ):
        if given and kind != own:
            raise ValueError(f"{what} belongs to kind={own!r}, got kind={kind!r}")
    refits = refits_of(model, X, y, groups, sample_weight, _WHO)
    if kind == "residual" and refits.design.random and not refits.fit.sigma > 0:
        raise ValueError("kind='residual' needs a residual variance, and this fit leaves none")
    if statistic is None:
        made: Any = Estimates.of(model.result_, refits.layout)
    else:
        made = UserStatistic.of(statistic, model)
    reading = Reading(refits, Refitted.like(model, refits.design), made)
    levels = _levels(model, X, refits.design, by, within, groups, needed=kind == "cases")
    if kind == "cases":
        task: Any = _OfLevels(reading, levels)
    elif kind == "residual":
        task = _OfResponse(reading, refits.residuals())
    else:
        conditional = random_effects == "conditional"
        task = _OfResponse(reading, refits.parametric(conditional=conditional))
    found = replicate(task, n, random_state=random_state, n_jobs=n_jobs, verbose=verbose, who=_WHO)
    jackknife = None if levels is None else _Jackknife(reading, levels, n_jobs)
    boot = Bootstrap.of(found, made.names, made(model), kind, jackknife)
    _tell(boot)
    return boot


@dataclass(frozen=True, eq=False)
class Reading:
    """Refits, the estimators that they make, and the statistic that is read off these."""

    refits: Any
    refitted: Refitted
    statistic: Any

    def read(self, refit, random=None, rows=None) -> Replicate:
        """What a refit (a function that makes it) has to say, or why there is none."""
        try:
            fit = refit()
        except REFUSALS as error:
            return self.failed(reason_of(error))
        if not np.isfinite(fit.deviance):
            return self.failed("the criterion has no minimum: nothing is left to explain")
        try:
            with np.errstate(all="ignore"):
                values = self.statistic(self.refitted(fit, random, rows))
        except Exception as error:
            return self.failed(f"statistic: {reason_of(error)}")
        separated = isinstance(fit, SeparatedFit)
        return Replicate(values, "", fit.is_singular, fit.optimum.converged, separated)

    def failed(self, reason):
        return Replicate(np.full(len(self.statistic.names), np.nan), reason)


def drawn_response(source, rng):
    """(response, "") of a source, or (None, why there is none)."""
    try:
        return source.draw(rng), ""
    except REFUSALS as error:
        return None, reason_of(error)


@dataclass(frozen=True, eq=False)
class _OfResponse:
    """Refits to responses that ``source`` draws."""

    reading: Reading
    source: Any

    @property
    def together(self):
        return self.reading.refits.together

    def __call__(self, rngs):
        drawn = [drawn_response(self.source, rng) for rng in rngs]
        refits = iter(self.reading.refits.of_responses([y for y, _ in drawn if y is not None]))
        return [
            self.reading.failed(reason) if y is None else self.reading.read(next(refits))
            for y, reason in drawn
        ]


@dataclass(frozen=True, eq=False)
class _OfLevels:
    """A refit to levels that are drawn, or to all but the one whose number is given."""

    reading: Reading
    levels: Levels

    together = 1

    def __call__(self, items):
        return [self._refit(item) for item in items]

    def _refit(self, at):
        draw = self.levels.draw if isinstance(at, np.random.Generator) else self.levels.without
        rows, random, copies = draw(at)
        refits = self.reading.refits
        return self.reading.read(lambda: refits.of_rows(rows, random, copies), random, rows)


@dataclass(frozen=True, eq=False)
class _Jackknife:
    """The statistic without every level in turn (J, k); NaN where that refit fails."""

    reading: Reading
    levels: Levels
    n_jobs: int | None

    def __call__(self):
        task, numbers = _OfLevels(self.reading, self.levels), range(self.levels.n_levels)
        found = run(task, numbers, n_jobs=self.n_jobs)
        return np.array([replicate.values for replicate in found])


def _levels(model, X, design, by, within, groups, needed):
    """Levels to draw, None where there are none and they are not needed."""
    correlated = _correlated(design)
    if within and correlated is not None:
        raise ValueError(
            f"within=True draws the rows of a level one by one, and {correlated.factor} correlates "
            "them: leave it out"
        )
    # smooth functions are fixed effects, whichever rows are drawn
    random = tuple(term for term in design.random if term.structure != "smooth")
    own = replace(design, random=random)
    if by is None and not random:
        codes = np.arange(len(design.X)) if correlated is None else correlated.codes
        return Levels.of(design, codes, int(codes.max()) + 1, within=within)
    try:
        if by is None:
            _check_unrelated(own)
            by = _outermost(own)
        elif isinstance(by, str):
            _check_unrelated(own, by)
    except ValueError:
        if needed:
            raise
        return None
    codes, levels = level_codes(model, X, own, by, groups, _WHO)
    if len(levels) < 2:
        raise ValueError(f"{_WHO}: by={by!r} has one level, and drawing it again changes nothing")
    if correlated is not None and not is_nested(correlated.codes, codes, len(correlated.levels)):
        raise ValueError(
            f"kind='cases' draws whole levels, and those of by={by!r} have parts of groups whose "
            f"rows {correlated.factor} correlates: name a factor that contains whole groups"
        )
    return Levels.of(design, codes, len(levels), within=within)


def _outermost(design):
    try:
        return outermost(design, _WHO)
    except ValueError as error:
        raise ValueError(_CROSSED) from error


def _check_unrelated(design, by=None):
    """Raise an error for related levels, or one field, of a factor to draw; of any without it."""
    for term in design.random:
        if by in (None, term.group) and (term.n_levels == 1 or term.relationship is not None):
            raise ValueError(
                f"{_WHO}: the levels of {term.group!r} are related to each other, so that none can "
                "be drawn without the others: use kind='parametric', or name another factor, by="
            )


def _correlated(design):
    """The residual term that correlates rows, or None."""
    return next((term for term in design.residual if term.factor.is_correlation), None)


def _check_choice(name, value, known):
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")


def _tell(boot):
    """Warn of failures and of ends that are none; an error where nothing is left."""
    if boot.n_failed == boot.n:
        raise ValueError(f"{_WHO}: every refit failed: {told_reasons(boot.failures)}")
    for message in boot.troubles():
        warn(f"{_WHO}: {message}", BootstrapWarning)
