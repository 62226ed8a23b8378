"""Systems with the curvature of a dual: ``A (diag(w) - w w'/sum w) A' d = rhs``, up to the gauge.

Shapes: n coordinates, m rows of A; weights w are (n,), right-hand sides (m,) or (m, k).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import scipy.sparse as sp
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dgetrf, dgetrs, dpotrf, dpotri, dpotrs

from reps_opt.processes.elimination import unpivoted
from reps_opt.program import Program
from reps_opt.tolerances import LAST_PLACE, LEAST_ALONG_RTOL, ROUNDED, ROUNDING
from reps_opt.validation import FloatArray


class Cholesky:
    """Factor of a matrix as it is; where that breaks down scaled to a unit diagonal, with the least ridge it needs.

    Rounding does not depend on the scale of rows and columns (van der Sluis 1969). LAPACK's routines are called as they
    are: SciPy's checks around them take longer than a small system.

    Parameters
    ----------
    matrix
        Symmetric (m, m); it may be overwritten. A row whose diagonal is zero is left at its own scale.
    grounds
        Positions whose diagonal is doubled.
    """

    scale: FloatArray | None = None
    """What rows and columns (m,) have been multiplied by; None for nothing."""

    def __init__(self, matrix: FloatArray, grounds: np.ndarray | None = None) -> None:
        for ground in () if grounds is None else grounds.tolist():  # next to none: it takes less time than an index
            matrix[ground, ground] *= 2.0
        self.lower, failed = dpotrf(matrix.T, lower=1, clean=0)
        if failed:
            self._factor_scaled(matrix)

    def _factor_scaled(self, matrix: FloatArray) -> None:
        diagonal = matrix.diagonal()  # a view
        diagonal.flags.writeable = True
        self.scale = 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        matrix *= self.scale[:, None]  # one after the other: the product of two scales may overflow where no entry does
        matrix *= self.scale
        diagonal[:] = 1.0
        self.lower, failed = dpotrf(matrix.T, lower=1, clean=0)
        ridge = LAST_PLACE
        while failed:
            if not math.isfinite(float(matrix.sum())):
                raise np.linalg.LinAlgError("the matrix to be factored is not finite")
            ridge *= 10
            diagonal += ridge
            self.lower, failed = dpotrf(matrix.T, lower=1, clean=0)

    def solve(self, rhs: FloatArray) -> FloatArray:
        """Solution (m,) or (m, k)."""
        if not rhs.size:
            return rhs
        solution: FloatArray = self._scaled(dpotrs(self.lower, self._scaled(rhs), lower=1)[0])
        return solution

    def whitened(self, directions: FloatArray) -> FloatArray:
        """``L'^{-1} directions`` (m, k): what has the matrix for its metric what the directions have the identity."""
        return self._scaled(solve_triangular(self.lower, directions, lower=True, trans="T"))

    def inverse(self) -> FloatArray:
        """The inverse (m, m)."""
        half = np.tril(dpotri(self.lower, lower=1)[0])
        if self.scale is not None:
            half *= self.scale[:, None]
            half *= self.scale
        whole: FloatArray = half + np.tril(half, -1).T
        return whole

    def _scaled(self, values: FloatArray) -> FloatArray:
        if self.scale is None:
            return values
        return self.scale * values if values.ndim == 1 else self.scale[:, None] * values


class DenseFactor:
    """LU factors of a small square matrix (m, m), by LAPACK's routines as they are.

    Raises
    ------
    RuntimeError
        Where a pivot is zero, as :func:`scipy.sparse.linalg.splu` does.
    """

    def __init__(self, matrix: FloatArray) -> None:
        self._lu, self._pivots, failed = dgetrf(matrix)
        if failed:
            raise RuntimeError("the matrix is exactly singular")

    def solve(self, rhs: FloatArray, trans: str = "N") -> FloatArray:
        """Solution (m,) or (m, k), with the transposed matrix for ``trans="T"``."""
        solution: FloatArray = dgetrs(self._lu, self._pivots, rhs, trans=int(trans == "T"))[0]
        return solution


def product_diagonal(rows: sp.csr_array | sp.csc_array, weights: FloatArray) -> FloatArray:
    """Diagonal (m,) of ``A diag(w) A'``, without the product."""
    return type(rows)((rows.data**2, rows.indices, rows.indptr), shape=rows.shape) @ weights


