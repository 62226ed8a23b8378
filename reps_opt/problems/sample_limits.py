"""The eta -> 0 limit of a sample problem: the best weights, and of those the nearest to the base.

Shapes: n samples, m features; weights (n,), multipliers (m,); a working set holds k of the samples.
"""

from __future__ import annotations

import numpy as np
import scipy

from reps_opt.constraints import Equal
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL
from reps_opt.hints import Nearest
from reps_opt.processes.graph import BoolArray, IntArray
from reps_opt.program import Program
from reps_opt.rows import ArrayRows, spectrum
from reps_opt.solvers.linear import EXACT_LP, can_have_mass
from reps_opt.solvers.newton import Newton
from reps_opt.tolerances import CLOSE, CUBED, LEAST_ALIVE, MOST_ITERATIONS, ROUNDING, SOLVED
from reps_opt.validation import FloatArray


def best_weights(program: Program) -> Nearest:
    """Linear program over the weights that match the features, and the point of its optimal face nearest the base.

    Without features: the tied maxima, weighted as the base weighs them. With features: HiGHS, then a projection.
    An infeasible linear program gives a divergence of infinity. Softened rows make it a quadratic program.
    """
    scaled, scale = program.normalised()
    v, matched = np.zeros(scaled.rhs.size), scaled.rhs
    if scaled.ridge is not None:
        v = _softened(scaled)
        matched = scaled.rhs + scaled.ridge * v
    elif v.size:
        stacked = np.vstack([scaled.transpose.array.T, np.ones(scaled.n)])
        gain = np.clip(scaled.objective, -1 / CLOSE, 1 / CLOSE)  # a penalty beyond is not paid
        result = scipy.optimize.linprog(
            -gain, A_eq=stacked, b_eq=np.append(scaled.rhs, 1.0), method="highs", options=EXACT_LP
        )
        if result.x is None:
            return Nearest(program.divergence.reference, v, np.inf)
        v = -result.eqlin.marginals[:-1]
    net = scaled.net(v)
    point = _nearest(scaled, net >= net.max() - CLOSE, matched)
    return Nearest(point, scale.factor * v, program.divergence.value(point))


def _softened(program: Program) -> FloatArray:
    """Optimal multipliers v where a mismatch of the features costs ``|A w|^2 / (2 ridge)``: ``ridge v = A w``.

    Few samples have weight at the optimum. A conic solver sees a working set, and those join it whose reduced reward
    ``c - A'v`` is larger than any in it, until there is none.
    """
    size = 2 * program.rhs.size + 8
    working = np.argsort(-program.objective, kind="stable")[:size]
    v = np.zeros(program.rhs.size)
    for _ in range(MOST_ITERATIONS):
        v = _over(program, working)
        net = program.net(v)
        beyond = net - net[working].max() - CLOSE
        beyond[working] = -np.inf
        joining = np.argsort(-beyond, kind="stable")[:size]
        joining = joining[beyond[joining] > 0]
        if not joining.size:
            break
        working = np.append(working, joining)
    return v


def _over(program: Program, working: IntArray) -> FloatArray:
    """Optimal multipliers over a working set (k,): a conic solver's, put right on the samples that it gives weight."""
    from reps_opt.solvers.cvxpy_conic import CvxpyPrimal

    assert program.ridge is not None
    rows, c = program.transpose.take(working), program.objective[working]
    even = KL(np.full(working.size, 1 / working.size))
    small = Program(
        c, {"features": Equal(ArrayRows(rows).T, program.rhs)}, Ball(even, radius=np.inf), ridge=program.ridge
    )
    answer = CvxpyPrimal().solve(small)
    if answer.point is None:
        raise RuntimeError(answer.message)
    weights = np.maximum(answer.point, 0.0)
    v = (weights @ rows / weights.sum() - program.rhs) / program.ridge
    alive = np.flatnonzero(weights > LEAST_ALIVE)
    if alive.size > CUBED:
        return v
    # stationarity c - A'v = level on the samples alive, A w - ridge v = b, sum w = 1
    a, k, m = rows[alive], alive.size, v.size
    system = np.block(
        [
            [np.zeros((k, k)), a, np.ones((k, 1))],
            [a.T, -np.diag(program.ridge), np.zeros((m, 1))],
            [np.ones((1, k)), np.zeros((1, m + 1))],
        ]
    )
    exact = np.linalg.lstsq(system, np.concatenate([c[alive], program.rhs, [1.0]]), rcond=None)[0][k : k + m]
    return min((v, exact), key=lambda u: float((c - rows @ u).max() + program.rhs @ u + program.ridge @ u**2 / 2))


def _nearest(program: Program, tight: BoolArray, matched: FloatArray) -> FloatArray:
    """Weights (n,) on the tight samples (n,) only whose features come to ``matched`` (m,), nearest to the base."""
    kept = np.flatnonzero(tight)
    weights = _projected(program, kept, matched)
    if program.rhs.size and np.abs(weights @ program.transpose.take(kept) - matched).sum() > SOLVED:
        # some can have no weight at all, and would have the projection's dual grow for ever
        kept = kept[can_have_mass(program.transpose.take(kept), matched)]
        weights = _projected(program, kept, matched)
    point = np.zeros(program.n)
    point[kept] = weights
    return point


def _projected(program: Program, kept: IntArray, matched: FloatArray) -> FloatArray:
    """Weights (k,) on the samples kept that are nearest to the base and match the features, or nearly."""
    reference = program.divergence.reference[kept]
    reference = reference / reference.sum()
    if not program.rhs.size:
        return reference
    rows = ArrayRows(program.transpose.take(kept))
    singular, directions = spectrum(rows.triangle())
    alive = singular > ROUNDING * singular[0]
    white = directions[:, alive] / singular[alive] * np.sqrt(kept.size)
    blocks = {"features": Equal(rows.combined(white).T, matched @ white)} if alive.any() else {}
    answer = Newton().project(Program(np.zeros(kept.size), blocks, Ball(KL(reference), price=1.0)))
    assert answer.point is not None
    return answer.point
