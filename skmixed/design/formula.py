"""Formulas: the random-effects terms and offsets are read here, all else is left to formulaic.

A formula is text only. `parse_formula` splits ``"y ~ x + offset(t) + (1 + x | g)"`` into its
response, fixed part, offsets and random-effects terms, and translates the R spellings that have
exactly one meaning in Python; `resolve` fills in what needs the names of the columns.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from formulaic import Formula

from skmixed.design.tokens import Token, formula_error, source, tokenize

# R functions with one unambiguous translation
_TRANSLATED = {"factor": "C", "as.factor": "C"}
# R functions that exist here under another spelling, or whose meaning depends on the data
_ADVICE = {
    "relevel": "C(f, contr.treatment(base='b'))",
    "ordered": "C(f, contr.poly), or make the column an ordered pandas categorical first",
    "as.ordered": "C(f, contr.poly), or make the column an ordered pandas categorical first",
    "as.numeric": "a numeric column made before the fit",
    "as.integer": "a numeric column made before the fit",
    "as.character": "C(f)",
    "as.logical": "a boolean column made before the fit",
    "ns": 'cr(x, df=3, constraints="center"), a natural cubic regression spline',
    "te": "a product of splines, bs(x, df=4):bs(z, df=4)",
    "rcs": 'cr(x, df=3, constraints="center")',
    "cut": "a categorical column made before the fit (pandas.cut)",
    "ifelse": "np.where(condition, a, b)",
    "interaction": "a:b",
    "pmin": "np.minimum(a, b)",
    "pmax": "np.maximum(a, b)",
}


# Covariances of a level's effects, in glmmTMB's spelling; the spatial ones of coordinates
SPATIAL = ("expo", "gau", "mat")
STRUCTURES = ("us", "diag", "homdiag", "cs", "homcs", "ar1", "hetar1", "toep", *SPATIAL)
# Other programs' names of structures, which are none here
_NO_STRUCTURES = (
    "exp",
    "ou",
    "rr",
    "homtoep",
    "propto",
    "equalto",
    "exponential",
    "gaus",
    "matern",
)
# Smoothness of a Matern covariance for which there is a closed form
_SMOOTHNESS = ("0.5", "1.5", "2.5")
# B-splines of a smooth term, and their least number: two of them make a straight line.
_K, _LEAST_K = 10, 4


@dataclass(frozen=True)
class RandomSpec:
    """One random-effects term ``(expr | group)``; not ``correlated`` where ``||`` split it.

    ``structure`` is one of `STRUCTURES`, "mat" with its smoothness: "mat1.5"; or "smooth" for a
    smooth term ``s(x, k=k, by=by)``, whose ``group`` is its name.
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
        return tuple(source(self.response, part) for part in _split(inside, ","))


def formula_text(terms: Terms, fixed: str, *, smooths: bool = True) -> str:
    """The formula of ``terms`` with another part of fixed effects, with or without its smooths."""
    left = "" if terms.response is None else f"{terms.response} ~ "
    offsets = [f"offset({text})" for text in terms.offsets]
    random = [str(spec) for spec in terms.random if smooths or not spec.is_smooth]
    return left + " + ".join([fixed, *offsets, *random])


def linear_part(spec: RandomSpec, kinds: Mapping[str, str] | None = None) -> list[str]:
    """What a smooth term adds to the fixed part: its straight line or lines.

    Where ``by`` is a column of numbers (which ``kinds`` tells) the curve has a constant too.
    """
    if spec.by is None:
        return [spec.argument]
    if kinds is not None and not spec.by.startswith("C(") and kinds[spec.by_column] == "number":
        return [spec.by, f"{spec.argument}:{spec.by}"]
    return [f"{spec.argument}:{spec.by}"]


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
    tokens = tokenize(text)
    if not tokens:
        raise ValueError("the formula is empty; for an intercept only write '1'")
    sides = _split(tokens, "~")
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


