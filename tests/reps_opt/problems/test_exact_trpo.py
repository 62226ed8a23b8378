"""The exact TRPO step: closed forms, CVXPY on random MDPs, derivatives of the dual, and what must not matter."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import softmax

from reps_opt import MDP, REPS, ExactTRPO, Status, solve
from reps_opt.constraints import Equal
from reps_opt.divergences.policy_divergences import NewOldKL, OldNewKL
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, EtaSearch, Newton, ScipyDual
from tests.reps_opt.policy_cases import DIRECTIONS, random_mdp

BALLS = {"old||new": OldNewKL, "new||old": NewOldKL}


def posed_over_rows(problem: ExactTRPO) -> float:
    """The largest surrogate by CVXPY, posed over pi itself: a divergence on a product of simplices."""
    pi, d, old = cp.Variable(problem.policy.shape), problem.state_distribution, problem.policy
    rows = cp.multiply(d[:, None] * np.ones_like(old), pi)
    kl = cp.rel_entr(old, pi) if problem.direction == "old||new" else cp.rel_entr(pi, old)
    taken = (old > 0).astype(float)
    constraints = [cp.sum(pi, axis=1) == 1, pi >= 0, cp.multiply(1 - taken, pi) == 0]
    if problem.direction == "old||new":
        divergence = cp.sum(cp.multiply(d[:, None] * taken, kl))
    else:
        safe = np.where(old > 0, old, 1.0)
        divergence = cp.sum(cp.multiply(d[:, None] * taken, cp.rel_entr(pi, safe)))
    scale = np.ptp(problem.advantage)
    objective = cp.sum(cp.multiply(problem.advantage / scale, rows))
    posed = cp.Problem(cp.Maximize(objective), [*constraints, divergence <= problem.epsilon])
    tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tolerances beyond what the solver can always reach
        posed.solve(solver="CLARABEL", accept_unknown=True, **tight)
    return float(posed.value) * scale


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(100))
def test_against_cvxpy_over_the_policy(seed: int, direction: str) -> None:
    mdp, policy, epsilon = random_mdp(seed)
    problem = ExactTRPO(mdp, policy, epsilon, direction)
    solution = solve(problem)
    assert solution.status is Status.CERTIFIED, solution
    assert abs(solution.certificate.gap) <= 1e-10
    if solution.eta > 0:
        assert abs(solution.kl - epsilon) <= 1e-9
    assert abs(solution.predicted_gain - posed_over_rows(problem)) <= 1e-7 * np.ptp(problem.advantage)


@pytest.mark.parametrize("route", [Newton(), ScipyDual(), CvxpyPrimal(), CvxpyDual()], ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(100, 110))
def test_every_route_finds_the_same_step(seed: int, direction: str, route: object) -> None:
    mdp, policy, epsilon = random_mdp(seed)
    problem = ExactTRPO(mdp, policy, epsilon, direction)
    expected, solution = solve(problem), solve(problem, route)
    unit = np.ptp(problem.program.objective)
    assert solution.status is Status.CERTIFIED, solution
    assert abs(solution.objective - expected.objective) <= 1e-6 * unit
    assert solution.kl <= epsilon + 1e-7


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(20))
def test_conditions_of_optimality(seed: int, direction: str) -> None:
    """The closed form of the policy holds with the multipliers reported, in every visited state."""
    mdp, policy, epsilon = random_mdp(seed)
    problem = ExactTRPO(mdp, policy, epsilon, direction)
    solution = solve(problem)
    if solution.eta == 0:  # the ball is slack: every state takes the best of the actions it took
        best = np.where(policy > 0, problem.advantage, -np.inf).max(axis=1)
        assert solution.predicted_gain == pytest.approx(float(problem.state_distribution @ best))
        return
    v, eta, advantage = solution.duals["policy"][:, None], solution.eta, problem.advantage
    visited = problem.state_distribution > 0
    expected = eta * policy / (v - advantage) if direction == "old||new" else policy * np.exp((advantage - v) / eta)
    np.testing.assert_allclose(solution.policy[visited], expected[visited], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(solution.policy.sum(axis=1), 1.0, atol=1e-14)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(10))
def test_eta_is_the_derivative_in_epsilon(seed: int, direction: str) -> None:
    mdp, policy, _ = random_mdp(seed)
    h = 1e-5
    values = [solve(ExactTRPO(mdp, policy, 0.05 + k * h, direction)).objective for k in (-1, 1)]
    eta = solve(ExactTRPO(mdp, policy, 0.05, direction)).eta
    assert eta == pytest.approx((values[1] - values[0]) / (2 * h), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(6))
def test_multipliers_are_derivatives_in_the_masses(seed: int, direction: str) -> None:
    """Mass moved from one state's row to another's changes the optimum by the difference of their multipliers."""
    mdp, policy, _ = random_mdp(seed)
    problem = ExactTRPO(mdp, policy, 0.05, direction)
    solution, h = solve(problem), 1e-5
    first, second = np.argsort(-problem.state_distribution)[:2]
    move = (problem.flow.nodes == first) * 1.0 - (problem.flow.nodes == second)

    def optimum(shift: float) -> float:
        block = problem.program.equalities["policy"]
        moved = replace(problem.program, rows={"policy": Equal(block.matrix, block.rhs + shift * move)})
        answer = Newton().solve(moved)
        assert answer.point is not None
        np.testing.assert_allclose(moved.residual(answer.point), 0.0, atol=1e-11)
        return moved.score(answer.point)

    slope = (optimum(h) - optimum(-h)) / (2 * h)
    v = solution.duals["policy"]
    assert v[first] - v[second] == pytest.approx(slope, rel=1e-4, abs=1e-5 * np.ptp(problem.advantage))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_derivatives_of_the_dual(direction: str) -> None:
    """Gradients of g, and the slope of D that the search uses, against central differences."""
    rng = np.random.default_rng(0)
    q = rng.dirichlet(np.ones(7))
    block = np.array([0, 0, 1, 1, 1, 2, 2])
    ball, y, h = BALLS[direction](q, block), rng.normal(size=7), 1e-6
    found = ball.conjugate(y)
    by_difference = [(ball.conjugate(y + h * e).value - ball.conjugate(y - h * e).value) / (2 * h) for e in np.eye(7)]
    np.testing.assert_allclose(found.point, by_difference, atol=1e-9)
    hessian = np.array([found.hessian(e) for e in np.eye(7)])
    moved = np.array([(ball.conjugate(y + h * e).point - ball.conjugate(y - h * e).point) / (2 * h) for e in np.eye(7)])
    np.testing.assert_allclose(hessian, moved, atol=1e-8)

    def radius(log_eta: float) -> float:
        return ball.value(ball.statewise(y / math.exp(log_eta)).point)

    slope = (radius(0.3 + h) - radius(0.3 - h)) / (2 * h)
    at = y / math.exp(0.3)
    assert -ball.curvature(at, ball.statewise(at).weights) == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(10))
def test_dual_function_of_the_docstring(seed: int, direction: str) -> None:
    """g(eta) of the docstring bounds the surrogate for any eta, and meets it at the eta reported."""
    mdp, policy, epsilon = random_mdp(seed)
    problem = ExactTRPO(mdp, policy, epsilon, direction)
    solution = solve(problem)
    d, A = problem.state_distribution, problem.advantage

    def dual(eta: float) -> float:
        total = eta * epsilon
        for s in np.flatnonzero(d > 0):
            taken = policy[s] > 0
            a, q = A[s, taken], policy[s, taken]
            if direction == "new||old":
                total += d[s] * eta * (math.log(q @ np.exp((a - a.max()) / eta)) + a.max() / eta)
                continue
            low, high = a.max() + 1e-14, a.max() + 2 * eta
            v = brentq(lambda v: float(eta * np.sum(q / (v - a)) - 1), low, high, xtol=1e-15)  # noqa: B023
            total += d[s] * (v - eta - eta * float(q @ np.log((v - a) / eta)))
        return float(total)

    if solution.eta > 0:
        assert dual(solution.eta) == pytest.approx(solution.objective, abs=1e-8)
    for eta in (0.3, 1.0, 3.0):
        assert dual(eta) >= solution.objective - 1e-10


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_two_actions_in_one_state(direction: str) -> None:
    """With two actions the new policy is one number, the root of its KL."""
    mdp = MDP(np.ones((1, 2, 1)), [[0.0, 1.0]], gamma=0.9)
    old, epsilon = np.array([[0.7, 0.3]]), 0.05

    def kl(p: float) -> float:
        new = np.array([1 - p, p])
        pair = (old[0], new) if direction == "old||new" else (new, old[0])
        return float(np.sum(pair[0] * np.log(pair[0] / pair[1]))) - epsilon

    p = brentq(kl, 0.3, 1 - 1e-12, xtol=1e-15)
    solution = solve(ExactTRPO(mdp, old, epsilon, direction))
    np.testing.assert_allclose(solution.policy, [[1 - p, p]], atol=1e-12)
    assert solution.predicted_gain == pytest.approx(p - 0.3, abs=1e-12)
    assert solution.gain == pytest.approx(p - 0.3, abs=1e-12)  # one state: the surrogate is exact


@pytest.mark.parametrize("seed", range(20))
def test_reps_and_trpo_agree_for_small_steps(seed: int) -> None:
    """One state, softmax: eta of REPS over eta of TRPO is ``1 - skewness sqrt(2 epsilon) / 3 + O(epsilon)``.

    The skewness is the reward's under the policy: third-order terms of the two divergences differ.
    """
    mdp, policy = one_state(seed)
    centred = mdp.rewards - np.sum(policy * mdp.rewards)
    skewness = np.sum(policy * centred**3) / np.sum(policy * centred**2) ** 1.5
    kurtosis = np.sum(policy * centred**4) / np.sum(policy * centred**2) ** 2
    for epsilon in (1e-2, 1e-4, 1e-6):
        ratio = solve(REPS(mdp, mdp.occupancy(policy), epsilon)).eta / solve(ExactTRPO(mdp, policy, epsilon)).eta
        assert abs(ratio - (1 - skewness * math.sqrt(2 * epsilon) / 3)) <= kurtosis * epsilon


def test_skewed_rewards_pull_the_multipliers_apart() -> None:
    """At skewness 1.08 the ratio is .961 at epsilon = 1e-2, .9995 at 1e-6."""
    p = 0.263
    mdp = MDP(np.ones((1, 2, 1)), [[0.0, 1.0]], gamma=0.9)
    policy = np.array([[1 - p, p]])
    q = mdp.occupancy(policy)
    ratios = [solve(REPS(mdp, q, e)).eta / solve(ExactTRPO(mdp, policy, e)).eta for e in (1e-2, 1e-4, 1e-6)]
    np.testing.assert_allclose(ratios, [0.961, 0.9950, 0.9995], atol=1e-3)


@pytest.mark.parametrize("epsilon", [1e-6, 1e-2, 0.5])
def test_in_one_state_reps_is_the_new_old_step(epsilon: float) -> None:
    mdp, policy = one_state(0)
    reps = solve(REPS(mdp, mdp.occupancy(policy), epsilon))
    step = solve(ExactTRPO(mdp, policy, epsilon, "new||old"))
    assert reps.eta == pytest.approx(step.eta, rel=1e-6)
    np.testing.assert_allclose(reps.policy, step.policy, atol=1e-9)


def one_state(seed: int) -> tuple[MDP, np.ndarray]:
    """One state with five random rewards under a random softmax policy."""
    rng = np.random.default_rng(seed)
    return MDP(np.ones((1, 5, 1)), rng.normal(size=(1, 5)), gamma=0.9), softmax(rng.normal(size=(1, 5)), axis=1)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(5))
def test_temperature_is_the_ball_at_its_own_eta(seed: int, direction: str) -> None:
    mdp, policy, _ = random_mdp(seed)
    epsilon = 0.05
    ball = solve(ExactTRPO(mdp, policy, epsilon, direction))
    assert ball.eta > 0
    for route in (EtaSearch(), Newton()):
        price = solve(ExactTRPO(mdp, policy, direction=direction, temperature=ball.eta), route)
        assert price.status is Status.CERTIFIED
        np.testing.assert_allclose(price.policy, ball.policy, atol=1e-8)
        assert price.objective == pytest.approx(ball.objective - ball.eta * epsilon, abs=1e-9)
