"""Simulated (randomised quantile) residuals: where a response lies among draws from its model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats
from statsmodels.stats.multitest import multipletests

# With fewer draws no two-sided p-value, 2 / (n_samples + 1) at least, is below 0.05.
FEWEST = 39
ALTERNATIVES = ("two-sided", "greater", "less")
# Numbers held at a time where rows are ranked.
_NUMBERS = 1 << 22
# Residuals nearer to 0 and 1 than this, which have no normal score.
_EDGE = 1e-7


class CheckResult(NamedTuple):
    """A statistic, its p-value, and the alternative it is against."""

    statistic: float
    p_value: float
    alternative: str


@dataclass(frozen=True)
class SimulatedResiduals:
    """Responses beside draws from their model, and tests of whether they belong together.

    It is recommended to use :func:`simulated_residuals`; :meth:`of` takes draws of one's own, from
    any model.

    Attributes
    ----------
    y : (n,)
        The responses; for binomial models numbers of successes.
    simulated : (n, k)
        Draws from the model, a column for each data set.
    residuals : (n,)
        Between 0 and 1, and uniform where the model is right: with L draws below y and E equal to
        it (L + v (E + 1)) / (k + 1), v uniform.
    fitted, spread : (n,)
        Means and standard deviations of the draws.
    n_samples : int
        Number of draws k.
    outliers : (n,) of bool
        The responses outside of all of their draws.
    rows : (n,) of int
        Their places in X.
    discrete : bool
        Whether responses can be equal to draws.
    independent : bool
        Whether the model's responses are independent of each other given what was held fixed.
    seed : int
        Of the random order of equal draws in :attr:`ranks`.
    """

    y: np.ndarray
    simulated: np.ndarray
    residuals: np.ndarray
    rows: np.ndarray
    discrete: bool
    independent: bool
    seed: int

    @classmethod
    def of(cls, y, simulated, *, discrete=None, independent=True, random_state=None, rows=None):
        """Residuals of responses y (n,) among draws (n, k) of any model.

        Parameters
        ----------
        y : (n,)
        simulated : (n, k)
            What the ``simulate`` of a model gives, k at least 39.
        discrete : bool, optional
            By default whether some y equals one of its draws.
        independent : bool
            Whether the model's rows are independent, which decides how uniformity is tested.
        random_state : int, RandomState, Generator or None
            Of the uniform v, which place a response among draws equal to it.

        Raises
        ------
        ValueError
            For shapes that do not fit, values that are not finite, and fewer than 39 draws.

        Examples
        --------
        >>> import numpy as np
        >>> from skmixed.inference.simulated import SimulatedResiduals
        >>> rng = np.random.default_rng(0)
        >>> draws = rng.poisson(3.0, size=(200, 251))
        >>> of = SimulatedResiduals.of(draws[:, 0], draws[:, 1:], random_state=1)
        >>> bool(of.test_uniformity().p_value > 0.05)
        True
        """
        y, simulated = np.asarray(y, dtype=float), np.asarray(simulated, dtype=float)
        if simulated.ndim != 2 or y.shape != simulated.shape[:1] or not len(y):
            raise ValueError(
                f"SimulatedResiduals takes y (n,) and draws (n, k) of them, got shapes {y.shape} "
                f"and {simulated.shape}"
            )
        check_n_samples(simulated.shape[1])
        if not (np.isfinite(y).all() and np.isfinite(simulated).all()):
            raise ValueError("SimulatedResiduals: y and its draws must be finite: leave rows out")
        rng = generator(random_state)
        below = (simulated < y[:, None]).sum(axis=1)
        equal = (simulated == y[:, None]).sum(axis=1)
        u = (below + rng.random(len(y)) * (equal + 1)) / (simulated.shape[1] + 1)
        rows = np.arange(len(y)) if rows is None else np.asarray(rows)
        discrete = bool(equal.any()) if discrete is None else discrete
        return cls(y, simulated, u, rows, discrete, independent, int(rng.integers(1 << 31)))

    @cached_property
    def fitted(self):
        return self.simulated.mean(axis=1)

    @cached_property
    def spread(self):
        """Standard deviations (n,) of the draws."""
        return self.simulated.std(axis=1)

    @property
    def n_samples(self):
        """Number of draws k."""
        return self.simulated.shape[1]

    # y and its draws side by side: where the model is right they are exchangeable

    @cached_property
    def _all(self):
        """(n, k + 1): y, then its draws."""
        return np.column_stack([self.y, self.simulated])

    @cached_property
    def ranks(self):
        """(n, k + 1) of float32: the residual of every draw among the others, y's first."""
        rng = np.random.default_rng(self.seed)
        found = np.empty(self._all.shape, dtype=np.float32)
        step = max(1, _NUMBERS // found.shape[1])
        for lo in range(0, len(found), step):
            found[lo : lo + step] = _random_ranks(self._all[lo : lo + step], rng)
        found[:, 0] = self.residuals
        return found

    def aggregate(self, by, *, random_state=None):
        """Residuals of the sums of responses over the levels of a factor.

        Parameters
        ----------
        by : (n,) levels of the rows

        Returns
        -------
        SimulatedResiduals
            One per level, in the order of the sorted levels.
        """
        codes, levels = self._levels(by)
        order = np.argsort(codes, kind="stable")
        begins = np.searchsorted(codes[order], np.arange(len(levels)))
        total = np.add.reduceat(self._all[order], begins, axis=0)
        if self.discrete:
            total = np.rint(total)
        return type(self).of(
            total[:, 0], total[:, 1:], discrete=self.discrete, independent=self.independent,
            random_state=self.seed if random_state is None else random_state,
        )  # fmt: skip

    def _levels(self, by):
        if np.shape(by) != self.y.shape:
            raise ValueError(f"by needs one level per residual, {self.y.shape}, got {np.shape(by)}")
        codes, levels = pd.factorize(np.asarray(by), sort=True)
        if (codes < 0).any():
            raise ValueError("by has missing levels: leave these rows out")
        return codes, levels

    # Tests

    def test_uniformity(self, method="auto"):
        """Whether the residuals are uniform, by Kolmogorov and Smirnov's statistic.

        Parameters
        ----------
        method : {"auto", "ks", "simulation", "shape"}
            "ks": the exact distribution of the statistic of independent residuals, R's
            ``ks.test(residuals, "punif", exact = TRUE)``. "simulation": the rank of the statistic
            among those of the draws, which holds for residuals that are correlated through
            random effects too. "auto": "ks" where rows are independent. "shape": as "simulation",
            after normal scores of y and of every draw were given mean 0 and variance 1. Since the
            model was fitted to y, the residuals are closer to uniform than those of the draws;
            their shape alone is hardly so.

        Returns
        -------
        CheckResult
        """
        _check_choice("method", method, ("auto", "ks", "simulation", "shape"))
        if method == "auto":
            method = "ks" if self.independent else "simulation"
        if method == "ks":
            found = stats.kstest(self.residuals, "uniform", method="exact")
            return CheckResult(float(found.statistic), float(found.pvalue), "two-sided")
        u = _standardised(self.ranks) if method == "shape" else self.ranks
        return _among(_distance_to_uniform(u), "greater")._replace(alternative="two-sided")

    def test_dispersion(self, alternative="two-sided"):
        """Whether the responses spread about their means as the draws do.

        The statistic is the variance of y less the mean of the draws, over the mean of the same
        variance of the draws.
        """
        gaps = self._all - self._all.mean(axis=1, keepdims=True)
        return _among_mean(gaps.var(axis=0, ddof=1), alternative)

    def test_scaled_dispersion(self, alternative="two-sided"):
        """As :meth:`test_dispersion`, every row in units of the standard deviation of its draws.

        Rows of small mean count as much as those of large mean.
        """
        return _among_mean((self._deviations() ** 2).mean(axis=0), alternative)

    def test_extremes(self):
        """Whether the largest deviation is larger than those of the draws.

        The statistic is the largest distance of a response from the mean of its draws, in units of
        their standard deviation. A few responses that are far off are seen here, whatever the
        number of draws; :meth:`test_outliers` sees that there are too many of them.
        """
        return _among(np.abs(self._deviations()).max(axis=0), "greater")

    def _deviations(self):
        """(n, k + 1): y and draws less their mean over their deviation; rows without one are 0."""
        gaps = self._all - self._all.mean(axis=1, keepdims=True)
        size = np.sqrt((gaps**2).mean(axis=1, keepdims=True))
        return np.divide(gaps, size, out=np.zeros_like(gaps), where=size > 0)

    def test_zero_inflation(self, alternative="two-sided"):
        """Whether there are as many zeros as in the draws; the statistic is their ratio."""
        return _among_mean((self._all == 0).sum(axis=0), alternative)

    def test_outliers(self, alternative="two-sided", method="auto"):
        """Whether as many responses lie outside of all of their draws as should.

        Parameters
        ----------
        alternative : {"two-sided", "greater", "less"}
        method : {"auto", "binomial", "simulation"}
            "binomial": the number is binomial with n and 2 / (k + 1), R's ``binom.test``: exact
            for independent rows of a continuous response. "simulation": its rank among the numbers
            of the draws, each beside y and the others.

        Returns
        -------
        CheckResult
            The statistic is the share of such rows.
        """
        _check_choice("method", method, ("auto", "binomial", "simulation"))
        if method == "auto":
            exact = self.independent and not self.discrete
            method = "binomial" if exact else "simulation"
        if method == "binomial":
            _check_choice("alternative", alternative, ALTERNATIVES)
            count, n = int(self.outliers.sum()), len(self.y)
            test = stats.binomtest(count, n, 2 / (self.n_samples + 1), alternative)
            return CheckResult(count / n, float(test.pvalue), alternative)
        counts = _single_extremes(self._all)
        return _among(counts, alternative)._replace(statistic=float(counts[0] / len(self.y)))

    @cached_property
    def outliers(self):
        """(n,) of bool: the responses outside of all of their draws."""
        low, high = self.simulated.min(axis=1), self.simulated.max(axis=1)
        return (self.y < low) | (self.y > high)

    def test_levels(self, by):
        """Whether residuals are uniform within every level of a factor, and spread alike.

        Parameters
        ----------
        by : (n,) levels of the rows

        Returns
        -------
        DataFrame
            n, statistic and p_value of Kolmogorov and Smirnov's test by level, adjusted for their
            number by Holm; ``attrs["levene"]`` is the test of equal spread about the medians.
        """
        codes, levels = self._levels(by)
        parts = [self.residuals[codes == j] for j in range(len(levels))]
        tests = [stats.kstest(part, "uniform", method="exact") for part in parts]
        table = pd.DataFrame(
            {
                "n": [len(part) for part in parts],
                "statistic": [float(test.statistic) for test in tests],
                "p_value": multipletests([float(test.pvalue) for test in tests], method="holm")[1],
            },
            index=pd.Index(levels, name=getattr(by, "name", None)),
        )
        several = len(parts) > 1 and min(len(part) for part in parts) > 1
        levene = stats.levene(*parts, center="median") if several else (np.nan, np.nan)
        table.attrs["levene"] = CheckResult(float(levene[0]), float(levene[1]), "two-sided")
        return table


def check_n_samples(n_samples):
    """An error for fewer draws than a p-value needs."""
    if not isinstance(n_samples, Integral) or n_samples < FEWEST:
        raise ValueError(
            f"n_samples must be an integer of at least {FEWEST}, got {n_samples!r}: a two-sided "
            "p-value from k draws is at least 2 / (k + 1), so that fewer can never be below 0.05"
        )


def _check_choice(name, value, known):
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")


def generator(random_state):
    """A numpy Generator; a RandomState lends it a seed."""
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(1 << 31)
    return np.random.default_rng(random_state)


def _random_ranks(values, rng):
    """(rank + uniform) / k of the columns of every row (n, k), ties in random order."""
    order = rng.permuted(np.tile(np.arange(values.shape[1]), (len(values), 1)), axis=1)
    by_size = np.argsort(np.take_along_axis(values, order, axis=1), axis=1, kind="stable")
    order = np.take_along_axis(order, by_size, axis=1)
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, np.arange(values.shape[1])[None, :], axis=1)
    return (ranks + rng.random(values.shape)) / values.shape[1]


