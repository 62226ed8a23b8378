r"""The dual of a KL ball without rows: one number, eta, found in microseconds.

.. math:: KL(\eta) = \langle w, c/\eta\rangle - \log\textstyle\sum_i q_i e^{c_i/\eta} = \epsilon, \qquad
          w_i \propto q_i\, e^{c_i/\eta}

KL falls from ``log(1 / q(ties))`` to zero as eta grows. Newton's method on log KL against log eta is exact for small
epsilon; a bracket that shrinks with every evaluation catches its steps for large.

Shapes: n samples; c, q, w are (n,).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from reps_opt.program import Program
from reps_opt.solvers.answer import Answer
from reps_opt.solvers.trace import Trace
from reps_opt.validation import FloatArray, UnsuitableError, as_count, as_scalar


@dataclass(frozen=True)
class ScalarDual:
    """Safeguarded Newton's method in log eta, for programs without rows.

    Parameters
    ----------
    tolerance
        Largest \\|KL - epsilon\\| at the end.
    max_iterations
        Evaluations before the best eta so far is returned.
    verbose
        Print one line an iteration.
    """

    tolerance: float = 1e-12
    max_iterations: int = 200
    verbose: bool = False

    def __post_init__(self) -> None:
        as_scalar(self.tolerance, "tolerance", low=0.0, low_open=True)
        as_count(self.max_iterations, "max_iterations")

    def solve(self, program: Program) -> Answer:
        """Solve a program without rows whose objective is normalised to range one."""
        if program.rhs.size:
            raise UnsuitableError("ScalarDual takes programs without rows: use Newton")
        return self.at_slack(program, program.objective)

    def at_slack(self, program: Program, slack: FloatArray) -> Answer:
        """The best eta of a KL program whose rows have fixed multipliers, and with them the slack (n,)."""
        q, top = program.divergence.reference, float(slack.max())
        c = slack - top
        if program.temperature is not None:
            return self._answer(program.temperature, _tilted(c, q, program.temperature)[0], 1)
        assert program.epsilon is not None
        tied = c == 0
        ties = float(q[tied].sum())
        if ties * math.exp(min(program.epsilon, 700.0)) >= 1.0:
            stats = {"iterations": 0}
            return Answer(0.0, np.zeros(0), np.where(tied, q, 0.0) / ties, "the ball is slack", stats)
        return self._search(c, q, program.epsilon)

    def _search(self, c: FloatArray, q: FloatArray, epsilon: float) -> Answer:
        """Find eta for max c = 0, a radius that no tie reaches."""
        centred = c - q @ c
        eta = math.sqrt(float(q @ (centred * centred)) / (2 * epsilon))
        low, high = 0.0, math.inf
        trace = Trace(self.verbose)
        for iteration in range(1, self.max_iterations + 1):
            w, divergence, variance = _tilted(c, q, eta)
            trace.add(eta=eta, divergence=divergence, excess=divergence - epsilon)
            if abs(divergence - epsilon) <= self.tolerance:
                break
            low, high = (eta, high) if divergence > epsilon else (low, eta)
            if high < math.inf and high - low <= 4e-16 * high:
                break
            log_step = divergence / variance * math.log(divergence / epsilon) if divergence * variance > 0 else -1.0
            eta *= math.exp(min(max(log_step, -3.0), 3.0))
            if not low < eta < high:
                eta = math.sqrt(low * high) if low > 0 and high < math.inf else (high / 8 if low == 0 else low * 8)
        return self._answer(eta, w, iteration)

    def _answer(self, eta: float, w: FloatArray, evaluations: int) -> Answer:
        return Answer(eta, np.zeros(0), w, "converged", {"iterations": evaluations})


def _tilted(c: FloatArray, q: FloatArray, eta: float) -> tuple[FloatArray, float, float]:
    """Weights at one eta for max c <= 0, their KL, and the variance of c / eta under them (= -dKL / d log eta)."""
    scaled = c / eta
    w = q * np.exp(scaled)
    total = float(w.sum())
    w /= total
    mean = float(w @ scaled)
    return w, mean - math.log(total), float(w @ (scaled * scaled)) - mean * mean
