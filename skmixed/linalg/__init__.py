"""Generalised inverses, rank decisions and structured factorisations."""

from skmixed.linalg.ginverse import (
    find_linear_combinations,
    g2_inverse,
    moore_penrose,
    null_space,
    sweep,
)

__all__ = ["find_linear_combinations", "g2_inverse", "moore_penrose", "null_space", "sweep"]
