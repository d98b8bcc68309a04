"""What a fit keeps of its covariates: levels, means, ranges and counts of the rows that count."""

import pickle

import numpy as np
import pandas as pd
import pytest

from skmixed.design import build_design, reference
from skmixed.design.glm import build_glm_design

N = 90


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "y": rng.normal(size=N),
            "x": rng.normal(3, 1, N),
            "k": rng.integers(2, 6, N),
            "a": pd.Categorical(rng.choice(list("qp"), N), categories=["q", "p", "never"]),
            "b": rng.choice(["u", "v", "w"], N),
            "t": rng.normal(size=N) > 0,
            "g": rng.choice(list("12345"), N),
            "z": rng.normal(size=N),
        }
    )


def values_of(formula, frame, **more):
    return build_design(formula, frame, **more).spec.reference


def test_levels_means_and_ranges(frame):
    ref = values_of("y ~ a*b + I(x**2) + t + C(k) + offset(z) + (1 | g)", frame)
    levels = {name: list(own) for name, own in ref.factors.items()}
    assert levels == {
        "a": ["q", "p"], "b": ["u", "v", "w"], "t": [False, True], "k": [2, 3, 4, 5],
    }  # fmt: skip
    assert set(ref.covariates) == {"x", "z"}
    own = ref.covariates["x"]
    assert (own.low, own.high) == (frame.x.min(), frame.x.max())
    np.testing.assert_allclose(own.mean, frame.x.mean(), rtol=1e-11)


def test_a_number_in_c_is_a_factor_wherever_else_it_stands(frame):
    ref = values_of("y ~ k + C(k) + x", frame)
    assert list(ref.factors) == ["k"]
    assert list(ref.covariates) == ["x"]


def test_counts_are_those_of_the_rows(frame):
    ref = values_of("y ~ a*b + (1 | g)", frame)
    expected = frame.groupby(["a", "b"], observed=True).size()
    levels = list(ref.factors.values())
    found = {
        (levels[0][i], levels[1][j]): count
        for (i, j), count in zip(ref.observed, ref.counts, strict=True)
    }
    assert found == expected.to_dict()


def test_sample_weights_count_rows(frame):
    weight = np.arange(N) % 4
    repeated = frame.loc[np.repeat(np.arange(N), weight)].reset_index(drop=True)
    one = values_of("y ~ a*b*t + x + (1 | g)", frame, sample_weight=weight)
    other = values_of("y ~ a*b*t + x + (1 | g)", repeated)
    np.testing.assert_array_equal(one.observed, other.observed)
    np.testing.assert_array_equal(one.counts, other.counts)
    for name, own in other.covariates.items():
        np.testing.assert_allclose(one.covariates[name].mean, own.mean, rtol=1e-10)
        assert one.covariates[name].low == own.low


def test_rows_left_out_do_not_count(frame):
    lost = frame.assign(z=np.where(np.arange(N) < 30, np.nan, frame.z), b="u")
    lost.loc[N - 1, "b"] = "v"
    ref = values_of("y ~ a + z + b", lost, missing="drop")
    assert ref.counts.sum() == N - 30
    np.testing.assert_allclose(ref.covariates["z"].mean, frame.z[30:].mean(), rtol=1e-10)


def test_table_of_counts_is_left_out_where_it_is_large(frame, monkeypatch):
    monkeypatch.setattr(reference, "_MOST_CELLS", 5)
    ref = values_of("y ~ a*b", frame)
    assert ref.observed is None
    assert list(ref.factors) == ["a", "b"]


def test_it_is_small_in_a_pickle(frame):
    many = pd.concat([frame] * 200, ignore_index=True)
    sizes = [len(pickle.dumps(values_of("y ~ a*b*t + x", f))) for f in (frame, many)]
    assert sizes[1] < 1.2 * sizes[0] < 10_000


def test_designs_with_all_levels_keep_the_same(frame):
    weight = np.where(frame.b == "w", 0.0, 1.0 + (np.arange(N) % 3))
    glm = build_glm_design(frame, formula="y ~ a*b + x + C(k) + t", weights=weight).reference
    mixed = values_of("y ~ a*b + x + C(k)", frame, sample_weight=weight)
    assert list(glm.factors["b"]) == ["u", "v"]
    np.testing.assert_array_equal(glm.counts, mixed.counts)
    np.testing.assert_array_equal(glm.observed, mixed.observed)
    # such a design has booleans as numbers
    assert glm.covariates["t"].mean == np.average(frame.t, weights=weight)
    assert {name: glm.covariates[name] for name in mixed.covariates} == mixed.covariates
