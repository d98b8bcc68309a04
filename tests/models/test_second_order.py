"""Second-order quantities against n x n matrices, finite differences and exact results."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedLinearRegressor
from skmixed.inference.degrees_of_freedom import joint_test, satterthwaite_df
from skmixed.models import lmm
from skmixed.models.lmm import ProfiledDeviance
from skmixed.models.second_order import SecondOrder, linear_parameters, scaled_inverse

SIGMA = 1.7


@pytest.fixture(params=[0, 10**9], ids=["chain", "dense"], scope="module")
def objective(request, marginal):
    """The model's objective with its largest factors eliminated, or in one dense matrix."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lmm, "_CHAIN_FROM", request.param)
        yield ProfiledDeviance.from_design(marginal.design, reml=marginal.objective.reml)


@pytest.fixture(scope="module")
def record(objective, theta):
    return _record(objective, theta, SIGMA)


def _record(objective, theta, sigma=None):
    return SecondOrder.at(objective, objective.evaluate(theta).factor, theta, sigma)


class Dense:
    """The same quantities from n x n matrices, in units of sigma."""

    def __init__(self, marginal, theta, sigma):
        layout, rows = marginal.layout, marginal.rows
        self.X = marginal.X @ marginal.objective.basis.to_coef
        self.inverse = np.linalg.inv(marginal.V(theta))
        self.P = marginal.P(theta)
        self.y = marginal.y / sigma
        self.G = []
        for d in linear_parameters(layout):
            group = layout.groups[d.group]
            same = (group.codes[:, None] == group.codes)[np.ix_(rows, rows)]
            z = group.z[rows]
            G = np.outer(z[:, d.i], z[:, d.j])
            self.G.append(same * (G if d.i == d.j else G + G.T))
        self.G.append(np.diag(1 / marginal.W))

    def pairs(self, form):
        return np.array([[form(a, b) for b in self.G] for a in self.G])


@pytest.fixture(scope="module")
def dense(marginal, theta):
    return Dense(marginal, theta, SIGMA)


def close(found, expected):
    scale = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10 * max(scale, 1e-300))


def test_traces(record, dense):
    V = dense.inverse
    close(record.t, np.array([np.trace(V @ G) for G in dense.G]))
    close(record.tt, dense.pairs(lambda a, b: np.sum((V @ a) * (V @ b).T)))


def test_forms_of_x(record, dense):
    X, V = dense.X, dense.inverse
    close(record.Phi, np.linalg.inv(X.T @ V @ X) if X.size else np.zeros((0, 0)))
    close(record.P, np.array([-X.T @ V @ G @ V @ X for G in dense.G]))
    close(record.Q, dense.pairs(lambda a, b: X.T @ V @ a @ V @ b @ V @ X))


def test_forms_of_the_response(record, dense):
    e = dense.P @ dense.y
    close(record.quadratic, dense.y @ e)
    close(record.h, np.array([e @ G @ e for G in dense.G]))
    close(record.a, dense.pairs(lambda a, b: e @ a @ dense.P @ b @ e))


def test_expected_information(record, dense):
    P = dense.P
    close(record.information, dense.pairs(lambda a, b: np.sum((P @ a) * (P @ b).T)))


