"""What rewards are worth along a flow: the best policy, a rough value to start from, and what a preference attains.

Shapes: n pairs and m nodes of the flow; rewards, weights and preferences are (n,), values (m,).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reps_opt.processes import markov, time_indexed
from reps_opt.processes.flow import Flow
from reps_opt.processes.mdp import MDP
from reps_opt.tolerances import NEARLY_UNDISCOUNTED, ROUGH_RTOL
from reps_opt.validation import FloatArray


class Optimum(NamedTuple):
    """The best policy of a flow.

    Attributes
    ----------
    value : (m,) array
        Its multipliers: the value of each node, or the bias.
    gain : (m,) array
        Mean reward from each node, ``(1 - gamma) value`` where that is discounted; over a horizon the value itself.
    greedy : (n,) array
        The policy, deterministic, as conditionals.
    """

    value: FloatArray
    gain: FloatArray
    greedy: FloatArray


def optimum(flow: Flow, rewards: FloatArray) -> Optimum:
    """The best policy of a flow for rewards (n,), remembered until it is asked for with others."""
    find = _stationary if flow.horizon is None else _over_time
    best: Optimum = flow.remembered("optimum", lambda new: find(flow, new), rewards)
    return best


def _over_time(flow: Flow, rewards: FloatArray) -> Optimum:
    values = time_indexed.optimal_values(flow.mdp, flow.spread(rewards), flow.kept)
    error = time_indexed.bellman_error(flow.mdp, flow.spread(rewards, -np.inf), values)
    best = flow.pick_nodes(values)
    return Optimum(best, best, flow.pick(np.eye(flow.shape[-1])[error.argmax(axis=-1)]))


def _stationary(flow: Flow, rewards: FloatArray) -> Optimum:
    n_actions = flow.mdp.n_actions
    pair = np.repeat(flow.first_pairs, n_actions).reshape(-1, n_actions)  # an action not kept repeats one that is
    pair[flow.pair_node, flow.pairs % n_actions] = np.arange(flow.pairs.size)
    transitions = flow.mdp.transitions[flow.pairs[pair.ravel()]][:, flow.nodes]
    start = flow.mdp.mu0[flow.nodes] if flow.gamma < 1 else None
    mdp = MDP(transitions, rewards[pair], flow.gamma, start)
    found = mdp.solve_optimal()
    value = found.value
    if 0 < 1 - flow.gamma < NEARLY_UNDISCOUNTED:  # what states have in common costs their differences digits
        common = (1 - flow.gamma) * (float(value.max()) + float(value.min())) / 2
        value = mdp.replace(rewards=rewards[pair] - common).value(found.policy)
    greedy = np.zeros(flow.pairs.size)
    greedy[pair[np.arange(flow.nodes.size), found.policy.argmax(axis=1)]] = 1.0
    return Optimum(value, found.gain, greedy)


def rough_value(flow: Flow, weights: FloatArray, rewards: FloatArray) -> FloatArray:
    """Discounted value (m,), for rewards (n,), of the policy in proportion to the weights (n,), of mean zero.

    It is where solvers start, and no more accurate than that needs. The shift is free: a constant added to the value
    changes nothing in the dual.
    """

    def evaluated(given: FloatArray, rewards: FloatArray) -> FloatArray:
        policy = given / flow.node_sums(given)[flow.pair_node]
        value = _roughly(flow, flow.chain(policy), flow.node_sums(policy * (rewards - rewards.min())))
        return value - value.mean()

    value: FloatArray = flow.remembered("rough value", evaluated, weights, rewards)
    return value


def attained(flow: Flow, rewards: FloatArray, preferences: FloatArray) -> float:
    """Lower bound on the mean of rewards (n,) under the policy that takes what is preferred (n,) in each node.

    Discounted. An approximate value V of that policy is enough: its mean reward is ``(1 - gamma) mu0 V`` and the mean
    of what V misses of the Bellman equation, which is no less than the least of it.
    """
    top = np.maximum.reduceat(preferences, flow.first_pairs)[flow.pair_node]
    policy = flow.conditional((preferences >= top).astype(np.float64))
    chain, reward = flow.chain(policy), flow.node_sums(policy * rewards)
    value = _roughly(flow, chain, reward)
    missed = reward + flow.gamma * (chain @ value) - value
    return float(flow.rhs @ value + missed.min())


def _roughly(flow: Flow, chain: markov.Chain, reward: FloatArray) -> FloatArray:
    return markov.discounted_solve(chain, flow.gamma, reward, rtol=ROUGH_RTOL)
