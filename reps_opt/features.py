r"""Value features of samples: differences, bandwidths, and conditional means of the next state's features.

Any object with ``transform(states) -> (n, d)`` is a feature map, scikit-learn's ``RBFSampler`` and ``Nystroem`` among
them; this module holds what scikit-learn lacks. A kernel value function ``V = sum_j alpha_j k(s_j, .)`` is
:func:`kernel_features`, its alpha found by REPS.

Shapes: N samples, d features; states (N, ds) or (N,), actions (N, da) or (N,).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist, pdist

from reps_opt.batch import Batch
from reps_opt.threads import limited
from reps_opt.tolerances import MEDIAN_SAMPLES, ULPS
from reps_opt.validation import FloatArray, as_count, as_float_array, as_scalar


class Identity:
    """The feature map that changes nothing but the shape: phi (n, d) of states (n,) or (n, d)."""

    def transform(self, states: ArrayLike) -> FloatArray:
        """The states as columns."""
        return as_columns(states)


IDENTITY = Identity()


def as_columns(values: ArrayLike, name: str = "states") -> FloatArray:
    """Values (N,) or (N, k) as a float array (N, k)."""
    array = as_float_array(values, name)
    return array.reshape(array.shape[0], -1)


@limited()
def transformed(features: Any, states: ArrayLike) -> FloatArray:
    """Features phi (N, d) of states (N,) or (N, k): dense, whatever an encoder returns.

    A scikit-learn transformer, which is known by its ``get_params``, sees labels (N,) as one column.
    """
    phi = features.transform(_as_taken(features, states))
    return as_columns(phi.toarray() if sp.issparse(phi) else phi, "features")


def _as_taken(features: Any, states: ArrayLike) -> Any:
    return np.reshape(states, (-1, 1)) if hasattr(features, "get_params") and np.ndim(states) == 1 else states


@limited()
def fitted(features: Any, states: ArrayLike) -> Any:
    """The feature map itself when it can transform already, else a copy fitted to the states."""
    given = _as_taken(features, states)
    try:
        features.transform(given[:1])
        return features
    except Exception as error:
        if type(error).__name__ != "NotFittedError":
            raise
    return copy.deepcopy(features).fit(given)


def feature_differences(batch: Batch, features: Any, gamma: float, embedding: Any = None) -> FloatArray:
    r"""psi (N, d): ``gamma phi(s') + (1 - gamma) mean phi(s0) - phi(s)``, with phi(s') = mean phi(s0) after an end.

    Parameters
    ----------
    batch
        The transitions.
    features
        A fitted feature map.
    gamma
        Discount factor in (0, 1]; 1 for average reward.
    embedding
        A regressor from states and actions to phi(s'), fitted here on a copy; None takes the next state seen.

    Examples
    --------
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> batch = Batch([[0.0], [1.0]], [0, 0], [0.0, 0.0], [[1.0], [5.0]], terminated=[False, True])
    >>> feature_differences(batch, FunctionTransformer(), gamma=0.5)
    array([[ 0.5],
           [-1. ]])
    """
    psi, size = one_step(batch, features, gamma, absorbs=False, embedding=embedding)
    return without_rounding(psi + (1 - gamma) * start_features(batch, features), size)


def one_step(batch: Batch, features: Any, gamma: float, absorbs: bool, embedding: Any) -> tuple[FloatArray, FloatArray]:
    """``gamma phi(s') - phi(s)`` (N, d), and the size (d,) of the features.

    After an end s' is a new start, or, where it ``absorbs``, a state of which the last column is the indicator.
    """
    phi = transformed(features, batch.states)
    following = transformed(features, batch.next_states)
    over = batch.terminated[:, None]
    following = np.where(over, 0.0 if absorbs else start_features(batch, features), following)
    if absorbs:
        phi = np.column_stack([phi, np.zeros(len(batch))])
        following = np.hstack([following, over])
    if embedding is not None:
        inputs = np.hstack([as_columns(batch.states), as_columns(batch.actions, "actions")])
        following = as_columns(copy.deepcopy(embedding).fit(inputs, following).predict(inputs), "embedding")
    size = np.maximum(np.abs(phi).max(axis=0), np.abs(following).max(axis=0))
    return gamma * following - phi, size


def start_features(batch: Batch, features: Any) -> FloatArray:
    """Mean of phi over the start states (d,)."""
    return np.asarray(transformed(features, batch.start_states).mean(axis=0))


def without_rounding(psi: FloatArray, size: FloatArray) -> FloatArray:
    """The differences (N, d), columns that are all rounding of features of some size (d,) made zero."""
    psi[:, np.abs(psi).max(axis=0) <= ULPS * size] = 0.0
    return psi


def median_bandwidth(states: ArrayLike, seed: int = 0) -> float:
    """Median Euclidean distance between samples (of at most a thousand drawn): a bandwidth that needs no tuning.

    The kernel is ``exp(-|s - t|^2 / (2 h^2))``, so scikit-learn's ``gamma`` is ``1 / (2 h**2)``. Columns of different
    units want scaling first. Ties do not count; a single distinct state gives one.

    References
    ----------
    Garreau, Jitkrittum, Kanagawa (2017), *Large sample analysis of the median heuristic*.

    Examples
    --------
    >>> median_bandwidth([[0.0], [1.0], [3.0]])
    2.0
    """
    x = as_columns(states)
    if x.shape[0] > MEDIAN_SAMPLES:
        x = x[np.random.default_rng(seed).choice(x.shape[0], MEDIAN_SAMPLES, replace=False)]
    distances = pdist(x)
    distances = distances[distances > 0]
    return float(np.median(distances)) if distances.size else 1.0


@limited()
def kernel_features(batch: Batch, n_features: int = 100, bandwidth: float | None = None, seed: int = 0) -> Any:
    """Features of a kernel value function, by scikit-learn's Nystroem on some of the batch's states.

    With as many features as distinct states this is the kernel value function of van Hoof et al. (2017), in the
    coordinates that make theta's length the function's norm in the kernel's space; with fewer, its Nystroem projection.

    A kernel narrower than the gaps between the landmarks leaves holes where all features, and so the values, are zero:
    the weights then vanish in one hole and come back from another, and promise rewards that no policy has. Where the
    states seldom visited matter, take more landmarks, a wider kernel, or scikit-learn's ``RBFSampler``, whose waves
    reach everywhere.

    Parameters
    ----------
    n_features
        Landmarks drawn from the states, at most all of them.
    bandwidth
        Kernel width in state units; :func:`median_bandwidth` by default.
    """
    from sklearn.kernel_approximation import Nystroem

    states = as_columns(batch.states)
    width = median_bandwidth(states) if bandwidth is None else as_scalar(bandwidth, "bandwidth", low=0, low_open=True)
    count = min(as_count(n_features, "n_features"), np.unique(states, axis=0).shape[0])
    return Nystroem(gamma=0.5 / width**2, n_components=count, random_state=seed).fit(states)


class ConditionalMeanEmbedding:
    r"""Conditional mean of the next state's features, by kernel ridge regression on states and actions.

    .. math:: E[\phi(s')|s,a] \approx \textstyle\sum_i \beta_i(s,a)\,\phi(s'_i),
              \qquad \beta(s,a) = (K_{sa} + l I)^{-1} k(s,a)

    Inputs are scaled to unit deviation; the kernel is Gaussian. Bandwidth (multiples of the median distance) and l are
    chosen by the closed-form leave-one-out error of phi(s').

    Parameters
    ----------
    ridges
        Candidates for l.
    widths
        Candidates for the bandwidth, in median distances.
    max_samples
        Samples, drawn at random, that the regression uses at most: its time grows with their cube.
    seed
        Draws them.

    Attributes
    ----------
    ridge_, width_
        What was chosen.
    error_ : float
        Its mean squared leave-one-out error.

    References
    ----------
    van Hoof, Peters, Neumann (2015), *Learning of non-parametric control policies with high-dimensional state
    features*, equation 6; Song, Huang, Smola, Fukumizu (2009), *Hilbert space embeddings of conditional
    distributions*.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(-1, 1, size=(300, 2))
    >>> noisy = (x[:, :1] + x[:, 1:]) + rng.normal(size=(300, 1))
    >>> mean = ConditionalMeanEmbedding().fit(x, noisy).predict(x)
    >>> float(abs(mean - x.sum(axis=1, keepdims=True)).mean()) < 0.25
    True
    """

    def __init__(
        self,
        ridges: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
        widths: Sequence[float] = (0.3, 1.0, 3.0),
        max_samples: int = 2_000,
        seed: int = 0,
    ) -> None:
        self.ridges = ridges
        self.widths = widths
        self.max_samples = max_samples
        self.seed = seed

    def fit(self, X: ArrayLike, Y: ArrayLike) -> ConditionalMeanEmbedding:
        """Fit to states and actions side by side, X (N, k), and the next state's features Y (N, d)."""
        x, y = as_columns(X, "X"), as_columns(Y, "Y")
        if x.shape[0] != y.shape[0]:
            raise ValueError(f"Y must have the {x.shape[0]} rows of X, got {y.shape[0]}")
        if x.shape[0] > self.max_samples:
            kept = np.random.default_rng(self.seed).choice(x.shape[0], self.max_samples, replace=False)
            x, y = x[kept], y[kept]
        deviation = x.std(axis=0)
        self._shift, self._scale = x.mean(axis=0), np.where(deviation > 0, deviation, 1.0)
        self._inputs, self._offset = (x - self._shift) / self._scale, y.mean(axis=0)
        self._unit = median_bandwidth(self._inputs)
        with limited():
            trials = [(*self._leave_one_out(width, y), width) for width in self.widths]
            self.error_, self.ridge_, self.width_ = min(trials)
            factor = cho_factor(self._kernel(self._inputs) + self.ridge_ * np.eye(x.shape[0]))
            self._coefficients = cho_solve(factor, y - self._offset)
        return self

    @limited()
    def predict(self, X: ArrayLike) -> FloatArray:
        """E[phi(s')] (n, d) at states and actions (n, k)."""
        inputs = (as_columns(X, "X") - self._shift) / self._scale
        return self._kernel(inputs) @ self._coefficients + self._offset

    def _kernel(self, inputs: FloatArray, width: float | None = None) -> FloatArray:
        h = self._unit * (self.width_ if width is None else width)
        return np.exp(-0.5 * cdist(inputs, self._inputs, "sqeuclidean") / h**2)

    def _leave_one_out(self, width: float, y: FloatArray) -> tuple[float, float]:
        """Least mean squared error over the ridges, and where: residual / (1 - H_ii), one eigendecomposition."""
        eigenvalues, vectors = np.linalg.eigh(self._kernel(self._inputs, width))
        rotated, square = vectors.T @ (y - self._offset), vectors**2
        errors = []
        for ridge in self.ridges:
            left = ridge / (np.maximum(eigenvalues, 0.0) + ridge)
            residual = (vectors @ (left[:, None] * rotated)) / (square @ left)[:, None]
            errors.append((float(np.mean(residual**2)), ridge))
        return min(errors)


class EmpiricalModel:
    """Conditional mean of the next state's features in a finite MDP: the mean over the samples of each (s, a).

    Examples
    --------
    >>> EmpiricalModel().fit([[0, 1], [0, 1], [2, 0]], [[1.0], [0.0], [3.0]]).predict([[0, 1], [2, 0]])
    array([[0.5],
           [3. ]])
    """

    def fit(self, X: ArrayLike, Y: ArrayLike) -> EmpiricalModel:
        """Fit to states and actions side by side, X (N, k), and the next state's features Y (N, d)."""
        y = as_columns(Y, "Y")
        self._pairs, label, count = np.unique(as_columns(X, "X"), axis=0, return_inverse=True, return_counts=True)
        self._means = np.zeros((count.size, y.shape[1]))
        np.add.at(self._means, label.ravel(), y / count[label.ravel()][:, None])
        return self

    def predict(self, X: ArrayLike) -> FloatArray:
        """E[phi(s')] (n, d) at pairs that were seen."""
        x = as_columns(X, "X")
        known = {tuple(pair): place for place, pair in enumerate(self._pairs)}
        places = [known.get(tuple(pair), -1) for pair in x]
        if min(places) < 0:
            raise ValueError(f"X[{places.index(-1)}] is a state and action that the model has not seen")
        return self._means[places]
