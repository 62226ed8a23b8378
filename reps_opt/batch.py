"""Sampled transitions as frozen arrays: what roll-outs and logs hand to every sample problem.

Shapes: N transitions, E episodes; states (N, ds) and actions (N, da) keep the shape they come in, one row a transition.
States and actions of discrete spaces are integers (N,).

One rule for episodes, kept here and read everywhere: the last transition of an episode, and no other, is terminated,
truncated or restarted. Where labels say that an episode ends and no flag does, the recording ended: it is truncated.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reps_opt.storage import MALFORMED, atomic_write, read_arrays
from reps_opt.validation import FloatArray, as_float_array, read_only

FORMAT = "reps_opt.Batch/1"
ROWS = ("states", "actions", "rewards", "next_states", "terminated", "truncated", "restarted", "episode", "costs")
"""Arrays with one row a transition."""

ARRAYS = (*ROWS, "start_states")
OPTIONAL = ("restarted", "costs")
"""Arrays that files of 0.2 do not hold; ``costs`` may be missing in any."""


@dataclass(frozen=True, eq=False, repr=False)
class Batch:
    """Transitions in the order they happened, episode after episode.

    Parameters
    ----------
    states, actions, next_states
        One row a transition: (N,) or (N, k), integers or floats. The three are copied and frozen.
    rewards
        (N,).
    start_states
        One row an episode (E,) or (E, k). By default the first state of every episode.
    terminated
        (N,) whether the process ended there: its next state has no future.
    truncated
        (N,) whether only the recording ended there (a time limit, a restart): its next state goes on.
    episode
        (N,) integers, the same within an episode, never falling. By default a new episode begins after every
        terminated, truncated or restarted transition. The last transition of an episode that no flag ends is truncated.
    info
        What JSON can hold: where the data came from.
    restarted
        (N,) whether a coin, not the clock, sent the process back to a start there, as ``rollout(..., restart=0.01)``
        does: the visits of such episodes are those of a discounted process. What is restarted is truncated too.
    costs
        (N,), or (N, c) for c kinds of cost, what each transition costs beside its reward; None where nobody counts.

    Raises
    ------
    TypeError, ValueError
        For no transitions, lengths that differ, NaN or infinite numbers, an episode index that falls, a flag that ends
        an episode which its label continues.

    Examples
    --------
    >>> batch = Batch([0, 1, 2], [0, 0, 1], [0.0, 0.0, 1.0], [1, 2, 0], terminated=[False, False, True])
    >>> batch
    Batch(3 transitions, 1 episodes, states (1,), actions (1,), mean return 1)
    >>> batch.returns
    array([1.])
    >>> (batch + batch).episode
    array([0, 0, 0, 1, 1, 1])
    """

    states: NDArray[Any]
    actions: NDArray[Any]
    rewards: FloatArray
    next_states: NDArray[Any]
    start_states: NDArray[Any] = None  # type: ignore[assignment]
    terminated: NDArray[np.bool_] = None  # type: ignore[assignment]
    truncated: NDArray[np.bool_] = None  # type: ignore[assignment]
    episode: NDArray[np.int64] = None  # type: ignore[assignment]
    info: Mapping[str, Any] = field(default_factory=dict)
    restarted: NDArray[np.bool_] = None  # type: ignore[assignment]
    costs: FloatArray | None = None

    def __post_init__(self) -> None:
        rewards = as_float_array(self.rewards, "rewards", ("N",))
        n = rewards.size
        if n == 0:
            raise ValueError("rewards is empty: a batch needs at least one transition")
        states = _as_rows(self.states, "states", n)
        following = _as_rows(self.next_states, "next_states", n)
        if following.shape != states.shape:
            raise ValueError(f"next_states must have the shape of states {states.shape}, got {following.shape}")
        terminated = _as_flags(self.terminated, "terminated", n)
        restarted = _as_flags(self.restarted, "restarted", n) & ~terminated
        truncated = _as_flags(self.truncated, "truncated", n) | restarted
        episode = _as_episode(self.episode, {"terminated": terminated, "truncated": truncated})
        truncated |= _lasts(episode) & ~terminated
        starts = states[_firsts(episode)] if self.start_states is None else _as_rows(self.start_states, "start_states")
        if starts.shape[1:] != states.shape[1:] or starts.shape[0] == 0:
            raise ValueError(f"start_states must have rows of shape {states.shape[1:]}, got {starts.shape}")
        frozen = {
            "states": states,
            "actions": _as_rows(self.actions, "actions", n),
            "rewards": rewards,
            "next_states": following,
            "start_states": starts,
            "terminated": terminated,
            "truncated": truncated,
            "episode": episode,
            "restarted": restarted,
        }
        if self.costs is not None:
            frozen["costs"] = _as_costs(self.costs, n)
        for name, array in frozen.items():
            object.__setattr__(self, name, read_only(array.copy()))
        object.__setattr__(self, "info", dict(self.info))

    def __len__(self) -> int:
        return self.rewards.size

    @property
    def n_episodes(self) -> int:
        """Number of episodes, the unfinished ones included."""
        return int(np.unique(self.episode).size)

    @property
    def returns(self) -> FloatArray:
        """Undiscounted sum of rewards of every episode (E,)."""
        return np.add.reduceat(self.rewards, np.flatnonzero(_firsts(self.episode)))

    @property
    def ends(self) -> NDArray[np.bool_]:
        """Whether an episode ends with this transition (N,), by any flag."""
        return self.terminated | self.truncated

    @property
    def time(self) -> NDArray[np.int64]:
        """Place of each transition within its episode (N,), from 0."""
        firsts = np.flatnonzero(_firsts(self.episode))
        return np.arange(len(self)) - np.repeat(firsts, np.diff(np.r_[firsts, len(self)]))

    def select(self, index: ArrayLike) -> Batch:
        """The transitions at positions (negative from the end) or under a mask, in the order they happened.

        Episodes keep their labels and start states: one whose last transitions are left out is truncated where it ends
        now, and never joined with the next.

        Raises
        ------
        TypeError, ValueError
            For an index that is no mask of this length and no positions, or that holds a position twice.
        """
        places = _as_places(index, len(self))
        return Batch(**self._rows(places), start_states=self.start_states, info=self.info)

    def _rows(self, places: Any) -> dict[str, Any]:
        columns = {name: getattr(self, name) for name in ROWS}
        return {name: None if column is None else column[places] for name, column in columns.items()}

    def select_episodes(self, episodes: ArrayLike) -> Batch:
        """Whole episodes by position 0...E-1 (negative from the end), with their own start states if one each."""
        labels = np.unique(self.episode)
        wanted = labels[np.atleast_1d(episodes)]
        mask = np.isin(self.episode, wanted)
        own = self.start_states.shape[0] == labels.size
        starts = self.start_states[np.isin(labels, wanted)] if own else self.start_states
        return Batch(**self._rows(mask), start_states=starts, info=self.info)

    @classmethod
    def concatenate(cls, batches: Iterable[Batch]) -> Batch:
        """Batches one after the other, their episodes renumbered from zero."""
        parts = list(batches)
        if not parts:
            raise ValueError("batches is empty: at least one is needed")
        names = {name for name in ROWS if name != "episode"}
        if any(part.costs is None for part in parts):
            names.remove("costs")
            if any(part.costs is not None for part in parts):
                raise ValueError("batches: some hold costs and some do not")
        rows = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        starts = np.concatenate([part.start_states for part in parts])
        labels, offset = [], 0
        for part in parts:
            labels.append(np.unique(part.episode, return_inverse=True)[1] + offset)
            offset += part.n_episodes
        return cls(**rows, start_states=starts, episode=np.concatenate(labels), info=parts[0].info)

    @classmethod
    def from_minari(cls, dataset: Iterable[Any], observe: Callable[[Any], ArrayLike] | None = None) -> Batch:
        """Logged episodes of a Minari dataset, one observation longer than their actions.

        Parameters
        ----------
        dataset
            A ``minari.MinariDataset``, what its ``iterate_episodes`` gives, or any iterable of objects with its
            fields: ``observations`` (n + 1 rows), ``actions`` (n rows), ``rewards``, ``terminations`` and
            ``truncations`` (n,).
        observe
            From an episode's observations to rows of one array. By default arrays stay as they are, and the parts of
            a tuple, or of a dictionary in the order of its sorted keys, are laid side by side; so are the actions'.

        Raises
        ------
        ValueError
            For no episodes, or one whose lengths do not fit; the message names the episode.

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> log = SimpleNamespace(observations=[0, 1, 2], actions=[1, 1], rewards=[0.0, 1.0],
        ...                       terminations=[False, False], truncations=[False, True])
        >>> batch = Batch.from_minari([log, log])
        >>> batch
        Batch(4 transitions, 2 episodes, states (1,), actions (1,), mean return 1)
        >>> batch.next_states.tolist(), batch.truncated.tolist()
        ([1, 2, 1, 2], [False, True, False, True])
        """
        parts = [_logged(log, place, observe or _side_by_side) for place, log in enumerate(dataset)]
        if not parts:
            raise ValueError("dataset is empty: it holds no episode with a transition")
        name = getattr(getattr(dataset, "spec", None), "dataset_id", None)
        return replace(cls.concatenate(parts), info={} if name is None else {"minari": name})

    def __add__(self, other: Batch) -> Batch:
        return Batch.concatenate([self, other])

    def to_frame(self) -> Any:
        """The transitions as a ``pandas.DataFrame``, one row each.

        Columns ``episode`` and ``time`` first; ``state``, ``action``, ``next_state`` and ``cost``, numbered from
        ``state_0`` where they are several; ``reward`` and the flags.

        Examples
        --------
        >>> Batch([0, 1], [1, 1], [0.5, 2.0], [1, 0]).to_frame()[["episode", "time", "state", "reward", "truncated"]]
           episode  time  state  reward  truncated
        0        0     0      0     0.5      False
        1        0     1      1     2.0       True
        """
        import pandas as pd

        columns: dict[str, Any] = {"episode": self.episode, "time": self.time}
        columns |= _columns("state", self.states) | _columns("action", self.actions) | {"reward": self.rewards}
        columns |= _columns("next_state", self.next_states)
        columns |= {name: getattr(self, name) for name in ("terminated", "truncated", "restarted")}
        return pd.DataFrame(columns | ({} if self.costs is None else _columns("cost", self.costs)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays by name, without those that are None: what files hold."""
        named = {name: getattr(self, name) for name in ARRAYS}
        return {name: array for name, array in named.items() if array is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], info: Mapping[str, Any] | None = None, prefix: str = "") -> Batch:
        """The batch of :meth:`arrays`, found under their names behind a prefix."""
        found: dict[str, Any] = {
            name: arrays.get(prefix + name) if name in OPTIONAL else arrays[prefix + name] for name in ARRAYS
        }
        return cls(**found, info=info or {})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write to an ``.npz`` file without pickle, through a temporary file that is synced and renamed over it.

        A process killed at any moment leaves the old file or the new one, never half of one.
        """
        target = Path(path)
        target = target if target.suffix == ".npz" else target.with_name(target.name + ".npz")
        arrays: dict[str, Any] = self.arrays()
        header = json.dumps({"format": FORMAT, "info": self.info})
        with atomic_write(target) as file:
            np.savez_compressed(file, header=np.frombuffer(header.encode(), dtype=np.uint8), **arrays)
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Batch:
        """Read what :meth:`save` wrote; nothing in the file is executed."""
        arrays = read_arrays(path)
        try:
            header = json.loads(arrays["header"].tobytes()) if "header" in arrays else {}
            if header.get("format") != FORMAT:
                raise ValueError(f"format {header.get('format')!r}, expected {FORMAT!r}")
            return cls.from_arrays(arrays, header["info"])
        except MALFORMED as error:
            raise ValueError(f"{os.fspath(path)} is not a saved Batch: {error}") from None

    def __repr__(self) -> str:
        shapes = f"states {self.states.shape[1:] or (1,)}, actions {self.actions.shape[1:] or (1,)}"
        mean = float(self.returns.mean())
        return f"Batch({len(self)} transitions, {self.n_episodes} episodes, {shapes}, mean return {mean:g})"


def _as_rows(values: ArrayLike, name: str, n: int | None = None) -> NDArray[Any]:
    """One row a transition, integers kept as integers."""
    integers = isinstance(values, np.ndarray) and values.dtype.kind in "bui"
    array = as_float_array(values, name)
    if array.ndim == 0 or (n is not None and array.shape[0] != n):
        raise ValueError(f"{name} must have {'some' if n is None else n} rows, got shape {array.shape}")
    if not integers and np.asarray(values).dtype.kind in "bui":
        integers = True
    return np.asarray(values) if integers else array


def _as_flags(values: ArrayLike | None, name: str, n: int) -> NDArray[np.bool_]:
    if values is None:
        return np.zeros(n, dtype=bool)
    array = np.asarray(values)
    if array.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), got {array.shape}")
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must hold booleans, got dtype {array.dtype}")
    return array.astype(bool)


def _as_episode(values: ArrayLike | None, flags: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.int64]:
    """Labels (N,): those given, checked against the flags, or those that the flags say."""
    ended = np.logical_or.reduce(list(flags.values()))
    if values is None:
        return np.concatenate([[0], np.cumsum(ended[:-1])]).astype(np.int64)
    array = np.asarray(values)
    if array.shape != ended.shape or array.dtype.kind not in "ui":
        raise ValueError(f"episode must be integers of shape {ended.shape}, got {array.dtype} {array.shape}")
    array = array.astype(np.int64)
    falls = np.flatnonzero(np.diff(array) < 0)
    if falls.size:
        raise ValueError(f"episode[{falls[0] + 1}] falls: the transitions of an episode must lie together, in order")
    inside = np.flatnonzero(ended & ~_lasts(array))
    if inside.size:
        i = int(inside[0])
        name = next(name for name, flag in flags.items() if flag[i])
        label = array[i]
        raise ValueError(f"{name}[{i}] ends an episode, but episode[{i + 1}] = {label} says that it goes on")
    return array


def _as_costs(values: ArrayLike, n: int) -> FloatArray:
    array = as_float_array(values, "costs")
    if array.ndim not in (1, 2) or array.shape[0] != n:
        raise ValueError(f"costs must have shape ({n},) or ({n}, c), got {array.shape}")
    return array


def _as_places(index: ArrayLike, n: int) -> NDArray[np.intp]:
    """Positions in order, of a mask (n,) or of integers, each once."""
    chosen = np.asarray(index)
    if chosen.dtype == bool:
        if chosen.shape != (n,):
            raise ValueError(f"index must be a mask of shape ({n},), got {chosen.shape}")
        return np.flatnonzero(chosen)
    if chosen.ndim != 1 or chosen.dtype.kind not in "ui":
        raise TypeError(f"index must be a mask or positions, got {chosen.dtype} of shape {chosen.shape}")
    outside = np.flatnonzero((chosen < -n) | (chosen >= n))
    if outside.size:
        raise ValueError(f"index[{outside[0]}] is {chosen[outside[0]]}: the batch has {n} transitions")
    places = np.sort(chosen.astype(np.intp) % n)
    twice = np.flatnonzero(np.diff(places) == 0)
    if twice.size:
        raise ValueError(f"index holds {places[twice[0]]} twice: a transition happened once, weigh it instead")
    return places


def _columns(name: str, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """A column of numbers under its name; several, numbered."""
    flat = rows.reshape(len(rows), -1)
    return {name if flat.shape[1] == 1 else f"{name}_{i}": column for i, column in enumerate(flat.T)}


def _firsts(episode: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.concatenate([[True], np.diff(episode) > 0])


def _lasts(episode: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.concatenate([np.diff(episode) > 0, [True]])


def _logged(log: Any, place: int, observe: Callable[[Any], ArrayLike]) -> Batch:
    """One logged episode as a batch; errors name it."""
    seen = np.asarray(observe(log.observations))
    n = len(log.rewards)
    if seen.shape[:1] != (n + 1,):
        raise ValueError(f"dataset: episode {place} has {n} rewards and observations {seen.shape}, not {n + 1} rows")
    flags = {"terminated": log.terminations, "truncated": log.truncations, "episode": np.zeros(n, dtype=np.int64)}
    try:
        return Batch(seen[:-1], np.asarray(_side_by_side(log.actions)), log.rewards, seen[1:], **flags)
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
