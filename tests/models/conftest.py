"""Small mixed models of many structures, beside the n x n densities that they stand for."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pytest

from skmixed.design import Design, build_design
from skmixed.models.deviance import ProfiledDeviance
from skmixed.models.layout import CovarianceLayout

N_ROWS = 72
FORMULAS = {
    "intercept": "y ~ x + (1 | g)",
    "slope": "y ~ x + (x | g)",
    "uncorrelated": "y ~ x + (x || g)",
    "no fixed effect": "y ~ 0 + (x | g)",
    "factor": "y ~ f + (f | g)",
    "nested": "y ~ x + (1 | a / b)",
    "nested slopes": "y ~ x + (x | a) + (1 | a:b)",
    "crossed": "y ~ x + (1 | g) + (1 | h)",
    "crossed slopes": "y ~ x + (x | g) + (0 + z | h)",
    "nested and crossed": "y ~ x + (x | h) + (1 | a / b)",
    "aliased": "y ~ x + twice + (1 | g)",
    "shifted": "y ~ far + (far | g)",
}
SETTINGS = {
    "plain": {},
    "weighted": {"prior_weights": "w"},
    "counted": {"sample_weight": "k"},
    "both": {"prior_weights": "w", "sample_weight": "k"},
    "offset": {"offset": True},
}


def frame(seed=0):
    """Data with every column that the formulas and settings use."""
    rng = np.random.default_rng(seed)
    rows = np.arange(N_ROWS)
    g, h, a = rows % 9, rng.integers(0, 5, N_ROWS), rows // 18
    data = pd.DataFrame(
        {
            "x": rng.normal(size=N_ROWS),
            "z": rng.normal(size=N_ROWS),
            "g": g,
            "h": h,
            "a": a,
            "b": rows // 6 % 3,
            "f": np.array(["p", "q"])[rng.integers(0, 2, N_ROWS)],
            "w": rng.uniform(0.5, 2.0, N_ROWS),
            "k": rng.integers(0, 3, N_ROWS),
        }
    )
    data["twice"] = 2 * data["x"]
    data["far"] = 1e3 + data["x"]
    effects = rng.normal(size=9)[g] + rng.normal(size=9)[g] * data["x"] + rng.normal(size=5)[h]
    data["y"] = 3 + data["x"] + effects + rng.normal(size=4)[a] + rng.normal(size=N_ROWS)
    return data


@dataclass(frozen=True)
class Marginal:
    """y ~ N(X beta, sigma^2 V) written out for the rows of a design, and at a theta."""

    design: Design
    objective: ProfiledDeviance

    @cached_property
    def rows(self):
        """The rows, as often as they count."""
        counts = self.design.frequencies
        n = len(self.design.y)
        return np.repeat(np.arange(n), np.ones(n, int) if counts is None else counts.astype(int))

    @cached_property
    def W(self):
        weights = self.design.weights
        return np.ones(len(self.rows)) if weights is None else weights[self.rows]

    @cached_property
    def X(self):
        return self.design.X[self.rows][:, self.objective.basis.kept]

    @cached_property
    def y(self):
        offset = self.design.offset
        return (self.design.y - (0.0 if offset is None else offset))[self.rows]

    @cached_property
    def layout(self):
        """The engine's covariates, with their rows."""
        weights = self.design.weights
        if self.design.frequencies is not None:
            weights = self.design.frequencies * (1.0 if weights is None else weights)
        return CovarianceLayout.build(self.design.random, weights)

    def V(self, theta):
        """W^-1 + Z Lambda Lambda' Z' from the terms in the user's units."""
        V = np.diag(1.0 / self.W)
        for t, term in enumerate(self.design.random):
            z = term.z[self.rows] @ self.layout.term_factor(theta, t)
            codes = term.codes[self.rows]
            V += (codes[:, None] == codes) * (z @ z.T)
        return V

    def P(self, theta):
        """V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1."""
        inverse = np.linalg.inv(self.V(theta))
        VX = inverse @ self.X
        return inverse - VX @ np.linalg.solve(self.X.T @ VX, VX.T) if self.X.size else inverse

    def derivatives(self):
        """For every theta_j in turn (group, rows of one level, z, dT of the group): T is linear."""
        t, zero = self.layout.n_theta, self.layout.factors(np.zeros(self.layout.n_theta))
        for unit in np.eye(t):
            moved = self.layout.factors(unit)
            g = next(g for g, (a, b) in enumerate(zip(moved, zero, strict=True)) if (a != b).any())
            group = self.layout.groups[g]
            same = (group.codes[:, None] == group.codes)[np.ix_(self.rows, self.rows)]
            yield g, same, group.z[self.rows], moved[g]


@pytest.fixture
def data():
    return frame()


@pytest.fixture(params=SETTINGS, scope="module")
def setting(request):
    return request.param


@pytest.fixture(params=FORMULAS, scope="module")
def formula(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["REML", "ML"], scope="module")
def reml(request):
    return request.param


@pytest.fixture(scope="module")
def marginal(formula, setting, reml):
    data, options = frame(), dict(SETTINGS[setting])
    text = FORMULAS[formula] + (" + offset(3 * z)" if options.pop("offset", False) else "")
    if "sample_weight" in options:
        options["sample_weight"] = data[options["sample_weight"]]
    design = build_design(text, data, **options)
    return Marginal(design, ProfiledDeviance.from_design(design, reml=reml))


@pytest.fixture(scope="module")
def theta(marginal):
    """A point with every entry away from zero."""
    rng = np.random.default_rng(marginal.objective.layout.n_theta)
    start = marginal.objective.layout.initial()
    return start * rng.uniform(0.4, 1.2, len(start)) + rng.uniform(0.1, 0.4, len(start))
