r"""Programs with a quadratic ball, reduced to as many dimensions as there are vectors in them.

The solution lies in the span of ``F^-1 g`` and the ``F^-1 b_i``: after one factorisation of F, or conjugate gradient,
what is left is a problem in 1 + k coordinates with a round ball,

.. math:: \max_z\; h'z \quad\text{s.t.}\quad Nz \le d\;[\nu \ge 0], \quad \tfrac12|z|^2 \le \epsilon\;[\eta \ge 0].

Where the ball has a price eta in place of a radius, z is the point of the rows that is nearest to ``h / eta``.

Shapes: P parameters, k cost rows; r <= 1 + k reduced coordinates z; N is (k, r), d is (k,).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy

from reps_opt.conjugate_gradient import conjugate_gradient
from reps_opt.divergences import base as divergences
from reps_opt.metrics import Metric
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer
from reps_opt.tolerances import (
    ETA_STRIDE,
    LAST_PLACE,
    LOOSEST_ALONG_RTOL,
    QUADRATIC_FARTHEST,
    ROUNDED,
    ROUNDING,
    TINY,
)
from reps_opt.validation import FloatArray, UnsuitableError, as_count, as_scalar

METHODS = ("auto", "cholesky", "cg")


class FacePoint(NamedTuple):
    """Optimum over the ball with some rows held as equalities."""

    z: FloatArray
    eta: float
    nu: FloatArray


@dataclass(frozen=True)
class Reduced:
    """The problem in 1 + k coordinates; ``basis @ z`` is the step.

    Attributes
    ----------
    basis : (P, r) array
        F-orthonormal columns: ``basis' F basis = I``.
    objective : (r,) array
        h.
    rows : (k, r) array
        N.
    rhs : (k,) array
        d.
    """

    basis: FloatArray
    objective: FloatArray
    rows: FloatArray
    rhs: FloatArray

    def nearest(self) -> tuple[FloatArray, FloatArray]:
        """Point (r,) of the rows closest to zero, and its multipliers (k,) >= 0 with ``z = -N'u``.

        Where no point satisfies the rows, the point is NaN and the multipliers prove it: ``N'u = 0``, ``d.u < 0``.

        References
        ----------
        Lawson and Hanson (1974), *Solving least squares problems*, chapter 23 (least distance programming).
        """
        unit, lengths = self._of_unit_rows()
        z, u = unit._project(np.zeros_like(self.objective))
        return z, u / lengths

    def _of_unit_rows(self) -> tuple[Reduced, FloatArray]:
        """The same with rows of length one, and the lengths (k,): tolerances are relative to the longest row."""
        lengths = np.linalg.norm(self.rows, axis=1)
        lengths[lengths == 0] = 1.0
        return replace(self, rows=self.rows / lengths[:, None], rhs=self.rhs / lengths), lengths

    def _project(self, target: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Point of the rows closest to a target (r,): ``z = target - N'u``."""
        missing = self.rows @ target - self.rhs - ROUNDED * np.abs(self.rhs)
        unit = float(np.max(missing, initial=0.0))  # distances become about one
        if unit == 0:
            return target, np.zeros_like(missing)
        matrix = np.vstack([-self.rows.T, missing[None, :] / unit])
        aim = np.zeros(len(matrix))
        aim[-1] = 1.0
        u, distance = scipy.optimize.nnls(matrix, aim)
        left = aim - matrix @ u
        if distance <= ROUNDING or left[-1] <= ROUNDED:
            return np.full_like(target, np.nan), u
        u *= unit / left[-1]
        return target - self.rows.T @ u, u

    def on_face(self, active: FloatArray, epsilon: float) -> FacePoint | None:
        """Closed form with the rows of ``active`` (k,) held as equalities; None where they miss the ball."""
        held = np.flatnonzero(active)
        if not held.size:
            size, reach = math.sqrt(float(self.objective @ self.objective)), math.sqrt(2 * epsilon)
            eta = size / reach
            return FacePoint(self.objective / eta if eta > 0 else self.objective, eta, np.zeros(len(self.rows)))
        row = self.rows[held]
        pseudo = np.linalg.pinv(row)
        nearest = pseudo @ self.rhs[held]
        explained = pseudo.T @ self.objective
        left = self.objective - self.rows[held].T @ explained
        room = 2 * epsilon - float(nearest @ nearest)
        if room < -ROUNDED * 2 * epsilon:
            return None
        nu = np.zeros(len(self.rows))
        size = float(np.linalg.norm(left))
        if size <= ROUNDING * float(np.linalg.norm(self.objective)):
            nu[held] = explained
            return FacePoint(nearest, 0.0, nu)
        length = math.sqrt(max(room, ROUNDED * 2 * epsilon))
        eta = size / length
        nu[held] = explained - eta * (pseudo.T @ nearest)
        return FacePoint(nearest + (math.sqrt(max(room, 0.0)) / size) * left, eta, nu)

    def solve(self, epsilon: float) -> FacePoint:
        """Optimum: of no row, of the one row, or of the rows that are active at the right eta."""
        k = len(self.rhs)
        if k == 1:
            return self._with_one_row(epsilon) or self.from_nearest(epsilon)
        unit, lengths = self._of_unit_rows()
        free = unit.on_face(np.zeros(k), epsilon)
        assert free is not None
        if k == 0 or unit._holds(free, epsilon):
            return free
        for active in unit._actives(epsilon):
            face = unit.on_face(active, epsilon)
            if face is not None and unit._holds(face, epsilon):
                return FacePoint(face.z, face.eta, np.maximum(face.nu, 0.0) / lengths)
        return self.from_nearest(epsilon)

    def at_price(self, eta: float) -> FacePoint:
        """Optimum of ``h'z - eta |z|^2 / 2`` under the rows: the target ``h / eta``, projected onto them.

        Where the rows contradict each other it is the target itself, which whoever certifies it finds outside.
        """
        unit, lengths = self._of_unit_rows()
        target = self.objective / eta
        z, u = unit._project(target)
        return FacePoint(target, eta, np.zeros_like(u)) if np.isnan(z).any() else FacePoint(z, eta, eta * u / lengths)

    def _with_one_row(self, epsilon: float) -> FacePoint | None:
        r"""Closed form with one row; None where it misses the ball.

        With the row :math:`c + b's \le 0`, and q, r, S the products of g and b in the metric :math:`F^{-1}`, it is
        :math:`\eta = \sqrt{(q - r^2/S)/(2\epsilon - c^2/S)}`, :math:`\nu = (r + \eta c)/S` where the row is active.
        In Python's numbers, since there are two coordinates at most: arrays would take ten times as long.
        """
        h, n, d = self.objective.tolist(), self.rows[0].tolist(), float(self.rhs[0])
        size, length, reach = math.hypot(*h), math.hypot(*n), math.sqrt(2 * epsilon)
        eta = size / reach
        free = [x / eta for x in h] if eta > 0 else h
        if sum(x * y for x, y in zip(n, free, strict=True)) - d <= ROUNDING * (reach * length + abs(d)):
            return FacePoint(np.array(free), eta, np.zeros(1))
        unit = [x / (length or 1.0) for x in n]
        nearest, pull = d / (length or 1.0), sum(x * y for x, y in zip(unit, h, strict=True))
        room = 2 * epsilon - nearest**2
        if room < -ROUNDED * 2 * epsilon or length == 0:
            return None
        left = [x - pull * y for x, y in zip(h, unit, strict=True)]
        rest = math.hypot(*left)
        if rest <= ROUNDING * size:
            return FacePoint(np.array([nearest * x for x in unit]), 0.0, np.array([max(pull / length, 0.0)]))
        eta = rest / math.sqrt(max(room, ROUNDED * 2 * epsilon))
        along = math.sqrt(max(room, 0.0)) / rest
        z = np.array([nearest * x + along * y for x, y in zip(unit, left, strict=True)])
        return FacePoint(z, eta, np.array([max((pull - eta * nearest) / length, 0.0)]))

    def _holds(self, point: FacePoint, epsilon: float) -> bool:
        reach = math.sqrt(2 * epsilon) * np.linalg.norm(self.rows, axis=1) + np.abs(self.rhs)
        inside = bool(np.all(self.rows @ point.z - self.rhs <= ROUNDING * reach))
        return inside and bool(np.all(point.nu >= -ROUNDING * max(1.0, float(np.abs(point.nu).max(initial=0.0)))))

    def _actives(self, epsilon: float) -> Iterator[FloatArray]:
        """Rows (k,) with positive multiplier at the eta where the projection of ``h / eta`` has the ball's radius.

        Where the ball is slack, eta should be zero; targets too far away lose the rows to rounding, so that nearer ones
        follow.
        """
        if not self.objective.any():
            yield (self.nearest()[1] > 0).astype(float)
            return

        def excess(log_eta: float) -> float:
            z = self._project(self.objective * math.exp(-log_eta))[0]
            return float(z @ z) - 2 * epsilon if z[0] == z[0] else 2 * epsilon  # too far to tell: outside

        start = math.log(float(np.linalg.norm(self.objective)) / math.sqrt(2 * epsilon))
        low, high = start, start + QUADRATIC_FARTHEST
        tried: Iterable[float]
        while (beyond := excess(low)) <= 0 and low > start - QUADRATIC_FARTHEST:
            # no farther than the ball asks for: where it is left, the rows are exact
            low, high = low - ETA_STRIDE, low
        if beyond <= 0:
            tried = [low + closer for closer in np.arange(0.0, QUADRATIC_FARTHEST + 1.0, 2 * ETA_STRIDE).tolist()]
        else:
            over = excess(high) >= 0
            find = partial(scipy.optimize.brentq, excess, low, high, rtol=ROUNDED)
            # few rows leave or join near the right eta, so that a rough one mostly has them all
            tried = [high] if over else (find(xtol=xtol) for xtol in (LOOSEST_ALONG_RTOL, ROUNDED))
        for log_eta in tried:
            u = self._project(self.objective * math.exp(-log_eta))[1]
            yield (u > ROUNDING * u.max(initial=0.0)).astype(float)

    def from_nearest(self, epsilon: float) -> FacePoint:
        """Where the rows miss the ball: the way to their nearest point, as far as the ball goes."""
        z, u = self.nearest()
        if np.isnan(z).any():  # the rows contradict each other: descend the squared violation
            z = -(self.rows.T @ np.maximum(-self.rhs, 0.0))
        size = float(np.linalg.norm(z))
        reach = math.sqrt(2 * epsilon)
        return FacePoint(z * (reach / size if size > 0 else 0.0), math.inf, u)


