"""
"Downdated X'X is not positive definite": a question of Cross Validated
=======================================================================

"Fitting a logistic regression using lme4 ends with *Downdated X'X is not positive definite*." The
usual ingredients of that question, simulated: patients of many clinics, a 0/1 outcome, and
covariates of which some say the same thing twice. The failure is reproduced, explained and mended;
then the fitted model is read.

Simulated truth: clinics differ with a variance of 1 in logits; the logit rises by 0.03 per year of
age, 0.12 per unit of dose, 0.4 in towns, and by 0.6 and 1.0 in arms b and c.

Pages on this: :doc:`/will-not-fit`, :doc:`/glmm`.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import statsmodels.api as sm
from sklearn.model_selection import GroupKFold, cross_val_score

from skmixed import (
    MixedLogisticClassifier,
    RankDeficiencyTransformer,
    RankDeficiencyWarning,
    UnseenGroupsWarning,
)
from skmixed.inference import diagnose_glmm
from skmixed.plotting import ClusterDisplay

COVARIATES = ["age", "age_months", "dose", "urban", "rural", "arm_a", "arm_b", "arm_c"]


def patients(seed=11, n=2400, n_clinics=90):
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


frame = patients()

# %%
# The failure
# -----------
#
# Every step of the fit takes the clinics out of X'WX and needs the Cholesky factor of what is left.
# Its eigenvalues, columns scaled to 1, show why there is none: three of them are rounding errors.
# Versions of lme4 before 1.0 stopped here without naming a column.

X = np.column_stack([np.ones(len(frame)), frame[COVARIATES]])
Z = pd.get_dummies(frame["clinic"]).to_numpy(float)
p = (frame["recovered"] == "yes").mean()
w = p * (1 - p)
weighted = Z.T @ (w * X)
inner = np.linalg.solve(w * Z.T @ Z + np.eye(Z.shape[1]), weighted)
downdated = w * X.T @ X - weighted.T @ inner
scale = np.sqrt(np.diag(downdated))
eigenvalues = np.abs(np.linalg.eigvalsh(downdated / np.outer(scale, scale)))[::-1]
print(f"{np.sum(eigenvalues < 1e-10)} of {len(eigenvalues)} are zero up to rounding")
figure, ax = plt.subplots(figsize=(5.5, 3), layout="constrained")
ax.semilogy(range(1, 10), np.maximum(eigenvalues, 1e-18), "o")
ax.axhspan(1e-18, 1e-12, color="0.85", label="rounding")
ax.set(xlabel="number", ylabel="eigenvalue", title="Downdated X'WX, nine columns", ylim=(1e-18, 10))
ax.legend()
plt.show()

# %%
# Which columns, and why
# ----------------------

transformer = RankDeficiencyTransformer().set_output(transform="pandas")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", RankDeficiencyWarning)
    kept = list(transformer.fit_transform(frame[COVARIATES]).columns)
print(transformer.report_[["feature", "reason", "action", "combination"]].to_string(index=False))

# %%
# The model
# ---------
#
# With the columns kept. All eight are fitted too: a warning names what was left out, and the fit is
# the same.

formula = "recovered ~ " + " + ".join(kept) + " + (1 | clinic)"
model = MixedLogisticClassifier(formula).fit(frame)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    every = "recovered ~ " + " + ".join(COVARIATES) + " + (1 | clinic)"
    same = MixedLogisticClassifier(every).fit(frame)
print([warning.category.__name__ for warning in caught])
print(f"deviance {same.deviance_:.6f} from all columns, {model.deviance_:.6f} from those kept")
print(model.summary())

# %%
# Clinics
# -------
#
# Six of them, small and large: ones and zeros spread a little, diamonds are means of parts of the
# rows. Dashed is a typical clinic, the line is the clinic's own.

levels = frame["clinic"].value_counts().index[[0, 5, 15, 30, 45, 60]]
ClusterDisplay.from_estimator(model, frame, x="age", levels=levels)
plt.show()
print(model.icc().round(3))

# %%
# Conditional and marginal coefficients
# -------------------------------------
#
# A coefficient of the mixed model compares patients *of one clinic*. A marginal model (GEE)
# compares averages of all clinics and has smaller coefficients: the average of logistic curves is
# flatter than each of them.

variance = model.covariances_["clinic"].to_numpy().item()
table = pd.DataFrame({"mixed model": model.fixed_effects_})
table["shrunk to marginal"] = table["mixed model"] / np.sqrt(1 + 0.346 * variance)
y = (frame["recovered"] == "yes").astype(float)
settings = {"family": sm.families.Binomial(), "cov_struct": sm.cov_struct.Exchangeable()}
gee = sm.GEE(y, sm.add_constant(frame[kept]), groups=frame["clinic"], **settings)
table["GEE"] = gee.fit().params.to_numpy()
print(table.round(3))

# %%
# New clinics
# -----------
#
# The area under the curve in clinics that were not in training. A random effect does not help
# there, since it is zero for them; it helps in clinics that are known, and in saying how uncertain
# coefficients are.

for name, random in (("with clinics", " + (1 | clinic)"), ("without", "")):
    estimator = MixedLogisticClassifier(" + ".join(kept) + random)
    data = frame[[*kept, "clinic"]], frame["recovered"]
    settings = {"cv": GroupKFold(5), "groups": frame["clinic"], "scoring": "roc_auc"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnseenGroupsWarning)  # that is the question here
        print(f"{name}: {cross_val_score(estimator, *data, **settings).mean():.3f}")

# %%
# All of it in one report
# -----------------------
#
# With one more trouble: patients who were transferred, none of whom recovered. That covariate
# *separates* the outcomes, and its coefficient would be minus infinity.

frame["transferred"] = (frame["recovered"] == "no") & (frame["age"] > 70)
formula = "recovered ~ " + " + ".join(COVARIATES) + " + transferred + (1 | clinic)"
print(diagnose_glmm(MixedLogisticClassifier(formula), frame))

# %%
# A weak prior gives it a value, which then depends on the prior's scale: report what it is, or
# leave it out.

for scale in (1.0, 2.5, 10.0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankDeficiencyWarning)
        fit = MixedLogisticClassifier(formula, prior={"scale": scale}).fit(frame)
    row = fit.coefficients().loc["transferred[T.True]"]
    print(f"scale {scale:4.1f}: {row['estimate']:6.2f}, standard error {row['std_error']:.2f}")
