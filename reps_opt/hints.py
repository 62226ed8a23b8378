"""What a problem knows of its program beyond the data: it may save work, and decides no answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from reps_opt.processes.graph import IntArray
from reps_opt.validation import FloatArray
from reps_opt.values import altered, frozen


@frozen(eq=False)
class Nearest:
    """The point of a set that is closest to the reference, in divergence.

    The set is that of the rows' points, and the point the program's centre; or the optimal face of the linear program,
    and the point the limit of the answers as eta vanishes.

    Attributes
    ----------
    point : (n,) array
        The reference itself where it lies in the set.
    multipliers : (m,) array
        Of the centre v0 with ``point = grad D*(-A'v0)``, zero for the reference itself; of the limit, optimal
        multipliers of the linear program.
    divergence : float
        D(point): the smallest radius for which the program is feasible, or at which its ball is slack.
    """

    point: FloatArray
    multipliers: FloatArray
    divergence: float


@dataclass(frozen=True, eq=False)
class Hints:
    """What a problem knows of its program beyond the data: it may save work, and decides no answer.

    Attributes
    ----------
    grounds
        Rows whose multiplier can be fixed at zero, one for each combination of rows that vanishes identically.
    mass_implied
        Whether some combination of the rows already says ``sum x = 1``.
    linear_limit
        Computes the :class:`Nearest` of this program, in its own units.
    centre
        The :class:`Nearest`; None when the reference satisfies the constraints.
    variable
        What x is called where a reader sees it.
    start
        Multipliers (m,) to start from, sensible in rows without mass too: for a flow, the reference policy's value.
    warm
        Eta and multipliers (m,) of a nearby program's solution, to start from instead.
    inside
        Computes a point (n,) on the rows and inside the balls, for methods that start there.
    attained
        Given the objective (n,) and preferences (n,), computes the score of a feasible point that takes what is
        preferred: a lower bound on the linear program's optimum, much cheaper than ``linear_limit``.
    optimum
        Computes the multipliers (m,) of that limit, where they cost less than its point.
    """

    grounds: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    mass_implied: bool = False
    linear_limit: Callable[[], Nearest] | None = None
    centre: Nearest | None = None
    variable: str = "x"
    start: FloatArray | None = None
    warm: tuple[float, FloatArray] | None = None
    inside: Callable[[], FloatArray | None] | None = None
    attained: Callable[[FloatArray, FloatArray], float] | None = None
    optimum: Callable[[], FloatArray] | None = None

    def in_units_of(self, unit: float) -> Hints:
        """The same for a program whose objective has been divided by ``unit``."""
        if self is NO_HINTS:
            return self
        limit, optimum = self.linear_limit, self.optimum
        return altered(
            self,
            optimum=None if optimum is None else lambda: optimum() / unit,
            linear_limit=None if limit is None else lambda: _scaled_limit(limit(), unit),
            start=None if self.start is None else self.start / unit,
            warm=None if self.warm is None else (self.warm[0] / unit, self.warm[1] / unit),
        )


NO_HINTS = Hints()


def _scaled_limit(limit: Nearest, factor: float) -> Nearest:
    return altered(limit, multipliers=limit.multipliers / factor)
