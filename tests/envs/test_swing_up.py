"""The swing-up: its equation, its energy, its pixels."""

import math

import numpy as np
import pytest

from envs import PixelSwingUp, SwingUp

RNG = np.random.default_rng(0)


def free(integrator, dt):
    return SwingUp(friction=0.0, integrator=integrator, dt=dt)


def energy_drift(env, duration, start):
    """Largest departure from the starting energy, in units of the energy between hanging and upright."""
    states = np.array([start])
    first, worst = env.energy(states)[0], 0.0
    for _ in range(round(duration / env.dt)):
        states = env.step_batch(states, np.zeros((1, 1)), RNG).next_states
        worst = max(worst, abs(env.energy(states)[0] - first))
    return worst / (2 * env.weight_torque)


def test_one_step_is_the_published_equation():
    theta, spin, torque = 0.7, -1.3, 12.0
    acceleration = (9.81 * 0.5 * 10 * math.sin(theta) + torque - 0.25 * spin) / (10 * 0.25 / 3)
    step = SwingUp(integrator="euler").step_batch(np.array([[theta, spin]]), [[torque]], RNG)
    assert step.next_states[0] == pytest.approx([theta + 0.05 * spin, spin + 0.05 * acceleration], abs=1e-12)
    assert step.rewards[0] == pytest.approx(-10 * theta**2 - 0.1 * spin**2 - 1e-3 * torque**2, abs=1e-12)


@pytest.mark.parametrize("start", [[math.pi - 1.0, 0.0], [0.1, 0.0], [0.0, 9.0]])
def test_energy_is_conserved_without_torque_and_friction(start):
    """Fourth-order: the drift is tiny, and falls at least sixteenfold when the step is halved."""
    coarse = energy_drift(free("rk4", 0.01), 5.0, start)
    fine = energy_drift(free("rk4", 0.005), 5.0, start)
    assert coarse < 1e-5
    assert fine < coarse / 16


def test_the_default_integrator_lets_energy_swing_but_not_drift():
    start = [math.pi - 1.0, 0.0]
    short, long = (energy_drift(free("semi_implicit", 0.05), duration, start) for duration in (5.0, 500.0))
    assert long < 1.1 * short
    assert energy_drift(free("euler", 0.05), 50.0, start) > 10 * long


def test_friction_takes_energy_and_torque_gives_what_it_works():
    env = SwingUp(dt=1e-3, integrator="rk4")
    states = np.array([[math.pi - 0.5, 0.0]])
    before, given = env.energy(states)[0], 0.0
    for _ in range(500):
        angle = states[0, 0]
        lost = 0.25 * states[0, 1] ** 2 * env.dt
        states = env.step_batch(states, [[5.0]], RNG).next_states
        given += 5.0 * (states[0, 0] - angle) - lost
    assert env.energy(states)[0] - before == pytest.approx(given, abs=0.02)
    assert abs(given) > 1.0


def test_small_swings_have_the_period_of_a_rod():
    """2 pi sqrt(I / (g l m)) for small swings around hanging."""
    env = free("rk4", 1e-3)
    states, crossings = np.array([[math.pi + 1e-3, 0.0]]), []
    for i in range(3000):
        following = env.step_batch(states, [[0.0]], RNG).next_states
        if states[0, 0] > math.pi >= following[0, 0]:
            crossings.append(i * env.dt)
        states = following
    period = 2 * math.pi * math.sqrt(env.inertia / env.weight_torque)
    assert np.diff(crossings).mean() == pytest.approx(period, abs=1e-3)


def test_torque_cannot_hold_it_level_but_can_pump_it_up():
    env = SwingUp(start_spread=0.0)
    states = env.sample_starts(1, RNG)
    pushed, highest = states, -1.0
    for _ in range(200):  # a constant torque only leans it
        pushed = env.step_batch(pushed, [[30.0]], RNG).next_states
        highest = max(highest, np.cos(pushed[0, 0]))
    assert highest < 0.0
    for _ in range(60):  # pushing along the velocity pumps it over the top
        direction = np.sign(states[:, 1:]) + (states[:, 1:] == 0)
        states = env.step_batch(states, 30.0 * direction, RNG).next_states
        highest = max(highest, np.cos(states[0, 0]))
    assert highest > 0.9


def test_angles_stay_in_the_published_interval():
    env = SwingUp()
    states = np.array([[1.5 * math.pi - 0.01, 8.0], [-0.5 * math.pi + 0.01, -8.0]])
    angles = env.step_batch(states, [[0.0], [0.0]], RNG).next_states[:, 0]
    assert angles[0] == pytest.approx(-0.5 * math.pi, abs=0.6)
    assert angles[1] == pytest.approx(1.5 * math.pi, abs=0.6)


