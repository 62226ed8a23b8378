"""Radial-basis and random Fourier features whose centres, bandwidths and frequencies follow the weights of the samples.

Shapes: N samples, d state dimensions, p features; `states` (N, d), `bandwidth_` (d,).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from policies.checks import check_states, check_weights, merge_repeats, per_column, random_source
from reps_opt.tolerances import ROUNDING
from reps_opt.validation import FloatArray, as_count


def weighted_mean(rows: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted mean of each column, shape (d,)."""
    return (weights / weights.sum()) @ rows


def weighted_spread(states: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted standard deviation of each column, shape (d,); one for a column that does not vary."""
    share = weights / weights.sum()
    spread = np.sqrt(share @ (states - share @ states) ** 2)
    varies = spread > ROUNDING * np.sqrt(share @ states**2)
    return np.where(varies, spread, 1.0)


class _WeightedFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Shared checks; subclasses give ``_fit`` on distinct rows, and ``compile``, plain NumPy features of rows."""

    compile: Callable[[], Callable[[FloatArray], FloatArray]]

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Place the features; ``y`` is ignored."""
        states = check_states(self, X, reset=True)
        weights = check_weights(sample_weight, len(states))
        kept = weights > 0
        first, merged = merge_repeats(states[kept], weights[kept])
        self._fit(states[kept][first], merged)
        return self

    def _fit(self, states: FloatArray, weights: FloatArray) -> None:
        raise NotImplementedError

    def transform(self, X: ArrayLike) -> FloatArray:
        """Features, shape (N, p)."""
        check_is_fitted(self)
        return self.compile()(check_states(self, X))


class PolynomialStates(_WeightedFeatures):
    """Products of up to `degree` columns of the standardised state, p = C(d + degree, degree) - 1.

    Unlike a pipeline of scikit-learn's scaler and polynomial features, mean and spread follow the weights.

    Parameters
    ----------
    degree
        The highest.

    Examples
    --------
    >>> features = PolynomialStates().fit([[-1.0], [1.0]])
    >>> features.transform([[3.0]])
    array([[3., 9.]])
    """

    def __init__(self, degree: int = 2) -> None:
        self.degree = degree

    def _fit(self, states: FloatArray, weights: FloatArray) -> None:
        degree, d = as_count(self.degree, "degree"), states.shape[1]
        self.centre_, self.spread_ = weighted_mean(states, weights), weighted_spread(states, weights)
        self.factors_ = np.array(list(combinations_with_replacement(range(d + 1), degree))[1:])
        self._n_features_out = len(self.factors_)

    def compile(self) -> PolynomialBasis:
        """Plain NumPy features of one state, or of rows of states."""
        return PolynomialBasis(self.centre_, self.spread_, self.factors_)


class _KernelFeatures(_WeightedFeatures):
    """Features of a bandwidth."""

    def _checked_bandwidth(self, states: FloatArray, weights: FloatArray) -> FloatArray:
        if self.bandwidth is None:
            return weighted_spread(states, weights) * np.sqrt(states.shape[1])
        return per_column(self.bandwidth, "bandwidth", states.shape[1])

    bandwidth: Any


class RBFFeatures(_KernelFeatures):
    """Squared-exponential bumps ``exp(-|(s - c_j) / bandwidth|^2 / 2)`` at centres found by weighted k-means.

    Parameters
    ----------
    n_centres
        Number of bumps; fewer if there are fewer distinct states.
    bandwidth
        Width per state dimension (scalar or (d,)), in units of the state; None for sqrt(d) weighted
        standard deviations.
    random_state
        Seed of k-means.

    Examples
    --------
    >>> features = RBFFeatures(n_centres=2, bandwidth=1.0, random_state=0).fit([[0.0], [4.0]])
    >>> np.sort(features.transform([[0.0]])[0])
    array([3.35e-04, 1.00e+00])
    """

    def __init__(self, n_centres: int = 30, bandwidth: ArrayLike | None = None, random_state: Any = None) -> None:
        self.n_centres = n_centres
        self.bandwidth = bandwidth
        self.random_state = random_state

    def _fit(self, states: FloatArray, weights: FloatArray) -> None:
        self.bandwidth_ = self._checked_bandwidth(states, weights)
        n_centres = min(as_count(self.n_centres, "n_centres"), len(states))
        scaled = states / self.bandwidth_
        means = KMeans(n_centres, n_init=1, random_state=random_source(self.random_state))
        with threadpool_limits(1, user_api="openmp"):  # each thread sums samples of its own
            means.fit(scaled, sample_weight=weights / weights.max())
        self.centres_ = means.cluster_centers_ * self.bandwidth_
        self._n_features_out = n_centres

    def transform(self, X: ArrayLike) -> FloatArray:
        """Features, shape (N, n_centres)."""
        check_is_fitted(self)
        states = check_states(self, X)
        return np.exp(-0.5 * cdist(states / self.bandwidth_, self.centres_ / self.bandwidth_, "sqeuclidean"))

    def compile(self) -> RBFBasis:
        """Plain NumPy features of one state."""
        check_is_fitted(self)
        return RBFBasis(self.centres_ / self.bandwidth_, 1 / self.bandwidth_)


class FourierFeatures(_KernelFeatures):
    """Random Fourier features ``sqrt(2/p) cos(omega'(s / bandwidth) + b)``: inner products approximate the RBF kernel.

    Parameters
    ----------
    n_components
        Number of features p.
    bandwidth, random_state
        As in :class:`RBFFeatures`.

    References
    ----------
    Rahimi, Recht (2007), Random features for large-scale kernel machines, algorithm 1 (scikit-learn's ``RBFSampler``).

    Examples
    --------
    >>> features = FourierFeatures(n_components=2000, bandwidth=1.0, random_state=0).fit([[0.0]])
    >>> a, b = features.transform([[0.0], [1.0]])
    >>> bool(abs(a @ b - np.exp(-0.5)) < 0.05)
    True
    """

    def __init__(self, n_components: int = 100, bandwidth: ArrayLike | None = None, random_state: Any = None) -> None:
        self.n_components = n_components
        self.bandwidth = bandwidth
        self.random_state = random_state

    def _fit(self, states: FloatArray, weights: FloatArray) -> None:
        self.bandwidth_ = self._checked_bandwidth(states, weights)
        p, rng = as_count(self.n_components, "n_components"), random_source(self.random_state)
        self.frequencies_ = rng.normal(size=(states.shape[1], p)) / self.bandwidth_[:, None]
        self.phases_ = rng.uniform(0, 2 * np.pi, size=p)
        self._n_features_out = p

    def compile(self) -> FourierBasis:
        """Plain NumPy features of one state, or of rows of states."""
        return FourierBasis(self.frequencies_, self.phases_)


WORDS: dict[str, Any] = {
    "polynomial": lambda n, seed: PolynomialStates(),
    "rbf": lambda n, seed: RBFFeatures(n, None, seed),
    "fourier": lambda n, seed: FourierFeatures(n, None, seed),
}
"""Unfitted feature maps by name, of a number and a seed."""


@dataclass(frozen=True)
class PolynomialBasis:
    """Products of standardised columns; `factors` (p, degree) are column numbers from one, zero for a factor of one."""

    centre: FloatArray
    spread: FloatArray
    factors: NDArray[np.intp]

    def __call__(self, state: FloatArray) -> FloatArray:
        z = (state - self.centre) / self.spread
        columns = np.concatenate([np.ones((*z.shape[:-1], 1)), z], axis=-1)
        return np.prod(columns[..., self.factors], axis=-1)


@dataclass(frozen=True)
class RBFBasis:
    """Bumps at scaled centres (p, d)."""

    centres: FloatArray
    inverse_bandwidth: FloatArray

    def __call__(self, state: FloatArray) -> FloatArray:
        difference = self.centres - state * self.inverse_bandwidth
        return np.exp(-0.5 * np.einsum("pd,pd->p", difference, difference))


@dataclass(frozen=True)
class FourierBasis:
    """Cosines of frequencies (d, p) and phases (p,)."""

    frequencies: FloatArray
    phases: FloatArray

    def __call__(self, state: FloatArray) -> FloatArray:
        return np.sqrt(2 / len(self.phases)) * np.cos(state @ self.frequencies + self.phases)
