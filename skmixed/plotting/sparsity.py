"""The sparse matrices of a mixed model as pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from skmixed.plotting._panels import choose_group, panels
from skmixed.plotting._rows import opens_pipelines, random_terms_of, weights_of
from skmixed.plotting._style import MIXED, accent, background

# A dense factor of this order takes 200 MB.
MAX_EFFECTS = 5000
# Larger matrices are drawn by density, one pixel for many entries.
MAX_PIXELS = 300


@dataclass(frozen=True)
class Pattern:
    """Where a matrix has entries: name, shape, coordinates, and what to say about them."""

    name: str
    matrix: sparse.coo_matrix
    note: str = ""

    def image(self):
        """Entries as an image of at most MAX_PIXELS a side: 1 full, 0 empty."""
        shape = np.array(self.matrix.shape)
        pixels = np.minimum(shape, MAX_PIXELS)
        rows, columns = self.matrix.row, self.matrix.col
        counts, *_ = np.histogram2d(
            rows, columns, bins=pixels, range=[[-0.5, shape[0] - 0.5], [-0.5, shape[1] - 0.5]]
        )
        # Lone entries must not vanish between many empty ones.
        cells = np.prod(shape / pixels)
        return np.where(counts > 0, np.maximum(counts / cells, 0.35), 0.0)


class SparsityDisplay:
    """Patterns of the matrices behind a fit: Z', Lambda, A = Lambda'Z'Z Lambda + I, its factor L.

    Random effects stand in the order in which they are eliminated, ``expand().P``, which keeps
    the factor sparse: where the grouping factors are nested L has no entry that A has not, where
    they are crossed it fills in. The patterns of a generalised model are the same; its iterated
    weights are left out.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    patterns : list of Pattern

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One per matrix; ``ax_`` is the first.
    images_ : list of AxesImage

    References
    ----------
    Bates, Maechler, Bolker and Walker (2015), Journal of Statistical Software 67(1), section 3.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_penicillin
    >>> from skmixed.plotting import SparsityDisplay
    >>> df = load_penicillin().frame
    >>> model = MixedLinearRegressor("diameter ~ 1 + (1 | plate) + (1 | sample)").fit(df)
    >>> display = SparsityDisplay.from_estimator(model, df)
    >>> [pattern.matrix.shape for pattern in display.patterns]
    [(30, 144), (30, 30), (30, 30), (30, 30)]
    """

    def __init__(self, patterns):
        self.patterns = patterns

    @classmethod
    @opens_pipelines
    def from_estimator(cls, estimator, X, *, ax=None, **kwargs):
        """Plot the matrices of a fitted mixed model.

        Parameters
        ----------
        estimator : fitted mixed model
        X : DataFrame or array of n rows
            The training rows, which the estimator does not keep.
        ax : Axes or array of four Axes, optional
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        SparsityDisplay
        """
        choose_group(estimator, None)
        if any(term.loadings is not None for term in estimator.result_.layout.terms):
            raise ValueError(
                "SparsityDisplay shows the zeros of factors of independent levels: those of "
                "related levels, as relationship makes them, have none"
            )
        factors = estimator.expand()
        q = factors.T.shape[0]
        if q > MAX_EFFECTS:
            raise ValueError(
                f"the model has {q:,} random effects and the picture needs a dense factor: "
                f"{MAX_EFFECTS:,} are the most. Fit a subset of the levels to look at the pattern"
            )
        terms, rows = random_terms_of(estimator, X)
        P = factors.P.tocsr()
        Zt = (P @ _transposed_z(terms)).tocsr()
        Lambda = (P @ factors.T @ factors.S @ P.T).tocsr()
        half = Lambda.T @ Zt @ sparse.diags(np.sqrt(weights_of(estimator, X)[rows]))
        A = (half @ half.T + sparse.identity(q)).tocsr()
        L = np.linalg.cholesky(A.toarray())
        L[np.abs(L) < 1e-12 * np.abs(L).max()] = 0.0
        return cls(_patterns(Zt, Lambda, A, sparse.csr_matrix(L))).plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, color=MIXED):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
        color : color
            Of the entries.

        Returns
        -------
        self
        """
        from matplotlib.colors import LinearSegmentedColormap

        n = len(self.patterns)
        # A single Axes is divided; a new figure has two rows.
        shape = (2, n // 2) if n % 2 == 0 and n > 2 else (1, n)
        self.figure_, axes = panels(ax, shape, (4.2 * shape[1], 4.2 * shape[0]))
        self.axes_ = axes.ravel()
        self.ax_ = self.axes_[0]
        colours = LinearSegmentedColormap.from_list(
            "entries", [background(self.ax_), accent(self.ax_, color)]
        )
        self.images_ = [
            self._draw(panel, pattern, colours)
            for panel, pattern in zip(self.axes_, self.patterns, strict=True)
        ]
        return self

    def _draw(self, panel, pattern, colours):
        rows, columns = pattern.matrix.shape
        image = panel.imshow(
            pattern.image(), cmap=colours, vmin=0, vmax=1, interpolation="antialiased",
            extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
            aspect="equal" if rows == columns else "auto",
        )  # fmt: skip
        panel.set_title(pattern.name, fontsize=10)
        panel.set_xlabel(f"{rows:,} x {columns:,}, {pattern.matrix.nnz:,} entries{pattern.note}")
        panel.xaxis.set_major_locator(_whole_numbers())
        panel.yaxis.set_major_locator(_whole_numbers())
        return image


def _whole_numbers():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5, integer=True)


def _transposed_z(terms):
    """Z' (q, n) of all terms: term by term, effect by effect, level by level."""
    blocks = []
    for term in terms:
        rows = np.flatnonzero(term.codes >= 0)
        codes, n = term.codes[rows], len(term.codes)
        blocks += [
            sparse.csr_matrix((column[rows], (codes, rows)), shape=(len(term.levels), n))
            for column in term.z.T
        ]
    return sparse.vstack(blocks, format="csr")


def _patterns(Zt, Lambda, A, L):
    for matrix in (Zt, Lambda, A, L):
        matrix.eliminate_zeros()
    lower = (A.nnz + A.shape[0]) // 2
    fill = L.nnz - lower
    note = f", {fill:,} filled in" if fill > 0 else ", no fill-in"
    return [
        Pattern("Z'", Zt.tocoo()),
        Pattern("Lambda", Lambda.tocoo()),
        Pattern("A = Lambda'Z'Z Lambda + I", A.tocoo()),
        Pattern("L, with LL' = A", L.tocoo(), note),
    ]
