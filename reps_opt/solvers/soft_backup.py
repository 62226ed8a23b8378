r"""A ball around the trajectory distribution: a soft backup a temperature, and one equation in log eta.

.. math::
    \min_{\eta \ge 0}\; g(\eta) = \eta\epsilon + \mu_0'V_0^\eta, \qquad
    V_t^\eta(s) = \eta \log \sum_a \pi_{q,t}(a|s)\, e^{(r_t + P V_{t+1}^\eta)/\eta}, \qquad
    g'(\eta) = \epsilon - KL\big(p^\eta(\tau)\,\|\,q(\tau)\big)

Shapes: T steps, S states, A actions; policies and rewards (T, S, A), values (T, S).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import rel_entr

from reps_opt.processes.mdp import MDP
from reps_opt.processes.time_indexed import backward_induction, bellman_error, occupancy_of, optimal_values
from reps_opt.solvers.answer import Answer
from reps_opt.solvers.trace import Trace
from reps_opt.validation import FloatArray, as_scalar

TIGHT = 1e-9
"""Bellman error, in units of the reward range, up to which an action counts as optimal."""


class SoftPoint(NamedTuple):
    """The dual at one eta: g, values (T, S), policy (T, S, A), trajectory KL in nats."""

    value: float
    values: FloatArray
    policy: FloatArray
    divergence: float


@dataclass(frozen=True)
class TrajectoryProgram:
    """Maximise the sum of rewards (T, S, A) with ``sum_t E_p KL(pi_t || pi_q,t) <= epsilon``."""

    mdp: MDP
    rewards: FloatArray
    reference: FloatArray
    epsilon: float

    @cached_property
    def log_reference(self) -> FloatArray:
        """log pi_q (T, S, A), minus infinity where it never acts."""
        with np.errstate(divide="ignore"):
            return np.log(self.reference)

    def dual(self, eta: float) -> SoftPoint:
        """Dual function, soft values and policy at ``eta >= 0``; at zero their limit, with the least divergence."""
        if eta == math.inf:
            return self._point(eta, np.zeros(self.rewards.shape[:2]), self.reference)
        if eta == 0:
            values = optimal_values(self.mdp, self.rewards, self.reference > 0)
            error = bellman_error(self.mdp, self.rewards, values)
            with np.errstate(invalid="ignore"):
                tight = np.where((self.reference > 0) & (error >= -TIGHT), self.log_reference, -np.inf)
            return self._point(eta, values, self._backup(tight, 1.0)[1])
        values, policy = self._backup(self.log_reference, eta, self.rewards)
        return self._point(eta, values, policy)

    def _backup(
        self, log_weights: FloatArray, eta: float, rewards: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Soft values and policy for weights exp(log_weights); states where all of them vanish do not occur."""
        policy = np.empty_like(self.reference)
        given = np.zeros_like(self.reference) if rewards is None else rewards

        def soft(t: int, action_values: FloatArray) -> FloatArray:
            exponent = log_weights[t] + action_values / eta
            top = exponent.max(axis=1, keepdims=True)
            weight = np.exp(exponent - top)
            total = weight.sum(axis=1, keepdims=True)
            policy[t] = weight / total
            return eta * (top + np.log(total))[:, 0]

        return backward_induction(self.mdp, given, soft), policy

    def _point(self, eta: float, values: FloatArray, policy: FloatArray) -> SoftPoint:
        occupancy = occupancy_of(self.mdp, policy)
        predicted = occupancy.sum(axis=2, keepdims=True) * self.reference
        divergence = max(float(rel_entr(occupancy, predicted).sum()), 0.0)
        ball = 0.0 if eta in (0, math.inf) else eta * self.epsilon
        return SoftPoint(ball + float(self.mdp.mu0 @ values[0]), values, policy, divergence)


@dataclass(frozen=True)
class SoftBackup:
    """Root of ``KL(eta) = epsilon`` in log eta by Brent's method: the default route for the trajectory ball.

    Parameters
    ----------
    tolerance
        Largest change of log eta at the end.
    verbose
        Print one line a backup.
    """

    tolerance: float = 1e-14
    verbose: bool = False

    def __post_init__(self) -> None:
        as_scalar(self.tolerance, "tolerance", low=0.0, low_open=True)

    def solve(self, program: TrajectoryProgram) -> Answer:
        """Minimise the one-dimensional dual of a program with rewards of range one."""
        if program.dual(0.0).divergence <= program.epsilon:
            return Answer(0.0, None, None, "the ball is slack", {"backups": 1})
        backups, trace = 1, Trace(self.verbose)

        def excess(log_eta: float) -> float:
            nonlocal backups
            backups += 1
            divergence = program.dual(math.exp(log_eta)).divergence
            trace.add(eta=math.exp(log_eta), divergence=divergence, excess=divergence - program.epsilon)
            return math.log(max(divergence, 1e-300) / program.epsilon)

        low = high = 0.5 * math.log(program.rewards.shape[0] / program.epsilon)
        while excess(low) <= 0 and low > -60:
            low -= 2.0
        while excess(high) >= 0 and high < 60:
            high += 2.0
        if excess(low) <= 0:
            return Answer(0.0, None, None, "the ball is slack to rounding", {"backups": backups})
        log_eta = brentq(excess, low, high, xtol=self.tolerance, rtol=8.9e-16)
        return Answer(math.exp(log_eta), None, None, "converged", {"backups": backups})
