"""Reaching: kinematics, exact time steps, rewards."""

import math

import numpy as np
import pytest

from envs import Reaching

RNG = np.random.default_rng(0)


def test_the_arm_starts_stretched_up():
    env = Reaching()
    states = env.sample_starts(3, RNG)
    np.testing.assert_allclose(env.tip(states), [[0.0, 2.0]] * 3, atol=1e-15)
    assert env.gamma == pytest.approx(0.96)


def test_the_tip_is_two_unit_links_away():
    env = Reaching()
    states = np.array(
        [[0.0, 0.0, 0, 0], [0.0, math.pi / 2, 0, 0], [math.pi / 2, math.pi / 2, 0, 0], [1.0, math.pi, 0, 0]]
    )
    np.testing.assert_allclose(env.tip(states), [[2, 0], [1, 1], [-1, 1], [0, 0]], atol=1e-15)


def test_constant_acceleration_follows_the_parabola():
    env = Reaching()
    states, a = env.sample_starts(1, RNG), np.array([[2.0, -3.0]])
    for _ in range(10):
        states = env.step_batch(states, a, RNG).next_states
    np.testing.assert_allclose(states[0, :2], [math.pi / 2 + 0.5 * 2.0 * 0.25, -0.5 * 3.0 * 0.25], atol=1e-12)
    np.testing.assert_allclose(states[0, 2:], [1.0, -1.5], atol=1e-12)


def test_reward_is_the_published_formula():
    step = Reaching().step_batch(np.array([[0.0, math.pi / 2, 1.0, 1.0]]), [[30.0, -40.0]], RNG)
    assert step.rewards[0] == pytest.approx(-1e-4 * 2500 - (0.5**2 + 1.0**2), abs=1e-12)


def test_the_goal_can_be_held_for_nothing():
    """The elbow angle at which two unit links span .5; the reward there is zero."""
    bend = math.pi - 2 * math.asin(0.25)
    states = np.array([[-bend / 2, bend, 0.0, 0.0]])
    env = Reaching()
    step = env.step_batch(states, [[0.0, 0.0]], RNG)
    np.testing.assert_allclose(env.tip(states), [[0.5, 0.0]], atol=1e-12)
    assert step.rewards[0] == pytest.approx(0.0, abs=1e-20)
    np.testing.assert_allclose(step.next_states, states, atol=1e-15)


def test_velocity_is_clipped_and_angles_wrap():
    env = Reaching(max_velocity=2.0)
    states = np.array([[3.1, -3.1, 2.0, -2.0]])
    following = env.step_batch(states, [[50.0, -50.0]], RNG).next_states[0]
    assert following[2:].tolist() == [2.0, -2.0]
    assert -math.pi <= following[0] < -2.9
    assert 2.9 < following[1] < math.pi


@pytest.mark.parametrize(
    ("option", "value"),
    [("goal", [0.0]), ("goal", [0.0, np.nan]), ("dt", 0.0), ("max_acceleration", -1.0), ("max_velocity", 0.0)],
)
def test_bad_options_are_named(option, value):
    with pytest.raises((TypeError, ValueError), match=option):
        Reaching(**{option: value})
