"""The display of a bootstrap draws its histograms, estimates and limits."""

import numpy as np
import pytest

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_dyestuff
from skmixed.inference import bootstrap
from skmixed.plotting import BootstrapDisplay

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def boot():
    data = load_dyestuff().frame
    model = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)").fit(data)
    return bootstrap(model, data, n=60, random_state=0)


def test_every_draw_is_in_a_bar_and_limits_are_drawn(boot):
    display = BootstrapDisplay.from_bootstrap(boot, level=0.9, method="basic")
    limits = boot.confint(level=0.9, method="basic")
    assert [ax.get_xlabel() for ax in display.axes_] == list(boot.draws)
    for bars, panel, name in zip(display.bars_, display.axes_, limits.index, strict=True):
        assert sum(bar.get_height() for bar in bars) == 60
        [interval] = panel.collections
        row = limits.loc[name].to_numpy()
        np.testing.assert_allclose(interval.get_segments()[0][:, 0], row[1:])
        assert panel.lines[0].get_xdata()[0] == row[0]


def test_chosen_parameters_in_axes_of_ones_own(boot):
    figure, axes = plt.subplots(1, 2)
    names = ["sigma", "Intercept"]
    display = BootstrapDisplay.from_bootstrap(boot, parameters=names, ax=axes)
    assert display.figure_ is figure
    assert [ax.get_xlabel() for ax in axes] == names
    with pytest.raises(ValueError, match="parameters must be among"):
        BootstrapDisplay.from_bootstrap(boot, parameters="tau")
