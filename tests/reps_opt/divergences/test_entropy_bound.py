"""An entropy bound beside the KL ball: one divergence, two multipliers."""

import cvxpy as cp
import numpy as np
import pytest

from reps_opt import REPS, Status, solve
from reps_opt.divergences.entropy_bound import EntropyBoundedKL
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, Newton, ScipyDual
from tests.reps_opt.small_mdps import occupancy_set, optimum, random_case

RADII = [0.05, 0.2, 0.6]


def entropy_of(x):
    return -np.sum(x[x > 0] * np.log(x[x > 0]))


def bound_for(case, share):
    """Between the entropy of plain REPS at radius .3 and that of the reference."""
    free = solve(REPS(case.mdp, case.reference, 0.3))
    return (1 - share) * free.entropy + share * entropy_of(case.reference)


def test_the_conjugate_attains_its_supremum_and_has_the_stated_derivatives():
    rng = np.random.default_rng(1)
    kinds = set()
    for _ in range(40):
        q = rng.dirichlet(np.ones(6)) + 1e-3
        ball = EntropyBoundedKL(q / q.sum(), rng.uniform(0.5, 1.7), 0.2)
        y, direction, h = 3 * rng.normal(size=6), rng.normal(size=6), 1e-6
        at = ball.conjugate(y)
        kinds.add("kink" if at.tilt is not None else "smooth")
        assert at.value == pytest.approx(at.point @ y - ball.value(at.point), abs=1e-12)
        for other in rng.dirichlet(np.full(6, 0.5), size=20):
            assert other @ y - ball.value(other) <= at.value + 1e-10
        ahead, behind = ball.conjugate(y + h * direction), ball.conjugate(y - h * direction)
        np.testing.assert_allclose((ahead.value - behind.value) / (2 * h), at.point @ direction, atol=1e-7)
        np.testing.assert_allclose((ahead.point - behind.point) / (2 * h), at.hessian(direction), atol=1e-6)
    assert kinds == {"kink", "smooth"}


@pytest.mark.parametrize("part", range(4))
def test_a_hundred_random_problems_agree_with_cvxpy(part):
    both = 0
    for seed in range(25 * part, 25 * (part + 1)):
        case = random_case(seed)
        epsilon, least = RADII[seed % 3], bound_for(case, [0.2, 0.6, 0.9][(seed // 3) % 3])
        solution = solve(REPS(case.mdp, case.reference, epsilon, entropy=least))
        x, flow = occupancy_set(case.mdp)
        ball = cp.sum(cp.rel_entr(x, case.reference.ravel())) <= epsilon
        spread = cp.sum(cp.entr(x)) >= least
        best = optimum(cp.Maximize(case.mdp.rewards.ravel() @ x), [*flow, ball, spread])
        assert solution.certificate.ok(1e-8), (seed, solution)
        assert solution.objective == pytest.approx(best, abs=2e-7), seed
        assert solution.eta == pytest.approx(abs(float(np.squeeze(ball.dual_value))), abs=2e-4), seed
        assert solution.duals["entropy"] == pytest.approx(abs(float(np.squeeze(spread.dual_value))), abs=2e-4), seed
        assert solution.entropy >= least - 1e-9
        both += int(min(solution.eta, solution.duals["entropy"]) > 1e-3)
    assert both >= 2


@pytest.mark.parametrize("route", [Newton(), ScipyDual(), CvxpyPrimal(), CvxpyDual()], ids=lambda r: type(r).__name__)
def test_every_route_certifies(route):
    for seed in range(4):
        case = random_case(seed)
        problem = REPS(case.mdp, case.reference, 0.2, entropy=bound_for(case, 0.6))
        reference, solution = solve(problem), solve(problem, route)
        assert solution.status is Status.CERTIFIED, solution
        assert solution.objective == pytest.approx(reference.objective, abs=1e-6)


def test_both_multipliers_are_derivatives_of_the_optimum():
    case, h = random_case(6), 1e-5
    least = bound_for(case, 0.6)

    def value(epsilon=0.2, entropy=least):
        return solve(REPS(case.mdp, case.reference, epsilon, entropy=entropy)).objective

    solution = solve(REPS(case.mdp, case.reference, 0.2, entropy=least))
    slope = (value(epsilon=0.2 + h) - value(epsilon=0.2 - h)) / (2 * h)
    assert slope == pytest.approx(solution.eta, rel=1e-5, abs=1e-8)
    slope = (value(entropy=least + h) - value(entropy=least - h)) / (2 * h)
    assert slope == pytest.approx(-solution.duals["entropy"], rel=1e-5, abs=1e-8)


def test_an_entropy_nobody_has_is_infeasible_and_one_that_is_slack_changes_nothing():
    case = random_case(3)
    solution = solve(REPS(case.mdp, case.reference, 0.1, entropy=np.log(12) + 0.1))
    assert solution.status is Status.INFEASIBLE
    assert "entropy >=" in solution.message
    plain = solve(REPS(case.mdp, case.reference, 0.1))
    slack = solve(REPS(case.mdp, case.reference, 0.1, entropy=plain.entropy - 0.1))
    assert slack.duals["entropy"] == 0
    assert slack.objective == pytest.approx(plain.objective, abs=1e-10)


def test_what_an_entropy_bound_needs_is_said():
    case = random_case(0)
    for form in ({"temperature": 0.1}, {"epsilon": np.inf}, {"epsilon": 0.1, "divergence": "chi2"}):
        with pytest.raises(ValueError, match="entropy bounds a KL ball"):
            REPS(case.mdp, case.reference, entropy=1.0, **form)
