"""Normal equations of a layered flow: block-tridiagonal, factored by a block Cholesky, one dense block a layer.

Shapes: n pairs, m nodes (rows) in order of layer; layer t has m_t rows; right-hand sides (m,) or (m, k).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from scipy.linalg.lapack import dpotrf, dtrtrs

from reps_opt.processes.graph import BoolArray, IntArray
from reps_opt.program import Program
from reps_opt.systems.base import SparseRows
from reps_opt.tolerances import LAST_PLACE
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
        size = np.diff(ends)
        width = size + np.append(size[1:], 0)  # of a layer's rows: its own columns and those of the next
        self._bands = np.append(0, np.cumsum(size * width))
        self._first = np.repeat(ends[:-1], size)
        self._place = np.concatenate([o + w * np.arange(k) for o, w, k in zip(self._bands, width, size, strict=False)])

    def update(self, weights: FloatArray, free: BoolArray, shift: FloatArray | None = None) -> None:
        """Set the weights; every row must be free and none softened."""
        if not free.all():
            raise UnsuitableError("block equations take no inequality rows")
        super().update(weights, free, shift)

    def _prepare(self) -> None:
        matrix = (self.rows @ (sp.diags_array(self.weights) @ self.columns)).tocsr()
        self._scale = self._scaling(matrix.diagonal())
        row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        entries = matrix.data * self._scale[row] * self._scale[matrix.indices]
        ahead = matrix.indices - self._first[row]
        dense = np.zeros(self._bands[-1])
        dense[(self._place[row] + ahead)[ahead >= 0]] = entries[ahead >= 0]
        self.stats["factorisations"] += 1
        ridge = LAST_PLACE
        while not self._factor(dense, ridge):
            ridge *= 10
            if ridge > 1.0:  # beside a diagonal of one: the entries are no numbers
                raise np.linalg.LinAlgError("the normal equations are not finite")

    def _factor(self, dense: FloatArray, ridge: float) -> bool:
        """Lower factors: L_t on the diagonal, and the block E_t below it, ``E_t L_t' = H_{t+1,t}``; whether there are.

        ``dense`` holds each layer's rows of H, its own columns and those of the next layer.
        """
        self._diagonal: list[FloatArray] = []
        self._below: list[FloatArray] = []
        carried: FloatArray | float = 0.0
        for t, rows in enumerate(self._layers):
            size = rows.stop - rows.start
            band = dense[self._bands[t] : self._bands[t + 1]].reshape(size, -1)
            block = band[:, :size] - carried
            block.ravel()[:: size + 1] += ridge
            lower, failed = dpotrf(block.T, lower=True, clean=False)
            if failed:
                return False
            self._diagonal.append(lower)
            if t + 1 < len(self._layers):
                below = dtrtrs(lower, band[:, size:], lower=True)[0].T
                self._below.append(below)
                carried = below @ below.T
        return True

    def _apply(self, rhs: FloatArray, rtol: float = 0.0, guess: FloatArray | None = None) -> FloatArray:
        x = (self._scale * rhs.T).T
        for t, rows in enumerate(self._layers):
            if t:
                x[rows] -= self._below[t - 1] @ x[self._layers[t - 1]]
            x[rows] = dtrtrs(self._diagonal[t], x[rows], lower=True)[0]
        for t in reversed(range(len(self._layers))):
            rows = self._layers[t]
            if t + 1 < len(self._layers):
                x[rows] -= self._below[t].T @ x[self._layers[t + 1]]
            x[rows] = dtrtrs(self._diagonal[t], x[rows], lower=True, trans=1)[0]
        return (self._scale * x.T).T
