"""Compiled Gaussian-process policies: mean, variance and sample of one state in a few NumPy calls.

Shapes: M basis functions, r rows of the posterior's root, e embedded columns, k action dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from policies.actors import Basis
from policies.gp_posterior import Posterior
from policies.kernels import Embedding
from reps_opt.validation import FloatArray


@dataclass(frozen=True)
class SquaredExponentialMoments:
    """Posterior moments with the kernel's distances expanded: two matrix-vector products and one exponential.

    ``k_j = exp(z_j'x - |z_j|^2/2 - |x|^2/2)`` at embedded, centred x and z (M, e); then ``[alpha'; root] k``.
    """

    embedding: Embedding
    centre: FloatArray
    points: FloatArray
    half_norms: FloatArray
    table: FloatArray
    noise: float
    k: int

    @classmethod
    def build(cls, posterior: Posterior) -> SquaredExponentialMoments:
        """Fold kernel, alpha and root into two tables."""
        kernel = posterior.basis.kernel
        states = posterior.basis.centres  # type: ignore[union-attr]
        embedding = kernel.embedding(states.shape[1])
        columns = embedding(states)
        centre = columns.mean(axis=0)
        points = columns - centre
        table = np.ascontiguousarray(np.vstack([posterior.alpha.T, posterior.root]))
        half = 0.5 * np.sum(points**2, axis=1)
        return cls(embedding, centre, points, half, table, posterior.noise, posterior.alpha.shape[1])

    def __call__(self, state: FloatArray) -> tuple[FloatArray, float]:
        """Mean (k,), and variance in units of v."""
        x = self.embedding(state) - self.centre
        exponent = self.points.dot(x)  # of vectors, @ takes twice as long to begin
        exponent -= self.half_norms
        exponent -= 0.5 * x.dot(x)
        out = self.table.dot(np.exp(exponent, out=exponent))
        explained = out[self.k :]
        return out[: self.k], max(1.0 - float(explained.dot(explained)), 0.0) + self.noise


@dataclass(frozen=True)
class GenericMoments:
    """Posterior moments through any kernel's own code."""

    posterior: Posterior

    def __call__(self, state: FloatArray) -> tuple[FloatArray, float]:
        """Mean (k,), and variance in units of v."""
        b = self.posterior.basis(state[None])[:, 0]
        explained = self.posterior.root @ b
        prior = float(self.posterior.basis.prior(state[None])[0])
        return b @ self.posterior.alpha, max(prior - float(explained @ explained), 0.0) + self.posterior.noise


@dataclass(frozen=True)
class GPActor:
    """Samples ``offset + unit mean(state) + std(state) noise``, clipped to the action bounds."""

    basis: Basis | None
    moments: SquaredExponentialMoments | GenericMoments
    offset: FloatArray
    unit: FloatArray
    amplitude: FloatArray
    floor: FloatArray
    low: FloatArray
    high: FloatArray

    @cached_property
    def _numbers(self) -> tuple[float, ...] | None:
        """The six arrays as numbers, where there is one action: twice as fast as arrays of one."""
        if len(self.offset) != 1:
            return None
        arrays = self.offset, self.unit, self.amplitude, self.floor, self.low, self.high
        return tuple(float(array.reshape(-1)[0]) for array in arrays)

    def __call__(self, state: ArrayLike, rng: np.random.Generator | None = None) -> FloatArray:
        x = np.asarray(state, dtype=np.float64).reshape(-1)
        mean, variance = self.moments(x if self.basis is None else self.basis(x))
        if self._numbers is not None:
            offset, unit, amplitude, floor, low, high = self._numbers
            value = offset + unit * float(mean[0])
            if rng is not None:
                value += max(amplitude * math.sqrt(variance), floor) * rng.standard_normal()
            return np.full(self.low.shape, min(max(value, low), high))
        action = self.offset + self.unit * mean
        if rng is not None:
            std = np.maximum(self.amplitude * math.sqrt(variance), self.floor)
            action += std * rng.standard_normal(len(std))
        return np.minimum(np.maximum(action.reshape(self.low.shape), self.low), self.high)
