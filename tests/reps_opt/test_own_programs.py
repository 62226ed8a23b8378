"""What somebody can pose without a class of the library: programs, divergences, problems and solvers of their own."""

from __future__ import annotations

import math
import pickle
from functools import cached_property

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import brentq

from reps_opt import AtMost, Ball, Equal, Problem, Program, Solution, Status, solve
from reps_opt.divergences import KL, ChiSquare, Conjugate, Divergence, Quadratic
from reps_opt.metrics import Dense
from reps_opt.solvers import Answer, CvxpyDual, CvxpyPrimal, Newton
from reps_opt.values import value

X = np.arange(10.0)
UNIFORM = np.full(10, 0.1)
RNG = np.random.default_rng(0)
RETURNS = RNG.normal(size=50)


class TestPrograms:
    def test_the_distribution_of_largest_entropy_with_two_moments(self) -> None:
        moments = {"moments": Equal(np.vstack([X, X**2]), np.array([3.0, 12.0]))}
        solution = solve(Program(np.zeros(10), moments, Ball(KL(UNIFORM), price=1.0)))
        assert solution.status is Status.CERTIFIED
        p = cp.Variable(10)
        rows = [cp.sum(p) == 1, X @ p == 3, X**2 @ p == 12]
        cp.Problem(cp.Maximize(cp.sum(cp.entr(p))), rows).solve(solver="CLARABEL", tol_gap_abs=1e-11)
        np.testing.assert_allclose(solution.point, p.value, atol=3e-5)
        v = solution.duals["moments"]  # the density is an exponential family in the moments, with -v for parameters
        log_density = np.log(solution.point) + X * v[0] + X**2 * v[1]
        assert np.ptp(log_density) < 1e-9

    def test_the_worst_mean_of_a_sample_in_a_ball(self) -> None:
        solution = solve(Program(-RETURNS, balls=Ball(KL(np.full(50, 0.02)), radius=0.3)))
        eta = brentq(lambda t: _kl(-RETURNS / t) - 0.3, 0.05, 1e3)
        assert solution.status is Status.CERTIFIED
        assert solution.eta == pytest.approx(eta, rel=1e-9)
        weights = np.exp(-RETURNS / eta)
        assert -solution.objective == pytest.approx(RETURNS @ weights / weights.sum(), rel=1e-10)

    @pytest.mark.parametrize("divergence", [KL, ChiSquare])
    @pytest.mark.parametrize("route", [Newton(), CvxpyPrimal(), CvxpyDual()], ids=lambda r: type(r).__name__)
    def test_routes_agree_on_rows_of_both_kinds(self, divergence: type, route: object) -> None:
        c, A, C = np.random.default_rng(1).normal(size=10), X[None, :], np.vstack([X**2, -X])
        rows = {"mean": Equal(A, np.array([4.0])), "caps": AtMost(C, np.array([20.0, 0.0]))}
        program = Program(c, rows, Ball(divergence(UNIFORM), radius=0.4))
        solution, expected = solve(program, route), solve(program)
        assert solution.status is Status.CERTIFIED, solution
        assert solution.objective == pytest.approx(expected.objective, abs=1e-7)
        np.testing.assert_allclose(A @ solution.point, 4.0, atol=1e-8)
        assert (C @ solution.point <= [20.0 + 1e-8, 1e-8]).all()
        assert (solution.duals["caps"] >= 0).all()

    def test_two_balls_have_an_eta_each(self) -> None:
        other = RNG.dirichlet(np.ones(10))
        balls = [Ball(KL(UNIFORM), 0.2), Ball(KL(other), 0.3, name="second")]
        solution = solve(Program(X / 9, balls=balls))
        x = cp.Variable(10)
        first, second = (cp.sum(cp.rel_entr(x, q)) <= r for q, r in ((UNIFORM, 0.2), (other, 0.3)))
        best = cp.Problem(cp.Maximize(X @ x / 9), [cp.sum(x) == 1, first, second]).solve(solver="CLARABEL")
        assert solution.status is Status.CERTIFIED
        assert solution.objective == pytest.approx(best, abs=1e-7)
        assert solution.eta == pytest.approx([float(first.dual_value), float(second.dual_value)], abs=3e-5)
        assert solution.duals == pytest.approx(dict(zip(("kl", "second"), solution.eta, strict=True)))

    def test_a_linear_program_and_a_step(self) -> None:
        best = solve(Program(RETURNS, {"mean": Equal(RETURNS[None, ::-1], np.array([0.1]))}))
        assert (best.status, best.eta) == (Status.CERTIFIED, 0.0)
        metric = Dense(np.diag([1.0, 4.0]))
        step = solve(Program(np.array([1.0, 2.0]), balls=Ball(Quadratic(metric, 2), radius=0.01)))
        np.testing.assert_allclose(step.point, [0.1, 0.05], rtol=1e-9)

    @pytest.mark.parametrize("seed", range(6))
    def test_a_quadratic_at_a_price_with_and_without_rows(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        root = rng.normal(size=(4, 4))
        F, c, price = root @ root.T + np.eye(4), rng.normal(size=4), float(rng.uniform(0.1, 3.0))
        free = solve(Program(c, balls=Ball(Quadratic(Dense(F), 4), price=price)))
        np.testing.assert_allclose(free.point, np.linalg.solve(F, c) / price, rtol=1e-9)
        C, d = rng.normal(size=(3, 4)), rng.uniform(-0.1, 0.1, 3)
        solution = solve(Program(c, {"costs": AtMost(C, d)}, Ball(Quadratic(Dense(F), 4), price=price)))
        x = cp.Variable(4)
        rows = C @ x <= d
        tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-11)
        best = cp.Problem(cp.Maximize(c @ x - price / 2 * cp.quad_form(x, F)), [rows])
        best.solve(solver="CLARABEL", **tight)
        assert (free.status, solution.status) == (Status.CERTIFIED, Status.CERTIFIED)
        assert (solution.eta, free.eta) == (price, price)
        assert solution.objective == pytest.approx(best.value, abs=1e-8)
        np.testing.assert_allclose(solution.point, x.value, atol=1e-6)
        np.testing.assert_allclose(solution.duals["costs"], rows.dual_value, atol=1e-6)

    def test_the_smallest_radius_is_found_and_no_less_will_do(self) -> None:
        rows = {"mean": Equal(X[None, :], np.array([7.0]))}
        small = solve(Program(X, rows, Ball(KL(UNIFORM), radius=0.01)))
        assert small.status is Status.INFEASIBLE
        least = small.epsilon_min
        assert solve(Program(X, rows, Ball(KL(UNIFORM), radius=1.001 * least))).status is Status.CERTIFIED
        assert solve(Program(X, rows, Ball(KL(UNIFORM), radius=0.999 * least))).status is Status.INFEASIBLE
        nowhere = solve(Program(X, {"mean": Equal(X[None, :], np.array([70.0]))}, Ball(KL(UNIFORM), radius=5.0)))
        assert (nowhere.status, nowhere.epsilon_min) == (Status.INFEASIBLE, math.inf)

    def test_what_is_wrong_with_a_program_is_said(self) -> None:
        ball = Ball(KL(UNIFORM), 0.1)
        for program, error, message in (
            (lambda: Program([1.0, np.nan], balls=ball), ValueError, r"objective\[1\] is nan"),
            (lambda: Program(X, {"a": Equal(X[None, 1:], [1.0])}, ball), ValueError, r"rows\['a'\].matrix must have"),
            (lambda: Program(X, {"a": (X, 1.0)}, ball), TypeError, r"rows\['a'\] must be Equal"),
            (
                lambda: Program(X, balls=Ball(KL(UNIFORM[:3]), 0.1)),
                ValueError,
                r"balls\[0\] must have a reference",
            ),
            (lambda: Program(X, balls=0.1), TypeError, "balls must be a Ball"),
        ):
            with pytest.raises(error, match=message):
                solve(program())

    def test_an_answer_is_a_value(self) -> None:
        solution = solve(Program(X, balls=Ball(KL(UNIFORM), 0.1)))
        twin = pickle.loads(pickle.dumps(solution))
        np.testing.assert_array_equal(twin.point, solution.point)
        assert (twin.status, twin.eta, twin.certificate) == (solution.status, solution.eta, solution.certificate)
        with pytest.raises(AttributeError, match=r"replace\(eta=...\)"):
            solution.eta = 1.0
        with pytest.raises(ValueError, match="read-only"):
            solution.point[0] = 1.0


