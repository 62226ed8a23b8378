r"""Roll-outs: an environment and a policy, each known by protocol only, make a :class:`~reps_opt.Batch`.

Every block of episodes draws from a seed sequence of its own, spawned by its number. So the data depend on the seed
alone: not on the number of workers, nor on the backend of joblib that runs them.

Shapes: n episodes side by side; observations and actions have one row an episode, flattened to (n, m) and (n, k);
integers of discrete spaces are (n,).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from reps_opt.batch import Batch
from reps_opt.learning.acting import check_policy, check_spaces
from reps_opt.learning.stepping import (
    Block,
    Failure,
    Rows,
    Task,
    name_of,
    stack,
    step_side_by_side,
    step_singly,
    step_vector,
)
from reps_opt.progress import progress as progress_bar
from reps_opt.threads import limited
from reps_opt.tolerances import AT_ONCE, EPISODES_A_TASK, LONGEST_EPISODE, SIDE_BY_SIDE
from reps_opt.validation import as_count, as_scalar

HARMLESS = ("OrderEnforcing", "PassiveEnvChecker")
"""Gymnasium's wrappers that change nothing: a batched environment within them is stepped directly."""


class RolloutError(RuntimeError):
    """An environment raised while it was stepped; ``batch`` holds what was rolled out until then, None if nothing."""

    batch: Batch | None = None


def rollout(
    env: Any,
    policy: Any = None,
    n_episodes: int | None = None,
    n_steps: int | None = None,
    *,
    seed: Any = None,
    max_steps: int | None = None,
    restart: float = 0.0,
    hold: int = 1,
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
    restart
        Probability in [0, 1) that an episode ends after each step, beside the environment's own ways to end, and a new
        one begins at a start: with ``1 - gamma`` the visits are those of the process discounted by gamma. Such a
        transition is ``restarted`` in the batch, and truncated. In a vector environment it takes the autoreset mode
        ``Disabled``, in which copies can be sent back.
    hold
        Steps that every action is taken for before the policy is asked for the next: random actions that are held get
        further than as many that undo each other.
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
        A cut episode is ``truncated``, never ``terminated``: its last next state has a future. ``costs`` are what the
        environment says under ``info["cost"]``, zero where a step says nothing, None where none does. States and
        actions of discrete spaces are integers (N,).

    Raises
    ------
    TypeError, ValueError
        For none or both of ``n_episodes`` and ``n_steps``, an environment or a policy that is neither, spaces and
        observations that are no arrays, actions that the space does not hold, a ``step`` of the old four values.
    RolloutError
        When the environment raises: what was rolled out until then is the error's ``batch``, the error its cause.

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
    limit = LONGEST_EPISODE if max_steps is None else as_count(max_steps, "max_steps")
    check_policy(policy)
    made = isinstance(env, str)
    env = as_env(env)
    check_spaces(*spaces_of(env), name_of(env))
    coin = as_scalar(restart, "restart", low=0.0, high=1.0)
    if coin == 1:
        raise ValueError("restart must be below 1: an episode has more than one step")
    longest = limit if steps is None else min(limit, steps)
    task = Task(env, policy, bool(deterministic), longest, coin, as_count(hold, "hold"))
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    with closing(env) if made else nullcontext():
        if hasattr(env, "num_envs"):
            blocks = [step_vector(task, root, episodes, steps)]
        else:
            blocks = _collect(task, root, episodes, steps, n_jobs, progress)
    parts = [block.rows for block in blocks if block.rows is not None]
    for block in blocks:
        if block.failure is not None:
            raise _failed(name_of(env), block.failure, parts, steps) from block.failure.error
    return _as_batch(parts, steps)


def _failed(name: str, failure: Failure, parts: list[Rows], steps: int | None) -> RolloutError:
    error, episode, step = failure
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    kept = "nothing was rolled out before"
    batch = _as_batch(parts, steps) if parts else None
    if batch is not None:
        kept = f"the {len(batch)} transitions rolled out are this error's batch"
    failed = RolloutError(f"env {name} raised {said} in episode {episode} after {step} steps; {kept}")
    failed.batch = batch
    return failed


def is_batched(env: Any) -> bool:
    """Whether the environment steps many states at once, by the protocol that :func:`rollout` names."""
    return all(hasattr(env, name) for name in ("sample_starts", "step_batch", "observe", "sample_cuts"))


def spaces_of(env: Any) -> tuple[Any, Any]:
    """Observation and action space, of one copy of a vector environment; None where there is none."""
    vector = "single_" if hasattr(env, "num_envs") else ""
    return getattr(env, f"{vector}observation_space", None), getattr(env, f"{vector}action_space", None)


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
) -> list[Block]:
    """The blocks in the order of their numbers: as many as the episodes need, or until there are steps enough."""
    work = step_side_by_side if is_batched(task.env) else step_singly
    if episodes is not None:
        size = SIDE_BY_SIDE if is_batched(task.env) else EPISODES_A_TASK
        blocks = [(first, min(first + size, episodes)) for first in range(0, episodes, size)]
        return _run(work, task, root, blocks, n_jobs, progress)
    assert steps is not None
    done: list[Block] = []
    size, width = AT_ONCE if is_batched(task.env) else 1, _n_workers(n_jobs)
    while sum(len(block.rows.rewards) for block in done if block.rows is not None) < steps:
        first = len(done) * size
        blocks = [(first + i * size, first + (i + 1) * size) for i in range(width)]
        done += _run(work, task, root, blocks, n_jobs, show=False)
        if any(block.failure for block in done):
            break
    return done


def _run(
    work: Callable[..., Block],
    task: Task,
    root: np.random.SeedSequence,
    blocks: list[tuple[int, int]],
    n_jobs: int | None,
    show: bool | None,
) -> list[Block]:
    if len(blocks) == 1:
        return [_alone(work, task, root, *blocks[0])]
    from joblib import Parallel, delayed

    task = replace(task, shared=_n_workers(n_jobs) > 1 and not is_batched(task.env))
    shown = progress_bar(blocks, label="roll out", show=show)
    return list(Parallel(n_jobs=n_jobs)(delayed(_alone)(work, task, root, *block) for block in shown))


def _alone(work: Callable[..., Block], task: Task, root: np.random.SeedSequence, first: int, last: int) -> Block:
    """One block with one thread of BLAS: workers times threads would be more than there are cores."""
    with limited():
        return work(task, root, first, last)


def _n_workers(n_jobs: int | None) -> int:
    from joblib import effective_n_jobs

    return max(1, effective_n_jobs(n_jobs))


def _as_batch(parts: list[Rows], steps: int | None) -> Batch:
    """One batch of the blocks, their episodes numbered on; with ``steps``, no more than these."""
    rows = stack(parts)
    if steps is not None:
        rows = Rows(*(column[:steps] for column in rows))
    columns = rows._asdict() | {"episode": np.unique(rows.episode, return_inverse=True)[1]}
    told = ~np.isnan(rows.costs)
    columns["costs"] = np.where(told, rows.costs, 0.0) if told.any() else None
    return Batch(**columns)
