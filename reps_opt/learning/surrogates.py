"""The surrogate of a batch at a policy: its gradient, trust-region steps along it, and what a step comes to.

Shapes: N transitions, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from reps_opt.learning.gradients import Pairs, ParametricPolicy, fisher, surrogate_gradient
from reps_opt.learning.policy_update import PolicyUpdate
from reps_opt.learning.returns import Transitions
from reps_opt.metrics import Metric, Product
from reps_opt.problems.step_solution import StepSolution
from reps_opt.problems.steps import TrustRegionStep
from reps_opt.solution import Status
from reps_opt.solvers.answer import Solver
from reps_opt.solvers.quadratic import Quadratic
from reps_opt.solving import solve
from reps_opt.tolerances import (
    CUBED,
    FISHER_DAMPING,
    FISHER_PRODUCT_DAMPING,
    LINE_SEARCH_GAP,
    PRECONDITIONED_FISHER_ROWS,
)
from reps_opt.validation import Figures, FloatArray

BY_PRODUCTS = Quadratic("cg", rtol=1e-3, max_iterations=50)
"""Route for larger ones: products with the factors, as accurate as a sampled metric deserves."""

PRECONDITIONED = Quadratic("cg", rtol=0.03, max_iterations=50)
"""The same where the policy has a preconditioner: in its norm the error of a step costs the gain half its square."""


class FisherStep(NamedTuple):
    """The solved problem, its step (P,) in the parameters' own units, what is approximate about it, in words, and the
    units that the problem is posed in."""

    solution: StepSolution
    direction: FloatArray
    note: str = ""
    units: FloatArray | float = 1.0


def fisher_step(
    policy: ParametricPolicy,
    pairs: Pairs,
    gradient: FloatArray,
    epsilon: float,
    costs: list[tuple[FloatArray, float]] | None = None,
    *,
    damping: float | None = None,
    exact: bool | None = None,
    solver: Solver | None = None,
) -> FisherStep:
    """The step of most gain within the ball; for what the arguments mean see :class:`FisherUpdate`."""
    has_products = hasattr(policy, "fisher_product")
    exact = (has_products or hasattr(policy, "fisher_factor")) if exact is None else exact
    rough = getattr(policy, "fisher_preconditioner", None) if exact and has_products else None
    route = solver or _route(rough is not None, min(len(pairs.actions), gradient.size), gradient.size)
    by_products = isinstance(route, Quadratic) and route.method == "cg"
    implicit = by_products and exact and has_products
    if damping is None:
        damping = FISHER_PRODUCT_DAMPING if implicit else FISHER_DAMPING
    units: FloatArray | float = 1.0
    metric: Metric
    if implicit:
        metric = Product(policy.fisher_product(pairs.states), 0.0, rough and rough(pairs.states))  # type: ignore[attr-defined]
    else:
        factor = fisher(policy, pairs.states, None if exact else pairs.actions)
        if damping > 0:
            factor, units = factor.with_unit_diagonal()
        metric = Product(factor.product) if by_products else factor  # certified without a factorisation, too
    rows = None if costs is None else [(slope / units, level) for slope, level in costs]
    solution = solve(TrustRegionStep(gradient / units, metric, epsilon, rows, damping), route)
    if solver is None and by_products:
        solution = _judged(solution)
    return FisherStep(solution, solution.step / units, solution.message if solution.has_point else "", units)


def _route(preconditioned: bool, smaller: int, n_params: int) -> Quadratic:
    if preconditioned and n_params > PRECONDITIONED_FISHER_ROWS:
        return PRECONDITIONED
    return Quadratic() if smaller <= CUBED else BY_PRODUCTS


def _judged(solution: StepSolution) -> StepSolution:
    """Certified to what the line search wants; or what is approximate about the step, in words."""
    if solution.status is not Status.UNCERTIFIED:
        return solution
    gap = solution.certificate.gap
    if solution.certificate.ok(tol=LINE_SEARCH_GAP):
        note = f"certified to {LINE_SEARCH_GAP:.0%} of the gain (the gap is {gap:.2g}), as accurate as a search wants"
        return replace(solution, status=Status.CERTIFIED, message=note)
    note = f"conjugate gradients left a gap of {gap:.2g} of the gain: the step ascends, another may gain that much more"
    return replace(solution, message=note)


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
