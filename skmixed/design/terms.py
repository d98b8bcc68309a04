"""The terms of the fixed effects: their columns, and the variables and factors they are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from skmixed.design.parts import FormulaPart, Part, PlainPart, usage


@dataclass(frozen=True)
class FixedTerm:
    """One term of the fixed effects, the intercept left out.

    Attributes
    ----------
    name : str
    columns : ndarray of intp, (k,)
        Its columns of X.
    factors : frozenset of str
        Its categorical factors: columns, or expressions such as ``C(a)``.
    covariates : tuple of str
        Its numeric ones, sorted: columns, or expressions such as ``poly(x, 2)``.
    variables : frozenset of str
        The columns of the table that all of them read.
    """

    name: str
    columns: np.ndarray
    factors: frozenset[str]
    covariates: tuple[str, ...]
    variables: frozenset[str] = field(default_factory=frozenset)

    def contains(self, other: FixedTerm) -> bool:
        """Whether this term contains ``other``: more factors, the same covariates."""
        return other.factors < self.factors and other.covariates == self.covariates


def fixed_terms(part: Part) -> tuple[FixedTerm, ...]:
    """The terms of the part that makes X, in the order of its columns."""
    if isinstance(part, PlainPart):
        return tuple(_plain_terms(part))
    return tuple(_formula_terms(part))


def is_numeric(part: Part) -> bool:
    """Whether no factor is among the terms of a part."""
    return not any(term.factors for term in fixed_terms(part))


def _plain_terms(part: PlainPart):
    for term in part.terms:
        if term is not None:
            numeric = term.categories is None
            yield FixedTerm(
                term.name,
                _columns(part.term_slices[term.name]),
                frozenset() if numeric else frozenset([term.name]),
                (term.name,) if numeric else (),
                frozenset([term.name]),
            )


def _formula_terms(part: FormulaPart):
    """Terms of a formula; whether a factor is categorical is what its encoding at the fit was."""
    kinds = {expr: kind.value for expr, (kind, _) in part.model_spec.encoder_state.items()}
    for term, where in part.model_spec.term_slices.items():
        factors = [f for f in term.factors if f.eval_method.value != "literal"]
        if factors:
            names = {f.expr: kinds[f.expr] == "categorical" for f in factors}
            yield FixedTerm(
                str(term),
                _columns(where),
                frozenset(name for name, classes in names.items() if classes),
                tuple(sorted(name for name, classes in names.items() if not classes)),
                frozenset(variable for f in factors for variable in _variables(f)),
            )


def _variables(factor) -> tuple[str, ...]:
    if factor.eval_method.value == "lookup":
        return (factor.expr,)
    return usage(factor.expr).names


def _columns(where: slice) -> np.ndarray:
    return np.arange(where.start, where.stop)
