"""Plain and natural gradient steps: finite differences of the return, the Fisher matrix, CVXPY, invariances."""

from __future__ import annotations

import math

import cvxpy as cp
import numpy as np
import pytest
from scipy.special import softmax

import envs
from reps_opt import MDP, ExactNaturalGradient, ExactPolicyGradient, ExactTRPO, Status, solve
from reps_opt.solvers import CvxpyPrimal


def random_case(seed: int, n_features: int = 3) -> tuple[MDP, np.ndarray, np.ndarray]:
    """A Garnet, random logits (S, A), and random features (S, A, k)."""
    rng = np.random.default_rng(seed)
    n_states, n_actions = int(rng.integers(2, 6)), int(rng.integers(2, 4))
    mdp = envs.garnet(n_states, n_actions, 2, seed=rng, gamma=float(rng.choice([0.5, 0.9, 0.99, 1.0])))
    return mdp, rng.normal(size=(n_states, n_actions)), rng.normal(size=(n_states, n_actions, n_features))


def fisher(problem: ExactNaturalGradient) -> np.ndarray:
    """Fisher matrix of the softmax table (S A, S A), from its definition."""
    d, pi = problem.state_distribution, problem.policy
    blocks = [d[s] * (np.diag(pi[s]) - np.outer(pi[s], pi[s])) for s in range(len(d))]
    n = pi.shape[1]
    full = np.zeros((pi.size, pi.size))
    for s, block in enumerate(blocks):
        full[s * n : (s + 1) * n, s * n : (s + 1) * n] = block
    return full


@pytest.mark.parametrize("seed", range(20))
def test_gradient_by_finite_differences(seed: int) -> None:
    mdp, logits, features = random_case(seed)
    h = 1e-5

    def by_difference(towards: np.ndarray) -> float:
        ends = [mdp.expected_return(softmax(logits + sign * h * towards, axis=1)) for sign in (1, -1)]
        return (ends[0] - ends[1]) / (2 * h)

    policy = softmax(logits, axis=1)
    table = ExactPolicyGradient(mdp, policy, step_size=1.0).gradient
    basis = np.eye(logits.size).reshape(-1, *logits.shape)
    np.testing.assert_allclose(table.ravel(), [by_difference(e) for e in basis], atol=1e-7)
    shared = ExactPolicyGradient(mdp, policy, step_size=1.0, features=features).gradient
    np.testing.assert_allclose(shared, [by_difference(features[:, :, k]) for k in range(3)], atol=1e-7)


