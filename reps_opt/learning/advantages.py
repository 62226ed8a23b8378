"""Values regressed on returns, and the advantages measured against them: what updates need of a batch.

Shapes: N transitions, episode after episode.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from reps_opt.learning.returns import episodes, generalised_advantages, returns_to_go
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
    """Advantages, and the values of states and next states that they were measured against, all (N,)."""

    advantages: FloatArray
    values: FloatArray
    next_values: FloatArray


def estimate_advantages(
    batch: Transitions, rewards: FloatArray, gamma: float, trace: float, value_model: Any = None
) -> Advantages:
    """Generalised advantages with values regressed on the returns of the same batch.

    Parameters
    ----------
    value_model
        A scikit-learn regressor, cloned and fitted to the returns to go; then once more to returns that count the
        first fit's value where an episode was cut off. None for a ridge regression on the states' quadratic features;
        where states are integers, their mean return.
    """
    inputs, following = _inputs(batch.states), _inputs(batch.next_states)
    model = _value_model(batch.states, value_model)
    flags = batch.terminated, batch.truncated
    model.fit(inputs, returns_to_go(rewards, *flags, gamma))
    if np.any(episodes(*flags).ends & ~np.asarray(batch.terminated)):
        model.fit(inputs, returns_to_go(rewards, *flags, gamma, model.predict(following)))
    values, ahead = model.predict(inputs), model.predict(following)
    return Advantages(generalised_advantages(rewards, values, ahead, *flags, gamma, trace), values, ahead)


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
        return make_pipeline(OneHotEncoder(handle_unknown="ignore"), Ridge(1e-6))
    return make_pipeline(StandardScaler(), PolynomialFeatures(2), Ridge(1e-3))