def _split(tokens: Sequence[Token], separator: str) -> list[list[Token]]:
    """``tokens`` between the ``separator`` tokens that stand outside all brackets."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind == "operator" and token.text == separator and not token.context:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _split_commas(tokens: Sequence[Token]) -> list[list[Token]]:
    """``tokens`` between the commas outside all brackets."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.text == "," and not token.context:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _response(text: str, tokens: list[Token]) -> str:
    """The left-hand side: one variable, one call, or arithmetic other than a bare sum.

    ``y + z`` is arithmetic in R but reads like two responses, so it has to be written I(y + z).
    """
    head = tokens[0]
    single = len(tokens) == 1 and head.kind in ("name", "quoted")
    call = len(tokens) > 2 and head.kind == "name" and _encloses(tokens[1:])
    braces = head.text == "{" and _encloses(tokens)
    if not (single or call or braces):
        if len(tokens) > 2 and all(_is_arithmetic(token) for token in tokens):
            return f"I({_translate(text, tokens)})"
        raise formula_error(
            text,
            head.start,
            "the left-hand side is one variable or one call: write I(a + b) for arithmetic, "
            "cbind(successes, failures) for a binomial response",
        )
    if call and head.text == "cbind":
        inside = [token.shifted(1) for token in tokens[2:-1]]
        if len(_split(inside, ",")) != 2 or not all(_split(inside, ",")):
            raise formula_error(text, head.start, "cbind(successes, failures) takes two columns")
    return _translate(text, tokens)


def _is_arithmetic(token: Token) -> bool:
    if token.kind == "operator":
        return token.text in ("-", "*", "/", "**") or (token.text == "+" and bool(token.context))
    return token.kind in ("name", "quoted", "number", "open", "close")


