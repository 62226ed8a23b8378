"""What every policy shares: checks at the boundary, and everything that follows from its action distribution.

Shapes: N states, d state dimensions, k action dimensions, P parameters. `X` and `y` are scikit-learn's names for states
and actions, kept where its contract asks for them.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d, validate_data

from policies.actors import Act
from policies.categorical import Categorical
from policies.gaussian import Gaussian
from reps_opt.validation import FloatArray, as_float_array, check_finite, check_nonnegative, check_shape


class Policy(BaseEstimator):
    """A distribution over actions at each state; subclasses give ``_distribution`` and ``_check_actions``."""

    @abstractmethod
    def _distribution(self, states: FloatArray) -> Gaussian | Categorical:
        """The action distribution at checked states."""

    @abstractmethod
    def _check_actions(self, actions: ArrayLike, n_samples: int) -> NDArray[Any]:
        """Actions as the distribution wants them: (N, k) numbers, or (N,) indices."""

    @abstractmethod
    def _export_actions(self, actions: NDArray[Any]) -> NDArray[Any]:
        """The inverse of ``_check_actions``: the caller's shape, or the caller's labels."""

    def _check_states(self, states: ArrayLike, reset: bool = False, name: str = "states") -> FloatArray:
        return check_states(self, states, reset, name)

    def sample(self, states: ArrayLike, rng: np.random.Generator) -> NDArray[Any]:
        """Draw one action per state.

        Parameters
        ----------
        states
            Shape (N, d).
        rng
            The only source of randomness.

        Returns
        -------
        ndarray
            Shape (N,) or (N, k), as the actions of ``fit`` were.
        """
        check_is_fitted(self)
        return self._export_actions(self._distribution(self._check_states(states)).sample(rng))

    def log_prob(self, states: ArrayLike, actions: ArrayLike) -> FloatArray:
        """Log-density (log-probability) of each action at its state, in nats, shape (N,)."""
        check_is_fitted(self)
        checked = self._check_states(states)
        return self._distribution(checked).log_prob(self._check_actions(actions, len(checked)))

    def kl_divergence(self, other: Policy, states: ArrayLike) -> FloatArray:
        """KL(self ‖ other) of the action distributions at each state, in nats, shape (N,).

        Raises
        ------
        TypeError
            If one policy is Gaussian and the other categorical.
        ValueError
            If the action spaces differ.
        """
        mine, theirs = self._both(other, states)
        return mine.kl(theirs)

    def _both(self, other: Policy, states: ArrayLike) -> tuple[Any, Any]:
        """Action distributions of both policies, checked to be comparable."""
        check_is_fitted(self)
        check_is_fitted(other)
        mine = self._distribution(self._check_states(states))
        theirs = other._distribution(other._check_states(states))
        if type(mine) is not type(theirs):
            raise TypeError(f"other must have a {type(mine).__name__} distribution, got {type(theirs).__name__}")
        self._check_same_actions(other)
        return mine, theirs

    def compare(self, other: Policy, states: ArrayLike, actions: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """log pi_other(a|s) / pi(a|s) and KL(self ‖ other) at each state, both (N,), by one evaluation of each policy.

        Raises
        ------
        TypeError, ValueError
            As :meth:`kl_divergence` does.
        """
        mine, theirs = self._both(other, states)
        checked = self._check_actions(actions, len(states))  # type: ignore[arg-type]
        return theirs.log_prob(checked) - mine.log_prob(checked), mine.kl(theirs)

    @abstractmethod
    def _check_same_actions(self, other: Any) -> None:
        """Raise ValueError unless the other policy acts in the same space."""

    @abstractmethod
    def compile(self, low: ArrayLike | None = None, high: ArrayLike | None = None) -> Act:
        """A plain NumPy function ``act(state, rng)`` for roll-outs."""

    def save(self, path: str | Path) -> None:
        """Write the fitted policy to one file without pickle; see :func:`policies.save`."""
        from policies.storage import save

        save(self, path)

    @staticmethod
    def load(path: str | Path) -> Any:
        """Read a policy, of whichever class, that :meth:`save` wrote; see :func:`policies.load`."""
        from policies.storage import load

        return load(path)


class GaussianPolicy(RegressorMixin, Policy):
    """A policy with Gaussian actions, shape (N,) or (N, k); ``score`` is scikit-learn's (weighted) R^2."""

    action_shape_: tuple[int, ...]

    @abstractmethod
    def _distribution(self, states: FloatArray) -> Gaussian: ...

    def predict(self, X: ArrayLike, return_std: bool = False) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Mean action at each state and, if asked, the standard deviation the policy samples with.

        Parameters
        ----------
        X
            States, shape (N, d).
        return_std
            Whether to return standard deviations too.

        Returns
        -------
        mean, std
            Each of shape (N,) or (N, k), as the actions of ``fit`` were.
        """
        check_is_fitted(self)
        distribution = self._distribution(self._check_states(X, name="X"))
        mean = self._export_actions(distribution.mean)
        return (mean, self._export_actions(distribution.std)) if return_std else mean

    def _check_actions(self, actions: ArrayLike, n_samples: int) -> FloatArray:
        array = as_float_array(actions, "actions")
        if array.shape != (n_samples, int(np.prod(self.action_shape_))):  # one row each is understood as well
            check_shape(array, "actions", (n_samples, *self.action_shape_))
        return array.reshape(n_samples, -1)

    def _export_actions(self, actions: NDArray[Any]) -> NDArray[Any]:
        return actions.reshape(len(actions), *self.action_shape_)

    def _check_same_actions(self, other: Any) -> None:
        if np.prod(self.action_shape_) != np.prod(other.action_shape_):
            raise ValueError(f"other must have actions of shape {self.action_shape_}, got {other.action_shape_}")

    def _check_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Checked states (N, d), actions (N, k) and weights (N,) without the rows of zero weight."""
        states = self._check_states(X, reset=True, name="X")
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        actions = check_array(y, ensure_2d=False, dtype="numeric", ensure_all_finite=False, input_name="y")
        actions = np.asarray(actions, dtype=np.float64)
        check_finite_values(actions, "y")
        check_consistent_length(states, actions)
        self.action_shape_ = tuple(int(n) for n in actions.shape[1:])
        weights = check_weights(sample_weight, len(states))
        warn_if_few(weights, type(self).__name__)
        kept = weights > 0
        return states[kept], actions.reshape(len(actions), -1)[kept], weights[kept]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class CategoricalPolicy(ClassifierMixin, Policy):
    """A policy over finitely many actions; ``classes_`` (A,) holds their labels and ``score`` is the accuracy."""

    classes_: NDArray[Any]

    @abstractmethod
    def _distribution(self, states: FloatArray) -> Categorical: ...

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Most probable action at each state, shape (N,); the first of those that tie."""
        best = np.argmax(self.predict_proba(X), axis=1)
        return self.classes_[best]

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Probability of each action at each state, shape (N, A), columns in the order of ``classes_``."""
        check_is_fitted(self)
        return self._distribution(self._check_states(X, name="X")).probabilities

    def _check_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[FloatArray, NDArray[Any], FloatArray]:
        """Checked states (N, d), labels (N,) and weights (N,), rows of zero weight among them."""
        states = self._check_states(X, reset=True, name="X")
        labels = self._check_labels(y, len(states))
        weights = check_weights(sample_weight, len(states))
        warn_if_few(weights, type(self).__name__)
        return states, labels, weights

    @staticmethod
    def _check_labels(y: ArrayLike, n_samples: int) -> NDArray[Any]:
        """Action labels of ``fit`` (N,), of any type that scikit-learn takes for classes."""
        if y is None:
            raise ValueError("the policy requires y to be passed, but the target y is None")
        labels = column_or_1d(y, warn=True)
        if labels.dtype.kind == "f":
            check_finite_values(labels, "y")
        check_classification_targets(labels)
        if len(labels) != n_samples:
            raise ValueError(f"y must have one action per state, got {len(labels)} actions for {n_samples} states")
        return labels

    def _check_actions(self, actions: ArrayLike, n_samples: int) -> NDArray[np.intp]:
        labels = np.asarray(actions)
        if labels.shape != (n_samples,):
            raise ValueError(f"actions must have shape ({n_samples}), got {labels.shape}")
        indices = np.minimum(np.searchsorted(self.classes_, labels), len(self.classes_) - 1)
        unknown = np.flatnonzero(self.classes_[indices] != labels)
        if unknown.size:
            raise ValueError(f"actions[{unknown[0]}] is {labels[unknown[0]]!r}: not among the policy's actions")
        return indices

    def _export_actions(self, actions: NDArray[Any]) -> NDArray[Any]:
        return self.classes_[actions]

    def _check_same_actions(self, other: Any) -> None:
        if not np.array_equal(self.classes_, other.classes_):
            raise ValueError(f"other must have the actions {self.classes_}, got {other.classes_}")


