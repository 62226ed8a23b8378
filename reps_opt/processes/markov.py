"""Linear systems of a Markov chain: discounted values and occupancies, gains, biases and stationary distributions.

Shapes: ``chain`` is the sparse (S, S) matrix P_pi of one policy, rows summing to one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from reps_opt.processes.graph import IntArray, recurrent_classes
from reps_opt.validation import FloatArray

DIRECT_LIMIT = 2_000
"""Largest number of states for which a sparse factorisation is taken without trying an iteration first."""


DENSE_LIMIT = 300
"""Largest recurrent class whose stationary distribution is found by dense elimination."""


ROUNDING = 1e-14
"""Relative residual that counts as rounding."""

NEXT_TO_NOTHING = 1e-13
"""Mass below which an iterative solution has few digits left."""


class ChainStructure(NamedTuple):
    """Recurrent class of each state (-1 transient), and each state's probability under its class's stationary law."""

    component: IntArray
    stationary: FloatArray

    @property
    def n_classes(self) -> int:
        """Number of recurrent classes."""
        return int(self.component.max()) + 1


def discounted_solve(
    chain: sp.csr_array,
    gamma: float,
    rhs: FloatArray,
    transposed: bool = False,
    guess: FloatArray | None = None,
    rtol: float = ROUNDING,
) -> FloatArray:
    """Solve ``(I - gamma P) x = rhs``, or with ``P'`` when transposed.

    Small chains are factorised. Large ones are solved by BiCGSTAB with iterative refinement, which needs neither
    ordering nor fill, and are factorised only if the relative residual (1-norm) does not come down to ``rtol``.
    """
    matrix = sp.eye_array(chain.shape[0], format="csr") - gamma * (chain.T if transposed else chain)
    if chain.shape[0] > DIRECT_LIMIT:
        x = _refined_bicgstab(matrix.tocsr(), rhs, np.zeros_like(rhs) if guess is None else guess, rtol)
        if x is not None:
            return x
    return spla.splu(matrix.tocsc()).solve(rhs)


def rough_discounted_solve(chain: sp.csr_array, gamma: float, rhs: FloatArray, rtol: float) -> FloatArray:
    """Solve ``(I - gamma P) x = rhs`` to a relative residual of no more than a few digits (2-norm)."""
    system = spla.LinearOperator(chain.shape, matvec=lambda x: x - gamma * (chain @ x), dtype=np.float64)
    return spla.bicgstab(system, rhs, rtol=rtol, maxiter=500)[0]


def _refined_bicgstab(matrix: sp.csr_array, rhs: FloatArray, x: FloatArray, rtol: float) -> FloatArray | None:
    target = rtol * np.abs(rhs).sum()
    best = np.inf
    for _ in range(12):
        residual = rhs - matrix @ x
        size = np.abs(residual).sum()
        if size <= target:
            return x
        if size > 0.5 * best:
            return x if size <= 1e3 * target else None
        best = size
        x = x + spla.bicgstab(matrix, residual, rtol=1e-6, maxiter=500)[0]
    return None


def discounted_occupancy(
    chain: sp.csr_array, gamma: float, mu0: FloatArray, guess: FloatArray | None = None, graded: bool = False
) -> FloatArray:
    """State distribution ``mu = (1 - gamma) mu0 + gamma P' mu``, non-negative, summing to one.

    Parameters
    ----------
    guess
        Where an iterative solution starts.
    graded
        Whether states with next to no mass need it right in relative terms too, as a reference distribution does. A
        factorisation without pivoting gives that: the matrix is a column diagonally dominant M-matrix.
    """
    start = (1 - gamma) * mu0
    mu = np.maximum(discounted_solve(chain, gamma, start, transposed=True, guess=guess), 0.0)
    if graded and mu.min() < NEXT_TO_NOTHING:
        matrix = (sp.eye_array(chain.shape[0], format="csr") - gamma * chain).T.tocsc()
        options = {"SymmetricMode": True}
        factor = spla.splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
        mu = np.maximum(factor.solve(start), 0.0)
    backward = chain.T.tocsr()
    for _ in range(2):  # the fixed-point map keeps signs, and restores what clipping moved
        mu = start + gamma * (backward @ mu)
    return mu / mu.sum()


def chain_structure(chain: sp.csr_array) -> ChainStructure:
    """Recurrent classes of a chain and the stationary distribution within each, periodic classes included."""
    component = recurrent_classes(chain)
    stationary = np.zeros(chain.shape[0])
    order = np.argsort(component, kind="stable")
    sizes = np.bincount(component[component >= 0], minlength=1)
    ends = np.cumsum(sizes) + np.count_nonzero(component < 0)
    for size, end in zip(sizes, ends, strict=True):
        members = order[end - size : end]
        inner = chain[members][:, members]
        stationary[members] = _stationary_dense(inner) if size <= DENSE_LIMIT else _stationary_sparse(inner)
    return ChainStructure(component, stationary)


def _stationary_dense(chain: sp.csr_array) -> FloatArray:
    """Stationary distribution of an irreducible chain without subtractions: accurate in every entry.

    Nearly decomposable chains need that. Grassmann, Taksar and Heyman (1985), algorithm of section 2.
    """
    P = chain.toarray()
    n = P.shape[0]
    for k in range(n - 1, 0, -1):
        P[:k, k] /= P[k, :k].sum()
        P[:k, :k] += np.outer(P[:k, k], P[k, :k])
    mu = np.zeros(n)
    mu[0] = 1.0
    for k in range(1, n):
        mu[k] = mu[:k] @ P[:k, k]
    return mu / mu.sum()


def _stationary_sparse(chain: sp.csr_array) -> FloatArray:
    """Stationary distribution of an irreducible chain by one sparse factorisation, the first state pinned."""
    balance = (sp.eye_array(chain.shape[0], format="csr") - chain).T.tocsr()
    inflow = -balance[1:][:, [0]].toarray().ravel()
    rest = spla.splu(balance[1:][:, 1:].tocsc()).solve(inflow)
    mu = np.maximum(np.concatenate([[1.0], rest]), 0.0)
    return mu / mu.sum()


def absorption(chain: sp.csr_array, structure: ChainStructure, mu0: FloatArray) -> FloatArray:
    """Probability (classes,) that the chain started from ``mu0`` ends in each recurrent class."""
    recurrent = structure.component >= 0
    flow = np.where(recurrent, mu0, 0.0)
    transient = np.flatnonzero(~recurrent)
    if transient.size and mu0[transient].any():
        visits = discounted_solve(chain[transient][:, transient], 1.0, mu0[transient], transposed=True)
        flow += np.where(recurrent, chain[transient].T @ visits, 0.0)
    mass = np.bincount(structure.component[recurrent], weights=flow[recurrent], minlength=structure.n_classes)
    return mass / mass.sum()


def average_occupancy(chain: sp.csr_array, mu0: FloatArray) -> FloatArray:
    """Long-run (Cesaro) state distribution of the chain started from ``mu0``."""
    structure = chain_structure(chain)
    recurrent = structure.component >= 0
    mu = np.zeros_like(mu0)
    mu[recurrent] = absorption(chain, structure, mu0)[structure.component[recurrent]]
    return mu * structure.stationary


def _leaving_rates(chain: sp.csr_array) -> sp.csr_array:
    """``I - P`` (S, S), its diagonal summed from the other entries: exact where a state is hardly ever left."""
    others = chain - sp.diags_array(chain.diagonal())
    return (sp.diags_array(others.sum(axis=1)) - others).tocsr()


def gain_and_bias(chain: sp.csr_array, reward: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gain g (S,) and bias h (S,): ``g = P g``, ``h = reward - g + P h``, h of stationary mean zero in every class.

    References
    ----------
    Puterman (1994), *Markov decision processes*, theorem 8.2.6 and section 9.2.
    """
    structure, rates = chain_structure(chain), _leaving_rates(chain)
    component, stationary = structure
    inside = np.flatnonzero(component >= 0)
    outside = np.flatnonzero(component < 0)
    label = component[inside]
    gain, bias = np.zeros_like(reward), np.zeros_like(reward)
    gain[inside] = np.bincount(label, weights=stationary[inside] * reward[inside])[label]
    order = np.lexsort((-stationary[inside], label))  # pin each class's likeliest state: the best conditioned
    pinned = order[np.unique(label[order], return_index=True)[1]]
    free = np.setdiff1d(np.arange(inside.size), pinned)
    if free.size:
        poisson = rates[inside][:, inside]
        bias[inside[free]] = spla.splu(poisson[free][:, free].tocsc()).solve((reward - gain)[inside[free]])
    bias[inside] -= np.bincount(label, weights=stationary[inside] * bias[inside])[label]
    if outside.size:
        leaving = spla.splu(rates[outside][:, outside].tocsc())
        gain[outside] = leaving.solve(chain[outside][:, inside] @ gain[inside])
        bias[outside] = leaving.solve(reward[outside] - gain[outside] + chain[outside][:, inside] @ bias[inside])
    return gain, bias
