"""Weighted ridge regression with its evidence: the fit behind the linear and radial-basis policies.

Shapes: N samples, p features, k action dimensions; `Phi` (N, p), `actions` (N, k), `weights` (N,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import svd
from scipy.optimize import minimize_scalar

from policies.gaussian import LOG_2PI
from policies.tolerances import LOG_NOISE_MEAN, LOG_NOISE_STD
from reps_opt.tolerances import CLOSE, ROUNDED, ROUNDING
from reps_opt.validation import FloatArray


@dataclass(frozen=True)
class RidgeFit:
    """Weighted ridge solution ``a ~ Phi coefficients + intercept``.

    `annihilated` (N,) is the diagonal of (I - H~)^2 that the covariance's trace correction wants (`residual_scale`);
    `held_out` (k,) is the weighted mean square of what each sample leaves when the others predict it; `log_evidence` is
    in nats, the log prior of the ridge among it, summed over the action dimensions, noise variances profiled out.
    """

    coefficients: FloatArray
    intercept: FloatArray
    ridge: float
    rank: int
    annihilated: FloatArray
    held_out: FloatArray
    log_evidence: float


@dataclass(frozen=True)
class _Spectrum:
    """What the evidence of a ridge depends on, after one factorisation.

    Squared singular values e (r,) of the centred W^1/2 Phi, rotated targets U'W^1/2 a (r, k), |W^1/2 a|^2 (k,), and the
    sum of the weights.
    """

    squared: FloatArray
    projected: FloatArray
    power: FloatArray
    total: float

    @property
    def samples(self) -> float:
        """Weight of the samples, less the one that the free intercept takes; weights may sum to less than one."""
        return max(self.total - 1, 0.5 * self.total)

    def quad(self, ridge: float) -> FloatArray:
        """Penalised residual ``min_K sum_i w_i (a_i - K'phi_i)^2 + ridge |K|^2`` by action dimension, shape (k,)."""
        explained = (self.squared / (self.squared + ridge)) @ self.projected**2
        return np.maximum(self.power - explained, 0.0)

    def evidence(self, ridge: float) -> float:
        """Log evidence in nats, noise variances profiled out, and the log prior of the noise ratio.

        ``-sum_d (n/2)(log(2 pi quad_d/n) + 1) - k/2 sum_j log(1 + e_j/ridge)``, n the weight of the samples. The prior
        is the Gaussian process's, log-normal on the ratio ``ridge sum w / sum_j e_j`` of noise to the prior variance of
        the mean: features that can interpolate would else take all noise for signal.
        """
        quad = self.quad(ridge) + ROUNDED * self.power
        quad = np.where(quad > 0, quad, 1.0)  # actions that do not vary: their term is constant in the ridge
        fit = np.sum(-0.5 * self.samples * (np.log(quad / self.samples) + LOG_2PI + 1))
        if not self.squared.size:
            return float(fit)
        ratio = np.log(ridge / self.squared.sum()) + np.log(self.total)  # apart: tiny weights would underflow
        z = (ratio - LOG_NOISE_MEAN) / LOG_NOISE_STD
        return float(fit - 0.5 * len(self.power) * np.sum(np.log1p(self.squared / ridge)) - 0.5 * z**2)

    def best_ridge(self) -> float:
        """Ridge of largest evidence, found on a logarithmic grid and polished by Brent's method.

        Beyond the grid's ends the ridge is rounding beside the squared singular values, or they are beside it.
        """
        if not self.squared.size:
            return 1.0
        scale = self.squared[0]

        def loss(log_ridge: float) -> float:
            return -self.evidence(scale * np.exp(log_ridge))

        grid = np.arange(np.log(ROUNDING), -np.log(ROUNDING), np.log(10.0))  # the evidence may have several maxima
        step = grid[1] - grid[0]
        start = grid[int(np.argmin([loss(g) for g in grid]))]
        found = minimize_scalar(loss, bounds=(start - step, start + step), method="bounded", options={"xatol": CLOSE})
        return float(scale * np.exp(found.x))


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
    With weights as powers of the likelihood, noise variance v_d, prior K_d ~ N(0, v_d/ridge I) and a flat one of the
    intercept, the evidence of one action dimension is, up to a constant,
    ``-n/2 log(2 pi v_d) - 1/2 sum_j log(1 + e_j/ridge) - quad_d/(2 v_d)``, n = sum w - 1, e_j the squared singular
    values of the centred W^1/2 Phi and quad_d the penalised residual; it is largest at v_d = quad_d / n, which leaves a
    search in one dimension. All action dimensions share the ridge, hence one factorisation.

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
    spectrum = _Spectrum(s**2, projected, power, float(total))
    ridge = spectrum.best_ridge() if ridge is None else ridge
    evidence = spectrum.evidence(ridge) if ridge > 0 else -np.inf
    filtered = s**2 / (s**2 + ridge)
    coefficients = Vt.T @ ((filtered / s)[:, None] * projected)
    once = share + U**2 @ filtered
    twice = share + U**2 @ filtered**2
    annihilated = np.maximum(1 - 2 * once + twice, 0.0)
    left_out = (target - (U * filtered) @ projected) / np.maximum(1 - once, ROUNDED)[:, None]
    found = coefficients, intercept - center @ coefficients
    return RidgeFit(*found, float(ridge), rank, annihilated, np.sum(left_out**2, axis=0) / total, float(evidence))
