"""Radial-basis-function policy: a linear-Gaussian policy on features whose width the evidence chooses.

Shapes: N samples, d state dimensions, p features, k action dimensions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from policies.features import FourierFeatures, RBFFeatures, weighted_spread
from policies.linear import LinearGaussianPolicy
from policies.linear_features import fit_features, transform
from policies.regression import RidgeFit, weighted_ridge
from policies.tolerances import BANDWIDTHS, LOG_PRIOR_STD
from reps_opt.validation import FloatArray, as_count


class RBFPolicy(LinearGaussianPolicy):
    """Policy ``a ~ N(K' phi(s) + b, C)`` with bumps (or random Fourier features) as phi.

    Parameters
    ----------
    n_features
        Number of features p; at most one bump per distinct state.
    placement
        "kmeans" for bumps at weighted k-means centres, "random" for random Fourier features of the same kernel.
    bandwidth
        Width per state dimension, scalar or (d,), in units of the state. "evidence" tries multiples of sqrt(d) weighted
        standard deviations (1/32 .. 4) and keeps the one of largest marginal likelihood, under the same weak prior as
        the Gaussian process's length-scales; it needs ridge > 0.
    ridge, covariance, min_std, n_states
        As in :class:`LinearGaussianPolicy`.
    random_state
        Seed of the placement.

    Attributes
    ----------
    features_
        The fitted :class:`RBFFeatures` or :class:`FourierFeatures`; the others are :class:`LinearGaussianPolicy`'s.

    Examples
    --------
    >>> s = np.linspace(-3, 3, 60)[:, None]
    >>> policy = RBFPolicy(n_features=10, random_state=0).fit(s, np.sin(s[:, 0]))
    >>> bool(abs(policy.predict([[1.0]])[0] - np.sin(1.0)) < 1e-3)
    True
    """

    def __init__(
        self,
        n_features: int = 30,
        placement: Literal["kmeans", "random"] = "kmeans",
        bandwidth: ArrayLike | Literal["evidence"] = "evidence",
        ridge: float | Literal["evidence"] = "evidence",
        covariance: Literal["diagonal", "full"] = "diagonal",
        min_std: float = 1e-6,
        random_state: Any = None,
        n_states: int | None = None,
    ) -> None:
        super().__init__(features=None, ridge=ridge, covariance=covariance, min_std=min_std, n_states=n_states)
        self.n_features = n_features
        self.placement = placement
        self.bandwidth = bandwidth
        self.random_state = random_state

    def _check_options(self) -> None:
        super()._check_options()
        if self.placement not in ("kmeans", "random"):
            raise ValueError(f"placement must be 'kmeans' or 'random', got {self.placement!r}")
        if isinstance(self.bandwidth, str) and (self.bandwidth != "evidence" or self.ridge == 0):
            raise ValueError(f"bandwidth must be numbers, or 'evidence' with ridge > 0, got {self.bandwidth!r}")

    def _fit_mean(
        self, states: FloatArray, actions: FloatArray, weights: FloatArray, kept: Any
    ) -> tuple[FloatArray, RidgeFit]:
        if kept is not None:
            return super()._fit_mean(states, actions, weights, kept)
        if isinstance(self.bandwidth, str):
            unit = weighted_spread(states, weights) * np.sqrt(states.shape[1])
            candidates = [(width * unit, -0.5 * (np.log(width) / LOG_PRIOR_STD) ** 2) for width in BANDWIDTHS]
        else:
            candidates = [(self.bandwidth, 0.0)]
        best: tuple[Any, FloatArray, RidgeFit] | None = None
        for bandwidth, log_prior in candidates:
            features = fit_features(self._features(bandwidth), states, weights)
            Phi = transform(features, states)
            fit = weighted_ridge(Phi, actions, weights, self._given_ridge)
            fit = replace(fit, log_evidence=fit.log_evidence + log_prior)
            if best is None or fit.log_evidence > best[2].log_evidence:
                best = features, Phi, fit
        assert best is not None
        self.features_ = best[0]
        return best[1:]

    def _transformer(self) -> Any:
        return self._features(None if isinstance(self.bandwidth, str) else self.bandwidth)

    def _features(self, bandwidth: ArrayLike | None) -> RBFFeatures | FourierFeatures:
        count = as_count(self.n_features, "n_features")
        if self.placement == "kmeans":
            return RBFFeatures(count, bandwidth, self.random_state)
        return FourierFeatures(count, bandwidth, self.random_state)
