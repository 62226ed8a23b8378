r"""Certificates: gap and residuals of an answer, computed from the problem's data and from nothing a solver says.

A gap needs a unit that no pair without mass can move, whatever it costs. It is the largest of
:math:`\eta\sqrt{2 D(x)}` (to second order the standard deviation of the Bellman error under the reference), of the mean
deviation of the objective over what the point takes, and of the least of three scales that need no ball: what is
gained over the reference, how far the best reward is, and how far from the median other rewards are. The gap in nats,
:math:`\text{gap}/\eta`, bounds how far the unknown optimum can be: see :attr:`Certificate.distance`.
"""

from __future__ import annotations

import math
from operator import le
from typing import Self

from reps_opt.tolerances import BELOW_TOLERANCE, DIVERGENCE_TOLERANCE, FLOW_TOLERANCE, GAP_TOLERANCE, MASS_TOLERANCE
from reps_opt.values import frozen

CHECKS = (
    "duality gap",
    "duality gap below zero (the bound is lost in rounding) by",
    "constraint residual",
    "total mass off one by",
    "divergence beyond the ball by",
)


@frozen()
class Certificate:
    """What was checked, and by how much it misses.

    Attributes
    ----------
    gap : float
        (upper bound - objective of the point reported + what it misses in rows and balls, at the multipliers' prices) /
        ``unit``, and no less than these misses alone.
    flow : float
        1-norm of the residual of the linear constraints at the point reported.
    mass : float
        \\|sum - 1\\| of the point reported; infinite when it has a negative entry.
    kl : float
        Divergence of the point reported from the reference, in nats; of several balls, of the one that misses most.
    epsilon : float
        Radius it is allowed (infinite without a ball).
    upper : float
        Dual bound, in units of the objective. Where floats cannot hold the multipliers that prove it (values of 1e12,
        close to gamma = 1), it is taken at multipliers of seventy digits, of which the solution reports the first 16.
    lower : float
        Objective of the point reported.
    unit : float
        Unit of the gap, in units of the objective.
    distance : float
        The unknown optimum lies within this total variation of the point reported, in each simplex where there are
        several: ``sqrt(2 (upper - lower) / eta)`` by Pinsker's inequality, taken twice, the difference no less than its
        rounding; of several balls the least sum of etas over a simplex. One, which says nothing, where no ball binds,
        and for divergences that the inequality does not hold for: all but KL and chi-square.
    """

    gap: float
    flow: float
    mass: float
    kl: float
    epsilon: float
    upper: float
    lower: float
    unit: float = 1.0
    distance: float = 1.0

    @classmethod
    def unknown(cls, epsilon: float) -> Self:
        """What there is to say without a point: the radius, and nothing else. It is never ok."""
        return cls(math.nan, math.nan, math.nan, math.nan, epsilon, math.nan, math.nan, math.nan, math.nan)

    def ok(self, tol: float = GAP_TOLERANCE) -> bool:
        r"""Whether \|gap\| is at most ``tol`` and the point feasible: flow 1e-8, mass 1e-9, divergence 1e-7."""
        return not self.reasons(tol)

    def reasons(self, tol: float = GAP_TOLERANCE) -> list[str]:
        """What is wrong, one sentence a check that fails; empty for a certified answer."""
        excess = -math.inf if self.epsilon == math.inf else self.kl - self.epsilon
        missed = (self.gap, -self.gap, self.flow, self.mass, excess)
        limits = (tol, BELOW_TOLERANCE, FLOW_TOLERANCE, MASS_TOLERANCE, DIVERGENCE_TOLERANCE)
        if all(map(le, missed, limits)):
            return []
        found = zip(CHECKS, missed, limits, strict=True)
        return [f"{name} {value:.2e} > {limit:.0e}" for name, value, limit in found if not value <= limit]
