"""The judge by itself: what it makes of a point, a bound and a unit that are given, in numbers done by hand.

Shapes: n coordinates, k balls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import rel_entr

from reps_opt import MDP, REPS, Ball, Program, solve
from reps_opt.certificate import Certificate
from reps_opt.certify import (
    Bound,
    Residuals,
    Verdict,
    bound_with_digits,
    certify,
    excess,
    into_balls,
    offered_bounds,
    per_ball,
    rank,
    unit_of,
)
from reps_opt.constraints import AtMost, Equal
from reps_opt.decimals import many_digits, numbers
from reps_opt.divergences import KL
from reps_opt.divergences.base import Quadratic
from reps_opt.divergences.f_divergences import Alpha, ReverseKL
from reps_opt.hints import Nearest
from reps_opt.metrics import Identity
from reps_opt.scale import Scale
from reps_opt.solvers import Newton
from reps_opt.solvers.answer import Answer

Q = np.array([0.2, 0.3, 0.5])
C = np.array([0.0, 0.4, 1.0])
NONE = np.zeros(0)


def kl(x: Any) -> float:
    return float(rel_entr(x, Q).sum())


class Stub:
    """A problem whose every answer to its judge is given; all of them unobjectionable unless they are."""

    def __init__(self, **given: Any) -> None:
        self.anchor, self.radius, self.advice = Q, 0.1, "try something else"
        self.centre = Nearest(Q, NONE, 0.0)
        self.points, self.bound, self.cost, self.measure = [Q], Bound(1.0, 0.0, NONE), 0.0, 1.0
        self.others = [Bound(9e9, 7.0, NONE)]
        self.missed, self.refuted, self.reconsidered = Residuals(0.0, 0.0), "", ""
        self.__dict__.update(given)

    def polished(self, program: Program, answer: Answer) -> Answer:
        return answer

    def candidates(self, program: Program, answer: Answer) -> Any:
        return self.points

    def bounds(self, program: Program, answer: Answer, point: Any, divergences: Any) -> Any:
        return [*self.others, self.bound]

    def residuals(self, program: Program, point: Any) -> Residuals:
        return self.missed

    def price(self, *given: Any) -> float:
        return self.cost

    def unit(self, *given: Any) -> float:
        return self.measure

    def reached(self, point: Any, divergence: float) -> float:
        return divergence

    def refute(self, program: Program, answer: Answer) -> str:
        return self.refuted

    def reconsider(self, program: Program) -> str:
        return self.reconsidered


ONE = Scale(0.0, 1.0)


def judged(program: Program, scale: Scale = ONE, message: str = "", **given: Any) -> Verdict:
    return certify(Stub(**given), program, scale, Answer(0.0, NONE, None, message))


BALL = Program(C, {}, Ball(KL(Q), 0.1))


class TestCertificate:
    def test_every_number_of_it(self) -> None:
        bound = Bound(0.9, 0.5, np.array([3.0]))
        x = np.array([0.15, 0.3, 0.55])
        found = judged(BALL, Scale(10.0, 4.0), points=[x], bound=bound, cost=0.25, measure=2.0)
        certificate, score = found.certificate, float(C @ x)
        assert certificate.gap == pytest.approx((0.9 - score + 0.25) / 2, rel=1e-14)
        assert (certificate.kl, certificate.epsilon) == (pytest.approx(kl(x)), 0.1)
        assert (certificate.upper, certificate.lower) == (pytest.approx(13.6), pytest.approx(10 + 4 * score))
        assert certificate.unit == 8.0
        assert certificate.distance == pytest.approx(min(1.0, math.sqrt(2 * (0.9 - score + 0.25) / 0.5)))
        assert (found.eta, found.multipliers.tolist()) == (2.0, [12.0])
        assert found.status == "uncertified"
        assert found.message.startswith("duality gap")
        assert found.message.endswith("try something else")

    @pytest.mark.parametrize(("above", "gap"), [(0.25, 0.25), (0.2, 0.25), (-0.1, 0.35), (0.3, 0.25), (0.6, -0.35)])
    def test_a_point_above_the_bound_by_what_it_misses_is_not_the_better_for_it(self, above: float, gap: float) -> None:
        found = judged(BALL, bound=Bound(float(C @ Q) - above, 0.0, NONE), cost=0.25).certificate
        assert found.gap == pytest.approx(gap)

    def test_residuals_are_passed_on_and_decide(self) -> None:
        bound = Bound(float(C @ Q), 0.0, NONE)
        good = judged(BALL, message="done", bound=bound)
        assert (good.status, good.message, good.certificate.gap) == ("certified", "done", 0.0)
        bad = judged(BALL, bound=bound, missed=Residuals(1e-3, 2e-3))
        assert (bad.certificate.flow, bad.certificate.mass, bad.status) == (1e-3, 2e-3, "uncertified")

    def test_a_constraint_that_is_missed_is_thought_over(self) -> None:
        bound, missed = Bound(float(C @ Q), 0.0, NONE), Residuals(1e-3, 0.0)
        assert judged(BALL, bound=bound, missed=missed, reconsidered="no point").status == "infeasible"
        assert judged(BALL, bound=bound, reconsidered="no point").status == "certified"
        assert judged(BALL, reconsidered="no point").status == "uncertified"  # for its gap alone

    def test_without_a_point(self) -> None:
        refuted = judged(BALL, refuted="nothing is feasible")
        assert (refuted.status, refuted.message, refuted.point) == ("infeasible", "nothing is feasible", None)
        assert refuted.certificate.epsilon == 0.1
        broken = judged(BALL, message="gave up", points=[])
        assert (broken.status, broken.message) == ("failed", "gave up")
        proven = judged(BALL, message="gave up", points=[], reconsidered="nothing is feasible")
        assert (proven.status, proven.message) == ("infeasible", "nothing is feasible")

    def test_the_best_of_several_points_and_the_anchor(self) -> None:
        better, worse = np.array([0.18, 0.3, 0.52]), np.array([0.22, 0.3, 0.48])
        bound = Bound(0.9, 0.5, NONE)
        for points in ([better, worse], [worse, better]):
            assert judged(BALL, points=points, bound=bound).point is better
        assert judged(BALL, points=[worse], bound=bound).point is Q
        assert judged(BALL, points=[worse], bound=bound, anchor=None).point is worse
        known = judged(BALL, points=[worse], bound=Bound(float(C @ worse), 0.0, NONE))
        assert known.point is worse  # certified: the anchor is not asked

    def test_the_ball_that_misses_most_is_reported(self) -> None:
        balls = [Ball(KL(Q), 0.5, name="wide"), Ball(KL(Q), 1e-4, name="narrow")]
        x = np.array([0.19, 0.3, 0.51])
        for several in (balls, balls[::-1]):
            found = judged(Program(C, {}, several), points=[x], anchor=None, bound=Bound(1.0, np.ones(2), NONE))
            assert found.certificate.epsilon == 1e-4
            assert found.certificate.kl == pytest.approx(kl(x))
        apart = Program(C, {}, Ball(KL(np.array([0.0, 0.5, 0.5])), math.inf))  # infinitely far, and allowed to be
        assert judged(apart, points=[x], anchor=None).certificate.kl == math.inf
        without = judged(Program(C), points=[x])
        assert (without.certificate.epsilon, without.certificate.kl) == (math.inf, 0.0)


class TestRoundedGaps:
    """A difference that the two numbers cannot show is none; one that they can show is one."""

    @staticmethod
    def gap(missing: float, program: Program, scale: Scale = ONE, anchor: Any = None) -> float:
        x = np.array([missing, 1.0 - missing])
        score = program.score(x, [ball.value(x) for ball in program.balls])
        bound = Bound(score + missing, 0.0, NONE)
        return judged(program, scale, points=[x], bound=bound, anchor=anchor).certificate.gap

    def test_beside_bound_and_objective(self) -> None:
        plain = Program(np.array([0.0, 1.0]))
        assert self.gap(1.5e-15, plain) == 0.0
        assert self.gap(2.5e-15, plain) > 0.0

    def test_beside_what_the_objective_was_shifted_by(self) -> None:
        plain = Program(np.array([0.0, 1.0]))
        for shift in (1e3, -1e3):
            assert self.gap(8e-10, plain, Scale(shift, 1e-3)) == 0.0
            assert self.gap(9e-10, plain, Scale(shift, 1e-3)) > 0.0

    def test_beside_the_price_of_a_nat(self) -> None:
        priced = Program(np.array([0.0, 1.0]), {}, Ball(KL(np.array([1e-10, 1 - 1e-10])), price=1e6))
        assert self.gap(8e-10, priced) == 0.0
        assert self.gap(1.1e-9, priced) > 0.0

    def test_an_infinite_bound_shows_nothing(self) -> None:
        found = judged(BALL, bound=Bound(math.inf, 0.0, NONE), others=[])
        assert (found.certificate.gap, found.status) == (math.inf, "uncertified")
        assert found.certificate.distance == 1.0
        single = judged(BALL, bound=Bound(0.9, math.inf, NONE), others=[])
        assert single.certificate.distance == 1.0

    def test_a_distance_is_no_less_than_its_rounding(self) -> None:
        found = judged(BALL, bound=Bound(float(C @ Q), 0.5, NONE)).certificate
        shown = 4 * np.finfo(float).eps * 2 * float(C @ Q)
        assert (found.gap, found.distance) == (0.0, pytest.approx(math.sqrt(2 * shown / 0.5)))


def test_certificates_are_ranked_by_checks_then_by_what_they_miss() -> None:
    known = Certificate(1e-3, 2e-3, 0.0, 0.1, 0.1, 1.0, 1.0)
    assert rank(known) == (2, pytest.approx(3e-3))
    assert rank(Certificate.unknown(0.1))[1] == math.inf


class TestIntoBalls:
    def test_what_is_inside_stays(self) -> None:
        x = np.array([0.15, 0.3, 0.55])
        point, divergences = into_balls(Stub(), BALL, x)
        assert point is x
        assert divergences == [pytest.approx(kl(x))]

    def test_what_is_outside_moves_to_the_ball(self) -> None:
        far = np.array([0.01, 0.09, 0.9])
        share = brentq(lambda t: kl(Q + t * (far - Q)) - 0.1, 0.1, 1.0, xtol=1e-15)
        point, divergences = into_balls(Stub(), BALL, far)
        np.testing.assert_allclose(point, Q + share * (far - Q), atol=1e-9)
        assert 0.1 - 1e-8 < divergences[0] <= 0.1
        assert divergences[0] == kl(point)

    @pytest.mark.parametrize(
        ("radius", "missed", "stays"),
        [(1.0, 1.5e-11, True), (1e3, 4e-11, False), (0.1, 1.5e-11, False), (0.0, 1.5e-11, False)],
    )
    def test_next_to_nothing_outside_a_ball(self, radius: float, missed: float, stays: bool) -> None:
        far = np.array([0.01, 0.09, 0.9])
        share = brentq(lambda t: kl(Q + t * (far - Q)) - 0.1, 0.1, 1.0, xtol=1e-15)
        slope = (kl(Q + (share + 1e-6) * (far - Q)) - 0.1) / 1e-6
        x = Q + (share + missed / slope) * (far - Q)
        point, divergences = into_balls(Stub(radius=radius), BALL, x)
        assert (point is x) == stays
        assert stays or divergences[0] <= 0.1

    @pytest.mark.parametrize(("missed", "stays"), [(0.9e-10, True), (1.1e-10, False), (1e-3, False)])
    def test_next_to_nothing_outside_an_inequality(self, missed: float, stays: bool) -> None:
        x = np.array([0.15, 0.3, 0.55])
        rows = {"a": AtMost(np.array([[0.0, 0, 1]]), np.array([9.0])), "b": AtMost(C[None], np.array([C @ x - missed]))}
        program = Program(C, rows, Ball(KL(Q), 0.1))
        assert excess(program, x) == pytest.approx(missed, rel=1e-5)
        point, divergences = into_balls(Stub(), program, x)
        assert (point is x) == stays
        assert stays or C @ point <= C @ x - missed
        assert divergences == [pytest.approx(kl(point), rel=1e-12)]

    @pytest.mark.parametrize(("missed", "stays"), [(0.9e-7, True), (1.1e-7, False)])
    def test_nearly_inside_where_the_anchor_has_no_room(self, missed: float, stays: bool) -> None:
        x = np.array([0.15, 0.3, 0.55])
        anchor = np.array([0.25, 0.1, 0.65])
        level = float(C @ x) - missed
        anchor = anchor + (level - C @ anchor) * np.array([-1.0, 0, 1])  # on the row
        program = Program(C, {"row": AtMost(C[None], np.array([level]))}, Ball(KL(Q), 9.0))
        point, _ = into_balls(Stub(anchor=anchor), program, x)
        assert (point is x) == stays
        assert stays or np.abs(point - anchor).sum() < 1e-3

    @pytest.mark.parametrize(("room", "stays"), [(0.5e-4, True), (2e-4, False)])
    def test_nearly_inside_where_the_anchor_has_some(self, room: float, stays: bool) -> None:
        """A thousandth of the anchor is the most that mending so little may cost."""
        x, missed = np.array([0.15, 0.3, 0.55]), 0.9e-7
        level = float(C @ x) - missed
        anchor = x + (level - room - C @ x) * np.array([-1.0, 0, 1])
        program = Program(C, {"row": AtMost(C[None], np.array([level]))}, Ball(KL(Q), 9.0))
        point, _ = into_balls(Stub(anchor=anchor), program, x)
        assert (point is x) == stays

    @pytest.mark.parametrize(("worse", "stays"), [(2e-3, True), (0.5e-3, False)])
    def test_an_anchor_that_is_worse_is_no_help(self, worse: float, stays: bool) -> None:
        x = np.array([0.15, 0.3, 0.55])
        level = float(C @ x) - 1e-3
        anchor = x + (level + worse - C @ x) * np.array([-1.0, 0, 1])
        program = Program(C, {"row": AtMost(C[None], np.array([level]))}, Ball(KL(Q), 9.0))
        point, _ = into_balls(Stub(anchor=anchor), program, x)
        assert (point is x) == stays

    def test_without_an_anchor_what_is_outside_stays(self) -> None:
        far = np.array([0.01, 0.09, 0.9])
        assert into_balls(Stub(anchor=None), BALL, far)[0] is far


class TestUnits:
    x = np.array([0.1, 0.2, 0.7])

    def spread(self) -> float:
        return float(self.x @ np.abs(C - C @ self.x))

    def test_a_binding_ball_by_what_it_can_change(self) -> None:
        assert unit_of(BALL, self.x, Bound(1.0, 3.0, NONE), [0.08], 1e-12) == pytest.approx(3 * math.sqrt(0.16))
        assert unit_of(BALL, self.x, Bound(1.0, 0.9, NONE), [8.0], 1e-12) == pytest.approx(3.6)
        assert unit_of(BALL, self.x, Bound(1.0, 0.01, NONE), [0.08], 1e-12) == pytest.approx(self.spread())

    @pytest.mark.parametrize("eta", [0.0, math.inf])
    def test_a_ball_that_binds_nothing_by_what_the_point_takes(self, eta: float) -> None:
        assert unit_of(BALL, self.x, Bound(1.0, eta, NONE), [8.0], 0.0) == pytest.approx(self.spread())

    def test_of_several_balls_the_sum(self) -> None:
        program = Program(C, {}, [Ball(KL(Q), 0.1), Ball(KL(Q), 0.2, name="two")])
        unit = unit_of(program, self.x, Bound(1.0, np.array([1.0, 2.5]), NONE), [0.08, 0.02], 1e-12)
        assert unit == pytest.approx(1.0 * 0.4 + 2.5 * 0.2)
        far = unit_of(program, self.x, Bound(1.0, np.array([1e80, 2.5]), NONE), [0.08, 0.02], 1e-12)
        assert far == np.ptp(C)  # an eta that a ball without a choice leaves undetermined makes nothing small
        assert per_ball(np.array([[3.0, 5.0]])) == [3.0, 5.0]
        assert per_ball(3.0) == [3.0]

    def test_a_mass_that_is_not_one(self) -> None:
        unit = unit_of(BALL, 2 * self.x, Bound(1.0, 0.0, NONE), [0.08], 0.0)
        assert unit == pytest.approx(2 * self.spread())

    def test_what_is_gained_over_the_reference(self) -> None:
        """At a point that takes one value only: its distance from the reference's, and from the best."""
        c, taken = np.array([0.0, 0.3, 0.8, 1.0]), np.array([0.0, 1.0, 0.0, 0.0])
        even = np.full(4, 0.25)
        program = Program(c, {}, Ball(KL(even), 9.0))
        # best 1 - .3 = .7, gained |.3 - .525| = .225, usual distance from the median .55: .25 of (.55 .25 .25 .45)
        assert unit_of(program, taken, Bound(1.0, 0.0, NONE), [0.1], 1.0) == pytest.approx(0.225)
        twice = unit_of(program, 2 * taken, Bound(1.0, 0.0, NONE), [0.1], 1.0)
        assert twice == pytest.approx(0.6 - 0.525)
        best = Program(np.array([-5.0, -5.0, 0.3, 0.31]))
        assert unit_of(best, np.array([0.0, 0, 2, 0]), Bound(1.0, 0.0, NONE), [], 1.0) == pytest.approx(0.02)
        near = Ball(KL(np.array([0.0, 1.0, 0.0, 0.0]) + 1e-3), 9.0, name="two")
        both, eta = Program(c, {}, [Ball(KL(even), 9.0), near]), np.zeros(2)
        assert unit_of(both, taken, Bound(1.0, eta, NONE), [0.1, 0.1], 1.0) == pytest.approx(0.225)
        without = unit_of(Program(c), taken, Bound(1.0, 0.0, NONE), [], 1.0)
        assert without == pytest.approx(0.25)
        near = Program(np.array([0.0, 0.3, 0.34, 0.4]))
        assert unit_of(near, taken, Bound(1.0, 0.0, NONE), [], 1.0) == pytest.approx(0.02)
        close = Program(np.array([-9.0, 1.0, 5.0, 5.1]))
        at = np.array([0.0, 0.0, 1.0, 0.0])
        assert unit_of(close, at, Bound(1.0, 0.0, NONE), [], 1.0) == pytest.approx(0.1)
        top = Program(np.array([-9.0, 1.0, 5.0, 5.0004]))  # within 1e-4 of the best there is nothing to gain
        assert unit_of(top, at, Bound(1.0, 0.0, NONE), [], 1.0) == pytest.approx(2.0)

    def test_a_reference_of_other_weights_is_scaled(self) -> None:
        c, taken = np.array([0.0, 0.3, 0.8, 1.0]), np.array([0.0, 1.0, 0.0, 0.0])
        weights = Alpha(np.array([1.0, 1.0, 1.0, 1.0]), 2.0)
        program = Program(c, {}, Ball(weights, 9.0))
        assert unit_of(program, taken, Bound(1.0, 0.0, NONE), [0.1], 1.0) == pytest.approx(0.225)

    def test_where_there_is_one_value_its_size(self) -> None:
        same = Program(np.full(3, -0.7))
        assert unit_of(same, self.x, Bound(1.0, 0.0, NONE), [], 1.0) == pytest.approx(0.7)
        nothing = Program(np.zeros(3))
        assert unit_of(nothing, self.x, Bound(1.0, 0.0, NONE), [], 1.0) == 1.0

    def test_off_the_simplex_by_the_gain(self) -> None:
        program = Program(np.array([0.3, -0.6]), {}, Ball(Quadratic(Identity(), 2), 0.5))
        step = np.array([0.1, -0.2])
        assert unit_of(program, step, Bound(1.0, 3.0, NONE), [0.25], 1.0) == pytest.approx(1.5)
        assert unit_of(program, step, Bound(1.0, 0.0, NONE), [0.25], 1.0) == pytest.approx(0.6)
        zero = Program(np.zeros(2), {}, Ball(Quadratic(Identity(), 2), 0.5))
        assert unit_of(zero, step, Bound(1.0, 0.0, NONE), [0.25], 1.0) == 1.0


