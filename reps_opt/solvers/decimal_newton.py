r"""Newton's method on the dual of a small program in decimal numbers: what is asked where floats have no digits left.

At a fixed eta the multipliers are found by Newton's method, of a conditional KL by soft policy iteration. With a radius
eta is the root of ``log D = log epsilon`` in log eta, which is nearly a line. Where the ball turns
out slack, or there is none, eta is lowered until what it costs is negligible, which leaves the point of the linear
program's optimal face that is closest to the reference.

Shapes: n coordinates; m rows, and m + 1 with that of the mass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import scipy
from scipy.sparse import csgraph

from reps_opt.decimal_dual import Dual, Point, digits_for
from reps_opt.decimals import ONE, ZERO, Numbers, each, many_digits, numbers, solve, zeros
from reps_opt.divergences.conditional_kl import ConditionalKL
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer
from reps_opt.tolerances import (
    DECIMAL_COLDEST,
    DECIMAL_COOLING,
    DECIMAL_DECREMENT,
    DECIMAL_HOTTEST,
    DECIMAL_RESIDUAL,
    DECIMAL_TRAVEL,
    DECIMAL_WORK,
    ETA_STRIDE,
    LARGEST_EXPONENT,
    LARGEST_START_SPREAD,
    LAST_PLACE,
    LEAST_DECIMAL_COOLING,
    MOST_ITERATIONS,
    NEGLIGIBLE_ETA,
    ROUNDING,
    SHORTEST_DECIMAL_STEP,
    SUFFICIENT_DECREASE,
)
from reps_opt.validation import UnsuitableError


def moved_by(old: Point, new: Point) -> Decimal:
    """Bregman divergence of the new point from the old one: of a KL, KL(new || old)."""
    moved: Decimal = new.divergence - old.divergence - old.exponent @ (new.x - old.x)
    return moved


@dataclass(frozen=True, eq=False)
class DecimalNewton:
    """Refine an answer, or find one, with many digits.

    Parameters
    ----------
    start
        The answer in floats; its eta and multipliers are where the search begins.
    max_iterations
        Newton steps in all: a step takes some milliseconds.
    """

    start: Answer | None = None
    max_iterations: int = 600

    def solve(self, program: Program) -> Answer:
        """The minimiser of the dual, its multipliers also as decimal numbers."""
        if not Dual.takes(program):
            raise UnsuitableError("DecimalNewton solves programs over one simplex with one ball of a known divergence")
        with many_digits(digits_for(program)):
            dual = Dual(program)
            try:
                return _Search(self, dual).run()
            except (ArithmeticError, ValueError):
                if self.start is None:
                    raise
                return _Search(replace(self, start=None), dual).run()  # it misled


class _Search:
    """One run: which eta and multipliers it is at, and how it finds the minimiser of another eta from there."""

    def __init__(self, settings: DecimalNewton, dual: Dual) -> None:
        self.dual, self.steps = dual, 0
        self.limit, self.left = settings.max_iterations, DECIMAL_WORK // dual.program.n
        start = settings.start
        v = None if start is None else start.multipliers
        usable = v is not None and bool(np.isfinite(v).all())
        self.v: Numbers = np.append(numbers(v if usable and v is not None else np.zeros(dual.rhs.size - 1)), ZERO)
        eta = 0.0 if start is None or np.ndim(start.eta) else float(start.eta)
        self.single = None if start is None or eta < math.inf else start.point
        self.known = usable and NEGLIGIBLE_ETA < eta < DECIMAL_HOTTEST
        self.eta = Decimal(eta) if self.known else ONE
        self.chain = SoftChain(dual) if isinstance(dual.program.divergence, ConditionalKL) else None

    def run(self) -> Answer:
        """Eta, multipliers and point, by what kind of ball there is."""
        program = self.dual.program
        if self.single is not None:
            return replace(
                self._answer(math.inf, self._at(DECIMAL_HOTTEST), "the ball holds a single point"), point=self.single
            )
        if program.temperature is not None:
            return self._answer(program.temperature, self._at(Decimal(program.temperature)))
        if program.epsilon is None or program.epsilon == math.inf or not program.balls:
            return self._slack()
        return self._on_the_ball()

    def _answer(self, eta: float, point: Point, message: str = "converged") -> Answer:
        missed = abs(point.gradient[~(self.dual.signed & (self.v <= 0) & (point.gradient >= 0))]).sum()
        if not missed <= ROUNDING:
            raise ArithmeticError(f"{self.steps} Newton steps leave {missed:.0e} in the rows at eta = {self.eta:.1e}")
        v, x, stats = self.v[:-1].astype(np.float64), point.x.astype(np.float64), {"iterations": self.steps}
        return Answer(eta, v, x, message, stats, digits=(self.eta, self.v))

    def _at(self, eta: Decimal) -> Point:
        """The minimiser over the multipliers at eta, from where the search is."""
        self.eta = eta
        return self._newton() if self.chain is None else self._soft_iteration(self.chain)

    def _slack(self) -> Answer:
        answer = self._cooled()
        assert answer is not None
        return answer

    def _cooled(self, far: Decimal | None = None) -> Answer | None:
        """The limit of a vanishing eta; None once a point is ``far`` from the reference, at an eta on the way there."""
        self.chain = None
        net = self.dual.net(self.v)
        eta = max(self.eta, ONE, (max(net) - min(net)) / Decimal(LARGEST_START_SPREAD))
        point, cooling = self._at(eta), DECIMAL_COOLING
        while eta > DECIMAL_COLDEST:
            if far is not None and point.divergence > far:
                return None
            tangent, cooling = self._tangent(point), min(cooling**2, DECIMAL_COOLING)
            while True:
                self.eta = eta / cooling
                start, trial = self._centred(self.v + tangent * (self.eta - eta))
                if cooling < LEAST_DECIMAL_COOLING or (
                    trial.value.is_finite() and moved_by(point, trial) <= DECIMAL_TRAVEL
                ):
                    break
                cooling = cooling.sqrt()
            self.v, eta = np.where(self.dual.signed & (start < 0), zeros(start.size), start), self.eta
            point = self._at(eta)
        return self._answer(0.0, point, "the ball is slack" if self.dual.program.balls else "there is no ball")

    def _on_the_ball(self) -> Answer:
        """The eta whose minimiser lies on the ball's boundary; the limits where there is none."""

        def beyond(log_eta: float) -> float:
            share = self._at(Decimal(log_eta).exp()).divergence / self.dual.radius
            return max(float(share.ln()), -LARGEST_EXPONENT) if share > 0 else -LARGEST_EXPONENT

        if self.chain is None and not self.known and (answer := self._cooled(self.dual.radius)) is not None:
            return answer
        coldest, hottest = float(DECIMAL_COLDEST.ln()), float(DECIMAL_HOTTEST.ln())
        here = float(self.eta.ln())
        side = beyond(here)
        there = here
        while side != 0:
            there = there + ETA_STRIDE if side > 0 else there - ETA_STRIDE
            if not coldest < there < hottest or beyond(there) * side <= 0:
                break
            here = there
        if there <= coldest:
            return self._slack()
        if side != 0 and there < hottest:
            there = float(
                scipy.optimize.brentq(beyond, min(here, there), max(here, there), xtol=LAST_PLACE, rtol=LAST_PLACE)
            )
        return self._answer(float(self.eta), self._at(Decimal(there).exp()))

    def _newton(self) -> Point:
        """Newton's method on the multipliers at the present eta, each step cut until it brings what it promises."""
        dual, eta = self.dual, self.eta
        v, point = self._centred(self.v if dual.alpha == 1 else self._normalised(self.v))
        if not point.value.is_finite():
            raise ArithmeticError(f"the dual is {point.value} at eta = {eta:.2e}")
        while self.steps < self.limit:
            free = ~(dual.signed & (v <= 0) & (point.gradient >= 0))
            step = zeros(v.size)
            step[free] = -solve(dual.hessian(eta, point)[np.ix_(free, free)], point.gradient[free])
            slope = point.gradient @ step
            if not -slope > DECIMAL_DECREMENT * eta and not abs(point.gradient[free]).sum() > DECIMAL_RESIDUAL:
                break
            share = ONE
            while share > SHORTEST_DECIMAL_STEP:
                moved = v + share * step
                new, trial = self._centred(np.where(dual.signed & (moved < 0), zeros(v.size), moved))
                near = dual.alpha < 1 or moved_by(point, trial) <= DECIMAL_TRAVEL
                if near and trial.value <= point.value + Decimal(SUFFICIENT_DECREASE) * share * slope:
                    break
                share /= 4
            else:
                break
            v, point = new, trial
            self.steps += 1
        self.v = v
        return point

    def _tangent(self, point: Point) -> Numbers:
        """How the minimiser's multipliers (m + 1,) move with eta, those of idle inequalities kept at zero."""
        dual = self.dual
        free = ~(dual.signed & (self.v <= 0))
        moved = zeros(self.v.size)
        pulled = dual.rows @ (point.curvature * point.exponent) / self.eta
        moved[free] = -solve(dual.hessian(self.eta, point)[np.ix_(free, free)], pulled[free])
        return moved

    def _centred(self, v: Numbers) -> tuple[Numbers, Point]:
        """Multipliers whose last is, of a KL, the best for the others, and the dual there."""
        dual = self.dual
        if dual.alpha == 1:
            t = (dual.net(v) + v[-1]) / self.eta
            top = max(t)
            v = np.append(v[:-1], self.eta * (top + (dual.q @ each(Decimal.exp, t - top)).ln()))
        self.left -= 1
        if self.left < 0:
            raise ArithmeticError(f"{self.steps} Newton steps lead no farther than eta = {self.eta:.2e}")
        return v, dual.at(self.eta, v)

    def _normalised(self, v: Numbers) -> Numbers:
        """Multipliers whose last gives the point mass one: Newton's method on a power of the mass, from one side."""
        dual, power = self.dual, self.dual.alpha - ONE
        net = dual.net(v) + v[-1]
        best = int(np.argmax(net))
        v = np.append(v[:-1], net[best] - self.eta * ((dual.q[best].ln() * -power).exp() - ONE) / power)
        for _ in range(MOST_ITERATIONS):
            point = dual.at(self.eta, v)
            mass = point.x.sum()
            step = self.eta * mass * (ONE - (mass.ln() * -power).exp()) / (power * point.curvature.sum())
            v = np.append(v[:-1], v[-1] + step)
            if not abs(step / self.eta) > ROUNDING:
                break
        return v

    def _soft_iteration(self, chain: SoftChain) -> Point:
        """Policy iteration with softmax policies: Newton's method on the soft Bellman equations."""
        dual, eta = self.dual, self.eta
        while True:
            errors = dual.soft_errors(eta, self.v)
            policy, _, _ = dual.softmax(eta, self.v)
            step, gain = chain.value(policy, errors)
            self.v[:-1] += step
            self.steps += 1
            if max(abs(errors - gain)) <= DECIMAL_DECREMENT * eta or self.steps >= self.limit:
                break
        policy, _, _ = dual.softmax(eta, self.v)
        return chain.point(policy, gain)


