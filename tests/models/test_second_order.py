"""Second-order quantities against n x n matrices, finite differences and exact results."""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedLinearRegressor
from skmixed.inference.degrees_of_freedom import joint_test, row_tests, satterthwaite_df
from skmixed.linalg import marginal as marginal_inverse
from skmixed.models import deviance
from skmixed.models.deviance import ProfiledDeviance
from skmixed.models.linear_parameters import linear_parameters
from skmixed.models.lmm import fit_lmm
from skmixed.models.second_order import SecondOrder, scaled_inverse
from skmixed.models.structures import Structure

SIGMA = 1.7


@pytest.fixture(params=[0, 10**9], ids=["chain", "dense"], scope="module")
def objective(request, marginal):
    """The model's objective with its largest factors eliminated, or in one dense matrix."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deviance, "CHAIN_FROM", request.param)
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


@pytest.fixture
def fitted(formula, data):
    return MixedLinearRegressor(formula).fit(data).result_


FITS = ["y ~ x + (x | g)", "y ~ x + (1 | a / b)", "y ~ f + (f | g)", "y ~ x + (x | g) + (1 | h)"]


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
@pytest.mark.parametrize("formula", FITS)
def test_the_gradient_of_the_record_of_a_fit_is_zero(fitted):
    """In units of standard errors, far below what the search stops at."""
    loose = replace(fitted.optimum, theta=fitted.optimum.theta * 1.01)
    state = fitted.objective.evaluate(loose.theta)
    off = replace(fitted, optimum=loose, factor=state.factor, deviance=state.value)
    for record in (fitted.second_order, SecondOrder.of(off)):
        size = np.sqrt(np.maximum(record.hessian.diagonal(), 1.0))
        assert np.abs(record.gradient / size).max() < 1e-6


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
@pytest.mark.parametrize("formula", FITS)
def test_without_room_for_traces(fitted, monkeypatch):
    """Differences of the gradient give the same Hessian, average information stands for W."""
    exact = SecondOrder.of(fitted)
    monkeypatch.setattr(marginal_inverse, "machine_memory", lambda: -1.0)
    found = SecondOrder.of(fitted)
    np.testing.assert_allclose(found.t, exact.t, rtol=1e-6)
    np.testing.assert_allclose(found.hessian, exact.hessian, rtol=1e-5,
                               atol=1e-5 * np.abs(exact.hessian).max())  # fmt: skip
    L = fitted.basis.to_coef
    np.testing.assert_allclose(satterthwaite_df(found, L), satterthwaite_df(exact, L), rtol=1e-5)
    np.testing.assert_allclose(found.information, found.a, rtol=1e-9,
                               atol=1e-9 * np.abs(found.a).max())  # fmt: skip
    assert np.isfinite(row_tests(found, fitted.gamma, L, "kenward_roger").std_error).all()


def test_the_record_stays_with_the_fit(data):
    fit = MixedLinearRegressor("y ~ x + (x | g)").fit(data).result_
    before = pickle.loads(pickle.dumps(fit))
    with pytest.raises(ValueError, match="ask for them before pickling, or fit the model again"):
        _ = before.second_order
    record = fit.second_order
    assert fit.second_order is record
    after = pickle.loads(pickle.dumps(fit))
    np.testing.assert_allclose(after.second_order.hessian, record.hessian, rtol=1e-9, atol=1e-9)


def test_a_fit_without_residual_variance_has_no_record():
    data = pd.DataFrame({"x": np.arange(8.0), "g": np.arange(8) % 4})
    fit = MixedLinearRegressor("y ~ x + (1 | g)")
    with pytest.warns(UserWarning):
        fit.fit(data.assign(y=2 + data["x"]))
    with pytest.raises(ValueError, match="need a residual variance"):
        _ = fit.result_.second_order


class Exchangeable(Structure):
    """One variance and one covariance: Sigma = a^2 11'/s + b^2 (I - 11'/s)."""

    n_params = 2

    def __init__(self, s):
        self.parts = np.stack([np.full((s, s), 1.0 / s), np.eye(s) - 1.0 / s])

    def factor(self, phi):
        return np.tensordot(phi, self.parts, 1)

    def tangents(self, phi):
        return 2.0 * phi[:, None, None] * self.parts

    def curvature(self, phi, G):
        return np.diag(2.0 * np.tensordot(self.parts, G, 2))

    def from_factor(self, T):
        sizes = np.tensordot(self.parts, T @ T.T, 2)
        return np.sqrt(sizes / np.trace(self.parts, axis1=1, axis2=2))


def test_a_structure_of_few_parameters():
    """Exchangeable effects of three treatments are two intercepts, also for degrees of freedom."""
    rng = np.random.default_rng(6)
    data = pd.DataFrame({"g": np.repeat(np.arange(9), 9), "f": np.tile(["p", "q", "r"], 27)})
    cell = 3 * data["g"] + data["f"].map({"p": 0, "q": 1, "r": 2})
    data["y"] = (1.5 * rng.normal(size=9)[data["g"]] + rng.normal(size=27)[cell]
                 + rng.normal(size=81))  # fmt: skip
    data = data.drop(index=[1, 5, 11, 40]).loc[lambda d: d.index < 78]
    plain = MixedLinearRegressor("y ~ f + (1 | g) + (1 | g:f)").fit(data).result_
    # indicators in the user's units: those of the engine have mean square 1
    free = MixedLinearRegressor("y ~ f + (0 + f | g)").fit(data).result_.objective
    (term,) = free.layout.terms
    own = Exchangeable(3)
    own.parts = np.array([np.linalg.solve(term.M, np.linalg.solve(term.M, p).T) for p in own.parts])
    own.factor = lambda phi: np.linalg.cholesky(np.tensordot(phi**2, own.parts, 1))
    layout = replace(free.layout, structures=(own,), places=(slice(0, 2),), n_theta=2)
    fit = fit_lmm(replace(free, layout=layout), start=np.ones(2))
    assert fit.deviance == pytest.approx(plain.deviance, abs=1e-6)
    assert fit.second_order.jacobian.shape == (6, 2)
    for method in ("satterthwaite", "kenward_roger"):
        a, b = (row_tests(f.second_order, f.gamma, f.basis.to_coef, method) for f in (fit, plain))
        np.testing.assert_allclose(a.df, b.df, rtol=1e-5)
        np.testing.assert_allclose(a.std_error, b.std_error, rtol=1e-5)
