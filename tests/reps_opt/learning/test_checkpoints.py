"""Checkpoints: a run that was stopped, or killed, goes on as the one that never was."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import PolynomialFeatures

import envs
from policies import GaussianProcessPolicy, LinearGaussianPolicy
from reps_opt import TRPO, History, REPSUpdate, improve

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
    [({"seed": 4}, "seed"), ({"keep": 10}, "keep"), ({"n_episodes": 9}, "amount"), ({"evaluate": None}, "evaluate")],
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
