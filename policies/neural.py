"""Neural policies, trained and run in NumPy: Gaussian and categorical actions over a tanh network.

Shapes: N samples, d state dimensions, k action dimensions, A actions, P parameters; parameters are float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from policies.actors import Act, CategoricalActor, GaussianActor, NetworkOutput, SoftmaxOf
from policies.categorical import Categorical
from policies.categorical_policy import CategoricalPolicy
from policies.checks import merge_repeats
from policies.gaussian import Gaussian, action_scale
from policies.gaussian_policy import GaussianPolicy
from policies.network_policy import NetworkPolicy
from policies.network_training import cross_entropy, train, train_with_noise
from policies.spaces import Observations
from policies.tolerances import PRIOR_PRECISION
from reps_opt.threads import limited
from reps_opt.tolerances import VISIBLE
from reps_opt.validation import FloatArray


class NeuralPolicy(NetworkPolicy, GaussianPolicy):
    """Gaussian policy whose mean is a tanh network and whose standard deviations are parameters of their own.

    Minimises ``-sum_i w_i log pi(a_i|s_i) + alpha |params|^2 / 2`` on standardised states and actions: the posterior
    mode under a Gaussian prior, weights as powers of the likelihood. The standard deviations are those of samples held
    out from the network's training (up to five folds of the weight): its own residuals would say that there is no
    noise, as soon as it has more parameters than there are effective samples.

    Parameters
    ----------
    hidden
        Widths of the hidden layers.
    alpha
        Precision of the prior on the network's parameters, > 0.
    max_iter
        Iterations of L-BFGS (full batch, strong Wolfe line search; deterministic given `random_state`).
    device
        Ignored, and to be removed: networks are trained in NumPy.
    dtype
        What the fitted network computes in, "float64" or "float32": half the time, to seven digits. Training, and
        single actions of the compiled policy, take float64 always.
    random_state
        Seed of the initial parameters.
    n_states
        Number of discrete states, given as indices (or one-hot rows) and seen as one-hot rows; None for numbers.

    Attributes
    ----------
    params_
        Flat parameters (P,); the last k are log standard deviations in units of the actions' spread.
    ridge_
        Precision of the prior in units of the noise: alpha times the variance that was found out of sample first.

    References
    ----------
    Schulman et al. (2015), Trust region policy optimization, appendix D, for the parametrisation.

    Examples
    --------
    >>> s = np.linspace(-2, 2, 50)[:, None]
    >>> policy = NeuralPolicy(hidden=(8,), random_state=0).fit(s, np.tanh(s[:, 0]))
    >>> bool(abs(policy.predict([[1.0]])[0] - np.tanh(1.0)) < 0.05)
    True
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on states (N, d), actions (N,) or (N, k), weights (N,).

        Raises
        ------
        ValueError
            For non-finite values, mismatched lengths, or negative or all-zero weights.
        """
        self._check_options()
        states, actions, weights = self._check_fit(X, y, sample_weight)
        with limited():
            first, weights = merge_repeats(np.hstack([states, actions]), weights)
            states, actions = states[first], actions[first]
            self.offset_, self.unit_, floor = action_scale(actions, weights, VISIBLE)
            targets = (actions - self.offset_) / self.unit_
            start, samples, rng = self._prepare(states, targets, weights, actions.shape[1])
            found = train_with_noise(self.network_, start, samples, float(self.alpha), int(self.max_iter), rng)
        params, self.n_iter_, noise, ridge = found
        log_std = np.log(np.maximum(np.sqrt(noise), floor / self.unit_))
        self.params_, self.ridge_ = np.append(params, log_std), ridge
        return self

    def _start(
        self, observed: Observations, typical: FloatArray, centre: FloatArray, unit: FloatArray, std: float
    ) -> None:
        self.offset_, self.unit_ = centre, unit
        self._start_network(observed, len(centre), np.full(len(centre), np.log(std)))

    @property
    def _std(self) -> FloatArray:
        return self.unit_ * np.exp(self.params_[self.network_.n_params :])

    def _distribution(self, states: FloatArray) -> Gaussian:
        return Gaussian.diagonal(self.offset_ + self.unit_ * self._outputs(states), self._std)

    def score_function(self, states: ArrayLike, actions: ArrayLike) -> FloatArray:
        """Gradient of log pi(a|s) in the parameters, shape (N, P)."""
        check_is_fitted(self)
        checked = self._check_states(states)
        z = self._deviations(self._outputs(checked), self._check_actions(actions, len(checked)))
        mean = self._pullback(checked, (z * self.unit_ / self._std)[:, None, :])[:, 0]
        return np.hstack([mean, z**2 - 1])

    def score_product(self, states: ArrayLike, actions: ArrayLike, weights: FloatArray) -> FloatArray:
        """``sum_i w_i grad log pi(a_i|s_i)`` (P,) in one backward pass."""
        check_is_fitted(self)
        checked = self._check_states(states)
        passed = self._activations(checked)
        outputs = self.network_.outputs(self.params_, passed)
        z = self._deviations(outputs, self._check_actions(actions, len(checked)))
        mean = self.network_.gradient(self.params_, passed, z * weights[:, None] * (self.unit_ / self._std))
        return np.append(mean, weights @ (z**2 - 1))

    def _deviations(self, outputs: FloatArray, actions: FloatArray) -> FloatArray:
        """Actions (N, k) in standard deviations from the mean that these outputs (N, k) say."""
        return (actions - self.offset_ - self.unit_ * outputs) / self._std

    def fisher_factor(self, states: ArrayLike) -> FloatArray:
        """J with ``J'J / len(J)`` the mean Fisher information; shape (N k + k, P).

        ``d mean / std`` at each state and output; and sqrt(2) for each log standard deviation, the same at every state.
        """
        check_is_fitted(self)
        checked = self._check_states(states)
        n, k, p = len(checked), len(self._std), self.network_.n_params
        scale = np.sqrt((n * k + k) / n)
        J = np.zeros((n * k + k, p + k))
        J[: n * k, :p] = self._pullback(checked, scale * self._mean_seeds(n)).reshape(n * k, p)
        J[n * k :, p:] = scale * np.sqrt(2 * n) * np.eye(k)
        return J

    def fisher_product(self, states: ArrayLike) -> Callable[[FloatArray], FloatArray]:
        """``v -> F v``, F the mean Fisher information, without forming any Jacobian: for conjugate gradients."""
        check_is_fitted(self)
        checked = self._check_states(states)
        n, p = len(checked), self.network_.n_params
        curvature = (self.unit_ / self._std) ** 2
        mean = self.network_.fisher_product(self.params_, self._activations(checked), curvature)
        return lambda v: np.append(mean(v[:p]) / n, 2 * v[p:])

    def fisher_preconditioner(self, states: ArrayLike) -> Callable[[FloatArray, float], FloatArray]:
        """``(y, damping) -> (F + damping I)^-1 y``, approximately: for conjugate gradients in few products."""
        check_is_fitted(self)
        (inputs, passed), p = self._thinned(self._check_states(states)), self.network_.n_params
        mean = self.network_.kronecker_solve(self.params_, passed, self._mean_seeds(len(inputs)))
        return lambda y, damping: np.append(mean(y[:p], damping), y[p:] / (2 + damping))

    def _mean_seeds(self, n: int) -> FloatArray:
        """Derivative of ``mean / std`` in the network's outputs, for every state, shape (n, k, k)."""
        return np.broadcast_to(np.diag(self.unit_ / self._std), (n, len(self._std), len(self._std)))

    def _actor(self, low: FloatArray, high: FloatArray) -> Act:
        mean = NetworkOutput(self._single, self.params_, self.centre_, self.spread_, self.offset_, self.unit_)
        return GaussianActor(mean, np.diag(self._std), low, high)


