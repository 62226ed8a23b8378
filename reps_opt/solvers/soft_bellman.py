r"""Soft policy iteration: the route for the conditional KL, whose dual is one-dimensional.

At a fixed eta the multipliers solve the soft Bellman equations

.. math:: F_s(V) = \eta \log\textstyle\sum_a \pi_q e^{\delta_V / \eta} = \rho,
          \qquad \frac{\partial F}{\partial V} = -(I - \gamma P_\pi), \qquad
          \frac{\partial F_s}{\partial\eta} = -KL(\pi\|\pi_q)(s)

with rho = 0 when discounted and the soft gain of the state's component for average reward; Newton's method on them is
policy iteration with softmax policies. The dual ``g(eta) = eta epsilon + b.V`` (or ``+ max rho``) then has
``g' = epsilon - D`` and ``g'' = eta mu.Var_pi(d(delta/eta)/d eta)``, and eta moves by Newton's method on
``log D = log epsilon`` in log eta, together with V along the curve.

Shapes: n pairs, m states, k components (one when discounted); ``system`` is (m, m): ``I - gamma P_pi``, for average
reward with the column of each ground replaced by the indicator of its component, whose unknown is then rho.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from numpy.typing import NDArray
from scipy.sparse import csgraph

from reps_opt.divergences.base import softmax_within
from reps_opt.divergences.conditional_kl import ConditionalKL
from reps_opt.processes.markov import refined_bicgstab
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer, Iterative
from reps_opt.solvers.newton import linear_answer
from reps_opt.solvers.slack import limit_if_slack
from reps_opt.solvers.trace import Trace
from reps_opt.systems.base import DenseFactor
from reps_opt.tolerances import (
    CLOSE,
    DIRECT_STATES,
    FREE_MOVES,
    LARGEST_LOG_STEP,
    LEAST_SOFT_ETA,
    NEAR_OPTIMUM,
    NEAR_SOFT_CURVE,
    ROUGH_RTOL,
    ROUNDED,
    SLACK_SUSPECTED,
    SOLVED,
    TINY,
    VISIBLE,
)
from reps_opt.validation import FloatArray, UnsuitableError

TRIANGULAR: dict[str, Any] = {"permc_spec": "NATURAL", "diag_pivot_thresh": 0.0, "relax": 1, "panel_size": 1}
"""How SuperLU takes a triangular matrix: looking for supernodes, which only fill makes, costs it twice the rest."""


@dataclass(frozen=True)
class SoftBellman(Iterative):
    r"""Soft policy iteration jointly with Newton's method in log eta: the default route of ConditionalREPS.

    Parameters
    ----------
    tolerance
        Largest \|D - epsilon\| and largest error of the soft Bellman equations, rewards normalised to range one.
    max_iterations
        Policies evaluated before the last is returned.
    verbose
        Print one line an iteration.

    References
    ----------
    Neu, Jonsson, Gomez (2017), *A unified view of entropy-regularized Markov decision processes*, equations 7 and 11.
    """

    tolerance: float = 1e-12
    max_iterations: int = 200
    verbose: bool = False

    def solve(self, program: Program) -> Answer:
        """Minimise the dual of a program whose objective is normalised to range one."""
        if program.unbounded:
            return linear_answer(program)
        if not isinstance(program.divergence, ConditionalKL) or program.signed.any():
            raise UnsuitableError(
                "SoftBellman solves conditional KL without budgets: use Newton, CvxpyPrimal or CvxpyDual"
            )
        return _SoftSearch(self, program).run()

    def project(self, program: Program) -> Answer:
        """Smallest-divergence point of a program's constraints, its objective and ball ignored."""
        return self.solve(program.flat())


def policy_value(program: Program, conditional: FloatArray) -> FloatArray:
    """Multipliers (m,) of the flow under which a policy (n,) has mean Bellman error zero (or its gain) everywhere."""
    chain = _Chain(program)
    chain.update(conditional)
    solved = chain.solve(chain.mean(program.objective), 0.0)
    return chain.split(solved)[0]


def _leads_on(columns: sp.csr_array, group: NDArray[np.int64]) -> bool:
    """Whether every coordinate (row of the columns) touches its own group and later ones only."""
    return bool((columns.indices >= np.repeat(group, np.diff(columns.indptr))).all())


