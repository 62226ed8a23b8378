"""Solutions: frozen results that remember their problem and carry their certificate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from reps_opt.certificate import Certificate
from reps_opt.result import Result


class Status(StrEnum):
    """How far an answer can be trusted, and what to do otherwise."""

    CERTIFIED = "certified"
    """Gap and residuals, computed from data, are within tolerance."""
    UNCERTIFIED = "uncertified"
    """The best point found; ``solution.message`` says what misses and what to try."""
    INFEASIBLE = "infeasible"
    """No point satisfies the constraints; ``solution.epsilon_min`` is the smallest radius that would do."""
    FAILED = "failed"
    """The solver broke off without a point; ``solution.message`` keeps what it said."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Solution(Result):
    """What every answer has; each family of problems adds its own primal and names for the multipliers.

    Attributes
    ----------
    problem
        The problem answered.
    status : Status
    eta : float
        Multiplier of the divergence ball, in units of the objective a nat: the derivative of the optimum in epsilon.
        Zero where the ball is slack, infinite where it leaves a single point.
    objective : float
        Objective of the feasible point reported.
    dual_objective : float
        Upper bound on the objective of every feasible point.
    duals : mapping
        Multipliers by constraint, with the signs of :mod:`reps_opt.program`: each is the derivative of the optimum in
        its right-hand side.
    certificate : Certificate
    message : str
        What the solver said, and what to try when the answer is not certified.
    stats : mapping
        Route, iterations, factorisations, seconds.
    """

    problem: Any
    status: Status
    eta: float
    objective: float
    dual_objective: float
    duals: Mapping[str, Any]
    certificate: Certificate
    message: str = ""
    stats: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kl(self) -> float:
        """Divergence reached, in nats."""
        return self.certificate.kl

    @property
    def has_point(self) -> bool:
        """Whether there is a point to look at: certified or not, but neither infeasible nor failed."""
        return self.status in (Status.CERTIFIED, Status.UNCERTIFIED)

    def rows(self) -> list[tuple[str, str]]:
        """Label and text of each line of the summary; subclasses add theirs."""
        lines = [("status", str(self.status))]
        if self.has_point:
            check = self.certificate
            ball = "" if check.epsilon == math.inf else f"   (epsilon {check.epsilon:g})"
            lines += [
                ("objective", f"{self.objective:.10g}"),
                ("dual objective", f"{self.dual_objective:.10g}"),
                ("gap", f"{check.gap:.1e} of the objective's range"),
                ("eta", f"{self.eta:.9g}"),
                ("divergence", f"{check.kl:.9g}{ball}"),
                ("residual", f"{check.flow:.1e}"),
            ]
        spent = ", ".join(f"{name} {value}" for name, value in self.stats.items() if isinstance(value, str | int))
        lines += [("spent", f"{spent}, {self.stats.get('seconds', math.nan):.3g} s")]
        return [*lines, ("message", self.message)] if self.message else lines

    @property
    def title(self) -> str:
        return repr(self.problem)

    def numbers(self) -> dict[str, Any]:
        """eta, divergence, objectives, status and gap; subclasses add theirs."""
        names = ("eta", "kl", "objective", "dual_objective")
        numbers: dict[str, Any] = {
            name: float(getattr(self, name)) for name in names if np.ndim(getattr(self, name)) == 0
        }
        return {**numbers, "status": str(self.status), "gap": self.certificate.gap}
