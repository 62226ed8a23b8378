"""One step of O-REPS as a problem: relative entropy at a price, over a flow that is unrolled in time.

Shapes: L layers, S states, A actions; n pairs and m nodes of the flow; tables (L, S, A).
"""

from __future__ import annotations

import math

import numpy as np

from reps_opt.certify import Residuals
from reps_opt.constraints import Equal
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL, softmax_within
from reps_opt.hints import Hints
from reps_opt.problem import Problem
from reps_opt.problems.flow_problem import UnrolledProblem
from reps_opt.problems.flow_solution import FlowSolution
from reps_opt.processes.flow import Flow
from reps_opt.processes.mdp import MDP
from reps_opt.processes.time_indexed import soft_values
from reps_opt.program import Program
from reps_opt.scale import Scale
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.dense_penalty import DensePenalty
from reps_opt.solvers.newton import Newton
from reps_opt.tolerances import DENSE_ROWS, GENTLE_LOSS, TINY
from reps_opt.validation import FloatArray, read_only
from reps_opt.values import cached_property, value
from reps_opt.vectors import least

DENSE = DensePenalty()
"""Settings only, so that one serves all."""


@value
class ORePSStepSolution(FlowSolution):
    """The answer to a step of O-REPS: the next ``occupancy`` (L, S, A), and ``value`` (L, S), the flow's multiplier."""

    @cached_property
    def value(self) -> FloatArray:
        """v (L, S), in units of the loss; a multiple of the number of layers to come is free."""
        flow = self.problem.flow
        nothing = np.full(flow.nodes.size, math.nan)
        return read_only(
            flow.spread_nodes(nothing if self.multipliers is None else self.multipliers * self.problem.share)
        )

    @cached_property
    def log_occupancy(self) -> FloatArray:
        """Log of the occupancy (n,), also of pairs whose mass has underflowed."""
        assert self.point is not None
        if least(self.point) > TINY:
            return np.log(self.point / self.problem.share)
        assert self.multipliers is not None
        flow, program = self.problem.flow, self.problem.program
        exponent = program.divergence.log_reference + program.net(self.multipliers) / self.eta
        partition = softmax_within(exponent, flow.pair_node, flow.nodes.size)[1]
        mass = np.maximum(flow.node_sums(self.point) / self.problem.share, TINY)
        return (np.log(mass) - partition)[flow.pair_node] + exponent


@value
class ORePSStep(UnrolledProblem):
    r"""One step of O-REPS: REPS in penalty form on the layered flow, over x = q / L.

    .. math:: \max_q\; -\langle q, \hat\ell\rangle - \tau\, KL(q \| q_t) \quad\text{s.t.}\quad \text{flow}\;[v]

    Parameters
    ----------
    flow
        The pairs (l, s, a) that can be visited.
    losses
        The loss, or its estimate (n,), over these pairs.
    log_reference
        Log of q_t (n,).
    temperature
        tau, one over the learning rate.
    """

    flow: Flow
    losses: FloatArray
    log_reference: FloatArray
    temperature: float

    view = ORePSStepSolution
    axes = ("layer", "state", "action")

    @property
    def mdp(self) -> MDP:  # type: ignore[override]
        """The MDP whose flow it is."""
        return self.flow.mdp

    @cached_property
    def share(self) -> float:  # type: ignore[override]
        """One over the number of layers: x is on one simplex."""
        assert self.flow.horizon is not None
        return 1.0 / self.flow.horizon

    @cached_property
    def rewards(self) -> FloatArray:
        return read_only(-self.flow.spread(self.losses))

    @cached_property
    def reference(self) -> FloatArray:
        return read_only(self.flow.spread(np.exp(self.log_reference)))

    @property
    def _rows(self) -> Program:
        """The program without its data: what is computed of the rows serves every step."""
        memo = self.flow.memo
        if "layered" not in memo:
            rows = {"flow": Equal(self.flow.matrix, self.flow.rhs * self.share)}
            zeros = np.zeros(self.flow.pairs.size)
            memo["layered"] = Program(zeros, rows, hints=Hints(mass_implied=True, variable="occupancy"))
        rows_alone: Program = memo["layered"]
        return rows_alone

    @cached_property
    def program(self) -> Program:
        """The :class:`~reps_opt.Program`, in units of the loss."""
        return self._posed(1.0)

    @cached_property
    def normalised(self) -> tuple[Program, Scale]:
        """The program in units of the largest loss; told where to start where the losses are large beside the price.

        Soft values keep the mass that every node has under the reference, however large the losses.
        """
        largest = float(np.abs(self.losses).max())
        unit = largest / self.share or 1.0
        program = self._posed(unit)
        if largest > GENTLE_LOSS * self.temperature:
            assert program.temperature is not None
            flow, price = self.flow, program.temperature
            mass = softmax_within(self.log_reference, flow.pair_node, flow.nodes.size)[1]
            log_policy = flow.spread(self.log_reference - mass[flow.pair_node], -math.inf)
            values = soft_values(self.mdp, flow.spread(program.objective), log_policy, price)
            program = program.hinted(start=flow.pick_nodes(values))
        return program, Scale(0.0, unit)

    def _posed(self, unit: float) -> Program:
        log_q = self.log_reference + math.log(self.share)
        ball = Ball(KL(np.exp(log_q), log_q), price=self.temperature / (self.share * unit))
        return self._rows.with_ball(ball, objective=self.losses * (-1.0 / (self.share * unit)))

    @property
    def radius(self) -> float:
        """Infinite: the relative entropy has a price."""
        return math.inf

    def default_solver(self) -> Solver:
        return DENSE if self.flow.nodes.size <= DENSE_ROWS else Newton()

    def closed_form(self, program: Program) -> Answer | None:
        return None

    def residuals(self, program: Program, point: FloatArray) -> Residuals:
        """Residuals of the rows, which are the whole flow: whatever a pair leads to is among the nodes."""
        return Problem.residuals(self, program, point)

    def __repr__(self) -> str:
        size = f"{self.flow.nodes.size} nodes, {self.flow.pairs.size} pairs, {self.flow.horizon} layers"
        return f"ORePSStep({size}, temperature={self.temperature:g})"
