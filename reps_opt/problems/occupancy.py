"""What exact problems over the occupancy measure of a finite MDP share.

Shapes: S states, A actions; n pairs and m states that can carry mass (:mod:`reps_opt.problems.reduction`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.divergences.base import KL, Divergence, NoBall
from reps_opt.problem import Problem
from reps_opt.problems.budgets import Budgets, Cheapest
from reps_opt.problems.occupancy_solution import OccupancySolution
from reps_opt.problems.readback import read_answer, read_infeasible
from reps_opt.problems.reduction import CONSISTENT, Reduction, reduce
from reps_opt.processes.construction import check_within
from reps_opt.processes.mdp import MDP
from reps_opt.program import Centre, LinearLimit, Program, Scale
from reps_opt.solution import Solution
from reps_opt.solvers.answer import Answer
from reps_opt.solvers.linear import highs_limit
from reps_opt.solvers.newton import Newton
from reps_opt.validation import FloatArray, as_float_array, as_scalar, check_nonnegative, read_only

TIGHT = 1e-9
"""Bellman error, in units of the largest value, up to which an action counts as optimal in the linear program."""

ROOM = 1e-6
"""Room to its budgets, in units of each cost's range, that a centre needs to serve as the anchor."""

SINGLE_POINT = 1e-15
"""Radius, beyond the smallest feasible one, up to which the ball counts as a single point."""


def as_reference(reference: ArrayLike, mdp: MDP) -> FloatArray:
    """Validate a reference distribution (S, A), and scale it to sum one."""
    q = as_float_array(reference, "reference", mdp.rewards.shape)
    check_nonnegative(q, "reference")
    check_within(q, mdp.allowed, "reference")
    total = float(q.sum())
    if total == 0:
        raise ValueError("reference sums to zero: it must put mass somewhere")
    return read_only(q / total)


def as_radius(epsilon: float | None, temperature: float | None) -> tuple[float | None, float | None]:
    """Validate a radius (ball) or a temperature (penalty), of which exactly one must be given."""
    if (epsilon is None) == (temperature is None):
        raise ValueError("exactly one of epsilon (ball) and temperature (penalty) must be given")
    if epsilon is not None:
        return as_scalar(epsilon, "epsilon", low=0.0, infinite=True), None
    return None, as_scalar(temperature, "temperature", low=0.0, low_open=True)


