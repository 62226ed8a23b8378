"""Constrained policy optimisation: TRPO with budgets for expected costs.

Shapes: N transitions, P parameters, k budgets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.learning.gradients import ParametricPolicy
from reps_opt.learning.policy_update import NO_GRADIENT, PolicyUpdate, branch, under
from reps_opt.learning.returns import Transitions, episodes, estimate_advantages
from reps_opt.learning.surrogates import Surrogate
from reps_opt.learning.updates import TRPO
from reps_opt.learning.value_network import Memory
from reps_opt.solution import Status
from reps_opt.validation import FloatArray, as_float_array, as_scalar


@dataclass(frozen=True, kw_only=True)
class CPO(TRPO):
    r"""Constrained policy optimisation: TRPO with a budget for an expected discounted cost, or for several.

    The cost rows are ``c + b.s <= 0``: c is the batch's mean discounted cost of an episode less the budget, b the
    gradient of that cost. Where no step in the ball meets them, the recovery step is taken, which lowers the costs.

    Parameters
    ----------
    budget
        Largest expected discounted cost of an episode; a sequence of k for k costs.
    costs
        The costs of every transition, (N,) or (N, k), from the batch; its ``costs`` by default, which roll-outs read
        from ``info["cost"]``.

    References
    ----------
    Achiam et al. (2017), *Constrained policy optimization*, section 6.

    Examples
    --------
    >>> import envs
    >>> from policies import LinearGaussianPolicy
    >>> from reps_opt import CPO, rollout
    >>> env = envs.LQR()
    >>> policy = LinearGaussianPolicy.from_spaces(env.observation_space, env.action_space)
    >>> effort = lambda batch: np.sum(batch.actions**2, axis=1)
    >>> update = CPO(budget=[20.0, 0.5], costs=lambda batch: np.column_stack([effort(batch), batch.actions[:, 0] > 1]))
    >>> result = update(policy, rollout(env, policy, n_episodes=20, seed=0))
    >>> bool(np.all(result.cost < result.stats["expected_cost"]))
    True
    """

    budget: float | Sequence[float]
    costs: Callable[[Any], Any] | None = None

    def __post_init__(self, trace: float | None) -> None:
        super().__post_init__(trace)
        if np.ndim(self.budget) == 0:
            as_scalar(self.budget, "budget")
        elif as_float_array(self.budget, "budget", ("k",)).size == 0:
            raise ValueError("budget is empty: it must be a number, or (k,) numbers")

    def _step(
        self, policy: ParametricPolicy, batch: Transitions, advantages: FloatArray, memory: Memory | None
    ) -> PolicyUpdate:
        budgets = np.atleast_1d(as_float_array(self.budget, "budget"))
        paid = self._paid(batch, len(advantages), len(budgets))
        parts = episodes(batch.terminated, batch.truncated)
        weight = self.gamma**parts.time / parts.n_episodes
        expected = weight @ paid
        changes, kept = self._cost_advantages(batch, paid, memory)
        changes = changes * (weight * len(weight))[:, None]  # so that the mean over rows is the change of a cost
        at = Surrogate(policy, batch, advantages)
        slopes = [at.gradient_of(column) for column in changes.T]
        told: dict[str, Any] = {"memory": kept, "stats": {"expected_cost": self._as_given(expected)}}
        lowers = any(slope.any() for slope, over in zip(slopes, expected > budgets, strict=True) if over)
        if not at.gradient.any() and not lowers:
            return PolicyUpdate(policy, False, None, message=NO_GRADIENT, cost=self._as_given(expected), **told)
        step = self._solve(at, self.epsilon, list(zip(slopes, expected - budgets, strict=True)))

        def costs_of(trial: PolicyUpdate) -> FloatArray:
            log_ratio = np.asarray(trial.log_ratio)
            known = log_ratio < np.inf  # of an action that the old policy can have taken
            return expected + np.expm1(log_ratio[known]) @ changes[known] / len(known)

        unit = np.maximum(np.abs(budgets), weight @ np.abs(paid))
        unit[unit == 0] = 1.0

        def excess(costs: FloatArray) -> float:
            return float(np.sum(np.maximum(costs - budgets, 0.0) / unit))

        def improves(trial: PolicyUpdate) -> bool:
            costs = costs_of(trial)
            if excess(expected) > 0:  # on the way back, or just over: lower it first
                return excess(costs) < excess(expected)
            return excess(costs) == 0 and trial.gain > 0

        update = self._search(at, step, improves)
        told["stats"]["recovering"] = step.solution.status is Status.INFEASIBLE
        return replace(update, cost=self._as_given(costs_of(update) if update.accepted else expected), **told)

    def _as_given(self, costs: FloatArray) -> Any:
        """A number where the budget is one."""
        return costs if np.ndim(self.budget) else float(costs[0])

    def _paid(self, batch: Transitions, n: int, k: int) -> FloatArray:
        """Costs (N, k) of the transitions."""
        found: ArrayLike | None = self.costs(batch) if self.costs is not None else getattr(batch, "costs", None)
        if found is None:
            raise ValueError(
                "CPO needs costs, and the batch holds none: give costs=lambda batch: ..., or let the environment say "
                'info["cost"]'
            )
        paid = as_float_array(found, "costs")
        if paid.shape not in ((n, k), (n,) if k == 1 else (n, k)):
            wanted = f"({n},)" if k == 1 else f"({n}, {k})"
            raise ValueError(f"costs must have shape {wanted}, one column a budget, got {paid.shape}")
        return paid.reshape(n, k)

    def _cost_advantages(self, batch: Transitions, paid: FloatArray, memory: Memory | None) -> tuple[FloatArray, dict]:
        """Advantages (N, k) in the costs, and what to remember of their values."""
        columns, kept = [], dict[str, Any]()
        for i, cost in enumerate(paid.T):
            name = f"costs_{i}"
            known = branch(memory, name)
            estimate = estimate_advantages(batch, cost, self.gamma, self.gae_lambda, self.value_model, known)
            columns.append(estimate.advantages)
            kept |= under(name, estimate.memory)
        return np.column_stack(columns), kept
