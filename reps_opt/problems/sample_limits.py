"""The eta -> 0 limit of a sample problem: the best weights, whatever their divergence.

Shapes: n samples, m features; weights (n,), multipliers (m,).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import linprog

from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL
from reps_opt.program import Equal, LinearLimit, Program
from reps_opt.rows import ArrayRows
from reps_opt.solvers.newton import Newton
from reps_opt.validation import FloatArray

TIGHT = 1e-9
"""Reduced cost, in reward ranges, up to which a sample counts as one of the best."""


def best_weights(program: Program) -> LinearLimit:
    """Linear program over the weights that match the features, and the point of its optimal face nearest the base.

    Without features: the tied maxima, weighted as the base weighs them. With features: HiGHS, then a projection.
    An infeasible linear program gives a divergence of infinity. Softened rows make it a quadratic program.
    """
    if program.ridge is not None:
        return _softened(program)
    c = program.objective
    unit = float(np.ptp(c)) or 1.0
    v = np.zeros(program.rhs.size)
    if v.size:
        rows = program.transpose.array
        stacked = np.vstack([rows.T, np.ones(c.size)])
        result = linprog(-(c - c.max()) / unit, A_eq=stacked, b_eq=np.append(np.zeros(v.size), 1.0), method="highs")
        if result.x is None:
            return LinearLimit(program.divergence.reference, v, np.inf)
        v = -unit * result.eqlin.marginals[:-1]
    slack = program.slack(v)
    point = _nearest(program, slack >= slack.max() - TIGHT * unit)
    return LinearLimit(point, v, program.divergence.value(point))


def _softened(program: Program) -> LinearLimit:
    """The best weights where a mismatch of the features costs ``(A w)^2 / (2 ridge)``, by the conic solver."""
    from reps_opt.solvers.cvxpy_conic import CvxpyPrimal

    scaled, scale = program.normalised()
    assert scaled.ridge is not None
    answer = CvxpyPrimal().solve(replace(scaled, balls=(replace(scaled.ball, radius=np.inf),)))
    if answer.point is None:
        raise RuntimeError(answer.message)
    point = np.maximum(answer.point, 0.0)
    point /= point.sum()
    v = -scale.factor * scaled.residual(point) / scaled.ridge
    return LinearLimit(point, v, program.divergence.value(point))


def _nearest(program: Program, tight: np.ndarray) -> FloatArray:
    """Weights (n,) on the tight samples (n,) only that match the features, nearest to the base."""
    reference = program.divergence.reference
    point = np.where(tight, reference, 0.0)
    point /= point.sum()
    if program.rhs.size:
        kept = np.flatnonzero(tight)
        face = ArrayRows(program.transpose.take(kept))
        rows = {"features": Equal(face.T, np.zeros(program.rhs.size))}
        on_face = Program(np.zeros(kept.size), rows, Ball(KL(point[kept]), price=1.0))
        answer = Newton().project(on_face)
        assert answer.point is not None
        point[kept] = answer.point
    return point
