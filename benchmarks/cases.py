"""The models that are timed and the data they are fitted to."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.crossed import grade_codes
from skmixed import datasets


@dataclass(frozen=True)
class Case:
    """A mixed model and its data.

    `repeats` fits of a package follow each other in every round; packages in `slow` take minutes
    on this case and run only when asked for. `trials` names the column of trials of a proportion,
    `formula_in_r` what R writes instead.
    """

    name: str
    formula: str
    data: Callable[[], pd.DataFrame]
    size: str
    repeats: int = 1
    slow: frozenset[str] = frozenset()
    family: str = "gaussian"
    trials: str | None = None
    formula_in_r: str | None = None


def _factor(codes, n_levels):
    """Categorical column with levels "1", "2", ..., all of them declared."""
    return pd.Categorical.from_codes(codes, [str(k + 1) for k in range(n_levels)])


def _random_intercepts(rng, sd, codes, n_levels):
    return rng.normal(0, sd, n_levels)[codes]


def many_groups(seed=1, n_groups=125_000):
    """Groups of two to six rows, a three-level and a four-level factor."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_groups), rng.integers(2, 7, n_groups))
    n = len(g)
    a, b = rng.integers(0, 3, n), rng.integers(0, 4, n)
    y = np.array([0, 0.5, 1.0])[a] + np.array([0, -0.3, 0.2, 0.4])[b]
    y = y + _random_intercepts(rng, 0.7, g, n_groups) + rng.normal(size=n)
    return pd.DataFrame({"y": y, "a": _factor(a, 3), "b": _factor(b, 4), "g": _factor(g, n_groups)})


def many_slopes(seed=2, n_groups=50_000, n_per_group=10):
    """Random intercepts and slopes in many groups of equal size."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_groups), n_per_group)
    x = rng.normal(size=len(g))
    b = rng.multivariate_normal([0, 0], [[0.6, 0.15], [0.15, 0.2]], n_groups)[g]
    y = 1 + b[:, 0] + (0.5 + b[:, 1]) * x + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": _factor(g, n_groups)})


def maximal(seed=3, n_subjects=60, n_items=40, *, rotated=False):
    """A psycholinguistic experiment: 2 x 2 x 2 conditions vary within subjects and within items.

    Every subject meets every item in all eight conditions; or, `rotated`, once, in conditions that
    take turns over subjects and items (a Latin square). The latter supports fewer than the 72
    covariance parameters of the maximal model: its optimum is singular. Factors are coded -1/2
    and 1/2.
    """
    rng = np.random.default_rng(seed)
    subject, item, cell = np.indices((n_subjects, n_items, 8)).reshape(3, -1)
    if rotated:
        subject, item, cell = (c[cell == (subject + item) % 8] for c in (subject, item, cell))
    a, b, c = ((cell >> shift & 1) - 0.5 for shift in range(3))
    X = np.column_stack([np.ones_like(a), a, b, a * b, c, a * c, b * c, a * b * c])
    y = X @ rng.normal(0, 0.5, 8) + rng.normal(size=len(cell))
    for codes, n_levels in ((subject, n_subjects), (item, n_items)):
        T = np.tril(rng.normal(0, 0.15, (8, 8)), -1) + 0.5 * np.eye(8)
        y += np.einsum("ij,ij->i", X, (rng.normal(size=(n_levels, 8)) @ T.T)[codes])
    groups = {"subject": _factor(subject, n_subjects), "item": _factor(item, n_items)}
    return pd.DataFrame({"y": y, "a": a, "b": b, "c": c, **groups})


def grades(seed=4, n_rows=1_685_394, n_students=54_711, n_instructors=7_915, n_departments=102):
    """Grade points over ten years at a state university, simulated.

    The sizes are those of the data D. Bates described when he gave their matrix to the
    University of Florida sparse matrix collection (Bates/sls); the variances are close to his
    estimates: students 0.31, instructors 0.08, departments 0.09, residual 0.40.
    """
    rng = np.random.default_rng(seed)
    student, instructor, department = grade_codes(
        rng, n_rows, n_students, n_instructors, n_departments
    )
    y = 3.2 + rng.normal(0, np.sqrt(0.40), n_rows)
    y += _random_intercepts(rng, np.sqrt(0.31), student, n_students)
    y += _random_intercepts(rng, np.sqrt(0.08), instructor, n_instructors)
    y += _random_intercepts(rng, np.sqrt(0.09), department, n_departments)
    return pd.DataFrame(
        {
            "y": y,
            "student": _factor(student, n_students),
            "instructor": _factor(instructor, n_instructors),
            "department": _factor(department, n_departments),
        }
    )


def _bundled(name):
    return lambda: getattr(datasets, f"load_{name}")().frame


_MAXIMAL = "y ~ a * b * c + (a * b * c | subject) + (a * b * c | item)"

_MINUTES = frozenset({"lme4", "mixedlm", "gpboost"})

CASES = [
    Case(
        "sleepstudy", "Reaction ~ Days + (Days | Subject)", _bundled("sleepstudy"), "180 rows", 20
    ),
    Case(
        "penicillin",
        "diameter ~ 1 + (1 | plate) + (1 | sample)",
        _bundled("penicillin"),
        "144 rows",
        20,
    ),
    Case("pastes", "strength ~ 1 + (1 | batch) + (1 | sample)", _bundled("pastes"), "60 rows", 20),
    Case(
        "machines",
        "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)",
        _bundled("machines"),
        "54 rows",
        20,
    ),
    Case(
        "machines_vector",
        "score ~ Machine + (0 + Machine | Worker)",
        _bundled("machines"),
        "54 rows",
        20,
    ),
    Case(
        "scotssec",
        "attain ~ verbal + sex + (1 | primary) + (verbal | second)",
        _bundled("scotssec"),
        "3,435 rows",
        5,
    ),
    Case(
        "insteval",
        "y ~ 1 + (1 | s) + (1 | d) + (1 | dept)",
        _bundled("insteval"),
        "73,421 rows",
        2,
        frozenset({"lme4"}),
    ),
    Case("many_groups", "y ~ a + b + (1 | g)", many_groups, "499,996 rows", 2),
    Case("many_slopes", "y ~ x + (x | g)", many_slopes, "500,000 rows", 2),
    Case("maximal", _MAXIMAL, maximal, "19,200 rows", slow=_MINUTES),
    Case(
        "maximal_rotated",
        _MAXIMAL,
        lambda: maximal(rotated=True),
        "2,400 rows",
        slow=_MINUTES,
    ),
    Case(
        "grades",
        "y ~ 1 + (1 | student) + (1 | instructor) + (1 | department)",
        grades,
        "1,685,394 rows",
        slow=_MINUTES,
    ),
]
