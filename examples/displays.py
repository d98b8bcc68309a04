"""The pictures of the documentation: one of every display.

    python examples/displays.py [folder]

writes PNG files to the folder, by default the current one, at twice the resolution of a page.
"""

import sys
from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from PIL import Image

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
    GroupCalibrationDisplay,
    GroupRocDisplay,
    MarginalEffectsDisplay,
    MarginalMeansDisplay,
    ModelCheckDisplay,
    NormalQuantileDisplay,
    PosteriorDisplay,
    PredictionIntervalDisplay,
    ProfileDisplay,
    RandomEffectsDisplay,
    ShrinkageDisplay,
    SparsityDisplay,
    TrellisDisplay,
    VarianceComponentsDisplay,
    VarianceSharesDisplay,
)

# Two pixels for every one of a page, and colours of a palette: a third of the bytes.
DPI, COLORS = 160, 256


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
    yield "predictions", PredictionIntervalDisplay.from_estimator(slopes, sleep)
    intercepts = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(sleep)
    both = {"intercepts": intercepts, "and slopes": slopes}
    yield "variance_shares", VarianceSharesDisplay.from_estimators(both)

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
    with plt.style.context("dark_background"):
        yield "caterpillar_dark", CaterpillarDisplay.from_estimator(schools)

    formula = "angle ~ recipe * temperature + (1 | recipe:replicate)"
    cakes = load_cake().frame
    cake = MixedLinearRegressor(formula).fit(cakes)
    yield "means", MarginalMeansDisplay.from_estimator(cake, "temperature", by="recipe")
    yield "coefficients", CoefficientsDisplay.from_estimator(cake)
    texts = {
        "parallel": "angle ~ recipe + temp + (1 | recipe:replicate)",
        "interaction": "angle ~ recipe * temp + (1 | recipe:replicate)",
    }
    models = {name: MixedLinearRegressor(text).fit(cakes) for name, text in texts.items()}
    yield "coefficients_models", CoefficientsDisplay.from_estimators(models)
    lines = MarginalEffectsDisplay.from_estimator
    yield "marginal_effects", lines(models["interaction"], "temp", by="recipe", X=cakes)

    verbagg = load_verbagg().frame
    items = MixedLogisticClassifier("r2 ~ Anger + (1 | item)").fit(verbagg)
    yield "clusters", ClusterDisplay.from_estimator(items, verbagg)
    formula = "r2 ~ Anger * Gender + btype + situ + (1 | id) + (1 | item)"
    verbal = MixedLogisticClassifier(formula).fit(verbagg)
    lines = MarginalEffectsDisplay.from_estimator
    yield "marginal_shares", lines(verbal, "Anger", by=["Gender", "btype"], X=verbagg)
    yield "calibration", GroupCalibrationDisplay.from_estimator(verbal, verbagg, group="item")
    yield "roc", GroupRocDisplay.from_estimator(verbal, verbagg, group="item")


def save(figure, path):
    """Write a figure as a PNG with a palette, on the background that it has."""
    buffer = BytesIO()
    figure.savefig(buffer, dpi=DPI, facecolor=figure.get_facecolor())
    image = Image.open(buffer).convert("RGB")
    image.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    plt.close(figure)


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    for name, display in displays():
        path = folder / f"{name}.png"
        save(display.figure_, path)
        print(path)


if __name__ == "__main__":
    main()
