"""Certificates: gap and residuals of an answer, computed from the problem's data and from nothing a solver says.

Rewards are measured in units of their range over the pairs that can carry mass, so that the tolerances mean the same
thing for every problem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

GAP_TOLERANCE = 1e-6
FLOW_TOLERANCE = 1e-8
MASS_TOLERANCE = 1e-9
DIVERGENCE_TOLERANCE = 1e-7


@dataclass(frozen=True)
class Certificate:
    """What was checked, and by how much it misses.

    Attributes
    ----------
    gap : float
        (upper bound - objective of the feasible point reported) / reward range.
    flow : float
        1-norm of the residual of the linear constraints at the point reported.
    mass : float
        \\|sum - 1\\| of the point reported; infinite when it has a negative entry.
    kl : float
        Divergence of the point reported from the reference, in nats.
    epsilon : float
        Radius it is allowed (infinite without a ball).
    upper : float
        Dual bound, in reward units.
    lower : float
        Objective of the point reported, in reward units.
    """

    gap: float
    flow: float
    mass: float
    kl: float
    epsilon: float
    upper: float
    lower: float

    @classmethod
    def unknown(cls, epsilon: float) -> Self:
        """What there is to say without a point: the radius, and nothing else. It is never ok."""
        return cls(math.nan, math.nan, math.nan, math.nan, epsilon, math.nan, math.nan)

    def ok(self, tol: float = GAP_TOLERANCE) -> bool:
        r"""Whether \|gap\| is at most ``tol`` and the point feasible: flow 1e-8, mass 1e-9, divergence 1e-7."""
        return not self.reasons(tol)

    def reasons(self, tol: float = GAP_TOLERANCE) -> list[str]:
        """What is wrong, one sentence a check that fails; empty for a certified answer."""
        checks = [
            ("duality gap", self.gap, tol),
            ("duality gap below zero (the bound is lost in rounding) by", -self.gap, tol),
            ("constraint residual", self.flow, FLOW_TOLERANCE),
            ("total mass off one by", self.mass, MASS_TOLERANCE),
            ("divergence beyond the ball by", self._excess(), DIVERGENCE_TOLERANCE),
        ]
        return [f"{name} {value:.2e} > {limit:.0e}" for name, value, limit in checks if not value <= limit]

    def _excess(self) -> float:
        return -math.inf if self.epsilon == math.inf else self.kl - self.epsilon
