"""What policies linear in features of the state share: the feature map, and when two of them have mixtures.

Shapes: N states, d state dimensions, p features, k outputs (action dimensions, or logits); gains `coef_` (p, k).
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from policies.base import ParametricMixin, Policy
from reps_opt.threads import limited
from reps_opt.validation import FloatArray, as_float_array


class LinearMixin(ParametricMixin, Policy):
    """A policy whose statistics are features of the state: ``coef_`` (p, k), ``intercept_`` (k,), ``features_``."""

    features: Any
    ridge: Any
    features_: Any
    coef_: FloatArray
    intercept_: FloatArray

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit features, gains and intercept (and, for Gaussian actions, the covariance).

        Parameters
        ----------
        X, y
            States (N, d), and actions: (N,) or (N, k) numbers, or (N,) labels.
        sample_weight
            Weights w >= 0, shape (N,), powers of the likelihood; None for ones.

        Raises
        ------
        ValueError
            For non-finite values, mismatched lengths, negative or all-zero weights, or an unknown option.
        """
        self._check_options()
        with limited():
            self._fit(*self._check_fit(X, y, sample_weight), None)
        return self

    def refit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit a copy to other samples with the features kept, so that the two have mixtures; arguments as in ``fit``.

        Examples
        --------
        >>> from policies import RBFPolicy
        >>> s = np.linspace(-3, 3, 60)[:, None]
        >>> old = RBFPolicy(n_features=10, random_state=0).fit(s, np.sin(s[:, 0]) + np.cos(9 * s[:, 0]))
        >>> new = old.refit(s, np.sin(s[:, 0])).within(old, s, epsilon=0.1)
        >>> float(new.kl_divergence(old, s).mean())
        0.1
        """
        check_is_fitted(self)
        policy = copy.copy(self)
        policy._check_options()
        with limited():
            policy._fit(*policy._check_fit(X, y, sample_weight), self.features_)
        return policy

    @abstractmethod
    def _fit(self, states: FloatArray, actions: NDArray[Any], weights: FloatArray, kept: Any) -> None:
        """Set the fitted attributes by checked samples, with the features `kept`, or with new ones where it is None."""

    @property
    def _given_ridge(self) -> float | None:
        """The penalty that was given; None where the evidence chooses it."""
        return None if self.ridge == "evidence" else float(self.ridge)

    def _transformer(self) -> Any:
        """The feature map to fit; None for the state itself."""
        return self.features

    def _start_gains(self, typical: FloatArray, n_outputs: int) -> None:
        """Features placed by the typical states, and gains of zero."""
        self.features_ = fit_features(self._transformer(), typical, np.ones(len(typical)))
        self.coef_ = np.zeros((transform(self.features_, typical).shape[1], n_outputs))

    def _outputs(self, states: FloatArray) -> FloatArray:
        """``Phi K + b`` at checked states, shape (N, k)."""
        return transform(self.features_, states) @ self.coef_ + self.intercept_

    def _regressors(self, states: FloatArray) -> FloatArray:
        """Features and a column of ones, shape (N, p + 1)."""
        return np.column_stack([transform(self.features_, states), np.ones(len(states))])

    def _check_mixable(self, old: Any) -> None:
        if not isinstance(old, LinearMixin) or type(self)._distribution is not type(old)._distribution:
            raise NotImplementedError(f"{type(self).__name__} has no mixtures with a {type(old).__name__}")
        same = self.n_features_in_ == old.n_features_in_ and same_parts(self.features_, old.features_)
        if not same:
            raise NotImplementedError(
                f"the features of the new {type(self).__name__} are not those of the old one, so their mixtures are "
                "not linear in either: fit by old.refit(states, actions, weights), which keeps them"
            )
        self._check_same_actions(old)


def fit_features(features: Any, states: FloatArray, weights: FloatArray) -> Any:
    """A clone of the transformer fitted to the states, with their weights where it takes them; None stays None."""
    if features is None:
        return None
    arguments = {"sample_weight": weights} if has_fit_parameter(features, "sample_weight") else {}
    return clone(features).fit(states, **arguments)


def same_parts(one: Any, other: Any) -> bool:
    """Whether two fitted transformers hold the same numbers, part by part."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype.kind == other.dtype.kind and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_parts(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_parts, one, other))
    if hasattr(one, "transform"):
        return same_parts(vars(one), vars(other))
    return bool(np.all(one == other))


def transform(features: Any, states: FloatArray) -> FloatArray:
    """Features (N, p) of checked states; the states themselves if there is no transformer."""
    if features is None:
        return states
    found = features.transform(states)
    dense = found.toarray() if issparse(found) else found
    return as_float_array(dense, "features", (len(states), "p"))
