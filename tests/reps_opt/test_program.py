"""Programs, divergences, certificates and validation by themselves: what every family's answer rests on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp

from reps_opt.certificate import Certificate
from reps_opt.constraints import AtMost, Equal
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL, Conjugate, NoBall, Quadratic, group_max, softmax_within
from reps_opt.divergences.f_divergences import ChiSquare
from reps_opt.hints import Hints, Nearest
from reps_opt.metrics import Dense
from reps_opt.program import Program
from reps_opt.scale import Scale
from reps_opt.validation import (
    as_count,
    as_float_array,
    as_scalar,
    check_finite,
    check_nonnegative,
    check_shape,
    first_index,
    read_only,
)

Q = np.array([0.1, 0.2, 0.3, 0.4])
C = np.array([1.0, 3.0, 0.0, 2.0])
ROWS = {"match": Equal(sp.csr_array([[1.0, -1.0, 0.5, 0.0], [0.0, 1.0, 1.0, -1.0]]), np.array([0.05, 0.1]))}
BUDGET = {"cap": AtMost(sp.csr_array([[0.0, 1.0, 0.0, 1.0]]), np.array([0.6]))}
V = np.array([0.3, -0.2, 0.4])


def program(**changes) -> Program:
    ball = {"divergence": KL(Q), "radius": 0.3} | {
        k: changes.pop(k) for k in ("divergence", "radius", "price") if k in changes
    }
    hints = Hints(**{k: changes.pop(k) for k in ("linear_limit", "start", "warm") if k in changes})
    return Program(**{"objective": C, "rows": {**ROWS, **BUDGET}, "balls": Ball(**ball), "hints": hints} | changes)


def slope(function, x, h=1e-6):
    return (function(x + h) - function(x - h)) / (2 * h)


class TestDivergences:
    @pytest.mark.parametrize("reference", [Q, 0.7 * Q], ids=["whole", "part out of reach"])
    def test_kl_and_its_conjugate(self, reference):
        ball, y = KL(reference), np.array([0.5, -1.0, 2.0, 0.0])
        conjugate = ball.conjugate(y)
        x = reference * np.exp(y) / np.sum(reference * np.exp(y))
        np.testing.assert_allclose(conjugate.point, x, rtol=1e-14)
        np.testing.assert_array_equal(conjugate.weights, conjugate.point)
        assert conjugate.value == pytest.approx(math.log(np.sum(reference * np.exp(y))), rel=1e-14)
        assert conjugate.normaliser == conjugate.value
        assert ball.value(x) == pytest.approx(np.sum(x * np.log(x / reference)), rel=1e-13)
        assert x @ y - ball.value(x) == pytest.approx(conjugate.value, rel=1e-13)
        assert ball.largest == pytest.approx(-math.log(reference.min()))
        assert ball.value(np.eye(4)[0]) == pytest.approx(ball.largest)

    def test_kl_is_not_below_zero_by_rounding(self):
        q = np.random.default_rng(0).dirichlet(np.ones(50), 200)
        assert min(KL(row).value(row / row.sum()) for row in q) == 0.0
        assert KL(np.array([0.5, 0.5])).value(np.array([0.5, 0.4])) == pytest.approx(0.4 * math.log(0.8), rel=1e-12)

    def test_the_hessian_is_the_weighted_covariance(self):
        ball, y, d = KL(Q), np.array([0.5, -1.0, 2.0, 0.0]), np.array([1.0, 2.0, -1.0, 0.5])
        found = ball.conjugate(y).hessian(d)
        np.testing.assert_allclose(found, slope(lambda t: ball.conjugate(y + t * d).point, 0.0), atol=1e-9)
        w = np.array([1.0, 3.0])
        np.testing.assert_allclose(Conjugate(0.0, w, w, 0.0).hessian(np.array([1.0, 2.0])), [-0.75, 0.75])
        np.testing.assert_array_equal(Conjugate(0.0, w, 0 * w, 0.0).hessian(w), [0.0, 0.0])

    def test_reach_is_pinskers(self):
        ball, rng = KL(Q), np.random.default_rng(0)
        net, room = np.array([0.0, 2.0, 1.0, -1.0]), 0.02
        assert ball.reach(net, room, Q) == pytest.approx(math.sqrt(0.01) * 3)
        inside = [x for x in rng.dirichlet(500 * Q, 2000) if ball.value(x) <= room]
        assert len(inside) > 100
        assert max((x - Q) @ net for x in inside) <= ball.reach(net, room, Q)
        assert NoBall(4).reach(net, room, Q) == math.inf

    def test_conditionals_within_groups(self):
        group, y = np.array([0, 0, 1, 1]), np.array([1.0, 0.0, 0.0, 3.0])
        expected = Q * np.exp(y)
        expected = expected / np.array([expected[:2].sum()] * 2 + [expected[2:].sum()] * 2)
        np.testing.assert_allclose(KL(Q).within(y, group, 2), expected, rtol=1e-14)
        np.testing.assert_array_equal(group_max(y, group, 3), [1.0, 3.0, -np.inf])
        shares, partition = softmax_within(np.array([1000.0, 1000.0, -1000.0, -1000.0]), group, 2)
        np.testing.assert_allclose(shares, 0.5)
        np.testing.assert_allclose(partition, [1000 + math.log(2), -1000 + math.log(2)])
        far = KL(Q).within(np.array([0.0, 0.0, -2000.0, -2001.0]), group, 2)
        np.testing.assert_allclose(far[2:], np.array([0.3, 0.4 / math.e]) / (0.3 + 0.4 / math.e))

    def test_best_coordinates_stand_for_a_group_without_mass(self):
        group = np.array([0, 0, 1, 1])
        np.testing.assert_allclose(NoBall(4).within(np.array([2.0, 1.0, 0.0, 0.0]), group, 2), [1, 0, 0.5, 0.5])
        np.testing.assert_allclose(NoBall(4).conjugate(np.array([2.0, 1.0, 0.0, 0.0])).point, [1, 0, 0, 0])
        np.testing.assert_allclose(NoBall(3).conjugate(np.array([1.0, 1.0, 0.0])).point, [0.5, 0.5, 0])
        np.testing.assert_allclose(NoBall(4).within(np.array([2.0, 2.0, 0.0, -1.0]), group, 2), [0.5, 0.5, 1, 0])

    def test_conditionals_of_a_divergence_with_zeros_are_those_of_its_maximiser(self):
        ball, group, y = ChiSquare(Q), np.array([0, 0, 1, 1]), np.array([0.5, 0.0, -9.0, -8.0])
        point = ball.conjugate(y).point
        np.testing.assert_allclose(ball.within(y, group, 2), [*(point[:2] / point[:2].sum()), 0.0, 1.0])
        shared = ball.conjugate(np.array([0.3, 0.1, 0.2, 0.0])).point  # both groups have mass, neither all of it
        parts = [shared[:2] / shared[:2].sum(), shared[2:] / shared[2:].sum()]
        np.testing.assert_allclose(ball.within(np.array([0.3, 0.1, 0.2, 0.0]), group, 2), np.concatenate(parts))
        assert point[0] != point[1] / 2
        assert point[2:].sum() == 0.0

    def test_no_ball_is_a_linear_program(self):
        ball = NoBall(4)
        conjugate = ball.conjugate(np.array([1.0, 3.0, 3.0, 0.0]))
        assert (conjugate.value, conjugate.normaliser) == (3.0, 3.0)
        np.testing.assert_array_equal(conjugate.point, [0, 0.5, 0.5, 0])
        np.testing.assert_array_equal(conjugate.weights, np.zeros(4))
        np.testing.assert_array_equal(ball.reference, np.full(4, 0.25))
        assert ball.value(Q) == 0.0
        assert ball.value(-Q) == math.inf
        assert ball.value(np.eye(4)[0]) == 0.0
        assert ball.expression(None, None) is None

    def test_what_divergences_say_of_themselves(self):
        for ball in (KL(Q), NoBall(4)):
            assert (ball.simplex, ball.truncates, ball.smooth) == (True, False, True)
            assert ball.bounded
            assert ball.finite_at_zero
            assert ball.highest(np.array([1.0, 4.0])) == 4.0
        assert NoBall(4).largest == math.inf
        with pytest.raises(ValueError, match="read-only"):
            KL(Q).reference[0] = 1.0

    def test_quadratic(self):
        ball, y = Quadratic(Dense([[2.0, 0.5], [0.5, 1.0]]), 2), np.array([1.0, -2.0])
        conjugate = ball.conjugate(y)
        F = np.array([[2.0, 0.5], [0.5, 1.0]])
        np.testing.assert_allclose(conjugate.point, np.linalg.solve(F, y))
        assert conjugate.value == pytest.approx(0.5 * y @ np.linalg.solve(F, y))
        np.testing.assert_allclose(conjugate.hessian(np.array([0.0, 1.0])), np.linalg.inv(F)[:, 1])
        assert conjugate.normaliser == 0.0
        assert conjugate.weights.size == 0
        assert ball.value(np.array([1.0, 2.0])) == pytest.approx(0.5 * (2 + 2 + 4))
        assert not ball.simplex
        np.testing.assert_array_equal(ball.reference, [0.0, 0.0])
        assert (ball.highest(np.zeros(2)), ball.highest(y)) == (0.0, math.inf)

    @pytest.mark.parametrize("ball", [KL(Q), KL(0.7 * Q), NoBall(4)], ids=["kl", "part", "none"])
    def test_poses_of_both_sides_agree_with_the_conjugate(self, ball):
        import cvxpy as cp

        x, y, eta = cp.Variable(4, nonneg=True), np.array([0.5, -1.0, 2.0, 0.0]), 0.7
        penalty = 0 if ball.expression(cp, x) is None else eta * ball.expression(cp, x)
        best = cp.Problem(cp.Maximize(y @ x - penalty), [cp.sum(x) == 1]).solve(solver="CLARABEL")
        expected = float(y.max()) if isinstance(ball, NoBall) else eta * ball.conjugate(y / eta).value
        assert best == pytest.approx(expected, abs=1e-6)
        normaliser = cp.Variable()
        rows = ball.dual_constraints(cp, y - normaliser, eta)
        least = cp.Problem(cp.Minimize(normaliser), [*rows.values()]).solve(solver="CLARABEL")
        assert least == pytest.approx(expected, abs=1e-6)
        assert set(rows) == ({"normalisation"} if isinstance(ball, NoBall) else {"kl", "normalisation"})

    def test_poses_of_the_quadratic_ball(self):
        import cvxpy as cp

        ball, y, eta = Quadratic(Dense([[2.0, 0.5], [0.5, 1.0]]), 2), np.array([1.0, -2.0]), 0.7
        s, height = cp.Variable(2), cp.Variable()
        best = cp.Problem(cp.Maximize(y @ s - eta * ball.expression(cp, s))).solve(solver="CLARABEL")
        rows = ball.dual_constraints(cp, y, eta, height)
        least = cp.Problem(cp.Minimize(height), [*rows.values()]).solve(solver="CLARABEL")
        expected = eta * ball.conjugate(y / eta).value
        assert (best, least) == (pytest.approx(expected, abs=1e-6), pytest.approx(expected, abs=1e-6))
        assert set(rows) == {"whitening", "ball"}
        level = cp.Problem(cp.Minimize(0), [*ball.dual_constraints(cp, np.array([0.1, 0.0]), 0.7).values()])
        assert level.solve(solver="CLARABEL") == math.inf


class TestProgram:
    def test_rows_are_stacked_and_named(self):
        p = program()
        assert p.n == 4
        np.testing.assert_array_equal(p.rhs, [0.05, 0.1, 0.6])
        np.testing.assert_array_equal(p.signed, [False, False, True])
        np.testing.assert_array_equal(p.matrix.toarray()[2], [0, 1, 0, 1])
        np.testing.assert_array_equal(p.transpose.toarray(), p.matrix.toarray().T)
        named = p.by_name(V)
        assert [*named] == ["match", "cap"]
        np.testing.assert_array_equal(named["match"], V[:2])
        np.testing.assert_array_equal(named["cap"], V[2:])
        bare = Program(C, balls=Ball(KL(Q), radius=0.1))
        assert (bare.rhs.size, bare.matrix.shape, bare.signed.size) == (0, (0, 4), 0)
        assert p.residual(Q).size == 3
        assert p.hints.variable == "x"
        assert p.fresh() is p

    def test_residual_violation_slack_and_score(self):
        p = program()
        A = p.matrix.toarray()
        np.testing.assert_allclose(p.residual(Q), p.rhs - A @ Q)
        missed = p.rhs - A @ Q
        assert p.violation(Q) == pytest.approx(abs(missed[0]) + abs(missed[1]))  # 0.6 is just met
        over = np.array([0.0, 0.5, 0.0, 0.5])
        assert p.violation(over) == pytest.approx(np.abs(p.rhs - A @ over)[:2].sum() + 0.4)
        np.testing.assert_allclose(p.net(V), C - A.T @ V)
        assert p.score(Q) == pytest.approx(C @ Q)
        assert program(price=0.5, radius=None).score(over) == pytest.approx(C @ over - 0.5 * KL(Q).value(over))
        soft = program(ridge=np.array([0.5, 2.0, 1.0]))
        assert soft.score(Q) == pytest.approx(C @ Q - 0.5 * np.sum(missed**2 / np.array([0.5, 2.0, 1.0])))

    @pytest.mark.parametrize("ridge", [None, np.array([0.5, 2.0, 1.0])])
    @pytest.mark.parametrize("epsilon", [0.3, None])
    def test_the_dual_and_its_derivatives(self, ridge, epsilon):
        p = program(ridge=ridge, radius=epsilon, price=None if epsilon else 0.5)
        eta = 0.8
        point = p.dual(eta, V)
        partition = eta * math.log(np.sum(Q * np.exp(p.net(V) / eta)))
        value = p.rhs @ V + partition + (eta * epsilon if epsilon else 0) + (0 if ridge is None else ridge @ V**2 / 2)
        assert point.value == pytest.approx(value, rel=1e-13)
        for i, e in enumerate(np.eye(3)):
            assert slope(lambda t, e=e: p.dual(eta, V + t * e).value, 0.0) == pytest.approx(point.residual[i], abs=1e-7)
        along_eta = slope(lambda t: p.dual(t, V).value, eta)
        assert along_eta == pytest.approx((epsilon or 0.0) - point.divergence, abs=1e-7)
        assert point.divergence == pytest.approx(KL(Q).value(point.conjugate.point), rel=1e-12)
        assert p.bound(eta, V) == point.value
        limit = p.rhs @ V + p.net(V).max() + (0 if ridge is None else ridge @ V**2 / 2)
        assert p.bound(0.0, V) == pytest.approx(limit, rel=1e-14)

    def test_the_dual_of_a_quadratic_ball(self):
        ball = Quadratic(Dense(np.diag([1.0, 2.0, 3.0, 4.0])), 4)
        p, eta = program(divergence=ball), 0.8
        point = p.dual(eta, V)
        square = p.net(V) @ (p.net(V) / np.array([1.0, 2.0, 3.0, 4.0])) / (2 * eta)
        assert point.value == pytest.approx(p.rhs @ V + eta * 0.3 + square)
        assert point.divergence == pytest.approx(ball.value(point.conjugate.point))

    def test_normalised_is_the_same_program_in_other_units(self):
        limit = Nearest(Q, V, 0.2)
        p = program(objective=3 * C - 7, linear_limit=lambda: limit, start=V, warm=(0.5, V), ridge=np.ones(3))
        scaled, scale = p.normalised()
        assert scale == Scale(-7.0, 9.0)
        np.testing.assert_allclose(scaled.objective, C / 3)
        np.testing.assert_allclose(scaled.ridge, 9.0)
        np.testing.assert_allclose(scaled.hints.start, V / 9)
        assert scaled.hints.warm[0] == 0.5 / 9
        np.testing.assert_allclose(scaled.hints.warm[1], V / 9)
        np.testing.assert_allclose(scaled.hints.linear_limit().multipliers, V / 9)
        np.testing.assert_array_equal(scaled.hints.linear_limit().point, Q)
        assert scaled.hints.linear_limit().divergence == 0.2
        assert scaled.temperature is None
        assert program(price=1.8, radius=None, objective=9 * C).normalised()[0].temperature == 1.8 / 27
        assert scaled.matrix is p.matrix
        assert 9 * scaled.dual(0.1, V / 9).value - 7 == pytest.approx(p.dual(0.9, V).value)

    def test_normalised_of_constants_and_off_the_simplex(self):
        flat, scale = program(objective=np.full(4, 3.0)).normalised()
        assert scale == Scale(3.0, 1.0)
        np.testing.assert_array_equal(flat.objective, 0.0)
        soft = program(objective=np.full(4, -3.0), ridge=np.full(3, 0.2))
        paid = float(np.sum((soft.rhs - soft.matrix @ Q) ** 2)) / 0.4  # what the reference pays for its mismatch
        assert soft.normalised()[1] == Scale(-3.0, pytest.approx(paid))
        assert program(objective=np.zeros(4), ridge=np.full(3, 0.2)).normalised()[1].factor == pytest.approx(paid)
        off, scale = program(
            divergence=Quadratic(Dense(np.eye(4)), 4), objective=np.array([-4.0, 1, 0, 2])
        ).normalised()
        assert scale == Scale(0.0, 4.0)
        np.testing.assert_array_equal(off.objective, [-1, 0.25, 0, 0.5])
        assert off.hints.linear_limit is None
        assert off.hints.start is None
        assert off.hints.warm is None
        assert off.ridge is None
        assert program(divergence=Quadratic(Dense(np.eye(4)), 4)).normalised()[1] == Scale(0.0, 3.0)

    def test_bounds_that_need_no_dual(self):
        assert program().least_score(2.0) == 0.0
        assert program(price=0.5, radius=None).least_score(2.0) == pytest.approx(-2 * math.log(10))
        assert program(ridge=np.ones(3)).least_score(2.0) == -math.inf
        assert not program().unbounded
        assert program(radius=math.log(10)).unbounded
        assert not program(radius=None, price=1.0).unbounded
        assert program(radius=math.inf).unbounded
        warmed = program().warmed((0.3, V))
        assert warmed.hints.warm == (0.3, V)
        assert warmed.epsilon == 0.3

    def test_centres_and_limits_hold_what_they_are_given(self):
        assert Nearest(Q, V, 0.1).divergence == 0.1
        assert (program().hints.centre, program().hints.mass_implied, program().hints.grounds.size) == (None, False, 0)


GOOD = {"gap": 1e-7, "flow": 1e-9, "mass": 1e-10, "kl": 0.5, "epsilon": 0.5, "upper": 1.0, "lower": 1.0}


class TestCertificate:
    @pytest.mark.parametrize(
        ("field", "good", "bad", "reason"),
        [
            ("gap", 1e-6, 1.01e-6, "duality gap 1.01e-06 > 1e-06"),
            ("gap", -1e-8, -1.01e-8, "below zero (the bound is lost in rounding) by 1.01e-08 > 1e-08"),
            ("gap", 0.0, math.nan, "duality gap nan"),
            ("flow", 1e-8, 1.01e-8, "constraint residual 1.01e-08 > 1e-08"),
            ("mass", 1e-9, 1.01e-9, "total mass off one by 1.01e-09 > 1e-09"),
            ("kl", 0.5 + 0.99e-7, 0.5 + 1.01e-7, "divergence beyond the ball by 1.01e-07 > 1e-07"),
            ("mass", 0.0, math.inf, "total mass off one by inf"),
        ],
    )
    def test_every_tolerance(self, field, good, bad, reason):
        assert Certificate(**{**GOOD, field: good}).ok()
        refused = Certificate(**{**GOOD, field: bad})
        assert not refused.ok()
        assert any(reason in text for text in refused.reasons())

    def test_what_is_not_known_is_said_in_plain_units(self):
        known = {name: value for name, value in GOOD.items() if name not in ("unit", "distance")}
        assert (Certificate(**known).unit, Certificate(**known).distance) == (1.0, 1.0)

    def test_without_a_ball_any_divergence_will_do(self):
        assert Certificate(**{**GOOD, "epsilon": math.inf, "kl": math.inf}).ok()
        assert not Certificate(**{**GOOD, "kl": math.inf}).ok()

    def test_a_tolerance_of_ones_own(self):
        loose = Certificate(**{**GOOD, "gap": 1e-3})
        assert loose.ok(1e-2)
        assert not loose.ok(1e-4)
        assert loose.reasons(1e-4) == ["duality gap 1.00e-03 > 1e-04"]
        assert Certificate(**GOOD).reasons() == []
        beside = Certificate(**{**GOOD, "gap": 1e-6, "flow": 1.0})  # a check that is just met is not among the reasons
        assert beside.reasons() == ["constraint residual 1.00e+00 > 1e-08"]


class TestValidation:
    def test_arrays(self):
        array = np.array([[1.0, 2.0]])
        assert as_float_array(array, "a", (1, "n")) is array
        assert as_float_array([True, False], "a").dtype == np.float64
        for bad, error, message in (
            ([[1.0], [1.0, 2.0]], ValueError, "a must be a rectangular array of numbers: "),
            (["x"], TypeError, "a must hold real numbers, got dtype <U1"),
            ([[1.0, math.nan]], ValueError, r"^a\[0, 1\] is nan: every value must be finite$"),
            (math.inf, ValueError, "^a is inf: every value must be finite$"),
        ):
            with pytest.raises(error, match=message):
                as_float_array(bad, "a")

    def test_shapes(self):
        check_shape(np.zeros((2, 3)), "a", (2, "n"))
        check_shape(np.zeros((2, 3)), "a", (None, 3))
        for shape, wanted in (((2,), "2"), ((2, 4), "2, 4"), ((None, 4), "any, 4"), (("S", 2, "A"), "S, 2, A")):
            with pytest.raises(ValueError, match=rf"^a must have shape \({wanted}\), got \(2, 3\)$"):
                check_shape(np.zeros((2, 3)), "a", shape)

    def test_indices(self):
        mask = np.array([[False, False], [True, True]])
        assert first_index(mask) == (1, 0)
        assert first_index(np.array(True)) == ()
        check_finite(np.zeros(2), "a")
        check_nonnegative(np.zeros(2), "a")
        with pytest.raises(ValueError, match=r"^a\[1\] is -2.0: every value must be >= 0$"):
            check_nonnegative(np.array([0.0, -2.0, -3.0]), "a")
        with pytest.raises(ValueError, match=r"^a is -2.0: every value must be >= 0$"):
            check_nonnegative(np.array(-2.0), "a")

    @pytest.mark.parametrize(
        ("value", "options", "message"),
        [
            (-0.5, {"low": 0}, "x must be >= 0, got -0.5"),
            (0, {"low": 0, "low_open": True}, "x must be > 0, got 0"),
            (2, {"low": 0, "high": 1}, "x must be >= 0 and <= 1, got 2"),
            (2, {"high": 1}, "x must be <= 1, got 2"),
            (math.inf, {}, "x must be finite, got inf"),
            (-math.inf, {}, "x must be finite, got -inf"),
            (math.inf, {"low": 0}, "x must be >= 0 and finite, got inf"),
            (math.inf, {"high": 1}, "x must be <= 1, got inf"),
            (math.nan, {}, "x must be a number, got nan"),
            (math.nan, {"infinite": True}, "x must be a number, got nan"),
            (-math.inf, {"low": 0, "infinite": True}, "x must be >= 0, got -inf"),
        ],
    )
    def test_scalars(self, value, options, message):
        with pytest.raises(ValueError, match=f"^{message.replace('>', '[>]')}$"):
            as_scalar(value, "x", **options)

    @pytest.mark.parametrize("value", ["1", None, True, np.True_, np.array(True), np.array([1.0]), 1j, np.array("1")])
    def test_what_is_no_number(self, value):
        with pytest.raises(TypeError, match=r"^x must be a real number, got "):
            as_scalar(value, "x")

    def test_numbers_of_any_type(self):
        for value in (1, 1.0, np.float32(1), np.int8(1), np.array(1), np.array(1.0), np.uint8(1)):
            found = as_scalar(value, "x", low=1, high=1)
            assert (found, type(found)) == (1.0, float)
        assert as_scalar(math.inf, "x", infinite=True) == math.inf
        assert as_scalar(0.0, "x", low=0) == 0.0

    def test_counts(self):
        assert (as_count(np.int64(1), "n"), type(as_count(np.int64(3), "n"))) == (1, int)
        assert as_count(0, "n", low=0) == 0
        for value, error, message in (
            (0, ValueError, "^n must be >= 1, got 0$"),
            (1, ValueError, "^n must be >= 2, got 1$"),
            (1.0, TypeError, "^n must be an integer, got float$"),
            (True, TypeError, "^n must be an integer, got bool$"),
        ):
            with pytest.raises(error, match=message):
                as_count(value, "n", low=2 if value == 1 and error is ValueError else 1)

    def test_read_only_views_share_memory(self):
        array = np.zeros(2)
        view = read_only(array)
        assert not view.flags.writeable
        assert array.flags.writeable
        array[0] = 1
        assert view[0] == 1


def test_only_what_exceeds_a_budget_is_a_violation():
    capped = program(rows=BUDGET)
    assert capped.violation(np.array([0.4, 0.1, 0.4, 0.1])) == 0.0
    assert capped.violation(np.array([0.0, 0.5, 0.0, 0.5])) == pytest.approx(0.4)
