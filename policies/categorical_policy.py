"""What policies over finitely many actions share: checks, predictions, start policies.

Shapes: N states, d state dimensions, A actions.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from policies.actors import Act
from policies.base import Policy
from policies.categorical import Categorical
from policies.checks import check_finite_values, check_weights, merge_repeats, refuse_masked, warn_of_weights
from policies.spaces import Observations, read_labels, read_observations
from reps_opt.validation import FloatArray, as_count


class CategoricalPolicy(ClassifierMixin, Policy):
    """A policy over finitely many actions; ``classes_`` (A,) holds their labels and ``score`` is the accuracy."""

    classes_: NDArray[Any]

    @abstractmethod
    def _distribution(self, states: FloatArray) -> Categorical: ...

    n_actions: int | None = None

    @classmethod
    def from_spaces(
        cls, observation_space: Any, action_space: Any, *, states: ArrayLike | None = None, **settings: Any
    ) -> Self:
        """A policy to start from: every action as likely as any other, at every state.

        Parameters
        ----------
        observation_space
            A ``Box``, flattened, or a ``Discrete`` space, whose states become one-hot rows.
        action_space
            A ``Discrete`` space.
        states
            Observed states (N, d) that inputs are scaled, and features placed, by; None reads the space's bounds, and
            takes columns without bounds for standard normal.
        settings
            Those of the constructor.

        Raises
        ------
        TypeError
            For any other space, by its name.

        Examples
        --------
        >>> from policies import NeuralCategoricalPolicy
        >>> policy = NeuralCategoricalPolicy.from_env("CartPole-v1", hidden=(8,))
        >>> policy.predict_proba([[0.0, 0.0, 0.1, 0.0]])
        array([[0.5, 0.5]])
        """
        observed = read_observations(observation_space, states, cls.__name__)
        labels = read_labels(action_space, cls.__name__)
        n_actions = None if labels[0] else len(labels)
        policy = cls(**{"n_states": observed.n_states, "n_actions": n_actions, **settings})
        policy.classes_ = labels
        policy._check_options()
        policy._start(observed, policy._check_states(observed.typical, reset=True))
        return policy

    @abstractmethod
    def _start(self, observed: Observations, typical: FloatArray) -> None:
        """Set the fitted attributes of a policy that has seen no action; `typical` states (N, d) place its features."""

    def compile(self, low: ArrayLike | None = None, high: ArrayLike | None = None) -> Act:
        """``act(state, rng)`` returning an action label, in plain NumPy; labels take no bounds."""
        check_is_fitted(self)
        if low is not None or high is not None:
            raise ValueError("low and high bound continuous actions: a categorical policy has labels")
        return self._one_hot(self._actor())

    @abstractmethod
    def _actor(self) -> Act:
        """The compiled policy, on plain rows of numbers."""

    def _classes(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Action labels (A,): those there are, or all indices below ``n_actions``."""
        return np.unique(labels) if self.n_actions is None else np.arange(as_count(self.n_actions, "n_actions"))

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
        warn_of_weights(weights, type(self).__name__, self._has_prior)
        return states, labels, weights

    def _distinct(
        self, states: FloatArray, labels: NDArray[Any], weights: FloatArray, classes: NDArray[Any] | None = None
    ) -> tuple[FloatArray, NDArray[np.intp], FloatArray]:
        """Set the classes, those given or those of the labels.

        Returns states (M, d), action indices (M,) and weights (M,) > 0 of the distinct samples.
        """
        self.classes_ = self._classes(labels) if classes is None else classes
        indices = self._check_actions(labels, len(states))
        seen = weights > 0
        first, merged = merge_repeats(np.column_stack([states, indices])[seen], weights[seen])
        return states[seen][first], indices[seen][first], merged

    @staticmethod
    def _check_labels(y: ArrayLike, n_samples: int) -> NDArray[Any]:
        """Action labels of ``fit`` (N,), of any type that scikit-learn takes for classes."""
        if y is None:
            raise ValueError("the policy requires y to be passed, but the target y is None")
        refuse_masked(y, "y")
        shape = np.asarray(y).shape  # of whatever can be made an array: scikit-learn tries what is none
        if len(shape) == 2 and shape[1] > 1:
            what = f"y must be one label a state, got shape {shape}"
            raise ValueError(f"{what}: number the combinations of MultiBinary or MultiDiscrete actions, in a wrapper")
        labels = column_or_1d(y, warn=True)
        if labels.dtype.kind == "f":
            check_finite_values(labels, "y")
        check_classification_targets(labels)
        if len(labels) != n_samples:
            raise ValueError(f"y must have one action per state, got {len(labels)} actions for {n_samples} states")
        return labels

    def _check_actions(self, actions: ArrayLike, n_samples: int) -> NDArray[np.intp]:
        refuse_masked(actions, "actions")
        labels = np.asarray(actions)
        if labels.shape == (n_samples, 1):
            labels = labels[:, 0]
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
