"""Weighted multinomial regression with a ridge, and the ridge of largest evidence: the fit behind the softmax policy.

Shapes: N samples, q regressors, A actions, c = A - 1 contrasts; `Phi` (N, q), `labels` (N,), `weights` (N,), gains B
(q, c). Logits are ``Z = Phi B H`` with H (c, A) orthonormal contrasts: adding a constant to every logit changes no
probability, and the ridge alone would choose this constant; contrasts leave it out, so that the Hessian is definite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, helmert, lapack
from scipy.optimize import minimize
from scipy.special import log_softmax

from policies.tolerances import PRIOR_RATE, PRIOR_SHAPE, RIDGE_ACCURACY, ROUGH_DECREMENT
from reps_opt.tolerances import CUBED, LAST_PLACE, MOST_ITERATIONS, ROUNDING, SUFFICIENT_DECREASE, TINY
from reps_opt.validation import FloatArray


@dataclass(frozen=True)
class MultinomialFit:
    """Logits ``Phi coefficients`` with coefficients (q, A) that sum to zero over the actions; the ridge used.

    `log_evidence` is Laplace's, in nats.
    """

    coefficients: FloatArray
    ridge: float
    log_evidence: float
    n_iter: int


@dataclass(frozen=True)
class _Likelihood:
    """The weighted negative log-likelihood and its derivatives in B (q, c)."""

    Phi: FloatArray
    labels: NDArray[np.intp]
    weights: FloatArray
    contrasts: FloatArray
    offset: FloatArray | float = 0.0

    def log_p(self, B: FloatArray) -> FloatArray:
        return log_softmax(self.offset + self.Phi @ (B @ self.contrasts), axis=1)

    def value(self, log_p: FloatArray) -> float:
        return float(-self.weights @ log_p[np.arange(len(log_p)), self.labels])

    def gradient(self, log_p: FloatArray) -> FloatArray:
        residual = np.exp(log_p)
        residual[np.arange(len(log_p)), self.labels] -= 1
        return self.Phi.T @ (residual * self.weights[:, None]) @ self.contrasts.T

    def curvature(self, log_p: FloatArray) -> FloatArray:
        """``w H (diag p - p p') H'`` of every sample, shape (N, c, c)."""
        p, H = np.exp(log_p), self.contrasts
        mean = p @ H.T
        second = np.einsum("na,ca,da->ncd", p, H, H, optimize=True)
        return self.weights[:, None, None] * (second - mean[:, :, None] * mean[:, None, :])

    def hessian(self, log_p: FloatArray) -> FloatArray:
        """In the gains row by row, shape (q c, q c)."""
        M = self.curvature(log_p)
        q, c = self.Phi.shape[1], len(self.contrasts)
        out = np.empty((q, c, q, c))
        for i in range(c):
            for j in range(i + 1):
                out[:, i, :, j] = self.Phi.T @ (M[:, i, j, None] * self.Phi)
                out[:, j, :, i] = out[:, i, :, j]
        return out.reshape(q * c, q * c)

    def hessian_diagonal(self, log_p: FloatArray) -> FloatArray:
        return (self.Phi**2).T @ np.einsum("ncc->nc", self.curvature(log_p))


def weighted_multinomial(
    Phi: FloatArray,
    labels: NDArray[np.intp],
    weights: FloatArray,
    n_actions: int,
    ridge: float | None,
    centre: FloatArray | None = None,
) -> MultinomialFit:
    """Minimise ``-sum_i w_i log softmax(Phi (C + B H))_{i, a_i} + ridge |B|_F^2 / 2``, a convex problem.

    Parameters
    ----------
    Phi, labels, weights
        Regressors (N, q), a column of ones among them; action indices (N,); weights (N,) > 0, powers of the likelihood.
    n_actions
        Number A of actions, whether they occur or not.
    ridge
        The penalty > 0; None maximises the evidence (see Notes).
    centre
        Coefficients C (q, A) that the penalty draws to; None for zero.

    Notes
    -----
    The evidence is Laplace's, with MacKay's update ``ridge = (gamma + 2 a - 2) / (|B|^2 + 2 b)`` for a Gamma(a, b)
    prior, gamma = sum_j h_j / (h_j + ridge) the number of well-determined gains, h the Hessian's eigenvalues (its
    diagonal, where there are more than 600 gains).

    References
    ----------
    MacKay (1992), The evidence framework applied to classification networks, sections 2 and 4.

    Examples
    --------
    >>> fit = weighted_multinomial(np.ones((3, 1)), np.array([0, 0, 1]), np.ones(3), 2, ridge=1e-9)
    >>> fit.coefficients  # log-odds of 2 : 1
    array([[ 0.347, -0.347]])
    """
    if n_actions == 1:
        return MultinomialFit(np.zeros((Phi.shape[1], 1)), 1.0 if ridge is None else ridge, 0.0, 0)
    fixed = np.zeros((Phi.shape[1], n_actions)) if centre is None else centre
    problem = _Likelihood(Phi, labels, weights, helmert(n_actions), Phi @ fixed)
    B = np.zeros((Phi.shape[1], n_actions - 1))
    trial, n_iter = 1.0 if ridge is None else ridge, 0
    for _ in range(0 if ridge is not None else MOST_ITERATIONS):
        B, steps = _minimise(problem, B, trial, ROUGH_DECREMENT)
        n_iter, used = n_iter + steps, trial
        determined, _ = _determined(problem, B, used)
        trial = float((determined + 2 * PRIOR_SHAPE - 2) / (np.sum(B**2) + 2 * PRIOR_RATE))
        if abs(np.log(trial / used)) < RIDGE_ACCURACY:
            break
    B, steps = _minimise(problem, B, trial, ROUNDING)
    _, log_det = _determined(problem, B, trial)
    n_iter, used = n_iter + steps, trial
    value = problem.value(problem.log_p(B)) + 0.5 * used * np.sum(B**2)
    evidence = -value + 0.5 * B.size * np.log(used) - 0.5 * log_det
    return MultinomialFit(fixed + B @ problem.contrasts, used, float(evidence), n_iter)


def _minimise(problem: _Likelihood, B: FloatArray, ridge: float, accuracy: float) -> tuple[FloatArray, int]:
    return (_newton if B.size <= CUBED else _quasi_newton)(problem, B, ridge, accuracy)


def _newton(problem: _Likelihood, B: FloatArray, ridge: float, accuracy: float) -> tuple[FloatArray, int]:
    """Newton's method with halved steps; the decrement bounds what is left to gain, in nats."""
    log_p = problem.log_p(B)
    value = problem.value(log_p) + 0.5 * ridge * np.sum(B**2)
    for step in range(MOST_ITERATIONS):
        gradient = problem.gradient(log_p) + ridge * B
        H = problem.hessian(log_p)
        H[np.diag_indices_from(H)] += ridge
        move = cho_solve(cho_factor(H, lower=True), gradient.reshape(-1)).reshape(B.shape)
        decrement = float(np.sum(gradient * move))
        if decrement <= accuracy * max(abs(value), TINY):  # below, the value is rounding, and a full step is safe
            return B - move, step
        share = 1.0
        while True:
            trial = B - share * move
            trial_log_p = problem.log_p(trial)
            trial_value = problem.value(trial_log_p) + 0.5 * ridge * np.sum(trial**2)
            if trial_value <= value - SUFFICIENT_DECREASE * share * decrement + LAST_PLACE * abs(value):
                break
            share *= 0.5
        B, log_p, value = trial, trial_log_p, trial_value
    return B, MOST_ITERATIONS


