"""What expressions of formulas may hold, and what they are worth."""

import builtins
import pickle

import numpy as np
import pandas as pd
import pytest

from skmixed.design import build_design
from skmixed.design.glm import build_glm_design
from skmixed.design.names import quoted_name

N = 40


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "y": rng.normal(size=N),
            "x": rng.normal(size=N),
            "z": rng.uniform(1, 2, N),
            "k": rng.integers(0, 4, N),
            "f": rng.choice(["a", "b", "c"], N),
            "g": rng.choice(list("stu"), N),
            "b": rng.normal(size=N) > 0,
        }
    )


@pytest.fixture
def canary(monkeypatch):
    """A builtin that a formula must not reach; what it was called with."""
    calls = []

    def pwned(*args, **kwargs):
        calls.append(args)
        return 1.0

    monkeypatch.setattr(builtins, "pwned", pwned, raising=False)
    return calls


HOSTILE = [
    "pwned()",
    "I(pwned())",
    "I(x + pwned())",
    "{pwned()}",
    "{x + pwned()}",
    "{[pwned() for _ in [1]][0] + x}",
    "I([pwned() for _ in [1]])",
    "I({pwned() for _ in [1]})",
    "I({1: pwned() for _ in [1]})",
    "I(sum(pwned() for _ in [1]))",
    "I((lambda: pwned())())",
    "I((lambda v: v + pwned())(x))",
    "I((lambda *v: x)(*[pwned()]))",
    "I(x if pwned() else x)",
    "I(pwned() if True else x)",
    "I(f'{pwned()}')",
    "C(f, levels=[f'{pwned()}'])",
    "C(f, levels=pwned())",
    "C(f, levels=[pwned()])",
    "C(f, pwned())",
    "C(f, contr.treatment(base=pwned()))",
    "C(f, contr.treatment(pwned()))",
    "C(f, Treatment(reference=pwned()))",
    "C(f, contr.custom({'p': [pwned(), 0, 1]}))",
    "C(f, {pwned(): [1, 0, 0]})",
    "C(f, contr.__class__)",
    "C(f, contr.mro())",
    "C(f, pwned)",
    "C(pwned())",
    "hashed(f, levels=3, hash_func=pwned)",
    "hashed(f, pwned())",
    "scale(x, pwned())",
    "scale(x, center=pwned())",
    "scale(x, _state=pwned())",
    "scale(x, _context=pwned())",
    "scale(x, **{'center': pwned()})",
    "scale(*[x, pwned()])",
    "poly(x, degree=pwned())",
    "bs(x, knots=[pwned()])",
    "bs(x, df=4, extrapolation=pwned())",
    "np.where(x > 0, pwned(), 0)",
    "np.vectorize(pwned)(x)",
    "np.apply_along_axis(pwned, 0, x)",
    "np.frompyfunc(pwned, 1, 1)(x)",
    "np.fromfunction(pwned, [1])",
    "np.load('pwned', allow_pickle=True)",
    "np.loadtxt('pwned')",
    "np.fromfile('pwned')",
    "np.genfromtxt('pwned')",
    "np.memmap('pwned')",
    "np.save('pwned', x)",
    "np.savetxt('pwned', x)",
    "np.f2py.os.system('pwned')",
    "np.testing.measure('pwned()')",
    "np.testing._private.utils.os.system('pwned')",
    "np.lib.npyio.os.system('pwned')",
    "np.ctypeslib.load_library('pwned', '.')",
    "np.core.os.system('pwned')",
    "np.__builtins__",
    "np.log.__class__.__base__.__subclasses__()",
    "np.log(x, out=z)",
    "np.log(x, z)",
    "np.where(x > 0, x, 0, pwned())",
    "x.__class__.__mro__[-1].__subclasses__()",
    "x.apply(pwned)",
    "x.tofile('pwned')",
    "x.to_pickle('pwned')",
    "f.map(pwned)",
    "f.str.cat.__globals__",
    "I(f.__class__)",
    "I(().__class__.__base__.__subclasses__())",
    "I(''.__class__)",
    "I('{0.__class__}'.format(x))",
    "I('%s' % x)",
    "I(x @ x)",
    "I(x[pwned()])",
    "I(x[0])",
    "I((pwned())[0])",
    "I((v := pwned()))",
    "I(print(x, file=open('pwned', 'w')))",
    "I(open('pwned').read())",
    "I(eval('pwned()'))",
    "I(exec('pwned()'))",
    "I(compile('pwned()', '', 'eval'))",
    "I(getattr(x, 'sum')())",
    "I(globals())",
    "I(vars(x))",
    "I(__import__('os').system('true'))",
    "I(__import__('os'))",
    "I(breakpoint())",
    "I(__builtins__)",
    "I(__FORMULAIC_CONTEXT__)",
    "I(__FORMULAIC_SPEC__.__class__)",
    "Q('x' 'y')",
    "Q('`a` + x')",
    "Q(pwned())",
    "log(pwned())",
    "np.mean(pwned())",
    "np.mean([pwned()])",
    "c(pwned())",
    "I(x < pwned())",
    "I(pwned() < x < 1)",
    "I(x in [pwned()])",
    "I(x and pwned())",
    "I(not pwned())",
    "I(-pwned())",
    "I(*[pwned()])",
    "I(x, pwned())",
    "`x`.__class__",
    "I(`x`.__class__)",
    "I(`x` + pwned())",
    "I(`pwned`())",
    "I(`np`.load('pwned'))",
    "log(ｐwned())",
    "I(x+pwned ())",
    "I(x\t+\npwned())",
    "I(yield_)",
    "I((yield))",
    "I((await_))",
    "I(" + "(" * 150 + "pwned()" + ")" * 150 + ")",
    "I(" + "-" * 5000 + "x)",
    "I(" + "(" * 1000 + "x" + ")" * 1000 + ")",
    "I(b'pwned')",
    "I(...)",
    "I(1j * x)",
    "lag(x)",
]
PLACES = [
    "y ~ {}",
    "y ~ z + {}",
    "y ~ z:{}",
    "y ~ z*{} + (1 | g)",
    "y ~ (z + {})**2",
    "{} ~ z",
    "cbind(k, {}) ~ z",
    "y ~ z + offset({})",
    "y ~ ({} | g)",
    "y ~ (z || g) + (0 + {} || g)",
]


