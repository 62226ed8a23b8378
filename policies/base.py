"""What every policy shares: checks at the boundary, and everything that follows from its action distribution.

Shapes: N states, d state dimensions, k action dimensions, P parameters. `X` and `y` are scikit-learn's names for states
and actions, kept where its contract asks for them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d

from policies.actors import Act, check_bounds
from policies.categorical import Categorical
from policies.checks import (
    as_columns,
    check_finite_values,
    check_magnitude,
    check_states,
    check_weights,
    refuse_masked,
    warn_of_weights,
)
from policies.gaussian import Gaussian
from policies.mixtures import MixtureMixin
from policies.spaces import (
    Observations,
    OneHotActor,
    read_box_actions,
    read_labels,
    read_observations,
    spaces_of,
    state_indices,
)
from reps_opt.validation import FloatArray, as_count, as_float_array, as_scalar, check_shape


class Policy(MixtureMixin, BaseEstimator):
    """A distribution over actions at each state; subclasses give ``_distribution``, ``_actor`` and ``_start``.

    Where ``n_states`` is given, states are discrete: indices 0 .. n_states - 1 of shape (N,) or (N, 1), or one-hot rows
    (N, n_states); whichever they are, the subclass sees one-hot rows. Whole numbers of shape (N,) are one column.
    """

    n_states: int | None = None

    @property
    def _has_prior(self) -> bool:
        """Whether the weights' sum matters: a prior prevails over samples that weigh little."""
        return True

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
        columns = as_columns(states)
        if self.n_states is not None:
            columns = np.eye(as_count(self.n_states, "n_states"))[state_indices(columns, self.n_states, name)]
        return check_states(self, columns, reset, name)

    @classmethod
    def from_env(cls, env: Any, **settings: Any) -> Self:
        """A policy to start from in this environment, ready to act; see :meth:`from_spaces` for the settings.

        Parameters
        ----------
        env
            A Gymnasium environment, a vector environment, or a registered name such as "Pendulum-v1".
        """
        return cls.from_spaces(*spaces_of(env), **settings)

    @classmethod
    @abstractmethod
    def from_spaces(cls, observation_space: Any, action_space: Any, **settings: Any) -> Self:
        """A policy to start from in these spaces."""

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
        if not hasattr(rng, "standard_normal"):
            raise TypeError(f"rng must be a generator such as np.random.default_rng(0), got {rng!r}")
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

    def _one_hot(self, act: Act) -> Act:
        return act if self.n_states is None else OneHotActor(act, int(self.n_states))

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

    @classmethod
    def from_spaces(
        cls,
        observation_space: Any,
        action_space: Any,
        *,
        states: ArrayLike | None = None,
        initial_std: float = 0.5,
        **settings: Any,
    ) -> Self:
        """A policy to start from: the same Gaussian at every state, in the middle of the actions.

        Parameters
        ----------
        observation_space
            A ``Box``, flattened, or a ``Discrete`` space, whose states become one-hot rows.
        action_space
            A ``Box``.
        states
            Observed states (N, d) that inputs are scaled, and features placed, by; None reads the space's bounds, and
            takes columns without bounds for standard normal.
        initial_std
            Standard deviation of the actions, as a share of half their range; of one where they have no bounds.
        settings
            Those of the constructor.

        Raises
        ------
        TypeError
            For any other space, by its name.

        Examples
        --------
        >>> from policies import LinearGaussianPolicy
        >>> policy = LinearGaussianPolicy.from_env("Pendulum-v1")  # torques within 2
        >>> policy.predict([[1.0, 0.0, 0.0]], return_std=True)
        (array([[0.]]), array([[1.]]))
        """
        observed = read_observations(observation_space, states, cls.__name__)
        centre, unit = read_box_actions(action_space, cls.__name__)
        policy = cls(**{"n_states": observed.n_states, **settings})
        policy.action_shape_ = tuple(int(n) for n in action_space.shape)
        policy._check_options()
        typical = policy._check_states(observed.typical, reset=True)
        policy._start(observed, typical, centre, unit, as_scalar(initial_std, "initial_std", low=0, low_open=True))
        return policy

    @abstractmethod
    def _check_options(self) -> None:
        """Raise for settings that are not legal."""

    @abstractmethod
    def _start(
        self, observed: Observations, typical: FloatArray, centre: FloatArray, unit: FloatArray, std: float
    ) -> None:
        """Set the fitted attributes of a policy that has seen no action: N(centre, (std unit)^2), both (k,).

        `typical` states (N, d) place its features.
        """

    def compile(self, low: ArrayLike | None = None, high: ArrayLike | None = None) -> Act:
        """``act(state, rng)`` in plain NumPy, actions clipped to [low, high] (scalars or the action's shape)."""
        check_is_fitted(self)
        return self._one_hot(self._actor(*check_bounds(low, high, self.action_shape_)))

    @abstractmethod
    def _actor(self, low: FloatArray, high: FloatArray) -> Act:
        """The compiled policy, on plain rows of numbers."""

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
        refuse_masked(actions, "actions")
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
        refuse_masked(y, "y")
        actions = check_array(y, ensure_2d=False, dtype="numeric", ensure_all_finite=False, input_name="y")
        actions = np.asarray(actions, dtype=np.float64)
        check_finite_values(actions, "y")
        check_magnitude(actions, "y")
        check_consistent_length(states, actions)
        self.action_shape_ = tuple(int(n) for n in actions.shape[1:])
        weights = check_weights(sample_weight, len(states))
        warn_of_weights(weights, type(self).__name__, self._has_prior)
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

    def _check_options(self) -> None:
        """Raise for settings that are not legal."""

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

    @staticmethod
    def _check_labels(y: ArrayLike, n_samples: int) -> NDArray[Any]:
        """Action labels of ``fit`` (N,), of any type that scikit-learn takes for classes."""
        if y is None:
            raise ValueError("the policy requires y to be passed, but the target y is None")
        refuse_masked(y, "y")
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
