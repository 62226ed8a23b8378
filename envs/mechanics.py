"""Mechanics shared by the tasks: time steps for second-order systems, and angles on the circle.

Shapes: positions and velocities (N, d); ``acceleration(position, velocity)`` returns (N, d), forces held over the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from reps_opt.validation import FloatArray

Acceleration = Callable[[FloatArray, FloatArray], FloatArray]
Step = Callable[[Acceleration, FloatArray, FloatArray, float], tuple[FloatArray, FloatArray]]


def euler(
    acceleration: Acceleration, position: FloatArray, velocity: FloatArray, dt: float
) -> tuple[FloatArray, FloatArray]:
    """Explicit Euler, first order: ``q + dt v, v + dt a(q, v)``. Energy grows without friction."""
    return position + dt * velocity, velocity + dt * acceleration(position, velocity)


def semi_implicit(
    acceleration: Acceleration, position: FloatArray, velocity: FloatArray, dt: float
) -> tuple[FloatArray, FloatArray]:
    """Semi-implicit (symplectic) Euler, first order: the new velocity moves the position. Energy stays bounded."""
    velocity = velocity + dt * acceleration(position, velocity)
    return position + dt * velocity, velocity


def rk4(
    acceleration: Acceleration, position: FloatArray, velocity: FloatArray, dt: float
) -> tuple[FloatArray, FloatArray]:
    """The classical Runge-Kutta method, fourth order; exact for a constant acceleration."""
    half = dt / 2
    a1 = acceleration(position, velocity)
    v2 = velocity + half * a1
    a2 = acceleration(position + half * velocity, v2)
    v3 = velocity + half * a2
    a3 = acceleration(position + half * v2, v3)
    v4 = velocity + dt * a3
    a4 = acceleration(position + dt * v3, v4)
    return (
        position + dt / 6 * (velocity + 2 * v2 + 2 * v3 + v4),
        velocity + dt / 6 * (a1 + 2 * a2 + 2 * a3 + a4),
    )


INTEGRATORS: dict[str, Step] = {"euler": euler, "semi_implicit": semi_implicit, "rk4": rk4}


def as_integrator(name: str) -> Step:
    """The integrator of that name, or ValueError with the names there are."""
    if name not in INTEGRATORS:
        raise ValueError(f"integrator must be one of {tuple(INTEGRATORS)}, got {name!r}")
    return INTEGRATORS[name]


def wrap(angle: FloatArray, low: float = -math.pi) -> FloatArray:
    """The angle brought to ``[low, low + 2 pi)`` by whole turns."""
    return np.mod(angle - low, 2 * math.pi) + low
