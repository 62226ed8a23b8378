"""The two explicit routes: the primal and the dual of a program, posed in CVXPY with labelled constraints.

The only module that imports cvxpy. Multipliers are found by label and put into the signs of :mod:`reps_opt.program`,
where every multiplier is the derivative of the maximum in its right-hand side; tests hold them to that by finite
differences, since CVXPY's signs follow the sense of the problem.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.linalg
import scipy.sparse as sp

from reps_opt.constraints import AtMost
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import Quadratic
from reps_opt.divergences.conditional_kl import ConditionalKL
from reps_opt.metrics import Identity
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer, etas_of
from reps_opt.solvers.start import quadratic_start
from reps_opt.systems.choice import normal_equations
from reps_opt.threads import quietly
from reps_opt.tolerances import CLOSE, CONIC_UNITS, SOLVED
from reps_opt.validation import FloatArray, InputError, UnsuitableError


@dataclass(frozen=True)
class Posed:
    """A ``cvxpy.Problem``, its variables and its constraints by label."""

    problem: cp.Problem
    variables: Mapping[str, cp.Variable]
    constraints: Mapping[str, Any]


OPTIONS: dict[str, dict[str, Any]] = {
    "CLARABEL": {"accept_unknown": True, "tol_gap_abs": SOLVED, "tol_gap_rel": SOLVED, "tol_feas": SOLVED},
    "SCS": {"eps_abs": CLOSE, "eps_rel": CLOSE},
}
"""A hundredth of the solvers' own tolerances or less, and inaccurate points handed back: the certificate judges."""

PARAMETERS = {"occupancy": ("rewards", "reference"), "weights": ("rewards", "base_weights"), "step": ("gradient", "")}
"""What a problem over such a variable calls its objective and the reference of its ball."""


class _Data:
    """The numbers that a posed problem may be solved again with: constants, or parameters that hold them."""

    def __init__(self, program: Program, parametric: bool) -> None:
        self.program, self.parametric = program, parametric
        objective, self.reference_name = PARAMETERS.get(program.hints.variable, ("objective", "reference"))
        self.objective: Any = program.objective
        if parametric:
            self.objective = cp.Parameter(program.n, name=objective, value=program.objective)
        self.radii = [self._radius(ball) for ball in program.balls]
        self.references = [self._reference(ball) for ball in program.balls]

    def _named(self, name: str, ball: Ball) -> str:
        return name if len(self.program.balls) == 1 else f"{name}[{ball.name}]"

    def _radius(self, ball: Ball) -> Any:
        """The ball's radius, of a finite one as a parameter."""
        if not self.parametric or not math.isfinite(ball.allowed):
            return ball.allowed
        return cp.Parameter(nonneg=True, name=self._named("epsilon", ball), value=ball.allowed)

    def _reference(self, ball: Ball) -> Any:
        """A parameter in place of the ball's reference; None where that is a constant."""
        divergence = ball.divergence
        if not self.parametric or not divergence.parametric:
            return None
        name = "policy" if isinstance(divergence, ConditionalKL) else self.reference_name
        q = divergence.reference
        return cp.Parameter(q.size, nonneg=True, name=self._named(name, ball), value=np.array(q))

    def log_reference(self, k: int) -> Any:
        """Logarithm of the k-th reference: what several balls take in the dual, and so the parameter there."""
        ball = self.program.balls[k]
        log_q = self.program.joint.log_references[k]
        if not self.parametric:
            return log_q
        return cp.Parameter(log_q.size, name=self._named(f"log_{self.reference_name}", ball), value=np.array(log_q))

    def arguments(self, k: int) -> tuple[Any, ...]:
        """What the k-th divergence takes after its own arguments."""
        return () if self.references[k] is None else (self.references[k],)


def pose(program: Program, side: str) -> Posed:
    """Pose one side of a program in CVXPY, its numbers as parameters; see :meth:`reps_opt.REPS.to_cvxpy`."""
    return pose_primal(program, parametric=True) if side == "primal" else pose_dual(program, parametric=True)


