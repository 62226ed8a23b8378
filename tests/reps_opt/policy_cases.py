"""Random MDPs with random policies that every policy step is held to."""

from __future__ import annotations

import numpy as np

import envs
from reps_opt import MDP

DIRECTIONS = ("old||new", "new||old")


def random_mdp(seed: int) -> tuple[MDP, np.ndarray, float]:
    """A Garnet with a random policy (some actions never taken, some states hardly visited) and a random radius."""
    rng = np.random.default_rng(seed)
    n_states, n_actions = int(rng.integers(2, 7)), int(rng.integers(2, 5))
    gamma = float(rng.choice([0.5, 0.9, 0.99, 1.0]))
    mdp = envs.garnet(n_states, n_actions, min(n_states, 3), seed=rng, gamma=gamma)
    policy = rng.dirichlet(np.full(n_actions, 0.7), size=n_states)
    policy = np.maximum(policy, 1e-3)
    if n_actions > 2:
        policy[0, 0] = 0.0
    return mdp, policy / policy.sum(axis=1, keepdims=True), float(10 ** rng.uniform(-2.5, 0.3))
