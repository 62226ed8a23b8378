"""The same dual through ``scipy.optimize.minimize``, in coordinates that suit any of its methods.

Shapes: m rows; k coordinates y with ``multipliers = start + eta0 T y``, T (m, k); z = (log(eta / eta0), y).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from scipy.optimize import minimize

from reps_opt.constraints import Equal
from reps_opt.dual_point import DualPoint
from reps_opt.processes.graph import BoolArray
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer, Iterative
from reps_opt.solvers.newton import check_smooth, dual_error, linear_answer, require_simplex
from reps_opt.solvers.path import onto_rows
from reps_opt.solvers.scipy_explicit import SmoothDual
from reps_opt.solvers.start import quadratic_start
from reps_opt.solvers.trace import SHOWN_EVERY, Trace
from reps_opt.systems.base import product_diagonal
from reps_opt.systems.choice import normal_equations
from reps_opt.threads import quietly
from reps_opt.tolerances import (
    CLOSE,
    CUBED,
    DENSE_ROWS,
    JOINT_BARRIERS,
    LAST_PLACE,
    MOST_ROUNDS,
    QUADRATIC_FARTHEST,
    ROUND_ITERATIONS,
    ROUNDING,
    SCIPY_COOLING,
    TINY,
    VISIBLE,
)
from reps_opt.validation import FloatArray, UnsuitableError

WITH_HESSIAN = ("trust-exact", "dogleg", "trust-constr")
WITH_PRODUCTS = ("newton-cg", "trust-ncg", "trust-krylov")
WITH_GRADIENT = ("cg", "bfgs", "l-bfgs-b", "tnc", "slsqp")
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "l-bfgs-b": {"ftol": 0.0, "maxfun": math.inf},
    "tnc": {"ftol": 0.0},
    "slsqp": {"ftol": LAST_PLACE},
}
"""Of methods that would stop on small changes of the dual, which is flat where the divergence is still off."""
JOINTLY = ("l-bfgs-b", "bfgs", "tnc", "slsqp", "trust-constr")
"""Methods that bear what a barrier of 1e-9 leaves of the curvature."""


@dataclass(frozen=True)
class ScipyDual(Iterative):
    """Any gradient method of ``scipy.optimize.minimize`` on the dual, in log eta and whitened multipliers.

    The dual of several balls kinks where one is slack, and its eta zero. It is minimised with a barrier, ``-mu log`` of
    every eta, for a falling mu: by the method if that is L-BFGS-B, BFGS, TNC, SLSQP or trust-constr, and otherwise by
    SLSQP or L-BFGS-B, as suits the size.

    Parameters
    ----------
    method
        A method that takes a gradient: trust-exact (the default), trust-ncg, trust-krylov, Newton-CG, trust-constr,
        L-BFGS-B, BFGS, CG, TNC, SLSQP. The Hessian, or its products, are given where the method takes them.
    tolerance
        ``tol`` of ``minimize``, on the dual in units of its starting eta.
    max_iterations
        ``maxiter`` of the method, in each of several rounds; first-order methods take shorter ones.
    options
        Further options of the method.
    verbose
        Print a line an iteration, or every so many of a first-order method's.

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
    verbose: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        known = (*WITH_HESSIAN, *WITH_PRODUCTS, *WITH_GRADIENT)
        if self.method.lower() not in known:
            raise ValueError(f"method must take a gradient, one of {known}, got {self.method!r}")

    def solve(self, program: Program) -> Answer:
        """Minimise the dual of a program whose objective is normalised to range one."""
        require_simplex(program, "ScipyDual")
        if program.ridge is not None:
            raise UnsuitableError("ScipyDual takes no ridge: use Newton, CvxpyPrimal or CvxpyDual")
        if len(program.balls) <= 1:
            if program.unbounded:
                return linear_answer(program)
            check_smooth(program)
            if program.epsilon is not None and program.hints.linear_limit is not None:
                limit = program.hints.linear_limit()  # these methods crawl towards eta = 0: look there first
                if limit.divergence <= program.epsilon:
                    return Answer(0.0, limit.multipliers, limit.point, "the ball is slack", {"method": self.method})
        return self._with_active_set(program) if program.signed.any() else self._minimise(program)

    def _with_active_set(self, program: Program) -> Answer:
        """Inequality rows by an active set around the method, which need not know of bounds.

        A violated row joins as an equality, and one whose multiplier turns out negative leaves.
        """
        active = np.zeros_like(program.signed)
        if program.hints.centre is not None:
            active = program.signed & (program.hints.centre.multipliers > 0)
        v = np.zeros(program.rhs.size)
        for _ in range(1 + 4 * int(program.signed.sum())):
            kept = ~program.signed | active
            answer = self._minimise(_with_rows(program, kept))
            assert answer.point is not None
            v = np.zeros(program.rhs.size)
            v[kept] = answer.multipliers
            negative = active & (v < 0)
            violated = program.signed & ~active & (program.residual(answer.point) < -ROUNDING)
            if not negative.any() and not violated.any():
                break
            active = (active & ~negative) | violated
        return replace(answer, multipliers=program.cut(v))

    def _minimise(self, program: Program) -> Answer:
        """Answer to a program of equality rows whose ball is not slack."""
        if len(program.balls) > 1:
            other = "SLSQP" if program.rhs.size <= DENSE_ROWS else "L-BFGS-B"
            jointly = self if self.method.lower() in JOINTLY else replace(self, method=other)
            return jointly._along_barriers(program)
        point = quadratic_start(program, normal_equations(program))
        if program.temperature is not None and point.eta > program.temperature:
            return self._cool(program, point)
        return self._refine(program, point)

    def _cool(self, program: Program, point: DualPoint) -> Answer:
        """Penalty form with a small temperature: reach it from a gentle one by factors of :data:`SCIPY_COOLING`."""
        assert program.temperature is not None
        answer = Answer(point.eta, point.multipliers, point.conjugate.point)
        eta = point.eta
        while eta > program.temperature:
            eta = max(eta / SCIPY_COOLING, program.temperature)
            cooler = program.with_ball(replace(program.ball, price=eta))
            assert answer.multipliers is not None
            answer = self._refine(cooler, cooler.dual(eta, answer.multipliers))
        return answer

    def _along_barriers(self, program: Program) -> Answer:
        """Several balls, from one mu to the next; the point is put onto the rows afterwards."""
        smooth = SmoothDual(program)
        eta, v = smooth.split(smooth.start())
        eta[smooth.free] = np.maximum(eta[smooth.free], JOINT_BARRIERS[0])
        point: Any = program.joint_dual(eta, v)
        stats = self._stats()
        for mu in JOINT_BARRIERS:
            message, point = self._round(program, point, stats, 0.0, mu)
        return Answer(point.eta, point.multipliers, onto_rows(program, point), message, stats)

    def _refine(self, program: Program, point: DualPoint) -> Answer:
        """Rounds of ``minimize`` until the point is stationary, or gets no better."""
        stats, message = self._stats(), ""
        dampings: tuple[float, ...] = (0.0, VISIBLE, 1.0)
        while stats["rounds"] < MOST_ROUNDS and (error := dual_error(program, point)) > CLOSE:
            try:
                message, moved = self._round(program, point, stats, dampings[0])
            except (ValueError, ArithmeticError, np.linalg.LinAlgError) as failure:
                message = f"{self.method}: {failure}"
                break
            left = dual_error(program, moved)
            better = left < error or moved.value < point.value - ROUNDING * point.eta
            if not better and len(dampings) == 1:
                break
            point = moved if better else point
            if left >= error and len(dampings) > 1:
                dampings = dampings[1:]  # the metric of this point may say nothing of the next one's
        return Answer(point.eta, point.multipliers, point.conjugate.point, message, stats)

    def _stats(self) -> dict[str, Any]:
        """What a search has spent, at its beginning."""
        trace = Trace(self.verbose, SHOWN_EVERY if self.method.lower() in WITH_GRADIENT else 1)
        return {"method": self.method, "iterations": 0, "evaluations": 0, "rounds": 0, "trace": trace}

    def _round(
        self, program: Program, origin: Any, stats: dict[str, Any], damping: float, mu: float = 0.0
    ) -> tuple[str, Any]:
        """One call of ``minimize``, in coordinates whitened at the point it starts from: its message and the point."""
        stats["rounds"] += 1
        dual = _WhitenedDual(program, origin, damping, mu)
        method = self.method.lower()
        derivatives: dict[str, Any] = {}
        if method in WITH_HESSIAN:
            derivatives["hess"] = dual.hessian
        elif method in WITH_PRODUCTS:
            derivatives["hessp"] = dual.hessian_product
        limit = ROUND_ITERATIONS if method in WITH_GRADIENT else self.max_iterations
        options = {"maxiter": min(limit, self.max_iterations), **OPTIONS.get(method, {}), **self.options}
        if method == "tnc":
            options["maxfun"] = options.pop("maxiter")

        def watch(z: FloatArray, *_: Any) -> None:
            at = dual.at(z)
            residual = float(np.abs(at.residual).sum())
            divergence = float(np.max(at.divergences))
            stats["trace"].add(dual=at.value, eta=float(np.max(at.eta)), divergence=divergence, residual=residual)

        with quietly(), np.errstate(all="ignore"):  # a method that gives up warns; here the certificate says so
            result = minimize(
                dual.value,
                dual.start,
                jac=dual.gradient,
                method=self.method,
                tol=max(self.tolerance, mu),
                options=options,
                callback=watch,
                **derivatives,
            )
        stats["iterations"] += int(result.get("nit", 0))
        stats["evaluations"] += int(result.nfev)
        return str(result.message), dual.at(result.x)


