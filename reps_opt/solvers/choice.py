"""What to do with a program of which nothing is known but its data: a route, a projection, a linear program.

Shapes: n coordinates, m rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from reps_opt.constraints import Equal
from reps_opt.decimal_dual import Dual
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL, Quadratic
from reps_opt.hints import Nearest
from reps_opt.program import Program
from reps_opt.scale import ordinary_scale
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.decimal_newton import DecimalNewton
from reps_opt.solvers.eta_search import EtaSearch
from reps_opt.solvers.linear import can_have_mass, highs_limit
from reps_opt.solvers.newton import Newton
from reps_opt.solvers.quadratic import Quadratic as QuadraticRoute
from reps_opt.systems.choice import normal_equations
from reps_opt.tolerances import (
    CLIPPED,
    CONIC_COORDINATES,
    CONIC_ENTRIES,
    DECIMAL_COORDINATES,
    DECIMAL_PRODUCTS,
    DENSE_ROWS,
    REPAIRABLE,
    VISIBLE,
)
from reps_opt.validation import FloatArray


def default_solver(program: Program) -> Solver:
    """Newton where the dual is smooth, one dimension where it has no rows, and a conic solver for what is left."""
    if not program.simplex and isinstance(program.divergence, Quadratic):
        return QuadraticRoute()
    several = len(program.balls) > 1
    kl = all(isinstance(ball.divergence, KL) for ball in program.balls)
    smooth = all(ball.divergence.smooth for ball in program.balls)
    if not program.simplex or not smooth or (several and not kl):
        from reps_opt.solvers.cvxpy_conic import CvxpyPrimal

        return CvxpyPrimal()
    if kl and not several and program.balls and not program.rhs.size:
        return EtaSearch()
    return Newton()


@dataclass(frozen=True)
class Clipped:
    """Solve the program with no coefficient below ``-least``: the same where nothing is taken that costs as much.

    In units of its ordinary coefficients a penalty of -1e10 stands beside them, and a line search that starts far from
    the optimum sees nothing else.
    """

    inner: Solver
    least: float

    def solve(self, program: Program) -> Answer:
        """The inner route's answer to the clipped program."""
        objective, hints = np.maximum(program.objective, -self.least), replace(program.hints, start=None)
        return self.inner.solve(replace(program, objective=objective, hints=hints))


@dataclass(frozen=True)
class InRange:
    """Solve the program in units of all its coefficients: where one of 1e10 is taken, multipliers are of that size."""

    inner: Solver

    def solve(self, program: Program) -> Answer:
        """The inner route's answer, its multipliers put back."""
        unit = float(np.ptp(program.objective))
        return self.inner.solve(program.in_units_of(unit)).unscaled(unit)


def second_solvers(program: Program, first: Solver, answer: Answer | None) -> Iterator[Solver]:
    """The default route in other units, where coefficients are out of proportion; then, where the program is small
    enough for that to be quick, both sides by a conic solver, and the answer refined with more digits."""
    outliers = program.simplex and ordinary_scale(program.objective) is not None
    if outliers:
        yield from (Clipped(first, reach) for reach in CLIPPED)
        yield InRange(first)
    if not program.simplex or program.n > CONIC_COORDINATES or program.n * program.rhs.size > CONIC_ENTRIES:
        return
    from reps_opt.solvers.cvxpy_conic import CvxpyDual, CvxpyPrimal

    yield CvxpyPrimal()
    yield CvxpyDual()
    if outliers:
        yield InRange(CvxpyPrimal())
    if _few(program):
        yield DecimalNewton(answer)


def _few(program: Program) -> bool:
    """Whether decimal numbers are quick enough for a program, and know what to do with it."""
    few = program.n <= DECIMAL_COORDINATES and program.n * program.rhs.size**2 <= DECIMAL_PRODUCTS
    return few and Dual.takes(program)


def with_more_digits(program: Program, answer: Answer) -> Answer:
    """An answer refined in decimal numbers; as it is where the program is not small, or the search breaks off."""
    if not _few(program):
        return answer
    try:
        return DecimalNewton(answer).solve(program)
    except (ArithmeticError, ValueError):
        return answer


def project(program: Program) -> Nearest:
    """The point of the rows closest to the reference; of divergence infinity where the rows hold no point."""
    reference = program.divergence.reference
    none = Nearest(reference, np.zeros(program.rhs.size), math.inf)
    flat = program.flat()
    if not program.simplex or not program.divergence.smooth:
        from reps_opt.solvers.cvxpy_conic import CvxpyPrimal

        answer = CvxpyPrimal().solve(flat)
    else:
        answer = Newton().solve(flat)
    if answer.point is None or answer.multipliers is None:
        return none
    v = answer.multipliers
    if program.least_divergence(v) > program.divergence.largest or program.violation(answer.point) > VISIBLE:
        return _on_a_face(program) or none
    return Nearest(answer.point, v, max(program.divergence.value(answer.point), 0.0))


def _on_a_face(program: Program) -> Nearest | None:
    """The projection in KL where every point of the rows has zeros in common, so that the dual grows for ever.

    It is that over the coordinates which can have mass, from a linear program; None where all can, or no point is.
    """
    divergence, m = program.divergence, program.rhs.size
    if not isinstance(divergence, KL) or program.inequalities or not 0 < program.n * m <= CONIC_ENTRIES:
        return None
    rows = program.dense_rows
    kept = np.flatnonzero(can_have_mass(rows.T, program.rhs))
    if kept.size == program.n:
        return None
    ball = Ball(KL(divergence.reference[kept], divergence.log_reference[kept]), price=1.0)
    answer = Newton().solve(Program(np.zeros(kept.size), {"rows": Equal(rows[:, kept], program.rhs)}, ball))
    point = np.zeros(program.n)
    point[kept] = 0.0 if answer.point is None else answer.point
    return Nearest(point, np.zeros(m), divergence.value(point)) if program.violation(point) <= VISIBLE else None


def onto_rows(program: Program, x: FloatArray) -> FloatArray:
    """A point (n,) of the simplex that nearly satisfies the rows, moved onto them in the metric of its own masses.

    A conic solver leaves 1e-8 in every row; one Newton step of the projection squares that.
    """
    missed = program.missed(x)
    size = float(np.abs(missed).sum())
    if not REPAIRABLE[0] < size < REPAIRABLE[1] or program.rhs.size > DENSE_ROWS or not sp.issparse(program.matrix):
        return x
    equations = normal_equations(program, "dense")
    equations.update(x, ~program.signed | (missed < 0))
    pulled = program.transpose @ equations.solve(missed)
    return np.maximum(x + x * (pulled - float(x @ pulled) / float(x.sum())), 0.0)


def linear_limit(program: Program) -> Nearest:
    """A vertex of the linear program's optimal face, by HiGHS; of divergence infinity where it finds none."""
    limit = highs_limit(program)
    if limit is not None:
        return limit
    return Nearest(program.divergence.reference, np.zeros(program.rhs.size), math.inf)
