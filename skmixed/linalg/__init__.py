"""Generalised inverses, rank decisions and structured factorisations."""
