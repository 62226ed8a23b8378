r"""Policy gradients from samples: likelihood-ratio gradients, Fisher metrics, natural gradients and surrogates.

Everything is a function of arrays, and of a policy known by the protocol :class:`ParametricPolicy` alone.

Shapes: N transitions in time order, episode after episode; E episodes; P parameters; d value features. Rewards,
advantages and flags are (N,); ``scores`` = grad log pi(a|s) are (N, P). An episode ends where ``terminated`` (the task
is over: nothing follows) or ``truncated`` (the clock ran out: the value of the next state follows).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from reps_opt.learning.returns import Episodes, episodes
from reps_opt.metrics import Factor
from reps_opt.tolerances import ROUNDING
from reps_opt.validation import FloatArray, as_float_array, as_scalar, warn_renamed

BASELINES = ("optimal", "mean", "none")


class ParametricPolicy(Protocol):
    """What gradients ask of a policy.

    Where they exist, ``fisher_factor(states)``, ``score_product(states, actions, weights)``,
    ``comparison(states, actions)`` and ``seen(states)`` are used too: see the neural policy's.
    """

    @property
    def params(self) -> FloatArray:
        """Flat parameters (P,)."""
        ...

    def with_params(self, params: FloatArray) -> Self:
        """A copy with other parameters."""
        ...

    def log_prob(self, states: Any, actions: Any) -> FloatArray:
        """log pi(a|s) (N,), in nats."""
        ...

    def score_function(self, states: Any, actions: Any) -> FloatArray:
        """grad log pi(a|s) (N, P)."""
        ...

    def kl_divergence(self, other: Any, states: Any) -> FloatArray:
        """KL(self || other) at each state (N,), in nats."""
        ...


class Pairs(NamedTuple):
    """States and actions of N transitions, as all that a step asks of its policy is asked about them."""

    states: Any
    actions: Any

    @classmethod
    def of(cls, policy: ParametricPolicy, batch: Any) -> Pairs:
        """Those of a batch, or of other pairs; the states by ``policy.seen(states)``, where a policy has it."""
        seen = getattr(policy, "seen", None)
        return cls(seen(batch.states) if seen else batch.states, batch.actions)


def reinforce(
    scores: ArrayLike,
    rewards: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    gamma: float = 1.0,
    baseline: str = "optimal",
) -> FloatArray:
    r"""REINFORCE: gradient (P,) of the expected discounted return of an episode.

    .. math:: \hat g = \frac1E \sum_e \psi_e (R_e - b), \qquad \psi_e = \sum_t \nabla\log\pi(a_t|s_t)

    Parameters
    ----------
    baseline
        ``"optimal"``: for each parameter the b of least variance, ``E[psi^2 R] / E[psi^2]``; ``"mean"``: the mean
        return; ``"none"``. A baseline fitted to the same episodes biases the gradient by a term of order 1/E.

    References
    ----------
    Williams (1992); Peters and Schaal (2008), *Reinforcement learning of motor skills with policy gradients*, table 1.
    """
    rows, r, parts = _likelihood_data(scores, rewards, terminated, truncated)
    totals = parts.sums(rows)
    returns = parts.sums(gamma**parts.time * r)
    return np.asarray(np.mean(totals * (returns[:, None] - _baseline(totals, returns[:, None], baseline)), axis=0))


def gpomdp(
    scores: ArrayLike,
    rewards: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    gamma: float = 1.0,
    baseline: str = "optimal",
) -> FloatArray:
    r"""GPOMDP: the same gradient as :func:`reinforce` with less variance, since no reward is credited to later actions.

    .. math:: \hat g = \frac1E \sum_e \sum_t \Big(\sum_{k\le t}\nabla\log\pi(a_k|s_k)\Big)(\gamma^t r_t - b_t)

    Parameters
    ----------
    baseline
        As for :func:`reinforce`, at each time step.

    References
    ----------
    Baxter and Bartlett (2001); Peters and Schaal (2008), *Reinforcement learning of motor skills with policy
    gradients*, table 2.
    """
    rows, r, parts = _likelihood_data(scores, rewards, terminated, truncated)
    discounted = gamma**parts.time * r
    cumulative = np.empty_like(rows)
    running = np.zeros(rows.shape[1])
    for i in range(len(rows)):
        running = rows[i] if parts.time[i] == 0 else running + rows[i]
        cumulative[i] = running
    gradient = np.zeros(rows.shape[1])
    for t in range(int(parts.time.max()) + 1):
        now = parts.time == t
        paid = discounted[now][:, None]
        gradient += np.sum(cumulative[now] * (paid - _baseline(cumulative[now], paid, baseline)), axis=0)
    return gradient / parts.n_episodes


def enac(
    scores: ArrayLike,
    rewards: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    gamma: float = 1.0,
    ridge: float = 0.0,
    discounted_scores: bool = False,
) -> FloatArray:
    r"""Episodic natural actor-critic: the natural gradient (P,) by one regression, with no Fisher matrix.

    .. math:: \min_{w, b} \sum_e \big(R_e - \psi_e'w - b\big)^2, \qquad \psi_e = \sum_t \nabla\log\pi(a_t|s_t)

    The normal equations are ``F w = g`` with the episodes' covariance of psi as F and the covariance of psi with the
    return as g, so that F cancels: w is ``F^-1 g``, the shortest one where there are fewer episodes than parameters.

    Parameters
    ----------
    ridge
        Added to the diagonal of F, as a share of it: so w's effect does not depend on the units of the observations.
    discounted_scores
        Whether psi weights the scores by ``gamma^t``. Then ``psi'w + b`` is the sum of discounted advantages along the
        episode, if these are linear in the scores, and w their weights: less noise from actions that hardly matter.

    References
    ----------
    Peters and Schaal (2008), *Natural actor-critic*, table 3 (with discounted scores).
    """
    rows, r, parts = _likelihood_data(scores, rewards, terminated, truncated)
    totals = parts.sums(rows * gamma ** parts.time[:, None] if discounted_scores else rows)
    returns = parts.sums(gamma**parts.time * r)
    spread, centred = totals - totals.mean(axis=0), returns - returns.mean()
    if np.abs(centred).max() <= ROUNDING * np.abs(returns).max():
        return np.zeros(rows.shape[1])  # a direction made of rounding is none
    if ridge == 0:
        return np.asarray(scipy.linalg.lstsq(spread, centred, check_finite=False)[0])
    units = np.abs(spread).max(axis=0)
    units = np.where(units > 0, units, 1.0)
    length = np.linalg.norm(spread / units, axis=0)
    units = units * np.where(length > 0, length, 1.0)
    rows = np.vstack([spread / units, np.sqrt(ridge) * np.eye(spread.shape[1])])
    centred = np.concatenate([centred, np.zeros(spread.shape[1])])
    return np.asarray(scipy.linalg.lstsq(rows, centred, check_finite=False)[0]) / units


class ActorCritic(NamedTuple):
    """Natural gradient (P,) and weights (d,) of the value features."""

    natural_gradient: FloatArray
    value_weights: FloatArray


def natural_actor_critic(
    scores: ArrayLike,
    features: ArrayLike,
    next_features: ArrayLike,
    rewards: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    gamma: float,
    lstd_lambda: float = 0.0,
    trace: float | None = None,
) -> ActorCritic:
    r"""Natural actor-critic with compatible features, by LSTD-Q(lambda).

    .. math:: Q(s, a) = \nabla\log\pi(a|s)'w + \phi(s)'v, \qquad
              \textstyle\sum_t z_t (x_t - \gamma \tilde x_t)' (w, v) = \sum_t z_t r_t

    with ``x_t = (score_t, phi(s_t))``, ``x~_t = (0, phi(s_{t+1}))``, zero after termination but not after truncation,
    and the trace ``z_t = x_t + gamma lambda z_{t-1}``, cut at the end of every episode. w is the natural gradient of
    ``(1 - gamma)`` times the discounted return, exactly so where phi can hold the value function.

    Parameters
    ----------
    features, next_features
        phi(s), phi(s') (N, d); include a constant.
    lstd_lambda
        lambda in [0, 1]; ``trace`` until 0.3.

    References
    ----------
    Peters and Schaal (2008), *Natural actor-critic*, table 2; Sutton et al. (2000), theorem 2.
    """
    rows, r, parts = _likelihood_data(scores, rewards, terminated, truncated)
    phi = as_float_array(features, "features", (len(rows), "d"))
    ahead = as_float_array(next_features, "next_features", phi.shape)
    if trace is not None:
        warn_renamed("trace", "lstd_lambda")
        lstd_lambda = trace
    decay = as_scalar(gamma, "gamma", low=0.0, high=1.0) * as_scalar(lstd_lambda, "lstd_lambda", low=0.0, high=1.0)
    x = np.hstack([rows, phi])
    follows = np.where(np.asarray(terminated, dtype=bool)[:, None], 0.0, ahead)
    moved = x - gamma * np.hstack([np.zeros_like(rows), follows])
    z = x
    if decay > 0:
        z = x.copy()
        for i in range(1, len(z)):
            if parts.time[i] > 0:
                z[i] += decay * z[i - 1]
    solution = scipy.linalg.lstsq(z.T @ moved, z.T @ r, check_finite=False)[0]
    return ActorCritic(solution[: rows.shape[1]], solution[rows.shape[1] :])


def fisher(policy: ParametricPolicy, states: Any, actions: Any = None) -> Factor:
    """Fisher metric of a policy averaged over states, by factors: one vectorised pass, no double backpropagation.

    Parameters
    ----------
    actions
        Where given, the scores of these actions are the factors (the empirical Fisher matrix). Where not, the
        policy's ``fisher_factor(states)`` is used, the exact expectation over actions.
    """
    if actions is None:
        return Factor(policy.fisher_factor(states))  # type: ignore[attr-defined]
    return Factor(as_float_array(policy.score_function(states, actions), "score_function", ("N", policy.params.size)))


def surrogate_gradient(policy: ParametricPolicy, states: Any, actions: Any, advantages: ArrayLike) -> FloatArray:
    """Gradient (P,) of a batch's surrogate at the policy that took its actions, where ratios are one."""
    weights = as_float_array(advantages, "advantages", ("N",)) / len(states)
    if hasattr(policy, "score_product"):  # one backward pass
        return np.asarray(policy.score_product(states, actions, weights))
    return weights @ policy.score_function(states, actions)


def _likelihood_data(
    scores: ArrayLike, rewards: ArrayLike, terminated: ArrayLike, truncated: ArrayLike
) -> tuple[FloatArray, FloatArray, Episodes]:
    parts = episodes(terminated, truncated)
    rows = as_float_array(scores, "scores", (parts.ends.size, "P"))
    return rows, as_float_array(rewards, "rewards", parts.ends.shape), parts


def _baseline(psi: FloatArray, paid: FloatArray, kind: str) -> FloatArray | float:
    """Baseline (P,), or one number, for the products of psi (E, P) with what was paid (E, 1)."""
    if kind not in BASELINES:
        raise ValueError(f"baseline must be one of {BASELINES}, got {kind!r}")
    if kind == "none":
        return 0.0
    if kind == "mean":
        return float(paid.mean())
    squares = psi**2
    total = squares.sum(axis=0)
    return np.sum(squares * paid, axis=0) / np.where(total > 0, total, 1.0)
