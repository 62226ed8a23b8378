"""A feature matrix seen through passes over its rows: the one oracle of the sample dual, in memory or out of core.

Everything a solver asks is a sum over rows, so that one interface serves NumPy arrays and, in
:mod:`reps_opt.dask_rows`, arrays larger than memory. Vectors over the samples are kept in memory, the matrix need not.

Shapes: N samples, d features; ``matrix`` is X (N, d); coefficients and totals are (d,), values and weights (N,).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple, Self

import numpy as np

from reps_opt.threads import in_parallel
from reps_opt.tolerances import CHUNK_BYTES, HUGE, PASSES_PER_GRAM
from reps_opt.validation import FloatArray


def spending(passes: float, grams: float) -> dict[str, float]:
    """Passes, Grams, and both in units of one Gram."""
    spent = grams + passes / PASSES_PER_GRAM
    return {"passes": math.ceil(passes), "grams": round(grams, 4), "gram_equivalents": round(spent, 4)}


def chunks(n: int, d: int, n_bytes: int = CHUNK_BYTES) -> list[slice]:
    """Slices of n consecutive rows of d numbers, of so many bytes each."""
    step = max(1, n_bytes // (8 * max(d, 1)))
    return [slice(first, min(first + step, n)) for first in range(0, n, step)]


class Summary(NamedTuple):
    """Columns: root mean square under weights that sum to one, and largest magnitude, each (d,)."""

    root_mean_square: FloatArray
    largest: FloatArray


class Tilted(NamedTuple):
    """A softmax over the rows, and what its derivatives need.

    Attributes
    ----------
    net : (N,) array
        ``offset - X theta``.
    point : (N,) array
        ``softmax(log_base + net / eta)``; not to be written to.
    normaliser : float
        ``log sum exp(log_base + net / eta)``.
    total : (d,) array
        ``X' point``.
    coupling : (d,) array
        ``X' (point * (s - <point, s>))`` with ``s = net / eta``: the covariance of the columns with s.
    """

    net: FloatArray
    point: FloatArray
    normaliser: float
    total: FloatArray
    coupling: FloatArray


class TiltedBlock(NamedTuple):
    """Some rows' part of a :class:`Tilted`, relative to their own largest exponent ``top``: see :func:`merged`.

    ``weights`` (n,) are ``exp(exponent - top)``; ``sums`` (2, d) are the columns' totals under them, and under them
    times ``net / eta - top``.
    """

    net: FloatArray
    weights: FloatArray
    top: float
    sums: FloatArray


def tilted_block(
    block: FloatArray, theta: FloatArray, offset: FloatArray, log_base: FloatArray, eta: float
) -> TiltedBlock:
    """Both products of an evaluation while the rows are in the cache."""
    net = offset - block @ theta
    pair = np.empty((2, net.size))
    weights, spread = pair
    np.divide(net, eta, out=spread)
    np.add(log_base, spread, out=weights)
    top = float(weights.max())
    weights -= top
    np.exp(weights, out=weights)
    spread -= top
    spread *= weights
    return TiltedBlock(net, weights, top, pair @ block)


def merged(blocks: list[TiltedBlock], eta: float) -> Tilted:
    """One softmax from those of consecutive blocks: each is scaled down by how far its top is below the highest.

    References
    ----------
    Milakov, Gimelshein (2018), *Online normalizer calculation for softmax*, algorithm 3.
    """
    top = max(block.top for block in blocks)
    factors = [math.exp(block.top - top) for block in blocks]
    net = np.concatenate([block.net for block in blocks])
    point = np.concatenate([block.weights for block in blocks])
    ends = np.cumsum([block.weights.size for block in blocks[:-1]])
    for part, factor in zip(np.split(point, ends), factors, strict=True):
        part *= factor
    mass = float(point.sum())
    point /= mass
    total, spread = np.zeros((2, blocks[0].sums.shape[1]))
    for block, factor in zip(blocks, factors, strict=True):
        share = factor / mass
        total += share * block.sums[0]
        spread += share * (block.sums[1] + (block.top - top) * block.sums[0])
    point.flags.writeable = False
    mean = float(point @ net) / eta - top
    return Tilted(net, point, top + math.log(mass), total, spread - mean * total)


class Rows(ABC):
    """X (N, d) as an operator that counts: ``rows @ theta``, ``rows.T @ weights``, covariance products and Grams.

    ``passes`` counts passes over the matrix (its two products are one pass, either alone is half of one), ``grams``
    the Gram matrices. Whoever works on some of the rows adds that fraction of either, and of a pass to gather them.
    """

    shape: tuple[int, int]

    def __init__(self) -> None:
        self.passes = 0.0
        self.grams = 0.0
        self._known: tuple[FloatArray, FloatArray] | None = None

    @property
    def T(self) -> Transposed:  # noqa: N802
        """The transpose (d, N)."""
        return Transposed(self)

    def __matmul__(self, theta: FloatArray) -> FloatArray:
        """X theta (N,)."""
        self.passes += 0.5
        return self._combine(theta)

    def total(self, weights: FloatArray) -> FloatArray:
        """X' weights (d,); known already for the weights that the last :meth:`tilt` gave."""
        known = self._known  # read once: another thread may put its own there
        if known is not None and weights is known[0]:
            return known[1]
        self.passes += 0.5
        return self._total(weights)

    def tilt(self, theta: FloatArray, offset: FloatArray, log_base: FloatArray, eta: float) -> Tilted:
        """A softmax over the rows with its totals, in one pass: all that one evaluation of a dual takes."""
        self.passes += 1.0
        tilted = merged(self._tilt(theta, offset, log_base, eta), eta)
        self._known = (tilted.point, tilted.total)
        return tilted

    def spread(self, theta: FloatArray, weights: FloatArray, mean: float = 0.0) -> FloatArray:
        """X' diag(weights) (X theta - mean) (d,), in one pass: the covariance times theta."""
        self.passes += 1.0
        return self._spread(theta, weights, mean)

    def gram(self, weights: FloatArray) -> FloatArray:
        """X' diag(weights) X (d, d)."""
        self.grams += 1.0
        return self._gram(weights)

    @property
    def array(self) -> FloatArray:
        """All of X in memory."""
        return self.take(np.arange(self.shape[0]))

    def fresh(self) -> Self:
        """The same rows, with counters of their own."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, passes=0.0, grams=0.0, _known=None)
        return twin

    @abstractmethod
    def take(self, index: np.ndarray) -> FloatArray:
        """The rows at increasing positions, as an array (k, d)."""

    def scaled(self, factors: FloatArray) -> Rows:
        """The rows with every column multiplied by its factor (d,); a view of them, unless squares would vanish."""
        size = np.abs(factors)
        moderate = size.size == 0 or (size.min() > 1 / HUGE and size.max() < HUGE)
        return ScaledRows(self, factors) if moderate else self.combined(np.diag(factors))

    @abstractmethod
    def combined(self, directions: FloatArray) -> Rows:
        """The rows X directions (N, k) of directions (d, k)."""

    def squared_lengths(self, directions: FloatArray) -> FloatArray:
        """Squared length (N,) of every row of X times directions (d, k)."""
        return np.square(self.combined(directions).array).sum(axis=1)

    @abstractmethod
    def summary(self, weights: FloatArray) -> Summary:
        """Weighted statistics of the columns."""

    @abstractmethod
    def _combine(self, theta: FloatArray) -> FloatArray: ...

    @abstractmethod
    def _total(self, weights: FloatArray) -> FloatArray: ...

    @abstractmethod
    def _tilt(self, theta: FloatArray, offset: FloatArray, log_base: FloatArray, eta: float) -> list[TiltedBlock]: ...

    @abstractmethod
    def _spread(self, theta: FloatArray, weights: FloatArray, mean: float) -> FloatArray: ...

    @abstractmethod
    def _gram(self, weights: FloatArray) -> FloatArray: ...

    def triangle(self) -> FloatArray:
        """R (d, d) of a QR factorisation of X, for its rank; about two Grams."""
        self.grams += 2.0
        return self._triangle()

    @abstractmethod
    def _triangle(self) -> FloatArray: ...


class Transposed:
    """X' (d, N) of some rows; all it knows is ``@``, ``.T`` and its shape."""

    def __init__(self, rows: Rows) -> None:
        self.T = rows
        self.shape = rows.shape[::-1]

    def __matmul__(self, weights: FloatArray) -> FloatArray:
        return self.T.total(weights)


