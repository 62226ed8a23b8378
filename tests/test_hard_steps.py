"""Hard input, row by row, for exact policy steps and O-REPS, judged from the data.

Shapes: S states, A actions, L layers, T episodes; d state distribution (S,), advantages (S, A).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from reps_opt import MDP, ExactNaturalGradient, ExactPolicyGradient, ExactTRPO, ORePS, solve
from tests.hard.recipes import Recipe, mdp_of, policy_of
from tests.hard.verdicts import BALL, GAP, soft_max

BASE = Recipe("step", 1, 5, 3, "dense", "normal", "policy", 0.2)
STEPS = {
    "old||new": lambda mdp, policy, epsilon: ExactTRPO(mdp, policy, epsilon),
    "new||old": lambda mdp, policy, epsilon: ExactTRPO(mdp, policy, epsilon, "new||old"),
    "natural": lambda mdp, policy, epsilon: ExactNaturalGradient(mdp, policy, epsilon=epsilon),
    "plain": lambda mdp, policy, epsilon: ExactPolicyGradient(mdp, policy, epsilon=epsilon),
}
BALLS, ALL = ["old||new", "new||old"], list(STEPS)

ROWS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("as is", {}, ALL),
    ("epsilon = 0", {"epsilon": 0.0}, ALL),
    ("epsilon 1e3", {"epsilon": 1e3}, ALL),
    ("epsilon infinite", {"epsilon": math.inf}, BALLS),
    ("policy with zeros", {"reference": "zeros"}, ALL),
    ("deterministic policy", {"reference": "deterministic"}, ALL),
    ("policy over thirty decades", {"reference": "graded"}, ALL),
    ("policy to underflow", {"reference": "tiny states"}, ALL),
    ("unreachable states", {"structure": "unreachable"}, ALL),
    ("absorbing states", {"structure": "absorbing"}, ALL),
    ("periodic chains, average", {"structure": "periodic", "gamma": 1.0}, ALL),
    ("rewards by 1e-9", {"scale": 1e-9}, ALL),
    ("rewards by 1e9", {"scale": 1e9}, ALL),
    ("rewards shifted by 1e6", {"shift": 1e6}, ALL),
    ("constant rewards", {"rewards": "constant"}, ALL),
    ("rewards no policy changes", {"rewards": "potential"}, ALL),
    ("one goal", {"rewards": "one goal"}, ALL),
    ("ties", {"rewards": "ties"}, ALL),
    ("one of each", {"size": 1, "width": 1}, ALL),
    ("one action", {"width": 1}, ALL),
]
CASES = [(row, name, changes) for row, changes, names in ROWS for name in names]
NOTHING_TO_GAIN = ("constant rewards", "rewards no policy changes", "one of each", "one action")


def model(mdp: MDP, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """State distribution (S,) and advantages (S, A) of a policy, by dense least squares."""
    S = mdp.n_states
    P = mdp.transitions.toarray().reshape(S, -1, S)
    chain, r = np.einsum("sa,sat->st", policy, P), (policy * mdp.rewards).sum(axis=1)
    if mdp.gamma < 1:
        flow = np.eye(S) - mdp.gamma * chain
        V, gain = np.linalg.solve(flow, r), 0.0
        d = np.linalg.solve(flow.T, (1 - mdp.gamma) * mdp.mu0)
    else:
        d = np.linalg.lstsq(np.vstack([chain.T - np.eye(S), np.ones(S)]), np.eye(S + 1)[-1], rcond=None)[0]
        gain = float(d @ r)
        V = np.linalg.lstsq(np.eye(S) - chain, r - gain, rcond=None)[0]
    return d, mdp.rewards - gain + mdp.gamma * P @ V - V[:, None]


def ball_bound(d: np.ndarray, A: np.ndarray, q: np.ndarray, eta: float, epsilon: float, direction: str) -> float:
    """Dual bound at eta on the surrogate of policies in the ball; each state's multiplier by bisection."""
    total = eta * epsilon if eta > 0 else 0.0
    for s in np.flatnonzero(d > 0):
        a, p = A[s][q[s] > 0], q[s][q[s] > 0]
        if eta == 0 or direction == "new||old":
            total += d[s] * soft_max(a, p, eta)
            continue
        low, high = eta * p[a.argmax()], eta  # one action's share alone is at most one
        for _ in range(200):
            t = 0.5 * (low + high)
            low, high = (t, high) if (eta * p / (t + (a.max() - a))).sum() > 1 else (low, t)
        total += d[s] * (a.max() + high - eta - eta * p @ np.log((high + (a.max() - a)) / eta))
    return total


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("row", "name", "changes"), CASES, ids=[f"{row}-{name}" for row, name, _ in CASES])
def test_step_in_policy_space(row, name, changes):
    recipe = replace(BASE, **changes)
    rng = recipe.rng
    mdp = mdp_of(recipe, rng)
    q, epsilon = policy_of(recipe, rng), recipe.epsilon
    solution = solve(STEPS[name](mdp, q, epsilon))
    assert solution.status == "certified", solution
    d, A = model(mdp, q)
    rounding = 1e-10 * float(np.abs(mdp.rewards).max())
    unit = float((d[:, None] * (q > 0) * np.abs(A)).sum())
    assert np.isfinite(solution.policy).all()
    assert not solution.policy[q == 0].any()
    np.testing.assert_allclose(solution.policy.sum(axis=1), 1.0, atol=1e-12)
    if name in BALLS:
        first, second = (q, solution.policy) if name == "old||new" else (solution.policy, q)
        assert (d[:, None] * rel_entr(first, second)).sum() <= epsilon + BALL
        gain = float((d[:, None] * solution.policy * A).sum())
        eta = solution.eta if solution.eta < math.inf else 0.0
        upper = 0.0 if solution.eta == math.inf else ball_bound(d, A, q, eta, epsilon, name)
    else:
        gradient, step = d[:, None] * q * A, solution.step
        curvature = d[:, None] * q if name == "natural" else np.ones_like(q)
        slope = math.sqrt((d[:, None] * q * A**2).sum()) if name == "natural" else float(np.linalg.norm(gradient))
        centred = step - (q * step).sum(axis=1, keepdims=True) if name == "natural" else step
        assert 0.5 * (curvature * centred**2).sum() <= epsilon * (1 + 1e-7)
        gain, upper = float((gradient * step).sum()), math.sqrt(2 * epsilon) * slope
        unit = max(unit, upper)
    assert gain == pytest.approx(solution.predicted_gain, abs=1e-8 * unit + rounding)
    assert gain == pytest.approx(upper, abs=GAP * unit + rounding)
    if row == "epsilon = 0" or row in NOTHING_TO_GAIN:
        np.testing.assert_allclose(solution.policy, q, atol=1e-12)
    elif row == "epsilon infinite":
        assert solution.eta == 0.0
        assert gain == pytest.approx(float(d @ A.max(axis=1)))


