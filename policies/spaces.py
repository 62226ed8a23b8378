"""What a policy reads from Gymnasium's spaces, and discrete observations as one-hot rows.

Shapes: N states, d state dimensions, k action dimensions, A actions. One rule for discrete observations, everywhere: a
policy that knows its number of states n takes indices of shape (N,) or (N, 1), or one-hot rows (N, n).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policies.actors import Act
from policies.features import weighted_spread
from policies.tolerances import TYPICAL_NUMBERS, TYPICAL_STATES, UNBOUNDED
from reps_opt.validation import FloatArray, as_count, as_float_array, check_shape


@dataclass(frozen=True)
class Observations:
    """Size and scale of what is observed.

    Parameters
    ----------
    n_states
        Number of states of a discrete space; None for numbers.
    centre, spread
        Typical mean and standard deviation of each column, shape (d,).
    seen
        Observed states (N, d), where there are any.
    """

    n_states: int | None
    centre: FloatArray
    spread: FloatArray
    seen: FloatArray | None = None

    @property
    def typical(self) -> FloatArray:
        """States to place features by, shape (N, d): those seen, or evenly spread ones; all of a discrete space."""
        d = len(self.centre)
        if self.n_states is not None:
            return np.eye(d)
        if self.seen is not None:
            return self.seen
        n = max(2, min(TYPICAL_STATES, TYPICAL_NUMBERS // d))
        drawn = np.random.default_rng(0).uniform(-np.sqrt(3.0), np.sqrt(3.0), size=(n, d))
        return self.centre + self.spread * drawn


def spaces_of(env: Any) -> tuple[Any, Any]:
    """Observation and action space of an environment, of one of a vector environment's, or of a registered name."""
    if isinstance(env, str):
        import gymnasium

        made = gymnasium.make(env)
        made.close()
        return made.observation_space, made.action_space
    found = tuple(
        getattr(env, f"single_{kind}_space", None) or getattr(env, f"{kind}_space", None)
        for kind in ("observation", "action")
    )
    if None in found:
        raise TypeError(f"env must have an observation_space and an action_space, got {env!r}")
    return found[0], found[1]


def read_observations(space: Any, states: ArrayLike | None, who: str) -> Observations:
    """Discrete observations by number, boxes flattened; TypeError that names any other space."""
    from gymnasium.spaces import Box, Discrete

    if isinstance(space, Discrete):
        if space.start != 0:
            raise ValueError(f"observation_space must count from 0, got {space}: shift it by TransformObservation")
        n = int(space.n)
        return Observations(n, np.zeros(n), np.ones(n))
    if not isinstance(space, Box):
        raise TypeError(f"{who} needs a Box or Discrete observation_space, got {space}: wrap it, in FlattenObservation")
    if states is None:
        centre, half = _middle(space)
        return Observations(None, centre, np.where(np.isfinite(half), half / np.sqrt(3.0), 1.0))
    seen = as_float_array(states, "states")
    check_shape(seen, "states", ("N", int(np.prod(space.shape))))
    return Observations(None, seen.mean(axis=0), weighted_spread(seen, np.ones(len(seen))), seen)


def read_box_actions(space: Any, who: str) -> tuple[FloatArray, FloatArray]:
    """Centre and half-range of each action dimension, both (k,); zero and one where it has no bounds."""
    from gymnasium.spaces import Box

    if not isinstance(space, Box):
        hint = ": SoftmaxPolicy and NeuralCategoricalPolicy act in it" if hasattr(space, "n") else ""
        raise TypeError(f"{who} needs a Box action_space, got {space}{hint}")
    centre, half = _middle(space)
    return centre, np.where(np.isfinite(half), half, 1.0)


def read_labels(space: Any, who: str) -> NDArray[Any]:
    """Action labels (A,) of a discrete space."""
    from gymnasium.spaces import Discrete

    if not isinstance(space, Discrete):
        hint = ": LinearGaussianPolicy and NeuralPolicy act in it" if hasattr(space, "low") else ""
        raise TypeError(f"{who} needs a Discrete action_space, got {space}{hint}")
    return int(space.start) + np.arange(int(space.n))


def _middle(box: Any) -> tuple[FloatArray, FloatArray]:
    """Middle and half-range of each column of a box, (d,); zero and infinite where it has no bounds."""
    low = np.asarray(box.low, dtype=np.float64).reshape(-1)
    high = np.asarray(box.high, dtype=np.float64).reshape(-1)
    bounded = (np.abs(low) < UNBOUNDED) & (np.abs(high) < UNBOUNDED) & (low < high)
    low, high = np.where(bounded, low, 0.0), np.where(bounded, high, 0.0)
    return (low + high) / 2, np.where(bounded, (high - low) / 2, np.inf)


def state_indices(states: Any, n_states: Any, name: str) -> NDArray[np.intp]:
    """Indices (N,) of discrete states given as (N,), as (N, 1), or as one-hot rows (N, n).

    Raises
    ------
    ValueError
        For indices that are no whole numbers 0 .. n - 1, and rows that are not one-hot.

    Examples
    --------
    >>> state_indices([[2], [0]], 3, "states")
    array([2, 0])
    >>> state_indices([[0.0, 0.0, 1.0]], 3, "states")
    array([2])
    """
    n = as_count(n_states, "n_states")
    array = np.asarray(states)
    if array.ndim == 2 and array.shape[1] == n != 1:
        hot = np.argmax(array, axis=1)
        wrong = np.flatnonzero(~np.all(array == np.eye(n)[hot], axis=1))
        if wrong.size:
            raise ValueError(f"{name}[{wrong[0]}] is not one-hot: states are indices 0 .. {n - 1}, or one-hot rows")
        return hot
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
        raise ValueError(f"{name} has shape {array.shape}: states must be one column of indices 0 .. {n - 1}")
    column = as_float_array(array.reshape(-1), name)
    wrong = np.flatnonzero(~np.isin(column, np.arange(n)))
    if wrong.size:
        raise ValueError(
            f"{name}[{wrong[0]}] is {column[wrong[0]]:g}: states must be one column of indices 0 .. {n - 1}"
        )
    return column.astype(np.intp)


@dataclass(frozen=True)
class OneHotActor:
    """A compiled policy on one-hot rows, given the index of the state, or its row."""

    act: Act
    n_states: int

    def __call__(self, state: ArrayLike, rng: np.random.Generator | None = None) -> Any:
        given = np.asarray(state).reshape(-1)
        if len(given) == 1:
            row = np.zeros(self.n_states)
            row[int(given[0])] = 1.0
            given = row
        return self.act(given, rng)
