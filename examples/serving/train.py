"""Fit the model of the service and write it as a plain dictionary.

    python train.py model.json

Attainment of pupils by their verbal reasoning, sex and social class, with the primary and the
secondary school that they went to.
"""

import json
import sys
from pathlib import Path

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_scotssec

FORMULA = "attain ~ verbal + sex + social + (1 | primary) + (1 | second)"


def main(path):
    """Write the model to a path."""
    model = MixedLinearRegressor(FORMULA, keep_factor=True).fit(load_scotssec().frame)
    Path(path).write_text(json.dumps(model.to_dict(), allow_nan=False), encoding="utf-8")
    print(f"{path}: {Path(path).stat().st_size:,} bytes, sigma {model.sigma_:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["model.json"])
