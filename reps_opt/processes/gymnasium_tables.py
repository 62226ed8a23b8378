"""Transition tables of Gymnasium's toy-text environments, read as what the environment does or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from reps_opt.processes import construction
from reps_opt.processes.builders import table_outcomes
from reps_opt.processes.outcomes import Outcomes, as_choice, as_tables
from reps_opt.validation import as_float_array

if TYPE_CHECKING:
    import gymnasium

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