def _encloses(tokens: Sequence[Token]) -> bool:
    """Whether the first token opens a bracket that the last one closes."""
    first, last = tokens[0], tokens[-1]
    return (
        first.kind == "open"
        and last.kind == "close"
        and first.context == last.context
        and all(len(token.context) > len(first.context) for token in tokens[1:-1])
    )


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
        bars = [token for token in piece if token.text in ("|", "||") and not token.in_python]
        if piece[0].text == "s" and len(piece) > 2 and _encloses(piece[1:]):
            self._read_smooth(sign, piece)
        elif self._is_structured(piece):
            self._read_structured(sign, piece)
        elif bars:
            self._read_bars(sign, piece, bars)
        elif piece[0].text == "offset" and len(piece) > 1 and _encloses(piece[1:]):
            self._read_offset(sign, piece)
        else:
            for token in piece:
                if token.text == "offset" and _called(piece, token):
                    raise formula_error(self.text, token.start, "offset() is added on its own")
            self.pieces.append(f"{sign} {_translate(self.text, piece)}")

    def _is_structured(self, piece: list[Token]) -> bool:
        """Whether a summand is one call with a bar, or of coordinates."""
        if piece[0].kind != "name" or len(piece) < 3 or not _encloses(piece[1:]):
            return False
        inside = [token.shifted(1) for token in piece[2:-1]]
        bars = any(token.text in ("|", "||") and not token.context for token in inside)
        return piece[0].text in SPATIAL or (
            bars and piece[0].text in (*STRUCTURES, *_NO_STRUCTURES)
        )

    def _read_structured(self, sign: str, piece: list[Token]) -> None:
        name, end = piece[0], piece[-1].start
        if name.text not in STRUCTURES:
            advice = "; an exponential covariance is expo(...)" if name.text == "exp" else ""
            message = (
                f"{name.text!r} is no covariance structure of random effects, which are "
                f"{', '.join(STRUCTURES)}{advice}"
            )
            raise formula_error(self.text, name.start, message)
        if sign == "-":
            message = "a random-effects term cannot be subtracted: leave it out of the formula"
            raise formula_error(self.text, name.start, message)
        begin = piece[1].start + 1
        inside = tokenize(" " * begin + self.text[begin:end])  # as it stands outside of a call
        if not inside:
            raise formula_error(self.text, end, f"{name.text}() has nothing inside")
        inside, structure = self._smoothness(name, inside)
        at = [token for token in inside if token.text in ("|", "||") and not token.context]
        if len(at) > 1 or any(token.text == "||" for token in at):
            message = f"a structured term has one bar: {name.text}(x | g)"
            raise formula_error(self.text, at[-1].start, message)
        spatial = name.text in SPATIAL
        before = len(self.random)
        if at:
            self._read_term(inside, at[0])
        else:
            self._check_left(inside)
            self.random.append(RandomSpec(_random_expression(self.text, inside), ""))
        for k in range(before, len(self.random)):
            spec = self.random[k]
            if spatial:
                coordinates = spec.expr.removeprefix("1 + ").removeprefix("0 + ")
                if coordinates in ("1", "0"):
                    message = f"{name.text}() needs coordinates: {name.text}(x + y | g)"
                    raise formula_error(self.text, inside[0].start, message)
                expr, group = f"0 + {coordinates}", spec.group or coordinates
                spec = RandomSpec(expr, group)
            self.random[k] = replace(spec, structure=structure)

    def _smoothness(self, name: Token, inside: list[Token]) -> tuple[list[Token], str]:
        """The tokens without ``nu=``, and the name of the structure."""
        parts = _split_commas(inside)
        structure = "mat1.5" if name.text == "mat" else name.text
        for part in parts[1:]:
            words = [token.text for token in part]
            if (
                name.text != "mat"
                or words[:2] != ["nu", "="]
                or "".join(words[2:]) not in (_SMOOTHNESS)
            ):
                where = part[0].start if part else name.start
                message = f"{name.text}() takes one term"
                if name.text == "mat":
                    message += f" and nu, one of {', '.join(_SMOOTHNESS)}: mat(x + y, nu=2.5)"
                raise formula_error(self.text, where, message)
            structure = f"mat{words[2]}"
        return parts[0], structure

    def _read_smooth(self, sign: str, piece: list[Token]) -> None:
        """``s(x, k=10, by=g)``: a random-effects term whose group is its own name."""
        if sign == "-":
            message = "a smooth term cannot be subtracted: leave it out of the formula"
            raise formula_error(self.text, piece[0].start, message)
        first, *rest = _arguments(piece)
        if not first or (len(first) > 1 and first[1].text == "="):
            message = "s() needs the column to smooth first, as in s(x, k=20)"
            raise formula_error(self.text, piece[0].start, message)
        self._check_left([token.shifted(1) for token in first])
        given: dict[str, list[Token]] = {}
        for part in rest:
            if len(part) < 3 or part[1].text != "=" or part[0].text not in ("k", "by"):
                raise formula_error(self.text, (part or piece)[0].start, _no_argument(part))
            given[part[0].text] = part[2:]
        argument = _smoothed(self.text, first)
        k = self._basis_size(given["k"]) if "k" in given else _K
        by = self._by(given["by"]) if "by" in given else None
        name = f"s({argument})" if by is None else f"s({argument}, by={by})"
        if by == argument:
            message = (
                f"{name} multiplies the curve by what it is a function of: that is a curve too, "
                f"s({argument})"
            )
            raise formula_error(self.text, piece[0].start, message)
        spec = RandomSpec(f"0 + {argument}", name, structure="smooth", k=k, by=by)
        if any(spec.group == other.group for other in self.random):
            raise formula_error(self.text, piece[0].start, f"the smooth term {name} stands twice")
        self.random.append(spec)

    def _basis_size(self, tokens: list[Token]) -> int:
        text = source(self.text, tokens).removesuffix("L")
        if not text.isdecimal() or int(text) < _LEAST_K:
            message = (
                f"k of s() is a whole number of B-splines, {_LEAST_K} or more: a straight line and "
                f"k - 2 deviations from it; got k={text}"
            )
            raise formula_error(self.text, tokens[0].start, message)
        return int(text)

    def _by(self, tokens: list[Token]) -> str:
        """The column ``by``, or C() of it."""
        text = _translate(self.text, tokens)
        called = len(tokens) == 4 and text.startswith("C(")
        column = tokens[2] if called else tokens[0]
        if column.kind not in ("name", "quoted") or (len(tokens) > 1 and not called):
            message = (
                f"by of s() is a column, got {text}: a factor, with a curve for every level, or a "
                "number, which the curve multiplies. Make the column before the fit"
            )
            raise formula_error(self.text, tokens[0].start, message)
        return text

    def _read_offset(self, sign: str, piece: list[Token]) -> None:
        if sign == "-" or len(piece) < 4:
            why = "an offset cannot be subtracted: write offset(-x)" if sign == "-" else "offset()"
            why = why if sign == "-" else "offset() needs an expression, as in offset(log(t))"
            raise formula_error(self.text, piece[0].start, why)
        self.offsets.append(_translate(self.text, piece[2:-1]))

    def _read_bars(self, sign: str, piece: list[Token], bars: list[Token]) -> None:
        where = bars[0].start
        if not bars[0].context:
            message = "a random-effects term stands in parentheses: write (x | g)"
            raise formula_error(self.text, where, message)
        if not _encloses(piece):
            message = "a random-effects term can only be added, as in x + (x | g)"
            raise formula_error(self.text, where, message)
        if sign == "-":
            message = "a random-effects term cannot be subtracted: leave it out of the formula"
            raise formula_error(self.text, piece[0].start, message)
        inside = [token.shifted(1) for token in piece[1:-1]]
        outer = [token for token in inside if token.text in ("|", "||") and not token.context]
        if not outer:  # parentheses round a sum of terms
            self.read(inside)
        elif len(outer) > 1:
            message = "a random-effects term has one bar: (x | g)"
            raise formula_error(self.text, outer[1].start, message)
        else:
            self._read_term(inside, outer[0])

    def _read_term(self, inside: list[Token], bar: Token) -> None:
        at = inside.index(bar)
        left, right = inside[:at], inside[at + 1 :]
        if not left:
            message = "nothing stands left of the bar: for a random intercept write (1 | g)"
            raise formula_error(self.text, bar.start, message)
        if not right:
            raise formula_error(self.text, bar.start, "no grouping factor stands right of the bar")
        self._check_left(left)
        expr = _random_expression(self.text, left)
        if expr == "0":
            message = "the random-effects term has no effects: for an intercept write (1 | g)"
            raise formula_error(self.text, left[0].start, message)
        split = bar.text == "||"
        parts = _uncorrelated(expr) if split else (expr,)
        for group in _grouping(self.text, right):
            self.random.extend(RandomSpec(part, group, not split) for part in parts)

    def _check_left(self, left: list[Token]) -> None:
        for token in left:
            if token.text == "." and not token.in_python:
                message = "'.' has no meaning in a random-effects term: name the columns"
                raise formula_error(self.text, token.start, message)
            if token.text == "offset" and _called(left, token):
                message = "an offset has no place in a random-effects term"
                raise formula_error(self.text, token.start, message)


