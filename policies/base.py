"""What every policy shares: checks at the boundary, and everything that follows from its action distribution.

Shapes: N states, d state dimensions, k action dimensions, P parameters. `X` and `y` are scikit-learn's names for states
and actions, kept where its contract asks for them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from policies.actors import Act
from policies.categorical import Categorical
from policies.checks import (
    as_columns,
    check_states,
)
from policies.gaussian import Gaussian
from policies.mixtures import MixtureMixin
from policies.spaces import (
    OneHotActor,
    spaces_of,
    state_indices,
)
from reps_opt.threads import limit_methods, limited
from reps_opt.validation import Figures, FloatArray, as_count

LIMITED = {
    *("sample", "log_prob", "kl_divergence", "comparison", "compare", "predict", "predict_proba"),
    *("score_function", "score_product", "fisher_factor", "fisher_product", "fisher_preconditioner"),
}
"""Methods that work on one thread of BLAS: with more, last digits would be the machine's."""


class OnOneThread:
    """A class whose methods of these names, and those of its subclasses, work on one thread.

    Fits do so inside: their warnings name their caller.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        limit_methods(cls, LIMITED)


class Policy(OnOneThread, MixtureMixin, BaseEstimator):
    """A distribution over actions at each state; subclasses give ``_distribution``, ``_actor`` and ``_start``.

    Where ``n_states`` is given, states are discrete: indices 0 .. n_states - 1 of shape (N,) or (N, 1), or one-hot rows
    (N, n_states); whichever they are, the subclass sees one-hot rows. Whole numbers of shape (N,) are one column.
    """

    n_states: int | None = None

    @property
    def _has_prior(self) -> bool:
        """Whether the weights' sum matters: a prior prevails over samples that weigh little."""
        return True

    def _check_options(self) -> None:
        """Raise for settings that are not legal."""

    @abstractmethod
    def _check_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[FloatArray, NDArray[Any], FloatArray]:
        """Checked states (N, d), actions and weights (N,); called by ``fit`` itself, whose caller a warning names."""

    @abstractmethod
    def _distribution(self, states: FloatArray) -> Gaussian | Categorical:
        """The action distribution at checked states."""

    @abstractmethod
    def _check_actions(self, actions: ArrayLike, n_samples: int) -> NDArray[Any]:
        """Actions as the distribution wants them: (N, k) numbers, or (N,) indices."""

    @abstractmethod
    def _export_actions(self, actions: NDArray[Any]) -> NDArray[Any]:
        """The inverse of ``_check_actions``: the caller's shape, or the caller's labels."""

    def _check_states(self, states: ArrayLike, reset: bool = False, name: str = "states") -> FloatArray:
        columns = as_columns(states)
        if self.n_states is not None:
            columns = np.eye(as_count(self.n_states, "n_states"))[state_indices(columns, self.n_states, name)]
        return check_states(self, columns, reset, name)

    @classmethod
    def from_env(cls, env: Any, **settings: Any) -> Self:
        """A policy to start from in this environment, ready to act; see :meth:`from_spaces` for the settings.

        Parameters
        ----------
        env
            A Gymnasium environment, a vector environment, or a registered name such as "Pendulum-v1".
        """
        return cls.from_spaces(*spaces_of(env), **settings)

    @classmethod
    @abstractmethod
    def from_spaces(cls, observation_space: Any, action_space: Any, **settings: Any) -> Self:
        """A policy to start from in these spaces."""

    def sample(self, states: ArrayLike, rng: np.random.Generator) -> NDArray[Any]:
        """Draw one action per state.

        Parameters
        ----------
        states
            Shape (N, d).
        rng
            The only source of randomness.

        Returns
        -------
        ndarray
            Shape (N,) or (N, k), as the actions of ``fit`` were.
        """
        check_is_fitted(self)
        if not hasattr(rng, "standard_normal"):
            raise TypeError(f"rng must be a generator such as np.random.default_rng(0), got {rng!r}")
        return self._export_actions(self._distribution(self._check_states(states)).sample(rng))

    def log_prob(self, states: ArrayLike, actions: ArrayLike) -> FloatArray:
        """Log-density (log-probability) of each action at its state, in nats, shape (N,)."""
        check_is_fitted(self)
        checked = self._check_states(states)
        return self._distribution(checked).log_prob(self._check_actions(actions, len(checked)))

    def kl_divergence(self, other: Policy, states: ArrayLike) -> FloatArray:
        """KL(self ‖ other) of the action distributions at each state, in nats, shape (N,).

        Raises
        ------
        TypeError
            If one policy is Gaussian and the other categorical.
        ValueError
            If the action spaces differ.
        """
        mine, theirs = self._both(other, states)
        return mine.kl(theirs)

    def _both(self, other: Policy, states: ArrayLike) -> tuple[Any, Any]:
        """Action distributions of both policies, checked to be comparable."""
        check_is_fitted(self)
        mine = self._distribution(self._check_states(states))
        return mine, self._beside(mine, other, states)

    def _beside(self, mine: Any, other: Policy, states: ArrayLike) -> Any:
        """Action distributions of another policy, checked to be comparable with this one's."""
        check_is_fitted(other)
        theirs = other._distribution(other._check_states(states))
        if type(mine) is not type(theirs):
            raise TypeError(f"other must have a {type(mine).__name__} distribution, got {type(theirs).__name__}")
        self._check_same_actions(other)
        return theirs

    def comparison(self, states: ArrayLike, actions: ArrayLike) -> Callable[[Policy], tuple[Figures, Figures, Figures]]:
        """What compares other policies with this one, which is evaluated once for all of them.

        Returns
        -------
        callable
            Of another policy, functions that compute log pi_other(a|s) / pi(a|s), KL(self ‖ other) and
            KL(other ‖ self) at each state, all (N,). It raises as :meth:`kl_divergence` does.
        """
        check_is_fitted(self)
        mine = self._distribution(self._check_states(states))
        checked = self._check_actions(actions, len(states))  # type: ignore[arg-type]
        before = mine.log_prob(checked)

        def compare(other: Policy) -> tuple[Figures, Figures, Figures]:
            theirs = self._beside(mine, other, states)
            return lambda: theirs.log_prob(checked) - before, lambda: mine.kl(theirs), lambda: theirs.kl(mine)

        return compare

    def compare(self, other: Policy, states: ArrayLike, actions: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """The first two of what :meth:`comparison` says of one other policy."""
        log_ratio, kl, _ = self.comparison(states, actions)(other)
        return log_ratio(), kl()

    @abstractmethod
    def _check_same_actions(self, other: Any) -> None:
        """Raise ValueError unless the other policy acts in the same space."""

    @abstractmethod
    def compile(self, low: ArrayLike | None = None, high: ArrayLike | None = None) -> Act:
        """A plain NumPy function ``act(state, rng)`` for roll-outs."""

    def _one_hot(self, act: Act) -> Act:
        return act if self.n_states is None else OneHotActor(act, int(self.n_states))

    def save(self, path: str | Path) -> None:
        """Write the fitted policy to one file without pickle; see :func:`policies.save`."""
        from policies.storage import save

        save(self, path)

    @staticmethod
    def load(path: str | Path) -> Any:
        """Read a policy, of whichever class, that :meth:`save` wrote; see :func:`policies.load`."""
        from policies.storage import load

        return load(path)


class ParametricMixin(OnOneThread):
    """A policy that is a smooth function of a flat parameter vector; ``params`` is never written to in place."""

    @property
    @abstractmethod
    def params(self) -> FloatArray:
        """The parameters, a copy, shape (P,)."""

    @abstractmethod
    def with_params(self, params: ArrayLike) -> Self:
        """A copy of the policy with these parameters."""

    @abstractmethod
    def score_function(self, states: ArrayLike, actions: ArrayLike) -> FloatArray:
        """Gradient of log pi(a|s) in the parameters, shape (N, P)."""

    def score_product(self, states: ArrayLike, actions: ArrayLike, weights: FloatArray) -> FloatArray:
        """``sum_i w_i grad log pi(a_i|s_i)`` (P,): a policy gradient, where w are advantages over N."""
        return weights @ self.score_function(states, actions)

    @abstractmethod
    def fisher_factor(self, states: ArrayLike) -> FloatArray:
        """J with ``J'J / len(J)`` the Fisher information averaged over the states, the Hessian of their mean KL."""

    def fisher_product(self, states: ArrayLike) -> Callable[[FloatArray], FloatArray]:
        """``v -> F v`` with F the mean Fisher information, P x P and never formed."""
        J = self.fisher_factor(states)

        @limited()
        def product(v: FloatArray) -> FloatArray:
            return J.T @ (J @ v) / len(J)

        return product
