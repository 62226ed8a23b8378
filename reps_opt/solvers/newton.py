r"""Newton's method on the dual, in (log eta, multipliers).

One factorisation of the curvature H_vv per iteration gives both the step at fixed eta and dv/d eta along the central
curve; eta itself moves by Newton's method on ``log D = log epsilon`` as a function of ``log eta``, exact where the
divergence is quadratic. The joint step is a descent direction of the (jointly convex) dual, and a line search on the
dual accepts it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from reps_opt.dual_point import DualPoint
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer, Iterative
from reps_opt.solvers.path import follow_path
from reps_opt.solvers.slack import binds, limit_if_slack
from reps_opt.solvers.start import quadratic_start
from reps_opt.solvers.trace import Trace
from reps_opt.systems.choice import METHODS, normal_equations
from reps_opt.tolerances import (
    CLOSE,
    IMPROVED,
    LARGEST_COOLING,
    LARGEST_LOG_STEP,
    LARGEST_TRAVEL,
    LEAST_STARTING_ETA,
    LOOSEST_ALONG_RTOL,
    NEAR_THE_CURVE,
    NEGLIGIBLE_ETA,
    NEWTON_RTOL,
    ROUNDED,
    ROUNDING,
    SHORTEST_STEP,
    SLACK_SUSPECTED,
    SUFFICIENT_DECREASE,
    TINY,
    ULPS,
    VISIBLE,
)
from reps_opt.validation import FloatArray, UnsuitableError
from reps_opt.vectors import inner, one_norm


class Direction(NamedTuple):
    """A joint step: ``multipliers(alpha) = v + alpha newton + along (eta(alpha) - eta)``."""

    log_eta: float
    newton: FloatArray
    along: FloatArray
    decrease: float


def proves_infeasible(program: Program, eta: float, value: float) -> bool:
    """Whether a dual value at eta lies below what any feasible point would score (weak duality)."""
    return value < program.least_score(eta) - VISIBLE - ROUNDING * eta


def free_rows(program: Program, point: DualPoint) -> np.ndarray:
    """Rows (m,) whose multiplier may move."""
    return program.free(point.multipliers, point.residual)


def off_ball(program: Program, point: DualPoint) -> float:
    """How far D(x) is from epsilon; in penalty form, eta from the temperature (as a logarithm)."""
    if program.epsilon is None:
        assert program.temperature is not None
        return abs(math.log(point.eta / program.temperature))
    return abs(point.divergence - program.epsilon)


def off_rows(program: Program, point: DualPoint) -> float:
    """1-norm of the residual of the rows whose multiplier may move."""
    residual = point.residual[free_rows(program, point)] if program.inequalities else point.residual
    return one_norm(residual)


def dual_error(program: Program, point: DualPoint) -> float:
    """How far a point is from stationary: the residual of the free rows, plus the distance to the sphere."""
    return off_rows(program, point) + off_ball(program, point)


def check_smooth(program: Program) -> None:
    """Raise ValueError where the dual cannot be descended by its gradient."""
    if not program.divergence.smooth:
        raise UnsuitableError("the dual is not smooth in the multipliers: use SoftBellman, CvxpyPrimal or CvxpyDual")


def require_simplex(program: Program, route: str) -> None:
    """Raise ValueError for a program whose divergence lives elsewhere."""
    if not program.simplex:
        raise UnsuitableError(f"{route} works on the simplex: use Quadratic, CvxpyPrimal or CvxpyDual for steps")


def linear_answer(program: Program) -> Answer:
    """Answer of a program without a ball, by the method its problem has for it."""
    if program.hints.linear_limit is None:
        raise UnsuitableError("program has no ball and no linear_limit: solve it by CvxpyPrimal or CvxpyDual")
    limit = program.hints.linear_limit()
    return Answer(0.0, limit.multipliers, limit.point, "there is no ball")


@dataclass(frozen=True)
class Newton(Iterative):
    r"""Newton's method on the dual: the default route.

    Parameters
    ----------
    tolerance
        Largest \|D(x) - epsilon\| and 1-norm of the constraint residual at the end, rewards normalised to range one.
        Several balls are followed along the central path of :mod:`reps_opt.solvers.path` instead.
    max_iterations
        Iterations before the best point so far is returned.
    linear_solver
        ``"dense"``, ``"sparse"`` or ``"cg"`` systems; ``"auto"`` chooses by size and structure.
    slack_suspected
        Fraction of the starting eta below which the linear program is looked at: small where that program is dear.
    verbose
        Print one line an iteration.
    """

    tolerance: float = 1e-11
    max_iterations: int = 200
    linear_solver: str = "auto"
    slack_suspected: float = SLACK_SUSPECTED
    verbose: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.linear_solver not in METHODS:
            raise ValueError(f"linear_solver must be one of {METHODS}, got {self.linear_solver!r}")

    def solve(self, program: Program) -> Answer:
        """Minimise the dual of a program whose objective is normalised to range one."""
        require_simplex(program, "Newton")
        if len(program.balls) > 1:
            return follow_path(program, self.max_iterations, self.verbose)
        return _Search(self, program).run()

    def project(self, program: Program) -> Answer:
        """Smallest-divergence point of a program's constraints, its objective and ball ignored."""
        return self.solve(program.flat())


