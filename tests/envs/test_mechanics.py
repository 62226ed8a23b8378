"""Integrators: their order, what they conserve, and exactness where the docstrings claim it."""

import math

import numpy as np
import pytest

from envs.mechanics import INTEGRATORS, as_integrator, euler, rk4, semi_implicit, wrap


def oscillator_error(step, n_steps):
    """Distance from (cos 1, -sin 1) after one unit of time of q'' = -q."""
    q, v = np.array([[1.0]]), np.array([[0.0]])
    for _ in range(n_steps):
        q, v = step(lambda q, v: -q, q, v, 1.0 / n_steps)
    return math.hypot(q[0, 0] - math.cos(1), v[0, 0] + math.sin(1))


@pytest.mark.parametrize(("step", "order"), [(euler, 1), (semi_implicit, 1), (rk4, 4)])
def test_halving_the_step_divides_the_error_by_two_to_the_order(step, order):
    ratio = oscillator_error(step, 40) / oscillator_error(step, 80)
    assert math.log2(ratio) == pytest.approx(order, abs=0.1)


def test_rk4_is_exact_for_a_constant_acceleration():
    q, v = rk4(lambda q, v: np.array([[3.0]]), np.array([[1.0]]), np.array([[-2.0]]), 0.5)
    assert q[0, 0] == pytest.approx(1.0 - 2.0 * 0.5 + 0.5 * 3.0 * 0.25, abs=1e-15)
    assert v[0, 0] == pytest.approx(-2.0 + 3.0 * 0.5, abs=1e-15)


def test_semi_implicit_euler_conserves_its_own_energy():
    """For q'' = -q the quadratic q^2 + v^2 - dt q v is conserved exactly; explicit Euler grows without bound."""
    dt = 0.1
    q, v = np.array([[1.0]]), np.array([[0.0]])
    for _ in range(10_000):
        q, v = semi_implicit(lambda q, v: -q, q, v, dt)
    assert q[0, 0] ** 2 + v[0, 0] ** 2 - dt * q[0, 0] * v[0, 0] == pytest.approx(1.0, rel=1e-10)


def test_integrators_are_found_by_name():
    assert as_integrator("rk4") is rk4
    assert set(INTEGRATORS) == {"euler", "semi_implicit", "rk4"}
    with pytest.raises(ValueError, match="integrator"):
        as_integrator("leapfrog")


@pytest.mark.parametrize("low", [-math.pi, -0.5 * math.pi, 0.0])
def test_wrapping_is_by_whole_turns(low):
    angle = np.linspace(-30, 30, 1001)
    wrapped = wrap(angle, low)
    assert wrapped.min() >= low
    assert wrapped.max() < low + 2 * math.pi
    turns = (angle - wrapped) / (2 * math.pi)
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-12)
