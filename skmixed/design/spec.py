"""What a fit keeps of its design, and the design of new rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from skmixed.design.columns import Column, ColumnSpec, Table, clean
from skmixed.design.formula_terms import RandomSpec, Terms
from skmixed.design.grouping import GroupSpec, own_codes, read_levels
from skmixed.design.missing import RowPolicy, drop_missing, drop_unknown, undefined_rows
from skmixed.design.names import group_label, unknown_name
from skmixed.design.parts import Materializer, Part, PlainPart, PlainRows, coded_columns
from skmixed.design.places import PositionsPart
from skmixed.design.random import RandomTerm, rows_of
from skmixed.design.reference import ReferenceValues
from skmixed.design.relationship import Relationship
from skmixed.design.residual import ResidualSpec, ResidualTerm
from skmixed.design.smooth import SmoothPart
from skmixed.design.terms import FixedTerm, fixed_terms


@dataclass(frozen=True)
class Design:
    r"""The matrices of :math:`y = X\beta + \sum_t Z_t b_t + \text{offset} + \varepsilon`.

    Attributes
    ----------
    y : ndarray, (n,) or (n, 2), or None
        The response; two columns for ``cbind(successes, failures)``.
    X : ndarray, (n, p)
        The fixed-effects columns, with their ``names`` (p,), the place of the constant column in
        ``intercept`` (None without one) and the columns of every term in ``term_slices``.
    random : tuple of RandomTerm
        In the order of the formula, smooth terms among them; None for a term that was not built.
    weights : ndarray, (n,), or None
        Prior weights w: residual variance sigma^2 / w.
    frequencies : ndarray, (n,), or None
        How often each row counts; rows that count zero times are gone already.
    offset : ndarray, (n,), or None
        The sum of the offsets.
    rows : ndarray of intp, (n,)
        The rows of the input that were kept, of ``n_input``.
    spec : DesignSpec
        Builds the design of new rows.
    residual : tuple of ResidualTerm
        The factors of the residual structure on the rows of a fit.
    """

    y: np.ndarray | None
    X: np.ndarray
    names: tuple[str, ...]
    intercept: int | None
    term_slices: dict[str, slice]
    random: tuple[Any, ...]
    weights: np.ndarray | None
    frequencies: np.ndarray | None
    offset: np.ndarray | None
    rows: np.ndarray
    n_input: int
    spec: DesignSpec
    residual: tuple[ResidualTerm, ...] = ()

    @property
    def fixed_terms(self) -> tuple[FixedTerm, ...]:
        """The terms of X with their columns, variables and factors."""
        return fixed_terms(self.spec.fixed)

    @property
    def n_obs(self) -> float:
        """The number of observations: rows, each counted as often as its frequency says."""
        return len(self.X) if self.frequencies is None else float(self.frequencies.sum())


@dataclass(frozen=True)
class DesignSpec:
    """All that is needed to build the design of new rows; it holds no row of the fit.

    Attributes
    ----------
    terms : Terms or None
        The formula with ``.`` written out; None for a design without a formula.
    fixed : part
        The columns of X.
    random : tuple of parts
        The columns of ``z`` of each random-effects term, smooth terms among them.
    offsets : tuple of parts
        One column each.
    groups : dict of str to GroupSpec
        The grouping factors.
    columns : dict of str to ColumnSpec
        The kind and the categories of every covariate.
    fixed_columns, random_columns : tuple of str
        The covariates that X and the offsets, and the random-effects terms need.
    reference : ReferenceValues
        Levels, means and counts of the columns of X and the offsets.
    response : part or None
        The response where the formula names one column, with ``response_columns``.
    trusted : bool
        Whether expressions are Python code beyond what formulas hold, and trusted to be.
    places : tuple of arrays or None
        Times or positions of the effects of every random-effects term.
    relationships : dict of str to Relationship
        Known covariances of the levels of grouping factors.
    residual : ResidualSpec or None
        The residual structure, which new rows are given with ``residual.new``.
    """

    terms: Terms | None
    fixed: Part
    random: tuple[Part | PositionsPart | SmoothPart, ...]
    offsets: tuple[Part, ...]
    groups: dict[str, GroupSpec]
    columns: dict[str, ColumnSpec]
    fixed_columns: tuple[str, ...]
    random_columns: tuple[str, ...]
    reference: ReferenceValues
    response: Part | None = None
    response_columns: tuple[str, ...] = ()
    trusted: bool = False
    places: tuple[np.ndarray | None, ...] = ()
    relationships: dict[str, Relationship] = field(default_factory=dict)
    residual: ResidualSpec | None = None

    @property
    def smooths(self) -> tuple[SmoothPart, ...]:
        """The smooth terms."""
        return tuple(part for part in self.random if isinstance(part, SmoothPart))

    @property
    def coded(self) -> frozenset[str]:
        """The columns that the formula takes as categories by C()."""
        if self.terms is None:
            return frozenset()
        return coded_columns([self.terms.fixed, *(spec.expr for spec in self.terms.random)])

    def with_levels_of(self, table: Any) -> tuple[DesignSpec, dict[str, np.ndarray]]:
        """The specification with the levels of further rows too, and where its own are in it.

        Levels that are read from no column, or are related to each other, stay as they are.
        """
        table, groups, places = Table(table), dict(self.groups), {}
        for name, spec in self.groups.items():
            places[name] = np.arange(len(spec.levels))
            if not spec.columns or name in self.relationships:
                continue
            _check_present(table, spec.columns)
            grouping = {
                column: read_levels(column, table.column(column), own)
                for column, own in zip(spec.columns, spec.column_levels, strict=True)
            }
            groups[name], places[name] = spec.with_levels_of(grouping)
        return replace(self, groups=groups), places

    def of_places(self, places: Mapping[str, np.ndarray]) -> DesignSpec:
        """The specification with some of the levels of its grouping factors."""
        groups = {name: spec.of_places(places[name]) for name, spec in self.groups.items()}
        return replace(self, groups=groups)

    def needs(self) -> frozenset[str]:
        """All columns that new rows are read from."""
        groups = (name for group in self.groups.values() for name in group.columns)
        return frozenset((*self.fixed_columns, *self.random_columns, *groups))

    def new(
        self,
        table: Any,
        *,
        need: Collection[str] = ("fixed", "random"),
        missing: str | RowPolicy = "raise",
        levels: str = "fit",
        absent: Collection[str] = (),
    ) -> Design:
        """Return the design of new rows, with the transforms and categories of the fit.

        Parameters
        ----------
        table : DataFrame or dict of arrays
            The new rows. The response need not be there.
        need : {"fixed", "random"}
            Which parts to build; columns of other parts may be absent. ``"fixed"`` includes
            the offset and the smooth terms. A part that is not built has no columns.
        missing : {"raise", "drop"} or RowPolicy
            Missing values are an error, or their rows are left out of the result, which ``rows``
            tells; and what else becomes of rows that lack something.
        levels : {"fit", "own"}
            Codes in the levels of the fit, -1 for others, or in the levels of the new rows
            themselves, where every unknown one is a level of its own.
        absent : names, optional
            Grouping columns that the new rows need not have: their levels are unknown.

        Returns
        -------
        Design
            With ``y``, ``weights`` and ``frequencies`` None.

        Raises
        ------
        ValueError
            For an absent column, an unknown category of a covariate, or missing values with
            ``missing="raise"``.
        """
        policy, table = RowPolicy.of(missing), Table(table)
        fixed, random = "fixed" in need, "random" in need
        groups = self.groups if random else {}
        built = [random or isinstance(part, SmoothPart) for part in self.random]
        names = (*self.fixed_columns * fixed, *self.random_columns * random)
        names = tuple(dict.fromkeys(names))
        grouped = {
            name: own
            for spec in groups.values()
            for name, own in zip(spec.columns, spec.column_levels, strict=True)
        }
        _check_present(table, names)
        levels_of = [name for name in grouped if name not in absent]
        _check_present(table, levels_of, "; predict with random_effects=False reads no such factor")
        cleaned = {
            name: self.columns[name].read(name, table.column(name), policy) for name in names
        }
        grouping = {
            name: read_levels(name, table.column(name), own)
            for name, own in grouped.items()
            if name not in absent
        }
        if policy.unknown == "drop":
            drop_unknown(table, cleaned)
        strict = grouping if policy.levels == "missing" else {}
        drop_missing(table, cleaned, strict, policy.missing)
        make = self._rows(table, cleaned, policy.unknown == "drop")
        blocks = Blocks(
            fixed=self.fixed.matrix(make) if fixed else np.empty((table.n_rows, 0)),
            random=[
                part.matrix(make) if use else None
                for part, use in zip(self.random, built, strict=True)
            ],
            offset=sum_of(part.matrix(make)[:, 0] for part in self.offsets) if fixed else None,
            response=None,
            curves={part.label: part.codes(make) for part in self.smooths},
            positions=[_positions(part, make) for part in self.random] if random else [],
        )
        undefined = blocks.undefined(self, policy)
        if isinstance(make, Materializer) and make.unknown.any():
            undefined = make.unknown if undefined is None else undefined | make.unknown
        if undefined is not None:
            table.keep(np.flatnonzero(~undefined))
            blocks = blocks.without(undefined)
        kept = {name: (table.rows_of(code), own) for name, (code, own) in grouping.items()}
        gone = [name for name in grouped if name in absent]
        if gone:
            unknown = np.full(table.n_rows, -1, dtype=np.intp), pd.Index([], dtype=object)
            kept |= dict.fromkeys(gone, unknown)
        codes, own = {}, {}
        for name, spec in groups.items():
            if levels == "own" and spec.columns and name not in self.relationships:
                codes[name], own[name] = own_codes(spec.columns, kept)
            else:
                codes[name] = spec.codes(kept, table.n_rows)
                if levels == "own":  # fields, and levels that are related to others
                    own[name] = spec.levels
        codes |= blocks.curves
        return self._design(table, blocks, codes, need, own)

    @property
    def specs(self) -> tuple[DesignSpec, ...]:
        """All specifications that new rows are read by."""
        return (self,)

    @cached_property
    def _is_plain(self) -> bool:
        """Whether no part needs formulaic."""
        return all(isinstance(p, PlainPart) for p in (self.fixed, *self.random, *self.offsets))

    def _rows(self, table: Table, cleaned: Mapping[str, Column], lenient: bool) -> Any:
        """The rows that are left, as the parts take them."""
        if self._is_plain:
            return PlainRows({k: table.rows_of(c.values) for k, c in cleaned.items()}, table.n_rows)
        columns = {name: column.values_in(table, fitting=False) for name, column in cleaned.items()}
        return Materializer(columns, table.n_rows, trusted=self.trusted, lenient=lenient)

    def fixed_rows(self, table: Any) -> tuple[np.ndarray, np.ndarray]:
        """X (n, p) and the offset (n,) of rows that need have no other columns."""
        design = self.new(table, need=("fixed",))
        return design.X, np.zeros(len(design.X)) if design.offset is None else design.offset

    def reference_of(self, table: Any) -> ReferenceValues:
        """Levels, means and counts of other rows, those with missing values left out."""
        table = Table(table)
        _check_present(table, self.fixed_columns)
        cleaned = {
            name: self.columns[name].conform(name, clean(name, table.column(name)))
            for name in self.fixed_columns
        }
        drop_missing(table, cleaned, {}, "drop")
        if not table.n_rows:
            raise ValueError("the data have no complete row")
        columns = {name: column.values_in(table) for name, column in cleaned.items()}
        coded = [name for name in self.reference.factors if self.columns[name].kind == "number"]
        return ReferenceValues.of(columns, coded)

    def response_of(self, table: Any) -> np.ndarray:
        """The response of new rows (n,), NaN where it is missing, of a formula that names one."""
        assert self.response is not None
        table = Table(table)
        _check_present(table, self.response_columns)
        cleaned = {
            name: self.columns[name].conform(name, clean(name, table.column(name)))
            for name in self.response_columns
        }
        columns = {name: column.values_in(table, fitting=False) for name, column in cleaned.items()}
        make = Materializer(columns, table.n_rows, trusted=self.trusted)
        y = self.response.matrix(make)[:, 0]
        missing = [column.missing for column in cleaned.values() if column.missing is not None]
        return np.where(np.logical_or.reduce(missing), np.nan, y) if missing else y

    def _random_term(
        self,
        spec: RandomSpec,
        part: Part | PositionsPart | SmoothPart,
        codes: np.ndarray,
        levels: Any,
        z: np.ndarray,
        places: np.ndarray | None,
        own: bool,
        positions: np.ndarray | None,
    ) -> RandomTerm:
        """One random-effects term of rows with these codes and covariates."""
        relationship = self.relationships.get(spec.group)
        if relationship is not None:
            _check_related(spec, codes, own)
        return RandomTerm(
            group_label(spec.group, self.groups),
            part.names,
            levels=levels,
            correlated=spec.correlated,
            structure=spec.structure,
            places=places,
            relationship=relationship,
            **_codes_and_covariates(spec, codes, z, own, positions),
        )

    def _design(
        self,
        table: Table,
        blocks: Blocks,
        codes: Mapping[str, np.ndarray],
        need: Collection[str] = ("fixed", "random"),
        levels: Mapping[str, pd.Index] | None = None,
        **vectors: np.ndarray | None,
    ) -> Design:
        """The parts put together; ``levels`` are those of the fit unless given."""
        fixed = "fixed" in need
        own = bool(levels)
        levels = levels or {name: spec.levels for name, spec in self.groups.items()}
        specs = self.terms.random if self.terms is not None else ()
        if "random" not in need and not self.smooths:
            specs = ()
        return Design(
            y=blocks.response,
            X=blocks.fixed,
            names=self.fixed.names if fixed else (),
            intercept=self.fixed.intercept if fixed else None,
            term_slices=self.fixed.term_slices if fixed else {},
            random=tuple(
                None
                if z is None
                else self._random_term(
                    spec, part, codes[spec.group], levels[spec.group], z, places, own, positions
                )
                for spec, part, z, places, positions in zip(
                    specs,
                    self.random,
                    blocks.random,
                    self.places,
                    blocks.positions or [None] * len(specs),
                    strict=False,
                )
            ),
            weights=vectors.get("weights"),
            frequencies=vectors.get("frequencies"),
            offset=blocks.offset,
            rows=table.kept,
            n_input=table.n_input,
            spec=self,
        )


def smooth_group(part: SmoothPart) -> GroupSpec:
    """The curves of a smooth term as levels, which are read from no column."""
    return GroupSpec((), (), None, pd.Index(list(part.levels) or ["all"], dtype=object))


def _check_related(spec: RandomSpec, codes: np.ndarray, own: bool) -> None:
    """Raise an error where new effects are asked for of levels that K does not have."""
    unknown = codes < 0
    if own and unknown.any():
        raise ValueError(
            f"{unknown.sum()} rows have levels that the relationship matrix of {spec.group!r} does "
            "not have: their effects cannot be drawn or found beside those of their relatives. Fit "
            "with a matrix that has them, or predict with random_effects=False"
        )


def _codes_and_covariates(
    spec: RandomSpec, codes: np.ndarray, z: np.ndarray, own: bool, positions: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Codes and z of a term; a row where the fit had no position tells its own."""
    elsewhere = np.asarray(~z.any(axis=1)) if spec.is_spatial else np.zeros(0, dtype=bool)
    if not elsewhere.any():
        return {"codes": codes, "z": z}
    if own:
        raise ValueError(
            f"{elsewhere.sum()} rows are at positions that the fit of {spec} did not have: new "
            "fields are drawn, and conditioned on, at the positions of the fit alone"
        )
    assert positions is not None
    z = z.copy()
    z[elsewhere, 0] = 1.0  # every position has the same variance
    return {"codes": codes, "z": z, "elsewhere": np.where(elsewhere[:, None], positions, np.nan)}


