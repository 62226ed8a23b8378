"""From a solver's answer to a solution: export the policy, make its occupancy feasible, bound, certify, name the duals.

Everything here works in normalised rewards until the last step. Shapes: S states, A actions; n pairs and m states that
can carry mass.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reps_opt.certificate import Certificate
from reps_opt.divergences.base import KL, group_max
from reps_opt.problems.occupancy_solution import OccupancySolution
from reps_opt.problems.segment import first_inside
from reps_opt.program import Program, Scale
from reps_opt.solution import Status
from reps_opt.solvers.answer import Answer
from reps_opt.validation import FloatArray

if TYPE_CHECKING:
    from reps_opt.problems.occupancy import OccupancyProblem
    from reps_opt.problems.reduction import Reduction

LARGE_ETAS = (1e5, 1e6, 1e7)
"""Where the dual bound of a ball of a single point is taken, in units of the reward range a nat."""

SLACK_MARGIN = 1e-9
"""How far inside the ball a point must be for eta to be read as zero."""


SAME_POLICY = 1e-12
"""Largest difference of two policies that counts as rounding."""


class Bound(NamedTuple):
    """A dual bound and where it was taken."""

    value: float
    eta: float
    multipliers: FloatArray


def read_answer(problem: OccupancyProblem, program: Program, answer: Answer) -> OccupancySolution:
    """Certified solution from an answer to the normalised program; see :class:`OccupancySolution`."""
    reduction = problem.reduction
    assert reduction is not None
    if answer.point is None and answer.multipliers is None:
        return _without_point(problem, Status.FAILED, answer.message, dict(answer.stats))
    points = [_feasible(problem, program, policy, answer.point) for policy in _policies(problem, program, answer)]
    point = max(points, key=program.score)
    bound = _best_bound(problem, program, answer, point)
    scale = problem.normalised[1]
    occupancy = reduction.spread_pairs(point)
    certificate = _certify(problem, program, point, occupancy, bound.value, scale)
    duals = _duals(problem, program, bound, point, scale)
    ok = certificate.ok()
    advice = "" if ok else "; ".join([*certificate.reasons(), answer.message, "try another solver or a larger epsilon"])
    if problem.mdp.gamma == 1 and reduction.component.max() > 0:
        text = "the MDP is multichain on the reference's support: gain and bias are not unique"
        warnings.warn(text, UserWarning, stacklevel=4)
    return OccupancySolution(
        problem=problem,
        status=Status.CERTIFIED if ok else Status.UNCERTIFIED,
        eta=duals["kl"],
        value=duals["flow"],
        occupancy=occupancy,
        policy=_export(problem, occupancy, _policy_of(problem, program, bound)),
        objective=certificate.lower,
        dual_objective=certificate.upper,
        duals=duals,
        certificate=certificate,
        epsilon_min=problem.epsilon_min,
        message=advice or answer.message,
        stats=dict(answer.stats),
    )


def read_infeasible(problem: OccupancyProblem) -> OccupancySolution:
    """The solution of a problem whose ball and budgets hold no occupancy."""
    return _without_point(problem, Status.INFEASIBLE, _why_infeasible(problem), {})


def _why_infeasible(problem: OccupancyProblem) -> str:
    if problem.reduction is None:
        return "the reference's support carries no occupancy of the MDP, whatever epsilon"
    if problem.violation > 0:
        return (
            "no occupancy on the reference's support keeps the budgets: each would have to be raised "
            f"by at least {problem.violation:.9g}"
        )
    if problem.epsilon_min == math.inf:
        return "the divergence is infinite: part of the reference's mass cannot be reached by any occupancy"
    if problem.entropy is not None and problem.epsilon is not None:
        missed = problem.centre.divergence - problem.epsilon
        return (
            f"no occupancy has both KL <= {problem.epsilon:g} and entropy >= {problem.entropy:g}: one of the two "
            f"misses by at least {missed:.9g}"
        )
    return (
        f"no occupancy lies within epsilon = {problem.epsilon:g} of the reference: "
        f"it takes at least {problem.epsilon_min:.9g}"
    )


def _without_point(problem: OccupancyProblem, status: Status, message: str, stats: dict) -> OccupancySolution:
    shape = problem.mdp.rewards.shape
    value, nothing, nan = np.full(shape[0], np.nan), np.full(shape, np.nan), math.nan
    epsilon = math.inf if problem.epsilon is None else problem.epsilon
    prices = {} if problem.budgets is None else {"budgets": np.full(problem.budgets.limits.size, nan)}
    return OccupancySolution(
        problem=problem,
        status=status,
        eta=nan,
        value=value,
        occupancy=nothing,
        policy=nothing,
        objective=nan,
        dual_objective=nan,
        duals={"flow": value, "normalisation": nan, "kl": nan, **prices},
        certificate=Certificate.unknown(epsilon),
        epsilon_min=problem.epsilon_min,
        violation=problem.violation,
        message=message,
        stats=stats,
    )


def _policies(problem: OccupancyProblem, program: Program, answer: Answer) -> Iterator[FloatArray]:
    """Candidate policies (n,), conditionals over the kept pairs: the dual's maximiser, and the solver's own point."""
    reduction = _reduction(problem)
    own = None if answer.point is None else np.maximum(answer.point, 0.0)
    conditional = None if own is None else reduction.conditional(own)
    if answer.multipliers is not None and 0 < answer.eta < math.inf:
        scaled = program.slack(answer.multipliers) / answer.eta
        policy = program.divergence.within(scaled, reduction.pair_state, reduction.states.size)
        yield policy
        if own is None or conditional is None or np.abs(policy - conditional).max() <= SAME_POLICY:
            return
    assert conditional is not None
    yield conditional


def _reduction(problem: OccupancyProblem) -> Reduction:
    assert problem.reduction is not None
    return problem.reduction


def _feasible(problem: OccupancyProblem, program: Program, policy: FloatArray, point: FloatArray | None) -> FloatArray:
    """Exact occupancy (n,) of a policy, moved towards the anchor by as much as the ball and the budgets ask."""
    reduction = _reduction(problem)
    near = None if point is None else reduction.state_sums(np.maximum(point, 0.0))
    return _within(problem, program, reduction.occupancy(policy, near))


def _within(problem: OccupancyProblem, program: Program, point: FloatArray) -> FloatArray:
    """The point itself inside ball and budgets; else the first point of its segment to the anchor that is."""

    def excess(x: FloatArray) -> float:
        radius = math.inf if program.epsilon is None else program.epsilon
        beyond = program.divergence.value(x) - radius if radius < math.inf else -math.inf
        rows = [np.max(block.matrix @ x - block.rhs) for block in program.inequalities.values()]
        return float(max([beyond, *rows]))

    return point if excess(point) <= 0 else first_inside(excess, point, problem.anchor)


def _best_bound(problem: OccupancyProblem, program: Program, answer: Answer, point: FloatArray) -> Bound:
    """Least dual bound among those the answer offers: at its eta, and at zero where the ball looks slack."""
    if answer.multipliers is None:
        return Bound(math.inf, answer.eta, np.zeros(program.rhs.size))
    v = answer.multipliers
    if answer.eta == math.inf:
        return Bound(_single_point_bound(problem, program, v), math.inf, v)
    bounds = []
    eta = answer.eta if program.temperature is None else program.temperature
    if eta > 0:
        bounds.append(Bound(program.bound(eta, v), eta, v))
    inside = program.epsilon is not None and program.divergence.value(point) <= program.epsilon - SLACK_MARGIN
    if answer.eta == 0 or inside:
        bounds.insert(0, Bound(program.bound(0.0, v), 0.0, v))
    return min(bounds, key=lambda bound: bound.value)


def _single_point_bound(problem: OccupancyProblem, program: Program, multipliers: FloatArray) -> float:
    """Bound for a ball that barely holds its centre: by the divergence's own inequality, or from a large eta.

    Around its centre the dual is ``eta (epsilon - D(centre)) + variance / (2 eta)`` above the centre's objective; what
    falls below that objective is rounding.
    """
    centre, divergence = problem.centre, program.divergence
    assert program.epsilon is not None
    objective = float(program.objective @ centre.point)
    reach = math.inf
    if centre.divergence == 0 or isinstance(divergence, KL):
        room = max(program.epsilon - centre.divergence, 0.0)
        reach = divergence.reach(program.slack(multipliers), room)
    if reach < math.inf:
        return objective + reach
    return max(objective, min(program.bound(eta, multipliers + eta * centre.multipliers) for eta in LARGE_ETAS))


def _certify(
    problem: OccupancyProblem,
    program: Program,
    point: FloatArray,
    occupancy: FloatArray,
    upper: float,
    scale: Scale,
) -> Certificate:
    """Residuals on the whole MDP, not only on the pairs kept; gap in units of the reward range."""
    mdp = problem.mdp
    missing = mdp.flow_residual(occupancy)
    beyond = 0.0 if problem.budgets is None else np.maximum(problem.budgets.excess(occupancy), 0.0).sum()
    lower = program.score(point)
    return Certificate(
        gap=upper - lower,
        flow=float(np.abs(missing).sum() + beyond),
        mass=abs(float(occupancy.sum()) - 1.0) if occupancy.min() >= 0 else math.inf,
        kl=program.divergence.value(point),
        epsilon=math.inf if program.epsilon is None else program.epsilon,
        upper=scale.shift + scale.factor * upper,
        lower=scale.shift + scale.factor * lower,
    )


def _duals(
    problem: OccupancyProblem, program: Program, bound: Bound, point: FloatArray, scale: Scale
) -> dict[str, Any]:
    """Multipliers by name, in reward units and in the gauge that Solution states."""
    reduction = _reduction(problem)
    slack = program.slack(bound.multipliers)
    blocks = program.by_name(bound.multipliers)
    if bound.eta == math.inf:
        inner = float(slack @ point)
    elif bound.eta > 0:
        inner = bound.eta * program.divergence.conjugate(slack / bound.eta).normaliser
    else:
        inner = float(slack.max())
    normaliser = scale.shift + scale.factor * inner
    value = scale.factor * blocks["flow"]
    if problem.mdp.gamma < 1:
        value = value + normaliser / (1 - problem.mdp.gamma)
        normaliser = 0.0
    else:
        mass = reduction.state_sums(point) + 1e-300
        label = reduction.component
        value = value - (np.bincount(label, weights=mass * value) / np.bincount(label, weights=mass))[label]
    named: dict[str, Any] = {"flow": reduction.spread_states(value), "normalisation": normaliser}
    scaled = slack / bound.eta if 0 < bound.eta < math.inf else np.zeros_like(slack)
    named |= program.divergence.multipliers(scaled, bound.eta * scale.factor)
    if problem.budgets is not None:
        named["budgets"] = scale.factor * blocks["budgets"] / problem.budgets.span
    return named


def _policy_of(problem: OccupancyProblem, program: Program, bound: Bound) -> FloatArray:
    """Policy (n,) for states that the occupancy does not visit: that of the dual's maximiser, or its limit."""
    reduction = _reduction(problem)
    state, m = reduction.pair_state, reduction.states.size
    slack = program.slack(bound.multipliers)
    if bound.eta > 0:
        return program.divergence.within(slack / bound.eta, state, m)
    top = group_max(slack, state, m)
    tight = slack >= top[state] - 1e-9 * max(1.0, float(np.abs(bound.multipliers).max()))
    return reduction.conditional(np.where(tight, program.divergence.reference, 0.0))


def _export(problem: OccupancyProblem, occupancy: FloatArray, elsewhere: FloatArray) -> FloatArray:
    """Policy (S, A): the conditional of the occupancy; without mass the softmax's, the reference's, else uniform."""
    reduction = _reduction(problem)
    policy = problem.mdp.uniform_policy()
    reference = problem.reference_policy
    if reference is not None:
        known = reference.sum(axis=1) > 0
        policy[known] = reference[known]
    policy[reduction.states] = reduction.spread_pairs(elsewhere)[reduction.states]
    mass = occupancy.sum(axis=1, keepdims=True)
    return np.where(mass > 1e-290, occupancy / np.where(mass > 0, mass, 1.0), policy)
