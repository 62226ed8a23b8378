"""What a run was set up with, as JSON can hold it: checkpoints compare it when they are resumed.

Numbers, names and sequences stand for themselves, arrays for a digest, functions for their names, and other objects for
their class and whatever its constructor was given.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from reps_opt.tolerances import DEEPEST_SETTING


def describe(value: Any, depth: int = DEEPEST_SETTING) -> Any:
    """A value as JSON can hold it, equal for what is set up alike.

    Examples
    --------
    >>> from reps_opt import TRPO
    >>> described = describe(TRPO(epsilon=0.02))
    >>> described["class"], described["epsilon"]
    ('TRPO', 0.02)
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _digest(value)
    if depth == 0:
        return type(value).__name__
    if isinstance(value, Mapping):
        return {str(key): describe(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item, depth - 1) for item in value]
    if isinstance(value, functools.partial):
        return {
            "class": "partial",
            "of": describe(value.func, depth - 1),
            "with": describe([value.args, value.keywords], depth - 1),
        }
    if inspect.isroutine(value) or isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return {"class": type(value).__name__} | {name: describe(item, depth - 1) for name, item in _settings(value)}


def describe_env(env: Any) -> Any:
    """An environment: its id and what it was made with, or its class and settings."""
    if isinstance(env, str):
        return env
    spec = getattr(env, "spec", None)
    if spec is not None and hasattr(spec, "id"):
        return {"class": spec.id, **describe(dict(getattr(spec, "kwargs", {})))}
    return describe(env)


def describe_policy(policy: Any) -> Any:
    """A policy: its settings, and its parameters where it has some."""
    described = describe(policy)
    params = getattr(policy, "params", None) if isinstance(described, dict) else None
    if isinstance(params, np.ndarray):
        described["params"] = _digest(params)
    return described


def first_difference(its: Any, mine: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """Where two descriptions differ first: the dotted name of the setting, what it is in the one, and in the other."""
    if isinstance(its, Mapping) and isinstance(mine, Mapping):
        for key in [*mine, *(key for key in its if key not in mine)]:
            found = first_difference(its.get(key), mine.get(key), f"{name}.{key}" if name else str(key))
            if found is not None:
                return found
        return None
    return None if its == mine else (name, its, mine)


def _settings(value: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of what an object was set up with."""
    if is_dataclass(value) and not isinstance(value, type):
        yield from ((part.name, getattr(value, part.name)) for part in fields(value))
    elif hasattr(value, "get_params"):
        yield from sorted(value.get_params(deep=False).items())
    else:
        try:
            names = inspect.signature(type(value)).parameters
        except (TypeError, ValueError):
            return
        yield from ((name, getattr(value, name)) for name in names if hasattr(value, name))


def _digest(array: np.ndarray) -> str:
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return f"array {array.dtype} {array.shape} {content}"