def pose_primal(program: Program, parametric: bool = False) -> Posed:
    """Maximise ``<c, x>`` over the domain with the rows and the balls, each labelled by its name."""
    data = _Data(program, parametric)
    x = cp.Variable(program.n, name=program.hints.variable, nonneg=program.simplex)
    objective = data.objective @ x
    missed: Any = 0.0
    if program.ridge is not None:
        missed = cp.Variable(program.rhs.size, name="missed")
        objective -= cp.sum_squares(cp.multiply(1 / np.sqrt(program.ridge), missed)) / 2
    constraints: dict[str, Any] = {name: b.in_memory @ x + missed == b.rhs for name, b in program.equalities.items()}
    constraints |= {name: b.in_memory @ x <= b.rhs for name, b in program.inequalities.items()}
    if program.simplex and program.starts is None:  # the masses of several simplexes follow from the rows
        constraints["normalisation"] = cp.sum(x) == program.mass
    out = [ball.out_of_reach for ball in program.balls]
    if any(places.size for places in out):
        constraints["out of reach"] = x[np.unique(np.concatenate(out))] == 0
    for k, ball in enumerate(program.balls):
        part = x if ball.where is None else x[ball.where]
        divergence = ball.divergence.expression(cp, part, *data.arguments(k))
        if divergence is None:
            continue
        if ball.price is not None:
            objective -= ball.price * divergence
        elif math.isfinite(ball.allowed):
            constraints[ball.name] = divergence <= data.radii[k]
    return Posed(cp.Problem(cp.Maximize(objective), _labelled(constraints)), {program.hints.variable: x}, constraints)


def pose_dual(program: Program, parametric: bool = False) -> Posed:
    """Minimise the dual over eta, the rows' multipliers and the normaliser; off the simplex that is ``eta D*``."""
    data = _Data(program, parametric)
    duals = {
        name: cp.Variable(block.rhs.size, name=name, nonneg=name in program.inequalities)
        for name, block in program.blocks.items()
    }
    priced = sum(block.in_memory.T @ duals[name] for name, block in program.blocks.items())
    net = data.objective - priced
    objective = sum(block.rhs @ duals[name] for name, block in program.blocks.items())
    if program.ridge is not None:
        rows = cp.hstack([duals[name] for name in program.blocks])
        objective = objective + cp.sum_squares(cp.multiply(np.sqrt(program.ridge), rows)) / 2
    pose_inner = _pose_one if len(program.balls) <= 1 else _pose_several
    inner, constraints, variables = pose_inner(program, net, data)
    problem = cp.Problem(cp.Minimize(objective + inner), _labelled(constraints))
    return Posed(problem, {**duals, **variables}, constraints)


def _pose_one(program: Program, net: Any, data: _Data) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """``eta epsilon + eta D*(net / eta)`` for one ball: an expression, its constraints and variables by name."""
    normaliser = cp.Variable(name="normalisation")
    bellman = cp.Variable(program.n, name="bellman_error")
    name = program.ball.name
    ball = program.epsilon is not None and math.isfinite(program.epsilon)
    eta: Any = cp.Variable(name=name, nonneg=True) if ball else (program.temperature or 0.0)
    constraints: dict[str, Any] = {"flow": bellman == (net - normaliser if program.simplex else net)}
    if isinstance(program.divergence, Quadratic):
        constraints |= program.divergence.dual_constraints(cp, bellman, eta, normaliser)
    elif ball or program.temperature is not None:
        constraints |= program.divergence.dual_constraints(cp, bellman, eta, *data.arguments(0))
    else:
        constraints["normalisation"] = bellman <= 0
    inner = program.mass * normaliser + (data.radii[0] * eta if ball else 0.0)
    return inner, constraints, {"normalisation": normaliser, **({name: eta} if ball else {})}


