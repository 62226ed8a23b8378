"""Routes in other units, for programs whose coefficients are out of all proportion to each other.

A program in units of its ordinary coefficients has a penalty of -1e10 beside them, and a line search that starts far
from the optimum sees nothing else; one that takes a coefficient of 1e10 has optimal multipliers of that size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reps_opt.program import Program
from reps_opt.solvers.answer import Answer


@dataclass(frozen=True)
class Clipped:
    """Solve the program with no coefficient below ``-least``: the same where nothing is taken that costs as much."""

    inner: Any
    least: float

    def solve(self, program: Program) -> Answer:
        """The inner route's answer to the clipped program."""
        objective, hints = np.maximum(program.objective, -self.least), replace(program.hints, start=None)
        answer: Answer = self.inner.solve(replace(program, objective=objective, hints=hints))
        return answer


@dataclass(frozen=True)
class InRange:
    """Solve the program in units of the range of all its coefficients."""

    inner: Any

    def solve(self, program: Program) -> Answer:
        """The inner route's answer, its multipliers put back."""
        unit = float(np.ptp(program.objective))
        answer: Answer = self.inner.solve(program.in_units_of(unit))
        return answer.unscaled(unit)
