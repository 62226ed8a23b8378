"""Steps in parameter space against CVXPY, finite differences and the identities they must satisfy."""

import gc
import math
import weakref

import cvxpy as cp
import numpy as np
import pytest

from reps_opt import MDP, REPS, Factor, Identity, Product, Status, TrustRegionStep, solve
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, Newton, Quadratic, ScipyDual
from reps_opt.tolerances import SYMMETRY_TOLERANCE
from tests.reps_opt.exact_gradients import exact_fisher, exact_gradient

TIGHT = {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9}


def spd(rng, size, condition=30.0):
    """A symmetric positive definite matrix of a given condition number."""
    q = np.linalg.qr(rng.normal(size=(size, size)))[0]
    matrix = (q * np.geomspace(1.0, condition, size)) @ q.T
    return (matrix + matrix.T) / 2


def cone(g, F, epsilon, costs):
    """Optimum and point by an independent whitened cone in CVXPY, the gain without rows as the unit."""
    lower = np.linalg.cholesky(F)
    gt = np.linalg.solve(lower, g) * math.sqrt(2 * epsilon)
    unit = np.linalg.norm(gt)
    y = cp.Variable(len(g))
    turned = [(np.linalg.solve(lower, b) * math.sqrt(2 * epsilon), c) for b, c in costs]
    rows = [c / np.linalg.norm(b) + (b / np.linalg.norm(b)) @ y <= 0 for b, c in turned]
    problem = cp.Problem(cp.Maximize((gt / unit) @ y), [cp.norm(y) <= 1, *rows])
    problem.solve(solver="CLARABEL", **TIGHT)
    point = None if y.value is None else math.sqrt(2 * epsilon) * np.linalg.solve(lower.T, y.value)
    return problem.status, None if point is None else unit * problem.value, point


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("size", [1, 2, 10, 60])
def test_identities_of_the_step(rng, size):
    F, g, epsilon = spd(rng, size, 4e3), rng.normal(size=size), 0.03
    solution = solve(TrustRegionStep(g, F, epsilon))
    assert solution.certificate.ok(1e-12)
    np.testing.assert_allclose(solution.eta * (F @ solution.step), g, atol=1e-12 * np.abs(g).max())
    assert solution.predicted_gain == pytest.approx(2 * epsilon * solution.eta, rel=1e-13)
    assert solution.predicted_kl == pytest.approx(epsilon, rel=1e-13)
    assert solution.stationarity < 1e-12
    assert solution.eta == pytest.approx(math.sqrt(g @ np.linalg.solve(F, g) / (2 * epsilon)), rel=1e-11)


def test_eta_and_nu_are_derivatives_of_the_optimum(rng):
    F, g, c, epsilon = spd(rng, 5), rng.normal(size=5), 0.02, 0.1
    b = g + 0.3 * rng.normal(size=5)

    def optimum(level, radius):
        return solve(TrustRegionStep(g, F, radius, [(b, level)])).objective

    solution = solve(TrustRegionStep(g, F, epsilon, [(b, c)]))
    assert solution.nu[0] > 0
    h = 1e-5
    assert (optimum(c, epsilon + h) - optimum(c, epsilon - h)) / (2 * h) == pytest.approx(solution.eta, rel=1e-7)
    assert (optimum(c - h, epsilon) - optimum(c + h, epsilon)) / (2 * h) == pytest.approx(solution.nu[0], rel=1e-7)
    free = solve(TrustRegionStep(g, F, epsilon))
    ahead, behind = (solve(TrustRegionStep(g, F, epsilon + d)).objective for d in (h, -h))
    assert (ahead - behind) / (2 * h) == pytest.approx(free.eta, rel=1e-7)


