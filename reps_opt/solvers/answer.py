"""What a solver hands back: the best point it found, before anything is certified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from reps_opt.program import Program
from reps_opt.validation import FloatArray


@dataclass(frozen=True)
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
    """

    eta: Any
    multipliers: FloatArray | None
    point: FloatArray | None
    message: str = ""
    stats: Mapping[str, Any] = field(default_factory=dict)

    def unscaled(self, unit: float) -> Answer:
        """The answer to a program whose objective had been divided by ``unit``."""
        v = self.multipliers
        return replace(self, eta=self.eta * unit, multipliers=None if v is None else v * unit)


class Solver(Protocol):
    """Settings, and a ``solve`` that keeps nothing between calls."""

    def solve(self, program: Program) -> Answer:
        """Solve a program whose objective is normalised to range one."""
        ...
