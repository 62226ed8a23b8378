"""A nearby solution to start from changes what a solve costs, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

import envs
from reps_opt import MDP, REPS, solve
from reps_opt.solution import Solution, Status
from reps_opt.solvers import ScipyDual
from tests.reps_opt.instances import instance


@pytest.mark.parametrize("gamma", [0.95, 1.0])
@pytest.mark.parametrize("name", ["frozenlake-8x8", "garnet-60", "taxi", "riverswim"])
def test_a_path_over_epsilon_costs_a_fraction(name: str, gamma: float) -> None:
    mdp = instance(name, gamma)
    q = mdp.occupancy(mdp.uniform_policy())
    spent, last = {"cold": 0, "warm": 0}, None
    for epsilon in np.geomspace(0.01, 1.0, 25):
        cold = solve(REPS(mdp, q, epsilon))
        warm = solve(REPS(mdp, q, epsilon), start=last)
        assert warm.status is cold.status is Status.CERTIFIED
        assert abs(warm.certificate.gap) <= 1e-8
        assert abs(warm.objective - cold.objective) <= 1e-9 * np.ptp(mdp.rewards)
        np.testing.assert_allclose(warm.eta, cold.eta, rtol=1e-6)
        spent["cold"] += cold.stats["iterations"]
        spent["warm"] += warm.stats["iterations"]
        last = warm
    # a cold solve of an easy instance takes four iterations, a warm one three; the hard ones are where it pays
    assert spent["warm"] <= (0.6 if "lake" in name else 0.85) * spent["cold"], spent


def test_repeated_updates_start_from_the_last() -> None:
    mdp = instance("frozenlake-8x8", 0.95)
    policy, last, spent = mdp.uniform_policy(), None, [0, 0]
    for _ in range(8):
        problem = REPS(mdp, mdp.occupancy(policy), 0.05)
        cold, warm = solve(problem), solve(REPS(mdp, problem.reference, 0.05), start=last)
        np.testing.assert_allclose(warm.objective, cold.objective, rtol=1e-9)
        assert warm.status is Status.CERTIFIED
        spent[0] += cold.stats["iterations"]
        spent[1] += warm.stats["iterations"]
        policy, last = warm.policy, warm
    assert spent[1] <= spent[0], spent


def test_a_far_or_slack_start_does_no_harm() -> None:
    mdp = instance("frozenlake-8x8", 0.95)
    q = mdp.occupancy(mdp.uniform_policy())
    expected = solve(REPS(mdp, q, 0.01))
    for epsilon in (2.0, 50.0, 0.0):
        solution = solve(REPS(mdp, q, 0.01), start=solve(REPS(mdp, q, epsilon)))
        assert solution.status is Status.CERTIFIED
        np.testing.assert_allclose(solution.objective, expected.objective, rtol=1e-9)


def test_scipy_takes_a_start_too() -> None:
    mdp = instance("garnet-60", 0.95)
    q = mdp.occupancy(mdp.uniform_policy())
    near = solve(REPS(mdp, q, 0.28))
    cold, warm = (solve(REPS(mdp, q, 0.3), ScipyDual(), start=start) for start in (None, near))
    assert warm.stats["evaluations"] < cold.stats["evaluations"]
    np.testing.assert_allclose(warm.objective, cold.objective, rtol=1e-8)


def test_a_start_that_does_not_fit_is_named() -> None:
    two = envs.two_state()
    q = two.occupancy(two.uniform_policy())
    lake = instance("frozenlake-4x4", 0.95)
    other: Solution = solve(REPS(lake, lake.occupancy(lake.uniform_policy()), 0.1))
    with pytest.raises(ValueError, match="start must be a solution on an MDP with 2 states"):
        solve(REPS(two, q, 0.1), start=other)


def test_beside_an_entropy_bound_a_start_changes_no_answer() -> None:
    mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=0.99)
    q = mdp.occupancy(mdp.uniform_policy())
    two, one = REPS(mdp, q, 0.1, entropy=2.0), REPS(mdp, q, 0.1)
    for problem, other in ((two.replace(epsilon=0.12), two), (two, one), (one, two)):
        cold, started = solve(problem), solve(problem, start=solve(other))
        assert started.status is Status.CERTIFIED
        assert started.objective == pytest.approx(cold.objective, rel=1e-7)