def _kl(y: np.ndarray) -> float:
    weights = np.exp(y - y.max())
    weights /= weights.sum()
    return float(weights @ np.log(weights * y.size))


class Euclidean(Divergence):
    """Half the squared distance from q: on the simplex its maximiser is a projection, with exact zeros."""

    truncates = True

    def __init__(self, reference: np.ndarray) -> None:
        self.reference = reference

    def value(self, x: np.ndarray) -> float:
        return 0.5 * float(np.sum((x - self.reference) ** 2))

    def conjugate(self, y: np.ndarray) -> Conjugate:
        ordered = np.sort(self.reference + y)[::-1]
        tops = (np.cumsum(ordered) - 1) / np.arange(1, y.size + 1)
        normaliser = float(tops[np.flatnonzero(ordered > tops)[-1]])
        x = np.maximum(self.reference + y - normaliser, 0.0)
        return Conjugate(float(x @ y) - self.value(x), x, (x > 0).astype(float), normaliser)

    def expression(self, module: object, x: object) -> object:
        return 0.5 * cp.sum_squares(x - self.reference)

    def dual_constraints(self, module: object, y: object, eta: object) -> dict[str, object]:
        raise NotImplementedError


@value
class WorstMean(Problem):
    """The worst mean of a sample in a KL ball."""

    sample: np.ndarray
    epsilon: float = 0.1

    @cached_property
    def program(self) -> Program:
        n = self.sample.size
        return Program(-self.sample, balls=Ball(KL(np.full(n, 1.0 / n)), radius=self.epsilon))


