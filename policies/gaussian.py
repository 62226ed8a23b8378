"""Gaussian action distributions: density, divergence, samples, and the covariance of weighted residuals.

Shapes: N states, k action dimensions; `mean` (N, k); `scale` (N, k, k) or (1, k, k), lower triangular, covariance
``scale @ scale.T``. Log-densities and divergences are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from reps_opt.tolerances import ROUNDING
from reps_opt.validation import FloatArray

LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Gaussian:
    """One Gaussian per state, N(mean, scale scale').

    Parameters
    ----------
    mean
        Means, shape (N, k).
    scale
        Lower-triangular factors of the covariances, shape (N, k, k), or (1, k, k) when all states share one.

    Examples
    --------
    >>> p = Gaussian.diagonal(np.zeros((1, 2)), np.ones(2))
    >>> q = Gaussian.diagonal(np.ones((1, 2)), np.ones(2))
    >>> p.kl(q)
    array([1.])
    """

    mean: FloatArray
    scale: FloatArray

    @classmethod
    def diagonal(cls, mean: FloatArray, std: FloatArray) -> Gaussian:
        """Independent action dimensions with standard deviations ``std``, shape (k,) or (N, k)."""
        std = np.atleast_2d(std)
        return cls(mean, std[:, :, None] * np.eye(std.shape[1]))

    @property
    def std(self) -> FloatArray:
        """Marginal standard deviations, shape (N, k)."""
        return np.broadcast_to(np.linalg.norm(self.scale, axis=2), self.mean.shape)

    def log_prob(self, actions: FloatArray) -> FloatArray:
        """Log-density ``-|scale^-1 (a - mean)|^2/2 - log|scale| - k/2 log 2 pi`` in nats, shape (N,)."""
        whitened = whiten(self.scale, actions - self.mean)
        k = self.mean.shape[1]
        return -0.5 * np.sum(whitened**2, axis=1) - log_determinant(self.scale) - 0.5 * k * LOG_2PI

    def sample(self, rng: np.random.Generator) -> FloatArray:
        """One action per state, shape (N, k)."""
        noise = rng.standard_normal(self.mean.shape)
        return self.mean + np.einsum(
            "nij,nj->ni", np.broadcast_to(self.scale, (*self.mean.shape, noise.shape[1])), noise
        )

    def kl(self, other: Gaussian) -> FloatArray:
        """KL(self ‖ other) per state in nats, shape (N,).

        With M = other.scale^-1 self.scale and z = other.scale^-1 (self.mean - other.mean):
        ``(|M|_F^2 + |z|^2 - k) / 2 - log|M|``.
        """
        k = self.mean.shape[1]
        frobenius = _squared_ratio(self.scale, other.scale)
        distance = np.sum(whiten(other.scale, self.mean - other.mean) ** 2, axis=1)
        log_ratio = log_determinant(other.scale) - log_determinant(self.scale)
        return np.maximum(0.5 * (frobenius + distance - k) + log_ratio, 0.0)

    def mixture(self, old: Gaussian, share: float) -> Gaussian:
        """The Gaussian of natural parameters ``share self + (1 - share) old``, one factor for all states in each.

        Precisions mix, ``S^-1 = share S_1^-1 + (1 - share) S_0^-1``, and means by gain: ``m_0 + G (m_1 - m_0)``.
        """
        scale, gain = mix_scales(self.scale[0], old.scale[0], share)
        return Gaussian(old.mean + (self.mean - old.mean) @ gain.T, scale[None])


def mix_scales(new: FloatArray, old: FloatArray, share: float) -> tuple[FloatArray, FloatArray]:
    """Factor L of the covariance whose precision is the mixture's, and the gain G = share L L' S_1^-1, both (k, k).

    By QR of the stacked whiteners, so that no precision matrix is formed.

    Examples
    --------
    >>> mix_scales(np.array([[1.0]]), np.array([[0.5]]), share=0.5)  # precisions 1 and 4
    (array([[0.632]]), array([[0.2]]))
    """
    identity = np.eye(len(new))
    whiteners = [np.linalg.solve(factor, identity) for factor in (new, old)]
    stacked = np.vstack([np.sqrt(share) * whiteners[0], np.sqrt(1 - share) * whiteners[1]])
    # With the columns reversed, the triangle of the precision becomes a lower factor of the covariance.
    upper: FloatArray = np.asarray(np.linalg.qr(stacked[:, ::-1], mode="r"))
    scale = np.tril(np.linalg.solve(upper[::-1, ::-1], identity))
    scale *= np.where(np.diagonal(scale) < 0, -1.0, 1.0)
    return scale, share * scale @ (scale.T @ whiteners[0].T @ whiteners[0])


def whiten(scale: FloatArray, residuals: FloatArray) -> FloatArray:
    """Solve ``scale z = residuals`` state by state by forward substitution; shapes (N or 1, k, k) and (N or 1, k)."""
    std = _common_std(scale)
    if std is not None:  # as the triangular solver does: one row divided, several multiplied by reciprocals
        return residuals / std if len(residuals) == 1 else residuals * (1 / std)
    if len(scale) == 1:  # one factor for all
        return scipy.linalg.lapack.dtrtrs(scale[0], residuals.T, lower=True)[0].T
    n = max(len(scale), len(residuals))
    z = np.empty((n, residuals.shape[1]))
    for i in range(residuals.shape[1]):
        known = np.sum(scale[:, i, :i] * z[:, :i], axis=1)
        z[:, i] = (residuals[:, i] - known) / scale[:, i, i]
    return z


def _common_std(scale: FloatArray) -> FloatArray | None:
    """Standard deviations (k,) of a diagonal factor that all states share, else None."""
    diagonal = scale[0].diagonal()
    return (
        diagonal if len(scale) == 1 and np.count_nonzero(scale) == np.count_nonzero(diagonal) == len(diagonal) else None
    )


def _squared_ratio(scale: FloatArray, other: FloatArray) -> Any:
    """Frobenius norm of ``other^-1 scale``, squared, of each state: a number where both are shared and diagonal."""
    mine, theirs = _common_std(scale), _common_std(other)
    if mine is not None and theirs is not None:
        return sum(((mine / theirs) ** 2).tolist())
    columns = [whiten(other, scale[:, :, j]) for j in range(scale.shape[2])]
    return sum(np.sum(column**2, axis=1) for column in columns)


def log_determinant(scale: FloatArray) -> FloatArray:
    """Log-determinant of each lower-triangular factor, shape (N or 1,)."""
    return np.sum(np.log(np.diagonal(scale, axis1=1, axis2=2)), axis=1)


def residual_scale(
    residuals: FloatArray,
    weights: FloatArray,
    annihilated: FloatArray,
    floor: FloatArray,
    full: bool,
    held_out: FloatArray | None = None,
) -> FloatArray:
    """Triangular factor of the trace-corrected covariance of weighted residuals.

    A linear smoother H fitted to the weights W leaves residuals e = (I - H) y, and noise of covariance C gives
    ``E[e' W e] = C tr(W (I - H)(I - H)')``. So C is estimated by ``e' W e`` over that trace, not over sum w:
    unbiased for any weights when the mean lies in the features' span.

    Parameters
    ----------
    residuals
        e, shape (N, k).
    weights
        w >= 0, shape (N,).
    annihilated
        Diagonal of (I - H~)^2, with H~ = W^1/2 H W^-1/2 the symmetric smoother, shape (N,); its product with w sums to
        the trace above, and needs no division by w.
    floor
        Smallest standard deviation of each action dimension, shape (k,).
    full
        Whether to keep the correlations between action dimensions.
    held_out
        Mean squares (k,) of residuals predicted by the other samples. They stand in for every degree of freedom that
        the fit has spent: where none is left, its own residuals say nothing. None for these alone.

    Returns
    -------
    ndarray
        Lower-triangular scale, shape (k, k). Where nothing is left to estimate from (as many features as samples, one
        sample, an exact fit) it is that of `held_out`, or the floor.

    References
    ----------
    Hastie, Tibshirani, Friedman (2009), *The elements of statistical learning*, equation 5.16 for H.

    Examples
    --------
    Unweighted with a fitted mean, it is the unbiased sample variance.

    >>> e, w = np.array([[-1.0], [0.0], [1.0]]), np.ones(3)
    >>> residual_scale(e, w, np.full(3, 2 / 3), floor=np.zeros(1), full=False)
    array([[1.]])
    """
    k = residuals.shape[1]
    total, trace = float(np.sum(weights)), float(np.sum(weights * annihilated))
    prior = np.zeros((0, k))
    if held_out is not None:
        prior = np.diag(np.sqrt((1 - trace / total) * held_out))
        trace = total
    if trace <= ROUNDING * total:
        return np.diag(floor)
    root = np.vstack([np.sqrt(weights / trace)[:, None] * residuals, prior])
    if not full or k == 1:
        return np.diag(np.maximum(np.sqrt(np.sum(root**2, axis=0)), floor))
    # QR of the stacked residuals and floor: a Cholesky factor of C + diag(floor^2) that never forms C.
    upper = np.linalg.qr(np.vstack([root, np.diag(floor)]), mode="r")
    signs = np.where(np.diagonal(upper) < 0, -1.0, 1.0)
    return (signs[:, None] * upper).T


def action_scale(
    actions: FloatArray, weights: FloatArray, fraction: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weighted mean, standard deviation and :func:`action_floor` of each action dimension, all (k,).

    The deviation is the floor at least, so that actions can be divided by it.
    """
    share = weights / weights.sum()
    offset, floor = share @ actions, action_floor(actions, weights, fraction)
    return offset, np.maximum(np.sqrt(share @ (actions - offset) ** 2), floor), floor


def action_floor(actions: FloatArray, weights: FloatArray, fraction: float) -> FloatArray:
    """Smallest standard deviation per action dimension, shape (k,).

    ``fraction`` of the actions' weighted standard deviation; of their root mean square where they do not vary, and of
    one where they are all zero.
    """
    total = np.sum(weights)
    mean = weights @ actions / total
    std = np.sqrt(weights @ (actions - mean) ** 2 / total)
    rms = np.sqrt(weights @ actions**2 / total)
    varies = std > ROUNDING * rms
    return fraction * np.where(varies, std, np.where(rms > 0, rms, 1.0))
