"""What a problem is to :func:`reps_opt.solve`: a program, and a few hooks for its judge.

A new problem is one class: its data are fields, ``program`` states its mathematics, ``view`` names the class of its
solution. The hooks have defaults that hold for every program.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Self

import numpy as np

from reps_opt.certify import Bound, Residuals, certify, excess, offered_bounds, per_ball, unit_of
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL, NoBall
from reps_opt.hints import Nearest
from reps_opt.program import Program
from reps_opt.scale import Scale
from reps_opt.solution import S_co, Solution, Viewed
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.choice import default_solver, linear_limit, onto_rows, project, second_solvers
from reps_opt.solvers.newton import proves_infeasible
from reps_opt.threads import limited
from reps_opt.tolerances import CONSISTENT, LAST_PLACE
from reps_opt.validation import FloatArray, InputError
from reps_opt.values import Value, cached_property, value
from reps_opt.vectors import least

SIDES = ("primal", "dual")


class Problem(Value):
    """A problem holds data and states its mathematics; it does not know how it will be solved."""

    view: type[Solution] = Solution
    """The class of its solution."""

    advice = "try another solver or a larger epsilon"
    """What to try where an answer is not certified."""

    @property
    def program(self) -> Program:
        """The :class:`~reps_opt.Program`, in the problem's own units."""
        raise NotImplementedError

    @cached_property
    def normalised(self) -> tuple[Program, Scale]:
        """The program with its objective in units of its own, and how to undo that."""
        program = self.program
        if len(program.balls) == 1 and self.centre.multipliers.any():
            program = program.hinted(centre=self.centre)
        return program.normalised()

    @property
    def radius(self) -> float:
        """The radius as a certificate states it: infinite in penalty form, the least of several."""
        return min((ball.allowed for ball in self.program.balls), default=math.inf)

    @cached_property
    def centre(self) -> Nearest:
        """The point of the rows that is closest to the reference: the reference itself where it satisfies them."""
        program = self.program
        reference = program.divergence.reference
        at_reference = Nearest(reference, np.zeros(program.rhs.size), 0.0)
        if program.ridge is not None or isinstance(program.divergence, NoBall):
            return at_reference
        off = abs(float(reference.sum()) - program.mass) if program.simplex else 0.0
        if program.violation(reference) + off <= CONSISTENT:
            return at_reference
        return project(program)

    @cached_property
    def anchor(self) -> FloatArray | None:
        """A point (n,) inside the balls and the rows, with room to spare where there is any; None if none is known."""
        return self.centre.point if len(self.program.balls) <= 1 else None

    @property
    @limited()
    def epsilon_min(self) -> float:
        """Smallest radius for which the problem is feasible; infinite when none is, NaN beside another ball."""
        return self.centre.divergence if len(self.program.balls) <= 1 else math.nan

    def infeasible(self) -> str:
        """Why no point satisfies the constraints, proven from the data before any solver runs; empty where one may."""
        program = self.program
        if len(program.balls) > 1:
            return program.joint.disjoint
        least = self.centre.divergence
        if least == math.inf:
            return "no point of the domain satisfies the rows, whatever the radius"
        if program.epsilon is not None and program.epsilon < least - CONSISTENT:
            return f"no point within epsilon = {program.epsilon:g} satisfies the rows: it takes at least {least:.9g}"
        return ""

    def closed_form(self, program: Program) -> Answer | None:
        """The answer to the normalised program where it needs no solver, else None."""
        if len(program.balls) > 1:
            return None
        v = np.zeros(program.rhs.size)
        if program.epsilon is not None and program.epsilon - self.centre.divergence <= LAST_PLACE:
            return Answer(math.inf, v, self.centre.point, "the ball holds a single point")
        if program.simplex and program.constant and program.temperature is None and program.ridge is None:
            return Answer(0.0, v, self.centre.point, "the objective is constant")
        return None

    def known_answer(self, program: Program) -> Answer | None:
        """The answer where another problem's solution has left it behind, for who names no route; None otherwise."""
        return None

    def default_solver(self) -> Solver:
        """The route taken when none is named."""
        return default_solver(self.program)

    def second_solvers(self, answer: Answer | None) -> Iterable[Solver]:
        """Routes to try after the default one, where its answer (None if it broke off) is not certified."""
        return second_solvers(self.program, self.default_solver(), answer)

    def warm_start(self, program: Program, solution: Solution) -> Program:
        """The normalised program, told to start from the solution of a nearby problem."""
        raise TypeError(f"start is not taken by {type(self).__name__}: its solvers have no use for one")

    @property
    def takes_start(self) -> bool:
        """Whether :meth:`warm_start` has a use for a nearby solution."""
        return type(self).warm_start is not Problem.warm_start

    def at_radius(self, epsilon: float) -> Self:
        """The same problem with another radius, and what does not depend on the radius computed no second time."""
        return self.replace(epsilon=epsilon)

    # What the judge asks: see reps_opt.certify

    def polished(self, program: Program, answer: Answer) -> Answer:
        """The answer, improved where that is cheap."""
        return answer

    def candidates(self, program: Program, answer: Answer) -> Iterable[FloatArray]:
        """Points (n,) that satisfy the equality rows, or nearly: the dual's maximiser, and the solver's own."""
        return _offered_points(program, answer)

    def bounds(self, program: Program, answer: Answer, point: FloatArray, divergences: list[float]) -> Iterable[Bound]:
        """Dual bounds that the answer offers."""
        return offered_bounds(self, program, answer, divergences)

    def residuals(self, program: Program, point: FloatArray) -> Residuals:
        """What a point misses, from the problem's data."""
        mass = 0.0
        if program.simplex:
            off = abs(float(np.add.reduce(point)) - program.mass)
            mass = off if least(point) >= 0 else math.inf
        return Residuals(0.0 if program.ridge is not None else program.violation(point), mass)

    def price(self, program: Program, point: FloatArray, bound: Bound, divergences: list[float]) -> float:
        """What is added to the gap for what the point misses in balls and rows, at the prices of the multipliers."""
        price = 0.0
        for ball, eta, reached in zip(program.balls, per_ball(bound.eta), divergences, strict=False):
            if reached > ball.allowed and 0 < eta < math.inf:
                price += eta * (reached - ball.allowed)
        if program.ridge is not None or not program.rows:
            return price
        return price + float(np.abs(bound.multipliers) @ np.abs(program.missed(point)))

    def unit(self, program: Program, point: FloatArray, bound: Bound, divergences: list[float], gap: float) -> float:
        """The unit of the gap, in the program's own."""
        return unit_of(program, point, bound, divergences, gap)

    def reached(self, point: FloatArray, divergence: float) -> float:
        """The divergence to report of a point, given that of the program's ball."""
        return divergence

    def refute(self, program: Program, answer: Answer) -> str:
        """Why the answer proves that nothing is feasible: a dual value below every objective (weak duality)."""
        v, eta = answer.multipliers, answer.eta
        if v is None or not program.simplex:
            return ""
        least, most = (eta, eta) if isinstance(eta, float) else (float(np.min(eta)), float(np.sum(eta)))
        if not 0 <= least <= most < math.inf or not proves_infeasible(program, most, program.bound(eta, v)):
            return ""
        return self.reconsider(program) or "the dual falls below every feasible objective: no point is feasible"

    def reconsider(self, program: Program) -> str:
        """Why nothing is feasible, asked once an answer misses its rows; empty where something is."""
        return self.infeasible()

    def spent(self) -> dict[str, Any]:
        """What preparing the problem cost, for the statistics of its solutions."""
        return {}

    def warn(self, solution: Solution) -> str:
        """What to warn of once solved; empty for nothing."""
        return ""

    def to_cvxpy(self, side: str = "primal") -> Any:
        """The program as a :class:`cvxpy.Problem` to inspect and to solve again, in the problem's own units.

        Parameters
        ----------
        side
            ``"primal"``: one variable, constraints labelled by the names of the rows and balls, and ``normalisation``.
            ``"dual"``: a variable for each of these, and in place of a row the constraint that it comes from:
            ``flow`` defines the net objective ``c - A'v - C'nu`` (the Bellman error), and its multiplier is x.

        Returns
        -------
        cvxpy.Problem
            Made anew at every call: one problem shared by threads gives silently wrong answers.

        Notes
        -----
        The objective, the radii and the references are parameters, by name in ``posed.param_dict``: ``rewards`` (of a
        step ``gradient``, of a program of one's own ``objective``), ``epsilon``, and ``reference`` (of samples
        ``base_weights``, of a conditional KL ``policy``). With several balls each has its own, ``epsilon[kl]``. CVXPY's
        rules of parametrised programs (DPP) hold, so that a solve with other values skips the posing.

        What is not affine in q needs more: powers of q, which the primal of an f-divergence has, are parameters that
        follow it by themselves; the dual of several balls takes ``log_reference[kl]`` instead, and what depends on q
        beyond the divergence stays as it was posed (a policy step's states, the pairs that can carry mass).

        Values are over the coordinates of ``program``: ``program.objective`` and ``program.divergence.reference`` of a
        changed problem are what goes in, and :meth:`spread` makes an occupancy (S, A) of what comes out. CVXPY's
        multipliers are right up to the gauge (a constant in every flow) and, of an equality, the sign: :meth:`read`
        makes the solution of a solved problem, in the gauge that the library reports.

        Examples
        --------
        >>> import envs
        >>> from reps_opt import REPS, solve
        >>> mdp = envs.single_chain()
        >>> problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.1)
        >>> posed = problem.to_cvxpy("primal")
        >>> sorted(posed.param_dict), posed.is_dcp(dpp=True)
        (['epsilon', 'reference', 'rewards'], True)
        >>> _ = posed.solve(solver="CLARABEL")
        >>> posed.param_dict["epsilon"].value = 0.2
        >>> again = posed.solve(solver="CLARABEL")
        >>> bool(abs(again - solve(problem.replace(epsilon=0.2)).objective) < 1e-6)
        True
        >>> problem.spread(posed.var_dict["occupancy"].value).shape
        (5, 2)
        """
        from reps_opt.solvers.cvxpy_conic import pose

        return pose(self._shown, _checked(side)).problem

    def spread(self, x: FloatArray) -> FloatArray:
        """Values (n,) over the coordinates of ``program`` as the array they stand for: an occupancy (S, A), say."""
        return x

    def pick(self, table: FloatArray) -> FloatArray:
        """Entries (n,) of such an array that are coordinates of ``program``: the inverse of :meth:`spread`."""
        return table

    def to_scipy(self, side: str = "primal") -> Any:
        """The program as the arguments of :func:`scipy.optimize.minimize`, in the problem's own units.

        Parameters
        ----------
        side
            ``"primal"``: minimise ``-<c, x>``; x >= 0 are bounds, each block of rows and ``normalisation`` a
            ``LinearConstraint``, each ball a ``NonlinearConstraint``. ``x0`` is inside.
            ``"dual"``: minimise g over the eta of each ball, the multipliers of each block of rows, and where g has
            kinks (no ball, or a conditional KL) the multiplier of the mass, which a constraint holds above its pieces.

        Returns
        -------
        Spec
            ``minimize(**spec)`` runs it; ``spec.coordinates`` and ``spec.constraint_names`` name what is in it, and
            :meth:`read` makes a solution of the result. Everything is dense, for problems small enough to look at.

        Raises
        ------
        UnsuitableError
            For a dual that is neither smooth nor a maximum that can be spelled out.
        """
        from reps_opt.solvers.scipy_explicit import pose_dual
        from reps_opt.solvers.scipy_primal import pose_primal

        if _checked(side) == "primal":
            return pose_primal(self._shown, self._inside, self._names)
        return pose_dual(self._shown, self._names)

    @property
    def _shown(self) -> Program:
        """The program as ``to_cvxpy`` and ``to_scipy`` pose it, in the units that the problem was given in."""
        return self.program

    @property
    def _inside(self) -> FloatArray | None:
        """Where a method on the primal starts: inside the balls and on the rows, where such a point is known."""
        return self.anchor

    @property
    def _names(self) -> dict[str, list[str]]:
        """What stands in brackets behind the names of coordinates and rows, where that is not a count."""
        return {}

    def _unshown(self, multipliers: FloatArray) -> FloatArray:
        """Multipliers (m,) of ``program``'s rows from those of the program shown."""
        return multipliers

    def read(self: Viewed[S_co], posed: Any, result: Any = None) -> S_co:
        """The solution that somebody's own call of a solver found, certified, in the gauge that the library reports.

        Parameters
        ----------
        posed
            What ``to_cvxpy`` returned, solved; or what ``to_scipy`` returned, with
        result
            what ``minimize`` returned.

        Returns
        -------
        Solution
            As :func:`reps_opt.solve` returns it: ``value``, ``occupancy`` (S, A), ``policy``, ``certificate``.

        Raises
        ------
        ValueError
            For what did not come from this problem, or has not been solved.

        Notes
        -----
        The problem must say what was solved: where parameters of a posed problem were changed, so must be the problem,
        by ``problem.replace(epsilon=...)``.

        Examples
        --------
        >>> import envs
        >>> from reps_opt import REPS
        >>> mdp = envs.single_chain()
        >>> problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.1)
        >>> posed = problem.to_cvxpy("primal")
        >>> _ = posed.solve(solver="CLARABEL")
        >>> solution = problem.read(posed)
        >>> print(solution.status, solution.occupancy.shape, solution.duals["normalisation"])
        certified (5, 2) 0.0
        """
        problem: Any = self
        answer = problem._answer_of(posed, result)
        program, scale = problem.normalised
        if answer.multipliers is not None:
            answer = replace(answer, multipliers=problem._unshown(answer.multipliers))
        verdict = certify(problem, program, scale, answer.unscaled(1 / scale.factor))
        return self.view.of(problem, verdict, answer.stats)

    def _answer_of(self, posed: Any, result: Any) -> Answer:
        """What somebody's own call of a solver found, in the units of the program shown."""
        from reps_opt.solvers.scipy_spec import Spec

        if isinstance(posed, Spec):
            if result is None:
                raise InputError("result must be what scipy.optimize.minimize returned for the spec")
            return posed.answer(self._shown, result)
        from reps_opt.solvers.cvxpy_conic import read

        return read(self._shown, posed)