def _standardised(u):
    """Uniform variables (n, k) whose normal scores have mean 0 and variance 1 in every column."""
    z = special.ndtri(np.clip(u, _EDGE, 1 - _EDGE))
    z -= z.mean(axis=0)
    size = np.sqrt((z**2).mean(axis=0))
    return special.ndtr(z / np.where(size > 0, size, 1.0))


def _distance_to_uniform(u):
    """Kolmogorov and Smirnov's statistic of every column of (n, k)."""
    u = np.sort(u, axis=0)
    steps = np.arange(len(u) + 1)[:, None] / len(u)
    return np.maximum((steps[1:] - u).max(axis=0), (u - steps[:-1]).max(axis=0))


def _single_extremes(values):
    """In how many rows (n, k) every column alone is the smallest or the largest."""
    counts = np.zeros(values.shape[1])
    for end, at in ((values.min(axis=1), values.argmin(axis=1)),
                    (values.max(axis=1), values.argmax(axis=1))):  # fmt: skip
        alone = (values == end[:, None]).sum(axis=1) == 1
        counts += np.bincount(at[alone], minlength=values.shape[1])
    return counts


def _among(values, alternative):
    """The first of exchangeable values (k + 1,) and its p-value among them."""
    _check_choice("alternative", alternative, ALTERNATIVES)
    above, below = (values >= values[0]).mean(), (values <= values[0]).mean()
    both = min(1.0, 2.0 * min(above, below))
    p = {"greater": above, "less": below, "two-sided": both}[alternative]
    return CheckResult(float(values[0]), float(p), alternative)


def _among_mean(values, alternative):
    """As :func:`_among`, the statistic over the mean of the draws'."""
    found, mean = _among(values, alternative), values[1:].mean()
    ratio = found.statistic / mean if mean > 0 else (np.inf if found.statistic > 0 else 1.0)
    return found._replace(statistic=float(ratio))
