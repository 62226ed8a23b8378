"""The surrogate of a batch at a policy: its gradient, and what a step along it comes to.

Shapes: N transitions, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from reps_opt.learning.fisher_steps import FisherStep
from reps_opt.learning.gradients import Pairs, ParametricPolicy, surrogate_gradient
from reps_opt.learning.policy_update import PolicyUpdate
from reps_opt.learning.returns import Transitions
from reps_opt.validation import Figures, FloatArray


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The mean advantage (N,) of a batch's actions under a new policy in place of the one that took them."""

    policy: ParametricPolicy
    batch: Transitions
    advantages: FloatArray

    @cached_property
    def pairs(self) -> Pairs:
        """States, as the policy saw them, and actions."""
        return Pairs.of(self.policy, self.batch)

    @cached_property
    def gradient(self) -> FloatArray:
        """Its gradient (P,) at the policy itself."""
        return self.gradient_of(self.advantages)

    def gradient_of(self, advantages: FloatArray) -> FloatArray:
        """That of other advantages (N,), in a cost for instance."""
        return surrogate_gradient(self.policy, *self.pairs, advantages)

    @cached_property
    def _compare(self) -> Callable[[Any], tuple[Figures, Figures, Figures]]:
        """Of a new policy, log pi_new(a|s) / pi(a|s), KL(old || new) and KL(new || old) at each state.

        The old one is evaluated once.
        """
        policy, pairs = self.policy, self.pairs
        if hasattr(policy, "comparison"):
            return policy.comparison(*pairs)
        before = policy.log_prob(*pairs)
        return lambda new: (
            lambda: new.log_prob(*pairs) - before,
            lambda: policy.kl_divergence(new, pairs.states),
            lambda: new.kl_divergence(policy, pairs.states),
        )

    def taken(self, step: FisherStep, fraction: float, epsilon: float = math.inf) -> PolicyUpdate:
        """The policy after a fraction of a step, with its true surrogate gain and mean KL.

        Of one whose KL(old || new) exceeds epsilon nothing else is computed, and it is not accepted.
        """
        moved = fraction * step.direction
        new = self.policy.with_params(self.policy.params + moved)
        with np.errstate(invalid="ignore", divide="ignore"):  # of actions that have no probability
            log_ratios, old_new, new_old = self._compare(new)
            kl_old_new = float(np.mean(old_new()))
            if kl_old_new > epsilon:
                return PolicyUpdate(new, False, step.solution, fraction, kl_old_new=kl_old_new)
            log_ratio, kl = log_ratios(), float(np.mean(new_old()))
            gain = float(np.mean(np.where(self.advantages == 0, 0.0, np.expm1(log_ratio) * self.advantages)))
        done: dict[str, Any] = {"step": moved, "log_ratio": log_ratio, "units": step.units}
        return PolicyUpdate(new, True, step.solution, fraction, gain, kl, kl_old_new, message=step.note, **done)
