"""Where the default route's answer is not certified, a conic solver is asked, and the certificate decides."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.optimize import linprog

from reps_opt import MDP, REPS, ConditionalREPS, LinearProgram, Solution, Status, solve
from tests.hard.recipes import Recipe
from tests.hard.verdicts import judge


def deterministic_grid(seed: int) -> MDP:
    """A grid of 3 x 3 cells whose moves never fail, with average reward."""
    cell = np.arange(9)
    row, column = np.divmod(cell, 3)
    moves = [(0, 1), (0, -1), (1, 0), (-1, 0)]
    to = [3 * np.clip(row + i, 0, 2) + np.clip(column + j, 0, 2) for i, j in moves]
    return MDP(np.eye(9)[np.stack(to, axis=1)], np.random.default_rng(seed).normal(size=(9, 4)), 1.0)


@pytest.mark.parametrize("seed", range(12))
def test_deterministic_transitions_at_a_low_temperature(seed: int) -> None:
    mdp = deterministic_grid(seed)
    for problem in (
        REPS(mdp, mdp.occupancy(mdp.uniform_policy()), temperature=0.03),
        ConditionalREPS(mdp, mdp.uniform_policy(), temperature=0.03),
    ):
        assert solve(problem).status is Status.CERTIFIED


def cycle() -> REPS:
    """Three states near the radius at which the ball is slack."""
    mdp = MDP(np.eye(3)[np.array([[0, 2], [2, 2], [1, 0]])], [[0.4, -0.9], [-0.7, 0.9], [0.3, 0]], 1.0)
    return REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 1.2616)


def test_a_cycle_near_the_radius_at_which_the_ball_is_slack() -> None:
    solution = solve(cycle())
    assert solution.status is Status.CERTIFIED
    assert solution.objective == pytest.approx(0.59997, abs=1e-5)


@pytest.mark.parametrize("option", ["alpha -1", "alpha 0.5", "reverse_kl"])
@pytest.mark.parametrize("seed", [2, 4])
@pytest.mark.parametrize("structure", ["dense", "deterministic"])
def test_references_of_1e_minus_120_in_a_second(option: str, seed: int, structure: str) -> None:
    recipe = Recipe("f-divergence", seed, 4, 2, structure, "normal", "tiny states", 1.0, 0.99, option=option)
    began = time.process_time()
    solution = solve(recipe.build())
    assert time.process_time() - began < 5.0
    assert solution.status is Status.CERTIFIED
    assert judge(recipe, solution).kind == "certified"


def test_budgets_on_chains_that_hardly_move() -> None:
    recipe = Recipe("budgets", 517, 5, 3, "slow", "ties", "deterministic", 1.0, 1.0, 1e3, 1e6, "linear")
    solution = solve(recipe.build())
    assert solution.status is Status.CERTIFIED
    assert judge(recipe, solution).kind == "certified"


@pytest.mark.filterwarnings("ignore:the MDP is multichain")
def test_one_policy_puts_its_mass_where_it_gains_most() -> None:
    P = np.eye(2)[:, None]
    solution = solve(ConditionalREPS(MDP(P, [[0.3], [0.7]], 1.0), np.ones((2, 1)), 0.0))
    assert solution.status is Status.CERTIFIED
    assert solution.objective == pytest.approx(0.7)


@pytest.mark.parametrize("seed", [2, 4, 2363702267])
def test_values_of_1e12_do_not_cost_the_bound_its_digits(seed: int) -> None:
    """Half of the states absorb, at gamma = 1 - 1e-12: a chance of 1e-12 of being elsewhere must not decide a bound."""
    recipe = Recipe("linear", seed, 4, 2, "absorbing", "one goal", "uniform", 0.0, 1 - 1e-12, 1e-9, 1e6)
    solution = solve(recipe.build())
    assert solution.status is Status.CERTIFIED
    assert judge(recipe, solution).kind == "certified"


@pytest.mark.parametrize("seed", [3, 6019])
def test_a_penalty_on_a_pair_of_the_reference_is_no_place_to_start(seed: int) -> None:
    recipe = Recipe("reps", seed, 5, 3, "dense", "penalty", "policy", 0.7130287745038576, 0.5, 1e3)
    solution = solve(recipe.build())
    assert solution.status is Status.CERTIFIED
    assert judge(recipe, solution).confirmed == "dual bound"


def test_a_route_that_is_named_is_the_only_one_asked() -> None:
    named = solve(cycle(), cycle().default_solver())
    assert named.status is Status.UNCERTIFIED
    assert named.stats["route"] == "Newton"
    assert solve(cycle()).stats["route"].startswith("Cvxpy")


def cheapest(mdp: MDP, costs: np.ndarray, limits: np.ndarray) -> float:
    """The optimum of the linear program by HiGHS, from the data."""
    S, A = mdp.rewards.shape
    flow = np.kron(np.eye(S), np.ones(A)) - mdp.gamma * mdp.transitions.toarray().T
    found = linprog(
        -mdp.rewards.ravel(),
        A_ub=costs.reshape(len(costs), -1),
        b_ub=limits,
        A_eq=flow,
        b_eq=(1 - mdp.gamma) * mdp.mu0,
        method="highs",
    )
    return -float(found.fun)


class TestDependentBudgets:
    """Rows as people write them: equalities by two, duplicates, zero and constant rows, bands."""

    mdp = MDP([[[0.5, 0.5], [1, 0]], [[0.2, 0.8], [1, 0]]], [[0, 1], [2, 0]], 0.9, [1, 0])
    cost = np.array([[0, 1.0], [0, 1.0]])

    @pytest.mark.parametrize(
        ("signs", "limits"),
        [
            ([1], [0.4]),
            ([1, 0], [0.4, 0.0]),
            ([1, -1], [0.4, -0.4]),
            ([1, 1], [0.4, 0.5]),
            ([1, 2, -1], [0.4, 0.8, -0.4]),
            ([1, -1], [0.4, -0.38]),
        ],
    )
    def test_redundant_rows_change_nothing(self, signs: list[int], limits: list[float]) -> None:
        costs = np.array([sign * self.cost for sign in signs])
        q = self.mdp.occupancy(self.mdp.uniform_policy())
        solution = solve(REPS(self.mdp, q, 0.1, costs, limits))
        assert solution.status is Status.CERTIFIED
        assert solution.objective == pytest.approx(0.9146413378810, abs=1e-9)
        program: Solution = solve(LinearProgram(self.mdp, costs, limits))
        assert program.status is Status.CERTIFIED
        assert program.objective == pytest.approx(cheapest(self.mdp, costs, np.array(limits)), abs=1e-9)

    def test_the_smallest_radius_with_duplicates(self) -> None:
        mdp, q, c = MDP(np.ones((1, 3, 1)), [[0, 0, 1]], 0.9), [[0.325, 0.355, 0.32]], [[1.0, 0, 0]]
        limits = [0.028, 0.078]  # the first decides: KL of the reference scaled to 0.028 and 0.972
        least = 0.028 * np.log(0.028 / 0.325) + 0.972 * np.log(0.972 / 0.675)
        problem = REPS(mdp, q, 0.5, [c, c], limits)
        assert problem.epsilon_min == pytest.approx(least, abs=1e-12)
        assert solve(REPS(mdp, q, 0.999 * least, [c, c], limits)).status is Status.INFEASIBLE
        assert solve(REPS(mdp, q, 1.001 * least, [c, c], limits)).status is Status.CERTIFIED
