"""The improvement loop: roll out, update, evaluate, and again, with a record of everything an iteration knew.

A run is a function of its seed: iteration k draws from seed sequences of its own, so that a run resumed from a
checkpoint goes on bit for bit as the one that was never stopped.
"""

from __future__ import annotations

import inspect
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from reps_opt.batch import Batch
from reps_opt.history import History
from reps_opt.learning.acting import check_policy
from reps_opt.learning.importance import importance_weights
from reps_opt.learning.records import Record, Score
from reps_opt.learning.runs import Run, State, Update
from reps_opt.progress import progress as progress_bar
from reps_opt.validation import as_count

REUSES = ("pool", "importance")


def improve(
    env: Any,
    policy: Any,
    update: Update,
    n_iterations: int,
    *,
    n_episodes: int | None = None,
    n_steps: int | None = None,
    first: int | Batch | None = None,
    keep: int | None = None,
    reuse: str = "pool",
    seed: Any = None,
    evaluate: int | None = None,
    callbacks: Callable[[Record], Any] | Iterable[Callable[[Record], Any]] = (),
    stop: Callable[[History], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    max_steps: int | None = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Iterator[Record]:
    """Improve a policy in an environment, by any update; a generator that a loop may leave when it has seen enough.

    Parameters
    ----------
    env, policy, max_steps, n_jobs
        As for :func:`~reps_opt.rollout`; the policy is where to start, None for uniform actions.
    update
        ``update(policy, batch)`` returns an object with ``policy``, ``accepted``, ``solution``, ``gain`` and ``kl``: a
        :class:`~reps_opt.REPSUpdate`, :class:`~reps_opt.EpisodicREPSUpdate`, :class:`~reps_opt.TRPO` or any other.
    n_iterations
        Updates to make at most.
    n_episodes, n_steps
        What every iteration collects, one of the two.
    first
        The same for the first iteration, in the same unit; or the batch that it begins with: logged transitions, or
        roll-outs that explore in a way no policy of the state can. They count as the start policy's.
    keep
        Latest episodes that updates see, older ones with the policies that made them among them. None: only those of
        this iteration.
    reuse
        What kept episodes count for: ``"pool"``, all alike, so that the ball is around the mixture of the policies
        that made them; ``"importance"``, by :func:`~reps_opt.importance_weights`, around the current policy. The
        latter needs policies with ``log_prob``, and an update that takes ``base_weights``.
    seed
        An integer or a ``numpy.random.SeedSequence``; the run is a function of it.
    evaluate
        Episodes on which every new policy is evaluated, on the same seeds each time; None for no evaluation.
    callbacks
        Called with every :class:`~reps_opt.Record`, one function or several.
    stop
        Called with the :class:`~reps_opt.History` so far; a true value, such as the reason that
        :class:`~reps_opt.NoImprovement` gives, ends the run, and stands in the last record under ``stopped``.
    checkpoint
        A file, written after every iteration; one that exists already is resumed: its records come first, without
        batches. Policies must have ``save(path)`` and ``load(path)``, as those of :mod:`policies` have.
    progress
        Whether to show a bar; None where standard error is a terminal.

    Yields
    ------
    Record

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit; a checkpoint of another run, with the argument that differs.

    Examples
    --------
    >>> import envs
    >>> from policies import LinearGaussianPolicy
    >>> from reps_opt import REPSUpdate, History
    >>> from sklearn.preprocessing import PolynomialFeatures
    >>> env = envs.LQR()
    >>> update = REPSUpdate(fit=LinearGaussianPolicy(), features=PolynomialFeatures(2), gamma=env.gamma)
    >>> history = History(improve(env, None, update, n_iterations=5, n_episodes=20, seed=0, evaluate=20))
    >>> bool(history.returns[-1] > history.returns[0])
    True
    >>> sorted(history.to_frame().columns)[:4]
    ['accepted', 'batch_return', 'batch_reward', 'episodes']
    """
    run = _as_run(env, policy, update, n_episodes, n_steps, first, keep, reuse, seed, evaluate, max_steps, n_jobs)
    count = as_count(n_iterations, "n_iterations")
    calls = [callbacks] if callable(callbacks) else list(callbacks)
    return _iterations(run, count, calls, stop, checkpoint, progress)


def _as_run(
    env: Any,
    policy: Any,
    update: Update,
    n_episodes: int | None,
    n_steps: int | None,
    first: int | Batch | None,
    keep: int | None,
    reuse: str,
    seed: Any,
    evaluate: int | None,
    max_steps: int | None,
    n_jobs: int | None,
) -> Run:
    if (n_episodes is None) == (n_steps is None):
        raise ValueError("one of n_episodes and n_steps must be given, and not both")
    check_policy(policy)
    if isinstance(update, type) or not callable(update):
        raise TypeError(f"update must be callable as update(policy, batch), got {update!r}")
    if reuse not in REUSES:
        raise ValueError(f"reuse must be one of {REUSES}, got {reuse!r}")
    if reuse == "importance" and "base_weights" not in inspect.signature(update).parameters:
        raise TypeError(f"reuse='importance' needs an update that takes base_weights, got {type(update).__name__}")
    unit = "n_episodes" if n_steps is None else "n_steps"
    amount = as_count(n_episodes if n_steps is None else n_steps, unit)
    begin = first if isinstance(first, Batch) else {unit: amount if first is None else as_count(first, "first")}
    return Run(
        env,
        policy,
        update,
        seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed),
        {unit: amount},
        begin,
        None if keep is None else as_count(keep, "keep"),
        reuse,
        None if evaluate is None else as_count(evaluate, "evaluate"),
        {"max_steps": max_steps, "n_jobs": n_jobs},
        seed is not None,
    )


def _iterations(
    run: Run,
    count: int,
    callbacks: list[Callable[[Record], Any]],
    stop: Callable[[History], Any] | None,
    checkpoint: str | os.PathLike[str] | None,
    progress: bool | None,
) -> Iterator[Record]:
    state = State(0, (), {0: run.start})
    if checkpoint is not None:
        from reps_opt.learning.checkpoints import read_checkpoint, write_checkpoint

        if os.path.exists(checkpoint):
            run, state = read_checkpoint(checkpoint, run)
    records = [Record(i + 1, None, row) for i, row in enumerate(state.rows)]
    if records:
        records[-1] = Record(state.index, state.policy, state.rows[-1])
    yield from records[:count]
    if records and records[-1].values["stopped"]:
        return
    for index in progress_bar(range(state.index + 1, count + 1), label="improve", show=progress):
        record, state = _iterate(run, state, index)
        records.append(record)
        reason = "" if stop is None else stop(History(records))
        row = {**record.values, "stopped": str(reason) if reason else ""}
        records[-1] = record = Record(index, record.policy, row, record.update, record.batch)
        state = State(state.index, state.pool, state.policies, (*state.rows, row))
        if checkpoint is not None:
            write_checkpoint(checkpoint, run, state)
        for call in callbacks:
            call(record)
        yield record
        records[-1] = Record(index, None, row)  # a long run keeps numbers, and lets go of batches and policies
        if reason:
            return


def _iterate(run: Run, state: State, index: int) -> tuple[Record, State]:
    """One iteration: roll out, update, evaluate."""
    began = time.perf_counter()
    policy = state.policy
    fresh = run.collect(policy, index)
    pool = _kept((*state.pool, (index - 1, fresh)), run.keep)
    batch = Batch.concatenate(part for _, part in pool)
    more = {}
    if run.reuse == "importance":
        more["base_weights"] = importance_weights(policy, [(state.policies[i], part) for i, part in pool])
    result = run.update(policy, batch, **more)
    made = Score.of(fresh)
    before = _last_score(state) if state.rows else run.score(policy)
    after = run.score(result.policy) if result.accepted else before
    last = state.rows[-1] if state.rows else {"steps": 0, "episodes": 0}
    row = {
        "return": after.mean_return,
        "reward": after.mean_reward,
        "old_return": made.mean_return if run.evaluate is None else before.mean_return,
        "old_reward": made.mean_reward if run.evaluate is None else before.mean_reward,
        "batch_return": made.mean_return,
        "batch_reward": made.mean_reward,
        **_facts(result),
        "steps": last["steps"] + len(fresh),
        "episodes": last["episodes"] + fresh.n_episodes,
        "seconds": time.perf_counter() - began,
        "stopped": "",
    }
    needed = {i for i, _ in pool} if run.reuse == "importance" else set()
    policies = {i: known for i, known in state.policies.items() if i in needed} | {index: result.policy}
    return Record(index, result.policy, row, result, batch), State(index, pool, policies, state.rows)


def _kept(pool: tuple[tuple[int, Batch], ...], keep: int | None) -> tuple[tuple[int, Batch], ...]:
    """The latest ``keep`` episodes of the pool; without a number, those of the last iteration."""
    if keep is None:
        return pool[-1:]
    kept, left = [], keep
    for number, batch in reversed(pool):
        if left == 0:
            break
        share = min(left, batch.n_episodes)
        whole = share == batch.n_episodes
        kept.append((number, batch if whole else batch.select_episodes(np.arange(-share, 0))))
        left -= share
    return tuple(reversed(kept))


def _last_score(state: State) -> Score:
    return Score(state.rows[-1]["return"], state.rows[-1]["reward"])


def _facts(result: Any) -> dict[str, Any]:
    """What a row tells of an update, NaN where it has no such thing."""
    solution = getattr(result, "solution", None)

    def of(owner: Any, name: str) -> float:
        return float(getattr(owner, name, math.nan)) if owner is not None else math.nan

    certificate = getattr(solution, "certificate", None)
    return {
        "predicted": of(result, "gain"),
        "kl_predicted": of(solution, "kl"),
        "kl": of(result, "kl"),
        "eta": of(solution, "eta"),
        "ess": of(solution, "ess"),
        "gap": of(certificate, "gap"),
        "status": str(getattr(solution, "status", "none")),
        "accepted": bool(result.accepted),
        "message": str(getattr(result, "message", "")),
    }
