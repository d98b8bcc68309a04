"""The over-parameterised design behind a formula: every level of every factor has a column.

A term's hypothesis must not depend on how its factors are coded, so it is stated in these columns.
They are never made for the rows: each column of X is a product of numeric columns and of functions
of factor levels, and so is each column of the full design, which makes one a combination of the
others, ``X_full = X C``, whatever the data are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import product

import numpy as np

from skmixed.design.parts import FormulaPart, Part, PlainPart
from skmixed.design.terms import FixedTerm, fixed_terms

# Squared length of what a coding leaves of a category, as a share, that is more than rounding.
_OUTSIDE = 1e-9
# Entries of C below this are rounding: they are sums of a few integers in most codings.
_ROUNDING = 1e-10
# Eigenvalues of products of scaled functions below this share of the largest are zeros.
_DEPENDENT = 1e-12


@dataclass(frozen=True)
class FullTerm(FixedTerm):
    """A term whose ``columns`` are those of the full design.

    The first factor's levels run fastest. ``base`` (c,) tells which columns belong to the first
    level of one of its factors.
    """

    base: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))


@dataclass(frozen=True)
class FullDesign:
    """Terms over the full design, and C (p, p_full) with ``X_full = X C``."""

    terms: tuple[FullTerm, ...]
    C: np.ndarray


@dataclass(frozen=True)
class Product:
    """scale times numeric columns times functions of the levels of factors."""

    numeric: tuple = ()
    levels: dict[str, np.ndarray] = field(default_factory=dict)
    scale: float = 1.0

    def __mul__(self, other):
        both = tuple(sorted((*self.numeric, *other.numeric)))
        return Product(both, self.levels | other.levels, self.scale * other.scale)


def full_design(part: Part) -> FullDesign:
    """The full design of the part that makes X.

    Terms whose coding does not tell all levels apart are taken as they are: their columns are
    covariates.
    """
    terms, columns = fixed_terms(part), list(products_of(part))
    made, own = _full_terms(terms, columns, _levels(part))
    C, outside = _combinations(columns, own)
    if outside.any():
        terms = tuple(
            _as_covariates(term) if outside[full.columns].any() else term
            for term, full in zip(terms, made, strict=True)
        )
        made, own = _full_terms(terms, columns, _levels(part))
        C, _ = _combinations(columns, own)
    return FullDesign(tuple(made), C)


def constant_of(part: Part, term: FixedTerm) -> np.ndarray | None:
    """Coefficients (k,) with which the columns of a term add up to 1 in every row, if they do."""
    columns = list(products_of(part))
    C, outside = _combinations([columns[j] for j in term.columns], [Product()])
    return None if outside[0] else C[:, 0]


def _as_covariates(term):
    both = (*term.factors, *term.covariates)
    return replace(term, factors=frozenset(), covariates=tuple(sorted(both)))


def _full_terms(terms, columns, known):
    """(FullTerms, columns of the full design): the intercept, if any, is in none of them."""
    own, found = [columns[j] for j in _outside(terms, len(columns))], []
    for term in terms:
        made, base = _term_columns(term, columns, known)
        at = np.arange(len(own), len(own) + len(made))
        own += made
        found.append(
            FullTerm(term.name, at, term.factors, term.covariates, term.variables, np.array(base))
        )
    return found, own


def _outside(terms, p):
    """Columns of X in no term: the intercept."""
    inside = [term.columns for term in terms]
    return np.setdiff1d(np.arange(p), np.concatenate(inside) if inside else [])


def categories_of(part: Part) -> dict[str, list]:
    """Levels of every factor."""
    if isinstance(part, PlainPart):
        terms = [t for t in part.terms if t is not None]
        return {t.name: list(t.categories) for t in terms if t.categories is not None}
    state = part.model_spec.encoder_state
    return {
        expr: list(own["categories"])
        for expr, (kind, own) in state.items()
        if kind.value == "categorical"
    }


def _levels(part: Part) -> dict[str, int]:
    """Number of levels of every factor."""
    return {name: len(levels) for name, levels in categories_of(part).items()}


def products_of(part: Part) -> Iterator[Product]:
    """The columns of a part as products."""
    return _plain_columns(part) if isinstance(part, PlainPart) else _formula_columns(part)


def _plain_columns(part: PlainPart):
    for term in part.terms:
        if term is None:
            yield Product()
        elif term.categories is None:
            yield Product(((term.name, 0),))
        else:
            for row in np.eye(len(term.categories))[term.reduced :]:
                yield Product(levels={term.name: row})


def _formula_columns(part: FormulaPart):
    for structure in part.model_spec.structure:
        for scoped in structure.scoped_terms:
            factors = [_factor_columns(part, f.factor.expr, f.reduced) for f in scoped.factors]
            for chosen in product(*reversed(factors)):
                yield reduce(Product.__mul__, reversed(chosen), Product(scale=scoped.scale))


def _factor_columns(part: FormulaPart, expr, reduced):
    kind, state = part.model_spec.encoder_state[expr]
    if kind.value != "categorical":
        return [Product(((expr, j),)) for j in range(part.widths[expr])]
    n = len(state["categories"])
    if "contrasts" not in state:
        coding = np.eye(n)[:, int(reduced) :]
    else:
        contrasts = state["contrasts"]
        coding = np.asarray(contrasts.get_coding_matrix(reduced_rank=reduced), dtype=float)
    return [Product(levels={expr: column}) for column in coding.T]


def _term_columns(term, columns, known):
    """Columns of the full design of a term, and whether they are of a first level.

    The numeric columns that X has in the term, each times every combination of levels.
    """
    inside = [columns[j] for j in term.columns]
    if not term.factors:
        return inside, [False] * len(inside)
    order = list(max(inside, key=lambda column: len(column.levels)).levels)
    made, base = [], []
    for numeric in dict.fromkeys(column.numeric for column in inside):
        for cell in product(*(range(known[name]) for name in reversed(order))):
            at = zip(reversed(order), cell, strict=True)
            made.append(Product(numeric, {name: np.eye(known[name])[k] for name, k in at}))
            base.append(0 in cell)
    return made, base


def _combinations(columns, full):
    """(C (p, p_full) with full = columns C, and whether a full column is outside their span)."""
    C, outside = np.zeros((len(columns), len(full))), np.zeros(len(full), dtype=bool)
    for numeric in {column.numeric for column in full}:
        here = [j for j, column in enumerate(columns) if column.numeric == numeric]
        there = [j for j, column in enumerate(full) if column.numeric == numeric]
        own, others = [columns[j] for j in here], [full[j] for j in there]
        size, other_size = (np.sqrt(_products(x, x, paired=True)) for x in (own, others))
        size[size == 0] = 1.0
        gram = _products(own, own) / np.outer(size, size)
        cross = _products(own, others) / np.outer(size, other_size)
        inverse = np.linalg.pinv(gram, rcond=_DEPENDENT, hermitian=True)
        found = inverse @ cross
        found += inverse @ (cross - gram @ found)  # mends the rounding of the first
        outside[there] = 1.0 - np.einsum("ij,ij->j", cross, found) > _OUTSIDE
        C[np.ix_(here, there)] = found / size[:, None] * other_size
    C[np.abs(C) < _ROUNDING] = 0.0
    return C, outside


def _products(left, right, *, paired=False):
    """Inner products of functions over all combinations of levels, each as likely."""
    names = dict.fromkeys(name for column in (*left, *right) for name in column.levels)
    scale = [np.array([column.scale for column in side]) for side in (left, right)]
    result = scale[0] * scale[1] if paired else np.outer(*scale)
    for name in names:
        n = next(len(c.levels[name]) for c in (*left, *right) if name in c.levels)
        a, b = (
            np.array([column.levels.get(name, np.ones(n)) for column in side])
            for side in (left, right)
        )
        result = result * ((a * b).sum(axis=1) if paired else a @ b.T) / n
    return result
