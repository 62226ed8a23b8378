"""The same dual through ``scipy.optimize.minimize``, in coordinates that suit any of its methods.

Shapes: m rows; k coordinates y with ``multipliers = start + eta0 T y``, T (m, k); z = (log(eta / eta0), y).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from scipy.optimize import OptimizeResult, minimize

from reps_opt.graph import BoolArray
from reps_opt.program import Block, DualPoint, Program
from reps_opt.solvers.answer import Answer
from reps_opt.solvers.newton import DAMPING, check_smooth, limit_if_slack, linear_answer, quadratic_start
from reps_opt.solvers.normal_equations import normal_equations
from reps_opt.validation import FloatArray, as_count, as_scalar

WITH_HESSIAN = ("trust-exact", "dogleg", "trust-constr")
WITH_PRODUCTS = ("newton-cg", "trust-ncg", "trust-krylov")
WITH_GRADIENT = ("cg", "bfgs", "l-bfgs-b", "tnc", "slsqp")

FULL_ACCURACY: Mapping[str, Mapping[str, Any]] = {
    "l-bfgs-b": {"ftol": 0.0, "maxcor": 30, "maxfun": 10**6},
    "tnc": {"ftol": 0.0},
    "slsqp": {"ftol": 1e-15},
}
"""Options of methods that would stop on small changes of the dual, which is flat where KL is still off."""

WHITENED_LIMIT = 1_000
"""Rows up to which the coordinates are whitened by an eigendecomposition; above it they are scaled only."""

LARGEST_LOG = 50.0
"""Largest |log(eta / eta0)| that is evaluated."""

VIOLATED = 1e-11
"""Excess over an inequality row, in its own units, from which it joins the active set."""

SMALL_ETA = 0.2
"""Fraction of the starting eta below which the ball may be slack."""


@dataclass(frozen=True)
class ScipyDual:
    """Any gradient method of ``scipy.optimize.minimize`` on the dual, in log eta and whitened multipliers.

    Parameters
    ----------
    method
        A method that takes a gradient: trust-exact (the default), trust-ncg, trust-krylov, Newton-CG, trust-constr,
        L-BFGS-B, BFGS, CG, TNC, SLSQP. The Hessian, or its products, are given where the method takes them.
    tolerance
        ``tol`` of ``minimize``, on the dual in units of its starting eta.
    max_iterations
        ``maxiter`` of the method.
    options
        Further options of the method.

    Examples
    --------
    >>> from reps_opt import MDP, REPS, solve
    >>> mdp = MDP.from_gymnasium("FrozenLake-v1")
    >>> problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), epsilon=0.5)
    >>> print(solve(problem, ScipyDual("L-BFGS-B")).status)
    certified
    """

    method: str = "trust-exact"
    tolerance: float = 1e-10
    max_iterations: int = 5_000
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        as_scalar(self.tolerance, "tolerance", low=0.0, low_open=True)
        as_count(self.max_iterations, "max_iterations")
        known = (*WITH_HESSIAN, *WITH_PRODUCTS, *WITH_GRADIENT)
        if self.method.lower() not in known:
            raise ValueError(f"method must take a gradient, one of {known}, got {self.method!r}")

    def solve(self, program: Program) -> Answer:
        """Minimise the dual of a program whose objective is normalised to range one.

        Inequality rows are met by an active set around the method, which need not know of bounds: a violated row joins
        as an equality, and one whose multiplier turns out negative leaves.
        """
        if program.epsilon == np.inf:
            return linear_answer(program)
        check_smooth(program)
        active = np.zeros_like(program.signed)
        if program.centre is not None:
            active = program.signed & (program.centre.multipliers > 0)
        spent = {"iterations": 0, "evaluations": 0}
        for _ in range(1 + 4 * int(program.signed.sum())):
            answer = self._minimise(program, ~program.signed | active)
            spent = {name: count + answer.stats[name] for name, count in spent.items()}
            answer = replace(answer, stats={**answer.stats, **spent})
            if answer.eta == 0:
                break
            assert answer.point is not None
            assert answer.multipliers is not None
            negative = active & (answer.multipliers < 0)
            violated = program.signed & ~active & (program.residual(answer.point) < -VIOLATED)
            if not negative.any() and not violated.any():
                break
            active = (active & ~negative) | violated
        assert answer.multipliers is not None
        v = answer.multipliers
        return replace(answer, multipliers=np.where(program.signed, np.maximum(v, 0.0), v))

    def _minimise(self, program: Program, kept: BoolArray) -> Answer:
        """Answer to the program with the rows kept as equalities, and without the others."""
        dual = _WhitenedDual(_with_rows(program, kept) if program.signed.any() else program)
        result = self._run(dual)
        point = dual.at(result.x)
        stats = {"method": self.method, "iterations": int(result.get("nit", 0)), "evaluations": int(result.nfev)}
        if point.eta < SMALL_ETA * dual.origin.eta and (limit := limit_if_slack(program, point.divergence)) is not None:
            return Answer(0.0, limit.multipliers, limit.point, "the ball is slack", stats)
        multipliers = np.zeros(program.rhs.size)
        multipliers[kept] = point.multipliers
        return Answer(point.eta, multipliers, point.conjugate.point, str(result.message), stats)

    def _run(self, dual: _WhitenedDual) -> OptimizeResult:
        method = self.method.lower()
        derivatives: dict[str, Any] = {}
        if method in WITH_HESSIAN:
            derivatives["hess"] = dual.hessian
        elif method in WITH_PRODUCTS:
            derivatives["hessp"] = dual.hessian_product
        options = {"maxiter": self.max_iterations, **FULL_ACCURACY.get(method, {}), **self.options}
        if method == "tnc":
            options["maxfun"] = options.pop("maxiter")
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # a method that gives up warns; here the certificate says so
            return minimize(
                dual.value,
                dual.start,
                jac=dual.gradient,
                method=self.method,
                tol=self.tolerance,
                options=options,
                **derivatives,
            )


def _with_rows(program: Program, kept: BoolArray) -> Program:
    """The program with the rows kept as equalities, and without the others."""
    rows = Block(program.matrix[np.flatnonzero(kept)], program.rhs[kept])
    centre = program.centre
    if centre is not None:
        centre = replace(centre, multipliers=centre.multipliers[kept])
    return replace(program, equalities={"kept": rows}, inequalities={}, centre=centre)


class _WhitenedDual:
    """The dual over z, its curvature in y near the identity at the start, its gauge directions removed."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.origin = quadratic_start(program, normal_equations(program))
        self.columns = _whitening(program, self.origin)
        if program.temperature is not None:
            self.origin = program.dual(program.temperature, self.origin.multipliers)
        self.fixed = program.epsilon is None
        self.start = np.zeros(self.columns.shape[1] + (not self.fixed))
        self._last: tuple[FloatArray, DualPoint] | None = None

    def at(self, z: FloatArray) -> DualPoint:
        """The dual at z; the last point is kept, since methods ask for value and gradient in turn."""
        if self._last is None or not np.array_equal(self._last[0], z):
            log_eta, y = self._split(z)
            eta = self.origin.eta * float(np.exp(np.clip(log_eta, -LARGEST_LOG, LARGEST_LOG)))
            v = self.origin.multipliers + self.origin.eta * (self.columns @ y)
            self._last = (z.copy(), self.program.dual(eta, v))
        return self._last[1]

    def _split(self, z: FloatArray) -> tuple[float, FloatArray]:
        return (0.0, z) if self.fixed else (float(z[0]), z[1:])

    def value(self, z: FloatArray) -> float:
        return (self.at(z).value - self.origin.value) / self.origin.eta

    def gradient(self, z: FloatArray) -> FloatArray:
        point = self.at(z)
        along_y = self.columns.T @ point.residual
        if self.fixed:
            return along_y
        along_eta = point.eta / self.origin.eta * (self._epsilon() - point.divergence)
        return np.concatenate([[along_eta], along_y])

    def hessian_product(self, z: FloatArray, direction: FloatArray) -> FloatArray:
        point = self.at(z)
        d_eta, d_y = self._split(direction)
        ratio = self.origin.eta / point.eta
        scaled = point.slack / point.eta
        shift = -ratio * (self.program.transpose @ (self.columns @ d_y)) - scaled * d_eta  # change of slack / eta
        moved = point.conjugate.hessian(shift)
        along_y = -(self.columns.T @ (self.program.matrix @ moved))
        if self.fixed:
            return along_y
        along_eta = -float(scaled @ moved) + (self._epsilon() - point.divergence) * d_eta
        return np.concatenate([[along_eta / ratio], along_y])

    def hessian(self, z: FloatArray) -> FloatArray:
        products = [self.hessian_product(z, row) for row in np.eye(z.size)]
        matrix = np.array(products)
        return (matrix + matrix.T) / 2

    def _epsilon(self) -> float:
        assert self.program.epsilon is not None
        return self.program.epsilon


def _whitening(program: Program, origin: DualPoint) -> Any:
    """Columns T (m, k) with ``T' A H A' T`` the identity at the start: whitened when small, scaled when large."""
    weights = origin.conjugate.weights
    if program.divergence.truncates:
        weights = weights + DAMPING * program.divergence.reference
    if program.rhs.size > WHITENED_LIMIT:
        squared = program.matrix.multiply(program.matrix)
        diagonal = squared @ weights
        return sp.diags_array(1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)))
    spread = program.matrix @ sp.diags_array(weights) @ program.transpose
    mean = program.matrix @ weights
    curvature = spread.toarray() - np.outer(mean, mean) / weights.sum()
    scale = np.diag(spread.toarray()).copy()
    scale = 1.0 / np.sqrt(np.where(scale > 0, scale, 1.0))
    eigenvalues, vectors = scipy.linalg.eigh(curvature * scale[:, None] * scale[None, :])
    kept = eigenvalues > 1e-12 * eigenvalues[-1]
    return scale[:, None] * vectors[:, kept] / np.sqrt(eigenvalues[kept])
