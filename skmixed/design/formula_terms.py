"""What a formula says: its random-effects terms and its parts."""

from __future__ import annotations

from dataclasses import dataclass

from skmixed.design.names import split_group
from skmixed.design.structure_names import SPATIAL
from skmixed.design.tokens import source, split, tokenize


@dataclass(frozen=True)
class RandomSpec:
    """One random-effects term ``(expr | group)``; not ``correlated`` where ``||`` split it.

    ``structure`` is one of `structure_names.STRUCTURES`, "mat" with its smoothness: "mat1.5"; or
    "smooth" for a smooth term ``s(x, k=k, by=by)``, whose ``group`` is its name.
    """

    expr: str
    group: str
    correlated: bool = True
    structure: str = "us"
    k: int = 0
    by: str | None = None

    def __str__(self) -> str:
        if self.is_smooth:
            by = "" if self.by is None else f", by={self.by}"
            return f"s({self.argument}, k={self.k}{by})"
        if self.structure == "us":
            return f"({self.expr} | {self.group})"
        if not self.is_spatial:
            return f"{self.structure}({self.expr} | {self.group})"
        name, nu = (
            ("mat", self.structure[3:]) if self.structure[:3] == "mat" else (self.structure, "")
        )
        group = "" if self.is_field else f" | {self.group}"
        return f"{name}({self.coordinates}{group}{', nu=' * bool(nu)}{nu})"

    @property
    def is_spatial(self) -> bool:
        """Whether ``expr`` names coordinates."""
        return self.structure.startswith(SPATIAL)

    @property
    def coordinates(self) -> str:
        """The coordinates of a spatial term."""
        return self.expr.removeprefix("0 + ")

    @property
    def is_field(self) -> bool:
        """Whether this is one field for all rows: its group, of one level, is its coordinates."""
        return self.is_spatial and self.group == self.coordinates

    @property
    def is_smooth(self) -> bool:
        """Whether this is a smooth function, whose effects users think of as fixed."""
        return self.structure == "smooth"

    @property
    def argument(self) -> str:
        """What a smooth term is a function of."""
        return self.expr.removeprefix("0 + ")

    @property
    def by_column(self) -> str:
        """The column of ``by``."""
        return str(self.by).removeprefix("C(").removesuffix(")").strip("`")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the levels of the grouping factor are read from."""
        return () if self.is_field or self.is_smooth else split_group(self.group)


@dataclass(frozen=True)
class Terms:
    """A formula, taken apart.

    ``response`` is the text left of ``~`` (None for a one-sided formula), ``fixed`` the right-hand
    side without offsets and random-effects terms, ``random`` one `RandomSpec` per term with
    ``||`` and ``/`` written out, ``offsets`` the expressions inside ``offset()``.
    """

    response: str | None
    fixed: str
    random: tuple[RandomSpec, ...] = ()
    offsets: tuple[str, ...] = ()
    text: str = ""

    @property
    def groups(self) -> tuple[str, ...]:
        """The grouping factors in the order of their first use, each once."""
        return tuple(dict.fromkeys(spec.group for spec in self.random))

    @property
    def responses(self) -> tuple[str, ...]:
        """The expressions of the response: one, or the two of ``cbind(successes, failures)``."""
        if self.response is None:
            return ()
        tokens = tokenize(self.response)
        if tokens[0].text != "cbind":
            return (self.response,)
        inside = [token.shifted(1) for token in tokens[2:-1]]
        return tuple(source(self.response, part) for part in split(inside, ","))