def test_a_linear_reparametrisation_changes_nothing(rng):
    g, F, b = rng.normal(size=8), spd(rng, 8), rng.normal(size=8)
    q1, q2 = (np.linalg.qr(rng.normal(size=(8, 8)))[0] for _ in range(2))
    T = (q1 * np.geomspace(1, 4e3, 8)) @ q2  # s = T s'
    for costs in ([], [(b, 0.05)]):
        original = solve(TrustRegionStep(g, F, 0.02, costs))
        turned = solve(TrustRegionStep(T.T @ g, T.T @ F @ T, 0.02, [(T.T @ b, c) for b, c in costs]))
        assert turned.eta == pytest.approx(original.eta, rel=1e-9)
        np.testing.assert_allclose(T @ turned.step, original.step, rtol=1e-7)
        np.testing.assert_allclose(turned.nu, original.nu, rtol=1e-8)
    vanilla = solve(TrustRegionStep(g, Identity(), 0.02)).step
    turned_vanilla = T @ solve(TrustRegionStep(T.T @ g, Identity(), 0.02)).step
    cosine = vanilla @ turned_vanilla / np.linalg.norm(vanilla) / np.linalg.norm(turned_vanilla)
    assert cosine < 0.9


@pytest.mark.parametrize("condition", [1.0, 10.0, 1e3, 1e6])
def test_the_angle_to_the_gradient_is_bounded_and_the_bound_is_met(rng, condition):
    F = spd(rng, 6, condition)
    bound = 2 * math.sqrt(condition) / (1 + condition)

    def cosine(g):
        s = solve(TrustRegionStep(g, F, 0.1)).step
        return g @ s / (np.linalg.norm(g) * np.linalg.norm(s))

    assert min(cosine(rng.normal(size=6)) for _ in range(200)) >= bound * (1 - 1e-9)
    values, vectors = np.linalg.eigh(F)
    worst = vectors[:, 0] * math.sqrt(values[0]) + vectors[:, -1] * math.sqrt(values[-1])
    assert cosine(worst) == pytest.approx(bound, rel=1e-6)


def test_vanilla_steps_to_the_sphere(rng):
    g = rng.normal(size=4)
    solution = solve(TrustRegionStep(g, Identity(), 0.5))
    np.testing.assert_allclose(solution.step, g / np.linalg.norm(g), rtol=1e-14)


def random_instance(rng):
    size, k = int(rng.integers(1, 10)), int(rng.choice([1, 1, 2, 3]))
    scale = np.exp(rng.normal(size=size))
    F = spd(rng, size) * scale * scale[:, None]
    costs = [(rng.normal(size=size) * scale, 0.3 * rng.normal()) for _ in range(k)]
    return rng.normal(size=size) * scale, F, float(np.exp(rng.normal() - 3.5)), costs


def test_closed_form_agrees_with_the_cone_on_random_instances():
    rng = np.random.default_rng(0)
    seen = {"optimal": 0, "infeasible": 0}
    priced = 0
    for _ in range(300):
        g, F, epsilon, costs = random_instance(rng)
        problem = TrustRegionStep(g, F, epsilon, costs)
        solution = solve(problem)
        status, value, point = cone(g, F, epsilon, costs)
        assert status in seen
        seen[status] += 1
        assert (solution.status == "infeasible") == (status == "infeasible")
        if status == "infeasible":
            assert math.isnan(solution.eta)
            assert solution.epsilon_min > epsilon
            continue
        unit = math.sqrt(2 * epsilon * problem.gradient_square)
        assert solution.certificate.ok(1e-10)
        assert solution.complementarity < 1e-10
        assert solution.objective == pytest.approx(value, abs=1e-8 * unit)
        assert problem.damped_metric.half_square(solution.step - point) <= 1e-6 * epsilon
        priced += bool(np.any(solution.nu > 0))
    assert seen["infeasible"] > 40
    assert seen["optimal"] > 150
    assert priced > 60


def test_the_formulas_of_cpo_hold_as_printed():
    rng = np.random.default_rng(4)
    cases = {"free": 0, "priced": 0, "infeasible": 0}
    for _ in range(100):
        F, g, b, c, eps = spd(rng, 4), rng.normal(size=4), rng.normal(size=4), 0.3 * rng.normal(), 0.02
        q, r, S = (u @ np.linalg.solve(F, v) for u, v in ((g, g), (g, b), (b, b)))
        solution = solve(TrustRegionStep(g, F, eps, [(b, c)]))
        if c + r / math.sqrt(q / (2 * eps)) <= 0:
            cases["free"] += 1
            assert solution.nu[0] == 0
            assert solution.eta == pytest.approx(math.sqrt(q / (2 * eps)), rel=1e-10)
        elif c > 0 and c * c > 2 * eps * S:
            cases["infeasible"] += 1
            assert solution.status == "infeasible"
            assert solution.epsilon_min == pytest.approx(c * c / (2 * S), rel=1e-10)
            np.testing.assert_allclose(solution.step, -math.sqrt(2 * eps / S) * np.linalg.solve(F, b), rtol=1e-9)
            assert solution.predicted_kl == pytest.approx(eps, rel=1e-10)
        else:
            cases["priced"] += 1
            eta = math.sqrt((q - r * r / S) / (2 * eps - c * c / S))
            nu = (r + eta * c) / S
            assert (solution.eta, solution.nu[0]) == pytest.approx((eta, nu), rel=1e-8)
            np.testing.assert_allclose(solution.step, np.linalg.solve(F, g - nu * b) / eta, rtol=1e-7, atol=1e-10)
    assert min(cases.values()) > 10


