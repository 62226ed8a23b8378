"""What a weighted Gaussian process maximises: evidence, variational bound, or held-out likelihood.

Shapes: N samples, M inducing states, k action dimensions, H kernel hyper-parameters; `actions` (N, k) centred,
`weights` w (N,).

The model, for action dimension d with scale v_d and noise ratio s: f_d ~ GP(0, v_d k), and each sample has the
likelihood ``N(a_id | f_d(x_i), v_d s)^w_i``. Every objective is profiled over v_d in closed form, so that all action
dimensions share the kernel, the noise ratio and one factorisation, of ``B = I + W^1/2 K W^1/2 / s``: its eigenvalues
are at least one, and no step divides by a weight. Each function returns (loss, gradient), in nats; the gradient is in
(theta, log s).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, blas, cholesky, lapack, solve_triangular
from scipy.optimize import minimize

from policies.gaussian import LOG_2PI
from policies.kernels import contract_diagonal, contract_gradient, log_prior
from policies.tolerances import LOG_NOISE_MEAN, LOG_NOISE_STD
from reps_opt.tolerances import CLOSE, ROUNDED, SOLVED
from reps_opt.validation import FloatArray

Loss = tuple[float, FloatArray]


@dataclass(frozen=True)
class Problem:
    """The data of one hyper-parameter search; `groups` (N,) numbers the roll-outs that "loo" leaves out together."""

    states: FloatArray
    actions: FloatArray
    weights: FloatArray
    groups: Any = None
    _kept: dict[int, FloatArray] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def total(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())

    def workspace(self, rows: int) -> FloatArray:
        """Two arrays (2, rows, N) to compute in, the same at every call: fresh memory costs a quarter of an evaluation,
        since the system hands it out page by page."""
        if rows not in self._kept:
            self._kept[rows] = np.empty((2, rows, len(self.states)))
        return self._kept[rows]

    def profiled_variance(self, quad: FloatArray) -> FloatArray:
        """Maximiser ``v_d = quad_d / sum w`` of ``-(sum w) log(v_d)/2 - quad_d/(2 v_d)``, shape (k,)."""
        # log v_d is finite even where the actions do not vary
        floor = ROUNDED * np.maximum(self.weights @ self.actions**2, 0.0)
        quad = np.maximum(quad, floor)
        return np.where(quad > 0, quad, self.total) / self.total


def stable_cholesky(A: FloatArray) -> FloatArray:
    """Lower Cholesky factor of ``A + 1e-10 diag(A)``: of close states, or of kernels at rounding, A itself has none.

    Relative to each diagonal entry, that on ``B = I + S^1/2 K S^1/2`` is one on K: it does not favour heavy samples.
    """
    A = A.copy()
    A[np.diag_indices_from(A)] *= 1 + SOLVED
    try:
        return cholesky(A, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        raise LinAlgError("kernel matrix is not positive definite beyond rounding: check the kernel") from None


def solve_rows(L: FloatArray, columns: FloatArray, transposed: bool = False) -> FloatArray:
    """``L^-1 A`` or ``L^-T A`` for many columns (M, N) in row order, which are overwritten.

    As ``(A'L^-T)'`` BLAS works on the rows where they are; SciPy's routine turns them around and back first.
    """
    return blas.dtrsm(1.0, L, columns.T, side=1, lower=1, trans_a=int(not transposed), overwrite_b=1).T


def exact_factor(K: FloatArray, roots: FloatArray) -> FloatArray:
    """Lower Cholesky factor of ``B = I + S^1/2 K S^1/2``, with `roots` the diagonal of S^1/2, shape (N, N)."""
    B = K * roots[:, None] * roots
    B[np.diag_indices_from(B)] += 1.0
    return stable_cholesky(B)


def exact_loss(kernel: Any, log_noise: float, problem: Problem) -> Loss:
    """Negative log evidence, exact.

    ``k/2 (sum w log(2 pi s) + log|B|) + (sum w)/2 sum_d (log v_d + 1)`` with ``v_d = a_d' R a_d / sum w`` and
    ``R = S^1/2 B^-1 S^1/2``, S = W/s.

    References
    ----------
    Rasmussen, Williams (2006), equations 2.30, 5.9 and algorithm 3.2 (the form of B), with W/s for their W.
    """
    roots = np.sqrt(problem.weights) * np.exp(-0.5 * log_noise)
    K = kernel(problem.states)
    L = exact_factor(K, roots)
    inverse, _ = lapack.dpotri(L, lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    scaled = roots[:, None] * problem.actions
    solved = inverse @ scaled
    variance = problem.profiled_variance(np.sum(scaled * solved, axis=0))
    k, n = problem.actions.shape[1], len(K)
    log_det = 2 * np.sum(np.log(np.diagonal(L)))
    loss = 0.5 * k * (problem.total * (LOG_2PI + log_noise) + log_det)
    loss += 0.5 * problem.total * np.sum(np.log(variance) + 1)
    noise = 0.5 * k * (problem.total - n + np.trace(inverse)) - 0.5 * np.sum(np.sum(solved**2, axis=0) / variance)
    pull = roots[:, None] * solved
    inverse *= roots[:, None] * roots
    G = 0.5 * (k * inverse - (pull / variance) @ pull.T)
    return float(loss), np.append(contract_gradient(kernel, problem.states, None, K, G), noise)


def sparse_loss(kernel: Any, log_noise: float, problem: Problem, inducing: FloatArray) -> Loss:
    """Negative variational bound on the log evidence, collapsed over the inducing values.

    With P = K_zx S^1/2 and Q = P'K_zz^-1 P: ``exact_loss`` with Q for S^1/2 K S^1/2, plus ``k/2 tr(S K - Q)``.

    References
    ----------
    Titsias (2009), Variational learning of inducing variables in sparse Gaussian processes, equation 9.
    """
    total, k = problem.total, problem.actions.shape[1]
    roots = np.sqrt(problem.weights) * np.exp(-0.5 * log_noise)
    Kzz, Kzx = kernel(inducing), kernel(inducing, problem.states)
    L = stable_cholesky(Kzz)
    white, G = problem.workspace(len(L))
    white = solve_rows(L, np.multiply(Kzx, roots, out=white))
    gram = white @ white.T
    LB = stable_cholesky(gram + np.eye(len(gram)))
    scaled = roots[:, None] * problem.actions
    beta = solve_triangular(LB, white @ scaled, lower=True, check_finite=False)
    beta = solve_triangular(LB, beta, lower=True, trans=1, check_finite=False)
    residual = scaled - white.T @ beta
    variance = problem.profiled_variance(np.sum(scaled * residual, axis=0))
    diagonal = roots**2 @ kernel.diag(problem.states)
    loss = 0.5 * k * (total * (LOG_2PI + log_noise) + 2 * np.sum(np.log(np.diagonal(LB))) + diagonal - np.trace(gram))
    loss += 0.5 * total * np.sum(np.log(variance) + 1)

    # In whitened inducing space: B^-1 - I against P, then back through L.
    inverse, _ = lapack.dpotri(LB, lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    shrink = k * (inverse - np.eye(len(gram)))
    pull = beta / variance
    np.matmul(shrink, white, out=G)
    G = blas.dgemm(-1.0, residual, pull, 1.0, G.T, trans_b=1, overwrite_c=1).T
    noise = -0.5 * np.vdot(G, white) - 0.5 * k * diagonal
    G = solve_rows(L, G, transposed=True)
    G *= roots
    core = 0.5 * (shrink + pull @ beta.T + k * gram)
    G_zz = solve_triangular(L, solve_triangular(L, core, lower=True, trans=1).T, lower=True, trans=1)
    gradient = contract_gradient(kernel, inducing, problem.states, Kzx, G)
    gradient = gradient + contract_gradient(kernel, inducing, None, Kzz, G_zz)
    gradient = gradient + 0.5 * k * contract_diagonal(kernel, problem.states, roots**2)
    return float(loss), np.append(gradient, noise)


def loo_loss(kernel: Any, log_noise: float, problem: Problem) -> Loss:
    """Negative weighted log-likelihood of each sample, predicted without its group.

    ``-sum_i w_i log N(a_i | m_i, v (c_i + s))``, with m_i and v c_i predicted by the samples outside i's group.
    Removing a group g from the posterior with mean m and covariance V divides by ``D = I - V_gg S_g``, which for single
    samples is [B^-1]_ii: held-out residual ``r = D^-1 (a - m)``, covariance ``D^-1 V_gg``. No weight is divided by.

    References
    ----------
    Rasmussen, Williams (2006), equations 5.10 - 5.13, for groups of one.
    """
    S = problem.weights * np.exp(-log_noise)
    K = kernel(problem.states)
    A, V, left = posterior_parts(K, S, problem.actions)
    weighted, fitted = S[:, None] * problem.actions, problem.actions - left
    removed = [remove_group(V, S, left, g) for g in group_members(problem)]
    residual, variance, pull = (np.zeros_like(part) for part in (problem.actions, S, problem.actions))
    for group in removed:
        residual[group.members], variance[group.members] = group.residual, np.diagonal(group.covariance)
    spread = np.maximum(variance, 0.0) + np.exp(log_noise)
    scale = problem.profiled_variance((problem.weights / spread) @ residual**2)
    k, w = residual.shape[1], problem.weights
    loss = 0.5 * k * w @ (np.log(spread) + LOG_2PI) + 0.5 * problem.total * np.sum(np.log(scale) + 1)

    # Adjoints: of r and of the held-out variances; then, through D, of V and of the residuals before removal.
    r_bar = (w / spread)[:, None] * residual / scale
    c_bar = 0.5 * w * (k / spread - residual**2 @ (1 / scale) / spread**2)
    V_bar, noise = np.zeros_like(V), float(c_bar.sum() * np.exp(log_noise))
    for group in removed:
        g, D_inv = group.members, group.inverse
        pull[g] = D_inv.T @ r_bar[g]
        Sr, Vg = S[g, None] * group.residual, V[np.ix_(g, g)]
        V_bar[np.ix_(g, g)] += pull[g] @ Sr.T + (D_inv.T * c_bar[g]) @ D_inv
        noise -= np.sum(pull[g] * (Vg @ Sr)) + c_bar[g] @ np.diagonal(D_inv @ (Vg * S[g]) @ group.covariance)
    V_bar -= pull @ weighted.T
    noise += np.sum(pull * fitted) + np.sum(V_bar * ((V * S) @ V))
    return float(loss), np.append(contract_gradient(kernel, problem.states, None, K, A.T @ V_bar @ A), noise)


def posterior_parts(K: FloatArray, S: FloatArray, actions: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """``A = I - K R`` (N, N), the posterior covariance ``V = A K``, and ``A a = a - m`` (N, k), to full precision.

    Where the noise is small, ``A = S^-1/2 B^-1 S^1/2`` and ``V = S^-1/2 (I - B^-1) S^-1/2`` say the same without a
    difference of nearly equal numbers; where S is small it is the other way round, so each row takes its better form.
    """
    roots = np.sqrt(S)
    inverse, _ = lapack.dpotri(exact_factor(K, roots), lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    strong = S >= 1.0
    divided = 1.0 / np.where(strong, roots, 1.0)
    A = np.eye(len(K)) - (K * roots) @ (inverse * roots)
    A[strong] = (inverse * roots)[strong] * divided[strong, None]
    V = A @ K
    V[np.ix_(~strong, strong)] = V[np.ix_(strong, ~strong)].T
    pairs = np.ix_(strong, strong)
    V[pairs] = ((np.eye(len(K)) - inverse) * divided * divided[:, None])[pairs]
    return A, V, A @ actions


@dataclass(frozen=True)
class RemovedGroup:
    """What the other samples predict for a group: residual D^-1 (a - m), covariance D^-1 V_gg; and D^-1."""

    members: NDArray[np.intp]
    residual: FloatArray
    covariance: FloatArray
    inverse: FloatArray


def remove_group(V: FloatArray, S: FloatArray, residual: FloatArray, members: NDArray[np.intp]) -> RemovedGroup:
    """Take a group's likelihood out of the posterior with covariance V (N, N) and residuals a - m (N, k)."""
    Vg = V[np.ix_(members, members)]
    inverse: FloatArray = np.asarray(np.linalg.inv(np.eye(len(members)) - Vg * S[members]), dtype=np.float64)
    return RemovedGroup(members, inverse @ residual[members], inverse @ Vg, inverse)


def group_members(problem: Problem) -> list[NDArray[np.intp]]:
    """Indices of each group's samples; every sample alone where there are no groups."""
    if problem.groups is None:
        return list(np.arange(len(problem.states))[:, None])
    return [np.flatnonzero(problem.groups == g) for g in np.unique(problem.groups)]


def maximise(
    loss: Callable[[Any, float], Loss], starts: Sequence[Any], noise: float, max_iter: int
) -> tuple[Any, float, float, int]:
    """Minimise a loss plus the negative log priors by L-BFGS-B, from the best of the starting kernels.

    Returns
    -------
    kernel, noise, objective, n_iter
        The kernel at its best theta, the noise ratio s, the maximised objective (log priors included) in nats, and the
        iterations taken.
    """

    worst = np.inf

    def penalised(t: FloatArray) -> Loss:
        trial = starts[0].clone_with_theta(t[:-1])
        try:
            value, gradient = loss(trial, t[-1])
        except LinAlgError:  # a kernel that is none at some of its parameters: the line search turns back
            if not np.isfinite(worst):
                raise
            return worst, np.zeros_like(t)
        prior, slope = log_prior(trial)
        z = (t[-1] - LOG_NOISE_MEAN) / LOG_NOISE_STD
        return value - prior + 0.5 * z**2, gradient + np.append(-slope, z / LOG_NOISE_STD)

    # With less noise K / s leaves too few digits for B = I + K / s. There is no upper end: in a box L-BFGS-B takes its
    # first step as far as it gets, to where slopes say nothing, and without one a step of length one.
    bounds = np.vstack([np.asarray(starts[0].bounds).reshape(-1, 2), (np.log(SOLVED), np.inf)])
    points = [np.clip(np.append(kernel.theta, np.log(noise)), bounds[:, 0], bounds[:, 1]) for kernel in starts]
    values = [penalised(t)[0] for t in points]
    best = points[int(np.argmin(values))]
    worst = min(values) + 10 * (1 + abs(min(values)))
    options = {"maxiter": max_iter, "ftol": CLOSE}
    found = minimize(penalised, best, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    kernel = starts[0].clone_with_theta(found.x[:-1])
    return kernel, float(np.exp(found.x[-1])), -float(found.fun), int(found.nit)
