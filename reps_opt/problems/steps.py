"""Steps in parameter space: vanilla, natural, TRPO and CPO steps as one program over a quadratic ball.

Shapes: P parameters, k cost rows; gradient g and step s are (P,), the rows' slopes B (k, P), their levels c (k,).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.divergences.base import Quadratic as QuadraticBall
from reps_opt.metrics import Metric, as_metric
from reps_opt.problem import Problem
from reps_opt.problems.step_solution import StepSolution, read_infeasible, read_step
from reps_opt.program import Block, Program, Scale
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.quadratic import Quadratic, Reduced, reduce_program
from reps_opt.validation import FloatArray, as_float_array, as_scalar, read_only

MARGIN = 1e-12
"""Relative excess of the smallest divergence over epsilon that proves a problem infeasible."""


CLOSED_FORM = Quadratic()
"""The default route; settings only, so that one serves all."""


class TrustRegionStep(Problem):
    r"""A gradient step as large as a quadratic ball allows, under linearised cost constraints.

    .. math::
        \max_s\; g's \quad\text{s.t.}\quad c_i + b_i's \le 0 \;[\nu_i \ge 0],
        \qquad \tfrac12 s'(F + \lambda I)s \le \epsilon \;[\eta \ge 0]

    .. math::
        \min_{\eta, \nu \ge 0}\; \eta\epsilon - c'\nu + \tfrac{1}{2\eta}(g - B'\nu)'(F + \lambda I)^{-1}(g - B'\nu),
        \qquad s = \tfrac1\eta (F + \lambda I)^{-1}(g - B'\nu)

    With F the identity it is the vanilla gradient step, with the Fisher matrix the natural one, TRPO's; with cost rows
    CPO's.

    Parameters
    ----------
    gradient
        g (P,).
    metric
        F: a dense symmetric (P, P) array, ``Factor(J)`` (mean outer product of the rows of J), ``Product(fn)``
        or ``Identity()``.
    epsilon
        Radius of the ball, finite and >= 0; in nats where F is a Fisher matrix.
    costs
        Rows (b, c), b (P,) and c a number, each saying ``c + b.s <= 0``: c is the cost above its budget now, b its
        gradient.
    damping
        lambda >= 0, added to F. The problem solved, its multipliers and its certificate are those of the damped F; the
        step is then lengthened until the undamped ``s'Fs / 2`` meets epsilon, as far as the rows let it.

    Raises
    ------
    TypeError, ValueError
        For arrays of the wrong shape or dtype, NaN, an asymmetric metric, or an epsilon that is negative or not finite.

    Notes
    -----
    ``eta`` is in units of the objective a nat: the derivative of the optimum in epsilon; without rows
    ``g.s = 2 epsilon eta``. ``nu`` is the derivative of the optimum in ``-c``. A zero gradient gives a zero step. Where
    no step in the ball satisfies the rows the status is ``infeasible``, and ``step`` is the recovery step: towards the
    nearest point that satisfies them, as far as the ball goes.

    References
    ----------
    Kakade (2002), *A natural policy gradient*; Schulman et al. (2015), *Trust region policy optimization*, appendix C;
    Achiam et al. (2017), *Constrained policy optimization*, equations 11-14.

    Examples
    --------
    >>> from reps_opt import TrustRegionStep, solve
    >>> g, F = [1.0, 2.0], [[1.0, 0.0], [0.0, 4.0]]
    >>> solution = solve(TrustRegionStep(g, F, epsilon=0.01))
    >>> print(solution.status, solution.step.round(4), round(solution.eta, 4))
    certified [0.1 0.05] 10.0
    >>> solve(TrustRegionStep(g, F, epsilon=0.01, costs=[([1.0, 0.0], 0.05)])).step.round(4)
    array([-0.05  ,  0.0661])
    """

    def __init__(
        self,
        gradient: ArrayLike,
        metric: Metric | ArrayLike,
        epsilon: float,
        costs: Sequence[tuple[ArrayLike, float]] | None = None,
        damping: float = 0.0,
    ) -> None:
        self.gradient = read_only(as_float_array(gradient, "gradient", ("P",)).copy())
        size = self.gradient.size
        if size == 0:
            raise ValueError("gradient is empty: there is nothing to step in")
        self.unit = float(np.abs(self.gradient).max()) or 1.0  # of the objective, as solvers see it
        self.metric = as_metric(metric, size)
        self.epsilon = as_scalar(epsilon, "epsilon", low=0.0)
        self.damping = as_scalar(damping, "damping", low=0.0)
        self.slopes, self.levels = _as_rows(costs, size)

    @cached_property
    def damped_metric(self) -> Metric:
        """F + damping I."""
        return self.metric.damped(self.damping) if self.damping > 0 else self.metric

    @cached_property
    def program(self) -> Program:
        """The :class:`~reps_opt.program.Program`, its rows ``B s <= -c`` under the name ``costs``."""
        return self._program(1.0)

    @cached_property
    def normalised(self) -> tuple[Program, Scale]:
        """The program with a gradient whose largest entry is one."""
        return self._program(self.unit), Scale(0.0, self.unit)

    def _program(self, unit: float) -> Program:
        ball = QuadraticBall(self.damped_metric, self.gradient.size)
        rows = {"costs": Block(self.slopes, -self.levels)} if self.levels.size else {}
        return Program(self.gradient / unit, ball, self.epsilon, inequalities=rows, variable="step")

    @cached_property
    def _reduced(self) -> Reduced:
        return reduce_program(self.normalised[0])

    @cached_property
    def _squares(self) -> FloatArray:
        return self.damped_metric.inverse_squares(np.concatenate([self.gradient[None], self.slopes]).T)

    @property
    def gradient_square(self) -> float:
        """``g'F^-1 g``, damping included."""
        return float(self._squares[0])

    @property
    def row_squares(self) -> FloatArray:
        """``b_i'F^-1 b_i`` (k,), damping included."""
        return self._squares[1:] if self.levels.size else np.zeros(0)

    @cached_property
    def nearest(self) -> tuple[FloatArray, FloatArray]:
        """The step (P,) that satisfies the rows at the smallest divergence, and its multipliers (k,).

        Where the rows contradict each other the step is NaN, and the multipliers prove it.
        """
        if not (self.levels > 0).any():
            return np.zeros_like(self.gradient), np.zeros_like(self.levels)
        z, multipliers = self._reduced.nearest()
        return self._reduced.basis @ z, multipliers

    @cached_property
    def epsilon_min(self) -> float:
        """Smallest radius for which the rows can be met, by weak duality; infinite when none is."""
        if not self.levels.size or self.levels.max() <= 0:
            return 0.0
        step, multipliers = self.nearest
        if not multipliers.any():
            return 0.0
        if np.isnan(step).any():
            return math.inf
        pulled = -(multipliers @ self.slopes)
        least = float(self.levels @ multipliers) - self.damped_metric.conjugate_bound(pulled, step)
        return max(least, 0.0)

    @property
    def infeasible(self) -> bool:
        """Whether every step in the ball violates a row."""
        return self.levels.size > 0 and self.epsilon < self.epsilon_min * (1 - MARGIN)

    def recovery_step(self) -> FloatArray:
        """The step (P,) to the nearest point of the rows, as far as the ball goes."""
        z = self._reduced.from_nearest(self.epsilon).z
        return self._reduced.basis @ z

    def closed_form(self, program: Program) -> Answer | None:
        if self.epsilon == 0 or (not self.gradient.any() and not np.any(self.levels > 0)):
            eta = math.inf if self.gradient.any() else 0.0
            still = np.zeros_like(self.gradient)
            return Answer(eta, np.zeros_like(self.levels), still, "no step improves or none is allowed")
        return None

    def direct(self, solver: Solver) -> Answer | None:
        if type(solver) is not Quadratic or self.epsilon == 0 or not self.gradient.any():
            return None
        objective = (self.gradient / self.unit)[None]
        columns = np.concatenate([objective, self.slopes]).T if self.levels.size else objective.T
        return solver.maximise(self.damped_metric, columns, -self.levels, self.epsilon)

    def solution(self, program: Program | None, answer: Answer) -> StepSolution:
        return read_step(self, answer)

    def infeasible_solution(self) -> StepSolution:
        return read_infeasible(self)

    def default_solver(self) -> Solver:
        return CLOSED_FORM

    def to_cvxpy(self, side: str = "primal") -> Any:
        """The problem as a ``cvxpy.Problem``, damping included; see :meth:`reps_opt.REPS.to_cvxpy`.

        Variable ``step`` (P,) with constraints ``costs`` and ``kl``; in the dual ``costs`` (nu) and ``kl`` (eta), where
        ``normalisation`` stands for ``(g - B'nu)'F^-1(g - B'nu) / (2 eta)``.
        """
        from reps_opt.solvers.cvxpy_conic import pose

        return pose(self.program, side).problem

    def __repr__(self) -> str:
        rows = f", {self.levels.size} cost rows" if self.levels.size else ""
        damping = f", damping={self.damping:g}" if self.damping else ""
        return f"TrustRegionStep({self.metric!r}, epsilon={self.epsilon:g}{rows}{damping})"


@lru_cache(maxsize=8)
def _no_rows(size: int) -> tuple[FloatArray, FloatArray]:
    return read_only(np.zeros((0, size))), read_only(np.zeros(0))


def _as_rows(costs: Sequence[tuple[ArrayLike, float]] | None, size: int) -> tuple[FloatArray, FloatArray]:
    """Slopes (k, P) and levels (k,) of the rows."""
    pairs = [] if costs is None else list(costs)
    if not pairs:
        return _no_rows(size)
    slopes, levels = np.zeros((len(pairs), size)), np.zeros(len(pairs))
    for i, pair in enumerate(pairs):
        if len(pair) != 2:
            raise ValueError(f"costs[{i}] must be a pair (b, c), got {len(pair)} items")
        slopes[i] = as_float_array(pair[0], f"costs[{i}][0]", (size,))
        levels[i] = as_scalar(pair[1], f"costs[{i}][1]")
    return read_only(slopes), read_only(levels)
