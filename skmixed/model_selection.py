"""Cross-validation by groups: new rows of known groups, or new groups."""

from __future__ import annotations

import warnings
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.model_selection import BaseCrossValidator, cross_validate
from sklearn.utils import check_random_state

from skmixed.exceptions import UnseenGroupsWarning


class _GroupsKFold(BaseCrossValidator):
    """Folds by the levels of a grouping factor, a column of X by name or ``groups=`` of split."""

    __metadata_request__split = {"groups": True}  # noqa: RUF012

    def __init__(self, groups=None, n_splits=5, *, random_state=0):
        self.groups = groups
        self.n_splits = n_splits
        self.random_state = random_state

    def __repr__(self):
        given = f"{self.groups!r}, n_splits={self.n_splits}, random_state={self.random_state}"
        return f"{type(self).__name__}({given})"

    def get_n_splits(self, X=None, y=None, groups=None):
        """Number of folds.

        Parameters
        ----------
        X, y, groups : ignored

        Returns
        -------
        int
        """
        return self.n_splits

    def _iter_test_indices(self, X=None, y=None, groups=None):
        folds = self._folds(self._codes(X, groups), check_random_state(self.random_state))
        for k in range(self.n_splits):
            yield np.flatnonzero(folds == k)

    def _codes(self, X, groups):
        """Codes (n,) of the levels, -1 where the level is missing."""
        who = type(self).__name__
        if not isinstance(self.n_splits, Integral) or self.n_splits < 2:
            raise ValueError(f"{who}: n_splits must be an integer from 2 on, got {self.n_splits!r}")
        if groups is None and self.groups is not None:
            if self.groups not in getattr(X, "columns", ()):
                raise ValueError(f"{who}: X has no column {self.groups!r} to take the groups from")
            groups = X[self.groups]
        if groups is None:
            raise ValueError(
                f"{who} needs the groups: name their column, {who}('school'), or give groups="
            )
        if np.ndim(groups) != 1:
            raise ValueError(
                f"{who}: the groups are one column of X or one level for every row, got an array "
                f"of shape {np.shape(groups)}: join columns, as in X.school + ':' + X.class_"
            )
        return pd.factorize(np.asarray(groups, dtype=object), use_na_sentinel=True)[0]

    def _folds(self, codes, rng):
        """The fold (n,) of every row, -1 for rows that are never tested."""
        raise NotImplementedError


class KnownGroupsKFold(_GroupsKFold):
    """K folds of new rows of known groups.

    The rows of every group are dealt out to the folds, so that each tested row has others of its
    group among the training rows. Groups of one row, and rows without group, always train.

    Parameters
    ----------
    groups : str, optional
        The column of X that holds the groups; without it ``groups=`` is given to the
        cross-validation.
    n_splits : int, default 5
    random_state : int, RandomState or None, default 0
        Which rows of a group go to which fold.

    See Also
    --------
    NewGroupsKFold : whole groups are left out.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmixed.model_selection import KnownGroupsKFold
    >>> X = pd.DataFrame({"school": list("aaabbbc")})
    >>> for train, test in KnownGroupsKFold("school", n_splits=3).split(X):
    ...     print("".join(X.school[train]), "|", "".join(X.school[test]))
    aabbc | ab
    aabbc | ab
    aabbc | ab
    """

    def _folds(self, codes, rng):
        sizes = np.bincount(codes[codes >= 0], minlength=1)
        if not (sizes > 1).any():
            raise ValueError(
                f"{type(self).__name__}: no group has two rows, so that no row could be tested "
                "with its group known: use NewGroupsKFold"
            )
        tested = rng.permutation(np.flatnonzero((codes >= 0) & (sizes[codes] > 1)))
        if len(tested) < self.n_splits:
            raise ValueError(
                f"{type(self).__name__}: n_splits={self.n_splits} folds need as many rows with "
                f"others of their group, and there are {len(tested)}"
            )
        tested = tested[np.argsort(codes[tested], kind="stable")]
        folds = np.full(len(codes), -1)
        folds[tested] = np.arange(len(tested)) % self.n_splits
        return folds


