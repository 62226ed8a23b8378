r"""The surrogate of a batch at a policy: its gradient, trust-region steps along it, and what a step promises.

In units of reward a step promises, by the performance difference lemma,

.. math:: J(\pi') - J(\pi) \approx \sum_i b_i \Big(\frac{\pi'(a_i|s_i)}{\pi(a_i|s_i)} - 1\Big) \hat A_i
          - \text{optimism}

with the visits b of the old policy, weighed as REPS weighs a batch: so both promises are gains of the same objective.
The step was chosen to make the sum large, noise of the advantages included, and a network of thousands of parameters
follows noise far enough to promise ten times what comes. That part, the optimism, is what the gradients of two disjoint
parts of the batch do not agree on.

Shapes: N transitions, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from reps_opt.batch import Batch
from reps_opt.conjugate_gradient import conjugate_gradient
from reps_opt.features import IDENTITY
from reps_opt.learning.gradients import Pairs, ParametricPolicy, fisher, surrogate_gradient
from reps_opt.learning.policy_update import PolicyUpdate
from reps_opt.learning.returns import Transitions, cut_short
from reps_opt.metrics import Metric, Product
from reps_opt.problems.sample_flow import sample_flow, spread_of_sums
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
    LOOSEST_ALONG_RTOL,
    PRECONDITIONED_FISHER_ROWS,
    TINY,
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


Mean = Callable[[FloatArray], tuple[float, float]]
"""Of values (N,) of a batch's transitions, their mean over visits and its standard error by episodes."""


class Visits(NamedTuple):
    """How visits are weighed: the mean over them, and the rule for where the process begins that they stand for."""

    mean: Mean
    starts: str


def visits(batch: Transitions, gamma: float, starts: str | None = None) -> Visits:
    """The visits of a batch by which a discounted, or for gamma = 1 an undiscounted, objective counts.

    For gamma < 1 those of :func:`~reps_opt.problems.sample_flow.sample_flow` with absorption: the mean of the rewards
    is ``1 - gamma`` times the discounted return, in reward units a step. For gamma = 1 it is the return of an episode;
    one that the end of the recording cut short brings its rewards but is not counted as an episode.

    Examples
    --------
    >>> batch = Batch([0, 1, 0], [0, 0, 0], [1.0, 1.0, 1.0], [1, 2, 1], terminated=[False, True, True])
    >>> round(visits(batch, 1.0).mean(batch.rewards)[0], 6)
    1.5
    """
    whole = batch if isinstance(batch, Batch) else _as_batch(batch)
    if gamma < 1:
        flow = sample_flow(whole, IDENTITY, max(gamma, TINY), "absorb", starts)
        return Visits(flow.mean, flow.starts)
    number = np.unique(whole.episode, return_inverse=True)[1]
    counted = np.ones(whole.n_episodes)
    if cut_short(whole):
        counted[-1] = 0.0

    def mean(values: FloatArray) -> tuple[float, float]:
        sums = np.bincount(number, values)
        found = float(sums.sum() / counted.sum())
        return found, spread_of_sums(sums - found * counted) / float(counted.sum())

    return Visits(mean, "episodes")


