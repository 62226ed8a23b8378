"""The regulator and the cart-pole against their Riccati equations and the published figures."""

import math

import numpy as np
import pytest

from envs import LQR, CartPole, SwingUp, linearise, riccati

RNG = np.random.default_rng(0)


def discounted_return(env, gain, n_steps):
    states, total = env.sample_starts(1, RNG), 0.0
    for t in range(n_steps):
        step = env.step_batch(states, states @ gain.T, RNG)
        total += env.gamma**t * step.rewards[0]
        states = step.next_states
    return total


def test_lqr_optimum_is_the_published_one():
    assert LQR().optimal_return() == pytest.approx(-1.3141, abs=5e-5)


def test_the_optimal_gain_earns_its_return_in_the_environment():
    """Within fifty steps and within the bounds: the published figure is reached by rolling out."""
    env = LQR()
    gain = env.optimal().gain
    assert discounted_return(env, gain, env.horizon) == pytest.approx(env.optimal_return(), abs=1e-9)
    for entry in np.ndindex(gain.shape):  # and no gain next to it earns more
        for change in (-0.01, 0.01):
            other = gain.copy()
            other[entry] += change
            assert discounted_return(env, other, env.horizon) < env.optimal_return() - 1e-6


def test_riccati_solves_its_fixed_point():
    rng = np.random.default_rng(3)
    A, B = rng.standard_normal((4, 4)), rng.standard_normal((4, 2))
    Q, R = np.diag([1.0, 2.0, 0.5, 0.1]), np.diag([0.3, 1.0])
    gain, P = riccati(A, B, Q, R, gamma=0.9)
    np.testing.assert_allclose(P, Q + 0.9 * A.T @ P @ (A + B @ gain), atol=1e-9)
    by_policy = Q + gain.T @ R @ gain + 0.9 * (A + B @ gain).T @ P @ (A + B @ gain)
    np.testing.assert_allclose(P, by_policy, atol=1e-9)


def test_riccati_agrees_with_backward_induction():
    env, P = LQR(), np.zeros((3, 3))
    for _ in range(400):
        gain = -np.linalg.solve(env.R + 0.9 * env.B.T @ P @ env.B, 0.9 * env.B.T @ P @ env.A)
        closed = env.A + env.B @ gain
        P = env.Q + gain.T @ env.R @ gain + 0.9 * closed.T @ P @ closed
    np.testing.assert_allclose(env.optimal().cost_matrix, P, atol=1e-10)


def test_lqr_clips_states_to_its_bounds():
    step = LQR(max_state=1.0).step_batch(np.array([[0.9, -0.9, 0.0]]), [[0.5, -0.5, 0.5]], RNG)
    assert step.next_states[0] == pytest.approx([1.0, -1.0, 0.5])
    unbounded = LQR(max_state=np.inf).step_batch(np.array([[0.9, -0.9, 0.0]]), [[0.5, -0.5, 0.5]], RNG)
    assert unbounded.next_states[0] == pytest.approx([1.4, -1.4, 0.5])


def test_lqr_may_start_on_its_bound():
    assert LQR(start=1.0).sample_starts(2, RNG).tolist() == [[1.0] * 3] * 2


def test_lqr_takes_any_sizes():
    A, B = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.0], [0.1]])
    env = LQR(A, B, np.eye(2), [[0.1]], start=[0.5, 0.0], gamma=0.95)
    step = env.step_batch(np.array([[0.5, 0.2]]), [[1.0]], RNG)
    assert step.next_states[0] == pytest.approx([0.52, 0.3])
    assert step.rewards[0] == pytest.approx(-(0.29 + 0.1))
    np.testing.assert_allclose(linearise(env, [0.1, 0.0], [0.0])[0], A, atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"A": np.ones((2, 3))}, "A"),
        ({"B": np.ones((2, 3))}, "B"),
        ({"Q": np.eye(2)}, "Q"),
        ({"R": [[np.nan] * 3] * 3}, "R"),
        ({"start": [0.1, 0.2]}, "start"),
        ({"start": 2.0}, "start"),
        ({"max_state": 0.0}, "max_state"),
        ({"max_action": -1.0}, "max_action"),
        ({"gamma": 1.5}, "gamma"),
    ],
)
def test_bad_lqr_arguments_are_named(arguments, name):
    with pytest.raises((TypeError, ValueError), match=name):
        LQR(**arguments)


