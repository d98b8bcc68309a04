"""The deviance of maximum likelihood as a function of all parameters, for profiles.

Each is a callable of x with value, gradient and Hessian, and counts how often it was asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from skmixed.models.minimum import Point
from skmixed.models.second_order import SecondOrder

# Entries of x beyond this are as good as infinite.
_FARTHEST = 1e5


@dataclass
class LinearDeviance:
    """That of a linear mixed model at x = (theta, log sigma), and beta_j with a ``row``.

    sigma is relative to ``unit``, a coefficient is row'beta in that unit from ``origin``, so that
    all entries of x are of moderate size.
    """

    objective: object
    unit: float
    row: np.ndarray | None = None
    origin: float = 0.0
    n_evaluations: int = field(default=0)

    def __call__(self, x):
        """Point, or None where there is no deviance."""
        self.n_evaluations += 1
        k = self.objective.layout.n_theta
        if not np.isfinite(x).all() or np.abs(x).max() > _FARTHEST or abs(x[k]) > 300:
            return None
        theta, relative = x[:k], np.exp(x[k])
        evaluation = self.objective.evaluate(theta)
        value = evaluation.value
        if not np.isfinite(value):
            return None
        factor = evaluation.factor
        record = SecondOrder.at(self.objective, factor, theta, relative * self.unit)
        # the criterion has sigma at its best; n (r - 1 - log r) is what another one costs
        share = record.quadratic / record.n_obs
        value += record.n_obs * (share - 1.0 - np.log(share))
        if self.row is None:
            gradient, H = record.derivatives
        else:
            estimate = float(self.row @ record.beta)
            shift = (x[k + 1] - (estimate - self.origin) / self.unit) / relative
            more, gradient, H = record.constrained_derivatives(self.row, shift)
            value += more
            gradient, H = gradient.copy(), H.copy()
            gradient[k + 1] /= relative
            H[k + 1] /= relative
            H[:, k + 1] /= relative
        H = H.copy()
        H[k, k] += gradient[k]  # from sigma to its logarithm
        return Point(x, value, gradient, H)
