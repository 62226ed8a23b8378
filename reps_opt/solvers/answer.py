"""What a solver hands back: the best point it found, before anything is certified."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field, replace
from decimal import Decimal
from typing import Any, Protocol

import numpy as np

from reps_opt.decimals import Numbers
from reps_opt.program import Program
from reps_opt.validation import FloatArray, as_count, as_scalar
from reps_opt.values import frozen


@frozen()
class Answer:
    """A candidate for a :class:`~reps_opt.program.Program`.

    Attributes
    ----------
    eta : float or (k,) array
        Multiplier of the ball, 0 where it is slack, infinite where the ball holds a single point; one a ball where
        there are several.
    multipliers : (m,) array or None
        Multipliers of the rows, None when the solver has none to offer.
    point : (n,) array or None
        Primal candidate; None where it is no other than the dual's maximiser, or the solver failed.
    message : str
        What the solver says, in its own words. It decides nothing.
    stats : mapping
        Iterations, factorisations, and what else a reader may want to know.
    digits : tuple or None
        Eta and multipliers, that of the mass last, as decimal numbers where floats would lose what decides.
    """

    eta: Any
    multipliers: FloatArray | None
    point: FloatArray | None
    message: str = ""
    stats: Mapping[str, Any] = field(default_factory=dict)
    digits: tuple[Decimal, Numbers] | None = None

    def unscaled(self, unit: float) -> Answer:
        """The answer to a program whose objective had been divided by ``unit``."""
        v = self.multipliers
        return replace(self, eta=self.eta * unit, multipliers=None if v is None else v * unit)

    def bound(self, program: Program) -> float:
        """The dual bound at its eta and multipliers; infinite without any."""
        return math.inf if self.multipliers is None else program.bound(self.eta, self.multipliers)


def etas_of(program: Program, found: Mapping[str, Any]) -> Any:
    """Eta of each ball by what was found under its name: a number, or (k,) where there are several.

    It is zero where nothing was found, as the radius is infinite, and the price of a ball that has one.
    """
    given = [found.get(ball.name) for ball in program.balls]
    known = [0.0 if eta is None else max(float(np.squeeze(eta)), 0.0) for eta in given]
    etas = [ball.price or eta for ball, eta in zip(program.balls, known, strict=True)]
    return np.array(etas) if len(etas) > 1 else etas[0] if etas else 0.0


class Solver(Protocol):
    """Settings, and a ``solve`` that keeps nothing between calls."""

    def solve(self, program: Program) -> Answer:
        """Solve a program whose objective is normalised to range one."""
        ...


class Iterative:
    """Settings that iterative solvers have in common, checked when they are made."""

    tolerance: float
    max_iterations: int

    def __post_init__(self) -> None:
        as_scalar(self.tolerance, "tolerance", low=0.0, low_open=True)
        as_count(self.max_iterations, "max_iterations")
