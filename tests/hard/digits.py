"""A dual bound on an occupancy problem in numbers of sixty digits, from the policy reported and the problem's data.

Stationarity gives the multipliers of any point p: where p is optimal for eta, its Bellman error is ``eta f'(p / q)``
plus a constant, so that V is the value of the policy for the rewards ``r - <nu, c> - eta f'(p / q)``. By weak duality
whatever V comes out gives a bound. Probabilities and start are scaled to sum to one exactly, which floats close to
gamma = 1 do not.

Shapes: S states, A actions, n = S A pairs.
"""

from __future__ import annotations

import math
from typing import Any

import mpmath as mp
import numpy as np

from reps_opt import ConditionalREPS, LinearProgram
from tests.hard.cones import Pairs, pairs, power_of

DIGITS = 60
SMALLEST = 1e-290
"""Mass below which a float has lost digits, or all of them."""


def upper_bound(solution: Any) -> float:
    """The bound, infinite where none is found: with average reward, without an eta, or where masses underflowed."""
    problem, data = solution.problem, pairs(solution.problem)
    eta = float(solution.eta if problem.temperature is None else problem.temperature)
    if problem.mdp.gamma == 1 or not 0 <= eta < math.inf or (data.q == 0).any():
        return math.inf
    with mp.workdps(DIGITS):
        try:
            return float(_bound(solution, problem, data, mp.mpf(eta)))
        except (ZeroDivisionError, ValueError):
            return math.inf


def _bound(solution: Any, problem: Any, data: Pairs, eta: Any) -> Any:
    S, A = problem.mdp.rewards.shape
    gamma = mp.mpf(problem.mdp.gamma)
    P = [[mp.mpf(x) for x in row] for row in problem.mdp.transitions.toarray().tolist()]
    P = [[x / mp.fsum(row) for x in row] for row in P]
    start = [mp.mpf(x) for x in problem.mdp.mu0.tolist()]
    begins = [(1 - gamma) * x / mp.fsum(start) for x in start]
    nu = np.asarray(solution.duals.get("budgets", np.zeros(0)))
    if (nu < 0).any():
        return mp.inf
    reward = [mp.mpf(r) - mp.fsum(mp.mpf(a) * mp.mpf(b) for a, b in zip(nu, c, strict=True)) for r, c in _rows(data)]
    policy = [[mp.mpf(x) for x in row] for row in solution.policy.tolist()]
    policy = [[x / mp.fsum(row) for x in row] for row in policy]
    chain = mp.matrix(S, S)
    for s in range(S):
        for t in range(S):
            chain[s, t] = (s == t) - gamma * mp.fsum(policy[s][a] * P[s * A + a][t] for a in range(A))
    mu = mp.lu_solve(chain.T, mp.matrix(begins))
    total = mp.fsum(mp.mpf(x) for x in data.q)
    conditional = isinstance(problem, ConditionalREPS)
    q = [mp.mpf(x) if conditional else mp.mpf(x) / total for x in data.q]
    p = [mu[i // A] * policy[i // A][i % A] for i in range(S * A)]
    alpha = None if conditional or isinstance(problem, LinearProgram) else power_of(problem)
    price = [
        _price(policy[i // A][i % A] if conditional else p[i], q[i], alpha) if eta else mp.mpf(0) for i in range(S * A)
    ]
    worth = [mp.fsum(policy[s][a] * (reward[s * A + a] - eta * price[s * A + a]) for a in range(A)) for s in range(S)]
    V = mp.lu_solve(chain, mp.matrix(worth))
    error = [reward[i] + gamma * mp.fsum(P[i][t] * V[t] for t in range(S)) - V[i // A] for i in range(S * A)]
    bound = mp.fsum(b * v for b, v in zip(begins, V, strict=True))
    bound += mp.fsum(mp.mpf(a) * mp.mpf(b) for a, b in zip(nu, data.limits, strict=True))
    if problem.temperature is None and math.isfinite(problem.epsilon if problem.epsilon is not None else math.inf):
        bound += eta * mp.mpf(problem.epsilon)
    if eta == 0:
        return bound + max(error)
    if conditional:
        return bound + max(_soft(error[s * A : s * A + A], q[s * A : s * A + A], eta) for s in range(S))
    if alpha is None:
        return bound + _soft(error, q, eta)
    scaled = [e / eta for e in error]
    return bound + eta * mp.fsum(w * _conjugate(t, alpha) for w, t in zip(q, scaled, strict=True))


def _rows(data: Pairs) -> list[tuple[float, list[float]]]:
    return list(zip(data.r.tolist(), data.costs.T.tolist() if data.limits.size else [[]] * data.r.size, strict=True))


def _soft(error: list[Any], q: list[Any], eta: Any) -> Any:
    top = max(error)
    return top + eta * mp.log(mp.fsum(w * mp.exp((e - top) / eta) for w, e in zip(q, error, strict=True)))


def _price(p: Any, q: Any, alpha: float | None) -> Any:
    """``f'(p / q)``; where p has underflowed that is lost, and so is the bound."""
    if p < SMALLEST:
        raise ValueError("the mass is no number")
    return mp.log(p / q) if alpha is None else ((p / q) ** (mp.mpf(alpha) - 1) - 1) / (mp.mpf(alpha) - 1)


def _conjugate(t: Any, alpha: float) -> Any:
    """``f*(t)``, infinite beyond the pole that alpha < 1 has."""
    a = mp.mpf(alpha)
    xi = 1 + (a - 1) * t
    if alpha == 0:
        return -mp.log(xi) if xi > 0 else mp.inf
    if xi <= 0:
        return mp.inf if alpha < 1 else -1 / a
    return (xi ** (a / (a - 1)) - 1) / a
