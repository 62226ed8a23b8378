r"""One-dimensional duals: given eta the rest is known, and eta is the root of one equation.

.. math:: D(x_\eta) = \epsilon, \qquad \frac{d D(x_\eta)}{d\log\eta} = -y'Hy, \qquad y = c / \eta

Here H is the Hessian of :math:`D^*` in the directions that the rows leave. D falls as eta grows, from that of the
linear program's closest optimum to zero. Newton's method on log D against log eta is exact for small epsilon; a bracket
that shrinks with every evaluation catches its steps for large.

Shapes: n coordinates, m rows; c and x are (n,).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from reps_opt.divergences.base import KL
from reps_opt.divergences.policy_divergences import PolicyDivergence
from reps_opt.hints import Nearest
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer, Iterative
from reps_opt.solvers.trace import Trace
from reps_opt.tolerances import EVEN_ULPS, LARGEST_LOG_STEP, LAST_PLACE, LEAST_GAP, TINY
from reps_opt.validation import FloatArray, UnsuitableError


class AtEta(NamedTuple):
    """What the program's dual knows at one eta: the maximiser (n,), its D, ``-dD / d log eta``, multipliers (m,)."""

    point: FloatArray
    divergence: float
    curvature: float
    multipliers: FloatArray


class Softmax:
    """A KL ball without rows: ``x = q exp(c / eta)``, normalised.

    ``at`` gives the dual's maximiser at one eta > 0; ``variance`` is ``c'Hc`` at the reference, twice the product of
    epsilon and eta squared where epsilon is small; ``slack`` the limit of eta zero, where a ball of this radius holds
    it.
    """

    def __init__(self, ball: KL, objective: FloatArray) -> None:
        self.reference = ball.reference
        self.below = objective - float(objective.max())  # nothing overflows

    def at(self, eta: float) -> AtEta:
        y = self.below / eta
        weight = np.exp(y)
        weight *= self.reference
        total = float(weight.sum())
        weight /= total
        mean = float(weight.dot(y))
        y *= y
        return AtEta(weight, mean - math.log(total), float(weight.dot(y)) - mean * mean, np.zeros(0))

    def variance(self) -> float:
        centred = self.below - float(self.reference.dot(self.below))
        return float(self.reference.dot(centred * centred))

    def slack(self, epsilon: float) -> Nearest | None:
        tied = self.below == 0
        mass = float(self.reference[tied].sum())
        least = -math.log(mass) if mass > 0 else math.inf
        if least > epsilon:
            return None
        return Nearest(np.where(tied, self.reference, 0.0) / mass, np.zeros(0), least)


class Statewise:
    """A policy divergence whose rows are a mass a state: given eta, each state solves itself; as :class:`Softmax`."""

    def __init__(self, program: Program, ball: PolicyDivergence) -> None:
        self.program = program
        self.ball = ball
        self.top = ball.state_max(program.objective)
        self.below = program.objective - self.top[ball.block]  # what the policy depends on, without cancellation

    def at(self, eta: float) -> AtEta:
        y = self.below / eta
        best = self.ball.statewise(y)
        curvature = self.ball.curvature(y, best.weights)
        return AtEta(best.point, self.ball.value(best.point), curvature, self.top + eta * best.multipliers)

    def variance(self) -> float:
        return self.ball.curvature(self.below, self.ball.reference)

    def slack(self, epsilon: float) -> Nearest | None:
        assert self.program.hints.linear_limit is not None
        limit = self.program.hints.linear_limit()
        return limit if limit.divergence <= epsilon else None