class TestBounds:
    v = np.array([0.3])

    @property
    def rows(self) -> dict[str, Equal]:
        return {"row": Equal(np.array([[1.0, 0, 0]]), np.array([0.2]))}

    def offered(self, program: Program, answer: Answer, divergences: list[float], **given: Any) -> list[Bound]:
        return list(offered_bounds(Stub(**given), program, answer, divergences))

    def soft(self, eta: float, net: Any) -> float:
        return eta * math.log(float(Q @ np.exp(net / eta)))

    def test_at_eta_and_at_zero_where_the_ball_looks_slack(self) -> None:
        program = Program(C, self.rows, Ball(KL(Q), 0.1))
        net = C - np.array([0.3, 0, 0])
        bound = 0.2 * 0.3 + 0.5 * 0.1 + self.soft(0.5, net)
        zero = 0.2 * 0.3 + 1.0
        for reached, values in ((0.1, [bound]), (0.1 - 2e-9, [zero, bound]), (0.1 - 0.5e-9, [bound])):
            found = self.offered(program, Answer(0.5, self.v, None), [reached])
            assert [b.value for b in found] == pytest.approx(values)
            assert [b.eta for b in found] == [0.5] if len(values) == 1 else [0.0, 0.5]
            assert all(b.multipliers is self.v for b in found)
        assert [b.value for b in self.offered(program, Answer(0.0, self.v, None), [0.1])] == pytest.approx([zero])

    def test_a_price_is_the_eta(self) -> None:
        program = Program(C, self.rows, Ball(KL(Q), price=0.5))
        (found,) = self.offered(program, Answer(0.7, self.v, None), [0.1])
        net = C - np.array([0.3, 0, 0])
        assert found.value == pytest.approx(0.2 * 0.3 + self.soft(0.5, net))

    def test_none_without_multipliers(self) -> None:
        program = Program(C, self.rows, Ball(KL(Q), 0.1))
        (found,) = self.offered(program, Answer(0.5, None, Q), [0.1])
        assert (found.value, found.eta, found.multipliers.tolist()) == (math.inf, 0.5, [0.0])

    def test_of_several_balls_without_the_slack_ones(self) -> None:
        program = Program(C, {}, [Ball(KL(Q), 0.1), Ball(KL(Q), 0.2, name="two")])
        eta = np.array([0.5, 0.25])
        answer = Answer(eta, NONE, None)
        both = 0.05 + 0.05 + self.soft(0.75, C)
        (found,) = self.offered(program, answer, [0.1, 0.2])
        assert found.value == pytest.approx(both)
        first, second = self.offered(program, answer, [0.1, 0.2 - 2e-9])
        assert (first.eta.tolist(), second.eta.tolist()) == ([0.5, 0.0], [0.5, 0.25])
        assert (first.value, second.value) == pytest.approx((0.05 + self.soft(0.5, C), both))
        assert len(self.offered(program, answer, [0.1, 0.2 - 0.5e-9])) == 1

    def test_around_a_single_point_by_the_divergences_own_inequality(self) -> None:
        program = Program(C, self.rows, Ball(KL(Q), 0.02), ridge=np.array([0.5]))
        (found,) = self.offered(program, Answer(math.inf, self.v, Q), [0.0])
        net = C - np.array([0.3, 0, 0])
        assert found.eta == math.inf
        assert found.value == pytest.approx(net @ Q + 0.2 * 0.3 + 0.5 * 0.09 / 2 + 0.1 * np.ptp(net))

    def test_around_a_single_point_by_large_etas_where_there_is_no_such_inequality(self) -> None:
        reverse, radius = Program(C, self.rows, Ball(ReverseKL(Q), 0.05 + 1e-12)), 0.05 + 1e-12
        tilt = np.array([-0.4])
        (found,) = self.offered(reverse, Answer(math.inf, self.v, Q), [0.05], centre=Nearest(Q, tilt, 0.05))

        def bound(eta: float) -> float:
            v = 0.3 - 0.4 * eta
            net = C - v * np.array([1.0, 0, 0])
            mass = lambda m: float(Q @ (1 / (1 - (net - m) / eta))) - 1  # noqa: E731
            m = brentq(mass, net.max() - 0.999 * eta, net.max())
            return 0.2 * v + eta * radius + m - eta * float(Q @ np.log(1 - (net - m) / eta))

        best = float(np.ptp(C - np.array([0.3, 0, 0]))) / 2 / math.sqrt(2e-12)  # least of eta room + variance / (2 eta)
        assert found.value == pytest.approx(bound(best), rel=1e-4)

    def test_in_as_many_digits_as_the_answer_has(self) -> None:
        program = Program(C, self.rows, Ball(KL(Q), 0.1))
        net = C - np.array([0.3, 0, 0])
        for eta, ball, right in (
            (0.5, Ball(KL(Q), 0.1), 0.06 + 0.05 + self.soft(0.5, net)),
            (0.0, Ball(KL(Q), 9.0), 0.06 + 1.0),
            (0.0, Ball(KL(Q), math.inf), 0.06 + 1.0),
        ):
            posed = program.with_ball(ball)
            with many_digits():
                normaliser = Decimal(self.soft(0.5, net) if eta else 0.0)
                digits = (Decimal("0.5"), numbers(np.array([0.3, float(normaliser)])))
            answer = Answer(eta, self.v, None, digits=digits)
            (found,) = self.offered(posed, answer, [0.1])
            assert found.value == bound_with_digits(posed, answer) == pytest.approx(right)