class NeuralCategoricalPolicy(NetworkPolicy, CategoricalPolicy):
    """Softmax policy whose logits are a tanh network of the state; parameters and training as in :class:`NeuralPolicy`.

    Parameters
    ----------
    hidden, alpha, max_iter, device, dtype, random_state, n_states
        As in :class:`NeuralPolicy`.
    n_actions
        Number of actions, which are then 0 .. n_actions - 1 whether they occur or not; None for those that occur.

    Attributes
    ----------
    params_, classes_
        Flat parameters (P,) and action labels (A,).

    Examples
    --------
    >>> s = np.linspace(-2, 2, 50)[:, None]
    >>> policy = NeuralCategoricalPolicy(hidden=(8,), random_state=0).fit(s, s[:, 0] > 0)
    >>> policy.predict([[-1.0], [1.0]])
    array([False,  True])
    """

    def __init__(
        self,
        hidden: Sequence[int] = (64, 64),
        alpha: float = PRIOR_PRECISION,
        max_iter: int = 200,
        device: str = "cpu",
        dtype: str = "float64",
        random_state: Any = None,
        n_states: int | None = None,
        n_actions: int | None = None,
    ) -> None:
        super().__init__(hidden, alpha, max_iter, device, dtype, random_state, n_states)
        self.n_actions = n_actions

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on states (N, d), action labels (N,), weights (N,).

        Raises
        ------
        ValueError
            For non-finite values, mismatched lengths, or negative or all-zero weights.
        """
        self._check_options()
        options = (float(self.alpha), int(self.max_iter))
        with limited():
            states, indices, weights = self._distinct(*self._check_fit(X, y, sample_weight))
            start, samples, _ = self._prepare(states, indices, weights, len(self.classes_))
            self.params_, self.n_iter_ = train(self.network_, start, cross_entropy, samples, *options)
        return self

    def _start(self, observed: Observations, typical: FloatArray) -> None:
        self._start_network(observed, len(self.classes_), np.zeros(0))

    def _distribution(self, states: FloatArray) -> Categorical:
        return Categorical.from_logits(self._outputs(states))

    def score_function(self, states: ArrayLike, actions: ArrayLike) -> FloatArray:
        """Gradient of log pi(a|s) in the parameters, ``(e_a - pi)'d logits``, shape (N, P)."""
        check_is_fitted(self)
        checked = self._check_states(states)
        surprise = self._distribution(checked).surprise(self._check_actions(actions, len(checked)))
        return self._pullback(checked, surprise[:, None, :])[:, 0]

    def score_product(self, states: ArrayLike, actions: ArrayLike, weights: FloatArray) -> FloatArray:
        """``sum_i w_i grad log pi(a_i|s_i)`` (P,) in one backward pass."""
        check_is_fitted(self)
        checked = self._check_states(states)
        passed = self._activations(checked)
        logits = self.network_.outputs(self.params_, passed)
        surprise = Categorical.from_logits(logits).surprise(self._check_actions(actions, len(checked)))
        return self.network_.gradient(self.params_, passed, surprise * weights[:, None])

    def fisher_factor(self, states: ArrayLike) -> FloatArray:
        """J with ``J'J / len(J)`` the mean Fisher information; shape (N A, P)."""
        check_is_fitted(self)
        checked = self._check_states(states)
        n_actions = len(self.classes_)
        seeds = np.sqrt(n_actions) * self._distribution(checked).fisher_root()
        return self._pullback(checked, seeds).reshape(len(checked) * n_actions, -1)

    def fisher_product(self, states: ArrayLike) -> Callable[[FloatArray], FloatArray]:
        """``v -> F v``, F the mean Fisher information, without forming any Jacobian: for conjugate gradients."""
        check_is_fitted(self)
        checked = self._check_states(states)
        p = self._distribution(checked).probabilities
        curvature = p[:, :, None] * (np.eye(p.shape[1]) - p[:, None, :])
        product = self.network_.fisher_product(self.params_, self._activations(checked), curvature)
        return lambda v: product(v) / len(checked)

    def fisher_preconditioner(self, states: ArrayLike) -> Callable[[FloatArray, float], FloatArray]:
        """``(y, damping) -> (F + damping I)^-1 y``, approximately: for conjugate gradients in few products."""
        check_is_fitted(self)
        inputs, passed = self._thinned(self._check_states(states))
        roots = Categorical.from_logits(self.network_.output(self.params_, inputs)).fisher_root()
        return self.network_.kronecker_solve(self.params_, passed, roots)

    def _actor(self) -> Act:
        zero, one = np.zeros(len(self.classes_)), np.ones(len(self.classes_))
        logits = NetworkOutput(self._single, self.params_, self.centre_, self.spread_, zero, one)
        return CategoricalActor(SoftmaxOf(logits), self.classes_)
