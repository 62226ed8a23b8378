"""f-divergences: conjugates against their definition, problems against CVXPY on every route, exact zeros."""

import cvxpy as cp
import numpy as np
import pytest

from reps_opt import MDP, REPS, Status, solve
from reps_opt.divergences import f_divergences
from reps_opt.divergences.base import KL
from reps_opt.divergences.f_divergences import Alpha, ChiSquare, ReverseKL, divergence_factory
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, Newton, ScipyDual
from tests.reps_opt.small_mdps import SAME_PROBLEM, by_both, changed, occupancy_set, optimum, random_case

FAMILY = ["chi2", "reverse_kl", ("alpha", 0.5), ("alpha", -1.0), ("alpha", 1.5)]
RADII = [0.01, 0.1, 0.5, 2.0]


def expression(choice, q, x):
    """The divergence in CVXPY, written from its own textbook definition."""
    if choice == "chi2":
        return cp.sum_squares(cp.multiply(1 / np.sqrt(q), x - q)) / 2
    if choice == "reverse_kl":
        return cp.sum(cp.rel_entr(q, x))
    alpha = choice[1]
    return (cp.sum(cp.multiply(q ** (1 - alpha), cp.power(x, alpha))) - 1) / (alpha * (alpha - 1))


@pytest.mark.parametrize("total", [1.0, 0.7])
@pytest.mark.parametrize("scale", [0.1, 3.0, 1e4])
@pytest.mark.parametrize("choice", ["kl", *FAMILY])
def test_the_conjugate_attains_its_supremum_and_has_the_stated_derivatives(choice, scale, total):
    rng = np.random.default_rng(3)
    q = rng.dirichlet(np.full(8, 0.4)) + 1e-3
    ball = divergence_factory(choice)(total * q / q.sum())
    if not ball.bounded:
        pytest.skip("mass out of reach makes it infinite")
    y, direction = scale * rng.normal(size=8), rng.normal(size=8)
    at = ball.conjugate(y)
    assert at.point.sum() == pytest.approx(1, abs=1e-13)
    assert at.value == pytest.approx(at.point @ y - ball.value(at.point), rel=1e-12, abs=1e-12)
    for other in rng.dirichlet(np.full(8, 0.5), size=50):
        assert other @ y - ball.value(other) <= at.value + 1e-9 * scale
    h = 1e-6 * max(scale, 1)
    ahead, behind = ball.conjugate(y + h * direction), ball.conjugate(y - h * direction)
    np.testing.assert_allclose((ahead.value - behind.value) / (2 * h), at.point @ direction, atol=1e-8)
    np.testing.assert_allclose((ahead.point - behind.point) / (2 * h), at.hessian(direction), atol=1e-8)


@pytest.mark.parametrize("alpha", [-1.5, 0.0, 0.5, 1.5, 2.0])
def test_the_normaliser_is_found_in_a_few_passes_even_where_rounding_would_keep_it_moving(alpha, monkeypatch):
    """The best coordinate is rare: the rounding of the sum is then large beside its own xi."""
    passes = []
    log_sum = f_divergences._log_sum
    monkeypatch.setattr(f_divergences, "_log_sum", lambda e: passes.append(1) or log_sum(e))
    rng = np.random.default_rng(0)
    for _ in range(20):
        q = rng.dirichlet(np.full(64, 0.1)) + 1e-12
        ball = divergence_factory(("alpha", alpha))(q / q.sum())
        assert abs(ball.conjugate(rng.normal(size=64)).point.sum() - 1) < 1e-12
    assert len(passes) < 20 * 60  # two a pass


