"""What policies with Gaussian actions share: checks, predictions, start policies, figures.

Shapes: N states, d state dimensions, k action dimensions.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

from policies.actors import Act, check_bounds
from policies.base import Policy
from policies.checks import check_finite_values, check_magnitude, check_weights, refuse_masked, warn_of_weights
from policies.gaussian import Gaussian
from policies.spaces import Observations, read_box_actions, read_observations
from reps_opt.validation import FloatArray, as_float_array, as_scalar, check_shape

if TYPE_CHECKING:
    import matplotlib.axes


class GaussianPolicy(RegressorMixin, Policy):
    """A policy with Gaussian actions, shape (N,) or (N, k); ``score`` is scikit-learn's (weighted) R^2."""

    action_shape_: tuple[int, ...]
    state_span_: FloatArray  # least, mean and largest state seen, (3, d): what there is to draw

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
        policy.state_span_ = state_span(typical)
        policy._start(observed, typical, centre, unit, as_scalar(initial_std, "initial_std", low=0, low_open=True))
        return policy

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

    def plot(
        self,
        states: ArrayLike | None = None,
        dimension: int = 0,
        deviations: float = 2.0,
        ax: matplotlib.axes.Axes | None = None,
    ) -> matplotlib.axes.Axes:
        """Draw mean action and spread along one state dimension, the others held at their middle.

        Parameters
        ----------
        states
            States (N, d) whose range is drawn, and whose mean the other dimensions are held at; those of ``fit`` (or of
            the space, for a start policy) where it is None.
        dimension
            Column of the state, from 0; of discrete states every one is drawn.
        deviations
            Half-width of the band, in standard deviations.
        ax
            Where to draw; a figure of its own where it is None.

        Returns
        -------
        matplotlib.axes.Axes
            The axes, one line and one band for each action dimension.

        Examples
        --------
        >>> from policies import LinearGaussianPolicy
        >>> policy = LinearGaussianPolicy().fit([[0.0], [1.0], [3.0]], [0.0, 1.2, 2.8])
        >>> policy.plot().get_xlabel()
        'state'
        """
        from policies.drawing import draw_gaussian

        check_is_fitted(self)
        span = self.state_span_ if states is None else state_span(self._check_states(states))
        return draw_gaussian(self, span, dimension, deviations, ax)

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
        self.state_span_ = state_span(states[kept])
        return states[kept], actions.reshape(len(actions), -1)[kept], weights[kept]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def state_span(states: FloatArray) -> FloatArray:
    """Least, mean and largest value of each column, shape (3, d)."""
    return np.stack([states.min(axis=0), states.mean(axis=0), states.max(axis=0)])