def _arguments(piece: list[Token]) -> list[list[Token]]:
    """The tokens of every argument of a call."""
    parts: list[list[Token]] = [[]]
    for token in piece[2:-1]:
        if token.text == "," and len(token.context) == 1:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _smoothed(text: str, tokens: list[Token]) -> str:
    """The argument of a smooth term as a term of a formula: a column, a call, or I() of it."""
    argument = _translate(text, tokens)
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


def _called(tokens: Sequence[Token], name: Token) -> bool:
    """Whether ``name`` is followed by the parenthesis of a call."""
    after = list(tokens).index(name) + 1
    return name.kind == "name" and after < len(tokens) and tokens[after].text == "("


def _translate(text: str, tokens: Sequence[Token]) -> str:
    """The source of ``tokens`` with R spellings written as Python."""
    out, end = [], tokens[0].start
    for i, token in enumerate(tokens):
        out.append(text[end : token.start])
        out.append(_python_spelling(text, tokens, i))
        end = token.start + len(token.text)
    return re.sub(r"\s+", " ", "".join(out)) if not _has_strings(tokens) else "".join(out)


def _has_strings(tokens: Iterable[Token]) -> bool:
    return any(token.kind in ("string", "quoted") for token in tokens)


def _python_spelling(text: str, tokens: Sequence[Token], i: int) -> str:
    """Token ``i`` as Python, or an error that names the Python spelling."""
    token = tokens[i]
    before = tokens[i - 1] if i else None
    after = tokens[i + 1] if i + 1 < len(tokens) else None
    if token.kind == "name":
        return _python_name(text, token, before, after)
    if token.kind == "number":
        return token.text.removesuffix("L")
    if token.text in ("^", "**"):
        return _python_power(text, token, before, after)
    if token.text == "%in%" and not token.in_python:
        if after is not None and after.text == "(":
            message = "write the nesting out with ':', as in b:a for b %in% a"
            raise formula_error(text, token.start, message)
        return ":"
    if token.text.startswith("%") and len(token.text) > 1:
        message = f"the operator {token.text} is R's: make the column before the fit"
        raise formula_error(text, token.start, message)
    if token.text == "$" or (token.text == "@" and not token.in_python):
        raise formula_error(text, token.start, "name the column alone: x, not data$x")
    return token.text


