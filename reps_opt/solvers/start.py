"""Where methods on the dual of one ball start: at a quadratic model of it, or at a nearby program's solution.

Shapes: n coordinates, m rows.
"""

from __future__ import annotations

import math

import numpy as np

from reps_opt.divergences.base import Conjugate
from reps_opt.dual_point import DualPoint
from reps_opt.program import Program
from reps_opt.systems.base import NormalEquations
from reps_opt.tolerances import FAR_OUTSIDE, LARGEST_START_SPREAD, LEAST_STARTING_ETA, NEGLIGIBLE_ETA, NEWTON_RTOL
from reps_opt.validation import FloatArray


def quadratic_start(program: Program, equations: NormalEquations) -> DualPoint:
    """Where to start: the quadratic model of the dual around the centre of the ball.

    The multipliers explain as much of the objective's variance as they can, and eta follows from what is left:
    KL is about ``variance / (2 eta^2)``. A reference that misses the constraints counts with ``eta v0`` of its centre.
    """
    if program.hints.warm is not None and (near := _warm_point(program)) is not None:
        return near
    centre = program.hints.centre
    offset = np.zeros(program.rhs.size) if centre is None else centre.multipliers
    base = program.divergence.conjugate(program.net(offset) - program.objective)
    weights = equations.evened(base.weights, 1.0)
    equations.update(weights, ~program.signed, _starting_shift(program, base))
    v = np.zeros(program.rhs.size) if program.hints.start is None else program.hints.start
    v = v + equations.solve(program.times(base.hessian(program.net(v))), NEWTON_RTOL)
    left = program.net(v)
    gentle = float(np.ptp(left)) / LARGEST_START_SPREAD
    if program.epsilon is None:
        assert program.temperature is not None
        eta = max(program.temperature, gentle)
        return program.dual(eta, v + eta * offset)
    deviation = math.sqrt(max(float(left.dot(base.hessian(left))), 0.0))
    room = program.epsilon - (0.0 if centre is None else centre.divergence)
    eta = max(deviation / math.sqrt(2 * room), gentle, LEAST_STARTING_ETA)
    return program.dual(eta, v + eta * offset)


def _warm_point(program: Program) -> DualPoint | None:
    """The nearby solution the program was given, unless it is far outside this program's ball, or its own was slack."""
    assert program.hints.warm is not None
    eta, multipliers = program.hints.warm
    if eta <= NEGLIGIBLE_ETA:
        return None
    if program.epsilon is None:
        assert program.temperature is not None
        eta = max(eta, program.temperature)
    point = program.dual(eta, multipliers)
    return point if program.epsilon is None or point.divergence <= FAR_OUTSIDE * program.epsilon else None


def _starting_shift(program: Program, base: Conjugate) -> FloatArray | None:
    """What the ridge adds to the curvature at the eta of a start without multipliers."""
    if program.ridge is None:
        return None
    deviation = math.sqrt(max(float(program.objective.dot(base.hessian(program.objective))), 0.0))
    return program.ridge * (program.temperature or deviation / math.sqrt(2 * (program.epsilon or 0.5)))
