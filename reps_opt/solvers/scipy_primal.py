"""The explicit primal: as arguments of ``scipy.optimize.minimize``, and as a route that runs them.

Minimised is the objective with its sign turned, over x itself: nothing is transformed, all is named.

Shapes: n coordinates of x; m rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, NonlinearConstraint, minimize
from scipy.sparse.linalg import LinearOperator

from reps_opt.divergences.balls import Ball
from reps_opt.processes.graph import IntArray
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer
from reps_opt.solvers.scipy_spec import Names, Spec, binding, etas_of, multipliers, named, spread, trust_constr
from reps_opt.solvers.trace import Trace
from reps_opt.threads import quietly
from reps_opt.tolerances import BARRIERS, CLOSE, PRIMAL_GAP, ROUND_ITERATIONS, SOLVED, TINY
from reps_opt.validation import FloatArray


@dataclass(frozen=True)
class ScipyPrimal:
    """The primal as ``problem.to_scipy("primal")`` poses it, through SciPy's interior-point method.

    The method is ``trust-constr``: the one that takes second derivatives of the balls and hands back a multiplier for
    every constraint. Its systems are dense, so that it serves to look at small problems: a second at a hundred
    coordinates, where ``Newton()`` on the dual takes milliseconds.

    Parameters
    ----------
    options
        Options of the method, in place of those of the spec.
    verbose
        Print a line every ten iterations.

    Examples
    --------
    >>> import envs
    >>> from reps_opt import REPS, solve
    >>> from reps_opt.solvers import ScipyDual, ScipyPrimal
    >>> mdp = envs.single_chain()
    >>> problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), epsilon=0.1)
    >>> primal, dual = solve(problem, ScipyPrimal()), solve(problem, ScipyDual())
    >>> print(primal.status, abs(primal.objective - dual.objective) < 1e-6)
    certified True
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    verbose: bool = False

    def solve(self, program: Program) -> Answer:
        """Solve a program whose objective is normalised to range one."""
        centre, inside = program.hints.centre, program.hints.inside
        start = inside() if inside is not None else None if centre is None else centre.point
        spec = pose_primal(program, start)
        trace = Trace(self.verbose, every=10)
        answers: list[Answer] = []
        start, message = spec["x0"], ""
        for barrier in BARRIERS:
            try:
                result, proven = self._round(spec, start, barrier, trace)
            except (ValueError, ArithmeticError, np.linalg.LinAlgError) as failure:
                message = f"trust-constr: {failure}"
                break
            answers.append(spec.answer(program, result))
            start = (spec["x0"] + result.x) / 2
            if proven:
                break
        stats = {"method": "trust-constr", "iterations": len(trace), "rounds": len(answers), "trace": trace}
        if not answers:
            return Answer(math.nan, None, None, message, stats)
        best = min(answers, key=lambda answer: answer.bound(program))
        return replace(best, stats=stats)

    def _round(
        self, spec: Spec, start: FloatArray, barrier: tuple[float, float, float], trace: Trace
    ) -> tuple[Any, bool]:
        """One call of ``minimize``; and whether the gap ended it."""
        proven = False

        def watch(x: Any, state: Any) -> bool:
            nonlocal proven
            trace.add(
                objective=-float(state.fun),
                violation=float(state.constr_violation),
                optimality=float(state.optimality),
            )
            proven = bool(spec["callback"](x, state))
            return proven

        options = {**trust_constr(barrier), "maxiter": ROUND_ITERATIONS, **self.options}
        with quietly(), np.errstate(all="ignore"):  # a method that gives up warns; here the certificate says so
            result = minimize(**{**spec, "x0": start, "options": options, "callback": watch})
        return result, proven


def pose_primal(program: Program, start: FloatArray | None = None, names: Names | None = None) -> Spec:
    """Minimise ``-<c, x>`` under bounds, rows, mass and balls; see :meth:`reps_opt.Problem.to_scipy`."""
    names = names or {}
    n = program.n
    kept = _independent(program)
    limits: dict[str, Any] = {}
    for name, block in program.blocks.items() if program.ridge is None else ():
        rows, upper = block.dense[kept[name]], block.rhs[kept[name]]
        limits[name] = LinearConstraint(rows, upper if name in program.equalities else -np.inf, upper)
    if _has_mass(program):
        limits["normalisation"] = LinearConstraint(np.ones((1, n)), program.mass, program.mass)
    balls = binding(program)
    limits |= {ball.name: _ball_constraint(ball, n) for ball in balls}
    x0 = program.balls[0].divergence.reference if start is None and program.balls else start
    x0 = np.full(n, program.mass / n) if x0 is None or x0.size != n else x0
    objective = _PrimalObjective(program)

    def proven(x: FloatArray, state: Any) -> bool:
        found = spread(program, kept, dict(zip(limits, state.v, strict=False)))
        return state.constr_violation <= CLOSE and _is_proven(program, x, found)

    arguments = {
        "fun": objective.value,
        "x0": np.maximum(x0, SOLVED) if program.simplex else x0.copy(),
        "jac": objective.gradient,
        "hess": objective.hessian,
        "bounds": Bounds(0.0, np.inf, keep_feasible=True) if program.simplex else None,
        "constraints": list(limits.values()),
        "method": "trust-constr",
        "callback": proven,
        "options": trust_constr(BARRIERS[0]),
    }
    coordinates = tuple(named(program.hints.variable, n, names))
    parts = {program.hints.variable: slice(0, n)}
    return Spec("primal", arguments, coordinates, tuple(limits), parts, lambda result: result.x, kept)