def _pose_several(program: Program, net: Any, data: _Data) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The joint conjugate of several KL balls, an exponential cone a coordinate."""
    joint = program.joint
    normaliser = cp.Variable(joint.starts.size, name="normalisation")
    bellman, scaled = cp.Variable(program.n, name="bellman_error"), cp.Variable(program.n, name="partition")
    eta: list[Any] = [
        cp.Variable(name=ball.name, nonneg=True) if ball.price is None else ball.price for ball in program.balls
    ]
    exponent, inner = bellman, cp.sum(normaliser)
    for k, where in enumerate(joint.where):
        place = sp.csr_array((np.ones(where.size), (where, np.arange(where.size))), shape=(program.n, where.size))
        exponent = exponent + place @ (eta[k] * data.log_reference(k))
        if math.isfinite(program.balls[k].allowed):
            inner = inner + data.radii[k] * eta[k]
    temperature = sum(eta[k] * joint.covers[k].astype(float) for k in range(len(eta)))
    each = sum(eta[k] * joint.covers[k][joint.layer].astype(float) for k in range(len(eta)))
    sums = np.zeros((joint.starts.size, program.n))
    sums[joint.layer, np.arange(program.n)] = 1.0
    reached = np.setdiff1d(np.arange(program.n), joint.out_of_reach)
    constraints = {
        "flow": bellman == net - normaliser[joint.layer],
        "kl": cp.ExpCone(exponent[reached], each[reached], scaled[reached]),
        "normalisation": sums[:, reached] @ scaled[reached] <= temperature,
    }
    free = {b.name: e for b, e in zip(program.balls, eta, strict=True) if b.price is None}
    return inner, constraints, {"normalisation": normaliser, **free}


def installed_solvers() -> list[str]:
    """Names of the solvers that CVXPY finds."""
    return list(cp.installed_solvers())


def _labelled(constraints: Mapping[str, Any]) -> list[Any]:
    return [constraint.set_label(name) for name, constraint in constraints.items()]


@dataclass(frozen=True)
class _Conic:
    """What both sides share: the objective is posed in units of eta, tried anew in others if the solver gives up.

    A conic solver's tolerances are absolute, and eta can be a thousandth of the reward range: in units of the quadratic
    model's eta the multipliers are of size one. Which units a solver likes best is hard to foresee, so that it is given
    :data:`UNITS` in turn until it says ``optimal``; of several answers the one with the least dual bound is kept.
    """

    solver: str = "CLARABEL"
    options: Mapping[str, Any] = field(default_factory=dict)
    verbose: bool = field(default=False, kw_only=True)

    def solve(self, program: Program) -> Answer:
        """Solve a program whose objective is normalised to range one."""
        answers = []
        for unit in self._units(program):
            scaled = program.in_units_of(unit)
            answer, says = self._attempt(scaled)
            answers.append(answer.unscaled(unit))
            if says == "optimal":
                break
        with_duals = [answer for answer in answers if answer.multipliers is not None]
        best = min(with_duals, key=lambda a: a.bound(program), default=answers[-1])
        return replace(best, stats={**best.stats, "attempts": len(answers)})

    @staticmethod
    def _units(program: Program) -> list[float]:
        if len(program.balls) > 1 or program.epsilon is None or not math.isfinite(program.epsilon):
            return [1.0]
        if not program.simplex:  # in units of the gain without rows
            gain = math.sqrt(4 * program.epsilon * program.divergence.conjugate(program.objective).value)
            return [gain, 1.0] if 0 < gain < math.inf else [1.0]
        eta = quadratic_start(program, normal_equations(program)).eta
        return [eta * factor for factor in CONIC_UNITS] + [1.0]

    def _attempt(self, program: Program) -> tuple[Answer, str]:
        raise NotImplementedError

    def _run(self, posed: Posed) -> tuple[str, str, dict[str, Any]]:
        """What CVXPY says, in one word and in full, and its statistics; a solver's error is kept as the message."""
        options = {**OPTIONS.get(self.solver, {}), **self.options}
        try:
            # CVXPY warns where a solution may be inaccurate; here the certificate says so
            with np.errstate(all="ignore"), quietly():
                posed.problem.solve(solver=self.solver, verbose=self.verbose, **options)
        except (cp.error.SolverError, ArithmeticError, ValueError) as error:
            return "error", f"{self.solver}: {error}", {"solver": self.solver}
        says = str(posed.problem.status)
        iterations = getattr(posed.problem.solver_stats, "num_iters", None)
        return says, f"{self.solver}: {says}", {"solver": self.solver, "iterations": iterations}


@dataclass(frozen=True)
class CvxpyPrimal(_Conic):
    """The explicit primal through any conic solver that CVXPY knows.

    Parameters
    ----------
    solver
        Name of a solver with exponential cones: ``"CLARABEL"`` or ``"SCS"``.
    options
        Passed to ``cvxpy.Problem.solve``.
    verbose
        Let CVXPY and the solver print what they do.
    whiten
        Pose a quadratic ball as the round one ``|y| <= sqrt(2 epsilon)`` with ``y = L's``, F = L L'.

    Examples
    --------
    >>> from reps_opt import MDP, REPS, solve
    >>> mdp = MDP.from_gymnasium("FrozenLake-v1")
    >>> problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), epsilon=0.5)
    >>> a, b = solve(problem), solve(problem, CvxpyPrimal("CLARABEL"))
    >>> abs(a.objective - b.objective) < 1e-7
    True
    """

    whiten: bool = False

    def _attempt(self, program: Program) -> tuple[Answer, str]:
        if self.whiten:
            return _attempt_whitened(self, program)
        posed = pose_primal(program)
        says, message, stats = self._run(posed)
        return _primal_answer(program, posed, message, stats), says


