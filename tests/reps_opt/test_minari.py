"""Batches from logs in Minari's format: by protocol, and from a dataset written and read by Minari itself."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces

from reps_opt import Batch, SampleREPS, Status, solve


def episode(n, ends, rng):
    """One logged episode whose end is a termination or a time limit."""
    last = np.arange(n) == n - 1
    return {
        "observations": rng.normal(size=(n + 1, 2)),
        "actions": rng.integers(0, 3, size=n),
        "rewards": rng.normal(size=n),
        "terminations": last & (ends == "terminated"),
        "truncations": last & (ends == "truncated"),
    }


def logs():
    rng = np.random.default_rng(0)
    return [episode(3, "terminated", rng), episode(5, "truncated", rng), episode(2, "cut off", rng)]


def check(batch, parts):
    """Every transition is where its episode had it, none leads from one episode to the next."""
    assert batch.n_episodes == len(parts)
    for label, log in enumerate(parts):
        own = batch.episode == label
        assert (batch.states[own] == log["observations"][:-1]).all()
        assert (batch.next_states[own] == log["observations"][1:]).all()
        for name, key in (("actions", "actions"), ("rewards", "rewards")):
            assert (getattr(batch, name)[own] == log[key]).all()
        assert (batch.terminated[own] == log["terminations"]).all()
        cut = ~log["terminations"] & (np.arange(len(log["rewards"])) == len(log["rewards"]) - 1)  # flagged or not
        assert (batch.truncated[own] == cut).all()
        assert (batch.start_states[label] == log["observations"][0]).all()
    assert batch.actions.dtype.kind == "i"


def test_by_protocol():
    check(Batch.from_minari(SimpleNamespace(**log) for log in logs()), logs())


@pytest.mark.filterwarnings("ignore::UserWarning:minari.utils")  # what a dataset to be published should tell
def test_a_dataset_written_by_minari(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    parts = logs()[:2]  # Minari ends every episode by one or the other
    made = minari.create_dataset_from_buffers(
        "reps_opt/test-v0",
        [EpisodeBuffer(**log) for log in parts],
        observation_space=spaces.Box(-np.inf, np.inf, (2,), np.float64),
        action_space=spaces.Discrete(3),
    )
    dataset = minari.load_dataset("reps_opt/test-v0")
    assert dataset.total_steps == made.total_steps == 8
    batch = Batch.from_minari(dataset)
    check(batch, parts)
    assert batch.info == {"minari": "reps_opt/test-v0"}
    check(Batch.from_minari(dataset.iterate_episodes([1])), parts[1:])
    problem = SampleREPS.from_batch(batch, SimpleNamespace(transform=lambda s: s[:, :1]), epsilon=0.5, gamma=0.9)
    assert solve(problem).status in (Status.CERTIFIED, Status.INFEASIBLE)


def test_composite_observations_lie_side_by_side():
    parts = {"observation": np.arange(6.0).reshape(3, 2), "goal": np.arange(3), "more": (np.ones((3, 1, 1)),)}
    common = {"rewards": [0.0, 1.0], "terminations": [False, True], "truncations": [False, False]}
    log = SimpleNamespace(observations=parts, actions=(np.zeros(2), np.ones(2)), **common)
    batch = Batch.from_minari([log])
    assert batch.states.tolist() == [[0, 1, 0, 1], [1, 1, 2, 3]]
    assert batch.next_states.tolist() == [[1, 1, 2, 3], [2, 1, 4, 5]]
    assert batch.actions.tolist() == [[0, 1], [0, 1]]
    chosen = Batch.from_minari([log], observe=lambda seen: seen["goal"])
    assert chosen.next_states.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("observations", np.zeros((3, 2)), r"dataset: episode 1 has 3 rewards and observations \(3, 2\), not 4 rows"),
        ("rewards", [0.0, np.nan, 1.0], r"dataset: episode 1: rewards\[1\] is nan"),
        ("actions", [0, 1], "dataset: episode 1: actions must have 3 rows"),
        ("terminations", [False], r"dataset: episode 1: terminated must have shape \(3,\)"),
    ],
)
def test_what_is_wrong_with_a_log_is_said(key, value, message):
    good = logs()[0]
    with pytest.raises(ValueError, match=message):
        Batch.from_minari([SimpleNamespace(**good), SimpleNamespace(**{**good, key: value})])


def test_no_episodes():
    with pytest.raises(ValueError, match="dataset is empty"):
        Batch.from_minari([])
