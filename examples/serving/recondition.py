"""Once a month: take the rows of the month into the model, without a refit.

    python recondition.py model.json 2026-05.parquet model-2026-05.json

The random effects of new and of known schools are then given the rows of the fit and of all months
so far; coefficients and variances stay those of the fit. Each month starts from the model of the
month before, since a row must not come in twice.
"""

import json
import sys
from pathlib import Path

import pandas as pd

from skmixed import MixedLinearRegressor


def main(before, month, after):
    """Read a model and the rows of a month, write the model that knows these too."""
    model = MixedLinearRegressor.from_dict(json.loads(Path(before).read_text(encoding="utf-8")))
    rows = pd.read_parquet(month)
    known = model.random_effects_
    model = model.condition(rows)
    Path(after).write_text(json.dumps(model.to_dict(), allow_nan=False), encoding="utf-8")
    new = {name: len(table) - len(known[name]) for name, table in model.random_effects_.items()}
    print(f"{len(rows)} rows, new levels {new}, in {after}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
