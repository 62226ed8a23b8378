"""The two explicit routes: the primal and the dual of a program, posed in CVXPY with labelled constraints.

The only module that imports cvxpy. Multipliers are found by label and put into the signs of :mod:`reps_opt.program`,
where every multiplier is the derivative of the maximum in its right-hand side. CVXPY reports the multipliers of
``==`` in a maximisation with the opposite sign, and those of ``<=`` as non-negative numbers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np

from reps_opt.program import Program
from reps_opt.solvers.answer import Answer
from reps_opt.validation import FloatArray

SIDES = ("primal", "dual")


@dataclass(frozen=True)
class Posed:
    """A ``cvxpy.Problem``, its variables and its constraints by label."""

    problem: cp.Problem
    variables: Mapping[str, cp.Variable]
    constraints: Mapping[str, Any]


def pose(program: Program, side: str) -> Posed:
    """Pose one side of a program in CVXPY; see :meth:`reps_opt.REPS.to_cvxpy`."""
    if side not in SIDES:
        raise ValueError(f"side must be one of {SIDES}, got {side!r}")
    return pose_primal(program) if side == "primal" else pose_dual(program)


def pose_primal(program: Program) -> Posed:
    """Maximise ``<c, x>`` over x >= 0 with the rows, the normalisation and the ball."""
    x = cp.Variable(program.n, name="occupancy", nonneg=True)
    constraints: dict[str, Any] = {name: b.matrix @ x == b.rhs for name, b in program.equalities.items()}
    constraints |= {name: b.matrix @ x <= b.rhs for name, b in program.inequalities.items()}
    constraints["normalisation"] = cp.sum(x) == 1
    objective = program.objective @ x
    divergence = program.divergence.expression(cp, x)
    if divergence is not None:
        if program.temperature is not None:
            objective -= program.temperature * divergence
        elif program.epsilon is not None and math.isfinite(program.epsilon):
            constraints["kl"] = divergence <= program.epsilon
    return Posed(cp.Problem(cp.Maximize(objective), _labelled(constraints)), {"occupancy": x}, constraints)


def pose_dual(program: Program) -> Posed:
    """Minimise the dual over eta, the rows' multipliers and the normaliser."""
    blocks = {**program.equalities, **program.inequalities}
    duals = {
        name: cp.Variable(block.rhs.size, name=name, nonneg=name in program.inequalities)
        for name, block in blocks.items()
    }
    normaliser = cp.Variable(name="normalisation")
    bellman = cp.Variable(program.n, name="bellman_error")
    ball = program.epsilon is not None and math.isfinite(program.epsilon)
    eta: Any = cp.Variable(name="kl", nonneg=True) if ball else (program.temperature or 0.0)
    rows = sum(block.matrix.T @ duals[name] for name, block in blocks.items())
    constraints: dict[str, Any] = {"flow": bellman == program.objective - rows - normaliser}
    if ball or program.temperature is not None:
        constraints |= program.divergence.dual_constraints(cp, bellman, eta)
    else:
        constraints["normalisation"] = bellman <= 0
    objective = normaliser + sum(block.rhs @ duals[name] for name, block in blocks.items())
    if ball:
        objective = objective + program.epsilon * eta
    variables = {**duals, "normalisation": normaliser, **({"kl": eta} if ball else {})}
    return Posed(cp.Problem(cp.Minimize(objective), _labelled(constraints)), variables, constraints)


def _labelled(constraints: Mapping[str, Any]) -> list[Any]:
    return [constraint.set_label(name) for name, constraint in constraints.items()]


@dataclass(frozen=True)
class _Conic:
    solver: str = "CLARABEL"
    options: Mapping[str, Any] = field(default_factory=dict)

    def _run(self, posed: Posed) -> tuple[str, dict[str, Any]]:
        """What CVXPY says, and its statistics; a solver's error is kept as the message."""
        try:
            # CVXPY warns where a solution may be inaccurate; here the certificate says so
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                posed.problem.solve(solver=self.solver, **self.options)
        except (cp.error.SolverError, ArithmeticError, ValueError) as error:
            return f"{self.solver}: {error}", {"solver": self.solver}
        stats = posed.problem.solver_stats
        return f"{self.solver}: {posed.problem.status}", {
            "solver": self.solver,
            "iterations": getattr(stats, "num_iters", None),
        }


@dataclass(frozen=True)
class CvxpyPrimal(_Conic):
    """The explicit primal through any conic solver that CVXPY knows.

    Parameters
    ----------
    solver
        Name of a solver with exponential cones: ``"CLARABEL"`` or ``"SCS"``.
    options
        Passed to ``cvxpy.Problem.solve``.

    Examples
    --------
    >>> from reps_opt import MDP, REPS, solve
    >>> mdp = MDP.from_gymnasium("FrozenLake-v1")
    >>> problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), epsilon=0.5)
    >>> a, b = solve(problem), solve(problem, CvxpyPrimal("CLARABEL"))
    >>> abs(a.objective - b.objective) < 1e-7
    True
    """

    def solve(self, program: Program) -> Answer:
        """Solve a program whose objective is normalised to range one."""
        posed = pose_primal(program)
        message, stats = self._run(posed)
        point = posed.variables["occupancy"].value
        if point is None:
            return Answer(math.nan, None, None, message, stats)
        eta = program.temperature or 0.0
        if "kl" in posed.constraints:
            eta = _positive(posed.constraints["kl"].dual_value)
        names = [*program.equalities, *program.inequalities]
        duals = [posed.constraints[name].dual_value for name in names]
        if any(dual is None for dual in duals):
            return Answer(eta, None, point, message, stats)
        signs = [-1.0] * len(program.equalities) + [1.0] * len(program.inequalities)
        multipliers = np.concatenate([sign * np.ravel(dual) for sign, dual in zip(signs, duals, strict=True)])
        return Answer(eta, _feasible(program, multipliers), point, message, stats)


@dataclass(frozen=True)
class CvxpyDual(_Conic):
    """The explicit dual, eta and V as CVXPY variables; the parameters are those of :class:`CvxpyPrimal`."""

    def solve(self, program: Program) -> Answer:
        """Solve a program whose objective is normalised to range one."""
        posed = pose_dual(program)
        message, stats = self._run(posed)
        values = [posed.variables[name].value for name in (*program.equalities, *program.inequalities)]
        if any(value is None for value in values):
            return Answer(math.nan, None, None, message, stats)
        eta = program.temperature or 0.0
        if "kl" in posed.variables:
            eta = _positive(posed.variables["kl"].value)
        point = posed.constraints["flow"].dual_value
        # the sign of an equality's multiplier follows the sense of the problem; an occupancy is non-negative
        point = None if point is None else np.abs(point)
        return Answer(eta, _feasible(program, np.concatenate(values)), point, message, stats)


def _feasible(program: Program, multipliers: FloatArray) -> FloatArray:
    return np.where(program.signed, np.maximum(multipliers, 0.0), multipliers)


def _positive(value: Any) -> float:
    return max(float(np.squeeze(value)), 0.0)
