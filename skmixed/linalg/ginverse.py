"""Generalised inverses, null spaces and linear dependencies of small dense matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skmixed.linalg.dependencies import minimum_norm, orthonormal_null_space, solve_upper
from skmixed.linalg.rank import independent_columns

# A pivot of a cross-product matrix scaled to unit diagonal is 1 - R^2 with an error of some eps;
# below this it counts as 0 (the columns agree to 6 digits, as X'X squares what X shows).
PIVOT_TOLERANCE = 1e-12
# Units in the last place, times the number of pivots, by which elements of A may be off.
PIVOT_ULPS = 4.0


def sweep(A, k=None, *, tol=None):
    """A swept on the pivots k in the order given, each once.

    Sweeping on pivot k with ``d = a_kk`` replaces row k by ``a_kj / d``, column k by
    ``-a_ik / d``, the pivot by ``1 / d`` and every other element by ``a_ij - a_ik a_kj / d``.
    It undoes itself, and sweeping ``[[X'X, X'y], [y'X, y'y]]`` on the columns of X gives
    ``[[G, b], [-b', SSE]]``: coefficients and the error sum of squares at once.

    Parameters
    ----------
    A : (p, p) array
        Floats, or an object array of ``fractions.Fraction`` for exact arithmetic.
    k : int or sequence of int, optional
        Pivots; all in column order by default, which gives the G2 inverse of a symmetric
        positive semidefinite A.
    tol : float, default 1e-12
        A pivot at most ``tol`` times the original diagonal element counts as 0: its row and
        column are set to 0.

    Returns
    -------
    (p, p) array

    Raises
    ------
    ValueError
        A is not a square matrix, or a pivot is not one of its rows.

    References
    ----------
    Goodnight (1979), A tutorial on the SWEEP operator, The American Statistician 33, 149-158.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.array([[100, 50, 20, 10], [50, 106, 46, 23], [20, 46, 56, 28], [10, 23, 28, 14]])
    >>> (sweep(A) @ [130, 776, 486, 243]).round(10)
    array([-3.,  7.,  4.,  0.])
    """
    A = _square(A, "sweep")
    pivots = range(len(A)) if k is None else np.atleast_1d(k).tolist()
    outside = [i for i in pivots if not 0 <= i < len(A)]
    if outside:
        raise ValueError(f"sweep: pivots must be rows 0 to {len(A) - 1} of A, got {outside}")
    S = np.array(A)
    size, swept = _sizes(A), np.zeros(len(A), dtype=bool)
    for i in pivots:
        if abs(S[i, i]) <= _least_pivot(S, swept, size, tol, i):
            S[i] = 0
            S[:, i] = 0
        else:
            _sweep_in_place(S, i)
            swept[i] = True
    return S


def g2_inverse(A, *, pivoting=False, tol=None):
    """The G2 inverse of a symmetric positive semidefinite matrix: ``AGA = A``, ``GAG = G``.

    Rows and columns are swept in order; those that depend on earlier ones are 0 in G, so that
    ``G X'y`` is the solution of the normal equations that PROC GLM prints.

    Parameters
    ----------
    A : (p, p) array
        Symmetric positive semidefinite, as X'WX is.
    pivoting : bool
        Take the largest remaining scaled pivot instead of the next one (rational sweep).
    tol : float, default 1e-12
        Relative size at which a pivot counts as 0.

    Returns
    -------
    (p, p) array

    Raises
    ------
    ValueError
        A is not symmetric, or not positive semidefinite.

    Examples
    --------
    >>> import numpy as np
    >>> g2_inverse(np.array([[4.0, 2.0], [2.0, 1.0]]))
    array([[0.25, 0.  ],
           [0.  , 0.  ]])
    """
    return _sweep_all(_symmetric(A, "g2_inverse"), pivoting, tol)[0]


def moore_penrose(A, *, tol=None):
    """The Moore-Penrose inverse (n, m) of A (m, n): the one that also makes AG and GA symmetric.

    With ``A = B C'``, B the independent columns of A, it is ``C (C'C)^-1 (B'B)^-1 B'``. The rank
    is decided column by column against each column's own size, so columns of size 1e9 and 1e-21
    both count; a singular value decomposition drops the smaller.

    Parameters
    ----------
    A : (m, n) array
    tol : float, default 1e-12
        See :func:`skmixed.linalg.rank.independent_columns`.

    Returns
    -------
    (n, m) array

    References
    ----------
    Penrose (1955), A generalized inverse for matrices, Math. Proc. Camb. Phil. Soc. 51, 406-413.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.array([[100, 50, 20, 10], [50, 106, 46, 23], [20, 46, 56, 28], [10, 23, 28, 14]])
    >>> (moore_penrose(A) @ [130, 776, 486, 243]).round(10)
    array([-3. ,  7. ,  3.2,  1.6])
    """
    A = _matrix(A, "moore_penrose")
    basis = independent_columns(A, tol=tol)
    if not basis.rank:
        return np.zeros(A.shape[::-1])
    B = A[:, basis.kept]
    scale = np.linalg.norm(B / np.abs(B).max(axis=0), axis=0) * np.abs(B).max(axis=0)
    Q, R = np.linalg.qr(B / scale)
    left = solve_upper(R, Q.T) / scale[:, None]
    return minimum_norm(basis.combinations, left)


def null_space(A, *, tol=None):
    """Orthonormal columns N (n, n - rank) with ``A N = 0``, as SAS/IML's HOMOGEN.

    The first non-zero element of every column is positive.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.array([[100, 50, 20, 10], [50, 106, 46, 23], [20, 46, 56, 28], [10, 23, 28, 14]])
    >>> null_space(A).T * np.sqrt(5)
    array([[ 0.,  0.,  1., -2.]])
    """
    basis = independent_columns(_matrix(A, "null_space"), tol=tol)
    return orthonormal_null_space(basis.kept, basis.aliased, basis.combinations)


@dataclass(frozen=True)
class LinearCombinations:
    """Groups of linearly dependent columns.

    Attributes
    ----------
    groups : list of lists
        In each the first column is the combination of the others with non-zero coefficients.
    remove : list
        Removing these leaves independent columns.
    coefficients : dict
        For every removed column the coefficients of the others: ``{"e": {"c": 2.0, "one": -1.0}}``.
    """

    groups: list
    remove: list
    coefficients: dict


def find_linear_combinations(X, *, tol=None) -> LinearCombinations:
    """Columns of X that are combinations of earlier ones, and which to remove.

    The answer has the form of caret's ``findLinearCombos``: groups of columns, each headed by
    the one to remove. If the first column is constant the others are centred before their sizes
    are compared, so a large shift does not hide them.

    Parameters
    ----------
    X : (n, p) array or DataFrame
        With a DataFrame columns are named, otherwise numbered from 0.
    tol : float, default 1e-12

    Returns
    -------
    LinearCombinations

    Examples
    --------
    >>> import numpy as np
    >>> c = np.array([1.0, 4.0, 2.0, 8.0])
    >>> find_linear_combinations(np.column_stack([np.ones(4), c, 2 * c - 1]))
    LinearCombinations(groups=[[2, 0, 1]], remove=[2], coefficients={2: {0: -1.0, 1: 2.0}})
    """
    names = list(getattr(X, "columns", range(np.shape(X)[1] if np.ndim(X) == 2 else 0)))
    A = _matrix(X, "find_linear_combinations")
    constant = A.size and A[0, 0] != 0 and (A[:, 0] == A[0, 0]).all()
    basis = independent_columns(A, intercept=0 if constant else None, tol=tol)
    coefficients = {}
    for j in np.flatnonzero(basis.aliased):
        row = basis.combinations[j]
        used = np.flatnonzero(row)
        coefficients[names[j]] = {names[basis.kept[i]]: float(row[i]) for i in used}
    groups = [[removed, *others] for removed, others in coefficients.items()]
    return LinearCombinations(groups, list(coefficients), coefficients)


def _sweep_all(A, pivoting, tol):
    """(G, aliased): every pivot that is not 0 swept once, rows of the others 0."""
    S, unit = _equilibrated(A)
    size = _sizes(S)
    waiting, aliased = list(range(len(A))), np.ones(len(A), dtype=bool)
    while waiting:
        i = max(waiting, key=lambda j: _relative(S[j, j], size[j])) if pivoting else waiting[0]
        waiting.remove(i)
        if S[i, i] > _least_pivot(S, ~aliased, size, tol, i):
            _sweep_in_place(S, i)
            aliased[i] = False
        else:
            _check_semidefinite(S, ~aliased, size, i, waiting)
    S[aliased] = 0
    S[:, aliased] = 0
    return S if unit is None else S / unit, aliased


def _equilibrated(A):
    """(A / unit with a diagonal near 1, unit): units are no business of pivots; fractions stay."""
    if A.dtype == object:
        return np.array(A), None
    size = _sizes(A)
    scale = np.ldexp(1.0, np.where(size > 0, np.frexp(size)[1], 0))
    unit = np.multiply.outer(scale, scale)
    return A / unit, unit


def _sizes(A):
    """Roots of the diagonal: the lengths of the columns of X if A is X'X."""
    return np.sqrt(np.abs(np.asarray(A.diagonal(), dtype=float)))


def _sweep_in_place(S, i):
    """One sweep; exact if S holds fractions."""
    pivot, column = S[i, i], S[:, i].copy()
    row = S[i] / pivot
    column[i] = 0
    S -= np.multiply.outer(column, row)
    S[i] = row
    S[:, i] = -column / pivot
    S[i, i] = 1 / pivot


def _least_pivot(S, swept, size, tol, i):
    """Pivot i counts as 0 up to here: exact zeros only for exact arithmetic."""
    if S.dtype == object:
        return 0
    least = (PIVOT_TOLERANCE if tol is None else tol) * size[i] ** 2
    return max(least, _rounding(S, swept, size, i) ** 2)


def _rounding(S, swept, size, i):
    """Root of what rounding of A can do to pivot i: ``v'Ev`` for errors E of A, where v are the
    coefficients that row i has on the rows swept, and 1 for itself."""
    length = size[i] + np.abs(S[swept, i]) @ size[swept]
    return length * np.sqrt(PIVOT_ULPS * (1 + swept.sum()) * np.finfo(float).eps)


def _relative(pivot, size):
    return float(pivot) / size**2 if size else 0.0


def _check_semidefinite(S, swept, size, i, waiting):
    """A semidefinite matrix has nothing left beside a zero pivot, and no negative one."""
    noise = np.zeros(len(S))
    if S.dtype != object:
        noise[[i, *waiting]] = [_rounding(S, swept, size, j) for j in (i, *waiting)]
    left = [j for j in waiting
            if abs(float(S[i, j])) > 1e-5 * size[i] * size[j] + noise[i] * noise[j]]  # fmt: skip
    if left or float(S[i, i]) < -1e-8 * size[i] ** 2 - noise[i] ** 2:
        raise ValueError(
            "g2_inverse needs a positive semidefinite matrix such as X'X, but after "
            f"elimination row {i} has pivot {float(S[i, i]):.3g} (in units of its diagonal) beside "
            "other non-zero elements; use moore_penrose(A) for other matrices"
        )


def _matrix(A, who):
    """A as a finite float matrix."""
    A = np.asarray(A)
    if A.ndim != 2:
        raise ValueError(f"{who} needs a matrix (2 dimensions), got shape {A.shape}")
    if A.dtype.kind not in "fiub" and not _is_exact(A):
        raise ValueError(f"{who} needs real numbers, got dtype {A.dtype}")
    A = A.astype(A.dtype if A.dtype.kind == "f" and A.dtype.itemsize <= 8 else np.float64)
    if not np.isfinite(A).all():
        row, column = np.argwhere(~np.isfinite(A))[0]
        raise ValueError(f"{who} needs finite numbers, got {A[row, column]} at [{row}, {column}]")
    return A


def _is_exact(A):
    return A.dtype == object and all(hasattr(v, "denominator") for v in A.flat)


def _square(A, who):
    """A as a finite square matrix of float64, or unchanged if it holds fractions."""
    A = np.asarray(A)
    if A.ndim != 2 or A.shape[0] != A.shape[1]:
        raise ValueError(f"{who} needs a square matrix, got shape {A.shape}")
    return A if _is_exact(A) else _matrix(A, who).astype(np.float64)


def _symmetric(A, who):
    A = _square(A, who)
    size = np.sqrt(np.abs(np.asarray(A.diagonal(), dtype=float)))
    gap = np.abs(np.asarray(A - A.T, dtype=float))
    if (gap > 1e-8 * np.multiply.outer(size, size)).any():
        i, j = np.unravel_index(np.argmax(gap), gap.shape)
        raise ValueError(
            f"{who} needs a symmetric matrix, but A[{i}, {j}] = {A[i, j]} and "
            f"A[{j}, {i}] = {A[j, i]}; use moore_penrose(A) for other matrices"
        )
    return A
