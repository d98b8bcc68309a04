"""What a formula needs of a table: the columns by their use, and errors for names nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from skmixed.design.expression import is_known_name
from skmixed.design.formula_terms import Terms
from skmixed.design.names import unknown_name
from skmixed.design.parts import Usage, usage
from skmixed.design.rewriting import has_dot, linear_part, resolve


@dataclass(frozen=True)
class Plan:
    """A formula with its columns known.

    ``fixed``, ``random``, ``offsets`` and ``responses`` are formula parts for formulaic, the first
    with the straight lines of smooth terms,
    ``..._columns`` the columns that each of them needs, ``coded`` the covariates that stand only
    inside ``C()``. ``trusted`` plans hold Python code that is more than formulas hold.
    """

    terms: Terms
    fixed: str
    random: tuple[str, ...]
    offsets: tuple[str, ...]
    responses: tuple[str, ...]
    fixed_columns: tuple[str, ...]
    random_columns: tuple[str, ...]
    response_columns: tuple[str, ...]
    group_columns: tuple[str, ...]
    coded: frozenset[str]
    trusted: bool

    @property
    def covariates(self) -> tuple[str, ...]:
        """All columns but those that only group, each once."""
        names = (*self.fixed_columns, *self.random_columns, *self.response_columns)
        return tuple(dict.fromkeys(names))


@lru_cache(maxsize=64)
def make_plan(
    terms: Terms,
    columns: tuple[str, ...],
    weights: str | None = None,
    trusted: bool = False,
    apart: tuple[str, ...] = (),
) -> Plan:
    """The plan of ``terms`` on ``columns``; ``weights`` names that of the prior weights.

    ``apart``: columns that ``.`` does not stand for.
    """
    terms = resolve(terms, columns, _fill(terms, columns, (weights, *apart)))
    offsets = tuple(map(_one_column, terms.offsets))
    responses = tuple(map(_one_column, terms.responses))
    random = tuple(spec.expr for spec in terms.random)
    groups = tuple(dict.fromkeys(name for spec in terms.random for name in spec.columns))
    smooths = [part for spec in terms.random if spec.is_smooth for part in linear_part(spec)]
    fixed = " + ".join([terms.fixed, *smooths])
    fixed_use = _uses((fixed, *offsets))
    random_use, response_use = _uses(random), _uses(responses)
    uses = (*fixed_use, *random_use, *response_use)
    _check_names(uses, columns, trusted)
    _check_groups(groups, columns)
    plan = Plan(
        terms,
        fixed,
        random,
        offsets,
        responses,
        _names(fixed_use, columns),
        _names(random_use, columns),
        _names(response_use, columns),
        groups,
        frozenset.union(frozenset(), *(use.coded for use in uses)) - _bare(uses),
        any(use.refusal is not None for use in uses),
    )
    _check_response(plan, _bare((*fixed_use, *random_use)))
    return plan


def _uses(exprs: Iterable[str]) -> tuple[Usage, ...]:
    return tuple(map(usage, exprs))


def _names(uses: Iterable[Usage], columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that are used, each once; trusted Python may name other things."""
    present = frozenset(columns)
    return tuple(dict.fromkeys(name for use in uses for name in use.names if name in present))


def _bare(uses: Iterable[Usage]) -> frozenset[str]:
    return frozenset(name for use in uses for name in use.bare)


def _one_column(text: str) -> str:
    """A Python expression as a formula part of one column."""
    inner = text[1:-1] if text.startswith("{") else text
    quoted = inner.startswith("`") and inner.count("`") == 2 and inner.endswith("`")
    single = quoted or all(part.isidentifier() for part in inner.split("."))
    return f"0 + {inner}" if single else f"0 + I({inner})"


def _fill(terms: Terms, columns: tuple[str, ...], apart: tuple[str | None, ...]) -> tuple[str, ...]:
    """The columns that ``.`` stands for."""
    if "." not in terms.fixed or not has_dot(terms):
        return ()
    terms = resolve(terms, columns, columns[:1])  # dotted names must be quoted before they are read
    exprs = [_one_column(text) for text in (*terms.responses, *terms.offsets)]
    exprs += [spec.expr for spec in terms.random]
    used = {*apart, *_names(_uses(exprs), columns)}
    used |= {name for spec in terms.random for name in spec.columns}
    fill = tuple(name for name in columns if name not in used)
    if not fill:
        raise ValueError("'.' stands for no column: the formula uses all columns elsewhere")
    return fill


def _check_names(uses: Iterable[Usage], columns: tuple[str, ...], trusted: bool) -> None:
    """Every name is a column, and nothing but arithmetic on columns is asked for unless trusted."""
    present = frozenset(columns)
    for use in uses:
        if use.refusal is not None and not trusted:
            raise ValueError(use.refusal)
        if "Intercept" in use.names:
            raise ValueError(
                "a column named 'Intercept' cannot be told from the constant: rename it"
            )
        for name in use.names:
            python = trusted and name not in use.bare and is_known_name(name)
            if name not in present and not python:
                message = f"the variable {name!r} is not a column of the data"
                raise unknown_name(name, columns, message)


def _check_groups(groups: Iterable[str], columns: tuple[str, ...]) -> None:
    for name in groups:
        if name not in columns:
            message = f"the grouping factor {name!r} is not a column of the data"
            raise unknown_name(name, columns, message)


def _check_response(plan: Plan, right: frozenset[str]) -> None:
    """The response may not explain itself; one of several columns of it may, as in a change."""
    if len(plan.responses) == 2 and plan.responses[0] == plan.responses[1]:
        raise ValueError(f"the response {plan.terms.responses[0]!r} is named twice in cbind()")
    for expr in plan.responses:
        names = usage(expr).names
        if names and right.union(plan.group_columns).issuperset(names):
            raise ValueError(
                f"the response {names[0]!r} also stands on the right-hand side of the formula: "
                "take it out there"
            )
