"""Gaussian-process policy: exact, variational sparse, or random-feature, all fitted to weighted samples.

Shapes: N samples, d state dimensions, k action dimensions, M inducing states. float64 on the CPU throughout; a
gpytorch kernel is evaluated in float64 on the CPU too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import kmeans_plusplus
from sklearn.gaussian_process.kernels import CompoundKernel, Kernel

from policies.actors import Act, compiled_basis
from policies.checks import merge_repeats, random_source
from policies.features import weighted_spread
from policies.gaussian import Gaussian, action_scale
from policies.gaussian_policy import GaussianPolicy
from policies.gp_actors import GenericMoments, GPActor, SquaredExponentialMoments
from policies.gp_objectives import Problem, exact_loss, loo_loss, maximise, sparse_loss
from policies.gp_posterior import KernelBasis, Posterior, exact_posterior, feature_posterior, sparse_posterior
from policies.kernels import SquaredExponential, check_periods, split_white_noise
from policies.linear_features import fit_features, transform
from policies.spaces import Observations
from policies.tolerances import ARD_DIMENSIONS, EXACT_SAMPLES, SHRINKS, TRAINING_SAMPLES
from reps_opt.threads import limited
from reps_opt.tolerances import HUGE, ROUNDING
from reps_opt.validation import FloatArray, as_count, as_scalar


class GaussianProcessPolicy(GaussianPolicy):
    """Policy ``a ~ N(m(s), v (c(s) + noise))`` with m and c the posterior of a Gaussian process given weighted samples.

    A weight is a power of the sample's likelihood, ``N(a_i | f(s_i), v noise)^w_i``: two is a sample seen twice, zero
    a sample never seen. Give REPS's weights at the scale of the effective sample size
    (``solution.weights(scale="ess")``): at a scale that sums to one the prior outweighs the data. Dividing the noise
    by w instead would let the exploration collapse.

    Every fit chooses kernel and posterior anew, so that a new and an old process have no statistics in common, and
    :meth:`mixture` and :meth:`within` raise NotImplementedError. An update whose fit leaves the ball around the old
    policy fits once more, beside as many samples of the old policy as keep it inside.

    Parameters
    ----------
    kernel
        A scikit-learn kernel, or a gpytorch one with its priors; it describes the actions divided by their scale
        sqrt(v), which has a closed form, so it needs no variance of its own. A ``WhiteKernel`` added to it is noise of
        the samples, and where the search for `noise` starts. None: a squared exponential with a
        length-scale per state dimension (one for all beyond 20 dimensions, as for images) and a weak prior scaled by
        the data.
    method
        "exact", O(N^3); "sparse", a variational posterior on `n_inducing` states, O(N M^2); "features", Bayesian
        regression on `n_inducing` pairs of random Fourier features (its variance is too small far from the data);
        "auto" is exact up to 1000 samples of noticeable weight, sparse above.
    features
        A transformer ahead of the kernel, as in :class:`LinearGaussianPolicy`: principal components of an image, say.
        One that takes no `sample_weight` sees each distinct sample once.
    periods
        For the default kernel: the period of each column that is an angle, infinite elsewhere, shape (d,).
    criterion
        "evidence", the weighted marginal likelihood (its variational bound if sparse); or "loo", the weighted
        likelihood of held-out samples, or of held-out roll-outs where ``fit`` is given `groups`.
    noise
        Initial noise variance in units of v.
    optimize
        Whether to fit kernel and noise; if False only the closed-form v is.
    n_inducing
        Number M of inducing states, or of feature pairs.
    max_iter
        Iterations of L-BFGS-B.
    min_std
        Smallest standard deviation, as a fraction of the actions' own.
    random_state
        Seed of the subset, the inducing states and the random features.
    n_states
        Number of discrete states, given as indices (or one-hot rows) and seen as one-hot rows; None for numbers.

    Attributes
    ----------
    kernel_, noise_
        Fitted kernel and noise ratio.
    objective_
        The maximised log evidence, bound or held-out likelihood, log priors included, in nats, of standardised actions.
    method_, n_kept_
        The method used, and the number of distinct samples it kept.
    posterior_
        The :class:`policies.gp_posterior.Posterior` of standardised actions.

    References
    ----------
    Rasmussen, Williams (2006), chapters 2 and 5; Titsias (2009); Rahimi, Recht (2007).

    Examples
    --------
    >>> s = np.linspace(-3, 3, 40)[:, None]
    >>> policy = GaussianProcessPolicy().fit(s, np.sin(s[:, 0]))
    >>> mean, std = policy.predict([[1.0]], return_std=True)
    >>> bool(abs(mean[0] - np.sin(1.0)) < 1e-3)
    True
    """

    def __init__(
        self,
        kernel: Any = None,
        method: Literal["auto", "exact", "sparse", "features"] = "auto",
        features: Any = None,
        periods: ArrayLike | None = None,
        criterion: Literal["evidence", "loo"] = "evidence",
        noise: float = 0.1,
        optimize: bool = True,
        n_inducing: int = 128,
        max_iter: int = 60,
        min_std: float = 1e-6,
        random_state: Any = None,
        n_states: int | None = None,
    ) -> None:
        self.kernel = kernel
        self.method = method
        self.features = features
        self.periods = periods
        self.criterion = criterion
        self.noise = noise
        self.optimize = optimize
        self.n_inducing = n_inducing
        self.max_iter = max_iter
        self.min_std = min_std
        self.random_state = random_state
        self.n_states = n_states

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit hyper-parameters and posterior.

        Parameters
        ----------
        X, y
            States (N, d) and actions (N,) or (N, k).
        sample_weight
            Weights w >= 0, shape (N,), powers of the likelihood; None for ones.
        groups
            Roll-out of each sample, shape (N,), left out together by criterion "loo".

        Raises
        ------
        ValueError
            For non-finite values, mismatched lengths, negative or all-zero weights, or an unknown option.
        """
        self._check_options()
        states, actions, weights = self._check_fit(X, y, sample_weight)
        labels = self._check_groups(groups, sample_weight, len(states))
        rng = random_source(self.random_state)
        with limited():
            data = distinct_problem(states, actions, weights, labels)
            self.offset_, self.unit_, self.floor_ = action_scale(data.actions, data.weights, self.min_std)
            self.features_ = fit_features(self.features, data.states, data.weights)
            inputs, targets = transform(self.features_, data.states), (data.actions - self.offset_) / self.unit_
            problem = replace(data, states=inputs, actions=targets)
            n = self.n_kept_ = len(problem.states)
            self.method_ = self.method if self.method != "auto" else "exact" if n <= EXACT_SAMPLES else "sparse"
            self._fit_hyperparameters(problem, rng)
            self.posterior_ = self._posterior(problem, rng)
        return self

    def _check_options(self) -> None:
        options = {"method": ("auto", "exact", "sparse", "features"), "criterion": ("evidence", "loo")}
        for name, legal in options.items():
            if getattr(self, name) not in legal:
                raise ValueError(f"{name} must be one of {legal}, got {getattr(self, name)!r}")
        if self.periods is not None:
            check_periods(self.periods)
        as_scalar(self.noise, "noise", low=0, low_open=True)
        as_scalar(self.min_std, "min_std", low=0, low_open=True)
        as_count(self.n_inducing, "n_inducing")
        as_count(self.max_iter, "max_iter")

    @staticmethod
    def _check_groups(groups: ArrayLike | None, sample_weight: ArrayLike | None, n_kept: int) -> NDArray[np.intp]:
        """Roll-out numbers of the samples with weight; without groups, every sample is its own."""
        if groups is None:
            return np.arange(n_kept)
        labels = np.asarray(groups)
        n_samples = n_kept if sample_weight is None else len(np.asarray(sample_weight))
        if labels.shape != (n_samples,):
            raise ValueError(f"groups must have shape ({n_samples}), got {labels.shape}")
        numbers = np.unique(labels, return_inverse=True)[1]
        return numbers if sample_weight is None else numbers[np.asarray(sample_weight, dtype=np.float64) > 0]

    def _initial_kernel(self, problem: Problem) -> Any:
        if self.kernel is None:
            return default_kernel(problem.states, problem.weights, self.periods)
        if isinstance(self.kernel, type):
            raise TypeError(f"kernel must be an instance, such as {self.kernel.__name__}(), got the class itself")
        if isinstance(self.kernel, CompoundKernel):
            raise TypeError("kernel must be one kernel, got a CompoundKernel, which is several: a sum or product, say")
        if isinstance(self.kernel, Kernel):
            return self.kernel
        if type(self.kernel).__module__.startswith("gpytorch") or hasattr(self.kernel, "named_hyperparameters"):
            from policies.gp_torch import GPyTorchKernel

            return GPyTorchKernel(self.kernel)
        raise TypeError(f"kernel must be a scikit-learn or gpytorch kernel, got {type(self.kernel).__name__}")

    def _fit_hyperparameters(self, problem: Problem, rng: np.random.RandomState) -> None:
        kernel, white = split_white_noise(self._initial_kernel(problem))
        n_training = TRAINING_SAMPLES if self.criterion == "evidence" else EXACT_SAMPLES
        training = problem if self.method_ == "exact" else representatives(problem, n_training, rng)
        self.inducing_ = None if self.method_ == "exact" else inducing_states(kernel, training, self.n_inducing, rng)
        self.kernel_, self.noise_, self.objective_ = kernel, white or float(self.noise), np.nan
        self.n_iter_ = 0
        if not self.optimize:
            return

        def loss(trial: Any, log_noise: float) -> tuple[float, FloatArray]:
            if self.criterion == "loo":
                return loo_loss(trial, log_noise, training)
            if self.inducing_ is None:
                return exact_loss(trial, log_noise, training)
            return sparse_loss(trial, log_noise, training, self.inducing_)

        shrinks = SHRINKS if self.kernel is None else (1.0,)
        starts = [kernel.clone_with_theta(kernel.theta - np.log(shrink)) for shrink in shrinks]
        best = maximise(loss, starts, self.noise_, self.max_iter)
        self.kernel_, self.noise_, self.objective_, self.n_iter_ = best

    def _posterior(self, problem: Problem, rng: np.random.RandomState) -> Posterior:
        if self.method_ == "exact":
            return exact_posterior(self.kernel_, self.noise_, problem)
        if self.method_ == "sparse" and self.inducing_ is not None:
            return sparse_posterior(self.kernel_, self.noise_, problem, self.inducing_)
        if not isinstance(self.kernel_, SquaredExponential):
            raise ValueError("method 'features' needs the default kernel or a SquaredExponential one")
        return feature_posterior(self.kernel_, self.noise_, problem, self.n_inducing, rng)

    def _distribution(self, states: FloatArray) -> Gaussian:
        mean, std = self.posterior_.moments(transform(self.features_, states))
        return Gaussian.diagonal(self.offset_ + self.unit_ * mean, np.maximum(self.unit_ * std, self.floor_))

    def _start(
        self, observed: Observations, typical: FloatArray, centre: FloatArray, unit: FloatArray, std: float
    ) -> None:
        """The prior: a posterior of no samples, its latent variance and noise shared as the fit would start from."""
        self.features_ = fit_features(self.features, typical, np.ones(len(typical)))
        columns = transform(self.features_, typical)
        nothing = Problem(columns, np.zeros((len(columns), len(centre))), np.ones(len(columns)))
        self.offset_, self.unit_, self.floor_ = centre, std * unit, self.min_std * std * unit
        self.kernel_, white = split_white_noise(self._initial_kernel(nothing))
        self.noise_, self.objective_ = white or float(self.noise), -np.inf
        self.n_kept_, self.n_iter_, self.inducing_ = 0, 0, None
        self.method_ = "exact" if self.method == "auto" else self.method
        variance = np.full(len(centre), 1 / (float(np.mean(self.kernel_.diag(columns))) + self.noise_))
        basis = KernelBasis(self.kernel_, columns[:1])
        self.posterior_ = Posterior(basis, np.zeros((1, len(centre))), np.zeros((1, 1)), variance, self.noise_)

    def _actor(self, low: FloatArray, high: FloatArray) -> Act:
        posterior = self.posterior_
        plain = isinstance(posterior.basis, KernelBasis) and isinstance(posterior.basis.kernel, SquaredExponential)
        moments = SquaredExponentialMoments.build(posterior) if plain else GenericMoments(posterior)
        amplitude = self.unit_ * np.sqrt(posterior.variance)
        basis = compiled_basis(self.features_)
        return GPActor(basis, moments, self.offset_, self.unit_, amplitude, self.floor_, low, high)


