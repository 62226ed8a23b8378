"""Expected-cost budgets: prices, routes, the linear program, and budgets that cannot be kept."""

import cvxpy as cp
import numpy as np
import pytest

from reps_opt import REPS, LinearProgram, Status, solve
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, Newton, ScipyDual
from tests.reps_opt.small_mdps import SAME_PROBLEM, by_both, changed, occupancy_set, optimum, random_case

RADII = [0.01, 0.1, 0.5, 2.0]
ROOM = [-0.1, -0.03, 0.0, 0.05]
ROUTES = [Newton(), ScipyDual(), ScipyDual("L-BFGS-B"), CvxpyPrimal(), CvxpyDual()]


def costs_and_budgets(case, n_costs, room):
    """Costs (K, S, A) and budgets (K,), the reference's own expected cost plus some room."""
    costs = case.rng.normal(size=(n_costs, *case.mdp.rewards.shape))
    return costs, (costs * case.reference).sum(axis=(1, 2)) + room


@pytest.mark.parametrize("part", range(4))
def test_a_hundred_random_problems_agree_with_cvxpy(part):
    binding = infeasible = 0
    for seed in range(25 * part, 25 * (part + 1)):
        case = random_case(seed)
        epsilon = RADII[(seed // 2) % 4]
        costs, budgets = costs_and_budgets(case, 1 + seed % 2, ROOM[(seed // 8) % 4])
        solution = solve(REPS(case.mdp, case.reference, epsilon, costs=costs, budgets=budgets))
        x, flow = occupancy_set(case.mdp)
        ball = cp.sum(cp.rel_entr(x, case.reference.ravel())) <= epsilon
        rows = costs.reshape(len(costs), -1) @ x <= budgets
        best = optimum(cp.Maximize(case.mdp.rewards.ravel() @ x), [*flow, ball, rows])
        if solution.status is Status.INFEASIBLE:
            infeasible += 1
            assert not np.isfinite(best), seed
            continue
        assert solution.certificate.ok(1e-8), (seed, solution)
        assert solution.objective == pytest.approx(best, abs=2e-7), seed
        np.testing.assert_allclose(solution.nu, rows.dual_value, atol=2e-4)
        assert (solution.expected_costs <= budgets + 1e-9).all()
        binding += int((solution.nu > 1e-6).sum())
    assert binding >= 5
    assert infeasible <= 15


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: f"{type(r).__name__}{getattr(r, 'method', '')}")
def test_every_route_certifies_ball_penalty_and_other_divergences(route):
    for seed, form in [
        (0, {"epsilon": 0.2}),
        (1, {"epsilon": 0.5}),
        (2, {"temperature": 0.5}),
        (4, {"epsilon": 0.2, "divergence": "chi2"}),
        (5, {"epsilon": 0.2, "divergence": "reverse_kl"}),
    ]:
        case = random_case(seed)
        costs, budgets = costs_and_budgets(case, 2, -0.02)
        problem = REPS(case.mdp, case.reference, costs=costs, budgets=budgets, **form)
        reference, solution = by_both(problem, route)
        np.testing.assert_allclose(solution.nu, reference.nu, atol=1e-3)


@pytest.mark.parametrize("linear_solver", ["dense", "sparse", "cg"])
def test_every_linear_solver_carries_the_active_set(linear_solver):
    for seed in range(12):
        case = random_case(seed, n_states=8)
        costs, budgets = costs_and_budgets(case, 3, [-0.02, 0.02, 0.2])
        problem = REPS(case.mdp, case.reference, 0.3, costs=costs, budgets=budgets)
        reference, solution = solve(problem), solve(problem, Newton(linear_solver=linear_solver))
        assert solution.status is reference.status
        if solution.has_point:
            assert solution.certificate.ok(1e-8), (seed, solution)
            np.testing.assert_allclose(solution.nu, reference.nu, atol=1e-7)


def test_prices_and_multipliers_are_derivatives_of_the_optimum():
    case, h = random_case(6), 1e-5
    costs = np.stack([case.mdp.rewards + 0.5 * case.cost, case.cost])
    budgets = (costs * case.reference).sum(axis=(1, 2)) + np.array([0.02, 2.0])

    def value(mdp=case.mdp, epsilon=0.3, budgets=budgets):
        return solve(REPS(mdp, case.reference, epsilon, costs=costs, budgets=budgets)).objective

    solution = solve(REPS(case.mdp, case.reference, 0.3, costs=costs, budgets=budgets))
    assert solution.nu[0] > 0.05
    assert solution.nu[1] == 0
    for k, step in enumerate(h * np.eye(2)):
        slope = (value(budgets=budgets + step) - value(budgets=budgets - step)) / (2 * h)
        assert slope == pytest.approx(solution.nu[k], rel=1e-5, abs=1e-9)
        assert solution.duals["budgets"][k] == solution.nu[k]
    slope = (value(epsilon=0.3 + h) - value(epsilon=0.3 - h)) / (2 * h)
    assert slope == pytest.approx(solution.eta, rel=1e-5)
    move = np.array([1.0, -1.0, 0.0, 0.0])
    ahead, behind = (value(changed(case.mdp, mu0=case.mdp.mu0 + s * h * move)) for s in (1, -1))
    expected = (1 - case.mdp.gamma) * (solution.value @ move)
    assert (ahead - behind) / (2 * h) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("route", [None, CvxpyPrimal(), CvxpyDual()], ids=["highs", "primal", "dual"])
def test_the_linear_program_with_budgets_randomises_and_prices(route):
    randomised = 0
    for seed in range(8):
        case = random_case(seed)
        best = solve(LinearProgram(case.mdp))
        cost = (case.cost * best.occupancy).sum()
        budget = 0.5 * (cost + (case.cost * case.reference).sum())
        if budget > cost:
            continue
        solution = solve(LinearProgram(case.mdp, [case.cost], [budget]), route)
        x, flow = occupancy_set(case.mdp)
        row = case.cost.ravel() @ x <= budget
        value = optimum(cp.Maximize(case.mdp.rewards.ravel() @ x), [*flow, row])
        assert solution.status is Status.CERTIFIED, solution
        assert solution.objective == pytest.approx(value, abs=1e-6)
        assert solution.nu[0] == pytest.approx(float(np.squeeze(row.dual_value)), abs=1e-4)
        randomised += int(((solution.policy > 1e-3) & (solution.policy < 1 - 1e-3)).any())
    assert randomised >= 2


def test_a_large_ball_with_budgets_is_the_linear_program():
    case = random_case(3)
    costs, budgets = costs_and_budgets(case, 1, -0.1)
    ball = solve(REPS(case.mdp, case.reference, np.inf, costs=costs, budgets=budgets))
    line = solve(LinearProgram(case.mdp, costs, budgets))
    assert ball.eta == 0
    assert ball.objective == pytest.approx(line.objective, abs=1e-8)
    finite = solve(REPS(case.mdp, case.reference, ball.kl + 0.5, costs=costs, budgets=budgets))
    assert finite.eta == 0
    assert finite.objective == pytest.approx(line.objective, abs=1e-8)


@pytest.mark.parametrize("n_costs", [1, 2])
def test_impossible_budgets_report_the_least_violation(n_costs):
    for seed in (0, 1):
        case = random_case(seed)
        costs = case.rng.normal(size=(n_costs, *case.mdp.rewards.shape))
        budgets = np.full(n_costs, -5.0)
        x, flow = occupancy_set(case.mdp)
        raised = cp.Variable()
        least = optimum(cp.Minimize(raised), [*flow, costs.reshape(n_costs, -1) @ x <= budgets + raised])
        for problem in (
            REPS(case.mdp, case.reference, 0.5, costs=costs, budgets=budgets),
            REPS(case.mdp, case.reference, temperature=0.5, costs=costs, budgets=budgets),
            LinearProgram(case.mdp, costs, budgets),
        ):
            solution = solve(problem)
            assert solution.status is Status.INFEASIBLE
            assert solution.violation == pytest.approx(least, abs=1e-7)
            assert f"{solution.violation:.9g}" in solution.message
            assert np.isnan(solution.nu).all()
        # raised by that much and a little more, they can be kept
        kept = solve(LinearProgram(case.mdp, costs, budgets + solution.violation + 1e-3))
        assert kept.status is Status.CERTIFIED


def test_budgets_beyond_the_ball_report_the_smallest_radius():
    case = random_case(2)
    costs, budgets = costs_and_budgets(case, 1, -0.2)
    x, flow = occupancy_set(case.mdp)
    divergence = cp.sum(cp.rel_entr(x, case.reference.ravel()))
    least = optimum(cp.Minimize(divergence), [*flow, costs.reshape(1, -1) @ x <= budgets])
    solution = solve(REPS(case.mdp, case.reference, 0.5 * least, costs=costs, budgets=budgets))
    assert solution.status is Status.INFEASIBLE
    assert solution.violation == 0
    assert solution.epsilon_min == pytest.approx(least, rel=1e-6)
    assert solve(REPS(case.mdp, case.reference, 1.01 * least, costs=costs, budgets=budgets)).status is Status.CERTIFIED


def test_units_of_rewards_and_costs_scale_the_prices():
    case = random_case(8)
    costs, budgets = costs_and_budgets(case, 1, -0.05)
    solution = solve(REPS(case.mdp, case.reference, 0.3, costs=costs, budgets=budgets))
    mdp = changed(case.mdp, r=1e3 * case.mdp.rewards + 5e4)
    other = solve(REPS(mdp, case.reference, 0.3, costs=1e6 * costs - 4e6, budgets=1e6 * budgets - 4e6))
    assert other.nu[0] == pytest.approx(1e-3 * solution.nu[0], rel=1e-6)
    assert other.eta == pytest.approx(1e3 * solution.eta, rel=1e-6)
    np.testing.assert_allclose(other.occupancy, solution.occupancy, atol=1e-8)


@pytest.mark.parametrize("same", SAME_PROBLEM)
def test_the_same_problem_in_other_words_has_the_same_answer(same):
    for seed in (10, 11):
        case = random_case(seed)
        budget = (case.cost * case.reference).sum() - 0.03
        other = SAME_PROBLEM[same](case)
        a = solve(REPS(case.mdp, case.reference, 0.2, costs=[case.cost], budgets=[budget]))
        b = solve(REPS(other.mdp, other.reference, 0.2, costs=[other.cost], budgets=[budget]))
        assert b.objective == pytest.approx(a.objective, abs=1e-9)
        np.testing.assert_allclose(b.nu, a.nu, atol=1e-7)


def test_the_posed_problem_shows_the_budgets_as_given():
    case = random_case(6)
    costs, budgets = costs_and_budgets(case, 1, -0.05)
    problem = REPS(case.mdp, case.reference, 0.3, costs=costs, budgets=budgets)
    posed = problem.to_cvxpy("primal")
    posed.solve(solver="CLARABEL")
    row = next(c for c in posed.constraints if c.label == "budgets")
    np.testing.assert_allclose(row.dual_value, solve(problem).nu, atol=1e-4)
    assert "at price" in str(solve(problem))


def test_bad_costs_and_budgets_are_named():
    case = random_case(0)
    with pytest.raises(ValueError, match="costs and budgets go together"):
        REPS(case.mdp, case.reference, 0.1, costs=[case.cost])
    with pytest.raises(ValueError, match=r"costs must have shape \(K, 4, 3\)"):
        REPS(case.mdp, case.reference, 0.1, costs=case.cost, budgets=[0.0])
    with pytest.raises(ValueError, match="got 1 and 2"):
        REPS(case.mdp, case.reference, 0.1, costs=[case.cost], budgets=[0.0, 1.0])
    with pytest.raises(ValueError, match=r"budgets\[0\] is nan"):
        REPS(case.mdp, case.reference, 0.1, costs=[case.cost], budgets=[np.nan])