@pytest.mark.parametrize("name", ALL)
def test_multipliers_scale_with_the_rewards_and_policies_do_not(name):
    answers = []
    for scale in (1.0, 1e-9, 1e9):
        recipe = replace(BASE, scale=scale)
        rng = recipe.rng
        mdp = mdp_of(recipe, rng)
        answers.append(solve(STEPS[name](mdp, policy_of(recipe, rng), 0.2)))
        np.testing.assert_allclose(answers[-1].policy, answers[0].policy, rtol=1e-6)
        assert answers[-1].eta == pytest.approx(scale * answers[0].eta, rel=1e-6)


@pytest.mark.parametrize("kind", [ExactNaturalGradient, ExactPolicyGradient])
@pytest.mark.parametrize("structure", ["duplicated", "constant", "large constant", "scaled", "all constant"])
def test_features_of_any_rank(kind, structure):
    recipe = BASE
    rng = recipe.rng
    mdp = mdp_of(recipe, rng)
    q, phi = policy_of(recipe, rng), rng.normal(5, 3, 3)
    if structure == "duplicated":
        phi[..., 1] = 2 * phi[..., 0]
    elif structure == "constant":
        phi[..., 0] = 1.0
    elif structure == "large constant":
        phi[..., 0] = 1e6 / 3
    elif structure == "scaled":
        phi = phi * [1e-4, 1.0, 1e4]
    else:
        phi = np.ones((5, 3, 2))
    solution = solve(kind(mdp, q, epsilon=0.1, features=phi))
    assert solution.status == "certified", solution
    d, A = model(mdp, q)
    psi = (phi - np.einsum("sa,sak->sk", q, phi)[:, None, :]).reshape(15, -1)
    p = (d[:, None] * q).ravel()
    g, F = psi.T @ (p * A.ravel()), psi.T @ (p[:, None] * psi)
    if kind is ExactPolicyGradient:
        F = np.eye(len(g))
    fitted = np.linalg.lstsq(np.sqrt(p)[:, None] * psi, np.sqrt(p) * A.ravel(), rcond=1e-12)[0]
    slope = np.linalg.norm(g) if kind is ExactPolicyGradient else math.sqrt(max(float(g @ fitted), 0.0))
    assert 0.5 * solution.step @ F @ solution.step <= 0.1 * (1 + 1e-7)
    assert g @ solution.step == pytest.approx(math.sqrt(0.2) * slope, rel=1e-6, abs=1e-12)
    np.testing.assert_allclose(solution.policy, softmax(np.log(q) + phi @ solution.step, axis=1), atol=1e-12)
    if structure == "all constant":
        np.testing.assert_allclose(solution.policy, q, atol=1e-12)


