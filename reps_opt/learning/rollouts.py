r"""Roll-outs: an environment and a policy, each known by protocol only, make a :class:`~reps_opt.Batch`.

Every block of episodes draws from a seed sequence of its own, spawned by its number. So the data depend on the seed
alone: not on the number of workers, nor on the backend of joblib that runs them.

Shapes: n episodes side by side; observations and actions have one row an episode, flattened to (n, m) and (n, k);
integers of discrete spaces are (n,).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reps_opt.batch import Batch
from reps_opt.learning.acting import as_actions, as_row, as_rows, check_policy, legal, many, one
from reps_opt.progress import progress as progress_bar
from reps_opt.validation import as_count

SIDE_BY_SIDE = 256
"""Episodes of a batched environment that are stepped at once, and by one worker."""

AT_ONCE = 16
"""The same where a number of steps is asked for: the episodes beyond it are thrown away."""

EPISODES_A_TASK = 8
"""Episodes of an environment stepped singly that a worker takes at a time; they are seeded one by one."""

MAX_STEPS = 10_000
"""Steps after which an episode is cut off when neither it nor the environment ends before."""

HARMLESS = ("OrderEnforcing", "PassiveEnvChecker")
"""Gymnasium's wrappers that change nothing: a batched environment within them is stepped directly."""


class Rows(NamedTuple):
    """Transitions in order, episode after episode: the arrays of a batch, and the start states (E, ...)."""

    states: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[Any]
    next_states: NDArray[Any]
    terminated: NDArray[Any]
    truncated: NDArray[Any]
    episode: NDArray[Any]


@dataclass(frozen=True)
class Task:
    """What a worker needs to know: it sees nothing else, and returns :class:`Rows`."""

    env: Any
    policy: Any
    deterministic: bool
    max_steps: int
    shared: bool = False
    """Whether other workers may step the same environment: then each steps a copy."""


def rollout(
    env: Any,
    policy: Any = None,
    n_episodes: int | None = None,
    n_steps: int | None = None,
    *,
    seed: Any = None,
    max_steps: int | None = None,
    deterministic: bool = False,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Batch:
    """Let a policy act in an environment, and record every transition.

    Parameters
    ----------
    env
        One of this project's environments, whose episodes are stepped side by side (anything with ``sample_starts``,
        ``step_batch``, ``observe``, ``sample_cuts`` and ``horizon``); a Gymnasium environment or its id; a Gymnasium
        vector environment in any autoreset mode, whose transitions from an end to the next start are left out.
    policy
        Anything with ``sample(states, rng)``, such as a policy of :mod:`policies` (where states come singly, its
        ``compile()`` is used); a callable ``act(state, rng)``; None for uniform actions.
    n_episodes, n_steps
        What to collect, one of the two. After ``n_steps`` transitions the last episode is cut off, as truncated.
    seed
        An integer, a ``numpy.random.SeedSequence``, or None for fresh entropy.
    max_steps
        Steps after which an episode is truncated, 10,000 by default; the environment's own limit counts too. A copy in
        a vector environment cannot be sent back to a start: what follows its cut goes on where it was.
    deterministic
        Whether the policy's mean, or most probable action, is taken instead of a sample.
    n_jobs
        Workers, through joblib: None for one, or for what ``joblib.parallel_config`` says, whose backends (loky,
        threading, dask) all give the same data. A vector environment is stepped here, whatever is asked for.
    progress
        Whether to show a bar where there are several blocks of episodes; None where standard error is a terminal.

    Returns
    -------
    Batch
        Observations and actions flattened to one row each; the actions as the policy drew them, before the
        environment clips them to its bounds, so that ``policy.log_prob(batch.states, batch.actions)`` is theirs.
        A cut episode is ``truncated``, never ``terminated``: its last next state has a future.

    Raises
    ------
    TypeError, ValueError
        For none or both of ``n_episodes`` and ``n_steps``, an environment or a policy that is neither, observations
        that are no arrays.

    Examples
    --------
    >>> import envs
    >>> batch = rollout(envs.SwingUp(), n_episodes=3, seed=0)
    >>> batch
    Batch(76 transitions, 3 episodes, states (2,), actions (1,), mean return -2609.59)
    >>> rollout("CartPole-v1", lambda state, rng: int(state[2] > 0), n_steps=100, seed=0).n_episodes
    3
    """
    if (n_episodes is None) == (n_steps is None):
        raise ValueError("one of n_episodes and n_steps must be given, and not both")
    episodes = None if n_episodes is None else as_count(n_episodes, "n_episodes")
    steps = None if n_steps is None else as_count(n_steps, "n_steps")
    limit = MAX_STEPS if max_steps is None else as_count(max_steps, "max_steps")
    check_policy(policy)
    made = isinstance(env, str)
    env = as_env(env)
    task = Task(env, policy, bool(deterministic), limit if steps is None else min(limit, steps))
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    with closing(env) if made else nullcontext():
        if hasattr(env, "num_envs"):
            parts = [_step_vector(task, root, episodes, steps)]
        else:
            parts = _collect(task, root, episodes, steps, n_jobs, progress)
    return _as_batch(parts, steps)


def child(seed: np.random.SeedSequence, *key: int) -> np.random.SeedSequence:
    """The seed sequence under a key; unlike ``spawn`` it leaves its parent as it was."""
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *key), pool_size=seed.pool_size)


