r"""Quasi-Newton on the dual of many samples: solved on a few of them first, then one pass over all an iteration.

The dual of a tenth of the rows costs a tenth, and its solution misses the whole's by about ``sqrt(d / n_few)``
standard deviations. For a large ball, whose weight is on ``N exp(-epsilon)`` rows or so, a tenth is drawn by weight.
From there BFGS starts with the few rows' own Hessian in (eta, multipliers), a covariance of the feature columns and
the Bellman error, and gains about a digit for every pass. Near the solution the Hessian of all rows takes its place,
and every pass gains about two. A search that stalls, and rows of which a few say too little, go to
:class:`~reps_opt.solvers.newton.Newton`.

Shapes: N rows, of which n_few are drawn; d features; joint vectors stack the multipliers and eta (d + 1,).

References
----------
Nocedal, Wright (2006), algorithm 7.4; Xu, Roosta-Khorasani, Mahoney (2020), *Newton-type methods for non-convex
optimization under inexact Hessian information*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from reps_opt.constraints import Equal
from reps_opt.divergences.base import KL
from reps_opt.dual_point import DualPoint
from reps_opt.program import Program
from reps_opt.rows import ArrayRows, Rows, spending
from reps_opt.solvers.answer import Answer, Iterative
from reps_opt.solvers.eta_search import best_eta
from reps_opt.solvers.newton import Newton, dual_error
from reps_opt.systems.base import Cholesky
from reps_opt.systems.sampled import drawn
from reps_opt.tolerances import (
    EFFECTIVE_PER_FEATURE,
    FEW_ROWS_ITERATIONS,
    FEW_ROWS_SHARE,
    FEW_ROWS_TOLERANCE,
    FEWEST_VALUES,
    FIRST_RADIUS,
    HALVING_PATIENCE,
    IMPROVED,
    LARGEST_FEW_ROWS_SHARE,
    LARGEST_LOG_STEP,
    MOST_ROUNDS,
    RADII_TO_SPARE,
    REFRESHED,
    SAMPLES_SLACK,
    SAMPLES_TOLERANCE,
    STRAYED,
    SUFFICIENT_DECREASE,
    ULPS,
    WORTH_GOING_ON,
)
from reps_opt.validation import FloatArray


def rows_to_start(n: int, d: int, epsilon: float | None) -> int | None:
    """How many of n rows to solve first, or None where Newton on all of them is the better choice."""
    if epsilon is None or not 0 < epsilon < math.log(n) or d == 0 or n * d < FEWEST_VALUES:
        return None
    effective = EFFECTIVE_PER_FEATURE * d * math.exp(min(epsilon, FIRST_RADIUS))
    wanted = max(FEW_ROWS_SHARE * n, effective, RADII_TO_SPARE * d / (2 * epsilon))
    return math.ceil(wanted) if wanted <= LARGEST_FEW_ROWS_SHARE * n else None


@dataclass(frozen=True)
class QuasiNewton(Iterative):
    r"""BFGS from the solution and the Hessian of a few rows; for balls of KL over many rows of features.

    Parameters
    ----------
    tolerance
        Largest \|KL - epsilon\| and 1-norm of the constraint residual at the end, rewards normalised to range one.
    max_iterations
        Iterations before Newton takes over from the best point.
    fallback
        The Newton that solves the few rows' dual, programs that do not suit, and searches that stall.

    Examples
    --------
    >>> from reps_opt import SampleREPS, solve
    >>> rng = np.random.default_rng(0)
    >>> psi = rng.normal(size=(20_000, 20))
    >>> solution = solve(SampleREPS(psi[:, 0] + rng.normal(size=20_000), psi, epsilon=0.5))
    >>> print(solution.stats["route"], solution.status, solution.stats["passes"] < 20)
    QuasiNewton certified True
    """

    tolerance: float = SAMPLES_TOLERANCE
    max_iterations: int = 40
    fallback: Newton = field(default_factory=lambda: Newton(tolerance=SAMPLES_TOLERANCE, slack_suspected=SAMPLES_SLACK))

    def solve(self, program: Program) -> Answer:
        """Minimise the dual of a program whose objective is normalised to range one."""
        rows = program.transpose
        wanted = rows_to_start(program.n, program.rhs.size, program.epsilon)
        suits = isinstance(rows, Rows) and isinstance(program.divergence, KL) and program.ridge is None
        if wanted is None or not suits or program.hints.warm:
            return self.fallback.solve(program)
        passes, grams = rows.passes, rows.grams
        search = self._search(program, wanted)
        answer = self.fallback.solve(program) if search is None else self._from(program, search)
        return replace(answer, stats={**answer.stats, **spending(rows.passes - passes, rows.grams - grams)})

    def _search(self, program: Program, wanted: int) -> _Search | None:
        """The search over all rows. The few, a tenth of the matrix, are not kept."""
        near = self._near(program, wanted)
        if near is None:
            return None
        search = _Search(self, program, *near)
        _charge(program, near[0])
        return search

    def _from(self, program: Program, search: _Search) -> Answer:
        """The answer for all rows."""
        point, converged = search.run()
        if converged:
            stats = {"iterations": search.iterations}
            return Answer(point.eta, point.multipliers, point.conjugate.point, "converged", stats)
        near = dual_error(program, point) < WORTH_GOING_ON
        answer = self.fallback.solve(program.warmed((point.eta, point.multipliers)) if near else program)
        stats = {**answer.stats, "iterations": answer.stats.get("iterations", 0) + search.iterations}
        return replace(answer, stats=stats)

    def _near(self, program: Program, wanted: int) -> tuple[Program, Answer] | None:
        """A few rows and the solution of their dual, which is near that of all.

        Rows drawn alike hold the solution of a small ball. Of a large one, most of whose weight is on few rows, they
        hold that of a smaller ball only; the weights of all rows there say which to draw for the ball itself. Where
        these lack a row that the others' multipliers then favour, it has weight enough to be drawn the next time.
        """
        assert program.epsilon is not None
        rng = np.random.default_rng(0)
        kept = np.sort(rng.choice(program.n, wanted, replace=False))
        radius = min(program.epsilon, math.log(wanted / (EFFECTIVE_PER_FEATURE * program.rhs.size)))
        few = _some_rows(program, kept, program.divergence.reference[kept], radius)
        start = self._solved(program, few)
        if start is None or radius == program.epsilon:
            return None if start is None else (few, start)
        best = _seen_by_all(program, start)
        weights = (best.conjugate.point + _on_the_sphere(program, best)) / 2
        for _ in range(HALVING_PATIENCE):
            few = _drawn_rows(program, best, *drawn(weights, wanted, rng))
            start = self._solved(program, few.warmed((best.eta, best.multipliers)))
            if start is None:
                return None
            point = _seen_by_all(program, start)
            if dual_error(program, point) < STRAYED:
                return few, start
            best = min(best, point, key=lambda one: one.value)
            weights = (weights + _on_the_sphere(program, point)) / 2
        return None

    def _solved(self, program: Program, few: Program) -> Answer | None:
        """The solution of a few rows' dual, unless Newton's method ends without one."""
        newton = replace(self.fallback, tolerance=FEW_ROWS_TOLERANCE, max_iterations=FEW_ROWS_ITERATIONS)
        answer = newton.solve(few)
        _charge(program, few)
        return answer if answer.message == "converged" else None


def _charge(program: Program, few: Program) -> None:
    """Count what some of a program's rows spent as that share of all."""
    share = few.n / program.n
    program.transpose.passes += share * few.transpose.passes
    program.transpose.grams += share * few.transpose.grams
    few.transpose.passes = few.transpose.grams = 0.0


