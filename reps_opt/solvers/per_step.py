r"""One divergence ball a step: Newton's method along the central path of the dual.

.. math::
    \min_{\eta > 0, V}\; g(\eta, V) = \mu_0'V_0 + \sum_t \eta_t \big(\epsilon_t + \log Z_t\big),
    \qquad Z_t = \sum_{s,a} q_t\, e^{\delta_t/\eta_t}, \qquad \delta_t = r_t + P V_{t+1} - V_t

Many balls are slack at the optimum (the first step's, when the second's is narrower): their eta is zero, where g has
no derivative. The path minimises ``g - mu sum log eta_t``, on which ``eta_t (epsilon_t - KL_t) = mu`` and the gap is
``T mu``, while mu falls; log eta and V are the coordinates.

Shapes: T steps, n pairs in order of time, m nodes (rows).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.linalg

from reps_opt.divergences.base import KL
from reps_opt.processes.graph import IntArray
from reps_opt.program import Block, Program
from reps_opt.solvers.answer import Answer
from reps_opt.solvers.block_equations import BlockEquations
from reps_opt.solvers.normal_equations import DENSE_LIMIT, NormalEquations, normal_equations
from reps_opt.solvers.trace import Trace
from reps_opt.validation import FloatArray, as_count, as_scalar

PATH_FACTOR = 0.1
"""How mu falls from one point of the central path to the next."""

LARGEST_LOG_STEP = 2.0
"""Largest change of any log eta in one iteration."""

LARGEST_TRAVEL = 1.0
"""Largest KL(new || old) of a step's occupancy in one iteration: the Hessian stays comparable within it."""

CENTRED = 0.01
"""Squared Newton decrement, in units of mu, at which a point counts as on the central path."""

CENTRED_LAST = 1e-10
"""The same at the end of the path: the excess of KL_t over its radius goes like the decrement, not its square."""

STALLED = 1e-3
"""Fraction of the decrease a Newton step promises, below which it is lost in rounding (of delta / eta, eta tiny)."""


@dataclass(frozen=True, kw_only=True)
class PerStepAnswer(Answer):
    """An :class:`~reps_opt.solvers.Answer` with one eta a step, ``etas`` (T,); ``eta`` is the largest of them."""

    etas: FloatArray


class PerStepDual(NamedTuple):
    """The dual at one point: value, x (n,), KL_t (T,), log Z_t (T,), residual b - A x (m,), delta/eta (n,)."""

    value: float
    point: FloatArray
    divergences: FloatArray
    log_partition: FloatArray
    residual: FloatArray
    scaled: FloatArray


@dataclass(frozen=True)
class PerStepProgram:
    """Maximise ``<c, x>`` over the flow ``A x = b`` with ``KL(x_t || q_t) <= epsilon_t``; each x_t sums to one.

    Parameters
    ----------
    objective
        c (n,).
    reference
        q (n,), positive, each step's summing to one and feasible for the flow.
    flow
        A (m, n) and b (m,).
    starts, row_starts
        First pair and first row (T,) of each step.
    epsilon
        Radii (T,), positive and finite.
    """

    objective: FloatArray
    reference: FloatArray
    flow: Block
    starts: IntArray
    row_starts: IntArray
    epsilon: FloatArray

    @cached_property
    def layer(self) -> IntArray:
        """Step of each pair (n,)."""
        sizes = np.diff(np.append(self.starts, self.objective.size))
        return np.repeat(np.arange(self.starts.size), sizes)

    @cached_property
    def log_reference(self) -> FloatArray:
        """log q (n,)."""
        return np.log(self.reference)

    @cached_property
    def rows(self) -> Program:
        """A program with the same rows, for the normal equations."""
        return Program(
            self.objective, KL(self.reference), None, {"flow": self.flow}, temperature=1.0, mass_implied=True
        )

    def by_step(self, values: FloatArray) -> FloatArray:
        """Sums (T,) of values (n,)."""
        return np.add.reduceat(values, self.starts)

    def dual(self, eta: FloatArray, v: FloatArray) -> PerStepDual:
        """Dual function and first derivatives at ``eta > 0`` (T,) and V (m,)."""
        scaled = self.rows.slack(v) / eta[self.layer]
        exponent = self.log_reference + scaled
        top = np.maximum.reduceat(exponent, self.starts)
        log_partition = top + np.log(self.by_step(np.exp(exponent - top[self.layer])))
        x = np.exp(exponent - log_partition[self.layer])
        divergences = self.by_step(x * scaled) - log_partition
        value = float(self.flow.rhs @ v + eta @ (self.epsilon + log_partition))
        return PerStepDual(value, x, divergences, log_partition, self.rows.residual(x), scaled)


