"""What the mixed-model estimators share: the design of a fit, and attributes from the fit."""

from __future__ import annotations

from functools import cache
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions

from skmixed._warn import warn
from skmixed.design import build_design, parse_formula
from skmixed.design.spec import Design
from skmixed.estimators._attributes import Labels, TermLabels
from skmixed.estimators._checks import check_counts
from skmixed.estimators._conditioning import ConditionsOnRows
from skmixed.estimators._dependencies import dependency_text, shortlist
from skmixed.estimators._inference import AnswersQuestions
from skmixed.estimators._input import GROUPS, response_vector, with_groups
from skmixed.estimators._operation import RUNNING, OperatedFits
from skmixed.estimators._restored import StorableModel
from skmixed.estimators._summary import ShowsFit
from skmixed.exceptions import NoGroupsWarning, RankDeficiencyWarning, SingularFitWarning
from skmixed.models.limits import limit_of

_TEXTS = {
    "formula": "The formula is text, as in 'y ~ x + (x | g)', and the data are those of fit(data)",
    "prior_weights": "It is the name of a column of X that holds them",
}


class TellsOfFits(OperatedFits):
    """Begin of a fit, and warnings about its end."""

    def _begin(self):
        """Start of a fit: the parameters are checked, and what an earlier fit found is gone."""
        self._forget()
        self._check_texts()
        self._validate_params()

    def _forget(self):
        """The estimator is as one that was never fitted."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _check_texts(self):
        """Parameters that are text, where arrays and data are often tried."""
        for name, told in _TEXTS.items():
            value = getattr(self, name, None)
            if not (value is None or isinstance(value, str)):
                got = value if np.isscalar(value) else type(value).__name__
                raise InvalidParameterError(
                    f"The {name!r} parameter of {type(self).__name__} must be an instance of 'str' "
                    f"or None. Got {got} instead. {told}"
                )

    def _tell_groups(self, groups):
        """Warn of a model that has no random effects because nobody named any."""
        if self.formula is None and groups is None:
            warn(
                f"{type(self).__name__} has no formula and got no groups: the model has no random "
                "effects. Groups given to a cross-validation reach its splitter alone: name the "
                "column in the formula, as in 'x + (1 | g)', or request them by "
                "set_fit_request(groups=True). formula='.' says that no random effects are meant",
                NoGroupsWarning,
            )

    def _tell_rank(self, basis, names, note=""):
        aliased = np.flatnonzero(basis.aliased)
        if not len(aliased):
            return
        found = [f"{names[j]} = {dependency_text(basis, j, names)}" for j in aliased]
        message = (
            f"{type(self).__name__}: the fixed effects are rank deficient: "
            f"{shortlist(found, 'linear_dependencies_')}"
        )
        lost = [names[j] for j in np.flatnonzero(basis.lost_digits)]
        if lost:
            message += (
                f". Rounding of large values hides what sets {shortlist(lost, separator=', ')} "
                "apart: centre the variable before expanding it into powers or products"
            )
        message += note
        if self.rank_deficient == "raise":
            raise ValueError(
                message + ". Leave these columns out, or use rank_deficient='drop' or "
                "'minimum_norm'"
            )
        action = (
            "left out, coefficient NaN in fixed_effects_"
            if self.rank_deficient == "drop"
            else "the coefficients are the solution of smallest norm"
        )
        warn(f"{message} ({action})", RankDeficiencyWarning)

    def _tell_convergence(self, fit, labels):
        who = self._who()
        if not fit.optimum.converged:
            why = "; beyond, ".join(filter(None, [fit.optimum.message, fit.optimum.obstacle]))
            warn(
                f"{who} has not converged: {why}. {fit.optimum.remedy}",
                ConvergenceWarning,
            )
        if self._has_singular_term(fit, labels):
            warn(
                f"{who}: the fit is singular: {_why_singular(fit, labels)}. Estimates and "
                "predictions are valid; consider a simpler model",
                SingularFitWarning,
            )
        for t, term in enumerate(labels.terms):
            found = None if fit.singular_terms[t] else limit_of(fit, t)
            if found is not None:
                warn(f"{who}: {found.format(term=term.text, group=term.group)}", SingularFitWarning)

    @staticmethod
    def _has_singular_term(fit, labels):
        """Whether a term other than a smooth one, which is a line then, is singular."""
        pairs = zip(labels.terms, fit.singular_terms, strict=True)
        return any(singular for term, singular in pairs if not term.is_smooth)


class MixedModelBase(
    ShowsFit, TellsOfFits, AnswersQuestions, ConditionsOnRows, StorableModel, BaseEstimator
):
    """Formula, design and publishing of mixed models; sub-classes fit."""

    _parameter_constraints: ClassVar[dict] = {
        "formula": [str, None],
        "rank_deficient": [StrOptions({"drop", "minimum_norm", "raise"})],
        "unseen_groups": [StrOptions({"population", "raise", "nan"})],
        "missing": [StrOptions({"raise", "drop"})],
        "unknown_categories": [StrOptions({"raise", "nan"})],
        "prior_weights": [str, None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        **RUNNING,
        "keep_factor": ["boolean"],
        "trusted": ["boolean"],
        "relationship": [dict, None],
    }

    @classmethod
    @cache
    def _get_param_names(cls):
        """As scikit-learn reads them off the signature, once for every class."""
        return super()._get_param_names()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "drop"
        tags.target_tags.required = self.formula is None or "~" not in self.formula
        return tags

    # Input

    def _design(self, X, y, groups, sample_weight):
        """The design of the training rows, and the labels that its response numbers, or None."""
        terms = self._training_terms(groups)
        self._check_one_response(terms, y)
        table = self._table(X, reset=True)
        if y is None:
            values = None
            table, labels = self._named_response(table, terms)
        else:
            values, labels = self._read_response(y, table.n_rows)
        mixed = groups is not None if terms is None else bool(terms.random)
        if mixed and table.n_rows == 1:
            raise ValueError(
                f"{type(self).__name__}: random effects cannot be estimated from 1 sample"
            )
        if groups is not None:
            table = with_groups(table, groups)
        design = build_design(
            terms,
            table,
            response=values,
            sample_weight=sample_weight,
            prior_weights=self.prior_weights,
            missing=self.missing,
            trusted=self.trusted,
            relationship=self.relationship,
            residual=getattr(self, "residual", None),
        )
        self._check_use(design, table, y, values, groups)
        check_counts(design, type(self).__name__)
        self._tell_groups(groups)
        return design, labels

    def _check_use(self, design, table, y, values, groups):
        """The groups that were given are used; the response is not."""
        used = design.spec.needs()
        if groups is not None and GROUPS not in used:
            raise ValueError(
                f"{type(self).__name__}: groups were given, but the formula {self.formula!r} does "
                f"not use them: add a term such as (1 | {GROUPS}), or leave groups out"
            )
        name = getattr(y, "name", None)
        own = np.asarray(table.column(name)) if name in used and name in table.names else None
        if own is not None and np.array_equal(own, values):
            raise ValueError(
                f"{type(self).__name__}: the response y is also the column {name!r} of X, which "
                "the model uses to explain it: leave the column out"
            )

    def _check_one_response(self, terms, y):
        """The response is named in the formula or given as y, and only once."""
        named = None if terms is None else terms.response
        if named is not None and y is not None:
            raise ValueError(
                f"{type(self).__name__}: the formula names the response {named!r} and y was given "
                f"too. Use fit(X, y) with the one-sided formula "
                f"{self.formula.partition('~')[2].strip()!r}, or fit(df) without y"
            )
        if y is None and named is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: use "
                "fit(X, y), or name the response in the formula, as in 'y ~ x + (1 | g)'"
            )

    def _training_terms(self, groups):
        """The formula of a fit; ``groups=`` without a formula is an intercept per group."""
        if self.formula is not None:
            return parse_formula(self.formula)
        return None if groups is None else parse_formula(f". + (1 | {GROUPS})")

    def _read_response(self, y, n):
        """The response as float64, and the labels that it numbers (None for numbers)."""
        return response_vector(y, n, type(self).__name__), None

    def _named_response(self, table, terms):
        """The table with a response of labels as their numbers, and the labels, or None."""
        return table, None

    # Publishing a fit

    def _publish(self, design: Design, fit, *, rank_note="", **more):
        """Attributes of a fitted model, all at once and after all that might interrupt the fit.

        Those that cost something are computed when read.
        """
        self._tell_rank(fit.basis, design.names, rank_note)
        labels = Labels(
            columns=design.names,
            intercept=design.intercept,
            terms=_term_labels(design),
            levels={t.group: t.levels for t in design.random if t.structure != "smooth"},
            formula=self._shown_formula(design),
        )
        self._tell_convergence(fit, labels)
        if fit.smooth_terms:
            own = design.X, design.random, design.frequencies
            more["_fixed_variance_"] = fit.fixed_variance(*own)
        fit = fit.keeping_factor() if self.keep_factor else fit
        self.__dict__.update(more, design_spec_=design.spec, labels_=labels, result_=fit)
        return self

    def _shown_formula(self, design):
        structure = design.spec.residual
        residual = "" if structure is None else f", residual {structure}"
        if self.formula is not None:
            return self.formula + residual
        random = "".join(f" + (1 | {t.group})" for t in design.random)
        return f"every column{random}{residual}"


def _term_labels(design):
    if not design.random:
        return ()
    specs = design.spec.terms.random
    return tuple(
        TermLabels(t.group, part.names, t.correlated, t.structure, str(spec))
        for t, spec, part in zip(design.random, specs, design.spec.random, strict=True)
    )


def _why_singular(fit, labels):
    terms = dict.fromkeys(
        f"({' + '.join(term.names)} | {term.group})" if term.structure == "us" else term.text
        for term, singular in zip(labels.terms, fit.singular_terms, strict=True)
        if singular and not term.is_smooth
    )
    if not fit.sigma > 0:
        return f"{fit.optimum.message}, so there is no variance for {', '.join(terms)}"
    return (
        f"the data support fewer variance components than {', '.join(terms)} has (a variance "
        "of zero or a correlation of 1 or -1)"
    )