def _seen_by_all(program: Program, answer: Answer) -> DualPoint:
    """The dual of all rows where that of some was solved."""
    assert answer.multipliers is not None
    return program.dual(answer.eta, answer.multipliers)


def _on_the_sphere(program: Program, point: DualPoint) -> FloatArray:
    """Weights (N,) at the best eta for a point's net rewards: on all rows these favour, however far outside it is."""
    return program.divergence.conjugate(point.net / best_eta(program, point.net)).point


def _some_rows(program: Program, kept: np.ndarray, base: FloatArray, radius: float) -> Program:
    """The same program over some of its rows, by base weights and a radius of their own."""
    rows = ArrayRows(program.transpose.take(kept))
    rows.passes = 1.0  # to gather them
    (name,) = program.equalities
    ball = replace(program.ball, divergence=KL(base / base.sum()), radius=radius)
    return Program(program.objective[kept], {name: Equal(rows.T, program.rhs)}, ball)


def _drawn_rows(program: Program, point: DualPoint, kept: np.ndarray, chance: FloatArray) -> Program:
    """Rows drawn with some chance each, in a ball whose sphere is as far from a point as the one around all rows."""
    assert program.epsilon is not None
    base, scaled = program.divergence.reference[kept] / chance, point.scaled[kept]
    there = KL(base / base.sum()).conjugate(scaled)
    reached = max(float(there.point @ scaled) - there.value, 0.0)
    return _some_rows(program, kept, base, max(reached + program.epsilon - point.divergence, 0.0))


