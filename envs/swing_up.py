"""The pendulum swing-up of van Hoof, Peters and Neumann, from its state and from pixels.

Shapes: N pendulums; states (N, 2) are the angle in rad (0 upright, pi hanging) and the angular velocity in rad/s;
actions (N, 1) are torques in N m; pixel observations are (N, 2 * size**2).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.batched import BatchedEnv, Transition, box
from envs.mechanics import as_integrator, wrap
from envs.raster import Canvas, blur_matrix, paint, to_rgb
from reps_opt.validation import FloatArray, as_count, as_scalar

ANGLE_LOW, ANGLE_HIGH = -0.5 * math.pi, 1.5 * math.pi
STARTS = ("hanging", "uniform")


class SwingUp(BatchedEnv):
    r"""Swing up an underpowered pendulum and hold it upright.

    .. math:: \ddot\theta = \frac{g l m \sin\theta + a - k \dot\theta}{m l^2 / 3}, \qquad
              r = -10\,\theta^2 - 0.1\,\dot\theta^2 - 10^{-3} a^2, \qquad \theta \in [-\pi/2, 3\pi/2).

    The reward is that of the state the action is taken in. The torque, at most 30 N m, is below the 49 N m that
    holding the pendulum horizontal takes, so it has to swing. Velocities stay below ``max_velocity``, where friction
    balances gravity and torque.

    Parameters
    ----------
    start
        The papers do not state the start distribution. ``"hanging"``, the default: at rest, the angle normal around pi
        with standard deviation ``start_spread``. ``"uniform"``: at rest, any angle.
    start_spread
        In rad, for ``"hanging"``; default 0.2.
    integrator
        Not stated either: ``"semi_implicit"`` Euler, the default, ``"rk4"`` or ``"euler"``.
    length, mass, friction, gravity
        l in m, m in kg, k in N m s / rad, g in m / s^2.
    dt
        Time step in s; the torque is held over it.
    max_torque
        Largest torque in N m.
    reset_probability
        Probability that an episode is cut after a step; ``gamma`` is one minus it.
    horizon, render_mode
        As for :class:`~envs.BatchedEnv`.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range; the message names it.

    References
    ----------
    van Hoof, Peters and Neumann (2015), *Learning of non-parametric control policies with high-dimensional state
    features*, section 4; van Hoof, Neumann and Peters (2017), *Non-parametric policy search with limited information
    loss*, section 5.

    Examples
    --------
    >>> import numpy as np
    >>> env = SwingUp(start_spread=0.0)
    >>> states = env.sample_starts(3, np.random.default_rng(0))
    >>> env.step_batch(states, [[30.0], [0.0], [-30.0]], np.random.default_rng(0)).next_states.round(2)
    array([[ 3.23,  1.8 ],
           [ 3.14,  0.  ],
           [ 3.05, -1.8 ]])
    """

    def __init__(
        self,
        *,
        start: str = "hanging",
        start_spread: float = 0.2,
        integrator: str = "semi_implicit",
        length: float = 0.5,
        mass: float = 10.0,
        friction: float = 0.25,
        gravity: float = 9.81,
        dt: float = 0.05,
        max_torque: float = 30.0,
        reset_probability: float = 0.02,
        horizon: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(horizon=horizon, reset_probability=reset_probability, render_mode=render_mode)
        if start not in STARTS:
            raise ValueError(f"start must be one of {STARTS}, got {start!r}")
        self.start = start
        self.start_spread = as_scalar(start_spread, "start_spread", low=0.0)
        self.length = as_scalar(length, "length", low=0.0, low_open=True)
        self.mass = as_scalar(mass, "mass", low=0.0, low_open=True)
        self.friction = as_scalar(friction, "friction", low=0.0)
        self.gravity = as_scalar(gravity, "gravity", low=0.0)
        self.dt = as_scalar(dt, "dt", low=0.0, low_open=True)
        self.max_torque = as_scalar(max_torque, "max_torque", low=0.0, low_open=True)
        self.integrator = integrator
        self._integrate = as_integrator(integrator)
        self.inertia = self.mass * self.length**2 / 3
        self.weight_torque = self.gravity * self.length * self.mass
        self.action_space = box(-self.max_torque, [self.max_torque])
        self.max_velocity = (self.weight_torque + self.max_torque) / self.friction if self.friction else np.inf
        self.observation_space = box([ANGLE_LOW, -self.max_velocity], [ANGLE_HIGH, self.max_velocity])

    def sample_starts(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n start states (n, 2), at rest."""
        if self.start == "uniform":
            angle = rng.uniform(ANGLE_LOW, ANGLE_HIGH, size=n)
        else:
            angle = math.pi + self.start_spread * rng.standard_normal(n)
        return np.column_stack([wrap(angle, ANGLE_LOW), np.zeros(n)])

    def _advance(self, states: FloatArray, actions: FloatArray, rng: np.random.Generator) -> Transition:
        angle, velocity = states[:, :1], states[:, 1:]

        def acceleration(q: FloatArray, v: FloatArray) -> FloatArray:
            return (self.weight_torque * np.sin(q) + actions - self.friction * v) / self.inertia

        rewards = (-10.0 * angle**2 - 0.1 * velocity**2 - 1e-3 * actions**2)[:, 0]
        angle, velocity = self._integrate(acceleration, angle, velocity, self.dt)
        return Transition(np.hstack([wrap(angle, ANGLE_LOW), velocity]), rewards, np.zeros(len(states), dtype=bool))

    def energy(self, states: FloatArray) -> FloatArray:
        """Energy (N,) in J that the equation of motion conserves without torque and friction, zero upright at rest.

        ``inertia * thetad**2 / 2 + g l m (cos(theta) - 1)``.
        """
        return 0.5 * self.inertia * states[:, 1] ** 2 + self.weight_torque * (np.cos(states[:, 0]) - 1.0)

    def tip(self, angle: FloatArray) -> FloatArray:
        """Place (N, 2) of the pendulum's end, for angles (N,)."""
        return self.length * np.column_stack([-np.sin(angle), np.cos(angle)])

    def draw(self, state: NDArray[Any]) -> NDArray[np.uint8]:
        """Draw one state as an RGB image (160, 160, 3)."""
        canvas = Canvas(160, -1.2 * self.length, 1.2 * self.length)
        rod = canvas.segment([[0.0, 0.0]], self.tip(state[:1]), 0.06 * self.length)
        hub = canvas.disc([[0.0, 0.0]], 0.03 * self.length)
        return to_rgb(paint(paint(canvas.blank(), rod, (0.2, 0.35, 0.6)), hub, (0.0, 0.0, 0.0)))


