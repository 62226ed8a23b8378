"""The answer to a step problem, read back and certified from its data.

Shapes: P parameters, k cost rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reps_opt.certificate import GAP_TOLERANCE, Certificate
from reps_opt.result import Arrays
from reps_opt.solution import Solution, Status
from reps_opt.solvers.answer import Answer
from reps_opt.validation import FloatArray

if TYPE_CHECKING:
    from reps_opt.problems.steps import TrustRegionStep


CANCELLED = 1e-3
"""Undamped share of a divergence below which it is computed anew, not by taking the damping off."""


@dataclass(frozen=True)
class StepCertificate(Certificate):
    r"""What was checked of a step, in units that do not change with the parametrisation.

    Attributes
    ----------
    gap : float
        (dual bound - objective) / the gain of the ball without rows; where conjugate gradient was used, it holds its
        error by the bound on :math:`D^*`.
    flow : float
        Largest violation of a row, relative to what the ball can change in it.
    mass : float
        Zero: a step has no mass.
    kl, epsilon : float
        ``s'(F + damping I)s / 2`` of the problem solved, and what it is allowed.
    stationarity : float
        \|g - B'nu - eta (F + damping I) s\| / \|g\|, largest entries: for the reader, since the gap already bounds
        its consequences.
    complementarity : float
        Largest ``nu_i |c_i + b_i.s|`` / the gain of the ball without rows.
    """

    stationarity: float = 0.0
    complementarity: float = 0.0


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class StepSolution(Solution):
    """Answer to a :class:`~reps_opt.TrustRegionStep`; see :class:`~reps_opt.Solution` for what every answer has.

    Attributes
    ----------
    step : (P,) array
        The step to take: the solved one times ``lengthening``. Where the problem is infeasible, the recovery step.
    nu : (k,) array
        Prices of the cost rows.
    predicted_improvement : float
        ``g.step``.
    predicted_kl : float
        ``step'F step / 2`` without damping, in nats where F is a Fisher matrix.
    lengthening : float
        Factor >= 1 from the step of the damped problem, which ``certificate`` and ``objective`` are about.
    epsilon_min : float
        Smallest radius for which the rows can be met.
    """

    step: FloatArray
    nu: FloatArray
    predicted_improvement: float
    predicted_kl: float
    lengthening: float = 1.0
    epsilon_min: float = 0.0

    def rows(self) -> list[tuple[str, str]]:
        lines = super().rows()
        lines.insert(1, ("predicted gain", f"{self.predicted_improvement:.9g}"))
        lines.insert(2, ("predicted kl", f"{self.predicted_kl:.9g}"))
        if self.nu.size:
            lines.insert(3, ("nu", np.array2string(self.nu, precision=6)))
        if self.status is Status.INFEASIBLE:
            lines.insert(1, ("epsilon_min", f"{self.epsilon_min:.9g}"))
        return lines

    def numbers(self) -> dict[str, Any]:
        names = ("predicted_improvement", "predicted_kl", "lengthening", "epsilon_min")
        return {**super().numbers(), **{name: float(getattr(self, name)) for name in names}}

    def arrays(self) -> Arrays:
        """Over the parameters; with cost rows also their prices ``nu``, and ``cost`` = c + b.step, to be <= 0."""
        problem = self.problem
        arrays: dict[str, Any] = {
            "step": (("parameter",), self.step),
            "gradient": (("parameter",), problem.gradient),
        }
        if self.nu.size:
            arrays |= {"nu": (("row",), self.nu), "cost": (("row",), problem.levels + problem.slopes @ self.step)}
        return arrays


def read_step(problem: TrustRegionStep, answer: Answer) -> StepSolution:
    """Certified solution from an answer to the normalised program."""
    point = None if answer.point is None else _into_ball(problem, answer.point)
    if point is None:
        return _failed(problem, answer)
    eta, nu = answer.eta * problem.unit, problem.levels
    if nu.size:
        nu = np.zeros(nu.size) if answer.multipliers is None else np.maximum(answer.multipliers * problem.unit, 0.0)
    certificate = _certify(problem, point, eta, nu)
    ok = certificate.ok()
    advice = [] if ok else [*certificate.reasons(), answer.message, _advice(problem, certificate)]
    step, predicted_kl, lengthening = _lengthened(problem, point)
    return StepSolution(
        problem=problem,
        status=Status.CERTIFIED if ok else Status.UNCERTIFIED,
        eta=eta,
        objective=certificate.lower,
        dual_objective=certificate.upper,
        duals={"kl": eta, "costs": nu},
        certificate=certificate,
        message=answer.message if ok else "; ".join(advice),
        stats=answer.stats,
        step=step,
        nu=nu,
        predicted_improvement=float(problem.gradient @ step),
        predicted_kl=predicted_kl,
        lengthening=lengthening,
        epsilon_min=problem.epsilon_min if nu.size else 0.0,
    )


def read_infeasible(problem: TrustRegionStep) -> StepSolution:
    """The solution of a problem whose ball misses the rows, with the recovery step."""
    step = problem.recovery_step()
    least = problem.epsilon_min
    text = f"no step within epsilon = {problem.epsilon:g} meets the cost rows"
    text += "; they contradict each other" if least == math.inf else f": it takes at least {least:.9g}"
    return _without_duals(problem, Status.INFEASIBLE, step, text, {})


def _failed(problem: TrustRegionStep, answer: Answer) -> StepSolution:
    return _without_duals(
        problem, Status.FAILED, np.full_like(problem.gradient, np.nan), answer.message, dict(answer.stats)
    )


def _without_duals(
    problem: TrustRegionStep, status: Status, step: FloatArray, message: str, stats: dict
) -> StepSolution:
    nan, nothing = math.nan, np.full_like(problem.levels, math.nan)
    known = bool(np.isfinite(step).all())
    return StepSolution(
        problem=problem,
        status=status,
        eta=nan,
        objective=nan,
        dual_objective=nan,
        duals={"kl": nan, "costs": nothing},
        certificate=StepCertificate.unknown(problem.epsilon),
        message=message,
        stats=stats,
        step=step,
        nu=nothing,
        predicted_improvement=float(problem.gradient @ step),
        predicted_kl=problem.metric.half_square(step) if known else nan,
        epsilon_min=problem.epsilon_min,
    )


class _Point(NamedTuple):
    """A step s (P,), ``(F + damping I) s``, and the divergence of the problem solved."""

    step: FloatArray
    curved: FloatArray
    divergence: float


def _into_ball(problem: TrustRegionStep, step: FloatArray) -> _Point | None:
    """The step, shortened where a conic solver left the ball by its tolerance, and the one product taken with it.

    None where the step is not finite, which its divergence tells.
    """
    curved = problem.damped_metric.product(step)
    divergence = 0.5 * float(step @ curved)
    if divergence <= problem.epsilon:
        return _Point(step, curved, divergence)
    if not math.isfinite(divergence) and not np.isfinite(step).all():
        return None
    inside = math.sqrt(problem.epsilon / divergence)
    return _Point(inside * step, inside * curved, problem.epsilon)


def _certify(problem: TrustRegionStep, point: _Point, eta: float, nu: FloatArray) -> StepCertificate:
    """Gap by weak duality, residuals of the rows and of the KKT conditions, all from the problem's data."""
    has_rows = problem.levels.size > 0
    pulled = problem.gradient - nu @ problem.slopes if has_rows else problem.gradient
    lower = float(problem.gradient @ point.step)
    upper, stationarity = _upper(problem, pulled, point, eta, nu)
    gain, flow, complementarity = max(lower, 0.0), 0.0, 0.0
    if has_rows:
        gain = max(gain, math.sqrt(2 * problem.epsilon * problem.gradient_square))  # the gain without rows
        level = problem.levels + problem.slopes @ point.step
        reach = np.sqrt(np.maximum(2 * problem.epsilon * problem.row_squares, 0.0)) + np.abs(problem.levels)
        reach[reach == 0] = 1.0
        flow = max(float((level / reach).max()), 0.0)
        complementarity = float((nu * np.abs(level)).max())
    gain = gain if gain > 0 else 1.0
    return StepCertificate(
        gap=max((upper - lower) / gain, 0.0),
        flow=flow,
        mass=0.0,
        kl=point.divergence,
        epsilon=problem.epsilon,
        upper=upper,
        lower=lower,
        stationarity=stationarity,
        complementarity=complementarity / gain,
    )


