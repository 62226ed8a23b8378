"""Systems with the curvature of a discounted flow by conjugate gradient, preconditioned level by level.

Shapes: n coordinates, m rows of A; weights w are (n,), right-hand sides (m,).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from reps_opt.conjugate_gradient import conjugate_gradient
from reps_opt.program import Program
from reps_opt.systems.base import SparseRows, product_diagonal
from reps_opt.systems.multilevel import Multilevel
from reps_opt.tolerances import KRYLOV_ITERATIONS, LARGEST_PRODUCT, LAST_PLACE, ROUNDING, SOLVED, THIN_SHARE
from reps_opt.validation import FloatArray


class ConjugateGradientEquations(SparseRows):
    """Preconditioned conjugate gradient: no ordering, no fill, memory linear in the rows' non-zeros.

    Where ``A diag(w) A'`` is sparse enough to be multiplied out, as on a grid, the preconditioner has coarse levels
    (:mod:`reps_opt.systems.multilevel`); on a random graph, where news travels fast, its diagonal is enough.
    """

    iterative = True

    def __init__(self, program: Program, thin: bool = False) -> None:
        super().__init__(program)
        self.thin = thin
        self._levels: Multilevel | None = None
        self._by_row: sp.csr_array | None = None
        self.rows = self.columns.T  # entries in the order of columns: a sum over pairs then writes where it just read

    def evened(self, weights: FloatArray, error: float) -> FloatArray:
        """Rows without mass then take the smoothest step that continues their neighbours'.

        The share falls with the square of the error, so that the last steps are Newton's.
        """
        if not self.thin:
            return weights
        return weights + max(THIN_SHARE * min(1.0, error) ** 2, ROUNDING) * weights.sum() / weights.size

    def _choose(self) -> None:
        super()._choose()
        self.rows, self._by_row = self.columns.T, None

    def _prepare(self) -> None:
        # nothing beside any mass, and enough to keep multipliers of rows without any from running away
        self._ridge = LAST_PLACE**2 * self.weights.sum()
        self._matrix = None
        if self._worth_multiplying_out():
            columns = self.columns
            if self._by_row is None:
                self._by_row = self.rows.tocsr()
            weighted = columns.data * np.repeat(self.weights, np.diff(columns.indptr))
            self._matrix = self._by_row @ sp.csr_array((weighted, columns.indices, columns.indptr), shape=columns.shape)
            if self._levels is None or self._levels.size != self.rows.shape[0]:
                self._levels = Multilevel(self._matrix, self.program.signed[self.free])
            self._levels.update(self._matrix, self._ridge)
            diagonal = self._matrix.diagonal()
        else:
            diagonal = product_diagonal(self.rows, self.weights)
        self._inverse_diagonal = 1.0 / (diagonal + self._ridge)
        self._inverse_diagonal[self._grounds] = 0.0  # no direction ever moves a ground

    def _worth_multiplying_out(self) -> bool:
        """Whether ``A diag(w) A'`` has so few entries that it is applied faster than A twice: a grid, no Garnet."""
        width = np.diff(self.columns.indptr).astype(np.int64)
        return bool((width**2).sum() <= LARGEST_PRODUCT * self.columns.nnz)

    def _curved(self, direction: FloatArray) -> FloatArray:
        if self._matrix is not None:
            curved = self._matrix @ direction
        else:
            curved = self.rows @ (self.weights * (self.columns @ direction))
        curved += self._ridge * direction
        return curved

    def _preconditioned(self, residual: FloatArray) -> FloatArray:
        z = self._inverse_diagonal * residual
        if self._matrix is not None and self._levels is not None and not self.program.hints.grounds.size:
            z += self._levels.correction(residual)
        return z

    def _apply(self, rhs: FloatArray, rtol: float = 0.0, guess: FloatArray | None = None) -> FloatArray:
        """Preconditioned conjugate gradient from zero or a guess."""
        found = conjugate_gradient(self._curved, rhs, max(rtol, SOLVED), KRYLOV_ITERATIONS, self._preconditioned, guess)
        self.stats["linear_iterations"] += found.products
        self.exhausted |= found.products >= KRYLOV_ITERATIONS and self._matrix is not None  # a Garnet's factor is dense
        return found.solution