class Bisection:
    """Eta of a program without rows, by Brent's method on ``D = epsilon``."""

    def solve(self, program: Program) -> Answer:
        at = program.objective
        log_eta = brentq(
            lambda t: program.dual(math.exp(t), np.zeros(0)).divergence - program.epsilon, -8.0, 8.0, xtol=1e-13
        )
        eta = math.exp(log_eta)
        return Answer(eta, np.zeros(0), program.divergence.conjugate(at / eta).point, "bisected")


def test_a_divergence_of_ones_own() -> None:
    c = RNG.normal(size=10)
    rows = {"mean": Equal(X[None, :], np.array([4.0]))}
    solution = solve(Program(c, rows, Ball(Euclidean(UNIFORM), radius=0.1)))
    x = cp.Variable(10, nonneg=True)
    ball = cp.sum_squares(x - UNIFORM) <= 0.2
    best = cp.Problem(cp.Maximize(c @ x), [cp.sum(x) == 1, X @ x == 4, ball]).solve(solver="CLARABEL")
    assert solution.status is Status.CERTIFIED
    assert solution.objective == pytest.approx(best, abs=1e-7)
    assert solve(Program(c, rows, Ball(Euclidean(UNIFORM), radius=0.1)), CvxpyPrimal()).status is Status.CERTIFIED


def test_a_problem_of_ones_own() -> None:
    problem = WorstMean(RETURNS)
    solution = solve(problem)
    assert isinstance(solution, Solution)
    assert solution.status is Status.CERTIFIED
    assert problem == WorstMean(RETURNS.copy()) != problem.replace(epsilon=0.2)
    assert solve(problem.replace(epsilon=0.2)).objective > solution.objective
    assert pickle.loads(pickle.dumps(problem)) == problem
    with pytest.raises(AttributeError, match=r"WorstMean cannot be changed: make another with .replace\(epsilon=...\)"):
        problem.epsilon = 0.2


def test_a_solver_of_ones_own() -> None:
    problem = WorstMean(RETURNS, 0.3)
    mine, theirs = solve(problem, Bisection()), solve(problem)
    assert mine.status is Status.CERTIFIED
    assert mine.eta == pytest.approx(theirs.eta, rel=1e-9)
