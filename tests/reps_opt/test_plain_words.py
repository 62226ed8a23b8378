"""Odd containers and slips as people make them: the right answer, or an error that says what to change."""

from __future__ import annotations

import contextlib
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures

from reps_opt import MDP, REPS, Batch, SampleREPS, Status, rollout, solve

RNG = np.random.default_rng(0)
REWARDS, PSI = RNG.normal(size=40), RNG.normal(size=(40, 2))
LAZY = da.from_array(PSI, chunks=(10, 2))
KEPT = np.r_[np.ones(10, bool), np.zeros(10, bool), np.ones(20, bool)]


def computed(array: da.Array) -> da.Array:
    array.compute_chunk_sizes()
    return array


def test_blocks_that_a_mask_left_empty_count_for_nothing() -> None:
    right = solve(SampleREPS(REWARDS[KEPT], PSI[KEPT], 0.1))
    for lazy in (LAZY[KEPT], computed(LAZY[da.from_array(KEPT, chunks=10)])):
        assert 0 in lazy.chunks[0] or len(lazy.chunks[0]) == 3
        found = solve(SampleREPS(REWARDS[KEPT], lazy, 0.1))
        assert found.status is Status.CERTIFIED
        assert found.objective == pytest.approx(right.objective, abs=1e-12)


@pytest.mark.parametrize(
    ("lazy", "message"),
    [
        (LAZY[da.from_array(KEPT, chunks=10)], r"known shape.*compute_chunk_sizes"),
        (LAZY.astype(complex), "feature_differences must be real numbers, got .* dtype complex128"),
        (
            da.from_array(np.full((40, 2), "a")),
            "feature_differences must be real numbers, got a dask array of dtype <U1",
        ),
        (da.ma.masked_greater(LAZY, 1.0), "feature_differences is a masked dask array"),
        (da.ma.masked_greater(LAZY, 1e9), "feature_differences is a masked dask array"),
        (LAZY[:30], r"feature_differences must have shape \(40, d\), got \(30, 2\)"),
    ],
    ids=["unknown sizes", "complex", "strings", "masked", "masked nowhere", "short"],
)
def test_dask_arrays_that_are_no_features_are_named(lazy: da.Array, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        SampleREPS(REWARDS, lazy, 0.1)


def test_labels_reach_encoders_as_a_column_and_their_sparse_features_are_read() -> None:
    batch = rollout("FrozenLake-v1", n_steps=300, seed=0)
    assert batch.states.ndim == 1
    sparse = SampleREPS.from_batch(batch, OneHotEncoder(handle_unknown="ignore"), epsilon=0.5, gamma=0.9)
    dense = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    found, right = solve(sparse), solve(SampleREPS.from_batch(batch, dense, epsilon=0.5, gamma=0.9))
    assert found.status is Status.CERTIFIED
    assert found.objective == right.objective
    np.testing.assert_array_equal(found.value(batch.states), right.value(batch.states))
    squares = SampleREPS.from_batch(batch, PolynomialFeatures(2), epsilon=0.5, gamma=0.9)
    assert solve(squares).status is Status.CERTIFIED


def test_a_policy_given_for_a_reference_is_noticed() -> None:
    mdp = MDP(RNG.dirichlet(np.ones(3), size=(3, 2)), RNG.normal(size=(3, 2)), 0.9)
    with pytest.warns(UserWarning, match=r"rows that sum to one each.*mdp.occupancy\(policy\)"):
        REPS(mdp, mdp.uniform_policy(), 0.1)
    with pytest.warns(UserWarning, match="as a policy has"):
        REPS(mdp, mdp.uniform_policy().astype(np.float32), 0.1)
    REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.1).replace(epsilon=0.2)
    REPS(mdp, np.array([[3, 1], [0, 2], [5, 5]]), 0.1)  # counts
    single = MDP(np.ones((1, 2, 1)), [[0.0, 1.0]], 0.9)
    REPS(single, [[0.5, 0.5]], 0.1)  # a state alone: both are the same


def test_a_batch_with_a_damaged_byte_is_refused_in_words_or_read_as_it_was(tmp_path: Path) -> None:
    batch = Batch([0.0, 1, 0, 1], [0.0, 1, 1, 0], [1.0, 1, 10, 10], [1.0, 2, 1, 2], episode=[0, 0, 1, 1])
    path = tmp_path / "batch.npz"
    batch.save(path)
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 23):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        again = None
        with contextlib.suppress(ValueError):
            again = Batch.load(path)
        refused += again is None
        if again is not None:
            np.testing.assert_array_equal(again.rewards, batch.rewards)
            np.testing.assert_array_equal(again.states, batch.states)
    assert refused > 10
    for kept in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match="is not a file of plain arrays"):
            Batch.load(path)
