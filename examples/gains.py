"""A linear policy of whose parameters the gains alone are learned, and such gains for the cart-pole to start from."""

import numpy as np

import envs
from envs.cart_pole import Q, R

STD = 3.0  # of the force, in N
K_STAR = np.array([5.71, 11.3, -82.1, -21.6])  # Peters and Schaal (2008)


class Gains:
    """The policy u ~ N(K x, STD^2), whose parameters are the gains alone: all that a gradient asks of a policy."""

    def __init__(self, gains):
        self.params = np.asarray(gains)

    def with_params(self, params):
        return Gains(params)

    def predict(self, states):
        return (states @ self.params)[:, None]

    def sample(self, states, rng):
        return self.predict(states) + STD * rng.standard_normal((len(states), 1))

    def log_prob(self, states, actions):
        return -((actions - self.predict(states))[:, 0] ** 2) / (2 * STD**2) - np.log(STD * np.sqrt(2 * np.pi))

    def score_function(self, states, actions):
        return (actions - self.predict(states)) / STD**2 * states

    def fisher_factor(self, states):
        return states / STD

    def kl_divergence(self, other, states):
        return ((self.predict(states) - other.predict(states)) ** 2)[:, 0] / (2 * STD**2)


def start_policy(seed, env):
    """Gains of K* times factors in [1/2, 2], drawn anew until they balance the pole in the linearised task."""
    rng, (A, B) = np.random.default_rng(seed), envs.linearise(env, np.zeros(4), np.zeros(1))
    while True:
        gains = K_STAR * 2.0 ** rng.uniform(-1, 1, size=4)
        if np.abs(np.linalg.eigvals(A + B @ gains[None])).max() < 1:
            return Gains(gains)


def best_policy(env):
    """The best gains of the linearised task: K*."""
    A, B = envs.linearise(env, np.zeros(4), np.zeros(1))
    return Gains(envs.riccati(A, B, np.diag(Q), [[R]], env.gamma).gain[0])
