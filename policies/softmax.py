"""Softmax policy: logits linear in features of the state, fitted by weighted multinomial regression.

Shapes: N samples, d state dimensions, p features, A actions; gains (p, A). Parameters, P = (p + 1) A: the gains row by
row, then the intercept. Adding a constant to the logits of a state changes nothing: fits sum to zero over the actions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from policies.actors import Act, AffineMean, CategoricalActor, SoftmaxOf, compiled_basis
from policies.categorical import Categorical
from policies.categorical_policy import CategoricalPolicy
from policies.features import WORDS, weighted_mean, weighted_spread
from policies.linear_features import LinearMixin, fit_features, same_parts, transform
from policies.multinomial import weighted_multinomial
from policies.spaces import Observations
from reps_opt.threads import limited
from reps_opt.tolerances import COLLINEAR_RIDGE
from reps_opt.validation import FloatArray, as_count, as_float_array, as_scalar


class SoftmaxPolicy(LinearMixin, CategoricalPolicy):
    """Policy ``pi(a|s) = exp(phi(s)'k_a + b_a) / Z(s)`` fitted by weighted multinomial regression, a convex problem.

    Minimises ``-sum_i w_i log pi(a_i|s_i) + ridge (|K|_F^2 + |b|^2) / 2`` with centred features, weights as powers of
    the likelihood. The intercept b, the log-odds at the mean state, is penalised as well: an action that never occurs
    keeps a probability that shrinks as the weights grow.

    Parameters
    ----------
    features
        None for the state itself; a word: "polynomial" (of standardised states, second degree), "rbf"
        (:class:`RBFFeatures`) or "fourier" (:class:`FourierFeatures`); or any transformer with ``fit`` and
        ``transform`` (it is cloned).
    n_features
        Number of "rbf" or "fourier" features.
    ridge
        Penalty > 0 on the squared gains, in units of the weights times squared features; without `features`, states are
        measured in weighted standard deviations. "evidence" picks it by maximal marginal likelihood (Laplace's), under
        a weak prior.
    random_state
        Seed of the "rbf" or "fourier" features.
    n_states
        Number of discrete states, given as indices (or one-hot rows) and seen as one-hot rows; None for numbers.
    n_actions
        Number of actions, which are then 0 .. n_actions - 1 whether they occur or not; None for those that occur.

    Attributes
    ----------
    coef_, intercept_
        Gains K (p, A) and intercept b (A,), for the features as they are.
    classes_, features_
        Action labels (A,), and the fitted transformer.
    ridge_, log_evidence_
        The penalty used, and Laplace's evidence in nats.

    Notes
    -----
    Newton's method up to 600 gains, L-BFGS beyond: both end at the one optimum.

    References
    ----------
    Boehning (1992), Multinomial logistic regression algorithm; MacKay (1992), The evidence framework applied to
    classification networks.

    Examples
    --------
    >>> s = np.linspace(-2, 2, 50)[:, None]
    >>> policy = SoftmaxPolicy().fit(s, s[:, 0] > 0)
    >>> policy.predict([[-1.0], [1.0]])
    array([False,  True])
    >>> cart = SoftmaxPolicy.from_env("CartPole-v1", features="rbf", random_state=0)
    >>> cart.predict_proba([[0.0, 0.0, 0.1, 0.0]])
    array([[0.5, 0.5]])
    """

    def __init__(
        self,
        features: Any = None,
        n_features: int = 50,
        ridge: float | Literal["evidence"] = "evidence",
        random_state: Any = None,
        n_states: int | None = None,
        n_actions: int | None = None,
    ) -> None:
        self.features = features
        self.n_features = n_features
        self.ridge = ridge
        self.random_state = random_state
        self.n_states = n_states
        self.n_actions = n_actions

    def fit_around(self, old: Any, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit with a ridge that draws to an old policy, not to even odds: what samples do not say stays as it was.

        :meth:`fit` estimates everything anew from the actions drawn, so that with few samples a feature the noise of
        drawing takes the place of what the old policy knew. Here the centre of the ridge are the old logits, projected
        onto the new features at all states, those of weight zero among them, where the features are not the old ones;
        and the evidence says how far the samples lead away from it.

        Parameters
        ----------
        old
            A fitted softmax policy with all of these actions.
        X, y, sample_weight
            As in :meth:`fit`.

        Examples
        --------
        >>> s = np.linspace(-2, 2, 200)[:, None]
        >>> old = SoftmaxPolicy().fit(s, s[:, 0] > 0)
        >>> drawn = old.sample(s, np.random.default_rng(0))
        >>> around, anew = SoftmaxPolicy().fit_around(old, s, drawn), SoftmaxPolicy().fit(s, drawn)
        >>> bool(around.kl_divergence(old, s).mean() < 0.5 * anew.kl_divergence(old, s).mean())
        True
        """
        check_is_fitted(old)
        if not isinstance(old, SoftmaxPolicy):
            raise TypeError(f"old must be a SoftmaxPolicy, got {type(old).__name__}")
        self._check_options()
        self._fit(*self._check_fit(X, y, sample_weight), None, old)
        return self

    def _fit(
        self,
        states: FloatArray,
        labels: NDArray[Any],
        weights: FloatArray,
        kept: Any,
        old: SoftmaxPolicy | None = None,
    ) -> None:
        everywhere = states
        states, indices, weights = self._distinct(states, labels, weights, None if old is None else old.classes_)
        self.features_ = fit_features(self._transformer(), states, weights) if kept is None else kept
        Phi = transform(self.features_, states)
        centre, unit = weighted_mean(Phi, weights), self._unit(Phi, weights)

        def regressors(Phi: FloatArray) -> FloatArray:
            return np.column_stack([(Phi - centre) / unit, np.ones(len(Phi))])

        drawn_to = None
        if old is not None and same_parts(self.features_, old.features_):
            drawn_to = np.vstack([unit[:, None] * old.coef_, old.intercept_ + centre @ old.coef_])
        elif old is not None:
            drawn_to = _projected(regressors(transform(self.features_, everywhere)), old.predict_proba(everywhere))
        found = weighted_multinomial(regressors(Phi), indices, weights, len(self.classes_), self._given_ridge, drawn_to)
        self.coef_ = found.coefficients[:-1] / unit[:, None]
        self.intercept_ = found.coefficients[-1] - centre @ self.coef_
        self.ridge_, self.log_evidence_, self.n_iter_ = found.ridge, found.log_evidence, found.n_iter

    def _check_options(self) -> None:
        if isinstance(self.features, str) and self.features not in WORDS:
            raise ValueError(f"features must be one of {tuple(WORDS)}, or a transformer, got {self.features!r}")
        as_count(self.n_features, "n_features")
        if not (isinstance(self.ridge, str) and self.ridge == "evidence"):
            as_scalar(self.ridge, "ridge", low=0, low_open=True)

    def _transformer(self) -> Any:
        if isinstance(self.features, str):
            return WORDS[self.features](int(self.n_features), self.random_state)
        return self.features

    def _unit(self, Phi: FloatArray, weights: FloatArray) -> FloatArray:
        """What features are measured in: each column's spread for states, one scale for all features, as the ridge."""
        if self.features_ is None:
            return weighted_spread(Phi, weights)
        spread = np.sqrt(np.mean(weighted_spread(Phi, weights) ** 2)) if self.ridge == "evidence" else 1.0
        return np.full(Phi.shape[1], spread)

    def _start(self, observed: Observations, typical: FloatArray) -> None:
        self._start_gains(typical, len(self.classes_))
        self.intercept_ = np.zeros(len(self.classes_))
        self.ridge_, self.log_evidence_, self.n_iter_ = 0.0, -np.inf, 0

    def _mix(self, old: Any, share: float) -> None:
        self.coef_ = share * self.coef_ + (1 - share) * old.coef_
        self.intercept_ = share * self.intercept_ + (1 - share) * old.intercept_

    def _distribution(self, states: FloatArray) -> Categorical:
        return Categorical.from_logits(self._outputs(states))

    @property
    def params(self) -> FloatArray:
        """Gains row by row, then the intercept, shape (P,)."""
        check_is_fitted(self)
        return np.concatenate([self.coef_.reshape(-1), self.intercept_])

    def with_params(self, params: ArrayLike) -> Self:
        """A copy of the policy with these parameters, in the order of :attr:`params`."""
        check_is_fitted(self)
        vector = as_float_array(params, "params", (self.coef_.size + len(self.intercept_),))
        policy = copy.copy(self)
        policy.coef_ = vector[: self.coef_.size].reshape(self.coef_.shape).copy()
        policy.intercept_ = vector[self.coef_.size :].copy()
        return policy

    def score_function(self, states: ArrayLike, actions: ArrayLike) -> FloatArray:
        """Gradient of log pi(a|s) in the parameters, ``phi (e_a - pi)'``, shape (N, P)."""
        check_is_fitted(self)
        checked = self._check_states(states)
        surprise = self._distribution(checked).surprise(self._check_actions(actions, len(checked)))
        return (self._regressors(checked)[:, :, None] * surprise[:, None, :]).reshape(len(checked), -1)

    def score_product(self, states: ArrayLike, actions: ArrayLike, weights: FloatArray) -> FloatArray:
        """``sum_i w_i grad log pi(a_i|s_i)`` (P,), no score formed."""
        check_is_fitted(self)
        checked = self._check_states(states)
        surprise = self._distribution(checked).surprise(self._check_actions(actions, len(checked)))
        return (self._regressors(checked).T @ (weights[:, None] * surprise)).reshape(-1)

    def fisher_factor(self, states: ArrayLike) -> FloatArray:
        """J with ``J'J / len(J)`` the mean Fisher information: rows ``phi sqrt(pi_a) (e_a - pi)'``, shape (N A, P)."""
        check_is_fitted(self)
        checked = self._check_states(states)
        n, A = len(checked), len(self.classes_)
        root = np.sqrt(A) * self._distribution(checked).fisher_root()
        return np.einsum("np,nra->nrpa", self._regressors(checked), root).reshape(n * A, -1)

    def fisher_product(self, states: ArrayLike) -> Callable[[FloatArray], FloatArray]:
        """``v -> F v``, F the mean Fisher information, without forming any factor."""
        check_is_fitted(self)
        checked = self._check_states(states)
        regressors, p = self._regressors(checked), self._distribution(checked).probabilities

        @limited()
        def product(v: FloatArray) -> FloatArray:
            moved = regressors @ v.reshape(regressors.shape[1], -1)
            moved -= np.sum(p * moved, axis=1, keepdims=True)
            return (regressors.T @ (p * moved)).reshape(-1) / len(p)

        return product

    def _actor(self) -> Act:
        logits = AffineMean(compiled_basis(self.features_), self.coef_, self.intercept_)
        return CategoricalActor(SoftmaxOf(logits), self.classes_)


def _projected(regressors: FloatArray, probabilities: FloatArray) -> FloatArray:
    """Coefficients (q, A) of the softmax in these regressors (N, q) nearest to given probabilities (N, A)."""
    rows, actions = np.nonzero(probabilities)
    weights = probabilities[rows, actions]
    return weighted_multinomial(
        regressors[rows], actions, weights, probabilities.shape[1], COLLINEAR_RIDGE
    ).coefficients
