"""Every small input that was once reported to be answered wrongly, with its right value.

Each stands for a kind, which is tested in full beside its family. The values were found by oracles that share no code
with the library: CVXPY or HiGHS without the offending pair, closed forms, enumeration, finite differences.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF, CompoundKernel

import envs
from policies import (
    GaussianProcessPolicy,
    LinearGaussianPolicy,
    NeuralPolicy,
    RBFPolicy,
    TabularPolicy,
)
from reps_opt import (
    CPO,
    MDP,
    REPS,
    TRPO,
    Batch,
    ConditionalREPS,
    EpisodicREPS,
    ExactTRPO,
    FiniteHorizonREPS,
    LinearProgram,
    NaturalGradient,
    NoImprovement,
    REPSUpdate,
    SampleREPS,
    TrustRegionStep,
    VanillaGradient,
    importance_weights,
    improve,
    rollout,
    solve,
)
from reps_opt.learning.returns import returns_to_go

PENALTIES = [10.0, 1e5, 1e10, 1e100, 1e300]
P3 = np.eye(2)[[[0, 1, 0], [0, 1, 1]]]


def walk(n: int, up: float, down: float) -> np.ndarray:
    """Transitions (n, 2, n) of a walk whose actions are the same."""
    i, P = np.arange(n), np.zeros((n, 2, n))
    for a in (0, 1):
        P[i, a, np.minimum(i + 1, n - 1)] += up
        P[i, a, np.maximum(i - 1, 0)] += down
        P[i, a, i] += 1 - up - down
    return P


def grid(n: int) -> np.ndarray:
    """Deterministic moves (n n, 4, n n) on a square; those off it stay."""
    P = np.zeros((n * n, 4, n * n))
    for s in range(n * n):
        for a, (dx, dy) in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1)]):
            x, y = np.clip([s // n + dx, s % n + dy], 0, n - 1)
            P[s, a, x * n + y] = 1
    return P


class TestUnits:
    @pytest.mark.parametrize("penalty", PENALTIES)
    def test_a_linear_program_with_a_pair_that_is_never_taken(self, penalty: float) -> None:
        solution = solve(LinearProgram(MDP(P3, [[0, 1, -penalty], [2, 0, -penalty]], 0.9)))
        assert solution.status == "certified"
        assert solution.objective == pytest.approx(1.5, abs=1e-6)

    @pytest.mark.parametrize("penalty", PENALTIES[2:])
    def test_every_family_over_pairs(self, penalty: float) -> None:
        """Against a penalty of 1e5, where the mass that is left on the pair weighs 1e-7 at most."""

        def answers(cost: float) -> list[Any]:
            mdp = MDP(P3, [[0, 1, -cost], [2, 0, -cost]], 0.9, [1, 0])
            uniform = mdp.uniform_policy()
            return [
                solve(REPS(mdp, mdp.occupancy(uniform), 0.5)),
                solve(ConditionalREPS(mdp, uniform, 0.5)),
                *(solve(FiniteHorizonREPS(mdp, uniform, 3, 0.8, ball)) for ball in ("shared", "per_step")),
                solve(FiniteHorizonREPS(mdp, uniform, 3, 2.0, "trajectory")),
            ]

        for found, right in zip(answers(penalty), answers(1e5), strict=True):
            assert found.status == "certified", found
            assert found.objective == pytest.approx(right.objective, abs=1e-4), found

    @pytest.mark.parametrize("gamma", [0.9, 1.0])
    @pytest.mark.parametrize("cost", PENALTIES[:-1])
    def test_a_budget_whose_cost_has_a_huge_entry(self, cost: float, gamma: float) -> None:
        """Kept as the ordinary costs ask, and not to a share of the huge one."""
        mdp = MDP(P3, [[0, 1, 0], [2, 0, 0]], gamma, [1, 0])
        costs = np.array([[[0, 0.5, cost], [0, 0.5, cost]]])
        solution = solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.6, costs, [0.3]))
        assert solution.status == "certified"
        assert float(costs.ravel() @ solution.occupancy.ravel()) <= 0.3 + 1e-8
        right = 1.17368604 if gamma < 1 else 1.20193135
        assert cost < 1e10 or solution.objective == pytest.approx(right, abs=1e-8)

    @pytest.mark.slow
    @pytest.mark.parametrize("gamma", [0.9, 1.0])
    def test_a_cost_whose_square_is_no_number_leaks_nothing(self, gamma: float) -> None:
        mdp = MDP(P3, [[0, 1, 0], [2, 0, 0]], gamma, [1, 0])
        costs = np.array([[[0, 0.5, 1e300], [0, 0.5, 1e300]]])
        solution = solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.6, costs, [0.3]))
        assert solution.status == "uncertified"

    @pytest.mark.parametrize("penalty", PENALTIES)
    @pytest.mark.filterwarnings("ignore:the effective sample size")
    def test_samples_and_episodes_with_one_return_of_minus_1e10(self, penalty: float) -> None:
        rng = np.random.default_rng(0)
        rewards, psi = rng.normal(size=50), rng.normal(size=(50, 1))
        for family in (lambda r, x, e: SampleREPS(r, x, e), lambda r, x, e: EpisodicREPS(r, epsilon=e)):
            without = solve(family(rewards[1:], psi[1:], 0.5))
            # leaving a sample out costs log(50 / 49) nats
            found = solve(family(np.append(-penalty, rewards[1:]), psi, 0.5 + math.log(50 / 49)))
            assert found.status == "certified"
            assert found.objective == pytest.approx(without.objective, abs=1e-2 if penalty < 1e3 else 1e-5)

    @pytest.mark.parametrize("penalty", PENALTIES)
    def test_solve_optimal(self, penalty: float) -> None:
        mdp = MDP(P3, [[0, 1, -penalty], [2, 0, -penalty]], 0.9)
        value = mdp.solve_optimal().value
        assert value == pytest.approx([(1 + 0.9 * 2) / (1 - 0.81), (2 + 0.9) / (1 - 0.81)], abs=1e-9)

    def test_an_offset_of_1e6_at_a_long_horizon(self) -> None:
        rng = np.random.default_rng(1)
        P, r = rng.dirichlet(np.ones(3), (3, 2)), rng.normal(size=(3, 2))
        plain, lifted = (MDP(P, r + c, 0.999999) for c in (0.0, 1e6))
        q = plain.occupancy(plain.uniform_policy())
        a, b = solve(REPS(plain, q, 0.05)), solve(REPS(lifted, q, 0.05))
        assert a.status == b.status == "certified"
        assert b.certificate.upper - 1e6 == pytest.approx(a.certificate.upper, abs=1e-6 * np.ptp(r))

    @pytest.mark.parametrize("distance", [1e-10, 1e-12])
    def test_taxi_close_to_no_discount(self, distance: float) -> None:
        mdp = MDP.from_gymnasium("Taxi-v4", gamma=1 - distance)
        best = mdp.solve_optimal()
        assert np.abs(best.value - mdp.value(best.policy)).max() < 1e-6


def test_answers_are_never_those_of_a_problem_before() -> None:
    def fresh(gamma: float, epsilon: float) -> Any:
        mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=gamma)
        return REPS(mdp, mdp.occupancy(mdp.uniform_policy()), epsilon)

    problem = fresh(0.99, 0.05)
    first = solve(problem).objective
    with pytest.raises(AttributeError, match="replace"):
        problem.epsilon = 0.2
    with pytest.raises(AttributeError, match="replace"):
        problem.mdp.gamma = 0.5
    other = solve(problem.replace(epsilon=0.2)).objective
    assert other == pytest.approx(solve(fresh(0.99, 0.2)).objective, abs=1e-12)
    assert other > 2 * first


class TestEpisodes:
    def test_labels_alone(self) -> None:
        b = Batch([0.0, 1, 0, 1], [0.0, 1, 1, 0], [1.0, 1, 10, 10], [1.0, 2, 1, 2], episode=[0, 0, 1, 1])
        assert returns_to_go(b.rewards, b.terminated, b.truncated, 1.0).tolist() == [2, 1, 20, 10]

    def test_a_termination_inside_one_label(self) -> None:
        with pytest.raises(ValueError, match="episode"):
            Batch(
                [0.0, 1, 2, 3],
                [0.0] * 4,
                [1.0] * 4,
                [1.0, 2, 3, 4],
                terminated=[0, 1, 0, 0],
                truncated=[0, 0, 0, 1],
                episode=[0] * 4,
            )

    def test_selections_and_sums_do_not_merge(self) -> None:
        b = Batch([0.0, 1, 0, 1], [0.0, 1, 1, 0], [0.0, 0, 100, 100], [1.0, 2, 1, 2], episode=[0, 0, 1, 1])
        part = b.select([0, 2, 3])
        assert part.n_episodes == 2
        assert returns_to_go(part.rewards, part.terminated, part.truncated, 1.0).tolist() == [0, 200, 100]
        one = Batch([0.0, 1], [0.0, 1], [0.0, 0], [1.0, 2])
        two = Batch([0.0, 1], [1.0, 0], [100.0, 100], [1.0, 2])
        assert (one + two).n_episodes == 2


class TestInfinities:
    batch = Batch([0, 1, 0, 1], [0, 1, 1, 0], [0.0, 1, 2, 0], [1, 0, 1, 0], truncated=[0, 0, 0, 1])

    def test_importance_weights_of_an_impossible_action(self) -> None:
        policy = TabularPolicy.from_probabilities([[1.0, 0.0]])
        b = Batch([0, 0], [0, 1], [0.0, 0.0], [0, 0], truncated=[0, 1])
        assert importance_weights(policy, [(policy, b)]).tolist() == [2, 0]
        only = Batch([0, 0], [1, 1], [0.0, 0.0], [0, 0], truncated=[0, 1])
        with pytest.raises(ValueError, match="can draw none of its actions"):
            importance_weights(policy, [(policy, only)])

    @pytest.mark.parametrize(
        "update",
        [TRPO(gamma=0.9), NaturalGradient(step_size=0.1, gamma=0.9), VanillaGradient(step_size=0.1, gamma=0.9)],
    )
    def test_gains_and_divergences_are_finite(self, update: Any) -> None:
        q = TabularPolicy.from_probabilities([[0.5, 0.5], [1.0, 0.0]])
        found = update(q, self.batch)
        assert "1 of 4 actions have probability zero" in found.message
        assert np.isfinite([found.gain, found.kl, found.kl_old_new]).all()


class TestWeightsAndFits:
    def test_the_default_weights_are_what_a_fit_wants(self) -> None:
        rng = np.random.default_rng(0)
        S = rng.uniform(-2, 2, (400, 1))
        A = np.sin(2 * S[:, 0]) + rng.normal(size=400)
        solution = solve(EpisodicREPS(-((A - np.sin(2 * S[:, 0])) ** 2), epsilon=0.5))
        policy = GaussianProcessPolicy().fit(S, A, solution.weights())
        grid = np.linspace(-2, 2, 50)[:, None]
        assert np.sqrt(np.mean((policy.predict(grid).ravel() - np.sin(2 * grid[:, 0])) ** 2)) < 0.1
        with pytest.warns(UserWarning, match="sum"):
            GaussianProcessPolicy().fit(S, A, solution.weights("sum"))

    @pytest.mark.parametrize("missing", [None, math.nan])
    def test_missing_periods(self, missing: Any) -> None:
        S = np.random.default_rng(0).normal(size=(20, 2))
        with pytest.raises((ValueError, TypeError), match="period"):
            GaussianProcessPolicy(periods=[2 * np.pi, missing]).fit(S, S[:, 0])
        GaussianProcessPolicy(periods=[2 * np.pi, np.inf]).fit(S, S[:, 0])

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_a_fit_that_leaves_its_ball_says_so(self) -> None:
        rng = np.random.default_rng(0)
        S, A = rng.normal(size=(12, 8)), rng.normal(size=12)
        batch = Batch(S, A, -(A**2), S, terminated=np.ones(12))
        old = LinearGaussianPolicy().fit(rng.normal(size=(500, 8)), rng.normal(size=500))
        found = REPSUpdate(epsilon=0.5, fit=LinearGaussianPolicy())(old, batch)
        assert found.kl <= 0.5 * (1 + 1e-9)

    def test_integer_weights_are_repetitions_but_for_the_noise(self) -> None:
        """Means agree; the noise of weights that may be any does not count them as so many independent samples."""
        rng = np.random.default_rng(0)
        S, A, w = rng.normal(size=(30, 2)), rng.normal(size=30), rng.integers(1, 4, 30)
        weighted = LinearGaussianPolicy().fit(S, A, w.astype(float))
        repeated = LinearGaussianPolicy().fit(np.repeat(S, w, axis=0), np.repeat(A, w))
        np.testing.assert_allclose(weighted.predict(S[:5]), repeated.predict(S[:5]))
        assert (weighted.predict(S[:5], return_std=True)[1] > repeated.predict(S[:5], return_std=True)[1]).all()

    def test_float32_tables(self) -> None:
        table = np.array([[[0.1, 0.9]]] * 2, np.float32)
        assert MDP(table, np.zeros((2, 1)), 0.9).transitions.sum(axis=1) == pytest.approx([1, 1], abs=1e-15)
        probabilities = np.array([[0.3, 0.7000001]], np.float32)
        TabularPolicy.from_probabilities(probabilities)

    def test_masked_arrays(self) -> None:
        table = np.ma.array([[[0.1, 0.9]]] * 2, mask=[[[0, 1]], [[0, 0]]])
        with pytest.raises(ValueError, match="mask"):
            MDP(table, np.zeros((2, 1)), 0.9)
        with pytest.raises(TypeError, match="mask"):
            LinearGaussianPolicy().fit(np.ma.array([[1.0], [2.0]], mask=[[0], [1]]), [1.0, 2.0])
        with pytest.raises(TypeError, match="mask"):
            LinearGaussianPolicy().fit([[1.0], [2.0]], np.ma.array([1.0, 2.0], mask=[0, 1]))


class TestRadii:
    def test_a_flow_residual_is_no_feasibility(self) -> None:
        """alpha = -1 beside a sparse reference: what is reported makes the problem feasible, a thousandth less not."""
        rng = np.random.default_rng(3)
        mdp = MDP(rng.dirichlet(np.ones(6), (6, 3)), rng.normal(size=(6, 3)), 0.9)
        q = np.where(rng.uniform(size=(6, 3)) < 0.5, 1e-6, 1.0)
        problem = REPS(mdp, q, 1e12, divergence=("alpha", -1.0))
        least = problem.epsilon_min
        assert 0 < least < math.inf
        assert solve(problem.replace(epsilon=1.001 * least)).status == "certified"
        assert solve(problem.replace(epsilon=0.999 * least)).status == "infeasible"

    def test_cycles_in_a_ball_of_1e_minus_13(self) -> None:
        mdp = MDP(np.eye(3)[np.array([[0, 2], [2, 2], [1, 0]])], [[0.4, -0.9], [-0.7, 0.9], [0.3, 0]], 1.0)
        solution = solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 1e-13))
        assert solution.status == "certified"
        assert solution.kl <= 1.5e-13

    def test_a_cycle_near_slack(self) -> None:
        mdp = MDP(np.eye(3)[np.array([[0, 2], [2, 2], [1, 0]])], [[0.4, -0.9], [-0.7, 0.9], [0.3, 0]], 1.0)
        solution = solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 1.2616))
        assert solution.status == "certified"
        assert solution.objective == pytest.approx(0.59997, abs=1e-5)

    @pytest.mark.parametrize("gamma", [1.0, 0.999999])
    @pytest.mark.parametrize("relative", [1e-7, 1e-6, 1e-5, 1e-4])
    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_a_bound_below_the_objective_proves_nothing(self, gamma: float, relative: float) -> None:
        rng = np.random.default_rng(7)
        P = np.zeros((4, 2, 4))
        P[:2, :, :2], P[2:, :, 2:] = rng.dirichlet(np.ones(2), (2, 2)), rng.dirichlet(np.ones(2), (2, 2))
        mdp = MDP(P, rng.normal(size=(4, 2)), gamma)
        q = mdp.replace(gamma=0.7).occupancy(mdp.uniform_policy())
        problem = REPS(mdp, q, 1.0)
        solution = solve(problem.replace(epsilon=problem.epsilon_min * (1 + relative)))
        assert solution.status in ("certified", "uncertified")
        assert solution.status == "uncertified" or solution.certificate.gap >= -1e-8

    @pytest.mark.parametrize("alpha", [-1.0, -3.0])
    def test_alpha_below_zero_with_counts_is_quick(self, alpha: float) -> None:
        rng = np.random.default_rng(5)
        P, r = rng.dirichlet(np.ones(5), (5, 2)), rng.normal(size=(5, 2))
        q = np.floor(4 * rng.uniform(size=(5, 2))) + np.eye(5, 2)
        problem = REPS(MDP(P, r, 0.9), q, 1.0, divergence=("alpha", alpha))
        began = time.process_time()
        solution = solve(problem.replace(epsilon=problem.epsilon_min + 0.5) if problem.epsilon_min < 1e9 else problem)
        assert time.process_time() - began < 5
        assert solution.status in ("certified", "infeasible")

    def test_a_river_with_its_rewards_for_costs_never_raises(self) -> None:
        mdp = envs.riverswim(9).replace(gamma=1e-6)
        counts = mdp.replace(gamma=1.0).occupancy(mdp.uniform_policy())
        for share in (0.0, 0.5, 1.0):
            solution = solve(REPS(mdp, counts, 1.0, [mdp.rewards], [share * float(mdp.rewards.max())]))
            assert solution.status in ("certified", "infeasible")

    def test_an_excess_beyond_all_proportion_is_no_budget_kept(self) -> None:
        mdp = MDP(np.ones((1, 2, 1)), [[0.0, 1.0]], 0.9)
        solution = solve(REPS(mdp, [[0.5, 0.5]], 0.1, [[[0.0, 0.0]]], [-5e286]))
        assert solution.status == "infeasible"


class TestAverageReward:
    def test_the_best_gain_on_301_states(self) -> None:
        r = np.zeros((301, 2))
        r[150:, 1] = 1
        mdp = MDP(walk(301, 0.4, 0.3), r, 1.0)
        solution = solve(ExactTRPO(mdp, mdp.uniform_policy(), np.inf))
        assert solution.status == "certified"
        assert solution.objective == pytest.approx(0.5, abs=1e-6)

    @pytest.mark.parametrize(("down", "right"), [(0.3, 0.98671), (0.2833333, None)])
    def test_gains_where_the_first_state_is_rare(self, down: float, right: float | None) -> None:
        P, r = walk(301, 0.4, down)[:, :1], (np.arange(301.0) / 301)[:, None]
        mdp = MDP(P, r, 1.0)
        law = (0.4 / down) ** (np.arange(301.0) - 300)
        exact = float(law @ r[:, 0] / law.sum())
        assert mdp.gain(np.ones((301, 1)))[0] == pytest.approx(exact, rel=1e-9)
        assert mdp.solve_optimal().gain[0] == pytest.approx(exact, rel=1e-9)
        assert right is None or exact == pytest.approx(right, abs=1e-5)

    def test_a_river_of_twenty_states(self) -> None:
        S, i = 20, np.arange(20)
        P, r = np.zeros((S, 2, S)), np.zeros((S, 2))
        P[i, 0, np.maximum(i - 1, 0)] = 1
        r[0, 0], r[-1, 1] = 0.005, 1
        P[i, 1, np.minimum(i + 1, S - 1)] += 0.35
        P[i, 1, i] += 0.6
        P[i, 1, np.maximum(i - 1, 0)] += 0.05
        assert MDP(P, r, 1.0).solve_optimal().gain[0] == pytest.approx(6 / 7, abs=1e-6)

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_deterministic_grids(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        mdp = MDP(grid(3), rng.normal(size=(9, 4)), 1.0)
        solution = solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), temperature=0.03))
        assert solution.status == "certified"

    def test_a_point_of_a_nearly_decomposable_chain(self) -> None:
        mdp = MDP([[[1 - 1e-12, 1e-12]], [[1e-12, 1 - 1e-12]]], [[0.0], [1.0]], 1.0)
        problem = REPS(mdp, [[0.9], [0.1]], 1.0)
        # KL(half || q) = log(1/2) - (log .9 + log .1) / 2
        assert problem.epsilon_min == pytest.approx(0.5108, abs=1e-4)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_a_radius_at_which_a_function_was_not_a_number(self) -> None:
        mdp = MDP(grid(3), np.random.default_rng(111).normal(size=(9, 4)), 1.0)
        solution = solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 3.547683749071549))
        assert solution.status == "certified"

    def test_moving_beside_a_penalty(self) -> None:
        P = np.zeros((2, 3, 2))
        P[0, 0, 0] = P[0, 1, 1] = P[0, 2, 0] = 1
        P[1, :, 1] = 1
        mdp = MDP(P, [[0.05, 0, -1e8], [0.055] * 3], 1.0)
        assert mdp.solve_optimal().gain[0] == pytest.approx(0.055, abs=1e-12)


class TestBudgets:
    @pytest.mark.parametrize("rows", ["one", "beside a zero row", "as an equality", "twice", "never"])
    def test_the_same_budget_in_other_words(self, rows: str) -> None:
        P = np.array([[[0.5, 0.5], [1, 0]], [[0.2, 0.8], [1, 0]]])
        mdp = MDP(P, [[0, 1], [2, 0]], 0.9, [1, 0])
        q, c = mdp.occupancy(mdp.uniform_policy()), np.array([[0, 1.0], [0, 1.0]])
        costs, limits = {
            "one": ([c], [0.4]),
            "beside a zero row": ([c, 0 * c], [0.4, 0]),
            "as an equality": ([c, -c], [0.4, -0.4]),
            "twice": ([c, c], [0.4, 0.4]),
            "never": ([c, 0 * c + 2], [0.4, 2.0]),
        }[rows]
        solution = solve(REPS(mdp, q, 0.1, costs, limits))
        assert solution.status == "certified"
        assert solution.objective == pytest.approx(0.914641, abs=2e-6)

    def test_duplicates_leave_the_smallest_radius(self) -> None:
        mdp = MDP(np.ones((1, 3, 1)), [[0, 0, 1]], 0.9)
        c = [[1.0, 0, 0]]
        problem = REPS(mdp, [[0.325, 0.355, 0.32]], 1.0, [c, c], [0.028, 0.078])
        right = 0.028 * math.log(0.028 / 0.325) + 0.972 * math.log(0.972 / 0.675)
        assert problem.epsilon_min == pytest.approx(right, abs=1e-8)
        assert right == pytest.approx(0.285788, abs=1e-6)

    def test_an_impossible_budget_beside_one_of_other_units(self) -> None:
        rng = np.random.default_rng(2)
        mdp = MDP(rng.dirichlet(np.ones(3), (3, 2)), rng.normal(size=(3, 2)), 0.9)
        q, c = mdp.occupancy(mdp.uniform_policy()), rng.uniform(1, 2, (2, 3, 2))
        both = solve(REPS(mdp, q, 0.1, [1e5 * c[0], 1e-5 * c[1]], [2e5, 0.5e-5]))
        assert both.status == "infeasible"
        possible = solve(REPS(mdp, q, 0.1, [1e5 * c[0], 1e-5 * c[1]], [2e5, 2e-5]))
        assert possible.status == "certified"


class TestSteps:
    def test_two_rows(self) -> None:
        step = TrustRegionStep([0.3, -0.6], np.eye(2), 0.5, [([-2.1, -0.9], 1.17), ([0.5, 0], -0.41)])
        solution = solve(step)
        assert solution.status == "certified"
        assert solution.objective == pytest.approx(0.59536, abs=1e-5)

    def test_the_multiplier_of_the_mass_is_a_derivative(self) -> None:
        """By central differences of the optimum in the total mass, posed in CVXPY."""
        import cvxpy as cp

        rng = np.random.default_rng(4)
        P, r = rng.dirichlet(np.ones(3), (3, 2)), rng.normal(size=(3, 2))
        mdp = MDP(P, r, 1.0)
        q = mdp.occupancy(mdp.uniform_policy())
        solution = solve(REPS(mdp, q, 0.1))
        lagrange = float(solution.duals["normalisation"]) - solution.eta
        flow = np.kron(np.eye(3), np.ones(2)) - P.reshape(6, 3).T

        def best(mass: float) -> float:
            x = cp.Variable(6, nonneg=True)
            rows = [flow[:-1] @ x == 0, cp.sum(x) == mass, cp.sum(cp.rel_entr(x, q.ravel())) <= 0.1]
            posed = cp.Problem(cp.Maximize(r.ravel() @ x), rows)
            return float(posed.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12))

        slope = (best(1 + 1e-4) - best(1 - 1e-4)) / 2e-4
        assert lagrange == pytest.approx(slope, abs=1e-4)

    @pytest.mark.parametrize("gamma", [0.99999, 1 - 1e-8])
    def test_occupancy_and_policy_at_the_smallest_radius(self, gamma: float) -> None:
        rng = np.random.default_rng(6)
        mdp = MDP(rng.dirichlet(np.ones(4), (4, 2)), rng.normal(size=(4, 2)), gamma)
        problem = REPS(mdp, rng.dirichlet(np.ones(8)).reshape(4, 2), 1.0)
        solution = solve(problem.replace(epsilon=problem.epsilon_min))
        assert solution.has_point
        assert np.abs(mdp.occupancy(solution.policy) - solution.occupancy).sum() < 1e-8

    @pytest.mark.parametrize("relative", [1e-14, 1e-11, 1e-8, 1e-5])
    def test_just_above_the_smallest_radius_something_is_feasible(self, relative: float) -> None:
        rng = np.random.default_rng(6)
        mdp = MDP(rng.dirichlet(np.ones(4), (4, 2)), rng.normal(size=(4, 2)), 0.99)
        problem = REPS(mdp, rng.dirichlet(np.ones(8)).reshape(4, 2), 1.0)
        solution = solve(problem.replace(epsilon=problem.epsilon_min * (1 + relative)))
        assert solution.status != "infeasible"


@pytest.mark.filterwarnings("ignore:the effective sample size")
class TestSamples:
    def test_constant_rewards_beside_a_ridge(self) -> None:
        psi = np.random.default_rng(4).normal(size=(200, 1))
        solution = solve(SampleREPS(np.ones(200), psi, epsilon=0.01, ridge=0.01))
        assert solution.status == "certified"
        assert solution.objective == pytest.approx(1.0, abs=1e-6)

    def test_three_samples_and_a_ridge(self) -> None:
        solution = solve(SampleREPS([0.001] * 3, [[1.0], [2.0], [4.0]], epsilon=0.3, ridge=0.01))
        assert solution.status == "certified"
        assert abs(solution.certificate.gap) < 1e-6

    def test_zero_rewards_stay_at_the_base(self) -> None:
        rng = np.random.default_rng(0)
        psi = rng.normal(size=(100, 3))
        solution = solve(SampleREPS(np.zeros(100), psi, epsilon=1.0, ridge=0.1))
        assert solution.status == "certified"
        assert solution.kl < 0.1

    def test_two_samples_that_need_log_two(self) -> None:
        problem = SampleREPS([0.0, 1.0], [[0.3], [0.0]], epsilon=0.1)
        assert solve(problem).status == "infeasible"
        assert problem.epsilon_min == pytest.approx(math.log(2))

    def test_a_slack_ball_over_one_hot_differences(self) -> None:
        r = [-0.04, -1.26, 2.57, 0.48, 0.64, -0.21, 0.06, 0.34, 0.2, -0.61]
        X = [[0] * 4, [0] * 4, [0, 0, 1, -1], [0, 0, 1, -1], [0, 1, -1, 0]]
        X += [[-1, 0, 0, 1], [1, 0, 0, -1], [1, -1, 0, 0], [0, 0, -1, 1], [0] * 4]
        solution = solve(SampleREPS(r, np.array(X, float), epsilon=np.inf))
        assert solution.status == "certified"
        assert solution.objective == pytest.approx(1.385, abs=1e-6)

    def test_returns_at_the_ends_of_double_precision(self) -> None:
        with pytest.raises(ValueError, match="range"):
            solve(EpisodicREPS([1e308, -1e308], epsilon=0.1))


class TestControllers:
    @pytest.mark.parametrize("seed", range(10))
    def test_landmarks_keep_their_noise(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        S = rng.normal(size=(25, 3))
        A = S[:, 0] + 0.5 * rng.normal(size=25)
        std = RBFPolicy(random_state=0).fit(S, A).predict(S, return_std=True)[1]
        assert 0.2 < np.median(std) < 1.5

    def test_networks_on_four_samples_and_on_constants(self) -> None:
        small = NeuralPolicy(hidden=(8,), random_state=0).fit([[2.0], [3.0], [1.0], [2.0]], [3.0, -2.0, 3.0, 3.0])
        assert np.isfinite(small.predict([[1.0]])).all()
        same = NeuralPolicy(random_state=0).fit(np.arange(50.0)[:, None], np.full(50, 2.5))
        mean, std = same.predict(np.arange(50.0)[:, None], return_std=True)
        assert np.abs(mean - 2.5).max() < 0.1
        assert (std > 1e-9).all()

    def test_an_offset_of_1e8_spreads(self) -> None:
        rng = np.random.default_rng(0)
        S = rng.uniform(-2, 2, (300, 1))
        A = np.sin(2 * S[:, 0]) + 0.1 * rng.normal(size=300)
        for method in ("sparse", "features"):
            policy = GaussianProcessPolicy(method=method, random_state=0).fit(S + 3e8, A)
            assert np.sqrt(np.mean((policy.predict(S + 3e8).ravel() - np.sin(2 * S[:, 0])) ** 2)) < 0.1

    @pytest.mark.parametrize("unit", [1e9, 1e-9])
    def test_columns_of_other_units(self, unit: float) -> None:
        rng = np.random.default_rng(0)
        S = rng.uniform(-2, 2, (200, 2))
        A = np.sin(2 * S[:, 0]) + np.cos(S[:, 1]) + 0.1 * rng.normal(size=200)
        for method in ("sparse", "features"):
            plain = GaussianProcessPolicy(method=method, random_state=0).fit(S, A)
            scaled = GaussianProcessPolicy(method=method, random_state=0).fit(S * [1, unit], A)
            np.testing.assert_allclose(scaled.predict(S * [1, unit]), plain.predict(S), atol=1e-5)


class TestWords:
    def test_a_discount_just_above_one(self) -> None:
        with pytest.raises(ValueError, match=r"1\.0000001"):
            MDP(np.ones((1, 1, 1)), [[0.0]], gamma=1.0000001)

    def test_an_unknown_option_of_the_command_line(self) -> None:
        words = [sys.executable, "-m", "reps_opt", "solve", "FrozenLake-v1", "--option", "map_name=16x16"]
        found = subprocess.run(words, capture_output=True, text=True, check=False)
        assert found.returncode not in (0, 1)
        assert "Traceback" not in found.stderr
        assert "16x16" in found.stderr

    def test_words_of_improve(self) -> None:
        env = gym.make("CartPole-v1")
        with pytest.raises(ValueError, match="evaluate=10"):
            improve(env, None, TRPO(), n_iterations=1, n_episodes=2, stop=NoImprovement(2), seed=0)
        policy = LinearGaussianPolicy().fit([[0.0], [1.0]], [0.0, 1.0])
        batch = Batch([[0.0], [1.0]], [0.0, 1.0], [0.0, 1.0], [[1.0], [2.0]], truncated=[0, 1])
        with pytest.raises(ValueError, match="cost"):
            CPO(budget=1.0)(policy, batch)

    def test_a_gaussian_on_discrete_observations_acts_in_many_environments_as_in_one(self) -> None:
        class Line(gym.Env):
            observation_space, action_space = gym.spaces.Discrete(3), gym.spaces.Box(-1.0, 1.0, (1,))

            def reset(self, *, seed: Any = None, options: Any = None) -> Any:
                return 1, {}

            def step(self, action: Any) -> Any:
                return 2, float(action[0]), False, False, {}

        policy = LinearGaussianPolicy.from_spaces(Line.observation_space, Line.action_space)
        for env in (Line(), gym.vector.SyncVectorEnv([Line, Line])):
            assert np.isfinite(rollout(env, policy, n_steps=10, max_steps=5, seed=0).rewards).all()

    def test_words_of_controllers(self) -> None:
        X = np.random.default_rng(0).normal(size=(10, 1))
        policy = GaussianProcessPolicy().fit(X, X[:, 0])
        with pytest.raises(TypeError, match="generator"):
            policy.sample(X, 0)
        with pytest.raises((TypeError, ValueError), match="CompoundKernel"):
            GaussianProcessPolicy(kernel=CompoundKernel([RBF(), RBF()])).fit(X, X[:, 0])

    def test_a_policy_given_for_a_reference(self) -> None:
        mdp = MDP(np.full((3, 2, 3), 1 / 3), np.eye(3, 2), 0.9)
        with pytest.warns(UserWarning, match="policy"):
            solve(REPS(mdp, mdp.uniform_policy(), 0.1))
