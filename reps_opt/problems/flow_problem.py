"""What problems over occupancies share: their rows are a flow, and a policy says which point of it is meant.

Shapes: n pairs and m nodes of the :class:`~reps_opt.processes.flow.Flow`; a table is (S, A), or (T, S, A) in time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from reps_opt.certify import Bound, Residuals
from reps_opt.hints import Nearest
from reps_opt.problem import Problem
from reps_opt.problems.flow_solution import FlowSolution
from reps_opt.processes.flow import Flow
from reps_opt.processes.flow_values import optimum
from reps_opt.processes.mdp import MDP
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer
from reps_opt.tolerances import CLOSE, FLOW_TOLERANCE, LAST_PLACE, LOST_IN_ROUNDING, ROUNDING, SOLVED, VALUES_SHARE
from reps_opt.validation import FloatArray
from reps_opt.values import cached_property
from reps_opt.vectors import largest_size


class FlowProblem(Problem):
    """A problem whose x is an occupancy of a flow times a share, one unless said otherwise."""

    view: type[FlowSolution] = FlowSolution

    axes: tuple[str, ...] = ("state", "action")
    """What the axes of a table are called."""

    share: float = 1.0
    """What an occupancy is multiplied by to be the program's x."""

    mdp: MDP

    if TYPE_CHECKING:  # fields of some, computed in others

        @property
        def flow(self) -> Flow | None:
            """Pairs that can carry mass; None where no occupancy lives on the reference's support."""

        @property
        def reference(self) -> FloatArray | None:
            """The reference occupancy, a table; None without one."""

    @property
    def rewards(self) -> FloatArray:
        """Reward of every pair, a table."""
        return self.mdp.rewards

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a table."""
        return self.rewards.shape

    @property
    def reference_policy(self) -> FloatArray | None:
        """Conditionals of the reference, rows of zeros where it has no mass; None without a reference."""
        if self.reference is None:
            return None
        mass = self.reference.sum(axis=-1, keepdims=True)
        return self.reference / np.where(mass > 0, mass, 1.0)

    @property
    def reference_return(self) -> float:
        """Reward under the reference, ``<q, r>``; NaN without one."""
        return math.nan if self.reference is None else float(np.sum(self.reference * self.rewards))

    @property
    def _known_flow(self) -> Flow:
        assert self.flow is not None
        return self.flow

    def spread(self, x: FloatArray) -> FloatArray:
        """Values (n,) over the pairs that can carry mass as the occupancy that they stand for, a table."""
        return self._known_flow.spread(x) / self.share

    def pick(self, table: FloatArray) -> FloatArray:
        """An occupancy, a table, as the program's x (n,): its entries at the pairs that can carry mass."""
        return self.share * self._known_flow.pick(np.asarray(table, dtype=np.float64))

    @property
    def _names(self) -> dict[str, list[str]]:
        """Step, where there are steps, state and action of each pair; step and state of each node."""
        flow, mdp = self._known_flow, self.mdp
        states = mdp.state_labels or range(mdp.n_states)
        actions = mdp.action_labels or range(mdp.n_actions)
        pairs = zip(*np.unravel_index(flow.pairs, flow.shape), strict=True)
        nodes = zip(*np.unravel_index(flow.nodes, flow.shape[:-1]), strict=True)
        return {
            "occupancy": [", ".join([*map(str, t), str(states[s]), str(actions[a])]) for *t, s, a in pairs],
            "flow": [", ".join([*map(str, t), str(states[s])]) for *t, s in nodes],
        }

    # The linear program that is left where the ball is slack

    @property
    def _optimal_value(self) -> FloatArray:
        """Multipliers (m,) of the linear program: the optimal value, in the units of the rewards."""
        scaled, scale = self.program.normalised()
        return scale.factor * optimum(self._known_flow, scaled.objective).value

    @cached_property
    def _limit(self) -> Nearest:
        return self._linear_limit()

    def _linear_limit(self) -> Nearest:
        """Dynamic programming for the linear program, then the point of its optimal face closest to the reference."""
        program, flow = self.program, self._known_flow
        scaled, scale = program.normalised()
        best = optimum(flow, scaled.objective)
        net = scaled.objective - program.pulled(best.value)
        size = float(np.median(np.abs(best.value)))
        tight = net >= net.max() - CLOSE * max(1.0, VALUES_SHARE * size)
        # what rounds is large beside what decides: the best policy is on the face all the same
        point = self._on_face(tight if flow.averages else tight | (best.greedy > 0))
        if point is None or program.violation(point) > FLOW_TOLERANCE:
            # rounding left no closed face, or its points are too far for a projection: the optimal policy is on it
            near = (best.gain >= best.gain.max() - CLOSE).astype(np.float64)
            point = self.share * flow.occupancy(best.greedy, near)
        return Nearest(point, scale.factor * best.value, program.balls[0].value(point))

    def _on_face(self, tight: np.ndarray) -> FloatArray | None:
        """Point (n,) closest to the reference among those with mass on the tight pairs (n,) only; None if none has."""
        flow = self._known_flow
        face = flow.within(tight)
        if face is None:
            return None
        point = np.zeros(flow.pairs.size)
        point[np.searchsorted(flow.pairs, face.pairs)] = self._nearest(face)
        return point

    def _nearest(self, face: Flow) -> FloatArray:
        """Point over the pairs of a part of the flow that is closest to the reference."""
        raise NotImplementedError

    # What the judge asks

    def candidates(self, program: Program, answer: Answer) -> Iterator[FloatArray]:
        """Exact occupancies of two policies: the dual maximiser's, and that of the solver's own point."""
        flow = self._known_flow
        own = None if answer.point is None else np.maximum(answer.point, 0.0)
        near = None if own is None else flow.node_sums(own)
        policy = None
        if answer.multipliers is not None and len(program.balls) == 1 and 0 < answer.eta < math.inf:
            policy = program.within(answer.eta, answer.multipliers, flow.pair_node, flow.nodes.size)
            yield self.share * flow.occupancy(policy, near)
            if own is None or answer.point is program.dual(answer.eta, answer.multipliers).conjugate.point:
                return
        if own is not None:
            conditional = flow.conditional(own)
            if policy is None or np.abs(policy - conditional).max() > ROUNDING:
                yield self.share * flow.occupancy(conditional, near)

    def polished(self, program: Program, answer: Answer) -> Answer:
        """The answer without what large multipliers of the flow have in common, where that is free: without a discount.

        It is free to the mathematics, but not to floats: 1e-16 of a mass is worth 1e3 at a price of 1e19.
        """
        v, flow = answer.multipliers, self._known_flow
        if not flow.averages or v is None or answer.digits is not None or _rounding(v) <= SOLVED:
            return answer
        v, m = v.copy(), flow.nodes.size
        v[:m] -= 0.5 * v[:m].min() + 0.5 * v[:m].max()
        return replace(answer, multipliers=v)

    def bounds(self, program: Program, answer: Answer, point: FloatArray, divergences: list[float]) -> Iterator[Bound]:
        """Dual bounds that the answer offers, raised by what rounding of rows is worth at prices beyond all values."""
        for bound in super().bounds(program, answer, point, divergences):
            lost = _rounding(bound.multipliers)
            raised = lost > LOST_IN_ROUNDING and answer.digits is None
            yield bound._replace(value=bound.value + lost) if raised else bound

    def residuals(self, program: Program, point: FloatArray) -> Residuals:
        """Residuals on the whole MDP, not only on the pairs kept."""
        occupancy = point / self.share
        return Residuals(self._known_flow.missed(occupancy), self._known_flow.off_mass(occupancy))

    def price(self, program: Program, point: FloatArray, bound: Bound, divergences: list[float]) -> float:
        """Nothing: an exact occupancy misses no row beyond rounding."""
        return 0.0


def _rounding(multipliers: FloatArray) -> float:
    """What the last place of the largest multiplier is worth, in ranges of the rewards."""
    return LAST_PLACE * largest_size(multipliers)


class UnrolledProblem(FlowProblem):
    """A problem over a flow that is unrolled in time, whose reference is an occupancy, and inside every ball."""

    if TYPE_CHECKING:

        @property
        def flow(self) -> Flow:
            """Pairs (t, s, a) that can carry mass."""

        @property
        def reference(self) -> FloatArray:
            """The reference occupancy (T, S, A)."""

    @cached_property
    def centre(self) -> Nearest:
        """The reference."""
        return Nearest(self.share * self.flow.pick(self.reference), np.zeros(self.flow.nodes.size), 0.0)

    @cached_property
    def anchor(self) -> FloatArray | None:
        return self.centre.point

    @property
    def epsilon_min(self) -> float:
        return 0.0

    def infeasible(self) -> str:
        """Nothing: the reference is feasible."""
        return ""

    def refute(self, program: Program, answer: Answer) -> str:
        return ""
