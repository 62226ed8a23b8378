"""Weights of samples that several policies drew, and fits to weighted samples that keep the ball around the old policy.

Shapes: N transitions in all, N_k of policy k.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from reps_opt.batch import Batch
from reps_opt.tolerances import MOST_ROUNDS, VISIBLE
from reps_opt.validation import FloatArray


class Fit(NamedTuple):
    """A policy fitted to weighted samples.

    ``kl`` is KL(new || old) in nats, averaged over the new distribution of states, NaN where the old policy has no
    density; ``share`` the share of the fit in the mixture with the old policy that was taken, or of the samples beside
    the old policy's own, one where the fit itself is within the ball or stays outside; ``note`` says what was done
    about the ball, empty where nothing had to be.
    """

    policy: Any
    kl: float
    share: float
    note: str


def fit_within(prototype: Any, old: Any, batch: Batch, weights: FloatArray, epsilon: float | None) -> Fit:
    """Fit ``prototype`` to the batch's transitions, weighted; where it leaves the ball, mix it with the old policy.

    Parameters
    ----------
    prototype
        An unfitted policy of the caller's own; it is fitted in place.
    old
        The policy around which the ball lies; None for none.
    weights
        Of the transitions (N,), at the scale that ``fit`` wants.
    epsilon
        Radius in nats, None for no ball.
    """
    states, actions = batch.states, batch.actions
    new = _fitted(prototype, old, states, actions, weights)
    kl = weighted_kl(new, old, states, weights)
    if epsilon is None or not kl > epsilon * (1 + VISIBLE) + VISIBLE:
        return Fit(new, kl, 1.0, "")
    outside = f"the fit is {kl:.3g} nats from the old policy, epsilon {epsilon:g}"
    for candidate in (lambda: new, lambda: _refitted(new, old, states, actions, weights)):
        try:
            mixed = candidate().within(old, states, epsilon, weights)
        except (AttributeError, NotImplementedError):
            continue
        share = float(getattr(mixed, "mixture_share_", math.nan))
        kl = weighted_kl(mixed, old, states, weights)
        return Fit(mixed, kl, share, f"{outside}: mixed with it, share {share:.3g}")
    for share in 0.5 ** np.arange(1.0, MOST_ROUNDS, 2.0) if hasattr(new, "get_params") else ():
        beside = _fitted_beside(new, old, states, actions, weights, share)
        if (reached := weighted_kl(beside, old, states, weights)) <= epsilon:
            return Fit(beside, reached, share, f"{outside}: fitted beside samples of it, share {share:.3g}")
    return Fit(new, kl, 1.0, f"{outside}, and {type(new).__name__} has no mixtures to bring it back")


def _fitted(prototype: Any, old: Any, states: Any, actions: Any, weights: FloatArray) -> Any:
    """The fit around the old policy where the family has it, and anew where it has not."""
    known = type(prototype) is type(old) and hasattr(prototype, "fit_around")
    if known and np.isin(actions, old.classes_).all():
        return prototype.fit_around(old, states, actions, sample_weight=weights)
    return prototype.fit(states, actions, sample_weight=weights)


def _refitted(new: Any, old: Any, states: Any, actions: Any, weights: FloatArray) -> Any:
    """The fit with the old policy's own features, so that the two have mixtures."""
    if type(new) is not type(old) or not hasattr(old, "refit"):
        raise NotImplementedError
    return old.refit(states, actions, weights)


