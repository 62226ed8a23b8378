"""The one-dimensional dual of a policy step: given eta every state solves itself, and eta is one equation.

Shapes: n pairs with mass, m states; see :mod:`reps_opt.divergences.policy_divergences`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from reps_opt.divergences.policy_divergences import PolicyDivergence
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer
from reps_opt.solvers.newton import linear_answer
from reps_opt.solvers.trace import Trace
from reps_opt.validation import FloatArray, UnsuitableError, as_count, as_scalar

LEAST_GAP = 1e-20
"""Duality gap ``eta (epsilon - D)``, in units of the objective's range, below which filling the ball gains nothing."""

LARGEST_LOG_STEP = 3.0
"""Largest change of log eta in one iteration, where the root is not yet bracketed."""


@dataclass(frozen=True)
class Statewise:
    r"""Newton's method on ``log D = log epsilon`` in log eta, safeguarded by bisection: the default for policy steps.

    The multipliers of the rows are eliminated state by state, at a cost of one pass over the pairs; D falls in eta,
    with the derivative ``eta dD/d eta = -y'Hy`` at ``y = c / eta``.

    Parameters
    ----------
    tolerance
        Largest \|D(x) - epsilon\| at the end, relative to epsilon.
    max_iterations
        Iterations before the best point so far is returned.
    verbose
        Print one line an iteration.

    Examples
    --------
    >>> from reps_opt import ExactTRPO, solve
    >>> import envs
    >>> mdp = envs.single_chain()
    >>> solution = solve(ExactTRPO(mdp, mdp.uniform_policy(), epsilon=0.01), Statewise())
    >>> print(solution.status, round(solution.kl, 9))
    certified 0.01
    """

    tolerance: float = 1e-14
    max_iterations: int = 200
    verbose: bool = False

    def __post_init__(self) -> None:
        as_scalar(self.tolerance, "tolerance", low=0.0, low_open=True)
        as_count(self.max_iterations, "max_iterations")

    def solve(self, program: Program) -> Answer:
        """Solve a program whose rows are one mass a state."""
        if not isinstance(program.divergence, PolicyDivergence) or program.inequalities:
            raise UnsuitableError(
                "Statewise solves policy steps without further rows: use Newton, CvxpyPrimal or CvxpyDual"
            )
        if program.epsilon == math.inf:
            return linear_answer(program)
        if program.epsilon is None:
            assert program.temperature is not None
            return _answer(program, program.temperature, "closed form at a fixed temperature", 0)
        assert program.hints.linear_limit is not None
        limit = program.hints.linear_limit()
        if limit.divergence <= program.epsilon:
            return Answer(0.0, limit.multipliers, limit.point, "the ball is slack", {"iterations": 0})
        return self._search(program, program.divergence, program.epsilon)

    def _search(self, program: Program, ball: PolicyDivergence, epsilon: float) -> Answer:
        below = _below_top(program.objective, ball)
        log_eta = math.log(math.sqrt(ball.curvature(below, ball.reference) / (2 * epsilon)))
        low, high = -math.inf, math.inf
        message, trace = "iteration limit", Trace(self.verbose)
        for iteration in range(self.max_iterations):
            y = below / math.exp(log_eta)
            best = ball.statewise(y)
            divergence = ball.value(best.point)
            trace.add(eta=math.exp(log_eta), divergence=divergence, excess=divergence - epsilon)
            pinned = low > -math.inf and high - low <= 4e-16 * max(1.0, abs(low))
            if abs(divergence - epsilon) <= self.tolerance * epsilon or pinned:
                message = "converged"
                break
            if 0 <= math.exp(log_eta) * (epsilon - divergence) <= LEAST_GAP:
                message = "nothing to gain from the rest of the ball"
                break
            low, high = (log_eta, high) if divergence > epsilon else (low, log_eta)
            log_eta = _next(log_eta, low, high, divergence, epsilon, ball.curvature(y, best.weights))
        return _answer(program, math.exp(log_eta), message, iteration)


def _next(at: float, low: float, high: float, divergence: float, epsilon: float, curvature: float) -> float:
    """Newton step of log D = log epsilon in log eta; bisection, or a plain step, where it leaves the bracket."""
    if divergence > 0 and curvature > 0:
        step = divergence / curvature * math.log(divergence / epsilon)
        trial = at + max(-LARGEST_LOG_STEP, min(LARGEST_LOG_STEP, step))
        if low < trial < high:
            return trial
    if math.isfinite(low) and math.isfinite(high):
        return (low + high) / 2
    return at + math.copysign(LARGEST_LOG_STEP, divergence - epsilon)


def _below_top(objective: FloatArray, ball: PolicyDivergence) -> FloatArray:
    """The objective less its largest value in the state: what the policy depends on, without cancellation."""
    return objective - ball.state_max(objective)[ball.block]


def _answer(program: Program, eta: float, message: str, iterations: int) -> Answer:
    ball = program.divergence
    assert isinstance(ball, PolicyDivergence)
    best = ball.statewise(_below_top(program.objective, ball) / eta)
    multipliers = ball.state_max(program.objective) + eta * best.multipliers
    return Answer(eta, multipliers, np.asarray(best.point), message, {"iterations": iterations})
