"""Structured terms whose parameters the rows do not tell: a named warning or error each."""

import warnings

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedLinearRegressor, SingularFitWarning

G, T = np.repeat(np.arange(20), 9), np.tile(np.arange(9), 20)


def frame_of(y):
    return pd.DataFrame({"y": y, "g": G, "t": T, "c": G // 2})


def alternating(rng):
    """Neighbours with a correlation of -0.5: no positive one is likelier than none."""
    noise = rng.normal(size=(20, 10))
    return (noise[:, 1:] - noise[:, :-1]).ravel()


@pytest.fixture(scope="module")
def series():
    """A process with correlations 0.9^d and nothing beside it."""
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(0.9 ** np.abs(np.subtract.outer(np.arange(9), np.arange(9))))
    return frame_of((rng.normal(size=(20, 9)) @ root.T).ravel())


@pytest.mark.parametrize(
    ("term", "name"),
    [("ar1(0 + C(t) | g)", "ar1"), ("expo(t | g)", "car1"), ("mat(t | g, nu=0.5)", "car1")],
)
def test_a_residual_variance_of_zero_names_the_residual_structure(series, term, name):
    with warnings.catch_warnings(
        record=True
    ) as told:  # whether the search has converged is rounding
        warnings.simplefilter("always")
        model = MixedLinearRegressor(f"y ~ 1 + {term}").fit(series)
    singular = [str(own.message) for own in told if own.category is SingularFitWarning]
    assert any(f"residual='{name}(time | g)'" in message for message in singular)
    [found] = model.structure_.values()
    assert model.sigma_ < 3e-3 * found["sd"]


def test_a_field_without_noise():
    rng = np.random.default_rng(1)
    xy = rng.uniform(0, 4, size=(80, 2))
    d = np.sqrt(((xy[:, None] - xy) ** 2).sum(axis=-1))
    y = np.linalg.cholesky(np.exp(-d / 2)) @ rng.normal(size=80)
    frame = pd.DataFrame({"y": y, "a": xy[:, 0], "b": xy[:, 1]})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = MixedLinearRegressor("y ~ 1 + expo(a + b)").fit(frame)
    [found] = model.structure_.values()
    assert model.sigma_ < 3e-3 * found["sd"]
    assert "the response is the field itself" in str(told[-1].message)


@pytest.mark.parametrize("term", ["ar1(0 + C(t) | g)", "expo(t | g)", "gau(t | g)", "mat(t | g)"])
def test_effects_of_a_level_that_are_all_the_same(term):
    rng = np.random.default_rng(0)
    frame = frame_of(2 * rng.normal(size=20)[G] + alternating(rng))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        own = MixedLinearRegressor(f"y ~ 1 + {term}").fit(frame)
    assert told[-1].category is SingularFitWarning
    where = "correlation of 1 or -1" if "ar1" in term else "write (1 | g) in its place"
    assert where in str(told[-1].message)
    plain = MixedLinearRegressor("y ~ 1 + (1 | g)").fit(frame)
    assert own.deviance_ == pytest.approx(plain.deviance_, abs=2e-2)


@pytest.mark.parametrize("term", ["expo(t | g)", "gau(t | g)"])
def test_correlations_of_zero(term):
    frame = frame_of(alternating(np.random.default_rng(0)))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = MixedLinearRegressor(f"y ~ 1 + {term}").fit(frame)
    [found] = model.structure_.values()
    assert found["range"] < 0.4
    assert "its variance cannot be told" in str(told[-1].message)


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("us", "us"),
        ("cs", "cs"),
        ("homcs", "cs"),
        ("toep", "toep"),
        ("hetar1", "ar1"),
        ("diag", "ident"),
    ],
)
def test_one_row_per_effect_names_the_residual_structure(series, kind, way):
    with pytest.raises(ValueError, match=rf"residual='{way}\(") as told:
        MixedLinearRegressor(f"y ~ 1 + {kind}(0 + C(t) | g)").fit(series)
    assert "cannot be told from the residual's" in str(told.value)


def test_nothing_is_told_of_well_determined_terms():
    rng = np.random.default_rng(5)
    root = np.linalg.cholesky(0.6 ** np.abs(np.subtract.outer(np.arange(9), np.arange(9))))
    frame = frame_of((rng.normal(size=(20, 9)) @ root.T).ravel() + 0.7 * rng.normal(size=180))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for term in ("ar1(0 + C(t) | g)", "expo(t | g)"):
            MixedLinearRegressor(f"y ~ 1 + {term}").fit(frame)
