"""Formulas, random-effects terms and design matrices."""
