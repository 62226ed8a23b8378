"""Finite horizons: occupancies indexed by time, the flow between them, and dynamic programming backwards.

Time makes every MDP loop-free: step t is a layer, and transitions lead from layer t to t+1, and out after the last.

Shapes: T steps, S states, A actions; policies, rewards and occupancies are (T, S, A), values (T, S); n pairs (t, s, a)
and m nodes (t, s) that can carry mass, both in order of time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from reps_opt.processes.construction import normalised_rows, within_allowed
from reps_opt.processes.graph import BoolArray, IntArray
from reps_opt.processes.mdp import MDP
from reps_opt.validation import FloatArray, as_float_array


def as_time_indexed_policy(mdp: MDP, policy: ArrayLike, horizon: int, name: str = "policy") -> FloatArray:
    """Validate a policy, one for all steps ((S, A), or (S,) integers) or one a step (T, S, A); return (T, S, A)."""
    shape = mdp.rewards.shape
    if np.ndim(policy) == 1:
        return np.broadcast_to(mdp.as_policy(policy), (horizon, *shape))
    wanted = shape if np.ndim(policy) == 2 else (horizon, *shape)
    table = normalised_rows(as_float_array(policy, name, wanted), name)
    return np.broadcast_to(within_allowed(table, mdp.allowed, name), (horizon, *shape))


def occupancy_of(mdp: MDP, policy: FloatArray) -> FloatArray:
    """Occupancy (T, S, A) of a time-indexed policy: ``p_t(s, a)`` is the probability of (s, a) at step t."""
    backward = mdp.transitions.T.tocsr()
    occupancy = np.empty_like(policy)
    mu = mdp.mu0
    for t, table in enumerate(policy):
        occupancy[t] = mu[:, None] * table
        mu = backward @ occupancy[t].ravel()
    return occupancy


def flow_residual(mdp: MDP, occupancy: FloatArray) -> FloatArray:
    """Residual (T, S) of the flow: ``sum_a p_t - sum p_{t-1} P``, and ``sum_a p_0 - mu0``."""
    inflow = np.empty(occupancy.shape[:2])
    inflow[0] = mdp.mu0
    for t in range(1, occupancy.shape[0]):
        inflow[t] = mdp.transitions.T @ occupancy[t - 1].ravel()
    return occupancy.sum(axis=2) - inflow


def backward_induction(mdp: MDP, rewards: FloatArray, best: Callable[[int, FloatArray], FloatArray]) -> FloatArray:
    """Values (T, S) with ``V_t = best(t, r_t + P V_{t+1})`` and nothing after the last step.

    Parameters
    ----------
    mdp
        Its transitions are used, not its rewards.
    rewards
        (T, S, A).
    best
        From a step t and action values (S, A) to values (S,): a maximum, an expectation, a log-sum-exp.
    """
    values = np.empty(rewards.shape[:2])
    ahead = np.zeros(rewards.shape[1])
    for t in reversed(range(rewards.shape[0])):
        ahead = values[t] = best(t, rewards[t] + (mdp.transitions @ ahead).reshape(rewards.shape[1:]))
    return values


def bellman_error(mdp: MDP, rewards: FloatArray, values: FloatArray) -> FloatArray:
    """Bellman error (T, S, A) of any values (T, S): ``r_t + P V_{t+1} - V_t``, with ``V_T = 0``."""
    ahead = np.vstack([values[1:], np.zeros(values.shape[1])])
    return rewards + (mdp.transitions @ ahead.T).T.reshape(rewards.shape) - values[:, :, None]


def evaluate(mdp: MDP, rewards: FloatArray, policy: FloatArray) -> FloatArray:
    """Exact values (T, S) of a policy (T, S, A): the expected sum of what is still to come."""
    return backward_induction(mdp, rewards, lambda t, action_values: (policy[t] * action_values).sum(axis=1))


def optimal_values(mdp: MDP, rewards: FloatArray, allowed: BoolArray) -> FloatArray:
    """Best values (T, S) among policies on the allowed pairs (T, S, A); zero in nodes that have none."""

    def best(t: int, action_values: FloatArray) -> FloatArray:
        top = np.where(allowed[t], action_values, -np.inf).max(axis=1)
        return np.where(allowed[t].any(axis=1), top, 0.0)

    return backward_induction(mdp, rewards, best)


def soft_values(mdp: MDP, rewards: FloatArray, policy: FloatArray, eta: float) -> FloatArray:
    """Soft values (T, S): ``V_t = eta log sum_a pi exp((r_t + P V_{t+1}) / eta)``."""
    with np.errstate(divide="ignore"):
        log_policy = np.log(policy)

    def soft(t: int, action_values: FloatArray) -> FloatArray:
        exponent = log_policy[t] + action_values / eta
        top = exponent.max(axis=1)
        return eta * (top + np.log(np.exp(exponent - top[:, None]).sum(axis=1)))

    return backward_induction(mdp, rewards, soft)


def nearest_policy(mdp: MDP, policy: FloatArray, allowed: BoolArray) -> FloatArray:
    """The policy (T, S, A) on the allowed pairs whose trajectories are closest to another's, in relative entropy.

    A soft backup without rewards: ``V_t = log sum_allowed pi exp(P V_{t+1})``. The other policy where none is allowed.
    """
    nearest = np.array(policy)
    with np.errstate(divide="ignore"):
        log_policy = np.where(allowed, np.log(policy), -np.inf)

    def soft(t: int, ahead: FloatArray) -> FloatArray:
        exponent = log_policy[t] + ahead
        some = np.isfinite(exponent).any(axis=1)
        top = np.where(some, exponent.max(axis=1, initial=-np.inf), 0.0)
        weight = np.exp(exponent - top[:, None])
        total = weight.sum(axis=1)
        nearest[t, some] = weight[some] / total[some, None]
        return np.where(some, top + np.log(np.where(some, total, 1.0)), 0.0)

    backward_induction(mdp, np.zeros(policy.shape), soft)
    return nearest


@dataclass(frozen=True)
class TimeIndexedFlow:
    """The pairs (t, s, a) that can carry mass, and the flow rows over them.

    Parameters
    ----------
    mdp
        Its transitions and start distribution.
    kept
        Mask (T, S, A), closed under the transitions: whatever a kept pair leads to has a kept pair itself.
    """

    mdp: MDP
    kept: BoolArray

    @property
    def horizon(self) -> int:
        """Number of steps T."""
        return self.kept.shape[0]

    @cached_property
    def pairs(self) -> IntArray:
        """Flat indices (n,) of the kept pairs in (T, S, A)."""
        return np.flatnonzero(self.kept)

    @cached_property
    def nodes(self) -> IntArray:
        """Flat indices (m,) of the kept nodes in (T, S)."""
        return np.flatnonzero(self.kept.any(axis=2))

    @cached_property
    def pair_node(self) -> IntArray:
        """Position in ``nodes`` of the node of each pair (n,)."""
        return np.searchsorted(self.nodes, self.pairs // self.mdp.n_actions)

    @cached_property
    def layer(self) -> IntArray:
        """Step t of each pair (n,)."""
        return self.pairs // (self.mdp.n_states * self.mdp.n_actions)

    @cached_property
    def layer_starts(self) -> IntArray:
        """First pair (T,) of each step."""
        return np.searchsorted(self.layer, np.arange(self.horizon))

    @cached_property
    def leaving(self) -> sp.csr_array:
        """Indicator (n, m) of the node that a pair belongs to."""
        n = self.pairs.size
        return sp.csr_array((np.ones(n), (np.arange(n), self.pair_node)), shape=(n, self.nodes.size))

    @cached_property
    def arriving(self) -> sp.csr_array:
        """Transition probabilities (n, m) from pairs to nodes of the next step; zero rows in the last."""
        n_states = self.mdp.n_states
        position = np.full((self.horizon + 1) * n_states, -1)
        position[self.nodes] = np.arange(self.nodes.size)
        ahead = self.mdp.transitions[self.pairs % self.mdp.rewards.size].tocoo()
        column = position[(self.layer[ahead.row] + 1) * n_states + ahead.col]
        inside = column >= 0
        shape = (self.pairs.size, self.nodes.size)
        return sp.csr_array((ahead.data[inside], (ahead.row[inside], column[inside])), shape=shape)

    @cached_property
    def matrix(self) -> sp.csr_array:
        """Rows (m, n) ``sum_a p_t(s, a) - sum p_{t-1} P``: what leaves a node less what arrives there."""
        return (self.leaving - self.arriving).T.tocsr()

    @cached_property
    def rhs(self) -> FloatArray:
        """Their right-hand side (m,): mu0 at t = 0, else zero. The mass of every step is one by the rows."""
        rhs = np.zeros(self.nodes.size)
        first = self.nodes < self.mdp.n_states
        rhs[first] = self.mdp.mu0[self.nodes[first]]
        return rhs

    def pick(self, table: FloatArray) -> FloatArray:
        """Values (n,) of the kept pairs of a table (T, S, A)."""
        return table.ravel()[self.pairs]

    def pick_nodes(self, table: FloatArray) -> FloatArray:
        """Values (m,) of the kept nodes of a table (T, S)."""
        return table.ravel()[self.nodes]

    def spread(self, values: FloatArray) -> FloatArray:
        """Values (n,) of the kept pairs as a table (T, S, A), zero elsewhere."""
        full = np.zeros(self.kept.size)
        full[self.pairs] = values
        return full.reshape(self.kept.shape)

    def spread_nodes(self, values: FloatArray, fill: float = np.nan) -> FloatArray:
        """Values (m,) of the kept nodes as a table (T, S), ``fill`` elsewhere."""
        full = np.full(self.kept.shape[:2], fill)
        full.ravel()[self.nodes] = values
        return full

    def conditional(self, weights: FloatArray, otherwise: FloatArray) -> FloatArray:
        """Policy (T, S, A) proportional to weights (n,) in each node; the other policy (T, S, A) where they vanish."""
        table = self.spread(np.maximum(weights, 0.0))
        mass = table.sum(axis=2, keepdims=True)
        return np.where(mass > 0, table / np.where(mass > 0, mass, 1.0), otherwise)

    def reached(self, allowed: BoolArray) -> TimeIndexedFlow:
        """The part of the flow that allowed pairs (T, S, A), closed under the transitions, reach from ``mu0``."""
        allowed = allowed & self.mdp.allowed
        kept = np.zeros_like(self.kept)
        here = self.mdp.mu0 > 0
        for t in range(self.horizon):
            kept[t] = allowed[t] & here[:, None]
            here = (self.mdp.transitions.T @ kept[t].ravel().astype(float)) > 0
        return TimeIndexedFlow(self.mdp, kept)