@pytest.mark.parametrize("payload", HOSTILE)
def test_no_formula_runs_code(payload, data, canary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = data.copy()
    for place in PLACES:
        with pytest.raises(ValueError):
            build_design(place.format(payload), data)
    with pytest.raises(ValueError):
        build_glm_design(data.drop(columns="y"), formula=payload)
    assert not canary
    assert not list(tmp_path.iterdir())
    pd.testing.assert_frame_equal(data, before)


def test_powers_of_whole_numbers_do_not_grow_without_limit(data):
    with pytest.raises(ValueError, match="cannot be evaluated"):
        build_design("y ~ I(x * 9**9**9**9**9)", data)
    with pytest.raises(ValueError, match="needs numbers"):
        build_design("y ~ C(f, levels=['a' * 999999999999])", data)


NAMES = [
    "x` + __import__('os').system('touch pwned') + `",
    "x`) + I(pwned()) + (`x",
    "`",
    "a`b",
    "a\\",
    "\\",
    "",
    "1",
    ".",
]


@pytest.mark.parametrize("name", NAMES)
def test_column_names_that_would_end_their_quotes_are_refused(
    name, data, canary, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    table = data[["y", "g"]].assign(**{name: data.x})
    for formula in ("y ~ .", "y ~ . + (1 | g)", "y ~ (.)^2", None):
        with pytest.raises(ValueError, match=r"cannot stand in a formula, .*: rename it"):
            build_design(formula, table)
    assert not canary
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    ["an x", "{x}", "x}", "{pwned()}", "f(x)", "pwned()", "a'b", 'a"b', "x + z", "a|b", "y ~ x",
     "%x%", "new\nline", "a\\b", "2020", "$x", "class", "x:z", "é", "ﬁ", "lambda: 0"],
)  # fmt: skip
def test_any_other_column_name_is_one_column(name, data, canary):
    table = data[["y", "g"]].assign(**{name: data.x})
    for formula in ("y ~ .  - g", f"y ~ {quoted_name(name)}"):
        design = build_design(formula, table)
        assert design.names == ("Intercept", name)
        np.testing.assert_array_equal(design.X[:, 1], data.x)
        np.testing.assert_allclose(design.spec.new(table).X, design.X, rtol=1e-9, atol=1e-9)
    assert not canary


def test_trusted_formulas_are_python(data, canary):
    formula = "y ~ I(x + pwned()) + x.clip(0, None) + I([v for v in z] + z) + I(max(1, 2) * x)"
    with pytest.raises(ValueError, match="trusted=True"):
        build_design(formula, data)
    design = build_design(formula, data, trusted=True)
    expected = np.c_[np.ones(N), data.x + 1, data.x.clip(0, None), 2 * data.z, 2 * data.x]
    np.testing.assert_allclose(design.X, expected)
    spec = pickle.loads(pickle.dumps(design.spec))
    np.testing.assert_allclose(spec.new(data).X, expected)
    assert spec.trusted and len(canary) == 2
    assert not build_design("y ~ log(z)", data, trusted=True).spec.trusted


def test_a_stored_design_evaluates_no_more_than_a_new_one(data, canary):
    """The check is made where expressions are evaluated, not only where formulas are read."""
    spec = build_design("y ~ I(x + pwned())", data, trusted=True).spec
    canary.clear()
    with pytest.raises(ValueError, match="calls 'pwned'"):
        pickle.loads(pickle.dumps(spec)).__class__(**{**vars(spec), "trusted": False}).new(data)
    assert not canary


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("np.where(x > 0, z, -z)", lambda d: np.where(d.x > 0, d.z, -d.z)),
        ("np.minimum(x, z)", lambda d: np.minimum(d.x, d.z)),
        ("np.clip(x, -1, None)", lambda d: d.x.clip(-1)),
        ("np.round(x, decimals=1)", lambda d: d.x.round(1)),
        ("np.digitize(z, [1.3, 1.6])", lambda d: np.digitize(d.z, [1.3, 1.6])),
        ("I(2 * np.pi * x % 1)", lambda d: 2 * np.pi * d.x % 1),
        ("I(x // z + abs(-x))", lambda d: d.x // d.z + abs(d.x)),
        ("I(k ** 2 / (1 + k))", lambda d: d.k**2 / (1 + d.k)),
        ("I(2 ** k)", lambda d: 2.0**d.k),
        ("I((x > 0) + (z > 1.5))", lambda d: (d.x > 0) * 1.0 + (d.z > 1.5)),
        ("I(1 * (f == 'a'))", lambda d: d.f == "a"),
        ("I(1 * np.isin(f, ['a', 'b']))", lambda d: d.f.isin(["a", "b"])),
        ("I(0 + (-1 < x <= 1))", lambda d: (d.x > -1) & (d.x <= 1)),
        ("I(0 + ((x > 0) & ~(z > 1.5) | b))", lambda d: (d.x > 0) & (d.z <= 1.5) | d.b),
        ("I(0 + (x > 0 and not b))", lambda d: (d.x > 0) & ~d.b),
        ("I(b + b)", lambda d: 2 * d.b),
        ("I(b * x)", lambda d: d.b * d.x),
        ("sqrt(z) ", lambda d: np.sqrt(d.z)),
        ("exp10(x)", lambda d: 10**d.x),
        ("{x + z}", lambda d: d.x + d.z),
        ("{log(z) + x}", lambda d: np.log(d.z) + d.x),
    ],
)
def test_arithmetic_on_columns(data, formula, expected):
    expected = np.asarray(expected(data), dtype=float)
    design = build_design(f"y ~ 0 + {formula} + (0 + {formula} | g)", data)
    np.testing.assert_allclose(design.X[:, 0], expected)
    np.testing.assert_allclose(design.random[0].z, design.X)
    np.testing.assert_allclose(design.spec.new(data.iloc[5:9]).X[:, 0], expected[5:9])
    glm = build_glm_design(data.drop(columns="y"), formula=formula)
    np.testing.assert_allclose(glm.matrix(data)[:, 0], expected)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("I(max - 1)", "variable 'max' is not a column"),
        ("I(np)", "variable 'np' is not a column"),
        ("I(x > 1 & z < 2)", r"put each comparison in parentheses, as in \(x > 1\) & \(z < 2\)"),
        ("I(x == 'a')", "compares numbers with text"),
        ("log(f)", "needs numbers and has text or categories"),
        ("I(poly(x, 2) + 1)", "needs numbers and has several columns"),
        ("np.array([1, 2])", "gives 2 values for 40 rows"),
        ("np.where(x > 0, 'a', 'b')", r"is text: write C\(...\)"),
        ("I(x.mean())", r"write np.mean\(x\) for x.mean\(\)"),
        ("I(x[0])", "rows and columns cannot be picked out"),
        ("I(x if b else z)", r"write np.where\(condition, a, b\)"),
        ("I(x in [1, 2])", r"write np.isin\(x, \[...\]\)"),
        ("bs(x, knots=z)", r"bs\(\) is of one column"),
        ("np.isin(x, z)", r"np.isin\(\) is of one column"),
        ("C(f, levels=g)", r"C\(\) is of one column"),
        ("np.quantile(x, z)", r"np.quantile\(\) is of one column"),
        ("max(x, z)", r"max\(\) takes 1 argument by position, not 2"),
        ("np.mean(x, axis=0)", "no argument 'axis' in formulas"),
        ("np.mean(3)", r"np.mean\(\) is of a column"),
        ("np.cumsum(x)", r"np.cumsum\(\) gives in a row depends on the other rows.*center\(\)"),
        ("I(x - rank(x))", r"rank\(\) gives in a row depends on the other rows"),
        ("np.sort(x)", r"np.sort\(\) gives in a row depends"),
        ("I(x +)", "cannot be read|not a Python expression"),
    ],
)
def test_messages_say_what_was_refused_and_what_to_write(data, formula, message):
    with pytest.raises(ValueError, match=message):
        build_design(f"y ~ {formula}", data)