@pytest.mark.parametrize("part", range(4))
def test_a_hundred_random_problems_agree_with_cvxpy(part):
    for seed in range(25 * part, 25 * (part + 1)):
        case = random_case(seed)
        choice, epsilon = FAMILY[seed % 5], RADII[(seed // 5) % 4]
        solution = solve(REPS(case.mdp, case.reference, epsilon, divergence=choice))
        x, flow = occupancy_set(case.mdp)
        ball = expression(choice, case.reference.ravel(), x) <= epsilon
        best = optimum(cp.Maximize(case.mdp.rewards.ravel() @ x), [*flow, ball])
        eta = max(float(np.squeeze(ball.dual_value)), 0)
        beside = eta * float(np.squeeze(ball.args[0].value - epsilon))  # CVXPY's optimum is that of the radius it kept
        assert solution.certificate.ok(1e-8), (seed, solution)
        assert solution.objective == pytest.approx(best - beside, abs=2e-7), (seed, choice)
        assert solution.eta == pytest.approx(eta, abs=1e-4), (seed, choice)


@pytest.mark.parametrize("route", [Newton(), ScipyDual(), CvxpyPrimal(), CvxpyDual()], ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("choice", FAMILY, ids=str)
def test_every_route_certifies_the_ball_and_the_penalty(choice, route):
    for seed, form in [(0, {"epsilon": 0.1}), (1, {"epsilon": 0.5}), (2, {"temperature": 0.3})]:
        case = random_case(seed)
        problem = REPS(case.mdp, case.reference, divergence=choice, **form)
        reference, solution = by_both(problem, route)
        np.testing.assert_allclose(solution.value, reference.value, atol=2e-3)


@pytest.mark.parametrize("choice", FAMILY, ids=str)
def test_multipliers_are_derivatives_of_the_optimum(choice):
    case, h = random_case(6), 1e-5

    def value(mdp=case.mdp, epsilon=0.2):
        return solve(REPS(mdp, case.reference, epsilon, divergence=choice)).objective

    solution = solve(REPS(case.mdp, case.reference, 0.2, divergence=choice))
    assert solution.eta == pytest.approx((value(epsilon=0.2 + h) - value(epsilon=0.2 - h)) / (2 * h), rel=1e-5)
    move = np.random.default_rng(0).normal(size=case.mdp.rewards.shape)
    ahead, behind = (value(changed(case.mdp, r=case.mdp.rewards + s * h * move)) for s in (1, -1))
    assert (ahead - behind) / (2 * h) == pytest.approx(np.sum(solution.occupancy * move), rel=1e-5)


@pytest.mark.parametrize("choice", ["chi2", ("alpha", 0.5)], ids=str)
def test_the_value_is_the_derivative_in_the_start_distribution(choice):
    case, h = random_case(6), 1e-5
    move = np.array([1.0, -1.0, 0.0, 0.0])
    solution = solve(REPS(case.mdp, case.reference, 0.2, divergence=choice))
    ahead, behind = (
        solve(
            REPS(changed(case.mdp, mu0=case.mdp.mu0 + s * h * move), case.reference, 0.2, divergence=choice)
        ).objective
        for s in (1, -1)
    )
    expected = (1 - case.mdp.gamma) * (solution.value @ move)
    assert (ahead - behind) / (2 * h) == pytest.approx(expected, rel=1e-5)


def test_chi_square_leaves_pairs_and_states_without_mass_and_still_certifies():
    found = 0
    for seed in range(20):
        case = random_case(seed)
        solution = solve(REPS(case.mdp, case.reference, 2.0, divergence="chi2"))
        assert solution.certificate.ok(1e-8)
        np.testing.assert_allclose(solution.policy.sum(axis=1), 1)
        found += int((solution.occupancy == 0).sum())
    assert found > 40
    # a deterministic two-state chain whose first state is left behind entirely
    mdp = MDP(np.array([np.eye(2), np.eye(2)]), [[0.0, 0.0], [0.0, 1.0]], gamma=1.0)
    solution = solve(REPS(mdp, [[0.49, 0.01], [0.01, 0.49]], 0.6, divergence="chi2"))
    assert solution.certificate.ok(1e-8)
    assert solution.state_distribution[0] == 0
    assert solution.objective == pytest.approx(1)


def test_one_state_has_the_closed_form_of_water_filling():
    mdp = MDP(np.ones((1, 3, 1)), [[0.0, 0.5, 1.0]], gamma=0.9)
    q, eta = np.full((1, 3), 1 / 3), 0.2
    solution = solve(REPS(mdp, q, temperature=eta, divergence="chi2"))
    # p = q (1 + (r - lambda)/eta)_+ with only the last two alive: lambda = (r2 + r3)/2 - eta/2
    lam = 0.75 - eta / 2
    np.testing.assert_allclose(
        solution.policy, [[0, (1 + (0.5 - lam) / eta) / 3, (1 + (1 - lam) / eta) / 3]], atol=1e-12
    )


def test_the_family_joins_at_its_named_members():
    assert divergence_factory(("alpha", 1)) is KL
    assert divergence_factory(("alpha", 0)) is ReverseKL
    assert divergence_factory(("alpha", 2)) is ChiSquare
    case = random_case(4)
    joint = solve(REPS(case.mdp, case.reference, 0.3))
    for near, named in [(1 + 1e-6, "kl"), (1e-6, "reverse_kl"), (2 - 1e-6, "chi2")]:
        a = solve(REPS(case.mdp, case.reference, 0.3, divergence=("alpha", near)))
        b = solve(REPS(case.mdp, case.reference, 0.3, divergence=named))
        assert a.objective == pytest.approx(b.objective, abs=1e-5)
    assert joint.status is Status.CERTIFIED


@pytest.mark.parametrize("choice", FAMILY, ids=str)
def test_rewards_in_other_units_scale_eta_and_value(choice):
    case = random_case(8)
    solution = solve(REPS(case.mdp, case.reference, 0.3, divergence=choice))
    other = solve(REPS(changed(case.mdp, r=1e4 * case.mdp.rewards - 7e5), case.reference, 0.3, divergence=choice))
    assert other.eta == pytest.approx(1e4 * solution.eta, rel=1e-7)
    assert other.objective == pytest.approx(1e4 * solution.objective - 7e5, rel=1e-9)
    np.testing.assert_allclose(other.occupancy, solution.occupancy, atol=1e-8)


@pytest.mark.parametrize("same", SAME_PROBLEM)
@pytest.mark.parametrize("choice", FAMILY, ids=str)
def test_the_same_problem_in_other_words_has_the_same_answer(choice, same):
    for seed in (10, 11):
        case = random_case(seed)
        other = SAME_PROBLEM[same](case)
        a = solve(REPS(case.mdp, case.reference, 0.2, divergence=choice))
        b = solve(REPS(other.mdp, other.reference, 0.2, divergence=choice))
        assert b.objective == pytest.approx(a.objective, abs=1e-9)
        assert b.eta == pytest.approx(a.eta, abs=1e-7)


def test_small_and_large_balls_reach_the_reference_and_the_linear_program():
    case = random_case(12)
    best = case.mdp.solve_optimal().gain @ case.mdp.mu0
    for choice in FAMILY:
        still = solve(REPS(case.mdp, case.reference, 0.0, divergence=choice))
        assert still.status is Status.CERTIFIED
        np.testing.assert_allclose(still.occupancy, case.reference, atol=1e-12)
        free = solve(REPS(case.mdp, case.reference, np.inf, divergence=choice))
        assert free.eta == 0
        assert free.objective == pytest.approx(best, abs=1e-9)
    slack = solve(REPS(case.mdp, case.reference, 1e3, divergence="chi2"))
    assert slack.eta == 0
    assert slack.status is Status.CERTIFIED


def test_an_inconsistent_reference_reports_the_smallest_radius():
    case = random_case(14)
    q = case.rng.dirichlet(np.ones(case.mdp.rewards.size)).reshape(case.mdp.rewards.shape)
    for choice in FAMILY:
        x, flow = occupancy_set(case.mdp)
        least = optimum(cp.Minimize(expression(choice, q.ravel(), x)), flow)
        solution = solve(REPS(case.mdp, q, 0.5 * least, divergence=choice))
        assert solution.status is Status.INFEASIBLE
        assert solution.epsilon_min == pytest.approx(least, rel=1e-5)
        assert solve(REPS(case.mdp, q, 1.2 * least, divergence=choice)).certificate.ok(1e-7)


def test_mass_out_of_reach_is_infinitely_far_for_reverse_kl_and_finitely_for_chi_square():
    P = np.zeros((3, 2, 3))
    P[:, 0, 0] = P[:, 1, 1] = 1.0
    mdp = MDP(P, [[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], gamma=0.9, mu0=[1, 0, 0])
    q = np.array([[0.2, 0.3], [0.2, 0.2], [0.05, 0.05]])  # the third state cannot be reached
    away = solve(REPS(mdp, q, 5.0, divergence="reverse_kl"))
    assert away.status is Status.INFEASIBLE
    assert away.epsilon_min == np.inf
    assert solve(REPS(mdp, q, 5.0, divergence="chi2")).status is Status.CERTIFIED


def test_bad_arguments_are_named():
    case = random_case(0)
    for bad in ("chi", ("beta", 0.5), 3):
        with pytest.raises(ValueError, match="divergence must be one of"):
            REPS(case.mdp, case.reference, 0.1, divergence=bad)
    with pytest.raises(ValueError, match=r"alpha must be <= 2.*above two the dual.s curvature is infinite"):
        solve(REPS(case.mdp, case.reference, 0.1, divergence=("alpha", 3.0)))
    with pytest.raises(ValueError, match="alpha = 1 is KL"):
        Alpha(np.array([1.0]), 1.0)