class NewGroupsKFold(_GroupsKFold):
    """K folds of new groups.

    The rows of a group are tested together, and trained on together: every tested group is one
    that the model has not seen. Folds have about as many rows. Rows without group always train.

    Parameters
    ----------
    groups : str, optional
        The column of X that holds the groups; without it ``groups=`` is given to the
        cross-validation.
    n_splits : int, default 5
    random_state : int, RandomState or None, default 0
        Which groups go to which fold.

    See Also
    --------
    KnownGroupsKFold : every tested row has others of its group among the training rows.
    sklearn.model_selection.GroupKFold

    Examples
    --------
    >>> import pandas as pd
    >>> from skmixed.model_selection import NewGroupsKFold
    >>> X = pd.DataFrame({"school": list("aabbcc")})
    >>> for train, test in NewGroupsKFold("school", n_splits=3).split(X):
    ...     print("".join(X.school[train]), "|", "".join(X.school[test]))
    aabb | cc
    aacc | bb
    bbcc | aa
    """

    def _folds(self, codes, rng):
        sizes = np.bincount(codes[codes >= 0], minlength=1)
        if len(sizes) < self.n_splits:
            raise ValueError(
                f"{type(self).__name__}: n_splits={self.n_splits} folds need as many groups, and "
                f"there are {len(sizes)}"
            )
        order = rng.permutation(len(sizes))
        order = order[np.argsort(-sizes[order], kind="stable")]
        fold, rows = np.zeros(len(sizes) + 1, dtype=np.intp), np.zeros(self.n_splits)
        for level in order:
            fold[level] = np.argmin(rows)
            rows[fold[level]] += sizes[level]
        fold[-1] = -1
        return fold[codes]


_SPLITTERS = {"known": KnownGroupsKFold, "new": NewGroupsKFold}


def cross_validate_groups(
    model, X, y=None, *, groups, kind=("known", "new"), n_splits=5, scoring=None, n_jobs=None,
    random_state=0,
):  # fmt: skip
    """Scores for new rows of known groups, and for rows of new groups.

    The two answer different questions, and the first is the higher one wherever groups differ. A
    model is judged by that of the rows that it will meet.

    Parameters
    ----------
    model : estimator
        A mixed model whose formula names the grouping factor, or a pipeline or search with one.
    X : DataFrame of n rows
    y : (n,), optional
        Left out where the formula names the response.
    groups : str or (n,)
        The grouping factor: a column of X, or its levels.
    kind : {"known", "new"} or a sequence of them
    n_splits : int, default 5
    scoring : str or callable, optional
        One score, as for :func:`sklearn.model_selection.cross_validate`; by default the model's
        ``score``. Scores by name compare with ``y``, which they need.
    n_jobs : int, optional
        Processes for the fits.
    random_state : int, RandomState or None, default 0
        Of the folds.

    Returns
    -------
    DataFrame of shape (kinds, 2 + n_splits)
        Mean and standard deviation of the scores, and the score of every fold.

    Raises
    ------
    ValueError
        For a kind that there is not, groups that X does not have, too few groups, several scores,
        and a score by name without y.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.model_selection import cross_validate_groups
    >>> sleep = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)")
    >>> cross_validate_groups(model, sleep, groups="Subject")[["mean", "std"]].round(2)
            mean   std
    groups
    known   0.72  0.11
    new     0.15  0.27
    """
    kinds = [kind] if isinstance(kind, str) else list(kind)
    for name in kinds:
        if name not in _SPLITTERS:
            raise ValueError(f"kind must be 'known' or 'new', got {name!r}")
    _check_scoring(scoring, y)
    column, labels = (groups, None) if isinstance(groups, str) else (None, groups)
    scores = {}
    for name in kinds:
        folds = _SPLITTERS[name](column, n_splits, random_state=random_state)
        with warnings.catch_warnings():
            if name == "new":  # they are meant to be
                warnings.simplefilter("ignore", UnseenGroupsWarning)
            found = cross_validate(
                model,
                X,
                y,
                cv=list(folds.split(X, y, labels)),
                scoring=scoring,
                n_jobs=n_jobs,
                error_score="raise",
            )
        scores[name] = found["test_score"]
    table = pd.DataFrame.from_dict(
        scores, orient="index", columns=[f"fold {k + 1}" for k in range(n_splits)]
    )
    table.insert(0, "mean", table.mean(axis=1))
    table.insert(1, "std", np.std(np.array(list(scores.values())), axis=1, ddof=1))
    return table.rename_axis("groups")


def _check_scoring(scoring, y):
    """One score; those by name compare predictions with y."""
    if not (scoring is None or isinstance(scoring, str) or callable(scoring)):
        raise ValueError(f"scoring is one score, by name or as a function, got {scoring!r}")
    if isinstance(scoring, str) and y is None:
        raise ValueError(
            f"scoring={scoring!r} compares with y, which was not given: pass X and y, with a "
            "formula that names no response, as in 'x + (1 | g)', or leave scoring out"
        )


__all__ = ["KnownGroupsKFold", "NewGroupsKFold", "cross_validate_groups"]
