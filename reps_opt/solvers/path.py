r"""Several balls: Newton's method along the central path of the dual, in (log eta, multipliers).

.. math::
    \min_{\eta > 0, v}\; g(\eta, v) = b'v + \eta'\epsilon + \Big(\sum_k \eta_k D_k\Big)^{\!*}(c - A'v)

Many balls are slack at the optimum (the first step's of a horizon, when the second's is narrower): their eta is zero,
where g may have no derivative. The path minimises ``g - mu sum log eta_k``, on which
``eta_k (epsilon_k - D_k) = mu`` and the gap is ``k mu``, while mu falls.

Shapes: n coordinates, m rows, k balls, G simplexes of the domain.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from reps_opt.dual_point import JointDualPoint
from reps_opt.processes.graph import IntArray
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer
from reps_opt.solvers.trace import Trace
from reps_opt.systems.base import Cholesky, NormalEquations
from reps_opt.systems.blocks import BlockEquations
from reps_opt.systems.choice import normal_equations
from reps_opt.tolerances import (
    CENTRED,
    CENTRED_LAST,
    COLDEST_START,
    DENSE_ROWS,
    DUAL_NOISE,
    FASTER_FACTOR,
    FINAL_BARRIER,
    LARGEST_LOG_STEP,
    LARGEST_TRAVEL,
    LEAST_BARRIER,
    PATH_FACTOR,
    ROUNDING,
    SHORTEST_STEP,
    STALLED_DECREASE,
    SUFFICIENT_DECREASE,
    TINY,
    VISIBLE,
    WARM_ENOUGH,
)
from reps_opt.validation import FloatArray

IMPOSSIBLE = "the dual falls below every feasible objective: no point is feasible"


class _State(NamedTuple):
    dual: JointDualPoint
    barrier: float


class _Step(NamedTuple):
    log_eta: FloatArray
    newton: FloatArray
    along: FloatArray
    slope: float


def follow_path(program: Program, max_iterations: int, verbose: bool) -> Answer:
    """Minimise the dual of a program of several KL balls whose objective has range one."""
    search = _Path(program)
    trace = Trace(verbose)
    state, mu = search.start()
    iterations, spent, message = 0, 2, "converged"
    while search.goes_on(state, mu) and iterations < max_iterations:
        mu = max(LEAST_BARRIER, (PATH_FACTOR if spent > 1 else FASTER_FACTOR) * mu)
        state = search.with_barrier(state.dual, mu)
        state, spent, message = _centre(search, state, mu, max_iterations - iterations, trace)
        iterations += max(spent, 1)  # a centring without a step is work too: mu alone must not keep the loop going
        if message == IMPOSSIBLE:
            break
    stats = {"iterations": iterations, **search.equations.stats, "trace": trace}
    return Answer(state.dual.eta, state.dual.multipliers, search.onto_rows(state.dual), message, stats)


def onto_rows(program: Program, dual: JointDualPoint) -> FloatArray:
    """The primal point (n,) of several balls' dual, put onto the rows, which rounding in net / eta leaves it off."""
    return _Path(program).onto_rows(dual)


def _centre(search: _Path, state: _State, mu: float, budget: int, trace: Trace) -> tuple[_State, int, str]:
    """Newton's method at one mu, until the decrement is small or rounding leaves nothing to gain."""
    centred = mu * (CENTRED if mu > 10 * FINAL_BARRIER else CENTRED_LAST)
    last = np.inf
    for spent in range(budget):
        if state.dual.value < search.least:
            return state, spent, IMPOSSIBLE
        step = search.direction(state, mu)
        trace.add(dual=state.dual.value, barrier=mu, largest_eta=state.dual.eta.max(), decrement=-step.slope)
        quadratic = -step.slope <= CENTRED * mu
        if -step.slope <= centred or (quadratic and -step.slope > last / 4):  # rounding, once it falls no more
            return state, spent, "converged"
        last = -step.slope if quadratic else np.inf
        moved = search.line_search(state, step, mu)
        if moved is None:
            return state, spent, "no further decrease of the dual"
        gained, state = state.barrier - moved.barrier, moved
        if gained < STALLED_DECREASE * -step.slope and not quadratic:
            return state, spent + 1, "rounding leaves nothing to gain"
    return state, budget, "iteration limit"


def layered_rows(program: Program) -> IntArray | None:
    """First row (G,) of each layer where every row touches one layer of coordinates and the one before; else None."""
    matrix, layer = program.matrix, program.joint.layer
    if program.joint.starts.size == 1 or program.signed.any() or np.any(np.diff(matrix.indptr) == 0):
        return None
    touched = layer[matrix.indices]
    last = np.maximum.reduceat(touched, matrix.indptr[:-1])
    first = np.minimum.reduceat(touched, matrix.indptr[:-1])
    if np.any(np.diff(last) < 0) or np.any(first < last - 1):
        return None
    return np.searchsorted(last, np.arange(program.joint.starts.size))