@pytest.mark.parametrize("epsilon", [1e-16, 0.0])
def test_a_ball_of_a_single_point(epsilon: float) -> None:
    """The bound around it is the centre's objective and what the radius can change."""
    solution = solve(Program(C, {}, Ball(KL(Q), epsilon)))
    assert solution.status == "certified"
    assert solution.eta == math.inf
    reach = math.sqrt(2 * epsilon) * float(np.ptp(C)) / 2
    assert solution.certificate.lower == pytest.approx(float(C @ Q))
    assert 0 <= solution.certificate.upper - float(C @ Q) <= 2 * reach + 1e-15


@dataclass
class Shifted:
    """The default route, a constant added to the multipliers of the flow, in ranges of the rewards."""

    shift: float

    def solve(self, program: Program) -> Answer:
        answer = Newton().solve(program)
        assert answer.multipliers is not None
        return replace(answer, multipliers=answer.multipliers + self.shift)


def hardly_moving(seed: int, gamma: float) -> REPS:
    """States that are left once in 1e8 steps."""
    rng = np.random.default_rng(seed)
    P = 1e-8 * rng.random((6, 3, 6))
    P[np.arange(6), :, np.arange(6)] = 0.0
    P[np.arange(6), :, np.arange(6)] = 1 - P.sum(axis=2)
    mdp = MDP(P, rng.normal(size=(6, 3)), gamma)
    return REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.3)


@pytest.mark.parametrize("shift", 10.0 ** np.arange(8, 20))
def test_a_constant_in_the_multipliers_of_an_average_is_free(shift: float) -> None:
    """Floats lost differences of values in it: an answer 0.3 of a unit off was certified at 1e16 of HiGHS's own."""
    problem = hardly_moving(0, gamma=1.0)
    shifted = solve(problem, Shifted(shift))
    assert shifted.status == "certified"
    assert shifted.objective == pytest.approx(solve(problem).objective, abs=1e-7)


@pytest.mark.parametrize("shift", [1.5e14, 1e16, 1e19])
@pytest.mark.parametrize("seed", range(6))
def test_a_bound_at_multipliers_beyond_all_values_is_one_in_spite_of_rounding(seed: int, shift: float) -> None:
    problem = hardly_moving(seed, gamma=0.99)
    best, shifted = solve(problem), solve(problem, Shifted(shift))
    assert best.status == "certified"
    assert shifted.certificate.upper > best.objective
    assert shifted.status == "uncertified"
