"""Chains: the small Markov decision processes of the literature, each a function that returns an MDP.

Shapes: S states, A actions; ``next_state`` is (S, A) integers, rewards r are (S, A), start distributions mu0 (S,).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from reps_opt.processes.mdp import MDP
from reps_opt.validation import FloatArray, as_count, as_scalar


def two_state(gamma: float = 0.95, mu0: ArrayLike | None = None) -> MDP:
    """Two states in which the action is the next state; staying pays 1 in state 0 and 2 in state 1.

    Staying in state 0 hides the better state 1: where state 0 is visited more, the plain policy gradient first learns
    to stay there, and sits on a plateau. Natural steps do not.

    Parameters
    ----------
    gamma
        Discount factor in (0, 1]; 1 is the average reward of the papers.
    mu0
        Start distribution (2,), uniform by default.

    Raises
    ------
    TypeError, ValueError
        If ``gamma`` or ``mu0`` is not legal for an :class:`~reps_opt.MDP`.

    References
    ----------
    Kakade (2002), *A natural policy gradient*, section 5 (figure 2); Bagnell and Schneider (2003), *Covariant policy
    search*, section 5.

    Examples
    --------
    Kakade's starting policy is in state 0 four fifths of the time.

    >>> mdp = two_state(gamma=1.0)
    >>> mdp.expected_return([[0.76, 0.24], [0.96, 0.04]])
    0.624
    >>> mdp.solve_optimal().policy.argmax(axis=1)
    array([1, 1])
    """
    return deterministic([[0, 1], [0, 1]], [[1.0, 0.0], [0.0, 2.0]], gamma=gamma, mu0=mu0)


def single_chain(n_states: int = 5, gamma: float = 0.95, end_reward: float = 10.0, return_reward: float = 2.0) -> MDP:
    """A chain whose far end pays most, with a small reward at every step for going back to the start.

    Action 0 advances for nothing and stays in the last state for ``end_reward``; action 1 returns to state 0, the
    start, for ``return_reward``.

    Parameters
    ----------
    n_states
        Length of the chain, at least 2.
    gamma
        Discount factor in (0, 1]; 1 means average reward.
    end_reward, return_reward
        Rewards of the last state's self-loop and of every return.

    Raises
    ------
    TypeError, ValueError
        If ``n_states`` is not an integer of at least 2, or a reward is not a finite number.

    References
    ----------
    Furmston and Barber (2010), *Variational methods for reinforcement learning*, section 5; Peters, Muelling and Altun
    (2010), *Relative entropy policy search*, section 4.1.

    Examples
    --------
    >>> mdp = single_chain()
    >>> round(mdp.expected_return(mdp.uniform_policy()), 3)
    1.255
    >>> round(mdp.expected_return(mdp.solve_optimal().policy), 3)
    8.145
    """
    n = as_count(n_states, "n_states", low=2)
    states = np.arange(n)
    next_state = np.column_stack([np.minimum(states + 1, n - 1), np.zeros(n, dtype=int)])
    return _chain_with_returns(next_state, {n - 1: as_scalar(end_reward, "end_reward")}, gamma, return_reward)


def double_chain(
    length: int = 4, gamma: float = 0.95, end_rewards: tuple[float, float] = (10.0, 5.0), return_reward: float = 2.0
) -> MDP:
    """Two chains that leave the same start: one ends in the larger reward, the other in half of it.

    State 0 is the start, where action 0 enters the first chain (states 1 ... ``length``) and action 1 the second
    (states ``length + 1`` ... ``2 length``). In a chain, action 0 advances for nothing and stays in the last state for
    that chain's end reward; action 1 returns to the start for ``return_reward``.

    Parameters
    ----------
    length
        States in each chain, beside the start: 4 gives the nine states of the papers.
    gamma
        Discount factor in (0, 1]; 1 means average reward.
    end_rewards
        Rewards of the self-loops at the two ends.
    return_reward
        Reward of every return.

    Raises
    ------
    TypeError, ValueError
        If ``length`` is not a positive integer, or a reward is not a finite number.

    References
    ----------
    Furmston and Barber (2010), *Variational methods for reinforcement learning*, section 5; Peters, Muelling and Altun
    (2010), *Relative entropy policy search*, section 4.1.

    Examples
    --------
    The best policy takes four free steps and then 10 for ever: ``10 * 0.95**4``.

    >>> mdp = double_chain()
    >>> mdp.n_states
    9
    >>> round(mdp.expected_return(mdp.solve_optimal().policy), 3)
    8.145
    """
    m = as_count(length, "length")
    if np.shape(end_rewards) != (2,):
        raise ValueError(f"end_rewards must be two numbers, got {end_rewards!r}")
    ends = {m: as_scalar(end_rewards[0], "end_rewards[0]"), 2 * m: as_scalar(end_rewards[1], "end_rewards[1]")}
    advance = np.arange(2 * m + 1) + 1
    advance[list(ends)] = list(ends)
    next_state = np.column_stack([advance, np.zeros(2 * m + 1, dtype=int)])
    next_state[0, 1] = m + 1
    return _chain_with_returns(next_state, ends, gamma, return_reward)


def lecture_chain(
    n_states: int = 101, gamma: float = 1.0, reward_centre: float = 65.0, reward_width: float = 8.0
) -> MDP:
    r"""A long reflecting chain, where a small change of the policy is a large change of the state distribution.

    Action 0 steps left, action 1 right, and a step off either end stays where it is. Stepping right with one shared
    probability p makes the long-run state distribution geometric,

    .. math:: \mu_p(s) \propto \left(\frac{p}{1-p}\right)^s,

    so that p = 0.51 instead of 0.5 is a mean policy KL of 2.0e-4 nats, but a state-distribution KL of 0.486 nats. The
    reward is a bump, ``exp(-(s - reward_centre)**2 / (2 reward_width**2))``.

    Parameters
    ----------
    n_states
        Length of the chain, at least 2.
    gamma
        Discount factor in (0, 1]; 1, the default, means average reward.
    reward_centre, reward_width
        Place and width of the bump, in states.

    Raises
    ------
    TypeError, ValueError
        If ``n_states`` is not an integer of at least 2, or ``reward_width`` is not positive.

    References
    ----------
    Levin and Peres (2017), *Markov chains and mixing times*, section 2.5 (birth-and-death chains).

    Examples
    --------
    >>> mdp = lecture_chain()
    >>> round(mdp.expected_return(mdp.uniform_policy()), 4)
    0.1985
    >>> round(mdp.expected_return([[1 - 0.5051, 0.5051]] * 101), 4)
    0.2303
    """
    n = as_count(n_states, "n_states", low=2)
    width = as_scalar(reward_width, "reward_width", low=0.0, low_open=True)
    states = np.arange(n)
    next_state = np.column_stack([np.maximum(states - 1, 0), np.minimum(states + 1, n - 1)])
    bump = np.exp(-((states - as_scalar(reward_centre, "reward_centre")) ** 2) / (2 * width**2))
    return deterministic(next_state, np.column_stack([bump, bump]), gamma=gamma)


def riverswim(n_states: int = 6, gamma: float = 0.95, rewards: tuple[float, float] = (5.0, 10_000.0)) -> MDP:
    """Swim against the current: a small reward downstream, a large one upstream, hard to reach.

    Action 0 goes left and always succeeds, and pays ``rewards[0]`` in state 0. Action 1 goes right with probability
    0.3, stays with 0.6 and is washed back with 0.1 (stays with 0.7 in state 0); in the last state it stays with 0.3,
    is washed back with 0.7, and staying pays ``rewards[1]``. The start is state 1 or 2.

    Parameters
    ----------
    n_states
        Length of the river, at least 3.
    gamma
        Discount factor in (0, 1]; 1 means average reward.
    rewards
        The small and the large reward.

    Raises
    ------
    TypeError, ValueError
        If ``n_states`` is not an integer of at least 3, or ``rewards`` are not two finite numbers.

    References
    ----------
    Strehl and Littman (2008), *An analysis of model-based interval estimation for Markov decision processes*, figure 1.

    Examples
    --------
    >>> mdp = riverswim()
    >>> mdp.solve_optimal().policy.argmax(axis=1)
    array([1, 1, 1, 1, 1, 1])
    """
    n = as_count(n_states, "n_states", low=3)
    if np.shape(rewards) != (2,):
        raise ValueError(f"rewards must be two numbers, got {rewards!r}")
    right, stay, back = 0.3, 0.6, 0.1
    P = np.zeros((n, 2, n))
    states = np.arange(n)
    P[states, 0, np.maximum(states - 1, 0)] = 1.0
    inner = states[1:-1]
    P[inner, 1, inner + 1], P[inner, 1, inner], P[inner, 1, inner - 1] = right, stay, back
    P[0, 1, :2] = stay + back, right
    P[-1, 1, -2:] = stay + back, right
    r = np.zeros((n, 2, n))
    r[0, 0, 0] = as_scalar(rewards[0], "rewards[0]")
    r[-1, 1, -1] = as_scalar(rewards[1], "rewards[1]")
    mu0 = np.zeros(n)
    mu0[1:3] = 0.5
    return MDP(P, r, gamma=gamma, mu0=mu0)


def deterministic(
    next_state: ArrayLike | NDArray[np.int64], r: ArrayLike, gamma: float = 0.95, mu0: ArrayLike | None = None
) -> MDP:
    """The MDP in which action a leads from state s to ``next_state[s, a]`` for certain.

    Parameters
    ----------
    next_state
        Integers (S, A) in 0 ... S-1.
    r, gamma, mu0
        As for :class:`~reps_opt.MDP`.

    Raises
    ------
    ValueError
        If ``next_state`` does not hold integers (S, A), or one that is not a state (its index is given).

    Examples
    --------
    >>> deterministic([[1], [0]], [[1.0], [0.0]], gamma=1.0).expected_return([0, 0])
    0.5
    """
    target = np.asarray(next_state)
    if target.ndim != 2 or target.dtype.kind not in "iu":
        raise ValueError(f"next_state must be integers (S, A), got shape {target.shape}, dtype {target.dtype}")
    outside = np.argwhere((target < 0) | (target >= len(target)))
    if outside.size:
        s, a = outside[0]
        raise ValueError(f"next_state[{s}, {a}] is {target[s, a]}: states are 0 ... {len(target) - 1}")
    pairs = np.arange(target.size + 1)
    P = sp.csr_array((np.ones(target.size), target.ravel(), pairs), shape=(target.size, len(target)))
    return MDP(P, r, gamma=gamma, mu0=mu0)


def _chain_with_returns(
    next_state: NDArray[np.int64], ends: dict[int, float], gamma: float, return_reward: float
) -> MDP:
    """Pay the self-loops at the ends under action 0, and every action 1 that leads to state 0, the start."""
    r: FloatArray = np.zeros(next_state.shape)
    r[list(ends), 0] = list(ends.values())
    r[next_state[:, 1] == 0, 1] = as_scalar(return_reward, "return_reward")
    return deterministic(next_state, r, gamma=gamma, mu0=np.eye(len(r))[0])
