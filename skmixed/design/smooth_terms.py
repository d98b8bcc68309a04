"""Smooth terms, ``s(x, k=10, by=g)``, as formulas write them."""

from __future__ import annotations

from skmixed.design.formula_terms import RandomSpec
from skmixed.design.names import is_call
from skmixed.design.random_terms import check_effects
from skmixed.design.spellings import translate
from skmixed.design.tokens import Token, formula_error, is_one_call, source, split

# B-splines of a smooth term, and their least number: two of them make a straight line.
_K, _LEAST_K = 10, 4


def is_smooth(piece: list[Token]) -> bool:
    """Whether a summand is one call of s()."""
    return piece[0].text == "s" and is_one_call(piece)


def read_smooth(text: str, piece: list[Token]) -> RandomSpec:
    """``s(x, k=10, by=g)``: a random-effects term whose group is its own name."""
    first, *rest = split(piece[2:-1], ",", depth=1)
    if not first or (len(first) > 1 and first[1].text == "="):
        message = "s() needs the column to smooth first, as in s(x, k=20)"
        raise formula_error(text, piece[0].start, message)
    check_effects(text, [token.shifted(1) for token in first])
    given: dict[str, list[Token]] = {}
    for part in rest:
        if len(part) < 3 or part[1].text != "=" or part[0].text not in ("k", "by"):
            raise formula_error(text, (part or piece)[0].start, _no_argument(part))
        given[part[0].text] = part[2:]
    argument = _smoothed(text, first)
    k = _basis_size(text, given["k"]) if "k" in given else _K
    by = _by(text, given["by"]) if "by" in given else None
    name = f"s({argument})" if by is None else f"s({argument}, by={by})"
    if by == argument:
        message = (
            f"{name} multiplies the curve by what it is a function of: that is a curve too, "
            f"s({argument})"
        )
        raise formula_error(text, piece[0].start, message)
    return RandomSpec(f"0 + {argument}", name, structure="smooth", k=k, by=by)


def _basis_size(text: str, tokens: list[Token]) -> int:
    size = source(text, tokens).removesuffix("L")
    if not size.isdecimal() or int(size) < _LEAST_K:
        message = (
            f"k of s() is a whole number of B-splines, {_LEAST_K} or more: a straight line and "
            f"k - 2 deviations from it; got k={size}"
        )
        raise formula_error(text, tokens[0].start, message)
    return int(size)


def _by(text: str, tokens: list[Token]) -> str:
    """The column ``by``, or C() of it."""
    by = translate(text, tokens)
    called = len(tokens) == 4 and by.startswith("C(")
    column = tokens[2] if called else tokens[0]
    if column.kind not in ("name", "quoted") or (len(tokens) > 1 and not called):
        message = (
            f"by of s() is a column, got {by}: a factor, with a curve for every level, or a "
            "number, which the curve multiplies. Make the column before the fit"
        )
        raise formula_error(text, tokens[0].start, message)
    return by


def _smoothed(text: str, tokens: list[Token]) -> str:
    """The argument of a smooth term as a term of a formula: a column, a call, or I() of it."""
    argument = translate(text, tokens)
    single = len(tokens) == 1 and tokens[0].kind in ("name", "quoted")
    return argument if single or is_call(argument) else f"I({argument})"


def _no_argument(part: list[Token]) -> str:
    """Why something is no argument of s()."""
    named = len(part) > 1 and part[1].text == "="
    if not named:
        return (
            "s() smooths one column, and after it come k= and by=, as in s(x, k=20, by=g); a "
            "surface over two is a field, gau(x + y)"
        )
    return (
        f"s() has k= and by=, and no {part[0].text}=: its basis are cubic B-splines on equally "
        'spaced knots with a penalty on second differences, bs="ps", m=c(2, 2) of mgcv, and its '
        "smoothness is estimated"
    )
