"""Finite Markov decision processes, validated once and evaluated exactly.

Shapes used throughout: S states, A actions; transitions P are sparse (S*A, S) with row index ``s*A + a``; rewards r,
policies, occupancies and advantages are (S, A); values and state distributions are (S,).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from reps_opt.processes import markov
from reps_opt.processes.graph import BoolArray, reachable_states, state_graph
from reps_opt.validation import (
    FloatArray,
    as_float_array,
    as_scalar,
    check_finite,
    check_nonnegative,
    check_shape,
    read_only,
)

if TYPE_CHECKING:
    import gymnasium

    from reps_opt.processes.dynamic_programming import OptimalPolicy

SUM_TOLERANCE = 1e-8
"""How far from one a probability row may sum: within it rows are renormalised, beyond it they are an error."""


class MDP:
    r"""A finite Markov decision process with discounted or average reward.

    Parameters
    ----------
    P
        Transition probabilities: dense (S, A, S), or SciPy sparse (S*A, S) with row index ``s*A + a``.
    r
        Rewards: (S, A), or (S, A, S) for rewards that depend on the next state (their expectation is kept).
    gamma
        Discount factor in (0, 1]; 1 means average reward.
    mu0
        Start distribution (S,), uniform by default. With ``gamma=1`` it decides only which recurrent class a
        multichain policy ends in.
    layout
        Optional map of the states, for drawing: equal-length strings, one character a state, row by row.

    Attributes
    ----------
    transitions : csr_array (S*A, S)
    rewards : ndarray (S, A)
    gamma : float
    mu0 : ndarray (S,)
    n_states, n_actions : int
    layout : tuple of str, or None
    unreachable : ndarray of int
        States that no policy visits from ``mu0``.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes and shapes, NaN, negative probabilities and rows that do not sum to one (beyond 1e-8); the
        message names the argument and the index.

    Notes
    -----
    All arrays are copies, read-only. The occupancy of a policy,

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
    >>> mdp = MDP(np.array([np.eye(2), np.eye(2)]), [[1, 0], [0, 2]], gamma=0.5, mu0=[1, 0])
    >>> mdp.value([[0, 1], [0, 1]])
    array([2., 4.])
    >>> mdp.expected_return([[0, 1], [0, 1]])
    1.0
    >>> mdp.solve_optimal().value
    array([2., 4.])
    """

    def __init__(
        self,
        P: ArrayLike | sp.sparray | sp.spmatrix,
        r: ArrayLike,
        gamma: float = 0.95,
        mu0: ArrayLike | None = None,
        layout: Sequence[str] | None = None,
    ) -> None:
        self.gamma = as_scalar(gamma, "gamma", low=0.0, high=1.0, low_open=True)
        self.transitions = _as_transitions(P, np.shape(r))
        self.n_states = self.transitions.shape[1]
        self.n_actions = self.transitions.shape[0] // self.n_states
        self.rewards = read_only(self._expected_reward(r))
        self.mu0 = read_only(self._as_start(mu0))
        self.layout = self._as_layout(layout)

    @classmethod
    def from_gymnasium(
        cls, env: str | gymnasium.Env[Any, Any], gamma: float = 0.99, on_done: str = "absorb", **kwargs: Any
    ) -> MDP:
        """Read the transition table of a Gymnasium environment such as FrozenLake-v1, CliffWalking-v1 or Taxi-v4.

        Parameters
        ----------
        env
            An environment with ``env.unwrapped.P``, or the id of one.
        gamma
            Discount factor in (0, 1]; 1 means average reward.
        on_done
            What follows a transition flagged ``done``: ``"absorb"`` makes the state it enters absorbing, with reward
            zero; ``"restart"`` sends it to the start distribution, as average reward needs.
        **kwargs
            Passed to ``gymnasium.make`` when ``env`` is an id: ``is_slippery=True``, ``map_name="8x8"``.

        Returns
        -------
        MDP
            States that cannot be reached from the start are kept, and listed in ``mdp.unreachable``.

        Examples
        --------
        >>> mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=0.99)
        >>> mdp.n_states, mdp.n_actions, mdp.layout[0]
        (16, 4, 'SFFF')
        """
        from reps_opt.processes.gymnasium_tables import read_table

        return cls(gamma=gamma, **read_table(env, on_done, kwargs))

    def uniform_policy(self) -> FloatArray:
        """The policy (S, A) that takes every action with the same probability."""
        return np.full((self.n_states, self.n_actions), 1.0 / self.n_actions)

    def as_policy(self, policy: ArrayLike) -> FloatArray:
        """Validate a policy: (S, A) rows of probabilities, or (S,) integers, the action taken in each state."""
        given = np.asarray(policy)
        if given.ndim == 1 and given.dtype.kind in "iu":
            check_shape(given, "policy", (self.n_states,))
            if given.min() < 0 or given.max() >= self.n_actions:
                raise ValueError(f"policy holds actions outside 0 ... {self.n_actions - 1}")
            return np.eye(self.n_actions)[given]
        probabilities = as_float_array(policy, "policy", (self.n_states, self.n_actions))
        return _normalised_rows(probabilities, "policy")

    def chain(self, policy: ArrayLike) -> sp.csr_array:
        """Transition matrix P_pi (S, S) of the Markov chain that a policy induces."""
        return self._chain(self.as_policy(policy))

    def _chain(self, policy: FloatArray) -> sp.csr_array:
        n_pairs = self.n_states * self.n_actions
        choose = sp.csr_array(
            (policy.ravel(), np.arange(n_pairs), np.arange(0, n_pairs + 1, self.n_actions)),
            shape=(self.n_states, n_pairs),
        )
        if (policy == 0).any():
            choose = choose.copy()
            choose.eliminate_zeros()
        return choose @ self.transitions

    def value(self, policy: ArrayLike) -> FloatArray:
        """Exact value (S,): the expected discounted sum of rewards; with ``gamma=1`` the bias.

        The bias solves ``h = r_pi - g + P_pi h`` and has stationary mean zero in every recurrent class.
        """
        probabilities = self.as_policy(policy)
        chain = self._chain(probabilities)
        reward = np.einsum("sa,sa->s", probabilities, self.rewards)
        if self.gamma < 1:
            return markov.discounted_solve(chain, self.gamma, reward)
        gain, bias = markov.gain_and_bias(chain, reward)
        self._warn_if_multichain(gain)
        return bias

    def gain(self, policy: ArrayLike) -> FloatArray:
        """Long-run average reward (S,) from each state, whatever ``gamma``; constant when the policy is unichain."""
        probabilities = self.as_policy(policy)
        reward = np.einsum("sa,sa->s", probabilities, self.rewards)
        return markov.gain_and_bias(self._chain(probabilities), reward)[0]

    def advantage(self, policy: ArrayLike) -> FloatArray:
        """Exact advantage (S, A): ``r + gamma P V - V``; with ``gamma=1``, ``r - g + P h - h`` for gain and bias."""
        probabilities = self.as_policy(policy)
        if self.gamma < 1:
            return self.bellman_error(self.value(probabilities))
        reward = np.einsum("sa,sa->s", probabilities, self.rewards)
        gain, bias = markov.gain_and_bias(self._chain(probabilities), reward)
        return self.bellman_error(bias) - gain[:, None]

    def bellman_error(self, value: ArrayLike) -> FloatArray:
        """Bellman error (S, A) of any value function: ``delta = r + gamma P V - V``."""
        v = as_float_array(value, "value", (self.n_states,))
        return self.rewards + self.gamma * (self.transitions @ v).reshape(self.rewards.shape) - v[:, None]

    def state_distribution(self, policy: ArrayLike) -> FloatArray:
        """State distribution (S,) of a policy, summing to one: discounted from ``mu0``, or long-run with ``gamma=1``.

        States that the policy does not reach have exactly zero.
        """
        chain = self.chain(policy)
        reached = np.flatnonzero(reachable_states(chain, self.mu0 > 0))
        inner = chain[reached][:, reached]
        mu = np.zeros(self.n_states)
        if self.gamma < 1:
            mu[reached] = markov.discounted_occupancy(inner, self.gamma, self.mu0[reached], graded=True)
        else:
            mu[reached] = markov.average_occupancy(inner, self.mu0[reached])
        return mu

    def occupancy(self, policy: ArrayLike) -> FloatArray:
        """Occupancy measure (S, A) of a policy: ``p(s, a) = mu(s) pi(a|s)``, summing to one."""
        probabilities = self.as_policy(policy)
        return self.state_distribution(probabilities)[:, None] * probabilities

    def flow_residual(self, occupancy: FloatArray) -> FloatArray:
        """What a distribution (S, A) misses of the flow, (S,): ``sum_a p - (1 - gamma) mu0 - gamma P'p``."""
        inflow = self.transitions.T @ occupancy.ravel()
        return occupancy.sum(axis=1) - (1 - self.gamma) * self.mu0 - self.gamma * inflow

    def expected_return(self, policy: ArrayLike) -> float:
        """Mean reward under the policy's occupancy: ``(1 - gamma) mu0.V``, or the average reward from ``mu0``."""
        return float(np.sum(self.occupancy(policy) * self.rewards))

    def solve_optimal(self) -> OptimalPolicy:
        """Optimal deterministic policy with its value, by policy iteration (inexact at first for large MDPs).

        With ``gamma=1`` the policy has the best gain from every state.
        """
        from reps_opt.processes.dynamic_programming import optimal_policy

        return optimal_policy(self)

    @cached_property
    def reachable(self) -> BoolArray:
        """States (S,) that some policy visits from ``mu0``."""
        everything = np.ones(self.n_states * self.n_actions, dtype=bool)
        return reachable_states(state_graph(self.transitions, everything), self.mu0 > 0)

    @property
    def unreachable(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Indices of the states that no policy visits from ``mu0``."""
        return np.flatnonzero(~self.reachable)

    def __repr__(self) -> str:
        kind = f"gamma={self.gamma:g}" if self.gamma < 1 else "average reward"
        lost = self.unreachable.size
        note = f", {lost} states unreachable from mu0" if lost else ""
        return f"MDP({self.n_states} states, {self.n_actions} actions, {kind}{note})"

    def _expected_reward(self, r: ArrayLike) -> FloatArray:
        shape = (self.n_states, self.n_actions)
        if np.ndim(r) == 3:
            by_next = as_float_array(r, "r", (*shape, self.n_states)).reshape(-1, self.n_states)
            return np.asarray(self.transitions.multiply(by_next).sum(axis=1)).reshape(shape)
        return as_float_array(r, "r", shape).copy()

    def _as_start(self, mu0: ArrayLike | None) -> FloatArray:
        if mu0 is None:
            return np.full(self.n_states, 1.0 / self.n_states)
        start = as_float_array(mu0, "mu0", (self.n_states,))
        check_nonnegative(start, "mu0")
        return _normalised_rows(start[None, :], "mu0")[0]

    def _as_layout(self, layout: Sequence[str] | None) -> tuple[str, ...] | None:
        if layout is None:
            return None
        rows = tuple(str(row) for row in layout)
        if len({len(row) for row in rows}) != 1 or sum(map(len, rows)) != self.n_states:
            raise ValueError(f"layout must be equal-length strings with {self.n_states} characters in all, one a state")
        return rows

    @staticmethod
    def _warn_if_multichain(gain: FloatArray) -> None:
        if np.ptp(gain) > 1e-9 * max(1.0, float(np.abs(gain).max())):
            warnings.warn(
                "the policy is multichain: its gain depends on the start state and its bias is not unique",
                UserWarning,
                stacklevel=3,
            )


def _as_transitions(P: Any, reward_shape: tuple[int, ...]) -> sp.csr_array:
    if sp.issparse(P):
        matrix = sp.csr_array(P)
        if matrix.dtype.kind not in "buif":
            raise TypeError(f"P must hold real numbers, got dtype {matrix.dtype}")
        matrix = matrix.astype(np.float64, copy=True)
        n_pairs, n_states = matrix.shape
        matrix.sum_duplicates()
        check_finite(matrix.data, "P.data")
    else:
        dense = as_float_array(P, "P")
        if dense.ndim == 2:  # (S*A, S), as for a sparse matrix
            n_pairs, n_states = dense.shape
        else:
            check_shape(dense, "P", ("S", "A", dense.shape[0] if dense.ndim else 0))
            n_states, n_actions = dense.shape[:2]
            n_pairs = n_states * n_actions
        matrix = sp.csr_array(dense.reshape(n_pairs, n_states))
    if n_states == 0 or n_pairs == 0 or n_pairs % n_states:
        raise ValueError(f"P must have shape (S, A, S) or (S*A, S) with S, A >= 1, got {np.shape(P)}")
    expected = (n_states, n_pairs // n_states)
    if len(reward_shape) in (2, 3) and reward_shape[:2] != expected:
        raise ValueError(f"r must have shape {expected} or {(*expected, n_states)} to fit P, got {reward_shape}")
    return _normalised_transitions(matrix, expected[1])


def _normalised_transitions(matrix: sp.csr_array, n_actions: int) -> sp.csr_array:
    def place(row: int) -> str:
        return f"state {row // n_actions}, action {row % n_actions}"

    row_of = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    if matrix.data.size and matrix.data.min() < 0:
        worst = int(np.argmin(matrix.data))
        raise ValueError(f"P has a negative probability {matrix.data[worst]:g} at {place(row_of[worst])}")
    total = np.asarray(matrix.sum(axis=1)).ravel()
    worst = int(np.argmax(np.abs(total - 1)))
    if abs(total[worst] - 1) > SUM_TOLERANCE:
        raise ValueError(f"P must have rows that sum to one: {place(worst)} sums to {total[worst]:.12g}")
    matrix.data /= total[row_of]
    matrix.eliminate_zeros()
    matrix.sort_indices()
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False
    return matrix


def _normalised_rows(probabilities: FloatArray, name: str) -> FloatArray:
    check_nonnegative(probabilities, name)
    total = probabilities.sum(axis=1, keepdims=True)
    worst = int(np.argmax(np.abs(total - 1)))
    if abs(total[worst, 0] - 1) > SUM_TOLERANCE:
        row = f" row {worst}" if probabilities.shape[0] > 1 else ""
        raise ValueError(f"{name}{row} must sum to one, got {total[worst, 0]:.12g}")
    return probabilities / total