ROUTES = [Quadratic(), Quadratic("cg"), CvxpyPrimal(), CvxpyPrimal(whiten=True), CvxpyDual()]


@pytest.mark.parametrize("route", ROUTES, ids=repr)
@pytest.mark.parametrize("k", [0, 1, 3])
def test_every_route_gives_the_same_certified_answer(route, k):
    rng = np.random.default_rng(11)
    J, g = rng.normal(size=(30, 6)), rng.normal(size=6)
    costs = [(g + rng.normal(size=6), -0.05) for _ in range(k)]
    problem = TrustRegionStep(g, Factor(J), 0.05, costs)
    reference, solution = solve(problem), solve(problem, route)
    assert solution.status == "certified"
    unit = math.sqrt(2 * 0.05 * problem.gradient_square)
    assert solution.objective == pytest.approx(reference.objective, abs=1e-7 * unit)
    assert solution.eta == pytest.approx(reference.eta, rel=1e-3)  # a gap of 1e-8 leaves sqrt(1e-8) in eta
    np.testing.assert_allclose(solution.nu, reference.nu, atol=2e-4)
    assert solution.stats["route"] == type(route).__name__


@pytest.mark.parametrize("side", ["primal", "dual"])
def test_to_cvxpy_poses_both_sides(side):
    rng = np.random.default_rng(3)
    F, g, b = spd(rng, 4), rng.normal(size=4), rng.normal(size=4)
    problem = TrustRegionStep(g, F, 0.1, [(b, -0.01)], damping=0.3)
    posed = problem.to_cvxpy(side)
    posed.solve(solver="CLARABEL", **TIGHT)
    assert posed.value == pytest.approx(solve(problem).objective, rel=1e-7)
    labels = {constraint.label for constraint in posed.constraints}
    assert labels >= ({"costs", "kl"} if side == "primal" else {"flow", "ball"})


@pytest.mark.parametrize("costs", [[], [([1.0, 2.0], -0.1)], [([1.0, 2.0], -0.1), ([0.0, 1.0], 0.0)]])
def test_a_zero_gradient_gives_a_zero_step(costs):
    solution = solve(TrustRegionStep([0.0, 0.0], np.eye(2), 0.1, costs))
    assert solution.status == "certified"
    np.testing.assert_array_equal(solution.step, [0.0, 0.0])
    assert solution.eta == 0


def test_a_zero_gradient_still_repairs_a_violated_row():
    solution = solve(TrustRegionStep([0.0, 0.0], np.eye(2), 0.1, [([1.0, 0.0], 0.2), ([0.0, 1.0], -1.0)]))
    assert solution.status == "certified"
    np.testing.assert_allclose(solution.step, [-0.2, 0.0], atol=1e-14)


def test_no_radius_leaves_no_step():
    solution = solve(TrustRegionStep([1.0, 0.0], np.eye(2), 0.0))
    assert solution.status == "certified"
    assert (solution.eta, solution.predicted_kl) == (math.inf, 0.0)
    assert solve(TrustRegionStep([1.0, 0.0], np.eye(2), 0.0, [([1.0, 0.0], 0.1)])).status == "infeasible"


def test_a_row_along_the_gradient_makes_the_ball_slack():
    g = np.array([3.0, 4.0])
    solution = solve(TrustRegionStep(g, np.eye(2), 2.0, [(2 * g, -1.0)]))
    assert solution.status == "certified"
    assert (solution.eta, solution.objective) == pytest.approx((0.0, 0.5))
    np.testing.assert_allclose(solution.nu, [0.5])


