"""A question from Cross Validated: "Fitting a logistic regression using lme4 ends with Downdated
X'X is not positive definite".

Run with `python examples/cross_validated_logistic.py`; statsmodels is used if it is installed.

The usual ingredients of that question, simulated: patients of many clinics, a 0/1 outcome, and
covariates of which some say the same thing twice. The failure is reproduced, explained and mended;
then the fitted model is read.
"""

import importlib.util
import warnings

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold, cross_val_score

from skmixed import MixedLogisticClassifier, RankDeficiencyTransformer, RankDeficiencyWarning
from skmixed.inference import diagnose_glmm

COVARIATES = ["age", "age_months", "dose", "urban", "rural", "arm_a", "arm_b", "arm_c"]


def patients(seed=11, n=2400, n_clinics=90):
    """The outcome depends on age, dose, arm and place; clinics differ with variance 1 in logits."""
    rng = np.random.default_rng(seed)
    share = rng.gamma(0.8, size=n_clinics) + 0.05
    clinic = rng.choice(n_clinics, n, p=share / share.sum())
    age = rng.integers(30, 80, n).astype(float)
    urban = (rng.random(n_clinics) < 0.6).astype(float)[clinic]
    arm = rng.integers(0, 3, n)
    dose = np.round(rng.normal(10, 2, n), 1)
    eta = -1.5 + 0.03 * (age - 55) + 0.12 * (dose - 10) + np.array([0.0, 0.6, 1.0])[arm]
    eta += 0.4 * urban + rng.normal(0, 1, n_clinics)[clinic]
    frame = pd.DataFrame({"age": age, "age_months": 12 * age, "dose": dose})
    frame["urban"], frame["rural"] = urban, 1 - urban
    for k, letter in enumerate("abc"):
        frame[f"arm_{letter}"] = (arm == k).astype(float)
    frame["clinic"] = clinic
    frame["recovered"] = np.where(rng.random(n) < 1 / (1 + np.exp(-eta)), "yes", "no")
    return frame


def reproduce(frame):
    print("1. The failure")
    X = np.column_stack([np.ones(len(frame)), frame[COVARIATES]])
    Z = pd.get_dummies(frame["clinic"]).to_numpy(float)
    p = (frame["recovered"] == "yes").mean()
    w = p * (1 - p)
    weighted = Z.T @ (w * X)
    inner = np.linalg.solve(w * Z.T @ Z + np.eye(Z.shape[1]), weighted)
    downdated = w * X.T @ X - weighted.T @ inner  # what is left of X'WX after the clinics
    scale = np.sqrt(np.diag(downdated))
    eigenvalues = np.linalg.eigvalsh(downdated / np.outer(scale, scale))
    print(f"   downdated X'X, {len(scale)} columns scaled to 1; eigenvalues from small to large:")
    print("   " + "  ".join(f"{value:.1e}" for value in eigenvalues))
    print(
        f"   {np.sum(eigenvalues < 1e-10)} of them are zero up to rounding, so its Cholesky factor"
    )
    print("   does not exist. lme4 before version 1.0 stopped here without naming a column.\n")


def explain(frame):
    print("2. Which columns, and why")
    transformer = RankDeficiencyTransformer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankDeficiencyWarning)
        kept = transformer.set_output(transform="pandas").fit_transform(frame[COVARIATES])
    report = transformer.report_[["feature", "reason", "action", "combination"]]
    print("   " + report.to_string(index=False).replace("\n", "\n   ") + "\n")
    return list(kept.columns)


def fit(frame, kept):
    print("3. The model")
    formula = "recovered ~ " + " + ".join(kept) + " + (1 | clinic)"
    model = MixedLogisticClassifier(formula).fit(frame)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        every = "recovered ~ " + " + ".join(COVARIATES) + " + (1 | clinic)"
        same = MixedLogisticClassifier(every).fit(frame)
    told = any(w.category is RankDeficiencyWarning for w in caught)
    print(
        f"   all {len(COVARIATES)} columns: fitted too, {'with' if told else 'without'} a warning;"
    )
    print(f"   deviance {same.deviance_:.6f} against {model.deviance_:.6f} from the columns kept\n")
    print(str(model.summary()) + "\n")
    return model


