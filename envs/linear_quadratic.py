"""Exact answers of discounted linear-quadratic control, the oracle for LQR and for tasks linearised at a point.

Shapes: states x (d,), actions u (k,); A (d, d), B (d, k), Q (d, d), R (k, k), gains K (k, d).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from envs.batched import BatchedEnv
from reps_opt.validation import FloatArray, as_float_array, as_scalar


class LinearQuadraticSolution(NamedTuple):
    """Optimal controller ``u = K x`` and its value ``-x' P x``, the discounted sum of rewards."""

    gain: FloatArray
    cost_matrix: FloatArray


def riccati(A: ArrayLike, B: ArrayLike, Q: ArrayLike, R: ArrayLike, gamma: float = 1.0) -> LinearQuadraticSolution:
    r"""Solve the discounted linear-quadratic regulator.

    Maximise :math:`-\sum_t \gamma^t (x_t' Q x_t + u_t' R u_t)` for :math:`x_{t+1} = A x_t + B u_t`:

    .. math:: P = Q + \gamma A' P (A + B K), \qquad K = -\gamma (R + \gamma B' P B)^{-1} B' P A.

    Parameters
    ----------
    A, B
        Dynamics (d, d) and (d, k).
    Q, R
        Costs of the state (d, d), positive semidefinite, and of the action (k, k), positive definite.
    gamma
        Discount factor in (0, 1].

    Returns
    -------
    LinearQuadraticSolution
        ``gain`` (k, d), to be *added*: ``u = gain @ x``; and ``cost_matrix`` P (d, d).

    Raises
    ------
    TypeError, ValueError
        If a matrix is not finite or has the wrong shape.
    numpy.linalg.LinAlgError
        If no stabilising solution exists.

    References
    ----------
    Bertsekas (2017), *Dynamic programming and optimal control*, volume I, section 3.1; discounting scales A and B by
    the square root of gamma.

    Examples
    --------
    >>> riccati([[1.0]], [[1.0]], [[1.0]], [[1.0]]).cost_matrix     # the golden ratio
    array([[1.618...]])
    """
    import scipy.linalg

    d = len(as_float_array(A, "A", ("d", "d")))
    a = as_float_array(A, "A", (d, d))
    b = as_float_array(B, "B", (d, "k"))
    q = as_float_array(Q, "Q", (d, d))
    cost = as_float_array(R, "R", (b.shape[1], b.shape[1]))
    g = as_scalar(gamma, "gamma", low=0.0, high=1.0, low_open=True)
    P = scipy.linalg.solve_discrete_are(np.sqrt(g) * a, np.sqrt(g) * b, q, cost)
    gain = -np.linalg.solve(cost + g * b.T @ P @ b, g * b.T @ P @ a)
    return LinearQuadraticSolution(gain, P)


def linearise(
    env: BatchedEnv, state: ArrayLike, action: ArrayLike, width: float = 1e-5
) -> tuple[FloatArray, FloatArray]:
    """Dynamics of an environment without noise, linearised at a point: ``x' ~ A x + B u``.

    Central differences of ``env.step_batch``, all of them one batch; the error is of the order of ``width**2``.

    Parameters
    ----------
    env
        An environment with continuous states and actions, away from its bounds at this point.
    state, action
        Where to linearise: (d,) and (k,).
    width
        Half-width of the differences.

    Returns
    -------
    tuple of ndarray
        A (d, d) and B (d, k).

    Raises
    ------
    TypeError, ValueError
        If ``state`` or ``action`` is not a finite vector, or ``width`` is not positive.

    Examples
    --------
    >>> from envs import LQR
    >>> A, B = linearise(LQR(), [0.1, 0.2, 0.3], [0.0, 0.0, 0.0])
    >>> bool(np.allclose(A, np.eye(3)) and np.allclose(B, np.eye(3)))
    True
    """
    x, u = as_float_array(state, "state", ("d",)), as_float_array(action, "action", ("k",))
    h = as_scalar(width, "width", low=0.0, low_open=True)
    point = np.concatenate([x, u])
    probes = point + h * np.vstack([np.eye(len(point)), -np.eye(len(point))])
    rng = np.random.default_rng(0)
    outcome = env.step_batch(probes[:, : len(x)], probes[:, len(x) :], rng).next_states
    slope = (outcome[: len(point)] - outcome[len(point) :]).T / (2 * h)
    return slope[:, : len(x)], slope[:, len(x) :]