def test_columns_may_have_the_names_of_functions(data):
    table = data.rename(columns={"x": "max", "z": "np", "k": "Sum"})
    design = build_design("y ~ I(max - max(max)) + np.log(np) + I(Sum + 1) + C(f, Sum)", table)
    expected = np.c_[data.x - data.x.max(), np.log(data.z), data.k + 1]
    np.testing.assert_allclose(design.X[:, 1:4], expected)
    assert design.names[4:] == ("C(f, Sum)[S.a]", "C(f, Sum)[S.b]")


def test_categories_keep_their_order(data):
    order = pd.CategoricalDtype(["c", "a", "b"], ordered=True)
    table = data.assign(f=data.f.astype(order))
    design = build_design("y ~ I(0 + (f < 'b')) + hashed(f, levels=3):x", table)
    np.testing.assert_array_equal(design.X[:, 1], data.f != "b")
    for new in (table, data):
        np.testing.assert_allclose(design.spec.new(new).X, design.X, rtol=1e-9, atol=1e-9)


def test_names_in_backticks_do_not_share_what_was_learnt(data):
    table = data.rename(columns={"x": "a b", "z": "c d"})
    design = build_design("y ~ scale(`a b`) + scale(`c d`) + I(`a b` - np.mean(`c d`))", table)
    for j, column in enumerate([data.x, data.z], 1):
        np.testing.assert_allclose(design.X[:, j], (column - column.mean()) / column.std())
    np.testing.assert_allclose(design.X[:, 3], data.x - data.z.mean())


