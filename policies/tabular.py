"""Tabular softmax policy: one distribution per distinct state.

Shapes: S states, A actions, N samples; `probabilities_` (S, A); the parameters are the flattened logits, P = S A.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from policies.actors import Act, CategoricalActor
from policies.base import ParametricMixin
from policies.categorical import Categorical
from policies.categorical_policy import CategoricalPolicy
from policies.checks import as_columns, check_states
from policies.spaces import Observations, state_indices
from policies.tolerances import IMPOSSIBLE
from reps_opt.tolerances import TINY
from reps_opt.validation import FloatArray, as_count, as_float_array, as_scalar, check_nonnegative, sums_to_one


class TabularPolicy(ParametricMixin, CategoricalPolicy):
    """Softmax policy on finitely many states, fitted by weighted counting.

    The weighted maximum-likelihood fit, with ``smoothing`` pseudo-counts spread as the prior asks:
    ``pi(a|s) = (sum_i w_i 1{s_i = s, a_i = a} + smoothing prior(a|s)) / (sum_i w_i 1{s_i = s} + smoothing)``.
    A state without weight keeps the prior.

    Parameters
    ----------
    n_states, n_actions
        Sizes of a finite MDP: states are then indices 0 .. n_states - 1, and actions 0 .. n_actions - 1. If None, the
        states are the distinct rows of X, and the actions the distinct values of y.
    smoothing
        Pseudo-counts per state, in units of the weights.
    prior
        Reference policy, shape (A,) or (n_states, A); None for the weighted marginal of the actions.

    Attributes
    ----------
    probabilities_
        pi(a|s), shape (S, A); ``fallback_`` (A,) serves states never seen, which exist only if ``n_states`` is None.
    classes_, states_
        Action labels (A,), and the state (S, d) of each row.

    Examples
    --------
    >>> policy = TabularPolicy(n_states=2, n_actions=2).fit([0, 0, 1], [0, 1, 1], sample_weight=[3.0, 1.0, 1.0])
    >>> policy.probabilities_
    array([[0.75, 0.25], [0.  , 1.  ]])
    >>> TabularPolicy.from_probabilities([[0.5, 0.5]]).log_prob([0], [1])
    array([-0.693])
    """

    def __init__(
        self,
        n_states: int | None = None,
        n_actions: int | None = None,
        smoothing: float = 0.0,
        prior: ArrayLike | None = None,
    ) -> None:
        self.n_states = n_states
        self.n_actions = n_actions
        self.smoothing = smoothing
        self.prior = prior

    @classmethod
    def from_probabilities(cls, probabilities: ArrayLike) -> Self:
        """The policy of a table pi(a|s), shape (S, A): a solution's policy, for one."""
        table = as_float_array(probabilities, "probabilities", ("S", "A"))
        check_nonnegative(table, "probabilities")
        sums = table.sum(axis=1)
        if not sums_to_one(sums, table):
            worst = int(np.argmax(np.abs(sums - 1)))
            raise ValueError(f"probabilities[{worst}] sums to {sums[worst]}: every row must sum to one")
        policy = cls(n_states=len(table), n_actions=table.shape[1])
        policy._set_table(np.arange(len(table), dtype=np.float64)[:, None], np.arange(table.shape[1]))
        policy.n_features_in_ = 1
        policy.probabilities_ = table / sums[:, None]
        policy.fallback_ = policy.probabilities_.mean(axis=0)
        return policy

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Count the weighted samples.

        Parameters
        ----------
        X
            State indices, shape (N,) or (N, 1); if ``n_states`` is None, any rows (N, d).
        y
            Actions, shape (N,): indices if ``n_actions`` is given, else any labels.
        sample_weight
            Weights w >= 0, shape (N,); None for ones.

        Raises
        ------
        ValueError
            For states or actions out of range, or bad weights.
        """
        smoothing = as_scalar(self.smoothing, "smoothing", low=0)
        states, labels, weights = self._check_fit(X, y, sample_weight)
        known = None if self.n_states is None else np.arange(as_count(self.n_states, "n_states"), dtype=np.float64)
        classes = self._classes(labels)
        self._set_table(np.unique(states, axis=0) if known is None else known[:, None], classes)
        counts = np.zeros((len(self.states_), len(classes)))
        np.add.at(counts, (self._rows(states), self._check_actions(labels, len(labels))), weights / np.max(weights))
        prior = self._prior_table(counts)
        mass = counts.sum(axis=1, keepdims=True)
        smoothing = smoothing / np.max(weights)
        posterior = (counts + smoothing * prior) / np.where(mass + smoothing > 0, mass + smoothing, 1.0)
        self.probabilities_ = np.where(mass + smoothing > 0, posterior, prior)
        self.fallback_ = prior.mean(axis=0)
        return self

    def _start(self, observed: Observations, typical: FloatArray) -> None:
        if self.n_states is None:
            raise TypeError(f"{type(self).__name__} needs a Discrete observation_space")
        self._set_table(np.arange(self.n_states, dtype=np.float64)[:, None], self.classes_)
        prior = self._prior_table(np.ones((self.n_states, len(self.classes_))))
        self.fallback_, self.probabilities_ = prior.mean(axis=0), prior.copy()

    def _set_table(self, states: FloatArray, classes: NDArray[Any]) -> None:
        self.states_, self.classes_ = states, classes

    def _prior_table(self, counts: FloatArray) -> FloatArray:
        if self.prior is None:
            return np.broadcast_to(counts.sum(axis=0) / counts.sum(), counts.shape)
        table = as_float_array(self.prior, "prior")
        if table.shape not in (counts.shape, counts.shape[1:]):
            raise ValueError(f"prior must have shape {counts.shape} or {counts.shape[1:]}, got {table.shape}")
        check_nonnegative(table, "prior")
        if not sums_to_one(table.sum(axis=-1), table):
            raise ValueError("prior must sum to one over the actions")
        return np.broadcast_to(table, counts.shape)

    def _check_states(self, states: ArrayLike, reset: bool = False, name: str = "states") -> FloatArray:
        columns = as_columns(states)
        if self.n_states is not None:
            columns = state_indices(columns, self.n_states, name)[:, None]
        return check_states(self, columns, reset, name) + 0.0  # -0.0 and 0.0 are one state

    def _rows(self, states: FloatArray) -> NDArray[np.intp]:
        """Row of each state in the table; S for a state never seen."""
        if self.n_states is not None:
            return states[:, 0].astype(np.intp)
        index = {row.tobytes(): i for i, row in enumerate(self.states_)}
        return np.array([index.get(row.tobytes(), len(index)) for row in states], dtype=np.intp)

    def _distribution(self, states: FloatArray) -> Categorical:
        return self._at_rows(self._rows(states))

    def _at_rows(self, rows: NDArray[np.intp]) -> Categorical:
        """The distribution in these rows of the table, S for the fallback's."""
        table = np.vstack([self.probabilities_, self.fallback_])
        with np.errstate(divide="ignore"):
            return Categorical(np.log(table[rows]))

    def refit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit a copy to other samples; arguments as in :meth:`fit`."""
        return clone(self).fit(X, y, sample_weight)

    def _check_mixable(self, old: Any) -> None:
        if not isinstance(old, TabularPolicy) or self.states_.shape[1] != old.states_.shape[1]:
            raise NotImplementedError(f"a table has no mixtures with {old!r}: only with another table of such states")
        self._check_same_actions(old)

    def _mix(self, old: Any, share: float) -> None:
        states = np.unique(np.vstack([self.states_, old.states_]), axis=0)
        mine, theirs = (p._at_rows(np.append(p._rows(states), len(p.states_))) for p in (self, old))
        mixed = mine.mixture(theirs, share).probabilities
        self.states_, self.probabilities_, self.fallback_ = states, mixed[:-1], mixed[-1]

    @property
    def params(self) -> FloatArray:
        """Logits, flattened row by row, shape (S A,); ``log pi`` with impossible actions at log(1e-290)."""
        check_is_fitted(self)
        with np.errstate(divide="ignore"):
            return np.maximum(np.log(self.probabilities_), np.log(TINY)).reshape(-1)

    def with_params(self, params: ArrayLike) -> Self:
        """A copy whose rows are the softmax of these logits (S A,); adding a constant to a row changes nothing."""
        check_is_fitted(self)
        logits = as_float_array(params, "params", (self.probabilities_.size,))
        policy = copy.copy(self)
        table = softmax(logits.reshape(self.probabilities_.shape), axis=1)
        policy.probabilities_ = np.where(table < IMPOSSIBLE, 0.0, table)
        return policy

    def score_function(self, states: ArrayLike, actions: ArrayLike) -> FloatArray:
        """Gradient of log pi(a|s) in the logits, ``e_sa - pi(.|s)`` in the block of s, shape (N, S A)."""
        check_is_fitted(self)
        rows = self._known_rows(states)
        score = np.zeros((len(rows), *self.probabilities_.shape))
        score[np.arange(len(rows)), rows] = self._at_rows(rows).surprise(self._check_actions(actions, len(rows)))
        return score.reshape(len(rows), -1)

    def fisher_factor(self, states: ArrayLike) -> FloatArray:
        """J with ``J'J / len(J)`` the mean Fisher information, block ``diag(pi) - pi pi'`` per state.

        A rows per distinct state, ``sqrt(pi_a) (e_a - pi)'``, scaled by how often the state occurs; shape (S' A, S A).
        """
        check_is_fitted(self)
        visited, counts = np.unique(self._known_rows(states), return_counts=True)
        S, A = self.probabilities_.shape
        block = Categorical(np.log(np.maximum(self.probabilities_[visited], TINY))).fisher_root()
        block *= np.sqrt(counts / counts.sum() * len(visited) * A)[:, None, None]
        J = np.zeros((len(visited), A, S, A))
        J[np.arange(len(visited)), :, visited] = block
        return J.reshape(-1, S * A)

    def _known_rows(self, states: ArrayLike) -> NDArray[np.intp]:
        rows = self._rows(self._check_states(states))
        unseen = np.flatnonzero(rows == len(self.states_))
        if unseen.size:
            raise ValueError(f"states[{unseen[0]}] was not in the data of fit: it has no parameters")
        return rows

    @property
    def _has_prior(self) -> bool:
        return bool(self.smoothing)

    def _one_hot(self, act: Act) -> Act:
        return act  # a table looks its states up by index

    def _actor(self) -> Act:
        if self.n_states is not None:
            return CategoricalActor(_IndexTable(self.probabilities_), self.classes_)
        index = {row.tobytes(): p for row, p in zip(self.states_, self.probabilities_, strict=True)}
        return CategoricalActor(_RowTable(index, self.fallback_), self.classes_)


@dataclass(frozen=True)
class _IndexTable:
    table: FloatArray

    def __call__(self, state: NDArray[Any]) -> FloatArray:
        return self.table[int(state[0]) if len(state) == 1 else int(np.argmax(state))]


@dataclass(frozen=True)
class _RowTable:
    table: dict[bytes, FloatArray]
    fallback: FloatArray

    def __call__(self, state: NDArray[Any]) -> FloatArray:
        return self.table.get((state.astype(np.float64) + 0.0).tobytes(), self.fallback)
