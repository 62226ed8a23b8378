"""Normal equations of a layered flow: block-tridiagonal, factored by a block Cholesky, one dense block a layer.

Shapes: n pairs, m nodes (rows) in order of layer; layer t has m_t rows; right-hand sides (m,) or (m, k).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from reps_opt.processes.graph import BoolArray, IntArray
from reps_opt.program import Program
from reps_opt.systems.base import SparseRows
from reps_opt.validation import FloatArray, UnsuitableError


class BlockEquations(SparseRows):
    """Block Cholesky for rows of which each pair touches one layer and the next.

    With many states a step, sparse elimination fills the blocks anyway; dense blocks do the same work in BLAS 3.

    Parameters
    ----------
    program
        Its mass is implied by the rows, and every row is free.
    row_starts
        First row (T,) of each layer.
    """

    def __init__(self, program: Program, row_starts: IntArray) -> None:
        super().__init__(program)
        ends = np.append(row_starts, program.rhs.size)
        self._layers = [slice(int(a), int(b)) for a, b in pairwise(ends)]

    def update(self, weights: FloatArray, free: BoolArray, shift: FloatArray | None = None) -> None:
        """Set the weights; every row must be free and none softened."""
        if not free.all():
            raise UnsuitableError("block equations take no inequality rows")
        super().update(weights, free, shift)

    def _prepare(self) -> None:
        matrix = (self.rows @ (sp.diags_array(self.weights) @ self.columns)).tocsr()
        self._scale = self._scaling(matrix.diagonal())
        scaling = sp.diags_array(self._scale)
        matrix = (scaling @ matrix @ scaling).tocsr()
        self.stats["factorisations"] += 1
        ridge = 1e-15
        while True:
            try:
                self._factor(matrix, ridge)
                return
            except np.linalg.LinAlgError:
                ridge *= 10

    def _factor(self, matrix: sp.csr_array, ridge: float) -> None:
        """Lower factors: L_t on the diagonal, and the block E_t below it, ``E_t L_t' = H_{t+1,t}``."""
        self._diagonal: list[FloatArray] = []
        self._below: list[FloatArray] = []
        carried: FloatArray | float = 0.0
        for t, rows in enumerate(self._layers):
            band = matrix[rows]
            block = band[:, rows].toarray() - carried
            block[np.diag_indices_from(block)] += ridge
            lower = scipy.linalg.cholesky(block, lower=True, check_finite=False)
            self._diagonal.append(lower)
            if t + 1 < len(self._layers):
                coupling = band[:, self._layers[t + 1]].toarray()
                below = scipy.linalg.solve_triangular(lower, coupling, lower=True, check_finite=False).T
                self._below.append(below)
                carried = below @ below.T

    def _apply(self, rhs: FloatArray, rtol: float = 0.0, guess: FloatArray | None = None) -> FloatArray:
        scale = self._scale if rhs.ndim == 1 else self._scale[:, None]
        x = scale * rhs
        for t, rows in enumerate(self._layers):
            if t:
                x[rows] -= self._below[t - 1] @ x[self._layers[t - 1]]
            x[rows] = scipy.linalg.solve_triangular(self._diagonal[t], x[rows], lower=True, check_finite=False)
        for t in reversed(range(len(self._layers))):
            rows = self._layers[t]
            if t + 1 < len(self._layers):
                x[rows] -= self._below[t].T @ x[self._layers[t + 1]]
            x[rows] = scipy.linalg.solve_triangular(self._diagonal[t], x[rows], lower=True, trans=1, check_finite=False)
        return scale * x

    def solve_many(self, rhs: FloatArray) -> FloatArray:
        """Solutions (m, k) of k right-hand sides at once."""
        return self._apply(rhs)