# ---- numbers as they are stored ---------------------------------------------------------------

NARROW = ["int8", "uint8", "int16", "int32", "uint32", "uint64", "float32", "Int8", "UInt16"]
FORMULA = (
    "I(w + 1) ~ x*z + I(x**2) + I(-z) + log(z) + z:u + poly(x, 2) + C(z)"
    " + offset(z * x) + (x:z | g) + (0 + z*u || g)"
)


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_numbers_do_not_overflow(dtype):
    rng = np.random.default_rng(0)
    wide = {name: rng.integers(90, 100, 60) for name in "wxzu"} | {"g": rng.integers(0, 5, 60)}
    wide = pd.DataFrame(wide)
    expected = build_design(FORMULA, wide)
    table = wide.astype(dict.fromkeys("wxzu", dtype))
    found = build_design(FORMULA, table)
    new = expected.spec.new(table), found.spec.new(wide), found.spec.new(table)
    np.testing.assert_array_equal(found.y, wide.w + 1)
    for other in (found, *new):
        np.testing.assert_allclose(other.X, expected.X, rtol=1e-11)
        np.testing.assert_array_equal(other.offset, wide.z * wide.x)
        for one, two in zip(other.random, expected.random, strict=True):
            np.testing.assert_array_equal(one.z, two.z)
    np.testing.assert_array_equal(found.spec.response_of(table), wide.w + 1)