def reduce_program(program: Program) -> Reduced:
    """Reduce a program to the span of the images of the objective and the rows under ``F^-1``."""
    columns, metric = _columns(program), _ball(program).metric
    images = metric.solve(columns)
    return _reduce(columns, program.rhs, images, metric.product(images))


def _reduce(columns: FloatArray, rhs: FloatArray, images: FloatArray, curved: FloatArray) -> Reduced:
    """The same from objective and rows, their images, and F times these, each (P, 1 + k)."""
    if rhs.size == 1 and (mix := _orthonormal_pair(images.T @ curved)) is not None:
        basis = images @ mix
        reduced = columns.T @ basis
        return Reduced(basis, reduced[0], reduced[1:], rhs)
    squares = np.einsum("pi,pi->i", images, curved)
    scale = 1.0 / np.sqrt(np.where(squares > 0, squares, 1.0))
    basis = images * scale
    if len(squares) > 1:
        cross = (curved * scale).T @ basis
        values, vectors = np.linalg.eigh((cross + cross.T) / 2)
        kept = values > LAST_PLACE * max(float(values[-1]), TINY)
        basis = basis @ (vectors[:, kept] / np.sqrt(values[kept]))
    reduced = columns.T @ basis
    return Reduced(basis, reduced[0], reduced[1:], rhs)