class SoftChain:
    """The linear systems of softmax policies: their values, gains and occupancies.

    With average reward every component has a gain, which takes the place of the value at its ground: the system of a
    policy is bordered by the indicators of the components and by those of the grounds.
    """

    def __init__(self, dual: Dual) -> None:
        self.dual, program = dual, dual.program
        assert isinstance(program.divergence, ConditionalKL)
        self.rows, self.group = dual.rows[:-1], program.divergence.group
        m, grounds = self.rows.shape[0], program.hints.grounds
        self.component = np.zeros(m, dtype=np.int64)
        if grounds.size:
            self.component = csgraph.connected_components(program.matrix @ program.transpose, directed=False)[1]
        self.border = zeros(m, grounds.size)
        self.ground = zeros(grounds.size, m)
        if grounds.size:
            self.border[np.arange(m), self.component] = ONE
            self.ground[self.component[grounds], grounds] = ONE

    def _system(self, policy: Numbers) -> Numbers:
        """``I - gamma P`` (S, S) of a policy, bordered."""
        m, k = self.border.shape
        choose = zeros(self.group.size, m)
        choose[np.arange(self.group.size), self.group] = policy
        square = zeros(k, k)
        return np.block([[(self.rows @ choose).T, self.border], [self.ground, square]])

    def value(self, policy: Numbers, reward: Numbers) -> tuple[Numbers, Numbers]:
        """Value (S,) of a reward (S,) and, with average reward, its gain from each state, else zero."""
        m, k = self.border.shape
        found = solve(self._system(policy), np.concatenate([reward, zeros(k)]), definite=False)
        return found[:m], found[m:][self.component] if k else zeros(m)

    def point(self, policy: Numbers, gain: Numbers) -> Point:
        """The occupancy of a policy as the dual's maximiser; with average reward of the component that gains most."""
        m, k = self.border.shape
        begins = np.concatenate([self.dual.rhs[:-1], zeros(k)])
        if k:
            begins[m + int(self.component[int(np.argmax(gain))])] = ONE
        mu = solve(self._system(policy).T, begins, definite=False)[:m]
        x = policy * mu[self.group]
        ratio = policy / numbers(self.dual.program.divergence.reference)
        spent = sum((mass * share.ln() for mass, share in zip(x, ratio, strict=True) if share > 0), ZERO)
        return Point(ZERO, x, x, zeros(x.size), zeros(m + 1), spent)