@dataclass(frozen=True)
class CvxpyDual(_Conic):
    """The explicit dual, eta and V as CVXPY variables; the parameters are those of :class:`CvxpyPrimal`."""

    def _attempt(self, program: Program) -> tuple[Answer, str]:
        posed = pose_dual(program)
        says, message, stats = self._run(posed)
        return _dual_answer(program, posed, message, stats), says


def _primal_answer(program: Program, posed: Posed, message: str, stats: Mapping[str, Any]) -> Answer:
    """What the primal's variable and the multipliers of its constraints say."""
    point = posed.variables[program.hints.variable].value
    if point is None:
        return Answer(math.nan, None, None, message, stats)
    found = {name: constraint.dual_value for name, constraint in posed.constraints.items()}
    eta, multipliers = etas_of(program, found), None
    if all(found[name] is not None and np.isfinite(found[name]).all() for name in program.blocks):
        multipliers = program.stacked([found[name] for name in program.blocks])
    point = _without_noise(point) if program.simplex else point
    return Answer(eta, multipliers, point, message, stats)


def _dual_answer(program: Program, posed: Posed, message: str, stats: Mapping[str, Any]) -> Answer:
    """What the dual's variables and the multiplier of its flow say."""
    values = [posed.variables[name].value for name in program.blocks]
    if any(value is None or not np.isfinite(value).all() for value in values):
        return Answer(math.nan, None, None, message, stats)
    eta = etas_of(program, {name: variable.value for name, variable in posed.variables.items()})
    point = posed.constraints["flow"].dual_value
    # the sign of an equality's multiplier follows the sense of the problem; an occupancy is non-negative, and a step
    # improves the objective
    if point is not None:
        improves = program.objective @ point >= 0
        point = _without_noise(np.abs(point)) if program.simplex else point if improves else -point
    return Answer(eta, program.stacked(values), point, message, stats)


def _attempt_whitened(route: CvxpyPrimal, program: Program) -> tuple[Answer, str]:
    """Solve in ``y = L's / sqrt(2 epsilon)``, where the ball is the unit ball and the objective has length one."""
    divergence = program.divergence
    if not isinstance(divergence, Quadratic) or not program.epsilon:
        raise UnsuitableError("only a program with a quadratic ball of positive radius can be whitened")
    triangle = divergence.metric.triangle(program.n)
    radius = math.sqrt(2 * program.epsilon)

    def turned(vectors: FloatArray, transposed: int) -> FloatArray:
        return radius * scipy.linalg.solve_triangular(
            triangle, vectors, trans=transposed, lower=True, check_finite=False
        )

    objective = turned(program.objective, 0)
    unit = float(np.linalg.norm(objective)) or 1.0
    rows = {name: AtMost(turned(block.dense.T, 0).T, block.rhs) for name, block in program.inequalities.items()}
    ball = Quadratic(Identity(), program.n)
    unit_ball = replace(program, objective=objective / unit, rows=rows, balls=(Ball(ball, radius=0.5),))
    answer, says = replace(route, whiten=False)._attempt(unit_ball)
    point = None if answer.point is None else turned(answer.point, 1)
    answer = answer.unscaled(unit)
    return replace(answer, eta=answer.eta / radius**2, point=point), says


def _without_noise(point: FloatArray) -> FloatArray:
    return np.where(point < CLOSE, 0.0, point)


def read(program: Program, problem: Any) -> Answer:
    """The answer to a program from a ``cvxpy.Problem`` that :func:`pose` made of it and somebody solved.

    Raises
    ------
    ValueError
        If it is no such problem, or has not been solved.
    """
    if not isinstance(problem, cp.Problem):
        raise InputError(f"posed must come from to_cvxpy or to_scipy, got {type(problem).__name__}")
    variables = {variable.name(): variable for variable in problem.variables()}
    posed = Posed(problem, variables, {constraint.label: constraint for constraint in problem.constraints})
    if any(variable.value is None for variable in variables.values()):
        raise InputError("posed has no values: solve it first, posed.solve(solver=...)")
    primal = program.hints.variable in variables
    if not (primal or all(name in variables for name in program.blocks)):
        raise InputError(f"posed must come from to_cvxpy of this problem, its variables are {(*variables,)}")
    sizes = {program.hints.variable: program.n} if primal else {n: b.rhs.size for n, b in program.blocks.items()}
    for name, size in sizes.items():
        if variables[name].size != size:
            raise InputError(f"posed has {variables[name].size} coordinates in {name!r} where this problem has {size}")
    reader = _primal_answer if primal else _dual_answer
    return reader(program, posed, f"posed by hand: {problem.status}", {"status": str(problem.status)})
