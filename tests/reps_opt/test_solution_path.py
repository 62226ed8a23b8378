"""A path of radii: each solution is the one that a solve of its own finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import envs
from reps_opt import (
    MDP,
    REPS,
    ConditionalREPS,
    EpisodicREPS,
    FiniteHorizonREPS,
    LinearProgram,
    TrustRegionStep,
    solve,
    solve_path,
)
from reps_opt.divergences import ReverseKL
from reps_opt.solvers import Newton, ScipyDual
from reps_opt.validation import FloatArray

CHAIN = envs.single_chain()
POLICY = CHAIN.uniform_policy()
Q = CHAIN.occupancy(POLICY)
RADII = [0.3, 0.01, 5.0, 0.1, 20.0, 0.0]

PROBLEMS = [
    REPS(CHAIN, Q, epsilon=1.0),
    REPS(CHAIN, Q, epsilon=1.0, costs=CHAIN.rewards[None], budgets=[float(np.sum(Q * CHAIN.rewards)) + 0.5]),
    ConditionalREPS(CHAIN, POLICY, epsilon=1.0),
    FiniteHorizonREPS(CHAIN, POLICY, 5, epsilon=0.1),
    EpisodicREPS(np.arange(8.0), epsilon=0.1),
    TrustRegionStep([1.0, 2.0], np.eye(2), epsilon=0.1),
]


@pytest.mark.filterwarnings("ignore:the effective sample size")
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
def test_every_radius_has_its_own_solution_in_the_order_asked(problem: object) -> None:
    path = solve_path(problem, RADII)
    for epsilon, solution in zip(RADII, path, strict=True):
        alone = solve(problem.replace(epsilon=epsilon))
        assert solution.status == alone.status == "certified"
        assert solution.problem == alone.problem
        np.testing.assert_allclose(solution.objective, alone.objective, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(solution.eta, alone.eta, rtol=1e-5, atol=1e-7)


def test_radii_too_small_for_any_point_are_told_apart() -> None:
    off = np.full_like(Q, 1 / Q.size)
    least = solve(REPS(CHAIN, off, epsilon=10.0)).epsilon_min
    path = solve_path(REPS(CHAIN, off, epsilon=10.0), [2 * least, least / 2])
    assert [solution.status for solution in path] == ["certified", "infeasible"]


def test_a_path_by_another_route_from_a_start() -> None:
    problem = REPS(CHAIN, Q, epsilon=0.2)
    path = solve_path(problem, [0.1, 0.2], ScipyDual(), start=solve(problem))
    assert [solution.stats["route"] for solution in path] == ["ScipyDual"] * 2
    assert all(solution.status == "certified" for solution in path)


def test_an_empty_path_and_what_has_no_radius() -> None:
    assert solve_path(REPS(CHAIN, Q, epsilon=0.2), []) == []
    with pytest.raises(ValueError, match="temperature"):
        solve_path(REPS(CHAIN, Q, temperature=0.2), [0.1])
    with pytest.raises(TypeError, match="problem must be"):
        solve_path(3, [0.1])
    with pytest.raises(ValueError, match="epsilon"):
        solve_path(REPS(CHAIN, Q, epsilon=0.2), [0.1, -1.0])
    with pytest.raises(ValueError, match="epsilons"):
        solve_path(REPS(CHAIN, Q, epsilon=0.2), 0.1)


def test_progress_is_shown_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    solve_path(REPS(CHAIN, Q, epsilon=0.2), [0.1, 0.2], progress=True)
    assert "radii" in capsys.readouterr().err


def iterations(path: list[Any]) -> int:
    assert all(solution.status == "certified" for solution in path)
    return sum(solution.stats["iterations"] for solution in path)


NEAR = 1 + 1e-13


@pytest.mark.parametrize(
    ("radii", "most"), [(np.geomspace(0.01, 1.0, 50), 95), (np.array([0.1, 0.1 * NEAR, 0.3, 0.3 * NEAR, 0.9]), 25)]
)
def test_a_path_goes_on_where_the_last_solutions_point_to(radii: FloatArray, most: int) -> None:
    mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=0.99, map_name="8x8")
    problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), epsilon=1.0)
    alone = iterations([solve(problem.replace(epsilon=epsilon)) for epsilon in radii])
    assert iterations(solve_path(problem, radii)) <= most < alone / 2


def test_a_start_of_another_problem_serves_the_first_radius_alone() -> None:
    other = envs.single_chain(gamma=0.5)
    start = solve(REPS(other, other.occupancy(other.uniform_policy()), epsilon=0.1))
    path = solve_path(REPS(CHAIN, Q, epsilon=1.0), [0.05, 0.1, 0.2], start=start)
    for epsilon, solution in zip([0.05, 0.1, 0.2], path, strict=True):
        alone = solve(REPS(CHAIN, Q, epsilon=epsilon))
        assert solution.objective == pytest.approx(alone.objective, rel=1e-9)


def test_a_slack_ball_is_known_from_another_radius_and_from_no_other_problem() -> None:
    def fresh() -> MDP:
        return CHAIN.replace(gamma=0.9)

    used = fresh()
    q, policy = used.occupancy(POLICY), used.uniform_policy()
    enough = solve(REPS(fresh(), q, epsilon=50.0)).kl
    first = solve(REPS(used, q, epsilon=1.1 * enough))
    again = solve(REPS(used, q, epsilon=1.2 * enough))
    assert first.stats["iterations"] > 0
    assert "iterations" not in again.stats
    np.testing.assert_array_equal(again.point, first.point)
    assert again.certificate.gap == first.certificate.gap
    assert (
        solve(REPS(used, q, epsilon=1.2 * enough), Newton()).stats["iterations"] > 0
    )  # a route that was asked for is taken
    worth = float(np.sum(q * used.rewards))
    others = [
        lambda mdp: REPS(mdp, q, epsilon=3.0, divergence="chi2"),
        lambda mdp: REPS(mdp, q, epsilon=3.0, divergence=("alpha", 0.5)),
        lambda mdp: REPS(mdp, q, epsilon=3.0, divergence=ReverseKL),
        lambda mdp: REPS(mdp, q, epsilon=1.2 * enough, costs=mdp.rewards[None], budgets=[worth + 0.1]),
        lambda mdp: REPS(mdp, (q + 0.1) / 2, epsilon=50.0),
        lambda mdp: ConditionalREPS(mdp, policy, epsilon=50.0),
        lambda mdp: LinearProgram(mdp),
    ]
    for make in others:
        alone, beside = solve(make(fresh())), solve(make(used))
        assert alone.status == beside.status == "certified"
        np.testing.assert_array_equal(alone.point, beside.point)
