"""Optimal values and gains against rational arithmetic, direct solves and linear programs, whatever stands beside."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linprog

import envs
from reps_opt import MDP
from reps_opt.processes import markov
from reps_opt.tolerances import HUGE
from tests.reps_opt import rational

GAMMAS = (1.0, 0.9, 1 - 1e-6, 1 - 1e-12)


def tiny(seed: int) -> tuple[MDP, str]:
    """Two to four states; probabilities of one size or of many; rewards with an outlier, an offset, or ties."""
    rng = np.random.default_rng(seed)
    S, A = int(rng.integers(2, 5)), int(rng.integers(2, 4))
    P, decades = np.zeros((S, A, S)), rng.choice([0, 3, 14])
    for s, a in np.ndindex(S, A):
        ahead = rng.choice(S, rng.integers(1, S + 1), replace=False)
        weight = 10.0 ** -rng.uniform(0, decades, size=ahead.size)
        P[s, a, ahead] = weight / weight.sum()
    r, trick = rng.normal(size=(S, A)), str(rng.choice(["plain", "penalty", "absurd penalty", "offset"]))
    if "penalty" in trick:
        r[rng.integers(S), rng.integers(A)] = -1e10 if trick == "penalty" else -1e300
    elif trick == "offset":
        r += 1e6
    allowed = rng.random((S, A)) < 0.9
    allowed[:, 0] = True
    return MDP(P, r, float(rng.choice(GAMMAS)), allowed=allowed), trick


@pytest.mark.parametrize("seed", range(60))
def test_the_best_of_all_policies_in_rational_arithmetic(seed: int) -> None:
    mdp, trick = tiny(seed)
    expected = rational.optimum(mdp)
    best = mdp.solve_optimal()
    found = best.gain if mdp.gamma == 1 else best.value
    error = max(abs(float(rational.Fraction(x) - y)) for x, y in zip(found.tolist(), expected, strict=True))
    largest = max(abs(float(x)) for x in expected)
    floor = 1e-13 * largest + (0.0 if mdp.gamma == 1 else 1e-15 / (1 - mdp.gamma))
    assert error <= 1e-6 + floor, trick


PENALTY_P, PENALTY_R = np.eye(2)[[[0, 1, 0], [0, 1, 1]]], np.array([[0.0, 1, 0], [2, 0, 0]])


@pytest.mark.parametrize("penalty", [10.0, 1e8, 1e10, 1e15, 1e150, 1e300])
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_a_penalty_never_paid_changes_nothing(penalty: float, gamma: float) -> None:
    r = PENALTY_R.copy()
    r[:, 2] = -penalty
    best = MDP(PENALTY_P, r, gamma, mu0=[0.5, 0.5]).solve_optimal()
    without = MDP(PENALTY_P[:, :2], r[:, :2], gamma).solve_optimal()
    np.testing.assert_allclose(best.value, without.value, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(best.gain, without.gain, rtol=1e-12)
    assert best.gain.mean() == pytest.approx(1.5)


@pytest.mark.parametrize("size", [1e-300, 0.7 / HUGE, 1.5 / HUGE, 0.7 * HUGE, 1.5 * HUGE, 1e300])
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_units_of_the_rewards_are_those_of_the_values(size: float, gamma: float) -> None:
    mdp = MDP(PENALTY_P, PENALTY_R, gamma, mu0=[0.5, 0.5])
    plain, best = mdp.solve_optimal(), mdp.replace(r=size * PENALTY_R).solve_optimal()
    np.testing.assert_allclose(best.value / size, plain.value, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(best.gain / size, plain.gain, rtol=1e-12)
    np.testing.assert_array_equal(best.policy, plain.policy)


def test_a_huge_reward_that_is_taken_leaves_decisions_elsewhere_alone() -> None:
    P = np.zeros((3, 2, 3))
    P[0, :, 1] = 1  # passed once, at whatever price
    P[1, 0, 1] = P[1, 1, 2] = P[2, :, 2] = 1
    for price in (-1e10, 1e10, -1e300):
        best = MDP(P, [[price, price], [0.5, 0.0], [1.0, 0.0]], 0.9).solve_optimal()
        np.testing.assert_allclose(best.value[1:], [9.0, 10.0], rtol=1e-12)
        assert best.policy[1, 1] == 1


@pytest.mark.parametrize("distance", [1e-6, 1e-8, 1e-10, 1e-12])
def test_taxi_close_to_no_discount_is_as_accurate_as_a_direct_solve(distance: float) -> None:
    mdp = MDP.from_gymnasium("Taxi-v4", gamma=1 - distance)
    best = mdp.solve_optimal()
    np.testing.assert_allclose(best.value, mdp.value(best.policy), atol=1e-10)
    undiscounted = np.zeros(500)  # value iteration without discount: every ride ends
    live = mdp.reachable
    for _ in range(100):
        ahead = (mdp.transitions @ undiscounted).reshape(500, 6)
        undiscounted = np.where(live, (mdp.rewards + ahead).max(axis=1), 0.0)
    np.testing.assert_allclose(best.value[live], undiscounted[live], atol=500 * distance + 1e-9)


@pytest.mark.parametrize("gamma", [0.9, 0.999999, 1.0])
def test_an_offset_moves_values_and_nothing_else(gamma: float) -> None:
    mdp = envs.garnet(30, 3, 3, seed=2, gamma=gamma)
    plain, moved = mdp.solve_optimal(), mdp.replace(r=mdp.rewards + 1e6).solve_optimal()
    np.testing.assert_array_equal(moved.policy, plain.policy)
    np.testing.assert_allclose(moved.gain - 1e6, plain.gain, atol=1e-8)
    pi = mdp.uniform_policy()
    shifted = mdp.replace(r=mdp.rewards + 1e6)
    np.testing.assert_allclose(shifted.advantage(pi), mdp.advantage(pi), atol=1e-8)


@pytest.mark.parametrize("gamma", [0.95, 0.9999])
@pytest.mark.parametrize("n_states", [50, 250, 500])  # dense, dense at its limit, sparse
def test_the_primal_linear_program_gives_the_same_value(gamma: float, n_states: int) -> None:
    mdp = envs.garnet(n_states, 3, 3, seed=n_states, gamma=gamma)
    rows = gamma * mdp.transitions.toarray() - np.repeat(np.eye(n_states), 3, axis=0)
    found = linprog(np.full(n_states, 1 / n_states), rows, -mdp.rewards.ravel(), bounds=(None, None), method="highs")
    scale = 1e-9 / (1 - gamma)
    np.testing.assert_allclose(mdp.solve_optimal().value, found.x, atol=scale, rtol=1e-7)


def test_equal_actions_leave_the_first() -> None:
    best = MDP(np.ones((1, 3, 1)), [[1.0, 1.0, 0.0]], 0.9).solve_optimal()
    assert best.policy.tolist() == [[1, 0, 0]]
    assert best.residual == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("gamma", [0.95, 0.999])
def test_large_mdps_bear_penalties_offsets_and_units_too(gamma: float) -> None:
    rng = np.random.default_rng(0)
    base = envs.gridworld((50, 50), slip=0.2, gamma=gamma)  # beyond the direct limit
    mdp = base.replace(r=rng.random(base.rewards.shape))
    barred = rng.random(mdp.rewards.shape) < 0.3
    barred[:, 0] = False
    plain, without = mdp.solve_optimal(), mdp.replace(allowed=~barred).solve_optimal()
    for penalty in (1e10, 1e300):
        best = mdp.replace(r=np.where(barred, -penalty, mdp.rewards)).solve_optimal()
        np.testing.assert_allclose(best.value, without.value, rtol=1e-11)
        np.testing.assert_array_equal(best.policy, without.policy)
    np.testing.assert_allclose(mdp.replace(r=mdp.rewards + 1e6).solve_optimal().gain - 1e6, plain.gain, atol=1e-8)
    np.testing.assert_allclose(mdp.replace(r=mdp.rewards * 1e-250).solve_optimal().gain * 1e250, plain.gain, rtol=1e-11)


def test_sweeps_spare_a_small_process_half_of_its_policies() -> None:
    lake = MDP.from_gymnasium("FrozenLake-v1", gamma=0.99, map_name="8x8")
    assert lake.solve_optimal().iterations <= 4
    assert envs.garnet(200, 4, 5, seed=0).solve_optimal().iterations <= 2


@pytest.mark.parametrize(("reach", "factorised"), [(80, True), (100, False)])
def test_a_large_narrow_chain_is_evaluated_by_factorisations(reach: int, factorised: bool) -> None:
    """States on a line, whose actions hop a little either way: inexact iterations would leave one exact one to do."""
    rng = np.random.default_rng(0)
    n = 2100
    to = np.clip(np.repeat(np.arange(n), 3)[:, None] + rng.integers(-reach, reach + 1, size=(3 * n, 4)), 0, n - 1)
    transitions = sp.csr_array((np.full(12 * n, 0.25), (np.repeat(np.arange(3 * n), 4), to.ravel())), shape=(3 * n, n))
    best = MDP(transitions, rng.uniform(size=(n, 3)), 0.9995).solve_optimal()
    assert (best.iterations > 1) == factorised


def test_news_of_a_distant_reward_takes_few_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    solved, solve = [], markov.rough_discounted_solve
    monkeypatch.setattr(markov, "rough_discounted_solve", lambda *given: solved.append(solve(*given)) or solved[-1])
    envs.gridworld((120, 120), slip=0.2, gamma=0.999).solve_optimal()
    assert 0 < len(solved) < 27