def _checked(side: str) -> str:
    if side not in SIDES:
        raise InputError(f"side must be one of {SIDES}, got {side!r}")
    return side


def _offered_points(program: Program, answer: Answer) -> Iterator[FloatArray]:
    if answer.multipliers is not None and not isinstance(answer.eta, np.ndarray) and 0 < answer.eta < math.inf:
        point = program.dual(answer.eta, answer.multipliers).conjugate.point
        yield point
        if answer.point is None or np.abs(answer.point - point).sum() <= CONSISTENT:
            return
    if answer.point is not None:
        yield _on_the_simplex(program, answer.point) if program.simplex else answer.point


def _on_the_simplex(program: Program, point: FloatArray) -> FloatArray:
    """A solver's point with the mass that it should have: 1e-11 too much counts beside a reward of 1e10."""
    x = onto_rows(program, np.maximum(point, 0.0))
    return x * (program.mass / x.sum()) if program.starts is None else x


@value
class Posed(Problem):
    """A program that somebody posed by hand, as a problem."""

    posed: Program

    @cached_property
    def program(self) -> Program:
        """The program with what any program's hints can be."""
        program = Program.checked(self.posed)
        if program.hints.linear_limit is None and len(program.balls) <= 1:
            program = program.hinted(linear_limit=lambda: linear_limit(program))
        return program.hinted(inside=lambda: self._inside)

    @cached_property
    def _inside(self) -> FloatArray | None:
        """The anchor, moved off the bounds of the simplex towards the point of the rows that has most entropy."""
        program, anchor = self.program, self.anchor
        if not program.simplex or len(program.balls) > 1 or isinstance(program.divergence, KL):
            return anchor
        mean = np.full(program.n, program.mass / program.n)
        middle = project(program.with_ball(Ball(KL(mean), price=1.0))).point
        if anchor is None or program.violation(anchor) > CONSISTENT:
            return middle
        shares = (1 - 0.5**k for k in range(1, 20))
        mixed = (share * anchor + (1 - share) * middle for share in shares)
        return next((x for x in mixed if excess(program, x) <= CONSISTENT), anchor)

    def __repr__(self) -> str:
        program = self.posed
        balls = ", ".join(_described(ball) for ball in program.balls) or "no ball"
        return f"Program({np.size(program.objective)} coordinates, {len(program.rows)} blocks of rows, {balls})"


def _described(ball: Any) -> str:
    size = f"radius={ball.radius:g}" if ball.radius is not None else f"price={ball.price:g}"
    return f"{type(ball.divergence).__name__} {size}"
