"""Formulas: the random-effects terms and offsets are read here, all else is left to formulaic.

A formula is text only. `parse_formula` splits ``"y ~ x + offset(t) + (1 + x | g)"`` into its
response, fixed part, offsets and random-effects terms, and translates the R spellings that have
exactly one meaning in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from skmixed.design.formula_terms import RandomSpec, Terms
from skmixed.design.random_terms import read_term
from skmixed.design.smooth_terms import is_smooth, read_smooth
from skmixed.design.spellings import refuse_structures, translate
from skmixed.design.structured_terms import is_structured, read_structured
from skmixed.design.tokens import (
    Token,
    backticked,
    check_names,
    check_tilde,
    encloses,
    formula_error,
    is_bar,
    is_called,
    is_one_call,
    split,
    tokenize,
)

_NOT_SUBTRACTED = "a {} term cannot be subtracted: leave it out of the formula"


@lru_cache(maxsize=256)
def parse_formula(text: str) -> Terms:
    r"""Return the parts of a model formula in lme4's language.

    The fixed part is any right-hand side that formulaic reads (interactions, ``poly``, ``bs``,
    ``C(f, contr.sum)``, ...). Random-effects terms are

    =====================  ====================================================================
    ``(1 | g)``            a random intercept for every level of ``g``
    ``(x | g)``            intercept and slope of ``x``, correlated; the same as ``(1 + x | g)``
    ``(0 + x | g)``        a slope without an intercept
    ``(x || g)``           ``(1 | g) + (0 + x | g)``: no correlation between the terms. As in lme4
                           the dummy columns of a factor stay together in one correlated term.
    ``(1 | a/b)``          ``(1 | a) + (1 | a:b)``
    ``(1 | a:b)``          one level for every observed combination
    ``(f | g)``            intercept and contrasts of a factor ``f``, correlated
    ``ar1(0 + f | g)``     effects with a covariance of fewer parameters, in glmmTMB's spelling:
                           ``us diag homdiag cs homcs ar1 hetar1 toep``
    ``expo(x + y | g)``    a field over coordinates for every level, of one field ``expo(x + y)``:
                           ``expo`` exp(-d / range), ``gau`` exp(-(d / range)^2), ``mat`` Matern's
                           with ``nu=1.5`` (or 0.5, 2.5) as in ``mat(x + y, nu=2.5)``
    ``s(x, k=10)``         a smooth function of ``x`` (mgcv's ``bs="ps"``), whose straight line is
                           a fixed effect; ``s(x, by=g)``: one for every level of a factor ``g``,
                           or times a number
    =====================  ====================================================================

    ``offset(x)`` may stand anywhere in the sum, more than once. ``.`` is every column that is not
    the response, a grouping factor, part of a random-effects term or an offset, or the prior
    weights. R spellings with one meaning are translated: ``x^2`` inside a call becomes ``x**2``,
    ``factor(x)`` becomes ``C(x)``, ``TRUE`` becomes ``True``, ``b %in% a`` becomes ``b:a``.

    Parameters
    ----------
    text : str
        The formula, one-sided (``"x + (1 | g)"``) or two-sided (``"y ~ x + (1 | g)"``).

    Returns
    -------
    Terms

    Raises
    ------
    ValueError
        If the formula cannot be read. The message shows the place.

    References
    ----------
    Bates, Maechler, Bolker and Walker (2015). Fitting linear mixed-effects models using lme4.
    Journal of Statistical Software 67(1), section 2.1 and table 2.

    Examples
    --------
    >>> from skmixed.design import parse_formula
    >>> terms = parse_formula("Reaction ~ Days + (Days || Subject)")
    >>> terms.response, terms.fixed
    ('Reaction', 'Days')
    >>> [str(spec) for spec in terms.random]
    ['(1 | Subject)', '(0 + Days | Subject)']
    """
    if not isinstance(text, str):
        raise TypeError(f"a formula is a str, got {type(text).__name__}: {text!r}")
    text = backticked(text)
    tokens = tokenize(text)
    if not tokens:
        raise ValueError("the formula is empty; for an intercept only write '1'")
    check_tilde(text, tokens)
    check_names(text, tokens)
    sides = split(tokens, "~")
    if len(sides) > 2:
        second = [token for token in tokens if token.text == "~"][1]
        raise formula_error(text, second.start, "the formula has more than one '~'")
    for token in tokens:
        if token.text == "~" and token.context and not token.in_python:
            raise formula_error(text, token.start, "'~' stands inside brackets")
    response = _response(text, sides[0]) if len(sides) == 2 and sides[0] else None
    reader = _RightHandSide(text)
    reader.read(sides[-1])
    _check_repeated(text, reader.random)
    return Terms(response, reader.fixed, tuple(reader.random), tuple(reader.offsets), text)


def _response(text: str, tokens: list[Token]) -> str:
    """The left-hand side: one variable, one call, or arithmetic other than a bare sum.

    ``y + z`` is arithmetic in R but reads like two responses, so it has to be written I(y + z).
    """
    head = tokens[0]
    single = len(tokens) == 1 and head.kind in ("name", "quoted")
    call = is_one_call(tokens)
    braces = head.text == "{" and encloses(tokens)
    if not (single or call or braces):
        if len(tokens) > 2 and all(_is_arithmetic(token) for token in tokens):
            return f"I({translate(text, tokens)})"
        raise formula_error(
            text,
            head.start,
            "the left-hand side is one variable or one call: write I(a + b) for arithmetic, "
            "cbind(successes, failures) for a binomial response",
        )
    if call and head.text == "cbind":
        inside = [token.shifted(1) for token in tokens[2:-1]]
        if len(split(inside, ",")) != 2 or not all(split(inside, ",")):
            raise formula_error(text, head.start, "cbind(successes, failures) takes two columns")
    return translate(text, tokens)


def _is_arithmetic(token: Token) -> bool:
    if token.kind == "operator":
        return token.text in ("-", "*", "/", "**") or (token.text == "+" and bool(token.context))
    return token.kind in ("name", "quoted", "number", "open", "close")


class _RightHandSide:
    """Collects the fixed part, offsets and random-effects terms of a sum."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pieces: list[str] = []
        self.offsets: list[str] = []
        self.random: list[RandomSpec] = []

    @property
    def fixed(self) -> str:
        """The fixed part as one sum; an intercept when nothing else is left."""
        joined = " ".join(self.pieces).removeprefix("+ ")
        return joined or "1"

    def read(self, tokens: list[Token]) -> None:
        """Read the sum ``tokens`` term by term."""
        if not tokens:
            end = len(self.text.rstrip())
            raise formula_error(self.text, end, "the formula has nothing on its right-hand side")
        for sign, piece in self._signed(tokens):
            self._read_piece(sign, piece)

    def _signed(self, tokens: list[Token]) -> list[tuple[str, list[Token]]]:
        """The summands with their signs."""
        summands: list[tuple[str, list[Token]]] = [("+", [])]
        for token in tokens:
            if token.kind != "operator" or token.text not in "+-" or token.context:
                summands[-1][1].append(token)
            elif summands[-1][1]:
                summands.append((token.text, []))
            else:  # a sign of its own: "+ -1" is "-1"
                sign = "-" if (summands[-1][0] == "-") != (token.text == "-") else "+"
                summands[-1] = (sign, [])
        if not summands[-1][1]:
            raise formula_error(self.text, tokens[-1].start, "nothing follows the sign")
        return summands

    def _read_piece(self, sign: str, piece: list[Token]) -> None:
        bars = [token for token in piece if is_bar(token) and not token.in_python]
        if is_smooth(piece):
            self._check_added(sign, piece, "smooth")
            self._add_smooth(piece[0], read_smooth(self.text, piece))
        elif is_structured(piece):
            self._check_added(sign, piece)
            self.random += read_structured(self.text, piece)
        elif bars:
            self._read_bars(sign, piece, bars)
        elif piece[0].text == "offset" and is_one_call(piece):
            self._read_offset(sign, piece)
        else:
            for token in piece:
                if token.text == "offset" and is_called(piece, token):
                    raise formula_error(self.text, token.start, "offset() is added on its own")
            self.pieces.append(f"{sign} {translate(self.text, piece)}")

    def _check_added(self, sign: str, piece: list[Token], kind: str = "random-effects") -> None:
        if sign == "-":
            raise formula_error(self.text, piece[0].start, _NOT_SUBTRACTED.format(kind))

    def _add_smooth(self, name: Token, spec: RandomSpec) -> None:
        if any(spec.group == other.group for other in self.random):
            message = f"the smooth term {spec.group} stands twice"
            raise formula_error(self.text, name.start, message)
        self.random.append(spec)

    def _read_offset(self, sign: str, piece: list[Token]) -> None:
        if sign == "-" or len(piece) < 4:
            why = "an offset cannot be subtracted: write offset(-x)" if sign == "-" else "offset()"
            why = why if sign == "-" else "offset() needs an expression, as in offset(log(t))"
            raise formula_error(self.text, piece[0].start, why)
        self.offsets.append(translate(self.text, piece[2:-1]))

    def _read_bars(self, sign: str, piece: list[Token], bars: list[Token]) -> None:
        where = bars[0].start
        if not bars[0].context:
            message = "a random-effects term stands in parentheses: write (x | g)"
            raise formula_error(self.text, where, message)
        if not encloses(piece):
            refuse_structures(self.text, piece)
            message = "a random-effects term can only be added, as in x + (x | g)"
            raise formula_error(self.text, where, message)
        self._check_added(sign, piece)
        inside = [token.shifted(1) for token in piece[1:-1]]
        outer = [token for token in inside if is_bar(token) and not token.context]
        if not outer:  # parentheses round a sum of terms
            self.read(inside)
        elif len(outer) > 1:
            message = "a random-effects term has one bar: (x | g)"
            raise formula_error(self.text, outer[1].start, message)
        else:
            self.random += read_term(self.text, inside, outer[0])


def _check_repeated(text: str, random: Sequence[RandomSpec]) -> None:
    seen: set[tuple[str, str]] = set()
    for spec in random:
        if (spec.expr, spec.group) in seen:
            raise ValueError(f"the random-effects term {spec} stands twice in {text!r}")
        seen.add((spec.expr, spec.group))
