r"""Policy gradients of a finite MDP without sampling: the oracles that estimators are held to.

The policy is a table (S, A), by default a softmax over one parameter a pair: then P = S * A and the scores are
``e_(s,a) - sum_b pi(b|s) e_(s,b)``. Any other parametrisation is given by its scores (S, A, P).

Shapes: S states, A actions, P parameters. Returns are per step, as ``mdp.expected_return`` has them: (1 - gamma) times
the discounted sum, or the average reward.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.metrics import Factor
from reps_opt.processes.mdp import MDP
from reps_opt.validation import FloatArray, as_float_array


def softmax_scores(policy: ArrayLike) -> FloatArray:
    """Scores (S, A, S*A) of a softmax table: ``d log pi(a|s) / d theta(t, b) = 1[s = t] (1[a = b] - pi(b|s))``."""
    table = as_float_array(policy, "policy", ("S", "A"))
    n_states, n_actions = table.shape
    scores = np.zeros((n_states, n_actions, n_states, n_actions))
    index = np.arange(n_states)
    scores[index, :, index, :] = np.eye(n_actions) - table[:, None, :]
    return scores.reshape(n_states, n_actions, -1)


def exact_gradient(mdp: MDP, policy: ArrayLike, scores: ArrayLike | None = None) -> FloatArray:
    r"""Gradient (P,) of ``mdp.expected_return``: :math:`\sum_{s,a} p(s,a) A(s,a) \nabla\log\pi(a|s)`.

    References
    ----------
    Sutton et al. (2000), *Policy gradient methods for reinforcement learning with function approximation*, theorem 1.

    Examples
    --------
    >>> mdp = MDP(np.ones((1, 2, 1)), [[0.0, 1.0]], gamma=0.9)
    >>> exact_gradient(mdp, [[0.5, 0.5]])
    array([-0.25,  0.25])
    """
    rows, occupancy = _rows(mdp, policy, scores)
    return (occupancy * np.where(mdp.allowed, mdp.advantage(policy), 0.0).ravel()) @ rows


def exact_fisher(mdp: MDP, policy: ArrayLike, scores: ArrayLike | None = None) -> Factor:
    r"""Fisher metric :math:`\sum_{s,a} p(s,a) \nabla\log\pi\,\nabla\log\pi'`, by its factors."""
    rows, occupancy = _rows(mdp, policy, scores)
    return Factor(rows, occupancy)


def _rows(mdp: MDP, policy: ArrayLike, scores: ArrayLike | None) -> tuple[FloatArray, FloatArray]:
    """Scores (S*A, P) and occupancy (S*A,)."""
    table = mdp.as_policy(policy)
    given = softmax_scores(table) if scores is None else as_float_array(scores, "scores", (*table.shape, "P"))
    return given.reshape(table.size, -1), mdp.occupancy(table).ravel()