def is_batched(env: Any) -> bool:
    """Whether the environment steps many states at once, by the protocol that :func:`rollout` names."""
    return all(hasattr(env, name) for name in ("sample_starts", "step_batch", "observe", "sample_cuts"))


def step_limit(env: Any, most: int) -> int:
    """Steps after which a batched environment's episodes end at the latest: its horizon, or ``most``."""
    return min(most, getattr(env, "horizon", None) or most)


def as_env(env: Any) -> Any:
    """The environment to step: made of an id, a batched one taken out of the wrappers that change nothing."""
    if isinstance(env, str):
        import gymnasium

        env = gymnasium.make(env)
    inner = env
    while type(inner).__name__ in HARMLESS:
        inner = inner.env
    if is_batched(inner):
        return inner
    if not hasattr(env, "reset") or not hasattr(env, "step"):
        raise TypeError(f"env must be an environment or a Gymnasium id, got {type(env).__name__}")
    return env


def _collect(
    task: Task,
    root: np.random.SeedSequence,
    episodes: int | None,
    steps: int | None,
    n_jobs: int | None,
    progress: bool | None,
) -> list[Rows]:
    """The blocks in the order of their numbers: as many as the episodes need, or until there are steps enough."""
    work = _step_side_by_side if is_batched(task.env) else _step_singly
    if episodes is not None:
        size = SIDE_BY_SIDE if is_batched(task.env) else EPISODES_A_TASK
        blocks = [(first, min(first + size, episodes)) for first in range(0, episodes, size)]
        return _run(work, task, root, blocks, n_jobs, progress)
    assert steps is not None
    parts: list[Rows] = []
    size, width = AT_ONCE if is_batched(task.env) else 1, _n_workers(n_jobs)
    while sum(len(part.rewards) for part in parts) < steps:
        first = len(parts) * size
        blocks = [(first + i * size, first + (i + 1) * size) for i in range(width)]
        parts += _run(work, task, root, blocks, n_jobs, show=False)
    return parts


def _run(
    work: Callable[..., Rows],
    task: Task,
    root: np.random.SeedSequence,
    blocks: list[tuple[int, int]],
    n_jobs: int | None,
    show: bool | None,
) -> list[Rows]:
    if len(blocks) == 1:
        return [work(task, root, *blocks[0])]
    from joblib import Parallel, delayed

    task = replace(task, shared=_n_workers(n_jobs) > 1 and not is_batched(task.env))
    shown = progress_bar(blocks, label="roll out", show=show)
    return list(Parallel(n_jobs=n_jobs)(delayed(work)(task, root, *block) for block in shown))


def _n_workers(n_jobs: int | None) -> int:
    from joblib import effective_n_jobs

    return max(1, effective_n_jobs(n_jobs))


def _step_side_by_side(task: Task, root: np.random.SeedSequence, first: int, last: int) -> Rows:
    """Episodes first ... last - 1 of a batched environment, all stepped at once until the last has ended.

    Starts and cuts, the environment's noise and the policy's have a generator each, so that two policies under one
    seed start alike and are cut alike.
    """
    env, n = task.env, last - first
    starts, noise, acting = (np.random.default_rng(child(root, first, i)) for i in range(3))
    act = many(task.policy, env.action_space, task.deterministic)
    limit = step_limit(env, task.max_steps)
    states, running = env.sample_starts(n, starts), np.arange(n)
    seen, parts = as_rows(env.observe(states)), []
    for t in range(limit):
        actions = as_actions(act(seen, acting), env.action_space, len(running))
        moved = env.step_batch(states, actions, noise)
        following = as_rows(env.observe(moved.next_states))
        cut = (env.sample_cuts(len(running), starts) | (t + 1 == limit)) & ~moved.terminated
        parts.append(Rows(seen, as_rows(actions), moved.rewards, following, moved.terminated, cut, running))
        going = ~(cut | moved.terminated)
        states, seen, running = moved.next_states[going], following[going], running[going]
        if not running.size:
            break
    return _in_order(parts)