def _with_rows(program: Program, kept: BoolArray) -> Program:
    """The program with the rows kept as equalities, and without the others."""
    rows = Equal(program.matrix[np.flatnonzero(kept)], program.rhs[kept])
    centre, start = program.hints.centre, program.hints.start
    if centre is not None:
        centre = replace(centre, multipliers=centre.multipliers[kept])
    if start is not None:
        start = start[kept]
    hints = replace(program.hints, centre=centre, start=start, linear_limit=None)
    return replace(program, rows={"kept": rows}, hints=hints)


class _WhitenedDual:
    """The dual over z, its curvature in y near the identity at the start, its gauge directions removed.

    Of several balls ``mu`` times every log eta is taken off; of one ball values are in units of the starting eta.
    """

    def __init__(self, program: Program, origin: Any, damping: float, mu: float) -> None:
        self.dual, self.origin, self.mu = SmoothDual(program), origin, mu
        self.unit = 1.0 if self.dual.joint else origin.eta
        self.columns = _whitening(program, self._weights(damping))
        self.start = np.zeros(self.dual.n_etas + self.columns.shape[1])

    def _weights(self, damping: float) -> FloatArray:
        """Curvature (n,) of the conjugate at the start, a share of the reference's on top."""
        program, conjugate = self.dual.program, self.origin.conjugate
        if self.dual.joint:
            return conjugate.point / conjugate.temperature[program.joint.layer]
        damping = 1.0 if program.divergence.truncates else damping
        return conjugate.weights + damping * program.divergence.reference if damping else conjugate.weights

    def at(self, z: FloatArray) -> Any:
        """The dual at z."""
        return self.dual.at(self._original(z))

    def _eta(self, z: FloatArray) -> FloatArray:
        """Eta of the balls with a radius."""
        start = np.atleast_1d(self.origin.eta)[self.dual.free]
        return start * np.exp(np.clip(z[: self.dual.n_etas], -QUADRATIC_FARTHEST, QUADRATIC_FARTHEST))

    def _original(self, z: FloatArray) -> FloatArray:
        y = z[self.dual.n_etas :]
        return np.append(self._eta(z), self.origin.multipliers + self.unit * (self.columns @ y))

    def _pulled(self, z: FloatArray, slopes: FloatArray) -> FloatArray:
        """Slopes in (eta, multipliers) as slopes in z."""
        k = self.dual.n_etas
        return np.append(self._eta(z) / self.unit * slopes[:k], self.columns.T @ slopes[k:])

    def value(self, z: FloatArray) -> float:
        return (self.at(z).value - self.origin.value) / self.unit - self.mu * float(z[: self.dual.n_etas].sum())

    def gradient(self, z: FloatArray) -> FloatArray:
        slope = self._pulled(z, self.dual.gradient(self._original(z)))
        slope[: self.dual.n_etas] -= self.mu
        return slope

    def hessian_product(self, z: FloatArray, direction: FloatArray) -> FloatArray:
        k, original = self.dual.n_etas, self._original(z)
        moved = np.append(self._eta(z) * direction[:k], self.unit * (self.columns @ direction[k:]))
        product = self._pulled(z, self.dual.hessian_product(original, moved))
        product[:k] += (self.gradient(z)[:k] + self.mu) * direction[:k]  # eta is the exponential of its coordinate
        return product

    def hessian(self, z: FloatArray) -> FloatArray:
        """The Hessian at once, a weighted covariance; by products where the rows are only seen by passes."""
        if not isinstance(self.lines, np.ndarray):
            matrix = np.array([self.hessian_product(z, row) for row in np.eye(z.size)])
            return (matrix + matrix.T) / 2
        k, point = self.dual.n_etas, self.at(z)
        weights, ratio = point.conjugate.weights, self.origin.eta / point.eta
        slopes = np.hstack([-point.scaled[:, None][:, :k], -ratio * self.lines])
        slopes -= weights @ slopes / max(weights.sum(), TINY)  # before the squares, whose difference loses digits
        matrix = slopes.T @ (weights[:, None] * slopes) / ratio
        matrix[:k, :k] += self.gradient(z)[:k]
        return matrix

    @cached_property
    def lines(self) -> FloatArray | None:
        """The columns seen from the coordinates of x, A' T (n, k); None where the rows are only seen by passes."""
        transpose = self.dual.program.transpose
        if self.dual.joint or not (sp.issparse(transpose) or isinstance(transpose, np.ndarray)):
            return None
        lines = transpose @ self.columns
        return lines.toarray() if sp.issparse(lines) else np.asarray(lines)


def _whitening(program: Program, weights: FloatArray) -> Any:
    """Columns T (m, k) with ``T' A H A' T`` the identity at the start: whitened when small, scaled when large."""
    if program.rhs.size == 0:
        return np.zeros((0, 0))
    if program.rhs.size > CUBED and sp.issparse(program.matrix):
        diagonal = product_diagonal(program.matrix, weights)
        return sp.diags_array(1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)))
    if sp.issparse(program.matrix):
        spread = (program.matrix @ sp.diags_array(weights) @ program.transpose).toarray()
    else:
        spread = program.transpose.gram(weights)
    mean = program.matrix @ weights
    curvature = spread - np.outer(mean, mean) / weights.sum()
    scale = np.diag(spread).copy()
    scale = 1.0 / np.sqrt(np.where(scale > 0, scale, 1.0))
    eigenvalues, vectors = scipy.linalg.eigh(curvature * scale[:, None] * scale[None, :])
    kept = eigenvalues > ROUNDING * eigenvalues[-1]
    return scale[:, None] * vectors[:, kept] / np.sqrt(eigenvalues[kept])
