"""Linear systems of a Markov chain: discounted values and occupancies, gains, biases and stationary distributions.

Shapes: ``chain`` is the matrix P_pi (S, S) of one policy, rows summing to one: sparse, or dense where small.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from scipy.linalg.lapack import dgesv

from reps_opt.processes.elimination import Chain, Elimination, System, factorised, unpivoted
from reps_opt.processes.graph import IntArray, recurrent_classes
from reps_opt.tolerances import (
    COMMON_LEVEL,
    CONSISTENT,
    DENSE_STATES,
    DIRECT_STATES,
    FAR_SIGHTED,
    KRYLOV_ITERATIONS,
    MOST_ROUNDS,
    NEARLY_UNDISCOUNTED,
    RARE_ANCHOR,
    ROUNDED,
    ROUNDING,
    VISIBLE,
)
from reps_opt.validation import FloatArray


def discounted_solve(
    chain: Chain,
    gamma: float,
    rhs: FloatArray,
    transposed: bool = False,
    guess: FloatArray | None = None,
    rtol: float = ROUNDED,
    direct: bool = False,
) -> FloatArray:
    """Solve ``(I - gamma P) x = rhs``, or with ``P'`` when transposed.

    Small chains are factorised. Large ones are solved by BiCGSTAB with iterative refinement, which needs neither
    ordering nor fill, and are factorised only if the relative residual (1-norm) does not come down to ``rtol``, or at
    once where ``direct`` says that it is cheap.
    """
    n = chain.shape[0]
    if not sp.issparse(chain):
        if 1 - gamma < NEARLY_UNDISCOUNTED:
            system = Elimination(gamma * chain, np.full(n, 1 - gamma))
            return system.solve_transposed(rhs) if transposed else system.solve(rhs)
        dense = -gamma * chain
        dense.flat[:: n + 1] += 1.0
        x, failed = dgesv(dense.T if transposed else dense, rhs)[2:]  # as it is: NumPy's way there takes as long again
        if failed:
            raise np.linalg.LinAlgError("the matrix is exactly singular")
        return x
    if n > DIRECT_STATES and not direct:
        system = _discounted_system(chain.T if transposed else chain, gamma)
        x = refined_bicgstab(system, rhs, np.zeros_like(rhs) if guess is None else guess, rtol)
        if x is not None:
            return x
    matrix = sp.eye_array(n, format="csr") - gamma * (chain.T if transposed else chain)
    return spla.splu(matrix.tocsc()).solve(rhs)


def _discounted_system(chain: Any, gamma: float) -> spla.LinearOperator:
    """``I - gamma P`` by its products: the matrix itself would take longer to make than some twenty of them."""

    def product(x: FloatArray) -> FloatArray:
        ahead: FloatArray = chain @ x
        ahead *= -gamma
        ahead += x
        return ahead

    return spla.LinearOperator(chain.shape, matvec=product, dtype=np.float64)


def common_level(rewards: FloatArray) -> float:
    """What rewards have in common where it dwarfs their differences, else zero."""
    low, high = float(rewards.min()), float(rewards.max())
    middle = 0.5 * low + 0.5 * high
    return middle if abs(middle) > 10 * (high - low) else 0.0


def relative_value(
    chain: Chain, gamma: float, reward: FloatArray, guess: FloatArray | None = None, direct: bool = False
) -> tuple[float, FloatArray]:
    """Discounted value as a level rho and what is left: ``V = h + rho / (1 - gamma)``, ``(I - gamma P) h = r - rho``.

    Where all values are close to one large number, h keeps the digits that V has no room for.
    """
    rho = common_level(reward)
    near = None if guess is None else guess - rho / (1 - gamma)
    h = discounted_solve(chain, gamma, reward - rho, guess=near, direct=direct)
    level = 0.5 * float(h.min()) + 0.5 * float(h.max())
    if abs(level) > COMMON_LEVEL * float(np.ptp(h)):
        rho += (1 - gamma) * level
        h = discounted_solve(chain, gamma, reward - rho, guess=h - level, direct=direct)
    return rho, h


def rough_discounted_solve(chain: sp.csr_array, gamma: float, rhs: FloatArray, rtol: float) -> FloatArray | None:
    """Solve ``(I - gamma P) x = rhs`` to a relative residual of no more than a few digits (2-norm).

    None where even that fails: where chains take much longer to mix than the iteration has steps.
    """
    system = _discounted_system(chain, gamma)
    x, failed = spla.bicgstab(system, rhs, rtol=rtol, maxiter=KRYLOV_ITERATIONS)
    if failed and not np.linalg.norm(rhs - system.matvec(x)) <= 0.5 * np.linalg.norm(rhs):
        return None
    return x


def refined_bicgstab(system: Any, rhs: FloatArray, x: FloatArray, rtol: float) -> FloatArray | None:
    """Solution of ``system @ x = rhs`` from a guess, to a relative residual (1-norm); None where that stalls early."""
    target = rtol * np.abs(rhs).sum()
    best = np.inf
    for _ in range(MOST_ROUNDS):
        residual = rhs - system @ x
        size = np.abs(residual).sum()
        if size <= target:
            return x
        if size > 0.5 * best:
            return x if size <= CONSISTENT * np.abs(rhs).sum() else None
        best = size
        # SciPy gives up on right-hand sides whose square is next to nothing: theirs is one here
        correction = spla.bicgstab(
            system, residual / size, rtol=max(0.3 * target / size, VISIBLE), maxiter=KRYLOV_ITERATIONS
        )[0]
        x = x + size * correction
    return None


def discounted_occupancy(
    chain: Chain, gamma: float, mu0: FloatArray, guess: FloatArray | None = None, graded: bool = False
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
    if graded and mu.min() < ROUNDING and chain.shape[0] <= DENSE_STATES:
        mu = Elimination(gamma * chain, np.full(mu.size, 1 - gamma)).solve_transposed(start)
    elif graded and mu.min() < ROUNDING:
        matrix = (sp.eye_array(chain.shape[0], format="csr") - gamma * chain).T.tocsc()
        mu = np.maximum(unpivoted(matrix).solve(start), 0.0)
    for _ in range(2):  # the fixed-point map keeps signs, and restores what clipping moved
        mu = start + gamma * (chain.T @ mu)
    return mu / mu.sum()


class Evaluation(NamedTuple):
    """Gain and bias (S,) of a chain with rewards, and how large the sums are that they are made of.

    The sizes are what the same sums give with every term positive: rounding errors are some units of the last place
    of them.
    """

    gain: FloatArray
    bias: FloatArray
    gain_size: FloatArray
    bias_size: FloatArray


class RecurrentClass(NamedTuple):
    """The stationary law (n,) of an irreducible chain, and its system without one state, the anchor."""

    stationary: FloatArray
    anchor: int
    system: System | None

    def bias(self, terms: FloatArray) -> FloatArray:
        """Solution (n, m) of ``(I - P) h = terms``, zero at the anchor."""
        found = np.zeros_like(terms)
        if self.system is not None:
            rest = np.delete(np.arange(terms.shape[0]), self.anchor)
            found[rest] = self.system.solve(terms[rest])
        return found


def solve_class(chain: Chain, with_bias: bool = True) -> RecurrentClass:
    """Stationary law of an irreducible chain: the visits to each state between two visits to an anchor.

    Without subtraction these are accurate in every entry, whichever state the anchor is. Biases are not where the
    anchor is rare, since they measure what happens on the way to it: with ``with_bias`` a likely state takes its place.

    References
    ----------
    Grassmann, Taksar and Heyman (1985), section 2: elimination down to one state is the case without a leak.
    """
    n, chain = chain.shape[0], _small_dense(chain)
    if n == 1:
        return RecurrentClass(np.ones(1), 0, None)
    anchor, visits = _busy_state(chain), np.ones(n)
    for attempt in range(MOST_ROUNDS):
        rest = np.delete(np.arange(n), anchor)
        rows = chain[rest]
        leak, arrivals = _column(rows, anchor), _row(chain, anchor)[rest]
        system = factorised(rows[:, rest], leak, last=attempt > 0)
        if system is None:
            anchor = int(np.argmax(discounted_occupancy(chain, FAR_SIGHTED, np.full(n, 1.0 / n))))
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            visits[rest] = np.nan_to_num(system.solve_transposed(arrivals), nan=np.inf, posinf=np.inf)
        visits[anchor] = 1.0
        likeliest = int(np.argmax(visits))
        likely = visits[likeliest] * RARE_ANCHOR <= 1.0 or not with_bias
        done = likely and not system.saturated if isinstance(system, Elimination) else True
        if done and np.isfinite(visits).all():
            break
        anchor = likeliest
    mu = np.maximum(visits, 0.0)
    return RecurrentClass(mu / mu.max() / (mu / mu.max()).sum(), anchor, system)


def _busy_state(chain: Chain) -> int:
    """A state that many others lead to: likelier than most, at no cost."""
    mu = np.full(chain.shape[0], 1.0 / chain.shape[0])
    for _ in range(8):
        mu = 0.5 * mu + 0.5 * (chain.T @ mu)
    return int(np.argmax(mu))


def _column(rows: Chain, j: int) -> FloatArray:
    return rows[:, [j]].toarray().ravel() if sp.issparse(rows) else rows[:, j].copy()


def _row(chain: Chain, i: int) -> FloatArray:
    return chain[[i]].toarray().ravel() if sp.issparse(chain) else chain[i].copy()


def _small_dense(chain: Chain) -> Chain:
    """A small chain as an array: sparse bookkeeping would cost more than the arithmetic."""
    return chain.toarray() if sp.issparse(chain) and chain.shape[0] <= DENSE_STATES else chain


def _classes(component: IntArray) -> list[IntArray]:
    """Members of each recurrent class."""
    order = np.argsort(component, kind="stable")
    sizes = np.bincount(component[component >= 0], minlength=1)
    return np.split(order[np.count_nonzero(component < 0) :], np.cumsum(sizes)[:-1])


def chain_structure(chain: Chain) -> tuple[IntArray, FloatArray]:
    """Recurrent class of each state (-1 transient), and its probability under its class's stationary law, if any."""
    chain = _small_dense(chain)
    component = recurrent_classes(chain)
    law = np.where(component >= 0, 1.0, 0.0)
    for members in _classes(component):
        if members.size > 1:
            law[members] = solve_class(chain[members][:, members], with_bias=False).stationary
    return component, law