class _Chain:
    """The linear systems of one policy at a time: small ones factorised, large ones by BiCGSTAB from a guess."""

    def __init__(self, program: Program) -> None:
        assert isinstance(program.divergence, ConditionalKL)
        self.program = program
        self.group = program.divergence.group
        self.m = program.divergence.n_groups
        self.average = program.hints.grounds.size > 0
        self.component = np.zeros(self.m, dtype=np.int64)
        self.start = program.rhs
        self.solves = 0
        self._factor: DenseFactor | spla.SuperLU | None = None
        # nothing leads back, as in time: the systems are triangular, and factorising them in this order costs nothing
        self.forward = program.table is None and not self.average and _leads_on(program.transpose, self.group)
        if self.average:
            self.component = csgraph.connected_components(program.matrix @ program.transpose, directed=False)[1]
            order = np.argsort(self.component[program.hints.grounds])
            self.grounds = program.hints.grounds[order]
            self.start = np.isin(np.arange(self.m), self.grounds).astype(np.float64)

    def update(self, conditional: FloatArray) -> None:
        """Take in a policy (n,)."""
        self.conditional = conditional
        self._factor = None
        if self.program.table is not None and not self.average:
            choose = np.zeros((self.m, conditional.size))
            choose[self.group, np.arange(conditional.size)] = conditional
            self._factor = DenseFactor(choose @ self.program.table.T)
            return
        n = conditional.size
        choose = sp.csr_array((conditional, (self.group, np.arange(n))), shape=(self.m, n))
        system = (choose @ self.program.transpose).tocsr()
        if self.average:
            keep = np.ones(self.m)
            keep[self.grounds] = 0.0
            border = sp.csr_array(
                (np.ones(self.m), (np.arange(self.m), self.grounds[self.component])), (self.m, self.m)
            )
            system = (system @ sp.diags_array(keep) + border).tocsr()
        self.system = system
        self.transposed = system.T.tocsr()

    def mean(self, values: FloatArray) -> FloatArray:
        """Mean (m,) of values (n,) under the policy in each state."""
        return np.bincount(self.group, weights=self.conditional * values, minlength=self.m).astype(np.float64)

    def solve(self, rhs: FloatArray, rtol: float, guess: FloatArray | None = None, transposed: bool = False) -> Any:
        """Solve with the system to a relative 1-norm of the residual, zero meaning rounding level."""
        self.solves += 1
        if self.m > DIRECT_STATES and self._factor is None and not self.forward:
            matrix = self.transposed if transposed else self.system
            x = np.zeros_like(rhs) if guess is None else guess
            if (found := refined_bicgstab(matrix, rhs, x, max(rtol, ROUNDED))) is not None:
                return found
        if self._factor is None:
            self._factor = spla.splu(self.system.tocsc(), **(TRIANGULAR if self.forward else {}))
        return self._factor.solve(rhs, trans="T" if transposed else "N")

    def split(self, solved: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Change of the multipliers (m,) and of rho (k,) in a solution of the system."""
        if not self.average:
            return solved, np.zeros(1)
        rho = solved[self.grounds]
        solved = solved.copy()
        solved[self.grounds] = 0.0
        return solved, rho

    def by_component(self, values: FloatArray) -> FloatArray:
        """Sums (k,) of state values (m,) over each component."""
        return np.bincount(self.component, weights=values).astype(np.float64)


class _SoftSearch:
    """One run: the current (eta, V, rho), and warm starts of the linear systems."""

    def __init__(self, settings: SoftBellman, program: Program) -> None:
        assert isinstance(program.divergence, ConditionalKL)
        self.settings = settings
        self.program = program
        self.divergence = program.divergence
        self.chain = _Chain(program)
        self.mu: FloatArray | None = None
        self.bracket = (0.0, math.inf)
        self.moves = 0

    def run(self) -> Answer:
        """Alternate nothing: V, rho and eta move together, eta only near the curve of soft Bellman solutions."""
        self._start()
        suspicion, tolerance = SLACK_SUSPECTED * self.eta, self.settings.tolerance
        message, previous, stalled = "iteration limit", math.inf, 0
        self.trace = trace = Trace(self.settings.verbose)
        for iteration in range(self.settings.max_iterations):
            self._evaluate(previous)
            off = 0.0 if self.program.epsilon is None else abs(self.reached - self.program.epsilon)
            error = max(self.size, off)
            trace.add(eta=self.eta, divergence=self.reached, bellman_error=self.size)
            stalled = stalled + 1 if error >= 0.5 * previous and error < CLOSE else 0
            if error <= tolerance or stalled >= 2 or self._pinched():
                message = "converged" if stalled < 2 else "converged to rounding level"
                break
            previous = error
            if self.program.epsilon is not None and self.eta <= suspicion and self.reached < self.program.epsilon:
                suspicion = 0.0
                if (limit := limit_if_slack(self.program, self.reached)) is not None:
                    return Answer(0.0, limit.multipliers, limit.point, "the ball is slack", self._stats(iteration))
            self._move()
        return Answer(self.eta, self.v, self._point(), message, self._stats(iteration))

    def _start(self) -> None:
        """The reference policy's value, and eta from the variance of its advantage."""
        program, chain = self.program, self.chain
        if program.hints.warm is not None and not chain.average:
            self.eta, self.v = program.hints.warm
            self.eta = program.temperature or self.eta
            self.rho = np.zeros(1)
            return
        total = np.bincount(self.divergence.group, weights=self.divergence.reference)
        conditional = self.divergence.reference / total[self.divergence.group]
        chain.update(conditional)
        self.v, self.rho = chain.split(chain.solve(chain.mean(program.objective), ROUGH_RTOL))
        if program.epsilon is None:
            assert program.temperature is not None
            self.eta = program.temperature
            return
        net = program.net(self.v)
        centred = net - (chain.mean(net))[self.divergence.group]
        self.mu = chain.solve(chain.start, ROUGH_RTOL, transposed=True)
        variance = float(np.maximum(self.mu, 0.0) @ (chain.mean(centred**2)))
        room = program.epsilon - (0.0 if program.hints.centre is None else program.hints.centre.divergence)
        self.eta = max(math.sqrt(variance / (2 * room)), LEAST_SOFT_ETA)

    def _evaluate(self, previous: float) -> None:
        """Policy, error of the equations, and (near the curve) the divergence that the policy reaches."""
        chain = self.chain
        self.scaled = self.program.net(self.v) / self.eta
        self.conditional, partition = softmax_within(
            self.divergence.log_reference + self.scaled, self.divergence.group, self.divergence.n_groups
        )
        self.error = self.eta * partition - self.rho[chain.component]
        self.size = float(np.abs(self.error).max())
        chain.update(self.conditional)
        self.kl = chain.mean(self.scaled) - partition
        self.mu = chain.solve(chain.start, ROUGH_RTOL * min(previous, 1.0) ** 2, self.mu, transposed=True)
        self.each = chain.by_component(self.mu * self.kl)
        self.best = int(np.argmax(self.rho))
        self.reached = float(self.each[self.best])

    def _move(self) -> None:
        """One joint step of (V, rho, eta)."""
        chain = self.chain
        step = chain.solve(self.error, ROUGH_RTOL)
        new_eta = self.eta
        if self.program.epsilon is not None and self.size <= self._near(self.program.epsilon):
            along = chain.solve(-self.kl, ROUGH_RTOL)
            new_eta = self._next_eta(chain.split(along)[0])
            step = step + (new_eta - self.eta) * along
        dv, drho = chain.split(step)
        self.v, self.rho, self.eta = self.v + dv, self.rho + drho, new_eta

    def _near(self, epsilon: float) -> float:
        """Error of the equations up to which eta may move."""
        self.moves += 1
        if self.moves <= FREE_MOVES:
            return NEAR_SOFT_CURVE * self.eta
        return max(NEAR_OPTIMUM * abs(self.reached - epsilon), self.settings.tolerance)

    def _next_eta(self, along: FloatArray) -> float:
        """Newton step of log D = log epsilon in log eta, kept inside the bracket found so far."""
        epsilon = self.program.epsilon
        assert epsilon is not None
        assert self.mu is not None
        moved = -(self.program.transpose @ along + self.scaled) / self.eta
        centred = moved - (self.chain.mean(moved))[self.divergence.group]
        spread = self.chain.by_component(self.mu * (self.chain.mean(centred**2)))[self.best]
        curvature = max(self.eta**2 * float(spread), TINY)  # -dD / d log eta
        reached = max(self.reached, TINY)
        log_step = np.clip(reached / curvature * math.log(reached / epsilon), -LARGEST_LOG_STEP, LARGEST_LOG_STEP)
        moved = self.eta * math.exp(float(log_step))
        if self.size <= VISIBLE * abs(self.reached - epsilon):
            low, high = self.bracket
            self.bracket = (self.eta, high) if self.reached > epsilon else (low, self.eta)
        low, high = self.bracket
        if low < moved < high:
            return moved
        return 2 * low if high == math.inf else math.sqrt(low * high) if low > 0 else high / 2

    def _pinched(self) -> bool:
        """Whether two components take turns in being the best: the answer mixes them."""
        low, high = self.bracket
        return high < math.inf and self.size <= CLOSE and high - low <= SOLVED * high

    def _point(self) -> FloatArray:
        """Occupancy (n,): the best component's, or the mixture of two that meets the ball."""
        assert self.mu is not None
        weight = np.zeros(self.rho.size)
        weight[self.best] = 1.0
        epsilon = self.program.epsilon
        if epsilon is not None and self._pinched():
            tied = np.flatnonzero(self.rho >= self.rho.max() - NEAR_OPTIMUM)
            near, far = tied[np.argmin(self.each[tied])], tied[np.argmax(self.each[tied])]
            if self.each[near] < epsilon < self.each[far]:
                share = (epsilon - self.each[near]) / (self.each[far] - self.each[near])
                weight[:] = 0.0
                weight[[near, far]] = 1 - share, share
        mass = np.maximum(self.mu, 0.0) * weight[self.chain.component]
        point = mass[self.divergence.group] * self.conditional
        return point * (self.program.mass / point.sum())

    def _stats(self, iteration: int) -> dict[str, Any]:
        return {"iterations": iteration, "linear_solves": self.chain.solves, "trace": self.trace}
