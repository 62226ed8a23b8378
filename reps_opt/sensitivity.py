r"""How the answer to a program moves with its data, by the implicit function theorem at the optimum.

With :math:`y = (c - A'v - C'\nu)/\eta`, the maximiser :math:`x = \nabla D^*(y)` and :math:`H = \nabla^2 D^*(y)`, the
conditions :math:`A x = b` and :math:`D(x) = \epsilon` move to

.. math::
    \dot x = H(\dot c - A'\dot v - y\dot\eta)/\eta, \qquad A\dot x = \dot b, \qquad
    \langle y, \dot x\rangle = \dot\epsilon,

one factorisation of :math:`A H A'`, the matrix of Newton's last step, and two solves with it.

Shapes: n coordinates, m rows.

References
----------
Fiacco (1983), *Introduction to sensitivity and stability analysis in nonlinear programming*, chapter 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reps_opt.program import Program
from reps_opt.result import Arrays, Result
from reps_opt.systems.choice import normal_equations
from reps_opt.tolerances import CLOSE, VISIBLE
from reps_opt.validation import FloatArray, InputError, UnsuitableError, as_scalar


@dataclass(frozen=True, eq=False)
class Moved:
    """Derivatives of eta, the multipliers (m,), x (n,), ``net / eta`` (n,) and the normaliser of the mass."""

    eta: float
    multipliers: FloatArray
    point: FloatArray
    scaled: FloatArray
    normaliser: float
    objective: float


@dataclass(frozen=True, eq=False, repr=False)
class Sensitivity(Result):
    """How a solution moves along a change of its problem's data: directional derivatives.

    Attributes
    ----------
    objective : float
        Derivative of the optimum.
    eta : float or (k,) array
        Of the multiplier of the ball, or of each of several; zero in penalty form, unless the temperature moves.
    occupancy, policy, value, weights, theta : arrays
        Of the solution's readings of these names, where it has them.
    """

    objective: float
    eta: Any
    readings: Mapping[str, tuple[tuple[str, ...], FloatArray]] = field(default_factory=dict)

    def __getattr__(self, name: str) -> FloatArray:
        readings = self.__dict__.get("readings", {})
        if name not in readings:
            raise AttributeError(f"this sensitivity has {('objective', 'eta', *readings)}, not {name!r}")
        return readings[name][1]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.readings]

    def numbers(self) -> dict[str, Any]:
        return {"objective": self.objective, **({"eta": self.eta} if np.ndim(self.eta) == 0 else {})}

    def arrays(self) -> Arrays:
        return self.readings if np.ndim(self.eta) == 0 else {**self.readings, "eta": (("ball",), self.eta)}


def check_given(directions: Mapping[str, Any]) -> None:
    """Raise InputError where nothing moves: every direction, by name, is None."""
    *most, last = directions
    if all(part is None for part in directions.values()):
        raise InputError(f"{', '.join(most)} or {last} must be given: the direction in which the data move")


def check_zero_sum(mu0: FloatArray) -> None:
    """Raise InputError for a direction of a start distribution that leads off the distributions."""
    if abs(float(mu0.sum())) > CLOSE * float(np.abs(mu0).sum()):
        raise InputError(f"mu0 must sum to zero, as a change of a distribution does, got {mu0.sum():g}")


def check_has(now: Any, name: str, where: str = "problem") -> None:
    """Raise UnsuitableError for the rate of a number that there is none of: ``now`` is what it is."""
    if now is None:
        raise UnsuitableError(f"{name} does not move: the {where} has none")


def as_rates(problem: Any, directions: Mapping[str, Any]) -> tuple[float, float]:
    """How fast radius and temperature move, zero where they stay; refuses the rate of what the problem has not.

    ``directions`` holds all that may move, by name, None for what stays: something must.
    """
    check_given(directions)
    rates = {}
    for name in ("epsilon", "temperature"):
        part = directions[name]
        if part is not None:
            check_has(getattr(problem, name), name)
        rates[name] = 0.0 if part is None else as_scalar(part, name)
    return rates["epsilon"], rates["temperature"]


def check_interior(eta: Any, point: FloatArray | None) -> None:
    """Raise UnsuitableError without a point, and where every ball is slack or one holds a single point."""
    if point is None:
        raise UnsuitableError("there is no point to move: the solution is infeasible or failed")
    if not np.any(eta):
        raise UnsuitableError(
            "the ball is slack (eta = 0): the answer is a corner of a linear program, which stays where it is or jumps"
        )
    if not np.all(np.isfinite(eta)):
        raise UnsuitableError("the ball holds a single point (eta is infinite): the answer has no derivative there")


def movable(solution: Any) -> Program:
    """The program of an answer; raises UnsuitableError where that has no derivative, or where none is known."""
    program: Program = solution.problem.program
    if solution.point is not None and len(program.balls) > 1:
        raise UnsuitableError("the derivative of a program of several balls is not available: difference two solves")
    check_interior(solution.eta, solution.point)
    if not program.simplex or not program.divergence.smooth:
        raise UnsuitableError(f"sensitivity takes a smooth dual on the simplex, not {program.divergence!r}")
    return program


def moved(
    solution: Any, c: FloatArray, rhs: FloatArray | None = None, epsilon: float = 0.0, temperature: float = 0.0
) -> Moved:
    """Directional derivative of an answer along a change c (n,) of the objective, right-hand sides (m,) and the ball.

    Raises
    ------
    UnsuitableError
        Where the answer has no derivative, or where none is known.
    """
    program, eta, multipliers = movable(solution), float(solution.eta), solution.multipliers
    b = np.zeros(program.rhs.size) if rhs is None else rhs
    at = program.dual(eta, multipliers)
    conjugate, y = at.conjugate, at.net / eta
    free = program.free(multipliers, at.residual)
    _check_strict(program, multipliers, at.residual)
    equations = normal_equations(program)
    equations.update(conjugate.weights, free, None if program.ridge is None else eta * program.ridge)
    along_c, along_y = conjugate.hessian(c), conjugate.hessian(y)
    coupling = np.where(free, program.times(along_y), 0.0)
    still = equations.solve(program.times(along_c) - eta * b)
    pull = equations.solve(coupling)
    if program.epsilon is None:
        d_eta = temperature
    else:
        curvature = float(y @ along_y - coupling @ pull)
        if not curvature > 0:
            raise UnsuitableError("the answer is degenerate: the rows leave the ball no direction to move in")
        d_eta = (float(y @ along_c - coupling @ still) - eta * epsilon) / curvature
    d_v = still - pull * d_eta
    d_y = (c - program.pulled(d_v) - y * d_eta) / eta if d_v.size else (c - y * d_eta) / eta
    d_x = conjugate.hessian(d_y)
    _check_rows(program, free, d_x, b if program.ridge is None else b + program.ridge * d_v)
    total = float(conjugate.weights.sum())
    d_normaliser = conjugate.normaliser * d_eta + eta * float(conjugate.weights @ d_y) / total
    d_optimum = float(c @ conjugate.point + multipliers @ b) + eta * epsilon - temperature * at.divergence
    return Moved(d_eta, d_v, d_x, d_y, d_normaliser, d_optimum)


def _check_strict(program: Program, multipliers: FloatArray, residual: FloatArray) -> None:
    """Raise UnsuitableError where an inequality holds with equality and costs nothing: it may bind or not."""
    unit = float(np.ptp(program.objective)) or 1.0
    weak = program.signed & (multipliers <= CLOSE * unit) & (np.abs(residual) <= CLOSE)
    if weak.any():
        row = int(np.flatnonzero(weak)[0])
        raise UnsuitableError(f"the answer is degenerate: row {row} holds with equality at a price of zero")


def _check_rows(program: Program, free: Any, d_x: FloatArray, wanted: FloatArray) -> None:
    """Raise UnsuitableError where the derivative misses the rows that it must keep: the system was singular."""
    missed = (program.times(d_x) - wanted)[free] if wanted.size else wanted
    size = float(np.abs(d_x).sum() + np.abs(wanted).sum())
    if float(np.abs(missed).sum()) > VISIBLE * size:
        raise UnsuitableError("the answer is degenerate: no derivative keeps the rows, so that it moves by jumps only")
