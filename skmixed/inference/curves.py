"""The curve of a profile: zeta, the signed root of the profiled deviance, along its parameter.

    zeta(psi) = sign(psi - psi_hat) sqrt(d(psi) - d_min)

d(psi) is the least deviance at that value. Zeta is a straight line where the deviance is a
parabola, so that its bend shows how far the normal approximation holds.
"""

from __future__ import annotations

import numpy as np

from skmixed.models.components import StandardDeviation

# The curve goes beyond the limits by this share of their distance from the estimate.
_BEYOND = 0.15


def curve(profile, estimate, lower, upper, points) -> np.ndarray:
    """Values of the parameter and their zeta (m, 2), in order.

    Every point starts from the one before it, which leaves Newton's method few steps.

    Parameters
    ----------
    profile : Profile
    estimate, lower, upper : float
        As the profile found them; the curve ends a little beyond the limits, at a bound, or where
        no further point is found.
    points : int
        On either side of the estimate.
    """
    if np.isnan(estimate):
        return np.empty((0, 2))
    turned = profile.psi(profile.best.x)[0] < 0 and isinstance(profile.psi, StandardDeviation)
    found = [(estimate, 0.0)]
    for sign, limit, other in ((-1.0, lower, upper), (1.0, upper, lower)):
        end = _end(profile, estimate, sign, limit, other)
        near = profile.best
        for value in np.linspace(estimate, end, points + 1)[1:]:
            near = profile.at(-value if turned else value, near) if value != estimate else None
            if near is None:
                break
            rise = max(near.value - profile.best.value, 0.0)
            found.append((value, sign * np.sqrt(rise)))
    return np.array(sorted(found))


def _end(profile, estimate, sign, limit, other):
    """Where the curve ends on one side."""
    reach = abs(limit - estimate)
    if not np.isfinite(reach):  # there is no limit on this side
        reach = abs(other - estimate) if np.isfinite(other) else 0.0
    end = estimate + sign * (1.0 + _BEYOND) * reach
    bound = profile.edge(sign, estimate)[0]
    if bound is None and sign < 0 and isinstance(profile.psi, StandardDeviation):
        bound = 0.0
    if bound is None:
        return end
    return sign * max(min(sign * end, sign * bound), sign * estimate)
