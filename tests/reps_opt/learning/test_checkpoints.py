"""Checkpoints: a run that was stopped, or killed, goes on as the one that never was."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import PolynomialFeatures

import envs
from policies import GaussianProcessPolicy, LinearGaussianPolicy, RBFPolicy
from reps_opt import TRPO, History, REPSUpdate, RewardWeightedRegression, improve

ENV = envs.LQR(horizon=15)
UPDATE = REPSUpdate(fit=LinearGaussianPolicy(), features=PolynomialFeatures(2), gamma=ENV.gamma, epsilon=0.3)
OPTIONS = {"n_episodes": 8, "first": 24, "keep": 24, "seed": 3, "evaluate": 5}


def table(history: History) -> pd.DataFrame:
    """The rows but for the time they took."""
    return history.to_frame().drop(columns="seconds")


@pytest.mark.parametrize("reuse", ["pool", "importance"])
@pytest.mark.parametrize("stopped_after", [1, 3])
def test_a_resumed_run_is_the_one_that_was_never_stopped(tmp_path: Path, stopped_after: int, reuse: str) -> None:
    start = LinearGaussianPolicy().fit(np.eye(6, 3), np.eye(6, 3)[::-1])
    options = OPTIONS | {"reuse": reuse}
    whole = History(improve(ENV, start, UPDATE, 6, **options))
    path = tmp_path / "run.npz"
    for record in improve(ENV, start, UPDATE, 6, **options, checkpoint=path):
        if record.index == stopped_after:
            break
    resumed = History(improve(ENV, start, UPDATE, 6, **options, checkpoint=path))
    pd.testing.assert_frame_equal(table(whole), table(resumed), check_exact=True)
    assert np.array_equal(whole.policy.params, resumed.policy.params)
    assert resumed[stopped_after - 1].policy is not None
    assert resumed[stopped_after - 1].batch is None
    again = History(improve(ENV, start, UPDATE, 6, **options, checkpoint=path))  # all of it read back
    pd.testing.assert_frame_equal(table(whole), table(again), check_exact=True)
    assert np.array_equal(whole.policy.params, again.policy.params)
    longer = History(improve(ENV, start, UPDATE, 7, **options, checkpoint=path))
    assert len(longer) == 7


@pytest.mark.parametrize("evaluate", [None, 3])
def test_a_resumed_run_still_has_its_best_policy(tmp_path: Path, evaluate: int | None) -> None:
    """Wherever it was stopped: the best policy so far is in the file, though nothing goes on from it."""
    update, options = replace(UPDATE, epsilon=2.0), {"n_episodes": 2, "seed": 0, "evaluate": evaluate}
    whole = History(improve(ENV, None, update, 8, **options))
    assert whole.best.index < 7
    running = tmp_path / "run.npz"
    for record in islice(improve(ENV, None, update, 8, **options, checkpoint=running), 7):
        path = shutil.copy(running, tmp_path / f"stopped_after_{record.index}.npz")
        resumed = History(improve(ENV, None, update, 8, **options, checkpoint=path))
        assert resumed.best.index == whole.best.index
        np.testing.assert_array_equal(resumed.best.policy.params, whole.best.policy.params)


def test_policies_of_other_kinds_are_resumed(tmp_path: Path) -> None:
    update = REPSUpdate(
        fit=GaussianProcessPolicy(max_iter=3), features=PolynomialFeatures(2), gamma=ENV.gamma, warm_start=True
    )
    gradient = TRPO(gamma=ENV.gamma)
    start = LinearGaussianPolicy().fit(np.eye(6, 3), np.eye(6, 3)[::-1])
    for name, (policy, how) in {"gp": (None, update), "trpo": (start, gradient)}.items():
        whole = History(improve(ENV, policy, how, 3, n_episodes=4, seed=0))
        next(improve(ENV, policy, how, 3, n_episodes=4, seed=0, checkpoint=tmp_path / name))
        resumed = History(improve(ENV, policy, how, 3, n_episodes=4, seed=0, checkpoint=tmp_path / name))
        pd.testing.assert_frame_equal(table(whole), table(resumed), check_exact=True)


def test_a_run_without_a_seed_keeps_the_one_it_drew(tmp_path: Path) -> None:
    path = tmp_path / "run"
    options = OPTIONS | {"seed": None}
    next(improve(ENV, None, UPDATE, 3, **options, checkpoint=path))
    rest = History(improve(ENV, None, UPDATE, 3, **options, checkpoint=path))
    entropy = json.loads(np.load(path)["header"].tobytes())["entropy"]
    whole = History(improve(ENV, None, UPDATE, 3, **(options | {"seed": np.random.SeedSequence(entropy[0])})))
    pd.testing.assert_frame_equal(table(whole), table(rest), check_exact=True)


def test_a_stopped_run_stays_stopped(tmp_path: Path) -> None:
    options = OPTIONS | {"checkpoint": tmp_path / "run"}
    assert len(list(improve(ENV, None, UPDATE, 5, **options, stop=lambda history: len(history) == 2))) == 2
    assert len(list(improve(ENV, None, UPDATE, 5, **options))) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed"),
        ({"keep": 10}, "keep"),
        ({"n_episodes": 9}, "amount.n_episodes"),
        ({"evaluate": None}, "evaluate"),
        ({"deterministic": True}, "deterministic"),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "run"
    next(improve(ENV, None, UPDATE, 2, **OPTIONS, checkpoint=path))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"another run: its {message} is"):
        next(improve(ENV, None, UPDATE, 2, **(OPTIONS | change), checkpoint=path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a file"], ids=str)
def test_a_file_that_is_no_checkpoint_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not one"):
        next(improve(ENV, None, UPDATE, 2, **OPTIONS, checkpoint=path))
    assert path.read_bytes() == content


def test_a_pickle_in_a_checkpoint_is_not_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path(tmp_path / "exploded").touch, ())

    path = tmp_path / "run.npz"
    with path.open("wb") as file:
        np.savez(file, header=np.array([Bomb()], dtype=object))
    with pytest.raises(ValueError, match="is not one"):
        next(improve(ENV, None, UPDATE, 2, **OPTIONS, checkpoint=path))
    assert not (tmp_path / "exploded").exists()


def test_policies_that_cannot_be_saved_are_named(tmp_path: Path) -> None:
    class Update:
        def __call__(self, policy, batch):
            return type("Result", (), {"policy": lambda state, rng: np.zeros(3), "accepted": True})

    with pytest.raises(TypeError, match=r"needs policies with save\(path\), got function"):
        next(improve(ENV, None, Update(), 1, n_episodes=1, seed=0, checkpoint=tmp_path / "run"))


def run_forever(path: Path, pipe: Connection) -> None:
    """What the killed process does: improve, and tell the iterations it has done."""
    for record in improve(ENV, None, UPDATE, 10_000, **OPTIONS, checkpoint=path):
        pipe.send(record.index)


def test_killed_twenty_five_times_the_last_good_checkpoint_stands(tmp_path: Path) -> None:
    """SIGKILL at random moments; what is there afterwards is always a whole prefix of the uninterrupted run."""
    path, rng = tmp_path / "run.npz", np.random.default_rng(0)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    reached = 0
    for _ in range(25):
        ours, its = processes.Pipe(duplex=False)
        child = processes.Process(target=run_forever, args=(path, its))
        child.start()
        its.close()
        told = 0
        while told <= reached:  # one new iteration at least, then a moment within the next ones
            told = ours.recv()
        time.sleep(rng.uniform(0.0, 0.05))
        child.kill()
        child.join()
        with contextlib.suppress(EOFError):
            while True:
                told = ours.recv()
        ours.close()
        assert child.exitcode == -signal.SIGKILL
        child.close()
        assert len(list(improve(ENV, None, UPDATE, 1, **OPTIONS, checkpoint=path))) == 1
        reached = json.loads(np.load(path)["header"].tobytes())["index"]
        assert reached >= told
    killed = History(improve(ENV, None, UPDATE, reached, **OPTIONS, checkpoint=path))
    whole = History(improve(ENV, None, UPDATE, reached, **OPTIONS))
    pd.testing.assert_frame_equal(table(whole), table(killed), check_exact=True)
    assert np.array_equal(whole.policy.params, killed.policy.params)


@pytest.mark.parametrize(
    ("env", "update", "policy", "message"),
    [
        (ENV, replace(UPDATE, epsilon=0.4), None, "update.epsilon is 0.3, here it is 0.4"),
        (ENV, replace(UPDATE, gamma=0.5), None, "update.gamma is"),
        (ENV, replace(UPDATE, fit=RBFPolicy()), None, "update.fit.class is 'LinearGaussianPolicy'"),
        (ENV, replace(UPDATE, fit=LinearGaussianPolicy(ridge=2.0)), None, "update.fit.ridge is"),
        (envs.LQR(horizon=7), UPDATE, None, "env.horizon is"),
        (envs.SwingUp(), UPDATE, None, "env.class is 'LQR'"),
        (ENV, UPDATE, LinearGaussianPolicy().fit(np.eye(3), np.eye(3)), "policy"),
        (ENV, RewardWeightedRegression(fit=LinearGaussianPolicy()), None, "update.class is 'REPSUpdate'"),
    ],
    ids=str,
)
def test_a_checkpoint_of_other_settings_is_refused_by_their_name(tmp_path: Path, env, update, policy, message) -> None:
    path = tmp_path / "run"
    next(improve(ENV, None, UPDATE, 2, **OPTIONS, checkpoint=path))
    with pytest.raises(ValueError, match=f"another run: its {message}"):
        next(improve(env, policy, update, 2, **OPTIONS, checkpoint=path))
    list(improve(ENV, None, replace(UPDATE), 2, **OPTIONS, checkpoint=path))  # the same settings go on


def test_what_a_gradient_update_remembers_is_resumed(tmp_path: Path) -> None:
    whole = list(improve("Pendulum-v1", None, TRPO(), 3, n_steps=250, seed=1))
    path = tmp_path / "run"
    next(improve("Pendulum-v1", None, TRPO(), 3, n_steps=250, seed=1, checkpoint=path))
    rest = list(improve("Pendulum-v1", None, TRPO(), 3, n_steps=250, seed=1, checkpoint=path))
    np.testing.assert_array_equal(rest[-1].policy.params, whole[-1].policy.params)
    for name, value in whole[-1].update.memory.items():
        np.testing.assert_array_equal(rest[-1].update.memory[name], value)


def test_a_missing_folder_shows_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="its folder does not exist"):
        improve(ENV, None, UPDATE, 2, **OPTIONS, checkpoint=tmp_path / "none" / "run")


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    import subprocess
    import sys

    done = subprocess.Popen([sys.executable, "-c", "pass"])
    done.wait()
    left = tmp_path / f".run.{done.pid}.00ff.part"
    other, alive = tmp_path / f".run2.{done.pid}.00ff.part", tmp_path / f".run.{os.getpid()}.00ff.part"
    for part in (left, other, alive):
        part.touch()
    next(improve(ENV, None, UPDATE, 2, **OPTIONS, checkpoint=tmp_path / "run"))
    assert not left.exists()
    assert other.exists()
    assert alive.exists()
    os.utime(alive, (0, 0))
    list(improve(ENV, None, UPDATE, 2, **OPTIONS, checkpoint=tmp_path / "run"))
    assert not alive.exists()
