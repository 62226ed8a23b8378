r"""Linear systems ``(I - P) x = b`` of chains that lose mass, by elimination without a subtraction.

With ``P >= 0`` off the diagonal and a leak ``l >= 0``, what leaves state k is ``d_k = sum_j P_kj + l_k``. Eliminating
state k from

.. math:: d_i x_i - \textstyle\sum_j P_{ij} x_j = b_i

adds :math:`P_{ik} P_{kj} / d_k` to :math:`P_{ij}`, :math:`P_{ik} l_k / d_k` to :math:`l_i` and
:math:`P_{ik} b_k / d_k` to :math:`b_i`. The new :math:`d_i` are sums again, so that nothing is ever subtracted: every
entry of the inverse has nearly all its digits, however slowly the chain leaks. Ordinary elimination computes
:math:`d_i` as a difference, and loses a leak of 1e-16 among numbers of size one.

Shapes: n states; P (n, n), leaks, right-hand sides (n,) or (n, m).

References
----------
Grassmann, Taksar and Heyman (1985), *Regenerative analysis and steady state distributions for Markov chains*,
section 2; O'Cinneide (1993), *Entrywise perturbation theory and error analysis for Markov chains*, theorem 4.
"""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from numpy.lib.stride_tricks import as_strided
from scipy.sparse.csgraph import reverse_cuthill_mckee

from reps_opt.tolerances import DENSE_STATES, ELIMINATION_WORK, TINY, TRUSTED_TIME
from reps_opt.validation import FloatArray

Chain: TypeAlias = Any
"""Transition probabilities (n, n): a ``csr_array``, or an array."""


class Elimination:
    """``I - P`` factorised without subtraction.

    Parameters
    ----------
    chain
        P (n, n); its diagonal is not read, ``1 - P_kk`` being the sum of what leaves.
    leak
        What leaves the system from each state (n,).

    Attributes
    ----------
    saturated : bool
        Whether some state is left so slowly that its rate underflowed: it counts as left once in 1e290 steps.
    """

    def __init__(self, chain: Chain, leak: FloatArray) -> None:
        n = chain.shape[0]
        self.order = np.arange(n)
        self.band = n - 1
        if sp.issparse(chain) and n > DENSE_STATES:
            self.order, self.band = banded(chain)
            self.table = _band_table(chain[self.order][:, self.order], self.band)
        else:
            self.table = chain.toarray() if sp.issparse(chain) else np.array(chain)
        self.leaving = np.empty(n)
        self.saturated = False
        table, remaining = self.table, leak[self.order].astype(np.float64)
        for k in range(n - 1, -1, -1):
            low = max(0, k - self.band)
            ahead = table[k, low:k]
            out = ahead.sum() + remaining[k]
            if out < TINY:
                self.saturated = True
                remaining[k] += TINY - out
                out = TINY
            self.leaving[k] = out
            if k:
                share = table[low:k, k]
                share /= out
                table[low:k, low:k] += share[:, None] * ahead
                remaining[low:k] += share * remaining[k]

    def solve(self, rhs: FloatArray) -> FloatArray:
        """Solution of ``(I - P) x = rhs``."""
        x = rhs[self.order].astype(np.float64).reshape(rhs.shape[0], -1)
        table, n = self.table, x.shape[0]
        for k in range(n - 1, 0, -1):
            low = max(0, k - self.band)
            x[low:k] += table[low:k, k, None] * x[k]
        for k in range(n):
            low = max(0, k - self.band)
            x[k] = (x[k] + table[k, low:k] @ x[low:k]) / self.leaving[k]
        return self._back(x, rhs)

    def solve_transposed(self, rhs: FloatArray) -> FloatArray:
        """Solution of ``(I - P)' y = rhs``."""
        y = rhs[self.order].astype(np.float64).reshape(rhs.shape[0], -1)
        table, n = self.table, y.shape[0]
        for k in range(n - 1, -1, -1):
            low = max(0, k - self.band)
            y[k] /= self.leaving[k]
            y[low:k] += table[k, low:k, None] * y[k]
        for k in range(1, n):
            low = max(0, k - self.band)
            y[k] += table[low:k, k] @ y[low:k]
        return self._back(y, rhs)

    def _back(self, x: FloatArray, rhs: FloatArray) -> FloatArray:
        found = np.empty_like(x)
        found[self.order] = x
        return found.reshape(rhs.shape)


