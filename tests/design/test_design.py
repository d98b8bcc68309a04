import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from skmixed.design import build_design, check_identifiable, parse_formula

N = 60


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "y": rng.normal(size=N),
            "x": rng.normal(size=N),
            "pos": rng.uniform(1, 2, N),
            "k": rng.integers(0, 4, N),
            "f": rng.choice(["c", "a", "b"], N),
            "g": rng.choice(list("stupq"), N),
            "h": rng.integers(3, 9, N),
            "b": rng.normal(size=N) > 0,
        }
    )
    frame["c"] = pd.Categorical(frame.f, categories=["z", "c", "b", "a"])
    return frame


EVERYTHING = (
    "y ~ x*f + k + b + c + poly(x, 2) + C(k, contr.sum) + bs(pos, df=4) + center(x) + I(x > 0)"
    " + (x | g) + (1 | h/g) + (c | h) + (scale(pos) || g) + offset(x) + offset(log(pos))"
)


def assert_same(one, other, rows=slice(None)):
    """``other`` is the rows of ``one``."""
    assert one.names == other.names
    np.testing.assert_allclose(other.X, one.X[rows], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(other.offset, one.offset[rows], rtol=1e-10)
    for a, b in zip(one.random, other.random, strict=True):
        assert (a.group, a.names, a.correlated) == (b.group, b.names, b.correlated)
        assert list(map(str, a.levels)) == list(map(str, b.levels))
        np.testing.assert_array_equal(b.codes, a.codes[rows])
        np.testing.assert_allclose(b.z, a.z[rows], rtol=1e-10, atol=1e-12)


def as_polars(frame):
    pl = pytest.importorskip("polars")
    columns = {name: frame[name].to_numpy() for name in frame if name not in ("f", "g", "c")}
    text = {name: frame[name].astype(str).tolist() for name in ("f", "g", "c")}
    enum = pl.Enum(list(frame.c.cat.categories))
    return pl.DataFrame({**columns, **text}).with_columns(pl.col("c").cast(enum))


def as_arrays(frame):
    arrays = {name: frame[name].to_numpy() for name in frame}
    arrays["f"], arrays["g"] = np.array(frame.f.tolist()), frame.g.to_numpy(dtype=object)
    return {**arrays, "c": frame.c.array}


def as_nullable(frame):
    return frame.convert_dtypes().assign(c=frame.c)


def as_objects(frame):
    return frame.astype(object).assign(c=frame.c)


@pytest.mark.parametrize("convert", [as_polars, as_arrays, as_nullable, as_objects])
def test_every_kind_of_table_gives_the_same_design(data, convert):
    expected, table = build_design(EVERYTHING, data), convert(data)
    found = build_design(EVERYTHING, table)
    assert_same(expected, found)
    np.testing.assert_array_equal(found.y, data.y)
    assert_same(expected, expected.spec.new(table))


@pytest.mark.parametrize("rows", [slice(7, 12), slice(4, 5), slice(0, 0), slice(None, None, 3)])
def test_new_rows_replay_transforms_and_categories(data, rows):
    design = build_design(EVERYTHING, data)
    new = design.spec.new(data.drop(columns="y").iloc[rows])
    assert_same(design, new, rows)
    assert new.y is None


def test_row_order_does_not_matter(data):
    shuffled = np.random.default_rng(0).permutation(N)
    formula = "y ~ x*f + poly(x, 2) + (x | g) + (1 | h:g) + offset(x)"
    assert_same(build_design(formula, data), build_design(formula, data.iloc[shuffled]), shuffled)


def test_a_pickled_spec_works_in_a_fresh_process(data, tmp_path):
    design = build_design(EVERYTHING, data)
    with open(tmp_path / "spec.pkl", "wb") as file:
        pickle.dump((design.spec, data.drop(columns="y").iloc[:5]), file)
    script = (
        "import pickle, sys, numpy as np\n"
        "spec, new = pickle.load(open(sys.argv[1], 'rb'))\n"
        "np.save(sys.argv[2], spec.new(new).X)\n"
    )
    out = tmp_path / "X.npy"
    subprocess.run([sys.executable, "-c", script, tmp_path / "spec.pkl", out], check=True)
    np.testing.assert_array_equal(np.load(out), design.X[:5])


def test_a_spec_holds_no_rows():
    sizes = []
    for n in (1_000, 50_000):
        rng = np.random.default_rng(0)
        table = {"x": rng.normal(size=n), "f": rng.integers(0, 3, n), "g": rng.integers(0, 9, n)}
        formula = "poly(x, 3)*C(f) + bs(x, df=5) + scale(x) + I(x > 0) + (x | g) + (1 | g:f)"
        spec = build_design(formula, table).spec
        spec.new(table)
        sizes.append(len(pickle.dumps(spec)))
    assert abs(sizes[0] - sizes[1]) < 100
    assert sizes[0] < 20_000


def test_terms_know_their_columns(data):
    design = build_design("y ~ x*f + poly(pos, 2) + (1 | g)", data)
    assert {name: design.names[where] for name, where in design.term_slices.items()} == {
        "Intercept": ("Intercept",),
        "x": ("x",),
        "f": ("f[T.b]", "f[T.c]"),
        "poly(pos, 2)": ("poly(pos, 2)[1]", "poly(pos, 2)[2]"),
        "x:f": ("x:f[T.b]", "x:f[T.c]"),
    }
    assert design.intercept == 0
    assert build_design("0 + x + (1 | g)", data).intercept is None
    assert build_design("0 + (1 | g)", data).X.shape == (N, 0)


def test_terms_of_one_group_share_codes_and_levels(data):
    formula = "(1 | g) + (0 + x | g) + (1 | h) + (0 + k | g)"
    one, two, other, three = build_design(formula, data).random
    assert one.codes is two.codes is three.codes and one.levels is two.levels
    assert other.codes is not one.codes
    assert one.z.strides == (0, 0) and one.z.shape == (N, 1)


def test_equal_expressions_share_one_matrix(data):
    design = build_design("y ~ x + (x | g) + (x | h)", data)
    assert design.random[0].z is design.random[1].z


def test_unused_categories_make_no_parameters(data):
    part = data[data.f != "a"]
    design = build_design("y ~ c + (c | g) + (0 + c | h)", part)
    assert design.names == ("Intercept", "c[T.b]")
    assert design.random[0].names == ("Intercept", "c[T.b]")
    assert design.random[1].names == ("c[c]", "c[b]")
    grouped = build_design("y ~ x + (1 | c)", part)
    assert list(grouped.random[0].levels) == ["c", "b"]
    with pytest.raises(ValueError, match="'c' has the unknown category 'a'"):
        design.spec.new(data)


def test_interaction_levels_are_the_observed_pairs_in_order(data):
    term = build_design("(1 | g:h)", data).random[0]
    pairs = sorted(set(zip(data.g, data.h, strict=True)))
    assert list(term.levels) == [f"{g}:{h}" for g, h in pairs]
    assert [term.levels[code] for code in term.codes] == [
        f"{g}:{h}" for g, h in zip(data.g, data.h, strict=True)
    ]


def test_unknown_levels_are_minus_one(data):
    spec = build_design("(1 | g) + (1 | h/g)", data).spec
    new = pd.DataFrame({"g": ["s", "new", "p"], "h": [data.h[0], 3, 99]})
    by_g, by_h, by_pair = spec.new(new).random
    np.testing.assert_array_equal(by_g.codes, [*by_g.levels.get_indexer(["s"]), -1, 0])
    assert (by_h.codes >= 0).tolist() == [True, True, False]
    np.testing.assert_array_equal(by_pair.codes[1:], [-1, -1])
    with pytest.raises(ValueError, match=r"'g' had levels like 'p' .* and has levels like 3 now"):
        spec.new(new.assign(g=3))


def test_missing_levels_of_new_rows(data):
    spec = build_design("(1 | g) + (1 | h/g)", data).spec
    new = pd.DataFrame({"g": ["s", None, "new"], "h": [data.h[0]] * 3})
    with pytest.raises(ValueError, match=r"missing values \(NaN\) in g \(1\)"):
        spec.new(new)
    assert spec.new(new, missing="drop").rows.tolist() == [0, 2]
    absent = spec.new(new[["h"]], absent=("g",)).random
    assert [term.codes.tolist() for term in absent] == [[-1] * 3, [0] * 3, [-1] * 3]


def test_levels_of_the_new_rows_themselves(data):
    spec = build_design("(1 | g) + (1 | h/g)", data).spec
    new = pd.DataFrame({"g": ["s", "new", "s", "q"], "h": [7, 7, 3, 7]})
    by_g, by_h, by_pair = spec.new(new, levels="own").random
    assert by_g.codes.tolist() == [2, 0, 2, 1]
    assert list(by_g.levels) == ["new", "q", "s"]
    assert by_h.codes.tolist() == [1, 1, 0, 1]
    assert by_pair.codes.tolist() == [3, 1, 0, 2]
    apart = spec.new(new[["h"]], levels="own", absent=("g",)).random
    assert sorted(apart[0].codes) == [0, 1, 2, 3]
    assert sorted(apart[2].codes) == [0, 1, 2, 3]


def test_response_of_new_rows(data):
    spec = build_design("center(y) ~ x", data).spec
    new = data[:5].assign(y=[1.0, 2.0, np.nan, 4.0, 5.0])
    np.testing.assert_allclose(spec.response_of(new), new.y - data.y.mean())


def test_only_what_is_needed_has_to_be_there(data):
    spec = build_design("y ~ x + f + offset(pos) + (k | g)", data).spec
    fixed = spec.new(data[["x", "f", "pos"]], need=("fixed",))
    assert fixed.random == () and fixed.X.shape == (N, 4)
    random = spec.new(data[["k", "g"]], need=("random",))
    assert random.X.shape == (N, 0) and random.offset is None and len(random.random) == 1
    with pytest.raises(ValueError, match="fitted with 'f', which the new data do not have"):
        spec.new(data[["x", "pos", "k", "g"]])


def test_a_grouping_factor_that_is_not_there_has_a_remedy(data):
    spec = build_design("y ~ x + (1 | g)", data).spec
    with pytest.raises(ValueError, match=r"fitted with 'g', .*random_effects=False.*Columns: x"):
        spec.new(data[["x"]])


def test_response_forms(data):
    np.testing.assert_array_equal(build_design("log(pos) ~ x", data).y, np.log(data.pos))
    np.testing.assert_array_equal(build_design("b ~ x", data).y, data.b)
    np.testing.assert_array_equal(build_design("I(y^2) ~ x", data).y, data.y**2)
    np.testing.assert_array_equal(
        build_design("cbind(k, 5 - k) ~ x", data).y, np.c_[data.k, 5 - data.k]
    )
    np.testing.assert_array_equal(build_design("x", data, response=data.y).y, data.y)
    assert build_design("x", data).y is None


@pytest.mark.parametrize(
    ("formula", "response", "names"),
    [
        ("I(y - x) ~ x + pos", lambda d: d.y - d.x, ["Intercept", "x", "pos"]),
        ("y - x ~ x", lambda d: d.y - d.x, ["Intercept", "x"]),
        ("log(pos / k) ~ pos", lambda d: np.log(d.pos / d.k), ["Intercept", "pos"]),
        ("I(y - x) ~ .", lambda d: d.y - d.x, ["Intercept", "pos", "k"]),
    ],
)
def test_a_change_may_be_explained_by_where_it_began(data, formula, response, names):
    table = data[["y", "x", "pos", "k"]].assign(k=data.k + 1)
    design = build_design(formula, table)
    np.testing.assert_allclose(design.y, response(table))
    assert list(design.names) == names
    np.testing.assert_allclose(design.spec.response_of(table), design.y)


def test_a_group_named_like_an_interaction(data):
    table = data.assign(**{"f:g": data.h})
    one = build_design("y ~ x + (1 | `f:g`)", table).random[0]
    assert one.group == "f:g" and len(one.levels) == data.h.nunique()
    both = build_design("y ~ x + (1 | f:g) + (0 + x | `f:g`)", table)
    assert [term.group for term in both.random] == ["f:g", "`f:g`"]
    assert both.random[0].n_levels > both.random[1].n_levels == one.n_levels
    assert [term.group for term in both.spec.new(table).random] == ["f:g", "`f:g`"]


@pytest.mark.parametrize(
    ("formula", "names"),
    [
        ("y ~ . + (1 | g)", ["Intercept", "x", "k", "h"]),
        ("y ~ . - x + (1 | g)", ["Intercept", "k", "h"]),
        ("y ~ . + (x | g) + offset(k)", ["Intercept", "h"]),
        ("log(y) ~ 0 + . + (1 | h)", ["x", "k", "g[p]", "g[q]", "g[s]", "g[t]", "g[u]"]),
        ("y ~ (.)^2 + (1 | g)", ["Intercept", "x", "k", "h", "x:k", "x:h", "k:h"]),
    ],
)
def test_the_dot_is_every_column_not_used_elsewhere(data, formula, names):
    table = data[["y", "x", "k", "g", "h"]].assign(y=data.y**2)
    assert list(build_design(formula, table).names) == names


def test_the_dot_leaves_prior_weights_out(data):
    table = data[["y", "x", "pos", "g"]]
    design = build_design("y ~ . + (1 | g)", table, prior_weights="pos")
    assert design.names == ("Intercept", "x")
    np.testing.assert_array_equal(design.weights, data.pos)
    with pytest.raises(ValueError, match=r"'\.' stands for no column"):
        build_design("y ~ . + (x | g)", table[["y", "x", "g"]])


def test_names_that_python_cannot_read(data):
    table = data[["y", "x", "g"]].rename(columns={"x": "body.mass", "g": "the group"})
    design = build_design("y ~ body.mass + exp(body.mass) + (body.mass | `the group`)", table)
    assert design.names == ("Intercept", "body.mass", "exp(`body.mass`)")
    expected = np.c_[np.ones(N), data.x, np.exp(data.x)]
    np.testing.assert_allclose(design.X, expected)
    np.testing.assert_allclose(design.spec.new(table.iloc[:3]).X, expected[:3])


def test_without_a_formula_every_column_is_a_fixed_effect(data):
    numbers = {f"x{j}": column for j, column in enumerate(data[["y", "x", "k"]].to_numpy().T)}
    design = build_design(None, numbers)
    assert design.names == ("Intercept", "x0", "x1", "x2")
    np.testing.assert_array_equal(design.X[:, 1:], data[["y", "x", "k"]])
    mixed = build_design(None, data[["x", "c"]].rename(columns={"x": "an x"}))
    assert mixed.names == ("Intercept", "an x", "c[T.b]", "c[T.a]")
    with pytest.raises(TypeError, match="must be strings"):
        build_design(None, data[["x"]].rename(columns={"x": 0}))


# ---- missing and undefined values -------------------------------------------------------------


def test_missing_values(data):
    table = data.copy()
    table.loc[[2, 5], "x"] = np.nan
    table.loc[[5, 9], "g"] = None
    table.loc[11, "pos"] = np.nan  # not used
    with pytest.raises(
        ValueError, match=r"missing values \(NaN\) in x \(2\), g \(2\): .*missing='drop'"
    ):
        build_design("y ~ x + (1 | g)", table)
    design = build_design("y ~ x + (1 | g)", table, missing="drop")
    keep = np.setdiff1d(np.arange(N), [2, 5, 9])
    np.testing.assert_array_equal(design.rows, keep)
    expected = build_design("y ~ x + (1 | g)", data.iloc[keep])
    np.testing.assert_allclose(design.X, expected.X, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(design.y, expected.y)
    np.testing.assert_array_equal(design.random[0].codes, expected.random[0].codes)
    with pytest.raises(ValueError, match=r"missing values \(NaN\) in x \(2\)"):
        design.spec.new(table)
    new = design.spec.new(table, missing="drop")
    np.testing.assert_array_equal(new.rows, keep)
    assert new.n_input == N and (new.random[0].codes >= 0).all()


def test_levels_that_only_incomplete_rows_have_are_gone(data):
    table = data.copy()
    table.loc[table.g == "p", "x"] = np.nan
    table.loc[table.f == "a", "x"] = np.nan
    design = build_design("y ~ x + f + (1 | g)", table, missing="drop")
    assert "p" not in design.random[0].levels
    assert design.names == ("Intercept", "x", "f[T.c]")


def test_missing_response_and_weights(data):
    response = data.y.to_numpy().copy()
    response[4] = np.nan
    with pytest.raises(ValueError, match=r"missing values \(NaN\) in the response \(1\)"):
        build_design("x", data, response=response)
    weights = data.pos.to_numpy().copy()
    weights[6] = np.nan
    design = build_design("x", data, response=response, prior_weights=weights, missing="drop")
    np.testing.assert_array_equal(design.rows, np.setdiff1d(np.arange(N), [4, 6]))
    np.testing.assert_array_equal(design.weights, weights[design.rows])
    with pytest.raises(ValueError, match="every row has a missing value"):
        build_design("x", data, response=np.full(N, np.nan), missing="drop")


def test_expressions_that_are_not_defined_everywhere(data):
    with pytest.raises(ValueError, match=r"'log\(x\)' is not defined in \d+ rows: .*'drop'"):
        build_design("y ~ log(x)", data)
    with pytest.raises(ValueError, match=r"'log\(pos - pos\)' is infinite in 60 rows"):
        build_design("y ~ log(pos - pos)", data, missing="drop")
    design = build_design("y ~ log(x) + (1 | g)", data, missing="drop")
    np.testing.assert_array_equal(design.rows, np.flatnonzero(data.x > 0))
    assert len(design.y) == len(design.random[0].codes) == len(design.random[0].z) == len(design.X)
    lagged = build_design("y ~ lag(x)", data, missing="drop", trusted=True)
    np.testing.assert_array_equal(lagged.X[:, 1], data.x[:-1])


# ---- weights ----------------------------------------------------------------------------------


def test_rows_of_weight_zero_are_left_out_before_anything_else(data):
    table = data.copy()
    count = np.where(table.f == "a", 0, 2)
    table.loc[table.f == "a", "x"] = np.nan
    design = build_design("y ~ x*f + poly(pos, 2) + (1 | g)", table, sample_weight=count)
    kept = data[data.f != "a"]
    expected = build_design("y ~ x*f + poly(pos, 2) + (1 | g)", kept.loc[kept.index.repeat(2)])
    assert design.names == expected.names
    np.testing.assert_allclose(design.X, expected.X[::2], rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(design.frequencies, np.full(len(kept), 2.0))
    np.testing.assert_array_equal(design.rows, kept.index)
    assert design.n_obs == 2 * len(kept)


def test_weights_of_one_are_no_weights(data):
    assert build_design("y ~ x", data, sample_weight=np.ones(N)).frequencies is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_weight": -np.ones(N)}, "sample_weight must be finite and not negative"),
        ({"sample_weight": np.full(N, np.nan)}, "sample_weight must be finite"),
        ({"sample_weight": np.zeros(N)}, "sample_weight is zero for every row"),
        ({"sample_weight": np.ones(3)}, r"sample_weight has shape \(3,\), the data have 60 rows"),
        ({"prior_weights": "k"}, "must be positive, .* sample_weight 0"),
        ({"prior_weights": "f"}, "prior weights 'f' are not numbers"),
        ({"prior_weights": "poss"}, "'poss' is not in the data. Did you mean 'pos'"),
        ({"missing": "ignore"}, "missing is 'raise' or 'drop', got 'ignore'"),
        ({"response": np.ones(N)}, "has the response 'y' and y was given too"),
    ],
)
def test_bad_arguments(data, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_design("y ~ x", data, **arguments)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (np.ones(3), r"y has shape \(3,\), the data have 60 rows"),
        (np.full(N, np.inf), "response has 60 infinite values"),
        (np.full(N, 1j), "complex"),
        (np.full(N, "a"), "response is text"),
    ],
)
def test_bad_responses(data, response, message):
    with pytest.raises(ValueError, match=message):
        build_design("x", data, response=response)


