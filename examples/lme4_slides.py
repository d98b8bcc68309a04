"""Mixed models in Python: Douglas Bates' lme4 slides of 2008, every table beside ours.

    python examples/lme4_slides.py

fits each model of the slides as a scikit-learn estimator and prints what the slides print, theirs
on the left and ours on the right, with the same number of digits. The printed numbers are in
lme4_slides.csv, with the values that lme4 1.1-31 finds today. The exit code is 1 if one of ours is
off. slides_page.py lays the tables out; what is worth reading is here.
"""

import sys
import warnings
from itertools import zip_longest
from textwrap import indent

import numpy as np
import pandas as pd
from scipy.stats import chi2
from slides_page import CRITERION, Page, at_theta, numbers

from skmixed import (
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
    SingularFitWarning,
    datasets,
)
from skmixed.inference import likelihood_ratio_test


def dyestuff(page):
    page.section(
        "Dyestuff: one random effect",
        "Yield of dyestuff (grams) from five samples of each of six batches of an intermediate\n"
        "product: y_ij = mu + b_i + e_ij. How much of the variance is between batches?",
    )
    df = datasets.load_dyestuff().frame

    fm1 = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)").fit(df)
    show(page, "fm1", fm1, "dyestuff_reml")
    page.table("dyestuff_reml", "effects of Batch", fm1.random_effects_["Batch"])

    fitted = fm1.predict(df)
    factors = fm1.expand()  # Lambda = T S
    page.values(
        "dyestuff_reml",
        {
            "fitted value of row 1": fitted[0],
            "fitted value of row 6": fitted[5],
            "S": factors.S.toarray()[0, 0],
            "T S S T'": (factors.T @ factors.S @ factors.S.T @ factors.T.T)[0, 0],
            "theta at the end of the trace": fm1.theta_[0],
            "REML criterion at the end of the trace": fm1.deviance_,
        },
    )
    trace(page, "dyestuff_reml", fm1)

    fm1_ml = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)", reml=False).fit(df)
    show(page, "fm1 by maximum likelihood", fm1_ml, "dyestuff_ml")


def dyestuff2(page):
    page.section(
        "Dyestuff2: a variance of zero",
        "The same layout, with batches no more different than samples of one batch would be. The\n"
        "estimate of their variance is zero, exactly, and a SingularFitWarning says so.",
    )
    df = datasets.load_dyestuff2().frame
    fm1 = fit_singular(MixedLinearRegressor("Yield ~ 1 + (1 | Batch)"), df)
    show(page, "fm1", fm1, "dyestuff2_reml")


def penicillin(page):
    page.section(
        "Penicillin: crossed factors",
        "Diameters (mm) of zones in which bacteria do not grow: every one of six samples of\n"
        "penicillin on every one of 24 plates.",
    )
    df = datasets.load_penicillin().frame
    fm2 = MixedLinearRegressor("diameter ~ 1 + (1 | plate) + (1 | sample)").fit(df)
    show(page, "fm2", fm2, "penicillin_reml")
    page.table("penicillin_reml", "effects of plate", fm2.random_effects_["plate"])
    page.table("penicillin_reml", "effects of sample", fm2.random_effects_["sample"])
    sizes(page, fm2)


def pastes(page):
    page.section(
        "Pastes: nested factors",
        "Strength of a paste: ten batches, three casks of each, two tests of every cask. `sample`\n"
        "numbers the casks throughout, so that (1 | batch) + (1 | sample) is nested; with casks\n"
        "named a, b, c in every batch the same model is (1 | batch/cask).",
    )
    df = datasets.load_pastes().frame
    fm3 = MixedLinearRegressor("strength ~ 1 + (1 | batch) + (1 | sample)").fit(df)
    show(page, "fm3", fm3, "pastes_batch_sample_reml")
    fm4 = MixedLinearRegressor("strength ~ 1 + (1 | sample)").fit(df)
    show(page, "fm4", fm4, "pastes_sample_reml")

    page.note("Is there variation between batches beyond that between casks?")
    compare(page, "LRT pastes", fm4=fm4, fm3=fm3)


