"""Weighted ridge regression with its evidence: the fit behind the linear and radial-basis policies.

Shapes: N samples, p features, k action dimensions; `Phi` (N, p), `actions` (N, k), `weights` (N,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import svd
from scipy.optimize import minimize_scalar

from policies.gaussian import LOG_2PI
from reps_opt.validation import FloatArray

NOISE_FLOOR = 1e-8  # of the actions' variance: features that can interpolate would else have unbounded evidence
LOG_RIDGE_RANGE = (-12 * np.log(10), 8 * np.log(10))  # searched multiples of the largest squared singular value


@dataclass(frozen=True)
class RidgeFit:
    """Weighted ridge solution ``a ~ Phi coefficients + intercept``.

    `annihilated` (N,) is the diagonal of (I - H~)^2 that the covariance's trace correction wants (`residual_scale`);
    `log_evidence` is in nats, summed over the action dimensions, noise variances profiled out.
    """

    coefficients: FloatArray
    intercept: FloatArray
    ridge: float
    rank: int
    annihilated: FloatArray
    log_evidence: float


def weighted_ridge(Phi: FloatArray, actions: FloatArray, weights: FloatArray, ridge: float | None) -> RidgeFit:
    """Minimise ``sum_i w_i |a_i - K'phi_i - b|^2 + ridge |K|_F^2`` with the intercept b free.

    Parameters
    ----------
    Phi, actions, weights
        Features (N, p), actions (N, k), weights (N,), all finite, weights positive.
    ridge
        The penalty; zero gives the minimum-norm least-squares fit; None maximises the evidence (see Notes).

    Notes
    -----
    With weights as powers of the likelihood, noise variance v_d and prior K_d ~ N(0, v_d/ridge I), the evidence of one
    action dimension is, up to the ridge that both terms share,
    ``-(sum w)/2 log(2 pi v_d) - 1/2 sum_j log(1 + e_j/ridge) - quad_d/(2 v_d)``, e_j the squared singular values of the
    centred W^1/2 Phi and quad_d the penalised residual; it is largest at v_d = quad_d / sum w, which leaves a search in
    one dimension. All action dimensions share the ridge, hence one factorisation.

    References
    ----------
    MacKay (1992), Bayesian interpolation, section 4; Bishop (2006), equation 3.86.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> fit = weighted_ridge(x, 2 * x + 1, np.ones(3), ridge=0.0)
    >>> fit.coefficients, fit.intercept, fit.rank
    (array([[2.]]), array([1.]), 1)
    """
    total = weights.sum()
    share = weights / total
    center, intercept = share @ Phi, share @ actions
    root = np.sqrt(weights)[:, None]
    U, s, Vt = svd(root * (Phi - center), full_matrices=False, lapack_driver="gesdd")
    rank = int(np.sum(s > s[0] * max(Phi.shape) * np.finfo(float).eps)) if s.size and s[0] > 0 else 0
    U, s, Vt = U[:, :rank], s[:rank], Vt[:rank]
    target = root * (actions - intercept)
    projected, power = U.T @ target, np.sum(target**2, axis=0)
    if ridge is None:
        ridge, evidence = best_ridge(s**2, projected, power, total)
    else:
        evidence = ridge_evidence(ridge, s**2, projected, power, total) if ridge > 0 else -np.inf
    filtered = s**2 / (s**2 + ridge)
    coefficients = Vt.T @ ((filtered / s)[:, None] * projected)
    once = share + U**2 @ filtered
    twice = share + U**2 @ filtered**2
    annihilated = np.maximum(1 - 2 * once + twice, 0.0)
    return RidgeFit(coefficients, intercept - center @ coefficients, float(ridge), rank, annihilated, float(evidence))


def ridge_evidence(ridge: float, squared: FloatArray, projected: FloatArray, power: FloatArray, total: float) -> float:
    """Log evidence in nats, noise variances profiled out.

    ``-sum_d (total/2)(log(2 pi quad_d/total) + 1) - k/2 sum_j log(1 + e_j/ridge)``.

    Parameters
    ----------
    squared, projected, power, total
        Squared singular values e (r,), rotated targets U'W^1/2 a (r, k), |W^1/2 a|^2 (k,), and sum w.
    """
    explained = (squared / (squared + ridge)) @ projected**2
    quad = power - explained + NOISE_FLOOR * power
    quad = np.where(quad > 0, quad, 1.0)  # actions that do not vary: their term is constant in the ridge
    fit = np.sum(-0.5 * total * (np.log(quad / total) + LOG_2PI + 1))
    return float(fit - 0.5 * len(power) * np.sum(np.log1p(squared / ridge)))


def best_ridge(squared: FloatArray, projected: FloatArray, power: FloatArray, total: float) -> tuple[float, float]:
    """Ridge of largest evidence, found on a logarithmic grid and polished by Brent's method; and its log evidence."""
    if squared.size == 0:
        return 1.0, ridge_evidence(1.0, squared, projected, power, total)
    scale = squared[0]

    def loss(log_ridge: float) -> float:
        return -ridge_evidence(scale * np.exp(log_ridge), squared, projected, power, total)

    grid = np.linspace(*LOG_RIDGE_RANGE, 41)
    step = grid[1] - grid[0]
    start = grid[int(np.argmin([loss(g) for g in grid]))]
    found = minimize_scalar(loss, bounds=(start - step, start + step), method="bounded", options={"xatol": 1e-9})
    return float(scale * np.exp(found.x)), -float(found.fun)
