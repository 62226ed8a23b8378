"""Conjugate gradient for ``F x = y`` where F is known by its products only.

Shapes: P parameters; x, y are (P,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from reps_opt.validation import FloatArray


class CGResult(NamedTuple):
    """Solution x (P,), its residual ``y - F x`` (P,), the relative size of that, and the products it took."""

    solution: FloatArray
    residual: FloatArray
    relative_residual: float
    products: int


def conjugate_gradient(
    product: Callable[[FloatArray], FloatArray],
    y: FloatArray,
    rtol: float = 1e-10,
    max_iterations: int | None = None,
    precondition: Callable[[FloatArray], FloatArray] | None = None,
    guess: FloatArray | None = None,
) -> CGResult:
    """Solve ``F x = y`` from x = 0, to the relative residual ``rtol``.

    It stops early at a direction without curvature, ``d'Fd <= 0``, and returns what it has: an ascent direction still.

    Parameters
    ----------
    precondition
        Multiplies by a symmetric positive definite M, the closer to ``F^-1`` the fewer products. Residuals r are then
        measured by ``sqrt(r'Mr)``, which for ``M = F^-1`` is the error of the solution in the metric.
    guess
        Where to start instead, if its residual is smaller than y.

    References
    ----------
    Nocedal and Wright (2006), *Numerical optimization*, algorithms 5.2 and 5.3.

    Examples
    --------
    >>> conjugate_gradient(lambda v: np.array([2.0, 4.0]) * v, np.array([2.0, 2.0])).solution
    array([1. , 0.5])
    """
    x, residual = np.zeros_like(y), y.copy()
    lifted = residual if precondition is None else precondition(residual)
    rho = start = float(residual @ lifted)
    target = rtol**2 * start
    limit = 2 * y.size if max_iterations is None else max_iterations
    products = 0
    if guess is not None:
        left, products = y - product(guess), 1
        towards = left if precondition is None else precondition(left)
        if left @ towards < rho:
            x, residual, lifted, rho = guess.copy(), left, towards, float(left @ towards)
    direction = lifted.copy()
    while products < limit and rho > target:
        moved = product(direction)
        products += 1
        curvature = float(direction @ moved)
        if curvature <= 0:
            break
        step = rho / curvature
        x += step * direction
        residual -= step * moved
        lifted = residual if precondition is None else precondition(residual)
        previous, rho = rho, float(residual @ lifted)
        direction *= rho / previous
        direction += lifted
    return CGResult(x, residual, float(np.sqrt(max(rho, 0.0) / start)) if start > 0 else 0.0, products)