def _inverse_hessian(program: Program, point: DualPoint) -> Callable[[FloatArray], FloatArray]:
    """Products with the inverse of the dual's Hessian in (multipliers, eta): ``Cov([X, net / eta]) / eta``."""
    assert point.coupling is not None
    weights, scaled = point.conjugate.point, point.scaled
    d = point.multipliers.size
    mean = program.rhs - point.residual
    hessian = np.empty((d + 1, d + 1))
    hessian[:d, :d] = program.transpose.gram(weights) - np.outer(mean, mean)
    hessian[:d, d] = hessian[d, :d] = point.coupling
    hessian[d, d] = weights @ (scaled - weights @ scaled) ** 2
    factor = Cholesky(hessian)
    return lambda g: point.eta * factor.solve(g)


class _Search:
    """One run over all rows, from the solution of a few."""

    def __init__(self, settings: QuasiNewton, program: Program, few: Program, start: Answer) -> None:
        assert start.multipliers is not None
        self.settings, self.program = settings, program
        self.start = few.dual(start.eta, start.multipliers)
        self.apply = _inverse_hessian(few, self.start)
        self.steps: list[FloatArray] = []
        self.changes: list[FloatArray] = []
        self.iterations = 0
        self.refreshed = math.inf  # error at which the Hessian was last taken over all rows

    def run(self) -> tuple[DualPoint, bool]:
        """The last point, and whether it meets the tolerance."""
        point = self.program.dual(self.start.eta, self.start.multipliers)
        errors = [self._error(point)]
        while max(errors[-1]) > self.settings.tolerance:
            slow = len(errors) > HALVING_PATIENCE and max(errors[-1]) > 0.5 * max(errors[-1 - HALVING_PATIENCE])
            if slow or self.iterations >= self.settings.max_iterations:
                return point, False
            if self._to_be_refreshed(max(errors[-1])):
                self.refreshed, self.steps, self.changes = max(errors[-1]), [], []
                self.apply = _inverse_hessian(self.program, point)
            moved = self._move(point)
            if moved is None:
                return point, False
            point = moved
            self.iterations += 1
            errors.append(self._error(point))
        return point, True

    def _to_be_refreshed(self, error: float) -> bool:
        """Whether the Hessian of all rows is to be taken: near the solution, and anew where it gains too little."""
        if error >= REFRESHED:
            return False
        gains = REFRESHED**HALVING_PATIENCE
        return self.refreshed == math.inf or (len(self.steps) == HALVING_PATIENCE and error > gains * self.refreshed)

    def _error(self, point: DualPoint) -> tuple[float, float]:
        """1-norm of the residual, and distance from the sphere."""
        assert self.program.epsilon is not None
        return float(np.abs(point.residual).sum()), abs(point.divergence - self.program.epsilon)

    def _gradient(self, point: DualPoint) -> FloatArray:
        """Of the dual in (multipliers, eta)."""
        assert self.program.epsilon is not None
        return np.append(point.residual, self.program.epsilon - point.divergence)

    def _move(self, point: DualPoint) -> DualPoint | None:
        """A step along the quasi-Newton direction, halved until the dual or, in its rounding, the gradient falls."""
        gradient = self._gradient(point)
        direction = -self._two_loops(gradient)
        slope, size = float(gradient @ direction), float(gradient @ self.apply(gradient))
        noise = ULPS * (abs(point.value) + point.eta)
        alpha = 1.0
        for _ in range(MOST_ROUNDS):
            eta = point.eta + alpha * direction[-1]
            if eta > math.exp(-LARGEST_LOG_STEP) * point.eta:
                trial = self.program.dual(eta, point.multipliers + alpha * direction[:-1])
                after = self._gradient(trial)
                falls = trial.value <= point.value + SUFFICIENT_DECREASE * alpha * slope
                if falls or (trial.value <= point.value + noise and after @ self.apply(after) < IMPROVED**2 * size):
                    self.steps.append(alpha * direction)
                    self.changes.append(after - gradient)
                    return trial
            alpha *= 0.5
        return None

    def _two_loops(self, gradient: FloatArray) -> FloatArray:
        """BFGS's inverse Hessian times the gradient, all pairs kept (Nocedal and Wright 2006, algorithm 7.4)."""
        pairs = [(s, y, float(s @ y)) for s, y in zip(self.steps, self.changes, strict=True)]
        pairs = [pair for pair in pairs if pair[2] > 0]  # convexity makes it so, rounding may not
        q, taken = gradient.copy(), []
        for s, y, product in reversed(pairs):
            taken.append(float(s @ q) / product)
            q -= taken[-1] * y
        q = self.apply(q)
        for (s, y, product), share in zip(pairs, reversed(taken), strict=True):
            q += (share - float(y @ q) / product) * s
        return q
