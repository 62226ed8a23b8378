r"""Balls: what a program's divergences may come to, and the conjugate of several of them taken together.

Several balls stand side by side, each with an eta of its own. Where all of them are relative entropies their joint
conjugate is known. With x on a product of simplexes g, ball k on whole simplexes of it,

.. math::
    \max_x\; \langle x, y\rangle - \sum_k \eta_k KL(x_k \| q_k) = \sum_g t_g \log Z_g, \qquad
    t_g = \sum_{k \ni g} \eta_k, \qquad Z_g = \sum_{i \in g} e^{s_i}, \qquad
    s_i = \frac{y_i + \sum_{k \ni i} \eta_k \log q_{k,i}}{t_g}, \qquad x_i = \frac{e^{s_i}}{Z_g}

A coordinate that has no mass in the reference of a ball that can bind, by a finite radius or a price, is out of reach:
:math:`x_i = 0` in every point of a finite divergence, whatever eta is, zero too.

Shapes: n coordinates, k balls, G simplexes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reps_opt.divergences.base import KL, Divergence
from reps_opt.processes.graph import IntArray
from reps_opt.validation import FloatArray, InputError, UnsuitableError, as_scalar
from reps_opt.values import cached_property, frozen


@frozen(eq=False)
class Ball:
    r"""A divergence and its radius, ``D(x) <= radius`` [eta >= 0], or its price, ``price * D(x)`` in the objective.

    Parameters
    ----------
    divergence
        D: one of :mod:`reps_opt.divergences`, over the coordinates that the ball is about.
    radius
        epsilon >= 0, in nats where D is a relative entropy; infinity for a ball that never binds. A finite one of a KL
        holds no point with mass where its reference is zero, an infinite one holds every point.
    price
        Instead of a radius: a fixed eta > 0, in units of the objective a nat (penalty form).
    where
        The coordinates (k,) that the ball is about, whole simplexes of the domain; None for all of them.
    name
        What its multiplier is called in ``duals``.

    Raises
    ------
    TypeError, ValueError
        Unless exactly one of radius and price is given, the first non-negative or the second positive.

    Examples
    --------
    >>> import numpy as np
    >>> from reps_opt import Ball
    >>> from reps_opt.divergences import KL
    >>> Ball(KL(np.array([0.5, 0.5])), radius=0.1).radius
    0.1
    """

    divergence: Divergence
    radius: float | None = None
    price: float | None = None
    where: IntArray | None = None
    name: str = "kl"

    def __post_init__(self) -> None:
        if Divergence not in type(self.divergence).__mro__:  # an abstract class takes long to be told apart from
            raise TypeError(f"divergence must be a reps_opt Divergence, got {type(self.divergence).__name__}")
        if (self.radius is None) == (self.price is None):
            raise ValueError("exactly one of radius (ball) and price (penalty) must be given")
        if self.radius is not None:
            self.__dict__["radius"] = as_scalar(self.radius, "radius", low=0.0, infinite=True)
        else:
            self.__dict__["price"] = as_scalar(self.price, "price", low=0.0, low_open=True)

    @property
    def allowed(self) -> float:
        """The radius; infinity in penalty form."""
        return np.inf if self.radius is None else self.radius

    @property
    def binds(self) -> bool:
        """Whether it can bind: by a finite radius, or a price."""
        return self.radius is None or self.radius < np.inf

    @property
    def out_of_reach(self) -> IntArray:
        """Coordinates (j,) of the program that have no mass where D is finite: zeros in the reference of a KL."""
        if not self.binds or not isinstance(self.divergence, KL):
            return np.zeros(0, dtype=np.int64)
        zeros = np.flatnonzero(self.divergence.log_reference == -np.inf)
        return zeros if self.where is None else np.asarray(self.where)[zeros]

    def places(self, n: int) -> IntArray:
        """Those of n coordinates (k,) that the ball is about."""
        return np.arange(n) if self.where is None else np.asarray(self.where)

    def part(self, x: FloatArray) -> FloatArray:
        """The coordinates of x that the ball is about."""
        return x if self.where is None else x[self.where]

    def value(self, x: FloatArray) -> float:
        """D of the part of x (n,) that the ball is about."""
        return self.divergence.value(x if self.where is None else x[self.where])


class JointConjugate(NamedTuple):
    """Value and derivatives of the joint conjugate at one (eta, y).

    ``point`` (n,) is the maximiser, ``divergences`` (k,) its own, ``temperature`` (G,) and ``log_partition`` (G,) are
    t and log Z, ``scaled`` (n,) is s; the Hessian in y is ``diag(x / t) - x x' / t`` within each simplex.
    """

    value: float
    point: FloatArray
    divergences: FloatArray
    temperature: FloatArray
    log_partition: FloatArray
    scaled: FloatArray


class JointKL:
    """Several KL balls over a product of simplexes.

    Parameters
    ----------
    balls
        Every divergence a :class:`~reps_opt.divergences.KL`.
    starts
        First coordinate (G,) of each simplex, increasing from zero.
    n
        Number of coordinates.

    Raises
    ------
    ValueError
        For another divergence, a ball that cuts a simplex in two, or a simplex that is in no ball.

    Notes
    -----
    Logarithms of references are zero where a coordinate is out of reach. A ball of infinite radius may have any
    reference: here it has the uniform distribution, over whole simplexes.
    """

    def __init__(self, balls: Sequence[Ball], starts: IntArray, n: int) -> None:
        self.starts = starts
        self.layer: IntArray = np.repeat(np.arange(starts.size), np.diff(np.append(starts, n)))
        self.where = [ball.places(n) for ball in balls]
        self.covers = np.zeros((len(balls), starts.size), dtype=bool)
        self.log_references: list[FloatArray] = []
        self.largest: list[float] = []  # what each divergence can be: the sum of what it can be in each simplex
        sizes = np.bincount(self.layer, minlength=starts.size)
        reached = np.ones(n, dtype=bool)
        for k, (ball, where) in enumerate(zip(balls, self.where, strict=True)):
            if not isinstance(ball.divergence, KL):
                kind = type(ball.divergence).__name__
                raise UnsuitableError(
                    f"several balls are solved together where all are KL: ball {ball.name!r} is {kind}"
                )
            touched = np.bincount(self.layer[where], minlength=starts.size)
            if np.any((touched > 0) & (touched < sizes)):
                raise InputError(f"ball {ball.name!r} cuts a simplex of the domain in two")
            self.covers[k] = touched > 0
            reached[ball.out_of_reach] = False
            self.log_references.append(
                ball.divergence.log_reference if ball.binds else -np.log(sizes[self.layer[where]])
            )
        if not self.covers.any(axis=0).all():
            raise InputError("a simplex of the domain is in no ball")
        self.out_of_reach: IntArray = np.flatnonzero(~reached)
        for k, where in enumerate(self.where):
            self.log_references[k] = np.where(reached[where], self.log_references[k], 0.0)
            apart = np.zeros(starts.size)
            np.maximum.at(apart, self.layer[where], -self.log_references[k])
            self.largest.append(float(apart.sum()))

    @cached_property
    def reference(self) -> FloatArray:
        """The first reference (n,) that each coordinate has."""
        log_q = np.full(self.layer.size, np.nan)
        for where, log_reference in zip(reversed(self.where), reversed(self.log_references), strict=True):
            log_q[where] = log_reference
        log_q[self.out_of_reach] = -np.inf
        return np.exp(log_q)

    @property
    def disjoint(self) -> str:
        """Why no point is within all balls: references that share no coordinate of a simplex; empty where they do."""
        left = np.bincount(self.layer, minlength=self.starts.size)
        left -= np.bincount(self.layer[self.out_of_reach], minlength=self.starts.size)
        if left.all():
            return ""
        where = "" if self.starts.size == 1 else f" of simplex {int(np.argmin(left))}"
        return f"the references of the balls have no coordinate{where} in common: no point is within all balls"

    def sums(self, values: FloatArray) -> FloatArray:
        """Sums (G,), or (G, k), of values (n,), or (n, k), over each simplex."""
        return np.add.reduceat(values, self.starts)

    def conjugate(self, eta: FloatArray, y: FloatArray) -> JointConjugate:
        """The joint conjugate at eta (k,), positive in some ball of every simplex, and y (n,).

        What is out of reach has a point of zero, and a zero in ``scaled`` that nothing depends on.
        """
        temperature = eta @ self.covers
        pulled = y.astype(np.float64)
        for k, where in enumerate(self.where):
            pulled[where] += eta[k] * self.log_references[k]
        scaled = pulled / temperature[self.layer]
        scaled[self.out_of_reach] = -np.inf
        top = np.maximum.reduceat(scaled, self.starts)
        log_partition = top + np.log(self.sums(np.exp(scaled - top[self.layer])))
        log_x = scaled - log_partition[self.layer]
        x = np.exp(log_x)
        scaled[self.out_of_reach] = log_x[self.out_of_reach] = 0.0
        apart = [x[w] @ (log_x[w] - log_q) for w, log_q in zip(self.where, self.log_references, strict=True)]
        return JointConjugate(
            float(temperature @ log_partition), x, np.array(apart), temperature, log_partition, scaled
        )

    def log_slope(self, eta: FloatArray, joint: JointConjugate) -> FloatArray:
        """Derivative (n, k) of s in every log eta, at fixed y."""
        moved = np.zeros((self.layer.size, eta.size))
        for k, where in enumerate(self.where):
            share = eta[k] / joint.temperature[self.layer[where]]
            moved[where, k] = share * (self.log_references[k] - joint.scaled[where])
        return moved

    def centred(self, x: FloatArray, columns: FloatArray) -> FloatArray:
        """Columns (n, k) less their mean under x in each simplex."""
        return columns - self.sums(x[:, None] * columns)[self.layer]
