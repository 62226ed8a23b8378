"""The cart-pole balancing task of Peters and Schaal.

Shapes: N cart-poles; states (N, 4) are cart position in m, its velocity in m/s, pole angle in rad (0 upright) and its
velocity in rad/s; actions (N, 1) are forces on the cart in N.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from envs.batched import BatchedEnv, Transition, box
from envs.mechanics import as_integrator
from envs.raster import Canvas, paint, to_rgb
from reps_opt.validation import FloatArray, as_scalar

Q = np.array([1.25, 1.0, 12.0, 0.25])
"""Diagonal of the cost of the state."""

R = 0.01
"""Cost of the action."""


class CartPole(BatchedEnv):
    r"""Balance a pole, a point mass on a massless rod, on a cart, for a quadratic cost.

    .. math:: m l^2 \ddot\theta - m l \ddot x \cos\theta - m g l \sin\theta = 0, \qquad
              (m_c + m) \ddot x - m l \ddot\theta \cos\theta + m l \dot\theta^2 \sin\theta = u,

    .. math:: r = -(1.25 x^2 + \dot x^2 + 12 \theta^2 + 0.25 \dot\theta^2 + 0.01 u^2).

    The angle is positive when the pole leans towards negative x, the sign in which the published optimal gain
    ``u = K x``, K = [5.71, 11.3, -82.1, -21.6], balances it.

    Parameters
    ----------
    length, mass, cart_mass, gravity
        l in m, m and m_c in kg, g in m/s^2.
    dt
        Time step in s; the force is held over it.
    max_force
        Largest force in N. Not in the paper; default 50, which the optimal gain does not reach near the top.
    integrator
        ``"rk4"``, the default, ``"semi_implicit"`` or ``"euler"``. With the first, the gain of the linearised task is
        the closest to the published one.
    start_spread
        Positions and angles start uniform within this of zero (m and rad), velocities at zero. Not in the paper;
        default 0.1.
    max_position, max_angle
        A cart or pole beyond these has failed: the episode terminates, and the last reward includes the cost of staying
        at the failed position and angle for ever, so that failing early never pays. Default 1.5 m and pi/6.
    gamma, horizon, render_mode
        As for :class:`~envs.BatchedEnv`; by default 0.99 and 600 steps, ten seconds.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range; the message names it.

    References
    ----------
    Peters, Vijayakumar and Schaal (2005), *Natural actor-critic*, section 4.1; Peters and Schaal (2008), *Natural
    actor-critic*, Neurocomputing 71, section 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from envs import linearise, riccati
    >>> A, B = linearise(CartPole(), [0.0] * 4, [0.0])
    >>> riccati(A, B, np.diag(Q), [[R]], gamma=0.99).gain.round(1)
    array([[  5.8,  11.2, -82.2, -21.3]])
    """

    metadata: ClassVar[dict[str, Any]] = {**BatchedEnv.metadata, "render_fps": 60}  # type: ignore[misc]

    def __init__(
        self,
        *,
        length: float = 0.75,
        mass: float = 0.15,
        cart_mass: float = 1.0,
        gravity: float = 9.81,
        dt: float = 1 / 60,
        max_force: float = 50.0,
        integrator: str = "rk4",
        start_spread: float = 0.1,
        max_position: float = 1.5,
        max_angle: float = math.pi / 6,
        gamma: float = 0.99,
        horizon: int | None = 600,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(gamma=gamma, horizon=horizon, render_mode=render_mode)
        self.length = as_scalar(length, "length", low=0.0, low_open=True)
        self.mass = as_scalar(mass, "mass", low=0.0, low_open=True)
        self.cart_mass = as_scalar(cart_mass, "cart_mass", low=0.0, low_open=True)
        self.gravity = as_scalar(gravity, "gravity", low=0.0)
        self.dt = as_scalar(dt, "dt", low=0.0, low_open=True)
        self.max_force = as_scalar(max_force, "max_force", low=0.0, low_open=True)
        self.start_spread = as_scalar(start_spread, "start_spread", low=0.0)
        self.max_position = as_scalar(max_position, "max_position", low=0.0, low_open=True, infinite=True)
        self.max_angle = as_scalar(max_angle, "max_angle", low=0.0, low_open=True, infinite=True)
        if self.gamma == 1 and min(self.max_position, self.max_angle) < np.inf:
            raise ValueError("gamma must be < 1 unless max_position and max_angle are infinite: failing costs for ever")
        self.integrator = integrator
        self._integrate = as_integrator(integrator)
        self.action_space = box(-self.max_force, [self.max_force])
        self.observation_space = box(-np.inf, np.full(4, np.inf))

    def sample_starts(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n start states (n, 4), at rest."""
        states = np.zeros((n, 4))
        states[:, [0, 2]] = rng.uniform(-self.start_spread, self.start_spread, size=(n, 2))
        return states

    def _advance(self, states: FloatArray, actions: FloatArray, rng: np.random.Generator) -> Transition:
        def acceleration(q: FloatArray, v: FloatArray) -> FloatArray:
            return self._acceleration(q[:, 1], v[:, 1], actions[:, 0])

        position, velocity = self._integrate(acceleration, states[:, ::2], states[:, 1::2], self.dt)
        next_states = np.stack([position, velocity], axis=2).reshape(len(states), 4)
        rewards = -((Q * states**2).sum(axis=1) + R * actions[:, 0] ** 2)
        failed = np.any(np.abs(position) > [self.max_position, self.max_angle], axis=1)
        if failed.any():
            staying = (Q[::2] * position[failed] ** 2).sum(axis=1)
            rewards[failed] -= self.gamma / (1 - self.gamma) * staying
        return Transition(next_states, rewards, failed)

    def _acceleration(self, angle: FloatArray, spin: FloatArray, force: FloatArray) -> FloatArray:
        """Accelerations (N, 2) of cart and pole: the two equations of motion solved for them."""
        sine, cosine = np.sin(angle), np.cos(angle)
        pull = force - self.mass * self.length * spin**2 * sine + self.mass * self.gravity * sine * cosine
        cart = pull / (self.cart_mass + self.mass * sine**2)
        return np.column_stack([cart, (self.gravity * sine + cart * cosine) / self.length])

    def energy(self, states: FloatArray) -> FloatArray:
        """Kinetic and potential energy (N,) in J, which the motion conserves without a force."""
        _, speed, angle, spin = states.T
        kinetic = 0.5 * (self.cart_mass + self.mass) * speed**2 + 0.5 * self.mass * (self.length * spin) ** 2
        coupling = -self.mass * self.length * speed * spin * np.cos(angle)
        return kinetic + coupling + self.mass * self.gravity * self.length * np.cos(angle)

    def draw(self, state: NDArray[Any]) -> NDArray[np.uint8]:
        """Draw one state as an RGB image (160, 160, 3)."""
        canvas = Canvas(160, -2.0, 2.0)
        x, _, angle, _ = state
        cart = np.array([[x, -0.5]])
        side = np.array([[0.15, 0.0]])
        tip = cart + self.length * np.array([[-math.sin(angle), math.cos(angle)]])
        picture = paint(canvas.blank(), canvas.segment([[-2.0, -0.6]], [[2.0, -0.6]], 0.01), (0.5, 0.5, 0.5))
        picture = paint(picture, canvas.segment(cart - side, cart + side, 0.1), (0.2, 0.35, 0.6))
        picture = paint(picture, canvas.segment(cart, tip, 0.03), (0.7, 0.45, 0.2))
        return to_rgb(paint(picture, canvas.disc(tip, 0.07), (0.0, 0.0, 0.0)))