@dataclass(frozen=True)
class EtaSearch(Iterative):
    r"""Safeguarded Newton's method in log eta: the default for KL balls without rows and for policy steps.

    Parameters
    ----------
    tolerance
        Largest \|D(x) - epsilon\| at the end, relative to epsilon where that is below one.
    max_iterations
        Evaluations before the last point is returned.
    verbose
        Print one line an iteration.

    Examples
    --------
    >>> from reps_opt import ExactTRPO, solve
    >>> import envs
    >>> mdp = envs.single_chain()
    >>> solution = solve(ExactTRPO(mdp, mdp.uniform_policy(), epsilon=0.01), EtaSearch())
    >>> print(solution.status, round(solution.kl, 9))
    certified 0.01
    """

    tolerance: float = 1e-12
    max_iterations: int = 200
    verbose: bool = False

    def solve(self, program: Program) -> Answer:
        """Solve a program of which eta alone is left, its objective normalised to range one."""
        reduced = _reduced(program)
        if program.temperature is not None:
            here = reduced.at(program.temperature)
            return _answer(program.temperature, here, "closed form at a fixed temperature", {"iterations": 0})
        assert program.epsilon is not None
        return self.search(reduced, program.epsilon)

    def search(self, reduced: Softmax | Statewise, epsilon: float) -> Answer:
        """The eta at which the dual's maximiser is on the sphere; zero where the ball is slack."""
        if (limit := reduced.slack(epsilon)) is not None:
            return Answer(0.0, limit.multipliers, limit.point, "the ball is slack", {"iterations": 0})
        log_eta = math.log(max(reduced.variance(), TINY) / (2 * epsilon)) / 2
        low, high = -math.inf, math.inf
        message, trace = "iteration limit", Trace(self.verbose)
        enough = max(self.tolerance * min(epsilon, 1.0), LAST_PLACE)
        for iteration in range(1, self.max_iterations + 1):
            eta = math.exp(log_eta)
            here = reduced.at(eta)
            excess = here.divergence - epsilon
            trace.add(eta=eta, divergence=here.divergence, excess=excess)
            if abs(excess) <= enough or high - low <= EVEN_ULPS * max(1.0, abs(log_eta)):
                message = "converged"
                break
            if 0 <= -eta * excess <= LEAST_GAP:
                message = "nothing to gain from the rest of the ball"
                break
            low, high = (log_eta, high) if excess > 0 else (low, log_eta)
            log_eta = _next(log_eta, low, high, here, epsilon)
        return _answer(eta, here, message, {"iterations": iteration, "trace": trace})


def best_eta(program: Program, net: FloatArray) -> float:
    """The best eta of a KL ball for given multipliers of the rows, and with them ``net = c - A'v`` (n,)."""
    assert isinstance(program.divergence, KL)
    assert program.epsilon is not None
    return float(EtaSearch().search(Softmax(program.divergence, net), program.epsilon).eta)


def _reduced(program: Program) -> Softmax | Statewise:
    ball = program.divergence
    if isinstance(ball, PolicyDivergence) and program.rhs.size and not program.inequalities:
        return Statewise(program, ball)
    if isinstance(ball, KL) and not program.rhs.size:
        return Softmax(ball, program.objective)
    raise UnsuitableError(
        "EtaSearch takes a KL ball without rows, or a policy step without further rows: use Newton, CvxpyPrimal or "
        "CvxpyDual"
    )


def _next(log_eta: float, low: float, high: float, here: AtEta, epsilon: float) -> float:
    """Newton's step of log D = log epsilon in log eta; bisection, or the largest step, where it leaves the bracket."""
    reached, curvature = here.divergence, here.curvature
    if reached > 0 and curvature > 0:
        step = reached / curvature * math.log(reached / epsilon)
        trial = log_eta + max(-LARGEST_LOG_STEP, min(LARGEST_LOG_STEP, step))
        if low < trial < high:
            return trial
    if high - low < math.inf:
        return (low + high) / 2
    return log_eta + math.copysign(LARGEST_LOG_STEP, reached - epsilon)


def _answer(eta: float, here: AtEta, message: str, stats: dict[str, Any]) -> Answer:
    return Answer(eta, here.multipliers, here.point, message, stats)
