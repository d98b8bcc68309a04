"""MixedNonlinearRegressor: nonlinear mixed models as a scikit-learn regressor."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skmixed._warn import warn
from skmixed.design import check_identifiable
from skmixed.design.curve_formula import CurveTerms, parse_curve_formula
from skmixed.design.formula_terms import RandomSpec
from skmixed.design.names import quoted_name
from skmixed.design.nonlinear import build_nonlinear_design
from skmixed.estimators._attributes import Labels, TermLabels
from skmixed.estimators._base import TellsOfFits
from skmixed.estimators._checks import check_counts
from skmixed.estimators._curves import PredictsCurves
from skmixed.estimators._inference import AnswersQuestions
from skmixed.estimators._input import GROUPS, response_vector, with_groups
from skmixed.estimators._operation import RUNNING, watched
from skmixed.estimators._restored import StorableModel
from skmixed.estimators._starting import starting_values
from skmixed.estimators._summary import MixedSummary, nonlinear_summary
from skmixed.estimators.mixed import r_squared
from skmixed.linalg.threads import one_thread
from skmixed.models.nlmm import fit_nlmm, nonlinear_problem
from skmixed.models.pirls import NoMode
from skmixed.models.warm import warm_nonlinear

# The parameter of the model without a formula.
_MEAN = "mean"
# Tightest tolerance that differences of a function allow.
_DIFFERENCES_TOL = 1e-5
# Smallest eigenvalue of the correlations of estimates that leaves these determined.
_UNDETERMINED = 1e-8
# Levels that a warning names.
_MAX_LEVELS = 5


class MixedNonlinearRegressor(
    RegressorMixin, TellsOfFits, PredictsCurves, AnswersQuestions, StorableModel, BaseEstimator
):
    """Nonlinear mixed model, fitted by maximum likelihood.

    .. math:: y_i = f(x_i, \\phi_i) + \\varepsilon_i, \\quad \\phi_i = X_i\\beta + Z_i b, \\quad
        b \\sim N(0, \\sigma^2 \\Lambda_\\theta \\Lambda_\\theta'), \\quad
        \\varepsilon_i \\sim N(0, \\sigma^2 / w_i)

    The parameters :math:`\\phi` of a curve f have fixed effects and random effects each. The
    likelihood is Laplace's approximation with the Gauss-Newton Hessian (that of R's nlmer and
    nlme), minimised over :math:`\\beta` and :math:`\\theta` together by a Newton method with exact
    gradients, which come from the exact derivatives of f.

    Parameters
    ----------
    formula : str, optional
        ``"y ~ curve ~ random effects"``, or without ``y ~`` for ``fit(X, y)``. The curve is a call
        of a named one (``logistic(age, Asym, xmid, scal)``; R's ``SSlogis`` is the same one, see
        ``skmixed.curves``), of one of ``functions``, or arithmetic such as
        ``"a * exp(-b * x)"``, in which the keys of ``start`` are the parameters. Random effects
        are lme4's bars over parameters, ``(Asym + xmid | Tree)``; ``(Asym:x | Tree)`` is an
        effect of x on Asym. Without a formula the model is least squares on all columns.
    fixed : dict of str to str, optional
        Right-hand side of the fixed effects of a parameter, ``{"lCl": "Wt"}``; a constant for
        parameters that are not named.
    functions : dict of str to callable, optional
        Functions of NumPy arrays that the formula may call. Their derivatives are exact where
        they consist of NumPy arithmetic, otherwise differences (see ``derivatives_``).
    start : "auto" or dict, default "auto"
        Starting values: a number for every parameter, or a list with one for each of its columns.
        Named curves find those that are not given.
    n_agq : int, default 1
        1: Laplace's approximation; 0: fixed effects at the joint mode, faster and not quite the
        maximum (nlmer's nAGQ = 0); more: nodes per effect of an adaptive Gauss-Hermite
        quadrature, for models with one grouping factor.
    unseen_groups : {"population", "raise", "nan"}, default "population"
        Prediction for levels that were not in the training data.
    missing : {"raise", "drop"}, default "raise"
    unknown_categories : {"raise", "nan"}, default "raise"
        Rows with missing values are an error, or left out of the fit and predicted as NaN.
    prior_weights : str, optional
        Column w of X: the residual variance of a row is sigma^2 / w.
    max_iter : int, default 100
    tol : float, default 1e-8
        Decrease of the deviance that the optimiser may leave undone; not less than 1e-5 with
        derivatives by differences.
    verbose : int, default 0
        Print deviance and theta of every step.
    max_time : float, optional
        Seconds that a fit may take: after them it raises :class:`skmixed.FitTimeoutError`.
    warm_start : bool, default False
        Start from the parameters of the previous fit of this estimator, where it had the same
        terms and columns: the same estimates, in fewer evaluations.
    keep_factor : bool, default False
        As for :class:`MixedLinearRegressor`.

    Attributes
    ----------
    fixed_effects_, standard_errors_ : Series of p
        Named by the parameter, ``"Asym"``, or ``"lCl[Wt]"`` where it has a design.
    vcov_ : DataFrame of shape (p, p)
    random_effects_, random_effects_std_ : dict of str to DataFrame
        Conditional modes of every grouping factor and their standard deviations, levels by
        parameters.
    covariances_ : dict of str to DataFrame
        Covariance of the effects of every grouping factor.
    theta_ : ndarray
        Relative covariance parameters in lme4's order.
    sigma_ : float
        Residual standard deviation.
    deviance_, log_likelihood_, aic_, bic_ : float
        -2 log-likelihood as approximated, and what follows from it.
    start_ : Series of p
        The starting values.
    derivatives_ : {"exact", "differences"}
    curve_ : str
        The curve as the formula has it.
    coef_, intercept_, aliased_, linear_dependencies_, random_terms_, structure_, smooths_, \
n_obs_, df_resid_, is_singular_, converged_, n_iter_, n_evaluations_, trace_, result_
        As of :class:`MixedLinearRegressor`.

    References
    ----------
    Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, chapters 7 and 8.

    Lindstrom and Bates (1990), Nonlinear mixed effects models for repeated measures data,
    Biometrics 46, 673-687.

    Examples
    --------
    >>> from skmixed import MixedNonlinearRegressor
    >>> from skmixed.datasets import load_orange
    >>> orange = load_orange().frame
    >>> model = MixedNonlinearRegressor(
    ...     "circumference ~ logistic(age, Asym, xmid, scal) ~ (Asym | Tree)"
    ... ).fit(orange)
    >>> round(model.deviance_, 4)
    263.1438
    >>> model.fixed_effects_.round(2)
    Asym    192.05
    xmid    727.91
    scal    348.07
    Name: estimate, dtype: float64
    >>> model.predict(orange[:2]).round(1)
    array([24. , 53.9])
    """

    rank_deficient = "drop"

    _parameter_constraints: ClassVar[dict] = {
        "formula": [str, None],
        "fixed": [Mapping, None],
        "functions": [Mapping, None],
        "start": [StrOptions({"auto"}), Mapping],
        "n_agq": [Interval(Integral, 0, None, closed="left")],
        "unseen_groups": [StrOptions({"population", "raise", "nan"})],
        "missing": [StrOptions({"raise", "drop"})],
        "unknown_categories": [StrOptions({"raise", "nan"})],
        "prior_weights": [str, None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        **RUNNING,
        "keep_factor": ["boolean"],
    }

    def __init__(
        self,
        formula=None,
        *,
        fixed=None,
        functions=None,
        start="auto",
        n_agq=1,
        unseen_groups="population",
        missing="raise",
        unknown_categories="raise",
        prior_weights=None,
        max_iter=100,
        tol=1e-8,
        verbose=0,
        max_time=None,
        warm_start=False,
        keep_factor=False,
    ):
        self.formula = formula
        self.fixed = fixed
        self.functions = functions
        self.start = start
        self.n_agq = n_agq
        self.unseen_groups = unseen_groups
        self.missing = missing
        self.unknown_categories = unknown_categories
        self.prior_weights = prior_weights
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.max_time = max_time
        self.warm_start = warm_start
        self.keep_factor = keep_factor

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "drop"
        named = self.formula is not None and parse_curve_formula(self.formula).response is not None
        tags.target_tags.required = not named
        return tags

    # Fit

    @watched
    def fit(self, X, y=None, *, groups=None, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : DataFrame, dict of columns or array, of n rows
            Covariates, grouping factors and, where the formula names it, the response.
        y : (n,), optional
            The response, for a formula without one.
        groups : (n,), optional
            One more column, named ``groups``.
        sample_weight : (n,), optional
            How often each row counts.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For data, formulas or starting values that determine no model.

        Warns
        -----
        SingularFitWarning
            Which terms have a singular covariance.
        ConvergenceWarning
            The optimiser has not reached ``tol``, or random effects have several modes.
        """
        design = self._training_design(X, y, groups, sample_weight)
        given = {} if self.formula is None or self.start == "auto" else dict(self.start)
        start = starting_values(design, given, type(self).__name__)
        try:
            with one_thread():
                problem = nonlinear_problem(design, start, self.n_agq)
            fit = self._search(problem)
        except NoMode as error:
            raise ValueError(
                f"{type(self).__name__}: there is no likelihood at the starting values ({error}): "
                "give others with start="
            ) from None
        return self._publish(design, fit, start)

    def _search(self, problem):
        """The NLMMFit, from the earlier fit where that is wanted and possible."""
        settings = {
            "max_iter": self.max_iter,
            "tol": self.tol if problem.exact else max(self.tol, _DIFFERENCES_TOL),
            "callback": self._told(problem.objective),
        }
        warm = self._warm(warm_nonlinear, problem)
        if warm is None or not np.isfinite(problem.objective.evaluate(warm.start).value):
            return fit_nlmm(problem, **settings)
        return fit_nlmm(warm, **settings)

    def _training_design(self, X, y, groups, sample_weight):
        table = self._table(X, reset=True)
        terms, fixed, start = self._terms(table, groups)
        self._check_response(terms, y)
        values = None if y is None else response_vector(y, table.n_rows, type(self).__name__)
        if terms.random and table.n_rows == 1:
            raise ValueError(
                f"{type(self).__name__}: random effects cannot be estimated from 1 sample"
            )
        if groups is not None:
            table = with_groups(table, groups)
        design = build_nonlinear_design(
            terms,
            table,
            fixed=fixed,
            functions=self.functions,
            start=start,
            response=values,
            sample_weight=sample_weight,
            prior_weights=self.prior_weights,
            missing=self.missing,
        )
        if groups is not None and GROUPS not in design.spec.needs():
            raise ValueError(
                f"{type(self).__name__}: groups were given, but the formula {self.formula!r} does "
                f"not use them: add a term of a parameter by {GROUPS}, or leave groups out"
            )
        check_identifiable(design)
        check_counts(design, type(self).__name__)
        self._tell_groups(groups)
        return design

    def _terms(self, table, groups):
        """The formula, the designs of the parameters and their starting values."""
        if self.formula is not None:
            return parse_curve_formula(self.formula), self.fixed, self.start
        names = [name for name in table.names if name != self.prior_weights]
        random = () if groups is None else (RandomSpec(f"0 + {_MEAN}", GROUPS),)
        fixed = {_MEAN: " + ".join(["1", *map(quoted_name, names)])}
        return CurveTerms(None, _MEAN, random, ""), fixed, {_MEAN: 0.0}

    def _check_response(self, terms, y):
        if terms.response is not None and y is not None:
            raise ValueError(
                f"{type(self).__name__}: the formula names the response {terms.response!r} and y "
                "was given too: leave one of them out"
            )
        if terms.response is None and y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: use "
                "fit(X, y), or name the response in the formula, as in 'y ~ curve ~ (a | g)'"
            )

    def _publish(self, design, fit, start):
        names = design.spec.column_names
        plain = self.formula is None
        if plain:
            names = design.spec.names[0]
        self._tell_rank(fit.basis, names)
        labels = Labels(
            columns=names,
            intercept=0 if plain else None,
            terms=tuple(map(_term_labels, design.random)),
            levels={t.group: t.levels for t in design.random},
            formula=self._shown_formula(),
        )
        self._tell_convergence(fit, labels)
        self._tell_undecided(fit, labels)
        self._tell_undetermined(fit)
        self.__dict__.update(
            start_=pd.Series(np.concatenate(start), index=list(names), name="start"),
            derivatives_="exact" if design.exact else "differences",
            curve_=design.spec.mean.text,
            design_spec_=design.spec,
            labels_=labels,
            result_=fit.keeping_factor() if self.keep_factor else fit,
        )
        return self

    def _shown_formula(self):
        if self.formula is None:
            return "every column"
        fixed = [f"{name} ~ {side}" for name, side in (self.fixed or {}).items()]
        return "; ".join([self.formula, *fixed])

    def _tell_undecided(self, fit, labels):
        if not fit.undecided:
            return
        group = labels.terms[0].group
        shown = [str(labels.levels[group][at]) for at in fit.undecided[:_MAX_LEVELS]]
        warn(
            f"{type(self).__name__}: the random effects of {group!r} have several modes at "
            f"{', '.join(shown)}{', ...' * (len(fit.undecided) > _MAX_LEVELS)}, between which the "
            "search alternates: the estimates depend on which one is taken. These levels say "
            "little of their parameters; take an effect out of the term",
            ConvergenceWarning,
        )

    def _tell_undetermined(self, fit):
        """A curve at the edge of its shapes, as an asymptote that runs off, is no optimum."""
        root = fit.unscaled_on_basis(np.eye(fit.rank))
        size = np.linalg.norm(root, axis=1)
        if self.formula is None or not (size > 0).all():
            return
        smallest = np.linalg.svd(root / size[:, None], compute_uv=False)[-1] ** 2
        if fit.is_open or smallest < _UNDETERMINED:
            warn(
                f"{type(self).__name__}: the fixed effects are not determined where the search "
                "ended: the curve has more parameters than the data tell apart, or some of them "
                "go to infinity together. Take a parameter out, or give other values with start=",
                ConvergenceWarning,
            )

    def score(self, X, y=None, *, groups=None, sample_weight=None):
        """Coefficient of determination R^2 of :meth:`predict`.

        ``y`` may be left out where the formula names the response.
        """
        check_is_fitted(self)
        y = np.asarray(self._response_of(X) if y is None else y)
        return r_squared(self, X, y, groups, sample_weight)

    def summary(self) -> MixedSummary:
        """Estimates as nlmer prints them; the object has an HTML form for notebooks."""
        check_is_fitted(self)
        n = self.result_.n_agq
        how = {0: "fixed effects at the joint mode", 1: "Laplace approximation"}.get(
            n, f"adaptive Gauss-Hermite quadrature, n_agq={n}"
        )
        return nonlinear_summary(self, f" ({how})" if self.labels_.terms else "")


def _term_labels(term):
    text = f"{term.structure}({' + '.join(term.names)} | {term.group})"
    return TermLabels(term.group, term.names, term.correlated, term.structure, text)
