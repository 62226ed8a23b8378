"""Grid worlds: against Gymnasium's FrozenLake, by hand, and at size."""

import numpy as np
import pytest

import envs
from reps_opt import MDP

FROZEN_LAKE = ["SFFF", "FHFH", "FFFH", "HFFG"]


def assert_same(ours, theirs):
    assert abs(ours.transitions - theirs.transitions).max() < 1e-12
    np.testing.assert_allclose(ours.rewards, theirs.rewards, atol=1e-12)
    np.testing.assert_allclose(ours.mu0, theirs.mu0, atol=1e-12)
    assert ours.layout == theirs.layout


@pytest.mark.parametrize("on_done", ["absorb", "restart"])
@pytest.mark.parametrize("slippery", [True, False])
def test_frozen_lake_is_a_gridworld(on_done, slippery):
    theirs = MDP.from_gymnasium("FrozenLake-v1", gamma=0.99, on_done=on_done, is_slippery=slippery)
    ours = envs.gridworld(FROZEN_LAKE, slip=2 / 3 if slippery else 0.0, gamma=0.99, on_done=on_done)
    assert_same(ours, theirs)


def test_moves_follow_the_map():
    mdp = envs.gridworld(["S.#", "..G"], slip=0.0, step_reward=-1.0, goal_reward=5.0)
    P = mdp.transitions.toarray().reshape(6, 4, 6)
    assert P[0].argmax(axis=1).tolist() == [0, 3, 1, 0]  # left and up leave the map: stay
    assert P[1].argmax(axis=1).tolist() == [0, 4, 1, 1]  # the wall on the right stops the move
    assert P[4].argmax(axis=1).tolist() == [3, 4, 5, 1]
    assert mdp.rewards[4].tolist() == [-1, -1, 5, -1]
    assert mdp.rewards[5].tolist() == [0, 0, 0, 0]
    assert mdp.unreachable.tolist() == [2]


def test_slip_goes_sideways_with_half_its_probability_each():
    mdp = envs.gridworld(["...", ".S.", "..."], slip=0.2)
    P = mdp.transitions.toarray().reshape(9, 4, 9)
    left, down, right, up = 3, 7, 5, 1
    assert P[4, 0, [left, down, right, up]].tolist() == pytest.approx([0.8, 0.1, 0.0, 0.1])
    assert P[4, 3, [left, down, right, up]].tolist() == pytest.approx([0.1, 0.0, 0.1, 0.8])


def test_optimal_return_without_slip_is_the_shortest_path():
    mdp = envs.gridworld(["S...", "###.", "G..."], slip=0.0, gamma=0.9, on_done="absorb")
    shortest = 8
    assert mdp.expected_return(mdp.solve_optimal().policy) == pytest.approx(0.1 * 0.9 ** (shortest - 1), rel=1e-9)


def test_restart_turns_episodes_into_average_reward():
    mdp = envs.gridworld(["S.G"], gamma=1.0, on_done="restart")
    assert mdp.expected_return(np.full(3, 2)) == pytest.approx(0.5, abs=1e-12)  # two moves a round, one reward


def test_start_is_uniform_over_start_cells_or_else_over_free_cells():
    assert envs.gridworld(["S.S", "..G"]).mu0.tolist() == [0.5, 0, 0.5, 0, 0, 0]
    assert envs.gridworld(["..#", "H.G"]).mu0.tolist() == pytest.approx([1 / 3, 1 / 3, 0, 0, 1 / 3, 0])


def test_a_hundred_thousand_states():
    mdp = envs.gridworld((316, 316), slip=0.1)
    assert (mdp.n_states, mdp.n_actions) == (99_856, 4)
    assert mdp.layout[-1][-1] == "G"
    interior = 4 * (100 * 316 + 100)
    assert mdp.transitions[[interior]].toarray()[0, [31_699, 31_384, 32_016]].tolist() == [0.9, 0.05, 0.05]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": ["S.", "..."]}, r"layout\[1\] has 3 cells"),
        ({"layout": ["S?"]}, r"layout\[0\]\[1\] is '\?'"),
        ({"layout": ["GH"]}, "start cell"),
        ({"layout": []}, "layout"),
        ({"layout": "S.G"}, "layout"),
        ({"layout": (3,)}, "layout"),
        ({"layout": (3, 0)}, r"layout\[1\]"),
        ({"slip": 1.5}, "slip"),
        ({"slip": np.nan}, "slip"),
        ({"gamma": 1.1}, "gamma"),
        ({"on_done": "stop"}, "on_done"),
        ({"goal_reward": np.inf}, "goal_reward"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        envs.gridworld(**arguments)
