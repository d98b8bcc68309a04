"""Simulated data with large crossed grouping factors: ratings of items by users, and grades.

Ratings have the shape of the MovieLens 25M ratings (long-tailed, every user and item once or more,
a user rates an item at most once), or of a tenth and a hundredth of them. Grades are of students
by instructors by departments. The seed determines everything.
"""

import numpy as np
import pandas as pd

SHAPES = {
    "movielens25m": (25_000_095, 162_541, 59_047),
    "movielens2.5m": (2_500_000, 51_400, 18_672),
    "movielens250k": (250_000, 8_126, 4_500),
}


def rating_pairs(rng, n_rows, n_users, n_items, *, affinity=0.0, n_clusters=20):
    """Distinct (user, item) codes, sorted by user.

    Users have 20 rows and a lognormal excess (median about half the mean), items a lognormal
    popularity whose median is about a seventieth of its mean. With ``affinity`` a user draws that
    share of items from a cluster of their own, which makes the graph of users and items harder to
    cross.
    """
    least = min(20, n_rows // (2 * n_users))
    counts = rng.lognormal(0.0, 1.25, n_users)
    counts = np.minimum(counts / counts.sum() * (n_rows - least * n_users), n_items / 4)
    counts = (least + counts) / (least + counts).sum()
    popularity = np.minimum(rng.lognormal(0.0, 2.9, n_items), np.exp(2.9 * 2.5))
    cluster_of_item = rng.permutation(n_items) % n_clusters
    cluster_of_user = rng.integers(0, n_clusters, n_users)
    order = np.argsort(cluster_of_item, kind="stable")
    cumulated = np.cumsum(popularity[order])
    edges = np.append(0.0, cumulated)[np.searchsorted(cluster_of_item[order],
                                                      np.arange(n_clusters + 1))]  # fmt: skip
    keys = rng.integers(0, n_users, n_items) * np.int64(n_items) + np.arange(n_items)
    users_once = np.arange(n_users)  # every user and every item occurs
    keys = np.union1d(keys, users_once * np.int64(n_items) + rng.integers(0, n_items, n_users))
    of_user, accepted = np.cumsum(counts), 0.8
    while len(keys) < n_rows:
        missing = n_rows - len(keys)
        drawn = int(1.02 * missing / accepted) + 100
        user = np.searchsorted(of_user, rng.random(drawn)).clip(0, n_users - 1)
        own = rng.random(drawn) < affinity
        low = np.where(own, edges[cluster_of_user[user]], 0.0)
        high = np.where(own, edges[cluster_of_user[user] + 1], cumulated[-1])
        at = np.searchsorted(cumulated, low + (high - low) * rng.random(drawn))
        fresh = np.unique(user * np.int64(n_items) + order[at.clip(0, n_items - 1)])
        place = np.searchsorted(keys, fresh).clip(0, len(keys) - 1)
        fresh = fresh[keys[place] != fresh]
        accepted = max(0.05, len(fresh) / drawn)
        if len(fresh) > missing:
            fresh = np.sort(rng.choice(fresh, missing, replace=False))
        keys = np.sort(np.concatenate([keys, fresh]), kind="stable")
    user, item = np.divmod(keys, n_items)
    return user.astype(np.int32), item.astype(np.int32)


def grade_codes(rng, n_rows=1_685_394, n_students=54_711, n_instructors=7_915, n_departments=102):
    """Student, instructor and department codes: half of a student's courses are in a major, one
    course in twenty counts for another department than its instructor's."""
    home = np.sort(np.resize(np.arange(n_departments), n_instructors))
    first = np.searchsorted(home, np.arange(n_departments + 1))
    student = rng.integers(0, n_students, n_rows)
    instructor = rng.integers(0, n_instructors, n_rows)
    major = rng.integers(0, n_departments, n_students)[student]
    in_major = first[major] + rng.integers(0, np.diff(first)[major])
    instructor = np.where(rng.random(n_rows) < 0.5, in_major, instructor)
    # Every student and every instructor occurs.
    student[:n_students] = np.arange(n_students)
    instructor[-n_instructors:] = np.arange(n_instructors)
    elsewhere = rng.integers(0, n_departments, n_rows)
    department = np.where(rng.random(n_rows) < 0.05, elsewhere, home[instructor])
    return [c.astype(np.int32) for c in (student, instructor, department)]


def simulate(shape, *, seed=0, sigmas=None, residual=None, n_fixed=1, slope=False, third=0,
             affinity=0.0, scale=1.0):  # fmt: skip
    """Data of one shape as a dict of arrays.

    Parameters
    ----------
    shape : key of SHAPES, "grades", or (n_rows, n_users, n_items)
    sigmas : sequence of float
        Standard deviation of the intercepts of each factor.
    residual : float
    n_fixed : int
        Columns of X: the constant and standard normal covariates.
    slope : bool
        The first covariate has a random slope (standard deviation 0.3) by users too, correlated
        0.4 with the intercept; its effect on X needs n_fixed >= 2.
    third : int
        Levels of a third factor crossed with both others (long-tailed); 0 for none.
    affinity, scale : float
        See rating_pairs; a factor on all sizes.
    """
    rng = np.random.default_rng(seed)
    if shape == "grades":
        sizes = [max(3, round(scale * s)) for s in (1_685_394, 54_711, 7_915, 102)]
        codes, names = grade_codes(rng, *sizes), ["student", "instructor", "department"]
        sigmas = sigmas or np.sqrt([0.31, 0.08, 0.09])
        residual = residual or np.sqrt(0.40)
    else:
        sizes = SHAPES[shape] if isinstance(shape, str) else shape
        codes = list(rating_pairs(rng, *(round(scale * s) for s in sizes), affinity=affinity))
        names = ["user", "item"]
        sigmas, residual = sigmas or [0.43, 0.49, 0.2], residual or 0.85
    n = len(codes[0])
    if third:
        weight = np.cumsum(rng.lognormal(0.0, 1.0, third))
        drawn = np.searchsorted(weight, weight[-1] * rng.random(n)).clip(0, third - 1)
        drawn[rng.choice(n, third, replace=False)] = np.arange(third)
        codes.append(drawn.astype(np.int32))
        names.append("context")
    X = np.ones((n, n_fixed))
    X[:, 1:] = rng.standard_normal((n, n_fixed - 1))
    y = 3.5 + X[:, 1:] @ (0.1 * np.cos(np.arange(1, n_fixed))) + rng.normal(0, residual, n)
    for k, code in enumerate(codes):
        n_levels = int(code.max()) + 1
        b = rng.normal(0, sigmas[k], n_levels)
        y += b[code]
        if slope and k == 0:
            b = 0.3 * (0.4 * b / sigmas[k] + np.sqrt(1 - 0.16) * rng.standard_normal(n_levels))
            y += b[code] * X[:, 1]
    data = {"y": y, "X": X, "sigmas": np.array(sigmas[: len(codes)]), "residual": residual}
    return data | dict(zip(names, codes, strict=True))


def crossed_frame(shape, *, brands=0, logistic=False, **settings):
    """DataFrame of :func:`simulate`, with items in so many brands if there are any.

    ``logistic``: y is 0 or 1, and what it would be without a residual the linear predictor, around
    an even chance.
    """
    if logistic:
        settings = {"residual": 1e-9, "sigmas": [0.6, 0.8, 0.4], **settings}
    data = simulate(shape, **settings)
    X = data.pop("X")
    codes = {name: x for name, x in data.items() if name not in ("y", "sigmas", "residual")}
    frame = pd.DataFrame({"y": data["y"], **codes})
    for j in range(1, X.shape[1]):
        frame[f"x{j}"] = X[:, j]
    if brands:
        rng = np.random.default_rng(1)
        of_item = rng.integers(0, brands, frame["item"].max() + 1)
        frame["brand"] = of_item[frame["item"]].astype(np.int32)
        frame["y"] += rng.normal(0.0, 0.3, brands)[frame["brand"]]
    if logistic:
        chance = 1.0 / (1.0 + np.exp(3.5 - frame["y"]))
        frame["y"] = (np.random.default_rng(2).random(len(frame)) < chance).astype(np.int8)
    return frame
