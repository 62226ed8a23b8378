"""Programs with several balls, several simplexes or no ball, by numbers done by hand; what copies of a program keep.

Shapes: n coordinates, m rows; G = 2 simplexes, k balls.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp

from reps_opt import Ball, Program, SampleREPS, solve
from reps_opt.constraints import SIMPLEX, SPACE, AtMost, Equal, Simplex
from reps_opt.divergences import KL
from reps_opt.divergences.base import NoBall, Quadratic
from reps_opt.divergences.f_divergences import ChiSquare
from reps_opt.hints import Hints
from reps_opt.metrics import Identity
from reps_opt.rows import Transposed
from reps_opt.validation import UnsuitableError

Q = np.array([0.2, 0.8, 0.5, 0.5])
C = np.array([1.0, 3.0, 0.0, 2.0])
ROW = {"row": Equal(sp.csr_array([[1.0, 0.0, 1.0, 0.0]]), np.array([0.6]))}
V = np.array([0.3])
TWO = Simplex(starts=np.array([0, 2]))
FIRST, SECOND = np.array([0, 1]), np.array([2, 3])
ALONE = [
    Ball(KL(Q[:2]), 0.1, where=FIRST, name="first"),
    Ball(KL(Q[2:]), 0.2, where=SECOND, name="second"),
]
NET = C - np.array([0.3, 0, 0.3, 0])


def two(balls: Any = ALONE, **changes: Any) -> Program:
    return Program(**{"objective": C, "rows": ROW, "balls": balls, "domain": TWO} | changes)


def soft(eta: float, part: np.ndarray) -> float:
    return eta * math.log(float(Q[part] @ np.exp(NET[part] / eta)))


class TestSeveralBalls:
    def test_what_they_say_of_themselves(self) -> None:
        program = two()
        assert (program.mass, program.simplex, program.starts.tolist()) == (2.0, True, [0, 2])
        assert two(domain=None).mass == 1.0
        assert program.least_score(1.0) == 0.0
        assert two(objective=C - 5).least_score(1.0) == -10.0
        np.testing.assert_array_equal(program.joint.covers, [[True, False], [False, True]])
        with pytest.raises(UnsuitableError, match="several balls"):
            program.ball  # noqa: B018

    def test_radii(self) -> None:
        wide = Ball(KL(Q[:2]), 99.0, where=FIRST)
        priced = Ball(KL(Q[2:]), price=0.7, where=SECOND)
        np.testing.assert_allclose(two([wide, priced]).radii, [1 - math.log(0.2), 0.0])
        np.testing.assert_allclose(two().radii, [0.1, 0.2])
        both = Ball(KL(Q), 99.0, name="both")  # 1.6 in the first simplex and .7 in the second, at most
        np.testing.assert_allclose(two([both, ALONE[0]]).radii, [1 - math.log(0.2) - math.log(0.5), 0.1])

    def test_a_ball_over_two_simplexes_between_what_it_can_be_in_one_and_in_both(self) -> None:
        """It was taken for no larger than the largest of one simplex, and a bound too low was certified."""
        q = np.array([0.5, 0.5, 0.05, 0.95, 0.02, 0.98])
        parts = {"mass": Equal(np.kron(np.eye(3), np.ones(2)), np.ones(3))}
        wide = Ball(KL(q), 5.0, name="wide")
        narrow = Ball(KL(q[:2]), 0.01, where=FIRST, name="narrow")
        c = np.array([1.0, 0, 1, 0, 1, 0])
        solution = solve(Program(c, parts, [narrow, wide], Simplex(starts=np.array([0, 2, 4]))))
        x = cp.Variable(6, nonneg=True)
        rows = [parts["mass"].matrix @ x == 1, cp.sum(cp.rel_entr(x, q)) <= 5.0]
        rows += [cp.sum(cp.rel_entr(x[:2], q[:2])) <= 0.01]
        best = cp.Problem(cp.Maximize(c @ x), rows).solve(solver="CLARABEL")
        assert solution.status == "certified"
        assert solution.objective == pytest.approx(best, abs=1e-6)

    def test_one_ball_over_several_simplexes_says_how_it_is_posed(self) -> None:
        with pytest.raises(ValueError, match="one over a single simplex"):
            solve(two(Ball(KL(Q), 0.1)))
        alone = Program(C, ROW, Ball(KL(Q / 2), 0.5), Simplex(starts=np.array([0])))
        assert solve(alone).objective == pytest.approx(solve(Program(C, ROW, Ball(KL(Q / 2), 0.5))).objective)

    def test_the_dual_and_its_point(self) -> None:
        eta = np.array([0.5, 0.8])
        point = two().joint_dual(eta, V)
        right = 0.6 * 0.3 + 0.05 + 0.16 + soft(0.5, FIRST) + soft(0.8, SECOND)
        assert point.value == pytest.approx(right, rel=1e-14)
        x = np.concatenate([Q[:2] * np.exp(NET[:2] / 0.5), Q[2:] * np.exp(NET[2:] / 0.8)])
        x /= np.repeat(np.add.reduceat(x, [0, 2]), 2)
        np.testing.assert_allclose(point.conjugate.point, x)
        np.testing.assert_allclose(point.residual, 0.6 - x[0] - x[2])
        np.testing.assert_allclose(two().within(eta, V, np.array([0, 0, 1, 1]), 2), x)

    @pytest.mark.parametrize("slack", [0, 1])
    def test_where_a_ball_is_slack_its_best_coordinate_counts(self, slack: int) -> None:
        eta = np.array([0.5, 0.8])
        eta[slack] = 0.0
        first = soft(0.5, FIRST) + 0.05 if slack else float(NET[:2].max())
        second = float(NET[2:].max()) if slack else soft(0.8, SECOND) + 0.16
        assert two().bound(eta, V) == pytest.approx(0.6 * 0.3 + first + second)
        none = two().normalisers(eta, V)
        assert none == pytest.approx([first - 0.05 if slack else first, second if slack else second - 0.16])

    def test_where_all_are_slack_it_is_a_linear_program(self) -> None:
        assert two().bound(np.zeros(2), V) == pytest.approx(0.18 + NET[:2].max() + NET[2:].max())
        infinite = two([replace(ALONE[0], radius=math.inf), ALONE[1]])
        assert infinite.bound(np.array([0.0, 0.8]), V) == pytest.approx(0.18 + NET[:2].max() + 0.16 + soft(0.8, SECOND))

    def test_one_ball_over_both_beside_one_over_a_part(self) -> None:
        both = Ball(KL(Q), 0.3, name="both")
        program = two([both, ALONE[0]])
        eta = np.array([0.5, 0.4])
        t, log_q = 0.9, np.log(Q)
        first = t * math.log(float(np.exp((NET[:2] + 0.9 * log_q[:2]) / t).sum()))
        value = 0.18 + 0.15 + 0.04 + first + soft(0.5, SECOND)
        assert program.bound(eta, V) == pytest.approx(value)
        partly = program.bound(np.array([0.0, 0.4]), V)
        assert partly == pytest.approx(0.18 + 0.04 + soft(0.4, FIRST) + NET[2:].max())
        only = program.bound(np.array([0.5, 0.0]), V)
        assert only == pytest.approx(0.18 + 0.15 + soft(0.5, FIRST) + soft(0.5, SECOND))
        np.testing.assert_allclose(program.normalisers(np.array([0.5, 0.0]), V), [soft(0.5, FIRST), soft(0.5, SECOND)])
        np.testing.assert_allclose(program.normalisers(np.array([0.0, 0.4]), V), [soft(0.4, FIRST), NET[2:].max()])

    def test_prices_count_in_the_score(self) -> None:
        priced = [Ball(KL(Q[:2]), price=0.7, where=FIRST), ALONE[1]]
        x = np.array([0.4, 0.6, 0.1, 0.9])
        nats = KL(Q[:2]).value(x[:2])
        assert two(priced).score(x) == pytest.approx(C @ x - 0.7 * nats)
        assert two(priced).score(x, [0.25, 9.0]) == pytest.approx(C @ x - 0.7 * 0.25)
        scaled = two(priced).in_units_of(7.0)
        assert (scaled.balls[0].price, scaled.balls[1].radius) == (pytest.approx(0.1), 0.2)
        np.testing.assert_allclose(scaled.objective, C / 7)

    def test_a_copy_with_the_same_balls_keeps_what_was_joined(self) -> None:
        program = two()
        joint = program.joint
        assert program.in_units_of(2.0).joint is joint
        assert program.hinted(variable="y").joint is joint
        assert two(ALONE[::-1]).joint is not joint
        changed = program.with_ball(Ball(KL(np.full(4, 0.25)), 0.1))
        assert changed.joint is not joint

    def test_normalised_by_the_mass_of_all(self) -> None:
        scaled, scale = two(objective=C + 5).normalised()
        assert (scale.shift, scale.factor) == (10.0, 3.0)
        np.testing.assert_allclose(scaled.objective, C / 3)


class TestOneBall:
    def test_normalisers(self) -> None:
        program = Program(C, ROW, Ball(KL(Q / 2), 0.1))
        assert program.normalisers(0.0, V) == [3.0]
        right = 0.5 * math.log(float((Q / 2) @ np.exp(NET / 0.5)))
        assert program.normalisers(0.5, V) == pytest.approx([right])

    def test_conditionals_with_and_without_underflow(self) -> None:
        group = np.array([0, 0, 1, 1])
        program = Program(C, ROW, Ball(KL(Q / 2), 0.1))
        x = Q * np.exp(NET / 0.5)
        x = x / np.repeat(np.add.reduceat(x, [0, 2]), 2)
        np.testing.assert_allclose(program.within(0.5, V, group, 2), x)
        far = Program(C - np.array([0, 0, 4e3, 4e3]), ROW, Ball(KL(Q / 2), 0.1))
        np.testing.assert_allclose(far.within(0.5, V, group, 2), x)

    def test_no_ball_is_one_of_infinite_radius(self) -> None:
        program = Program(C, ROW)
        assert isinstance(program.ball.divergence, NoBall)
        assert program.epsilon == math.inf
        assert program.unbounded
        assert program.bound(0.0, V) == pytest.approx(0.18 + 3.0)
        assert (program.domain, program.simplex) == (SIMPLEX, True)
        off = Program(C, ROW, Ball(Quadratic(Identity(), 4), 0.5))
        assert (off.domain, off.simplex, off.mass) == (SPACE, False, 1.0)

    def test_a_radius_as_large_as_a_divergence_can_be(self) -> None:
        largest = KL(Q / 2).largest
        assert Program(C, ROW, Ball(KL(Q / 2), largest)).unbounded
        assert not Program(C, ROW, Ball(KL(Q / 2), 0.999 * largest)).unbounded

    def test_a_range_beyond_double_precision_is_named(self) -> None:
        with pytest.raises(ValueError, match="objective"), np.errstate(over="ignore"):
            Program(np.array([1e308, -1e308])).normalised()
        assert Program(np.array([1e308, 0.0])).normalised()[1].factor == 1e308

    def test_a_mass_that_is_not_one(self) -> None:
        half = Program(C, ROW, domain=Simplex(mass=0.5))
        assert half.bound(0.0, V) == pytest.approx(0.18 + 1.5)
        assert half.normalised()[1].shift == 0.0
        assert Program(C + 4, ROW, domain=Simplex(mass=0.5)).normalised()[1].shift == 2.0

    def test_the_least_divergence_of_the_rows(self) -> None:
        program = Program(C, ROW, Ball(KL(Q / 2), 0.1))
        v = np.array([-0.4])
        right = -(0.6 * -0.4) - math.log(float((Q / 2) @ np.exp([0.4, 0, 0.4, 0])))
        assert program.least_divergence(v) == pytest.approx(right)

    def test_the_price_of_a_mismatch(self) -> None:
        soft_rows = Program(C, ROW, Ball(KL(Q / 2), 0.1), ridge=np.array([0.25]))
        missed = 0.6 - 0.35
        assert soft_rows.mismatch == pytest.approx(missed**2 / 0.25 / 2)
        assert Program(C, ROW, Ball(KL(Q / 2), 0.1)).mismatch == 0.0
        same = Program(np.full(4, -3.0), {"row": Equal(ROW["row"].matrix, np.array([0.35]))}, soft_rows.balls)
        assert same.normalised()[1].factor == 1.0
        assert replace(same, ridge=np.array([0.25])).normalised()[1].factor == 3.0


class TestRows:
    def test_an_inequality_that_is_idle_is_not_free(self) -> None:
        rows = {**ROW, "cap": AtMost(sp.csr_array(np.eye(4)[:2]), np.array([0.5, 0.5]))}
        program = Program(C, rows, Ball(KL(Q / 2), 0.1))
        free = program.free(np.array([0.0, 0.0, 0.7]), np.array([0.1, 0.1, 0.1]))
        assert free.tolist() == [True, False, True]
        assert program.free(np.zeros(3), np.array([0.1, 0.0, -0.1])).tolist() == [True, False, True]
        assert Program(C, ROW).free(np.zeros(1), np.ones(1)).tolist() == [True]
        np.testing.assert_array_equal(program.cut(np.array([-1.0, -1.0, 2.0])), [-1, 0, 2])
        np.testing.assert_array_equal(program.stacked([[-1.0], [-1.0, 2.0]]), [-1, 0, 2])
        assert Program(C).stacked([]).size == 0
        assert Program(C).by_name(np.zeros(0)) == {}
        assert [*program.by_name(np.arange(3.0))["cap"]] == [1.0, 2.0]

    def test_what_points_miss(self) -> None:
        rows = {**ROW, "cap": AtMost(sp.csr_array(np.eye(4)[:1]), np.array([0.5]))}
        program, x = Program(C, rows), np.array([0.7, 0.1, 0.1, 0.1])
        np.testing.assert_allclose(program.missed(x), [-0.2, -0.2])
        np.testing.assert_allclose(program.missed(x - [0.6, 0, 0, 0]), [0.4, 0.0])
        assert program.violation(x) == pytest.approx(0.4)
        assert Program(C).violation(x) == 0.0
        np.testing.assert_array_equal(program.dense_rows, [[1, 0, 1, 0], [1, 0, 0, 0]])
        assert Program(C).dense_rows.shape == (0, 4)
        assert Program(C).residual(x).size == 0
        np.testing.assert_array_equal(Program(C).net(np.zeros(0)), C)
        assert Program(C).net(np.zeros(0)) is not C

    def test_constant_objectives(self) -> None:
        assert Program(np.full(3, 2.0)).constant
        assert not Program(np.array([2.0, 1.0, 2.0])).constant  # its ends are the same
        assert not Program(np.array([1.0, 2.0])).constant

    def test_dense_rows_are_made_anew_and_others_kept(self) -> None:
        rng = np.random.default_rng(0)
        dense = SampleREPS(rng.normal(size=40), rng.normal(size=(40, 2)), 0.1).program
        assert isinstance(dense.matrix, Transposed)
        twin, v = dense.fresh(), np.array([0.3, -0.2])
        assert twin.matrix is not dense.matrix
        assert twin.bound(0.5, v) == dense.bound(0.5, v)
        sparse = Program(C, ROW)
        assert sparse.fresh() is sparse
        assert Program(C).fresh().rows == {}


class TestChecked:
    def test_sizes_of_references_and_ridges(self) -> None:
        with pytest.raises(ValueError, match=r"balls\[1\] must have a reference of 2 coordinates, got 4"):
            solve(two([ALONE[0], Ball(KL(Q), 0.2, where=SECOND)]))
        with pytest.raises(ValueError, match=r"balls\[0\] must have a reference of 4 coordinates, got 2"):
            solve(Program(C, {}, Ball(KL(Q[:2]), 0.1)))
        with pytest.raises(ValueError, match="ridge must have shape"):
            solve(Program(C, ROW, Ball(KL(Q / 2), 0.1), ridge=np.ones(2)))
        with pytest.raises(TypeError, match="balls must be a Ball or several, got str"):
            Program(C, {}, ["ball"])
        with pytest.raises(TypeError, match="balls must be a Ball or several, got int"):
            Program(C, {}, 3)

    def test_hints_are_kept(self) -> None:
        program = Program(C, ROW, Ball(ChiSquare(Q / 2), 0.1), hints=Hints(variable="y"))
        assert Program.checked(program).hints.variable == "y"
        flat = program.flat()
        assert (flat.temperature, flat.epsilon, flat.objective.any()) == (1.0, None, False)
        assert program.flat(3.0).temperature == 3.0
        ball = Ball(KL(Q / 2), 0.2)
        assert program.with_ball(ball).hints is program.hints
        assert program.with_ball(ball, variable="z").hints.variable == "z"
        assert program.with_ball(ball, objective=2 * C).objective[1] == 6.0
