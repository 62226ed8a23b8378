"""Rewards in time: where episodes end, what follows each step, and advantages over values regressed on the returns.

Shapes: N transitions in time order, episode after episode; E episodes. Rewards, values, advantages and flags are (N,).
An episode ends where ``terminated`` (the task is over: nothing follows) or ``truncated`` (the clock ran out: the value
of the next state follows).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reps_opt.batch import Batch
from reps_opt.features import as_columns
from reps_opt.learning.value_network import Memory, ValueNetwork
from reps_opt.processes.builders import TransitionRows
from reps_opt.tolerances import COLLINEAR_RIDGE
from reps_opt.validation import FloatArray, as_float_array, as_scalar, warn_renamed


class Episodes(NamedTuple):
    """Where episodes end (N,), the episode of each row (N,), and its time within it (N,)."""

    ends: NDArray[np.bool_]
    number: NDArray[np.int64]
    time: NDArray[np.int64]

    @property
    def n_episodes(self) -> int:
        """E."""
        return int(self.number[-1]) + 1

    @property
    def firsts(self) -> NDArray[np.intp]:
        """The first row (E,) of each."""
        return np.flatnonzero(self.time == 0)

    def sums(self, rows: FloatArray) -> FloatArray:
        """Sums (E, ...) of rows (N, ...) over each."""
        return np.add.reduceat(rows, self.firsts)


def episodes(terminated: ArrayLike, truncated: ArrayLike) -> Episodes:
    """Split rows into episodes; the last row ends one whether it is flagged or not.

    Examples
    --------
    >>> episodes([0, 1, 0, 0], [0, 0, 0, 1]).time
    array([0, 1, 0, 1])
    """
    over = np.asarray(terminated, dtype=bool)
    cut = np.asarray(truncated, dtype=bool)
    if over.ndim != 1 or over.shape != cut.shape or over.size == 0:
        raise ValueError(f"terminated and truncated must have one shape (N,), N >= 1, got {over.shape}, {cut.shape}")
    ends = over | cut
    ends[-1] = True
    index = np.concatenate([[0], np.cumsum(ends[:-1])])
    starts = np.concatenate([[0], np.flatnonzero(ends)[:-1] + 1])
    return Episodes(ends, index, np.arange(over.size) - starts[index])


def cut_short(batch: Batch) -> bool:
    """Whether the end of the recording cut the last episode short: it has no return yet.

    A limit of time ends episodes at one length, so that one which stops before the longest, neither terminated nor
    restarted, met no limit.

    Examples
    --------
    >>> cut_short(Batch([0, 1, 0], [0, 0, 0], [1.0, 1.0, 1.0], [1, 0, 1], terminated=[False, True, False]))
    True
    """
    lengths = np.unique(batch.episode, return_counts=True)[1]
    return bool(lengths[-1] < lengths.max() and not batch.terminated[-1] and not batch.restarted[-1])


def backward_sums(values: FloatArray, ends: NDArray[np.bool_], decay: float) -> FloatArray:
    """``y_t = x_t + decay y_{t+1}`` within each episode (N,)."""
    sums = np.empty_like(values)
    carried = 0.0
    for i in range(values.size - 1, -1, -1):
        carried = values[i] + (0.0 if ends[i] else decay * carried)
        sums[i] = carried
    return sums


def bootstrapped_rewards(
    rewards: ArrayLike, terminated: ArrayLike, truncated: ArrayLike, next_values: ArrayLike, gamma: float
) -> FloatArray:
    """Rewards (N,) plus ``gamma V(s')`` where an episode is cut off without being over.

    With them in place of the rewards, sums to the end of an episode stand for the whole future.

    Examples
    --------
    >>> bootstrapped_rewards([1.0, 1.0, 1.0], [0, 1, 0], [0, 0, 1], [10.0, 10.0, 10.0], 0.5)
    array([1., 1., 6.])
    """
    parts = episodes(terminated, truncated)
    shape = parts.ends.shape
    r, v = as_float_array(rewards, "rewards", shape), as_float_array(next_values, "next_values", shape)
    cut = parts.ends & ~np.asarray(terminated, dtype=bool)
    return r + as_scalar(gamma, "gamma", low=0.0, high=1.0) * np.where(cut, v, 0.0)


def returns_to_go(
    rewards: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    gamma: float,
    next_values: ArrayLike | None = None,
) -> FloatArray:
    """Discounted rewards from each row to the end of its episode (N,): Monte Carlo estimates of Q(s, a).

    Parameters
    ----------
    next_values
        V(s') (N,), added where an episode is cut off; without it what comes after the cut counts as zero.
    """
    parts = episodes(terminated, truncated)
    r = as_float_array(rewards, "rewards", parts.ends.shape)
    if next_values is not None:
        r = bootstrapped_rewards(r, terminated, truncated, next_values, gamma)
    return backward_sums(r, parts.ends, as_scalar(gamma, "gamma", low=0.0, high=1.0))


def generalised_advantages(
    rewards: ArrayLike,
    values: ArrayLike,
    next_values: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    gamma: float,
    gae_lambda: float = 0.95,
    trace: float | None = None,
) -> FloatArray:
    r"""Generalised advantage estimates (N,).

    .. math:: \hat A_t = \sum_{l\ge 0} (\gamma\lambda)^l \delta_{t+l}, \qquad
              \delta_t = r_t + \gamma (1 - \text{terminated}_t) V(s_{t+1}) - V(s_t)

    The sum stops at the end of the episode, and a truncated one still counts the value of its next state.

    Parameters
    ----------
    values, next_values
        V(s) and V(s') (N,); what is said of V(s') after termination is ignored.
    gae_lambda
        lambda in [0, 1]: 0 trusts the values, 1 the returns; ``trace`` until 0.3.

    References
    ----------
    Schulman et al. (2016), *High-dimensional continuous control using generalized advantage estimation*, equation 16.

    Examples
    --------
    >>> generalised_advantages([1.0, 1.0], [0.0, 0.0], [0.0, 4.0], [0, 0], [0, 1], gamma=0.5, gae_lambda=1.0)
    array([2.5, 3. ])
    >>> generalised_advantages([1.0, 1.0], [0.0, 0.0], [0.0, 4.0], [0, 1], [0, 0], gamma=0.5, gae_lambda=1.0)
    array([1.5, 1. ])
    """
    parts = episodes(terminated, truncated)
    shape = parts.ends.shape
    r, v = as_float_array(rewards, "rewards", shape), as_float_array(values, "values", shape)
    ahead = as_float_array(next_values, "next_values", shape)
    discount = as_scalar(gamma, "gamma", low=0.0, high=1.0)
    if trace is not None:
        warn_renamed("trace", "gae_lambda")
        gae_lambda = trace
    decay = discount * as_scalar(gae_lambda, "gae_lambda", low=0.0, high=1.0)
    delta = r + discount * np.where(np.asarray(terminated, dtype=bool), 0.0, ahead) - v
    return backward_sums(delta, parts.ends, decay)


class Transitions(TransitionRows, Protocol):
    """What an update asks of a batch: its transitions, episode after episode."""

    @property
    def truncated(self) -> NDArray[np.bool_]: ...


class Advantages(NamedTuple):
    """Advantages and the values of states that they were measured against, both (N,), and what to keep."""

    advantages: FloatArray
    values: FloatArray
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
    inputs, following = as_columns(batch.states), as_columns(batch.next_states)
    learns = isinstance(value_model, ValueNetwork)
    if learns and memory:
        values, ahead = value_model.predict(memory, inputs), value_model.predict(memory, following)
    else:
        values, ahead = _regressed(batch, rewards, gamma, None if learns else value_model, inputs, following)
    flags = batch.terminated, batch.truncated
    advantages = generalised_advantages(rewards, values, ahead, *flags, gamma, gae_lambda)
    if not learns or memory is None:
        return Advantages(advantages, values)
    return Advantages(advantages, values, value_model.learn(memory, inputs, advantages + values))


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
