"""Every route, on every instance, finds the same optimum and can prove it."""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import numpy as np
import pytest

import envs
from reps_opt import MDP, REPS, LinearProgram, solve
from reps_opt.constraints import Equal
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.f_divergences import KL
from reps_opt.program import Program
from reps_opt.solution import Solution, Status
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, Newton, ScipyDual
from reps_opt.solvers.choice import second_solvers
from reps_opt.solvers.decimal_newton import DecimalNewton
from tests.reps_opt.instances import GAMMAS, INSTANCES, instance

SHARES = ("1e-3", "0.03", "0.3", "1.0", "just binding", "just slack", "slack")
OTHER_ROUTES = {
    "trust-exact": ScipyDual(),
    "l-bfgs-b": ScipyDual("L-BFGS-B"),
    "cvxpy-primal": CvxpyPrimal(),
    "cvxpy-dual": CvxpyDual(),
}


MANY_STEPS = {("taxi", 0.95, "just binding"), ("taxi", 1.0, "1.0")}
"""Where SciPy's exact trust region takes seconds: taxi's other radii, and cliff at these, ask the same of it."""


@cache
def reps(name: str, gamma: float, epsilon: float | str) -> REPS:
    """REPS from the uniform policy; the radius a number, or a word for where it lies beside the slack threshold."""
    mdp = instance(name, gamma)
    q = mdp.occupancy(mdp.uniform_policy())
    shares = {"just binding": 0.999, "just slack": 1.001, "slack": 1.5}
    if epsilon in shares:
        limit = REPS(mdp, q, math.inf).program.hints.linear_limit
        assert limit is not None
        return REPS(mdp, q, shares[str(epsilon)] * limit().divergence + 1e-6 * (epsilon != "just binding"))
    return REPS(mdp, q, float(epsilon))


@cache
def by_newton(name: str, gamma: float, epsilon: float | str) -> Solution:
    """The answer that other routes are held to, found once a run."""
    return solve(reps(name, gamma, epsilon))


def reward_range(problem: REPS) -> float:
    return max(float(np.ptp(problem.program.objective)), 1e-300)


@pytest.mark.parametrize("epsilon", SHARES)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("name", INSTANCES)
def test_newton_is_certified_far_below_the_tolerance(name: str, gamma: float, epsilon: str) -> None:
    problem, solution = reps(name, gamma, epsilon), by_newton(name, gamma, epsilon)
    assert solution.status is Status.CERTIFIED
    assert abs(solution.certificate.gap) <= 1e-8
    if solution.eta > 0:
        assert abs(solution.kl - problem.epsilon) <= 1e-9
    else:
        assert solution.kl <= problem.epsilon
    assert (solution.eta == 0) or "slack" not in epsilon
    again = problem.mdp.occupancy(solution.policy) if gamma < 1 else solution.occupancy
    np.testing.assert_allclose(solution.occupancy, again, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "gamma", "epsilon", "route"),
    [
        (*case, route)
        for case in product(INSTANCES, GAMMAS, SHARES)
        for route in OTHER_ROUTES
        if route != "trust-exact" or case not in MANY_STEPS
    ],
)
def test_routes_agree(name: str, gamma: float, epsilon: str, route: str) -> None:
    problem, expected = reps(name, gamma, epsilon), by_newton(name, gamma, epsilon)
    solution = solve(problem, OTHER_ROUTES[route])
    assert solution.kl <= problem.epsilon + 1e-7
    assert solution.status is Status.CERTIFIED, solution
    assert abs(solution.objective - expected.objective) <= 1e-6 * reward_range(problem)


@pytest.mark.parametrize(
    "method", ["trust-ncg", "trust-krylov", "Newton-CG", "trust-constr", "BFGS", "CG", "TNC", "SLSQP"]
)
def test_every_gradient_method_of_scipy_serves(method: str) -> None:
    problem = reps("frozenlake-4x4", 0.95, 0.5)
    solution = solve(problem, ScipyDual(method))
    assert solution.status is Status.CERTIFIED, solution
    expected = by_newton("frozenlake-4x4", 0.95, 0.5)
    assert abs(solution.objective - expected.objective) <= 1e-6 * reward_range(problem)


@pytest.mark.parametrize("route", [Newton(), CvxpyPrimal("HIGHS"), CvxpyDual("HIGHS"), ScipyDual()], ids=repr)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("name", ["frozenlake-8x8", "cliff", "riverswim", "garnet-60"])
def test_linear_program_is_the_optimal_policy(name: str, gamma: float, route: object) -> None:
    mdp = instance(name, gamma)
    solution = solve(LinearProgram(mdp), route)  # type: ignore[arg-type]
    optimum = mdp.solve_optimal()
    best = mdp.mu0 @ optimum.gain if gamma < 1 else optimum.gain.max()
    assert solution.status is Status.CERTIFIED, solution
    assert solution.eta == 0
    np.testing.assert_allclose(solution.objective, best, atol=1e-7 * np.ptp(mdp.rewards))


@pytest.mark.parametrize(
    ("linear_solver", "gamma"),
    [("dense", 0.95), ("dense", 1.0), ("sparse", 0.95), ("sparse", 1.0), ("cg", 0.95), ("cg", 0.99)],
)
@pytest.mark.parametrize("name", ["frozenlake-8x8", "garnet-60", "taxi"])
def test_linear_solvers_give_the_same_answer(name: str, linear_solver: str, gamma: float) -> None:
    problem = reps(name, gamma, 0.3)
    solution = solve(problem, Newton(linear_solver=linear_solver))
    assert solution.status is Status.CERTIFIED, solution
    assert abs(solution.certificate.gap) <= 1e-8
    assert abs(solution.kl - 0.3) <= 1e-9
    expected = by_newton(name, gamma, 0.3)
    np.testing.assert_allclose(solution.objective, expected.objective, atol=1e-9 * reward_range(problem))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("epsilon", [0.3, 1.0])
