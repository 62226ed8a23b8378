"""From a solver's answer to a certified policy step. Everything works in normalised advantages until the last step.

Shapes: S states, A actions; n pairs with mass and m states visited by the old policy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from reps_opt.certificate import Certificate
from reps_opt.divergences.policy_divergences import PolicyDivergence
from reps_opt.problems.policy_solution import PolicySolution, kept_apart_from_zero
from reps_opt.problems.readback import SLACK_MARGIN, Bound
from reps_opt.problems.segment import first_inside
from reps_opt.program import Program, Scale
from reps_opt.solution import Status
from reps_opt.solvers.answer import Answer
from reps_opt.validation import FloatArray

if TYPE_CHECKING:
    from reps_opt.problems.policy_steps import ExactTRPO


def read_policy(problem: ExactTRPO, program: Program, answer: Answer) -> PolicySolution:
    """Certified solution from an answer to the normalised program; see :class:`PolicySolution`."""
    point = max((_into_ball(program, x) for x in _candidates(program, answer)), key=program.score)
    bound = min(_bounds(program, answer, point), key=lambda bound: bound.value)
    scale = problem.normalised[1]
    policy = _policy(problem, program, point, bound, scale)
    if answer.eta > 0:  # otherwise the best actions alone, the others exactly zero
        policy = kept_apart_from_zero(policy, problem.policy)
    certificate = _certify(problem, program, policy, bound.value, scale)
    ok = certificate.ok()
    advice = "" if ok else "; ".join([*certificate.reasons(), answer.message, "try the default solver, Statewise"])
    multipliers = np.full(problem.mdp.n_states, np.nan)
    multipliers[problem.states] = scale.shift + scale.factor * bound.multipliers
    eta = bound.eta * scale.factor
    x = _pair_mass(problem, policy)
    return PolicySolution(
        problem=problem,
        status=Status.CERTIFIED if ok else Status.UNCERTIFIED,
        eta=eta,
        policy=policy,
        predicted_improvement=float(problem.program.objective @ x),
        objective=certificate.lower,
        dual_objective=certificate.upper,
        duals={"policy": multipliers, "kl": eta},
        certificate=certificate,
        message=advice or answer.message,
        stats=dict(answer.stats),
    )


def read_failed(problem: ExactTRPO, answer: Answer) -> PolicySolution:
    """The solution when the solver broke off without a point."""
    nan, nothing = math.nan, np.full(problem.mdp.rewards.shape, np.nan)
    epsilon = math.inf if problem.epsilon is None else problem.epsilon
    return PolicySolution(
        problem=problem,
        status=Status.FAILED,
        eta=nan,
        policy=nothing,
        predicted_improvement=nan,
        objective=nan,
        dual_objective=nan,
        duals={"policy": nothing[:, 0], "kl": nan},
        certificate=Certificate.unknown(epsilon),
        message=answer.message,
        stats=dict(answer.stats),
    )


def _ball(program: Program) -> PolicyDivergence:
    assert isinstance(program.divergence, PolicyDivergence)
    return program.divergence


def _candidates(program: Program, answer: Answer) -> Iterator[FloatArray]:
    """Points (n,) with the old state distribution: the closed form at the answer's eta, and the solver's own."""
    ball = _ball(program)
    if 0 < answer.eta < math.inf:
        below = program.objective - ball.state_max(program.objective)[ball.block]
        yield ball.statewise(below / answer.eta).point
    if answer.point is not None:
        own = np.maximum(answer.point, 0.0)
        total = ball.state_sums(own)[ball.block]
        share = np.where(total > 0, own / np.where(total > 0, total, 1.0), ball.conditional)
        yield ball.mass[ball.block] * share


def _into_ball(program: Program, point: FloatArray) -> FloatArray:
    """The point itself inside the ball; outside, the point of its segment to the old policy that the sphere cuts."""
    ball, epsilon = program.divergence, program.epsilon
    if epsilon is None:
        return point
    return first_inside(lambda x: ball.value(x) - epsilon, point, ball.reference)


def _bounds(program: Program, answer: Answer, point: FloatArray) -> Iterator[Bound]:
    """Dual bounds that the answer offers: its own multipliers, the best ones for its eta, and eta zero inside."""
    ball, c = _ball(program), program.objective
    top = ball.state_max(c)
    inside = program.epsilon is not None and ball.value(point) <= program.epsilon - SLACK_MARGIN
    if answer.eta == 0 or inside:
        yield Bound(program.bound(0.0, top), 0.0, top)
    if answer.eta == math.inf:
        assert program.epsilon is not None
        reach = math.sqrt(program.epsilon / 2) * float(np.ptp(c))  # Pinsker, in either direction
        yield Bound(float(c @ ball.reference) + reach, math.inf, top)
    elif answer.eta > 0:
        multipliers = top + answer.eta * ball.statewise((c - top[ball.block]) / answer.eta).multipliers
        yield Bound(program.bound(answer.eta, multipliers), answer.eta, multipliers)
        if answer.multipliers is not None:
            yield Bound(program.bound(answer.eta, answer.multipliers), answer.eta, answer.multipliers)
    else:
        yield Bound(math.inf, answer.eta, np.full(top.size, np.nan))


def _policy(problem: ExactTRPO, program: Program, point: FloatArray, bound: Bound, scale: Scale) -> FloatArray:
    """Policy (S, A): the point's conditional; in states without mass what the same eta makes of the old policy."""
    policy = problem.policy.copy()
    lost = np.setdiff1d(np.arange(problem.mdp.n_states), problem.states)
    if lost.size and bound.eta < math.inf:
        policy[lost] = _step_alone(problem, lost, bound.eta * scale.factor)
    ball = _ball(program)
    policy.ravel()[problem.pairs] = point / ball.mass[ball.block]
    return policy / policy.sum(axis=1, keepdims=True)


def _step_alone(problem: ExactTRPO, states: np.ndarray, eta: float) -> FloatArray:
    """Rows of the new policy for states without mass: the step at a given eta, in each state for itself."""
    policy, advantage = problem.policy[states], problem.advantage[states]
    taken = np.nonzero(policy > 0)
    ball = type(_ball(problem.program))(policy[taken], taken[0])
    c = advantage[taken]
    below = c - ball.state_max(c)[ball.block]
    rows = np.zeros_like(policy)
    if eta > 0:
        rows[taken] = ball.statewise(below / eta).point
    else:
        best = np.where(below == 0, ball.conditional, 0.0)
        rows[taken] = best / ball.state_sums(best)[ball.block]
    return rows


def _pair_mass(problem: ExactTRPO, policy: FloatArray) -> FloatArray:
    """x(s, a) = d(s) pi(a|s) (n,) of a policy (S, A), over the pairs with mass."""
    return (problem.state_distribution[:, None] * policy).ravel()[problem.pairs]


def _certify(problem: ExactTRPO, program: Program, policy: FloatArray, upper: float, scale: Scale) -> Certificate:
    """Residuals of the policy exported; gap in units of the advantages' range. Mass that would leave the old
    policy's support counts as missing."""
    x = _pair_mass(problem, policy)
    lower = program.score(x)
    ball = _ball(program)
    return Certificate(
        gap=upper - lower,
        flow=float(np.abs(ball.state_sums(x) - ball.mass).sum() + np.abs(policy.sum(axis=1) - 1.0).max()),
        mass=abs(float(x.sum()) - 1.0) if policy.min() >= 0 else math.inf,
        kl=ball.value(x),
        epsilon=math.inf if program.epsilon is None else program.epsilon,
        upper=scale.shift + scale.factor * upper,
        lower=scale.shift + scale.factor * lower,
    )