def _orthonormal_pair(gram: FloatArray) -> FloatArray | None:
    """Weights (2, r) that make two vectors of this Gram matrix orthonormal; None where one of them has no length.

    Sum and difference of the vectors, brought to length one, are the eigenvectors of their Gram matrix.
    """
    (first, cross), (mirrored, second) = gram.tolist()
    if not (first > 0 and second > 0):
        return None
    a, b = 1 / math.sqrt(first), 1 / math.sqrt(second)
    cosine = (cross + mirrored) / 2 * a * b
    pairs = [(sign, 1 + sign * cosine) for sign in (1.0, -1.0)]
    kept = [(sign, 1 / math.sqrt(2 * value)) for sign, value in pairs if value > LAST_PLACE * (1 + abs(cosine))]
    return np.array([[a * weight for _, weight in kept], [sign * b * weight for sign, weight in kept]])


def _on_a_line(
    objective: FloatArray, image: FloatArray, curved: FloatArray, epsilon: float
) -> tuple[FloatArray, float, float] | None:
    """The step (P,) along ``F^-1 g`` to the ball's boundary, eta, and how many times the image it is.

    None where the metric sees nothing of it.
    """
    square = float(image.dot(curved))
    if not square > 0:
        return None
    reach, length = math.sqrt(2 * epsilon), math.sqrt(square)
    gain = float(objective.dot(image)) / length
    return (_kept(image * (reach / length)), gain / reach, reach / length) if gain > 0 else None


