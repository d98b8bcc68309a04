"""The data of a generalised mixed model as they are, whether or not it can be fitted to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skmixed.inference.advice import Findings
from skmixed.inference.attempts import Given, quoted, raw_outcomes
from skmixed.inference.clusters import unshared
from skmixed.inference.fixed_effects import combination_text
from skmixed.inference.outcomes import LevelOutcomes
from skmixed.linalg.rank import independent_columns
from skmixed.models.separation import Separation, one_sided_groups


@dataclass
class DataStudy:
    """What the data are; parts are looked at in turn, and what failed is told in ``failures``.

    Attributes
    ----------
    given : Given
    rng : Generator
    failures : list of (part, reason)
    design, basis, problem : Design, ColumnBasis, Problem or None
    response : (y, trials) or None
    cluster : RandomTerm or None
        Of the factor whose levels contain whole levels of all others.
    found : Findings
    """

    given: Given
    rng: Any
    failures: list = field(default_factory=list)
    design: Any = None
    basis: Any = None
    problem: Any = None
    cluster: Any = None
    found: Findings = field(default_factory=Findings)
    response: tuple | None = None
    _labels: Any = None

    def tried(self, part, function, *args):
        """What a function returns, None where it fails."""
        try:
            return function(*args)
        except Exception as error:  # whatever it is: one part must not stop the others
            self.failures.append((part, quoted(error)))
            return None

    def look_at_data(self):
        """Design, response, dependent columns, clusters and separation."""
        self.design = self._readable_design()
        if self.design is None:
            return
        tried = self.tried("the response", self.given.having(n_agq=1).problem)
        if tried is not None:
            self.design, outcome, self.problem = tried
            self.response, self.found.has_problem = (outcome.y, outcome.trials), True
        else:
            self.response = self.tried(
                "the outcomes", raw_outcomes, self.design, self._labels, self.binary
            )
        self._find_dependent_columns()
        self._count_outcomes()
        self._find_separation()

    def _readable_design(self):
        tried = self.tried("the data", self.given.design)
        if tried is None and self.given.model.missing == "raise":
            told = len(self.failures)
            self.given = self.given.having(missing="drop")
            tried = self.tried("the data without missing values", self.given.design)
            self.found.dropped_missing = tried is not None
            if self.failures[told:] and self.failures[told][1] == self.failures[told - 1][1]:
                del self.failures[told:]  # it was not the missing values
        if tried is None:
            return None
        self._labels = tried[1]
        return tried[0]

    @property
    def binary(self):
        return self.family.name == "binomial"

    @property
    def family(self):
        return self.given.model._own_family()

    @property
    def counts(self):
        counts = self.design.frequencies
        return np.ones(len(self.design.X)) if counts is None else counts

    @property
    def grouped(self):
        """The terms of grouping factors: smooth functions are fixed effects to users."""
        return tuple(term for term in self.design.random if term.structure != "smooth")

    def _find_dependent_columns(self):
        design, names = self.design, self.design.names
        self.basis = independent_columns(design.X, design.frequencies, design.intercept)
        kept = [names[k] for k in self.basis.kept]
        self.found.combinations = {
            names[j]: combination_text(self.basis.combinations[j], kept)
            for j in np.flatnonzero(self.basis.aliased)
        }
        if self.found.combinations and self.given.model.rank_deficient == "raise":
            text = "; ".join(f"{name} = {of}" for name, of in self.found.combinations.items())
            self.failures.append(("rank_deficient='raise'", text))
            self.given = self.given.having(rank_deficient="drop")

    def _count_outcomes(self):
        terms = {t.group: t for t in self.grouped if t.relationship is None}
        self.found.related = len(terms) < len({t.group for t in self.grouped})
        if self.response is not None:
            y, trials = self.response
            self.found.levels = [
                LevelOutcomes.of(term, y, trials, self.counts, binary=self.binary)
                for term in terms.values()
            ]
            self.found.events = _rarer(y, trials, self.counts) if self.binary else None
        whole = [t for t in terms.values() if not unshared(self.grouped, t.codes)]
        self.cluster = None if self.found.related or not whole else whole[0]

    def _find_separation(self):
        if self.problem is None:
            return
        limit = self.tried("the search for separation", Separation.find, self.problem, self.design)
        if limit is not None:
            self.found.separating = limit.names()
            self.found.unbounded = [self.design.names[j] for j in limit.unbounded_columns]
        groups = list(dict.fromkeys(term.group for term in self.design.random))
        sided = one_sided_groups(self.problem.objective.rows)
        grouped = {term.group for term in self.grouped}
        self.found.one_sided = [groups[g] for g in sided if groups[g] in grouped]


def _rarer(y, trials, counts):
    """Number of outcomes of the rarer kind."""
    successes, total = counts @ y, counts @ trials
    return float(min(successes, total - successes))
