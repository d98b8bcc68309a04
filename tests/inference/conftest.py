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


@dataclass(frozen=True)
class Dense:
    """X (n, r), Z (n, q), covariance G (q, q) of b, V (n, n) and y of a fitted linear model."""

    X: np.ndarray
    Z: np.ndarray
    G: np.ndarray
    R: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, model, table):
        """The matrices of the rows of a table, at the estimates of the model."""
        fit, design = model.result_, model.design_spec_.new(table)
        Z, G = [np.zeros((len(design.X), 0))], []
        for term, covariance in zip(design.random, fit.covariances, strict=True):
            levels = np.eye(term.n_levels)[term.codes]
            Z.append(np.einsum("nl,ns->nls", levels, term.z).reshape(len(levels), -1))
            G.append(np.kron(np.eye(term.n_levels), covariance))
        q = sum(len(block) for block in G)
        joined, at = np.zeros((q, q)), 0
        for block in G:
            joined[at : at + len(block), at : at + len(block)] = block
            at += len(block)
        w = np.ones(len(table)) if model.prior_weights is None else table[model.prior_weights]
        R = np.diag(fit.sigma**2 / np.asarray(w, dtype=float))
        y = model.design_spec_.response_of(table)
        return cls(design.X[:, fit.basis.kept], np.hstack(Z), joined, R, y)

    @property
    def V(self):
        return self.R + self.Z @ self.G @ self.Z.T

    def of_equal_variance(self):
        """The rows times the roots of their weights, the first one's being 1."""
        root = np.sqrt(self.R[0, 0] / self.R.diagonal())
        R = self.R[0, 0] * np.eye(len(root))
        X, Z = self.X * root[:, None], self.Z * root[:, None]
        return Dense(X, Z, self.G, R, self.y * root)

    def without(self, rows):
        """The same model without the rows of a mask."""
        stay = ~rows
        return Dense(self.X[stay], self.Z[stay], self.G, self.R[np.ix_(stay, stay)], self.y[stay])

    def gls(self):
        """(beta, its covariance)."""
        inverse = np.linalg.inv(self.V)
        Phi = np.linalg.inv(self.X.T @ inverse @ self.X)
        return Phi @ self.X.T @ inverse @ self.y, Phi

    def equations(self):
        """(matrix, right-hand side, rows) of the mixed-model equations of (b, beta)."""
        rows = np.hstack([self.Z, self.X])
        weighted = rows.T @ np.linalg.inv(self.R)
        matrix, q = weighted @ rows, len(self.G)
        matrix[:q, :q] += np.linalg.inv(self.G)
        return matrix, weighted @ self.y, rows


def _nested_data(seed=0, n_schools=16):
    """Classes in schools, 1 to 6 pupils each, a covariate, a factor of schools, weights w."""
    rng = np.random.default_rng(seed)
    schools = np.repeat(np.arange(n_schools), rng.integers(1, 5, n_schools))
    classes = np.arange(len(schools))
    pupils = np.repeat(classes, rng.integers(1, 7, len(classes)))
    school, n = schools[pupils], len(pupils)
    x = rng.normal(size=n)
    y = 0.7 * rng.normal(size=n) + 1.5 * rng.normal(size=len(classes))[pupils]
    y = y + x * (1 + rng.normal(size=n_schools)[school]) + 3 * rng.normal(size=n_schools)[school]
    return pd.DataFrame(
        {
            "y": y,
            "x": x,
            "kind": np.array(["a", "b", "c"])[school % 3],
            "school": np.array([f"s{k}" for k in school]),
            "room": np.array([f"c{k}" for k in pupils]),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )


def _nested_model(**options):
    return MixedLinearRegressor("y ~ x + kind + (x | school) + (1 | room)", **options)


@pytest.fixture(scope="session")
def dense():
    """Matrices of rows x rows of a fitted linear model."""
    return Dense


@pytest.fixture(scope="session")
def nested_data():
    return _nested_data


@pytest.fixture(scope="session")
def nested_model():
    return _nested_model
