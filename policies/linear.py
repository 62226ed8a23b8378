"""Linear-Gaussian policy: the mean is linear in features of the state, the covariance is one for all states.

Shapes: N samples, d state dimensions, p features, k action dimensions; gains (p, k). Parameters, P = (p + 1) k + c: the
gains row by row, the intercept, then the covariance's factor (log standard deviations, c = k; or the lower triangle
with a logarithmic diagonal, c = k (k + 1) / 2).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from policies.actors import Act, AffineMean, GaussianActor, compiled_basis
from policies.features import weighted_spread
from policies.gaussian import Gaussian, action_floor, mix_scales, residual_scale, whiten
from policies.gaussian_policy import GaussianPolicy
from policies.linear_features import LinearMixin, fit_features, transform
from policies.regression import RidgeFit, weighted_ridge
from policies.spaces import Observations
from reps_opt.validation import FloatArray, as_float_array, as_scalar


class LinearGaussianPolicy(LinearMixin, GaussianPolicy):
    """Policy ``a ~ N(K' phi(s) + b, C)`` fitted by weighted Bayesian ridge regression.

    Parameters
    ----------
    features
        Any transformer with ``fit`` and ``transform`` (it is cloned); None for the state itself.
    ridge
        Penalty on the squared gains, in units of the weights times squared features; without `features`, states
        are measured in weighted standard deviations. "evidence" picks it by maximal marginal likelihood, 0 is the
        minimum-norm least-squares fit.
    covariance
        "diagonal", or "full" to keep the correlations between action dimensions.
    min_std
        Smallest standard deviation, as a fraction of the actions' own.
    n_states
        Number of discrete states, given as indices (or one-hot rows) and seen as one-hot rows; None for numbers.

    Attributes
    ----------
    coef_, intercept_
        Gains K (p, k) and intercept b (k,).
    scale_
        Lower-triangular factor of the trace-corrected covariance C, shape (k, k).
    ridge_, rank_, log_evidence_
        The penalty used, the rank of the centred features, and the evidence in nats (minus infinity for ridge 0).

    Notes
    -----
    Gains and intercept see a weight of two as a sample seen twice. The covariance does not: it is divided by the
    freedom that the fit leaves to the noise of the samples there are, which makes it unbiased under any weights, and
    two samples have more freedom than one of weight two. Residuals of held-out samples take part by the freedom spent,
    so that features that interpolate do not leave the policy without noise.

    References
    ----------
    Deisenroth, Neumann, Peters (2013), A survey on policy search for robotics, section 2.4.2.4 (weighted
    maximum likelihood).

    Examples
    --------
    >>> states = np.linspace(-1, 1, 5)[:, None]
    >>> policy = LinearGaussianPolicy(ridge=0.0).fit(states, 2 * states[:, 0] + 1)
    >>> policy.predict([[3.0]])
    array([7.])
    >>> act = policy.compile(low=-2, high=2)
    >>> float(act([3.0]))
    2.0
    """

    def __init__(
        self,
        features: Any = None,
        ridge: float | Literal["evidence"] = "evidence",
        covariance: Literal["diagonal", "full"] = "diagonal",
        min_std: float = 1e-6,
        n_states: int | None = None,
    ) -> None:
        self.features = features
        self.ridge = ridge
        self.covariance = covariance
        self.min_std = min_std
        self.n_states = n_states

    def _fit(self, states: FloatArray, actions: FloatArray, weights: FloatArray, kept: Any) -> None:
        floor = action_floor(actions, weights, as_scalar(self.min_std, "min_std", low=0, low_open=True))
        Phi, fit = self._fit_mean(states, actions, weights, kept)
        self.coef_, self.intercept_ = fit.coefficients, fit.intercept
        self.ridge_, self.rank_, self.log_evidence_ = fit.ridge, fit.rank, fit.log_evidence
        held_out = None if fit.ridge == 0 else fit.held_out
        residuals = actions - Phi @ self.coef_ - self.intercept_
        self.scale_ = residual_scale(residuals, weights, fit.annihilated, floor, self.covariance == "full", held_out)

    def _check_options(self) -> None:
        if self.covariance not in ("diagonal", "full"):
            raise ValueError(f"covariance must be 'diagonal' or 'full', got {self.covariance!r}")
        if not (isinstance(self.ridge, str) and self.ridge == "evidence"):
            as_scalar(self.ridge, "ridge", low=0)

    @property
    def _has_prior(self) -> bool:
        return self.ridge != 0

    def _fit_mean(
        self, states: FloatArray, actions: FloatArray, weights: FloatArray, kept: Any
    ) -> tuple[FloatArray, RidgeFit]:
        """Fit the feature map, unless one is `kept`, and the gains; returns the features (N, p) too."""
        self.features_ = fit_features(self._transformer(), states, weights) if kept is None else kept
        Phi = transform(self.features_, states)
        unit = weighted_spread(states, weights) if self.features_ is None else np.ones(Phi.shape[1])
        fit = weighted_ridge(Phi / unit, actions, weights, self._given_ridge)
        return Phi, replace(fit, coefficients=fit.coefficients / unit[:, None])

    def _start(
        self, observed: Observations, typical: FloatArray, centre: FloatArray, unit: FloatArray, std: float
    ) -> None:
        self._start_gains(typical, len(centre))
        self.intercept_, self.scale_ = centre, np.diag(std * unit)
        self.ridge_, self.rank_, self.log_evidence_ = 0.0, 0, -np.inf

    def _mix(self, old: Any, share: float) -> None:
        self.scale_, gain = mix_scales(self.scale_, old.scale_, share)
        self.coef_ = old.coef_ + (self.coef_ - old.coef_) @ gain.T
        self.intercept_ = old.intercept_ + gain @ (self.intercept_ - old.intercept_)
        self.covariance = "full" if "full" in (self.covariance, old.covariance) else "diagonal"

    def _distribution(self, states: FloatArray) -> Gaussian:
        return Gaussian(self._outputs(states), self.scale_[None])

    def _free(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the covariance factor's free entries."""
        k = len(self.scale_)
        return np.tril_indices(k) if self.covariance == "full" else (np.arange(k), np.arange(k))

    @property
    def params(self) -> FloatArray:
        """Gains row by row, intercept, covariance factor with a logarithmic diagonal, shape (P,)."""
        check_is_fitted(self)
        free = self._free()
        entries = self.scale_[free]
        diagonal = free[0] == free[1]
        entries[diagonal] = np.log(entries[diagonal])
        return np.concatenate([self.coef_.reshape(-1), self.intercept_, entries])

    def with_params(self, params: ArrayLike) -> Self:
        """A copy of the policy with these parameters, in the order of :attr:`params`."""
        check_is_fitted(self)
        free, n_gains, k = self._free(), self.coef_.size, len(self.scale_)
        vector = as_float_array(params, "params", (n_gains + k + len(free[0]),))
        policy = copy.copy(self)
        policy.coef_ = vector[:n_gains].reshape(self.coef_.shape).copy()
        policy.intercept_ = vector[n_gains : n_gains + k].copy()
        entries = vector[n_gains + k :].copy()
        diagonal = free[0] == free[1]
        entries[diagonal] = np.exp(entries[diagonal])
        policy.scale_ = np.zeros((k, k))
        policy.scale_[free] = entries
        return policy

    def score_function(self, states: ArrayLike, actions: ArrayLike) -> FloatArray:
        """Gradient of log pi(a|s) in the parameters, shape (N, P).

        With z = L^-1 (a - mean) and u = L^-T z: ``phi u'`` for the gains, ``u`` for the intercept, ``u_i z_j`` for an
        entry L_ij, and ``L_ii u_i z_i - 1`` for the logarithm of a diagonal one.
        """
        check_is_fitted(self)
        checked = self._check_states(states)
        distribution = self._distribution(checked)
        z = whiten(distribution.scale, self._check_actions(actions, len(checked)) - distribution.mean)
        u = np.linalg.solve(self.scale_.T, z.T).T
        Phi = self._regressors(checked)
        gains = (Phi[:, :, None] * u[:, None, :]).reshape(len(checked), -1)
        rows, columns = self._free()
        factor = u[:, rows] * z[:, columns]
        diagonal = rows == columns
        factor[:, diagonal] = factor[:, diagonal] * np.diagonal(self.scale_) - 1
        return np.hstack([gains, factor])

    def fisher_factor(self, states: ArrayLike) -> FloatArray:
        """J with ``J'J / len(J)`` the mean Fisher information; shape (N k + c, P).

        The mean contributes ``L^-1 d mean`` at each state. The covariance contributes ``|M + M'|_F^2 / 2`` with
        M = L^-1 dL, the same at every state: ``2 sum_i M_ii^2 + sum_{i>j} M_ij^2``.
        """
        check_is_fitted(self)
        checked = self._check_states(states)
        k, rows, columns = len(self.scale_), *self._free()
        inverse = np.linalg.solve(self.scale_, np.eye(k))
        Phi = self._regressors(checked)
        mean = np.einsum("np,ij->nipj", Phi, inverse).reshape(len(checked) * k, -1)
        slope = np.where(rows == columns, np.diagonal(self.scale_)[columns], 1.0)
        M = np.zeros((k, k, len(rows)))
        M[:, columns, np.arange(len(rows))] = inverse[:, rows] * slope
        factor = np.where(rows == columns, np.sqrt(2), 1.0)[:, None] * M[rows, columns]
        J = np.zeros((len(mean) + len(rows), mean.shape[1] + len(rows)))
        J[: len(mean), : mean.shape[1]] = mean
        J[len(mean) :, mean.shape[1] :] = np.sqrt(len(checked)) * factor
        return np.sqrt(len(J) / len(checked)) * J

    def _actor(self, low: FloatArray, high: FloatArray) -> Act:
        mean = AffineMean(compiled_basis(self.features_), self.coef_, self.intercept_)
        return GaussianActor(mean, self.scale_, low, high)
