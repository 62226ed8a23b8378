"""Values regressed on returns, and the advantages measured against them: what updates need of a batch.

Shapes: N transitions, episode after episode.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from reps_opt.learning.returns import episodes, generalised_advantages, returns_to_go
from reps_opt.learning.value_network import Memory, ValueNetwork
from reps_opt.tolerances import COLLINEAR_RIDGE
from reps_opt.validation import FloatArray


class Transitions(Protocol):
    """What an update asks of a batch: arrays with one row a transition, episode after episode."""

    @property
    def states(self) -> Any: ...
    @property
    def actions(self) -> Any: ...
    @property
    def rewards(self) -> FloatArray: ...
    @property
    def next_states(self) -> Any: ...
    @property
    def terminated(self) -> NDArray[np.bool_]: ...
    @property
    def truncated(self) -> NDArray[np.bool_]: ...


class Advantages(NamedTuple):
    """Advantages, the values of states and next states that they were measured against, all (N,), and what to keep."""

    advantages: FloatArray
    values: FloatArray
    next_values: FloatArray
    memory: Memory | None = None


def estimate_advantages(
    batch: Transitions,
    rewards: FloatArray,
    gamma: float,
    gae_lambda: float,
    value_model: Any = None,
    memory: Memory | None = None,
) -> Advantages:
    """Generalised advantages with values learned from earlier batches, or regressed on the returns of this one.

    Parameters
    ----------
    value_model
        A scikit-learn regressor, cloned and fitted to the returns to go; then once more to returns that count the
        first fit's value where an episode was cut off. None for a ridge regression on the states' quadratic features;
        where states are integers, their mean return. Or a :class:`~reps_opt.learning.value_network.ValueNetwork`.
    memory
        Of the network. With none the values are those of the ridge regression, and nothing is kept; with an empty one
        too, and the network begins to learn; later it gives the values that it has learned from the batches before,
        so that no advantage is measured against a fit to its own noise.
    """
    inputs, following = _inputs(batch.states), _inputs(batch.next_states)
    learns = isinstance(value_model, ValueNetwork)
    if learns and memory:
        values, ahead = value_model.predict(memory, inputs), value_model.predict(memory, following)
    else:
        values, ahead = _regressed(batch, rewards, gamma, None if learns else value_model, inputs, following)
    flags = batch.terminated, batch.truncated
    advantages = generalised_advantages(rewards, values, ahead, *flags, gamma, gae_lambda)
    if not learns or memory is None:
        return Advantages(advantages, values, ahead)
    return Advantages(advantages, values, ahead, value_model.learn(memory, inputs, advantages + values))


def _regressed(
    batch: Transitions, rewards: FloatArray, gamma: float, value_model: Any, inputs: FloatArray, following: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Values of the states and of the next ones by a regression on the returns of the batch."""
    model = _value_model(batch.states, value_model)
    flags = batch.terminated, batch.truncated
    model.fit(inputs, returns_to_go(rewards, *flags, gamma))
    if np.any(episodes(*flags).ends & ~np.asarray(batch.terminated)):
        model.fit(inputs, returns_to_go(rewards, *flags, gamma, model.predict(following)))
    return model.predict(inputs), model.predict(following)


def _inputs(states: Any) -> FloatArray:
    array = np.asarray(states, dtype=np.float64)
    return array.reshape(len(array), -1)


def _value_model(states: Any, model: Any) -> Any:
    from sklearn.base import clone
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

    if model is not None:
        return clone(model)
    if np.asarray(states).dtype.kind in "bui":
        return make_pipeline(OneHotEncoder(handle_unknown="ignore"), Ridge(COLLINEAR_RIDGE))
    return make_pipeline(StandardScaler(), PolynomialFeatures(2), Ridge(COLLINEAR_RIDGE))