def test_a_row_that_holds_the_whole_line_makes_the_ball_slack_beside_others():
    """The projection of a far target loses such rows to rounding: found by trying random problems."""
    rows = [([1.64936633], -0.54895323), ([-1.061816], -0.39127549), ([1.63189738], 0.18059874)]
    solution = solve(TrustRegionStep([0.02963676], [[1.0]], 1.0, rows))
    assert solution.status == "certified"
    assert solution.eta == 0.0
    np.testing.assert_allclose(solution.step, [-0.18059874 / 1.63189738], rtol=1e-9)


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("share", [0.2, 0.49, 0.51, 0.999, 1.001, 1.5, 50.0])
def test_one_row_is_met_from_its_smallest_radius_on(rng, share, regular):
    """``c^2 / (2 b'F^-1 b)`` is that radius, also where F is singular and sees the row."""
    J = rng.normal(size=(8 if regular else 3, 5))
    F = J.T @ J
    b, g = F @ rng.normal(size=5), F @ rng.normal(size=5)
    square = float(b @ np.linalg.pinv(F) @ b)
    solution = solve(TrustRegionStep(g, F, 0.1, costs=[(b, math.sqrt(share * 0.2 * square))]))
    assert solution.status == ("certified" if share < 1 else "infeasible")


def test_rows_that_contradict_each_other_are_infeasible_at_any_radius():
    rows = [([1.0, 0.0], 1.0), ([-1.0, 0.0], 1.0)]
    solution = solve(TrustRegionStep([1.0, 1.0], np.eye(2), 100.0, rows))
    assert (solution.status, solution.epsilon_min) == ("infeasible", math.inf)
    assert solve(TrustRegionStep([1.0, 1.0], np.eye(2), 1.0, [([0.0, 0.0], 1.0)])).status == "infeasible"
    assert "contradict" in str(solution)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e9])
def test_units_of_the_objective_scale_eta_and_nu_only(rng, scale):
    F, g, b = spd(rng, 5), rng.normal(size=5), rng.normal(size=5)
    one, other = (solve(TrustRegionStep(unit * g, F, 0.1, [(b, 0.1)])) for unit in (1.0, scale))
    assert other.status == "certified"
    np.testing.assert_allclose(other.step, one.step, rtol=1e-10)
    assert (other.eta, other.nu[0]) == pytest.approx((scale * one.eta, scale * one.nu[0]), rel=1e-10)


@pytest.mark.parametrize("share", [1e-2, 1e-5, 1e-7, 1e-8])
def test_the_lengthened_step_is_on_the_sphere_however_little_of_the_damped_metric_is_the_metrics_own(rng, share):
    root = rng.normal(size=(5, 5))
    F = share * (root @ root.T + np.eye(5))
    solution = solve(TrustRegionStep(rng.normal(size=5), F, 0.01, damping=1.0))
    assert solution.step @ F @ solution.step / 2 == pytest.approx(0.01, rel=1e-10)
    assert solution.predicted_kl == pytest.approx(0.01, rel=1e-12)


def test_damping_is_part_of_the_problem_and_the_step_is_lengthened_to_the_undamped_ball(rng):
    F, g, b = spd(rng, 6), rng.normal(size=6), rng.normal(size=6)
    solution = solve(TrustRegionStep(g, F, 0.1, damping=2.0))
    assert solution.certificate.ok(1e-12)
    direction = np.linalg.solve(F + 2 * np.eye(6), g)
    np.testing.assert_allclose(solution.step / np.linalg.norm(solution.step), direction / np.linalg.norm(direction))
    assert solution.predicted_kl == pytest.approx(0.1, rel=1e-12)
    assert solution.lengthening > 1
    priced = solve(TrustRegionStep(g, F, 0.1, [(b if b @ g > 0 else -b, -1e-3)], damping=2.0))
    slope = priced.problem.slopes[0]
    assert priced.nu[0] > 0
    assert slope @ priced.step <= 1e-3 * (1 + 1e-9)
    assert priced.lengthening == pytest.approx(1.0)