@pytest.mark.parametrize("epsilon", [1e-4, 0.3])
@pytest.mark.parametrize("seed", range(100))
def test_steps_against_cvxpy(seed: int, epsilon: float) -> None:
    """The quadratic program over logits, posed from the Fisher matrix's definition."""
    mdp, logits, _ = random_case(seed)
    policy = softmax(logits, axis=1)
    for kind in (ExactNaturalGradient, ExactPolicyGradient):
        problem = kind(mdp, policy, epsilon=epsilon)
        solution = solve(problem)
        metric = fisher(problem) if kind is ExactNaturalGradient else np.eye(policy.size)
        values, vectors = np.linalg.eigh(metric)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        unit = np.linalg.norm(problem.gradient)
        s = cp.Variable(policy.size)
        ball = cp.norm(root.T @ s) <= math.sqrt(2 * epsilon)
        posed = cp.Problem(cp.Maximize(problem.gradient.ravel() / unit @ s), [ball])
        posed.solve(solver="CLARABEL", accept_unknown=True, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        assert solution.status is Status.CERTIFIED
        assert abs(solution.certificate.gap) <= 1e-12 * (1 + solution.objective / problem.normalised[1].factor)
        assert solution.kl == pytest.approx(epsilon, rel=1e-9)
        assert solution.predicted_gain == pytest.approx(posed.value * unit, rel=1e-6)
        assert solution.kl == pytest.approx(0.5 * solution.step.ravel() @ metric @ solution.step.ravel(), rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_natural_gradient_is_the_advantage(seed: int) -> None:
    """``F^+ g`` and the advantage make the same policy; alpha is the step of the unnormalised return."""
    mdp, logits, _ = random_case(seed)
    policy = softmax(logits, axis=1)
    problem = ExactNaturalGradient(mdp, policy, step_size=0.3)
    horizon = 1 / (1 - mdp.gamma) if mdp.gamma < 1 else 1.0
    steepest = np.linalg.pinv(fisher(problem), rcond=1e-12) @ problem.gradient.ravel() * horizon
    expected = softmax(logits + 0.3 * steepest.reshape(policy.shape), axis=1)
    solution = solve(problem)
    np.testing.assert_allclose(solution.policy, expected, atol=1e-7)
    assert solution.eta == pytest.approx(1 / (0.3 * horizon))
    trpo = solve(ExactTRPO(mdp, policy, direction="new||old", temperature=solution.eta))
    np.testing.assert_allclose(solution.policy, trpo.policy, atol=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_plain_step_moves_the_logits_by_the_gradient(seed: int) -> None:
    mdp, logits, features = random_case(seed)
    policy = softmax(logits, axis=1)
    horizon = 1 / (1 - mdp.gamma) if mdp.gamma < 1 else 1.0
    table = solve(ExactPolicyGradient(mdp, policy, step_size=0.2))
    np.testing.assert_allclose(table.step, 0.2 * horizon * table.problem.gradient, atol=1e-14)
    np.testing.assert_allclose(table.policy, softmax(logits + table.step, axis=1), atol=1e-14)
    shared = solve(ExactPolicyGradient(mdp, policy, step_size=0.2, features=features))
    np.testing.assert_allclose(shared.policy, softmax(logits + features @ shared.step, axis=1), atol=1e-14)


@pytest.mark.parametrize("seed", range(10))
def test_features_of_the_table_are_the_table(seed: int) -> None:
    mdp, logits, _ = random_case(seed)
    policy = softmax(logits, axis=1)
    features = np.eye(policy.size).reshape(*policy.shape, policy.size)
    for kind in (ExactNaturalGradient, ExactPolicyGradient):
        table, shared = solve(kind(mdp, policy, epsilon=0.1)), solve(kind(mdp, policy, epsilon=0.1, features=features))
        np.testing.assert_allclose(table.policy, shared.policy, atol=1e-9)
        assert table.eta == pytest.approx(shared.eta, rel=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_natural_steps_do_not_depend_on_the_parametrisation(seed: int) -> None:
    """Claim 1: an invertible change of the features changes the plain step, and leaves the natural one."""
    mdp, logits, features = random_case(seed)
    policy = softmax(logits, axis=1)
    mixed = features @ np.diag([1.0, 10.0, 0.1]) @ np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    steps = {
        kind: [solve(kind(mdp, policy, epsilon=0.05, features=phi)) for phi in (features, mixed)]
        for kind in (ExactNaturalGradient, ExactPolicyGradient)
    }
    natural, plain = steps[ExactNaturalGradient], steps[ExactPolicyGradient]
    np.testing.assert_allclose(natural[0].policy, natural[1].policy, atol=1e-9)
    assert natural[0].eta == pytest.approx(natural[1].eta, rel=1e-9)
    assert np.abs(plain[0].policy - plain[1].policy).max() > 1e-3


@pytest.mark.parametrize("kind", [ExactNaturalGradient, ExactPolicyGradient])
@pytest.mark.parametrize("seed", range(5))
def test_rewards_scaled_and_shifted(seed: int, kind: type) -> None:
    mdp, logits, _ = random_case(seed)
    policy = softmax(logits, axis=1)
    base = solve(kind(mdp, policy, epsilon=0.1))
    for a, b in [(1e-9, 0.0), (1e9, 0.0), (2.0, -30.0)]:
        solution = solve(kind(MDP(mdp.transitions, a * mdp.rewards + b, mdp.gamma, mdp.mu0), policy, epsilon=0.1))
        assert solution.status is Status.CERTIFIED
        assert solution.eta == pytest.approx(a * base.eta, rel=1e-7)
        np.testing.assert_allclose(solution.policy, base.policy, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_copied_action(seed: int) -> None:
    """The natural step keeps the sum over copies of an action; the plain step does not."""
    mdp, logits, _ = random_case(seed)
    P = mdp.transitions.toarray().reshape(*mdp.rewards.shape, mdp.n_states)
    other = MDP(np.concatenate([P, P[:, :1]], axis=1), np.c_[mdp.rewards, mdp.rewards[:, :1]], mdp.gamma, mdp.mu0)
    policy = softmax(logits, axis=1)
    split = np.c_[0.25 * policy[:, :1], policy[:, 1:], 0.75 * policy[:, :1]]

    def joined(kind: type) -> np.ndarray:
        new = solve(kind(other, split, epsilon=0.1)).policy
        return np.c_[new[:, :1] + new[:, -1:], new[:, 1:-1]]

    np.testing.assert_allclose(
        joined(ExactNaturalGradient), solve(ExactNaturalGradient(mdp, policy, epsilon=0.1)).policy
    )
    assert (
        np.abs(joined(ExactPolicyGradient) - solve(ExactPolicyGradient(mdp, policy, epsilon=0.1)).policy).max() > 1e-4
    )


@pytest.mark.parametrize("kind", [ExactNaturalGradient, ExactPolicyGradient])
def test_edges(kind: type) -> None:
    mdp = envs.single_chain()
    policy = mdp.uniform_policy()
    nothing = solve(kind(mdp, policy, epsilon=0.0))
    assert (nothing.status, nothing.eta) == (Status.CERTIFIED, math.inf)
    np.testing.assert_allclose(nothing.policy, policy)
    best = solve(kind(mdp, mdp.solve_optimal().policy, epsilon=0.1))
    assert best.status is Status.CERTIFIED
    np.testing.assert_allclose(best.policy, mdp.solve_optimal().policy)
    assert solve(kind(mdp, policy, epsilon=0.1), CvxpyPrimal()).stats["route"] == "closed form"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of step_size"),
        ({"step_size": 1.0, "epsilon": 1.0}, "exactly one of step_size"),
        ({"step_size": 0.0}, "step_size must be > 0"),
        ({"epsilon": math.inf}, "epsilon must be finite"),
        ({"epsilon": -1.0}, "epsilon must be >= 0"),
        ({"epsilon": 1.0, "features": np.zeros((2, 3, 1))}, "features must have shape"),
    ],
)
@pytest.mark.parametrize("kind", [ExactNaturalGradient, ExactPolicyGradient])
def test_bad_arguments_are_named(kind: type, arguments: dict, message: str) -> None:
    mdp = envs.two_state()
    with pytest.raises(ValueError, match=message):
        kind(mdp, mdp.uniform_policy(), **arguments)