def test_narrow_numbers_of_polars():
    pl = pytest.importorskip("polars")
    x = np.arange(90, 120)
    table = pl.DataFrame({"y": x, "x": x}).with_columns(pl.col("x").cast(pl.Int8))
    design = build_design("y ~ x:x + I(x**2) + I(-x)", table)
    np.testing.assert_array_equal(design.X[:, 2:], np.c_[x**2, -x])


def test_whole_numbers_are_labels_without_a_decimal_point(data):
    for dtype in ("int8", "int64", "Int16"):
        table = data.astype({"k": dtype})
        names = build_design("y ~ C(k) + C(k + 1) + C(np.where(x > 0, 1, 0)) + k", table).names
        assert names[1:4] == ("C(k)[T.1]", "C(k)[T.2]", "C(k)[T.3]")
        assert names[4:8] == (*(f"C(k + 1)[T.{i}]" for i in "234"), "C(np.where(x > 0, 1, 0))[T.1]")


def test_a_number_of_the_fit_may_be_a_boolean_now(data):
    spec = build_design("y ~ I(k + k)", data.assign(k=data.b.astype(int))).spec
    np.testing.assert_array_equal(spec.new(data.assign(k=data.b)).X[:, 1], 2.0 * data.b)


# ---- what is learnt at the fit ----------------------------------------------------------------

LEARNING = [
    "I(x - np.mean(x))",
    "I(x / max(x))",
    "I(0 + (x > np.median(x)))",
    "I((x - mean(x)) / sd(x))",
    "I(x / np.std(x, ddof=1))",
    "I(x / np.var(x))",
    "I(x / sum(x) + np.min(z) + np.ptp(z))",
    "I(x - np.quantile(x, 0.3))",
    "np.digitize(x, np.percentile(x, [25, 50, 75]))",
    "I(x - np.max(x - np.mean(x)))",
    "center(x)",
    "scale(x)",
    "scale(x, center=False)",
    "scale(x, center=np.median(x), ddof=0)",
    "standardize(x)",
    "poly(x, 3)",
    "poly(x, 2, raw=True)",
    "bs(x, df=6)",
    "bs(x, knots=np.quantile(x, [0.2, 0.7]))",
    "bs(x, df=7, degree=2, include_intercept=True, extrapolation='clip')",
    "cr(x, df=4)",
    "cr(x, df=4, constraints='center')",
    "cc(x, df=4, constraints='center')",
    "cs(x, df=5, constraints='center', extrapolation='zero')",
    "scale(log(z) + center(x))",
]


@pytest.mark.parametrize("term", LEARNING)
def test_new_rows_use_what_the_fit_has_learnt(data, term):
    design = build_design(f"y ~ {term} + ({term} | g)", data)
    for rows in (slice(3, 4), slice(10, 20)):
        new = pickle.loads(pickle.dumps(design.spec)).new(data.iloc[rows])
        np.testing.assert_allclose(new.X, design.X[rows], atol=1e-12)
        np.testing.assert_allclose(new.random[0].z, design.random[0].z[rows], atol=1e-12)


