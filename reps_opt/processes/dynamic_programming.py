"""Optimal policies of a finite MDP: policy iteration, inexact at first for large MDPs, multichain for average reward.

Shapes: S states, A actions; values (S,), action values (S, A).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reps_opt.processes import markov
from reps_opt.validation import FloatArray

if TYPE_CHECKING:
    from reps_opt.processes.mdp import MDP

EVALUATION_RTOL = 0.05
"""Relative residual to which a greedy policy is evaluated before the next improvement."""

NEAR_OPTIMUM = 1e-7
"""Range of the Bellman error, rewards in [0, 1], at which a policy that changes no more is left to exact evaluation."""

MAX_INEXACT = 10_000
"""Improvements before exact policy iteration takes over: news of a distant reward travels one state in each."""


class OptimalPolicy(NamedTuple):
    """An optimal deterministic policy.

    Attributes
    ----------
    policy : (S, A) array
        One-hot rows; among equally good actions the first.
    value : (S,) array
        Optimal discounted value; with ``gamma=1`` the bias of ``policy``.
    gain : (S,) array
        ``(1 - gamma) value``, or with ``gamma=1`` the best long-run average reward from each state.
    residual : float
        Largest advantage any action has left over ``policy``: zero means optimal.
    iterations : int
        Number of policies evaluated exactly.
    """

    policy: FloatArray
    value: FloatArray
    gain: FloatArray
    residual: float
    iterations: int


def optimal_policy(mdp: MDP) -> OptimalPolicy:
    """Optimal policy of an MDP; see :meth:`reps_opt.MDP.solve_optimal`.

    It is found with rewards in [0, 1]: a large constant in them would drown small differences in rounding.
    """
    low, factor = float(mdp.rewards.min()), float(np.ptp(mdp.rewards)) or 1.0
    scaled = mdp.replace(r=(mdp.rewards - low) / factor)
    if mdp.gamma == 1:
        best = _multichain_policy_iteration(scaled)
        offset = 0.0
    else:
        start = np.zeros(mdp.n_states)
        if mdp.n_states > markov.DIRECT_LIMIT:
            start = _inexact_policy_iteration(scaled, start)
        best = _policy_iteration(scaled, start)
        offset = low / (1 - mdp.gamma)
    return best._replace(
        value=factor * best.value + offset, gain=factor * best.gain + low, residual=factor * best.residual
    )


def _greedy(action_value: FloatArray, current: np.ndarray, tolerance: float) -> np.ndarray:
    """Best action in each state, keeping the current one unless it is beaten by more than the tolerance."""
    states = np.arange(current.size)
    best = action_value.argmax(axis=1)
    better = action_value[states, best] > action_value[states, current] + tolerance
    return np.where(better, best, current)


def _rounding(mdp: MDP) -> float:
    scale = max(float(np.abs(mdp.rewards).max()), np.finfo(float).tiny)
    return 1e-12 * scale / max(1 - mdp.gamma, 1e-3)


def _policy_iteration(mdp: MDP, value: FloatArray, max_iterations: int = 1000) -> OptimalPolicy:
    one_hot = np.eye(mdp.n_actions)
    actions = mdp.bellman_error(value).argmax(axis=1)
    for iteration in range(1, max_iterations + 1):
        policy = one_hot[actions]
        reward = np.take_along_axis(mdp.rewards, actions[:, None], axis=1)[:, 0]
        value = markov.discounted_solve(mdp._chain(policy), mdp.gamma, reward, guess=value)
        advantage = mdp.bellman_error(value)
        improved = _greedy(advantage, actions, _rounding(mdp))
        if np.array_equal(improved, actions):
            break
        actions = improved
    residual = max(float(advantage.max()), 0.0)
    return OptimalPolicy(policy, value, (1 - mdp.gamma) * value, residual, iteration)


def _inexact_policy_iteration(mdp: MDP, value: FloatArray) -> FloatArray:
    """Value near the optimum, to start policy iteration from: each greedy policy is evaluated to a digit only.

    Policy iteration is Newton's method on the Bellman equations, and needs its linear systems no more accurately than
    that (Gargiani, Liao-McPherson, Zanelli, Lygeros 2022, *Inexact GMRES policy iteration for large-scale MDPs*).
    """
    states, tolerance = np.arange(mdp.n_states), _rounding(mdp)
    actions: np.ndarray | None = None
    for _ in range(MAX_INEXACT):
        error = mdp.bellman_error(value)
        improved = error.argmax(axis=1) if actions is None else _greedy(error, actions, tolerance)
        step = error[states, improved]
        if actions is not None and np.array_equal(improved, actions) and np.ptp(step) <= NEAR_OPTIMUM:
            return value + step.mean() / (1 - mdp.gamma)
        actions = improved
        chain = mdp.transitions[states * mdp.n_actions + actions]
        value = value + markov.rough_discounted_solve(chain, mdp.gamma, step, EVALUATION_RTOL)
    return value


def _multichain_policy_iteration(mdp: MDP, max_iterations: int = 1000) -> OptimalPolicy:
    """Howard's policy iteration for average reward: improve the gain first, then the bias (Puterman 1994, 9.2)."""
    one_hot = np.eye(mdp.n_actions)
    tolerance = _rounding(mdp)
    actions = np.where(mdp.allowed, mdp.rewards, -np.inf).argmax(axis=1)
    shape = mdp.rewards.shape
    for iteration in range(1, max_iterations + 1):
        policy = one_hot[actions]
        reward = mdp.rewards[np.arange(mdp.n_states), actions]
        gain, bias = markov.gain_and_bias(mdp._chain(policy), reward)
        gain_ahead = np.where(mdp.allowed, (mdp.transitions @ gain).reshape(shape), -np.inf)
        improved = _greedy(gain_ahead, actions, tolerance)
        error = mdp.bellman_error(bias) - gain[:, None]
        ties = gain_ahead >= gain[:, None] - tolerance
        if np.array_equal(improved, actions):
            improved = _greedy(np.where(ties, error, -np.inf), actions, tolerance)
            if np.array_equal(improved, actions):
                break
        actions = improved
    residual = max(
        float((gain_ahead - gain[:, None]).max()), float(error[gain_ahead >= gain[:, None] - tolerance].max())
    )
    return OptimalPolicy(policy, bias, gain, max(residual, 0.0), iteration)
