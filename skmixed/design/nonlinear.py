"""Designs of nonlinear models: a design matrix for every parameter, and its random effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from skmixed.design.columns import Table
from skmixed.design.curve_formula import (
    CurveTerm,
    CurveTerms,
    MeanFunction,
    random_effects,
    read_mean,
)
from skmixed.design.design import build_design
from skmixed.design.formula_terms import RandomSpec, Terms
from skmixed.design.missing import RowPolicy
from skmixed.design.names import quoted_name, unknown_name
from skmixed.design.random import RandomTerm
from skmixed.design.spec import Design, DesignSpec
from skmixed.linalg import jets


@dataclass(frozen=True)
class NonlinearDesign:
    """Rows of a nonlinear model.

    Attributes
    ----------
    y : (n,) or None
    designs : tuple of (n, p_k)
        The design of every parameter, with ``intercepts`` (position of the constant column or
        None).
    random : tuple of RandomTerm
    owners : tuple of (s,) intp
        For every term the parameter of each of its effects.
    columns : dict of str to (n,)
        Covariates of the mean function.
    weights, frequencies : (n,) or None
    rows, n_input
        As in :class:`Design`.
    spec : NonlinearSpec
    """

    y: np.ndarray | None
    designs: tuple[np.ndarray, ...]
    random: tuple[RandomTerm, ...]
    columns: dict[str, np.ndarray]
    weights: np.ndarray | None
    frequencies: np.ndarray | None
    rows: np.ndarray
    n_input: int
    spec: NonlinearSpec

    offset: ClassVar[None] = None

    @property
    def X(self) -> np.ndarray:
        """The designs side by side (n, p)."""
        return np.hstack(self.designs)

    @property
    def parameters(self) -> tuple[str, ...]:
        return self.spec.mean.parameters

    @property
    def intercepts(self) -> tuple[int | None, ...]:
        return self.spec.intercepts

    @property
    def owners(self) -> tuple[np.ndarray, ...]:
        return self.spec.owners

    @property
    def exact(self) -> bool:
        return self.spec.exact

    @property
    def n_obs(self) -> float:
        return len(self.rows) if self.frequencies is None else float(self.frequencies.sum())

    def function(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """f (n,), its derivatives J (P, n) and C (P, P, n) at parameters phi (P, n)."""
        derive = jets.evaluate if self.exact else jets.differences
        try:
            return derive(lambda *own: self.spec.mean(self.columns, own), phi)
        except ArithmeticError:  # of a function of the user that checks: there is no value
            none = np.full(phi.shape, np.nan)
            return none[0], none, np.full((len(phi), *phi.shape), np.nan)

    def value(self, phi: np.ndarray) -> np.ndarray:
        """f (n,) at parameters phi (P, n)."""
        try:
            value = np.asarray(self.spec.mean(self.columns, phi))
        except ArithmeticError:
            value = np.asarray(np.nan)
        return np.broadcast_to(value, phi.shape[1:])


@dataclass(frozen=True)
class NonlinearSpec:
    """All that is needed to build the design of new rows.

    ``carrier`` builds the covariates and the random effects, ``parts`` the design of every
    parameter, None for a constant. ``exact`` tells whether derivatives of the mean function are.
    """

    mean: MeanFunction
    terms: tuple[CurveTerm, ...]
    carrier: DesignSpec
    parts: tuple[DesignSpec | None, ...]
    names: tuple[tuple[str, ...], ...]
    intercepts: tuple[int | None, ...]
    exact: bool = True

    @property
    def owners(self) -> tuple[np.ndarray, ...]:
        place = self.mean.parameters.index
        return tuple(np.array([place(e.parameter) for e in term.effects]) for term in self.terms)

    @property
    def specs(self) -> tuple[DesignSpec, ...]:
        """All specifications that new rows are read by."""
        return (self.carrier, *(part for part in self.parts if part is not None))

    @property
    def groups(self):
        """The grouping factors."""
        return self.carrier.groups

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all fixed effects: the parameter, with its column where it has a design."""
        return tuple(
            parameter if own == ("Intercept",) else f"{parameter}[{name}]"
            for parameter, own in zip(self.mean.parameters, self.names, strict=True)
            for name in own
        )

    def needs(self) -> frozenset[str]:
        """All columns that new rows are read from."""
        return frozenset().union(*(part.needs() for part in self.specs))

    def response_of(self, table: Any) -> np.ndarray:
        """The response of new rows, of a formula that names one."""
        return self.carrier.response_of(table)

    @property
    def response(self):
        return self.carrier.response

    def new(
        self,
        table: Any,
        *,
        need: Any = ("fixed", "random"),
        missing: str | RowPolicy = "raise",
        levels: str = "fit",
        absent: Sequence[str] = (),
    ) -> NonlinearDesign:
        """The design of new rows; see :meth:`DesignSpec.new`."""
        table = Table(table)
        carrier = self.carrier.new(
            Table(table), need=("fixed", *need), missing=missing, levels=levels, absent=absent
        )
        parts = [
            None if p is None else p.new(Table(table), need=("fixed",), missing=missing)
            for p in self.parts
        ]
        return _joined(self, carrier, parts, "random" in need)