def _fitted_beside(new: Any, old: Any, states: Any, actions: Any, weights: FloatArray, share: float) -> Any:
    """The fit to a share of the samples beside the old policy's own actions at the same states.

    That is the fit of most likelihood less a price for the mean KL(old || new). A Gaussian's actions are its mean plus
    and minus its standard deviation, which have both its moments; a categorical's are all it can take.
    """
    from sklearn.base import clone

    seen = weights > 0
    states, actions, weights = states[seen], actions[seen], weights[seen]
    if hasattr(old, "predict_proba"):
        odds = old.predict_proba(states)
        drawn = [(np.full(len(states), label), odds[:, i]) for i, label in enumerate(old.classes_)]
    else:
        mean, std = old.predict(states, return_std=True)
        drawn = [(mean.reshape(actions.shape) + sign * std.reshape(actions.shape), 0.5) for sign in (-1, 1)]
    beside = weights * (1 - share) / share  # so many that the prior of a fit does not matter beside them
    parts = [(actions, weights), *((taken, odds * beside) for taken, odds in drawn)]
    rows = np.concatenate([states] * len(parts))
    return clone(new).fit(rows, *(np.concatenate(column) for column in zip(*parts, strict=True)))


def weighted_kl(new: Any, old: Any, states: Any, weights: FloatArray) -> float:
    """Weighted mean KL(new || old), over the states that have weight; NaN where there is none to be had."""
    if not hasattr(old, "kl_divergence") or not hasattr(new, "kl_divergence"):
        return math.nan
    seen = weights > 0
    try:
        return float(weights[seen] @ np.asarray(new.kl_divergence(old, states[seen])) / weights[seen].sum())
    except TypeError:  # one is Gaussian, the other categorical
        return math.nan


def importance_weights(policy: Any, pool: Iterable[tuple[Any, Batch]]) -> FloatArray:
    r"""Base weights (N,) that make samples of several policies stand for one of them, with mean one.

    .. math:: b_i \propto \frac{\pi(a_i|s_i)}{\sum_k \frac{N_k}{N}\, \pi_k(a_i|s_i)}

    The denominator is the mixture of all that made the data, so that no weight exceeds the share of the policy's own
    samples (the balance heuristic). The shift of the states between the policies is left uncorrected. An action that
    none of the policies can have drawn, the policy itself included, weighs nothing.

    Parameters
    ----------
    policy
        The policy to stand for, with ``log_prob``.
    pool
        Pairs of the policy that acted, and its batch of N_k transitions.

    Raises
    ------
    TypeError
        For a policy without ``log_prob``.
    ValueError
        Where the policy can draw none of the actions; for one that it can draw and those who acted cannot, by its row.

    References
    ----------
    Veach and Guibas (1995), *Optimally combining sampling techniques for Monte Carlo rendering*, equation 7.

    Examples
    --------
    >>> from policies import LinearGaussianPolicy
    >>> acting = LinearGaussianPolicy().fit([[0.0], [1.0], [2.0]], [0.0, 1.5, 2.0])
    >>> batch = Batch([[0.0], [1.0]], [0.1, 0.9], [0.0, 0.0], [[1.0], [2.0]])
    >>> importance_weights(acting, [(acting, batch), (acting, batch)])
    array([1., 1., 1., 1.])
    """
    pairs = list(pool)
    for acting in (policy, *(acting for acting, _ in pairs)):
        if not hasattr(acting, "log_prob"):
            raise TypeError(f"reuse='importance' needs policies with log_prob, got {type(acting).__name__}")
    batch = Batch.concatenate(part for _, part in pairs)
    log_shares = np.log([len(part) / len(batch) for _, part in pairs])
    with np.errstate(divide="ignore"):
        each = np.array([acting.log_prob(batch.states, batch.actions) for acting, _ in pairs]) + log_shares[:, None]
        wanted = np.asarray(policy.log_prob(batch.states, batch.actions))
    mixture = np.logaddexp.reduce(each, axis=0)
    possible = wanted > -np.inf
    if not possible.any():
        raise ValueError("pool: the policy can draw none of its actions: they say nothing about it")
    foreign = np.flatnonzero(possible & (mixture == -np.inf))
    if foreign.size:
        raise ValueError(f"pool: the action of transition {foreign[0]} has probability zero under all that acted")
    ratio = np.full(len(batch), -np.inf)
    ratio[possible] = wanted[possible] - mixture[possible]
    weights = np.exp(ratio - ratio.max())
    return np.asarray(weights / weights.mean())