class _State(NamedTuple):
    eta: FloatArray
    v: FloatArray
    dual: PerStepDual
    barrier: float


class _Step(NamedTuple):
    log_eta: FloatArray
    newton: FloatArray
    along: FloatArray
    slope: float


@dataclass(frozen=True)
class PerStepNewton:
    """Path-following Newton method for :class:`PerStepProgram`: the default route for one ball a step.

    Parameters
    ----------
    tolerance
        Final mu: the gap, with rewards of range one and averaged over the steps.
    max_iterations
        Newton iterations in all.
    verbose
        Print one line an iteration.
    """

    tolerance: float = 1e-9
    max_iterations: int = 500
    verbose: bool = False

    def __post_init__(self) -> None:
        as_scalar(self.tolerance, "tolerance", low=0.0, low_open=True)
        as_count(self.max_iterations, "max_iterations")

    def solve(self, program: PerStepProgram) -> PerStepAnswer:
        """Follow the central path of the dual of a program whose objective has range one."""
        search = _Path(program, self._equations(program))
        trace = Trace(self.verbose)
        state, mu = search.start()
        iterations, message = 0, "converged"
        while mu > self.tolerance and iterations < self.max_iterations:
            mu = max(self.tolerance, PATH_FACTOR * mu)
            state = search.with_barrier(state, mu)
            state, spent, message = self._centre(search, state, mu, self.max_iterations - iterations, trace)
            iterations += spent
        point = search.onto_flow(state)
        stats = {"iterations": iterations, **search.equations.stats}
        return PerStepAnswer(float(state.eta.max()), state.v, point, message, stats, etas=state.eta)

    @staticmethod
    def _equations(program: PerStepProgram) -> NormalEquations:
        if program.flow.rhs.size <= DENSE_LIMIT:
            return normal_equations(program.rows, "dense")
        return BlockEquations(program.rows, program.row_starts)

    def _centre(self, search: _Path, state: _State, mu: float, budget: int, trace: Trace) -> tuple[_State, int, str]:
        """Newton's method at one mu, until the decrement is small or rounding leaves nothing to gain."""
        centred = mu * (CENTRED if mu > self.tolerance else CENTRED_LAST)
        last = np.inf
        for spent in range(budget):
            step = search.direction(state, mu)
            trace.add(dual=state.dual.value, barrier=mu, largest_eta=state.eta.max(), decrement=-step.slope)
            quadratic = -step.slope <= CENTRED * mu
            if -step.slope <= centred or (quadratic and -step.slope > last / 4):  # rounding, once it falls no more
                return state, spent, "converged"
            last = -step.slope if quadratic else np.inf
            moved = search.line_search(state, step, mu)
            if moved is None:
                return state, spent, "no further decrease of the dual"
            gained, state = state.barrier - moved.barrier, moved
            if gained < STALLED * -step.slope and not quadratic:
                return state, spent + 1, "rounding leaves nothing to gain"
        return state, budget, "iteration limit"


