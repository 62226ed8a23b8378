"""The reaching task of van Hoof, Neumann and Peters: two unit links whose joints are accelerated directly.

Shapes: N arms; states (N, 4) are two joint angles in rad and two joint velocities in rad/s; actions (N, 2) are joint
accelerations in rad/s^2; tips are (N, 2).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.batched import BatchedEnv, Transition, box
from envs.mechanics import rk4, wrap
from envs.raster import Canvas, paint, to_rgb
from reps_opt.validation import FloatArray, as_float_array, as_scalar

START = np.array([math.pi / 2, 0.0, 0.0, 0.0])
"""Stretched straight up, at rest: the tip is at (0, 2)."""


class Reaching(BatchedEnv):
    r"""Reach a point with a planar arm of two unit links.

    .. math:: \ddot q = a, \qquad x = \begin{pmatrix} \cos q_1 + \cos(q_1 + q_2) \\ \sin q_1 + \sin(q_1 + q_2)
              \end{pmatrix}, \qquad r = -10^{-4} |a|^2 - |x - x_{goal}|^2.

    The arm starts stretched straight up, x = (0, 2); the reward is that of the state the action is taken in. An
    acceleration is held over a time step, which is integrated exactly.

    Parameters
    ----------
    goal
        Where the tip should be; default (0.5, 0).
    dt
        Time step in s. The paper does not state it; default 0.05.
    max_acceleration
        Largest acceleration of either joint, in rad/s^2.
    max_velocity
        Joint velocities are clipped to this, in rad/s, since nothing else bounds them. Not in the paper; default 50.
    reset_probability
        Probability that an episode is cut after a step; ``gamma`` is one minus it, 0.96 by default.
    horizon, render_mode
        As for :class:`~envs.BatchedEnv`.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range; the message names it.

    References
    ----------
    van Hoof, Neumann and Peters (2017), *Non-parametric policy search with limited information loss*, section 5.

    Examples
    --------
    >>> import numpy as np
    >>> env = Reaching()
    >>> states = env.sample_starts(1, np.random.default_rng(0))
    >>> env.tip(states).round(6)
    array([[0., 2.]])
    >>> env.step_batch(states, [[0.0, 0.0]], np.random.default_rng(0)).rewards      # -(0.5**2 + 2**2)
    array([-4.25])
    """

    def __init__(
        self,
        *,
        goal: ArrayLike = (0.5, 0.0),
        dt: float = 0.05,
        max_acceleration: float = 50.0,
        max_velocity: float = 50.0,
        reset_probability: float = 0.04,
        horizon: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(horizon=horizon, reset_probability=reset_probability, render_mode=render_mode)
        self.goal = as_float_array(goal, "goal", (2,)).copy()
        self.dt = as_scalar(dt, "dt", low=0.0, low_open=True)
        self.max_acceleration = as_scalar(max_acceleration, "max_acceleration", low=0.0, low_open=True)
        self.max_velocity = as_scalar(max_velocity, "max_velocity", low=0.0, low_open=True)
        self.action_space = box(-self.max_acceleration, np.full(2, self.max_acceleration))
        bound = np.repeat([math.pi, self.max_velocity], 2)
        self.observation_space = box(-bound, bound)

    def sample_starts(self, n: int, rng: np.random.Generator) -> FloatArray:
        """The start state, n times (n, 4)."""
        return np.tile(START, (n, 1))

    def _advance(self, states: FloatArray, actions: FloatArray, rng: np.random.Generator) -> Transition:
        distance_squared = np.sum((self.tip(states) - self.goal) ** 2, axis=1)
        rewards = -1e-4 * np.sum(actions**2, axis=1) - distance_squared
        angle, velocity = rk4(lambda q, v: actions, states[:, :2], states[:, 2:], self.dt)
        velocity = np.clip(velocity, -self.max_velocity, self.max_velocity)
        return Transition(np.hstack([wrap(angle), velocity]), rewards, np.zeros(len(states), dtype=bool))

    def elbow(self, states: FloatArray) -> FloatArray:
        """Place (N, 2) of the joint between the links."""
        return np.column_stack([np.cos(states[:, 0]), np.sin(states[:, 0])])

    def tip(self, states: FloatArray) -> FloatArray:
        """Place (N, 2) of the end of the arm."""
        total = states[:, 0] + states[:, 1]
        return self.elbow(states) + np.column_stack([np.cos(total), np.sin(total)])

    def draw(self, state: NDArray[Any]) -> NDArray[np.uint8]:
        """Draw one state as an RGB image (160, 160, 3), the goal in red."""
        canvas = Canvas(160, -2.3, 2.3)
        elbow, tip = self.elbow(state[None]), self.tip(state[None])
        picture = paint(canvas.blank(), canvas.disc(self.goal, 0.12), (0.8, 0.2, 0.2))
        for start, end in ((np.zeros((1, 2)), elbow), (elbow, tip)):
            picture = paint(picture, canvas.segment(start, end, 0.06), (0.2, 0.35, 0.6))
        return to_rgb(paint(picture, canvas.disc(elbow, 0.05), (0.0, 0.0, 0.0)))