class NormalEquations(ABC):
    """``solve(rhs)`` for the current weights; counts what it spends in ``stats``."""

    iterative = False
    """Whether a guess saves work."""

    exact = False
    """Whether solutions are right to rounding, whatever tolerance is asked for."""

    thin = False
    """Whether some rows have next to no mass, and the method needs a share of the mass spread evenly."""

    exhausted = False
    """Whether a solve has spent all its iterations, where a factorisation had better take over."""

    least_along_rtol = LEAST_ALONG_RTOL
    """Least relative residual worth its price in solving for dv/d eta."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.free = program.free(np.ones(program.rhs.size), np.ones(program.rhs.size))
        self._all_free = True
        self.weights = np.zeros(program.n)
        self.stats = {"factorisations": 0, "linear_iterations": 0}

    def update(self, weights: FloatArray, free: np.ndarray, shift: FloatArray | None = None) -> None:
        """Set the weights, the rows whose multipliers may move, and what a ridge adds to the diagonal (m,)."""
        self.weights = weights
        if free is not self.free and not np.array_equal(free, self.free):
            self.free = free
            self._all_free = bool(free.all())
            self._choose()
        self._prepare()
        self._spread = None
        if not self.program.hints.mass_implied:
            u = self.program.times(weights)[self.free]
            z = self._apply(u)
            self._spread = (u, z, float(weights.sum() - u @ z))

    def evened(self, weights: FloatArray, error: float) -> FloatArray:
        """Weights (n,), a share of them spread evenly where rows are thin and the solution is an error away."""
        return weights

    def solve(self, rhs: FloatArray, rtol: float = 0.0, guess: FloatArray | None = None) -> FloatArray:
        """Solution (m,), or (m, k) by a direct method, zero in the rows that may not move; an iterative one may stop at
        the relative residual, and start from a guess (m,).

        Where the rows imply the mass, the rank-one term moves the solution along the gauge only, and is left out.
        """
        if guess is not None and self.iterative and self._all_free and self._spread is None:
            return self._apply(rhs, rtol, guess)
        d = self._apply(rhs if self._all_free else rhs[self.free], rtol if self._spread is None else 0.0)
        if self._spread is not None:
            u, z, left = self._spread
            if left > ROUNDING * self.weights.sum():
                d = d + np.multiply.outer(z, (u @ d) / left)
        if self._all_free:
            return d
        full = np.zeros((self.free.size, *rhs.shape[1:]))
        full[self.free] = d
        return full

    def _choose(self) -> None:  # noqa: B027  nothing to do where all rows are seen at once
        """Take in which rows are free."""

    @property
    def _grounds(self) -> np.ndarray:
        """Positions of the grounded rows among the free ones."""
        if self._all_free:
            return self.program.hints.grounds
        return np.searchsorted(np.flatnonzero(self.free), self.program.hints.grounds)

    def _scaling(self, diagonal: FloatArray) -> FloatArray:
        safe = np.where(diagonal > 0, diagonal, 1.0)
        return 1.0 / np.sqrt(safe)

    @abstractmethod
    def _prepare(self) -> None:
        """Take in new weights."""

    @abstractmethod
    def _apply(self, rhs: FloatArray, rtol: float = 0.0, guess: FloatArray | None = None) -> FloatArray:
        """Solve ``A diag(w) A' d = rhs`` over the free rows, the grounds at zero."""


class DenseEquations(NormalEquations):
    """Cholesky factorisation of the system as an array."""

    exact = True

    def _prepare(self) -> None:
        matrix = self.program.gram(self.weights)
        if not self._all_free:
            matrix = matrix[np.ix_(self.free, self.free)]
        self.stats["factorisations"] += 1
        self._factor = Cholesky(matrix, self._grounds)

    def _apply(self, rhs: FloatArray, rtol: float = 0.0, guess: FloatArray | None = None) -> FloatArray:
        return self._factor.solve(rhs)


class SparseRows(NormalEquations):
    """Systems that work on the sparse rows, those of free multipliers only."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.rows, self.columns = program.matrix, program.transpose

    def _choose(self) -> None:
        self.rows = self.program.matrix[np.flatnonzero(self.free)]
        self.columns = self.rows.T.tocsr()


class SparseEquations(SparseRows):
    """Sparse symmetric-mode LU of the scaled system; the fill-reducing ordering is found once and kept."""

    exact = True
    _ordering: np.ndarray | None = None

    def _prepare(self) -> None:
        weighted = sp.diags_array(self.weights) @ self.columns
        matrix = (self.rows @ weighted).tocsc()
        self._scale = self._scaling(matrix.diagonal())
        scaling = sp.diags_array(self._scale)
        matrix = (scaling @ matrix @ scaling).tocsc()
        shift = np.full(matrix.shape[0], ROUNDED)
        shift[self._grounds] += 1.0
        matrix = matrix + sp.diags_array(shift, format="csc")
        self.stats["factorisations"] += 1
        if self._ordering is None or self._ordering.size != matrix.shape[0]:
            self._factor = unpivoted(matrix)
            self._ordering = np.argsort(self._factor.perm_c)
            self._kept = np.arange(matrix.shape[0])
        else:
            self._kept = self._ordering
            self._factor = unpivoted(matrix[self._kept][:, self._kept].tocsc(), "NATURAL")

    def _apply(self, rhs: FloatArray, rtol: float = 0.0, guess: FloatArray | None = None) -> FloatArray:
        solution = np.empty_like(rhs)
        solution[self._kept] = self._factor.solve((self._scale * rhs.T).T[self._kept])
        return (self._scale * solution.T).T
