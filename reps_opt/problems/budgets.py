"""Budgets on expected costs: rows ``<p, c_k> <= d_k`` of an occupancy problem, and whether they can be kept at all.

Shapes: K costs; S states, A actions; n pairs and m states that can carry mass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
import scipy.sparse as sp
from numpy.typing import ArrayLike

from reps_opt.constraints import AtMost
from reps_opt.processes.flow import Flow
from reps_opt.processes.flow_values import optimum
from reps_opt.processes.graph import IntArray
from reps_opt.scale import ordinary_scale
from reps_opt.tolerances import CLOSE, ROUNDING
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
        Rows are posed as ``<p, (c - shift)/span> <= (d - shift)/span``: the range of each cost is its unit, of one with
        outliers the spread of the others and their distance from the budget; and the budget itself its origin (as far
        as it lies within the range), so that an active row has mean zero.
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
        """Minimise the largest ``(<p, c_k> - d_k) / span_k``: policy iteration for one cost, a program for several.

        The excess is the least by which every budget would have to be raised, in the units of the costs, where not even
        a raise by rounding of each cost's range would do; zero otherwise.
        """
        if self.limits.size == 1:
            least, occupancy = self._least(flow, np.ones(1))
            return Cheapest(occupancy, least if least > ROUNDING * float(self.span[0]) else 0.0)
        prices, point = self._phase_one(flow, self.span)
        mixed = prices / self.span
        least = self._least(flow, mixed)[0]
        if least <= ROUNDING:
            return Cheapest(point, 0.0)
        alike, _ = self._phase_one(flow, np.full(self.limits.size, float(self.span.max())))
        return Cheapest(point, max(least / float(mixed.sum()), self._least(flow, alike)[0]))

    def _least(self, flow: Flow, prices: FloatArray) -> tuple[float, FloatArray]:
        """The least ``sum prices_k (<p, c_k> - d_k)`` of any occupancy p, and such a p (n,).

        For prices that sum to one no largest excess is smaller, since no maximum is smaller than a mean.
        """
        best_policy = optimum(flow, -(prices @ self.costs[:, flow.pairs]))
        due = float(prices @ self.limits)
        if not flow.averages:
            return -float(flow.mdp.mu0[flow.nodes] @ best_policy.gain) - due, flow.occupancy(best_policy.greedy)
        best = float(best_policy.gain.max())
        near = (best_policy.gain >= best - CLOSE * float(prices @ self.span)).astype(float)
        return -best - due, flow.occupancy(best_policy.greedy, near)

    def _phase_one(self, flow: Flow, unit: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Prices (K,), summing to one, and point (n,) of ``min t : <p, c_k> - unit_k t <= d_k`` over occupancies."""
        n = flow.pairs.size
        rows = (self.costs[:, flow.pairs] - self.shift[:, None]) / unit[:, None]
        size = np.maximum(np.abs(rows).max(axis=1), 1.0)  # of an outlier: HiGHS's tolerances are absolute
        upper = sp.hstack([sp.csr_array(rows / size[:, None]), -1 / size[:, None]], format="csr")
        # discounted, the mass follows from the flow, and as floats close to gamma = 1 contradicts it: one row too many
        matrix, rhs = (flow.matrix, flow.rhs) if flow.averages else (flow.matrix[1:], flow.rhs[1:])
        equal = sp.vstack([sp.hstack([matrix, sp.csr_array((rhs.size, 1))]), np.ones((1, n + 1))]).tolil()
        equal[-1, n] = 0.0
        result = scipy.optimize.linprog(
            np.append(np.zeros(n), 1.0),
            A_ub=upper,
            b_ub=(self.limits - self.shift) / unit / size,
            A_eq=equal.tocsr(),
            b_eq=np.append(rhs, 1.0),
            bounds=[(0, None)] * n + [(None, None)],
            method="highs",
        )
        if result.x is None or result.ineqlin.marginals is None:  # it gave up: even prices prove less, nothing wrong
            prices = np.full(self.limits.size, 1 / self.limits.size)
            return prices, self._least(flow, prices / unit)[1]
        prices = np.maximum(-result.ineqlin.marginals, 0.0) / size
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
    span = np.array([_unit(cost, limit) for cost, limit in zip(flat, limits, strict=True)])
    size = np.maximum(np.abs(flat).max(axis=1), np.abs(limits))  # of a cost that is the same everywhere
    shift = np.clip(limits, flat.min(axis=1), flat.max(axis=1))
    return Budgets(read_only(flat), read_only(limits), shift, np.where(span > 0, span, np.where(size > 0, size, 1.0)))


def _unit(cost: FloatArray, limit: float) -> float:
    """The range of a cost; where a few entries are out of all proportion, what the others are about."""
    span = float(np.ptp(cost))
    usual = ordinary_scale(cost, span)
    return span if usual is None else min(span, max(usual.factor, abs(limit - usual.shift)))