def _quasi_newton(problem: _Likelihood, B: FloatArray, ridge: float, accuracy: float) -> tuple[FloatArray, int]:
    """L-BFGS in gains measured by the Hessian's diagonal."""
    unit = 1 / np.sqrt(problem.hessian_diagonal(problem.log_p(B)) + ridge)

    def loss(flat: FloatArray) -> tuple[float, FloatArray]:
        trial = unit * flat.reshape(B.shape)
        log_p = problem.log_p(trial)
        value = problem.value(log_p) + 0.5 * ridge * np.sum(trial**2)
        return value, (unit * (problem.gradient(log_p) + ridge * trial)).reshape(-1)

    start = (B / unit).reshape(-1)
    tolerance = np.sqrt(accuracy * max(loss(start)[0], TINY))  # the gradient is measured as the decrement is
    options = {"ftol": LAST_PLACE, "gtol": tolerance / np.sqrt(B.size)}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    return unit * found.x.reshape(B.shape), int(found.nit)


def _determined(problem: _Likelihood, B: FloatArray, ridge: float) -> tuple[float, float]:
    """``sum_j h_j / (h_j + ridge)`` and the log-determinant of the penalised Hessian."""
    log_p = problem.log_p(B)
    if B.size > CUBED:
        h = problem.hessian_diagonal(log_p)
        return float(np.sum(h / (h + ridge))), float(np.sum(np.log(h + ridge)))
    H = problem.hessian(log_p)
    H[np.diag_indices_from(H)] += ridge
    L, _ = cho_factor(H, lower=True)
    inverse, _ = lapack.dpotri(L, lower=1)
    return float(B.size - ridge * np.trace(inverse)), float(2 * np.sum(np.log(np.diagonal(L))))