class PixelSwingUp(SwingUp):
    """The swing-up seen as an image and the difference to the image one step before.

    The observation is ``[image, image - previous]``, 800 numbers by default. The previous image is that of the angle
    ``theta - dt * thetad``, which for the default integrator is exactly the frame before; so the observation is a
    function of the state, at the start of an episode too.

    Parameters
    ----------
    size
        Pixels along a side; default 20.
    blur
        Standard deviation of the Gaussian blur as a fraction of the width; default 0.2, 0 for none.
    **options
        As for :class:`SwingUp`.

    Raises
    ------
    TypeError, ValueError
        If ``size`` is not a positive integer or ``blur`` is negative, and as for :class:`SwingUp`.

    References
    ----------
    van Hoof, Neumann and Peters (2017), *Non-parametric policy search with limited information loss*, section 5.

    Examples
    --------
    >>> env = PixelSwingUp()
    >>> observation, _ = env.reset(seed=0)
    >>> observation.shape
    (800,)
    """

    def __init__(self, *, size: int = 20, blur: float = 0.2, **options: Any) -> None:
        super().__init__(**options)
        self.size = as_count(size, "size")
        self.blur = as_scalar(blur, "blur", low=0.0)
        self._canvas = Canvas(self.size, -1.2 * self.length, 1.2 * self.length)
        self._blur_matrix = blur_matrix(self.size, self.blur * self.size)
        n_pixels = self.size**2
        self.observation_space = box(np.repeat([0.0, -1.0], n_pixels), np.ones(2 * n_pixels))

    def observe(self, states: NDArray[Any]) -> FloatArray:
        """Image and difference image of each state, (N, 2 * size**2)."""
        image = self.image(states[:, 0])
        previous = self.image(states[:, 0] - self.dt * states[:, 1])
        return np.hstack([image, image - previous])

    def image(self, angle: FloatArray) -> FloatArray:
        """Blurred images (N, size**2) in [0, 1] of pendulums at the given angles (N,)."""
        hub = np.zeros((len(angle), 2))
        rod = self._canvas.segment(hub, self.tip(angle), 0.1 * self.length)
        return np.matmul(np.matmul(self._blur_matrix, rod), self._blur_matrix.T).reshape(len(angle), -1)
