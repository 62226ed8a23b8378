"""The answer to a problem over the occupancy measure of a finite MDP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import entr

from reps_opt.result import Arrays
from reps_opt.solution import Solution
from reps_opt.validation import FloatArray


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class OccupancySolution(Solution):
    r"""Answer to an occupancy problem; see :class:`~reps_opt.Solution` for what every answer has.

    Attributes
    ----------
    value : (S,) array
        Multiplier of the flow: the value function V of :math:`\delta = r + \gamma P V - V`. Gauge: discounted, V is
        shifted until the multiplier of the normalisation is zero, which puts it on the scale of the ordinary
        (unnormalised) value function; average reward, V has mean zero under the new state distribution in each
        component. NaN in states that cannot carry mass.
    occupancy : (S, A) array
        The new state-action distribution p: the exact occupancy of ``policy``, inside the ball.
    policy : (S, A) array
        The new policy. In states that cannot carry mass it is the reference's, uniform where that is silent too.
    objective : float
        Mean reward <p, r>; in penalty form less ``temperature * KL``.
    duals : mapping
        ``flow`` (V), ``normalisation`` (lambda), ``kl`` (eta) and, where there are any, ``budgets`` (nu).
    epsilon_min : float
        Smallest radius for which the problem is feasible: zero when the reference is.
    violation : float
        Least amount, in the units of the costs, by which every budget would have to be raised for any occupancy on the
        reference's support to keep them; zero when some does.
    """

    value: FloatArray
    occupancy: FloatArray
    policy: FloatArray
    epsilon_min: float = 0.0
    violation: float = 0.0

    @property
    def nu(self) -> FloatArray:
        """Prices (K,) of the budgets, in reward a unit of cost: what the optimum gains per unit of budget."""
        return self.duals.get("budgets", np.zeros(0))

    @property
    def expected_costs(self) -> FloatArray:
        """Expected costs (K,) of the occupancy."""
        budgets = self.problem.budgets
        return np.zeros(0) if budgets is None else budgets.costs @ self.occupancy.ravel()

    @property
    def entropy(self) -> float:
        """Entropy of the new state-action distribution, in nats."""
        return float(entr(self.occupancy).sum())

    @property
    def state_distribution(self) -> FloatArray:
        """New state distribution (S,)."""
        return self.occupancy.sum(axis=1)

    @property
    def predicted_improvement(self) -> float:
        """Gain in mean reward over the reference; exact, whatever epsilon, where the reference is an occupancy."""
        return float(np.sum(self.occupancy * self.problem.mdp.rewards)) - self.problem.reference_return

    @property
    def bellman_error(self) -> FloatArray:
        """Bellman error (S, A) under ``value``; NaN where the state or a next state has no value."""
        mdp = self.problem.mdp
        known = np.isfinite(self.value)
        ahead = mdp.gamma * (mdp.transitions @ np.where(known, self.value, 0.0))
        ahead[(mdp.transitions @ (~known).astype(float)) > 0] = np.nan
        return mdp.rewards + ahead.reshape(mdp.rewards.shape) - self.value[:, None]

    def rows(self) -> list[tuple[str, str]]:
        lines = super().rows()
        if self.has_point and np.isfinite(self.problem.reference_return):
            lines.insert(1, ("reference", f"{self.problem.reference_return:.10g}"))
        elif not self.has_point:
            lines.insert(1, ("epsilon_min", f"{self.epsilon_min:.9g}"))
        if self.has_point and self.nu.size:
            kept = zip(self.expected_costs, self.problem.budgets.limits, self.nu, strict=True)
            text = ", ".join(f"{cost:.6g} of {limit:g} at price {price:.6g}" for cost, limit, price in kept)
            lines.insert(-1, ("costs", text))
        return lines

    def numbers(self) -> dict[str, Any]:
        return {**super().numbers(), "epsilon_min": float(self.epsilon_min), "gamma": self.problem.mdp.gamma}

    def arrays(self) -> Arrays:
        """Over states and actions; ``reference`` is left out where the problem has none."""
        pairs = ("state", "action")
        arrays: dict[str, Any] = {
            "occupancy": (pairs, self.occupancy),
            "policy": (pairs, self.policy),
            "value": (pairs[:1], self.value),
            "reward": (pairs, self.problem.mdp.rewards),
            "bellman_error": (pairs, self.bellman_error),
        }
        reference = self.problem.reference
        return arrays if reference is None else {**arrays, "reference": (pairs, reference)}
