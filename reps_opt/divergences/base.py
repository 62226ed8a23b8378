"""Divergences: what "close to the data" means, as value, conjugate and CVXPY expression.

Each divergence D is a convex function of n coordinates on its domain: the probability simplex {x >= 0, sum x = 1}, or
all of R^n. Solvers see it through its conjugate there, D*(y) = max_x <x, y> - D(x), whose gradient is the maximiser x.
On the simplex its Hessian has the form ``diag(w) - w w' / sum(w)``: a weighted covariance. A new divergence is one
subclass.

Shapes: n coordinates; m groups of them (the states, where the coordinates are state-action pairs).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import scipy
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator

from reps_opt.metrics import Metric
from reps_opt.processes.graph import IntArray
from reps_opt.tolerances import CLOSE, CLOSE_EXPONENTS, LAST_PLACE, REMEMBERED, ROUNDING, TINY
from reps_opt.validation import FloatArray, InputError, check_nonnegative, read_only
from reps_opt.values import frozen
from reps_opt.vectors import inner, largest, one_norm


@frozen()
class Conjugate:
    """Value and derivatives of a conjugate D* at one point y.

    Attributes
    ----------
    value : float
        ``D*(y)``.
    point : (n,) array
        Gradient: the maximiser x of ``<x, y> - D(x)`` over the simplex.
    weights : (n,) array
        Curvature w >= 0: the Hessian is ``diag(w) - w w' / sum(w)``.
    normaliser : float
        Multiplier of ``sum x = 1`` in that maximisation.
    """

    value: float
    point: FloatArray
    weights: FloatArray
    normaliser: float

    def hessian(self, direction: FloatArray) -> FloatArray:
        """Hessian of D* times a direction (n,)."""
        total = one_norm(self.weights)
        mean = inner(self.weights, direction) / total if total > 0 else 0.0
        return self.weights * (direction - mean)


def group_max(values: FloatArray, group: IntArray, n_groups: int) -> FloatArray:
    """Largest value (m,) of each group."""
    top = np.full(n_groups, -np.inf)
    np.maximum.at(top, group, values)
    return top


def softmax_within(exponent: FloatArray, group: IntArray, n_groups: int) -> tuple[FloatArray, FloatArray]:
    """Softmax (n,) of the exponents within each group, and the groups' log partition functions (m,)."""
    top: Any = float(np.maximum.reduce(exponent))
    if top - np.minimum.reduce(exponent) <= CLOSE_EXPONENTS:
        weight = np.exp(exponent - top)
    else:
        top = group_max(exponent, group, n_groups)
        weight = np.exp(exponent - top[group])
    total = np.bincount(group, weights=weight, minlength=n_groups)
    return weight / total[group], top + np.log(total)


def _differences(function: Callable[[FloatArray], Any], x: FloatArray, noise: float) -> FloatArray:
    """Central differences (n, ...) in every coordinate of a function known up to a relative noise.

    Their error, ``step^2 + noise / step``, is least at about its cube root (Nocedal and Wright 2006, section 8.1).
    """
    steps = np.diag(math.cbrt(noise) * np.where(x > 0, x, 1.0))
    return np.array([(function(x + step) - function(x - step)) / (2 * step.sum()) for step in steps])


class Divergence(ABC):
    """A convex function on its domain, with its minimiser ``reference`` and its conjugate.

    ``simplex`` says whether the domain is the simplex or all of R^n.
    """

    reference: FloatArray
    simplex: bool = True

    truncates: bool = False
    """Whether the maximiser of the conjugate can be exactly zero where the reference is positive."""

    parametric: bool = False
    """Whether ``expression`` and ``dual_constraints`` take the reference as a last argument, for a ``cvxpy.Parameter``
    in its place that keeps CVXPY's rules of parametrised programs (DPP)."""

    smooth: bool = True
    """Whether the conjugate is differentiable, as methods that descend the dual need."""

    pinsker: bool = False
    """Whether D is convex enough for Pinsker's inequality: its Bregman divergence between two points of the simplex is
    at least twice their total variation squared."""

    def check(self, name: str) -> None:  # noqa: B027 (most have nothing to check)
        """Raise ValueError, by that name, for a reference that D is not defined for."""

    @property
    def bounded(self) -> bool:
        """Whether D is finite somewhere, given the mass of the reference that is out of reach."""
        return True

    @property
    def finite_at_zero(self) -> bool:
        """Whether D stays finite where x vanishes and the reference does not."""
        return True

    @property
    def largest(self) -> float:
        """An upper bound on D over the simplex: a ball of that radius never binds."""
        return float("inf")

    @abstractmethod
    def value(self, x: FloatArray) -> float:
        """D(x); infinite outside the domain."""

    def gradient(self, x: FloatArray) -> FloatArray:
        """Gradient (n,) of D at a positive x; by central differences where a subclass has no better."""
        return _differences(self.value, x, LAST_PLACE)

    def hessian(self, x: FloatArray) -> Any:
        """Hessian (n, n) of D at a positive x: an array, a sparse one or an operator; by differences likewise."""
        hessian = _differences(self.gradient, x, CLOSE)
        return (hessian + hessian.T) / 2

    @abstractmethod
    def conjugate(self, y: FloatArray) -> Conjugate:
        """D* and its derivatives at y (n,)."""

    def within(self, y: FloatArray, group: IntArray, n_groups: int) -> FloatArray:
        """Conditionals (n,) of the maximiser at y within each group; the best coordinates of a group without mass."""
        point = self.conjugate(y).point
        mass = np.bincount(group, weights=point, minlength=n_groups)[group]
        best = self.reference * (y >= group_max(y, group, n_groups)[group])
        best_mass = np.bincount(group, weights=best, minlength=n_groups)[group]
        return np.where(mass > 0, point / np.where(mass > 0, mass, 1.0), best / best_mass)

    def reach(self, y: FloatArray, room: float, centre: FloatArray) -> float:
        """Bound on ``<x - centre, y>`` over the x with D(x) <= D(centre) + room, the centre (n,) being the point of
        the rows that is closest to the reference; infinite where none is known."""
        return math.inf

    def highest(self, y: FloatArray) -> float:
        """Largest <x, y> over the domain: what ``eta D*(y / eta)`` tends to as eta vanishes."""
        return float(y.max())

    @abstractmethod
    def expression(self, cp: Any, x: Any) -> Any:
        """D(x) as a CVXPY expression of the CVXPY variable x; ``cp`` is the cvxpy module."""

    @abstractmethod
    def dual_constraints(self, cp: Any, y: Any, eta: Any) -> dict[str, Any]:
        """Labelled CVXPY constraints that say ``eta D*(y / eta) <= 0``, y holding the normaliser already."""


