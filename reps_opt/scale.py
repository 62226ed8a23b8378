"""Units in which the ordinary coefficients of an objective are of order one, whatever an outlier costs."""

from __future__ import annotations

import numpy as np

from reps_opt.tolerances import COEFFICIENTS_SAMPLED, EXTREME_RANGE
from reps_opt.validation import FloatArray
from reps_opt.values import frozen


@frozen()
class Scale:
    """The objective in other units: ``original = shift + factor * normalised``."""

    shift: float
    factor: float

    def original(self, normalised: float) -> float:
        """A value in the original units."""
        return self.shift + self.factor * normalised


def ordinary_scale(c: FloatArray, extent: float | None = None) -> Scale | None:
    """Median of the coefficients and lower quartile of their distances from it; None where their range will do."""
    extent = float(np.ptp(c)) if extent is None else extent
    some = _spread(c[:: max(1, c.size // COEFFICIENTS_SAMPLED)]) if c.size > COEFFICIENTS_SAMPLED else None
    scale = some if some is not None and some.factor > EXTREME_RANGE * extent else _spread(c)
    return scale if scale is not None and scale.factor <= EXTREME_RANGE * extent else None


def _spread(c: FloatArray) -> Scale | None:
    middle = float(np.partition(c, c.size // 2)[c.size // 2])
    apart = usual_distance(c, middle)
    return Scale(middle, apart) if apart > 0 else None


def usual_distance(c: FloatArray, middle: float) -> float:
    """Lower quartile of how far those coefficients are from the middle that differ from it; zero if none does.

    Neither a single coefficient nor half of them can move it by what they cost.
    """
    apart = np.abs(c - middle)
    apart = apart[apart > 0]
    return float(np.partition(apart, apart.size // 4)[apart.size // 4]) if apart.size else 0.0
