"""What is printed of marginal means: numbers as text, and sentences below them."""

from __future__ import annotations

import numpy as np

from skmixed.inference.numbers import column, common_decimals

_DDF = {
    "satterthwaite": "Satterthwaite",
    "kenward_roger": "Kenward-Roger",
    "residual": "residual",
    "asymptotic": "infinite (z tests)",
}
NO_DF = "No residual degrees of freedom are left: nothing can be tested."
_OWN_LIMITS = ("tukey", "dunnettx", "mvt", "scheffe", "bonferroni", "sidak")


def text_of(frame):
    """A table with numbers as text: estimates and their limits with the same decimals."""
    table = frame.copy()
    decimals = common_decimals(table["std_error"], 4)
    for name in table.columns:
        if name in ("estimate", "std_error", "lower", "upper"):
            table[name] = column(table[name], 5, decimals, missing=".")
        elif name in ("df", "t", "z"):
            text = column(table[name], decimals=2, missing=".")
            table[name] = np.where(np.isinf(table[name]), "inf", text)
    return table


def notes_of(means) -> tuple[str, ...]:
    """Sentences below the table of MarginalMeans."""
    found = [*means.remarks, f"Degrees of freedom: {_DDF[means.ddf]}. Confidence level: "
             f"{means.level:g}."]  # fmt: skip
    if means.adjust != "none" and max(map(len, means.families)) > 1:
        found.append(_about_adjustment(means))
    if means.scale == "response" and means.distribution is not None:
        found.append(f"Tests are on the {means.distribution.link.name} scale.")
    lost = int((~means.estimable).sum())
    if lost:
        verb = "is" if lost == 1 else "are"
        found.append(
            f"{lost} of {len(means.index)} rows {verb} not estimable: combinations of levels "
            "without data leave them undetermined."
        )
    if (means.frame["df"] <= 0).any():
        found.append(NO_DF)
    return (*found, *means.effects.notes(means.ddf))


def _about_adjustment(means):
    text = f"p-values and limits: {means.adjust}, families of {_span(map(len, means.families))}"
    if means.adjust == "tukey":
        text += f" pairs of {_span(means.n_means)} means"
    return text + ("." if means.adjust in _OWN_LIMITS else " (limits: bonferroni).")


def _span(numbers):
    """``3``, or ``3 to 5``."""
    least_and_most = sorted(set(numbers))
    return " to ".join(str(n) for n in dict.fromkeys((least_and_most[0], least_and_most[-1])))
