"""Pushing: the closed-form step against a fine simulation of the same contact, and its invariants."""

import numpy as np
import pytest

from envs import Pushing
from envs.pushing import push

RNG = np.random.default_rng(0)
D = 0.15


def simulate(start, end, body, n_steps):
    """Tiny steps, each followed by moving the body out of the pusher along the line of centres."""
    body = body.copy()
    for t in np.linspace(0, 1, n_steps + 1)[1:]:
        pusher = start + t * (end - start)
        offset = body - pusher
        distance = np.linalg.norm(offset, axis=1, keepdims=True)
        body = np.where(distance < D, pusher + D * offset / distance, body)
    return body


def random_pushes(n, seed):
    """Pushers that start clear of the body, at any angle and distance around it, and step towards its side."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-np.pi, np.pi, n)
    start = (D + rng.exponential(0.05, n))[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    heading = angle + np.pi + rng.uniform(-1.2, 1.2, n)
    end = start + rng.uniform(0.02, 0.6, n)[:, None] * np.column_stack([np.cos(heading), np.sin(heading)])
    return start, end, np.zeros((n, 2))


def test_the_closed_form_is_the_limit_of_fine_simulations():
    start, end, body = random_pushes(300, seed=1)
    exact = push(start, end, body, D)
    errors = [np.abs(simulate(start, end, body, n) - exact).max(axis=1) for n in (1000, 4000)]
    moved = np.linalg.norm(exact, axis=1)
    assert (moved > 0.01).sum() > 100
    assert (moved == 0).sum() > 20
    assert errors[1].max() < 1e-3
    assert errors[1][moved > 0.01].mean() < 0.3 * errors[0][moved > 0.01].mean()  # first order: a quarter


def test_discs_never_overlap_and_contact_is_left_only_sideways():
    start, end, body = random_pushes(2000, seed=2)
    after = push(start, end, body, D)
    assert np.linalg.norm(after - end, axis=1).min() > D - 1e-12


def test_two_half_steps_are_one_whole():
    start, end, body = random_pushes(500, seed=3)
    middle = 0.5 * (start + end)
    halves = push(middle, end, push(start, middle, body, D), D)
    np.testing.assert_allclose(halves, push(start, end, body, D), atol=1e-9)


def test_a_pusher_that_misses_or_leaves_moves_nothing():
    start = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    end = np.array([[0.5, 0.0], [-0.5, 0.0], [0.04, 0.0], [0.0, 0.0]])
    body = np.array([[0.3, 0.16], [0.15, 0.0], [0.2, 0.0], [0.15, 0.0]])
    assert np.array_equal(push(start, end, body, D), body)


def test_a_central_push_goes_straight_and_an_eccentric_one_slips():
    start, end = np.zeros((2, 2)), np.array([[0.3, 0.0], [0.3, 0.0]])
    straight, slipped = push(start, end, np.array([[0.2, 0.0], [0.2, 0.02]]), D)
    np.testing.assert_allclose(straight, [0.45, 0.0], atol=1e-12)
    assert slipped[1] > 4 * 0.02  # four times as far off the line as before the push
    assert slipped[0] < straight[0]


def test_pushing_is_the_same_from_every_side():
    start, end, body = random_pushes(100, seed=4)
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    turned = push(start @ turn.T + 1.0, end @ turn.T + 1.0, body @ turn.T + 1.0, D)
    np.testing.assert_allclose(turned, push(start, end, body, D) @ turn.T + 1.0, atol=1e-9)
    mirrored = push(start * [1, -1], end * [1, -1], body * [1, -1], D)
    np.testing.assert_allclose(mirrored, push(start, end, body, D) * [1, -1], atol=1e-12)


def test_reward_is_its_formula():
    states = np.array([[-0.6, 0.0, 0.1, 0.2]])
    reward = Pushing().step_batch(states, [[0.03, -0.04]], RNG).rewards[0]
    assert reward == pytest.approx(-(0.4**2 + 0.2**2) - 0.1 * (0.7**2 + 0.2**2) - 0.01 * 0.0025)


def test_a_simple_controller_brings_the_object_to_the_goal():
    """Go behind the object, then push towards the goal, correcting: the task can be solved."""
    env = Pushing()
    rng = np.random.default_rng(9)
    states = env.sample_starts(100, rng)
    begun = np.linalg.norm(states[:, 2:] - env.goal, axis=1)
    for _ in range(100):
        pusher, body = states[:, :2], states[:, 2:]
        to_goal = env.goal - body
        direction = to_goal / np.maximum(np.linalg.norm(to_goal, axis=1, keepdims=True), 1e-9)
        side = (pusher - body) - ((pusher - body) * direction).sum(axis=1, keepdims=True) * direction
        behind = body - direction * env.contact_distance - 2.0 * side
        target = np.where(np.linalg.norm(side, axis=1, keepdims=True) < 0.03, body, behind - 0.02 * direction)
        close = np.linalg.norm(to_goal, axis=1, keepdims=True) < 0.02
        states = env.step_batch(states, np.where(close, 0.0, np.clip(target - pusher, -0.02, 0.02)), rng).next_states
    finished = np.linalg.norm(states[:, 2:] - env.goal, axis=1)
    assert np.median(finished) < 0.1 * np.median(begun)


def test_the_controller_by_hand_brings_the_object_to_any_goal_within_its_steps():
    env, rng = Pushing(goal=(0.4, -0.3), max_step=0.05), np.random.default_rng(10)
    states = env.sample_starts(50, rng)
    for _ in range(100):
        actions = np.array([env.by_hand(state) for state in states])
        assert np.abs(actions).max() <= env.max_step
        states = env.step_batch(states, actions, rng).next_states
    assert np.linalg.norm(states[:, 2:] - env.goal, axis=1).max() < 0.02


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("goal", [0.0, 0.0, 0.0]),
        ("max_step", 0.0),
        ("pusher_radius", -0.1),
        ("object_radius", np.nan),
        ("start_spread", 0.6),
        ("approach_weight", -1.0),
        ("action_weight", "none"),
        ("gamma", 0.0),
    ],
)
def test_bad_options_are_named(option, value):
    with pytest.raises((TypeError, ValueError), match=option):
        Pushing(**{option: value})
