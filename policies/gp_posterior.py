"""Three representations of a weighted Gaussian-process posterior behind one formula.

Shapes: N samples, M basis functions, k action dimensions, r <= M; basis b(x) (M,), `alpha` (M, k), `root` (r, M).

Whatever the method, at a state x
    mean_d(x) = b(x)'alpha_d,        variance_d(x) = v_d (k(x, x) - |root b(x)|^2 + s).
The basis is the kernel at the samples (exact) or at inducing states (sparse), or random Fourier features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from policies.checks import random_source
from policies.gp_objectives import Problem, exact_factor, stable_cholesky
from reps_opt.rows import chunks
from reps_opt.tolerances import CHUNK_BYTES, ROUNDING
from reps_opt.validation import FloatArray


@dataclass(frozen=True)
class KernelBasis:
    """``b(x) = k(centres, x)``, prior variance k(x, x)."""

    kernel: Any
    centres: FloatArray

    def __call__(self, states: FloatArray) -> FloatArray:
        """Basis at states (N, d), shape (M, N)."""
        return self.kernel(self.centres, states)

    def prior(self, states: FloatArray) -> FloatArray:
        """Prior variance in units of v_d, shape (N,)."""
        return self.kernel.diag(states)


@dataclass(frozen=True)
class FourierFunctions:
    """``b(x) = sqrt(1/R) (cos, sin)(frequencies' e(x))``, M = 2 R: ``b(x)'b(z)`` approximates the kernel, and |b(x)|
    = 1.

    References
    ----------
    Rahimi, Recht (2007), section 3; Lazaro-Gredilla et al. (2010), Sparse spectrum Gaussian process regression.
    """

    kernel: Any
    frequencies: FloatArray

    def __call__(self, states: FloatArray) -> FloatArray:
        """Basis at states (N, d), shape (M, N)."""
        phase = self.frequencies.T @ self.kernel.embed(states).T
        return np.vstack([np.cos(phase), np.sin(phase)]) / np.sqrt(self.frequencies.shape[1])

    def prior(self, states: FloatArray) -> FloatArray:
        """One, shape (N,)."""
        return np.ones(len(states))


@dataclass(frozen=True)
class Posterior:
    """Mean and variance of the latent action at any state, see the module's formula; `variance` holds v_d, shape
    (k,)."""

    basis: KernelBasis | FourierFunctions
    alpha: FloatArray
    root: FloatArray
    variance: FloatArray
    noise: float

    def moments(self, states: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Means and standard deviations of the action, noise included, each (N, k), in chunks of bounded memory."""
        mean, spread = np.empty((len(states), len(self.variance))), np.empty(len(states))
        for part in chunks(len(states), len(self.alpha)):
            b = self.basis(states[part])
            mean[part] = b.T @ self.alpha
            explained = self.root @ b
            spread[part] = self.basis.prior(states[part]) - np.einsum("rn,rn->n", explained, explained)
        spread = np.maximum(spread, 0.0) + self.noise
        return mean, np.sqrt(spread[:, None] * self.variance)


def exact_posterior(kernel: Any, noise: float, problem: Problem) -> Posterior:
    """Basis at all samples: ``alpha = R a`` and ``root = L^-1 S^1/2``, with R and B = L L' as in ``exact_loss``."""
    roots = np.sqrt(problem.weights / noise)
    L = exact_factor(kernel(problem.states), roots)
    root = solve_triangular(L, np.diag(roots), lower=True, check_finite=False)
    scaled = roots[:, None] * problem.actions
    whitened = solve_triangular(L, scaled, lower=True, check_finite=False)
    variance = problem.profiled_variance(np.sum(whitened**2, axis=0))
    return Posterior(KernelBasis(kernel, problem.states), root.T @ whitened, root, variance, noise)


def sparse_posterior(kernel: Any, noise: float, problem: Problem, inducing: FloatArray) -> Posterior:
    """Basis at inducing states: the optimal variational posterior (Titsias 2009, equation 10)."""
    basis = KernelBasis(kernel, inducing)
    return reduced_posterior(basis, stable_cholesky(kernel(inducing)), noise, problem)


def feature_posterior(kernel: Any, noise: float, problem: Problem, n_features: int, random_state: Any) -> Posterior:
    """Basis of random Fourier features: Bayesian linear regression with unit prior covariance."""
    e = kernel.embed(problem.states[:1]).shape[1]
    frequencies = random_source(random_state).normal(size=(e, n_features))
    return reduced_posterior(FourierFunctions(kernel, frequencies), np.eye(2 * n_features), noise, problem)


def reduced_posterior(basis: Any, L: FloatArray, noise: float, problem: Problem) -> Posterior:
    """Posterior in M basis functions of prior precision L L', accumulated over chunks of samples by QR.

    Rows of ``[(L^-1 b(X) S^1/2)', S^1/2 a]`` reduce to the triangle ``[[R, c], [0, d]]``; with ``R = Q diag(e) V'``,

        alpha = L^-T V diag(e / (1 + e^2)) Q'c,        v = (|d|^2 + sum_j (Q'c)_j^2 / (1 + e_j^2)) / sum w,
        root  = diag(e^2 / (1 + e^2))^1/2 V'L^-1.

    No Gram matrix is formed and nothing cancels, so weights may span as many decades as float64 has digits.
    """
    M, k = len(L), problem.actions.shape[1]
    precision = problem.weights / noise
    triangle = np.zeros((0, M + k))
    for part in chunks(len(precision), M + k, 4 * CHUNK_BYTES):
        roots = np.sqrt(precision[part])
        white = solve_triangular(L, basis(problem.states[part]) * roots, lower=True, check_finite=False)
        rows = np.hstack([white.T, roots[:, None] * problem.actions[part]])
        triangle = np.asarray(np.linalg.qr(np.vstack([triangle, rows]), mode="r"))
    Q, e, Vt = np.linalg.svd(triangle[:M, :M], full_matrices=False)
    c = Q.T @ triangle[:M, M:]
    alpha = solve_triangular(L, Vt.T @ ((e / (1 + e**2))[:, None] * c), lower=True, trans=1, check_finite=False)
    quad = np.sum(triangle[M:, M:] ** 2, axis=0) + (1 / (1 + e**2)) @ c**2
    shrink = e**2 / (1 + e**2)
    informed = shrink > ROUNDING  # of the prior variance: the root leaves out directions that the data say nothing of
    half = Vt[informed].T * np.sqrt(shrink[informed])
    root = solve_triangular(L, half, lower=True, trans=1, check_finite=False).T
    return Posterior(basis, alpha, root, problem.profiled_variance(quad), noise)
