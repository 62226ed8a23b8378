"""What exact problems over the occupancy measure of a finite MDP share.

Shapes: S states, A actions; n pairs and m states that can carry mass (:mod:`reps_opt.problems.reduction`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.certify import Residuals, excess
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL, Divergence, NoBall
from reps_opt.problem import CONSISTENT, Problem
from reps_opt.problems.budgets import Budgets, Cheapest
from reps_opt.problems.occupancy_solution import OccupancySolution
from reps_opt.problems.reduction import Reduction, reduce
from reps_opt.processes.construction import check_within
from reps_opt.processes.mdp import MDP
from reps_opt.program import Block, Centre, Hints, LinearLimit, Program, Scale
from reps_opt.solution import Solution
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.linear import highs_limit
from reps_opt.solvers.newton import Newton
from reps_opt.validation import FloatArray, UnsuitableError, as_float_array, as_scalar, check_nonnegative, read_only

TIGHT = 1e-9
"""Bellman error, in units of the largest value, up to which an action counts as optimal in the linear program."""

ROOM = 1e-6
"""Room to its budgets, in units of each cost's range, that a centre needs to serve as the anchor."""

MIXTURES = (0.25, 0.5, 0.75, 1.0)
"""Shares of a second ball's reference that are tried for a point inside both."""

SAME_POLICY = 1e-12
"""Largest difference of two policies that counts as rounding."""


