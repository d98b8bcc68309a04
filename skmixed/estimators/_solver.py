"""The choice of a solver, and what an estimator tells of the one that ran."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions

from skmixed._warn import warn
from skmixed.models.stochastic import TOLD_SHARE


class ChoosesSolver:
    """Parameters solver, n_probes and random_state, and the attributes that go with them."""

    result_: Any
    theta_: Any

    _parameter_constraints: ClassVar[dict] = {
        "solver": [StrOptions({"auto", "direct", "iterative"})],
        "n_probes": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
        "random_state": [Interval(Integral, 0, None, closed="left")],
    }

    @property
    def _solver_settings(self):
        """As the models take them."""
        n_probes = None if self.n_probes == "auto" else int(self.n_probes)
        return {"solver": self.solver, "n_probes": n_probes, "seed": int(self.random_state)}

    def _tell_monte_carlo(self, record):
        if record is None or record.share <= TOLD_SHARE:
            return
        warn(
            f"{self._who()}: with {record.n_probes} probes the Monte-Carlo error of theta "
            f"is {record.share:.0%} of a standard error. Estimates stand with that error: raise "
            "n_probes, or use solver='direct'",
            ConvergenceWarning,
        )

    @property
    def solver_(self) -> str:
        """How the mixed-model equations were solved: "direct" or "iterative"."""
        return self.result_.solver

    @property
    def n_probes_(self) -> int:
        """Random vectors of the iterative solver, 0 if direct."""
        return self._monte_carlo("n_probes", 0)

    @property
    def n_cg_iterations_(self) -> int:
        """Iterations of the slowest linear system of the fit, 0 if direct."""
        return self._monte_carlo("n_iterations", 0)

    @property
    def theta_mc_std_(self) -> np.ndarray:
        """Monte-Carlo error of ``theta_``."""
        return self._monte_carlo("theta_std", np.zeros(len(self.theta_))).copy()

    @property
    def monte_carlo_share_(self) -> float:
        """Largest Monte-Carlo error of an estimate, as a share of its standard error."""
        return self._monte_carlo("share", 0.0)

    @property
    def deviance_mc_std_(self) -> float:
        """Monte-Carlo error of ``deviance_``."""
        return self._monte_carlo("deviance_std", 0.0)

    def _monte_carlo(self, name, direct):
        record = self.result_.monte_carlo
        return direct if record is None else getattr(record, name)
