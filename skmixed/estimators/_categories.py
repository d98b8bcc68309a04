"""Empty, rare, constant and repeated categories: what RankDeficiencyTransformer does to factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``told`` marks what the warning mentions."""

    feature: str
    reason: str
    action: str
    combination: str
    told: bool = True


@dataclass(frozen=True)
class CategoryRule:
    """What happens to the values of a categorical column.

    kept: levels that stay, labels: their names in the output; other: the label of all other
    levels, None for missing; stand_in: other is an ordinary level, as the training data had no
    rare ones to join.
    """

    kept: tuple
    labels: tuple
    other: Any
    stand_in: bool = False

    def apply(self, values: pd.Categorical) -> pd.Categorical:
        """Values with the levels that stay and ``other``."""
        levels = list(self.labels)
        place = {level: k for k, level in enumerate(self.kept)}
        rest = -1 if self.other is None else len(levels)
        if self.other in levels:
            rest = levels.index(self.other)
        own = np.array([place.get(level, rest) for level in values.categories] + [-1])
        codes = own[values.codes]
        if rest == len(levels) and (codes == rest).any():  # no empty category in any output
            levels.append(self.other)
        return pd.Categorical.from_codes(codes, categories=levels)

    def unseen(self, values: pd.Categorical) -> list:
        """Levels that occur without being kept."""
        return [level for level in values.remove_unused_categories().categories
                if level not in self.kept]  # fmt: skip


@dataclass(frozen=True)
class Categories:
    """What stays of the categorical columns.

    kept: positions of the columns that stay; rules by column name; same: for a dropped column
    (None, its only level) or (the column it repeats, {level there: level here}).
    """

    kept: list[int]
    rules: dict[str, CategoryRule]
    same: dict[str, tuple]
    findings: list[Finding]


@dataclass(frozen=True)
class CategoryFinder:
    """The transformer's options that concern categories."""

    categories: str
    min_frequency: Any
    other_label: str
    constant: str
    dependent: str
    fit_intercept: bool

    def find(self, names, factors) -> Categories:
        """What stays of the categorical columns {position: Column}."""
        kept: list[int] = []
        rules, same, mapped, findings = {}, {}, {}, []
        for j, column in factors.items():
            name = names[j]
            rule = self._rule(name, column, findings)
            if rule is not None:
                rules[name] = rule
            values = column.values if rule is None else rule.apply(column.values)
            mapped[j] = values
            if not self._repeats(name, values, {names[k]: mapped[k] for k in kept}, same, findings):
                kept.append(j)
        return Categories(kept, rules, same, findings)

    def _rule(self, name, column, findings):
        values = column.values
        counts = np.bincount(values.codes[values.codes >= 0], minlength=len(values.categories))
        rare = (counts > 0) & (counts < self._least(len(values)))
        empty = [values.categories[k] for k in np.flatnonzero(counts == 0)]
        few = [values.categories[k] for k in np.flatnonzero(rare)]
        keep = self.categories == "keep"
        if empty:
            text = f"no rows in {_listed(empty)}"
            action = "kept" if keep else "categories removed"
            findings.append(Finding(name, "empty categories", action, text, not keep))
        if few:
            counted = [f"{level} ({count})" for level, count in zip(few, counts[rare], strict=True)]
            actions = {"keep": "kept", "drop": "set to missing"}
            action = actions.get(self.categories, f"merged into {self.other_label!r}")
            findings.append(
                Finding(name, "rare categories", action, _listed(counted, str), not keep)
            )
        if keep:
            return None
        stay = (counts > 0) & ~rare
        return self._mapping(values.categories[stay].tolist(), counts[stay], bool(few))

    def _mapping(self, kept, counts, merged):
        """The rule for the levels kept and whether others of the training data are merged."""
        if self.categories == "drop" or not (kept or merged):
            return CategoryRule(tuple(kept), tuple(kept), None)
        if not merged and self.other_label not in kept:
            # A label that the training data never had is one that no later step knows.
            return CategoryRule(tuple(kept), tuple(kept), kept[np.argmax(counts)], stand_in=True)
        # Encoders take text or numbers, not both.
        text = all(isinstance(level, str) for level in kept)
        return CategoryRule(tuple(kept), tuple(kept if text else map(str, kept)), self.other_label)

    def _least(self, n):
        if self.min_frequency is None:
            return 0
        return self.min_frequency * (n if isinstance(self.min_frequency, float) else 1)

    def _repeats(self, name, values, earlier, same, findings):
        """Whether a categorical column has one level, or the same groups as an earlier one."""
        codes = values.codes
        used = np.unique(codes)
        if used.size == 1 and used[0] >= 0 and self.fit_intercept:
            level = values.categories[used[0]]
            action = "dropped" if self.constant == "drop" else "kept"
            findings.append(
                Finding(name, "constant", action, f"always {level!r}", self.constant != "keep")
            )
            same[name] = (None, level)
            return self.constant == "drop"
        for other, first in earlier.items():
            labels = _relabelling(first, values)
            if labels is not None:
                action = "kept" if self.dependent == "warn" else "dropped"
                findings.append(
                    Finding(name, "duplicate", action, f"{name} has the same groups as {other}")
                )
                same[name] = (other, labels)
                return self.dependent != "warn"
        return False


def _relabelling(first, second):
    """{level of first: level of second} if both make the same groups, else None."""
    pairs = {*zip(first.codes.tolist(), second.codes.tolist(), strict=True)}
    left, right = {a for a, _ in pairs}, {b for _, b in pairs}
    if not len(pairs) == len(left) == len(right) or -1 in left or -1 in right:
        return None
    return {first.categories[a]: second.categories[b] for a, b in pairs}


def _listed(values, show=repr):
    return ", ".join(map(show, values[:10])) + (", ..." if len(values) > 10 else "")
