"""The smallest radius that a problem reports makes it feasible, and a thousandth less does not: every family."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from reps_opt import MDP, REPS, ConditionalREPS, Problem, SampleREPS, Status, TrustRegionStep, solve
from reps_opt.solvers import Newton
from tests.hard import supports

SEEDS = range(12)

pytestmark = pytest.mark.filterwarnings("ignore:the effective sample size", "ignore:the MDP is multichain")


def random_mdp(rng: np.random.Generator, gamma: float) -> MDP:
    S, A = int(rng.integers(2, 6)), int(rng.integers(2, 4))
    return MDP(rng.dirichlet(np.full(S, 0.5), size=(S, A)), rng.normal(size=(S, A)), gamma)


def inconsistent(rng: np.random.Generator, mdp: MDP, kind: int) -> np.ndarray:
    """A reference that is no occupancy of the MDP: at random, from counts, or of another discount."""
    shape = mdp.rewards.shape
    if kind == 0:
        return rng.dirichlet(np.ones(mdp.rewards.size)).reshape(shape)
    if kind == 1:
        return 0.5 + rng.integers(0, 9, size=shape)
    return mdp.replace(gamma=0.6).occupancy(rng.dirichlet(np.ones(shape[1]), size=shape[0]))


def occupancy(divergence: object) -> Callable[[int], Callable[[float], Problem]]:
    def family(seed: int) -> Callable[[float], Problem]:
        rng = np.random.default_rng(seed)
        mdp = random_mdp(rng, (0.9, 0.999999, 1.0)[seed % 3])
        q = inconsistent(rng, mdp, seed % 4 % 3)
        return lambda epsilon: REPS(mdp, q, epsilon, divergence=divergence)  # type: ignore[arg-type]

    return family


def budgets(seed: int) -> Callable[[float], Problem]:
    """Costs that the reference exceeds by a little, one of them twice and one in other units."""
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, 0.9)
    q = mdp.occupancy(rng.dirichlet(np.ones(mdp.n_actions), size=mdp.n_states))
    cost = rng.random(mdp.rewards.shape)
    cheapest = -float(mdp.mu0 @ mdp.replace(rewards=-cost).solve_optimal().value) * (1 - mdp.gamma)
    limit = 0.5 * float((q * cost).sum()) + 0.5 * cheapest
    costs, limits = [cost, 1e5 * cost, -1e-5 * cost], [limit, 1e5 * (limit + 0.1), 1e-5]
    return lambda epsilon: REPS(mdp, q, epsilon, costs, limits)


def samples(seed: int) -> Callable[[float], Problem]:
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(20, 80)), int(rng.integers(1, 4))
    psi, r = rng.normal(size=(n, d)) + 0.3, rng.normal(size=n)
    return lambda epsilon: SampleREPS(r, psi, epsilon)


FAMILIES = {
    "KL": occupancy("kl"),
    "chi-square": occupancy("chi2"),
    "reverse KL": occupancy("reverse_kl"),
    "alpha 0.5": occupancy(("alpha", 0.5)),
    "alpha -1": occupancy(("alpha", -1)),
    "alpha 1.5": occupancy(("alpha", 1.5)),
    "budgets": budgets,
    "samples": samples,
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_feasible_at_it_and_not_a_thousandth_below(name: str, seed: int) -> None:
    make = FAMILIES[name](seed)
    least = make(1.0).epsilon_min
    assert 0 < least < math.inf
    at, beyond = solve(make(least)), solve(make(least * (1 + 1e-6)))
    assert at.certificate.flow <= 1e-8
    assert at.certificate.kl <= least + 1e-9
    if name in ("KL", "chi-square", "budgets", "samples"):  # Pinsker's inequality bounds what a single point may miss
        assert at.status is Status.CERTIFIED
    assert beyond.status is Status.CERTIFIED
    assert solve(make(least * 0.999)).status is Status.INFEASIBLE


@pytest.mark.parametrize("gamma", [1 - 1e-8, 1 - 1e-12])
@pytest.mark.parametrize("divergence", ["reverse_kl", ("alpha", -1.0), ("alpha", -3.0)], ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_close_to_gamma_one_too(gamma: float, divergence: object, seed: int) -> None:
    """The smallest radius is that of an exact occupancy, and a dual bound that shares no code is the same number.

    A projection in floats stopped at points that no policy has: .125 was reported for .097, and 5022 for 8.4e7.
    """
    rng = np.random.default_rng(seed)
    S, A = int(rng.integers(2, 6)), int(rng.integers(1, 4))
    P = np.eye(S)[rng.integers(0, S, size=(S, A))] if seed % 2 else rng.dirichlet(np.full(S, 0.5), size=(S, A))
    mdp = MDP(P, rng.normal(size=(S, A)), gamma, order="SAS")
    problem = REPS(mdp, rng.dirichlet(np.ones(S * A)).reshape(S, A), 1.0, divergence=divergence)  # type: ignore[arg-type]
    least = problem.epsilon_min
    assert supports.least_divergence(problem) == pytest.approx(least, rel=1e-7)
    assert solve(problem.replace(epsilon=least * 0.999)).status is Status.INFEASIBLE
    at = solve(problem.replace(epsilon=least * (1 + 1e-6)), Newton())  # no second opinion: at 6e34 it takes ten seconds
    assert at.has_point
    assert at.certificate.flow <= 1e-8


@pytest.mark.parametrize("seed", SEEDS)
def test_a_policy_that_leaves_what_can_carry_mass(seed: int) -> None:
    """Conditional KL: actions that lead to a state without allowed actions have to be given up."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.ones(4), size=(4, 3))
    P[:3, :2, 3], P[:, 2] = 0.0, np.eye(4)[3]
    P /= P.sum(axis=2, keepdims=True)
    policy = rng.dirichlet(np.ones(3), size=4)
    policy[3] = 0.0  # the last state has no action of the policy: nothing may lead there
    mdp = MDP(P, rng.normal(size=(4, 3)), 0.9, [0.5, 0.3, 0.2, 0.0])
    least = ConditionalREPS(mdp, policy, 1.0).epsilon_min
    assert 0 < least < math.inf
    assert solve(ConditionalREPS(mdp, policy, least * (1 + 1e-6))).status is Status.CERTIFIED
    assert solve(ConditionalREPS(mdp, policy, least * 0.999)).status is Status.INFEASIBLE


@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_with_cost_rows_past_feasibility(seed: int) -> None:
    """The smallest radius of one row is ``c^2 / (2 b' F^-1 b)``, with redundant copies of it beside."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    J = rng.normal(size=(2 * n, n))
    metric, b, level = J.T @ J / n, rng.normal(size=n), 10 ** rng.uniform(-5, 0)
    least = level**2 / (2 * b @ np.linalg.solve(metric, b))
    rows = [(b, level), (2 * b, 1.5 * level), (1e5 * b, 1e5 * level)]

    def step(epsilon: float) -> TrustRegionStep:
        return TrustRegionStep(rng.normal(size=n), metric, epsilon, rows)

    assert step(1.0).epsilon_min == pytest.approx(least, rel=1e-9)
    assert solve(step(least * (1 + 1e-6))).status is Status.CERTIFIED
    assert solve(step(least * 0.999)).status is Status.INFEASIBLE