def sleepstudy(page):
    page.section(
        "sleepstudy: random slopes",
        "Reaction times (ms) of 18 subjects on ten days with three hours of sleep a night. Every\n"
        "subject has an intercept and a slope of its own, correlated or not.",
    )
    df = datasets.load_sleepstudy().frame
    fm1 = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(df)
    show(page, "fm1", fm1, "sleepstudy_corr_reml")

    fm2 = MixedLinearRegressor("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)").fit(df)
    show(page, "fm2", fm2, "sleepstudy_zerocorr_reml")
    page.table("sleepstudy_zerocorr_reml", "effects of Subject", fm2.random_effects_["Subject"])

    fm3 = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(df)
    page.note("As skmixed prints a model, print(fm1.summary()):")
    print("\n" + indent(str(fm1.summary()), "      "))
    page.note("Are intercept and slope correlated? And do the slopes vary at all?")
    compare(page, "LRT sleepstudy fm2 fm1", fm2=fm2, fm1=fm1)
    compare(page, "LRT sleepstudy fm3 fm2", fm3=fm3, fm2=fm2)


def early(page):
    page.section(
        "Early: a correlation of -1",
        "Cognitive scores of 103 infants at ages 1, 1.5 and 2, half of them (trt = Y) in a\n"
        "programme of early childhood education; tos is the time on study in years.",
    )
    df = datasets.load_early().frame
    fm1 = fit_singular(MixedLinearRegressor("cog ~ tos * trt + (tos | id)"), df)
    show(page, "fm1", fm1, "early_tos_trt_reml")
    trace(page, "early_tos_trt_reml", fm1)

    page.note("Before the programme began both groups are alike: no main effect of trt.")
    fm2 = fit_singular(MixedLinearRegressor("cog ~ tos + tos:trt + (tos | id)"), df)
    show(page, "fm2", fm2, "early_notrt_reml")

    ml = {"reml": False}
    fm2 = fit_singular(MixedLinearRegressor("cog ~ tos + tos:trt + (tos | id)", **ml), df)
    fm3 = fit_singular(MixedLinearRegressor("cog ~ tos + tos:trt + (tos || id)", **ml), df)
    fm4 = MixedLinearRegressor("cog ~ tos + tos:trt + (1 | id)", **ml).fit(df)
    page.note("Can intercept and slope be uncorrelated? Can the slope go?")
    compare(page, "LRT early fm3 fm2", fm3=fm3, fm2=fm2)
    compare(page, "LRT early fm4 fm2", fm4=fm4, fm2=fm2)


def machines(page):
    page.section(
        "Machines: interactions of fixed and random factors",
        "Productivity of six workers on three types of machine, three times each. Workers differ,\n"
        "and differ by machine: as an interaction of scalar effects, or as one effect per machine.",
    )
    df = datasets.load_machines().frame
    scalar = "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)"
    vector = "score ~ Machine + (0 + Machine | Worker)"
    fm1 = MixedLinearRegressor(scalar).fit(df)
    show(page, "fm1", fm1, "machines_interaction_reml")
    fm2 = MixedLinearRegressor(vector).fit(df)
    show(page, "fm2", fm2, "machines_vector_reml")

    page.note("Four more parameters, by maximum likelihood; then without worker 6 on machine B.")
    fm1 = MixedLinearRegressor(scalar, reml=False).fit(df)
    fm2 = MixedLinearRegressor(vector, reml=False).fit(df)
    compare(page, "LRT machines", fm1=fm1, fm2=fm2)

    rest = df[~((df["Worker"] == "6") & (df["Machine"] == "B"))]
    fm1a = MixedLinearRegressor(scalar, reml=False).fit(rest)
    fm2a = MixedLinearRegressor(vector, reml=False).fit(rest)
    compare(page, "LRT machines without 6B", fm1a=fm1a, fm2a=fm2a)


def scotssec(page):
    page.section(
        "ScotsSec: partially crossed factors",
        "Attainment of 3435 pupils of 148 primary and 19 secondary schools. Neither kind of\n"
        "school is nested in the other.",
    )
    df = datasets.load_scotssec().frame
    sm1 = MixedLinearRegressor("attain ~ verbal + sex + (1 | primary) + (verbal | second)").fit(df)
    show(page, "Sm1", sm1, "scots_slope_reml")
    sm2 = MixedLinearRegressor("attain ~ verbal + sex + (1 | primary) + (1 | second)").fit(df)
    show(page, "Sm2", sm2, "scots_crossed_reml")
    sm3 = MixedLinearRegressor("attain ~ verbal + sex + (1 | primary)").fit(df)
    page.note("Does the secondary school matter, given the primary school?")
    compare(page, "LRT scots", Sm3=sm3, Sm2=sm2)


