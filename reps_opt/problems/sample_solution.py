"""The answer to a problem over the weights of samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt import plotting
from reps_opt.features import transformed
from reps_opt.plotting import Panel
from reps_opt.result import Arrays
from reps_opt.sensitivity import Sensitivity, as_rates, moved
from reps_opt.solution import Solution
from reps_opt.threads import limited
from reps_opt.validation import FloatArray, as_float_array, read_only
from reps_opt.values import cached_property, value

SCALES: dict[str, Callable[[FloatArray], float]] = {
    "sum": lambda w: 1.0,
    "mean": lambda w: float(w.size),
    "ess": lambda w: float(1.0 / (w @ w)),
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
    @limited()
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

    @limited()
    def weights(self, scale: str = "ess") -> FloatArray:
        """Weights (N,) for a policy's ``fit``: summing to the effective sample size (``"ess"``), as many samples as
        they are worth; with mean one (``"mean"``), or summing to one (``"sum"``).

        What a problem's weights leave to the absorbing state is no sample, and is not among them.
        """
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {tuple(SCALES)}, got {scale!r}")
        weights = self.sample_weights
        if self.problem.flow is not None and self.problem.flow.absorbs:
            weights = weights[:-1] / weights[:-1].sum()
        return weights * SCALES[scale](weights)

    @property
    @limited()
    def ess(self) -> float:
        """Effective sample size: (sum w)^2 / sum w^2, over the samples a policy is fitted to."""
        return SCALES["ess"](self.weights("sum"))

    @property
    @limited()
    def predicted_gain(self) -> float:
        """Mean reward of the weights over that of the base weights, <w - b, r>: what a policy that follows them gains.

        In reward units a step; where mass is absorbed, in ``1 - gamma`` times the discounted return.
        """
        return float((self.sample_weights - self.problem.base) @ self.problem.rewards)

    @property
    @limited()
    def predicted_gain_error(self) -> float:
        r"""Standard error of :attr:`predicted_gain` for other episodes of the same kind, in its units.

        .. math:: \sqrt{\textstyle\sum_e \big(\sum_{i \in e} b_i\, IF_i\big)^2}, \qquad
                  IF_i = \eta\,(w_i / b_i - 1) - (r_i - \langle b, r\rangle)

        IF is the influence of a sample on the optimum less the base's mean. Where the feature differences are relative
        to the base's own mean (``starts="visited"``) the Bellman error takes the place of the reward, for that mean
        varies too. Without episodes every sample is its own. It is the error of the samples: what the value features
        cannot see is not in it.
        """
        problem, flow = self.problem, self.problem.flow
        subtracted = self.bellman_error if flow is not None and flow.starts == "visited" else problem.rewards
        eta = self.eta if math.isfinite(self.eta) else 0.0
        influence = eta * (self.sample_weights - problem.base)
        influence = influence - problem.base * (subtracted - problem.base @ subtracted)
        return float(np.linalg.norm(influence if flow is None else flow.by_episode(influence)))

    @property
    @limited()
    def flow_offset(self) -> float:
        r"""What the predicted gain owes to a reference, or weights, that are no flow: :math:`\theta'(E_b - E_w)\psi`.

        In reward units. ``E_w psi`` is zero but for a ridge; ``E_b psi`` is the reference's own inconsistency.
        """
        matched = self.bellman_error - self.problem.rewards
        return float((self.problem.base - self.sample_weights) @ matched)

    @property
    @limited()
    def flow_offset_error(self) -> float:
        r"""Standard error by episodes of the reference's part of :attr:`flow_offset`, :math:`\theta' E_b \psi`."""
        problem, flow = self.problem, self.problem.flow
        matched = self.bellman_error - problem.rewards
        influence = problem.base * (matched - problem.base @ matched)
        return float(np.linalg.norm(influence if flow is None else flow.by_episode(influence)))

    @property
    @limited()
    def bellman_error(self) -> FloatArray:
        """r + psi' theta (N,), up to the multiplier of the normalisation; the weights are its softmax at eta."""
        return self.problem.rewards - self.problem.feature_rows @ (self.theta * self.problem.column_scale)

    @limited()
    def sensitivity(
        self, rewards: ArrayLike | None = None, epsilon: float | None = None, temperature: float | None = None
    ) -> Sensitivity:
        """How the predicted optimum, eta, theta and the weights (N,), of sum one, move: directional derivatives.

        Parameters
        ----------
        rewards
            Direction (N,) in which the rewards, or returns, move.
        epsilon, temperature
            Rate at which the radius, or in penalty form the temperature, moves.

        Returns
        -------
        Sensitivity
            ``objective``, ``eta``, ``weights`` and, with features, ``theta``.

        Raises
        ------
        UnsuitableError
            Where the answer has no derivative: a slack ball, or one of a single point.
        """
        problem = self.problem
        radius, price = as_rates(problem, {"rewards": rewards, "epsilon": epsilon, "temperature": temperature})
        n = problem.rewards.size
        direction = np.zeros(n) if rewards is None else as_float_array(rewards, "rewards", (n,))
        found = moved(self, problem.pick(direction), epsilon=radius, temperature=price)
        readings = {"weights": (("sample",), problem.spread(found.point))}
        if self.theta.size:
            readings["theta"] = (("feature",), problem.theta(found.multipliers))
        return Sensitivity(found.objective, found.eta, readings)

    @limited()
    def value(self, states: ArrayLike) -> FloatArray:
        """V (n,) at states, or at feature rows (n, d) where the problem has no feature map; its offset is free, and
        chosen such that the absorbing state is worth nothing where there is one."""
        features = self.problem.features
        phi = states if features is None else transformed(features, states)
        absorbs = self.problem.flow is not None and self.problem.flow.absorbs
        theta, absorbed = (self.theta[:-1], self.theta[-1]) if absorbs else (self.theta, 0.0)
        return as_float_array(phi, "states", ("n", theta.size)) @ theta - absorbed

    def rows(self) -> list[tuple[str, str]]:
        lines = super().rows()
        if self.has_point:
            n = self.sample_weights.size
            lines.insert(4, ("ess", f"{self.ess:.4g} of {n} samples"))
            lines.insert(5, ("rank", f"{self.rank} of {self.theta.size} features"))
            lines.insert(6, ("predicted gain", f"{self.predicted_gain:.6g} +- {self.predicted_gain_error:.2g}"))
            if self.theta.size:
                lines.insert(7, ("flow offset", f"{self.flow_offset:.2g}   (of that gain, from what is no flow)"))
        return lines

    def _drawn(self) -> list[Panel]:
        """How far the weights concentrate, and which rewards they prefer."""
        weights = self.sample_weights * self.sample_weights.size
        rewards, gained = np.asarray(self.problem.rewards), "return" if hasattr(self.problem, "returns") else "reward"
        return [
            lambda axis: plotting.concentration(axis, weights, self.ess),
            lambda axis: plotting.scatter(axis, rewards, weights, "weights, mean one", gained),
        ]

    def numbers(self) -> dict[str, Any]:
        known = "centre" in self.problem.__dict__  # a projection that printing alone should not pay for
        names = ("rank", "ess", "predicted_gain", "predicted_gain_error", "flow_offset")
        more = {name: getattr(self, name) for name in names}
        more["epsilon_min"] = self.epsilon_min if known else math.nan
        return {**super().numbers(), **more}

    def arrays(self) -> Arrays:
        return {
            "weights": (("sample",), self.sample_weights),
            "reward": (("sample",), self.problem.rewards),
            "theta": (("feature",), self.theta),
        }
