"""MDPs from what people have: tables of outcomes, Gymnasium's own, lists of transitions, batches of samples.

Every reader returns the keyword arguments of :class:`~reps_opt.MDP`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reps_opt.processes import construction
from reps_opt.processes.graph import IntArray
from reps_opt.processes.outcomes import Outcomes, as_choice, as_start, as_tables
from reps_opt.validation import FloatArray, as_count, as_float_array, check_nonnegative

if TYPE_CHECKING:
    import gymnasium

Start = ArrayLike | Mapping[Hashable, float] | None
Labels = tuple[Hashable, ...] | None

COLUMNS = {
    "state": ("state", "s", "from", "states"),
    "action": ("action", "a", "actions"),
    "next_state": ("next_state", "s2", "to", "next_states", "s_next"),
    "reward": ("reward", "r", "rewards"),
    "weight": ("weight", "count", "weights", "counts"),
    "probability": ("probability", "p", "prob"),
}
"""Names under which a column of transitions is looked for."""


class TransitionRows(Protocol):
    """Arrays with one row a transition, N in all."""

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


class TransitionBatch(TransitionRows, Protocol):
    """What an empirical model needs of a batch of transitions; a :class:`~reps_opt.Batch` has it."""

    @property
    def start_states(self) -> NDArray[Any]: ...


def read_table(table: Any, gamma: float, mu0: Start, on_done: str | None, missing: str) -> dict[str, Any]:
    """Arguments of an MDP from ``{state: {action: [(probability, next state, reward, done), ...]}}``."""
    if hasattr(table, "P"):
        mu0 = getattr(table, "initial_state_distrib", None) if mu0 is None else mu0
        table = table.P
    outcomes, index, action_labels = table_outcomes(table)
    start = as_start(mu0, outcomes, index)
    choice = as_choice(on_done, gamma, bool(outcomes.done.any()))
    return as_tables(outcomes, start, choice, missing) | {"action_labels": action_labels}


def table_outcomes(table: Any) -> tuple[Outcomes, dict[Hashable, int], Labels]:
    """The outcomes of a table, the index of each of its states, and labels of its actions."""
    rows = [
        (s, a, outcome)
        for s, actions in _items(table, "table")
        for a, outcomes in _items(actions, f"table[{s!r}]")
        for outcome in _listed(outcomes, f"table[{s!r}][{a!r}]")
    ]
    if not rows:
        raise ValueError("table is empty: it must hold at least one outcome")
    parsed = [_parsed(outcome, f"table[{s!r}][{a!r}]") for s, a, outcome in rows]
    states, index = _index([*(s for s, _ in _items(table, "table")), *(outcome[1] for outcome in parsed)])
    actions, action_index = _index([a for _, a, _ in rows])
    numbers = np.array([(outcome[0], outcome[2], outcome[3]) for outcome in parsed], dtype=np.float64)
    check_nonnegative(as_float_array(numbers[:, 0], "table's probabilities"), "table's probabilities")
    outcomes = Outcomes(
        np.array([index[s] for s, _, _ in rows]),
        np.array([action_index[a] for _, a, _ in rows]),
        numbers[:, 0],
        np.array([index[outcome[1]] for outcome in parsed]),
        as_float_array(numbers[:, 1], "table's rewards"),
        numbers[:, 2] != 0,
        len(index),
        len(action_index),
        states,
    )
    return outcomes, index, actions


def _items(table: Any, name: str) -> Iterable[tuple[Any, Any]]:
    if isinstance(table, Mapping):
        return table.items()
    if isinstance(table, Sequence | np.ndarray) and not isinstance(table, str):
        return enumerate(table)
    raise TypeError(f"{name} must be a mapping or a list, got {type(table).__name__}")


def _listed(outcomes: Any, name: str) -> Any:
    if not isinstance(outcomes, Sequence | np.ndarray) or not len(outcomes):
        raise ValueError(f"{name} must list at least one outcome; leave out an action that the state does not have")
    return outcomes


def _parsed(outcome: Any, name: str) -> tuple[float, Any, float, bool]:
    """Probability, next state, reward and done, which may be left out."""
    if len(outcome) not in (3, 4):
        raise ValueError(f"{name} must hold (probability, next state, reward, done), got {outcome!r}")
    probability, following, reward, done = (*outcome, False)[:4]
    return float(probability), following, float(reward), bool(done)


def _index(names: Iterable[Any]) -> tuple[Labels, dict[Hashable, int]]:
    """Labels in order of appearance and the index of each; integers from zero are indices, and need no labels."""
    found = list(dict.fromkeys(name.item() if isinstance(name, np.generic) else name for name in names))
    if all(isinstance(name, int) and not isinstance(name, bool) for name in found):
        found_sorted = sorted(found)
        if found_sorted == list(range(len(found))):
            return None, {name: name for name in found_sorted}
    return tuple(found), {name: i for i, name in enumerate(found)}


def read_transitions(
    data: Any, columns: tuple[Any, Any, Any], weight: Any, probability: Any, mu0: Start, missing: str
) -> dict[str, Any]:
    """Arguments of an MDP from transitions, one a row: a frame, a mapping of columns, or the columns themselves."""
    given = _as_columns(data, columns, weight, probability)
    states, actions, following = (_labels(given[name], name) for name in ("state", "action", "next_state"))
    n = len(states)
    rewards = as_float_array(given["reward"], "reward", (n,))
    for name, column in (("action", actions), ("next_state", following)):
        if len(column) != n:
            raise ValueError(f"{name} must have {n} rows as state has, got {len(column)}")
    if n == 0:
        raise ValueError("data is empty: at least one transition is needed")
    rows = [name for pair in zip(states, following, strict=True) for name in pair]
    labels, index = _index(rows)
    action_labels, action_index = _index(actions)
    share, counted = _shares(given, n)
    s, a = np.array([index[x] for x in states]), np.array([action_index[x] for x in actions])
    ahead = np.array([index[x] for x in following])
    done = np.zeros(n, dtype=bool)
    outcomes = Outcomes(s, a, share, ahead, rewards, done, len(index), len(action_index), labels)
    tables = _empirical(outcomes, as_start(mu0, outcomes, index), "absorb", missing, counted)
    return tables | {"action_labels": action_labels}


def _as_columns(data: Any, columns: tuple[Any, Any, Any], weight: Any, probability: Any) -> dict[str, Any]:
    if all(column is not None for column in columns):
        names = ("state", "action", "next_state", "reward", "weight", "probability")
        return dict(zip(names, (data, *columns, weight, probability), strict=True))
    if any(column is not None for column in columns):
        raise ValueError(
            "actions, next_states and rewards go together: give all of them, or a table with their columns"
        )
    held = list(data.columns) if hasattr(data, "columns") else list(data) if isinstance(data, Mapping) else None
    if held is None:
        raise TypeError(f"data must be a frame or a mapping of columns, got {type(data).__name__}")
    found: dict[str, Any] = {}
    for name, known in COLUMNS.items():
        named = {"weight": weight, "probability": probability}.get(name)
        if named is not None and not isinstance(named, str):
            found[name] = named
            continue
        place = next((key for key in ((named,) if named else known) if key in held), None)
        if place is None and (named or name not in ("weight", "probability")):
            raise ValueError(
                f"data must have a column {named!r}" if named else f"data must have a {name}: one of {known}"
            )
        found[name] = None if place is None else data[place]
    return found


def _labels(column: Any, name: str) -> list[Any]:
    """A column of labels as Python objects, none of them missing."""
    labels = np.asarray(column).tolist()
    if not isinstance(labels, list):
        raise TypeError(f"{name} must be a column, got {type(column).__name__}")
    for i, label in enumerate(labels):
        if label is None or label != label:
            raise ValueError(f"{name}[{i}] is {label}: every row needs one")
        if not isinstance(label, Hashable):
            raise TypeError(f"{name}[{i}] must be a label, got {type(label).__name__}")
    return labels


def _shares(given: Mapping[str, Any], n: int) -> tuple[FloatArray, bool]:
    """Weights or probabilities (n,), and whether they are weights."""
    if given["weight"] is not None and given["probability"] is not None:
        raise ValueError("weight and probability exclude each other")
    counted = given["probability"] is None
    name = "weight" if counted else "probability"
    share = np.ones(n) if given[name] is None else as_float_array(given[name], name, (n,))
    check_nonnegative(share, name)
    return share, counted


def _empirical(outcomes: Outcomes, start: FloatArray, on_done: str, missing: str, counted: bool) -> dict[str, Any]:
    """Arguments of an MDP from outcomes with counts in place of probabilities, or with the latter."""
    if not counted:
        return as_tables(outcomes, start, on_done, missing)
    counts = np.bincount(outcomes.pair, weights=outcomes.probability, minlength=outcomes.n_states * outcomes.n_actions)
    kept = outcomes.select(counts[outcomes.pair] > 0)
    kept = replace(kept, probability=kept.probability / counts[kept.pair])
    tables = as_tables(kept, start, on_done, missing)
    table = np.zeros(tables["r"].shape)
    table[: outcomes.n_states] = counts.reshape(outcomes.n_states, -1)
    return tables | {"counts": table}


def read_batch(
    batch: TransitionBatch,
    gamma: float,
    n_states: int | None,
    n_actions: int | None,
    on_done: str | None,
    missing: str,
) -> dict[str, Any]:
    """Arguments of the empirical MDP of a batch of transitions between finitely many states."""
    states, actions = _indices(batch.states, "batch.states"), _indices(batch.actions, "batch.actions")
    following, starts = (
        _indices(batch.next_states, "batch.next_states"),
        _indices(batch.start_states, "batch.start_states"),
    )
    S = _size(n_states, max(states.max(), following.max(), starts.max()), "n_states")
    A = _size(n_actions, actions.max(), "n_actions")
    ones, done = np.ones(states.size), np.asarray(batch.terminated, dtype=bool)
    outcomes = Outcomes(states, actions, ones, following, np.asarray(batch.rewards, dtype=np.float64), done, S, A)
    start = np.bincount(starts, minlength=S) / starts.size
    return _empirical(outcomes, start, as_choice(on_done, gamma, bool(done.any())), missing, counted=True)


def _size(given: int | None, largest: Any, name: str) -> int:
    if given is None:
        return int(largest) + 1
    if as_count(given, name) <= largest:
        raise ValueError(f"{name} must be > {int(largest)}, which the batch holds, got {given}")
    return int(given)


def _indices(column: NDArray[Any], name: str) -> IntArray:
    """Integers from zero (N,), from (N,) or (N, 1)."""
    flat = np.asarray(column)
    flat = flat[:, 0] if flat.ndim == 2 and flat.shape[1] == 1 else flat
    if flat.ndim != 1:
        raise ValueError(f"{name} must be integers (N,), the indices of finitely many, got shape {np.shape(column)}")
    whole = flat.astype(np.int64)
    wrong = (whole != flat) | (whole < 0)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(f"{name}[{i}] is {flat[i]}: an empirical model needs integers from zero")
    return whole


TRANSPARENT = (
    "Autoreset",
    "HumanRendering",
    "OrderEnforcing",
    "PassiveEnvChecker",
    "RecordEpisodeStatistics",
    "RecordVideo",
    "RenderCollection",
    "TimeLimit",
)
"""Gymnasium's own wrappers that override ``step`` and leave the process as it is; a time limit only cuts a record."""


