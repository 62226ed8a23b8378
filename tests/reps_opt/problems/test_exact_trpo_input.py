"""What must not matter to an exact TRPO step, its edges, and bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import softmax

import envs
from reps_opt import MDP, REPS, ExactTRPO, Status, solve
from reps_opt.solvers import CvxpyPrimal, EtaSearch
from tests.reps_opt.policy_cases import DIRECTIONS, random_mdp


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(5))
def test_rewards_scaled_and_shifted(seed: int, direction: str) -> None:
    mdp, policy, epsilon = random_mdp(seed)
    base = solve(ExactTRPO(mdp, policy, epsilon, direction))
    for a, b in [(1e-9, 0.0), (1e9, 0.0), (3.0, -7.0), (1.0, 1e4)]:
        other = MDP(mdp.transitions, a * mdp.rewards + b, mdp.gamma, mdp.mu0)
        solution = solve(ExactTRPO(other, policy, epsilon, direction))
        assert solution.status is Status.CERTIFIED
        tolerance = 1e-8 * max(1.0, abs(b) / 10)
        np.testing.assert_allclose(solution.policy, base.policy, atol=tolerance)
        assert solution.eta == pytest.approx(a * base.eta, rel=tolerance, abs=tolerance * a)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(5))
def test_states_and_actions_permuted(seed: int, direction: str) -> None:
    mdp, policy, epsilon = random_mdp(seed)
    rng = np.random.default_rng(seed)
    s, a = rng.permutation(mdp.n_states), rng.permutation(mdp.n_actions)
    P = mdp.transitions.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)[np.ix_(s, a, s)]
    other = MDP(P, mdp.rewards[np.ix_(s, a)], mdp.gamma, mdp.mu0[s])
    base = solve(ExactTRPO(mdp, policy, epsilon, direction))
    solution = solve(ExactTRPO(other, policy[np.ix_(s, a)], epsilon, direction))
    np.testing.assert_allclose(solution.policy, base.policy[np.ix_(s, a)], atol=1e-9)
    assert solution.eta == pytest.approx(base.eta, rel=1e-8)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(5))
def test_action_taken_apart_in_two(seed: int, direction: str) -> None:
    """A copy of an action shares its probability in the same proportion as before, and nothing else changes."""
    mdp, policy, epsilon = random_mdp(seed)
    P = mdp.transitions.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)
    other = MDP(np.concatenate([P, P[:, :1]], axis=1), np.c_[mdp.rewards, mdp.rewards[:, :1]], mdp.gamma, mdp.mu0)
    split = np.c_[0.25 * policy[:, :1], policy[:, 1:], 0.75 * policy[:, :1]]
    base = solve(ExactTRPO(mdp, policy, epsilon, direction))
    solution = solve(ExactTRPO(other, split, epsilon, direction))
    joined = np.c_[solution.policy[:, :1] + solution.policy[:, -1:], solution.policy[:, 1:-1]]
    np.testing.assert_allclose(joined, base.policy, atol=1e-9)
    np.testing.assert_allclose(3 * solution.policy[:, 0], solution.policy[:, -1], atol=1e-9)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(5))
def test_state_taken_apart_in_two(seed: int, direction: str) -> None:
    """Arrivals in the last state are shared with a copy of it; both then do what the one did."""
    mdp, policy, epsilon = random_mdp(seed)
    share, n = 0.3, mdp.n_states
    P = mdp.transitions.toarray().reshape(n, mdp.n_actions, n)
    P = np.concatenate([P, P[-1:]])
    P = np.concatenate([P[:, :, :-1], share * P[:, :, -1:], (1 - share) * P[:, :, -1:]], axis=2)
    mu0 = np.r_[mdp.mu0[:-1], share * mdp.mu0[-1], (1 - share) * mdp.mu0[-1]]
    other = MDP(P, np.r_[mdp.rewards, mdp.rewards[-1:]], mdp.gamma, mu0)
    base = solve(ExactTRPO(mdp, policy, epsilon, direction))
    solution = solve(ExactTRPO(other, np.r_[policy, policy[-1:]], epsilon, direction))
    np.testing.assert_allclose(solution.policy, np.r_[base.policy, base.policy[-1:]], atol=1e-8)
    assert solution.eta == pytest.approx(base.eta, rel=1e-7)
    assert solution.gain == pytest.approx(base.gain, abs=1e-9)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_edges_of_epsilon(direction: str) -> None:
    mdp = envs.single_chain()
    policy = mdp.uniform_policy()
    nothing = solve(ExactTRPO(mdp, policy, 0.0, direction))
    assert nothing.status is Status.CERTIFIED
    assert nothing.eta == math.inf
    np.testing.assert_array_equal(nothing.policy, policy)
    everything = solve(ExactTRPO(mdp, policy, math.inf, direction))
    assert (everything.status, everything.eta) == (Status.CERTIFIED, 0.0)
    np.testing.assert_array_equal(everything.policy.argmax(axis=1), mdp.advantage(policy).argmax(axis=1))
    threshold = math.log(2)  # KL of a greedy policy from the uniform one
    if direction == "new||old":
        assert solve(ExactTRPO(mdp, policy, threshold + 1e-6, direction)).eta == 0
    assert solve(ExactTRPO(mdp, policy, threshold - 1e-6, direction)).eta > 0
    for epsilon in (1e-12, 1e-9, 1e-6, 1e-3, 3.0, 30.0, 300.0):
        assert solve(ExactTRPO(mdp, policy, epsilon, direction)).status is Status.CERTIFIED


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_constant_rewards_leave_the_policy(direction: str) -> None:
    mdp = envs.garnet(6, 3, 2, seed=0)
    flat = MDP(mdp.transitions, np.full(mdp.rewards.shape, 5.0), mdp.gamma)
    policy = np.random.default_rng(0).dirichlet(np.ones(3), size=6)
    solution = solve(ExactTRPO(flat, policy, 0.3, direction))
    assert solution.status is Status.CERTIFIED
    np.testing.assert_allclose(solution.policy, policy, atol=1e-15)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_states_without_mass_follow_the_same_rule(direction: str) -> None:
    mdp = envs.single_chain()
    policy = mdp.uniform_policy()
    policy[1] = [0.0, 1.0]  # states 2 to 4 are never reached
    solution = solve(ExactTRPO(mdp, policy, 0.05, direction))
    assert solution.status is Status.CERTIFIED
    assert np.isnan(solution.duals["policy"][2:]).all()
    np.testing.assert_array_equal(solution.policy[1], [0.0, 1.0])
    lost, advantage = solution.policy[3], mdp.advantage(policy)[3]
    assert (lost[0] > 0.5) == (advantage[0] > advantage[1])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_policies_spread_over_many_orders_of_magnitude(direction: str) -> None:
    mdp = envs.garnet(8, 4, 3, seed=3)
    logits = np.random.default_rng(1).normal(scale=60.0, size=(8, 4))
    for epsilon in (1e-4, 0.1, 2.0):
        solution = solve(ExactTRPO(mdp, softmax(logits, axis=1), epsilon, direction))
        assert solution.status is Status.CERTIFIED, solution


def test_explicit_problems_carry_labels() -> None:
    mdp = envs.single_chain()
    problem = ExactTRPO(mdp, mdp.uniform_policy(), 0.1)
    expected = solve(problem)
    primal, dual = problem.to_cvxpy("primal"), problem.to_cvxpy("dual")
    assert {c.label for c in primal.constraints} == {"policy", "normalisation", "kl"}
    for posed in (primal, dual):
        posed.solve(solver="CLARABEL")
        assert posed.value == pytest.approx(expected.objective, abs=1e-6)


def test_summary_and_dataset() -> None:
    mdp = envs.single_chain()
    solution = solve(ExactTRPO(mdp, mdp.uniform_policy(), 0.1))
    assert "predicted gain" in str(solution)
    assert "predicted gain" in solution._repr_html_()
    data = solution.to_xarray()
    np.testing.assert_allclose(mdp.bellman_error(solution.value), data["advantage"], atol=1e-12)
    assert data["policy"].dims == ("state", "action")
    assert data.attrs["gain"] == pytest.approx(solution.gain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": -1.0}, "epsilon must be >= 0"),
        ({"epsilon": math.nan}, "epsilon"),
        ({}, "exactly one of epsilon"),
        ({"epsilon": 1.0, "temperature": 1.0}, "exactly one of epsilon"),
        ({"temperature": 0.0}, "temperature must be > 0"),
        ({"epsilon": 1.0, "direction": "sideways"}, "direction must be one of"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    mdp = envs.two_state()
    with pytest.raises(ValueError, match=message):
        ExactTRPO(mdp, mdp.uniform_policy(), **arguments)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_input_of_any_kind_is_left_alone(direction: str) -> None:
    mdp = envs.single_chain()
    expected = solve(ExactTRPO(mdp, mdp.uniform_policy(), 0.1, direction)).policy
    given = np.asfortranarray(np.full((5, 2), 0.5, dtype=np.float32))
    given.flags.writeable = False
    np.testing.assert_array_equal(solve(ExactTRPO(mdp, given, 0.1, direction)).policy, expected)
    np.testing.assert_array_equal(solve(ExactTRPO(mdp, [[0.5, 0.5]] * 5, 0.1, direction)).policy, expected)
    shifted = MDP(mdp.transitions, mdp.rewards + 1e6, mdp.gamma, mdp.mu0)
    solution = solve(ExactTRPO(shifted, given, 0.1, direction))
    assert solution.status is Status.CERTIFIED
    np.testing.assert_allclose(solution.policy, expected, atol=1e-6)


def test_a_solver_that_breaks_off_is_a_failed_answer() -> None:
    mdp = envs.single_chain()
    solution = solve(ExactTRPO(mdp, mdp.uniform_policy(), 0.1), CvxpyPrimal("CLARABEL", {"max_iter": 0}))
    assert solution.status in (Status.FAILED, Status.UNCERTIFIED)
    assert not solution.certificate.ok()
    assert "CLARABEL" in solution.message


def test_bad_policies_are_named() -> None:
    mdp = envs.two_state()
    with pytest.raises(ValueError, match="policy row 1 must sum to one"):
        ExactTRPO(mdp, [[0.5, 0.5], [0.5, 0.6]], 0.1)
    with pytest.raises(ValueError, match=r"policy\[0, 1\] is nan"):
        ExactTRPO(mdp, [[0.5, math.nan], [0.5, 0.5]], 0.1)


def test_eta_search_says_what_it_cannot_solve() -> None:
    mdp = envs.two_state()
    with pytest.raises(ValueError, match="EtaSearch takes a KL ball without rows, or a policy step"):
        solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.1), EtaSearch())


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="tolerance must be > 0"):
        EtaSearch(tolerance=0.0)
    with pytest.raises(ValueError, match="max_iterations must be >= 1"):
        EtaSearch(max_iterations=0)


def test_too_few_iterations_are_not_hidden() -> None:
    mdp = envs.single_chain()
    solution = solve(ExactTRPO(mdp, mdp.uniform_policy(), 0.5), EtaSearch(max_iterations=1))
    assert solution.status is Status.UNCERTIFIED
    assert "duality gap" in solution.message
    assert solution.certificate.gap >= 0
