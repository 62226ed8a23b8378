"""From a solver's answer to a solution: export the policy, make its occupancy feasible, bound, certify, name the duals.

Everything here works in normalised rewards until the last step. Shapes: S states, A actions; n pairs and m states that
can carry mass.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.optimize import brentq

from reps_opt import markov
from reps_opt.certificate import Certificate
from reps_opt.problems.occupancy_solution import OccupancySolution
from reps_opt.program import Program, Scale
from reps_opt.solution import Status
from reps_opt.solvers.answer import Answer
from reps_opt.validation import FloatArray

if TYPE_CHECKING:
    from reps_opt.problems.occupancy import OccupancyProblem
    from reps_opt.problems.reduction import Reduction

SLACK_MARGIN = 1e-9
"""How far inside the ball a point must be for eta to be read as zero."""


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
    value, normaliser = _duals(problem, program, bound, point, scale)
    ok = certificate.ok()
    advice = "" if ok else "; ".join([*certificate.reasons(), answer.message, "try another solver or a larger epsilon"])
    if problem.mdp.gamma == 1 and reduction.component.max() > 0:
        text = "the MDP is multichain on the reference's support: gain and bias are not unique"
        warnings.warn(text, UserWarning, stacklevel=4)
    eta = bound.eta * scale.factor
    return OccupancySolution(
        problem=problem,
        status=Status.CERTIFIED if ok else Status.UNCERTIFIED,
        eta=eta,
        value=value,
        occupancy=occupancy,
        policy=_export(problem, occupancy, _policy_of(problem, program, bound, point)),
        objective=certificate.lower,
        dual_objective=certificate.upper,
        duals={"flow": value, "normalisation": normaliser, "kl": eta},
        certificate=certificate,
        epsilon_min=problem.epsilon_min,
        message=advice or answer.message,
        stats=dict(answer.stats),
    )


def read_infeasible(problem: OccupancyProblem) -> OccupancySolution:
    """The solution of a problem whose ball holds no occupancy."""
    least = problem.epsilon_min
    text = (
        "the reference's support carries no occupancy of the MDP, whatever epsilon"
        if least == math.inf
        else f"no occupancy lies within epsilon = {problem.epsilon:g} of the reference: it takes at least {least:.9g}"
    )
    return _without_point(problem, Status.INFEASIBLE, text, {})


def _without_point(problem: OccupancyProblem, status: Status, message: str, stats: dict) -> OccupancySolution:
    shape = problem.mdp.rewards.shape
    value, nothing, nan = np.full(shape[0], np.nan), np.full(shape, np.nan), math.nan
    epsilon = math.inf if problem.epsilon is None else problem.epsilon
    return OccupancySolution(
        problem=problem,
        status=status,
        eta=nan,
        value=value,
        occupancy=nothing,
        policy=nothing,
        objective=nan,
        dual_objective=nan,
        duals={"flow": value, "normalisation": nan, "kl": nan},
        certificate=Certificate(nan, nan, nan, nan, epsilon, nan, nan),
        epsilon_min=problem.epsilon_min,
        message=message,
        stats=stats,
    )


def _policies(problem: OccupancyProblem, program: Program, answer: Answer) -> Iterator[FloatArray]:
    """Candidate policies (n,), conditionals over the kept pairs: the dual's softmax, and the solver's own point."""
    own = None if answer.point is None else np.maximum(answer.point, 0.0)
    if answer.multipliers is not None and 0 < answer.eta < math.inf:
        dual = program.dual(answer.eta, answer.multipliers)
        yield _softmax(problem, program, dual.slack / answer.eta)
        if own is None or np.abs(dual.conjugate.point - own).sum() <= 1e-9:
            return
    assert own is not None
    yield _conditional(problem, own)


def _softmax(problem: OccupancyProblem, program: Program, exponent: FloatArray) -> FloatArray:
    """pi(a|s) proportional to q exp(exponent), by log-sum-exp a state: right where masses underflow."""
    reduction = _reduction(problem)
    state, m = reduction.pair_state, reduction.states.size
    log_weight = np.log(program.divergence.reference) + exponent
    top = np.full(m, -np.inf)
    np.maximum.at(top, state, log_weight)
    weight = np.exp(log_weight - top[state])
    return weight / np.bincount(state, weights=weight, minlength=m)[state]


def _conditional(problem: OccupancyProblem, point: FloatArray) -> FloatArray:
    """pi(a|s) = p(s, a) / sum_a p(s, a); uniform over the kept actions of a state without mass."""
    reduction = _reduction(problem)
    state = reduction.pair_state
    mass = reduction.state_sums(point)[state]
    count = reduction.state_sums(np.ones_like(point))[state]
    return np.where(mass > 0, point / np.where(mass > 0, mass, 1.0), 1.0 / count)


def _reduction(problem: OccupancyProblem) -> Reduction:
    assert problem.reduction is not None
    return problem.reduction


def _feasible(problem: OccupancyProblem, program: Program, policy: FloatArray, point: FloatArray | None) -> FloatArray:
    """Exact occupancy (n,) of a policy, moved towards the centre of the ball by as much as the ball asks."""
    reduction = _reduction(problem)
    state = reduction.pair_state
    near = None if point is None else reduction.state_sums(np.maximum(point, 0.0))
    chain = reduction.chain(policy)
    if problem.mdp.gamma < 1:
        mu0 = problem.mdp.mu0[reduction.states]
        mu = markov.discounted_occupancy(chain, problem.mdp.gamma, mu0, near)
    else:
        mu = _stationary(chain, near)
    return _into_ball(problem, program, mu[state] * policy)


def _stationary(chain: sp.csr_array, near: FloatArray | None) -> FloatArray:
    """Stationary distribution of a chain, its recurrent classes weighted by the mass of ``near``."""
    chain = sp.csr_array(chain)
    chain.eliminate_zeros()
    structure = markov.chain_structure(chain)
    inside = structure.component >= 0
    label = structure.component[inside]
    weight = np.ones(label.size) if near is None else near[inside]
    mass = np.bincount(label, weights=weight)
    mu = np.zeros(chain.shape[0])
    mu[inside] = (mass / mass.sum())[label] * structure.stationary[inside]
    return mu


def _into_ball(problem: OccupancyProblem, program: Program, point: FloatArray) -> FloatArray:
    """The point itself inside the ball; outside, the point of its segment to the centre that the sphere cuts."""
    epsilon, divergence = program.epsilon, program.divergence
    if epsilon is None or divergence.value(point) <= epsilon:
        return point
    centre = problem.centre.point

    def excess(share: float) -> float:
        return divergence.value((1 - share) * point + share * centre) - epsilon

    if excess(1.0) >= 0:
        return centre
    share = brentq(excess, 0.0, 1.0, xtol=1e-16, rtol=1e-14)
    while excess(share) > 0 and share < 1:
        share = min(1.0, share * (1 + 1e-12) + 1e-16)
    return (1 - share) * point + share * centre


def _best_bound(problem: OccupancyProblem, program: Program, answer: Answer, point: FloatArray) -> Bound:
    """Least dual bound among those the answer offers: at its eta, and at zero where the ball looks slack."""
    if answer.multipliers is None:
        return Bound(math.inf, answer.eta, np.zeros(program.rhs.size))
    v = answer.multipliers
    if answer.eta == math.inf:
        return Bound(_pinsker_bound(problem, program), math.inf, v)
    bounds = []
    if answer.eta > 0:
        bounds.append(Bound(program.bound(answer.eta, v), answer.eta, v))
    inside = program.epsilon is not None and program.divergence.value(point) <= program.epsilon - SLACK_MARGIN
    if answer.eta == 0 or inside:
        bounds.insert(0, Bound(program.bound(0.0, v), 0.0, v))
    return min(bounds, key=lambda bound: bound.value)


def _pinsker_bound(problem: OccupancyProblem, program: Program) -> float:
    """Bound for a ball that barely holds its centre: KL(p || centre) <= epsilon - epsilon_min, then Pinsker."""
    assert program.epsilon is not None
    room = max(program.epsilon - problem.centre.divergence, 0.0)
    reach = math.sqrt(room / 2) * float(np.ptp(program.objective))
    return float(program.objective @ problem.centre.point) + reach


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
    inflow = mdp.transitions.T @ occupancy.ravel()
    missing = occupancy.sum(axis=1) - (1 - mdp.gamma) * mdp.mu0 - mdp.gamma * inflow
    lower = program.score(point)
    return Certificate(
        gap=upper - lower,
        flow=float(np.abs(missing).sum()),
        mass=abs(float(occupancy.sum()) - 1.0) if occupancy.min() >= 0 else math.inf,
        kl=program.divergence.value(point),
        epsilon=math.inf if program.epsilon is None else program.epsilon,
        upper=scale.shift + scale.factor * upper,
        lower=scale.shift + scale.factor * lower,
    )


def _duals(
    problem: OccupancyProblem, program: Program, bound: Bound, point: FloatArray, scale: Scale
) -> tuple[FloatArray, float]:
    """Value (S,) and multiplier of the normalisation in reward units, in the gauge that Solution states."""
    reduction = _reduction(problem)
    slack = program.slack(bound.multipliers)
    if bound.eta == math.inf:
        inner = float(slack @ point)
    elif bound.eta > 0:
        inner = bound.eta * program.divergence.conjugate(slack / bound.eta).normaliser
    else:
        inner = float(slack.max())
    normaliser = scale.shift + scale.factor * inner
    value = scale.factor * bound.multipliers
    if problem.mdp.gamma < 1:
        value = value + normaliser / (1 - problem.mdp.gamma)
        normaliser = 0.0
    else:
        mass = reduction.state_sums(point) + 1e-300
        label = reduction.component
        value = value - (np.bincount(label, weights=mass * value) / np.bincount(label, weights=mass))[label]
    return reduction.spread_states(value), normaliser


def _policy_of(problem: OccupancyProblem, program: Program, bound: Bound, point: FloatArray) -> FloatArray:
    """Policy (n,) for states that the occupancy does not visit: the softmax of the Bellman error, or its limit."""
    slack = program.slack(bound.multipliers)
    if bound.eta > 0:
        return _softmax(problem, program, slack / bound.eta)
    top = np.full(_reduction(problem).states.size, -np.inf)
    state = _reduction(problem).pair_state
    np.maximum.at(top, state, slack)
    tight = slack >= top[state] - 1e-9 * max(1.0, float(np.abs(bound.multipliers).max()))
    return _softmax(problem, program, np.where(tight, 0.0, -np.inf))


def _export(problem: OccupancyProblem, occupancy: FloatArray, elsewhere: FloatArray) -> FloatArray:
    """Policy (S, A): the conditional of the occupancy; without mass the softmax's, the reference's, else uniform."""
    reduction = _reduction(problem)
    policy = problem.mdp.uniform_policy()
    if problem.reference is not None:
        known = problem.reference.sum(axis=1) > 0
        policy[known] = problem.reference[known] / problem.reference[known].sum(axis=1, keepdims=True)
    policy[reduction.states] = reduction.spread_pairs(elsewhere)[reduction.states]
    mass = occupancy.sum(axis=1, keepdims=True)
    return np.where(mass > 1e-290, occupancy / np.where(mass > 0, mass, 1.0), policy)
