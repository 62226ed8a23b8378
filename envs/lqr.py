"""The linear-quadratic regulator, three-dimensional by default.

Shapes: N systems; states x (N, d), actions u (N, k); A (d, d), B (d, k), Q (d, d), R (k, k).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.batched import BatchedEnv, Transition, box
from envs.linear_quadratic import LinearQuadraticSolution, riccati
from envs.raster import Canvas, paint, to_rgb
from reps_opt.validation import FloatArray, as_float_array, as_scalar

EYE = np.eye(3)
Q_DEFAULT = np.diag([0.9, 0.1, 0.1])
R_DEFAULT = np.diag([0.1, 0.9, 0.9])


class LQR(BatchedEnv):
    r"""A linear system with a quadratic cost, and a known optimum.

    .. math:: x_{t+1} = \operatorname{clip}(A x_t + B u_t,\ \pm x_{max}), \qquad r = -(x' Q x + u' R u).

    Parameters
    ----------
    A, B, Q, R
        Dynamics (d, d), (d, k) and costs (d, d), (k, k). By default d = k = 3, A = B = I, Q = diag(.9, .1, .1) and
        R = diag(.1, .9, .9).
    start
        Start state (d,); one number stands for all entries. Default 0.9.
    max_state, max_action
        Bounds of every entry of states and actions; default 1. Infinite is legal for states.
    gamma, horizon, render_mode
        As for :class:`~envs.BatchedEnv`; by default 0.9 and 50 steps.

    Raises
    ------
    TypeError, ValueError
        If a matrix has the wrong shape or is not finite, or another argument is outside its range.

    References
    ----------
    Parisi, Pirotta, Smacchia, Bascetta and Restelli (2014), *Policy gradient approaches for multi-objective sequential
    decision making*, section V; Peters and Schaal (2008), *Natural actor-critic*.

    Examples
    --------
    The best discounted sum of rewards from the start:

    >>> round(LQR().optimal_return(), 4)
    -1.3141
    """

    def __init__(
        self,
        A: ArrayLike = EYE,
        B: ArrayLike = EYE,
        Q: ArrayLike = Q_DEFAULT,
        R: ArrayLike = R_DEFAULT,
        *,
        start: ArrayLike = 0.9,
        max_state: float = 1.0,
        max_action: float = 1.0,
        gamma: float = 0.9,
        horizon: int | None = 50,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(gamma=gamma, horizon=horizon, render_mode=render_mode)
        d = len(as_float_array(A, "A", ("d", "d")))
        self.A = as_float_array(A, "A", (d, d)).copy()
        self.B = as_float_array(B, "B", (d, "k")).copy()
        k = self.B.shape[1]
        self.Q = as_float_array(Q, "Q", (d, d)).copy()
        self.R = as_float_array(R, "R", (k, k)).copy()
        self.max_state = as_scalar(max_state, "max_state", low=0.0, low_open=True, infinite=True)
        self.max_action = as_scalar(max_action, "max_action", low=0.0, low_open=True)
        spread = np.full(d, as_scalar(start, "start")) if np.ndim(start) == 0 else start
        self.start = as_float_array(spread, "start", (d,)).copy()
        if np.abs(self.start).max() > self.max_state:
            raise ValueError(f"start must lie within max_state = {self.max_state:g}, got {self.start.tolist()}")
        self.action_space = box(-self.max_action, np.full(k, self.max_action))
        self.observation_space = box(-self.max_state, np.full(d, self.max_state))

    def sample_starts(self, n: int, rng: np.random.Generator) -> FloatArray:
        """The start state, n times (n, d)."""
        return np.tile(self.start, (n, 1))

    def _advance(self, states: FloatArray, actions: FloatArray, rng: np.random.Generator) -> Transition:
        rewards = -(_quadratic(states, self.Q) + _quadratic(actions, self.R))
        moved = _product(states, self.A) + _product(actions, self.B)
        next_states = np.clip(moved, -self.max_state, self.max_state)
        return Transition(next_states, rewards, np.zeros(len(states), dtype=bool))

    def optimal(self) -> LinearQuadraticSolution:
        """The optimal controller of the system without bounds and without horizon, ``u = gain @ x``."""
        return riccati(self.A, self.B, self.Q, self.R, self.gamma)

    def optimal_return(self) -> float:
        """Discounted sum of rewards of :meth:`optimal` from the start, ``-x' P x``."""
        return float(-self.start @ self.optimal().cost_matrix @ self.start)

    def draw(self, state: NDArray[Any]) -> NDArray[np.uint8]:
        """Draw one state as an RGB image (160, 160, 3): the first two entries are a place, the origin the target."""
        reach = 1.1 * (self.max_state if np.isfinite(self.max_state) else max(1.0, float(np.abs(state).max())))
        canvas = Canvas(160, -reach, reach)
        place = np.append(state, 0.0)[:2]
        picture = paint(canvas.blank(), canvas.disc([0.0, 0.0], 0.04 * reach), (0.8, 0.2, 0.2))
        return to_rgb(paint(picture, canvas.disc(place, 0.06 * reach), (0.2, 0.35, 0.6)))


def _product(rows: FloatArray, matrix: FloatArray) -> FloatArray:
    """``matrix @ row`` for every row, summed in an order that does not depend on how many rows there are."""
    return (rows[:, None, :] * matrix).sum(axis=-1)


def _quadratic(rows: FloatArray, matrix: FloatArray) -> FloatArray:
    return (rows * _product(rows, matrix)).sum(axis=-1)
