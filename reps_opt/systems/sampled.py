r"""Systems with the curvature of a sample dual: conjugate gradient, preconditioned by the Gram matrix of a few rows.

The curvature is a covariance of the feature rows under the current weights. Sixteen rows a feature, drawn by
weight and leverage, estimate it well enough that conjugate gradient gains a digit every one or two passes: with
``c d`` of the rows the preconditioned condition number is near ``((1 + c**-.5) / (1 - c**-.5))**2``, 2.8 for c = 16.
Where a few rows hold what all others lack, and it takes more than a Gram matrix does, the systems after are exact.

Shapes: N samples, m features, one multiplier a feature; weights (N,), right-hand sides (m,).

References
----------
Rokhlin, Tygert (2008), *A fast randomized algorithm for overdetermined linear least-squares regression*; Xu,
Roosta-Khorasani, Mahoney (2020), *Newton-type methods for non-convex optimization under inexact Hessian information*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reps_opt.conjugate_gradient import conjugate_gradient
from reps_opt.rows import ArrayRows, Rows, spending
from reps_opt.systems.base import Cholesky, NormalEquations
from reps_opt.tolerances import (
    FEW_ROWS_SHARE,
    LEVERAGE_PROJECTIONS,
    LOOSEST_ALONG_RTOL,
    MOST_ITERATIONS,
    MOST_ROWS_PER_FEATURE,
    ROWS_PER_FEATURE,
    SLOW_SYSTEM,
    TINY,
    VISIBLE,
)
from reps_opt.validation import FloatArray, UnsuitableError

if TYPE_CHECKING:
    from reps_opt.program import Program


def drawn(mass: FloatArray, wanted: int, rng: np.random.Generator) -> tuple[np.ndarray, FloatArray]:
    """Positions of about ``wanted`` rows drawn by their mass (N,), which sums to one, and the chance that each had."""
    chance = np.minimum(wanted * mass, 1.0)
    for _ in range(3):  # what certain rows leave over goes to the others
        open_rows = chance < 1.0
        left = float(mass[open_rows].sum())
        if left <= 0:
            break
        room = max(float(np.count_nonzero(open_rows) + wanted - chance.size), 0.0)
        chance[open_rows] = np.minimum(mass[open_rows] * (room / left), 1.0)
    kept = np.flatnonzero(rng.random(chance.size) < chance)
    return kept, chance[kept]


class SampledEquations(NormalEquations):
    """Conjugate gradient on the weighted covariance of feature rows; exact and direct where that takes less."""

    least_along_rtol = LOOSEST_ALONG_RTOL  # every digit more is a pass over all rows

    def __init__(self, program: Program) -> None:
        self.program = program
        self.columns: Rows = program.transpose
        self.free = np.ones(program.rhs.size, dtype=bool)
        self._counts = {"factorisations": 0, "linear_iterations": 0}
        self._before = self._spent()
        n, d = self.columns.shape
        self._rows = min(int(FEW_ROWS_SHARE * n), MOST_ROWS_PER_FEATURE * d)
        self.exact = self._rows < ROWS_PER_FEATURE * d
        self._products = 0
        self._rng = np.random.default_rng(0)
        self._leverage: FloatArray | None = None

    @property
    def stats(self) -> dict[str, float]:  # type: ignore[override]
        """Factorisations and iterations, and the passes and Grams spent since the equations were made."""
        passes, grams = (now - then for now, then in zip(self._spent(), self._before, strict=True))
        return {**self._counts, **spending(passes, grams)}

    def _spent(self) -> tuple[float, float]:
        return self.columns.passes, self.columns.grams

    def update(self, weights: FloatArray, free: np.ndarray, shift: FloatArray | None = None) -> None:
        """Set the weights, and draw a preconditioner for them."""
        if not free.all():
            raise UnsuitableError("sampled equations take equality rows only: choose linear_solver='dense'")
        self.weights, self.shift = weights, shift
        self._prepare()

    def _prepare(self) -> None:
        weights, rows = self.weights, self.columns
        self._mean = rows.total(weights) / weights.sum()
        self.exact = self.exact or self._products > SLOW_SYSTEM
        self._products = 0
        if self.exact:
            gram, mean, total = rows.gram(weights), self._mean, float(weights.sum())
        else:
            kept, drawn = self._draw(self._rows)
            sample = ArrayRows(rows.take(kept))
            rows.passes += kept.size / weights.size  # to gather them
            rows.grams += kept.size / weights.size
            gram, total = sample.gram(drawn), float(drawn.sum())
            mean = (drawn @ sample.matrix) / total
        covariance = gram - total * np.outer(mean, mean)
        if self.shift is not None:
            covariance[np.diag_indices_from(covariance)] += self.shift
        self._counts["factorisations"] += 1
        self._factor = Cholesky(covariance)

    def _draw(self, wanted: int) -> tuple[np.ndarray, FloatArray]:
        """Positions of about ``wanted`` rows, drawn half by weight and half by weight times squared length."""
        if self._leverage is None:
            self._leverage = self._leverages()
        mass = self.weights * (0.5 / self.weights.sum())
        length = self.weights * self._leverage
        mass += length * (0.5 / max(float(length.sum()), TINY))
        kept, chance = drawn(mass, wanted, self._rng)
        return kept, self.weights[kept] / chance

    def _leverages(self) -> FloatArray:
        """Leverages (N,) up to a factor: squared lengths after whitening by a uniform sample, by random projection."""
        n, d = self.columns.shape
        some = np.sort(self._rng.choice(n, min(n, ROWS_PER_FEATURE * d), replace=False))
        sample = ArrayRows(self.columns.take(some))
        whitening = Cholesky(sample.gram(np.ones(some.size)))
        directions = self._rng.standard_normal((d, LEVERAGE_PROJECTIONS))
        whitened = whitening.whitened(directions)
        self.columns.passes += LEVERAGE_PROJECTIONS / 2 + some.size / n
        self.columns.grams += some.size / n
        return self.columns.squared_lengths(whitened)

    def solve(self, rhs: FloatArray, rtol: float = 0.0, guess: FloatArray | None = None) -> FloatArray:
        """Solution (m,) to a relative residual, in the norm of the preconditioner."""
        return self._apply(rhs, rtol)

    def _product(self, direction: FloatArray) -> FloatArray:
        product = self.columns.spread(direction, self.weights, float(self._mean @ direction))
        return product if self.shift is None else product + self.shift * direction

    def _apply(self, rhs: FloatArray, rtol: float = 0.0, guess: FloatArray | None = None) -> FloatArray:
        """Preconditioned conjugate gradient; where the weights do not vary in its first direction, that (Steihaug)."""
        if self.exact:
            return self._factor.solve(rhs)
        found = conjugate_gradient(self._product, rhs, max(rtol, VISIBLE), MOST_ITERATIONS, self._factor.solve)
        self._products += found.products
        self._counts["linear_iterations"] += found.products
        return found.solution if found.solution.any() else self._factor.solve(rhs)
