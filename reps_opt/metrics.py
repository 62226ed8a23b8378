"""Metrics: a positive semidefinite F (P, P) as data, whatever form it comes in, with products, solves and bounds.

A metric measures a step s by ``s'Fs / 2``: for a Fisher matrix the KL divergence to second order, in nats. It may be
the identity, a dense array, the Jacobian factors of one, or no more than a function that multiplies by it.

Shapes: P parameters, N samples; steps and gradients are (P,), or (P, k) for k right-hand sides at once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Self

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.linalg.blas import dtrsv
from scipy.linalg.lapack import dpotrf, dpotrs, dtrtrs

from reps_opt.conjugate_gradient import conjugate_gradient
from reps_opt.tolerances import CLOSE, REMEMBERED, ROUNDING, SYMMETRY_TOLERANCE
from reps_opt.validation import (
    FLOAT64,
    FloatArray,
    InputError,
    as_float_array,
    as_scalar,
    check_nonnegative,
    check_shape,
    read_only,
)
from reps_opt.values import cached_property, same
from reps_opt.vectors import least


class Metric(ABC):
    """A positive semidefinite matrix F, ``damping`` times the identity included."""

    damping: float = 0.0
    size: int | None = None
    by_products: bool = False
    """Whether products are all that is known."""
    factorisations: int = 0
    """Factorisations made so far."""

    @property
    def precondition(self) -> Callable[[FloatArray], FloatArray] | None:
        """Where known, an approximation of ``y -> F^-1 y`` that is cheap, symmetric and positive definite."""
        return None

    def __eq__(self, other: object) -> bool:
        """Whether the other holds the same data: what is computed from them does not count."""
        if not isinstance(other, Metric) or type(self) is not type(other):
            return NotImplemented
        return same(self._given, other._given)

    __hash__ = object.__hash__

    @property
    def _given(self) -> dict[str, Any]:
        """What the metric was made of, by attribute, without what has been computed of it."""
        return {name: held for name, held in vars(self).items() if name not in _computed(type(self))}

    @abstractmethod
    def product(self, s: FloatArray) -> FloatArray:
        """F s, for s (P,) or (P, k)."""

    @abstractmethod
    def solve(self, y: FloatArray) -> FloatArray:
        """F^-1 y, for y (P,) or (P, k); where F is singular, a pseudo-inverse."""

    def damped(self, damping: float) -> Self:
        """The metric F + damping I."""
        other = object.__new__(type(self))
        other.__dict__.update(self._given, damping=self.damping + damping)
        return other

    @abstractmethod
    def root(self, size: int) -> Any:
        """A matrix R (P, r) with F = R R', dense or sparse, for those who pose cones."""

    def triangle(self, size: int) -> FloatArray:
        """Lower-triangular L (P, P) with F = L L', for those who whiten them."""
        raise InputError(f"metric {self!r} has no triangular factor: use the Quadratic solver")

    def half_square(self, s: FloatArray) -> float:
        """``s'Fs / 2``."""
        return 0.5 * float(s.dot(self.product(s)))

    def inverse_squares(self, columns: FloatArray) -> FloatArray:
        """``y'F^-1 y`` of every column y of (P, k)."""
        return np.einsum("pi,pi->i", columns, self.solve(columns))

    def conjugate_bound(self, y: FloatArray, x: FloatArray, product: FloatArray | None = None) -> float:
        r"""Upper bound on :math:`\tfrac12 y'F^{-1}y` from any approximation x of ``F^-1 y``, exact when x is.

        With the residual rho = y - F x it is ``y.x - x'Fx/2 + rho'F^-1 rho / 2``. ``product`` is F x, where known.
        """
        if product is None:
            product = self.product(x)
        return float(y @ x - 0.5 * (x @ product)) + self.residual_bound(y - product, y)

    def residual_bound(self, residual: FloatArray, whole: FloatArray) -> float:
        """Upper bound on ``rho'F^-1 rho / 2`` for what is left of a whole (P,); infinite where F does not see rho.

        A rho that is rounding, beside the largest entry of the whole, need not be seen.
        """
        size = float(np.abs(residual).max(initial=0.0))
        if size == 0:
            return 0.0
        x = self.solve(residual)
        missed = float(np.abs(residual - self.product(x)).max())
        if missed > 0.5 * size and size > CLOSE * float(np.abs(whole).max()):
            return math.inf
        return 0.5 * max(float(residual @ x), 0.0)


