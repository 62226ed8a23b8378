"""From a solver's answer to a certified one: the only place where a gap, a bound, a repair or a status is made.

A problem offers candidate points that satisfy its equality rows; each is moved into the balls and under the
inequalities, bounded by weak duality, and checked against the problem's data. The best one is reported. Everything here
is in the units of the normalised program until the last step.

Shapes: n coordinates, m rows, k balls.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from reps_opt.certificate import Certificate
from reps_opt.decimal_dual import Dual, digits_for
from reps_opt.decimals import ZERO, many_digits
from reps_opt.hints import Nearest
from reps_opt.program import Program
from reps_opt.scale import Scale, usual_distance
from reps_opt.segment import first_inside
from reps_opt.solution import Status
from reps_opt.solvers.answer import Answer
from reps_opt.tolerances import (
    AT_THE_TOP,
    BALL_LEEWAY,
    CLOSE,
    DIVERGENCE_TOLERANCE,
    EVEN_ULPS,
    LARGEST_REPAIR,
    LAST_PLACE,
    SOLVED,
    TINY,
)
from reps_opt.validation import FloatArray

Eta = float | FloatArray


class Bound(NamedTuple):
    """A dual bound and where it was taken."""

    value: float
    eta: Eta
    multipliers: FloatArray


class Residuals(NamedTuple):
    """What a point misses: 1-norm of the linear constraints, and of the mass."""

    flow: float
    mass: float


class Judged(Protocol):
    """What a problem tells its judge; :class:`~reps_opt.problem.Problem` has the defaults."""

    @property
    def centre(self) -> Nearest: ...

    @property
    def anchor(self) -> FloatArray | None: ...

    @property
    def radius(self) -> float: ...

    @property
    def advice(self) -> str: ...

    def polished(self, program: Program, answer: Answer) -> Answer: ...

    def candidates(self, program: Program, answer: Answer) -> Iterable[FloatArray]: ...

    def bounds(
        self, program: Program, answer: Answer, point: FloatArray, divergences: list[float]
    ) -> Iterable[Bound]: ...

    def residuals(self, program: Program, point: FloatArray) -> Residuals: ...

    def price(self, program: Program, point: FloatArray, bound: Bound, divergences: list[float]) -> float: ...

    def unit(
        self, program: Program, point: FloatArray, bound: Bound, divergences: list[float], gap: float
    ) -> float: ...

    def reached(self, point: FloatArray, divergence: float) -> float: ...

    def refute(self, program: Program, answer: Answer) -> str: ...

    def reconsider(self, program: Program) -> str: ...


class Verdict(NamedTuple):
    """A point, its multipliers and what is known of them, in the problem's own units."""

    status: Status
    point: FloatArray | None
    eta: Eta
    multipliers: FloatArray | None
    certificate: Certificate
    message: str


def certify(problem: Judged, program: Program, scale: Scale, answer: Answer) -> Verdict:
    """Judge an answer to the normalised program of a problem.

    Parameters
    ----------
    problem
        Gives the candidates, the anchor, and the residuals from its own data.
    program, scale
        The normalised program that was solved, and the way back to the problem's units.
    answer
        What a solver found. Its message is kept, and decides nothing.
    """
    infeasible = problem.refute(program, answer)
    if infeasible:
        return without_point(problem, Status.INFEASIBLE, infeasible)
    answer = problem.polished(program, answer)
    judged = [_judge(problem, program, scale, answer, x) for x in problem.candidates(program, answer)]
    if not judged:
        why = problem.reconsider(program)
        return without_point(problem, Status.INFEASIBLE if why else Status.FAILED, why or answer.message)
    best = min(judged, key=lambda found: rank(found[2])) if len(judged) > 1 else judged[0]
    reasons = best[2].reasons()
    if reasons and program.simplex and problem.anchor is not None:
        # where the multipliers explain nearly all of the objective, the anchor is as good as any point, and feasible
        best = min([best, _judge(problem, program, scale, answer, problem.anchor)], key=lambda found: rank(found[2]))
        reasons = best[2].reasons()
    point, bound, certificate = best
    if reasons and any(reason.startswith("constraint") for reason in reasons) and (text := problem.reconsider(program)):
        return without_point(problem, Status.INFEASIBLE, text)
    eta = bound.eta * scale.factor
    message = "; ".join([*reasons, answer.message, problem.advice]) if reasons else answer.message
    status = Status.UNCERTIFIED if reasons else Status.CERTIFIED
    return Verdict(status, point, eta, bound.multipliers * scale.factor, certificate, message)


def without_point(problem: Judged, status: Status, message: str) -> Verdict:
    """The verdict where there is nothing to look at: infeasible, or a solver that broke off."""
    return Verdict(status, None, math.nan, None, Certificate.unknown(problem.radius), message)


def rank(certificate: Certificate) -> tuple[int, float]:
    """What orders certificates from the best: how many checks fail, then by how much gap and rows are missed."""
    missed = certificate.flow + certificate.gap
    return len(certificate.reasons()), missed if missed == missed else math.inf


