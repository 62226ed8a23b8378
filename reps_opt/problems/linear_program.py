"""The linear program of a finite MDP: the best occupancy, with no ball around any data.

Shapes: S states, A actions; n pairs that can carry mass (:mod:`reps_opt.processes.flow`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.divergences.base import Divergence, NoBall
from reps_opt.problems.budgets import as_budgets
from reps_opt.problems.occupancy import OccupancyProblem
from reps_opt.processes.flow import Flow
from reps_opt.processes.mdp import MDP
from reps_opt.validation import FloatArray
from reps_opt.values import value


@value
class LinearProgram(OccupancyProblem):
    r"""The linear program of an MDP: the best occupancy, with no ball around any data.

    .. math:: \max_p\; \langle p, r\rangle \quad\text{s.t.}\quad \text{flow}\;[V],
              \quad \textstyle\sum p = 1\;[\lambda],\quad p \ge 0

    Its multiplier V is the optimal value function in every state that matters, and eta is zero. Actions that are
    equally good are taken with equal probability.

    Parameters
    ----------
    mdp
        The :class:`~reps_opt.MDP`. With ``gamma == 1`` the stationary distribution may choose its end component.
    costs, budgets
        Rows ``<p, c_k> <= d_k`` [nu_k >= 0], as in :class:`REPS`. A policy that keeps them may have to randomise, in
        at most as many states as there are budgets; HiGHS finds it.

    References
    ----------
    Puterman (1994), *Markov decision processes*, sections 6.9 and 8.8.

    Examples
    --------
    >>> from reps_opt import MDP, LinearProgram, solve
    >>> mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=0.99)
    >>> solution = solve(LinearProgram(mdp))
    >>> bool(abs(solution.value - mdp.solve_optimal().value).max() < 1e-9)
    True
    """

    mdp: MDP
    costs: FloatArray | None
    budgets: FloatArray | None

    reference = None
    epsilon = math.inf
    temperature = None

    def __init__(self, mdp: MDP, costs: ArrayLike | None = None, budgets: ArrayLike | None = None) -> None:
        rows = as_budgets(costs, budgets, mdp.rewards.shape)
        table, limits = (None, None) if rows is None else (rows.table(mdp.rewards.shape), rows.limits)
        self._assign(mdp=mdp, costs=table, budgets=limits)

    def _allowed(self) -> np.ndarray:
        return np.ones(self.mdp.rewards.size, dtype=bool)

    def _divergence(self, flow: Flow) -> Divergence:
        return NoBall(flow.pairs.size)

    def _on_face(self, tight: np.ndarray) -> FloatArray:
        return tight / np.count_nonzero(tight)