class Identity(Metric):
    """The Euclidean metric, F = I: vanilla gradient steps.

    Examples
    --------
    >>> Identity().half_square(np.array([3.0, 4.0]))
    12.5
    """

    def product(self, s: FloatArray) -> FloatArray:
        return (1.0 + self.damping) * s

    def solve(self, y: FloatArray) -> FloatArray:
        return y / (1.0 + self.damping)

    def root(self, size: int) -> Any:
        return math.sqrt(1.0 + self.damping) * sp.eye_array(size)

    def triangle(self, size: int) -> FloatArray:
        return self.root(size).toarray()

    def __repr__(self) -> str:
        return "Identity()"


class Factorised(Metric):
    """What metrics share whose matrix can be formed: one Cholesky factorisation, kept.

    A pivot that vanishes makes F singular: then the factor is an eigendecomposition of F scaled to a unit diagonal, and
    ``solve`` gives the shortest solution in those units, a pseudo-inverse.
    """

    @property
    @abstractmethod
    def matrix(self) -> FloatArray:
        """F (P, P), damping included."""

    @cached_property
    def _lower(self) -> FloatArray | None:
        """L with F = L L' in its lower triangle, column-major; None when F is singular."""
        self.factorisations += 1
        matrix = self.matrix
        lower, info = dpotrf(matrix.T, lower=True, clean=False)  # column-major already, where F is row-major
        if info != 0:
            return None
        pivots, diagonal = lower.diagonal(), matrix.diagonal()
        return lower if least(pivots * pivots / diagonal) > ROUNDING else None

    @cached_property
    def _spectrum(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Scale d, positive eigenvalues and their vectors of ``diag(d) F diag(d)``, whose diagonal is one."""
        diagonal = np.diag(self.matrix)
        scale = 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        values, vectors = np.linalg.eigh(self.matrix * scale[:, None] * scale)
        if values[0] < -SYMMETRY_TOLERANCE * max(values[-1], 0.0):
            raise InputError(f"metric has a negative eigenvalue ({values[0]:.2g} at unit diagonal): add damping")
        kept = values > ROUNDING * max(values[-1], 0.0)
        return scale, values[kept], vectors[:, kept]

    @property
    def rank(self) -> int:
        """Rank of F, to rounding."""
        return len(self.matrix) if self._lower is not None else self._spectrum[1].size

    def product(self, s: FloatArray) -> FloatArray:
        return self.matrix.dot(s)

    def solve(self, y: FloatArray) -> FloatArray:
        lower = self._lower
        if lower is not None:
            if y.ndim > 1:
                return dpotrs(lower, y, lower=True)[0]
            return dtrsv(lower, dtrsv(lower, y, lower=True), lower=True, trans=1)  # half the time
        scale, values, vectors = self._spectrum
        whitened = (vectors.T @ (scale * y.T).T).T / values
        return (scale * (vectors @ whitened.T).T).T

    def inverse_squares(self, columns: FloatArray) -> FloatArray:
        if self._lower is None:
            return super().inverse_squares(columns)
        whitened = dtrtrs(self._lower, columns, lower=True)[0]
        return np.einsum("pi,pi->i", whitened, whitened)

    def residual_bound(self, residual: FloatArray, whole: FloatArray) -> float:
        if self._lower is None:
            return super().residual_bound(residual, whole)
        whitened = dtrsv(self._lower, residual, lower=True)
        return 0.5 * float(whitened.dot(whitened))

    def root(self, size: int) -> Any:
        if self._lower is not None:
            return np.tril(self._lower)
        scale, values, vectors = self._spectrum
        return (vectors * np.sqrt(values)) / scale[:, None]

    def triangle(self, size: int) -> FloatArray:
        if self._lower is None:
            raise InputError(f"metric is singular, of rank {self.rank} for {len(self.matrix)} parameters: add damping")
        return np.tril(self._lower)


class Dense(Factorised):
    """A metric given as an array.

    Parameters
    ----------
    F
        Symmetric positive semidefinite (P, P).

    Raises
    ------
    TypeError, ValueError
        For an array that is not square, not finite, or not symmetric (to 1e-8 of its largest entry), or with a
        negative diagonal entry.
    """

    def __init__(self, F: ArrayLike) -> None:
        plain = isinstance(F, np.ndarray) and F.dtype is FLOAT64 and F.ndim == 2 and F.shape[0] == F.shape[1] > 0
        matrix: FloatArray = F if plain and _looks_symmetric(F) else _as_symmetric(F)  # type: ignore[assignment, arg-type]
        self.size = len(matrix)
        self._matrix = read_only(matrix)

    @cached_property
    def matrix(self) -> FloatArray:
        return read_only(self._matrix + self.damping * np.eye(len(self._matrix))) if self.damping else self._matrix

    def __repr__(self) -> str:
        return f"Dense({self.size} parameters)"


class Factor(Factorised):
    r"""A metric given by factors: :math:`F = \sum_i w_i J_i J_i'`, by default the mean of the rows' outer products.

    Parameters
    ----------
    J
        (N, P): the scores ``policy.score_function(states, actions)``, or the exact ``policy.fisher_factor(states)``.
    weights
        w (N,) >= 0; 1/N by default.

    Notes
    -----
    With fewer rows than parameters and some damping, F is never formed: the systems are solved with the N x N matrix
    ``W^1/2 J J' W^1/2 + damping I`` (Woodbury).

    Examples
    --------
    >>> Factor([[1.0, 0.0], [1.0, 2.0]]).matrix
    array([[1., 1.],
           [1., 2.]])
    """

    def __init__(self, J: ArrayLike, weights: ArrayLike | None = None) -> None:
        rows = as_float_array(J, "J", ("N", "P"))
        n, self.size = rows.shape
        if n == 0:
            raise InputError("J has no rows: a metric needs at least one sample")
        w = np.full(n, 1.0 / n) if weights is None else as_float_array(weights, "weights", (n,))
        check_nonnegative(w, "weights")
        self._rows = read_only(rows * np.sqrt(w)[:, None])

    @property
    def is_wide(self) -> bool:
        """Whether systems are solved in sample space: fewer rows than parameters, and damped."""
        return self.damping > 0 and len(self._rows) < self._rows.shape[1]

    @cached_property
    def matrix(self) -> FloatArray:
        """F (P, P), damping included."""
        matrix = self._rows.T @ self._rows
        matrix[np.diag_indices_from(matrix)] += self.damping
        return matrix

    @cached_property
    def _gram(self) -> FloatArray:
        """Cholesky factor (N, N) of the damped Gram matrix of the rows."""
        self.factorisations += 1
        gram = self._rows @ self._rows.T
        gram[np.diag_indices_from(gram)] += self.damping
        return scipy.linalg.cholesky(gram, lower=True, overwrite_a=True, check_finite=False)

    def product(self, s: FloatArray) -> FloatArray:
        return self._rows.T @ (self._rows @ s) + self.damping * s

    def solve(self, y: FloatArray) -> FloatArray:
        if not self.is_wide:
            return super().solve(y)
        inner = scipy.linalg.cho_solve((self._gram, True), self._rows @ y, check_finite=False)
        return (y - self._rows.T @ inner) / self.damping

    def inverse_squares(self, columns: FloatArray) -> FloatArray:
        return Metric.inverse_squares(self, columns) if self.is_wide else super().inverse_squares(columns)

    def residual_bound(self, residual: FloatArray, whole: FloatArray) -> float:
        if not self.is_wide:
            return super().residual_bound(residual, whole)
        return 0.5 * float(residual @ residual) / self.damping

    def root(self, size: int) -> Any:
        if self.damping == 0:
            return self._rows.T
        return np.hstack([self._rows.T, math.sqrt(self.damping) * np.eye(size)])

    def with_unit_diagonal(self) -> tuple[Factor, FloatArray]:
        """The metric of steps measured in units u (P,), in which its diagonal is one, and these: ``s = s' / u``.

        Damping it adds a share of its own diagonal to the metric, whatever units the parameters have. A parameter that
        the factors do not see keeps its unit.

        Examples
        --------
        >>> metric, units = Factor([[3.0, 0.0], [4.0, 1e-3]]).with_unit_diagonal()
        >>> metric.matrix.round(6), units.round(6)
        (array([[1. , 0.8],
               [0.8, 1. ]]), array([3.535534, 0.000707]))
        """
        largest = np.abs(self._rows).max(axis=0)
        units = np.where(largest > 0, largest, 1.0)
        scaled = self._rows / units  # first by the largest, whose square may be none
        length = np.sqrt(np.einsum("np,np->p", scaled, scaled))
        length = np.where(length > 0, length, 1.0)
        other = Factor.__new__(Factor)
        other.size, other.damping, other._rows = self.size, 0.0, read_only(scaled / length)
        return other, units * length

    def __repr__(self) -> str:
        return f"Factor({len(self._rows)} rows, {self.size} parameters)"


class Product(Metric):
    """A metric known only by its products, solved by conjugate gradient.

    Parameters
    ----------
    fn
        Returns F v for v (P,), for instance a Fisher-vector product.
    smallest
        A known lower bound >= 0 on the eigenvalues of F. Damping adds to it; as long as the sum is zero there is no
        bound on D*, and no solution can be certified.
    preconditioner
        ``preconditioner(y, damping)`` approximates ``(F + damping I)^-1 y`` by a symmetric positive definite matrix. It
        saves products and changes no bound.
    """

    by_products = True

    def __init__(
        self,
        fn: Callable[[FloatArray], ArrayLike],
        smallest: float = 0.0,
        preconditioner: Callable[[FloatArray, float], FloatArray] | None = None,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"fn must be a function of a vector, got {type(fn).__name__}")
        if preconditioner is not None and not callable(preconditioner):
            raise TypeError(f"preconditioner must be a function, got {type(preconditioner).__name__}")
        self.fn = fn
        self.smallest = as_scalar(smallest, "smallest", low=0.0)
        self.preconditioner = preconditioner

    @property
    def precondition(self) -> Callable[[FloatArray], FloatArray] | None:
        """See :class:`Metric`; kept by nobody, so that what the products hold is freed with the last reference."""
        return None if self.preconditioner is None else self._precondition

    def _precondition(self, y: FloatArray) -> FloatArray:
        assert self.preconditioner is not None
        moved = as_float_array(self.preconditioner(y, self.damping), "preconditioner(y, damping)")
        check_shape(moved, "preconditioner(y, damping)", y.shape)
        return moved

    def product(self, s: FloatArray) -> FloatArray:
        if s.ndim == 2:
            return np.column_stack([self.product(column) for column in s.T])
        moved = as_float_array(self.fn(s), "fn(v)")
        check_shape(moved, "fn(v)", s.shape)
        return moved + self.damping * s

    def solve(self, y: FloatArray) -> FloatArray:
        if y.ndim == 2:
            return np.column_stack([self.solve(column) for column in y.T])
        return conjugate_gradient(self.product, y, precondition=self.precondition).solution

    def root(self, size: int) -> Any:
        raise InputError("metric is known by its products only: no cone can be posed, use the Quadratic solver")

    def residual_bound(self, residual: FloatArray, whole: FloatArray) -> float:
        least = self.smallest + self.damping
        squared = float(residual @ residual)
        if squared == 0:
            return 0.0
        return 0.5 * squared / least if least > 0 else math.inf

    def __repr__(self) -> str:
        return "Product()"


def as_metric(metric: Metric | ArrayLike, size: int) -> Metric:
    """A metric for ``size`` parameters: given as one, or as a dense array."""
    plain = type(metric) is np.ndarray  # an abstract class takes long to be told apart from
    found: Metric = Dense(metric) if plain or not isinstance(metric, Metric) else metric  # type: ignore[arg-type]
    if found.size is not None and found.size != size:
        raise InputError(f"metric must have {size} parameters, as the gradient has, got {found.size}")
    return found


@lru_cache(maxsize=REMEMBERED)
def _computed(kind: type) -> set[str]:
    """Attributes of a kind of metric that are computed from its others."""
    attributes = [pair for part in kind.__mro__ for pair in vars(part).items()]
    return {"factorisations", *(name for name, held in attributes if isinstance(held, cached_property))}


@lru_cache(maxsize=REMEMBERED)
def _probe(n: int) -> FloatArray:
    """A vector (n,) without zeros that no symmetry of a matrix is likely to share."""
    return np.cos(np.arange(1.0, n + 1))


def _looks_symmetric(matrix: FloatArray) -> bool:
    """Whether F v equals F'v for one v, and the diagonal is >= 0: two products, where the entries take several passes.

    Where they differ by much beside an entry of the diagonal, on which the largest of a semidefinite matrix is, or are
    not finite, the entries are to be looked at.
    """
    probe, diagonal = _probe(len(matrix)), matrix.diagonal()
    right, left = matrix.dot(probe), probe.dot(matrix)
    if not math.isfinite(probe.dot(right)):
        return False
    difference = right - left
    size = math.sqrt(difference.dot(difference))
    return size <= SYMMETRY_TOLERANCE * float(diagonal[0]) and least(diagonal) >= 0


def _as_symmetric(F: ArrayLike) -> FloatArray:
    """F as an array (P, P), or an error that says which entry is wrong."""
    matrix = as_float_array(F, "metric", ("P", "P"))
    n = len(matrix)
    if matrix.shape[1] != n:
        raise InputError(f"metric must have shape (P, P), got {matrix.shape}")
    if n == 0 or _looks_symmetric(matrix):
        return matrix
    diagonal = np.diag(matrix)
    if np.any(diagonal < 0):
        i = int(np.argmax(diagonal < 0))
        raise InputError(f"metric[{i}, {i}] is {diagonal[i]:g}: a positive semidefinite matrix has none below zero")
    largest = max(float(matrix.max()), -float(matrix.min()))
    asymmetry = np.abs(matrix - matrix.T)
    i, j = divmod(int(asymmetry.argmax()), n)
    if asymmetry[i, j] > SYMMETRY_TOLERANCE * largest:
        raise InputError(f"metric must be symmetric: [{i}, {j}] is {matrix[i, j]:g}, [{j}, {i}] is {matrix[j, i]:g}")
    return matrix
