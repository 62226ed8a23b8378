"""The explicit dual as arguments of ``scipy.optimize.minimize``.

Minimised is g over the etas of the balls, the multipliers of the rows and, where a maximum over coordinates or states
makes g kink, the multipliers of the masses, with that maximum as a constraint. :class:`~reps_opt.solvers.ScipyDual`
works on the same dual in coordinates that suit first-order methods.

Shapes: n coordinates of x; m rows; k balls; G simplexes; z the coordinates of the dual.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, NonlinearConstraint

from reps_opt.divergences.conditional_kl import ConditionalKL
from reps_opt.dual_point import DualPoint, JointDualPoint
from reps_opt.program import Program
from reps_opt.solvers.scipy_spec import Names, Spec, binding, named, trust_constr
from reps_opt.solvers.start import quadratic_start
from reps_opt.systems.choice import normal_equations
from reps_opt.tolerances import BARRIERS, LEAST_STARTING_ETA, TINY
from reps_opt.validation import FloatArray, UnsuitableError


def pose_dual(program: Program, names: Names | None = None) -> Spec:
    """Minimise the dual function as it stands; see :meth:`reps_opt.Problem.to_scipy`."""
    names = names or {}
    balls = binding(program)
    priced = any(ball.price is not None for ball in program.balls)
    if not balls and not priced:
        return _pose_epigraph(program, names, _LinearPieces(program))
    divergence = program.balls[0].divergence
    if len(program.balls) == 1 and isinstance(divergence, ConditionalKL):
        return _pose_epigraph(program, names, _SoftPieces(program, divergence))
    if not all(ball.divergence.smooth for ball in program.balls):
        raise UnsuitableError("the dual is not smooth in the multipliers: pose the primal, or use to_cvxpy")
    dual = SmoothDual(program)
    arguments: dict[str, Any] = {
        "fun": dual.value,
        "x0": dual.start(),
        "jac": dual.gradient,
        "hessp": dual.hessian_product,
        "bounds": _dual_bounds(program, dual.n_etas, 0),
        "constraints": [],
        "method": "trust-constr",
        "options": trust_constr(BARRIERS[-1]),
    }
    coordinates, parts = _dual_names(program, names, 0)
    return Spec("dual", arguments, coordinates, (), parts, lambda result: dual.at(result.x).conjugate.point)


def _dual_names(program: Program, names: Names, n_masses: int) -> tuple[tuple[str, ...], dict[str, slice]]:
    """Names of the coordinates, and where each block stands: etas, multipliers of the rows, those of the masses."""
    sizes = {ball.name: 1 for ball in binding(program)}
    coordinates = list(sizes)
    for name, block in program.blocks.items():
        sizes[name] = block.rhs.size
        coordinates += named(name, block.rhs.size, names)
    if n_masses:
        sizes["normalisation"] = n_masses
        coordinates += ["normalisation"] if n_masses == 1 else named("normalisation", n_masses, names)
    ends = np.cumsum([*sizes.values()])
    parts = {name: slice(int(end) - size, int(end)) for (name, size), end in zip(sizes.items(), ends, strict=True)}
    return tuple(coordinates), parts


def _dual_bounds(program: Program, n_etas: int, n_masses: int) -> Bounds | None:
    """Etas and the multipliers of inequalities are non-negative; None where nothing is bounded."""
    low = np.concatenate([np.zeros(n_etas), np.where(program.signed, 0.0, -np.inf), np.full(n_masses, -np.inf)])
    kept = np.arange(low.size) < n_etas  # the dual has no value beyond an eta of zero
    return Bounds(low, np.inf, keep_feasible=kept) if np.isfinite(low).any() else None


class SmoothDual:
    """The dual function over z = (etas, multipliers), with products of its Hessian: a weighted covariance.

    ``H = (1 / t) U' Cov_w U`` with the columns of U the slopes of the exponent: of one ball, minus net / eta and -A'.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.joint = len(program.balls) > 1
        self.free = np.array([ball.allowed < math.inf for ball in program.balls])
        priced = np.array([ball.price is not None for ball in program.balls])
        if self.joint and not (self.free | priced)[:, None].T.dot(program.joint.covers).all():
            raise UnsuitableError("a simplex of the domain is in no ball that binds: pose the primal, or use to_cvxpy")
        self.prices = np.array([ball.price or 0.0 for ball in program.balls])
        self.n_etas = int(self.free.sum())
        self.radii = program.radii if self.joint else np.array([program.ball.allowed])

    def start(self) -> FloatArray:
        program = self.program
        hint = program.hints.start
        v = np.zeros(program.rhs.size) if hint is None else program.cut(hint)
        if not self.joint and program.simplex and program.ridge is None:
            point = quadratic_start(program, normal_equations(program))
            eta, v = np.full(self.n_etas, point.eta), point.multipliers.copy()
        elif not program.simplex and program.epsilon:
            eta = np.array([math.sqrt(max(program.divergence.conjugate(program.objective).value, 0) / program.epsilon)])
        else:
            eta = np.full(self.n_etas, float(np.ptp(program.objective)) or 1.0)
        return np.concatenate([np.maximum(eta, LEAST_STARTING_ETA)[: self.n_etas], v])

    def split(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The eta (k,) of every ball, fixed ones too, and the multipliers (m,)."""
        eta = self.prices.copy()
        eta[self.free] = np.maximum(z[: self.n_etas], TINY)
        return eta, z[self.n_etas :]

    def at(self, z: FloatArray) -> DualPoint | JointDualPoint:
        """The dual and its derivatives at z."""
        eta, v = self.split(z)
        return self.program.joint_dual(eta, v) if self.joint else self.program.dual(float(eta[0]), v)

    def value(self, z: FloatArray) -> float:
        return self.at(z).value

    def gradient(self, z: FloatArray) -> FloatArray:
        at = self.at(z)
        return np.append((self.radii - at.divergences)[self.free], at.residual)

    def hessian_product(self, z: FloatArray, direction: FloatArray) -> FloatArray:
        eta, v = self.split(z)
        program, ridge = self.program, self.program.ridge
        moved_eta, moved_v = np.zeros(eta.size), direction[self.n_etas :]
        moved_eta[self.free] = direction[: self.n_etas]
        pulled = program.pulled(moved_v) if moved_v.size else np.zeros(program.n)
        if self.joint:
            joint = program.joint
            found = joint.conjugate(eta, program.net(v))
            slopes = joint.log_slope(eta, found) * (found.temperature[joint.layer][:, None] / eta)  # log q - s
            shift = slopes @ moved_eta - pulled
            moved = found.point / found.temperature[joint.layer] * joint.centred(found.point, shift[:, None])[:, 0]
            along_eta = slopes.T @ moved
        else:
            point = program.dual(float(eta[0]), v)
            scaled = point.scaled
            moved = point.conjugate.hessian(-scaled * moved_eta[0] - pulled) / point.eta
            along_eta = np.array([-float(scaled @ moved)])
        along_v = -program.times(moved) if moved_v.size else np.zeros(0)
        return np.concatenate([along_eta[self.free], along_v if ridge is None else along_v + ridge * moved_v])


class _LinearPieces:
    """The dual of a linear program: ``net <= normalisation``, a row a coordinate."""

    n_etas = 0

    def __init__(self, program: Program) -> None:
        starts = program.starts
        sizes = np.diff(np.append(np.zeros(1, dtype=np.int64) if starts is None else starts, program.n))
        self.layer = np.repeat(np.arange(sizes.size), sizes)
        self.masses = np.array([program.mass]) if starts is None else np.ones(starts.size)
        self.matrix = np.hstack([program.dense_rows.T, np.eye(sizes.size)[self.layer]])
        self.program = program

    def start(self) -> FloatArray:
        top = np.full(self.masses.size, float(self.program.objective.max()))
        return np.concatenate([np.zeros(self.program.rhs.size), top + np.ptp(self.program.objective)])

    def constraint(self) -> Any:
        return LinearConstraint(self.matrix, self.program.objective, np.inf)

    def point(self, result: Any) -> FloatArray:
        """The multipliers (n,) of the pieces are x."""
        return np.abs(result.v[0])


class _SoftPieces:
    """The dual of a conditional KL: the soft maximum over the actions of each state, at most the normaliser."""

    def __init__(self, program: Program, divergence: ConditionalKL) -> None:
        self.program, self.divergence = program, divergence
        self.masses = np.array([program.mass])
        self.n_etas = int(program.epsilon is not None)
        self.rows = program.dense_rows

    def _at(self, z: FloatArray) -> tuple[float, FloatArray, FloatArray, FloatArray]:
        """Eta, the soft maxima (states,), the policy (n,), and the slopes (n, etas + m) of the exponent times eta."""
        eta = max(float(z[0]), TINY) if self.n_etas else float(self.program.temperature or 0.0)
        v = z[self.n_etas : self.n_etas + self.rows.shape[0]]
        scaled = (self.program.objective - v @ self.rows) / eta
        partition, policy = self.divergence.pieces(scaled)
        slopes = np.hstack([-scaled[:, None][:, : self.n_etas], -self.rows.T])
        return eta, partition, policy, slopes

    def start(self) -> FloatArray:
        eta = [float(np.ptp(self.program.objective)) or 1.0] * self.n_etas
        top = 2 * float(np.abs(self.program.objective).max()) + 1.0
        return np.concatenate([eta, np.zeros(self.rows.shape[0]), [top]])

    def point(self, result: Any) -> FloatArray:
        """The multiplier of a state's piece is its mass, which the policy divides among its actions."""
        policy = self._at(result.x)[2]
        return np.abs(result.v[0])[self.divergence.group] * policy

    def constraint(self) -> Any:
        def value(z: FloatArray) -> FloatArray:
            eta, partition, _, _ = self._at(z)
            return eta * partition - z[-1]

        def gradient(z: FloatArray) -> FloatArray:
            _, partition, policy, slopes = self._at(z)
            each = self.divergence.state_sums(policy[:, None] * slopes)
            each[:, : self.n_etas] += partition[:, None]
            return np.hstack([each, -np.ones((partition.size, 1))])

        def hessian(z: FloatArray, prices: FloatArray) -> FloatArray:
            eta, _, policy, slopes = self._at(z)
            group = self.divergence.group
            centred = slopes - self.divergence.state_sums(policy[:, None] * slopes)[group]
            full = np.zeros((z.size, z.size))
            full[:-1, :-1] = centred.T @ (centred * (policy * prices[group] / eta)[:, None])
            return full

        return NonlinearConstraint(value, -np.inf, 0.0, jac=gradient, hess=hessian)


def _pose_epigraph(program: Program, names: Names, pieces: _LinearPieces | _SoftPieces) -> Spec:
    """A dual that is a maximum of pieces: its multiplier of the mass bounds them all."""
    radii = [program.epsilon] if pieces.n_etas else []
    slope = np.concatenate([radii, program.rhs, pieces.masses])
    soften = np.zeros(slope.size)
    if program.ridge is not None:
        soften[pieces.n_etas : pieces.n_etas + program.rhs.size] = program.ridge
    arguments = {
        "fun": lambda z: float(slope @ z + soften @ z**2 / 2),
        "x0": pieces.start(),
        "jac": lambda z: slope + soften * z,
        "hess": lambda z: sp.diags_array(soften).tocsr(),
        "bounds": _dual_bounds(program, pieces.n_etas, pieces.masses.size),
        "constraints": [pieces.constraint()],
        "method": "trust-constr",
        "options": trust_constr(BARRIERS[-1]),
    }
    coordinates, parts = _dual_names(program, names, pieces.masses.size)
    return Spec("dual", arguments, coordinates, ("normalisation",), parts, pieces.point)
