"""Puddle world, from its state and from pixels: walk to the far corner, around the puddles.

Shapes: N walkers; states (N, 2) are places in the unit square; actions (N, 2) are steps; pixel observations are
(N, size**2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.batched import BatchedEnv, BoolArray, Transition, box
from envs.raster import Canvas, blur_matrix, paint, to_rgb
from reps_opt.validation import FloatArray, as_count, as_scalar

PUDDLES = np.array([[[0.10, 0.75], [0.45, 0.75]], [[0.45, 0.40], [0.45, 0.80]]])
"""The middle lines of the two puddles, as (puddle, end, coordinate)."""

PUDDLE_RADIUS = 0.1
GOAL_SUM = 1.8
"""The goal is the corner where x + y exceeds this."""

STARTS = ("corner", "uniform", "mixed")


class PuddleWorld(BatchedEnv):
    r"""Walk from the lower left to the upper right corner of the unit square, around two puddles.

    .. math:: s' = \operatorname{clip}(s + a + \sigma \xi,\ 0,\ 1), \qquad
              r = r_{step} - 400\, \mathrm{depth}(s') \quad\text{outside the goal } x + y > 1.8,

    where depth is the distance to the nearest edge of a puddle one stands in. The goal is absorbing: the walker stays
    where it is, and gets zero, until the episode is cut.

    Parameters
    ----------
    start
        ``"corner"``, the default: (0, 0). ``"uniform"``: anywhere outside the goal. ``"mixed"``: one or the other.
    max_step
        Largest step along either axis; default 0.05, Sutton's step.
    noise
        Standard deviation of a step's noise; default 0.01, Sutton's.
    step_reward
        Reward of a step outside the goal; default -10 (Sutton's is -1).
    terminate_at_goal
        Whether an episode ends at the goal, instead of staying there for nothing; default False.
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
    Sutton (1996), *Generalization in reinforcement learning: successful examples using sparse coarse coding*, section
    3; van Hoof, Neumann and Peters (2017), *Non-parametric policy search with limited information loss*, section 5.

    Examples
    --------
    The middle of a puddle is 0.1 deep.

    >>> import numpy as np
    >>> PuddleWorld().depth(np.array([[0.2, 0.75], [0.2, 0.7], [0.9, 0.1]])).round(3)
    array([0.1 , 0.05, 0.  ])
    """

    def __init__(
        self,
        *,
        start: str = "corner",
        max_step: float = 0.05,
        noise: float = 0.01,
        step_reward: float = -10.0,
        terminate_at_goal: bool = False,
        reset_probability: float = 0.04,
        horizon: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(horizon=horizon, reset_probability=reset_probability, render_mode=render_mode)
        if start not in STARTS:
            raise ValueError(f"start must be one of {STARTS}, got {start!r}")
        self.start = start
        self.max_step = as_scalar(max_step, "max_step", low=0.0, low_open=True)
        self.noise = as_scalar(noise, "noise", low=0.0)
        self.step_reward = as_scalar(step_reward, "step_reward")
        self.terminate_at_goal = bool(terminate_at_goal)
        self.action_space = box(-self.max_step, np.full(2, self.max_step))
        self.observation_space = box(0.0, np.ones(2))

    def sample_starts(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n start states (n, 2), outside the goal."""
        if self.start == "corner":
            return np.zeros((n, 2))
        cornered = rng.random((n, 1)) < 0.5 if self.start == "mixed" else np.zeros((n, 1), dtype=bool)
        states = rng.random((n, 2))
        while (inside := self.at_goal(states)).any():
            states[inside] = rng.random((int(inside.sum()), 2))
        return np.where(cornered, 0.0, states)

    def at_goal(self, states: FloatArray) -> BoolArray:
        """Which walkers (N,) are in the goal corner."""
        return states[:, 0] + states[:, 1] > GOAL_SUM

    def depth(self, states: FloatArray) -> FloatArray:
        """Distance (N,) to the nearest edge of the puddle a walker stands in, zero on dry ground."""
        start, along = PUDDLES[:, 0], PUDDLES[:, 1] - PUDDLES[:, 0]
        offset = states[:, None] - start
        nearest = np.clip((offset * along).sum(axis=-1) / (along**2).sum(axis=-1), 0.0, 1.0)
        distance = np.hypot(*np.moveaxis(offset - nearest[..., None] * along, -1, 0)).min(axis=1)
        return np.maximum(PUDDLE_RADIUS - distance, 0.0)

    def _advance(self, states: FloatArray, actions: FloatArray, rng: np.random.Generator) -> Transition:
        done = self.at_goal(states)
        moved = np.clip(states + actions + self.noise * rng.standard_normal(states.shape), 0.0, 1.0)
        next_states = np.where(done[:, None], states, moved)
        rewards = np.where(done, 0.0, self.step_reward - 400.0 * self.depth(moved))
        terminated = self.at_goal(next_states) if self.terminate_at_goal else np.zeros(len(states), dtype=bool)
        return Transition(next_states, rewards, terminated)

    def draw(self, state: NDArray[Any]) -> NDArray[np.uint8]:
        """Draw one state as an RGB image (160, 160, 3): puddles blue, goal green, walker black."""
        canvas = Canvas(160, 0.0, 1.0)
        x, y = np.meshgrid((np.arange(160) + 0.5) / 160, (np.arange(160)[::-1] + 0.5) / 160)
        picture = paint(canvas.blank(), (x + y > GOAL_SUM).astype(float), (0.6, 0.85, 0.6))
        puddles = canvas.segment(PUDDLES[:, 0], PUDDLES[:, 1], PUDDLE_RADIUS)
        picture = paint(picture, puddles, (0.45, 0.65, 0.9))
        return to_rgb(paint(picture, canvas.disc(state, 0.04), (0.0, 0.0, 0.0)))


class PixelPuddleWorld(PuddleWorld):
    """Puddle world seen as an image of the walker, a disc; the puddles never move and are left out.

    Parameters
    ----------
    size
        Pixels along a side; default 20, which makes 400 numbers.
    diameter
        Of the disc, as a fraction of the width; default 0.08.
    blur
        Standard deviation of a Gaussian blur as a fraction of the width; default 0.2, that of the pixel swing-up (the
        papers give none for this task), 0 for none.
    **options
        As for :class:`PuddleWorld`.

    Raises
    ------
    TypeError, ValueError
        If ``size`` is not a positive integer, ``diameter`` not positive or ``blur`` negative, and as for
        :class:`PuddleWorld`.

    References
    ----------
    van Hoof, Neumann and Peters (2017), *Non-parametric policy search with limited information loss*, section 5.

    Examples
    --------
    >>> observation, _ = PixelPuddleWorld().reset(seed=0)
    >>> observation.shape
    (400,)
    """

    def __init__(self, *, size: int = 20, diameter: float = 0.08, blur: float = 0.2, **options: Any) -> None:
        super().__init__(**options)
        self.size = as_count(size, "size")
        self.diameter = as_scalar(diameter, "diameter", low=0.0, low_open=True)
        self.blur = as_scalar(blur, "blur", low=0.0)
        self._canvas = Canvas(self.size, 0.0, 1.0)
        self._blur_matrix = blur_matrix(self.size, self.blur * self.size)
        self.observation_space = box(0.0, np.ones(self.size**2))

    def observe(self, states: NDArray[Any]) -> FloatArray:
        """Image of each walker (N, size**2), in [0, 1]."""
        disc = self._canvas.disc(states, self.diameter / 2)
        return np.matmul(np.matmul(self._blur_matrix, disc), self._blur_matrix.T).reshape(len(states), -1)