def cake(page):
    page.section(
        "cake: a split plot (beside today's lme4)",
        "Angle (degrees) at which a chocolate cake breaks: three recipes, fifteen mixes of each,\n"
        "every mix baked at six temperatures. The mixes are the levels of recipe:replicate.",
    )
    df = datasets.load_cake().frame
    factor = "angle ~ recipe * C(temperature, contr.poly) + (1 | recipe:replicate)"
    show(page, "temperature a factor", MixedLinearRegressor(factor).fit(df), "cake_poly_reml")
    number = "angle ~ recipe + temp + (1 | recipe:replicate)"
    show(
        page, "temperature a number", MixedLinearRegressor(number).fit(df), "cake_temp_numeric_reml"
    )


def insteval(page):
    page.section(
        "InstEval: large and crossed (beside today's lme4)",
        "73,421 ratings (1 to 5) of 1,128 lecturers (d) of 14 departments by 2,972 students (s).",
    )
    df = datasets.load_insteval().frame
    ml = MixedLinearRegressor("y ~ 1 + (1 | s) + (1 | d) + (1 | dept)", reml=False).fit(df)
    show(page, "three factors, maximum likelihood", ml, "insteval_3re_ml")
    service = MixedLinearRegressor("y ~ service + (1 | s) + (1 | d) + (1 | dept)").fit(df)
    show(page, "lecture given as a service", service, "insteval_service_reml")
    sizes(page, service)


def generalised(page):
    page.section(
        "Generalised linear mixed models (beside today's lme4)",
        "Binary and count responses: cbpp (disease of cattle by herd), VerbAgg (answers to a\n"
        "questionnaire, items and persons crossed), grouseticks (ticks on chicks).",
    )
    cbpp, verbagg = datasets.load_cbpp().frame, datasets.load_verbagg().frame
    ticks = datasets.load_grouseticks().frame

    trials = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    for n_agq in (1, 9, 25):
        model = MixedGLMRegressor(trials, family="binomial", n_agq=n_agq).fit(cbpp)
        show(page, f"cbpp, {n_agq} quadrature points", model, f"cbpp_nagq{n_agq}", generalised=True)

    answers = "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)"
    model = MixedLogisticClassifier(answers).fit(verbagg)
    show(page, "VerbAgg", model, "verbagg_binomial", generalised=True)

    counts = "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)"
    model = MixedGLMRegressor(counts, family="poisson").fit(ticks)
    show(page, "grouseticks", model, "grouseticks_poisson", generalised=True)


# What every model shows


def show(page, name, model, case, generalised=False):
    """The printed summary of one model beside ours."""
    fit = "" if generalised else (", REML" if model.reml else ", ML")
    print(f"\n{name}: {model.formula}{fit}")
    page.table(case, "criteria", criteria(model, generalised))
    summary = model.summary()
    page.table(case, "random effects", by_group_and_effect(summary.variances))
    page.table(case, "fixed effects", summary.fixed)
    if summary.correlation is not None and page.labels(case, "values")[0][:1] == [CORRELATION]:
        page.values(case, {CORRELATION: summary.correlation.iloc[1, 0]})
    if not generalised:
        printed_estimates(page, model, case)


CORRELATION = "correlation of fixed effects"


def criteria(model, generalised):
    """The line of criteria. lme4 of 2008 gave both: -2 log-likelihood and REML, at one theta."""
    row = {"AIC": model.aic_, "BIC": model.bic_, "logLik": model.log_likelihood_}
    if generalised:
        return pd.DataFrame([row | {"deviance": model.deviance_}], index=[""])
    both = [model.deviance_, model.result_.other_criterion]
    row["REMLdev"], row["deviance"] = both if model.reml else both[::-1]
    return pd.DataFrame([row], index=[""])


def by_group_and_effect(variances):
    """The table of variances with one label per row."""
    groups = variances["Groups"].where(variances["Groups"] != "").ffill()
    return variances.set_index((groups + " " + variances["Name"]).str.strip())


