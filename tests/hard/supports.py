"""Which pairs of a reference's support can carry mass, by graphs alone, and how far from it every occupancy is.

Shapes: S states, A actions, n = S A pairs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.sparse.csgraph import connected_components

from tests.hard.cones import Pairs, pairs, power_of


def alive(problem: Any, data: Pairs) -> np.ndarray:
    """Mask (n,) of the pairs that some occupancy on the reference's support has mass on."""
    mdp = problem.mdp
    S, A = mdp.rewards.shape
    leads = mdp.transitions.toarray() > 0
    state = np.arange(S * A) // A
    kept = data.q > 0
    for _ in range(S * A + 1):
        inside = np.zeros(S, dtype=bool)
        inside[state[kept]] = True
        kept &= ~(leads & ~inside).any(axis=1)
        if mdp.gamma == 1:  # and back again: what is left of a strongly connected part
            edges = np.zeros((S, S), dtype=bool)
            np.logical_or.at(edges, state[kept], leads[kept])
            part = connected_components(edges, directed=True, connection="strong")[1]
            kept &= ~(leads & (part != part[state][:, None])).any(axis=1)
    if mdp.gamma == 1:
        return kept
    inside = np.zeros(S, dtype=bool)
    inside[state[kept]] = True
    if (~inside & (mdp.mu0 > 0)).any():
        return np.zeros(S * A, dtype=bool)
    reached = mdp.mu0 > 0
    for _ in range(S):
        reached = reached | leads[kept & reached[state]].any(axis=0)
    return kept & reached[state]


def carries_none(problem: Any) -> bool:
    """Whether the support has no occupancy, or leaves a part of the reference out at an infinite divergence."""
    data = pairs(problem)
    can = alive(problem, data)
    alpha = power_of(problem) if hasattr(problem, "divergence") else None
    return not can.any() or (alpha is not None and alpha <= 0 and bool((~can & (data.q > 0)).any()))


def least_divergence(problem: Any) -> float:
    """A lower bound on an alpha divergence, alpha < 1, of every occupancy.

    The multipliers of the problem's own projection are a guess: by weak duality, whatever they are, it is
    ``-b'v - lambda - sum q f*(-A'v - lambda)``.
    """
    data, alpha = pairs(problem), power_of(problem)
    if alpha is None or alpha >= 1 or data.limits.size or problem.flow is None:
        return 0.0
    can = alive(problem, data)
    q = data.q / data.q.sum()
    v = np.zeros(problem.mdp.n_states)
    v[problem.flow.nodes] = problem.centre.multipliers
    y, w, power = -(data.flow.T @ v)[can], q[can], 1 / (alpha - 1)
    pole = float(y.max()) + power

    def xi(above: float) -> np.ndarray:
        return 1 + (alpha - 1) * (y - pole - above)

    def log_mass(log_above: float) -> float:
        with np.errstate(divide="ignore"):
            return min(float(np.log(w @ xi(math.exp(log_above)) ** power)), 1e3)

    above = math.exp(float(brentq(log_mass, -200.0, math.log(1e3 + 10 * float(np.ptp(y))))))
    inside = xi(above)  # what cannot carry mass costs q f(0) = q / alpha, where that is finite
    conjugate = -float(w @ np.log(inside)) if alpha == 0 else (float(w @ inside ** (alpha * power)) - 1) / alpha
    return -float(data.start @ v) - pole - above - conjugate
