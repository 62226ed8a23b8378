"""Logged episodes, as Minari keeps them, read into a batch.

Shapes: n transitions an episode, n + 1 observations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def read_episodes(cls: Any, dataset: Iterable[Any], observe: Callable[[Any], ArrayLike] | None = None) -> Any:
    """The batch, of a class of batches, of all episodes; see :meth:`reps_opt.Batch.from_minari`."""
    parts = [_episode(cls, log, place, observe or _side_by_side) for place, log in enumerate(dataset)]
    if not parts:
        raise ValueError("dataset is empty: it holds no episode with a transition")
    name = getattr(getattr(dataset, "spec", None), "dataset_id", None)
    return replace(cls.concatenate(parts), info={} if name is None else {"minari": name})


def _episode(cls: Any, log: Any, place: int, observe: Callable[[Any], ArrayLike]) -> Any:
    """One logged episode as a batch; errors name it."""
    seen = np.asarray(observe(log.observations))
    n = len(log.rewards)
    if seen.shape[:1] != (n + 1,):
        raise ValueError(f"dataset: episode {place} has {n} rewards and observations {seen.shape}, not {n + 1} rows")
    flags = {"terminated": log.terminations, "truncated": log.truncations, "episode": np.zeros(n, dtype=np.int64)}
    try:
        return cls(seen[:-1], np.asarray(_side_by_side(log.actions)), log.rewards, seen[1:], **flags)
    except (TypeError, ValueError) as error:
        raise type(error)(f"dataset: episode {place}: {error}") from None


def _side_by_side(values: Any) -> ArrayLike:
    """Rows of composite observations or actions, flattened: the parts of a dictionary or a tuple as columns."""
    if isinstance(values, Mapping):
        values = tuple(values[key] for key in sorted(values))
    if not isinstance(values, tuple):
        return values
    parts = [np.asarray(_side_by_side(part)) for part in values]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
