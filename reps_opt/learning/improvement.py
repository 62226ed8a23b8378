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
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from reps_opt.batch import Batch
from reps_opt.history import History
from reps_opt.learning.acting import check_policy
from reps_opt.learning.fits import importance_weights
from reps_opt.learning.records import NoImprovement, Record, Score, promise_columns, refutation, refuted_in_a_row
from reps_opt.learning.runs import Run, State, Update
from reps_opt.progress import progress as progress_bar
from reps_opt.threads import limited
from reps_opt.tolerances import LONGEST_HOLD
from reps_opt.validation import FloatArray, as_count


class Unevaluated(History):
    """What ``stop`` looks at where nothing is evaluated: it can look at all but the returns."""

    __slots__ = ()

    @property
    def returns(self) -> FloatArray:
        raise ValueError("stop looks at the returns of evaluations, and there are none: give evaluate=10, say")


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
    deterministic: bool = False,
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
        As for :func:`~reps_opt.rollout`; the policy is where to start, None for uniform actions. Updates that step from
        a policy's parameters, such as TRPO, then start from a network over the environment's spaces, whose inputs are
        scaled by the first batch. Others go on from uniform actions until there is something to learn; each time that
        there was nothing, the next are held for twice as many steps, to get further.
    update
        ``update(policy, batch)`` returns an object with ``policy``, ``accepted``, ``solution``, ``gain`` and ``kl``: a
        :class:`~reps_opt.REPSUpdate`, :class:`~reps_opt.EpisodicREPSUpdate`, :class:`~reps_opt.TRPO` or any other; or
        just a policy. One that takes ``memory`` too is given what its last result kept under that name; one that says
        ``needs_policy = True`` is given a policy to start from where there is none.
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
        Episodes on which every new policy is evaluated, on the same seeds each time; None for no evaluation. Their
        steps are not among the ``steps`` of a record.
    deterministic
        Whether evaluations take the policy's mean, or most probable action, instead of a sample; roll-outs to learn
        from explore as ever, and judge what was promised, which is promised of them.
    callbacks
        Called with every :class:`~reps_opt.Record`, one function or several.
    stop
        Called with the :class:`~reps_opt.History` so far; a true value, such as the reason that
        :class:`~reps_opt.NoImprovement` gives, ends the run, and stands in the last record under ``stopped``.
    checkpoint
        A file, written after every iteration; one that exists already is resumed: its records come first, without
        batches, and without policies but the last and the best. Policies must have ``save(path)`` and ``load(path)``,
        as those of :mod:`policies` have. One of another run is refused: by the seed, the environment and its settings,
        the start policy, the update and all of its.
    progress
        Whether to show a bar; None where standard error is a terminal.

    Yields
    ------
    Record

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit; a checkpoint of another run, with the argument that differs; a ``stop`` that
        looks at evaluations where there are none; an update that returns neither.
    FileNotFoundError
        Where the checkpoint's folder does not exist.
    RolloutError
        Where the environment raises: the error holds what this iteration had rolled out.

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
    ['accepted', 'base_objective', 'base_objective_error', 'batch_return']
    """
    if isinstance(stop, NoImprovement) and evaluate is None:
        raise ValueError("stop=NoImprovement(...) looks at evaluations, and there are none: give evaluate=10, say")
    if checkpoint is not None and not Path(checkpoint).resolve().parent.is_dir():
        raise FileNotFoundError(f"checkpoint {os.fspath(checkpoint)!r}: its folder does not exist")
    run = Run(
        env,
        policy,
        update,
        n_episodes,
        n_steps,
        first,
        keep,
        reuse,
        seed,
        evaluate,
        bool(deterministic),
        max_steps,
        n_jobs,
    )
    count = as_count(n_iterations, "n_iterations")
    calls = [callbacks] if callable(callbacks) else list(callbacks)
    return _iterations(run, count, calls, stop, checkpoint, progress)


def _iterations(
    run: Run,
    count: int,
    callbacks: list[Callable[[Record], Any]],
    stop: Callable[[History], Any] | None,
    checkpoint: str | os.PathLike[str] | None,
    progress: bool | None,
) -> Iterator[Record]:
    remembers = "memory" in inspect.signature(run.update).parameters
    state = State(0, (), {0: run.start}, memory={} if remembers else None)
    if checkpoint is not None:
        from reps_opt.learning.checkpoints import read_checkpoint, write_checkpoint

        if os.path.exists(checkpoint):
            run, state = read_checkpoint(checkpoint, run)
    records = [Record(i, state.policies.get(i), row) for i, row in enumerate(state.rows, start=1)]
    yield from records[:count]
    if records and records[-1].values["stopped"]:
        return
    for index in progress_bar(range(state.index + 1, count + 1), label="improve", show=progress):
        record, state = _iterate(run, state, records)
        records.append(record)
        reason = "" if stop is None else stop(History(records) if run.evaluate else Unevaluated(records))
        row = {**record.values, "stopped": str(reason) if reason else ""}
        records[-1] = record = Record(index, record.policy, row, record.update, record.batch)
        state = replace(state, rows=(*state.rows, row))
        if checkpoint is not None:
            write_checkpoint(checkpoint, run, state)
        for call in callbacks:
            call(record)
        yield record
        records[-1] = Record(index, None, row)  # a long run keeps numbers, and lets go of batches and policies
        if reason:
            return


def _iterate(run: Run, state: State, records: list[Record]) -> tuple[Record, State]:
    """One iteration after those on record: roll out, update, evaluate."""
    began = time.perf_counter()
    policy, index = state.policy, state.index + 1
    fresh = run.collect(policy, index, state.hold)
    if index == 1:
        policy = run.scaled_start(fresh)
    pool = _kept((*state.pool, (index - 1, fresh)), run.keep)
    batch = Batch.concatenate(part for _, part in pool)
    more: dict[str, Any] = {} if state.memory is None else {"memory": state.memory}
    if run.reuse == "importance":
        more["base_weights"] = importance_weights(policy, [(state.policies[i], part) for i, part in pool])
    with limited():
        result = _as_result(run.update(policy, batch, **more))
    made = Score.of(fresh, cut=run.n_steps is not None)
    past = state.rows[-1] if state.rows else None
    before = Score.of(run.evaluation(policy)) if past is None else Score(past["return"], past["reward"])
    evaluated = run.evaluation(result.policy) if result.accepted else None
    after = before if evaluated is None else Score.of(evaluated)
    last = past or {"steps": 0, "episodes": 0}
    row = {
        "return": after.mean_return,
        "reward": after.mean_reward,
        "old_return": made.mean_return if run.evaluate is None else before.mean_return,
        "old_reward": made.mean_reward if run.evaluate is None else before.mean_reward,
        "batch_return": made.mean_return,
        "batch_reward": made.mean_reward,
        **_facts(result),
        "gain": after.mean_reward - before.mean_reward,
        **promise_columns(run.update, result, None if run.deterministic else evaluated, fresh, past),
        "steps": last["steps"] + len(fresh),
        "episodes": last["episodes"] + fresh.n_episodes,
        "seconds": time.perf_counter() - began,
        "stopped": "",
    }
    judged = run.evaluate is not None and not run.deterministic
    row["refuted"] = refuted_in_a_row(row, past, judged)
    idle = result.policy is None and not result.accepted
    longer = f"the next uniform actions are held for {min(2 * state.hold, LONGEST_HOLD)} steps each" if idle else ""
    said = [str(row["message"]), refutation(row["refuted"]), longer]
    row["message"] = "; ".join(filter(None, said))
    record = Record(index, result.policy, row, result, batch)
    needed = {i for i, _ in pool} if run.reuse == "importance" else set()
    needed.add(History([*records, record]).best.index)
    policies = {i: known for i, known in state.policies.items() if i in needed} | {index: result.policy}
    memory = None if state.memory is None else getattr(result, "memory", None) or state.memory
    return record, State(index, pool, policies, state.rows, memory)


def _as_result(returned: Any) -> Any:
    """What an update returned, a plain policy as one that was accepted."""
    if hasattr(returned, "policy"):
        return returned if hasattr(returned, "accepted") else SimpleNamespace(policy=returned.policy, accepted=True)
    if returned is None:
        raise TypeError("update returned None: it must return a policy, or an object with policy and accepted")
    check_policy(returned)
    return SimpleNamespace(policy=returned, accepted=True)


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
        "kl_old_new": of(result, "kl_old_new"),
        "eta": of(solution, "eta"),
        "ess": of(solution, "ess"),
        "gap": of(certificate, "gap"),
        "status": str(getattr(solution, "status", "none")),
        "accepted": bool(result.accepted),
        "message": str(getattr(result, "message", "")),
    }
