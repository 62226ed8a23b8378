"""Optimal policies of a finite MDP: policy iteration, inexact at first for large MDPs, multichain for average reward.

Shapes: S states, A actions; values (S,), action values (S, A).
"""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

import numpy as np

from reps_opt.processes import markov
from reps_opt.processes.elimination import banded
from reps_opt.processes.graph import IntArray, state_graph
from reps_opt.processes.tables import Tables
from reps_opt.tolerances import (
    DIRECT_STATES,
    FAR_AWAY,
    FAR_SIGHTED,
    FIRST_SWEEPS,
    HUGE,
    LEAST_DISCOUNTING,
    LESS_FAR_SIGHTED,
    LOOSEST_ALONG_RTOL,
    MOST_ITERATIONS,
    MOST_ROUNDS,
    NARROW_WORK,
    NEAR_OPTIMUM,
    ROUNDING,
    SWEEPS,
    SWEEPS_BETWEEN,
)
from reps_opt.validation import FloatArray


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


def optimal_policy(mdp: Tables) -> OptimalPolicy:
    """Optimal policy of an MDP; see :meth:`reps_opt.MDP.solve_optimal`.

    Two actions are compared in units of what their own values are sums of, so that a penalty that is never taken does
    not decide what counts as a difference elsewhere.
    """
    level, factor = _level_and_factor(mdp)
    scaled = mdp if level == 0 and factor == 1 else mdp.replace(r=(mdp.rewards - level) / factor)
    direct = mdp.n_states <= DIRECT_STATES or (mdp.gamma > LESS_FAR_SIGHTED and _is_narrow(mdp))
    if mdp.gamma == 1:
        start = _discounted(scaled.replace(gamma=FAR_SIGHTED if direct else LESS_FAR_SIGHTED), direct)
        best = _multichain_policy_iteration(scaled, start.policy.argmax(axis=1))
        offset = 0.0
    else:
        best = _discounted(scaled, direct)
        offset = level / (1 - mdp.gamma)
    if scaled is mdp:
        return best
    return best._replace(
        value=factor * best.value + offset, gain=factor * best.gain + level, residual=factor * best.residual
    )


def _level_and_factor(mdp: Tables) -> tuple[float, float]:
    """What rewards have in common where it dwarfs their differences, and a power of two if they are beyond reach."""
    best = np.where(mdp.allowed, mdp.rewards, -np.inf).max(axis=1)
    level = markov.common_level(best)
    largest = float(np.abs(mdp.rewards - level).max())
    if largest == 0 or 1 / HUGE <= largest <= HUGE:
        return level, 1.0
    aim = HUGE if largest > 1 else 1.0
    return level, float(2.0 ** np.ceil(np.log2(largest) - np.log2(aim)))


def _is_narrow(mdp: Tables) -> bool:
    _, band = banded(state_graph(mdp.transitions, mdp.allowed.ravel()))
    return mdp.n_states * band**2 <= NARROW_WORK


def _greedy(worth: FloatArray, noise: FloatArray, current: IntArray) -> IntArray:
    """Best action in each state, keeping the current one unless it is beaten by more than both of their noises."""
    states = np.arange(current.size)
    sure = worth - noise
    best = sure.argmax(axis=1)
    better = sure[states, best] > worth[states, current] + noise[states, current]
    return np.where(better, best, current)


def _noise(mdp: Tables, level: float | FloatArray, size: FloatArray) -> FloatArray:
    """Rounding errors (S, A) of the Bellman error of values that are sums of a given size (S,)."""
    return ROUNDING * (np.abs(mdp.rewards - level) + mdp.gamma * mdp._ahead(size) + size[:, None])


def _discounted(mdp: Tables, direct: bool) -> OptimalPolicy:
    return _policy_iteration(mdp, np.zeros(mdp.n_states) if direct else _inexact_policy_iteration(mdp), direct)


def _policy_iteration(mdp: Tables, value: FloatArray, direct: bool) -> OptimalPolicy:
    one_hot, states = np.eye(mdp.n_actions), np.arange(mdp.n_states)
    error = mdp._bellman_error(value, 0.0)
    actions = (_passed_on(mdp, error, FIRST_SWEEPS) if direct else error).argmax(axis=1)
    seen = set()
    for iteration in count(1):
        policy, reward = one_hot[actions], mdp.rewards[states, actions]
        level, h = markov.relative_value(mdp._chain(policy), mdp.gamma, reward, None if direct else value, direct)
        value = h + level / (1 - mdp.gamma)
        advantage = mdp._bellman_error(h, level)
        size = np.abs(h)
        if not direct:  # an iterative solution is as accurate everywhere as at its worst
            size = np.full_like(size, 0.25 * np.abs(reward - level).max() / max(1 - mdp.gamma, LEAST_DISCOUNTING))
        noise = _noise(mdp, level, size)
        seen.add(actions.tobytes())
        improved = _greedy(advantage, noise, actions)
        if improved.tobytes() in seen:
            break
        actions = improved
        if direct and iteration >= SWEEPS[0]:
            further = _greedy(_passed_on(mdp, advantage, min(2**iteration, SWEEPS[1])), noise, improved)
            actions = improved if further.tobytes() in seen else further
    residual = max(float(advantage.max()), 0.0)
    return OptimalPolicy(policy, value, level + (1 - mdp.gamma) * h, residual, iteration)


