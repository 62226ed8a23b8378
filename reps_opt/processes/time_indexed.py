"""Finite horizons: occupancies indexed by time, and dynamic programming backwards.

Shapes: T steps, S states, A actions; policies, rewards and occupancies are (T, S, A), values (T, S).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.processes.construction import normalised_rows, within_allowed
from reps_opt.processes.graph import BoolArray
from reps_opt.processes.mdp import MDP
from reps_opt.validation import FloatArray, as_float_array


def as_time_indexed_policy(mdp: MDP, policy: ArrayLike, horizon: int) -> FloatArray:
    """Validate a policy, one for all steps ((S, A), or (S,) integers) or one a step (T, S, A); return (T, S, A)."""
    shape = (horizon, *mdp.rewards.shape)
    if np.ndim(policy) < 3:
        return np.broadcast_to(mdp.as_policy(policy), shape)
    table = normalised_rows(as_float_array(policy, "policy", shape), "policy")
    return within_allowed(table, mdp.allowed, "policy")


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


def soft_values(mdp: MDP, rewards: FloatArray, log_policy: FloatArray, eta: float) -> FloatArray:
    """Soft values (T, S): ``V_t = eta log sum_a pi exp((r_t + P V_{t+1}) / eta)``; zero where pi takes no action."""
    return backward_induction(mdp, rewards, lambda t, ahead: eta * _softmax(log_policy[t] + ahead / eta)[1])


def nearest_policy(mdp: MDP, policy: FloatArray, allowed: BoolArray) -> FloatArray:
    """The policy (T, S, A) on the allowed pairs whose trajectories are closest to another's, in relative entropy.

    A soft backup without rewards: ``V_t = log sum_allowed pi exp(P V_{t+1})``. The other policy where none is allowed.
    """
    nearest = np.array(policy)
    with np.errstate(divide="ignore"):
        log_policy = np.where(allowed, np.log(policy), -np.inf)

    def soft(t: int, ahead: FloatArray) -> FloatArray:
        share, log_sum = _softmax(log_policy[t] + ahead)
        nearest[t] = np.where(share.any(axis=1, keepdims=True), share, policy[t])
        return log_sum

    backward_induction(mdp, np.zeros(policy.shape), soft)
    return nearest


def _softmax(exponent: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Softmax (S, A) of each row and its log-sum-exp (S,); zeros for both where no entry is finite."""
    top = exponent.max(axis=1)
    top = np.where(np.isfinite(top), top, 0.0)
    weight = np.exp(exponent - top[:, None])
    total = weight.sum(axis=1)
    total = np.where(total > 0, total, 1.0)
    return weight / total[:, None], top + np.log(total)
