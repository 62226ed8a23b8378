"""Steps in parameter space: vanilla, natural, TRPO and CPO steps as one program over a quadratic ball.

Shapes: P parameters, k cost rows; gradient g and step s are (P,), the rows' slopes B (k, P), their levels c (k,).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.certify import Bound, Residuals
from reps_opt.constraints import SPACE, AtMost
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import Quadratic as QuadraticBall
from reps_opt.hints import Hints
from reps_opt.metrics import Metric, as_metric
from reps_opt.problem import Problem
from reps_opt.problems.step_solution import StepSolution
from reps_opt.program import Program
from reps_opt.scale import Scale
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.quadratic import Quadratic, Reduced, reduce_program
from reps_opt.tolerances import REMEMBERED, ROUNDING
from reps_opt.validation import FloatArray, as_float_array, as_scalar, check_finite, finite_vector, read_only
from reps_opt.values import cached_property, value
from reps_opt.vectors import largest_size

STEP = Hints(variable="step")

CLOSED_FORM = Quadratic()
"""The default route; settings only, so that one serves all."""


def step_program(
    objective: FloatArray,
    metric: Metric,
    radius: float | None = None,
    price: float | None = None,
    rows: Mapping[str, AtMost] | None = None,
) -> Program:
    """The program of every step: a linear gain (P,) over a quadratic ball with a radius, or at a price."""
    ball = Ball(QuadraticBall(metric, objective.size), radius=radius, price=price)
    return Program(objective, rows, ball, SPACE, hints=STEP)


@value
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

    gradient: FloatArray
    metric: Metric
    epsilon: float
    costs: tuple[tuple[FloatArray, float], ...]
    damping: float

    view = StepSolution
    advice = "add damping where the metric is singular; else try another solver or a smaller rtol"

    def __init__(
        self,
        gradient: ArrayLike,
        metric: Metric | ArrayLike,
        epsilon: float,
        costs: Sequence[tuple[ArrayLike, float]] | None = None,
        damping: float = 0.0,
    ) -> None:
        g = as_float_array(gradient, "gradient", ("P",), finite=False).copy()
        if g.size == 0:
            raise ValueError("gradient is empty: there is nothing to step in")
        if not finite_vector(g):
            check_finite(g, "gradient")
        g.flags.writeable = False
        slopes, levels = _as_rows(costs, g.size)
        self._assign(
            slopes=slopes,  # what is computed from costs elsewhere
            levels=levels,
            gradient=g,
            metric=as_metric(metric, g.size),
            epsilon=as_scalar(epsilon, "epsilon", low=0.0),
            costs=tuple(zip(slopes, levels.tolist(), strict=True)) if levels.size else (),
            damping=as_scalar(damping, "damping", low=0.0),
        )

    @cached_property
    def slopes(self) -> FloatArray:
        """B (k, P)."""
        return _as_rows(self.costs, self.gradient.size)[0]

    @cached_property
    def levels(self) -> FloatArray:
        """c (k,)."""
        return _as_rows(self.costs, self.gradient.size)[1]

    @cached_property
    def _peak(self) -> float:
        """Largest entry of the gradient in size."""
        return largest_size(self.gradient)

    @property
    def largest(self) -> float:
        """Largest entry of the gradient, one where all are zero: the objective's unit, as solvers see it."""
        return self._peak or 1.0

    @property
    def damped_metric(self) -> Metric:
        """F + damping I; not cached without damping, which would cost the smallest step a fortieth of its time."""
        return self._damped if self.damping > 0 else self.metric

    @cached_property
    def _damped(self) -> Metric:
        return self.metric.damped(self.damping)

    @cached_property
    def program(self) -> Program:
        """The :class:`~reps_opt.program.Program`, its rows ``B s <= -c`` under the name ``costs``."""
        return self._program(self.gradient, self.slopes, self.levels)

    @cached_property
    def normalised(self) -> tuple[Program, Scale]:
        """The program with a gradient whose largest entry is one, and rows in units of their :attr:`reach`."""
        slopes, levels, unit = self.slopes, self.levels, self.largest
        if levels.size:
            slopes, levels = slopes / self.reach[:, None], levels / self.reach
        return self._program(self.gradient / unit, slopes, levels), Scale(0.0, unit)

    def _program(self, objective: FloatArray, slopes: FloatArray, levels: FloatArray) -> Program:
        rows = {"costs": AtMost(slopes, -levels)} if levels.size else {}
        return step_program(objective, self.damped_metric, radius=self.epsilon, rows=rows)

    def _unshown(self, multipliers: FloatArray) -> FloatArray:
        return multipliers * self.reach if self.levels.size else multipliers

    @cached_property
    def reach(self) -> FloatArray:
        """What the ball can change in a row, and its level (k,): the units in which a violation counts."""
        reach = np.sqrt(np.maximum(2 * self.epsilon * self.row_squares, 0.0)) + np.abs(self.levels)
        return np.where((reach > 0) & (reach < math.inf), reach, 1.0)

    @cached_property
    def _reduced(self) -> Reduced:
        return reduce_program(self.program)

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
        size = float(np.abs(self.levels).max())  # steps are in proportion to it, radii to its square
        step, multipliers = step / size, multipliers / size
        pulled = -(multipliers @ self.slopes)
        least = float((self.levels / size) @ multipliers) - self.damped_metric.conjugate_bound(pulled, step)
        return max(least, 0.0) * size * size

    @property
    def _single_row_met(self) -> bool:
        """Whether a step well inside the ball, ``-F^-1 b c / S``, meets the only row, at a divergence of c^2 / 2S.

        S is ``b'F^-1 b``.
        """
        if self.levels.size != 1:
            return False
        level = float(self.levels[0])
        return level * level <= self.epsilon * float(self.row_squares[0]) < math.inf

    def infeasible(self) -> str:
        """Why every step in the ball violates a row."""
        if not self.levels.size or self._single_row_met or self.epsilon >= self.epsilon_min * (1 - ROUNDING):
            return ""
        text = f"no step within epsilon = {self.epsilon:g} meets the cost rows"
        return (
            f"{text}; they contradict each other"
            if np.isnan(self.nearest[0]).any()
            else (f"{text}: it takes at least {self.epsilon_min:.9g}")
        )

    def recovery_step(self) -> FloatArray:
        """The step (P,) to the nearest point of the rows, as far as the ball goes."""
        z = self._reduced.from_nearest(self.epsilon).z
        return self._reduced.basis @ z

    def closed_form(self, program: Program) -> Answer | None:
        moves = self._peak > 0
        if self.epsilon == 0 or not (moves or np.any(self.levels > 0)):
            eta = math.inf if moves else 0.0
            still = np.zeros_like(self.gradient)
            return Answer(eta, np.zeros_like(self.levels), still, "no step improves or none is allowed")
        return None

    def default_solver(self) -> Solver:
        return CLOSED_FORM

    @property
    def radius(self) -> float:
        return self.epsilon

    @cached_property
    def anchor(self) -> FloatArray | None:
        """The step that meets the rows at the smallest divergence: zero where no row is violated there."""
        nearest = self.nearest[0]
        return None if np.isnan(nearest).any() else nearest

    def candidates(self, program: Program, answer: Answer) -> list[FloatArray]:
        """The solver's own point."""
        return [answer.point] if answer.point is not None and finite_vector(answer.point) else []

    def bounds(self, program: Program, answer: Answer, point: FloatArray, divergences: list[float]) -> list[Bound]:
        """The dual bound at (eta, nu), D* bounded through the step itself where only products are known."""
        eta, metric = answer.eta, self.damped_metric
        nu, rows, pulled = self.levels, 0.0, program.objective  # of size zero: no rows
        if nu.size:
            given = answer.multipliers
            in_units = np.zeros(nu.size) if given is None else np.maximum(given, 0.0)
            pulled, rows = program.net(in_units), float(program.rhs @ in_units)
            nu = in_units / self.reach
        if eta == math.inf:  # the ball holds one point
            finite = metric.conjugate_bound(pulled, metric.solve(pulled)) < math.inf
            return [Bound(rows if finite else math.inf, eta, nu)]
        if eta == 0:
            reach = math.sqrt(2 * self.epsilon * 2 * metric.conjugate_bound(pulled, metric.solve(pulled)))
            return [Bound(rows + reach, eta, nu)]
        left = pulled - eta * program.divergence.gradient(point)
        height = float(pulled.dot(point)) - eta * divergences[0]
        height += metric.residual_bound(left, program.objective) / eta
        return [Bound(eta * self.epsilon + rows + height, eta, nu)]

    def residuals(self, program: Program, point: FloatArray) -> Residuals:
        """Largest violation of a row, relative to what the ball can change in it."""
        if not self.levels.size:
            return Residuals(0.0, 0.0)
        return Residuals(max(float(((self.levels + self.slopes @ point) / self.reach).max()), 0.0), 0.0)

    def price(self, program: Program, point: FloatArray, bound: Bound, divergences: list[float]) -> float:
        """Nothing: the step is inside the ball, and what it misses in a row is told by the residual."""
        return 0.0

    def unit(self, program: Program, point: FloatArray, bound: Bound, divergences: list[float], gap: float) -> float:
        """The gain of the ball without rows, which no parametrisation changes."""
        gain = max(float(program.objective.dot(point)), 0.0)
        if self.levels.size:
            gain = max(gain, math.sqrt(max(2 * self.epsilon * self.gradient_square, 0.0)) / self.largest)
        return gain if gain > 0 else 1.0

    def __repr__(self) -> str:
        rows = f", {self.levels.size} cost rows" if self.levels.size else ""
        damping = f", damping={self.damping:g}" if self.damping else ""
        return f"TrustRegionStep({self.metric!r}, epsilon={self.epsilon:g}{rows}{damping})"


@lru_cache(maxsize=REMEMBERED)
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
