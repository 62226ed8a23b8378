"""Answers to policy steps: a new policy, what its model predicted, and what the MDP makes of it.

Shapes: S states, A actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from reps_opt.result import Arrays
from reps_opt.solution import Solution
from reps_opt.validation import FloatArray

if TYPE_CHECKING:
    from reps_opt.policy_comparison import PolicyComparison


LEAST = 1e-100
"""Probabilities above zero stay above this: values and state distributions of the next step are then finite."""


def kept_apart_from_zero(policy: FloatArray, old: FloatArray) -> FloatArray:
    """The policy (S, A), no action of the old policy's support less likely than the smaller of :data:`LEAST` and it."""
    floored = np.maximum(policy, np.minimum(old, LEAST))
    return floored / floored.sum(axis=1, keepdims=True)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PolicySolution(Solution):
    r"""Answer to a step in policy space; see :class:`~reps_opt.Solution` for what every answer has.

    Attributes
    ----------
    policy : (S, A) array
        The new policy. States that the old policy never visits follow the same rule with the same eta; actions that it
        never takes stay at zero.
    predicted_improvement : float
        What the step's own model expects to gain, in mean reward a step: the surrogate
        :math:`\sum_s d_q(s) \sum_a \pi(a|s) A(s,a)` for a TRPO step, :math:`g's` for a gradient step.
    objective : float
        The prediction; in penalty form less ``temperature * D``.
    duals : mapping
        ``kl`` (eta), and for TRPO steps ``policy`` (S,): the multiplier of :math:`\sum_a d(s)\pi(a|s) = d(s)`, NaN in
        states without mass.
    step : (S, A) array, (k,) array, or None
        For gradient steps, the change of the parameters: of the softmax table's logits, or of the features' weights.
    """

    policy: FloatArray
    predicted_improvement: float
    step: FloatArray | None = None
    duals: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def comparison(self) -> PolicyComparison:
        """The new policy beside the old: gain, surrogate, every KL, and the bounds that were to hold."""
        from reps_opt.policy_comparison import compare_policies

        return compare_policies(self.problem.mdp, self.problem.policy, self.policy)

    @property
    def actual_improvement(self) -> float:
        """Exact gain in mean reward: ``J(new) - J(old)``, by a linear solve."""
        return self.comparison.gain

    @cached_property
    def value(self) -> FloatArray:
        """Value function (S,) that the step went by, the old policy's: its Bellman error is the advantage."""
        return self.problem.mdp.value(self.problem.policy)

    @cached_property
    def occupancy(self) -> FloatArray:
        """Exact occupancy (S, A) of the new policy."""
        return self.problem.mdp.occupancy(self.policy)

    def rows(self) -> list[tuple[str, str]]:
        lines = super().rows()
        if self.has_point:
            lines.insert(1, ("actual gain", f"{self.actual_improvement:.10g}"))
            lines.insert(1, ("predicted gain", f"{self.predicted_improvement:.10g}"))
        return lines

    def numbers(self) -> dict[str, Any]:
        names = ("predicted_improvement", "actual_improvement")
        gains = {name: float(getattr(self, name)) for name in names}
        return {**super().numbers(), **gains, "gamma": self.problem.mdp.gamma}

    def arrays(self) -> Arrays:
        """Over states and actions; a gradient step's change of the parameters too."""
        pairs = ("state", "action")
        arrays: dict[str, Any] = {
            "policy": (pairs, self.policy),
            "old_policy": (pairs, self.problem.policy),
            "advantage": (pairs, self.problem.advantage),
            "value": (pairs[:1], self.value),
            "occupancy": (pairs, self.occupancy),
            "old_state_distribution": (pairs[:1], self.problem.state_distribution),
        }
        if self.step is not None:
            arrays["step"] = (pairs if self.step.ndim == 2 else ("parameter",), self.step)
        return arrays