class KL(Divergence):
    r"""Relative entropy :math:`KL(x\|q) = \sum_i x_i \log(x_i / q_i)`, in nats.

    On the simplex :math:`D^*(y) = \log \sum_i q_i e^{y_i}`, :math:`x = q e^y / \sum q e^y` and :math:`w = x`.

    Parameters
    ----------
    reference
        q (n,), non-negative. It may sum to less than one, when part of a distribution is out of reach. Where it is
        zero, D is infinite as soon as x has mass there.
    log_reference
        log q (n,), where it is known better than q, which may have underflowed; computed from q by default.

    Examples
    --------
    >>> import numpy as np
    >>> ball = KL(np.array([0.5, 0.5]))
    >>> x = ball.conjugate(np.array([np.log(3.0), 0.0])).point
    >>> x
    array([0.75, 0.25])
    >>> round(ball.value(x), 6)
    0.130812
    """

    pinsker = True
    parametric = True

    def __init__(self, reference: FloatArray, log_reference: FloatArray | None = None) -> None:
        self.reference = read_only(reference)
        if log_reference is None:
            with np.errstate(divide="ignore"):
                log_reference = np.log(reference)
        self.log_reference = log_reference

    def check(self, name: str) -> None:
        check_nonnegative(self.reference, f"{name}.reference")
        if not self.reference.any() and not np.isfinite(self.log_reference).any():
            raise InputError(f"{name}.reference must be positive somewhere: all its values are zero")

    @property
    def largest(self) -> float:
        return -float(self.log_reference.min())

    def value(self, x: FloatArray) -> float:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value = float(x.dot(np.log(x / self.reference)))
        if not value < math.inf:  # an entry that is not positive, or a reference that has underflowed
            value = float(scipy.special.kl_div(x, self.reference).sum() + (x.sum() - self.reference.sum()))
        if value == math.inf and x.min() >= 0:  # by logarithms, where the reference has underflowed
            taken = x > 0
            value = float(x[taken] @ (np.log(x[taken]) - self.log_reference[taken]))
        return max(value, 0.0) if value > -ROUNDING else value  # not below zero by rounding: a price may multiply it

    def gradient(self, x: FloatArray) -> FloatArray:
        return np.log(np.maximum(x, TINY)) - self.log_reference + 1.0

    def hessian(self, x: FloatArray) -> Any:
        return sp.diags_array(1.0 / np.maximum(x, TINY))

    def conjugate(self, y: FloatArray) -> Conjugate:
        exponent = self.log_reference + y
        top = largest(exponent)
        point = np.exp(exponent - top)
        total = float(np.add.reduce(point))  # pairwise: the mass is right to the last place however many there are
        point /= total
        normaliser = top + math.log(total)
        return Conjugate(normaliser, point, point, normaliser)

    def reach(self, y: FloatArray, room: float, centre: FloatArray) -> float:
        """Pinsker's inequality, which holds around any centre too: ``KL(x || centre) <= D(x) - D(centre)``."""
        return math.sqrt(room / 2) * float(np.ptp(y))

    def within(self, y: FloatArray, group: IntArray, n_groups: int) -> FloatArray:
        """Softmax of ``log q + y`` within each group, by log-sum-exp: right where masses underflow."""
        return softmax_within(self.log_reference + y, group, n_groups)[0]

    def expression(self, cp: Any, x: Any, reference: Any = None) -> Any:
        if reference is None and (zero := self.log_reference == -math.inf).any():  # x is zero there: no cone to pose
            return cp.sum(cp.rel_entr(x[~zero], self.reference[~zero]))
        return cp.sum(cp.rel_entr(x, self.reference if reference is None else reference))

    def dual_constraints(self, cp: Any, y: Any, eta: Any, reference: Any = None) -> dict[str, Any]:
        scaled = cp.Variable(self.reference.size, name="partition")  # >= eta exp(y / eta)
        return {
            "kl": cp.ExpCone(y, eta * np.ones(self.reference.size), scaled),
            "normalisation": (self.reference if reference is None else reference) @ scaled <= eta,
        }