class TestConjugateGradient:
    def test_products_alone_are_certified_when_damped(self, rng):
        F, g = spd(rng, 20), rng.normal(size=20)
        solution = solve(TrustRegionStep(g, Product(lambda v: F @ v), 0.1, damping=0.1))
        exact = solve(TrustRegionStep(g, F, 0.1, damping=0.1))
        assert solution.status == "certified"
        np.testing.assert_allclose(solution.step, exact.step, rtol=1e-7, atol=1e-10)

    def test_the_gap_bounds_what_an_early_stop_costs(self, rng):
        F, g = spd(rng, 50, 1e3), rng.normal(size=50)
        problem = TrustRegionStep(g, Product(lambda v: F @ v, smallest=1.0), 0.1)
        best = solve(TrustRegionStep(g, F, 0.1)).objective
        gaps = []
        for products in (2, 5, 10, 20, 100):
            solution = solve(problem, Quadratic("cg", rtol=0.0, max_iterations=products))
            assert solution.objective <= best * (1 + 1e-9) <= solution.dual_objective * (1 + 2e-9)
            assert solution.kl == pytest.approx(0.1, rel=1e-9)
            gaps.append(solution.certificate.gap)
        assert gaps == sorted(gaps, reverse=True)
        assert gaps[0] > 1e-3
        assert solution.status == "certified"

    def test_a_preconditioner_saves_products_and_changes_no_answer(self, rng):
        scale = np.geomspace(1.0, 1e2, 40)
        F, g = spd(rng, 40, 10.0) * scale * scale[:, None], rng.normal(size=40)
        rough = Product(lambda v: F @ v, preconditioner=lambda y, damping: y / (np.diag(F) + damping))
        plain, fast = (solve(TrustRegionStep(g, metric, 0.1, damping=0.1)) for metric in (Product(rough.fn), rough))
        assert fast.status == "certified"
        exact = solve(TrustRegionStep(g, F, 0.1, damping=0.1))
        np.testing.assert_allclose(fast.step, exact.step, atol=1e-7 * np.abs(exact.step).max())
        assert fast.stats["products"] < 0.6 * plain.stats["products"]

    def test_an_early_stop_costs_half_the_square_of_its_residual(self, rng):
        F, g = spd(rng, 50, 1e3), rng.normal(size=50)
        problem = TrustRegionStep(g, Product(lambda v: F @ v, 0.0, lambda y, _: np.linalg.solve(F, y)), 0.1)
        assert solve(problem, Quadratic("cg", rtol=0.1)).stats["products"] == 1
        noisy = Product(lambda v: F @ v, 0.0, lambda y, _: np.linalg.solve(F + 3 * np.eye(50), y))
        best = solve(TrustRegionStep(g, F, 0.1)).objective
        for rtol in (0.5, 0.1, 0.01):
            solution = solve(TrustRegionStep(g, noisy, 0.1), Quadratic("cg", rtol=rtol))
            assert solution.objective >= best * (1 - 4 * rtol**2)  # M is at least a quarter of the inverse

    def test_without_a_lower_bound_nothing_is_certified(self, rng):
        F = spd(rng, 5)
        solution = solve(TrustRegionStep(rng.normal(size=5), Product(lambda v: F @ v), 0.1))
        assert solution.status == "uncertified"
        assert "damping" in solution.message
        assert solution.stationarity < 1e-9

    def test_rows_hold_even_when_stopped_early(self, rng):
        F, g, b = spd(rng, 40, 1e3), rng.normal(size=40), rng.normal(size=40)
        problem = TrustRegionStep(g, F, 0.1, [(b, 0.01)])
        solution = solve(problem, Quadratic("cg", max_iterations=3))
        assert 0.01 + b @ solution.step <= 1e-12
        assert solution.predicted_kl <= 0.1 * (1 + 1e-12)
        assert solution.objective <= solve(problem).objective