def default_kernel(states: FloatArray, weights: FloatArray, periods: ArrayLike | None) -> SquaredExponential:
    """Squared exponential whose length-scales start at, and are drawn to, sqrt(d) standard deviations of the states."""
    d = states.shape[1]
    if periods is not None and np.shape(periods) not in ((), (d,)):
        raise ValueError(f"periods must have shape ({d}), got {np.shape(periods)}")
    spread = weighted_spread(states, weights)
    typical = spread * np.sqrt(d) if d <= ARD_DIMENSIONS else np.linalg.norm(spread)
    bounds = (float(np.min(typical)) / HUGE, float(np.max(typical)) * HUGE)  # none but the prior
    return SquaredExponential(typical, bounds, periods, typical)


def distinct_problem(states: FloatArray, actions: FloatArray, weights: FloatArray, groups: NDArray[np.intp]) -> Problem:
    """The data without negligible weights, repetitions merged into weights.

    Left out are the smallest weights that together make at most 1e-12 (of the sum, if that is below one): their
    likelihoods, raised to such powers, are flat.
    """
    order = np.argsort(weights, kind="stable")
    tail = np.cumsum(weights[order]) <= ROUNDING * min(1.0, float(weights.sum()))
    kept = np.sort(order[~tail])
    grouped = len(np.unique(groups)) < len(groups)
    columns = [states[kept], actions[kept], *([groups[kept, None].astype(np.float64)] if grouped else [])]
    first, merged = merge_repeats(np.hstack(columns), weights[kept])
    chosen = kept[first]
    return Problem(states[chosen], actions[chosen], merged, groups[chosen] if grouped else None)