@dataclass(frozen=True)
class Blocks:
    """The matrices that expressions gave, before rows without a defined value are dealt with.

    ``random`` has None for terms that are not built, ``curves`` by smooth term the curve of a row.
    """

    fixed: np.ndarray
    random: list[np.ndarray | None]
    offset: np.ndarray | None
    response: np.ndarray | None
    curves: dict[str, np.ndarray] = field(default_factory=dict)
    positions: Sequence[np.ndarray | None] = ()  # of new rows, for terms that have such

    def undefined(self, spec: DesignSpec, missing: str | RowPolicy) -> np.ndarray | None:
        """The mask of the rows in which a transform gave NaN, or None; infinity is an error."""
        named = [(self.fixed, spec.fixed.names), (self.offset, ("the offset",))]
        pairs = zip(self.random, spec.random, strict=False)
        named += [(z, part.names) for z, part in pairs if z is not None]
        named += [(self.response, ("the response",))]
        masks = [undefined_rows(block, names, missing) for block, names in named]
        found = [mask for mask in masks if mask is not None]
        return np.logical_or.reduce(found) if found else None

    def without(self, rows: np.ndarray) -> Blocks:
        """These blocks without the rows of a mask."""
        kept = np.flatnonzero(~rows)
        return Blocks(
            self.fixed[kept],
            [None if z is None else rows_of(z, kept) for z in self.random],
            None if self.offset is None else self.offset[kept],
            None if self.response is None else self.response[kept],
            {name: codes[kept] for name, codes in self.curves.items()},
            [None if own is None else own[kept] for own in self.positions],
        )


def _positions(part: Any, rows: Any) -> np.ndarray | None:
    return part.inner.matrix(rows) if isinstance(part, PositionsPart) else None


def sum_of(offsets: Iterable[np.ndarray]) -> np.ndarray | None:
    offsets = list(offsets)
    return np.sum(offsets, axis=0) if offsets else None


def _check_present(table: Table, names: Iterable[str], remedy: str = "") -> None:
    for name in names:
        if name not in table.names:
            message = f"the model was fitted with {name!r}, which the new data do not have{remedy}"
            raise unknown_name(name, table.names, message)