def gradient_promise(
    at: Surrogate,
    gradient: FloatArray,
    result: Any,
    gamma: float,
    *,
    unit: float = 1.0,
    starts: str | None = None,
    credited: Callable[[FloatArray], FloatArray] | None = None,
) -> dict[str, Any]:
    """The promise of an accepted step, its standard error by episodes, and the batch's own objective, for its stats.

    Parameters
    ----------
    at
        What the step ascends.
    gradient
        Its gradient (P,), in the units of the solution.
    result
        The update, with its ``log_ratio``, ``step``, ``units`` and ``solution``: no pass over the policy is made.
    unit
        A reward in units of the advantages.
    starts
        As for :func:`visits`.
    credited
        Which rows the gains of rows count at; by default their own.

    Returns
    -------
    dict
        ``predicted_gain`` and its error; ``optimism``, what was taken off the surrogate for it; ``base_objective`` and
        its error, the mean reward of the same visits; ``gamma`` and ``starts`` as :func:`visits` has them.
    """
    counted, advantages = visits(at.batch, gamma, starts), at.advantages
    credited = credited or (lambda rows: rows)
    with np.errstate(invalid="ignore", over="ignore"):
        gains = np.where(advantages == 0, 0.0, np.expm1(result.log_ratio) * advantages)
    gain, error = counted.mean(credited(unit * gains))
    noise = optimism(at, gradient, result)
    squares = advantages**2
    size = float(np.mean(squares)) or 1.0  # zero where a step lowers costs alone: nothing is promised then
    share = unit * counted.mean(credited(squares))[0] / size
    base, base_error = counted.mean(np.asarray(at.batch.rewards, dtype=np.float64))
    return {
        "predicted_gain": gain - share * noise.mean,
        "predicted_gain_error": math.hypot(error, share * noise.std),
        "optimism": share * noise.mean,
        "base_objective": base,
        "base_objective_error": base_error,
        "gamma": gamma,
        "starts": counted.starts,
    }


class Optimism(NamedTuple):
    """What of a step's gain is noise that the step follows, and the standard deviation of that estimate."""

    mean: float
    std: float


def optimism(at: Surrogate, gradient: FloatArray, result: Any) -> Optimism:
    r"""Optimism of a step ``s = alpha M g`` along its own gradient, in units of the advantages, per transition.

    .. math:: \alpha\,(g'Mg - 4\, g_1' M g_2), \qquad g = g_1 + g_2

    ``g_1`` and ``g_2`` are summed over halves of the rows, drawn at random. Their noise is independent, for scores are:
    given its state an action is drawn anew. So the second term is the gain that the signal has; it is unbiased, and
    may be negative. Halves of one size: only then what the signal shares with the noise cancels.
    """
    solution, n = result.solution, len(at.advantages)
    if n < 2 or solution.status is Status.INFEASIBLE:  # which follows the costs instead
        return Optimism(0.0, 0.0)
    some = np.sort(np.random.default_rng(n).permutation(n)[: n // 2])
    share = len(some) / n
    rows = at.batch.states[some], at.batch.actions[some], share * at.advantages[some]
    half = surrogate_gradient(at.policy, *rows) / result.units
    whole, agreed = _inverse_forms(solution.problem.damped_metric, gradient, half)
    gain = float(gradient @ (result.step * result.units))
    if not whole > 0 or gain == 0:
        return Optimism(0.0, 0.0)
    noise = gain * (1 - agreed / (share * (1 - share)) / whole)
    size = float(np.mean(at.advantages**2))
    each = 2 * result.kl_old_new * size / (n * abs(gain))  # of a direction that noise may take
    return Optimism(noise, 2 * math.sqrt(each * max(noise, each)))


def _inverse_forms(metric: Metric, gradient: FloatArray, part: FloatArray) -> tuple[float, float]:
    """``g'Mg`` and ``g_1'M(g - g_1)``, M the metric's inverse, or what is cheap and near it."""
    if not metric.by_products:
        solve: Callable[[FloatArray], FloatArray] = metric.solve
    elif metric.precondition is not None:
        solve = metric.precondition
    else:

        def solve(y: FloatArray) -> FloatArray:
            return conjugate_gradient(metric.product, y, LOOSEST_ALONG_RTOL).solution

    lifted = solve(gradient)
    return float(gradient @ lifted), float(part @ (lifted - solve(part)))


def _as_batch(batch: Transitions) -> Batch:
    terminated = np.asarray(batch.terminated, dtype=bool)
    truncated = np.asarray(batch.truncated, dtype=bool) & ~terminated
    rows = (batch.states, batch.actions, batch.rewards, batch.next_states)
    return Batch(*rows, terminated=terminated, truncated=truncated)
