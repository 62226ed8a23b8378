"""Stepping environments: batched ones side by side, Gymnasium's one by one, vector environments as they come.

What a worker does, and all that it knows: a :class:`Task` in, a :class:`Block` of transitions out.

Shapes: n episodes side by side; observations and actions have one row an episode, flattened to (n, m) and (n, k);
integers of discrete spaces are (n,).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reps_opt.learning.acting import Act, Take, as_actions, as_row, as_rows, legal, many, one, taker


class Rows(NamedTuple):
    """Transitions in order, episode after episode: the arrays of a batch; a cost that nobody named is NaN."""

    states: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[Any]
    next_states: NDArray[Any]
    terminated: NDArray[Any]
    truncated: NDArray[Any]
    restarted: NDArray[Any]
    episode: NDArray[Any]
    costs: NDArray[Any]


class Failure(NamedTuple):
    """What an environment raised, in which episode and after how many steps of it."""

    error: Exception
    episode: int
    step: int


class Block(NamedTuple):
    """What a worker gives back: its transitions, if any, and why there are no more."""

    rows: Rows | None
    failure: Failure | None = None


@dataclass(frozen=True)
class Task:
    """What a worker needs to know: it sees nothing else, and returns a :class:`Block`."""

    env: Any
    policy: Any
    deterministic: bool
    max_steps: int
    restart: float = 0.0
    hold: int = 1
    """Steps that an action is taken for before the policy is asked again."""
    shared: bool = False
    """Whether other workers may step the same environment: then each steps a copy."""


def child(seed: np.random.SeedSequence, *key: int) -> np.random.SeedSequence:
    """The seed sequence under a key; unlike ``spawn`` it leaves its parent as it was."""
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *key), pool_size=seed.pool_size)


def step_limit(env: Any, most: int) -> int:
    """Steps after which a batched environment's episodes end at the latest: its horizon, or ``most``."""
    return min(most, getattr(env, "horizon", None) or most)


def name_of(env: Any) -> str:
    """What messages call an environment: its id where it has one, else its class."""
    named = getattr(getattr(env, "spec", None), "id", None)
    return str(named) if named else type(getattr(env, "unwrapped", env)).__name__


def step_side_by_side(task: Task, root: np.random.SeedSequence, first: int, last: int) -> Block:
    """Episodes first ... last - 1 of a batched environment, all stepped at once until the last has ended.

    Starts and cuts, the environment's noise and the policy's have a generator each, so that two policies under one
    seed start alike and are cut alike.
    """
    env, n = task.env, last - first
    starts, noise, acting = (np.random.default_rng(child(root, first, i)) for i in range(3))
    act = many(task.policy, env.action_space, task.deterministic)
    limit = step_limit(env, task.max_steps)
    states, running = env.sample_starts(n, starts), np.arange(first, last)
    seen = as_rows(env.observe(states))
    parts: list[Rows] = []
    for t in range(limit):
        if t % task.hold == 0:
            actions = as_actions(act(seen, acting), env.action_space, len(running))
        try:
            moved = env.step_batch(states, actions, noise)
        except Exception as error:
            return Block(in_order(parts) if parts else None, Failure(error, int(running[0]), t))
        following = as_rows(env.observe(moved.next_states))
        coin = np.asarray(env.sample_cuts(len(running), starts), dtype=bool)
        if task.restart:
            coin = coin | (starts.random(len(running)) < task.restart)
        restarted = coin & ~moved.terminated
        cut = (coin | (t + 1 == limit)) & ~moved.terminated
        free = np.full(len(running), np.nan)
        parts.append(
            Rows(seen, as_rows(actions), moved.rewards, following, moved.terminated, cut, restarted, running, free)
        )
        going = ~(cut | moved.terminated)
        states, seen, running, actions = moved.next_states[going], following[going], running[going], actions[going]
        if not running.size:
            break
    return Block(in_order(parts))


def step_singly(task: Task, root: np.random.SeedSequence, first: int, last: int) -> Block:
    """Episodes first ... last - 1 of a Gymnasium environment, one after the other, seeded one by one."""
    env = copy.deepcopy(task.env) if task.shared else task.env
    act, take = one(task.policy, env.action_space, task.deterministic), taker(env.action_space)
    parts: list[Rows] = []
    failure = None
    for number in range(first, last):
        rows, failure = _episode(env, act, take, task, child(root, number), number)
        if rows:
            *columns, costs = (np.array(column) for column in zip(*rows, strict=True))
            parts.append(Rows._make([*columns, np.full(len(rows), number), costs]))
        if failure is not None:
            break
    return Block(in_order(parts) if parts else None, failure)


