"""Finite Markov decision processes, validated once and evaluated exactly.

Shapes used throughout: S states, A actions; transitions P are sparse (S*A, S) with row index ``s*A + a``; rewards r,
policies, occupancies and advantages are (S, A); values and state distributions are (S,).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from reps_opt.processes import construction, markov
from reps_opt.processes.dynamic_programming import OptimalPolicy, optimal_policy
from reps_opt.processes.graph import BoolArray, reachable_states, state_graph
from reps_opt.processes.sources import Sources
from reps_opt.processes.tables import Tables
from reps_opt.threads import limited
from reps_opt.tolerances import CLOSE, UNTHREADED_STATES
from reps_opt.validation import FloatArray, as_float_array, check_shape, read_only
from reps_opt.values import cached_property

Result = TypeVar("Result")
Rest = ParamSpec("Rest")


def _on_one_thread(
    method: Callable[Concatenate[MDP, Rest], Result],
) -> Callable[Concatenate[MDP, Rest], Result]:
    """Do a method's systems on one thread of BLAS: two threads at a small one wait for each other a hundred times."""

    @wraps(method)
    def guarded(self: MDP, /, *args: Rest.args, **kwargs: Rest.kwargs) -> Result:
        if self.n_states <= UNTHREADED_STATES:
            return method(self, *args, **kwargs)
        with limited():
            return method(self, *args, **kwargs)

    return guarded


