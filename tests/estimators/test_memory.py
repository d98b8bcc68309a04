"""A fitted estimator keeps nothing that has the length of its training data, hidden or not."""

import warnings

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedGLMRegressor, MixedLinearRegressor, MixedLogisticClassifier

N_ROWS = 4001


def _frame():
    rng = np.random.default_rng(0)
    g, x = rng.integers(0, 9, N_ROWS), rng.normal(size=N_ROWS)
    y = rng.normal(size=9)[g] + 0.3 * x * rng.normal(size=9)[g] + rng.normal(size=N_ROWS)
    return pd.DataFrame(
        {
            "y": y,
            "b": (rng.random(N_ROWS) < 1 / (1 + np.exp(-y))).astype(int),
            "x": x,
            "w": rng.uniform(0.5, 2.0, N_ROWS),
            "f": rng.choice(["p", "q", "r"], N_ROWS),
            "g": g,
            "k": g // 3,
            "h": rng.choice(["u", "v", "w", "z"], N_ROWS),
        }
    )


def _long(thing, path="", seen=None):
    """Paths to arrays of at least N_ROWS numbers that are reachable from a thing.

    A view is followed to the array whose memory it keeps.
    """
    seen = {} if seen is None else seen
    if id(thing) in seen or isinstance(thing, type):
        return
    seen[id(thing)] = thing  # kept alive, so that no other object gets its id
    if isinstance(thing, np.ndarray):
        if thing.size >= N_ROWS:
            yield path
        inside = [("base", thing.base)]
        inside += enumerate(thing.ravel().tolist()) if thing.dtype == object else []
    elif isinstance(thing, dict):
        inside = list(thing.items())
    elif isinstance(thing, list | tuple | set | frozenset):
        inside = list(enumerate(thing))
    elif isinstance(thing, pd.DataFrame | pd.Series | pd.Index):
        inside = [("values", thing.to_numpy()), ("memory", getattr(thing, "array", None))]
    elif callable(thing):
        cells = getattr(thing, "__closure__", None) or ()
        inside = [("closure", cell.cell_contents) for cell in cells]
    else:
        inside = []
    inside += list(getattr(thing, "__dict__", {}).items())
    inside += [(k, getattr(thing, k, None)) for k in getattr(type(thing), "__slots__", ())]
    for name, part in inside:
        yield from _long(part, f"{path}.{name}", seen)


def test_the_walk_finds_what_a_view_hides():
    numbers = np.zeros(N_ROWS)
    assert list(_long({"a": [numbers[:0]]})) == [".a.0.base"]
    assert list(_long(pd.Series(numbers)))
    assert not list(_long(numbers[:0].copy()))


MODELS = {
    "slopes": (MixedLinearRegressor, "y ~ x + f + (x | g) + (1 | h)", {}),
    "nested": (MixedLinearRegressor, "y ~ x + (1 | g) + (1 | k)", {}),
    "weights": (MixedLinearRegressor, "y ~ x + (1 | g)", {"prior_weights": "w"}),
    "counts": (MixedGLMRegressor, "b ~ x + (x | g) + (1 | h)", {"family": "poisson"}),
    "classes": (MixedLogisticClassifier, "b ~ x + (1 | h)", {}),
    "quadrature": (MixedLogisticClassifier, "b ~ x + (1 | g)", {"n_agq": 3}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_no_rows_in_a_fitted_model(name):
    estimator, formula, settings = MODELS[name]
    data = _frame()
    model = estimator(formula, **settings).fit(data)
    assert len(model.predict(data)) == N_ROWS
    assert model.random_effects_std_
    assert list(_long(model)) == []


@pytest.mark.parametrize("estimator", [MixedLinearRegressor, MixedLogisticClassifier])
@pytest.mark.parametrize("as_frame", [True, False], ids=["frame", "array"])
def test_no_rows_in_a_model_fitted_with_groups(estimator, as_frame):
    data = _frame()
    X, groups = data[["x", "w"]], data["h"]
    y = data["y"] if estimator is MixedLinearRegressor else data["b"]
    if not as_frame:
        X, groups, y = X.to_numpy(), groups.to_numpy(), y.to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = estimator().fit(X, y, groups=groups)
    assert list(_long(model)) == []