def test_cart_poles_best_gain_is_the_published_one():
    """Peters and Schaal give [5.71, 11.3, -82.1, -21.6]; linearised and solved here, each entry is within 1.5 %."""
    A, B = linearise(CartPole(), np.zeros(4), [0.0])
    gain = riccati(A, B, np.diag([1.25, 1.0, 12.0, 0.25]), [[0.01]], gamma=0.99).gain[0]
    np.testing.assert_allclose(gain, [5.71, 11.3, -82.1, -21.6], rtol=0.015)


def test_the_published_gain_balances_the_cart_pole():
    env = CartPole()
    states = env.sample_starts(50, np.random.default_rng(1))
    for _ in range(env.horizon):
        step = env.step_batch(states, states @ np.array([[5.71, 11.3, -82.1, -21.6]]).T, RNG)
        assert not step.terminated.any()
        states = step.next_states
    assert np.abs(states).max() < 0.01


def test_the_riccati_value_is_what_the_gain_earns_near_the_top():
    env = CartPole(start_spread=0.0)
    A, B = linearise(env, np.zeros(4), [0.0])
    gain, P = riccati(A, B, np.diag([1.25, 1.0, 12.0, 0.25]), [[0.01]], gamma=0.99)
    start = np.array([[1e-3, 0.0, 1e-3, 0.0]])
    states, total = start, 0.0
    for t in range(3000):
        step = env.step_batch(states, states @ gain.T, RNG)
        total += 0.99**t * step.rewards[0]
        states = step.next_states
    assert total == pytest.approx(-(start @ P @ start.T)[0, 0], rel=1e-4)


def test_cart_pole_conserves_energy_without_a_force():
    def drift(dt):
        env = CartPole(dt=dt, max_position=np.inf, max_angle=np.inf)
        states = np.array([[0.0, 0.3, 2.5, -0.5]])
        first, worst = env.energy(states)[0], 0.0
        for _ in range(round(4 / dt)):
            states = env.step_batch(states, [[0.0]], RNG).next_states
            worst = max(worst, abs(env.energy(states)[0] - first))
        return worst

    coarse, fine = drift(0.02), drift(0.01)
    assert coarse < 1e-4
    assert fine < coarse / 16


def test_cart_pole_conserves_momentum_without_a_force():
    env = CartPole(max_position=np.inf, max_angle=np.inf)
    states = np.array([[0.0, 0.3, 2.0, -0.5]])

    def momentum(states):
        _, speed, angle, spin = states[0]
        return (env.cart_mass + env.mass) * speed - env.mass * env.length * spin * math.cos(angle)

    before = momentum(states)
    for _ in range(60):
        states = env.step_batch(states, [[0.0]], RNG).next_states
    assert momentum(states) == pytest.approx(before, abs=1e-6)


def test_failing_terminates_and_costs_what_staying_there_would():
    env = CartPole()
    states = np.array([[0.0, 0.0, 0.5, 3.0], [0.0, 0.0, 0.1, 0.0], [1.49, 2.0, 0.0, 0.0]])
    step = env.step_batch(states, np.zeros((3, 1)), RNG)
    assert step.terminated.tolist() == [True, False, True]
    running = -(12 * 0.5**2 + 0.25 * 3.0**2)
    x, _, theta, _ = step.next_states[0]
    assert step.rewards[0] == pytest.approx(running - 99 * (1.25 * x**2 + 12 * theta**2))
    assert step.rewards[1] == pytest.approx(-12 * 0.1**2)


