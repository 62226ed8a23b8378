"""From a point outside a convex set to one inside it, along a segment: how an answer that misses its ball is mended."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.optimize import brentq

from reps_opt.validation import FloatArray

NEAR = 1e-16
"""Where the search starts if the excess of the point itself is infinite: a divergence where something is zero."""


def first_inside(excess: Callable[[FloatArray], float], point: FloatArray, anchor: FloatArray) -> FloatArray:
    """The point where ``excess(point) <= 0``; else the first of its segment to the anchor where that holds.

    Parameters
    ----------
    excess
        Convex, at most zero inside the set. It is at most zero exactly, not to rounding, at what is returned, unless
        the anchor itself has none to spare.
    point, anchor
        Arrays of any one shape.

    Returns
    -------
    array
        The anchor where not even that is inside.

    Examples
    --------
    >>> import numpy as np
    >>> first_inside(lambda x: float(x @ x) - 1.0, np.array([2.0, 0.0]), np.zeros(2))
    array([1., 0.])
    """

    def mixed(share: float) -> FloatArray:
        return point if share == 0 else (1 - share) * point + share * anchor

    def beyond(share: float) -> float:
        return excess(mixed(share))

    outside = beyond(0.0)
    if outside <= 0:
        return point
    if beyond(1.0) >= 0:
        return anchor
    start = 0.0
    if not math.isfinite(outside):
        start = NEAR
        if beyond(start) <= 0:
            return mixed(start)
    share = float(brentq(beyond, start, 1.0, xtol=1e-16, rtol=1e-14))
    while beyond(share) > 0 and share < 1:
        share = min(1.0, share * (1 + 1e-12) + 1e-16)
    return mixed(share)