def banded(chain: sp.csr_array) -> tuple[np.ndarray[Any, np.dtype[np.int64]], int]:
    """An order of the states in which neighbours are close, and how far apart they are at most."""
    pattern = sp.csr_array(chain + chain.T)
    order = reverse_cuthill_mckee(pattern, symmetric_mode=True).astype(np.int64)
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    coo = chain.tocoo()
    return order, int(np.abs(place[coo.row] - place[coo.col]).max(initial=1))


def _band_table(chain: sp.csr_array, band: int) -> FloatArray:
    """A matrix (n, n) of which only the entries within ``band`` of the diagonal are stored, and may be touched."""
    n = chain.shape[0]
    stored = np.zeros(n * 2 * band + n + 2 * band)
    coo = chain.tocoo()
    stored[coo.row * 2 * band + coo.col + band] = coo.data
    width = stored.itemsize
    return as_strided(stored[band:], shape=(n, n), strides=(2 * band * width, width))


def unpivoted(matrix: sp.csc_array, ordering: str = "MMD_AT_PLUS_A") -> spla.SuperLU:
    """A factorisation by SuperLU without pivoting: a matrix that its diagonal dominates, as ``I - P``, needs none.

    Off the diagonal nothing is subtracted then, so that masses of 1e-30 keep the digits that the diagonal has.
    """
    options = {"SymmetricMode": True}
    return spla.splu(matrix, permc_spec=ordering, diag_pivot_thresh=0.0, options=options)


class Factor:
    """``I - P`` factorised by SuperLU without pivoting, solutions refined."""

    def __init__(self, matrix: sp.csr_array) -> None:
        self.matrix = matrix
        self.lu = unpivoted(matrix.tocsc())

    def solve(self, rhs: FloatArray) -> FloatArray:
        """Solution of ``(I - P) x = rhs``, refined once."""
        x = self.lu.solve(rhs)
        return x + self.lu.solve(rhs - self.matrix @ x)

    def solve_transposed(self, rhs: FloatArray) -> FloatArray:
        """Solution of ``(I - P)' y = rhs``; refined, small entries would take the rounding of the large ones."""
        return self.lu.solve(rhs, trans="T")

    def trusted(self) -> bool:
        """Whether the expected times to leave prove the factorisation accurate.

        For any ``t > 0`` with ``(I - P) t >= 1/2`` the inverse, which is non-negative, has row sums of at most 2t. That
        is checked by a product with P, not with the factor.
        """
        stay = self.lu.solve(np.ones(self.matrix.shape[0]))
        return bool(
            np.isfinite(stay).all()
            and stay.min() > 0
            and stay.max() <= TRUSTED_TIME
            and (self.matrix @ stay).min() >= 0.5
        )


System: TypeAlias = Elimination | Factor
"""A factorised ``I - P``."""


def factorised(chain: Chain, leak: FloatArray, last: bool = True) -> System | None:
    """``I - P`` of a chain that loses ``leak``: without subtraction where small or in need of it, else by SuperLU.

    ``last`` says that there is no better system to be had: then one that cannot be trusted is used with a warning,
    where otherwise None is returned.
    """
    n = chain.shape[0]
    if n <= DENSE_STATES:
        return Elimination(chain, leak)
    sparse = sp.csr_array(chain)
    others = sparse - sp.diags_array(sparse.diagonal())
    others.eliminate_zeros()
    matrix = sp.csr_array(sp.diags_array(others.sum(axis=1) + leak) - others)
    try:
        factor = Factor(matrix)
        if factor.trusted():
            return factor
    except RuntimeError:  # exactly singular to SuperLU
        factor = None
    if not last:
        return None
    if n * banded(others)[1] ** 2 <= ELIMINATION_WORK or factor is None:
        return Elimination(others, leak)
    warnings.warn(
        f"a chain of {n} states mixes too slowly to be evaluated to more than a few digits", UserWarning, stacklevel=2
    )
    return factor
