"""Sizes of numbers that tell something from nothing, shared by all that need one.

Their orders of magnitude follow from double precision, whose numbers have 2.2e-16 relative spacing, and from what is
certified, 1e-8 of mass and 1e-6 of the gap: nothing is tuned by them. What a solver or a certificate is tuned by stands
with it.
"""

from __future__ import annotations

import numpy as np

LAST_PLACE = 1e-15
"""Some units of the last place of a number of order one: a difference, or a residual, that is all rounding."""

ULPS = 8 * float(np.finfo(np.float64).eps)
"""The same of a difference of two products, relative to these: below it features or rewards have not differed."""

ROUNDING = 1e-12
"""What a thousand operations leave of rounding, relative to their numbers: ties, singular directions, margins."""

SOLVED = 1e-10
"""What solvers leave of a residual in a problem of size one, and ask of those they call."""

CLOSE = 1e-9
"""Between what solvers leave, 1e-10, and what certificates allow, 1e-8: two readings of an answer that near are one."""

VISIBLE = 1e-6
"""A certificate's gap, as a share: radii and derivatives are not told apart where they differ by less."""

TINY = 1e-290
"""Smallest number that is divided by, or stands for zero in a logarithm: its inverse is still a number."""