class TestSingularMetric:
    def test_a_gradient_in_the_range_is_certified(self, rng):
        J = rng.normal(size=(50, 6))
        J -= J.mean(axis=1, keepdims=True)  # the constant direction is invisible, as in a softmax
        g = J.T @ rng.normal(size=50)
        solution = solve(TrustRegionStep(g, Factor(J), 0.1))
        assert solution.certificate.ok(1e-10)
        assert solution.problem.metric.rank == 5
        assert solution.eta == pytest.approx(math.sqrt(g @ np.linalg.pinv(J.T @ J / 50) @ g / 0.2), rel=1e-9)

    def test_a_gradient_outside_the_range_is_not(self, rng):
        J = rng.normal(size=(50, 6))
        J -= J.mean(axis=1, keepdims=True)
        solution = solve(TrustRegionStep(np.ones(6) + rng.normal(size=6), Factor(J), 0.1))
        assert solution.status == "uncertified"
        assert solution.dual_objective == math.inf
        assert "damping" in solution.message


@pytest.mark.parametrize("n", [8, 200])
def test_factors_agree_with_the_matrix_they_make(rng, n):
    J, g, b = rng.normal(size=(n, 20)), rng.normal(size=20), rng.normal(size=20)
    w = rng.uniform(size=n)
    for weights, matrix in ((None, J.T @ J / n), (w, (J.T * w) @ J)):
        problems = [TrustRegionStep(g, F, 0.1, [(b, 0.05)], damping=0.3) for F in (Factor(J, weights), matrix)]
        one, other = map(solve, problems)
        assert one.certificate.ok(1e-10)
        np.testing.assert_allclose(one.step, other.step, rtol=1e-9, atol=1e-12)
        assert problems[0].damped_metric.factorisations == 1


def test_one_factorisation_serves_solve_and_certificate(rng):
    problem = TrustRegionStep(rng.normal(size=9), spd(rng, 9), 0.1, [(rng.normal(size=9), 0.3)])
    assert solve(problem).stats["factorisations"] == 1
    assert problem.damped_metric.factorisations == 1


def test_what_products_hold_is_freed_with_the_last_reference():
    class Curvature:
        def __call__(self, v):
            return 2 * v

    product = Curvature()
    freed = weakref.ref(product)
    gc.disable()  # a circle would wait for it, with all the samples that products hold
    try:
        solve(TrustRegionStep([1.0, 2.0], Product(product, preconditioner=lambda y, damping: y), 0.1, damping=0.1))
        del product
        assert freed() is None
    finally:
        gc.enable()


def test_inputs_are_left_alone_and_may_be_lists_or_float32(rng):
    F, g = spd(rng, 3).astype(np.float32), rng.normal(size=3).astype(np.float32)
    F[0, 1] = F[1, 0]
    before = F.copy(), g.copy()
    for array in (F, g):
        array.flags.writeable = False
    a = solve(TrustRegionStep(g, F, 0.1, damping=1e-3))
    b = solve(TrustRegionStep(g.tolist(), np.asfortranarray(F).tolist(), 0.1, damping=1e-3))
    np.testing.assert_array_equal(a.step, b.step)
    np.testing.assert_array_equal(before[0], F)
    np.testing.assert_array_equal(before[1], g)


