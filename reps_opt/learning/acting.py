"""How a policy, known by protocol only, acts at one state or at many, and what an action space makes of it.

Shapes: n states side by side; actions (n,) or (n, ...) in the space's own shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Act = Callable[[Any, np.random.Generator], Any]
Take = Callable[[Any], tuple[Any, Any]]

NO_ARRAYS = ("Dict", "Tuple", "Sequence", "Graph", "Text", "OneOf")
"""Gymnasium's spaces whose members are no single array."""


def check_policy(policy: Any) -> None:
    """Raise TypeError unless the policy samples, acts, or is None."""
    if isinstance(policy, type) or not (policy is None or hasattr(policy, "sample") or callable(policy)):
        raise TypeError(f"policy must have sample(states, rng) or be act(state, rng), got {policy!r}")


def many(policy: Any, space: Any, deterministic: bool) -> Act:
    """The policy at many states at once."""
    if policy is None:
        return lambda states, rng: _uniform(space, rng, len(states))
    if hasattr(policy, "sample"):
        return (lambda states, rng: policy.predict(states)) if deterministic else policy.sample
    return lambda states, rng: np.stack([np.asarray(policy(s, None if deterministic else rng)) for s in states])


def one(policy: Any, space: Any, deterministic: bool) -> Act:
    """The policy at one state."""
    if policy is None:
        return lambda state, rng: _uniform(space, rng, 1)[0]
    if not hasattr(policy, "compile") and hasattr(policy, "sample"):
        batched = many(policy, space, deterministic)
        return lambda state, rng: batched(np.asarray(state)[None], rng)[0]
    act = policy.compile() if hasattr(policy, "compile") else policy
    return (lambda state, rng: act(state, None)) if deterministic else act


def _uniform(space: Any, rng: np.random.Generator, n: int) -> NDArray[Any]:
    kind = type(space).__name__
    if kind == "MultiBinary":
        return rng.integers(2, size=(n, *space.shape))
    if kind == "MultiDiscrete":
        return space.start + rng.integers(space.nvec, size=(n, *space.shape))
    if hasattr(space, "n"):
        return int(getattr(space, "start", 0)) + rng.integers(int(space.n), size=n)
    if not hasattr(space, "low") or not np.all(np.isfinite(space.low) & np.isfinite(space.high)):
        raise ValueError(f"policy None needs a discrete or a bounded action space, got {space}")
    return rng.uniform(space.low, space.high, size=(n, *space.shape))


def as_actions(actions: Any, space: Any, n: int) -> NDArray[Any]:
    """Actions in the shape the space asks for, (n,) or (n, ...): finite, and whole numbers where it is discrete."""
    array = np.asarray(actions)
    if array.shape[:1] != (n,) or array.size != n * int(np.prod(space.shape)):
        raise ValueError(f"policy must return {n} actions of shape {space.shape}, got an array of shape {array.shape}")
    kind = array.dtype.kind
    if kind not in "buif":
        raise TypeError(f"policy must return numbers as actions, got dtype {array.dtype}")
    if kind == "f":
        if not np.isfinite(array).all():
            raise ValueError(f"policy returned an action that is {array[~np.isfinite(array)][0]}: it must be finite")
        if not hasattr(space, "low") and (array != np.floor(array)).any():
            wrong = array[array != np.floor(array)][0]
            raise ValueError(f"policy must return whole numbers as actions of {space}, got {wrong:g}")
    if hasattr(space, "n") and not space.shape:
        start = int(getattr(space, "start", 0))
        if array.min() < start or array.max() >= start + int(space.n):
            wrong = array[(array < start) | (array >= start + int(space.n))][0]
            raise ValueError(f"policy must return actions of {space}, got {wrong:g}")
    return array.reshape(n, *space.shape)


def taker(space: Any) -> Take:
    """For one action at a time: the action as it is recorded, a row or a number, and as the environment takes it.

    It does what :func:`as_actions` and :func:`legal` do, in a few microseconds; what is odd goes through these.
    """
    kind = type(space).__name__

    def plain(action: Any) -> tuple[Any, Any]:
        actions = as_actions(np.asarray(action)[None], space, 1)
        return as_rows(actions)[0], legal(actions[0], space)

    if kind == "Discrete":
        first, last = int(space.start), int(space.start) + int(space.n) - 1

        def discrete(action: Any) -> tuple[Any, Any]:
            if type(action) is int or isinstance(action, np.integer):
                number = int(action)
                if first <= number <= last:
                    return number, number
            return plain(action)

        return discrete
    if kind != "Box" or space.dtype.kind != "f":
        return plain
    low, high, dtype, shape = space.low, space.high, space.dtype, space.shape
    size = int(np.prod(shape))

    def box(action: Any) -> tuple[Any, Any]:
        array = np.asarray(action)
        if array.size != size or array.dtype.kind != "f" or not math.isfinite(array.sum()):
            return plain(action)
        shaped = array.reshape(shape)
        return shaped.reshape(-1), np.minimum(np.maximum(shaped, low), high).astype(dtype)

    return box if shape else plain


def legal(actions: NDArray[Any], space: Any) -> Any:
    """The action a Gymnasium environment takes: in the space's shape, dtype and bounds."""
    if hasattr(space, "low"):
        shape = actions.shape if actions.ndim > len(space.shape) else space.shape
        return np.clip(actions.reshape(shape), space.low, space.high).astype(space.dtype)
    return int(actions) if actions.ndim == 0 else actions.astype(space.dtype, copy=False)


def check_spaces(observation_space: Any, action_space: Any, name: str) -> None:
    """Raise TypeError for a space whose members are no single array, naming it and the environment."""
    for space, what in ((observation_space, "observes"), (action_space, "acts in")):
        if type(space).__name__ in NO_ARRAYS:
            hint = "FlattenObservation" if what == "observes" else "a wrapper that builds the action from one array"
            raise TypeError(f"env {name} {what} {space}, whose members are no single array: wrap it, in {hint}")


def as_row(observed: Any) -> NDArray[Any]:
    """One observation, flattened to (m,), or a number."""
    array = _numbers(observed)
    return array.reshape(-1) if array.ndim > 1 else array.copy()


def as_rows(observed: Any) -> NDArray[Any]:
    """Observations, one a row, flattened to (n, m), or (n,) numbers."""
    array = _numbers(observed)
    return array.reshape(len(array), -1) if array.ndim > 1 else array.copy()


def _numbers(observed: Any) -> NDArray[Any]:
    try:
        array = np.asarray(observed)
    except ValueError:  # ragged
        array = np.asarray(None)
    if array.dtype.kind not in "buif":
        what = type(observed).__name__
        raise TypeError(f"env must observe numbers, got {what}: wrap it, in FlattenObservation for one")
    return array