def _episode(
    env: Any, act: Act, take: Take, task: Task, seed: np.random.SeedSequence, number: int
) -> tuple[list[tuple[Any, ...]], Failure | None]:
    """The transitions of one episode, and what the environment raised, if it did."""
    name = name_of(env)
    rng = np.random.default_rng(child(seed, 0))
    coin = np.random.default_rng(child(seed, 1)) if task.restart else None
    rows: list[tuple[Any, ...]] = []
    try:
        answer = env.reset(seed=int(seed.generate_state(1)[0]))
    except Exception as error:
        return rows, Failure(error, number, 0)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TypeError(f"env {name}: reset must return (observation, info), as Gymnasium's does: wrap the environment")
    state = as_row(answer[0])
    for t in range(task.max_steps):
        if t % task.hold == 0:
            action, sent = take(act(state, rng))
        try:
            answer = env.step(sent)
        except Exception as error:
            return rows, Failure(error, number, t)
        if len(answer) != 5:
            raise TypeError(
                f"env {name}: step must return (observation, reward, terminated, truncated, info), got {len(answer)} "
                "values, as Gym's did before 0.26: wrap the environment, in shimmy for one"
            )
        observed, reward, terminated, truncated, info = answer
        following = as_row(observed)
        restarted = coin is not None and bool(coin.random() < task.restart) and not terminated
        cut = (truncated or restarted or t + 1 == task.max_steps) and not terminated
        paid = as_amount(info["cost"], "cost", name) if "cost" in info else np.nan
        reward = reward if isinstance(reward, float) and math.isfinite(reward) else as_amount(reward, "reward", name)
        rows.append((state, action, reward, following, terminated, cut, restarted, paid))
        state = following
        if terminated or cut:
            break
    return rows, None


def as_amount(value: Any, what: str, name: str) -> float:
    """A reward or a cost as the number it is, be it in an array of one."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "buif":
        raise TypeError(f"env {name}: the {what} must be a number, got {type(value).__name__} of shape {array.shape}")
    amount = float(array.reshape(()))
    if not np.isfinite(amount):
        raise ValueError(f"env {name}: the {what} is {amount}: it must be finite")
    return amount


def step_vector(task: Task, root: np.random.SeedSequence, episodes: int | None, steps: int | None) -> Block:
    """A Gymnasium vector environment: each of its copies makes its share of the episodes, or steps until enough.

    By default a copy that has ended spends its next step on the reset; that transition never happened.
    """
    env = task.env
    n, mode = env.num_envs, str(getattr(env.metadata.get("autoreset_mode"), "value", "NextStep"))
    if task.restart and mode != "Disabled":
        raise ValueError(f"restart needs a vector environment in the autoreset mode Disabled, got {mode}")
    space, rng = env.single_action_space, np.random.default_rng(child(root, 0))
    coin = np.random.default_rng(child(root, 1))
    act = many(task.policy, space, task.deterministic)
    share = np.full(n, np.iinfo(int).max) if episodes is None else episodes // n + (np.arange(n) < episodes % n)
    done, fresh, length, taken = np.zeros(n, int), np.zeros(n, bool), np.zeros(n, int), 0
    observed, _ = env.reset(seed=int(root.generate_state(1)[0]))
    seen, actions = as_rows(observed), np.zeros(0)
    parts: list[Rows] = []
    while np.any(done < share) and (steps is None or taken < steps):
        asked = as_actions(act(seen, rng), space, n)
        due = (length % task.hold == 0).reshape(n, *[1] * (asked.ndim - 1))
        actions = np.where(due, asked, actions) if parts else asked
        try:
            observed, rewards, terminated, truncated, info = env.step(legal(actions, space))
        except Exception as error:
            return Block(in_order(parts) if parts else None, Failure(error, int(done.sum()), int(length.max())))
        following = as_rows(observed)
        ended, arrived = terminated | truncated, following.copy()
        if mode == "SameStep" and ended.any():
            arrived[ended] = as_rows(np.stack(list(info["final_obs"][ended])))
        length = np.where(fresh, 0, length + 1)
        restarted = (coin.random(n) < task.restart) & ~terminated
        cut = (truncated | restarted | (length >= task.max_steps)) & ~terminated
        real = ~fresh & (done < share)
        number = np.arange(n) + n * done
        paid = _vector_costs(info, n)
        earned = np.asarray(rewards, dtype=float).reshape(n)
        columns = (seen, as_rows(actions), earned, arrived, terminated, cut, restarted, number, paid)
        parts.append(Rows(*(column[real] for column in columns)))
        taken += int(real.sum())
        finished = real & (cut | terminated)
        done, length = done + finished, np.where(finished, 0, length)
        fresh = ended if mode == "NextStep" else np.zeros(n, bool)
        over = ended | cut if mode == "Disabled" else ended
        if mode == "Disabled" and over.any():
            following = as_rows(env.reset(options={"reset_mask": over})[0])
        seen = following
    return Block(in_order(parts))


def _vector_costs(info: dict[str, Any], n: int) -> NDArray[Any]:
    """Costs (n,) of a vector environment's copies, NaN where one says nothing."""
    if "cost" not in info:
        return np.full(n, np.nan)
    said = np.asarray(info.get("_cost", np.ones(n)), dtype=bool)
    return np.where(said, np.asarray(info["cost"], dtype=float).reshape(n), np.nan)


def stack(parts: Iterable[Rows]) -> Rows:
    return Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def in_order(parts: list[Rows]) -> Rows:
    """Parts that follow each other in time, sorted into episode after episode."""
    rows = stack(parts)
    order = np.argsort(rows.episode, kind="stable")
    return Rows(*(column[order] for column in rows))
