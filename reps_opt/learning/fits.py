"""Fits of a policy to weighted samples that keep the ball around the old policy, where the family allows it.

Shapes: N transitions.
"""

from __future__ import annotations

import math
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