def _step_singly(task: Task, root: np.random.SeedSequence, first: int, last: int) -> Rows:
    """Episodes first ... last - 1 of a Gymnasium environment, one after the other, seeded one by one."""
    env = copy.deepcopy(task.env) if task.shared else task.env
    space = env.action_space
    act = one(task.policy, space, task.deterministic)
    parts = []
    for number in range(first, last):
        seed = child(root, number)
        rng = np.random.default_rng(child(seed, 0))
        observed, _ = env.reset(seed=int(seed.generate_state(1)[0]))
        state, rows = as_row(observed), []
        for t in range(task.max_steps):
            action = as_actions(np.asarray(act(state, rng))[None], space, 1)
            observed, reward, terminated, truncated, _ = env.step(legal(action[0], space))
            following, cut = as_row(observed), (truncated or t + 1 == task.max_steps) and not terminated
            rows.append((state, as_rows(action)[0], reward, following, terminated, cut))
            state = following
            if terminated or cut:
                break
        columns = [np.array(column) for column in zip(*rows, strict=True)]
        parts.append(Rows(*[*columns, np.full(len(rows), number)]))
    return _in_order(parts)


def _step_vector(task: Task, root: np.random.SeedSequence, episodes: int | None, steps: int | None) -> Rows:
    """A Gymnasium vector environment: each of its copies makes its share of the episodes, or steps until enough.

    By default a copy that has ended spends its next step on the reset; that transition never happened.
    """
    env = task.env
    n, mode = env.num_envs, str(getattr(env.metadata.get("autoreset_mode"), "value", "NextStep"))
    space, rng = env.single_action_space, np.random.default_rng(child(root, 0))
    act = many(task.policy, space, task.deterministic)
    share = np.full(n, np.iinfo(int).max) if episodes is None else episodes // n + (np.arange(n) < episodes % n)
    done, fresh, length, taken = np.zeros(n, int), np.zeros(n, bool), np.zeros(n, int), 0
    observed, _ = env.reset(seed=int(root.generate_state(1)[0]))
    seen, parts = as_rows(observed), []
    while np.any(done < share) and (steps is None or taken < steps):
        actions = as_actions(act(seen, rng), space, n)
        observed, rewards, terminated, truncated, info = env.step(legal(actions, space))
        following = as_rows(observed)
        ended, arrived = terminated | truncated, following.copy()
        if mode == "SameStep" and ended.any():
            arrived[ended] = as_rows(np.stack(list(info["final_obs"][ended])))
        length = np.where(fresh, 0, length + 1)
        cut = (truncated | (length >= task.max_steps)) & ~terminated
        real = ~fresh & (done < share)
        number = np.arange(n) + n * done
        columns = (seen, as_rows(actions), np.asarray(rewards, dtype=float), arrived, terminated, cut, number)
        parts.append(Rows(*(column[real] for column in columns)))
        taken += int(real.sum())
        finished = real & (cut | terminated)
        done, length = done + finished, np.where(finished, 0, length)
        fresh = ended if mode == "NextStep" else np.zeros(n, bool)
        if mode == "Disabled" and ended.any():
            following = as_rows(env.reset(options={"reset_mask": ended})[0])
        seen = following
    return _in_order(parts)


def _stack(parts: Iterable[Rows]) -> Rows:
    return Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _in_order(parts: list[Rows]) -> Rows:
    """Parts that follow each other in time, sorted into episode after episode."""
    rows = _stack(parts)
    order = np.argsort(rows.episode, kind="stable")
    return Rows(*(column[order] for column in rows))


def _as_batch(parts: list[Rows], steps: int | None) -> Batch:
    """One batch of the blocks, their episodes numbered on; with ``steps``, no more than these."""
    numbered = [part._replace(episode=label) for part, label in zip(parts, _labels(parts), strict=True)]
    rows = _stack(numbered)
    if steps is not None:
        rows = Rows(*(column[:steps] for column in rows))
        last = np.r_[rows.episode[1:] != rows.episode[:-1], True]
        rows = rows._replace(truncated=rows.truncated | (last & ~rows.terminated))
    return Batch(**rows._asdict())


def _labels(parts: list[Rows]) -> Iterator[NDArray[np.int64]]:
    offset = 0
    for part in parts:
        names, label = np.unique(part.episode, return_inverse=True)
        yield label.astype(np.int64) + offset
        offset += len(names)