BAD = [
    ({"gradient": [1.0, np.nan]}, r"gradient\[1\] is nan"),
    ({"gradient": [[1.0, 2.0]]}, r"gradient must have shape"),
    ({"gradient": []}, "gradient is empty"),
    ({"metric": np.eye(3)}, "metric must have 2 parameters"),
    ({"metric": [[1.0, 2.0], [0.0, 1.0]]}, r"symmetric: \[0, 1\] is 2"),
    ({"metric": [[1.0, 1.5 * SYMMETRY_TOLERANCE], [0.0, 1.0]]}, r"symmetric: \[0, 1\] is 1.5e-08"),
    ({"metric": [[1.0, 0.0], [0.0, -1.0]]}, r"metric\[1, 1\] is -1"),
    ({"metric": [[1.0, 0.0], [0.0, np.inf]]}, r"metric\[1, 1\] is inf"),
    ({"metric": np.ones((2, 3))}, "metric must have shape"),
    ({"epsilon": -0.1}, "epsilon must be >= 0"),
    ({"epsilon": np.inf}, "epsilon must be >= 0"),
    ({"epsilon": np.nan}, "epsilon must be >= 0"),
    ({"damping": -1.0}, "damping must be >= 0"),
    ({"costs": [([1.0], 0.0)]}, r"costs\[0\]\[0\] must have shape"),
    ({"costs": [([1.0, 0.0], np.nan)]}, r"costs\[0\]\[1\]"),
    ({"costs": [([1.0, 0.0],)]}, r"costs\[0\] must be a pair"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_input_is_named(changes, message):
    arguments = {"gradient": [1.0, 2.0], "metric": np.eye(2), "epsilon": 0.1, **changes}
    with pytest.raises(ValueError, match=message):
        TrustRegionStep(**arguments)


def test_a_metric_may_be_asymmetric_by_rounding():
    metric = [[1.0, 0.7 * SYMMETRY_TOLERANCE], [0.0, 1.0]]
    assert solve(TrustRegionStep([1.0, 2.0], metric, 0.1)).status == Status.CERTIFIED


def test_bad_metrics_are_named():
    with pytest.raises(ValueError, match="no rows"):
        Factor(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"weights\[1\] is -1"):
        Factor(np.ones((2, 3)), [1.0, -1.0])
    with pytest.raises(TypeError, match="fn must be a function"):
        Product(np.eye(2))
    with pytest.raises(TypeError, match="preconditioner must be a function"):
        Product(lambda v: v, preconditioner=np.eye(2))
    with pytest.raises(ValueError, match=r"preconditioner\(y, damping\) must have shape"):
        solve(TrustRegionStep([1.0, 1.0], Product(lambda v: v, 1.0, lambda y, _: y[:1]), 0.1))
    with pytest.raises(ValueError, match="negative eigenvalue"):
        solve(TrustRegionStep([1.0, 1.0], [[1.0, 2.0], [2.0, 1.0]], 0.1))
    with pytest.raises(ValueError, match=r"fn\(v\) must have shape"):
        solve(TrustRegionStep([1.0, 1.0], Product(lambda v: v[:1]), 0.1))


@pytest.mark.parametrize("route", [Newton(), ScipyDual()])
def test_routes_for_the_simplex_refuse_steps(route):
    with pytest.raises(ValueError, match="works on the simplex"):
        solve(TrustRegionStep([1.0, 1.0], np.eye(2), 0.1), route)


def test_a_solution_reads_well():
    text = str(solve(TrustRegionStep([1.0, 2.0], np.eye(2), 0.1, [([1.0, 0.0], 0.1)])))
    for part in ("TrustRegionStep(Dense(2 parameters), epsilon=0.1, 1 cost rows)", "predicted gain", "nu", "certified"):
        assert part in text


def test_a_small_step_has_the_temperature_of_relative_entropy_policy_search():
    """One state, softmax: REPS's ball is KL to second order, so that both multipliers agree as epsilon vanishes."""
    mdp = MDP(np.ones((1, 3, 1)), [[0.0, 0.2, 1.0]], gamma=0.5)
    q = mdp.uniform_policy()
    g, F = exact_gradient(mdp, q), exact_fisher(mdp, q)
    ratios = [
        solve(REPS(mdp, q, epsilon)).eta / solve(TrustRegionStep(g, F, epsilon)).eta for epsilon in (1e-2, 1e-4, 1e-6)
    ]
    errors = np.abs(1 - np.array(ratios))
    assert errors[0] < 0.06
    assert errors[2] < 6e-4
    np.testing.assert_allclose(errors[:-1] / errors[1:], 10.0, rtol=0.2)  # of the order of the square root of epsilon


class Posed(Quadratic):
    """The same route by way of the program, as every other solver takes it."""


@pytest.mark.parametrize("level", [None, -1.0, 0.0, 0.02, 5.0])
@pytest.mark.parametrize("tilt", [0.0, 1e-9, 1.0], ids=["parallel", "almost parallel", "apart"])
def test_the_data_and_the_program_give_one_answer(rng, level, tilt):
    F, g = spd(rng, 6), rng.normal(size=6)
    costs = None if level is None else [(g + tilt * rng.normal(size=6), level)]
    straight, posed = (solve(TrustRegionStep(g, F, 0.05, costs, 0.01), route) for route in (None, Posed()))
    assert straight.status == posed.status == ("infeasible" if level == 5.0 else "certified")
    np.testing.assert_allclose(straight.step, posed.step, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(straight.duals["costs"], posed.duals["costs"], rtol=1e-6, atol=1e-9)
    assert {*straight.stats} >= {"seconds", "route"}


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(1, 1), (0, 2)])
def test_an_entry_of_the_metric_that_is_not_finite_is_named(wrong, place):
    F = np.eye(3)
    F[place] = F[place[::-1]] = wrong
    with pytest.raises(ValueError, match=rf"metric\[{place[0]}, {place[1]}\] is {wrong}"):
        TrustRegionStep(np.ones(3), F, 0.1)


def conic_step(problem, minimise=False):
    """Optimum of the step, or the smallest radius, by a conic solver over rows of length one."""
    step, ball = cp.Variable(problem.gradient.size), np.linalg.cholesky(problem.metric.matrix).T
    lengths = np.linalg.norm(problem.slopes, axis=1)
    rows = [problem.slopes / lengths[:, None] @ step + problem.levels / lengths <= 0]
    if minimise:
        posed = cp.Problem(cp.Minimize(cp.sum_squares(ball @ step) / 2), rows)
    else:
        rows.append(cp.sum_squares(ball @ step) <= 2 * problem.epsilon)
        posed = cp.Problem(cp.Maximize(problem.gradient @ step), rows)
    posed.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return posed.status, posed.value


def test_rows_that_hold_a_ray_until_the_ball_ends_it():
    rows = [([-2.1, -0.9], 1.17), ([0.5, 0.0], -0.41)]
    problem = TrustRegionStep([0.3, -0.6], np.eye(2), 0.5, rows)
    solution = solve(problem)
    angles = np.linspace(0.0, 2 * math.pi, 1_000_001)
    circle = np.array([np.cos(angles), np.sin(angles)])  # the ball binds: the optimum is on its boundary
    allowed = (problem.levels[:, None] + problem.slopes @ circle <= 0).all(axis=0)
    assert solution.status == "certified"
    assert solution.objective == pytest.approx(float((problem.gradient @ circle)[allowed].max()), abs=1e-5)
    assert solution.objective == pytest.approx(0.59536506, abs=1e-8)


@pytest.mark.parametrize("seed", range(40))
def test_rows_in_any_units_and_nearly_dependent_ones(seed):
    rng = np.random.default_rng(seed)
    size, k = int(rng.integers(2, 7)), int(rng.integers(2, 6))
    slopes, levels = rng.normal(size=(k, size)), rng.normal(size=k)
    if seed % 4 == 1:  # opposite: an equality, but for rounding
        slopes[1], levels[1] = -slopes[0], -levels[0]
    if seed % 4 == 2:
        slopes[1], levels[1] = 2 * slopes[0], 2 * levels[0] + 0.1 * rng.normal()
    if seed % 4 == 3 and k > 2:
        slopes[2], levels[2] = slopes[0] + slopes[1], levels[0] + levels[1] + rng.choice([-0.01, 0.0, 0.01])
    units = 10.0 ** rng.uniform(-7, 7, size=k)
    scores = rng.normal(size=(size + 2, size))
    rows = list(zip(units[:, None] * slopes, units * levels, strict=True))
    problem = TrustRegionStep(rng.normal(size=size), scores.T @ scores, 0.5, rows)
    least = problem.epsilon_min
    status, found = conic_step(problem, minimise=True)
    if status == "infeasible":
        assert least == math.inf
    if status == "optimal":
        assert least == pytest.approx(found, rel=1e-5, abs=1e-8)
    if 0 < least < math.inf:
        assert solve(problem.replace(epsilon=0.999 * least)).status == "infeasible"
        for factor in (1 + 1e-9, 1.001, 1.5, 10.0):
            assert solve(problem.replace(epsilon=factor * least)).status == "certified", factor
    if least < 0.4:
        solution = solve(problem)
        assert solution.status == "certified"
        status, best = conic_step(problem)
        if status == "optimal":
            assert solution.objective == pytest.approx(best, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("epsilon", [1e-16, 1e-12, 1e-9])
def test_steps_stay_in_the_smallest_of_balls(rng, epsilon):
    scores = rng.normal(size=(6, 5))
    F, g = scores.T @ scores, 1e4 * rng.normal(size=5)
    for rows in ([], [(rng.normal(size=5), 0.1 * math.sqrt(epsilon))]):
        solution = solve(TrustRegionStep(g, F, epsilon, rows))
        assert solution.status == "certified"
        assert solution.step @ F @ solution.step / 2 <= epsilon * (1 + 1e-9)