def build_nonlinear_design(
    terms: CurveTerms,
    table: Any,
    *,
    fixed: Mapping[str, str] | None = None,
    functions: Mapping[str, Any] | None = None,
    start: Any = "auto",
    response: Any = None,
    sample_weight: Any = None,
    prior_weights: Any = None,
    missing: str = "raise",
) -> NonlinearDesign:
    """Return the design of a nonlinear model on a table.

    Parameters
    ----------
    terms : CurveTerms
    table : Table, DataFrame or dict of arrays
    fixed : dict of str to str, optional
        Right-hand side of the design of every parameter, "1" where none is given.
    functions, start
        As for :func:`read_mean`.
    response, sample_weight, prior_weights, missing
        As for :func:`build_design`.

    Raises
    ------
    ValueError
        For formulas and data that make no model; the message names column and remedy.
    """
    table = Table(table)
    mean = read_mean(terms.mean, start, functions)
    _check_names(mean, table, functions)
    random = random_effects(terms, mean.parameters)
    sides = _right_hand_sides(mean, fixed)
    weight = sample_weight
    while True:
        options = {"sample_weight": weight, "missing": missing}
        carrier = build_design(
            _carrier(terms, mean, random),
            Table(table),
            response=response,
            prior_weights=prior_weights,
            **options,
        )
        _check_numeric(mean, carrier.spec)
        parts = [None if s == "1" else build_design(s, Table(table), **options) for s in sides]
        _check_sides(mean, sides, parts)
        rows = _common_rows(carrier, parts)
        if rows is None:
            break
        weight = np.zeros(table.n_input)
        weight[rows] = 1.0 if sample_weight is None else np.asarray(sample_weight, float)[rows]
    spec = NonlinearSpec(
        mean,
        random,
        carrier.spec,
        tuple(None if part is None else part.spec for part in parts),
        tuple(("Intercept",) if part is None else part.names for part in parts),
        tuple(0 if part is None else part.intercept for part in parts),
    )
    design = _joined(spec, carrier, parts, True)
    return replace(design, spec=replace(spec, exact=_has_jets(design, start)))


def _carrier(terms: CurveTerms, mean: MeanFunction, random: Sequence[CurveTerm]) -> Terms:
    """A formula with the covariates as fixed effects, and one random term for every effect."""
    columns = " + ".join(["0", *map(quoted_name, mean.columns)])
    effects = [
        RandomSpec("1" if e.covariate is None else f"0 + {e.covariate}", term.group)
        for term in random
        for e in term.effects
    ]
    return Terms(terms.response, columns, tuple(effects))


def _common_rows(carrier: Design, parts: Sequence[Design | None]) -> np.ndarray | None:
    """The rows that all designs have, None if these are all of them."""
    designs = [carrier, *(part for part in parts if part is not None)]
    if all(np.array_equal(design.rows, carrier.rows) for design in designs):
        return None
    rows = carrier.rows
    for design in designs:
        rows = np.intersect1d(rows, design.rows)
    if not len(rows):
        raise ValueError("no row is complete: every row has a missing value in a column it needs")
    return rows


def _joined(spec: NonlinearSpec, carrier: Design, parts: Sequence[Design | None], random: bool):
    rows = _common_rows(carrier, parts)
    at = slice(None) if rows is None else np.searchsorted(carrier.rows, rows)
    kept = carrier.rows if rows is None else rows
    designs = tuple(
        np.ones((len(kept), 1)) if p is None else p.X[np.searchsorted(p.rows, kept)] for p in parts
    )
    covariates = carrier.X[at].view()
    covariates.flags.writeable = False  # functions of the user see them
    columns = dict(zip(spec.mean.columns, covariates.T, strict=True))
    terms = _random_terms(spec, carrier, at) if random else ()
    return NonlinearDesign(
        y=None if carrier.y is None else carrier.y[at],
        weights=None if carrier.weights is None else carrier.weights[at],
        frequencies=None if carrier.frequencies is None else carrier.frequencies[at],
        designs=designs,
        random=terms,
        columns=columns,
        rows=kept,
        n_input=carrier.n_input,
        spec=spec,
    )