def excess(program: Program, x: FloatArray) -> float:
    """How far a point is outside the balls and the inequalities, at worst; negative inside."""
    reached = [ball.value(x) for ball in program.balls]
    return max([*_misses(program, reached), *_row_misses(program, x)], default=-math.inf)


def _misses(program: Program, divergences: list[float]) -> list[float]:
    """How far beyond each ball that can bind some divergences are; of the others an infinite one is allowed too."""
    return [
        -math.inf if ball.radius is None or ball.radius == math.inf else reached - ball.radius
        for ball, reached in zip(program.balls, divergences, strict=True)
    ]


def _row_misses(program: Program, x: FloatArray) -> list[float]:
    """How far beyond each block of inequalities a point is, at worst."""
    return [float((block.matrix @ x - block.rhs).max()) for block in program.inequalities.values()]


def into_balls(problem: Judged, program: Program, x: FloatArray) -> tuple[FloatArray, list[float]]:
    """The point itself inside balls and inequalities, else the first point of its segment to the anchor that is; and
    its divergences.

    What is outside by next to nothing stays, its excess priced in the gap: mending it would cost more, a share of 1e-12
    of an anchor that pays 1e10 somewhere. So does what is nearly inside where the anchor has no room to spare: then
    there is no better point on the segment.
    """
    reached = [ball.value(x) for ball in program.balls]
    beyond = max(_misses(program, reached), default=-math.inf)
    outside = max([beyond, *_row_misses(program, x)]) if program.rows else beyond
    if (beyond <= BALL_LEEWAY * min(1.0, problem.radius) and outside <= SOLVED) or problem.anchor is None:
        return x, reached
    room = -excess(program, problem.anchor)
    share = outside / (outside + max(room, 0.0))  # of the anchor, as a chord of the convex excess needs it
    if room < -outside or (share > LARGEST_REPAIR and outside <= DIVERGENCE_TOLERANCE):
        return x, reached
    moved = first_inside(lambda y: excess(program, y), x, problem.anchor)
    return moved, [ball.value(moved) for ball in program.balls]


def _judge(
    problem: Judged, program: Program, scale: Scale, answer: Answer, point: FloatArray
) -> tuple[FloatArray, Bound, Certificate]:
    """A point inside the balls, the least bound on offer for it, and the certificate of the two."""
    point, divergences = into_balls(problem, program, point)
    bound = min(problem.bounds(program, answer, point, divergences), key=lambda bound: bound.value)
    lower, residuals = program.score(point, divergences), problem.residuals(program, point)
    missed = problem.price(program, point, bound, divergences)
    gap = bound.value - lower + missed
    shown = abs(bound.value) + abs(lower) + abs(scale.shift / scale.factor)
    for ball in program.balls:
        shown += ball.price or 0.0  # of a nat, which is rounded too
    shown *= EVEN_ULPS
    if abs(gap) <= shown < math.inf:
        gap = 0.0  # a difference that the two numbers cannot show; an infinite bound shows nothing
    if gap >= -missed:  # a point that misses rows may lie above the bound by what they are worth: no merit of it
        gap = max(gap, missed)
    unit = problem.unit(program, point, bound, divergences, gap)
    worst = int(np.argmax(_misses(program, divergences))) if len(divergences) > 1 else 0
    certificate = Certificate(
        gap=gap / unit,
        flow=residuals.flow,
        mass=residuals.mass,
        kl=problem.reached(point, divergences[worst]) if divergences else 0.0,
        epsilon=program.balls[worst].allowed if divergences else math.inf,
        upper=scale.original(bound.value),
        lower=scale.original(lower),
        unit=unit * scale.factor,
        distance=_distance(program, bound.eta, max(abs(gap), shown)),
    )
    return point, bound, certificate


def _distance(program: Program, eta: Eta, gap: float) -> float:
    """Total variation, in the worst simplex, within which a gap leaves the optimum; one where nothing is known of it.

    The gap is at least the temperature of a simplex times the Bregman divergence from the dual's maximiser, of the
    point and of the optimum alike.
    """
    if not program.simplex:
        return 1.0
    least = eta
    if isinstance(eta, np.ndarray):
        least = float(np.min(eta @ program.joint.covers)) if np.isfinite(eta).all() else math.inf
    known = 0 < least < math.inf and all(ball.divergence.pinsker for ball in program.balls)
    return min(1.0, math.sqrt(2 * gap / least)) if known else 1.0


def per_ball(eta: Eta) -> list[float]:
    """The etas as a list, one a ball."""
    return eta.ravel().tolist() if isinstance(eta, np.ndarray) else [eta]


