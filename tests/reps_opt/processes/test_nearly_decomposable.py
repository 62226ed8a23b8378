"""Biases and gains of chains that hardly ever leave a state, against the two-state chain's closed form."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import envs
from reps_opt import MDP, REPS, solve
from reps_opt.processes.elimination import factorised


@pytest.mark.parametrize("leave_0", [0.5, 1e-8, 1e-20, 1e-90])
@pytest.mark.parametrize("leave_1", [0.5, 1e-8, 1e-20, 1e-90])
def test_advantage_of_the_two_state_chain(leave_0: float, leave_1: float) -> None:
    mdp = envs.two_state(gamma=1.0)
    stay = np.array([1.0 - leave_0, 1.0 - leave_1])
    policy = np.array([[stay[0], leave_0], [leave_1, stay[1]]])
    d = np.array([leave_1, leave_0]) / (leave_0 + leave_1)
    gain = d[0] * stay[0] + 2 * d[1] * stay[1]
    ahead = (2 * stay[1] - stay[0]) / (leave_0 + leave_1)  # h(1) - h(0), from h = r - g + P h
    expected = [[1 - gain, ahead - gain], [-ahead - gain, 2 - gain]]
    np.testing.assert_allclose(mdp.state_distribution(policy), d, rtol=1e-12)
    np.testing.assert_allclose(mdp.advantage(policy), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("leak", [1e-6, 1e-12, 1e-15])
def test_a_reference_far_from_the_only_occupancy_is_no_occupancy(leak: float) -> None:
    """Its flow is off by rounding alone; the occupancy is (.5, .5) all the same, and the smallest radius its KL."""
    P = np.array([[[1 - leak, leak]], [[leak, 1 - leak]]])
    mdp = MDP(P, [[0.0], [1.0]], 1.0)
    problem = REPS(mdp, [[0.9], [0.1]], 0.1)
    least = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    assert problem.epsilon_min == pytest.approx(least, abs=1e-12)
    assert solve(problem).status == "infeasible"
    beyond = solve(problem.replace(epsilon=0.6))
    assert beyond.objective == pytest.approx(0.5, abs=1e-12)
    np.testing.assert_allclose(beyond.occupancy, 0.5, atol=1e-12)


def test_no_distribution_is_certified_that_its_own_policy_does_not_have() -> None:
    """A flow residual of 1e-12 is half of the mass where states are left with a chance of 1e-12."""
    P = np.array([[[1.0, 1.2e-12], [1.0, 6e-14]], [[7e-13, 1.0], [3.7e-12, 1.0]]])
    mdp = MDP(P / P.sum(axis=2, keepdims=True), np.full((2, 2), 7.0), 1 - 1e-12, [0.34, 0.66])
    reference = np.array([[0.12, 0.22], [0.49, 0.17]])
    for divergence in ("kl", ("alpha", 1.5)):
        solution = solve(REPS(mdp, reference, 3e-7, divergence=divergence))
        if solution.status == "certified":
            np.testing.assert_allclose(mdp.occupancy(solution.policy), solution.occupancy, atol=1e-8)


def test_a_chain_that_would_take_minutes_is_a_warning() -> None:
    """Two halves that are hardly ever left, each a cycle with shortcuts to anywhere: no order makes it narrow."""
    rng = np.random.default_rng(0)
    n, half = 2600, 1300
    i = np.arange(n)
    low = i < half
    following = np.where(low, (i + 1) % half, half + (i + 1) % half)
    inside = np.where(low, rng.integers(0, half, n), rng.integers(half, n, n))
    outside = np.where(low, rng.integers(half, n, n), rng.integers(0, half, n))
    p = np.repeat([0.5, 0.5 - 1e-12, 1e-12], n)
    chain = sp.csr_array((p, (np.tile(i, 3), np.concatenate([following, inside, outside]))), shape=(n, n))
    with pytest.warns(UserWarning, match="mixes too slowly"):
        factorised(chain, np.full(n, 1e-14))
