"""A small service of predictions: FastAPI, with pydantic between the request and the model.

    MODEL=model.json uvicorn service:app

A pupil of a school that the fit did not have gets the prediction of the population, and the answer
says so. What is no pupil, such as an unknown sex, is refused by pydantic (status 422).
"""

import json
import os
import warnings
from pathlib import Path
from typing import Literal

import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from skmixed import MixedLinearRegressor
from skmixed.exceptions import UnseenGroupsWarning

MODEL = MixedLinearRegressor.from_dict(
    json.loads(Path(os.environ.get("MODEL", "model.json")).read_text(encoding="utf-8"))
)
SCHOOLS = {name: set(table.index) for name, table in MODEL.random_effects_.items()}
# A batch of one pupil of a new school is nothing to warn of here: the answer tells.
warnings.simplefilter("ignore", UnseenGroupsWarning)


class Pupil(BaseModel):
    """What the model reads of a pupil."""

    model_config = ConfigDict(extra="forbid")

    verbal: float = Field(ge=-60, le=60, allow_inf_nan=False)
    sex: Literal["M", "F"]
    social: int = Field(ge=0, le=40)
    primary: str
    second: str


class Answer(BaseModel):
    """Expected attainment, the interval of one pupil's, and the schools that are not known."""

    attain: float
    lower: float
    upper: float
    unseen: list[str]


app = FastAPI(title="Attainment")


@app.get("/health")
def health() -> dict:
    """The model that answers."""
    return {"formula": MODEL.formula, "schools": {k: len(v) for k, v in SCHOOLS.items()}}


@app.post("/predict")
def predict(pupils: list[Pupil]) -> list[Answer]:
    """One answer for every pupil."""
    if not pupils:
        return []
    X = pd.DataFrame([pupil.model_dump() for pupil in pupils])
    means = MODEL.predict(X)
    limits = MODEL.predict_interval(X, kind="observation")
    return [
        Answer(
            attain=mean,
            lower=lower,
            upper=upper,
            unseen=[name for name, known in SCHOOLS.items() if getattr(pupil, name) not in known],
        )
        for pupil, mean, (lower, upper) in zip(pupils, means, limits, strict=True)
    ]