class _Search:
    """One run: the program, the systems it shares between iterations, and the current point."""

    def __init__(self, settings: Newton, program: Program) -> None:
        self.settings = settings
        self.program = program
        self.equations = normal_equations(program, settings.linear_solver)
        self.sizes = np.abs(program.rhs)
        self.trace = Trace(settings.verbose)
        self.alpha = math.nan
        self._turned: FloatArray | None = None
        self._curved = math.inf

    def run(self) -> Answer:
        """Iterate to the tolerance, or to where no step improves the dual any more."""
        if self.program.unbounded:
            return linear_answer(self.program)
        check_smooth(self.program)
        point = quadratic_start(self.program, self.equations)
        if point.eta <= LEAST_STARTING_ETA and self.program.epsilon is not None and self.program.ridge is None:
            at = self.program.hints.centre
            nearest = self.program.divergence.reference if at is None else at.point
            return self._answer(0.0, point.multipliers, nearest, "the rows leave the objective no choice")
        suspicion = max(self.settings.slack_suspected * point.eta, NEGLIGIBLE_ETA)
        message = "iteration limit"
        for _ in range(self.settings.max_iterations):
            free = free_rows(self.program, point)
            if self._converged(point, self._log(point)):
                message, point = "converged", self._on_the_sphere(point)
                break
            if proves_infeasible(self.program, point.eta, point.value):
                message = "the dual falls below every feasible objective: no point is feasible"
                break
            if point.eta <= suspicion and point.divergence < (self.program.epsilon or 0.0):
                suspicion = 0.0
                surely, point = binds(self.program, point) if self.equations.iterative else (False, point)
                if not surely and (limit := limit_if_slack(self.program, point.divergence)) is not None:
                    return self._answer(0.0, limit.multipliers, limit.point, "the ball is slack")
            if self.equations.exhausted:  # where it has led is no place to go on from
                return _Search(replace(self.settings, linear_solver="sparse"), self.program).run()
            shift = None if self.program.ridge is None else point.eta * self.program.ridge
            moved = self._line_search(point, self._bounded_direction(point, self._curvature(point), free, shift))
            if moved is None:
                if suspicion > 0 and (limit := limit_if_slack(self.program, point.divergence)) is not None:
                    return self._answer(0.0, limit.multipliers, limit.point, "the ball is slack")
                moved = self._damped_step(point, free, shift)
            if moved is None and self.equations.thin:
                self.equations = normal_equations(self.program, "sparse")
                continue
            if moved is None:
                message = "no further decrease of the dual"
                break
            point = moved
        return self._answer(point.eta, point.multipliers, point.conjugate.point, message)

    def _curvature(self, point: DualPoint) -> FloatArray:
        """Weights of the systems: those of the conjugate, damped where they vanish and would leave a system singular.

        The damping is the error, in units of the reference: the last steps are Newton's (Li, Fukushima, Qi, Yamashita
        2004).
        """
        weights, divergence = point.conjugate.weights, self.program.divergence
        if self.equations.thin:
            weights = self.equations.evened(weights, dual_error(self.program, point))
        if not divergence.truncates:
            return weights
        return weights + min(1.0, dual_error(self.program, point)) * divergence.reference

    def _damped_step(self, point: DualPoint, free: np.ndarray, shift: FloatArray | None) -> DualPoint | None:
        """A step where Newton's own leads nowhere: nearly all mass in one coordinate has next to no curvature.

        An even share of the mass everywhere, the more the shorter the step, makes up for it (Levenberg, Marquardt).
        """
        if dual_error(self.program, point) <= CLOSE:
            return None
        even = point.conjugate.weights.sum() / self.program.n
        for share in (VISIBLE, 1.0):
            moved = self._line_search(
                point, self._bounded_direction(point, self._curvature(point) + share * even, free, shift)
            )
            if moved is not None:
                return moved
        return None

    def _converged(self, point: DualPoint, residual: float) -> bool:
        tolerance = self.settings.tolerance
        return residual <= tolerance and off_ball(self.program, point) <= tolerance

    def _on_the_sphere(self, point: DualPoint) -> DualPoint:
        """The point moved along the curve by what it misses of the sphere: for one more look at the dual, where that is
        little beside a step, the certificate's gap is what the square of the residual leaves."""
        if not self.equations.iterative or self.program.epsilon is None or self._turned is None:
            return point
        log_step = self._log_step(point.divergence, self._curved)
        moved = self._move(point, Direction(log_step, np.zeros_like(self._turned), -self._turned, 0.0), 1.0)
        return moved if dual_error(self.program, moved) <= dual_error(self.program, point) else point

    def _bounded_direction(
        self, point: DualPoint, weights: FloatArray, free: np.ndarray, shift: FloatArray | None
    ) -> Direction:
        """Newton's step, prices at zero held there one by one as long as it would take one below.

        Of dependent rows with different right-hand sides only one can bind: with both free the model has no minimum.
        """
        self.equations.update(weights, free, shift)
        direction = self._direction(point)
        if not self.program.inequalities:
            return direction
        while True:
            moved = direction.newton + point.eta * math.expm1(direction.log_eta) * direction.along
            below = np.where(self.program.signed & free & (point.multipliers <= 0), moved, 0.0)
            worst = int(np.argmin(below))
            if below[worst] >= 0:
                return direction
            free = free.copy()
            free[worst] = False
            self.equations.update(weights, free, shift)
            direction = self._direction(point)

    def _direction(self, point: DualPoint) -> Direction:
        program, equations = self.program, self.equations
        eta, conjugate = point.eta, point.conjugate
        size, rtol = 0.0, NEWTON_RTOL
        if not equations.exact and (size := one_norm(point.residual)) > 0:
            # quadratic convergence, but no more than the last step needs (Kelley 1995, equation 6.20)
            rtol = min(rtol, max(size, 0.3 * self.settings.tolerance / size))
        newton = equations.solve(-eta * point.residual, rtol)
        if program.epsilon is None and not self._may_cool(point):
            return Direction(0.0, newton, np.zeros_like(newton), inner(point.residual, newton))
        scaled = point.scaled
        spread = conjugate.hessian(scaled)
        coupling = program.times(spread) if point.coupling is None else point.coupling
        along = -equations.solve(coupling, self._along_rtol(point, coupling, rtol * size), self._turned)
        self._turned = -along  # it changes less and less on the way: where the next solve for it starts
        if program.epsilon is None:
            assert program.temperature is not None
            log_step = max(math.log(program.temperature / eta), -LARGEST_COOLING)
            return Direction(log_step, newton, along, math.nan)
        curvature = max(inner(scaled, spread) + inner(coupling, along), TINY)  # eta d2g/d eta2 on the curve
        self._curved = curvature
        predicted = point.divergence - inner(coupling, newton) / eta  # D after the step at fixed eta
        log_step = self._log_step(predicted, curvature)
        decrease = inner(point.residual, newton) + (program.epsilon - predicted) * eta * log_step
        return Direction(log_step, newton, along, decrease)

    def _along_rtol(self, point: DualPoint, coupling: FloatArray, left: float) -> float:
        """Relative residual at which dv/d eta, times the change of eta to be expected, errs by what Newton leaves.

        D falls about as 1 / eta^2.
        """
        epsilon = self.program.epsilon
        if not epsilon or self.equations.exact:
            return LOOSEST_ALONG_RTOL
        expected = off_ball(self.program, point) / (2 * epsilon) * one_norm(coupling)
        return min(max(left / max(expected, TINY), self.equations.least_along_rtol), LOOSEST_ALONG_RTOL)

    def _may_cool(self, point: DualPoint) -> bool:
        """In penalty form: whether eta is above the temperature and the point near enough to the curve to go on."""
        assert self.program.temperature is not None
        return point.eta > self.program.temperature and off_rows(self.program, point) < NEAR_THE_CURVE

    def _log_step(self, divergence: float, curvature: float) -> float:
        """Newton step of log D = log epsilon in log eta, along the curve of minimising multipliers."""
        epsilon = self.program.epsilon
        assert epsilon is not None
        if divergence <= ROUNDED and epsilon > ROUNDING:  # nothing has moved yet, and the curvature is rounding too
            return -LARGEST_LOG_STEP
        if divergence > 0 and epsilon > 0:
            step = divergence / curvature * math.log(divergence / epsilon)
        else:
            step = (divergence - epsilon) / curvature
        return min(max(step, -LARGEST_LOG_STEP), LARGEST_LOG_STEP)

    def _line_search(self, point: DualPoint, direction: Direction) -> DualPoint | None:
        """Halve the step until the dual falls; at rounding level, until the residual does."""
        terms = inner(self.sizes, np.abs(point.multipliers)) + point.eta * abs(point.conjugate.value)
        noise = ULPS * (terms + point.eta)
        error = None
        alpha = 1.0
        while alpha > SHORTEST_STEP:
            trial = self._move(point, direction, alpha)
            if self._travelled(point, trial) > LARGEST_TRAVEL:
                alpha *= 0.5
                continue
            if math.isnan(direction.decrease):  # eta itself is on its way to the temperature: nothing to compare
                return trial
            wanted = SUFFICIENT_DECREASE * alpha * min(direction.decrease, 0.0)
            if trial.value <= point.value + wanted and -wanted > noise:
                return trial
            if -wanted <= noise and trial.value <= point.value + 10 * noise:
                error = dual_error(self.program, point) if error is None else error
                if dual_error(self.program, trial) < IMPROVED * error:
                    return trial
            alpha *= 0.5
        return None

    def _move(self, point: DualPoint, direction: Direction, alpha: float) -> DualPoint:
        eta = point.eta * math.exp(alpha * direction.log_eta)
        temperature = self.program.temperature
        if temperature is not None and direction.log_eta != 0 and eta <= temperature * (1 + ROUNDING):
            eta = temperature
        self.alpha = alpha
        v = point.multipliers + alpha * direction.newton + (eta - point.eta) * direction.along
        if self.program.inequalities:
            signed = self.program.signed
            v[signed] = np.maximum(v[signed], 0.0)
        return self.program.dual(eta, v)

    def _travelled(self, point: DualPoint, trial: DualPoint) -> float:
        """Bregman divergence of D* between the two points: for a KL ball, KL(x_trial || x_point)."""
        moved = trial.scaled - point.scaled
        return inner(trial.conjugate.point, moved) - trial.conjugate.value + point.conjugate.value

    def _log(self, point: DualPoint) -> float:
        """One row of the trace: the point, and the share of Newton's step that led to it; and its residual."""
        residual = off_rows(self.program, point)
        self.trace.add(dual=point.value, eta=point.eta, divergence=point.divergence, residual=residual, step=self.alpha)
        return residual

    def _answer(self, eta: float, multipliers: FloatArray, point: FloatArray, message: str) -> Answer:
        stats: dict[str, Any] = {"iterations": max(len(self.trace) - 1, 0), **self.equations.stats, "trace": self.trace}
        return Answer(eta, multipliers, point, message, stats)