def clinics(frame, model):
    print("4. Clinics")
    outcome = frame["recovered"] == "yes"
    sizes = frame.groupby("clinic").size()
    one_kind = outcome.groupby(frame["clinic"]).nunique() == 1
    variance = model.covariances_["clinic"].to_numpy().item()
    print(f"   {len(sizes)} clinics with {sizes.min()} to {sizes.max()} patients, median "
          f"{sizes.median():g}; {one_kind.sum()} with one outcome only")  # fmt: skip
    print(
        f"   variance between clinics {variance:.3f} on the logit scale, where the variance of one"
    )
    print(
        f"   outcome is pi^2 / 3: intraclass correlation {variance / (variance + np.pi**2 / 3):.3f}"
    )
    more = MixedLogisticClassifier(model.formula, n_agq=15).fit(frame)
    print(f"   with 15 quadrature nodes the variance is "
          f"{more.covariances_['clinic'].to_numpy().item():.3f}: "
          "Laplace's approximation is good enough\n")  # fmt: skip
    return variance


def marginal(frame, kept, model, variance):
    print("5. Conditional and marginal coefficients")
    table = pd.DataFrame({"mixed model (conditional)": model.fixed_effects_})
    # averaging a logistic curve over a normal effect flattens it by about this factor
    shrink = np.sqrt(1 + 0.346 * variance)
    table["shrunk to marginal"] = table.iloc[:, 0] / shrink
    if importlib.util.find_spec("statsmodels"):
        import statsmodels.api as sm

        y = (frame["recovered"] == "yes").astype(float)
        settings = {"family": sm.families.Binomial(), "cov_struct": sm.cov_struct.Exchangeable()}
        gee = sm.GEE(y, sm.add_constant(frame[kept]), groups=frame["clinic"], **settings)
        table["GEE (marginal)"] = gee.fit().params.to_numpy()
    else:
        print("   (statsmodels is not installed: no GEE)")
    print("   " + table.round(3).to_string().replace("\n", "\n   "))
    at_zero = model.predict_proba(frame, random_effects=False)[:, 1].mean()
    averaged = model.predict_proba(frame, marginal=True)[:, 1].mean()
    print(f"\n   mean probability: {at_zero:.3f} in a typical clinic, {averaged:.3f} averaged over")
    print(f"   clinics, {(frame['recovered'] == 'yes').mean():.3f} observed\n")


def validate(frame, kept):
    print("6. New clinics")
    X, y = frame[[*kept, "clinic"]], frame["recovered"]
    folds = GroupKFold(5)
    for name, random in (("with clinics", " + (1 | clinic)"), ("without", "")):
        model = MixedLogisticClassifier(" + ".join(kept) + random)
        scores = cross_val_score(model, X, y, cv=folds, groups=X["clinic"], scoring="roc_auc")
        print(f"   {name:13s} area under the curve in clinics not seen: {scores.mean():.3f}")


def report(frame):
    print("\n7. All of it in one report, and a covariate that separates")
    frame = frame.assign(transferred=(frame["recovered"] == "no") & (frame["age"] > 70))
    formula = "recovered ~ " + " + ".join(COVARIATES) + " + transferred + (1 | clinic)"
    found = diagnose_glmm(MixedLogisticClassifier(formula), frame)
    print(str(found))
    print("\n   transferred by the scale of its prior:")
    for scale in (1.0, 2.5, 10.0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RankDeficiencyWarning)
            model = MixedLogisticClassifier(formula, prior={"scale": scale}).fit(frame)
        name = "transferred[T.True]"
        print(f"   {scale:5.1f}: {model.fixed_effects_[name]:7.2f}, standard error "
              f"{model.standard_errors_[name]:.2f}")  # fmt: skip


def main():
    frame = patients()
    reproduce(frame)
    kept = explain(frame)
    model = fit(frame, kept)
    variance = clinics(frame, model)
    marginal(frame, kept, model, variance)
    validate(frame, kept)
    report(frame)


if __name__ == "__main__":
    main()
