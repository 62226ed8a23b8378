"""Planar pushing: a disc pushes another disc to a goal, through contact only.

Shapes: N tables; states (N, 4) are the pusher's and the object's centre; actions (N, 2) are steps of the pusher.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.batched import BatchedEnv, Transition, box
from envs.raster import Canvas, paint, to_rgb
from reps_opt.validation import FloatArray, as_float_array, as_scalar

PUSHER_START = np.array([-0.6, 0.0])


class Pushing(BatchedEnv):
    r"""Push a disc to a goal with another disc, slowly and without friction between them.

    The object rests on a table and moves only while it is pushed, along the contact normal n (quasi-static motion with
    a frictionless contact, whose force passes through the disc's centre):

    .. math:: \dot o = (n \cdot \dot p)\, n, \qquad n = (o - p) / |o - p|, \qquad |o - p| = r_p + r_o .

    For a straight step of the pusher the angle phi between n and its direction obeys tan(phi/2) = c exp(s/(r_p + r_o))
    over the way s travelled in contact, until phi = pi/2 lets the object go; a step is that formula, not a simulation.
    Pushing straight is unstable, as with real objects: an object off the line slips away ever faster.

    .. math:: r = -|o - goal|^2 - w_{approach} |p - o|^2 - w_{action} |a|^2 .

    Parameters
    ----------
    goal
        Where the object should be; default (0.5, 0).
    max_step
        Largest step of the pusher along either axis, in m; default 0.1. The pusher stays on the table, [-1, 1] squared.
    pusher_radius, object_radius
        In m; default 0.05 and 0.1.
    start_spread
        The object starts uniform within this of the origin in both coordinates, the pusher at (-0.6, 0); default 0.2.
    approach_weight, action_weight
        Weights of the pusher's distance to the object and of its effort; default 0.1 and 0.01.
    gamma, horizon, render_mode
        As for :class:`~envs.BatchedEnv`; by default 0.98 and 50 steps.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range; the message names it.

    References
    ----------
    Mason (1986), *Mechanics and planning of manipulator pushing operations*; Goyal, Ruina and Papadopoulos (1991),
    *Planar sliding with dry friction*, for the motion along the normal. The task itself is this library's.

    Examples
    --------
    Pushed through its centre, the object moves straight: the gap is 0.05, so half of the step arrives.

    >>> import numpy as np
    >>> env = Pushing()
    >>> env.step_batch(np.array([[-0.2, 0, 0, 0]]), [[0.1, 0]], np.random.default_rng(0)).next_states.round(6) + 0.0
    array([[-0.1 ,  0.  ,  0.05,  0.  ]])
    """

    def __init__(
        self,
        *,
        goal: ArrayLike = (0.5, 0.0),
        max_step: float = 0.1,
        pusher_radius: float = 0.05,
        object_radius: float = 0.1,
        start_spread: float = 0.2,
        approach_weight: float = 0.1,
        action_weight: float = 0.01,
        gamma: float = 0.98,
        horizon: int | None = 50,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(gamma=gamma, horizon=horizon, render_mode=render_mode)
        self.goal = as_float_array(goal, "goal", (2,)).copy()
        self.max_step = as_scalar(max_step, "max_step", low=0.0, low_open=True)
        self.pusher_radius = as_scalar(pusher_radius, "pusher_radius", low=0.0, low_open=True)
        self.object_radius = as_scalar(object_radius, "object_radius", low=0.0, low_open=True)
        self.contact_distance = self.pusher_radius + self.object_radius
        clear = max(0.0, float(np.abs(PUSHER_START).max()) - self.contact_distance)
        self.start_spread = as_scalar(start_spread, "start_spread", low=0.0, high=clear)
        self.approach_weight = as_scalar(approach_weight, "approach_weight", low=0.0)
        self.action_weight = as_scalar(action_weight, "action_weight", low=0.0)
        self.action_space = box(-self.max_step, np.full(2, self.max_step))
        reach = 1.0 + self.contact_distance
        self.observation_space = box([-1.0, -1.0, -reach, -reach], [1.0, 1.0, reach, reach])

    def sample_starts(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n start states (n, 4)."""
        centre = rng.uniform(-self.start_spread, self.start_spread, size=(n, 2))
        return np.hstack([np.tile(PUSHER_START, (n, 1)), centre])

    def _advance(self, states: FloatArray, actions: FloatArray, rng: np.random.Generator) -> Transition:
        pusher, body = states[:, :2], states[:, 2:]
        rewards = -(
            ((body - self.goal) ** 2).sum(axis=1)
            + self.approach_weight * ((pusher - body) ** 2).sum(axis=1)
            + self.action_weight * (actions**2).sum(axis=1)
        )
        moved = np.clip(pusher + actions, -1.0, 1.0)
        pushed = push(pusher, moved, body, self.contact_distance)
        return Transition(np.hstack([moved, pushed]), rewards, np.zeros(len(states), dtype=bool))

    def by_hand(self, state: ArrayLike, rng: np.random.Generator | None = None) -> FloatArray:
        """The best controller known: a step (2,) for a state (4,), without chance.

        It slides around the disc to the side opposite to the goal, and pushes the more, the better the line is.
        """
        place = as_float_array(state, "state", (4,))
        to_disc, to_goal = place[2:] - place[:2], self.goal - place[2:]
        distance, left = np.linalg.norm(to_disc), np.linalg.norm(to_goal)
        normal = to_disc / distance
        behind = to_disc - to_goal / max(float(left), 1e-9) * self.contact_distance
        aside = behind - (behind @ normal) * normal
        ahead = min(left, self.max_step) * np.exp(-((np.linalg.norm(aside) / 0.1) ** 2))
        forward = distance - self.contact_distance + ahead
        step = aside + normal * np.clip(forward, -self.max_step, self.max_step)
        return np.clip(step, -self.max_step, self.max_step)

    def draw(self, state: NDArray[Any]) -> NDArray[np.uint8]:
        """Draw one state as an RGB image (160, 160, 3): goal in red, object in blue, pusher in black."""
        canvas = Canvas(160, -1.2, 1.2)
        ring = canvas.disc(self.goal, self.object_radius) - canvas.disc(self.goal, 0.7 * self.object_radius)
        picture = paint(canvas.blank(), ring, (0.8, 0.2, 0.2))
        picture = paint(picture, canvas.disc(state[2:], self.object_radius), (0.45, 0.65, 0.9))
        return to_rgb(paint(picture, canvas.disc(state[:2], self.pusher_radius), (0.0, 0.0, 0.0)))


def push(start: FloatArray, end: FloatArray, body: FloatArray, distance: float) -> FloatArray:
    """Where bodies (N, 2) are after pushers moved straight from ``start`` to ``end``, contact being at ``distance``.

    In the frame of the step, with the body ``ahead`` along it and ``aside`` of it, contact begins where the body is
    ``sqrt(distance**2 - aside**2)`` ahead; from there tan(phi/2) grows like exp(s / distance) until phi = pi/2.
    """
    step = end - start
    length = np.hypot(step[:, 0], step[:, 1])
    along = np.divide(step, length[:, None], out=np.zeros_like(step), where=length[:, None] > 0)
    across = np.column_stack([-along[:, 1], along[:, 0]])
    offset = body - start
    ahead, aside = (offset * along).sum(axis=1), (offset * across).sum(axis=1)
    reach = np.sqrt(np.maximum(distance**2 - aside**2, 0.0))
    contact = np.maximum(ahead - reach, 0.0)
    touched = (reach > 0) & (ahead > 0) & (contact < length)
    phi = np.arctan2(np.abs(aside), reach)
    half = np.tan(phi / 2)
    in_contact = np.minimum(length - contact, -distance * np.log(np.maximum(half, np.finfo(float).tiny)))
    phi_end = 2 * np.arctan(half * np.exp(in_contact / distance))
    new_ahead = contact + in_contact + distance * np.cos(phi_end)
    new_aside = np.copysign(distance * np.sin(phi_end), aside)
    pushed = start + new_ahead[:, None] * along + new_aside[:, None] * across
    return np.where(touched[:, None], pushed, body)