def _python_name(text: str, token: Token, before: Token | None, after: Token | None) -> str:
    called = after is not None and after.text == "("
    if called and token.text in _TRANSLATED:
        return _TRANSLATED[token.text]
    if called and token.text == "s":
        message = (
            "a smooth term s(x) is added on its own; one curve for every level of a factor is "
            "s(x, by=g)"
        )
        raise formula_error(text, token.start, message)
    if called and token.text in _ADVICE:
        message = f"{token.text}() is R's: write {_ADVICE[token.text]}"
        raise formula_error(text, token.start, message)
    if token.in_python and token.text in ("TRUE", "FALSE"):
        return token.text.capitalize()
    if token.in_python and token.text in ("T", "F") and before is not None and before.text == "=":
        return "True" if token.text == "T" else "False"
    return token.text


def _python_power(text: str, token: Token, before: Token | None, after: Token | None) -> str:
    """``**``; at the level of terms a power of one variable is the variable, which nobody means."""
    if token.in_python:
        return "**"
    if before is not None and before.kind in ("name", "quoted", "close") and before.text != ")":
        shown = f"{before.text}**{after.text if after is not None else 2}"
        message = (
            f"between terms a power expands interactions, so a power of one variable is the "
            f"variable itself: write I({shown})"
        )
        raise formula_error(text, token.start, message)
    return "**"


def _random_expression(text: str, left: list[Token]) -> str:
    """The terms left of the bar, written out: ``x*f`` becomes ``1 + x + f + x:f``."""
    return _written_out(term_names(_translate(text, left)))


def _written_out(names: Sequence[str]) -> str:
    return " + ".join(names if "1" in names else ["0", *names])


def _uncorrelated(expr: str) -> tuple[str, ...]:
    """The terms of ``expr`` as expressions of their own: ``1 + x`` gives ``1`` and ``0 + x``."""
    return tuple("1" if name == "1" else f"0 + {name}" for name in term_names(expr))


@lru_cache(maxsize=4096)
def quoted_name(name: str) -> str:
    """``name`` between backticks, where it is read as this one name and as nothing else.

    Names stand in files that nobody looked into: one that ends its own quotes would go on as code.
    """
    quoted = f"`{name}`"
    if re.fullmatch(r"[^\W\d]\w*", name) or _reads_as_itself(name, quoted):
        return quoted
    raise ValueError(
        f"a column named {name!r} cannot stand in a formula, which would read it as something "
        "else: rename it"
    )


def _reads_as_itself(name: str, quoted: str) -> bool:
    try:
        ours = [token.text for token in tokenize(quoted)]
        factors = [f for term in Formula(f"1 + {quoted}") for f in term.factors]
    except Exception:  # whatever formulaic stumbles over
        return False
    found = [(factor.expr, factor.eval_method.value) for factor in factors]
    return ours == [quoted] and found == [("1", "literal"), (name, "lookup")]


@lru_cache(maxsize=1024)
def formulaic_formula(expr: str) -> Formula:
    """``expr`` as formulaic reads it; what it cannot read is a ValueError that shows the text."""
    for token in tokenize(expr) if "`" in expr else ():
        if token.kind == "quoted" and not token.in_python:
            quoted_name(token.text[1:-1])
    try:
        return Formula(expr)
    except Exception as error:  # formulaic lets AttributeError and others pass beside its own
        reason = re.sub(r"\x1b\[[0-9;]*m|[⧛⧚]", "", str(error)).strip().splitlines()
        shown = f": {reason[0]}" if reason else ""
        raise ValueError(f"the formula part {expr!r} cannot be read{shown}") from error


def term_names(expr: str) -> list[str]:
    """The terms of ``expr`` in order, ``"1"`` for the intercept."""
    return [
        ":".join(_factor_text(factor) for factor in term.factors)
        for term in formulaic_formula(expr)
    ]


def _factor_text(factor) -> str:
    """A factor as it is written in a formula."""
    text = str(factor.expr)
    if factor.eval_method.value == "lookup" and not re.fullmatch(r"[^\W\d][\w.]*", text):
        return f"`{text}`"
    if factor.eval_method.value != "python" or is_call(text):
        return text
    return f"{{{text}}}"


def is_call(text: str) -> bool:
    """Whether ``text`` is one call, which needs no braces, and not a sum that begins with one."""
    tokens = tokenize(text)
    return tokens[0].kind == "name" and len(tokens) > 2 and _encloses(tokens[1:])