def test_velocity_stays_below_its_bound():
    env = SwingUp(friction=2.0, reset_probability=0.0)
    states = np.array([[0.0, env.max_velocity], [0.0, -env.max_velocity]])
    for _ in range(100):
        states = env.step_batch(states, [[30.0], [-30.0]], RNG).next_states
        assert env.observation_space.contains(states[0])
        assert env.observation_space.contains(states[1])
    assert env.max_velocity == pytest.approx((9.81 * 5 + 30) / 2)


def test_starts_are_what_the_option_says():
    hanging = SwingUp(start_spread=0.2).sample_starts(20_000, np.random.default_rng(1))
    assert hanging[:, 0].mean() == pytest.approx(math.pi, abs=0.0071)  # five standard errors
    assert hanging[:, 0].std() == pytest.approx(0.2, abs=0.005)
    assert not hanging[:, 1].any()
    uniform = SwingUp(start="uniform").sample_starts(20_000, np.random.default_rng(1))
    assert uniform[:, 0].mean() == pytest.approx(0.5 * math.pi, abs=0.065)
    assert uniform[:, 0].std() == pytest.approx(2 * math.pi / math.sqrt(12), abs=0.03)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("start", "upright"),
        ("start_spread", -1.0),
        ("integrator", "magic"),
        ("length", 0.0),
        ("mass", np.nan),
        ("friction", -0.1),
        ("gravity", "strong"),
        ("dt", 0.0),
        ("max_torque", np.inf),
    ],
)
def test_bad_options_are_named(option, value):
    with pytest.raises((TypeError, ValueError), match=option):
        SwingUp(**{option: value})


def test_pixels_are_an_image_and_the_difference_to_the_frame_before():
    """The previous image is exactly the previous frame, under the default integrator."""
    env = PixelSwingUp()
    states = np.array([[2.0, 3.0], [-1.5, -6.0], [4.6, 5.0]])
    following = env.step_batch(states, [[10.0], [-10.0], [0.0]], RNG).next_states
    seen_before, seen = env.observe(states), env.observe(following)
    assert seen.shape == (3, 800)
    np.testing.assert_allclose(seen[:, 400:], seen[:, :400] - seen_before[:, :400], atol=1e-12)


def test_a_still_pendulum_has_no_difference_image():
    env = PixelSwingUp()
    observation, _ = env.reset(seed=0)
    assert not observation[400:].any()


def test_the_image_turns_with_the_pendulum():
    env = PixelSwingUp(size=21)
    up, down, left = env.image(np.array([0.0, math.pi, math.pi / 2])).reshape(3, 21, 21)
    np.testing.assert_allclose(down, up[::-1], atol=1e-12)
    np.testing.assert_allclose(left, np.rot90(up), atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0, math.pi, -1.0])
def test_the_images_centre_of_mass_is_the_rods(angle):
    image = PixelSwingUp(size=60, blur=0.0).image(np.array([angle]))[0].reshape(60, 60)
    place = 0.6 * ((np.arange(60) + 0.5) / 30 - 1)
    x, y = image.sum(axis=0) @ place / image.sum(), -image.sum(axis=1) @ place / image.sum()
    np.testing.assert_allclose([x, y], [-0.25 * math.sin(angle), 0.25 * math.cos(angle)], atol=1e-3)


def test_images_tell_angles_apart_and_change_smoothly():
    env = PixelSwingUp()
    angles = np.linspace(-0.5 * math.pi, 1.5 * math.pi, 200, endpoint=False)
    images = env.image(angles)
    steps = np.linalg.norm(images - np.roll(images, 1, axis=0), axis=1)
    assert steps.max() < 3 * steps.min()
    far = np.linalg.norm(images - np.roll(images, 50, axis=0), axis=1)
    assert far.min() > 10 * steps.max()


def test_blur_is_a_gaussian_of_the_stated_width():
    sharp = PixelSwingUp(size=41, blur=0.0).image(np.array([0.0])).reshape(41, 41)
    soft = PixelSwingUp(size=41, blur=0.05).image(np.array([0.0])).reshape(41, 41)
    column = np.arange(41)

    def width(image):
        mass = image.sum(axis=0) / image.sum()
        return mass @ column**2 - (mass @ column) ** 2

    assert width(soft) - width(sharp) == pytest.approx((0.05 * 41) ** 2, rel=1e-3)


@pytest.mark.parametrize(("option", "value"), [("size", 0), ("size", 2.5), ("blur", -0.1), ("dt", -1.0)])
def test_bad_pixel_options_are_named(option, value):
    with pytest.raises((TypeError, ValueError), match=option):
        PixelSwingUp(**{option: value})