def _mixed(component: IntArray, law: FloatArray, weights: FloatArray) -> FloatArray:
    """The stationary laws of the recurrent classes, in proportion to the weights (S,) of their states."""
    inside = component >= 0
    label = component[inside]
    mass = np.bincount(label, weights=weights[inside])
    mu = np.zeros_like(law)
    mu[inside] = (mass / mass.sum())[label] * law[inside]
    return mu


def stationary(chain: Chain, near: FloatArray | None) -> FloatArray:
    """Stationary distribution of a chain, its recurrent classes weighted by the mass of ``near``."""
    chain = sp.csr_array(chain)
    chain.eliminate_zeros()
    return _mixed(*chain_structure(chain), np.ones(chain.shape[0]) if near is None else near)


def average_occupancy(chain: Chain, mu0: FloatArray) -> FloatArray:
    """Long-run (Cesaro) state distribution of the chain started from ``mu0``."""
    chain = _small_dense(chain)
    component, law = chain_structure(chain)
    ending = np.where(component >= 0, mu0, 0.0)
    outside, inside = np.flatnonzero(component < 0), np.flatnonzero(component >= 0)
    if outside.size and mu0[outside].any():
        visits = _transient_system(chain, outside, inside).solve_transposed(mu0[outside])
        ending[inside] += chain[outside][:, inside].T @ visits
    return _mixed(component, law, ending)