def _random_terms(spec: NonlinearSpec, carrier: Design, at: Any) -> tuple[RandomTerm, ...]:
    """The terms: the single effects of the carrier side by side."""
    found, singles = [], iter(carrier.random)
    for term in spec.terms:
        own = [next(singles) for _ in term.effects]
        for effect, single in zip(term.effects, own, strict=True):
            if single.z.shape[1] != 1:
                raise ValueError(
                    f"the random effect {effect.name!r} by {term.group!r} has "
                    f"{single.z.shape[1]} columns: only numeric columns have effects on parameters"
                )
        names = tuple(effect.name for effect in term.effects)
        z = np.hstack([single.z[at] for single in own])
        codes = own[0].codes[at]
        group, levels = own[0].group, own[0].levels
        found.append(RandomTerm(group, names, codes, levels, z, term.correlated, term.structure))
    return tuple(found)


def _right_hand_sides(mean: MeanFunction, fixed: Mapping[str, str] | None) -> list[str]:
    fixed = dict(fixed or {})
    for name in fixed:
        if name not in mean.parameters:
            message = f"fixed names {name!r}, which is no parameter of {mean.text!r}"
            raise unknown_name(name, mean.parameters, message)
    return [str(fixed.get(name, "1")).strip().removeprefix("~").strip() for name in mean.parameters]


def _check_sides(mean: MeanFunction, sides: Sequence[str], parts: Sequence[Design | None]) -> None:
    for name, side, part in zip(mean.parameters, sides, parts, strict=True):
        if part is None:
            continue
        if part.random or part.offset is not None or part.y is not None:
            raise ValueError(
                f"fixed[{name!r}] is {side!r}: it must have fixed effects alone. Random effects of "
                f"parameters stand in the last part of the formula, as ({name} | g)"
            )
        if not part.X.shape[1]:
            raise ValueError(
                f"fixed[{name!r}] is {side!r}, which has no column: write '1' for a constant, or "
                "take the parameter out of the curve"
            )


def _check_names(mean: MeanFunction, table: Table, functions: Any) -> None:
    known = [name for name in table.names if isinstance(name, str)]
    for name in mean.parameters:
        if name in known:
            raise ValueError(
                f"the parameter {name!r} is also a column of the data: give one of them another "
                "name"
            )
    for name in mean.columns:
        if name not in known:
            message = (
                f"{name!r} in {mean.text!r} is neither a column of the data nor a parameter "
                f"({', '.join(mean.parameters)}) nor a function"
            )
            raise unknown_name(name, [*known, *mean.parameters], message)


def _check_numeric(mean: MeanFunction, spec: DesignSpec) -> None:
    for name in mean.columns:
        if spec.columns[name].kind != "number":
            raise ValueError(
                f"the covariate {name!r} of the curve is not numeric: categories enter through "
                f"fixed={{parameter: {name!r}}}"
            )


def _first_value(design: NonlinearDesign, phi: np.ndarray) -> np.ndarray:
    text = design.spec.mean.text
    try:
        return np.asarray(design.spec.mean(design.columns, phi))
    except ArithmeticError:
        return np.full(phi.shape[1:], np.nan)
    except Exception as error:
        raise ValueError(
            f"the mean function {text!r} raised {type(error).__name__} ({error}) when it was "
            "called with arrays: it must take an array for each argument, which it must not "
            "change, and return another one"
        ) from error


@np.errstate(all="ignore")
def _has_jets(design: NonlinearDesign, start: Any) -> bool:
    """Whether jets pass the mean function, which is called once with numbers before."""
    given = start if isinstance(start, Mapping) else {}
    values = [given.get(name) for name in design.parameters]
    at = [float(v) if isinstance(v, Real) else 1.0 for v in values]
    phi = np.repeat(np.array(at)[:, None], len(design.rows), axis=1)
    text, value = design.spec.mean.text, _first_value(design, phi)
    if value.dtype.kind not in "fiub" or value.shape not in ((), (len(design.rows),)):
        raise ValueError(
            f"the mean function {text!r} gives {value.dtype} of shape {value.shape}: it must give "
            f"real numbers of shape ({len(design.rows)},)"
        )
    try:
        design.function(phi)
    except Exception:  # whatever a function says of arguments that are no arrays
        if value.dtype.kind == "f" and value.dtype.itemsize < 8:
            raise ValueError(
                f"the mean function {text!r} gives {value.dtype}, whose differences have too few "
                "digits for derivatives: it must compute in float64"
            ) from None
        return False
    return True