def _columns(program: Program) -> FloatArray:
    """Objective and rows side by side (P, 1 + k)."""
    objective = program.objective[None]
    if not program.rows:
        return objective.T
    return np.concatenate([objective, *(block.dense for block in program.inequalities.values())]).T


def _kept(step: FloatArray) -> FloatArray:
    """The same array, never to be written to again: what is computed of it may be remembered."""
    step.flags.writeable = False
    return step


def _ball(program: Program) -> divergences.Quadratic:
    divergence = program.divergence
    if not isinstance(divergence, divergences.Quadratic):
        raise UnsuitableError("the Quadratic solver needs a quadratic ball: use Newton, CvxpyPrimal or CvxpyDual")
    return divergence


@dataclass(frozen=True)
class Quadratic:
    """Programs over a quadratic ball, in closed form after one factorisation or by conjugate gradient.

    Without cost rows and with one, the closed form is explicit; with more, the active rows are found by a search in
    eta alone, and the closed form over them follows.

    Parameters
    ----------
    method
        ``"cholesky"``, ``"cg"``, or ``"auto"``: conjugate gradient where only products are known.
    rtol
        Relative residual at which conjugate gradient stops.
    max_iterations
        Products a right-hand side that conjugate gradient may take; ``2 P`` by default.

    Examples
    --------
    >>> from reps_opt import TrustRegionStep, solve
    >>> problem = TrustRegionStep([1.0, 2.0], [[1.0, 0.0], [0.0, 4.0]], epsilon=0.5)
    >>> solve(problem, Quadratic("cg")).step
    array([0.70710678, 0.35355339])
    """

    method: str = "auto"
    rtol: float = 1e-10
    max_iterations: int | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}, got {self.method!r}")
        as_scalar(self.rtol, "rtol", low=0.0, high=1.0)
        if self.max_iterations is not None:
            as_count(self.max_iterations, "max_iterations")

    def solve(self, program: Program) -> Answer:
        """Maximise over the ball and the rows; the point is feasible even where conjugate gradient stops early."""
        ball, epsilon, price = _ball(program), program.epsilon, program.temperature
        if program.rows and program.equalities:
            raise UnsuitableError("the Quadratic solver takes inequality rows only: use CvxpyPrimal")
        if epsilon is not None and not 0 < epsilon < math.inf:
            raise UnsuitableError("the Quadratic solver needs a finite ball of positive radius, or a price")
        alone = epsilon is not None and not program.rows
        columns = program.objective if alone else _columns(program)
        images, recurred, stats = self._images(ball.metric, columns)
        if epsilon is not None and alone:
            curved = ball.metric.product(images)  # as it is, for whoever measures the step: it is on the sphere
            found = _on_a_line(columns, images, curved, epsilon)
            if found is not None:
                step, eta, ratio = found
                ball.remember(step, curved * ratio)
                return Answer(eta, np.zeros(0), step, "closed form", stats)
            columns, images, recurred = columns[:, None], images[:, None], curved[:, None]
        curved = ball.metric.product(images) if recurred is None else recurred
        reduced = _reduce(columns, program.rhs, images, curved)
        if price is not None:
            point = reduced.at_price(price)
        else:
            assert epsilon is not None
            point = reduced.solve(epsilon)
        message = "no point of the ball satisfies the rows" if point.eta == math.inf else "closed form"
        return Answer(point.eta, point.nu, _kept(reduced.basis @ point.z), message, stats)

    def _images(self, metric: Metric, columns: FloatArray) -> tuple[FloatArray, FloatArray | None, dict[str, Any]]:
        """``F^-1`` times columns (P, 1 + k), or a single one (P,), F times that where it is known, and what it took."""
        if self.method != "cg" and not (self.method == "auto" and metric.by_products):
            if metric.by_products:
                raise UnsuitableError("metric is known by its products only: it takes method='cg'")
            images = metric.solve(columns)
            spent = {"factorisations": metric.factorisations} if metric.factorisations else {}
            return images, None, {"method": "cholesky", **spent}
        settings = self.rtol, self.max_iterations, metric.precondition
        runs = [conjugate_gradient(metric.product, column, *settings) for column in np.atleast_2d(columns.T)]
        stats = {"method": "cg", "products": sum(run.products for run in runs)}
        stats["relative_residual"] = max(run.relative_residual for run in runs)
        images = np.stack([run.solution for run in runs], axis=-1).reshape(columns.shape)
        return images, columns - np.stack([run.residual for run in runs], axis=-1).reshape(columns.shape), stats