class _Path:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.joint = program.joint
        self.radii = self.program.radii
        self.moving = np.array([ball.price is None for ball in program.balls])  # the others' eta is their price
        self.prices = np.array([ball.price or 0.0 for ball in program.balls])
        self.least = program.least_score(0.0) - VISIBLE
        self.equations = self._equations()

    def _equations(self) -> NormalEquations:
        single = self.program.with_ball(self.program.balls[0])  # the systems know one reference, and rows
        starts = layered_rows(self.program)
        if starts is None or self.program.rhs.size <= DENSE_ROWS:
            return normal_equations(single, "dense" if self.program.rhs.size <= DENSE_ROWS else "sparse")
        return BlockEquations(single, starts)

    def start(self) -> tuple[_State, float]:
        """Where the hints say; else the quadratic model at the reference, where v explains what it can.

        Each eta of the model follows from the variance left.
        """
        program, joint = self.program, self.joint
        eta: Any
        if program.hints.warm is not None:
            eta, v = program.hints.warm
        else:
            q = joint.reference / joint.sums(joint.reference)[joint.layer]
            centred = joint.centred(q, program.objective[:, None])[:, 0]
            self.equations.update(q, ~program.signed)
            v = self.equations.solve(program.times(q * centred))
            left = joint.centred(q, program.net(v)[:, None])[:, 0] * (q > 0)
            eta = np.empty(len(program.balls))
            for k, where in enumerate(joint.where):
                deviation = np.sqrt(float(q[where] @ left[where] ** 2) / (2 * max(self.radii[k], TINY)))
                eta[k] = max(min(deviation, 1 / VISIBLE), float(np.abs(left[where]).max()) / 2 + COLDEST_START)
        eta = np.where(self.moving, eta, self.prices)
        mu = max(float(np.mean(eta * self.radii)), FINAL_BARRIER)
        return self.with_barrier(program.joint_dual(eta, v), mu), mu

    def goes_on(self, state: _State, mu: float) -> bool:
        """Whether mu may still fall."""
        warm = float(state.dual.conjugate.temperature.min()) >= WARM_ENOUGH
        return mu > (LEAST_BARRIER if warm else FINAL_BARRIER) * (1 + ROUNDING)

    def with_barrier(self, dual: JointDualPoint, mu: float) -> _State:
        """A point with its barrier function for one mu."""
        return _State(dual, dual.value - mu * float(np.log(dual.eta[self.moving]).sum()))

    def direction(self, state: _State, mu: float) -> _Step:
        """Newton step in (log eta, v), v eliminated: k + 1 right-hand sides, then a k x k system."""
        program, joint, dual = self.program, self.joint, state.dual
        x, eta, t = dual.conjugate.point, dual.eta, dual.conjugate.temperature[joint.layer]
        self.equations.update(x / t, program.free(dual.multipliers, dual.residual))
        # d s / d log eta, at fixed v and then along the curve
        moved = joint.log_slope(eta, dual.conjugate) * self.moving
        coupling = -(program.matrix @ (x[:, None] * joint.centred(x, moved)))
        steps = self.equations.solve(-np.column_stack([dual.residual, coupling]))
        newton, along = steps[:, 0], steps[:, 1:]
        moved = joint.centred(x, moved - (program.transpose @ along) / t[:, None])
        gradient = np.where(self.moving, eta * (self.radii - dual.divergences) - mu, 0.0)
        # as a Gram matrix the Schur complement stays positive semidefinite where balls are slack and eta is tiny
        curvature = moved.T @ ((t * x)[:, None] * moved) + np.diag(np.maximum(gradient + mu, mu))
        log_eta = Cholesky(curvature).solve(-gradient - coupling.T @ newton)
        log_eta *= min(1.0, LARGEST_LOG_STEP / max(float(np.abs(log_eta).max()), TINY))
        slope = float(dual.residual @ (newton + along @ log_eta) + gradient @ log_eta)
        return _Step(log_eta, newton, along, slope)

    def line_search(self, state: _State, step: _Step, mu: float) -> _State | None:
        """Halve the step until the barrier function falls enough and no simplex's x travels too far."""
        noise = DUAL_NOISE * (1.0 + abs(state.dual.value))
        alpha = 1.0
        while alpha > SHORTEST_STEP:
            trial = self._move(state, step, alpha, mu)
            falls = trial.barrier <= state.barrier + SUFFICIENT_DECREASE * alpha * step.slope + noise
            if falls and self._travelled(state.dual, trial.dual) <= LARGEST_TRAVEL:
                return trial
            alpha *= 0.5
        return None

    def _move(self, state: _State, step: _Step, alpha: float, mu: float) -> _State:
        eta = state.dual.eta * np.exp(alpha * step.log_eta)
        v = state.dual.multipliers + alpha * step.newton + step.along @ np.expm1(alpha * step.log_eta)
        return self.with_barrier(self.program.joint_dual(eta, self.program.cut(v)), mu)

    def _travelled(self, old: JointDualPoint, new: JointDualPoint) -> float:
        """Largest KL(x_new || x_old) of a simplex."""
        moved = self.joint.sums(new.conjugate.point * (new.conjugate.scaled - old.conjugate.scaled))
        return float((moved - new.conjugate.log_partition + old.conjugate.log_partition).max())

    def onto_rows(self, dual: JointDualPoint) -> FloatArray:
        """The primal point, put onto the rows: rounding in net / eta for a tiny eta is undone where it arose."""
        weights = dual.conjugate.point / dual.conjugate.temperature[self.joint.layer]
        free = ~self.program.signed | (dual.multipliers > 0)
        self.equations.update(weights, free)
        shift = self.equations.solve(dual.residual)
        return np.maximum(dual.conjugate.point + weights * (self.program.transpose @ shift), 0.0)