class ArrayRows(Rows):
    """Rows held in one array in memory.

    Parameters
    ----------
    matrix
        X (N, d), C-contiguous.

    Examples
    --------
    >>> rows = ArrayRows(np.array([[1.0, 0.0], [2.0, 1.0]]))
    >>> rows @ np.array([1.0, 1.0]), rows.T @ np.array([1.0, -1.0])
    (array([1., 3.]), array([-1., -1.]))
    >>> rows.spread(np.array([1.0, 1.0]), weights=np.array([1.0, 3.0]))
    array([19., 9.])
    >>> rows.passes
    2.0
    """

    def __init__(self, matrix: FloatArray) -> None:
        super().__init__()
        self.matrix = matrix
        self.shape = matrix.shape

    def take(self, index: np.ndarray) -> FloatArray:
        return self.matrix[index]

    def chunks(self, n_bytes: int = CHUNK_BYTES) -> list[slice]:
        """Slices of consecutive rows."""
        return chunks(*self.shape, n_bytes)

    def combined(self, directions: FloatArray) -> ArrayRows:
        return ArrayRows(self.matrix @ directions)

    def summary(self, weights: FloatArray) -> Summary:
        return combined_summary([block_summary(self.matrix[place], weights[place]) for place in self.chunks()])

    def _combine(self, theta: FloatArray) -> FloatArray:
        return self.matrix @ theta

    def _total(self, weights: FloatArray) -> FloatArray:
        return weights @ self.matrix

    def _tilt(self, theta: FloatArray, offset: FloatArray, log_base: FloatArray, eta: float) -> list[TiltedBlock]:
        return [tilted_block(self.matrix[p], theta, offset[p], log_base[p], eta) for p in self.chunks()]

    def _spread(self, theta: FloatArray, weights: FloatArray, mean: float) -> FloatArray:
        total = np.zeros(self.shape[1])
        for place in self.chunks():
            block = self.matrix[place]
            total += (weights[place] * (block @ theta - mean)) @ block
        return total

    def _gram(self, weights: FloatArray) -> FloatArray:
        total = np.zeros((self.shape[1], self.shape[1]))
        for part in in_parallel(lambda p: _gram(self.matrix[p], weights[p]), self.chunks(16 * CHUNK_BYTES)):
            total += part
        return total

    def _triangle(self) -> FloatArray:
        triangle = np.zeros((0, self.shape[1]))
        for place in self.chunks(64 * CHUNK_BYTES):
            triangle = np.asarray(np.linalg.qr(np.vstack([triangle, self.matrix[place]]), mode="r"))
        return triangle


