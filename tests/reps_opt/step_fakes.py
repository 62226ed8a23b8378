"""The smallest policies and samples that gradients and updates can be tested on.

Shapes: N samples, S states, A actions, P parameters.
"""

import itertools
from types import SimpleNamespace

import numpy as np
from scipy.special import log_softmax, rel_entr

from reps_opt import MDP


class SoftmaxTable:
    """Logits (S, A), one parameter each."""

    def __init__(self, logits):
        self.logits = np.array(logits, dtype=float)

    @property
    def params(self):
        return self.logits.ravel().copy()

    def with_params(self, params):
        return SoftmaxTable(np.reshape(params, self.logits.shape))

    @property
    def table(self):
        return np.exp(log_softmax(self.logits, axis=1))

    def log_prob(self, states, actions):
        return log_softmax(self.logits, axis=1)[states, actions]

    def sample(self, states, rng):
        cumulative = np.cumsum(self.table[states], axis=1)
        return np.minimum((rng.random(len(states))[:, None] > cumulative).sum(axis=1), self.logits.shape[1] - 1)

    def score_function(self, states, actions):
        n = len(states)
        scores = np.zeros((n, *self.logits.shape))
        scores[np.arange(n), states] = -self.table[states]
        scores[np.arange(n), states, actions] += 1.0
        return scores.reshape(n, -1)

    def kl_divergence(self, other, states):
        return rel_entr(self.table[states], other.table[states]).sum(axis=1)


class LinearGaussian:
    """a ~ N(K s, exp(2 l)), one action; parameters (K, l)."""

    def __init__(self, gains, log_std):
        self.gains, self.log_std = np.array(gains, dtype=float), float(log_std)

    @property
    def params(self):
        return np.append(self.gains, self.log_std)

    def with_params(self, params):
        return LinearGaussian(params[:-1], params[-1])

    def sample(self, states, rng):
        return states @ self.gains + np.exp(self.log_std) * rng.standard_normal(len(states))

    def log_prob(self, states, actions):
        z = (actions - states @ self.gains) / np.exp(self.log_std)
        return -0.5 * z**2 - self.log_std - 0.5 * np.log(2 * np.pi)

    def score_function(self, states, actions):
        z = (actions - states @ self.gains) / np.exp(self.log_std)
        return np.column_stack([states * (z / np.exp(self.log_std))[:, None], z**2 - 1])

    def kl_divergence(self, other, states):
        moved = (states @ (self.gains - other.gains)) ** 2
        return 0.5 * (np.exp(2 * self.log_std) + moved) / np.exp(2 * other.log_std) - 0.5 + other.log_std - self.log_std

    def fisher_factor(self, states):
        n = len(states)
        J = np.zeros((n + 1, states.shape[1] + 1))
        J[:n, :-1] = states / np.exp(self.log_std)
        J[n, -1] = np.sqrt(2 * n)
        return np.sqrt((n + 1) / n) * J


def coin_mdp(gamma=0.8, seed=1):
    """Three states, two actions; each pair leads to one of two states with probability one half."""
    rng = np.random.default_rng(seed)
    P = np.zeros((3, 2, 3))
    for s, a in itertools.product(range(3), range(2)):
        P[s, a, rng.permutation(3)[:2]] = 0.5
    return MDP(P, rng.normal(size=(3, 2)), gamma=gamma, mu0=[1.0, 0.0, 0.0])


def every_trajectory(mdp, horizon):
    """All trajectories of the coin MDP under the uniform policy: equally likely, so that means over them are exact."""
    rows = []
    for choices in itertools.product(range(2), repeat=2 * horizon):
        s = 0
        for t in range(horizon):
            a, coin = choices[2 * t], choices[2 * t + 1]
            following = mdp.transitions[[2 * s + a]].indices[coin]
            rows.append((s, a, mdp.rewards[s, a], following, t == horizon - 1))
            s = following
    states, actions, rewards, next_states, cut = (np.array(column) for column in zip(*rows, strict=True))
    return SimpleNamespace(
        states=states,
        actions=actions,
        rewards=rewards,
        next_states=next_states,
        terminated=np.zeros(len(rows), dtype=bool),
        truncated=cut,
    )


def sample_episodes(mdp, policy, n_episodes, horizon, rng, costs=None):
    """Roll a softmax table out in an MDP; every episode is cut at the horizon."""
    s = rng.choice(mdp.n_states, size=n_episodes, p=mdp.mu0)
    dense = mdp.transitions.toarray().reshape(mdp.n_states, mdp.n_actions, -1).cumsum(axis=2)
    columns = {name: [] for name in ("states", "actions", "rewards", "next_states", "costs")}
    for _ in range(horizon):
        a = policy.sample(s, rng)
        following = np.minimum((rng.random(n_episodes)[:, None] > dense[s, a]).sum(axis=1), mdp.n_states - 1)
        paid = np.zeros(n_episodes) if costs is None else costs[s, a]
        for name, value in zip(columns, (s, a, mdp.rewards[s, a], following, paid), strict=True):
            columns[name].append(value)
        s = following
    batch = {name: np.stack(values, axis=1).ravel() for name, values in columns.items()}
    cut = np.zeros((n_episodes, horizon), dtype=bool)
    cut[:, -1] = True
    return SimpleNamespace(**batch, terminated=np.zeros(cut.size, dtype=bool), truncated=cut.ravel())


def mean_kl(first, second, states):
    """Mean over states of KL(first || second), in nats."""
    return float(np.mean(first.kl_divergence(second, states)))
