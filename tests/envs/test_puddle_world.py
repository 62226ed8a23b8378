"""Puddle world: puddles, goal, noise and image."""

import numpy as np
import pytest

from envs import PixelPuddleWorld, PuddleWorld

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("place", "depth"),
    [
        ([0.3, 0.75], 0.1),
        ([0.1, 0.75], 0.1),
        ([0.3, 0.69], 0.04),
        ([0.05, 0.75], 0.05),
        ([0.45, 0.5], 0.1),
        ([0.52, 0.6], 0.03),
        ([0.45, 0.33], 0.03),
        ([0.45, 0.88], 0.02),
        ([0.3, 0.6], 0.0),
        ([0.9, 0.9], 0.0),
    ],
)
def test_depth_is_the_distance_to_the_nearest_edge(place, depth):
    assert PuddleWorld().depth(np.array([place]))[0] == pytest.approx(depth, abs=1e-12)


def test_a_step_costs_and_puddles_cost_more():
    env = PuddleWorld(noise=0.0)
    step = env.step_batch(np.array([[0.0, 0.0], [0.3, 0.70]]), [[0.05, 0.02], [0.0, 0.05]], RNG)
    np.testing.assert_allclose(step.next_states, [[0.05, 0.02], [0.3, 0.75]], atol=1e-15)
    np.testing.assert_allclose(step.rewards, [-10.0, -10.0 - 400 * 0.1], atol=1e-9)


def test_the_goal_is_absorbing_and_free():
    env = PuddleWorld()
    inside = np.array([[0.95, 0.9]])
    step = env.step_batch(inside, [[-0.05, -0.05]], RNG)
    assert np.array_equal(step.next_states, inside)
    assert step.rewards[0] == 0.0
    assert not step.terminated[0]


def test_the_goal_may_end_the_episode():
    env = PuddleWorld(terminate_at_goal=True, noise=0.0)
    step = env.step_batch(np.array([[0.88, 0.9], [0.5, 0.1]]), [[0.05, 0.05]] * 2, RNG)
    assert step.terminated.tolist() == [True, False]
    assert step.rewards.tolist() == [-10.0, -10.0]


def test_walkers_stay_in_the_square():
    states = PuddleWorld(noise=0.0).step_batch(np.array([[0.01, 0.99]]), [[-0.05, 0.05]], RNG).next_states
    assert states[0].tolist() == [0.0, 1.0]


def test_noise_has_the_stated_width():
    env = PuddleWorld()
    rng = np.random.default_rng(5)
    moved = env.step_batch(np.full((20_000, 2), 0.5), np.zeros((20_000, 2)), rng).next_states - 0.5
    assert moved.std(axis=0) == pytest.approx([0.01, 0.01], abs=2.5e-4)
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.036


def test_starts_are_what_the_option_says():
    assert not PuddleWorld().sample_starts(3, RNG).any()
    env = PuddleWorld(start="uniform")
    starts = env.sample_starts(20_000, np.random.default_rng(6))
    assert not env.at_goal(starts).any()
    assert (starts.sum(axis=1) > 1.7).any()
    # Uniform on the square without the corner triangle of area .02.
    assert (starts[:, 0] < 0.5).mean() == pytest.approx(0.5 / 0.98, abs=0.018)

    mixed = PuddleWorld(start="mixed").sample_starts(20_000, np.random.default_rng(7))
    away = mixed[mixed.any(axis=1)]
    assert len(away) == pytest.approx(10_000, abs=350)
    assert (away[:, 0] < 0.5).mean() == pytest.approx(0.5 / 0.98, abs=0.025)


def test_the_image_is_a_disc_of_the_stated_area_where_the_walker_is():
    env = PixelPuddleWorld(size=50, blur=0.0, diameter=0.2)
    image = env.observe(np.array([[0.3, 0.8]]))[0].reshape(50, 50)
    assert image.sum() / 2500 == pytest.approx(np.pi * 0.1**2, rel=0.02)
    row, column = np.indices(image.shape)
    assert (image * (column + 0.5)).sum() / image.sum() / 50 == pytest.approx(0.3, abs=1e-3)
    assert 1 - (image * (row + 0.5)).sum() / image.sum() / 50 == pytest.approx(0.8, abs=1e-3)


def test_default_images_tell_places_apart_and_fit_the_space():
    env = PixelPuddleWorld()
    images = env.observe(np.array([[0.2, 0.2], [0.21, 0.2], [0.8, 0.2]]))
    assert images.shape == (3, 400)
    near, far = np.linalg.norm(images[0] - images[1]), np.linalg.norm(images[0] - images[2])
    assert 0 < near < far / 10


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("start", "middle"),
        ("max_step", 0.0),
        ("noise", -0.1),
        ("step_reward", np.inf),
        ("size", 0),
        ("diameter", 0.0),
        ("blur", -1.0),
    ],
)
def test_bad_options_are_named(option, value):
    with pytest.raises((TypeError, ValueError), match=option):
        PixelPuddleWorld(**{option: value})