def _is_proven(program: Program, x: FloatArray, found: Mapping[str, Any]) -> bool:
    """Whether the multipliers found bound the optimum within :data:`PROVEN` of what the point scores."""
    v = multipliers(program, x, found)
    if v is None:
        return False
    score = program.score(x)
    unit = float(np.ptp(program.objective)) if program.simplex else abs(score)
    return program.bound(etas_of(program, found), v) - score <= PRIMAL_GAP * unit


def _has_mass(program: Program) -> bool:
    """Whether the mass is a constraint of its own: that of several simplexes follows from the rows."""
    return program.simplex and program.starts is None


def _independent(program: Program) -> dict[str, IntArray]:
    """Rows of each block that neither each other nor the mass imply: a flow has one too many, which says nothing new.

    A multiplier of zero in the others is one of the gauges that there are.
    """
    kept = {name: np.arange(block.rhs.size) for name, block in program.blocks.items()}
    blocks = program.equalities
    if not blocks:
        return kept
    rows = np.concatenate([block.dense for block in blocks.values()])
    if _has_mass(program):
        rows = rows - rows.mean(axis=1, keepdims=True)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY)
    triangle, order = scipy.linalg.qr(rows.T, mode="r", pivoting=True)
    pivots = np.abs(np.diag(triangle))
    independent = np.zeros(rows.shape[0], dtype=bool)
    independent[order[: pivots.size][pivots > SOLVED]] = True
    ends = np.cumsum([block.rhs.size for block in blocks.values()])[:-1]
    return kept | {name: np.flatnonzero(mask) for name, mask in zip(blocks, np.split(independent, ends), strict=True)}


def _ball_constraint(ball: Ball, n: int) -> NonlinearConstraint:
    """``D(x) <= radius`` with its derivatives.

    On the simplex D stands for its Bregman divergence from the reference, which is the same wherever the masses are
    right, and elsewhere not below zero: a relative entropy of less than the mass would seem to leave room in the ball.
    """
    where = ball.places(n)
    reference = ball.divergence.reference
    level = float(ball.divergence.gradient(reference).mean()) if ball.divergence.simplex else 0.0

    def value(x: FloatArray) -> float:
        return ball.value(x) - level * float(ball.part(x).sum() - reference.sum())

    def gradient(x: FloatArray) -> FloatArray:
        full = np.zeros((1, n))
        full[0, where] = ball.divergence.gradient(ball.part(x)) - level
        return full

    def curvature(x: FloatArray, price: FloatArray) -> Any:
        return _placed(ball.divergence.hessian(ball.part(x)), where, n, float(price[0]))

    return NonlinearConstraint(value, -np.inf, ball.allowed, jac=gradient, hess=curvature)


def _placed(curvature: Any, where: IntArray, n: int, price: float) -> LinearOperator:
    """A Hessian over some of n coordinates, times a price, as an operator on all of them."""

    def product(d: FloatArray) -> FloatArray:
        full = np.zeros(n)
        full[where] = price * (curvature @ np.ravel(d)[where])
        return full

    return LinearOperator((n, n), matvec=product, dtype=np.float64)


class _PrimalObjective:
    """The objective to minimise: ``-<c, x>``, plus what balls in penalty form and softened rows cost."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.priced = [(ball.price, ball) for ball in program.balls if ball.price is not None]
        self.ridge: Any = program.ridge
        self.matrix = None if self.ridge is None else program.dense_rows

    def value(self, x: FloatArray) -> float:
        return -self.program.score(x)

    def gradient(self, x: FloatArray) -> FloatArray:
        gradient = -self.program.objective
        if self.matrix is not None:
            gradient -= self.matrix.T @ (self.program.residual(x) / self.ridge)
        for price, ball in self.priced:
            gradient[ball.places(x.size)] += price * ball.divergence.gradient(ball.part(x))
        return gradient

    def hessian(self, x: FloatArray) -> Any:
        n = self.program.n
        parts = [
            _placed(ball.divergence.hessian(ball.part(x)), ball.places(n), n, price) for price, ball in self.priced
        ]
        if self.matrix is not None:
            curvature = self.matrix.T @ (self.matrix / self.ridge[:, None])
            parts.append(_placed(curvature, np.arange(n), n, 1.0))
        return sum(parts[1:], parts[0]) if parts else sp.csr_array((n, n))
