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

    .. math:: x_{t+1} = \operatorname{clip}(A x_t + B u_t + \sigma \xi_t,\ \pm x_{max}), \qquad r = -(x' Q x + u' R u).

    Parameters
    ----------
    A, B, Q, R
        Dynamics (d, d), (d, k) and costs (d, d), (k, k). By default d = k = 3, A = B = I, Q = diag(.9, .1, .1) and
        R = diag(.1, .9, .9).
    start
        Start state (d,); one number stands for all entries. Default 0.9.
    start_spread, noise
        Standard deviations of the start around it, and of the noise sigma of every step, the same in every direction;
        default 0 for both.
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
        start_spread: float = 0.0,
        noise: float = 0.0,
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
        self.start_spread = as_scalar(start_spread, "start_spread", low=0.0)
        self.noise = as_scalar(noise, "noise", low=0.0)
        self.action_space = box(-self.max_action, np.full(k, self.max_action))
        self.observation_space = box(-self.max_state, np.full(d, self.max_state))

    def sample_starts(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n start states (n, d), clipped to the bounds."""
        starts = np.tile(self.start, (n, 1))
        if self.start_spread > 0:
            starts += self.start_spread * rng.standard_normal(starts.shape)
        return np.clip(starts, -self.max_state, self.max_state)

    def _advance(self, states: FloatArray, actions: FloatArray, rng: np.random.Generator) -> Transition:
        rewards = -(_quadratic(states, self.Q) + _quadratic(actions, self.R))
        moved = _product(states, self.A) + _product(actions, self.B)
        if self.noise > 0:
            moved = moved + self.noise * rng.standard_normal(moved.shape)
        next_states = np.clip(moved, -self.max_state, self.max_state)
        return Transition(next_states, rewards, np.zeros(len(states), dtype=bool))

    def optimal(self) -> LinearQuadraticSolution:
        """The optimal controller of the system without bounds and without horizon, ``u = gain @ x``, noise or not."""
        return riccati(self.A, self.B, self.Q, self.R, self.gamma)

    def optimal_return(self) -> float:
        r"""Expected discounted sum of rewards of :meth:`optimal`; it is minus infinity with noise and gamma 1.

        .. math:: -x' P x - \sigma_0^2 \operatorname{tr} P - \frac{\gamma}{1 - \gamma} \sigma^2 \operatorname{tr} P
        """
        cost = self.optimal().cost_matrix
        spread = self.start_spread**2
        if self.noise > 0:
            spread += np.inf if self.gamma == 1 else self.gamma / (1 - self.gamma) * self.noise**2
        return float(-self.start @ cost @ self.start - (spread * np.trace(cost) if spread > 0 else 0.0))

    def optimal_gains(self) -> FloatArray:
        """Gains (T, k, d) of the best controllers ``u_t = gains[t] @ x`` over a horizon of T steps, without bounds."""
        if self.horizon is None:
            raise ValueError("optimal_gains needs a horizon: without one, optimal().gain is the same at every step")
        g, P, gains = self.gamma, np.zeros_like(self.Q), []
        for _ in range(self.horizon):
            K = -np.linalg.solve(self.R + g * self.B.T @ P @ self.B, g * self.B.T @ P @ self.A)
            P = self.Q + g * self.A.T @ P @ (self.A + self.B @ K)
            gains.append(K)
        return np.array(gains[::-1])

    def expected_return(
        self, gains: ArrayLike, offsets: ArrayLike | None = None, covariances: ArrayLike | None = None
    ) -> float:
        """Exact expected discounted return of ``u_t ~ N(gains[t] @ x + offsets[t], covariances[t])``, without bounds.

        Means and covariances of states and actions are carried forward in closed form.

        Parameters
        ----------
        gains
            Of T steps (T, k, d).
        offsets, covariances
            (T, k) and (T, k, k); zero by default.

        Raises
        ------
        TypeError, ValueError
            If a shape does not fit, or an entry is not finite.

        Examples
        --------
        Over 50 steps nothing is left of the horizon:

        >>> round(LQR().expected_return(LQR().optimal_gains()), 4)
        -1.3141
        """
        k, d = self.B.shape[1], len(self.A)
        K = as_float_array(gains, "gains", ("T", k, d))
        b = np.zeros((len(K), k)) if offsets is None else as_float_array(offsets, "offsets", (len(K), k))
        shape = (len(K), k, k)
        S = np.zeros(shape) if covariances is None else as_float_array(covariances, "covariances", shape)
        mean, cov, total = self.start, self.start_spread**2 * np.eye(d), 0.0
        for t in range(len(K)):
            force, spread = K[t] @ mean + b[t], K[t] @ cov @ K[t].T + S[t]
            cost = np.trace(self.Q @ cov) + mean @ self.Q @ mean + np.trace(self.R @ spread) + force @ self.R @ force
            total -= self.gamma**t * cost
            closed = self.A + self.B @ K[t]
            cov = closed @ cov @ closed.T + self.B @ S[t] @ self.B.T + self.noise**2 * np.eye(d)
            mean = self.A @ mean + self.B @ force
        return float(total)

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