def _transient_system(chain: Chain, outside: IntArray, inside: IntArray) -> System:
    leak = np.asarray(chain[outside][:, inside].sum(axis=1)).ravel()
    system = factorised(chain[outside][:, outside], leak)
    assert system is not None
    return system


def evaluate_average(chain: Chain, reward: FloatArray) -> Evaluation:
    """Gain g (S,) and bias h (S,): ``g = P g``, ``h = reward - g + P h``, h of stationary mean zero in every class.

    References
    ----------
    Puterman (1994), *Markov decision processes*, theorem 8.2.6 and section 9.2.
    """
    chain = _small_dense(chain)
    component = recurrent_classes(chain)
    gain, bias = reward.copy(), np.zeros_like(reward)
    gain_size, bias_size = np.abs(reward), np.zeros_like(reward)
    for members in _classes(component):
        if members.size == 1:
            continue
        found = solve_class(chain[members][:, members])
        mu, own = found.stationary, reward[members]
        above = own - own[found.anchor]  # a large constant in the rewards must not cost their differences
        excess = above - mu @ above
        h, size = found.bias(np.stack([excess, np.abs(excess)], axis=1)).T
        gain[members], gain_size[members] = own[found.anchor] + mu @ above, mu @ np.abs(own)
        bias[members], bias_size[members] = h - mu @ h, size + mu @ size
    outside, inside = np.flatnonzero(component < 0), np.flatnonzero(component >= 0)
    if outside.size:
        system, entering = _transient_system(chain, outside, inside), chain[outside][:, inside]
        gain[outside], gain_size[outside] = system.solve(entering @ np.stack([gain, gain_size], axis=1)[inside]).T
        excess = reward[outside] - gain[outside]
        ahead = entering @ np.stack([bias, bias_size], axis=1)[inside]
        bias[outside], bias_size[outside] = system.solve(ahead + np.stack([excess, np.abs(excess)], axis=1)).T
    return Evaluation(gain, bias, gain_size, bias_size)