def _grouping(text: str, right: list[Token]) -> list[str]:
    """The grouping factors of ``a/b/c``: ``a``, ``a:b``, ``a:b:c``."""
    for token in right:
        if token.text in ("+", "*", "-", "%in%", "^", "**") and not token.in_python:
            message = (
                "a grouping factor is a column, a:b or a/b; crossed factors are terms of their "
                "own: (1 | a) + (1 | b)"
            )
            raise formula_error(text, token.start, message)
    groups: list[str] = []
    for part in _split(right, "/"):
        names = [*groups[-1:], *_interaction(text, part, right[0].start)]
        columns = dict.fromkeys(name for group in names for name in split_group(group))
        groups.append(":".join(f"`{name}`" if ":" in name else name for name in columns))
    return groups


def _interaction(text: str, tokens: list[Token], start: int) -> list[str]:
    """The columns of ``a:b``; parentheses round it and ``factor(a)`` are seen through."""
    while tokens and _encloses(tokens) and tokens[0].text == "(":
        tokens = [token.shifted(1) for token in tokens[1:-1]]
    names: list[str] = []
    for part in _split(tokens, ":"):
        if not part:
            raise formula_error(text, start, "a grouping factor is missing beside ':' or '/'")
        if part is not tokens and _encloses(part) and part[0].text == "(":
            names += _interaction(text, part, start)
        else:
            names.append(_group_name(text, part))
    return names


def _group_name(text: str, part: list[Token]) -> str:
    wrapped = part[0].text in ("factor", "as.factor", "C") and len(part) == 4
    column = part[2] if wrapped else part[0]
    if column.kind not in ("name", "quoted") or (len(part) > 1 and not wrapped):
        message = (
            f"a grouping factor is a column, a:b or a/b, not {source(text, part)!r}: make the "
            "column before the fit"
        )
        raise formula_error(text, part[0].start, message)
    name = column.text.strip("`")
    return f"`{name}`" if ":" in name else name


def group_label(group: str, groups: Collection[str]) -> str:
    """How one of ``groups`` is shown: a column without backticks, unless ``a:b`` is another."""
    columns = split_group(group)
    return columns[0] if len(columns) == 1 and columns[0] not in groups else group


def split_group(group: str) -> tuple[str, ...]:
    """The columns of a grouping factor: ``"a:b"`` gives ``("a", "b")``."""
    return tuple(name.strip("`") for name in re.findall(r"`[^`]*`|[^:`]+", group))


def _check_repeated(text: str, random: Sequence[RandomSpec]) -> None:
    seen: set[tuple[str, str]] = set()
    for spec in random:
        if (spec.expr, spec.group) in seen:
            raise ValueError(f"the random-effects term {spec} stands twice in {text!r}")
        seen.add((spec.expr, spec.group))


def unknown_name(name: str, known: Iterable[str], message: str) -> ValueError:
    """The error for a name that no column has: ``message``, the nearest name, and all there are."""
    known = [str(column) for column in known]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    near = near or [column for column in known if column.lower() == name.lower()][:1]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(known[:20]) + (f", ... ({len(known)} in all)" if len(known) > 20 else "")
    return ValueError(f"{message}.{hint} Columns: {shown}")


def resolve(terms: Terms, columns: tuple[str, ...], fill: tuple[str, ...]) -> Terms:
    """``terms`` with ``.`` written out as the columns ``fill`` and dotted column names quoted."""
    dotted = frozenset(name for name in columns if "." in name and not name.isidentifier())

    def quoted(text: str, fill: tuple[str, ...] = ()) -> str:
        return _with_columns(text, dotted, fill) if "." in text else text

    return replace(
        terms,
        response=terms.response and quoted(terms.response),
        fixed=quoted(terms.fixed, fill),
        random=tuple(
            replace(spec, expr=quoted(spec.expr), by=spec.by and quoted(spec.by))
            for spec in terms.random
        ),
        offsets=tuple(quoted(text) for text in terms.offsets),
    )


def has_dot(terms: Terms) -> bool:
    """Whether the fixed part has the term ``.``."""
    return any(
        token.text == "." and token.kind == "operator" and not token.in_python
        for token in tokenize(terms.fixed)
    )


def _with_columns(text: str, dotted: frozenset[str], fill: tuple[str, ...]) -> str:
    out, end = [], 0
    for token in tokenize(text):
        out.append(text[end : token.start])
        end = token.start + len(token.text)
        if token.text == "." and token.kind == "operator" and not token.in_python:
            out.append(f"({' + '.join(map(quoted_name, fill))})")
        elif token.text in dotted and token.kind == "name":
            out.append(quoted_name(token.text))
        else:
            out.append(token.text)
    return "".join(out) + text[end:]