def _passed_on(mdp: Tables, advantage: FloatArray, sweeps: int) -> FloatArray:
    """Advantages (S, A) after some sweeps of value iteration, which no policy falls behind: news travels with them."""
    passed = advantage
    for _ in range(sweeps):
        passed = _backed_up(mdp, advantage, _largest(passed))
    return passed


def _inexact_policy_iteration(mdp: Tables) -> FloatArray:
    """Value near the optimum, to start policy iteration from: each greedy policy is evaluated to a digit only.

    Policy iteration is Newton's method on the Bellman equations, and needs its linear systems no more accurately than
    that (Gargiani, Liao-McPherson, Zanelli, Lygeros 2022, *Inexact GMRES policy iteration for large-scale MDPs*).
    """
    best = np.where(mdp.allowed, mdp.rewards, -np.inf).max(axis=1)
    low, unit = float(best.min()), float(np.ptp(best)) or float(np.ptp(mdp.rewards)) or 1.0
    rewards = np.where(mdp.allowed, (mdp.rewards - low) / unit, -np.inf)
    first, noise = np.arange(mdp.n_states) * mdp.n_actions, 0.5 * ROUNDING / max(1 - mdp.gamma, LEAST_DISCOUNTING)
    value, actions, failed = np.zeros(mdp.n_states), None, 0
    for iteration in range(mdp.n_states + MOST_ITERATIONS):  # news of a reward travels a state in each, or farther
        worth = _backed_up(mdp, rewards, value)
        improved = worth.argmax(axis=1)
        most = worth.ravel()[first + improved]
        if actions is not None:
            kept = most <= worth.ravel()[first + actions] + 2 * noise
            improved[kept] = actions[kept]
            most = worth.ravel()[first + improved]
        step = most - value
        if actions is not None and np.array_equal(improved, actions) and np.ptp(step) <= NEAR_OPTIMUM:
            value = value + step.mean() / (1 - mdp.gamma)
            break
        actions = improved
        moved = markov.rough_discounted_solve(mdp.transitions[first + actions], mdp.gamma, step, LOOSEST_ALONG_RTOL)
        if moved is None and failed > MOST_ROUNDS:  # it does not converge: exact evaluations have to do
            break
        failed += moved is None
        value = value + (step if moved is None else moved)
        for _ in range(SWEEPS_BETWEEN[iteration >= FAR_AWAY]):
            value = _largest(_backed_up(mdp, rewards, value))
    return unit * value + low / (1 - mdp.gamma)


def _backed_up(mdp: Tables, rewards: FloatArray, value: FloatArray) -> FloatArray:
    """Action values (S, A) of a value (S,): ``r + gamma P V``; r is minus infinity where there is no action."""
    worth = mdp._ahead(value)
    worth *= mdp.gamma
    worth += rewards
    return worth


def _largest(table: FloatArray) -> FloatArray:
    """Largest entry (S,) of each row, column by column: NumPy takes five times as long along short rows."""
    top = table[:, 0].copy()
    for column in table.T[1:]:
        np.maximum(top, column, out=top)
    return top


def _multichain_policy_iteration(mdp: Tables, actions: IntArray) -> OptimalPolicy:
    """Howard's policy iteration for average reward: improve the gain first, then the bias (Puterman 1994, 9.2)."""
    one_hot, states = np.eye(mdp.n_actions), np.arange(mdp.n_states)
    seen = set()
    for iteration in count(1):
        policy = one_hot[actions]
        found = markov.evaluate_average(mdp._chain(policy), mdp.rewards[states, actions])
        gain = found.gain[:, None]
        ahead = np.where(mdp.allowed, mdp._ahead(found.gain), -np.inf)
        unsure = ROUNDING * (mdp._ahead(found.gain_size) + found.gain_size[:, None])
        improved = _greedy(ahead, unsure, actions)
        error = mdp._bellman_error(found.bias, gain)
        tied = np.where(ahead >= gain - unsure, error, -np.inf)
        seen.add(actions.tobytes())
        if np.array_equal(improved, actions):
            improved = _greedy(tied, _noise(mdp, gain, found.bias_size), actions)
        if improved.tobytes() in seen:
            break
        actions = improved
    residual = max(float((ahead - gain).max()), float(tied.max()), 0.0)
    return OptimalPolicy(policy, found.bias, found.gain, residual, iteration)