@pytest.mark.parametrize(("index", "bound"), [(0, 1.5), (2, math.pi / 6)])
def test_the_episode_ends_just_beyond_the_bounds(index, bound):
    states = np.zeros((4, 4))
    states[:, index] = [bound - 0.002, bound + 0.002, -bound + 0.002, -bound - 0.002]
    assert CartPole().step_batch(states, np.zeros((4, 1)), RNG).terminated.tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("length", 0.0),
        ("mass", -1.0),
        ("cart_mass", 0.0),
        ("dt", np.nan),
        ("max_force", np.inf),
        ("integrator", ""),
        ("start_spread", -0.1),
        ("max_angle", 0.0),
        ("gamma", 1.0),
    ],
)
def test_bad_cart_pole_options_are_named(option, value):
    with pytest.raises((TypeError, ValueError), match=option):
        CartPole(**{option: value})


def test_linearising_the_swing_up_gives_its_derivative():
    env = SwingUp(integrator="euler")
    A, B = linearise(env, [0.0, 0.0], [0.0])
    inertia = 10 * 0.25 / 3
    expected = [[1.0, 0.05], [0.05 * 9.81 * 5 / inertia, 1 - 0.05 * 0.25 / inertia]]
    np.testing.assert_allclose(A, expected, atol=1e-8)
    np.testing.assert_allclose(B, [[0.0], [0.05 / inertia]], atol=1e-8)


def test_bad_linear_quadratic_arguments_are_named():
    with pytest.raises(ValueError, match="A must have shape"):
        riccati(np.ones((2, 3)), np.eye(2), np.eye(2), np.eye(2))
    with pytest.raises(ValueError, match="R must have shape"):
        riccati(np.eye(2), np.eye(2), np.eye(2), np.eye(3))
    with pytest.raises(ValueError, match="gamma"):
        riccati([[1.0]], [[1.0]], [[1.0]], [[1.0]], gamma=1.5)
    with pytest.raises(ValueError, match="width"):
        linearise(LQR(), np.zeros(3), np.zeros(3), width=0.0)


def test_returns_over_a_horizon_are_those_of_roll_outs() -> None:
    A, B = [[1.0, 0.2], [0.0, 1.0]], [[0.02], [0.2]]
    bounds = {"max_state": np.inf, "max_action": 1e3}
    env = LQR(A, B, np.eye(2), [[0.1]], start=(1.0, 0.0), start_spread=0.3, noise=0.1, gamma=0.95, horizon=12, **bounds)
    rng = np.random.default_rng(0)
    gains, offsets = rng.normal(size=(12, 1, 2)) - 1.0, rng.normal(size=(12, 1))
    covariances = rng.uniform(0.1, 1.0, size=(12, 1, 1))
    states, total = env.sample_starts(200_000, rng), 0.0
    for t in range(12):
        means = states @ gains[t].T + offsets[t]
        moved = env.step_batch(states, means + np.sqrt(covariances[t]) * rng.normal(size=means.shape), rng)
        total, states = total + env.gamma**t * moved.rewards, moved.next_states
    exact = env.expected_return(gains, offsets, covariances)
    assert abs(total.mean() - exact) < 4 * total.std() / np.sqrt(200_000)


def test_the_gains_over_a_horizon_are_the_best_and_tend_to_riccatis() -> None:
    noisy = LQR(start_spread=0.1, noise=0.05, horizon=60, max_state=np.inf, max_action=1e3)
    gains = noisy.optimal_gains()
    np.testing.assert_allclose(gains[0], noisy.optimal().gain, rtol=1e-8, atol=1e-10)
    best = noisy.expected_return(gains)
    assert best == pytest.approx(noisy.optimal_return(), rel=2e-3)  # gamma^60 of it is left out
    rng = np.random.default_rng(0)
    assert all(noisy.expected_return(gains + 0.01 * rng.normal(size=gains.shape)) < best for _ in range(20))
    with pytest.raises(ValueError, match="horizon"):
        LQR(horizon=None).optimal_gains()


def test_a_noisy_system_steps_one_state_as_it_steps_many() -> None:
    env = LQR(noise=0.1, start_spread=0.2)
    states = env.sample_starts(5, np.random.default_rng(0))
    actions = np.zeros((5, 3))
    together = env.step_batch(states, actions, np.random.default_rng(1)).next_states
    rng = np.random.default_rng(1)
    apart = [env.step_batch(states[i : i + 1], actions[:1], rng).next_states[0] for i in range(5)]
    np.testing.assert_array_equal(together, apart)
    assert np.abs(states).max() <= env.max_state
