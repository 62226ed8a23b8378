"""What the examples over a finite horizon share: roll-outs of time-indexed policies, and shares of the possible gain.

Shapes: T steps, N or n episodes, S states, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.preprocessing import PolynomialFeatures

from reps_opt import MDP, FiniteHorizonREPS

SHARES = (
    "epsilon bound                gain: predicted   actual   share: first   half   last +- error   worst  least step"
)


def report_shares(epsilon: float, bound: str, predicted: Any, returns: np.ndarray, best: float) -> np.ndarray:
    """Print a row under SHARES, of the gain that the best return leaves; returns the shares (seeds, updates + 1)."""
    share = (returns - returns[:, :1]) / (best - returns[:, :1])
    first, half, last = share[:, 1].mean(), share[:, (share.shape[1] - 1) // 2].mean(), share[:, -1]
    gains = f"{np.mean(predicted):16.3f} {np.diff(returns[:, :2]).mean():8.3f}"
    ends = f"{last.mean():6.3f} +- {last.std() / np.sqrt(len(last)):.3f} {last.min():7.3f}"
    least = np.diff(share, axis=1).min(axis=1).mean()  # an update that loses is below zero
    print(f"{epsilon:7g} {bound:<20} {gains} {first:14.3f} {half:6.3f} {ends} {least:12.3f}", end="", flush=True)
    return share


def tabular_episodes(mdp: MDP, policy: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """States, actions and next states (T, n) of n episodes under a time-indexed policy (T, S, A)."""
    transitions = mdp.transitions.toarray().reshape(*mdp.rewards.shape, -1)
    state, rows = drawn(np.tile(mdp.mu0, (n, 1)), rng), []
    for table in policy:
        action = drawn(table[state], rng)
        following = drawn(transitions[state, action], rng)
        rows.append((state, action, following))
        state = following
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def drawn(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One index (n,) from each row (n, k)."""
    levels = probabilities.cumsum(axis=1)
    return np.argmax(levels > rng.random((len(levels), 1)) * levels[:, -1:], axis=1)


def frequencies(mdp: MDP, states: np.ndarray, actions: np.ndarray, following: np.ndarray) -> MDP:
    """The frequencies of the data as an MDP; a pair that was never tried stays where it is and pays nothing."""
    counts = np.zeros((*mdp.rewards.shape, mdp.mu0.size))
    np.add.at(counts, (states, actions, following), 1.0)
    tried = counts.sum(axis=2, keepdims=True)
    still = np.broadcast_to(np.eye(mdp.mu0.size)[:, None, :], counts.shape)
    rewards = mdp.rewards * (tried[:, :, 0] > 0)
    return MDP(np.where(tried > 0, counts / np.maximum(tried, 1), still), rewards, mdp.gamma, mdp.mu0)


def expected_return(mdp: MDP, policy: np.ndarray) -> float:
    """Exact discounted return of a time-indexed policy (T, S, A)."""
    return FiniteHorizonREPS(mdp, policy, len(policy), np.inf).reference_return


def linear_episodes(env: Any, policies: Sequence[Any], n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """States (T, N, 2), forces (T, N, 1) and rewards (T, N) of N episodes, one policy a step."""
    states, rows = env.sample_starts(n, rng), []
    for policy in policies:
        actions = policy.sample(states, rng)
        moved = env.step_batch(states, actions, rng)
        rows.append((states, actions, moved.rewards, moved.next_states))
        states = moved.next_states
    return [np.array(column) for column in zip(*rows, strict=True)]


def quadratic_models(states: Any, actions: Any, following: Any) -> tuple[np.ndarray, np.ndarray]:
    """Quadratic features of the states, and their expectation a step ahead by least squares, both (T, N, d)."""
    quadratic = PolynomialFeatures(2).fit(states[0])
    phi = np.array([quadratic.transform(x) for x in states])
    both = [PolynomialFeatures(2).fit_transform(np.hstack([x, u])) for x, u in zip(states, actions, strict=True)]
    ahead = [f @ np.linalg.lstsq(f, quadratic.transform(y))[0] for f, y in zip(both, following, strict=True)]
    return phi, np.array(ahead)


def old_advantages(phi: np.ndarray, ahead: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Advantages (T, N) of the policy that acted: values are linear in the features, step by step from the last."""
    advantages, value = np.zeros_like(rewards), np.zeros(phi.shape[2])
    for t in reversed(range(len(rewards))):
        target = rewards[t] + ahead[t] @ value
        value = np.linalg.lstsq(phi[t], target)[0]
        advantages[t] = target - phi[t] @ value
    return advantages