def _upper(
    problem: TrustRegionStep, pulled: FloatArray, point: _Point, eta: float, nu: FloatArray
) -> tuple[float, float]:
    """Dual bound at (eta, nu), exact D* bounded through the step itself; and the stationarity residual."""
    metric, scale = problem.damped_metric, problem.unit
    rows = -float(problem.levels @ nu) if nu.size else 0.0
    if eta == math.inf:  # the ball holds one point
        finite = metric.conjugate_bound(pulled, metric.solve(pulled)) < math.inf
        return (rows if finite else math.inf), 0.0
    if eta == 0:
        residual = float(np.abs(pulled).max()) / scale
        reach = math.sqrt(2 * problem.epsilon * 2 * metric.conjugate_bound(pulled, metric.solve(pulled)))
        return rows + reach, residual
    left = pulled - eta * point.curved
    missed = float(np.abs(left).max())
    height = float(pulled @ point.step) - eta * point.divergence + metric.residual_bound(left, missed, scale) / eta
    return eta * problem.epsilon + rows + height, missed / scale


def _lengthened(problem: TrustRegionStep, point: _Point) -> tuple[FloatArray, float, float]:
    """The damped problem's step lengthened until the undamped quadratic or a row stops it; that, and the factor."""
    if problem.damping == 0:
        return point.step, point.divergence, 1.0
    length = point.divergence - 0.5 * problem.damping * float(point.step @ point.step)
    if length < CANCELLED * point.divergence:
        length = problem.metric.half_square(point.step)
    if length <= 0:
        return point.step, 0.0, 1.0
    factor = math.sqrt(problem.epsilon / length)
    change = problem.slopes @ point.step
    rising = change > 0
    factor = max(min([factor, *(-problem.levels[rising] / change[rising])]), 1.0)
    return factor * point.step, factor**2 * length, factor


def _advice(problem: TrustRegionStep, certificate: StepCertificate) -> str:
    if certificate.upper == math.inf:
        return "the metric is singular or has no known lower bound: add damping"
    return f"try another solver or a smaller rtol (the gap is certified to {GAP_TOLERANCE:.0e})"
