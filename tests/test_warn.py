"""Warnings point at the user's line, however deep in the package they are raised."""

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedGLMRegressor, MixedLinearRegressor
from skmixed._warn import warn
from skmixed.datasets import load_sleepstudy


def test_a_call_from_outside_is_where_it_points():
    with pytest.warns(UserWarning, match="here") as caught:
        warn("here", UserWarning)
    assert caught[0].filename == __file__


CAUSES = {
    "aliased column": lambda d: MixedLinearRegressor("y ~ x + I(2 * x)").fit(d),
    "singular": lambda d: MixedLinearRegressor("n ~ x + (1 | g)").fit(d),
    "not converged": lambda d: MixedLinearRegressor("y ~ x + (x | g)", max_iter=1).fit(d),
    "fractional counts": lambda d: MixedGLMRegressor("f ~ x").fit(d),
    "predict": lambda d: MixedLinearRegressor("y ~ x + (1 | g)").fit(d).predict(d.assign(g="new")),
    "interval": lambda d: (
        MixedLinearRegressor("y ~ x + (1 | g)").fit(d).predict_interval(d.assign(g="new"))
    ),
    "score": lambda d: MixedLinearRegressor("y ~ x + (1 | g)").fit(d).score(d.assign(g="new")),
    "simulate": lambda d: (
        MixedLinearRegressor("y ~ x + (1 | g)").fit(d).simulate(d.assign(g="new"))
    ),
}


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_every_warning_points_at_the_caller(cause):
    sleep = load_sleepstudy().frame
    noise = np.random.default_rng(1).normal(size=180)
    data = pd.DataFrame(
        {
            "y": sleep["Reaction"],
            "x": sleep["Days"],
            "g": sleep["Subject"].astype(str),
            "n": noise - pd.Series(noise).groupby(np.asarray(sleep["Subject"])).transform("mean"),
            "f": np.abs(noise) + 0.25,
        }
    )
    with pytest.warns() as caught:
        cause(data)
    assert {warning.filename for warning in caught} == {__file__}
