"""Budgets on expected costs: rows ``<p, c_k> <= d_k`` of an occupancy problem, and whether they can be kept at all.

Shapes: K costs; S states, A actions; n pairs and m states that can carry mass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.optimize import linprog

from reps_opt.processes.flow import Flow
from reps_opt.processes.graph import IntArray
from reps_opt.program import AtMost
from reps_opt.validation import FloatArray, as_float_array, read_only


class Cheapest(NamedTuple):
    """The occupancy (n,) that keeps the budgets best, and a proven lower bound on the largest excess of any."""

    point: FloatArray
    excess: float


@dataclass(frozen=True)
class Budgets:
    """Expected costs and what they may come to.

    Attributes
    ----------
    costs : (K, S*A) array
    limits : (K,) array
        d, in the units of the costs.
    shift, span : (K,) arrays
        Rows are posed as ``<p, (c - shift)/span> <= (d - shift)/span``: the range of each cost is its unit, and the
        budget itself its origin (as far as it lies within the range), so that an active row has mean zero.
    """

    costs: FloatArray
    limits: FloatArray
    shift: FloatArray
    span: FloatArray

    def table(self, shape: tuple[int, int]) -> FloatArray:
        """The costs (K, S, A)."""
        return self.costs.reshape(-1, *shape)

    def block(self, pairs: IntArray) -> AtMost:
        """The rows over the pairs kept, each cost in units of its range."""
        rows = (self.costs[:, pairs] - self.shift[:, None]) / self.span[:, None]
        return AtMost(sp.csr_array(rows), (self.limits - self.shift) / self.span)

    def original(self, pairs: IntArray) -> AtMost:
        """The rows over the pairs kept, as they were given."""
        return AtMost(sp.csr_array(self.costs[:, pairs]), self.limits.copy())

    def excess(self, occupancy: FloatArray) -> FloatArray:
        """``<p, c_k> - d_k`` (K,) of an occupancy (S, A) in units of each cost's range."""
        return (self.costs @ occupancy.ravel() - self.limits) / self.span

    def cheapest(self, flow: Flow) -> Cheapest:
        """Minimise the largest ``<p, c_k> - d_k``: policy iteration for one cost, a linear program for several.

        The bound is that of the costs mixed by the multipliers: no policy has a smaller mixed cost than the optimal
        one, and no maximum is smaller than a mean.
        """
        prices, policy = np.ones(1), None
        if self.limits.size > 1:
            prices, policy = self._phase_one(flow)
        optimum = flow.optimum(-(prices @ self.costs[:, flow.pairs]))
        near = None
        if not flow.averages:
            least = -float(flow.mdp.mu0[flow.nodes] @ optimum.gain)
        else:
            least = -float(optimum.gain.max())
            near = (optimum.gain >= optimum.gain.max() - 1e-9 * self.span.max()).astype(float)
        point = flow.occupancy(optimum.greedy, near) if policy is None else policy
        return Cheapest(point, least - float(prices @ self.limits))

    def _phase_one(self, flow: Flow) -> tuple[FloatArray, FloatArray]:
        """Prices (K,), summing to one, and point (n,) of ``min t : <p, c_k> - t <= d_k`` over the occupancies."""
        unit = float(self.span.max())
        rows, n = self.original(flow.pairs), flow.pairs.size
        upper = sp.hstack([rows.matrix / unit, np.full((self.limits.size, 1), -1.0)], format="csr")
        equal = sp.vstack([sp.hstack([flow.matrix, sp.csr_array((flow.rhs.size, 1))]), np.ones((1, n + 1))]).tolil()
        equal[-1, n] = 0.0
        result = linprog(
            np.append(np.zeros(n), 1.0),
            A_ub=upper,
            b_ub=rows.rhs / unit,
            A_eq=equal.tocsr(),
            b_eq=np.append(flow.rhs, 1.0),
            bounds=[(0, None)] * n + [(None, None)],
            method="highs",
        )
        if result.x is None or result.ineqlin.marginals is None:
            raise RuntimeError(f"HiGHS: {result.message}")
        prices = np.maximum(-result.ineqlin.marginals, 0.0)
        prices = prices if prices.sum() > 0 else np.ones_like(prices)
        point = np.maximum(result.x[:n], 0.0)
        return prices / prices.sum(), flow.occupancy(flow.conditional(point), flow.node_sums(point))


def as_budgets(costs: ArrayLike | None, budgets: ArrayLike | None, shape: tuple[int, int]) -> Budgets | None:
    """Validate costs (K, S, A), or a list of K arrays (S, A), and budgets (K,); None when neither is given."""
    if costs is None and budgets is None:
        return None
    if costs is None or budgets is None:
        raise ValueError("costs and budgets go together: one budget for each cost")
    limits = as_float_array(np.atleast_1d(np.asarray(budgets)), "budgets", ("K",)).copy()
    table = as_float_array(costs, "costs", ("K", *shape))
    if table.shape[0] != limits.size or limits.size == 0:
        raise ValueError(f"costs and budgets must be as many and at least one, got {table.shape[0]} and {limits.size}")
    flat = table.reshape(limits.size, -1).copy()
    span = np.ptp(flat, axis=1)
    shift = np.clip(limits, flat.min(axis=1), flat.max(axis=1))
    return Budgets(read_only(flat), read_only(limits), shift, np.where(span > 0, span, 1.0))