class ScaledRows(Rows):
    """Rows with every column multiplied by a factor, which is applied to coefficients and totals instead.

    Parameters
    ----------
    inner
        The rows (N, d) themselves.
    factors
        (d,), within :data:`LARGEST_FACTOR` of one.
    """

    def __init__(self, inner: Rows, factors: FloatArray) -> None:
        super().__init__()
        self.inner, self.factors, self.shape = inner, factors, inner.shape

    def take(self, index: np.ndarray) -> FloatArray:
        return self.inner.take(index) * self.factors

    def scaled(self, factors: FloatArray) -> Rows:
        return self.inner.scaled(self.factors * factors)

    def combined(self, directions: FloatArray) -> Rows:
        return self.inner.combined(self.factors[:, None] * directions)

    def summary(self, weights: FloatArray) -> Summary:
        rms, largest = self.inner.summary(weights)
        return Summary(rms * np.abs(self.factors), largest * np.abs(self.factors))

    def _combine(self, theta: FloatArray) -> FloatArray:
        return self.inner._combine(self.factors * theta)

    def _total(self, weights: FloatArray) -> FloatArray:
        return self.factors * self.inner._total(weights)

    def _tilt(self, theta: FloatArray, offset: FloatArray, log_base: FloatArray, eta: float) -> list[TiltedBlock]:
        blocks = self.inner._tilt(self.factors * theta, offset, log_base, eta)
        return [block._replace(sums=block.sums * self.factors) for block in blocks]

    def _spread(self, theta: FloatArray, weights: FloatArray, mean: float) -> FloatArray:
        return self.factors * self.inner._spread(self.factors * theta, weights, mean)

    def _gram(self, weights: FloatArray) -> FloatArray:
        return self.inner._gram(weights) * np.outer(self.factors, self.factors)

    def _triangle(self) -> FloatArray:
        return self.inner._triangle() * self.factors


def block_summary(block: FloatArray, weights: FloatArray) -> Summary:
    """Root of the weighted sum of squares and largest magnitude of some rows' columns, without over- or underflow."""
    largest = np.maximum(block.max(axis=0), -block.min(axis=0))
    safe = np.where(largest > 0, largest, 1.0)
    scaled = block / safe
    np.square(scaled, out=scaled)
    return Summary(safe * np.sqrt(weights @ scaled), largest)


def combined_summary(parts: list[Summary]) -> Summary:
    """Summary of all rows from those of their blocks."""
    roots = np.array([part.root_mean_square for part in parts])
    top = roots.max(axis=0)
    safe = np.where(top > 0, top, 1.0)
    return Summary(
        safe * np.sqrt(np.square(roots / safe).sum(axis=0)), np.max([part.largest for part in parts], axis=0)
    )


def _gram(block: FloatArray, weights: FloatArray) -> FloatArray:
    scaled = block * np.sqrt(weights)[:, None]
    return scaled.T @ scaled  # the same array twice: BLAS computes one triangle only


def spectrum(triangle: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Singular values (d,), falling, and right singular vectors (d, d), of X with QR factor ``triangle``."""
    _, singular, vectors = np.linalg.svd(triangle)
    full = np.zeros(vectors.shape[0])
    full[: singular.size] = singular
    return full, vectors.T
