r"""The three balls of a finite-horizon problem: one shared by all steps, one a step, one around the trajectories.

Each knows its divergences, how to pose the normalised program, and how to read an answer's multipliers as values and as
a bound. Everything is in normalised rewards: in [0, 1] over the pairs that can carry mass, their sum divided by T.

Shapes: T steps, S states, A actions; n pairs and m nodes that can carry mass; k balls (1, or T a step).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import rel_entr

from reps_opt.divergences.base import KL
from reps_opt.processes.time_indexed import TimeIndexedFlow, bellman_error, optimal_values
from reps_opt.program import Block, LinearLimit, Program
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.newton import Newton
from reps_opt.solvers.per_step import PerStepAnswer, PerStepNewton, PerStepProgram
from reps_opt.solvers.soft_backup import SoftBackup, TrajectoryProgram
from reps_opt.validation import FloatArray

if TYPE_CHECKING:
    from reps_opt.problems.horizon import FiniteHorizonREPS

TIGHT = 1e-9
"""Bellman error, in units of the reward range, up to which an action counts as optimal."""


class DualReading(NamedTuple):
    """What multipliers say: eta (k,), values (T, S), and the upper bound on the mean reward a step."""

    eta: FloatArray
    values: FloatArray
    upper: float


class Ball(ABC):
    """What differs between the balls; ``problem.rewards01`` are the normalised rewards (T, S, A)."""

    routes: tuple[type, ...] | None = None
    label: str

    def __init__(self, problem: FiniteHorizonREPS) -> None:
        self.problem = problem

    @abstractmethod
    def divergences(self, occupancy: FloatArray) -> FloatArray:
        """Divergences (k,) of an occupancy (T, S, A), each convex in it, in nats."""

    @abstractmethod
    def program(self) -> Any:
        """The normalised program, for ``default_solver``."""

    @abstractmethod
    def default_solver(self) -> Solver:
        """The route for this ball's dual."""

    @abstractmethod
    def policies(self, answer: Answer) -> Iterator[FloatArray]:
        """Candidate policies (T, S, A) of an answer."""

    @abstractmethod
    def read(self, answer: Answer) -> DualReading:
        """Multipliers of an answer in their gauge, with the bound they prove (weak duality)."""

    @abstractmethod
    def expressions(self, cp: Any, occupancy: list[Any]) -> list[Any]:
        """The divergences (k,) as CVXPY expressions of one (S, A) expression a step."""

    def _slack_reading(self, values: FloatArray) -> DualReading:
        """Reading at eta = 0: the bound is the linear program's."""
        start = self.problem.mdp.mu0
        upper = float(start[start > 0] @ values[0, start > 0]) / self.problem.horizon
        return DualReading(np.zeros(self.problem.epsilon_array.size), values, upper)

    def _own_policy(self, answer: Answer) -> Iterator[FloatArray]:
        if answer.point is not None:
            yield self.problem.flow.conditional(answer.point, self.problem.reference_policy)


class SharedBall(Ball):
    """``KL(p/T || q/T) = mean_t KL(p_t || q_t) <= epsilon``: the core's program on the simplex x = p/T."""

    label = "shared"

    def divergences(self, occupancy: FloatArray) -> FloatArray:
        q = self.problem.reference
        return np.array([float(rel_entr(occupancy, q).sum()) / self.problem.horizon])

    def program(self) -> Program:
        problem, flow = self.problem, self.problem.flow
        share = 1.0 / problem.horizon
        return Program(
            flow.pick(problem.rewards01),
            KL(share * flow.pick(problem.reference)),
            float(problem.epsilon_array[0]),
            {"flow": Block(flow.block.matrix, share * flow.block.rhs)},
            mass_implied=True,
            linear_limit=lambda: linear_limit(problem),
        )

    def default_solver(self) -> Solver:
        return Newton()

    def policies(self, answer: Answer) -> Iterator[FloatArray]:
        problem, program = self.problem, self.problem.normalised[0]
        if answer.multipliers is not None and 0 < answer.eta < math.inf:
            exponent = np.log(problem.flow.pick(problem.reference)) + program.slack(answer.multipliers) / answer.eta
            yield problem.flow.softmax(exponent, problem.reference_policy)
        yield from self._own_policy(answer)

    def read(self, answer: Answer) -> DualReading:
        problem, program = self.problem, self.problem.normalised[0]
        v = np.zeros(program.rhs.size) if answer.multipliers is None else answer.multipliers
        slack = program.slack(v)
        eta = answer.eta
        inner = float(slack.max()) if eta == 0 else eta * program.divergence.conjugate(slack / eta).normaliser
        steps_left = problem.horizon - problem.flow.nodes // problem.mdp.n_states
        values = problem.flow.spread_nodes(v + inner * steps_left)
        return DualReading(np.array([eta]), values, program.bound(eta, v))

    def expressions(self, cp: Any, occupancy: list[Any]) -> list[Any]:
        q = self.problem.reference
        return [sum(cp.sum(cp.rel_entr(p, q[t])) for t, p in enumerate(occupancy)) / self.problem.horizon]


