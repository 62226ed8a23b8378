r"""Newton's method on the dual of a relative entropy at a price, on dense arrays: for thousands of small steps.

.. math::
    \min_u\; g(u) = b'u + \log \sum_i q_i\, e^{y_i - (A'u)_i}, \qquad y = c / t, \qquad
    \nabla g = b - A x, \qquad \nabla^2 g = A\,\mathrm{diag}(x)\,A' \text{ up to the gauge}

is the dual of ``max <x, c> - t KL(x || q)`` over the simplex and rows ``A x = b`` that imply its mass; ``v = t u``.

Shapes: n coordinates, m rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dposv

from reps_opt.divergences.base import KL
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer
from reps_opt.tolerances import (
    DUAL_NOISE,
    HUGE,
    LARGEST_TRAVEL,
    LAST_PLACE,
    PENALTY_CONVERGED,
    PENALTY_LAST_STEP,
    PENALTY_QUADRATIC,
    SHORTEST_STEP,
    SUFFICIENT_DECREASE,
    TINY,
)
from reps_opt.validation import FloatArray, UnsuitableError
from reps_opt.vectors import largest, least, one_norm


class _Point(NamedTuple):
    u: FloatArray
    exponent: FloatArray
    value: float
    log_partition: float
    x: FloatArray


@dataclass(frozen=True)
class DensePenalty:
    """The route of a small step in penalty form, as :meth:`reps_opt.ORePS.step` makes thousands of them.

    Parameters
    ----------
    max_iterations
        Newton steps before the last point is returned.
    """

    max_iterations: int = 200

    def solve(self, program: Program) -> Answer:
        """Minimise the dual of a program, whatever the unit of its objective."""
        price = program.temperature
        if price is None or not isinstance(program.divergence, KL) or not program.simplex:
            raise UnsuitableError("DensePenalty solves KL in penalty form on the simplex: use Newton")
        if not program.hints.mass_implied or program.inequalities or program.ridge is not None:
            raise UnsuitableError("DensePenalty needs equality rows that imply the mass: use Newton")
        start = program.hints.start
        search = _Search(program, price)
        point, iterations = search.run(None if start is None else start / price, self.max_iterations)
        return Answer(price, price * point.u, None, "", {"iterations": iterations})


class _Search:
    def __init__(self, program: Program, price: float) -> None:
        divergence = program.divergence
        assert isinstance(divergence, KL)
        self.rows = program.matrix.toarray() if program.table is None else program.table
        self.rhs = program.rhs
        self.base = divergence.log_reference + program.objective / price

    def run(self, start: FloatArray | None, max_iterations: int) -> tuple[_Point, int]:
        """Newton steps until none is left worth taking."""
        u = np.zeros(self.rhs.size) if start is None else start
        point = self._at(u, self.base if start is None else self.base - u.dot(self.rows))
        last = math.inf
        for iterations in range(max_iterations):
            residual = self.rhs - self.rows.dot(point.x)
            step = -self._solve(point.x, residual)
            decrement = -float(residual.dot(step))
            if decrement <= PENALTY_CONVERGED or last / 4 < decrement <= PENALTY_QUADRATIC:  # converged, or rounding
                break
            last = decrement
            moved = self._line_search(point, step, decrement)
            if moved is None:
                break
            point = moved
            if decrement <= PENALTY_LAST_STEP:
                break
        return point, iterations

    def _at(self, u: FloatArray, exponent: FloatArray) -> _Point:
        top = largest(exponent)
        x = np.exp(exponent - top)
        total = one_norm(x)
        log_partition = top + math.log(total)
        return _Point(u, exponent, float(self.rhs.dot(u)) + log_partition, log_partition, x / total)

    def _solve(self, x: FloatArray, residual: FloatArray) -> FloatArray:
        """Solution of ``A diag(x) A' d = residual``; with a ridge at rounding level where masses have vanished."""
        hessian = (self.rows * x).dot(self.rows.T)
        diagonal = hessian.diagonal()
        if least(diagonal) > 1 / HUGE:
            solution, failed = dposv(hessian.T, residual)[1:]  # symmetric: the transpose is in LAPACK's order
            if not failed:
                return np.asarray(solution)
        scale = 1.0 / np.sqrt(np.where(diagonal > TINY, diagonal, 1.0))
        scaled = hessian * scale * scale[:, None] + LAST_PLACE * np.eye(scale.size)
        return scale * np.linalg.solve(scaled, scale * residual)

    def _line_search(self, point: _Point, step: FloatArray, decrement: float) -> _Point | None:
        """Halve the step until the dual falls enough and x does not travel too far."""
        noise = DUAL_NOISE * (1.0 + abs(point.value))
        moving = step.dot(self.rows)
        alpha = 1.0
        while alpha > SHORTEST_STEP:
            trial = self._at(point.u + step, point.exponent - moving)
            falls = trial.value <= point.value - SUFFICIENT_DECREASE * alpha * decrement + noise
            shift = point.log_partition - trial.log_partition
            if falls and shift - float(trial.x.dot(moving)) <= LARGEST_TRAVEL:  # KL(x_trial || x_point)
                return trial
            alpha, step, moving = alpha / 2, step / 2, moving / 2
        return None
