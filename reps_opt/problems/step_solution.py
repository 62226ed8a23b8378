"""The answer to a step problem.

Shapes: P parameters, k cost rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reps_opt import plotting
from reps_opt.plotting import Panel
from reps_opt.result import Arrays
from reps_opt.solution import Solution, Status
from reps_opt.tolerances import VISIBLE
from reps_opt.validation import FloatArray, read_only
from reps_opt.values import OldName, cached_property, value


@value
class StepSolution(Solution):
    r"""Answer to a :class:`~reps_opt.TrustRegionStep`; see :class:`~reps_opt.Solution` for what every answer has.

    Its gap is in units of the gain of the ball without rows, which no parametrisation changes; where conjugate gradient
    was used it holds its error, by the bound on :math:`D^*`.

    Attributes
    ----------
    step : (P,) array
        The step to take: the solved one times ``lengthening``. Where the problem is infeasible, the recovery step.
    nu : (k,) array
        Prices of the cost rows.
    predicted_gain : float
        ``g.step``.
    predicted_kl : float
        ``step'F step / 2`` without damping, in nats where F is a Fisher matrix.
    lengthening : float
        Factor >= 1 from the step of the damped problem, which ``certificate`` and ``objective`` are about.
    """

    @cached_property
    def _taken(self) -> tuple[FloatArray, float, float]:
        """The step, its divergence without damping, and how much it was lengthened."""
        problem = self.problem
        if self.status is Status.INFEASIBLE:
            step = problem.recovery_step()
            known = bool(np.isfinite(step).all())
            return read_only(step), problem.metric.half_square(step) if known else math.nan, 1.0
        if self.point is None:
            return read_only(np.full_like(problem.gradient, math.nan)), math.nan, 1.0
        if problem.damping == 0:
            return self.point, self.kl, 1.0
        length = self.kl - 0.5 * problem.damping * float(self.point @ self.point)
        if length < VISIBLE * self.kl:  # the difference has lost six digits and more
            length = problem.metric.half_square(self.point)
        if length <= 0:
            return self.point, 0.0, 1.0
        factor = math.sqrt(problem.epsilon / length)
        change = problem.slopes @ self.point
        rising = change > 0
        factor = max(min([factor, *(-problem.levels[rising] / change[rising])]), 1.0)
        return read_only(factor * self.point), factor**2 * length, factor

    @property
    def step(self) -> FloatArray:
        """The step to take (P,)."""
        return self._taken[0]

    @property
    def predicted_kl(self) -> float:
        """``step'F step / 2`` without damping."""
        return self._taken[1]

    @property
    def lengthening(self) -> float:
        """Factor from the step of the damped problem."""
        return self._taken[2]

    @property
    def predicted_gain(self) -> float:
        """``g.step``, in units of the objective."""
        return float(self.problem.gradient @ self.step)

    predicted_improvement = OldName("predicted_gain")

    @property
    def nu(self) -> FloatArray:
        """Prices (k,) of the cost rows."""
        nothing = np.full_like(self.problem.levels, math.nan)
        return nothing if self.multipliers is None else self.multipliers

    @property
    def duals(self) -> dict[str, Any]:
        return {"kl": self.eta, "costs": self.nu}

    @cached_property
    def stationarity(self) -> float:
        r"""\|g - B'nu - eta (F + damping I) s\| / \|g\|, largest entries: the gap already bounds its consequences."""
        problem = self.problem
        if self.point is None or not math.isfinite(self.eta):
            return 0.0
        left = problem.gradient - self.nu @ problem.slopes - self.eta * problem.damped_metric.product(self.point)
        return float(np.abs(left).max()) / problem.largest

    @cached_property
    def complementarity(self) -> float:
        """Largest ``nu_i |c_i + b_i.s|`` in units of the gap."""
        problem = self.problem
        if self.point is None or not problem.levels.size:
            return 0.0
        level = problem.levels + problem.slopes @ self.point
        return float((self.nu * np.abs(level)).max()) / self.certificate.unit

    def rows(self) -> list[tuple[str, str]]:
        lines = super().rows()
        lines.insert(1, ("predicted gain", f"{self.predicted_gain:.9g}"))
        lines.insert(2, ("predicted kl", f"{self.predicted_kl:.9g}"))
        if self.nu.size:
            lines.insert(3, ("nu", np.array2string(self.nu, precision=6)))
        return lines

    def panels(self) -> list[Panel]:
        """The step's entries beside the gradient's, and the numbers."""
        vectors = {"step": self.step, "gradient": self.problem.gradient}
        title = "step and gradient, each over its largest entry"
        return [lambda axis: plotting.profiles(axis, vectors, title, "parameter"), *super().panels()]

    def numbers(self) -> dict[str, Any]:
        names = ("predicted_gain", "predicted_kl", "lengthening", "epsilon_min")
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