def check_states(estimator: Any, states: ArrayLike, reset: bool = False, name: str = "X") -> FloatArray:
    """States as finite float64 (N, d), d fixed by ``reset``; the caller's array is never written to."""
    checked: FloatArray
    if not reset and _are_plain(estimator, states):
        checked = states  # type: ignore[assignment]
    else:
        checked = validate_data(estimator, states, reset=reset, dtype=np.float64, ensure_all_finite=False)
    check_finite_values(checked, name)
    return checked


def _are_plain(estimator: Any, states: Any) -> bool:
    """Whether scikit-learn's checks, a good part of a small evaluation, could find nothing in these states."""
    if type(states) is not np.ndarray or states.dtype != np.float64 or states.ndim != 2 or len(states) == 0:
        return False
    return states.shape[1] == getattr(estimator, "n_features_in_", None) and not hasattr(estimator, "feature_names_in_")


def check_finite_values(array: FloatArray, name: str) -> None:
    """The core's finiteness check, in words that scikit-learn's own checks look for."""
    try:
        check_finite(array, name)
    except ValueError as error:
        raise ValueError(f"{error} (neither NaN nor inf)") from None


def check_weights(sample_weight: ArrayLike | None, n_samples: int) -> FloatArray:
    """Weights as float64 (N,): finite, non-negative, not all zero."""
    if sample_weight is None:
        return np.ones(n_samples)
    weights = as_float_array(sample_weight, "sample_weight", (n_samples,))
    check_nonnegative(weights, "sample_weight")
    if not np.any(weights > 0):
        raise ValueError("sample_weight is zero everywhere: at least one sample needs a positive weight")
    return weights


