"""What exact problems over the occupancy measure of a finite MDP share.

Shapes: S states, A actions; n pairs and m states that can carry mass (:mod:`reps_opt.processes.flow`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.certify import Residuals
from reps_opt.constraints import Block, Equal
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL, Divergence, NoBall
from reps_opt.hints import Hints, Nearest
from reps_opt.problems.budgets import Budgets, Cheapest, as_budgets
from reps_opt.problems.flow_problem import FlowProblem
from reps_opt.problems.occupancy_solution import OccupancySolution
from reps_opt.processes.construction import check_within
from reps_opt.processes.flow import Flow
from reps_opt.processes.flow_values import attained, rough_value
from reps_opt.processes.mdp import MDP
from reps_opt.program import Program
from reps_opt.scale import Scale
from reps_opt.solution import Solution
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.choice import with_more_digits
from reps_opt.solvers.linear import highs_limit
from reps_opt.solvers.newton import Newton
from reps_opt.threads import limited
from reps_opt.tolerances import (
    CONSISTENT,
    LAST_PLACE,
    NEARLY_UNDISCOUNTED,
    ROUNDING,
    VISIBLE,
)
from reps_opt.validation import FloatArray, UnsuitableError, as_float_array, as_scalar, check_nonnegative, read_only
from reps_opt.values import OldName, cached_property


def as_reference(reference: ArrayLike, mdp: MDP, name: str = "reference") -> FloatArray:
    """Validate a reference distribution (S, A), and scale it to sum one."""
    q = as_float_array(reference, name, mdp.rewards.shape)
    check_nonnegative(q, name)
    check_within(q, mdp.allowed, name)
    total = float(q.sum())
    if total == 0:
        raise ValueError(f"{name} sums to zero: it must put mass somewhere")
    return read_only(q if total == 1.0 else q / total)


class OccupancyProblem(FlowProblem):
    """What exact problems share: the MDP, the pairs that can carry mass, and the way from an answer to a solution.

    Subclasses say which pairs are allowed and what divergence holds over them.
    """

    view = OccupancySolution

    epsilon: float | None
    temperature: float | None
    costs: FloatArray | None
    budgets: FloatArray | None

    entropy: float | None = None
    """Least entropy of the new distribution, None without such a bound."""

    @cached_property
    def budget_rows(self) -> Budgets | None:
        """Expected costs and what they may come to, None without any."""
        return as_budgets(self.costs, self.budgets, self.mdp.rewards.shape)

    def _allowed(self) -> np.ndarray:
        """Mask (S*A,) of the pairs that may carry mass."""
        raise NotImplementedError

    def _divergence(self, flow: Flow) -> Divergence:
        """The divergence over the pairs of a flow."""
        raise NotImplementedError

    def _balls(self, flow: Flow) -> list[Ball]:
        """The balls over the pairs of a flow."""
        return [Ball(self._divergence(flow), radius=self.epsilon, price=self.temperature)]

    @cached_property
    def flow(self) -> Flow | None:
        """Pairs and states that can carry mass; None when no occupancy lives on the reference's support."""
        return Flow.of(self.mdp, self._allowed())

    reduction = OldName("flow")

    @cached_property
    def program(self) -> Program:
        """The :class:`~reps_opt.program.Program` over the pairs that can carry mass, in reward units."""
        if self.flow is None:
            raise ValueError("reference supports no occupancy of the MDP: no radius makes the problem feasible")
        return self._pose(self.flow, self.flow.remembered("rewards", self.flow.pick, self.rewards))

    def _pose(self, flow: Flow, objective: FloatArray) -> Program:
        rows: dict[str, Block] = {"flow": flow.memo.setdefault("rows", Equal(flow.rows, flow.rhs, flow.exact))}
        if self.budget_rows is not None:
            rows["budgets"] = self.budget_rows.block(flow.pairs)
        hints = Hints(
            grounds=flow.grounds,
            mass_implied=not flow.averages,
            linear_limit=(lambda: self._limit) if flow is self.flow else None,
            variable="occupancy",
            inside=lambda: self._inside if flow is self.flow else flow.interior(),
            attained=None if flow.averages or self.budget_rows is not None else partial(attained, flow),
            optimum=(lambda: self._optimal_value) if flow is self.flow and self.budget_rows is None else None,
        )
        return Program(objective, rows, self._balls(flow), hints=hints)

    @cached_property
    def centre(self) -> Nearest:
        """The occupancy closest to the reference that keeps the budgets: the reference itself where it does."""
        divergence, none = self.program.balls[0].divergence, np.zeros(self.program.rhs.size)
        if not divergence.bounded:
            return Nearest(divergence.reference, none, math.inf)
        if (own := self._own_occupancy()) is not None:
            return Nearest(own, none, 0.0)
        answer = self._project(self._known_flow)
        assert answer.point is not None
        # where rounding of the flow is a mass that small ones would feel
        nearly = 0 < 1 - self.mdp.gamma < NEARLY_UNDISCOUNTED
        if nearly or not self._known_flow.is_occupancy(answer.point, self.program.violation(answer.point)):
            answer = with_more_digits(self.program.with_ball(self.program.balls[0]).flat(), answer)
        assert answer.point is not None
        assert answer.multipliers is not None
        return Nearest(answer.point, answer.multipliers, divergence.value(answer.point))

    def _own_occupancy(self) -> FloatArray | None:
        """The occupancy (n,) that the reference is itself, None where it is none, or misses a budget."""
        program = self.program
        divergence = program.balls[0].divergence
        reference = divergence.reference
        missed = program.violation(reference) + abs(reference.sum() - 1.0)
        known = isinstance(divergence, NoBall) or self._known_flow.is_occupancy(reference, missed)
        return reference if known else None

    @cached_property
    def anchor(self) -> FloatArray:
        """A point (n,) that keeps the ball and the budgets with room to spare, where there is one.

        The centre; where it leaves a budget no room, the centre moved towards the cheapest occupancy as far as the
        ball has room for.
        """
        centre, program = self.centre, self.program
        rows = program.inequalities.get("budgets")
        if rows is None:
            return centre.point
        assert self._cheapest is not None
        if isinstance(program.balls[0].divergence, NoBall):
            return self._cheapest.point
        if np.all(rows.matrix @ centre.point < rows.rhs - VISIBLE):
            return centre.point
        epsilon = math.inf if self.epsilon is None else self.epsilon
        share = 0.5
        while share > ROUNDING:
            moved = (1 - share) * centre.point + share * self._cheapest.point
            if program.balls[0].divergence.value(moved) <= (centre.divergence + epsilon) / 2:
                return moved
            share /= 2
        return centre.point

    @cached_property
    def _cheapest(self) -> Cheapest | None:
        if self.budget_rows is None or self.flow is None:
            return None
        return self.budget_rows.cheapest(self.flow)

    @cached_property
    def violation(self) -> float:
        """Least amount by which every budget would have to be raised, in units of the costs; zero if they are kept."""
        if self.budget_rows is None or self.flow is None:
            return 0.0
        reference = self.program.balls[0].divergence.reference
        if self.program.violation(reference) + abs(reference.sum() - 1.0) <= CONSISTENT:
            return 0.0
        assert self._cheapest is not None
        return self._cheapest.excess

    @property
    @limited()
    def epsilon_min(self) -> float:
        """Smallest radius for which the problem is feasible; infinite when none is, NaN beside an entropy bound."""
        if self.flow is None or self.violation > 0:
            return math.inf
        return self.centre.divergence if self.entropy is None else math.nan

    def __repr__(self) -> str:
        ball = f", epsilon={self.epsilon:g}" if self.epsilon is not None and self.epsilon < math.inf else ""
        ball += f", temperature={self.temperature:g}" if self.temperature is not None else ""
        return f"{type(self).__name__}({self.mdp!r}{ball})"

    def infeasible(self) -> str:
        if self.flow is None:
            return "the reference's support carries no occupancy of the MDP, whatever epsilon"
        if self.violation > 0:
            return (
                "no occupancy on the reference's support keeps the budgets: each would have to be raised "
                f"by at least {self.violation:.9g}"
            )
        if self.epsilon_min == math.inf:
            return "the divergence is infinite: part of the reference's mass cannot be reached by any occupancy"
        if self.epsilon is None or self.epsilon >= self.centre.divergence:
            return ""
        least = self.program.with_ball(self.program.balls[0]).least_divergence(self.centre.multipliers)
        if not self.epsilon < least - CONSISTENT:
            return ""
        return (
            f"no occupancy lies within epsilon = {self.epsilon:g} of the reference: "
            f"it takes at least {self.centre.divergence:.9g}"
        )

    @cached_property
    def normalised(self) -> tuple[Program, Scale]:
        """The program with rewards of range one, its centre found, and how to undo the scaling."""
        program = self.program
        moved = self.centre if self.centre.multipliers.any() else None
        start = None
        if self.mdp.gamma < 1:
            value = rough_value(self._known_flow, program.balls[0].divergence.reference, program.objective)
            start = np.append(value, np.zeros(program.rhs.size - value.size))
        return program.hinted(centre=moved, start=start).normalised()

    def warm_start(self, program: Program, solution: Solution) -> Program:
        if not isinstance(solution, OccupancySolution) or solution.problem.mdp.n_states != self.mdp.n_states:
            raise UnsuitableError(f"start must be a solution on an MDP with {self.mdp.n_states} states")
        if len(program.balls) > 1 or np.ndim(solution.eta) or not (solution.has_point and 0 < solution.eta < math.inf):
            return program  # a slack ball or a single point says nothing about another radius, nor do several balls
        factor = self.normalised[1].factor
        v = solution.multipliers
        if v is not None and v.size == program.rhs.size and getattr(solution.problem, "flow", None) is self.flow:
            return program.warmed((solution.eta / factor, v / factor))
        value = np.nan_to_num(self._known_flow.pick_nodes(solution.value)) / factor
        warm = np.append(value - value.mean(), np.zeros(program.rhs.size - value.size))
        return program.warmed((solution.eta / factor, warm))

    def at_radius(self, epsilon: float) -> Self:
        radius = as_scalar(epsilon, "epsilon", low=0.0, infinite=True)
        endless = math.inf in (radius, self.epsilon)  # without a ball the divergence is another
        if self.flow is None or self.epsilon is None or len(self.program.balls) > 1 or endless:
            return super().at_radius(epsilon)
        twin = object.__new__(type(self))  # all else has been looked at
        twin.__setstate__(self.__getstate__() | {"epsilon": radius})
        (program, scale), ball = self.normalised, replace(self.program.ball, radius=radius)
        known: dict[str, Any] = {"flow": self.flow, "centre": self.centre}
        twin.__dict__.update(known, program=self.program.with_ball(ball), normalised=(program.with_ball(ball), scale))
        return twin

    def known_answer(self, program: Program) -> Answer | None:
        """The linear program's, where that is known from another radius and lies inside the ball."""
        if self.epsilon in (None, math.inf) or self.budget_rows is not None or len(program.balls) > 1:
            return None
        known = self._known_flow.recalled(type(self).__name__, *self._given)
        if known is None or not known.divergence <= self.epsilon:
            return None
        assert program.hints.linear_limit is not None
        limit = program.hints.linear_limit()
        return Answer(0.0, limit.multipliers, limit.point, "the ball is slack")

    @cached_property
    def _limit(self) -> Nearest:
        """Kept beside the flow for other radii; with budgets the ball decides where their vertex is looked for."""
        if self.budget_rows is not None:
            return self._linear_limit()
        limit: Nearest = self._known_flow.remembered(type(self).__name__, lambda *_: self._linear_limit(), *self._given)
        return limit

    @property
    def _given(self) -> tuple[Any, ...]:
        """What the limit is computed of beside the flow: rewards and reference (n,), and what near means."""
        divergence = getattr(self, "divergence", None)
        near = str(divergence) if isinstance(divergence, tuple) else divergence
        return self.program.objective, self.program.balls[0].divergence.reference, near, self.epsilon == math.inf

    @property
    def radius(self) -> float:
        return math.inf if self.epsilon is None else self.epsilon

    def default_solver(self) -> Solver:
        return Newton()

    def refute(self, program: Program, answer: Answer) -> str:
        """Nothing for one ball, whose smallest radius is known; two may have no point in common."""
        if self.entropy is None or not super().refute(program, answer):
            return ""
        return f"no occupancy has both KL <= {self.epsilon:g} and entropy >= {self.entropy:g}"

    def residuals(self, program: Program, point: FloatArray) -> Residuals:
        missed, mass = super().residuals(program, point)
        flow = self._known_flow
        if missed > LAST_PLACE and 1 - self.mdp.gamma < NEARLY_UNDISCOUNTED:
            # where 1e-12 may be that of a tenth of the mass
            own = flow.occupancy(flow.conditional(point), flow.node_sums(point))
            missed = max(missed, float(np.abs(own - point).sum()))
        if self.budget_rows is not None:
            missed += float(np.maximum(self.budget_rows.excess(self._known_flow.spread(point)), 0.0).sum())
        return Residuals(missed, mass)

    def warn(self, solution: Solution) -> str:
        if self._known_flow.components.max() > 0:
            return "the MDP is multichain on the reference's support: gain and bias are not unique"
        return ""

    def _linear_limit(self) -> Nearest:
        """The best occupancy nearest to the reference; with budgets a vertex, from HiGHS."""
        if self.budget_rows is None:
            return super()._linear_limit()
        anchor = self.anchor
        return highs_limit(self.program) or Nearest(
            anchor, np.zeros(self.program.rhs.size), self.program.balls[0].value(anchor)
        )

    def _nearest(self, face: Flow) -> FloatArray:
        answer = self._project(face)
        assert answer.point is not None
        return answer.point

    def _project(self, flow: Flow) -> Answer:
        """Occupancy over the pairs of a flow that is closest to the reference, with its multipliers.

        ``KL(p || q) = KL(p || p0) - <p, log(q / p0)>``: penalised REPS at temperature one from any feasible p0, which
        Newton can cool down to, however far q is from feasible. Where every point is infinitely far, KL decides.
        """
        posed = self._pose(flow, np.zeros(flow.pairs.size))
        posed = posed.with_ball(posed.balls[0])
        if posed.divergence.bounded and not isinstance(posed.divergence, KL):
            return Newton().project(posed)
        start = flow.interior()
        tilt = np.log(posed.divergence.reference) - np.log(start)
        return Newton().solve(posed.with_ball(Ball(KL(start), price=1.0), objective=tilt, linear_limit=None))

    @property
    def _shown(self) -> Program:
        """The program with the budgets in the units that they were given in."""
        if self.budget_rows is None:
            return self.program
        return replace(
            self.program, rows={**self.program.rows, "budgets": self.budget_rows.original(self._known_flow.pairs)}
        )

    def _unshown(self, multipliers: FloatArray) -> FloatArray:
        if self.budget_rows is None:
            return multipliers
        k = self.budget_rows.span.size
        return np.append(multipliers[:-k], multipliers[-k:] * self.budget_rows.span)

    @property
    def _inside(self) -> FloatArray:
        """The anchor; of a linear program's, which is a corner or no occupancy at all, its middle with the interior."""
        if not isinstance(self.program.balls[0].divergence, NoBall):
            return self.anchor
        interior = self._known_flow.interior()
        return interior if self.budget_rows is None else (interior + self.anchor) / 2
