"""Batch: validation, selection, concatenation, saving."""

from __future__ import annotations

import numpy as np
import pytest

from reps_opt import Batch


def make(n=6, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "states": rng.normal(size=(n, 2)),
        "actions": np.arange(n),
        "rewards": np.arange(n, dtype=float),
        "next_states": rng.normal(size=(n, 2)),
        "terminated": np.arange(n) == 2,
        "truncated": np.arange(n) == 5,
    }
    return Batch(**{**arrays, **changes})


def test_episodes_are_read_off_the_ends():
    batch = make()
    assert batch.episode.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.n_episodes == 2
    assert batch.returns.tolist() == [3.0, 12.0]
    assert (batch.start_states == batch.states[[0, 3]]).all()
    assert batch.actions.dtype.kind == "i"


def test_arrays_are_frozen_copies():
    states = np.zeros((6, 2))
    batch = make(states=states)
    states[:] = 1
    assert (batch.states == 0).all()
    with pytest.raises(ValueError, match="read-only"):
        batch.states[0] = 1


def test_selection_and_concatenation():
    batch = make()
    assert batch.select(batch.rewards > 2).rewards.tolist() == [3, 4, 5]
    assert batch.select([4, 0]).rewards.tolist() == [0, 4]
    last = batch.select_episodes([-1])
    assert last.rewards.tolist() == [3, 4, 5]
    assert (last.start_states == batch.start_states[1:]).all()
    both = Batch.concatenate([batch, last])
    assert both.episode.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert both.returns.tolist() == [3.0, 12.0, 12.0]
    assert len(batch + batch) == 12


def test_saving_round_trip(tmp_path):
    batch = make(info={"seed": 3, "policy": "random"})
    path = batch.save(tmp_path / "batch")
    again = Batch.load(path)
    for name in ("states", "actions", "rewards", "next_states", "start_states", "terminated", "truncated", "episode"):
        assert np.array_equal(getattr(again, name), getattr(batch, name))
        assert getattr(again, name).dtype == getattr(batch, name).dtype
    assert again.info == batch.info
    assert [file.name for file in tmp_path.iterdir()] == ["batch.npz"]  # no temporary file is left


def test_a_failed_save_keeps_the_old_file(tmp_path):
    path = make().save(tmp_path / "batch.npz")
    before = path.read_bytes()
    with pytest.raises(TypeError):
        make(info={"rng": np.random.default_rng()}).save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_loading_refuses_what_it_did_not_write(tmp_path):
    np.savez(tmp_path / "other.npz", states=np.zeros(3))
    with pytest.raises(ValueError, match="not a saved Batch"):
        Batch.load(tmp_path / "other.npz")
    np.savez(tmp_path / "pickle.npz", header=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Batch.load(tmp_path / "pickle.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": []}, "rewards is empty"),
        ({"rewards": [0.0, np.nan]}, r"rewards\[1\] is nan"),
        ({"states": np.zeros((5, 2))}, "states must have 6 rows"),
        ({"next_states": np.zeros((6, 3))}, "next_states must have the shape of states"),
        ({"actions": [0.0]}, "actions must have 6 rows"),
        ({"terminated": [True]}, r"terminated must have shape \(6,\)"),
        ({"truncated": np.full(6, 0.5)}, "truncated must hold booleans"),
        ({"episode": [0, 0, 1, 1, 0, 0]}, r"episode\[4\] falls"),
        ({"episode": np.zeros(6)}, "episode must be integers"),
        ({"start_states": np.zeros((2, 3))}, "start_states must have rows of shape"),
    ],
)
def test_bad_input(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)
