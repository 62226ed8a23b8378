"""Several balls in one program: their joint conjugate, and an entropy bound beside the KL ball."""

import cvxpy as cp
import numpy as np
import pytest

import envs
from reps_opt import REPS, FiniteHorizonREPS, Status, solve
from reps_opt.divergences.balls import Ball, JointKL
from reps_opt.divergences.base import KL
from reps_opt.divergences.f_divergences import ChiSquare
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, Newton, ScipyDual
from tests.reps_opt.small_mdps import by_both, occupancy_set, optimum, random_case

RADII = [0.05, 0.2, 0.6]


def entropy_of(x):
    return -np.sum(x[x > 0] * np.log(x[x > 0]))


def bound_for(case, share):
    """Between the entropy of plain REPS at radius .3 and that of the reference."""
    free = solve(REPS(case.mdp, case.reference, 0.3))
    return (1 - share) * free.entropy + share * entropy_of(case.reference)


def test_the_joint_conjugate_attains_its_supremum_and_has_the_stated_derivatives():
    rng = np.random.default_rng(1)
    layers = np.array([0, 4])
    for _ in range(20):
        q, u = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(7))
        first, second = np.arange(4), np.arange(4, 7)
        balls = [Ball(KL(q), 0.2, where=first), Ball(KL(u), 0.3), Ball(KL(u[4:] / u[4:].sum()), 0.1, where=second)]
        joint, eta = JointKL(balls, layers, 7), rng.uniform(0.1, 2.0, 3)
        y, direction, h = 3 * rng.normal(size=7), rng.normal(size=7), 1e-6

        at = joint.conjugate(eta, y)
        np.testing.assert_allclose(at.divergences, [b.divergence.value(b.part(at.point)) for b in balls], atol=1e-12)
        kl = [np.sum(b.part(at.point) * np.log(b.part(at.point) / b.divergence.reference)) for b in balls]
        assert at.value == pytest.approx(at.point @ y - eta @ kl, abs=1e-11)
        for _ in range(20):
            x = np.concatenate([rng.dirichlet(np.full(4, 0.5)), rng.dirichlet(np.full(3, 0.5))])
            other = x @ y - eta @ [np.sum(b.part(x) * np.log(b.part(x) / b.divergence.reference)) for b in balls]
            assert other <= at.value + 1e-10
        ahead, behind = joint.conjugate(eta, y + h * direction), joint.conjugate(eta, y - h * direction)
        assert (ahead.value - behind.value) / (2 * h) == pytest.approx(at.point @ direction, abs=1e-6)
        slopes = joint.log_slope(eta, at)
        for k in range(3):
            moved = np.where(np.arange(3) == k, np.exp(h), 1.0)
            ahead, behind = joint.conjugate(eta * moved, y), joint.conjugate(eta / moved, y)
            np.testing.assert_allclose((ahead.scaled - behind.scaled) / (2 * h), slopes[:, k], atol=1e-6)
            assert (ahead.value - behind.value) / (2 * h) == pytest.approx(-eta[k] * kl[k], abs=1e-6)


def test_balls_that_do_not_fit_are_refused():
    half = KL(np.full(2, 0.5))
    for balls, message in (
        ([Ball(half, 0.1, where=np.arange(2))], "in no ball"),
        ([Ball(half, 0.1, where=np.array([1, 2])), Ball(KL(np.full(4, 0.25)), 0.1)], "cuts a simplex"),
        ([Ball(ChiSquare(np.full(4, 0.25)), 0.1), Ball(KL(np.full(4, 0.25)), 0.1)], "all are KL"),
    ):
        with pytest.raises(ValueError, match=message):
            JointKL(balls, np.array([0, 2]), 4)
    with pytest.raises(ValueError, match="exactly one of radius"):
        Ball(half)
    with pytest.raises(ValueError, match="radius must be >= 0"):
        Ball(half, -0.1)
    with pytest.raises(ValueError, match="price must be > 0"):
        Ball(half, price=0.0)
    with pytest.raises(TypeError, match="divergence must be"):
        Ball("kl", 0.1)


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
        assert solution.eta[0] == pytest.approx(abs(float(np.squeeze(ball.dual_value))), abs=2e-4), seed
        assert solution.duals["entropy"] == pytest.approx(abs(float(np.squeeze(spread.dual_value))), abs=2e-4), seed
        assert solution.entropy >= least - 1e-9
        both += int(min(solution.eta) > 1e-3)
    assert both >= 2


@pytest.mark.parametrize("route", [Newton(), CvxpyPrimal(), CvxpyDual()], ids=lambda r: type(r).__name__)
def test_every_route_certifies(route):
    for seed in range(4):
        case = random_case(seed)
        by_both(REPS(case.mdp, case.reference, 0.2, entropy=bound_for(case, 0.6)), route)


def test_both_multipliers_are_derivatives_of_the_optimum():
    case, h = random_case(6), 1e-5
    least = bound_for(case, 0.6)

    def value(epsilon=0.2, entropy=least):
        return solve(REPS(case.mdp, case.reference, epsilon, entropy=entropy)).objective

    solution = solve(REPS(case.mdp, case.reference, 0.2, entropy=least))
    slope = (value(epsilon=0.2 + h) - value(epsilon=0.2 - h)) / (2 * h)
    assert slope == pytest.approx(solution.duals["kl"], rel=1e-5, abs=1e-8)
    slope = (value(entropy=least + h) - value(entropy=least - h)) / (2 * h)
    assert slope == pytest.approx(-solution.duals["entropy"], rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("method", ["trust-exact", "L-BFGS-B", "SLSQP", "trust-constr"])
def test_scipy_takes_several_balls(method):
    case, g, chain = random_case(3), envs.garnet(20, 3, 2, seed=0), envs.single_chain()
    bounded = REPS(case.mdp, case.reference, 0.2, entropy=bound_for(case, 0.6))
    each = FiniteHorizonREPS(g, g.uniform_policy(), 6, [0.1, 0.02, 0.3, 0.1, 0.05, 0.2], ball="per_step")
    slack = FiniteHorizonREPS(chain, chain.uniform_policy(), 4, [0.1, 0.05, 0.2, 0.3], ball="per_step")
    for problem in (bounded, each) if method == "trust-constr" else (bounded, each, slack):
        newton, scipy = solve(problem), solve(problem, ScipyDual(method))
        assert scipy.status is Status.CERTIFIED
        assert scipy.objective == pytest.approx(newton.objective, abs=1e-5)
        np.testing.assert_allclose(scipy.eta, newton.eta, atol=1e-3)
        assert len(scipy.stats["trace"]) == scipy.stats["iterations"]


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