def printed_estimates(page, model, case):
    """By how much our criterion is below that at the estimates which the slide prints."""
    for point in page.points:
        if point["case"] == case and point["what"] == "printed":
            theirs = at_theta(model, numbers(point["theta"]))
            name = "REML criterion" if model.reml else "deviance"
            page.same("estimates", theirs, float(point["reference"]), CRITERION)
            above = f"{theirs - model.deviance_:.1e} above ours"
            page.note(f"The {name} at the slide's estimates is {above}.")


def trace(page, case, model):
    """The steps of the optimiser of 2008, our criterion at the same theta, and our own steps."""
    points = [p for p in page.points if p["case"] == case and p["what"] == "trace"]
    left = [_step_of_2008(page, model, step, point) for step, point in enumerate(points)]
    right = [
        f"{step:3d} {row.iloc[0]:10.4f} {_thetas(row.iloc[1:])}"
        for step, (_, row) in enumerate(model.trace_.iterrows())
    ]
    width = max(map(len, left))
    print(f"\n  {'step    slides ours there    theta':{width}}  step   skmixed    theta")
    for one, other in zip_longest(left, right, fillvalue=""):
        print(f"  {one:{width}}  {other}".rstrip())
    page.note(f"Ours took {model.n_evaluations_} evaluations of the criterion.")


def _step_of_2008(page, model, step, point):
    theta, slide = numbers(point["theta"]), point["slide"]
    ours = at_theta(model, theta)
    ok = page.same("trace", ours, float(point["reference"]), CRITERION)
    decimals = len(slide.partition(".")[2])
    return f"{step:3d} {slide:>10} {ours:10.{decimals}f}{' ' if ok else '!'}{_thetas(theta)}"


def _thetas(theta):
    return " ".join(f"{t:8.5f}" for t in theta)


def sizes(page, model):
    """What expand() returns: the sparse factors of Lambda = T S and the permutation P."""
    factors = model.expand()
    q = factors.T.shape[0]
    stored = [matrix.tocsr().nnz for matrix in (factors.T, factors.S, factors.P)]
    page.note(
        f"expand(): sigma = {factors.sigma:.5g}; T, S and P are {q} x {q} "
        f"and sparse: {stored[0]}, {stored[1]} and {stored[2]} numbers."
    )


def fit_singular(model, df):
    """A fit that is expected to be singular: the warning is what we want to see."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SingularFitWarning)
        model.fit(df)
    for warning in caught:
        print(f"\n  {warning.category.__name__}: {model.formula}")
    return model


def compare(page, case, **models):
    """The slides' anova() of two models, and ours.

    The slides compared REML fits as they were, by -2 log-likelihood at the REML estimates. That is
    not a likelihood-ratio test: likelihood_ratio_test refits such models by maximum likelihood.
    """
    refitted = likelihood_ratio_test(*models.values())
    refitted.index = list(models)
    tables = {"ML": refitted}
    if (case, "not refitted", next(iter(models)), "npar") in page.printed:
        tables = {"not refitted": as_they_are(models), "ML": refitted}
    formulas = {name: model.formula.partition("~")[2].strip() for name, model in models.items()}
    page.tests(case, formulas, tables)
    if "not refitted" in tables:
        page.note("The slides took likelihoods at the REML estimates; a test needs those of ML.")


def as_they_are(models):
    """The table of 2008: deviances at the REML estimates."""
    rows = {}
    for name, model in models.items():
        deviance, npar = model.result_.other_criterion, model.result_.n_params
        rows[name] = {
            "npar": npar,
            "AIC": deviance + 2 * npar,
            "BIC": deviance + np.log(model.n_obs_) * npar,
            "logLik": -deviance / 2,
        }
    table = pd.DataFrame(rows).T
    table["Chisq"] = 2 * table["logLik"].diff()
    table["p-value"] = chi2.sf(table["Chisq"], table["npar"].diff())
    return table


def main():
    page = Page()
    print(__doc__.partition("\n")[0] + "\n")
    page.legend()
    for part in (
        dyestuff,
        dyestuff2,
        penicillin,
        pastes,
        sleepstudy,
        early,
        machines,
        scotssec,
        cake,
        insteval,
        generalised,
    ):
        part(page)
    return page.close()


if __name__ == "__main__":
    sys.exit(main())