def read_environment(env: Any, gamma: float, on_done: str | None, make_options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of an :class:`~reps_opt.MDP` from ``env.unwrapped.P``.

    Next states that repeat within a row have their probabilities added. ``done`` belongs to the transition that
    carries it: the state it enters is made absorbing (or the transition is sent to the start distribution), whatever
    the table says may follow from there, since CliffWalking's and Taxi's tables let a terminal state be left.
    """
    if isinstance(env, str):
        import gymnasium

        env = gymnasium.make(env, **make_options)
    elif make_options:
        raise TypeError(f"options {sorted(make_options)} need an environment id, got an environment")
    base = env.unwrapped
    table = getattr(base, "P", None)
    if table is None:
        raise ValueError(f"env must have a transition table env.unwrapped.P, which {type(base).__name__} has not")
    if getattr(base, "fickle_passenger", False):
        raise ValueError(
            "env has a fickle passenger, who changes the destination on the way: its table env.unwrapped.P does not "
            "hold that; read it with fickle_passenger=False"
        )
    outcomes, _, action_labels = table_outcomes(table)
    for change in _reward_changes(env):
        outcomes = replace(outcomes, reward=_changed(outcomes, change))
    distribution = getattr(base, "initial_state_distrib", None)
    if distribution is None:
        raise ValueError("env must have a start distribution env.unwrapped.initial_state_distrib")
    name = "env.unwrapped.initial_state_distrib"
    start = as_float_array(distribution, name, (outcomes.n_states,))
    start = construction.normalised_rows(start / start.sum(), name)
    tables = as_tables(outcomes, start, as_choice(on_done, gamma, bool(outcomes.done.any())), "error")
    layout = _layout(base, outcomes.n_states) if tables["mu0"].size == outcomes.n_states else None
    return tables | {"layout": layout, "action_labels": action_labels}


def _reward_changes(env: gymnasium.Env[Any, Any]) -> Iterator[Callable[[Any], Any]]:
    """What the wrappers around an environment do to a reward, the inner ones first; other changes are errors."""
    import gymnasium

    layers = []
    while isinstance(env, gymnasium.Wrapper):
        layers.append(env)
        env = env.env
    for layer in reversed(layers):
        kind = type(layer)
        if isinstance(layer, gymnasium.RewardWrapper) and kind.step is gymnasium.RewardWrapper.step:
            yield layer.reward
        elif not _is_transparent(layer):
            raise ValueError(
                f"env is wrapped in {kind.__name__}, which may change what its table says: pass env.unwrapped to read "
                "the table without it"
            )


def _is_transparent(layer: gymnasium.Wrapper[Any, Any, Any, Any]) -> bool:
    """Whether a wrapper leaves transitions, rewards and starts alone."""
    import gymnasium

    kind = type(layer)
    if kind.__module__.startswith("gymnasium.wrappers"):
        observes = isinstance(layer, gymnasium.ObservationWrapper) and kind.__name__ != "DelayObservation"
        return observes or kind.__name__ in TRANSPARENT
    steps = (gymnasium.Wrapper.step, gymnasium.ObservationWrapper.step)
    resets = (gymnasium.Wrapper.reset, gymnasium.ObservationWrapper.reset)
    return kind.step in steps and kind.reset in resets


def _changed(outcomes: Outcomes, change: Callable[[Any], Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rewards after a wrapper, which must be a function of the reward alone."""
    once, twice = (np.array([float(change(float(reward))) for reward in outcomes.reward]) for _ in range(2))
    if not np.array_equal(once, twice, equal_nan=True):
        raise ValueError("env changes rewards by more than a function of the reward: its table does not hold that")
    return as_float_array(once, "the rewards of env")


def _layout(base: Any, n_states: int) -> tuple[str, ...] | None:
    desc = getattr(base, "desc", None)
    if desc is not None and np.size(desc) == n_states:
        return tuple("".join(cell.decode() for cell in row) for row in np.asarray(desc))
    shape = getattr(base, "shape", None)
    if shape is None or np.prod(shape) != n_states:
        return None
    cells = np.full(n_states, ".")
    cells[-1] = "G"
    cells[np.ravel(getattr(base, "_cliff", np.zeros(n_states, dtype=bool)))] = "C"
    cells[np.flatnonzero(base.initial_state_distrib)] = "S"
    return tuple("".join(row) for row in cells.reshape(shape))