@pytest.mark.parametrize("term", LEARNING)
def test_weights_are_repetition(data, term):
    counts = np.random.default_rng(1).integers(0, 4, N)
    rows = np.repeat(np.arange(N), counts)
    weighted = build_design(f"y ~ {term}", data, sample_weight=counts)
    repeated = build_design(f"y ~ {term}", data.iloc[rows])
    assert weighted.names == repeated.names
    counted = np.repeat(np.arange(len(weighted.X)), counts[counts > 0])
    np.testing.assert_allclose(weighted.X[counted], repeated.X, atol=1e-10)
    glm = build_glm_design(data, formula=term, weights=counts)
    other = build_glm_design(data.iloc[rows], formula=term)
    np.testing.assert_allclose(glm.matrix(data), other.matrix(data), atol=1e-10)


@pytest.mark.parametrize("term", LEARNING)
def test_a_row_may_be_split_into_parts(data, term):
    """Weights need not be whole numbers: a row of weight w is two rows whose weights sum to w."""
    weights = np.random.default_rng(2).uniform(0.5, 3, N)
    one = build_design(f"y ~ {term}", data, sample_weight=weights)
    two = build_design(
        f"y ~ {term}",
        pd.concat([data, data]),
        sample_weight=np.r_[0.25 * weights, 0.75 * weights],
    )
    np.testing.assert_allclose(two.X[:N], one.X, atol=1e-10)


def test_the_response_learns_from_counted_rows(data):
    counts = np.arange(N) % 3
    rows = np.repeat(np.arange(N), counts)
    weighted = build_design("scale(z) ~ x", data, sample_weight=counts)
    np.testing.assert_allclose(
        np.repeat(weighted.y, counts[counts > 0]), build_design("scale(z) ~ x", data.iloc[rows]).y
    )


# ---- rows in which an expression is undefined -------------------------------------------------


UNDEFINED = [
    "log(x)",
    "scale(log(x))",
    "poly(log(x), 2)",
    "poly(log(x), 2, raw=True)",
    "bs(log(x), df=4)",
    "cr(log(x), df=3, constraints='center')",
    "I(z - np.mean(log(x)))",
    "I(z / np.max(log(x)) + np.median(log(x)) + np.std(log(x)))",
]


@pytest.mark.parametrize("term", UNDEFINED)
def test_undefined_rows_are_dropped_and_teach_nothing(data, term):
    defined = data[data.x > 0]
    formula = f"y ~ {term} + scale(z) + bs(k, df=4) + f"
    with pytest.raises(ValueError, match="is not defined in"):
        build_design(formula, data)
    found = build_design(formula, data, missing="drop")
    expected = build_design(formula, defined)
    np.testing.assert_array_equal(found.rows, np.flatnonzero(data.x > 0))
    assert found.names == expected.names
    np.testing.assert_allclose(found.X, expected.X, atol=1e-12)
    with pytest.raises(ValueError, match="is not defined in"):
        found.spec.new(data)
    inside = (data.k >= defined.k.min()) & (data.k <= defined.k.max())
    new = found.spec.new(data[inside], missing="drop")
    kept = (data.x[inside] > 0).to_numpy()
    np.testing.assert_array_equal(new.rows, np.flatnonzero(kept))
    assert not len(found.spec.new(data[inside & (data.x < 0)], missing="drop").rows)


def test_rows_lost_through_the_response_set_no_knots(data):
    table = data.assign(y=np.where(data.x > 1, -1.0, 1.0 + data.z))
    found = build_design("log(y) ~ bs(x, df=5) + scale(x)", table, missing="drop")
    expected = build_design("log(y) ~ bs(x, df=5) + scale(x)", table[table.x <= 1])
    np.testing.assert_allclose(found.X, expected.X, atol=1e-12)
    np.testing.assert_array_equal(found.y, expected.y)


def test_no_row_is_defined(data):
    for formula in ("y ~ log(-z)", "y ~ scale(log(-z))", "y ~ I(x - np.mean(log(-z)))"):
        with pytest.raises(ValueError, match=r"undefined|no row with a value"):
            build_design(formula, data, missing="drop")