# ---- bad formulas and columns -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (
            "y ~ poss + (1 | g)",
            "'poss' is not a column .* Did you mean 'pos'.* Columns: y",
        ),
        ("y ~ x + (1 | G)", "grouping factor 'G' is not a column .* Did you mean 'g'"),
        ("y ~ (zz | g)", "variable 'zz'"),
        ("y ~ log(zz)", "variable 'zz'"),
        ("y ~ sqr(x)", "calls 'sqr', which is no function of formulas. Did you mean 'sqrt'"),
        ("y ~ x + y", "response 'y' also stands on the right-hand side"),
        ("log(pos) ~ (pos | g)", "response 'pos' also stands"),
        ("k ~ (1 | k)", "response 'k' also stands"),
        ("I(k / pos) ~ k*pos", "response 'k' also stands"),
        ("cbind(k, 5 - k) ~ k", "response 'k' also stands"),
        ("cbind(k, k) ~ x", "'k' is named twice"),
        ("f ~ x", "response 'f' holds categories"),
        ("poly(y, 2) ~ x", "2 columns, not one"),
        ("y ~ x + offset(f)", "offset 'f' holds categories"),
        ("y ~ when", "'when' holds dates"),
        ("y ~ (when | g)", "'when' holds dates"),
        ("y ~ digits", r"numbers stored as text, such as '0': .*to_numeric, or write C\(digits\)"),
        ("y ~ (digits | g)", "numbers stored as text"),
        ("y ~ constant", "'constant' has one category only"),
        ("y ~ x + (1 | constant)", "grouping factor 'constant' has one level, 'z'"),
        ("y ~ C(f, levels=['a', 'b'])", "unknown category 'c'"),
        ("y ~ 2*x", "cannot be read"),
        ("y ~ np.log(x, 2, 3, 4)", r"np.log\(\) takes 1 argument by position, not 4"),
        ("y ~ poly(x, degree='a')", "cannot be evaluated"),
    ],
)
@pytest.mark.filterwarnings("ignore:Data has categories outside", "ignore:Constructing a Cat")
def test_bad_formulas(data, formula, message):
    table = data.assign(
        when=pd.date_range("2020", periods=N), digits=[str(i) for i in range(N)], constant="z"
    )
    with pytest.raises(ValueError, match=message):
        build_design(formula, table)


