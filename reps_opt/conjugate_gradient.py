"""Conjugate gradient for ``F x = y`` where F is known by its products only.

Shapes: P parameters; x, y are (P,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from reps_opt.validation import FloatArray


class CGResult(NamedTuple):
    """Solution (P,), its relative residual, and the products it took."""

    solution: FloatArray
    relative_residual: float
    products: int


def conjugate_gradient(
    product: Callable[[FloatArray], FloatArray], y: FloatArray, rtol: float = 1e-10, max_iterations: int | None = None
) -> CGResult:
    """Solve ``F x = y`` from x = 0, to the relative residual ``rtol``.

    It stops early at a direction without curvature, ``d'Fd <= 0``, and returns what it has: an ascent direction still.

    References
    ----------
    Nocedal and Wright (2006), *Numerical optimization*, algorithm 5.2.

    Examples
    --------
    >>> conjugate_gradient(lambda v: np.array([2.0, 4.0]) * v, np.array([2.0, 2.0])).solution
    array([1. , 0.5])
    """
    x = np.zeros_like(y)
    residual = y.copy()
    direction = y.copy()
    rho = start = float(residual @ residual)
    target = rtol**2 * start
    limit = 2 * y.size if max_iterations is None else max_iterations
    products = 0
    while products < limit and rho > target:
        moved = product(direction)
        products += 1
        curvature = float(direction @ moved)
        if curvature <= 0:
            break
        step = rho / curvature
        x += step * direction
        residual -= step * moved
        previous, rho = rho, float(residual @ residual)
        direction = residual + (rho / previous) * direction
    return CGResult(x, float(np.sqrt(rho / start)) if start > 0 else 0.0, products)