def as_reference(reference: ArrayLike, mdp: MDP, name: str = "reference") -> FloatArray:
    """Validate a reference distribution (S, A), and scale it to sum one."""
    q = as_float_array(reference, name, mdp.rewards.shape)
    check_nonnegative(q, name)
    check_within(q, mdp.allowed, name)
    total = float(q.sum())
    if total == 0:
        raise ValueError(f"{name} sums to zero: it must put mass somewhere")
    return read_only(q if total == 1.0 else q / total)


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

    view = OccupancySolution

    mdp: MDP
    epsilon: float | None
    temperature: float | None

    if TYPE_CHECKING:  # a field of some, computed in others

        @property
        def reference(self) -> FloatArray | None:
            """The reference occupancy (S, A), None without one."""

    entropy: float | None = None
    """Least entropy of the new distribution, None without such a bound."""

    @property
    def budget_rows(self) -> Budgets | None:
        """Expected costs and what they may come to, None without any."""
        return None

    def _allowed(self) -> np.ndarray:
        """Mask (S*A,) of the pairs that may carry mass."""
        raise NotImplementedError

    def _divergence(self, reduction: Reduction) -> Divergence:
        """The divergence over the pairs of a reduction."""
        raise NotImplementedError

    def _balls(self, reduction: Reduction) -> list[Ball]:
        """The balls over the pairs of a reduction."""
        return [Ball(self._divergence(reduction), radius=self.epsilon, price=self.temperature)]

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
        rows: dict[str, Block] = {"flow": reduction.flow()}
        if self.budget_rows is not None:
            rows["budgets"] = self.budget_rows.block(reduction.pairs)
        hints = Hints(
            grounds=reduction.grounds(),
            mass_implied=self.mdp.gamma < 1,
            linear_limit=self._linear_limit if reduction is self.reduction else None,
            variable="occupancy",
            inside=lambda: self._inside if reduction is self.reduction else reduction.interior(),
        )
        return Program(objective, rows, self._balls(reduction), hints=hints)

    @cached_property
    def centre(self) -> Centre:
        """The occupancy closest to the reference that keeps the budgets: the reference itself where it does."""
        program = self.program
        divergence = program.balls[0].divergence
        reference = divergence.reference
        if not divergence.bounded:
            return Centre(reference, np.zeros(program.rhs.size), math.inf)
        missed = program.violation(reference) + abs(reference.sum() - 1.0)
        assert self.reduction is not None
        if isinstance(divergence, NoBall) or (missed <= CONSISTENT and self.reduction.is_occupancy(reference, missed)):
            return Centre(reference, np.zeros(program.rhs.size), 0.0)
        answer = self._project(self.reduction)
        assert answer.point is not None
        assert answer.multipliers is not None
        return Centre(answer.point, answer.multipliers, divergence.value(answer.point))

    @cached_property
    def anchor(self) -> FloatArray:
        """A point (n,) that keeps the ball and the budgets with room to spare, where there is one.

        The centre; where it leaves a budget no room, the centre moved towards the cheapest occupancy as far as the
        ball has room for.
        """
        centre, program = self.centre, self.program
        rows = program.inequalities.get("budgets")
        if rows is None:
            return centre.point if len(program.balls) == 1 else self._between_balls()
        assert self._cheapest is not None
        if isinstance(program.balls[0].divergence, NoBall):
            return self._cheapest.point
        if np.all(rows.matrix @ centre.point < rows.rhs - ROOM):
            return centre.point
        epsilon = math.inf if self.epsilon is None else self.epsilon
        share = 0.5
        while share > 1e-12:
            moved = (1 - share) * centre.point + share * self._cheapest.point
            if program.balls[0].divergence.value(moved) <= (centre.divergence + epsilon) / 2:
                return moved
            share /= 2
        return centre.point

    def _between_balls(self) -> FloatArray:
        """Of the points closest to mixtures of the references, the one with most room in every ball."""
        program, log_q = self.program, self.program.joint.log_references
        points = [self.centre.point]
        for share in MIXTURES:
            mixed = np.exp((1 - share) * log_q[0] + share * log_q[1])
            answer = Newton().project(program.with_ball(Ball(KL(mixed), price=1.0)))
            points += [] if answer.point is None else [answer.point]
        return min(points, key=lambda x: excess(program, x))

    @cached_property
    def _cheapest(self) -> Cheapest | None:
        if self.budget_rows is None or self.reduction is None:
            return None
        return self.budget_rows.cheapest(self.reduction)

    @cached_property
    def violation(self) -> float:
        """Least amount by which every budget would have to be raised, in units of the costs; zero if they are kept."""
        if self.budget_rows is None or self.reduction is None:
            return 0.0
        reference = self.program.balls[0].divergence.reference
        if self.program.violation(reference) + abs(reference.sum() - 1.0) <= CONSISTENT:
            return 0.0
        assert self._cheapest is not None
        unit = float(self.budget_rows.span.max())
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

    def infeasible(self) -> str:
        if self.reduction is None:
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
        assert self.reduction is not None
        start = None
        if self.mdp.gamma < 1:
            value = self.reduction.value(program.balls[0].divergence.reference)
            start = np.append(value, np.zeros(program.rhs.size - value.size))
        return program.hinted(centre=moved, start=start).normalised()

    def warm_start(self, program: Program, solution: Solution) -> Program:
        if not isinstance(solution, OccupancySolution) or solution.value.shape != (self.mdp.n_states,):
            raise UnsuitableError(f"start must be a solution on an MDP with {self.mdp.n_states} states")
        if len(program.balls) > 1 or np.ndim(solution.eta) or not (solution.has_point and 0 < solution.eta < math.inf):
            return program  # a slack ball or a single point says nothing about another radius, nor do several balls
        assert self.reduction is not None
        factor = self.normalised[1].factor
        value = np.nan_to_num(solution.value[self.reduction.states]) / factor
        warm = np.append(value - value.mean(), np.zeros(program.rhs.size - value.size))
        return program.warmed((solution.eta / factor, warm))

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

    def candidates(self, program: Program, answer: Answer) -> Iterator[FloatArray]:
        """Exact occupancies (n,) of two policies: the dual maximiser's, and that of the solver's own point."""
        reduction = self._reduced
        own = None if answer.point is None else np.maximum(answer.point, 0.0)
        near = None if own is None else reduction.state_sums(own)
        conditional = None if own is None else reduction.conditional(own)
        if answer.multipliers is not None and (policy := self._softmax(program, answer)) is not None:
            yield reduction.occupancy(policy, near)
            if conditional is None or np.abs(policy - conditional).max() <= SAME_POLICY:
                return
        if conditional is not None:
            yield reduction.occupancy(conditional, near)

    def _softmax(self, program: Program, answer: Answer) -> FloatArray | None:
        """Conditionals (n,) of the dual's maximiser; None where eta is zero or infinite."""
        reduction, eta = self._reduced, answer.eta
        if len(program.balls) > 1 or answer.multipliers is None or not 0 < eta < math.inf:
            return None
        return program.within(eta, answer.multipliers, reduction.pair_state, reduction.states.size)

    def residuals(self, program: Program, point: FloatArray) -> Residuals:
        """Residuals on the whole MDP, not only on the pairs kept."""
        occupancy = self._reduced.spread_pairs(point)
        missed = float(np.abs(self.mdp.flow_residual(occupancy)).sum())
        if self.budget_rows is not None:
            missed += float(np.maximum(self.budget_rows.excess(occupancy), 0.0).sum())
        return Residuals(missed, abs(float(occupancy.sum()) - 1.0) if occupancy.min() >= 0 else math.inf)

    def price(self, program: Program, point: FloatArray, bound: Any, divergences: list[float]) -> float:
        """Nothing: an exact occupancy misses no row beyond rounding."""
        return 0.0

    def warn(self, solution: Solution) -> str:
        if self.mdp.gamma == 1 and self._reduced.component.max() > 0:
            return "the MDP is multichain on the reference's support: gain and bias are not unique"
        return ""

    @property
    def _reduced(self) -> Reduction:
        assert self.reduction is not None
        return self.reduction

    def _linear_limit(self) -> LinearLimit:
        """Policy iteration for the linear program, then the point of its optimal face closest to the reference.

        With budgets the linear program goes to HiGHS, and the point is a vertex.
        """
        program, reduction = self.program, self.reduction
        assert reduction is not None
        if self.budget_rows is not None:
            limit = highs_limit(program)
            reached = program.balls[0].divergence.value(self.anchor)
            return limit or LinearLimit(self.anchor, np.zeros(program.rhs.size), reached)
        scaled, scale = program.normalised()
        factor = scale.factor
        optimum, greedy = reduction.optimum((self.mdp.rewards.ravel() - scale.shift) / factor)
        slack = scaled.objective - program.pulled(optimum.value)
        size = float(np.median(np.abs(optimum.value)))
        tight = slack >= slack.max() - TIGHT * max(1.0, 1e-3 * size)
        point = self._nearest_on_face(reduction, tight)
        if point is None:  # rounding left no closed face: the optimal policy itself is one
            near = (optimum.gain >= optimum.gain.max() - TIGHT).astype(np.float64)
            point = reduction.occupancy(greedy, near)
        return LinearLimit(point, factor * optimum.value, program.balls[0].divergence.value(point))

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
        posed = posed.with_ball(posed.balls[0])
        if posed.divergence.bounded and not isinstance(posed.divergence, KL):
            return Newton().project(posed)
        start = reduction.interior()
        tilt = np.log(posed.divergence.reference) - np.log(start)
        return Newton().solve(posed.with_ball(Ball(KL(start), price=1.0), objective=tilt, linear_limit=None))

    @property
    def _shown(self) -> Program:
        """The program with the budgets in the units that they were given in."""
        if self.budget_rows is None:
            return self.program
        return replace(
            self.program, rows={**self.program.rows, "budgets": self.budget_rows.original(self._reduced.pairs)}
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
        interior = self._reduced.interior()
        return interior if self.budget_rows is None else (interior + self.anchor) / 2

    @property
    def _names(self) -> dict[str, list[str]]:
        states = self.mdp.state_labels or range(self.mdp.n_states)
        actions = self.mdp.action_labels or range(self.mdp.n_actions)
        places = zip(*divmod(self._reduced.pairs, self.mdp.n_actions), strict=True)
        return {
            "occupancy": [f"{states[s]}, {actions[a]}" for s, a in places],
            "flow": [f"{states[s]}" for s in self._reduced.states],
        }

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

        if self.budget_rows is None:
            return pose(self.program, side).problem
        assert self.reduction is not None
        rows = {**self.program.rows, "budgets": self.budget_rows.original(self.reduction.pairs)}
        return pose(replace(self.program, rows=rows), side).problem
