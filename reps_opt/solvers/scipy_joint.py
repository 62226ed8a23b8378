"""The dual of several balls through ``scipy.optimize.minimize``: over their etas as they are, kept above zero.

Where a ball is slack its eta is zero at the optimum; there the dual kinks, and its maximiser is any of several points.
With ``-mu log`` of every eta, and of every multiplier of an inequality, it is smooth, and at most mu a coordinate
further away. The point is put onto the rows afterwards, as that of Newton's central path is.

Shapes: m rows, k balls with a radius; z = (etas, multipliers) is (k + m,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.optimize import Bounds, minimize

from reps_opt.program import Program
from reps_opt.solvers.answer import Answer
from reps_opt.solvers.path import onto_rows
from reps_opt.solvers.scipy_explicit import SmoothDual
from reps_opt.tolerances import DENSE_ROWS, JOINT_BARRIERS, LEAST_BARRIER
from reps_opt.validation import FloatArray


def minimise_jointly(
    program: Program, method: str, tolerance: float, options: Mapping[str, Any], watch: Callable[..., None]
) -> Answer:
    """Answer to a program of several balls; ``method`` takes bounds, or is empty for the one that suits the size."""
    dual = _Barrier(program)
    z = np.where(dual.positive, np.maximum(dual.smooth.start(), JOINT_BARRIERS[0]), dual.smooth.start())
    chosen = method or ("slsqp" if z.size <= DENSE_ROWS else "l-bfgs-b")
    arguments: dict[str, Any] = {"method": chosen, "tol": tolerance, "options": options}
    arguments |= {"jac": dual.gradient, "bounds": dual.bounds}
    if chosen == "trust-constr":
        arguments["hessp"] = dual.hessian_product
    stats: dict[str, Any] = {"method": chosen, "iterations": 0, "evaluations": 0, "rounds": len(JOINT_BARRIERS)}
    for dual.mu in JOINT_BARRIERS:
        result = minimize(dual.value, z, callback=lambda at, *_: watch(dual.smooth, at), **arguments)
        z = result.x
        stats["iterations"] += int(result.nit)
        stats["evaluations"] += int(result.nfev)
    eta, multipliers = dual.smooth.split(z)
    multipliers = program.cut(multipliers)
    point = onto_rows(program, program.joint_dual(eta, multipliers))
    return Answer(eta, multipliers, point, str(result.message), stats)


class _Barrier:
    """``g(z) - mu sum log z_i`` over the coordinates that must be positive."""

    def __init__(self, program: Program) -> None:
        self.smooth, self.mu = SmoothDual(program), 0.0
        self.positive = np.append(np.ones(self.smooth.n_etas, dtype=bool), program.signed)
        self.bounds = Bounds(np.where(self.positive, LEAST_BARRIER, -np.inf), np.inf, keep_feasible=self.positive)

    def value(self, z: FloatArray) -> float:
        return self.smooth.value(z) - self.mu * float(np.log(z[self.positive]).sum())

    def gradient(self, z: FloatArray) -> FloatArray:
        slope = self.smooth.gradient(z)
        slope[self.positive] -= self.mu / z[self.positive]
        return slope

    def hessian_product(self, z: FloatArray, direction: FloatArray) -> FloatArray:
        moved = self.smooth.hessian_product(z, direction)
        moved[self.positive] += self.mu / z[self.positive] ** 2 * direction[self.positive]
        return moved
