"""Reference models of tests/data/inference with their data and fits."""

import json
import re
import warnings
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedLinearRegressor, SingularFitWarning, datasets
from skmixed.exceptions import RankDeficiencyWarning
from skmixed.models.second_order import SecondOrder

FOLDER = Path(__file__).parents[1] / "data" / "inference"
LINEAR = sorted(path.stem for path in FOLDER.glob("*.json") if not path.stem.startswith("glmm"))


def table(ref):
    """The rows of a reference's data, categories in its order."""
    name = ref["data"].split(".")[0].split("_")[0].lower()
    data = getattr(datasets, f"load_{name}")().frame
    if ref["data"] == "Early_tos.csv":
        data = data.assign(tos=data["age"] - 0.5)
    if ref["data"] == "Machines_no6B.csv":
        data = data[(data["Worker"] != "6") | (data["Machine"] != "B")]
    if ref["rows_kept"]:
        data = data.iloc[np.array(ref["rows_kept"]) - 1]
    data = data.reset_index(drop=True)
    for column, levels in ref["categorical"].items():
        data[column] = pd.Categorical(data[column].astype(str), categories=levels)
    return data


@dataclass(frozen=True)
class Reference:
    """One reference, our fit of it, and second-order quantities at the reference's theta."""

    ref: dict
    table: pd.DataFrame
    model: MixedLinearRegressor

    @property
    def fit(self):
        return self.model.result_

    @property
    def objective(self):
        return self.fit.objective

    @cached_property
    def record(self):
        theta = self.objective.layout.from_user_theta(np.array(self.ref["fit"]["theta"]))
        factor = self.objective.evaluate(theta).factor
        return SecondOrder.at(self.objective, factor, theta)

    @property
    def to_coef(self):
        """The basis of X in terms of the reference's coefficients."""
        kept = [_plain_name(name) for name in self.model.fixed_effects_.index[self.fit.basis.kept]]
        order = [kept.index(_plain_name(name)) for name in self.ref["fit"]["coef_names"]]
        return self.fit.basis.to_coef[order]

    @cached_property
    def beta(self):
        """Generalised least squares at the record's theta, on the basis of X."""
        factor = self.objective.evaluate(self.record.theta).factor
        return self.objective.gamma + self.objective.y_scale * factor.mode.fixed[:, 0]

    def rows(self, L):
        """Rows on the reference's coefficients, on the basis of X."""
        return np.atleast_2d(np.array(L, dtype=float)) @ self.to_coef


def _plain_name(name):
    """Column names of R and of formulaic without what they differ in."""
    name = re.sub(r"\[T\.([^\]]*)\]", r"\1", name.replace("**", "^").replace(" ", ""))
    return ":".join(sorted(name.replace("(Intercept)", "Intercept").split(":")))


@cache
def fitted(name):
    ref = json.loads((FOLDER / f"{name}.json").read_text())
    model = MixedLinearRegressor(
        ref["formula"].replace("^", "**"), reml=ref["reml"], prior_weights=ref["weights"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        warnings.simplefilter("ignore", RankDeficiencyWarning)
        model.fit(table(ref))
    return Reference(ref, table(ref), model)


@pytest.fixture(scope="session")
def reference_of():
    """The Reference of a name."""
    return fitted


@pytest.fixture(scope="session")
def inference_folder():
    return FOLDER


@pytest.fixture(scope="session")
def plain_name():
    return _plain_name


@pytest.fixture(params=LINEAR)
def reference(request):
    return fitted(request.param)


@pytest.fixture(params=sorted(path.stem for path in FOLDER.glob("*.json")))
def any_reference(request):
    """One reference as it stands, generalised models too."""
    return json.loads((FOLDER / f"{request.param}.json").read_text())


@pytest.fixture(scope="session")
def json_of():
    return lambda name: json.loads((FOLDER / f"{name}.json").read_text())


@pytest.fixture(scope="session")
def table_of():
    return table