class _Path:
    def __init__(self, program: PerStepProgram, equations: NormalEquations) -> None:
        self.program = program
        self.equations = equations
        self.free = np.ones(program.flow.rhs.size, dtype=bool)

    def start(self) -> tuple[_State, float]:
        """Quadratic model at the reference: V explains what it can, each eta follows from the variance left."""
        program = self.program
        q, rows = program.reference, program.rows
        centred = q * (program.objective - program.by_step(q * program.objective)[program.layer])
        self.equations.update(q, self.free)
        v = self.equations.solve(rows.matrix @ centred)
        left = rows.slack(v)
        mean = program.by_step(q * left)
        variance = program.by_step(q * (left - mean[program.layer]) ** 2)
        spread = np.abs(np.maximum.reduceat(np.abs(left - mean[program.layer]), program.starts))
        eta = np.maximum(np.sqrt(variance / (2 * program.epsilon)), spread / 2 + 1e-3)
        mu = float(np.mean(eta * program.epsilon))
        return self.with_barrier(_State(eta, v, program.dual(eta, v), 0.0), mu), mu

    def with_barrier(self, state: _State, mu: float) -> _State:
        """The same point, its barrier function for another mu."""
        return state._replace(barrier=state.dual.value - mu * float(np.log(state.eta).sum()))

    def direction(self, state: _State, mu: float) -> _Step:
        """Newton step in (log eta, V), V eliminated: T + 1 right-hand sides, then a T x T system."""
        program, eta, dual = self.program, state.eta, state.dual
        x, layer = dual.point, program.layer
        self.equations.update(x / eta[layer], self.free)
        moved = np.zeros((x.size, eta.size))  # d(delta / eta) / d log eta, at fixed V and then along the curve
        moved[np.arange(x.size), layer] = -dual.scaled
        coupling = -(program.rows.matrix @ (x[:, None] * self._centred(x, moved)))
        steps = self._solve(-np.column_stack([dual.residual, coupling]))
        newton, along = steps[:, 0], steps[:, 1:]
        moved = self._centred(x, moved - (program.rows.transpose @ along) / eta[layer, None])
        gradient = eta * (program.epsilon - dual.divergences) - mu
        # as a Gram matrix the Schur complement stays positive semidefinite where balls are slack and eta is tiny
        curvature = moved.T @ ((eta[layer] * x)[:, None] * moved) + np.diag(np.maximum(gradient + mu, mu))
        log_eta = scipy.linalg.solve(curvature, -gradient - coupling.T @ newton, assume_a="pos")
        log_eta *= min(1.0, LARGEST_LOG_STEP / max(float(np.abs(log_eta).max()), 1e-300))
        slope = float(dual.residual @ (newton + along @ log_eta) + gradient @ log_eta)
        return _Step(log_eta, newton, along, slope)

    def _solve(self, columns: FloatArray) -> FloatArray:
        """Solutions (m, k) for k right-hand sides."""
        if isinstance(self.equations, BlockEquations):
            return self.equations.solve_many(columns)
        return np.column_stack([self.equations.solve(column) for column in columns.T])

    def _centred(self, x: FloatArray, columns: FloatArray) -> FloatArray:
        """Columns (n, k) less their mean under each step's x."""
        mean = np.add.reduceat(x[:, None] * columns, self.program.starts)
        return columns - mean[self.program.layer]

    def line_search(self, state: _State, step: _Step, mu: float) -> _State | None:
        """Halve the step until the barrier function falls enough and no step's occupancy travels too far."""
        noise = 16 * np.finfo(float).eps * (1.0 + abs(state.dual.value))
        alpha = 1.0
        while alpha > 1e-10:
            trial = self._move(state, step, alpha, mu)
            falls = trial.barrier <= state.barrier + 1e-4 * alpha * step.slope + noise
            if falls and self._travelled(state, trial) <= LARGEST_TRAVEL:
                return trial
            alpha *= 0.5
        return None

    def _move(self, state: _State, step: _Step, alpha: float, mu: float) -> _State:
        eta = state.eta * np.exp(alpha * step.log_eta)
        v = state.v + alpha * step.newton + step.along @ np.expm1(alpha * step.log_eta)
        return self.with_barrier(_State(eta, v, self.program.dual(eta, v), 0.0), mu)

    def _travelled(self, state: _State, trial: _State) -> float:
        """Largest KL(x_new || x_old) of a step."""
        old, new = state.dual, trial.dual
        moved = self.program.by_step(new.point * (new.scaled - old.scaled))
        return float((moved - new.log_partition + old.log_partition).max())

    def onto_flow(self, state: _State) -> FloatArray:
        """The primal point, put onto the flow: rounding in delta / eta for a tiny eta is undone where it arose."""
        weights = state.dual.point / state.eta[self.program.layer]
        self.equations.update(weights, self.free)
        shift = self.equations.solve(state.dual.residual)
        return np.maximum(state.dual.point + weights * (self.program.rows.transpose @ shift), 0.0)
