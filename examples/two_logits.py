"""Kakade's two-state problem by one logit a state: its policy, and steps in any linear parametrisation of the logits.

Shapes: S = A = 2 states and actions, P = 2 logits.
"""

import numpy as np
from scipy.special import expit, logit

from reps_opt import Factor, Identity, TrustRegionStep, solve

EPSILON = 0.01  # nats; for the Euclidean step half a squared length
START = logit((0.76, 0.04))  # of the probabilities of staying in either state


def policy(logits: np.ndarray) -> np.ndarray:
    """Stay probabilities by one logit a state; the action is the next state."""
    stay = expit(logits)
    return np.array([[stay[0], 1 - stay[0]], [1 - stay[1], stay[1]]])


def scores(pi: np.ndarray) -> np.ndarray:
    """Gradient of log pi(a|s) in the two logits (S, A, P)."""
    rows = np.zeros((2, 2, 2))
    rows[0, :, 0] = pi[0, 1], -pi[0, 0]
    rows[1, :, 1] = -pi[1, 1], pi[1, 0]
    return rows


def step(mdp, logits, T, natural):
    """One step in the parameters x of ``logits = T x``, carried back to the logits; and its solution."""
    pi = policy(logits)
    rows, occupancy = (scores(pi) @ T).reshape(4, -1), mdp.occupancy(pi).ravel()
    gradient = (occupancy * mdp.advantage(pi).ravel()) @ rows  # the policy gradient theorem
    metric = Factor(rows, occupancy) if natural else Identity()  # Fisher's, or Euclid's
    solution = solve(TrustRegionStep(gradient, metric, EPSILON))
    return logits + T @ solution.step, solution