class PerStepBalls(Ball):
    """``KL(p_t || q_t) <= epsilon_t`` for every t: one eta a step."""

    label = "per_step"
    routes = (PerStepNewton,)

    def divergences(self, occupancy: FloatArray) -> FloatArray:
        return np.asarray(rel_entr(occupancy, self.problem.reference).sum(axis=(1, 2)))

    def program(self) -> PerStepProgram:
        problem, flow = self.problem, self.problem.flow
        q = flow.pick(problem.reference)
        largest = np.maximum.reduceat(-np.log(q), flow.layer_starts) + 1.0  # beyond every KL(p_t || q_t)
        epsilon = np.minimum(problem.epsilon_array, largest)
        return PerStepProgram(flow.pick(problem.rewards01), q, flow.block, flow.layer_starts, flow.node_starts, epsilon)

    def default_solver(self) -> Solver:
        return PerStepNewton()  # type: ignore[return-value]

    def policies(self, answer: Answer) -> Iterator[FloatArray]:
        yield from self._own_policy(answer)

    def read(self, answer: Answer) -> DualReading:
        problem, program = self.problem, self.problem.normalised[0]
        assert answer.multipliers is not None
        if not isinstance(answer, PerStepAnswer):
            return self._slack_reading(problem.flow.spread_nodes(answer.multipliers))
        point = program.dual(answer.etas, answer.multipliers)
        inner = answer.etas * point.log_partition
        to_go = np.cumsum(inner[::-1])[::-1]  # absorbs the normalisers into the values
        values = answer.multipliers + to_go[problem.flow.nodes // problem.mdp.n_states]
        upper = point.value / problem.horizon
        return DualReading(answer.etas, problem.flow.spread_nodes(values), upper)

    def expressions(self, cp: Any, occupancy: list[Any]) -> list[Any]:
        q = self.problem.reference
        return [cp.sum(cp.rel_entr(p, q[t])) for t, p in enumerate(occupancy)]


class TrajectoryBall(Ball):
    """``sum_t E_p KL(pi_t || pi_q,t) <= epsilon``: the KL between trajectory distributions of the same dynamics."""

    label = "trajectory"
    routes = (SoftBackup,)

    def divergences(self, occupancy: FloatArray) -> FloatArray:
        predicted = occupancy.sum(axis=2, keepdims=True) * self.problem.reference_policy
        return np.array([max(float(rel_entr(occupancy, predicted).sum()), 0.0)])

    def program(self) -> TrajectoryProgram:
        problem = self.problem
        epsilon = float(problem.epsilon_array[0])
        return TrajectoryProgram(problem.mdp, problem.rewards01, problem.reference_policy, epsilon)

    def default_solver(self) -> Solver:
        return SoftBackup()  # type: ignore[return-value]

    def policies(self, answer: Answer) -> Iterator[FloatArray]:
        program = self.problem.normalised[0]
        yield program.dual(answer.eta).policy

    def read(self, answer: Answer) -> DualReading:
        point = self.problem.normalised[0].dual(answer.eta)
        return DualReading(np.array([answer.eta]), point.values, point.value / self.problem.horizon)

    def expressions(self, cp: Any, occupancy: list[Any]) -> list[Any]:
        total = 0.0
        for p, table in zip(occupancy, self.problem.reference_policy, strict=True):
            state_mass = cp.reshape(cp.sum(p, axis=1), (p.shape[0], 1), order="C") @ np.ones((1, p.shape[1]))
            total += cp.sum(cp.rel_entr(p, cp.multiply(table, state_mass)))
        return [total]


BALLS: dict[str, type[Ball]] = {ball.label: ball for ball in (SharedBall, PerStepBalls, TrajectoryBall)}


def linear_limit(problem: FiniteHorizonREPS) -> LinearLimit:
    """The linear program by backward induction, and the point of its optimal face closest to the reference."""
    flow = problem.flow
    values = optimal_values(problem.mdp, problem.rewards01, flow.kept)
    tight = flow.kept & (bellman_error(problem.mdp, problem.rewards01, values) >= -TIGHT)
    face: TimeIndexedFlow = flow.reached(tight)
    share = 1.0 / problem.horizon
    rows = Block(face.block.matrix, share * face.block.rhs)
    q = share * face.pick(problem.reference)
    program = Program(np.zeros(q.size), KL(q), 0.0, {"flow": rows}, mass_implied=True)
    answer = Newton().project(program)
    assert answer.point is not None
    point = flow.pick(face.spread(answer.point))
    divergence = KL(share * flow.pick(problem.reference)).value(point)
    return LinearLimit(point, values.ravel()[flow.nodes], divergence)
