"""The eta -> 0 limit of sample problems: the best weights, and of those the nearest to the base."""

from __future__ import annotations

import math

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import linprog

from reps_opt import EpisodicREPS, SampleREPS, Status, solve

NEAREST = 1e-6

pytestmark = pytest.mark.filterwarnings("ignore:the effective sample size")


def one_hot_steps(seed: int, n: int, n_states: int, gamma: float = 1.0) -> np.ndarray:
    """Feature differences (n, n_states) of random steps: dependent columns, and samples that no weights can use."""
    rng = np.random.default_rng(seed)
    before, after = rng.integers(0, n_states, n), rng.integers(0, n_states, n)
    return gamma * np.eye(n_states)[after] + (1 - gamma) / n_states - np.eye(n_states)[before]


@pytest.mark.parametrize("seed", range(20))
def test_a_linear_program_over_one_hot_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(10, 31))
    psi, r = one_hot_steps(seed, n, 4), rng.normal(size=n)
    best = linprog(-r, A_eq=np.vstack([psi.T, np.ones(n)]), b_eq=[0, 0, 0, 0, 1], method="highs")
    solution = solve(SampleREPS(r, psi, math.inf))
    assert solution.status is Status.CERTIFIED
    assert solution.objective == pytest.approx(-best.fun, abs=1e-8)


def test_a_face_on_which_one_sample_can_have_no_weight() -> None:
    r = [-0.04, -1.26, 2.57, 0.48, 0.64, -0.21, 0.06, 0.34, 0.2, -0.61]
    zero, there, back = [0] * 4, [0, 0, 1, -1], [0, 0, -1, 1]
    X = [zero, zero, there, there, [0, 1, -1, 0], [-1, 0, 0, 1], [1, 0, 0, -1], [1, -1, 0, 0], back, zero]
    solution = solve(SampleREPS(r, X, math.inf))
    assert solution.status is Status.CERTIFIED
    assert solution.objective == pytest.approx(1.385, abs=1e-9)


@pytest.mark.parametrize("penalty", [1e3, 1e7, 1e10, 1e15, 1e100])
def test_a_penalty_out_of_all_proportion_is_not_paid(penalty: float) -> None:
    r = np.append(np.random.default_rng(0).normal(size=20), -penalty)
    psi = np.random.default_rng(1).normal(size=(21, 1))
    solution = solve(SampleREPS(r, psi, 0.5))
    assert solution.status is Status.CERTIFIED
    w, base = cp.Variable(21, nonneg=True), np.full(21, 1 / 21)
    rows = [cp.sum(w) == 1, psi.T @ w == 0, w[20] == 0, cp.sum(cp.rel_entr(w, base)) <= 0.5]
    best = cp.Problem(cp.Maximize(r[:20] @ w[:20]), rows).solve(solver="CLARABEL")
    assert solution.objective == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("reward", [0.0, 1.0, -1.0, 0.001, 1e6])
@pytest.mark.parametrize("seed", range(6))
def test_constant_rewards_beside_a_ridge(reward: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 200)), int(rng.integers(1, 5))
    psi = rng.normal(size=(n, d)) + 0.3 * rng.normal(size=d)
    epsilon, ridge = 10 ** rng.uniform(-3, 0.5), 10 ** rng.uniform(-4, 1)
    solution = solve(SampleREPS(np.full(n, reward), psi, epsilon, ridge=ridge))
    assert solution.status is Status.CERTIFIED
    w = cp.Variable(n, nonneg=True)
    rows = [cp.sum(w) == 1, cp.sum(cp.rel_entr(w, np.full(n, 1 / n))) <= epsilon]
    mismatch = cp.Problem(cp.Minimize(cp.sum_squares(psi.T @ w)), rows).solve(solver="CLARABEL")
    assert (reward - solution.objective) * 2 * ridge == pytest.approx(mismatch, rel=1e-4, abs=1e-6 * ridge)


