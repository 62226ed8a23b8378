"""Exact answers on tiny MDPs in rational numbers: every policy enumerated, every system solved without rounding.

Shapes: S states, A actions; ``P[s][a][t]`` and ``r[s][a]`` are fractions.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product

from reps_opt import MDP

Row = list[Fraction]


def tables(mdp: MDP) -> tuple[list[list[Row]], list[Row]]:
    """The numbers of an MDP as fractions, rows summing to one exactly."""
    shape = (mdp.n_states, mdp.n_actions, mdp.n_states)
    P = [[[Fraction(x) for x in row] for row in rows] for rows in mdp.transitions.toarray().reshape(shape).tolist()]
    P = [[[x / sum(row) for x in row] if any(row) else row for row in rows] for rows in P]
    return P, [[Fraction(x) for x in row] for row in mdp.rewards.tolist()]


def solve(matrix: list[Row], rhs: Row) -> Row:
    """Gauss-Jordan elimination."""
    rows = [[*row, b] for row, b in zip(matrix, rhs, strict=True)]
    for c in range(len(rows)):
        pivot = next(i for i in range(c, len(rows)) if rows[i][c])
        rows[c], rows[pivot] = rows[pivot], rows[c]
        rows[c] = [x / rows[c][c] for x in rows[c]]
        for i, row in enumerate(rows):
            if i != c and row[c]:
                rows[i] = [x - row[c] * y for x, y in zip(row, rows[c], strict=True)]
    return [row[-1] for row in rows]


def value(P: list[Row], r: Row, gamma: Fraction) -> Row:
    """Discounted value of a chain."""
    n = len(r)
    return solve([[int(i == j) - gamma * P[i][j] for j in range(n)] for i in range(n)], r)


def gain(P: list[Row], r: Row) -> Row:
    """Long-run average reward of a chain from each state."""
    n = len(r)
    leads = [{j for j in range(n) if P[i][j] or i == j} for i in range(n)]
    for _ in range(n):
        leads = [set().union(*(leads[j] for j in ahead)) for ahead in leads]
    recurrent = [i for i in range(n) if all(i in leads[j] for j in leads[i])]
    found: dict[int, Fraction] = {}
    for i in recurrent:
        members = sorted(leads[i])
        balance = [[P[k][m] - int(k == m) for k in members] for m in members]
        balance[0] = [Fraction(1)] * len(members)
        mu = solve(balance, [Fraction(int(k == 0)) for k in range(len(members))])
        found[i] = sum(weight * r[k] for weight, k in zip(mu, members, strict=True))
    outside = [i for i in range(n) if i not in found]
    if outside:
        system = [[int(i == j) - P[i][j] for j in outside] for i in outside]
        ahead = [sum((P[i][j] * found[j] for j in recurrent), Fraction(0)) for i in outside]
        found |= dict(zip(outside, solve(system, ahead), strict=True))
    return [found[i] for i in range(n)]


def policies(mdp: MDP) -> Iterator[tuple[int, ...]]:
    """Every deterministic policy."""
    return product(*([a for a in range(mdp.n_actions) if mdp.allowed[s, a]] for s in range(mdp.n_states)))


def optimum(mdp: MDP) -> Row:
    """Best value, or best gain with ``gamma=1``, of each state."""
    P, r = tables(mdp)
    best: Row | None = None
    for actions in policies(mdp):
        chain, reward = [P[s][a] for s, a in enumerate(actions)], [r[s][a] for s, a in enumerate(actions)]
        worth = gain(chain, reward) if mdp.gamma == 1 else value(chain, reward, Fraction(mdp.gamma))
        best = worth if best is None else [max(x, y) for x, y in zip(best, worth, strict=True)]
    assert best is not None
    return best