def test_text_of_numbers_may_group_and_be_coded(data):
    table = data.assign(digits=(data.k + 1).astype(str))
    design = build_design("y ~ C(digits) + (1 | digits)", table)
    assert design.names[1:] == tuple(f"C(digits)[T.{i}]" for i in "234")
    assert list(design.random[0].levels) == list("1234")


def test_zero_rows(data):
    with pytest.raises(ValueError, match="zero rows"):
        build_design("y ~ x", data.iloc[:0])


def test_unknown_categories_of_new_data(data):
    spec = build_design("y ~ f + C(k) + b", data).spec
    with pytest.raises(ValueError, match=r"'f' has the unknown category 'new'; .* 'a', 'b', 'c'"):
        spec.new(data.assign(f="new"))
    with pytest.raises(ValueError, match=r"'C\(k\)' has the unknown category 17"):
        spec.new(data.assign(k=17))


# ---- identifiability --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ x + (1 | row)", "'row' has 60 levels for 60 observations, one row per level"),
        ("y ~ (f + x + k*pos | pair)", "has 70 effects .10 levels x 7 columns. for 60"),
        ("one ~ x + (1 | g)", r"response is constant \(1\)"),
        ("y ~ (x | g) + (1 | g)", r"'Intercept' by 'g' stands in two .* \(0 \+ \.\.\. \| g\)"),
    ],
)
def test_models_the_data_cannot_determine(data, formula, message):
    table = data.assign(row=np.arange(N), pair=np.arange(N) // 6, one=1.0)
    design = build_design(formula, table)
    with pytest.raises(ValueError, match=message):
        check_identifiable(design)


def test_observations_count_by_their_weight(data):
    table = data.assign(row=np.arange(N))
    check_identifiable(build_design("y ~ x + (1 | row)", table, sample_weight=np.full(N, 2)))
    check_identifiable(build_design("y ~ x + (x || g) + (1 | h/g)", data))


def test_parsed_and_written_formulas_are_the_same(data):
    formula = "y ~ x + (1 | g)"
    one, two = build_design(formula, data), build_design(parse_formula(formula), data)
    np.testing.assert_allclose(one.X, two.X, rtol=1e-9, atol=1e-9)
    assert one.spec.terms == two.spec.terms
