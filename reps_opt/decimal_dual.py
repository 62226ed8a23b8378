r"""The dual of a small program in decimal numbers, for what double precision cannot represent.

Close to gamma = 1 values are of size 1 / (1 - gamma): at 1 - 1e-12 a float holds four digits of what is left of them in
the Bellman error, and a dual bound computed from it proves nothing, although the problem itself is well conditioned.
Here multipliers keep seventy digits, and so do the rows where their block knows them better than as floats.

With the mass as one more row, whose multiplier is lambda, every f-divergence has a dual that is a sum over coordinates,

.. math::
    g(\eta, v, \lambda) = \eta\epsilon + b'v + \lambda + \eta \sum_i q_i f^*(t_i), \qquad
    t = (c - A'v - \lambda) / \eta, \qquad x_i = q_i f^{*\prime}(t_i)

Shapes: n coordinates; m rows, and m + 1 with that of the mass, whose multiplier is the last; S states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from reps_opt.constraints import Block
from reps_opt.decimals import ONE, ZERO, Numbers, each, numbers, zeros
from reps_opt.divergences.base import KL, NoBall
from reps_opt.divergences.conditional_kl import ConditionalKL
from reps_opt.divergences.f_divergences import Alpha
from reps_opt.program import Program
from reps_opt.tolerances import DIGITS, MOST_MORE_DIGITS


def exact(block: Block) -> tuple[Numbers, Numbers]:
    """Matrix (k, n) and right-hand side (k,) of a block, to all the digits that it knows."""
    return (numbers(block.dense), numbers(block.rhs)) if block.exact is None else block.exact()


@dataclass(frozen=True, eq=False)
class Point:
    """The dual at one eta and multipliers (m + 1,): its value, the point x (n,), its curvature, exponent t and
    gradient, and D(x)."""

    value: Decimal
    x: Numbers
    curvature: Numbers
    exponent: Numbers
    gradient: Numbers
    divergence: Decimal


def digits_for(program: Program) -> int:
    """Digits that the dual of a program needs.

    More where powers of small masses lie close to a pole, as alpha < 1 has: there ``xi`` is as small as
    ``q^(1 - alpha)``, a difference of numbers of order one.
    """
    divergence = program.divergence
    if not isinstance(divergence, Alpha) or divergence.alpha >= 1:
        return DIGITS
    return DIGITS + min(int((1 - divergence.alpha) * -math.log10(float(divergence.reference.min()))), MOST_MORE_DIGITS)


class Dual:
    """The dual of a program over one simplex and one ball, or none, in decimal numbers.

    Parameters
    ----------
    program
        See :meth:`takes`.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.c = numbers(program.objective)
        parts = [exact(block) for block in program.blocks.values()]
        self.rows = np.concatenate([*(matrix for matrix, _ in parts), np.full((1, program.n), ONE, dtype=object)])
        self.rhs = np.append(np.concatenate([zeros(0), *(rhs for _, rhs in parts)]), ONE)
        self.signed = np.append(program.signed, False)
        self.ridge = None if program.ridge is None else np.append(numbers(program.ridge), ZERO)
        divergence = program.divergence
        smooth = isinstance(divergence, (KL, Alpha))  # the others are met where they do not bind, and KL will do there
        self.q = numbers(divergence.reference if smooth else np.full(program.n, 1 / program.n))
        self.alpha = Decimal(divergence.alpha) if isinstance(divergence, Alpha) else ONE
        radius = 0.0 if program.epsilon is None or program.epsilon == math.inf else program.epsilon
        self.radius = Decimal(radius)  # zero without a ball
        self.offset = numbers([divergence._offset])[0] if isinstance(divergence, Alpha) else ZERO

    @classmethod
    def takes(cls, program: Program) -> bool:
        """Whether the program is of the kind, with rows in memory."""
        kinds = (KL, Alpha, ConditionalKL, NoBall)
        one = program.simplex and program.starts is None and program.mass == 1 and len(program.balls) <= 1
        return one and isinstance(program.divergence, kinds)

    def net(self, v: Numbers) -> Numbers:
        """``c - A'v - lambda`` (n,)."""
        return self.c - v @ self.rows

    def conjugate(self, t: Numbers) -> tuple[Numbers, Numbers, Decimal]:
        """``q f*'``, ``q f*''`` and ``sum q f*``, less what mass out of reach costs; NaN beyond the pole."""
        if self.alpha == 1:
            x = self.q * each(Decimal.exp, t)
            return x, x, x.sum() - ONE
        xi = ONE + (self.alpha - ONE) * t
        if self.alpha < 1 and not all(value > 0 for value in xi):
            nothing = np.full(t.size, Decimal("NaN"), dtype=object)
            return nothing, nothing, Decimal("Infinity")
        power = ONE / (self.alpha - ONE) - ONE
        curvature = self.q * each(lambda value: (value.ln() * power).exp() if value > 0 else ZERO, xi)
        x = curvature * xi
        if self.alpha == 0:
            return x, curvature, -(self.q @ each(Decimal.ln, xi)) - self.offset
        return x, curvature, ((x @ xi) - self.q.sum()) / self.alpha - self.offset

    def at(self, eta: Decimal, v: Numbers) -> Point:
        """The dual and its derivatives at eta > 0 and multipliers (m + 1,)."""
        t = self.net(v) / eta
        x, curvature, inner = self.conjugate(t)
        value, gradient = eta * self.radius + self.rhs @ v + eta * inner, self.rhs - self.rows @ x
        if self.ridge is not None:
            value, gradient = value + self.ridge @ (v * v) / 2, gradient + self.ridge * v
        return Point(value, x, curvature, t, gradient, t @ x - inner)

    def hessian(self, eta: Decimal, point: Point) -> Numbers:
        """Second derivatives (m + 1, m + 1) in the multipliers."""
        hessian = (self.rows * (point.curvature / eta)) @ self.rows.T
        if self.ridge is not None:
            hessian[np.diag_indices(self.rhs.size)] += self.ridge
        return hessian

    def bound(self, eta: Decimal, v: Numbers) -> float:
        """Upper bound on the optimum, by weak duality, at any eta >= 0; rounded. Infinite where a sign is wrong."""
        if (v[self.signed] < 0).any():
            return math.inf
        if isinstance(self.program.divergence, ConditionalKL) and eta > 0:
            return float(eta * self.radius + self.rhs @ v + max(self.soft_errors(eta, v)))
        if eta > 0:
            value = self.at(eta, v).value
            return math.inf if value.is_nan() else float(value)
        softened = ZERO if self.ridge is None else self.ridge @ (v * v) / 2
        return float(self.rhs @ v + max(self.net(v)) + softened)

    def soft_errors(self, eta: Decimal, v: Numbers) -> Numbers:
        """``eta log sum_a pi_q exp(delta / eta)`` (S,) of every state, of a conditional KL."""
        _, masses, top = self.softmax(eta, v)
        return eta * each(Decimal.ln, masses) + top

    def softmax(self, eta: Decimal, v: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Policy (n,) in proportion to ``pi_q exp(delta / eta)``, its masses (S,), and what was taken out of them."""
        divergence = self.program.divergence
        assert isinstance(divergence, ConditionalKL)
        net, group = self.net(v), divergence.group
        members = [np.flatnonzero(group == s) for s in range(divergence.n_groups)]
        top = np.array([max(net[some]) for some in members], dtype=object)
        weight = numbers(divergence.reference) * each(Decimal.exp, (net - top[group]) / eta)
        masses = np.array([weight[some].sum() for some in members], dtype=object)
        return weight / masses[group], masses, top
