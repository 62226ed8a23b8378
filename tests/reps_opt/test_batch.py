"""Batch: validation, selection, concatenation, saving."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from policies import LinearGaussianPolicy
from reps_opt import Batch, RewardWeightedRegression
from reps_opt.batch import ROWS
from reps_opt.learning.returns import returns_to_go


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
    for name in ("states", "actions", "rewards", "next_states", "start_states", *ROWS[4:8]):
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
        ({"episode": [0] * 6}, r"terminated\[2\] ends an episode, but episode\[3\] = 0 says that it goes on"),
        ({"restarted": [0, 0, 0, 0, 1, 0], "episode": [0, 0, 0, 1, 1, 1]}, r"truncated\[4\] ends an episode"),
        ({"restarted": [2] * 6}, "restarted must hold booleans"),
        ({"costs": [1.0]}, r"costs must have shape \(6,\) or \(6, c\)"),
        ({"costs": [np.nan] * 6}, r"costs\[0\] is nan"),
        ({"start_states": np.zeros((2, 3))}, "start_states must have rows of shape"),
    ],
)
def test_bad_input(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


# Episodes: one rule. Labels, flags or both say where they end, and nothing merges or splits them afterwards.


def plain(rewards=(1.0, 1.0, 10.0, 10.0), **more):
    return Batch([0.0, 1, 0, 1], [0.0, 1, 1, 0], list(rewards), [1.0, 2, 1, 2], **more)


def to_go(batch):
    return returns_to_go(batch.rewards, batch.terminated, batch.truncated, 1.0).tolist()


def test_labels_alone_say_where_episodes_end():
    batch = plain(episode=[0, 0, 1, 1])
    assert to_go(batch) == [2.0, 1.0, 20.0, 10.0]
    assert batch.truncated.tolist() == batch.ends.tolist() == [False, True, False, True]
    assert batch.time.tolist() == [0, 1, 0, 1]
    assert not batch.terminated.any()


def test_flags_and_labels_that_agree():
    batch = plain(episode=[3, 3, 7, 7], terminated=[0, 1, 0, 0])
    assert batch.truncated.tolist() == [False, False, False, True]
    assert to_go(batch) == [2.0, 1.0, 20.0, 10.0]


def test_sums_and_selections_neither_merge_nor_split():
    one = Batch([0.0, 1], [0.0, 1], [0.0, 0.0], [1.0, 2])
    both = one + Batch([0.0, 1], [0.0, 1], [100.0, 100.0], [1.0, 2])
    assert to_go(both) == [0.0, 0.0, 200.0, 100.0]
    batch = plain(episode=[0, 0, 1, 1], terminated=[0, 1, 0, 1])
    short = batch.select([0, 2, 3])
    assert short.episode.tolist() == [0, 1, 1]
    assert short.truncated.tolist() == [True, False, False]
    assert to_go(short) == [1.0, 20.0, 10.0]
    assert batch.select([-1, 0]).rewards.tolist() == [1.0, 10.0]


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ([0, 0], ValueError, "index holds 0 twice"),
        ([0, 4], ValueError, r"index\[1\] is 4: the batch has 4"),
        ([0.5], TypeError, "index must be a mask or positions"),
        ([True], ValueError, "index must be a mask of shape"),
    ],
)
def test_selections_are_checked(index, error, message):
    with pytest.raises(error, match=message):
        plain().select(index)


def test_episodes_logged_without_a_last_flag_stay_apart():
    log = {"observations": [0.0, 1, 2], "actions": [0, 0], "terminations": [0, 0], "truncations": [0, 0]}
    batch = Batch.from_minari([SimpleNamespace(rewards=[r, r], **log) for r in (0.0, 100.0)])
    assert to_go(batch) == [0.0, 0.0, 200.0, 100.0]
    update = RewardWeightedRegression(fit=LinearGaussianPolicy(), epsilon=0.1, gamma=1.0)
    assert update._problem(batch, None).rewards.tolist() == [0.0, 0.0, 200.0, 100.0]


def test_a_restart_is_a_truncation_of_its_own_kind():
    batch = plain(restarted=[0, 1, 0, 0], terminated=[0, 0, 0, 1])
    assert batch.restarted.tolist() == [False, True, False, False]
    assert batch.truncated.tolist() == [False, True, False, False]
    assert batch.episode.tolist() == [0, 0, 1, 1]
    both = plain(restarted=[0, 1, 0, 0], terminated=[0, 1, 0, 1])  # what is over cannot be sent back
    assert not both.restarted.any()
    assert (batch + batch).restarted.sum() == 2


def test_costs_travel(tmp_path):
    batch = plain(costs=[[1.0, 0], [2, 0], [3, 0], [4, 1]])
    assert (batch + batch).costs.shape == (8, 2)
    assert batch.select([3]).costs.tolist() == [[4.0, 1.0]]
    assert (Batch.load(batch.save(tmp_path / "costs")).costs == batch.costs).all()
    with pytest.raises(ValueError, match="some hold costs and some do not"):
        batch + plain()


def test_a_table_of_transitions():
    frame = make(costs=np.arange(6.0)).to_frame()
    columns = ["episode", "time", "state_0", "state_1", "action", "reward", "next_state_0", "next_state_1"]
    assert list(frame) == [*columns, "terminated", "truncated", "restarted", "cost"]
    assert frame["time"].tolist() == [0, 1, 2, 0, 1, 2]


def test_damage_of_any_byte_is_told(tmp_path):
    path = make().save(tmp_path / "batch")
    content = path.read_bytes()
    rng, told = np.random.default_rng(0), []
    for place in rng.choice(len(content), size=150, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        try:
            Batch.load(path)
        except ValueError as error:
            told.append(str(error))
    assert len(told) > 50
    assert all("batch.npz is not" in text for text in told)
