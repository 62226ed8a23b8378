"""Checkpoints of the improvement loop: one file without pickle, always whole, that a run goes on from bit for bit.

It holds arrays, a JSON header, and the policies in their own format. The seed sequences of iterations are functions of
the seed and the iteration's number, so no generator's state is needed. The header says what the run was set up with:
numbers, names and sequences stand for themselves, arrays for a digest, functions for their names, and other objects for
their class and whatever its constructor was given.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reps_opt.batch import Batch
from reps_opt.learning.policy_update import branch, under
from reps_opt.learning.runs import Run, State
from reps_opt.storage import MALFORMED, atomic_write, read_arrays
from reps_opt.tolerances import DEEPEST_SETTING

FORMAT = "reps_opt.checkpoint/2"
START = "start"
"""Stands for the policy that the run began with: whoever resumes gives it again."""


def write_checkpoint(path: str | os.PathLike[str], run: Run, state: State) -> None:
    """Write everything the next iteration needs; the old file stays whole until the new one is.

    Raises
    ------
    TypeError
        For a policy without ``save(path)``.
    """
    policies = {str(i): START if policy is run.start else _policy_bytes(policy) for i, policy in state.policies.items()}
    header = {
        "format": FORMAT,
        "entropy": _entropy(run),
        "settings": _settings(run),
        "index": state.index,
        "rows": [dict(row) for row in state.rows],
        "remembers": state.memory is not None,
        "pool": [number for number, _ in state.pool],
        "policies": {i: START if isinstance(made, str) else f"policy.{i}" for i, made in policies.items()},
    }
    arrays: dict[str, NDArray[Any]] = {"header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)}
    for k, (_, batch) in enumerate(state.pool):
        arrays |= {f"pool.{k}.{name}": array for name, array in batch.arrays().items()}
    arrays |= {name: np.asarray(value) for name, value in under("memory", state.memory).items()}
    arrays |= {f"policy.{i}": made for i, made in policies.items() if not isinstance(made, str)}
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_checkpoint(path: str | os.PathLike[str], run: Run) -> tuple[Run, State]:
    """The run with the file's seed, and its state; nothing in the file is executed.

    Raises
    ------
    ValueError
        If the file is no checkpoint, or one of a run with other settings, which are named.
    """
    try:
        arrays: dict[str, Any] = dict(read_arrays(path))
        header = json.loads(arrays["header"].tobytes())
        if header["format"] != FORMAT:
            raise ValueError(f"it has format {header['format']!r}, and this version reads {FORMAT!r}")
        pool = tuple(
            (number, Batch.from_arrays(arrays, prefix=f"pool.{k}.")) for k, number in enumerate(header["pool"])
        )
        saved = {int(i): None if name == START else arrays[name] for i, name in header["policies"].items()}
        root = np.random.SeedSequence(header["entropy"][0], spawn_key=tuple(header["entropy"][1]))
        remembered = branch(arrays, "memory") if header["remembers"] else None
        index, rows, settings = int(header["index"]), tuple(map(dict, header["rows"])), dict(header["settings"])
    except MALFORMED as error:
        raise ValueError(f"checkpoint {os.fspath(path)!r} is not one: {error}") from None
    _check_settings(settings, header["entropy"], run)
    run = replace(run, seed=root)
    policies = {i: run.start if content is None else _policy(content, run) for i, content in saved.items()}
    return run, State(index, pool, policies, rows, remembered)


def _entropy(run: Run) -> list[Any]:
    """What the seed sequence is made of: integers, of any size in JSON."""
    entropy = run.root.entropy
    plain = int(entropy) if isinstance(entropy, int | np.integer) else [int(word) for word in entropy or []]
    return [plain, [int(key) for key in run.root.spawn_key]]


def _settings(run: Run) -> dict[str, Any]:
    described = {
        "env": describe_env(run.env),
        "policy": describe_policy(run.policy),
        "update": describe(run.update),
        "amount": run.amount(2),
        "first": {"n_transitions": len(run.first)} if isinstance(run.first, Batch) else run.amount(1),
        **{name: getattr(run, name) for name in ("keep", "reuse", "evaluate", "deterministic", "max_steps")},
    }
    return dict(json.loads(json.dumps(described)))  # lists for tuples, as the file gives them back


def _check_settings(its: Mapping[str, Any], entropy: Any, run: Run) -> None:
    mine = _settings(run)
    if run.seed is not None:
        mine["seed"], its = _entropy(run), {**its, "seed": entropy}
    found = first_difference(its, mine)
    if found is not None:
        name, theirs, ours = found
        raise ValueError(f"checkpoint is of another run: its {name} is {theirs!r}, here it is {ours!r}")


def _policy_bytes(policy: Any) -> NDArray[np.uint8]:
    if not hasattr(policy, "save"):
        raise TypeError(f"checkpoint needs policies with save(path), got {type(policy).__name__}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy"
        policy.save(path)
        return np.frombuffer(path.read_bytes(), dtype=np.uint8)


def _policy(content: NDArray[np.uint8], run: Run) -> Any:
    """The policy of these bytes, read by the class of the update's prototype or of the start policy."""
    possible: tuple[Any, ...] = (getattr(run.update, "fit", None), run.start)
    owners = [owner for owner in possible if hasattr(owner, "load")]
    if not owners:
        raise TypeError("checkpoint needs a policy, or an update's prototype, with load(path) to be resumed")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy"
        path.write_bytes(content.tobytes())
        return owners[0].load(path)


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
    return {"class": type(value).__name__} | {name: describe(item, depth - 1) for name, item in _made_of(value)}


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


def _made_of(value: Any) -> Iterator[tuple[str, Any]]:
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