@pytest.mark.parametrize("name", ["frozenlake-8x8", "riverswim"])
def test_hard_cases_for_damped_newton(name: str, epsilon: float, seed: int) -> None:
    """Random reference policies, on which a damped Newton in (eta, V) breaks."""
    mdp = instance(name, 0.95)
    policy = np.random.default_rng(seed).dirichlet(np.ones(mdp.n_actions), mdp.n_states)
    solution = solve(REPS(mdp, mdp.occupancy(policy), epsilon))
    assert solution.status is Status.CERTIFIED
    assert abs(solution.certificate.gap) <= 1e-8


@pytest.mark.parametrize("route", [CvxpyPrimal(), CvxpyDual()], ids=repr)
def test_a_conic_route_is_never_wrong_without_saying_so(route: object) -> None:
    """Taxi from random policies has reference masses over many decades: certified and right, or not certified."""
    mdp = instance("taxi", 1.0)
    for seed in range(2):
        policy = np.random.default_rng(seed).dirichlet(np.ones(mdp.n_actions), mdp.n_states)
        problem = REPS(mdp, mdp.occupancy(policy), 1.0)
        solution, expected = solve(problem, route), solve(problem)  # type: ignore[arg-type]
        assert expected.status is Status.CERTIFIED
        if solution.status is Status.CERTIFIED:
            assert abs(solution.objective - expected.objective) <= 1e-6 * reward_range(problem)
        elif solution.status is Status.UNCERTIFIED:
            assert solution.certificate.gap > 1e-6
            assert "gap" in solution.message
        else:
            assert solution.message


LARGE = {
    "grid": lambda: envs.gridworld((100, 100), slip=0.2, gamma=0.95),
    "grid-from-a-corner": lambda: envs.gridworld(
        ["S" + "F" * 59] + ["F" * 60] * 58 + ["F" * 59 + "G"], slip=0.2, gamma=0.9
    ),
    "garnet": lambda: envs.garnet(10_000, 4, 5, seed=0, gamma=0.95),
    "garnet-average": lambda: envs.garnet(500, 4, 5, seed=0, gamma=1.0),
}


@pytest.mark.parametrize("epsilon", [0.01, 0.5])
@pytest.mark.parametrize("name", LARGE)
def test_large_mdps(name: str, epsilon: float) -> None:
    """Sparse systems: by conjugate gradient, and by factorisation where masses fall off to 1e-60 or nothing."""
    mdp = LARGE[name]()
    rewards = np.random.default_rng(0).uniform(size=mdp.n_states)[:, None].repeat(mdp.n_actions, axis=1)
    mdp = MDP(mdp.transitions, rewards, mdp.gamma, mdp.mu0)
    q = mdp.occupancy(mdp.uniform_policy())
    solution = solve(REPS(mdp, q, epsilon))
    assert solution.status is Status.CERTIFIED, solution
    assert abs(solution.certificate.gap) <= 1e-8
    assert abs(solution.kl - epsilon) <= 1e-9
    if name == "grid-from-a-corner":
        assert q.min() < 1e-20


def test_masses_that_underflow_do_not_rule_out_the_way_there() -> None:
    """At 800 states in a row with gamma .3 the far end's mass is not representable."""
    n = 800
    P = np.zeros((n, 2, n))
    P[np.arange(n), 0, np.minimum(np.arange(n) + 1, n - 1)] = 1.0
    P[:, 1, 0] = 1.0
    mdp = MDP(P, np.column_stack([np.linspace(0, 1, n), np.full(n, 0.1)]), gamma=0.3, mu0=np.eye(n)[0])
    q = mdp.occupancy(mdp.uniform_policy())
    assert (q.sum(axis=1) == 0).any()
    solution = solve(REPS(mdp, q, 0.1))
    assert solution.status is Status.CERTIFIED, solution
    assert abs(solution.kl - 0.1) <= 1e-9


def test_solver_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="method must take a gradient"):
        ScipyDual("Nelder-Mead")
    with pytest.raises(ValueError, match="linear_solver"):
        Newton(linear_solver="qr")
    with pytest.raises(ValueError, match="tolerance"):
        Newton(tolerance=0.0)


def test_newton_traces_its_iterations(capsys: pytest.CaptureFixture[str]) -> None:
    solution = solve(reps("two-state", 0.95, 0.1), Newton(verbose=True))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == solution.stats["iterations"] + 2
    assert "divergence" in lines[0]


def test_a_solver_that_finds_nothing_is_failed() -> None:
    mdp: MDP = instance("frozenlake-4x4", 0.95)
    solution = solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.5), CvxpyPrimal("OSQP"))
    assert solution.status is Status.FAILED
    assert "OSQP" in solution.message


@pytest.mark.parametrize(
    ("n", "rows", "conic", "decimal"),
    [
        (1500, 2, True, False),
        (3000, 2, False, False),
        (1500, 60, True, False),
        (1500, 100, False, False),
        (250, 2, True, True),
        (400, 2, True, False),
        (200, 14, True, True),
        (200, 20, True, False),
    ],
)
def test_a_second_route_is_one_that_takes_about_a_second(n: int, rows: int, conic: bool, decimal: bool) -> None:
    rng = np.random.default_rng(0)
    block = Equal(rng.normal(size=(rows, n)), np.zeros(rows))
    program = Program(rng.normal(size=n), {"rows": block}, Ball(KL(np.full(n, 1 / n)), radius=0.1))
    found = [type(solver) for solver in second_solvers(program, Newton(), None)]
    assert ((CvxpyPrimal in found), (DecimalNewton in found)) == (conic, decimal)
