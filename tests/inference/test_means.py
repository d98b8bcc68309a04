"""Marginal means, trends, contrasts and joint tests against emmeans, and identities."""

import re

import numpy as np
import pytest

from skmixed.inference import emmeans, emtrends, joint_tests

RTOL = 1e-6


def asked(model, entry, ddf):
    """Our object for one specification of a reference."""
    names, _, by = entry["spec"].lstrip("~ ").partition("|")
    names = [] if names.strip() == "1" else [name.strip() for name in names.split(":")]
    table = entry[ddf]["table"][0]
    trend = next((key.removesuffix(".trend") for key in table if key.endswith(".trend")), None)
    more = {"by": by.strip() or None, "at": entry["at"], "weights": entry["weights"], "ddf": ddf}
    if trend is not None:
        if "I(" in model.formula:
            # emmeans takes a difference ahead, which is the derivative half a step further
            x = model.design_spec_.reference.covariates[trend]
            more["at"] = {trend: x.mean + 0.5e-3 * (x.high - x.low)}
        return emtrends(model, names, var=trend, **more)
    return emmeans(model, names, **more)


def entries(reference):
    found = [
        (entry, ddf)
        for entry in reference.ref.get("emmeans") or []
        for ddf in ("satterthwaite", "kenward_roger", "asymptotic")
        if ddf in entry
    ]
    if not found:
        pytest.skip("no marginal means in this reference")
    return found


def numbers(rows, *names):
    """A column of a reference, NaN where R has NA."""
    key = next(name for name in names if name in rows[0])
    values = [row.get(key) for row in rows]
    return np.array([np.nan if v is None else np.inf if v == "Inf" else v for v in values], float)


def estimates(rows):
    key = next(key for key in rows[0] if re.search(r"emmean$|trend$|estimate$|ratio$|prob$|rate$",
               key) and key not in ("t.ratio", "z.ratio"))  # fmt: skip
    return numbers(rows, key)


def assert_table(frame, rows, rtol=RTOL, df_rtol=RTOL):
    scale = np.nanmax(np.abs(estimates(rows)))
    np.testing.assert_allclose(frame["estimate"], estimates(rows), rtol, rtol * 1e-2 * scale)
    np.testing.assert_allclose(frame["std_error"], numbers(rows, "SE"), rtol)
    np.testing.assert_allclose(frame["df"], numbers(rows, "df"), df_rtol)
    error = numbers(rows, "SE")
    for name, other in (("lower", "asymp.LCL"), ("upper", "asymp.UCL")):
        expected = numbers(rows, f"{name}.CL", other)
        known = ~np.isnan(expected)
        gap = np.abs(frame[name] - expected) / (np.abs(expected) + error)
        assert (gap[known] < 3 * rtol).all()
        assert np.isnan(frame[name][~known]).all()


def test_means_and_trends_are_those_of_emmeans(reference):
    for entry, ddf in entries(reference):
        means = asked(reference.model, entry, ddf)
        assert_table(means.frame, entry[ddf]["table"])
        for level, row in zip(means.index, entry["grid"], strict=True):
            own = [level] if np.ndim(level) == 0 else level
            if "1" not in row:
                assert sorted(map(str, own)) == sorted(str(v) for v in row.values())


def test_coefficients_are_those_of_emmeans(reference, plain_name):
    dropped = set(map(plain_name, reference.ref["fit"]["dropped"] or []))
    for entry, ddf in entries(reference):
        linfct = asked(reference.model, entry, ddf).linfct
        linfct.columns = [plain_name(name) for name in linfct.columns]
        names = [plain_name(name) for name in entry["coef_names"]]
        assert set(names) == set(linfct.columns) or dropped
        expected = np.array(entry["linfct"], dtype=float)
        np.testing.assert_allclose(linfct[names], expected, rtol=1e-9, atol=1e-9)


def floats(values):
    return np.array([np.nan if v is None else v for v in values], dtype=float)


def assert_adjusted(found, wanted, adjust):
    """p-values and limits; R's ptukey is wrong by some 1e-7, its quantiles have four digits."""
    by_range, frame = adjust in ("tukey", "dunnettx"), found.frame
    atol = 5e-7 if by_range else 1e-10
    expected = floats(wanted["p_adjusted"][adjust])
    np.testing.assert_allclose(frame["p_value"], expected, rtol=1e-5, atol=atol)
    share = (2e-4 if by_range else 1e-5) * (frame["upper"] - frame["lower"]).max()
    for side, values in (wanted.get("limits") or {}).get(adjust, {}).items():
        np.testing.assert_allclose(frame[side], floats(values), rtol=0, atol=share)


def test_contrasts_are_those_of_emmeans(reference):
    seen = 0
    for entry, ddf in entries(reference):
        means = asked(reference.model, entry, ddf)
        for wanted in entry[ddf].get("contrasts") or []:
            found = means.contrast(wanted["method"], adjust="none")
            assert_table(found.frame, wanted["table"])
            seen += 1
            for adjust in wanted["p_adjusted"]:
                if ddf == "kenward_roger" and adjust in ("tukey", "dunnettx"):
                    continue  # the same distribution again, at its price
                assert_adjusted(means.contrast(wanted["method"], adjust=adjust), wanted, adjust)
    if not seen:
        pytest.skip("no contrasts in this reference")


def test_joint_tests_have_the_f_of_emmeans(reference):
    rows = (reference.ref.get("joint_tests") or {}).get("satterthwaite") or []
    # emmeans tests contrasts that belong to no term, too
    rows = [row for row in rows if row.get("df1") and row["model term"] != "(confounded)"]
    if not rows:
        pytest.skip("no factor in this reference")
    found = joint_tests(reference.model)
    assert set(found.index) >= {row["model term"] for row in rows}
    for row in rows:
        own = found.loc[row["model term"]]
        assert own["num_df"] == row["df1"]
        np.testing.assert_allclose(own["F"], row["F_exact"], rtol=RTOL)


def test_without_covariates_and_empty_cells_joint_tests_are_type_iii(reference):
    fit = reference.fit
    if any(term.covariates for term in fit.terms) or fit.basis.aliased.any() or not fit.terms:
        pytest.skip("covariates or empty cells")
    for ddf, rows in reference.ref["anova"]["III"].items():
        if ddf not in ("satterthwaite", "kenward_roger"):
            continue
        found = joint_tests(reference.model, ddf=ddf)
        for row in rows:
            own = found.loc[row["term"]]
            np.testing.assert_allclose(own["F"], row["F value"], rtol=RTOL)
            # the rows of the only term of a model are those of type I, which span the same
            same = len(rows) > 1 or ddf == "kenward_roger"
            np.testing.assert_allclose(own["den_df"], row["DenDF"], rtol=RTOL if same else 1e-2)
