"""Penalty form, a fixed temperature: against CVXPY, closed forms, derivatives, and its certificate."""

import cvxpy as cp
import numpy as np
import pytest

from reps_opt import MDP, REPS, solve
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, Newton, ScipyDual
from tests.reps_opt.small_mdps import SAME_PROBLEM, by_both, changed, occupancy_set, optimum, random_case

TEMPERATURES = [0.02, 0.1, 0.5, 3.0]
ROUTES = [Newton(), ScipyDual(), CvxpyPrimal(), CvxpyDual()]


@pytest.mark.parametrize("part", range(4))
def test_a_hundred_random_problems_agree_with_cvxpy(part):
    for seed in range(25 * part, 25 * (part + 1)):
        case = random_case(seed)
        temperature = TEMPERATURES[(seed // 2) % 4]
        solution = solve(REPS(case.mdp, case.reference, temperature=temperature))
        x, flow = occupancy_set(case.mdp)
        penalty = cp.sum(cp.rel_entr(x, case.reference.ravel()))
        best = optimum(cp.Maximize(case.mdp.rewards.ravel() @ x - temperature * penalty), flow)
        assert solution.certificate.ok(1e-8), (seed, solution)
        assert solution.objective == pytest.approx(best, abs=2e-7), seed
        assert solution.eta == pytest.approx(temperature, rel=1e-14)


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: type(r).__name__)
def test_every_route_certifies(route):
    for seed in range(6):
        case = random_case(seed)
        problem = REPS(case.mdp, case.reference, temperature=TEMPERATURES[seed % 4])
        reference, solution = by_both(problem, route)
        np.testing.assert_allclose(solution.occupancy, reference.occupancy, atol=1e-3)


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("temperature", [0.1, 1.0, 20.0])
def test_one_state_is_a_softmax(temperature, route):
    rewards, q = np.array([[0.0, 0.3, 1.0]]), np.array([[0.5, 0.3, 0.2]])
    mdp = MDP(np.ones((1, 3, 1)), rewards, gamma=0.9)
    solution = solve(REPS(mdp, q, temperature=temperature), route)
    weight = q * np.exp(rewards / temperature)
    np.testing.assert_allclose(solution.policy, weight / weight.sum(), atol=1e-5)
    assert solution.objective == pytest.approx(temperature * np.log(weight.sum()), abs=1e-6)
    assert solution.value[0] == pytest.approx(temperature * np.log(weight.sum()) / 0.1, abs=1e-4)


def test_the_penalty_is_the_ball_it_reaches_and_its_slope_the_divergence():
    h = 1e-5
    for seed in (2, 3):
        case = random_case(seed)
        penalty = solve(REPS(case.mdp, case.reference, temperature=0.4))
        ball = solve(REPS(case.mdp, case.reference, epsilon=penalty.kl))
        assert ball.eta == pytest.approx(0.4, rel=1e-6)
        np.testing.assert_allclose(ball.occupancy, penalty.occupancy, atol=1e-8)
        assert ball.objective - 0.4 * ball.kl == pytest.approx(penalty.objective, abs=1e-9)
        ahead, behind = (solve(REPS(case.mdp, case.reference, temperature=0.4 + s * h)).objective for s in (1, -1))
        assert (ahead - behind) / (2 * h) == pytest.approx(-penalty.kl, rel=1e-5)


def test_the_certificate_is_about_the_penalised_objective():
    case = random_case(4)
    solution = solve(REPS(case.mdp, case.reference, temperature=0.4))
    ratio = solution.occupancy / case.reference
    divergence = np.sum(solution.occupancy * np.log(ratio))
    assert solution.certificate.lower == pytest.approx(
        np.sum(solution.occupancy * case.mdp.rewards) - 0.4 * divergence, abs=1e-12
    )
    assert solution.certificate.kl == pytest.approx(divergence, abs=1e-12)
    assert solution.certificate.epsilon == np.inf
    # any other occupancy scores less than the bound
    for _ in range(50):
        p = case.mdp.occupancy(case.rng.dirichlet(np.ones(3), size=4))
        score = np.sum(p * case.mdp.rewards) - 0.4 * np.sum(p * np.log(p / case.reference))
        assert score <= solution.certificate.upper + 1e-12


def test_limits_of_the_temperature():
    for seed in (6, 7):
        case = random_case(seed)
        cold = solve(REPS(case.mdp, case.reference, temperature=1e-5))
        assert cold.certificate.ok(1e-8), cold
        best = float((case.mdp.solve_optimal().gain * case.mdp.mu0).sum())
        assert best - 1e-3 <= cold.objective <= best
        hot = solve(REPS(case.mdp, case.reference, temperature=1e6))
        np.testing.assert_allclose(hot.occupancy, case.reference, atol=1e-6)


def test_rewards_and_temperature_in_other_units():
    case = random_case(8)
    solution = solve(REPS(case.mdp, case.reference, temperature=0.3))
    other = solve(REPS(changed(case.mdp, r=1e6 * case.mdp.rewards - 1e7), case.reference, temperature=3e5))
    np.testing.assert_allclose(other.occupancy, solution.occupancy, atol=1e-9)
    assert other.objective == pytest.approx(1e6 * solution.objective - 1e7, rel=1e-10)


@pytest.mark.parametrize("same", SAME_PROBLEM)
def test_the_same_problem_in_other_words_has_the_same_answer(same):
    for seed in (10, 11):
        case = random_case(seed)
        other = SAME_PROBLEM[same](case)
        a = solve(REPS(case.mdp, case.reference, temperature=0.2))
        b = solve(REPS(other.mdp, other.reference, temperature=0.2))
        assert b.objective == pytest.approx(a.objective, abs=1e-9)
        assert b.kl == pytest.approx(a.kl, abs=1e-8)
