"""From a point outside a convex set to one inside it, along a segment: how an answer that misses its ball is mended."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import scipy

from reps_opt.tolerances import NEAR_START, ROUNDED, ROUNDING, TINY_SHARE
from reps_opt.validation import FloatArray


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

    @lru_cache(maxsize=2)
    def mixed(share: float) -> FloatArray:
        if share in (0, 1):
            return anchor if share else point
        x = (1 - share) * point + share * anchor
        x.flags.writeable = False  # what divergences remember of an array, they remember if nobody can change it
        return x

    def beyond(share: float) -> float:
        return excess(mixed(share))

    outside = beyond(0.0)
    if outside <= 0:
        return point
    spare = -beyond(1.0)
    if spare <= 0:
        return anchor
    if outside <= TINY_SHARE * spare and (near := _by_chords(beyond, outside, spare)):
        return mixed(near)
    start = 0.0
    if not math.isfinite(outside):
        start = NEAR_START
        if beyond(start) <= 0:
            return mixed(start)
    share = float(scipy.optimize.brentq(beyond, start, 1.0, xtol=NEAR_START, rtol=ROUNDED))
    while beyond(share) > 0 and share < 1:
        share = min(1.0, share * (1 + ROUNDING) + NEAR_START)
    return mixed(share)


def _by_chords(beyond: Callable[[float], float], outside: float, spare: float) -> float:
    """A share that is inside, or zero where rounding hides it: a chord of a convex function falls to zero inside."""
    first = outside / (outside + spare)
    found = beyond(first)
    if found > 0:
        return 0.0
    second = first * outside / (outside - found)
    return second if beyond(second) <= 0 else first
