r"""How far a policy is from an old one, averaged over the old states: both directions of the KL divergence.

A policy is written as the pair distribution :math:`x(s,a) = d(s)\pi(a|s)` with the old state distribution d, which
turns the product of simplices into one simplex with the rows :math:`\sum_a x(s,a) = d(s)`. Each state's rows touch its
own coordinates only, so that their multipliers, given eta, are found state by state.

Shapes: n pairs (s, a) with mass, sorted by state; m states; ``block`` (n,) is the state's position 0 ... m-1.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import numpy as np

from reps_opt.divergences.base import KL, Divergence, softmax_within
from reps_opt.divergences.f_divergences import ReverseKL
from reps_opt.processes.graph import IntArray
from reps_opt.tolerances import LAST_PLACE, MOST_ITERATIONS
from reps_opt.validation import FloatArray, read_only


class StatewiseMaximiser(NamedTuple):
    """Maximiser of ``<x, y> - D(x)`` with each state's mass given.

    ``point`` (n,); ``multipliers`` (m,) of the rows, with the normaliser of the whole simplex at zero; ``weights`` (n,)
    the curvature: in each state the Hessian is ``diag(w) - w w' / sum(w)``.
    """

    point: FloatArray
    multipliers: FloatArray
    weights: FloatArray


class PolicyDivergence(Divergence):
    """A divergence between policies that knows the states its coordinates belong to.

    Parameters
    ----------
    reference
        ``d(s) pi_q(a|s)`` (n,), positive.
    block
        Position of each coordinate's state (n,), sorted.
    """

    direction: str

    def __init__(self, reference: FloatArray, block: IntArray) -> None:
        self.reference = read_only(reference)
        self.block = block
        self._starts = np.flatnonzero(np.diff(block, prepend=-1))
        self.mass = read_only(self.state_sums(reference))
        self.conditional = read_only(reference / self.mass[block])

    def state_sums(self, values: FloatArray) -> FloatArray:
        """Sum (m,) of values (n,) over each state's actions."""
        return np.add.reduceat(values, self._starts)

    def state_max(self, values: FloatArray) -> FloatArray:
        """Maximum (m,) of values (n,) over each state's actions."""
        return np.maximum.reduceat(values, self._starts)

    def in_proportion(self, share: FloatArray) -> FloatArray:
        """The point (n,) with the old state distribution whose policy is in proportion to shares (n,)."""
        return self.mass[self.block] * share / self.state_sums(share)[self.block]

    @abstractmethod
    def statewise(self, y: FloatArray) -> StatewiseMaximiser:
        """The policy that maximises ``<x, y> - D(x)`` for y (n,), in closed form or by one equation a state."""

    def curvature(self, y: FloatArray, weights: FloatArray) -> float:
        """``y'Hy`` for the statewise Hessian: the weighted variance of y within states, summed."""
        total = self.state_sums(weights)
        safe = np.where(total > 0, total, 1.0)
        mean = self.state_sums(weights * y) / safe
        return float(np.sum(weights * (y - mean[self.block]) ** 2))


class NewOldKL(PolicyDivergence, KL):
    r"""The new policy's divergence from the old, :math:`\sum_s d(s)\, KL(\pi\|\pi_q) = KL(x\|d\pi_q)`, in nats.

    Given eta, :math:`\pi \propto \pi_q e^{A/\eta}`. On the whole simplex it is :class:`~reps_opt.divergences.KL`.

    Examples
    --------
    >>> import numpy as np
    >>> ball = NewOldKL(np.array([0.25, 0.25, 0.5]), np.array([0, 0, 1]))
    >>> ball.statewise(np.array([np.log(3.0), 0.0, 7.0])).point
    array([0.375, 0.125, 0.5 ])
    """

    direction = "new||old"
    parametric = False  # the masses of the states, which the rows hold, are the reference's

    def __init__(self, reference: FloatArray, block: IntArray) -> None:
        KL.__init__(self, reference)
        PolicyDivergence.__init__(self, reference, block)

    def statewise(self, y: FloatArray) -> StatewiseMaximiser:
        policy, log_partition = softmax_within(np.log(self.conditional) + y, self.block, self.mass.size)
        point = self.mass[self.block] * policy
        return StatewiseMaximiser(point, log_partition, point)


class OldNewKL(PolicyDivergence, ReverseKL):
    r"""The old policy's divergence from the new, :math:`\sum_s d(s)\, KL(\pi_q\|\pi)`, in nats: TRPO's own ball.

    Given eta, :math:`\pi = \eta\,\pi_q / (\lambda_s - A)`, with :math:`\lambda_s > \max_a A` from
    :math:`\sum_a \pi = 1`. On the simplex :math:`x = q / (\lambda - y)` and the curvature is :math:`w = x^2 / q`.

    Examples
    --------
    >>> import numpy as np
    >>> ball = OldNewKL(np.array([0.25, 0.25, 0.5]), np.array([0, 0, 1]))
    >>> best = ball.statewise(np.array([4 / 3, 0.0, 7.0]))
    >>> best.point, best.multipliers
    (array([0.375, 0.125, 0.5 ]), array([2., 8.]))
    """

    direction = "old||new"
    parametric = False  # as of the other direction

    def __init__(self, reference: FloatArray, block: IntArray) -> None:
        ReverseKL.__init__(self, reference)
        PolicyDivergence.__init__(self, reference, block)

    def statewise(self, y: FloatArray) -> StatewiseMaximiser:
        share, multipliers = _inverse_gaps(self.conditional, y, self.block, self._starts)
        point = self.in_proportion(share)
        return StatewiseMaximiser(point, multipliers, point**2 / self.reference)


def _inverse_gaps(
    weight: FloatArray, y: FloatArray, block: IntArray, starts: IntArray
) -> tuple[FloatArray, FloatArray]:
    r"""Terms (n,) ``w / (lambda - y)``, summing to one in each block, and lambda (m,).

    Newton's method on ``1 / sum w / (t + gap) = 1`` for ``t = lambda - max y``, in gaps below the largest y so that
    nothing cancels. The left side is concave and increasing, so that from a lower bound it rises to the root.
    """
    top = np.maximum.reduceat(y, starts)
    gap = top[block] - y
    t = np.maximum.reduceat(weight - gap, starts)
    for _ in range(MOST_ITERATIONS):
        term = weight / (t[block] + gap)
        total = np.add.reduceat(term, starts)
        step = (total - 1.0) * total / np.add.reduceat(term**2 / weight, starts)
        t = t + np.maximum(step, 0.0)
        if np.all(step <= LAST_PLACE * t):
            break
    return weight / (t[block] + gap), top + t