def representatives(problem: Problem, n: int, rng: np.random.RandomState) -> Problem:
    """At most n samples that stand for all in the search for hyper-parameters: systematic resampling by weight.

    Their weights are scaled down to their effective sample size where the sum was larger: n samples that spoke with the
    weight of all would have their noise taken for signal.
    """
    if len(problem.states) <= n:
        return problem
    positions = (np.arange(n) + rng.uniform()) * problem.total / n
    edges = np.cumsum(problem.weights)
    counts = np.bincount(np.minimum(np.searchsorted(edges, positions), len(edges) - 1), minlength=len(edges))
    drawn = np.flatnonzero(counts)
    ess = counts.sum() ** 2 / np.sum(counts**2)
    groups = None if problem.groups is None else problem.groups[drawn]
    return Problem(problem.states[drawn], problem.actions[drawn], counts[drawn] * min(problem.total, ess) / n, groups)


def inducing_states(kernel: Any, problem: Problem, n: int, rng: np.random.RandomState) -> FloatArray:
    """At most n distinct states spread by weighted k-means++ in the kernel's own metric, shape (M, d)."""
    first, weights = merge_repeats(problem.states, problem.weights)
    distinct = problem.states[first]
    if len(distinct) <= n:
        return distinct
    columns = kernel.embed(distinct) if hasattr(kernel, "embed") else distinct / weighted_spread(distinct, weights)
    columns = columns - columns.mean(axis=0)  # squared distances are expanded there: an offset would drown them
    _, chosen = kmeans_plusplus(columns, n, sample_weight=weights / weights.max(), random_state=rng)
    return distinct[np.unique(chosen)]
