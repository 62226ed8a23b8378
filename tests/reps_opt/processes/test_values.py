"""An MDP is a value: it cannot be changed, and is compared, hashed, copied and pickled by what it consists of."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import envs
from reps_opt import MDP

P, R = np.array([np.eye(2), np.eye(2)]), np.array([[1.0, 0.0], [0.0, 2.0]])
CHANGES = {
    "gamma": 0.5,
    "r": R + 1,
    "P": np.full((2, 2, 2), 0.5),
    "mu0": [1.0, 0.0],
    "layout": ["ab"],
    "allowed": [[True, True], [True, False]],
    "state_labels": ["here", "there"],
    "action_labels": ["stay", "go"],
    "counts": [[1, 2], [3, 4]],
}


@pytest.mark.parametrize("name", ["gamma", "rewards", "transitions", "mu0", "allowed", "n_states", "colour"])
def test_setting_anything_says_how_to_make_another(name: str) -> None:
    mdp = MDP(P, R)
    with pytest.raises(AttributeError, match="cannot be changed"):
        setattr(mdp, name, 0.5)
    with pytest.raises(AttributeError, match=r"mdp\.replace\(gamma=\.\.\.\)"):
        mdp.gamma = 0.5
    with pytest.raises(AttributeError, match="cannot be changed"):
        del mdp.gamma
    assert mdp.gamma == 0.95


@pytest.mark.parametrize("name", CHANGES)
def test_replacing_a_part_makes_the_mdp_that_has_it(name: str) -> None:
    mdp = MDP(P, R)
    other = mdp.replace(**{name: CHANGES[name]})
    assert other == MDP(**{"P": P, "r": R} | {name: CHANGES[name]})
    assert hash(other) == hash(MDP(**{"P": P, "r": R} | {name: CHANGES[name]}))
    assert other != mdp
    assert mdp == MDP(P, R)


def test_replacing_keeps_everything_else() -> None:
    full = MDP(P, R, mu0=[1, 0], layout=["ab"], state_labels=["x", "y"], counts=[[1, 0], [2, 3]])
    other = full.replace(gamma=0.5).replace(r=2 * R)
    for name in ("mu0", "counts"):
        np.testing.assert_array_equal(getattr(other, name), getattr(full, name))
    assert (other.layout, other.state_labels) == (("ab",), ("x", "y"))
    assert other.transitions is full.transitions
    larger = full.replace(P=np.full((2, 3, 2), 0.5), r=np.ones((2, 3)), counts=None)
    assert larger.n_actions == 3
    with pytest.raises(TypeError, match="colour"):
        full.replace(colour=3)
    with pytest.raises(ValueError, match="gamma must be"):
        full.replace(gamma=2.0)


def test_equal_numbers_make_equal_mdps_whatever_they_came_in() -> None:
    mdp = MDP(P, R)
    assert mdp == MDP(P.tolist(), np.where(R == 0, -0.0, R).astype(np.float32))
    assert len({mdp, MDP(P, R), MDP(P, R, 0.5)}) == 2
    assert mdp != "MDP"
    assert MDP(P, R, mu0=[0.25, 0.75]) != mdp


@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_equal_and_as_frozen(through: object) -> None:
    mdp = envs.gridworld((4, 4), slip=0.1).replace(state_labels=[f"s{i}" for i in range(16)])
    hash(mdp)
    other = through(mdp)  # type: ignore[operator]
    assert other == mdp
    assert hash(other) == hash(mdp)
    for array in (other.rewards, other.mu0, other.allowed, other.transitions.data, other.transitions.indices):
        assert not array.flags.writeable
    assert other.value(mdp.uniform_policy()) == pytest.approx(mdp.value(mdp.uniform_policy()))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"state_labels": ["one"]}, ValueError, "state_labels must hold 2 labels, got 1"),
        ({"state_labels": "ab"}, TypeError, "state_labels must be a sequence"),
        ({"action_labels": ["go", "go"]}, ValueError, "'go' occurs more often"),
        ({"counts": [[1, -1], [0, 0]]}, ValueError, r"counts\[0, 1\] is -1"),
        ({"counts": [1, 1]}, ValueError, "counts must have shape"),
        ({"allowed": [[True, True], [False, False]]}, ValueError, "allowed leaves state 1 no action"),
        ({"allowed": [[0.5, 1], [1, 1]]}, ValueError, "allowed must hold True and False"),
        ({"allowed": [True, True]}, ValueError, "allowed must have shape"),
        ({"allowed": "all"}, ValueError, "allowed must be a mask"),
    ],
)
def test_bad_parts_are_named(changes: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MDP(P, R, **changes)


def test_a_number_just_outside_is_shown_in_full() -> None:
    with pytest.raises(ValueError, match=r"gamma must be > 0 and <= 1, got 1\.0000001"):
        MDP(P, R, 1.0000001)
    with pytest.raises(ValueError, match=r"got 1\.0000000000000002$"):
        MDP(P, R, np.nextafter(1, 2))


def test_indices_take_four_bytes_where_they_fit() -> None:
    wide = envs.garnet(50, 3, 4, seed=0)
    assert wide.transitions.indices.dtype == wide.transitions.indptr.dtype == np.int32
