"""Whether the ball of a program is slack, so that its linear program is all that is left.

Shapes: n coordinates, m rows.
"""

from __future__ import annotations

import math

from reps_opt.dual_point import DualPoint
from reps_opt.hints import Nearest
from reps_opt.program import Program
from reps_opt.tolerances import MOST_ITERATIONS, SOLVED
from reps_opt.validation import FloatArray


def limit_if_slack(program: Program, reached: float) -> Nearest | None:
    """The linear program's answer when it lies inside the ball, of which ``reached`` is used at a small eta."""
    if program.epsilon is None or program.hints.linear_limit is None or reached >= program.epsilon:
        return None
    limit = program.hints.linear_limit()
    return limit if limit.divergence <= program.epsilon else None


def binds(program: Program, point: DualPoint) -> tuple[bool, DualPoint]:
    """Whether the ball surely binds, and the point, or if so a better one that looking for an answer came upon.

    It does where a feasible point without a ball scores more than the dual, which bounds any with. Such a point is
    cheap to find where the multipliers already say which coordinates are good. Otherwise the linear program's
    multipliers are asked for: as eta vanishes the dual's own tend to them, so that they are a place to go on from.
    """
    hints = program.hints
    if hints.attained is None or hints.optimum is None:
        return False, point
    if hints.attained(program.objective, point.net) > point.value + SOLVED:
        return True, point
    optimum = hints.optimum()
    near = _with_eta(program, optimum, point.eta)
    best = near if near is not None and near.value < point.value else point
    surely = program.bound(0.0, optimum) > best.value + SOLVED
    return surely, best if surely else point


def _with_eta(program: Program, multipliers: FloatArray, eta: float) -> DualPoint | None:
    """The dual's least point over eta alone, no further from ``eta`` than twenty decades: the ball then binds there."""
    assert program.epsilon is not None
    low, high = math.log(eta) - 20 * math.log(10.0), math.log(eta)
    if program.dual(math.exp(low), multipliers).divergence <= program.epsilon:
        return None
    for _ in range(MOST_ITERATIONS):
        middle = (low + high) / 2
        found = program.dual(math.exp(middle), multipliers)
        if abs(found.divergence - program.epsilon) <= 0.1 * program.epsilon:
            return found
        low, high = (middle, high) if found.divergence > program.epsilon else (low, middle)
    return found