# O-REPS

ONLINE: list[tuple[str, dict[str, Any], int]] = [
    ("as is", {}, 3),
    ("one layer", {}, 1),
    ("one state a layer", {"size": 1}, 3),
    ("one action", {"width": 1}, 3),
    ("one of each", {"size": 1, "width": 1}, 1),
    ("unreachable states", {"structure": "unreachable"}, 3),
    ("absorbing states", {"structure": "absorbing"}, 3),
    ("periodic", {"structure": "periodic"}, 3),
]


def play(changes: dict[str, Any], horizon: int, rate: float, feedback: str, constant: bool) -> tuple[Any, np.ndarray]:
    recipe = replace(BASE, **changes)
    mdp = mdp_of(recipe, recipe.rng)
    losses = np.random.default_rng(4).random((4, *mdp.rewards.shape))
    if constant:
        losses[:] = 0.7
    return ORePS(mdp, horizon, feedback=feedback, learning_rate=rate).run(losses, seed=5), losses


@pytest.mark.parametrize("rate", [1e-9, 0.3, 30.0])
@pytest.mark.parametrize(("row", "changes", "horizon"), ONLINE, ids=[row for row, *_ in ONLINE])
def test_online_steps_are_near_a_dual_bound(row, changes, horizon, rate):
    run, losses = play(changes, horizon, rate, "full", constant=False)
    assert run.status == "certified"
    mdp = run.problem.mdp
    P, flow = mdp.transitions.toarray(), 1e-8
    for t in range(3):
        q, new = run.occupancy(t), run.occupancy(t + 1)
        np.testing.assert_allclose(new[0].sum(axis=1), mdp.mu0, atol=flow)
        for a, b in itertools.pairwise(new):
            np.testing.assert_allclose(b.sum(axis=1), a.ravel() @ P, atol=flow)
        assert run.expected_losses[t] == pytest.approx(float((q * losses[t]).sum()), abs=1e-12)
        # first order: the objective's slope at the answer has its minimum over policies there (costs by recursion)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = rate * losses[t] + np.where(new > 0, np.log(new / q) + 1, np.inf)
        V = np.zeros(mdp.n_states)
        for layer in slope[::-1]:
            V = np.nan_to_num((layer + (P @ V).reshape(layer.shape)).min(axis=1), posinf=0.0)
        here = float((np.where(new > 0, slope, 0.0) * new).sum())
        assert here - float(mdp.mu0 @ V) <= 1e-6 * max(1.0, rate)


@pytest.mark.parametrize("feedback", ["full", "bandit"])
@pytest.mark.parametrize(("row", "changes", "horizon"), ONLINE, ids=[row for row, *_ in ONLINE])
def test_online_constant_losses(row, changes, horizon, feedback):
    run, _ = play(changes, horizon, 0.3, feedback, constant=True)
    assert run.status == "certified"
    np.testing.assert_allclose(run.expected_losses, 0.7 * horizon, rtol=1e-9)
    assert run.regret == pytest.approx(0.0, abs=1e-8)
    if feedback == "full":
        for t in range(4):
            np.testing.assert_allclose(run.occupancy(t), run.problem.first_occupancy(), atol=1e-8)