def warn_if_few(weights: FloatArray, name: str) -> None:
    """Warn when unequal weights leave fewer than two effective samples, (sum w)^2 / sum w^2."""
    relative = weights / np.max(weights)
    ess = float(np.sum(relative) ** 2 / np.sum(relative**2))
    if ess < 2 and np.count_nonzero(weights) > 1:
        warnings.warn(
            f"{name}: the weights leave an effective sample size of {ess:.2f}: lower epsilon, or collect more samples",
            UserWarning,
            stacklevel=4,
        )


def random_source(random_state: Any) -> np.random.RandomState:
    """scikit-learn's generator for a seed; for None a fresh one of its own, never NumPy's global one."""
    return np.random.RandomState() if random_state is None else check_random_state(random_state)


def merge_repeats(rows: FloatArray, weights: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """First index of each distinct row, in lexicographic order, and the sum of its repetitions' weights.

    A repeated sample and a sample of twice the weight are the same data; after merging they are the same arrays too, so
    that iterative fits end at the same bits.

    Examples
    --------
    >>> merge_repeats(np.array([[2.0], [1.0], [2.0]]), np.array([1.0, 1.0, 3.0]))
    (array([1, 0]), array([1., 4.]))
    """
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first, np.bincount(group.reshape(-1), weights=weights).astype(np.float64)


class ParametricMixin:
    """A policy that is a smooth function of a flat parameter vector; ``params`` is never written to in place."""

    @property
    @abstractmethod
    def params(self) -> FloatArray:
        """The parameters, a copy, shape (P,)."""

    @abstractmethod
    def with_params(self, params: ArrayLike) -> Self:
        """A copy of the policy with these parameters."""

    @abstractmethod
    def score_function(self, states: ArrayLike, actions: ArrayLike) -> FloatArray:
        """Gradient of log pi(a|s) in the parameters, shape (N, P)."""

    def score_product(self, states: ArrayLike, actions: ArrayLike, weights: FloatArray) -> FloatArray:
        """``sum_i w_i grad log pi(a_i|s_i)`` (P,): a policy gradient, where w are advantages over N."""
        return weights @ self.score_function(states, actions)

    @abstractmethod
    def fisher_factor(self, states: ArrayLike) -> FloatArray:
        """J with ``J'J / len(J)`` the Fisher information averaged over the states, the Hessian of their mean KL."""

    def fisher_product(self, states: ArrayLike) -> Callable[[FloatArray], FloatArray]:
        """``v -> F v`` with F the mean Fisher information, P x P and never formed."""
        J = self.fisher_factor(states)
        return lambda v: J.T @ (J @ v) / len(J)