def test_the_mismatch_costs_nothing_where_it_can_be_undone() -> None:
    psi = np.random.default_rng(4).normal(size=(200, 1))
    solution = solve(SampleREPS(np.ones(200), psi, epsilon=0.01, ridge=0.01))
    assert solution.status is Status.CERTIFIED
    assert solution.objective == pytest.approx(1.0)


@pytest.mark.parametrize("ridge", [1e-4, 1e-2, 1.0])
def test_of_the_best_weights_the_nearest_to_the_base(ridge: float) -> None:
    psi = one_hot_steps(0, 400, 16, 0.99)
    solution = solve(SampleREPS(np.zeros(400), psi, 0.5, ridge=ridge))
    assert solution.status is Status.CERTIFIED
    w = cp.Variable(400, nonneg=True)
    rows = [cp.sum(w) == 1, psi.T @ w == 0]
    least = cp.Problem(cp.Minimize(cp.sum(cp.rel_entr(w, np.full(400, 1 / 400)))), rows).solve(solver="CLARABEL")
    assert solution.kl == pytest.approx(least, abs=NEAREST)


@pytest.mark.parametrize("ridge", [1e-3, 1e-1])
def test_a_slack_ball_beside_a_ridge_is_a_quadratic_program(ridge: float) -> None:
    rng = np.random.default_rng(3)
    psi, r = rng.normal(size=(800, 10)), rng.normal(size=800)
    solution = solve(SampleREPS(r, psi, 20.0, ridge=ridge))
    assert solution.status is Status.CERTIFIED
    assert solution.certificate.gap <= 1e-9
    w = cp.Variable(800, nonneg=True)
    problem = cp.Problem(cp.Maximize(r @ w - cp.sum_squares(psi.T @ w) / (2 * ridge)), [cp.sum(w) == 1])
    assert solution.objective == pytest.approx(problem.solve(solver="CLARABEL"), abs=1e-5)


def test_two_samples_that_need_more_than_the_radius_are_infeasible() -> None:
    problem = SampleREPS([0.0, 1.0], [[0.3], [0.0]], epsilon=0.1)
    assert solve(problem).status is Status.INFEASIBLE
    assert problem.epsilon_min == pytest.approx(math.log(2), abs=1e-9)


def test_a_range_beyond_double_precision_is_named() -> None:
    with pytest.raises(ValueError, match=r"returns must have a range below 1.8e308, got -1e\+308 to 1e\+308"):
        EpisodicREPS([1e308, -1e308], epsilon=0.1)


GRADED = np.array([1.7e-15, 1.8e-15, 2.2e-07, 0.0, 2.8e-28])
GRADED[3] = 1.0 - GRADED.sum()
FACE = np.array([[0.0, -1, 0, 0, 1], [1, 0, 0, 0, -1], [0, -1, 0, 1, 0], [-1, 0, 1, 0, 0], [0, 1, 0, 0, -1]])
LEAST = 0.5 * (np.log(0.5 / GRADED[0]) + np.log(0.5 / GRADED[4]))


@pytest.mark.parametrize("epsilon", [np.inf, LEAST + 1e-3, LEAST - 1e-3])
def test_weights_that_only_two_samples_can_have_are_found(epsilon: float) -> None:
    """The first and the last sample share all the mass there can be, and that projection has no dual: it was called
    infeasible, whatever the radius."""
    solution = solve(SampleREPS([1000.001, 1000, 1000, 1000, 1000], FACE, epsilon, base_weights=GRADED))
    assert solution.status is (Status.CERTIFIED if epsilon > LEAST else Status.INFEASIBLE), solution
    assert solution.epsilon_min == pytest.approx(LEAST, rel=1e-9)
    if epsilon > LEAST:
        np.testing.assert_allclose(solution.sample_weights, [0.5, 0, 0, 0, 0.5], atol=1e-9)
        assert solution.objective == pytest.approx(1000.0005, abs=1e-9)
