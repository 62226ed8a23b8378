"""Compiled policies: plain NumPy callables ``act(state, rng)`` for roll-outs, one state at a time.

They check nothing and hold only arrays, so that they are fast, and cheap to send to worker processes. A state is any
array of d numbers (an image is flattened); without ``rng`` the actor is deterministic: mean, or most probable action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policies.network import Network
from reps_opt.validation import FloatArray, first_index

Basis = Callable[[FloatArray], FloatArray]
Act = Callable[..., Any]


def check_bounds(
    low: ArrayLike | None, high: ArrayLike | None, action_shape: tuple[int, ...]
) -> tuple[FloatArray, FloatArray]:
    """Bounds broadcast to the action's shape, infinite where absent; an error if low exceeds high or one is NaN."""
    lower, upper = _as_bound(low, "low", -np.inf, action_shape), _as_bound(high, "high", np.inf, action_shape)
    if not np.all(lower <= upper):
        raise ValueError(f"low must not exceed high, got low={low!r} and high={high!r}")
    return lower, upper


def _as_bound(bound: ArrayLike | None, name: str, absent: float, action_shape: tuple[int, ...]) -> FloatArray:
    array = np.asarray(absent if bound is None else bound)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if np.isnan(array).any():
        raise ValueError(f"{name}{list(first_index(np.isnan(array))) or ''} is nan: a bound must be a number")
    try:
        return np.broadcast_to(array.astype(np.float64), action_shape)
    except ValueError:
        raise ValueError(f"{name} must fit the shape of an action, {action_shape}, got {array.shape}") from None


@dataclass(frozen=True)
class GaussianActor:
    """Samples ``mean(state) + scale noise``, clipped to the action bounds.

    `scale` (k, k) is one lower-triangular factor for all states.
    """

    mean: Basis
    scale: FloatArray
    low: FloatArray
    high: FloatArray

    def __call__(self, state: ArrayLike, rng: np.random.Generator | None = None) -> FloatArray:
        action = self.mean(np.asarray(state, dtype=np.float64).reshape(-1))
        if rng is not None:
            action = action + self.scale @ rng.standard_normal(len(self.scale))
        return np.minimum(np.maximum(action.reshape(self.low.shape), self.low), self.high)


@dataclass(frozen=True)
class CategoricalActor:
    """Samples an action label from the probabilities of the state."""

    probabilities: Callable[[NDArray[Any]], FloatArray]
    labels: NDArray[Any]

    def __call__(self, state: ArrayLike, rng: np.random.Generator | None = None) -> Any:
        p = self.probabilities(np.asarray(state).reshape(-1))
        if rng is None:
            return self.labels[p.argmax()]
        edges = p.cumsum()
        return self.labels[min(int(edges.searchsorted(rng.random() * edges[-1], side="right")), len(p) - 1)]


@dataclass(frozen=True)
class SoftmaxOf:
    """Probabilities (A,) of logits (A,)."""

    logits: Basis

    def __call__(self, state: FloatArray) -> FloatArray:
        logits = self.logits(state)
        p = np.exp(logits - logits.max())
        return p / p.sum()


@dataclass(frozen=True)
class AffineMean:
    """``basis(state) @ coefficients + intercept`` with coefficients (p, k): means, or logits."""

    basis: Basis | None
    coefficients: FloatArray
    intercept: FloatArray

    def __call__(self, state: FloatArray) -> FloatArray:
        phi = state if self.basis is None else self.basis(state)
        return phi @ self.coefficients + self.intercept


@dataclass(frozen=True)
class NetworkOutput:
    """``offset + unit network((state - centre) / spread)`` for one state."""

    network: Network
    params: FloatArray
    centre: FloatArray
    spread: FloatArray
    offset: FloatArray
    unit: FloatArray

    def __call__(self, state: FloatArray) -> FloatArray:
        return self.offset + self.unit * self.network.output(self.params, (state - self.centre) / self.spread)


@dataclass(frozen=True)
class TransformerBasis:
    """Any fitted scikit-learn transformer as a basis for one state; slower than the package's own feature maps."""

    transformer: Any

    def __call__(self, state: FloatArray) -> FloatArray:
        return np.asarray(self.transformer.transform(state[None]), dtype=np.float64)[0]


def compiled_basis(transformer: Any) -> Basis | None:
    """The transformer's own plain NumPy form where it has one (``compile``), else the transformer itself."""
    if transformer is None:
        return None
    return transformer.compile() if hasattr(transformer, "compile") else TransformerBasis(transformer)
