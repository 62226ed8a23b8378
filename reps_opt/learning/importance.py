"""Importance weights: samples of several policies, made to stand for one of them.

Shapes: N transitions in all, N_k of policy k.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from reps_opt.batch import Batch
from reps_opt.validation import FloatArray


def importance_weights(policy: Any, pool: Iterable[tuple[Any, Batch]]) -> FloatArray:
    r"""Base weights (N,) that make samples of several policies stand for one of them, with mean one.

    .. math:: b_i \propto \frac{\pi(a_i|s_i)}{\sum_k \frac{N_k}{N}\, \pi_k(a_i|s_i)}

    The denominator is the mixture of all that made the data, so that no weight exceeds the share of the policy's own
    samples (the balance heuristic). The shift of the states between the policies is left uncorrected. An action that
    none of the policies can have drawn, the policy itself included, weighs nothing.

    Parameters
    ----------
    policy
        The policy to stand for, with ``log_prob``.
    pool
        Pairs of the policy that acted, and its batch of N_k transitions.

    Raises
    ------
    TypeError
        For a policy without ``log_prob``.
    ValueError
        Where the policy can draw none of the actions; for one that it can draw and those who acted cannot, by its row.

    References
    ----------
    Veach and Guibas (1995), *Optimally combining sampling techniques for Monte Carlo rendering*, equation 7.

    Examples
    --------
    >>> from policies import LinearGaussianPolicy
    >>> acting = LinearGaussianPolicy().fit([[0.0], [1.0], [2.0]], [0.0, 1.5, 2.0])
    >>> batch = Batch([[0.0], [1.0]], [0.1, 0.9], [0.0, 0.0], [[1.0], [2.0]])
    >>> importance_weights(acting, [(acting, batch), (acting, batch)])
    array([1., 1., 1., 1.])
    """
    pairs = list(pool)
    for acting in (policy, *(acting for acting, _ in pairs)):
        if not hasattr(acting, "log_prob"):
            raise TypeError(f"reuse='importance' needs policies with log_prob, got {type(acting).__name__}")
    batch = Batch.concatenate(part for _, part in pairs)
    log_shares = np.log([len(part) / len(batch) for _, part in pairs])
    with np.errstate(divide="ignore"):
        each = np.array([acting.log_prob(batch.states, batch.actions) for acting, _ in pairs]) + log_shares[:, None]
        wanted = np.asarray(policy.log_prob(batch.states, batch.actions))
    mixture = np.logaddexp.reduce(each, axis=0)
    possible = wanted > -np.inf
    if not possible.any():
        raise ValueError("pool: the policy can draw none of its actions: they say nothing about it")
    foreign = np.flatnonzero(possible & (mixture == -np.inf))
    if foreign.size:
        raise ValueError(f"pool: the action of transition {foreign[0]} has probability zero under all that acted")
    ratio = np.full(len(batch), -np.inf)
    ratio[possible] = wanted[possible] - mixture[possible]
    weights = np.exp(ratio - ratio.max())
    return np.asarray(weights / weights.mean())
