"""The pictures of the documentation: one of every display.

    python examples/displays.py [folder]

writes PNG files to the folder, by default the current one.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from skmixed import MixedGLMRegressor, MixedLinearRegressor, MixedLogisticClassifier
from skmixed.datasets import (
    load_cake,
    load_grouseticks,
    load_penicillin,
    load_scotssec,
    load_sleepstudy,
    load_verbagg,
)
from skmixed.inference import bootstrap, posterior
from skmixed.plotting import (
    BootstrapDisplay,
    CaterpillarDisplay,
    ClusterDisplay,
    CoefficientsDisplay,
    MarginalMeansDisplay,
    ModelCheckDisplay,
    NormalQuantileDisplay,
    PosteriorDisplay,
    ProfileDisplay,
    RandomEffectsDisplay,
    ShrinkageDisplay,
    SparsityDisplay,
    TrellisDisplay,
    VarianceComponentsDisplay,
)


def displays():
    sleep = load_sleepstudy().frame
    slopes = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)
    yield "caterpillar", CaterpillarDisplay.from_estimator(slopes)
    yield "trellis", TrellisDisplay.from_estimator(slopes, sleep)
    yield "shrinkage", ShrinkageDisplay.from_estimator(slopes, sleep)
    yield "effects", RandomEffectsDisplay.from_estimator(slopes)
    yield "residuals", NormalQuantileDisplay.from_estimator(slopes, sleep)
    yield "profiles", ProfileDisplay.from_estimator(slopes)
    post = posterior(slopes, random_state=0)
    yield "posterior", PosteriorDisplay.from_posterior(post)
    names = [name for name in post.draws if "|" in name]
    yield "pairs", PosteriorDisplay.from_posterior(post, names, kind="pairs")
    yield "components", VarianceComponentsDisplay.from_estimator(slopes, method="profile")

    boot = bootstrap(slopes, sleep, n=1000, random_state=0)
    yield "bootstrap", BootstrapDisplay.from_bootstrap(boot)
    yield "checks", ModelCheckDisplay.from_estimator(slopes, sleep, random_state=0)

    ticks = load_grouseticks().frame
    formula = "TICKS ~ YEAR + HEIGHT + (1 | BROOD) + (1 | LOCATION)"
    counts = MixedGLMRegressor(formula, family="poisson").fit(ticks)
    panels = ["simulated", "fitted", "scale", "predictive", "Intercept | BROOD", "influence"]
    yield (
        "checks_counts",
        ModelCheckDisplay.from_estimator(counts, ticks, random_state=0, panels=panels),
    )

    penicillin = load_penicillin().frame
    crossed = MixedLinearRegressor("diameter ~ 1 + (1 | plate) + (1 | sample)").fit(penicillin)
    yield "sparsity", SparsityDisplay.from_estimator(crossed, penicillin)

    pupils = load_scotssec().frame
    schools = MixedLinearRegressor("attain ~ verbal + sex + (1 | primary)").fit(pupils)
    yield "quantiles", NormalQuantileDisplay.from_estimator(schools)

    formula = "angle ~ recipe * temperature + (1 | recipe:replicate)"
    cake = MixedLinearRegressor(formula).fit(load_cake().frame)
    yield "means", MarginalMeansDisplay.from_estimator(cake, "temperature", by="recipe")
    yield "coefficients", CoefficientsDisplay.from_estimator(cake)

    verbagg = load_verbagg().frame
    items = MixedLogisticClassifier("r2 ~ Anger + (1 | item)").fit(verbagg)
    yield "clusters", ClusterDisplay.from_estimator(items, verbagg)


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    for name, display in displays():
        path = folder / f"{name}.png"
        display.figure_.savefig(path, dpi=80)
        print(path)


if __name__ == "__main__":
    main()