class MDP(Sources, Tables):
    r"""A finite Markov decision process with discounted or average reward.

    Parameters
    ----------
    P
        Transition probabilities: dense (S, A, S), SciPy sparse (S*A, S) with row index ``s*A + a``, or a list of A
        sparse matrices (S, S), one an action.
    r
        Rewards: (S, A), or in any form of ``P`` for rewards that depend on the next state (their expectation is kept).
    gamma
        Discount factor in (0, 1]; 1 means average reward.
    mu0
        Start distribution (S,), uniform by default. With ``gamma=1`` it decides only which recurrent class a
        multichain policy ends in.
    layout
        Optional map of the states, for drawing: equal-length strings, one character a state, row by row.
    allowed
        Mask (S, A) of the actions that each state has, by default all. What ``P`` and ``r`` hold elsewhere is not
        read. ``"rows"`` says that a state has the actions whose row of ``P`` is not all zero.
    order
        Axes of a dense ``P`` of three dimensions (and of such an ``r``): ``"SAS"``, the default, is state, action, next
        state; ``"ASS"`` is one matrix an action, as pymdptoolbox has it. Where A = S nothing but this tells them apart,
        and a table that does not say which is read with a warning.
    state_labels, action_labels
        Optional names of states and actions, for summaries, frames, datasets and figures.
    counts
        Optional (S, A): how many observed transitions an empirical model has of each pair.

    Attributes
    ----------
    transitions : csr_array (S*A, S)
        Rows of pairs that are not allowed are empty.
    rewards : ndarray (S, A)
        At a pair that is not allowed stands the least reward of the state's other actions, for want of any.
    gamma : float
    mu0 : ndarray (S,)
    allowed : ndarray of bool (S, A)
    n_states, n_actions : int
    layout : tuple of str, or None
    state_labels, action_labels : tuple, or None
    counts : ndarray (S, A), or None
    unreachable : ndarray of int
        States that no policy visits from ``mu0``.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes and shapes, NaN, negative probabilities and rows that do not sum to one (beyond 1e-8, or what
        single precision can hold of it); the message names the argument and the index.
    AttributeError
        For setting an attribute: an MDP is a value. :meth:`replace` makes another.

    Notes
    -----
    All arrays are copies, read-only. Two MDPs are equal when everything they consist of is equal, and then have the
    same hash; they can be copied and pickled. The occupancy of a policy,

    .. math:: p(s,a) = \pi(a|s) \mu(s), \qquad
              \mu = (1-\gamma)\mu_0 + \gamma P_\pi' \mu \quad\text{or}\quad \mu = P_\pi' \mu,

    sums to one, so :meth:`expected_return` is the mean reward under it: (1 - gamma) times the discounted sum, or the
    long-run average. :meth:`value` keeps the usual unnormalised scale, the expected discounted sum.

    References
    ----------
    Puterman (1994), *Markov decision processes*, sections 6.9 (occupancy), 8.2 (gain and bias).

    Examples
    --------
    Two states; the action is the next state, and staying pays 1 in state 0 and 2 in state 1.

    >>> import numpy as np
    >>> mdp = MDP(np.array([np.eye(2), np.eye(2)]), [[1, 0], [0, 2]], gamma=0.5, mu0=[1, 0], order="SAS")
    >>> mdp.value([[0, 1], [0, 1]])
    array([2., 4.])
    >>> mdp.expected_return([[0, 1], [0, 1]])
    1.0
    >>> mdp.solve_optimal().value
    array([2., 4.])
    """

    def __init__(
        self,
        P: ArrayLike | sp.sparray | sp.spmatrix | Sequence[sp.sparray | sp.spmatrix],
        r: ArrayLike | sp.sparray | sp.spmatrix | Sequence[sp.sparray | sp.spmatrix],
        gamma: float = 0.95,
        mu0: ArrayLike | None = None,
        layout: Sequence[str] | None = None,
        *,
        allowed: ArrayLike | str | None = None,
        order: str | None = None,
        state_labels: Sequence[Hashable] | None = None,
        action_labels: Sequence[Hashable] | None = None,
        counts: ArrayLike | None = None,
    ) -> None:
        transitions, mask = construction.as_transitions(P, order, allowed)
        self.__dict__.update(
            transitions=transitions,
            rewards=construction.as_rewards(r, order, transitions, mask),
            allowed=read_only(mask),
            n_states=mask.shape[0],
            n_actions=mask.shape[1],
        )
        self._annotate(
            gamma=gamma,
            mu0=mu0,
            layout=layout,
            state_labels=state_labels,
            action_labels=action_labels,
            counts=counts,
        )

    def uniform_policy(self) -> FloatArray:
        """The policy (S, A) that takes every action a state has with the same probability."""
        return self.allowed / self.allowed.sum(axis=1, keepdims=True)

    def as_policy(self, policy: ArrayLike) -> FloatArray:
        """Validate a policy: (S, A) rows of probabilities, or (S,) integers, the action taken in each state.

        Actions that a state does not have must have no probability, and get exactly zero.
        """
        given = np.asarray(policy)
        if given.ndim == 1 and given.dtype.kind in "iu":
            check_shape(given, "policy", (self.n_states,))
            if given.min() < 0 or given.max() >= self.n_actions:
                raise ValueError(f"policy holds actions outside 0 ... {self.n_actions - 1}")
            table = np.eye(self.n_actions)[given]
        else:
            table = construction.normalised_rows(as_float_array(policy, "policy", self.rewards.shape), "policy")
        return construction.within_allowed(table, self.allowed, "policy")

    def chain(self, policy: ArrayLike) -> sp.csr_array:
        """Transition matrix P_pi (S, S) of the Markov chain that a policy induces."""
        return sp.csr_array(self._chain(self.as_policy(policy)))

    @cached_property
    def _flows(self) -> dict[bytes, Any]:
        """What :class:`~reps_opt.processes.flow.Flow` remembers of a small MDP."""
        return {}

    @_on_one_thread
    def value(self, policy: ArrayLike) -> FloatArray:
        """Exact value (S,): the expected discounted sum of rewards; with ``gamma=1`` the bias.

        The bias solves ``h = r_pi - g + P_pi h`` and has stationary mean zero in every recurrent class.
        """
        level, relative = self._evaluate(self.as_policy(policy))
        if self.gamma < 1:
            return relative + level / (1 - self.gamma)
        if np.ptp(level) > CLOSE * max(1.0, float(np.abs(level).max())):
            text = "the policy is multichain: its gain depends on the start state and its bias is not unique"
            warnings.warn(text, UserWarning, stacklevel=3)
        return relative

    def _evaluate(self, policy: FloatArray) -> tuple[Any, FloatArray]:
        """A level and what is left (S,): of the discounted value (a number, see relative_value), or gain and bias."""
        reward = np.einsum("sa,sa->s", policy, self.rewards)
        if self.gamma < 1:
            return markov.relative_value(self._chain(policy), self.gamma, reward)
        return markov.evaluate_average(self._chain(policy), reward)[:2]

    @_on_one_thread
    def gain(self, policy: ArrayLike) -> FloatArray:
        """Long-run average reward (S,) from each state, whatever ``gamma``; constant when the policy is unichain."""
        probabilities = self.as_policy(policy)
        reward = np.einsum("sa,sa->s", probabilities, self.rewards)
        return markov.evaluate_average(self._chain(probabilities), reward).gain

    @_on_one_thread
    def advantage(self, policy: ArrayLike) -> FloatArray:
        """Exact advantage (S, A): ``r + gamma P V - V``; with ``gamma=1``, ``r - g + P h - h`` for gain and bias.

        Minus infinity at actions that a state does not have.
        """
        level, relative = self._evaluate(self.as_policy(policy))
        return self.bellman_error(relative, level if self.gamma < 1 else level[:, None])

    def bellman_error(self, value: ArrayLike, level: float | FloatArray = 0.0) -> FloatArray:
        """Bellman error (S, A) of any value function: ``delta = r - level + gamma P V - V``.

        Minus infinity at actions that a state does not have, so that the best action is one of the others.
        """
        return self._bellman_error(as_float_array(value, "value", (self.n_states,)), level)

    @_on_one_thread
    def state_distribution(self, policy: ArrayLike) -> FloatArray:
        """State distribution (S,) of a policy, summing to one: discounted from ``mu0``, or long-run with ``gamma=1``.

        States that the policy does not reach have exactly zero.
        """
        chain = self._chain(self.as_policy(policy))
        reached = np.flatnonzero(reachable_states(chain, self.mu0 > 0))
        inner, start = chain, self.mu0
        if reached.size < self.n_states:
            inner, start = chain[reached][:, reached], self.mu0[reached]
        mu = np.zeros(self.n_states)
        if self.gamma < 1:
            mu[reached] = markov.discounted_occupancy(inner, self.gamma, start, graded=True)
        else:
            mu[reached] = markov.average_occupancy(inner, start)
        return mu

    def occupancy(self, policy: ArrayLike) -> FloatArray:
        """Occupancy measure (S, A) of a policy: ``p(s, a) = mu(s) pi(a|s)``, summing to one."""
        probabilities = self.as_policy(policy)
        return self.state_distribution(probabilities)[:, None] * probabilities

    def flow_residual(self, occupancy: FloatArray) -> FloatArray:
        """What a distribution (S, A) misses of the flow, (S,): ``sum_a p - (1 - gamma) mu0 - gamma P'p``."""
        occupancy = np.asarray(occupancy)
        pairs = occupancy.ravel()
        inflow = self.transitions.T @ pairs if self._dense is None else pairs @ self._dense.reshape(pairs.size, -1)
        return occupancy.sum(axis=1) - (1 - self.gamma) * self.mu0 - self.gamma * inflow

    def expected_return(self, policy: ArrayLike) -> float:
        """Mean reward under the policy's occupancy: ``(1 - gamma) mu0.V``, or the average reward from ``mu0``."""
        return float(np.sum(self.occupancy(policy) * self.rewards))

    @_on_one_thread
    def solve_optimal(self) -> OptimalPolicy:
        """Optimal deterministic policy with its value, by policy iteration (inexact at first for large MDPs).

        With ``gamma=1`` the policy has the best gain from every state.
        """
        return optimal_policy(self)

    @cached_property
    def reachable(self) -> BoolArray:
        """States (S,) that some policy visits from ``mu0``."""
        return reachable_states(state_graph(self.transitions, self.allowed.ravel()), self.mu0 > 0)

    @property
    def unreachable(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Indices of the states that no policy visits from ``mu0``."""
        return np.flatnonzero(~self.reachable)

    def __repr__(self) -> str:
        kind = f"gamma={self.gamma:g}" if self.gamma < 1 else "average reward"
        lost = self.unreachable.size
        note = f", {lost} states unreachable from mu0" if lost else ""
        barred = self.allowed.size - int(np.count_nonzero(self.allowed))
        note += f", {barred} pairs not allowed" if barred else ""
        if self.counts is not None:
            note += f", {int(np.count_nonzero(self.counts == 0))} pairs never seen"
        return f"MDP({self.n_states} states, {self.n_actions} actions, {kind}{note})"
