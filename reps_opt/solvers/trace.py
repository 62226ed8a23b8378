"""What a solver did, one row an iteration: kept for the statistics, and printed as it grows where somebody watches.

Solvers see an objective of range one; who asked reads the units of the problem.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from reps_opt.scale import Scale

T = TypeVar("T")

VALUES = frozenset({"dual", "objective"})
"""Columns in the units of the objective."""

PRICES = frozenset({"eta", "largest_eta", "barrier", "decrement", "bellman_error"})
"""Columns that scale with the objective, and do not move with its shift."""

SHOWN_EVERY = 25
"""Iterations of a first-order method from one printed line to the next."""

_units: ContextVar[Scale | None] = ContextVar("units of a trace", default=None)


def in_units(scale: Scale, work: Callable[..., T], *arguments: Any) -> T:
    """What some work returns, its traces in the units that ``scale`` leads back to."""
    token = _units.set(scale)
    try:
        return work(*arguments)
    finally:
        _units.reset(token)


class Trace(list[dict[str, float]]):
    """Rows of numbers by column, the iteration counted from zero.

    Parameters
    ----------
    verbose
        Print every row when it is added, under a header at first.
    every
        Print only every so many rows: first-order methods take thousands.

    Notes
    -----
    Inside :func:`in_units` the columns of :data:`VALUES` and :data:`PRICES` are turned into the problem's units.

    Examples
    --------
    >>> from reps_opt.solvers.trace import Trace
    >>> trace = Trace(verbose=True)
    >>> for eta in (1.0, 0.5):
    ...     trace.add(eta=eta, residual=eta**8)
      it            eta       residual
       0   1.000000e+00   1.000000e+00
       1   5.000000e-01   3.906250e-03
    >>> len(trace)
    2
    """

    def __init__(self, verbose: bool = False, every: int = 1) -> None:
        super().__init__()
        self.verbose = verbose
        self.every = every
        self._scale = _units.get()

    def add(self, **row: float) -> None:
        """Append a row, and print it where it is its turn."""
        if (scale := self._scale) is not None:
            for name, number in row.items():
                if name in PRICES:
                    row[name] = scale.factor * number
                elif name in VALUES:
                    row[name] = scale.original(number)
        if self.verbose and not self:
            print("  it" + "".join(f"{name:>15}" for name in row))
        if self.verbose and len(self) % self.every == 0:
            print(f"{len(self):4d}" + "".join(f"{value:15.6e}" for value in row.values()), flush=True)
        self.append(row)
