"""A fit that keeps the ball: mixtures of a new and an old policy in their natural parameters.

Two exponential families with the same sufficient statistics T(s, a) have log-densities theta_1'T and theta_0'T up to
their normalisers. Along theta_t = t theta_1 + (1 - t) theta_0 the divergence from the old policy grows at every state,
``d/dt KL(pi_t || pi_0) = t Var_pi_t((theta_1 - theta_0)'T) >= 0``, so that one scalar search keeps any ball around it.

Shapes: N states.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from policies.checks import check_weights
from reps_opt.tolerances import CLOSE, LARGEST_EXPONENT, NEAR_START, ROUNDED, ROUNDING, TINY
from reps_opt.validation import as_scalar


class MixtureMixin:
    """Mixtures of a policy with an old one of its family; the family says when, by ``_check_mixable`` and ``_mix``."""

    mixture_share_: float

    def mixture(self, old: Any, share: float) -> Self:
        """The policy whose natural parameters are ``share`` of this one's and ``1 - share`` of the old one's.

        At every state it is proportional to ``self(a|s)^share old(a|s)^(1 - share)``: the old policy at share 0, this
        one at 1, and KL(mixture || old) grows with the share at every state. Families whose old and new policy share
        their sufficient statistics have it: tables, and policies linear in the same features (``refit`` keeps them).

        Parameters
        ----------
        old
            A fitted policy of the same family.
        share
            From 0 to 1.

        Raises
        ------
        NotImplementedError
            If the mixture is no policy of this family.
        """
        as_scalar(share, "share", low=0, high=1)
        self._check_mixable(old)
        policy = copy.copy(self)
        if share < 1:
            policy._mix(old, float(share))
        return policy

    def refit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit a copy to other samples with the statistics kept; arguments as in ``fit``.

        Raises
        ------
        NotImplementedError
            If the family has no mixtures for which they would be kept.
        """
        raise NotImplementedError(self._without_mixtures())

    def within(self, old: Any, states: ArrayLike, epsilon: float, sample_weight: ArrayLike | None = None) -> Self:
        """This policy where it is within ``epsilon`` of the old one, else the furthest mixture of the two that is.

        One scalar search along :meth:`mixture` for the largest share with weighted mean KL(mixture || old) <= epsilon.

        Parameters
        ----------
        old
            A fitted policy of the same family.
        states
            Where the divergence is averaged, shape (N, d).
        epsilon
            Radius in nats, >= 0.
        sample_weight
            Weights of the states, shape (N,); None for ones.

        Returns
        -------
        Policy
            A new one; ``mixture_share_`` says which share it is.

        Raises
        ------
        NotImplementedError
            As :meth:`mixture` does.

        Examples
        --------
        >>> from policies import TabularPolicy
        >>> old = TabularPolicy.from_probabilities([[0.5, 0.5]])
        >>> new = TabularPolicy.from_probabilities([[0.01, 0.99]]).within(old, [[0]], epsilon=0.1)
        >>> new.kl_divergence(old, [[0]])
        array([0.1])
        """
        radius = as_scalar(epsilon, "epsilon", low=0, infinite=True)
        self._check_mixable(old)
        mine, theirs = self._both(old, states)
        kl = mine.kl(theirs)
        weights = check_weights(sample_weight, len(kl))
        weights = weights / weights.sum()
        seen = weights > 0  # a state without weight may be infinitely far
        share = 1.0
        if not weights[seen] @ kl[seen] <= radius:
            share = largest_share(lambda t: float(weights[seen] @ mine.mixture(theirs, t).kl(theirs)[seen]), radius)
        policy = self.mixture(old, share)
        policy.mixture_share_ = share
        return policy

    def _check_mixable(self, old: Any) -> None:
        """Raise NotImplementedError unless this policy and the old one have the same sufficient statistics."""
        raise NotImplementedError(self._without_mixtures())

    def _without_mixtures(self) -> str:
        return (
            f"{type(self).__name__} has no mixtures with an old policy: its family does not hold them, so a fit cannot "
            "be drawn back into the ball; linear, softmax and tabular policies can"
        )

    def _mix(self, old: Any, share: float) -> None:
        """Set the parameters to the mixture's, in fresh arrays."""

    @abstractmethod
    def _both(self, old: Any, states: ArrayLike) -> tuple[Any, Any]:
        """Action distributions of both policies."""


def largest_share(divergence: Callable[[float], float], radius: float) -> float:
    """Largest share in [0, 1) whose divergence, which grows with it from zero and ends above, is within the radius.

    Sought in log share, for a fit may be many radii away: there the logarithm of the divergence is all but linear.
    """
    high = 1.0
    while high > NEAR_START and not divergence(0.1 * high) <= radius:
        high *= 0.1
    if radius == 0 or high <= NEAR_START:
        return 0.0

    def excess(log_share: float) -> float:
        found = divergence(float(np.exp(log_share)))
        return min(np.log(max(found, TINY) / radius), LARGEST_EXPONENT)

    ends = np.log(0.1 * high), np.log(high) - ROUNDING  # at one itself an impossible action may be infinitely far
    if excess(ends[1]) <= 0:
        return float(np.exp(ends[1]))
    share = float(np.exp(brentq(excess, *ends, xtol=ROUNDED, rtol=ROUNDED)))
    while divergence(share) > radius:  # the root lies on either side by rounding; the ball is closed on one
        share *= 1 - ROUNDED
        if divergence(share) > radius:
            share *= 1 - CLOSE
    return share