def test_gradient_is_the_engines(objective, theta):
    record = _record(objective, theta)
    expected = objective.evaluate(theta).gradient
    np.testing.assert_allclose(record.gradient[:-1], expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(record.gradient[-1], 0.0, atol=1e-8 * record.dof)


def test_hessian_is_the_derivative_of_the_gradient(objective, theta):
    """Central differences of the record's own gradient in theta and log sigma."""
    record, step = _record(objective, theta, SIGMA), 1e-5
    columns = []
    for j in range(len(theta) + 1):
        ends = []
        for sign in (1.0, -1.0):
            moved, sigma = theta.copy(), SIGMA
            if j < len(theta):
                moved[j] += sign * step
            else:
                sigma *= 1.0 + sign * step
            near = _record(objective, moved, sigma)
            # the last one is by log sigma: in units of the sigma in the middle
            ends.append(near.gradient * np.append(np.ones(len(theta)), SIGMA / sigma))
        columns.append((ends[0] - ends[1]) / (2 * step))
    H = record.hessian
    np.testing.assert_allclose(columns, H, rtol=1e-5, atol=1e-6 * np.abs(H).max())


def test_derivative_of_the_covariance(objective, theta):
    step, record = 1e-5, _record(objective, theta)
    for j in range(len(theta)):
        e = step * np.eye(len(theta))[j]
        change = _record(objective, theta + e).Phi - _record(objective, theta - e).Phi
        scale = np.abs(record.dPhi).max(initial=0.0)
        np.testing.assert_allclose(change / (2 * step), record.dPhi[j], rtol=1e-5,
                                   atol=1e-7 * scale)  # fmt: skip


def test_a_variance_of_zero(objective, marginal):
    """At zero the record is that of the limit, and the information in gamma stays regular."""
    theta = np.zeros(objective.layout.n_theta)
    record, dense = _record(objective, theta, SIGMA), Dense(marginal, theta, SIGMA)
    P = dense.P
    close(record.information, dense.pairs(lambda a, b: np.sum((P @ a) * (P @ b).T)))
    assert not record.dPhi[:-1].any()


@pytest.mark.parametrize("ratio", [0.1, 1.0, 30.0, 1e4])
def test_kenward_roger_in_a_balanced_one_way_layout(ratio):
    """The mean is tested on the groups' means: df = groups - 1, however large their variance."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(8), 5)
    data = pd.DataFrame({"y": rng.normal(size=40) + rng.normal(size=8)[g], "g": g})
    fit = MixedLinearRegressor("y ~ 1 + (1 | g)").fit(data).result_
    record = _record(fit.objective, np.array([ratio]))
    assert joint_test(record, fit.gamma, np.eye(1), "kenward_roger").df_den == pytest.approx(
        7.0, rel=1e-5
    )


def test_units_of_covariates_do_not_matter():
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(12), 6)
    x = rng.normal(size=72)
    y = 1 + x + rng.normal(size=12)[g] + rng.normal(size=12)[g] * x + rng.normal(size=72)
    df = []
    for unit in (1.0, 1e6):
        data = pd.DataFrame({"y": y, "x": unit * x, "g": g})
        fit = MixedLinearRegressor("y ~ x + (x | g)").fit(data).result_
        record = SecondOrder.at(fit.objective, fit.factor, fit.optimum.theta)
        L = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, unit]]) @ fit.basis.to_coef
        pooled = [joint_test(record, fit.gamma, L[:2], m).df_den for m in
                  ("satterthwaite", "kenward_roger")]  # fmt: skip
        df.append([*satterthwaite_df(record, L), *pooled])
    # the rows that several degrees of freedom are pooled over are chosen by size
    np.testing.assert_allclose(df[0][:3], df[1][:3], rtol=1e-6)
    np.testing.assert_allclose(df[0][4], df[1][4], rtol=1e-6)


def test_levels_in_any_order_give_the_same(objective, theta, marginal):
    """Nothing depends on where a level stands in the elimination."""
    design = marginal.design
    flipped = [replace(t, codes=len(t.levels) - 1 - t.codes) for t in design.random]
    other = ProfiledDeviance.from_design(replace(design, random=flipped), reml=objective.reml)
    a, b = _record(objective, theta), _record(other, theta)
    close(a.tt, b.tt)
    close(a.hessian, b.hessian)


def test_scaled_inverse_leaves_out_null_directions_in_any_units():
    H = np.array([[4.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    D = np.diag([1.0, 1e6, 1.0])
    found, scaled = scaled_inverse(H), scaled_inverse(D @ H @ D)
    np.testing.assert_allclose(H @ found @ H, H, atol=1e-12)
    np.testing.assert_allclose(D @ scaled @ D, found, atol=1e-12)
