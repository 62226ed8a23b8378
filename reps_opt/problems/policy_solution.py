"""Answers to policy steps: a new policy, what its model predicted, and what the MDP makes of it.

Shapes: S states, A actions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy

from reps_opt import plotting
from reps_opt.plotting import Panel
from reps_opt.policy_comparison import PolicyComparison, compare_policies
from reps_opt.problems.flow_solution import PolicyReadings
from reps_opt.processes.maps import drawn_on
from reps_opt.result import Arrays
from reps_opt.tolerances import HUGE
from reps_opt.validation import FloatArray, read_only
from reps_opt.values import OldName, cached_property, value


def kept_apart_from_zero(policy: FloatArray, old: FloatArray) -> FloatArray:
    """The policy (S, A), no action of the old policy's support less likely than the smaller of :data:`LEAST` and it."""
    floored = np.maximum(policy, np.minimum(old, 1 / HUGE))
    return floored / floored.sum(axis=1, keepdims=True)


class _StepInPolicySpace(PolicyReadings):
    """What answers to policy steps share: the old policy beside the new, exactly."""

    policy: FloatArray
    predicted_gain: float

    @cached_property
    def comparison(self) -> PolicyComparison:
        """The new policy beside the old: gain, surrogate, every KL, and the bounds that were to hold."""
        return compare_policies(self.problem.mdp, self.problem.policy, self.policy)

    @property
    def gain(self) -> float:
        """Exact gain in mean reward: ``J(new) - J(old)``, by a linear solve."""
        return self.comparison.gain

    predicted_improvement = OldName("predicted_gain")
    actual_improvement = OldName("gain")

    @cached_property
    def value(self) -> FloatArray:
        """Value function (S,) that the step went by, the old policy's: its Bellman error is the advantage."""
        return read_only(self.problem.mdp.value(self.problem.policy))

    @cached_property
    def occupancy(self) -> FloatArray:
        """Exact occupancy (S, A) of the new policy."""
        return read_only(self.problem.mdp.occupancy(self.policy))

    def rows(self) -> list[tuple[str, str]]:
        lines = super().rows()
        if self.has_point:
            lines.insert(1, ("gain", f"{self.gain:.10g}"))
            lines.insert(1, ("predicted gain", f"{self.predicted_gain:.10g}"))
            lines[-1:-1] = self._policy_rows()
        return lines

    def _drawn(self) -> list[Panel]:
        """Value with the new policy, where its states move to, and what its model left out."""
        where = drawn_on(self.problem.mdp)
        moved = self.occupancy.sum(axis=1) - self.problem.state_distribution
        plain = {key: content for key, content in where.items() if key != "terminal"}
        old = "value of the old policy, new policy"
        return [
            lambda axis: plotting.states(axis, self.value, old, policy=self.policy, **where),
            lambda axis: plotting.states(axis, moved, "change of the state distribution", **plain),
            self.comparison.gain_panel(),
        ]

    def numbers(self) -> dict[str, Any]:
        gains = {"predicted_gain": float(self.predicted_gain), "gain": float(self.gain)}
        return {**super().numbers(), **gains, "gamma": self.problem.mdp.gamma}

    def arrays(self) -> Arrays:
        """Over states and actions."""
        pairs = ("state", "action")
        return {
            "policy": (pairs, self.policy),
            "old_policy": (pairs, self.problem.policy),
            "advantage": (pairs, self.problem.advantage),
            "value": (pairs[:1], self.value),
            "occupancy": (pairs, self.occupancy),
            "old_state_distribution": (pairs[:1], self.problem.state_distribution),
        }


@value
class PolicySolution(_StepInPolicySpace):
    r"""Answer to an exact TRPO step; see :class:`~reps_opt.Solution` for what every answer has.

    Attributes
    ----------
    policy : (S, A) array
        The new policy. States that the old policy never visits follow the same rule with the same eta; actions that it
        never takes stay at zero.
    predicted_gain : float
        The surrogate :math:`\\sum_s d_q(s) \\sum_a \\pi(a|s) A(s,a)`: what the step's own model expects to gain, in
        mean reward a step. ``gain`` is what it does gain.
    objective : float
        The prediction; in penalty form less ``temperature * D``.
    duals : mapping
        ``kl`` (eta), and ``policy`` (S,): the multiplier of :math:`\\sum_a d(s)\\pi(a|s) = d(s)`, NaN in states
        without mass.
    """

    @cached_property
    def policy(self) -> FloatArray:  # type: ignore[override]
        """The new policy (S, A)."""
        problem = self.problem
        if self.point is None:
            return read_only(np.full(problem.mdp.rewards.shape, math.nan))
        policy = problem.policy.copy()
        lost = np.setdiff1d(np.arange(problem.mdp.n_states), problem.flow.nodes)
        if lost.size and self.eta < math.inf:
            policy[lost] = problem.alone(lost, self.eta)
        ball = problem.program.divergence
        policy.ravel()[problem.flow.pairs] = self.point / ball.mass[ball.block]
        policy = policy / policy.sum(axis=1, keepdims=True)
        return read_only(kept_apart_from_zero(policy, problem.policy) if self.eta > 0 else policy)

    @property
    def predicted_gain(self) -> float:  # type: ignore[override]
        """The surrogate, in mean reward a step."""
        return math.nan if self.point is None else float(self.problem.program.objective @ self.point)

    @property
    def duals(self) -> dict[str, Any]:
        multipliers = np.full(self.problem.mdp.n_states, math.nan)
        if self.multipliers is not None:
            multipliers[self.problem.flow.nodes] = self.problem.normalised[1].shift + self.multipliers
        return {"policy": multipliers, "kl": self.eta}


@value
class GradientSolution(_StepInPolicySpace):
    r"""Answer to an exact gradient step; see :class:`~reps_opt.Solution` for what every answer has.

    Attributes
    ----------
    step : (S, A) or (k,) array
        The change of the parameters: of the softmax table's logits, or of the features' weights.
    policy : (S, A) array
        The new policy. Actions that the old policy never takes stay at zero.
    predicted_gain : float
        :math:`g's`: what the step's own model expects to gain, in mean reward a step. ``gain`` is what it does gain.
    objective : float
        The prediction; in penalty form less ``temperature * D``.
    """

    @cached_property
    def step(self) -> FloatArray:
        """The change of the parameters, (S, A) or (k,)."""
        if self.point is None:
            return read_only(np.full(self.problem.gradient.shape, math.nan))
        return read_only(self.problem.parameter_step(self.point, self.eta))

    @cached_property
    def policy(self) -> FloatArray:  # type: ignore[override]
        """The new policy (S, A)."""
        problem = self.problem
        change = self.step if problem.features is None else problem.features @ self.step
        with np.errstate(divide="ignore"):
            moved = scipy.special.softmax(np.log(problem.policy) + change, axis=1)
        return read_only(kept_apart_from_zero(moved, problem.policy))

    @property
    def predicted_gain(self) -> float:  # type: ignore[override]
        """``g's``, in mean reward a step."""
        return float(np.sum(self.problem.gradient * self.step))

    def arrays(self) -> Arrays:
        """Over states and actions; and the change of the parameters."""
        return {**super().arrays(), "step": (("state", "action") if self.step.ndim == 2 else ("parameter",), self.step)}
