"""The answer to a problem over the weights of samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.result import Arrays
from reps_opt.solution import Solution
from reps_opt.validation import FloatArray, as_float_array, read_only
from reps_opt.values import value

SCALES: dict[str, Callable[[FloatArray], float]] = {
    "sum": lambda w: 1.0,
    "mean": lambda w: float(w.size),
    "ess": lambda w: float(1.0 / np.sum(w**2)),
}
"""What exported weights sum to."""


@value
class SampleSolution(Solution):
    r"""Answer to a sample problem; see :class:`~reps_opt.Solution` for what every answer has.

    Attributes
    ----------
    sample_weights : (N,) array
        w, summing to one: zero where the base weight is.
    theta : (d,) array
        Weights of the value features, ``V(s) = phi(s)' theta``, in reward units; of all that do the same, the shortest.
    rank : int
        Rank of the feature differences; below d, some direction of theta changes nothing.
    objective : float
        Mean reward <w, r>; less ``temperature * KL`` in penalty form.
    duals : mapping
        ``features`` (theta), ``normalisation`` (lambda) and ``kl`` (eta).
    epsilon_min : float
        Smallest radius at which some weights match the features.
    """

    @cached_property
    def sample_weights(self) -> FloatArray:
        """w (N,), summing to one."""
        if self.point is None:
            return read_only(np.full(self.problem.rewards.size, math.nan))
        return read_only(self.problem.spread(self.point))

    @cached_property
    def theta(self) -> FloatArray:
        """Weights (d,) of the value features."""
        if self.multipliers is None:
            return read_only(np.full(self.problem.column_scale.size, math.nan))
        return read_only(self.problem.theta(self.multipliers))

    @property
    def rank(self) -> int:
        """Rank of the feature differences."""
        return int(self.problem.column_scale.size - self.problem.null_space.shape[1])

    @property
    def duals(self) -> dict[str, Any]:
        return {"features": self.theta, "normalisation": self._normaliser, "kl": self.eta}

    @cached_property
    def _normaliser(self) -> float:
        """Multiplier of the normalisation, in reward units."""
        if self.multipliers is None or self.point is None:
            return math.nan
        program = self.problem.program
        if self.eta == math.inf:
            return float(program.slack(self.multipliers) @ self.point)
        if self.eta > 0:
            return float(self.eta * program.dual(self.eta, self.multipliers).conjugate.normaliser)
        return float(program.slack(self.multipliers).max())

    def weights(self, scale: str = "sum") -> FloatArray:
        """Weights (N,) summing to one (``"sum"``), with mean one (``"mean"``), or summing to the ESS (``"ess"``)."""
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {tuple(SCALES)}, got {scale!r}")
        return self.sample_weights * SCALES[scale](self.sample_weights)

    @property
    def ess(self) -> float:
        """Effective sample size: (sum w)^2 / sum w^2."""
        return SCALES["ess"](self.sample_weights)

    @property
    def bellman_error(self) -> FloatArray:
        """r + psi' theta (N,), up to the multiplier of the normalisation; the weights are its softmax at eta."""
        return self.problem.rewards - self.problem.feature_rows @ (self.theta * self.problem.column_scale)

    def value(self, states: ArrayLike) -> FloatArray:
        """V (n,) at states, or at feature rows (n, d) where the problem has no feature map; its offset is free."""
        features = self.problem.features
        phi = states if features is None else features.transform(states)
        return as_float_array(phi, "states", ("n", self.theta.size)) @ self.theta

    def rows(self) -> list[tuple[str, str]]:
        lines = super().rows()
        if self.has_point:
            n = self.sample_weights.size
            lines.insert(4, ("ess", f"{self.ess:.4g} of {n} samples"))
            lines.insert(5, ("rank", f"{self.rank} of {self.theta.size} features"))
        else:
            lines.insert(1, ("epsilon_min", f"{self.epsilon_min:.9g}"))
        return lines

    def numbers(self) -> dict[str, Any]:
        known = "centre" in self.problem.__dict__  # a projection that printing alone should not pay for
        more = {"epsilon_min": self.epsilon_min if known else math.nan, "rank": self.rank, "ess": self.ess}
        return {**super().numbers(), **more}

    def arrays(self) -> Arrays:
        return {
            "weights": (("sample",), self.sample_weights),
            "reward": (("sample",), self.problem.rewards),
            "theta": (("feature",), self.theta),
        }