class OccupancyProblem(Problem):
    """What exact problems share: the MDP, the pairs that can carry mass, and the way from an answer to a solution.

    Subclasses say which pairs are allowed and what divergence holds over them.
    """

    mdp: MDP
    reference: FloatArray | None = None
    epsilon: float | None = math.inf
    temperature: float | None = None
    budgets: Budgets | None = None
    entropy: float | None = None

    def _allowed(self) -> np.ndarray:
        """Mask (S*A,) of the pairs that may carry mass."""
        raise NotImplementedError

    def _divergence(self, reduction: Reduction) -> Divergence:
        """The divergence over the pairs of a reduction."""
        raise NotImplementedError

    @cached_property
    def reduction(self) -> Reduction | None:
        """Pairs and states that can carry mass; None when no occupancy lives on the reference's support."""
        return reduce(self.mdp, self._allowed())

    @cached_property
    def program(self) -> Program:
        """The :class:`~reps_opt.program.Program` over the pairs that can carry mass, in reward units."""
        if self.reduction is None:
            raise ValueError("reference supports no occupancy of the MDP: no radius makes the problem feasible")
        objective = self.mdp.rewards.ravel()[self.reduction.pairs]
        return self._pose(self.reduction, objective)

    def _pose(self, reduction: Reduction, objective: FloatArray) -> Program:
        whole = reduction is self.reduction
        return Program(
            objective,
            self._divergence(reduction),
            self.epsilon,
            {"flow": reduction.flow()},
            {} if self.budgets is None else {"budgets": self.budgets.block(reduction.pairs)},
            temperature=self.temperature,
            grounds=reduction.grounds(),
            mass_implied=self.mdp.gamma < 1,
            linear_limit=self._linear_limit if whole else None,
        )

    @cached_property
    def centre(self) -> Centre:
        """The occupancy closest to the reference that keeps the budgets: the reference itself where it does."""
        program = self.program
        reference = program.divergence.reference
        if not program.divergence.bounded:
            return Centre(reference, np.zeros(program.rhs.size), math.inf)
        missed = program.violation(reference) + abs(reference.sum() - 1.0)
        if (missed <= CONSISTENT and program.divergence.centred) or isinstance(program.divergence, NoBall):
            return Centre(reference, np.zeros(program.rhs.size), 0.0)
        assert self.reduction is not None
        answer = self._project(self.reduction)
        assert answer.point is not None
        assert answer.multipliers is not None
        return Centre(answer.point, answer.multipliers, program.divergence.value(answer.point))

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
        if isinstance(program.divergence, NoBall):
            return self._cheapest.point
        if np.all(rows.matrix @ centre.point < rows.rhs - ROOM):
            return centre.point
        epsilon = math.inf if self.epsilon is None else self.epsilon
        share = 0.5
        while share > 1e-12:
            moved = (1 - share) * centre.point + share * self._cheapest.point
            if program.divergence.value(moved) <= (centre.divergence + epsilon) / 2:
                return moved
            share /= 2
        return centre.point

    @cached_property
    def _cheapest(self) -> Cheapest | None:
        if self.budgets is None or self.reduction is None:
            return None
        return self.budgets.cheapest(self.reduction)

    @cached_property
    def violation(self) -> float:
        """Least amount by which every budget would have to be raised, in units of the costs; zero if they are kept."""
        if self.budgets is None or self.reduction is None:
            return 0.0
        reference = self.program.divergence.reference
        if self.program.violation(reference) + abs(reference.sum() - 1.0) <= CONSISTENT:
            return 0.0
        assert self._cheapest is not None
        unit = float(self.budgets.span.max())
        return self._cheapest.excess if self._cheapest.excess > CONSISTENT * unit else 0.0

    @property
    def epsilon_min(self) -> float:
        """Smallest radius for which the problem is feasible; infinite when none is, NaN beside an entropy bound."""
        if self.reduction is None or self.violation > 0:
            return math.inf
        return self.centre.divergence if self.entropy is None else math.nan

    def __repr__(self) -> str:
        ball = f", epsilon={self.epsilon:g}" if self.epsilon is not None and self.epsilon < math.inf else ""
        ball += f", temperature={self.temperature:g}" if self.temperature is not None else ""
        return f"{type(self).__name__}({self.mdp!r}{ball})"

    @property
    def reference_policy(self) -> FloatArray | None:
        """Conditionals (S, A) of the reference, rows of zeros where it has no mass; None without a reference."""
        if self.reference is None:
            return None
        mass = self.reference.sum(axis=1, keepdims=True)
        return self.reference / np.where(mass > 0, mass, 1.0)

    @property
    def reference_return(self) -> float:
        """Mean reward <q, r> under the reference; NaN without one."""
        return math.nan if self.reference is None else float(np.sum(self.reference * self.mdp.rewards))

    @cached_property
    def infeasible(self) -> bool:
        """Whether the ball is too small, by the dual bound on the smallest divergence."""
        if self.reduction is None or self.epsilon_min == math.inf:
            return True
        if self.epsilon is None or self.epsilon >= self.centre.divergence:
            return False
        v = self.centre.multipliers
        least = -self.program.rhs @ v - self.program.divergence.conjugate(-(self.program.transpose @ v)).value
        return bool(self.epsilon < least - CONSISTENT)

    @cached_property
    def normalised(self) -> tuple[Program, Scale]:
        """The program with rewards of range one, its centre found, and how to undo the scaling."""
        program = self.program
        moved = self.centre if self.centre.multipliers.any() else None
        assert self.reduction is not None
        start = None
        if self.mdp.gamma < 1:
            value = self.reduction.value(program.divergence.reference)
            start = np.append(value, np.zeros(program.rhs.size - value.size))
        return replace(program, centre=moved, start=start).normalised()

    def warm_start(self, program: Program, solution: Solution) -> Program:
        if not isinstance(solution, OccupancySolution) or solution.value.shape != (self.mdp.n_states,):
            raise ValueError(f"start must be a solution on an MDP with {self.mdp.n_states} states")
        if not (solution.has_point and 0 < solution.eta < math.inf):
            return program  # a slack ball or a single point says nothing about another radius
        assert self.reduction is not None
        factor = self.normalised[1].factor
        value = np.nan_to_num(solution.value[self.reduction.states]) / factor
        warm = np.append(value - value.mean(), np.zeros(program.rhs.size - value.size))
        return program.warmed((solution.eta / factor, warm))

    def closed_form(self, program: Program) -> Answer | None:
        """Answer that needs no solver: a ball that holds one point, or rewards that are all the same."""
        centre = self.centre
        if self.epsilon is not None and self.epsilon - centre.divergence <= SINGLE_POINT:
            return Answer(math.inf, np.zeros(program.rhs.size), centre.point, "the ball holds a single point")
        if np.ptp(program.objective) == 0 and self.temperature is None:
            return Answer(0.0, np.zeros(program.rhs.size), centre.point, "the rewards are constant")
        return None

    def solution(self, program: Program, answer: Answer) -> OccupancySolution:
        return read_answer(self, program, answer)

    def infeasible_solution(self) -> OccupancySolution:
        return read_infeasible(self)

    def _linear_limit(self) -> LinearLimit:
        """Policy iteration for the linear program, then the point of its optimal face closest to the reference.

        With budgets the linear program goes to HiGHS, and the point is a vertex.
        """
        program, reduction = self.program, self.reduction
        assert reduction is not None
        if self.budgets is not None:
            limit = highs_limit(program)
            return limit or LinearLimit(self.anchor, np.zeros(program.rhs.size), program.divergence.value(self.anchor))
        low, factor = float(program.objective.min()), float(np.ptp(program.objective)) or 1.0
        optimum, greedy = reduction.optimum((self.mdp.rewards.ravel() - low) / factor)
        slack = (program.objective - low) / factor - program.transpose @ optimum.value
        tight = slack >= slack.max() - TIGHT * max(1.0, 1e-3 * float(np.abs(optimum.value).max()))
        point = self._nearest_on_face(reduction, tight)
        if point is None:  # rounding left no closed face: the optimal policy itself is one
            near = (optimum.gain >= optimum.gain.max() - TIGHT).astype(np.float64)
            point = reduction.occupancy(greedy, near)
        return LinearLimit(point, factor * optimum.value, program.divergence.value(point))

    def _nearest_on_face(self, reduction: Reduction, tight: np.ndarray) -> FloatArray | None:
        """Point (n,) closest to the reference among those with mass on the tight pairs (n,) only; None if none has."""
        allowed = np.zeros(self.mdp.rewards.size, dtype=bool)
        allowed[reduction.pairs[tight]] = True
        face = reduce(self.mdp, allowed)
        if face is None:
            return None
        answer = self._project(face)
        assert answer.point is not None
        point = np.zeros(reduction.pairs.size)
        point[np.searchsorted(reduction.pairs, face.pairs)] = answer.point
        return point

    def _project(self, reduction: Reduction) -> Answer:
        """Occupancy over the pairs of a reduction that is closest to the reference, with its multipliers.

        ``KL(p || q) = KL(p || p0) - <p, log(q / p0)>``: penalised REPS at temperature one from any feasible p0, which
        Newton can cool down to, however far q is from feasible. Where every point is infinitely far, KL decides.
        """
        posed = self._pose(reduction, np.zeros(reduction.pairs.size))
        if posed.divergence.bounded and not isinstance(posed.divergence, KL):
            return Newton().project(posed)
        q = posed.divergence.reference
        start = reduction.interior()
        penalised = replace(
            posed,
            objective=np.log(q) - np.log(start),
            divergence=KL(start),
            epsilon=None,
            temperature=1.0,
            linear_limit=None,
        )
        return Newton().solve(penalised)

    def to_cvxpy(self, side: str = "primal") -> Any:
        """The problem as a ``cvxpy.Problem`` to inspect, in reward units, over the pairs that can carry mass.

        Parameters
        ----------
        side
            ``"primal"``: variable ``occupancy`` (n,), constraints labelled ``flow``, ``budgets``, ``normalisation``
            and ``kl``.
            ``"dual"``: variables ``flow`` (the values, (m,)), ``normalisation`` and ``kl`` (eta); each constraint has
            the label of what it comes from: ``flow`` defines the Bellman error, and its multiplier is the occupancy;
            ``kl`` and ``normalisation`` bound the partition function.

        Returns
        -------
        cvxpy.Problem
            Made anew at every call: one problem shared by threads gives silently wrong answers.
        """
        from reps_opt.solvers.cvxpy_conic import pose

        if self.budgets is None:
            return pose(self.program, side).problem
        assert self.reduction is not None
        rows = {"budgets": self.budgets.original(self.reduction.pairs)}
        return pose(replace(self.program, inequalities=rows), side).problem
