"""Standard errors of variance parameters and shares of variance against references."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from skmixed import MixedGLMRegressor, MixedLinearRegressor
from skmixed.design import build_design
from skmixed.inference.variances import (
    VarianceShares,
    component_estimates,
    link_variance,
    variance_shares,
)
from skmixed.models.second_order import Curvature, SecondOrder
from skmixed.models.structures import triangle


def _user_order(layout):
    sizes = [-layout.groups[t.group].n_levels for t in layout.terms]
    return np.argsort(sizes, kind="stable").tolist()


def _as_functions(layout):
    """[(component key, function of the user's (theta, sigma))] in lme4's order."""
    begin, functions = 0, {}
    n_theta = sum(t.size * (t.size + 1) // 2 for t in layout.terms)
    for t in _user_order(layout):
        i, k = triangle(layout.terms[t].size)
        at = slice(begin, begin + len(i))
        begin = at.stop

        def covariance(x, at=at, i=i, k=k, s=layout.terms[t].size):
            T = np.zeros((s, s))
            T[i, k] = x[at]
            return x[n_theta] ** 2 * T @ T.T

        for a in range(layout.terms[t].size):
            functions["sd", t, (a,)] = lambda x, a=a, V=covariance: np.sqrt(V(x)[a, a])
            for b in range(a):
                functions["cor", t, (a, b)] = lambda x, a=a, b=b, V=covariance: (
                    V(x)[a, b] / np.sqrt(V(x)[a, a] * V(x)[b, b])
                )
    functions["sigma", None, ()] = lambda x: x[n_theta]
    return functions


def test_standard_errors_from_the_observed_information(reference):
    """Delta method with the reference's covariance of its own (theta, sigma)."""
    oracle = reference.ref["oracle"]
    if oracle["cov_theta_sigma"] is None or reference.ref["fit"]["singular"]:
        pytest.skip("no covariance of theta at a bound")
    A, x = np.array(oracle["cov_theta_sigma"]), np.array(oracle["theta_sigma"])
    functions = _as_functions(reference.fit.layout)
    step = 1e-6 * np.maximum(np.abs(x), 0.1)
    for found in component_estimates(reference.record, reference.fit.layout):
        c = found.component
        function = functions[c.kind, c.term, c.effects]
        slope = [(function(x + h) - function(x - h)) / (2 * h.sum()) for h in np.diag(step)]
        assert found.estimate == pytest.approx(function(x), rel=1e-8)
        assert found.std_error == pytest.approx(np.sqrt(slope @ A @ slope), rel=1e-6)


def test_standard_errors_from_the_expected_information(reference):
    """Delta method with the reference's covariance of variances and covariances."""
    if reference.ref["fit"]["singular"] or not reference.ref["reml"]:
        pytest.skip("the reference's expected information is REML's, inside the bounds")
    W, gamma = (np.array(reference.ref["oracle"][k]) for k in ("W_expected", "gamma"))
    layout = reference.fit.layout
    found = {(f.component.kind, f.component.term, f.component.effects): f for f in
             component_estimates(reference.record, layout, information="expected")}  # fmt: skip
    at = 0
    for t in _user_order(layout):
        i, j = triangle(layout.terms[t].size)
        for n, (a, b) in enumerate(zip(i.tolist(), j.tolist(), strict=True)):
            if a == b:  # sd = sqrt(gamma)
                expected = np.sqrt(W[at + n, at + n]) / (2 * np.sqrt(gamma[at + n]))
                assert found["sd", t, (a,)].std_error == pytest.approx(expected, rel=1e-6)
            else:
                own = [at + np.flatnonzero((i == e) & (j == e))[0] for e in (a, b)]
                size = np.sqrt(gamma[own].prod())
                slope = np.zeros(len(gamma))
                slope[at + n] = 1 / size
                slope[own] = -gamma[at + n] / size / 2 / gamma[own]
                expected = np.sqrt(slope @ W @ slope)
                assert found["cor", t, (a, b)].std_error == pytest.approx(expected, rel=1e-6)
        at += len(i)
    expected = np.sqrt(W[-1, -1]) / (2 * np.sqrt(gamma[-1]))
    assert found["sigma", None, ()].std_error == pytest.approx(expected, rel=1e-6)


def test_balanced_one_way_in_closed_form():
    """Without random effects Var(log sigma) = 1 / (2 df)."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"y": rng.normal(size=41)})
    fit = MixedLinearRegressor("y ~ 1").fit(data).result_
    record = SecondOrder.at(fit.objective, fit.factor, fit.optimum.theta)
    for information in ("observed", "expected"):
        (sigma,) = component_estimates(record, fit.layout, information=information, level=0.9)
        assert sigma.std_error == pytest.approx(fit.sigma / np.sqrt(80))
        reach = np.exp(stats.norm.ppf(0.95) / np.sqrt(80))
        assert (sigma.lower, sigma.upper) == pytest.approx((fit.sigma / reach, fit.sigma * reach))


def test_parameters_at_their_bound_have_no_standard_error(reference_of):
    zero = reference_of("dyestuff2_singular_reml")
    sd, sigma = component_estimates(zero.record, zero.fit.layout)
    assert sd.estimate == 0 and np.isnan([sd.std_error, sd.lower, sd.upper]).all()
    assert sigma.std_error > 0
    rank_one = reference_of("early_singular_reml")
    by_kind = {f.component.kind: f for f in component_estimates(rank_one.record,
                                                                 rank_one.fit.layout)}  # fmt: skip
    assert by_kind["cor"].estimate == pytest.approx(-1.0, abs=1e-9)
    assert np.isnan(by_kind["cor"].std_error) and by_kind["sd"].std_error > 0


def test_limits_stay_inside_the_bounds(reference):
    for found in component_estimates(reference.record, reference.fit.layout, level=0.999):
        if not np.isnan(found.std_error):
            assert found.lower < found.estimate < found.upper
            low = -1.0 if found.component.kind == "cor" else 0.0
            assert found.lower > low
            assert found.component.kind != "cor" or found.upper < 1.0


def test_unknown_information(reference_of):
    record = reference_of("sleepstudy_corr_reml").record
    with pytest.raises(ValueError, match="'observed' or 'expected', got 'sandwich'"):
        component_estimates(record, None, information="sandwich")


def _shares(model, design, residual):
    X = design.X[:, model.result_.basis.kept]
    beta = model.result_.beta
    means = [term.z.T @ term.z / len(X) for term in design.random]
    covariance = np.atleast_2d(np.cov(X, rowvar=False))
    return variance_shares(beta, covariance, model.result_.covariances, means, residual)


def test_shares_of_linear_models(reference):
    formula = reference.ref["formula"].replace("^", "**")
    design = build_design(formula, reference.table)
    expected = reference.ref["r2_formula"]
    found = _shares(reference.model, design, reference.model.sigma_**2)
    # the fit's own optimum: 1e-5 in the variances
    assert found.fixed == pytest.approx(expected["var_fixed"], rel=1e-5, abs=1e-12)
    assert found.random == pytest.approx(expected["var_random"], rel=1e-5, abs=1e-12)
    for name in ("marginal", "conditional", "icc_adjusted", "icc_unadjusted"):
        assert getattr(found, name) == pytest.approx(expected[name], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("glmm_grouseticks_poisson", "TICKS ~ 1 + (1 | BROOD) + (1 | LOCATION)"),
        ("glmm_cbpp_slopefree_poisson", "incidence ~ 1 + offset(log(size)) + (1 | herd)"),
    ],
)
def test_shares_of_poisson_models(name, without, json_of, table_of):
    """The mean is that of the intercept-only model: exp of its intercept."""
    ref = json_of(name)
    data = table_of(ref)
    model = MixedGLMRegressor(ref["formula"], family="poisson").fit(data)
    mean = np.exp(MixedGLMRegressor(without, family="poisson").fit(data).fixed_effects_.iloc[0])
    design = build_design(ref["formula"], data)
    found = _shares(model, design, link_variance("poisson", "log", mean))
    for kind in ("marginal", "conditional", "icc_adjusted", "icc_unadjusted"):
        assert getattr(found, kind) == pytest.approx(ref["r2"][kind], rel=1e-4)


def test_link_variances():
    assert link_variance("binomial", "logit") == pytest.approx(3.289868, abs=1e-6)
    assert link_variance("binomial", "probit") == 1.0
    assert link_variance("binomial", "cloglog") == pytest.approx(1.644934, abs=1e-6)
    with pytest.raises(ValueError, match=r"depends on its mean.*got None"):
        link_variance("poisson", "log")
    with pytest.raises(ValueError, match="got gamma with inverse"):
        link_variance("gamma", "inverse")


def test_shares_add_up():
    shares = VarianceShares(2.0, 1.0, 1.0)
    assert (shares.marginal, shares.conditional) == (0.5, 0.75)
    assert (shares.icc_adjusted, shares.icc_unadjusted) == (0.5, 0.25)


def test_standard_errors_where_a_structure_has_many_effects():
    rng = np.random.default_rng(4)
    R = 0.7 ** np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    b = rng.normal(size=(60, 6)) @ np.linalg.cholesky(R).T
    frame = pd.DataFrame({"id": np.repeat(np.arange(60), 6), "time": np.tile(np.arange(6), 60)})
    frame["y"] = 2 * b.ravel() + rng.normal(size=360)
    for reml in (True, False):
        model = MixedLinearRegressor("y ~ time + ar1(0 + C(time) | id)", reml=reml).fit(frame)
        exact = component_estimates(model.result_.second_order, model.result_.layout)
        own = component_estimates(Curvature.of(model.result_), model.result_.layout)
        for a, b in zip(own, exact, strict=True):
            assert a.estimate == pytest.approx(b.estimate, rel=1e-5)
            assert a.std_error == pytest.approx(b.std_error, rel=1e-4)
    long = pd.concat([frame.assign(time=frame["time"] + 6 * k) for k in range(3)])
    R = 0.7 ** np.abs(np.subtract.outer(np.arange(18), np.arange(18)))
    long = long.sort_values(["id", "time"])
    long["y"] = (2 * rng.normal(size=(60, 18)) @ np.linalg.cholesky(R).T).ravel()
    long["y"] += rng.normal(size=len(long))
    many = MixedLinearRegressor("y ~ time + expo(time | id)").fit(long)
    with pytest.raises(ValueError, match="too many effects"):
        many.result_.second_order  # noqa: B018
    table = many.confint(method="wald")
    assert table.loc["sigma", "lower"] < many.sigma_ < table.loc["sigma", "upper"]
