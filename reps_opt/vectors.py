"""Reductions of vectors by BLAS's routines as they are: of a hundred numbers NumPy's own take two to ten times as long.

Shapes: x and y are (n,) float64. BLAS looks at nothing: y must be as long as x.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.blas import dasum, ddot, idamax

from reps_opt.tolerances import ALIGNED_SUM
from reps_opt.validation import FloatArray


def one_norm(x: FloatArray) -> float:
    """Sum of magnitudes: the sum itself where nothing is negative.

    Examples
    --------
    >>> one_norm(np.array([1.0, -2.0])), one_norm(np.zeros(0))
    (3.0, 0.0)
    """
    return dasum(x) if 0 < x.size < ALIGNED_SUM else float(np.add.reduce(np.abs(x)))


def inner(x: FloatArray, y: FloatArray) -> float:
    """Inner product.

    Examples
    --------
    >>> inner(np.array([1.0, -2.0]), np.array([3.0, 0.5]))
    2.0
    """
    return ddot(x, y) if x.size else 0.0


def largest_size(x: FloatArray) -> float:
    """Largest magnitude.

    Examples
    --------
    >>> largest_size(np.array([1.0, -2.0])), largest_size(np.zeros(0))
    (2.0, 0.0)
    """
    return abs(x.item(idamax(x))) if x.size else 0.0


def largest(x: FloatArray) -> float:
    """Largest entry; NaN where one is."""
    return x.item(x.argmax())


def least(x: FloatArray) -> float:
    """Least entry; NaN where one is."""
    return x.item(x.argmin())
