r"""Additive multilevel preconditioning: corrections that are constant on ever larger aggregates of rows.

.. math::
    z = D^{-1} r + \sum_{l=1}^{L-1} R_l' D_l^{-1} R_l r + R_L' (R_L H R_L')^{-1} R_L r, \qquad
    D_l = \mathrm{diag}(R_l H R_l'),

R_l summing over the aggregates of level l. A diagonal alone leaves conjugate gradient to carry news one state an
iteration; here it crosses the graph in one, so that a gamma close to one costs hardly more iterations than another.
Aggregates are pairs of pairs of strongly coupled rows, and follow the graph whatever it is.

Shapes: m rows of H, symmetric and positive definite; m_l aggregates of level l.

References
----------
Bramble, Pasciak, Xu (1990), *Parallel multilevel preconditioners*; Notay (2010), *An aggregation-based algebraic
multigrid method* (pairwise aggregation).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from reps_opt.processes.graph import BoolArray, IntArray, slim
from reps_opt.systems.base import Cholesky
from reps_opt.tolerances import COARSENING_STALLED, DENSE_ROWS, HANDSHAKES, STALE_LEVELS, STRONG_COUPLING, TIE_BREAK
from reps_opt.validation import FloatArray


def match(matrix: sp.csr_array, alone: BoolArray | None = None) -> IntArray:
    """Aggregate (m,) of each row: the pairs of a matching by coupling ``|h_ij| / sqrt(h_ii h_jj)``, and single rows.

    Rows ``alone`` (m,) are kept out of it.
    """
    m, width = matrix.shape[0], np.diff(matrix.indptr)
    here = np.arange(m, dtype=matrix.indices.dtype)
    scale = 1.0 / np.sqrt(np.maximum(matrix.diagonal(), np.finfo(float).tiny))
    if alone is not None:
        scale[alone] = 0.0
    coupling = np.abs(matrix.data)
    coupling *= scale[matrix.indices]
    coupling *= np.repeat(scale, width)
    entries = _Entries(np.repeat(here, width), matrix.indices, coupling.astype(np.float32))  # fewer bytes to read
    entries.coupling[entries.row == entries.column] = 0.0
    least = np.maximum(STRONG_COUPLING * entries.strongest(m), np.finfo(np.float32).tiny)
    entries = entries.where(entries.coupling >= np.repeat(least, width))
    entries.coupling[:] *= 1.0 + TIE_BREAK * entries.scrambled()  # else equal couplings all prefer the same side
    partner = here.copy()
    for _ in range(HANDSHAKES):
        preferred = here.copy()
        best = entries.coupling == entries.strongest(m)[entries.row]
        preferred[entries.row[best]] = entries.column[best]
        agreed = (preferred[preferred] == here) & (preferred != here)
        partner[agreed] = preferred[agreed]
        left = partner == here
        entries = entries.where(left[entries.row] & left[entries.column])
    first = partner >= here
    return (np.cumsum(first) - 1)[np.minimum(here, partner)]


class _Entries(NamedTuple):
    """Entries of a matrix in order of row, with the strength of each."""

    row: IntArray
    column: IntArray
    coupling: NDArray[np.float32]

    def where(self, kept: BoolArray) -> _Entries:
        return _Entries(self.row[kept], self.column[kept], self.coupling[kept])

    def strongest(self, m: int) -> NDArray[np.float32]:
        """Strongest coupling (m,) of each row, zero in a row without entries."""
        top = np.zeros(m, dtype=np.float32)
        begins = np.flatnonzero(np.diff(self.row, prepend=-1))
        if begins.size:
            top[self.row[begins]] = np.maximum.reduceat(self.coupling, begins)
        return top

    def scrambled(self) -> NDArray[np.float32]:
        """A number below 1024 for each pair of indices, without pattern (Teschner et al. 2003's spatial hash)."""
        first, second = np.minimum(self.row, self.column), np.maximum(self.row, self.column)
        mixed = first.astype(np.uint32) * np.uint32(73856093)
        mixed ^= second.astype(np.uint32) * np.uint32(19349663)
        return (mixed >> np.uint32(7) & np.uint32(1023)).astype(np.float32)


class Aggregation:
    """The sums over aggregates, R (k, m), given the aggregate (m,) of each row."""

    def __init__(self, label: IntArray) -> None:
        self.label = label
        count = np.bincount(label)
        self.size = count.size
        ends = np.append(0, np.cumsum(count))
        self._sums = slim(sp.csr_array((np.ones(label.size), np.argsort(label, kind="stable"), ends)))
        self._column = label.astype(self._sums.indices.dtype)

    def coarse(self, matrix: sp.csr_array) -> sp.csr_array:
        """``R H R'``."""
        shape = (matrix.shape[0], self.size)
        return self._sums @ sp.csr_array((matrix.data, self._column[matrix.indices], matrix.indptr), shape=shape)

    def holds(self, rows: BoolArray) -> BoolArray:
        """Aggregates (k,) with one of the rows (m,) in them."""
        held = np.zeros(self.size, dtype=bool)
        held[self.label[rows]] = True
        return held

    def restrict(self, residual: FloatArray) -> FloatArray:
        """``R r``."""
        return np.bincount(self.label, weights=residual, minlength=self.size).astype(np.float64, copy=False)


class Multilevel:
    """The coarse levels' part of the preconditioner, for matrices on one graph.

    Parameters
    ----------
    matrix
        H, whose couplings decide the aggregates.
    alone
        Rows (m,) that no aggregate takes in.
    """

    def __init__(self, matrix: sp.csr_array, alone: BoolArray | None = None) -> None:
        self.size = matrix.shape[0]
        self.levels: list[Aggregation] = []
        while matrix.shape[0] > DENSE_ROWS:
            pairs = Aggregation(match(matrix, alone))
            halved = pairs.coarse(matrix)
            pairs_alone = None if alone is None else pairs.holds(alone)
            level = Aggregation(match(halved, pairs_alone)[pairs.label])
            if level.size > COARSENING_STALLED * matrix.shape[0]:
                break
            alone = None if alone is None else level.holds(alone)
            self.levels.append(level)
            matrix = level.coarse(matrix)
        self._diagonal: FloatArray | None = None

    def update(self, matrix: sp.csr_array, ridge: float) -> None:
        """Take in a new matrix, and what keeps its diagonal from zero; a small change leaves the levels as they are."""
        diagonal = matrix.diagonal() + ridge
        if not self.levels:
            return
        if self._diagonal is not None and np.mean(np.abs(diagonal / self._diagonal - 1.0)) < STALE_LEVELS:
            return
        self._diagonal = diagonal
        self._inverse: list[FloatArray] = []
        for level in self.levels:
            matrix = level.coarse(matrix)
            self._inverse.append(1.0 / (matrix.diagonal() + ridge))
        small = matrix.shape[0] <= DENSE_ROWS
        self._coarsest = Cholesky(matrix.toarray()).inverse() if small else sp.diags_array(self._inverse[-1])

    def correction(self, residual: FloatArray) -> FloatArray | float:
        """What the coarse levels add to ``D^-1 r`` (m,)."""
        if not self.levels:
            return 0.0
        residuals = []
        for level in self.levels:
            residual = level.restrict(residual)
            residuals.append(residual)
        z = self._coarsest @ residual
        for k in range(len(self.levels) - 2, -1, -1):
            z = z[self.levels[k + 1].label] + self._inverse[k] * residuals[k]
        return z[self.levels[0].label]
