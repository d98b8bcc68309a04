"""Pictures are drawn without a screen, and closed."""

import pytest


@pytest.fixture(autouse=True)
def _figures():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    yield
    pytest.importorskip("matplotlib.pyplot").close("all")