class NoBall(Divergence):
    r"""No divergence at all: D = 0 on the simplex, so that :math:`D^*(y) = \max_i y_i` (a linear program)."""

    def __init__(self, size: int) -> None:
        self.reference = read_only(np.full(size, 1.0 / size))

    def value(self, x: FloatArray) -> float:
        return 0.0 if np.all(x >= 0) else float("inf")

    def conjugate(self, y: FloatArray) -> Conjugate:
        top = float(y.max())
        point = (y == top) / np.count_nonzero(y == top)
        return Conjugate(top, point, np.zeros_like(y), top)

    def expression(self, cp: Any, x: Any) -> Any:
        return None

    def dual_constraints(self, cp: Any, y: Any, eta: Any) -> dict[str, Any]:
        return {"normalisation": y <= 0}


@lru_cache(maxsize=REMEMBERED)
def _origin(size: int) -> FloatArray:
    return read_only(np.zeros(size))


@frozen()
class QuadraticConjugate(Conjugate):
    """Conjugate of a quadratic: no normaliser and no weights, its Hessian is the inverse of the metric."""

    metric: Metric

    def hessian(self, direction: FloatArray) -> FloatArray:
        return self.metric.solve(direction)


class Quadratic(Divergence):
    r"""Half a squared length, :math:`D(x) = \tfrac12 x'Fx` on all of :math:`R^n`, in nats where F is a Fisher matrix.

    :math:`D^*(y) = \tfrac12 y'F^{-1}y` with the maximiser :math:`x = F^{-1}y`. It is the second-order model of a KL
    divergence in the parameters of a policy.

    Parameters
    ----------
    metric
        F, as a :class:`~reps_opt.metrics.Metric`. Where it is applied by products only, ``conjugate`` gives an upper
        bound on D*, so that weak duality holds all the same.
    size
        n.

    Examples
    --------
    >>> from reps_opt.metrics import Dense
    >>> ball = Quadratic(Dense([[2.0, 0.0], [0.0, 8.0]]), 2)
    >>> ball.conjugate(np.array([2.0, 4.0])).point
    array([1. , 0.5])
    >>> ball.value(np.array([1.0, 0.5]))
    2.0
    """

    simplex = False

    def __init__(self, metric: Metric, size: int) -> None:
        self.metric = metric
        self.reference = _origin(size)

    def value(self, x: FloatArray) -> float:
        return 0.5 * float(x.dot(self.gradient(x)))

    def gradient(self, x: FloatArray) -> FloatArray:
        """F x, remembered for an array that nobody can write to: a certificate asks twice, and products can be dear."""
        last: tuple[FloatArray, FloatArray] | None = self.__dict__.get("_last")
        if last is not None and last[0] is x:
            return last[1]
        product = self.metric.product(x)
        self.remember(x, product)
        return product

    def remember(self, x: FloatArray, product: FloatArray) -> None:
        """Keep F x, unless somebody may write to x."""
        if x.base is None and not x.flags.writeable:
            self.__dict__["_last"] = (x, product)

    def hessian(self, x: FloatArray) -> LinearOperator:
        n = self.reference.size
        return LinearOperator((n, n), matvec=lambda d: self.metric.product(np.ravel(d)), dtype=np.float64)

    def conjugate(self, y: FloatArray) -> QuadraticConjugate:
        point = self.metric.solve(y)
        return QuadraticConjugate(self.metric.conjugate_bound(y, point), point, np.zeros(0), 0.0, self.metric)

    def highest(self, y: FloatArray) -> float:
        return float("inf") if np.any(y) else 0.0

    def reach(self, y: FloatArray, room: float, centre: FloatArray) -> float:
        """Cauchy and Schwarz: the ball is an ellipsoid."""
        return math.sqrt(4 * room * self.conjugate(y).value) if room > 0 else 0.0

    def expression(self, cp: Any, x: Any) -> Any:
        return 0.5 * cp.sum_squares(self.metric.root(self.reference.size).T @ x)

    def dual_constraints(self, cp: Any, y: Any, eta: Any, height: Any = 0.0) -> dict[str, Any]:
        """``|z|^2 / (2 eta) <= height`` with ``R z = y`` for the root R of the metric, F = R R'."""
        root = self.metric.root(self.reference.size)
        whitened = cp.Variable(root.shape[1], name="whitened")
        return {"whitening": root @ whitened == y, "ball": 0.5 * cp.quad_over_lin(whitened, eta) <= height}
