"""Grids with one distant goal and with a start in one corner: etas of 1e-8, masses of 1e-40, news from far away."""

import math

import numpy as np
import pytest

import envs
from reps_opt import MDP, REPS, Status, solve
from reps_opt.processes import markov
from reps_opt.processes.flow_values import attained
from reps_opt.solvers import Newton
from reps_opt.solvers.slack import binds


def grid(side: int, goal: int | None = None, corner: bool = False, gamma: float = 0.9) -> MDP:
    """A slippery grid whose states are worth something random, or only the goal is; started anywhere or in a corner."""
    mdp = envs.gridworld((side, side), slip=0.2, gamma=gamma)
    states = np.arange(mdp.n_states)
    worth = np.random.default_rng(0).uniform(size=states.size) if goal is None else (states == goal).astype(float)
    start = (states == 0).astype(float) if corner else None
    return MDP(mdp.transitions, worth[:, None].repeat(4, axis=1), gamma, start)


def reps(mdp: MDP, epsilon: float) -> REPS:
    return REPS(mdp, mdp.occupancy(mdp.uniform_policy()), epsilon)


@pytest.mark.parametrize("case", [{"corner": True}, {"goal": 0}, {"goal": 1275}, {"goal": 0, "corner": True}], ids=str)
def test_conjugate_gradient_finds_what_factorisations_find(case: dict[str, object]) -> None:
    problem = reps(grid(50, **case), 0.3)
    iterative, direct = (solve(problem, Newton(linear_solver=name)) for name in ("cg", "sparse"))
    assert iterative.stats["linear_iterations"] > 0 == direct.stats["linear_iterations"]
    for solution in (iterative, direct):
        assert solution.status is Status.CERTIFIED
        assert abs(solution.certificate.gap) <= 1e-10
        assert abs(solution.kl - 0.3) <= 1e-9
    assert iterative.eta == pytest.approx(direct.eta, rel=1e-6)
    np.testing.assert_allclose(iterative.occupancy, direct.occupancy, atol=1e-9)


def test_a_large_grid_from_a_corner_needs_no_factorisation() -> None:
    mdp = grid(145, corner=True)
    problem = reps(mdp, 0.5)
    assert problem.reference.sum(axis=1).min() < 1e-30
    solution = solve(problem)
    assert solution.status is Status.CERTIFIED
    assert abs(solution.certificate.gap) <= 1e-10
    assert solution.stats["factorisations"] == 0


@pytest.mark.parametrize(("share", "slack"), [(0.2, False), (1.01, True)])
def test_a_ball_that_surely_binds_is_told_from_a_slack_one(share: float, slack: bool) -> None:
    problem = reps(grid(25, goal=0), math.inf)
    assert problem.program.hints.linear_limit is not None
    radius = share * problem.program.hints.linear_limit().divergence
    program, _ = problem.replace(epsilon=radius).normalised
    eta = 1e-3
    surely, better = binds(program, program.dual(eta, np.zeros(program.rhs.size)))
    assert surely is not slack
    assert better.value <= program.dual(eta, np.zeros(program.rhs.size)).value
    solution = solve(problem.replace(epsilon=radius), Newton(linear_solver="cg"))
    assert (solution.eta == 0) is slack
    assert solution.status is Status.CERTIFIED


def test_what_a_preference_attains_is_a_lower_bound_and_tight_for_the_best() -> None:
    mdp = grid(20)
    flow = reps(mdp, 0.5).flow
    assert flow is not None
    rewards, best = flow.pick(mdp.rewards), mdp.solve_optimal()
    optimum = float((1 - mdp.gamma) * mdp.mu0 @ best.value)
    assert optimum - 1e-3 <= attained(flow, rewards, flow.pick(best.policy)) <= optimum + 1e-12
    assert attained(flow, rewards, np.random.default_rng(1).normal(size=rewards.size)) < optimum - 0.05


def test_news_of_a_distant_goal_needs_few_policies() -> None:
    mdp = grid(60, goal=0, gamma=0.95)
    best = mdp.solve_optimal()
    assert best.iterations <= 3
    value = np.zeros(mdp.n_states)
    for _ in range(1500):
        value = (mdp.rewards + mdp.gamma * (mdp.transitions @ value).reshape(mdp.rewards.shape)).max(axis=1)
    np.testing.assert_allclose(best.value, value, atol=1e-12)


def test_an_occupancy_solved_from_nearby_is_right_to_rounding() -> None:
    """SciPy's BiCGSTAB gives up on residuals of 1e-14, which left the mass a few 1e-15 short."""
    mdp = grid(60, gamma=0.95)
    chain = mdp._chain(mdp.uniform_policy())
    exact = markov.discounted_occupancy(chain, mdp.gamma, mdp.mu0)
    near = exact * (1 + 1e-11 * np.random.default_rng(0).normal(size=exact.size))
    mu = markov.discounted_occupancy(chain, mdp.gamma, mdp.mu0, near)
    assert np.abs(mu - (1 - mdp.gamma) * mdp.mu0 - mdp.gamma * (chain.T @ mu)).sum() <= 3e-16