def unit_of(program: Program, point: FloatArray, bound: Bound, divergences: list[float], gap: float) -> float:
    """The unit of a gap, in the program's own; see :mod:`reps_opt.certificate`.

    A gap that is small in the units of the balls needs no other.
    """
    binding = [(eta, d) for eta, d in zip(per_ball(bound.eta), divergences, strict=False) if 0 < eta < math.inf > d]
    if not program.simplex:
        gain = sum(2 * eta * d for eta, d in binding)
        return gain or float(np.abs(program.objective).max()) or 1.0
    c = program.objective
    mean = float(point.dot(c)) / float(np.add.reduce(point))
    # absolute deviations: a mass of 1e-20 on a pair that costs 1e10 must not count
    sizes = [sum(eta * math.sqrt(2 * max(d, 0.0)) for eta, d in binding), float(point.dot(np.abs(c - mean)))]
    if len(binding) > 1:  # of one ball a deviation of the net objective; of several that hold each other any number
        sizes[0] = min(sizes[0], float(np.ptp(np.delete(program.net(bound.multipliers), program.joint.out_of_reach))))
    if abs(gap) < CLOSE * max(sizes):
        return max(sizes)
    sizes.append(program.mismatch)
    return max([*sizes, _unit_without_ball(program, point)]) or float(point @ np.abs(c)) or 1.0


def _unit_without_ball(program: Program, point: FloatArray) -> float:
    """The least of three scales of a linear program: what is gained over the reference, how far the best coefficient
    is, and how far from the median those are that differ from it (their lower quartile)."""
    c = program.objective
    scored, size = float(point.dot(c)), float(point.dot(np.abs(c)))  # weighted: a mass of 1e-13 does not count
    missing = float(c.max()) * float(point.sum()) - scored
    scales = [missing] if missing > AT_THE_TOP * size else []
    for ball in program.balls[:1]:
        q = ball.divergence.reference
        if q.size == c.size:
            scales.append(abs(scored - float(q.dot(c)) / float(q.sum())))
    scales.append(usual_distance(c, float(np.median(c))))
    return min((scale for scale in scales if scale > CLOSE * size), default=0.0)


def offered_bounds(problem: Judged, program: Program, answer: Answer, divergences: list[float]) -> Iterator[Bound]:
    """Dual bounds that an answer offers: at its eta, and at zero where the ball looks slack; infinite without any."""
    if answer.multipliers is None:
        yield Bound(math.inf, answer.eta, np.zeros(program.rhs.size))
        return
    v, eta = answer.multipliers, answer.eta
    if answer.digits is not None:
        yield Bound(bound_with_digits(program, answer), eta, v)
        return
    if isinstance(eta, np.ndarray):
        both = zip(program.balls, divergences, strict=True)
        inside = np.array([b.price is None and d <= b.allowed - CLOSE for b, d in both])
        if inside.any():
            without = np.where(inside, 0.0, eta)
            yield Bound(program.bound(without, v), without, v)
        yield Bound(program.bound(eta, v), eta, v)
        return
    if eta == math.inf:
        yield Bound(_single_point_bound(problem, program, v), math.inf, v)
        return
    eta = eta if program.temperature is None else program.temperature
    slack = program.epsilon is not None and (not divergences or divergences[0] <= program.epsilon - CLOSE)
    if answer.eta == 0 or slack:
        yield Bound(program.bound(0.0, v), 0.0, v)
    if eta > 0:
        yield Bound(program.bound(eta, v), eta, v)


def bound_with_digits(program: Program, answer: Answer) -> float:
    """The dual bound at multipliers that keep more digits than a float, evaluated in as many, from the program's data.

    An answer without a ball was cooled to a small eta: what bounds the optimum there does too, and without it.
    """
    assert answer.digits is not None
    eta, multipliers = answer.digits
    with many_digits(digits_for(program)):
        dual = Dual(program)
        bounds = [dual.bound(ZERO, multipliers)] if answer.eta == 0 else []
        return min(bounds if program.epsilon == math.inf else [*bounds, dual.bound(eta, multipliers)])


def _single_point_bound(problem: Judged, program: Program, multipliers: FloatArray) -> float:
    """Bound for a ball that barely holds its centre: by the divergence's own inequality, or from a large eta.

    Around its centre the dual is ``eta (epsilon - D(centre)) + variance / (2 eta)`` above the centre's objective, least
    at the eta taken if the variance is that of two points; what falls below that objective is rounding.
    """
    centre, divergence = problem.centre, program.divergence
    assert program.epsilon is not None
    net = program.net(multipliers)
    softened = 0.0 if program.ridge is None else float(program.ridge @ multipliers**2) / 2
    objective = float(net @ centre.point) + float(program.rhs @ multipliers) + softened
    reach = math.inf
    if centre.divergence == 0 or divergence.pinsker:
        reach = divergence.reach(net, max(program.epsilon - centre.divergence, 0.0), centre.point)
    if reach < math.inf:
        return objective + reach
    room = max(program.epsilon - centre.divergence, LAST_PLACE)
    eta = max(float(np.ptp(net)) / 2, TINY) / math.sqrt(2 * room)
    return max(objective, program.bound(eta, multipliers + eta * centre.multipliers))
