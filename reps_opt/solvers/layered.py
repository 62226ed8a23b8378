r"""Projections onto a layered flow in relative entropy: Newton's method on dense arrays, for thousands of small steps.

.. math::
    \min_v\; g(v) = b'v + \sum_l \log Z_l(v), \qquad Z_l = \sum_{i \in l} e^{\log w_i + y_i - (A'v)_i}, \qquad
    \nabla g = b - A x, \qquad \nabla^2 g = A\,\mathrm{diag}(x)\,A' \text{ up to the gauge}

is the dual of ``max <x, y> - KL(x || w)`` over the flow ``A x = b``, where every layer has mass one.

Shapes: L layers, n pairs in order of layer, m nodes (rows of A).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reps_opt.processes.time_indexed import TimeIndexedFlow
from reps_opt.solvers.descent import LARGEST_TRAVEL, SHORTEST_STEP, SUFFICIENT_DECREASE
from reps_opt.validation import FloatArray

LARGEST_TILT = 5.0
"""Range of the tilt, in nats, up to which v = 0 is a good start."""

CONVERGED = 1e-26
"""Squared Newton decrement at the end; the gap that is left is half of it, or rounding."""

QUADRATIC = 1e-8
"""Squared decrement below which it falls at every step, or else is rounding."""


class Projected(NamedTuple):
    """The projection, feasible and certified.

    Attributes
    ----------
    log_occupancy : (n,) array
        Log of the exact occupancy of the projection's policy.
    value : (m,) array
        Multiplier v.
    gap : float
        Primal minus dual value in nats, at the occupancy reported.
    iterations : int
    """

    log_occupancy: FloatArray
    value: FloatArray
    gap: float
    iterations: int


class _Dual(NamedTuple):
    value: float
    exponent: FloatArray
    log_partition: FloatArray
    point: FloatArray


class LayeredProjection:
    """Projections onto one flow; keeps its arrays, and nothing between calls."""

    def __init__(self, flow: TimeIndexedFlow, max_iterations: int = 200) -> None:
        self.max_iterations = max_iterations
        self._rows = flow.matrix.toarray()
        self._columns = np.ascontiguousarray(self._rows.T)
        self._rhs = flow.rhs
        self._starts = flow.layer_starts
        self._layer = flow.layer
        self._node = flow.pair_node
        self._first = np.searchsorted(flow.pair_node, np.arange(flow.nodes.size))
        self._leaving = flow.leaving.toarray()
        self._arriving = flow.arriving.toarray()
        self._identity = np.eye(flow.nodes.size)

    def project(self, log_weights: FloatArray, tilt: FloatArray) -> Projected:
        """Maximise ``<x, tilt> - KL(x || weights)`` over the occupancies x; both arguments (n,), in nats."""
        base = log_weights + tilt
        v = np.zeros(self._rhs.size) if np.ptp(tilt) <= LARGEST_TILT else self._soft_values(log_weights, tilt)
        dual = self._dual(base, v)
        last = np.inf
        for iterations in range(self.max_iterations):
            residual = self._rhs - self._rows @ dual.point
            step = self._newton(dual.point, residual)
            decrement = -float(residual @ step)
            if decrement <= CONVERGED or last / 4 < decrement <= QUADRATIC:
                break
            last = decrement
            moved = self._line_search(base, v, dual, step, decrement)
            if moved is None:
                break
            v, dual = moved
        log_x = self._feasible(dual)
        x = np.exp(log_x)
        primal = float(x @ (base - log_x))
        return Projected(log_x, v, dual.value - primal, iterations)

    def _soft_values(self, log_weights: FloatArray, tilt: FloatArray) -> FloatArray:
        """Values at which every node keeps the mass it has in the weights, however large the tilt (soft backup)."""
        top = np.maximum.reduceat(log_weights, self._first)
        mass = np.add.reduceat(np.exp(log_weights - top[self._node]), self._first)
        log_policy = log_weights - (top + np.log(mass))[self._node]
        v = np.zeros(self._rhs.size)
        for _ in self._starts:  # one sweep a layer: the last is right after the first of them
            exponent = log_policy + tilt + self._arriving @ v
            top = np.maximum.reduceat(exponent, self._first)
            v = top + np.log(np.add.reduceat(np.exp(exponent - top[self._node]), self._first))
        return v

    def _dual(self, base: FloatArray, v: FloatArray) -> _Dual:
        exponent = base - self._columns @ v
        top = np.maximum.reduceat(exponent, self._starts)
        weight = np.exp(exponent - top[self._layer])
        total = np.add.reduceat(weight, self._starts)
        log_partition = top + np.log(total)
        value = float(self._rhs @ v + log_partition.sum())
        return _Dual(value, exponent, log_partition, weight / total[self._layer])

    def _newton(self, x: FloatArray, residual: FloatArray) -> FloatArray:
        """Newton step, the Hessian scaled to a unit diagonal with a ridge at rounding level."""
        hessian = (self._rows * x) @ self._columns
        diagonal = np.diagonal(hessian)
        scale = 1.0 / np.sqrt(np.where(diagonal > 1e-290, diagonal, 1.0))
        scaled = hessian * scale * scale[:, None] + 1e-15 * self._identity
        return -scale * np.linalg.solve(scaled, scale * residual)

    def _line_search(
        self, base: FloatArray, v: FloatArray, dual: _Dual, step: FloatArray, decrement: float
    ) -> tuple[FloatArray, _Dual] | None:
        noise = 16 * np.finfo(float).eps * (1.0 + abs(dual.value))
        moving = self._columns @ step
        alpha = 1.0
        while alpha > SHORTEST_STEP:
            trial_v = v + alpha * step
            trial = self._dual(base, trial_v)
            falls = trial.value <= dual.value - SUFFICIENT_DECREASE * alpha * decrement + noise
            shift = (dual.log_partition - trial.log_partition).sum()
            if falls and shift - alpha * float(trial.point @ moving) <= LARGEST_TRAVEL:
                return trial_v, trial
            alpha *= 0.5
        return None

    def _feasible(self, dual: _Dual) -> FloatArray:
        """Log of the exact occupancy (n,) of the policy in the point: log mass of the node plus log pi."""
        exponent = dual.exponent
        top = np.maximum.reduceat(exponent, self._first)
        weight = np.exp(exponent - top[self._node])
        log_policy = exponent - (top + np.log(np.add.reduceat(weight, self._first)))[self._node]
        chain = self._leaving.T @ (np.exp(log_policy)[:, None] * self._arriving)
        mass = np.linalg.solve((self._identity - chain).T, self._rhs)  # nilpotent chain: sums of positive terms
        return np.log(np.maximum(mass, 1e-300))[self._node] + log_policy
