"""The multipliers are derivatives of the optimal value, whichever route found them."""

from __future__ import annotations

import numpy as np
import pytest

import envs
from reps_opt import MDP, REPS, solve
from reps_opt.problems.occupancy_solution import OccupancySolution
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, Newton, ScipyDual

ROUTES = {"newton": Newton(), "scipy": ScipyDual(), "cvxpy-primal": CvxpyPrimal(), "cvxpy-dual": CvxpyDual()}
ACCURACY = {"newton": 1e-6, "scipy": 1e-6, "cvxpy-primal": 3e-4, "cvxpy-dual": 3e-4}
"""Relative accuracy of multipliers: an interior point's are good to the square root of its gap."""

STEP = 1e-5


def random_mdp(gamma: float, seed: int = 3) -> MDP:
    return envs.garnet(6, 3, 3, seed=seed, gamma=gamma)


def changed(mdp: MDP, rewards: np.ndarray | None = None, mu0: np.ndarray | None = None) -> MDP:
    return MDP(
        mdp.transitions,
        mdp.rewards if rewards is None else rewards,
        mdp.gamma,
        mdp.mu0 if mu0 is None else mu0,
    )


def optimum(mdp: MDP, q: np.ndarray, epsilon: float) -> OccupancySolution:
    solution = solve(REPS(mdp, q, epsilon))
    assert solution.certificate.ok(1e-9)
    return solution


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("gamma", [0.9, 1.0])
class TestSigns:
    def setup(self, gamma: float, route: str) -> tuple[MDP, np.ndarray, OccupancySolution]:
        mdp = random_mdp(gamma)
        q = mdp.occupancy(mdp.uniform_policy())
        return mdp, q, solve(REPS(mdp, q, 0.2), ROUTES[route])

    def test_eta_is_the_derivative_in_epsilon(self, gamma: float, route: str) -> None:
        mdp, q, solution = self.setup(gamma, route)
        up, down = (optimum(mdp, q, 0.2 + sign * STEP).objective for sign in (1, -1))
        assert solution.eta == pytest.approx((up - down) / (2 * STEP), rel=ACCURACY[route])

    def test_occupancy_is_the_derivative_in_the_rewards(self, gamma: float, route: str) -> None:
        mdp, q, solution = self.setup(gamma, route)
        direction = np.random.default_rng(0).normal(size=mdp.rewards.shape)
        up, down = (
            optimum(changed(mdp, rewards=mdp.rewards + sign * STEP * direction), q, 0.2).objective for sign in (1, -1)
        )
        assert np.sum(solution.occupancy * direction) == pytest.approx((up - down) / (2 * STEP), rel=ACCURACY[route])

    def test_value_is_the_derivative_in_the_start_distribution(self, gamma: float, route: str) -> None:
        if gamma == 1:
            pytest.skip("the start distribution plays no part in average reward")
        mdp, q, solution = self.setup(gamma, route)
        direction = np.array([1.0, -1.0, 0.5, -0.5, 0.0, 0.0])
        up, down = (optimum(changed(mdp, mu0=mdp.mu0 + sign * STEP * direction), q, 0.2).objective for sign in (1, -1))
        expected = (up - down) / (2 * STEP) / (1 - gamma)
        assert solution.value @ direction == pytest.approx(expected, rel=ACCURACY[route])

    def test_gauge_is_the_stated_one(self, gamma: float, route: str) -> None:
        mdp, q, solution = self.setup(gamma, route)
        np.testing.assert_allclose(solution.value, solve(REPS(mdp, q, 0.2)).value, rtol=ACCURACY[route])
        if gamma < 1:
            assert solution.duals["normalisation"] == 0.0
        else:
            assert abs(solution.state_distribution @ solution.value) < 1e-12
        assert solution.duals["kl"] == solution.eta
        np.testing.assert_array_equal(solution.duals["flow"], solution.value)

    def test_policy_is_the_softmax_of_the_bellman_error(self, gamma: float, route: str) -> None:
        _, q, solution = self.setup(gamma, route)
        weight = q * np.exp(solution.bellman_error / solution.eta)
        np.testing.assert_allclose(solution.policy, weight / weight.sum(axis=1, keepdims=True), atol=ACCURACY[route])


@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_dual_derivatives_by_finite_differences(gamma: float) -> None:
    """Gradient and Hessian of the dual that Newton works on."""
    mdp = random_mdp(gamma)
    program = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.2).program
    rng = np.random.default_rng(1)
    v, eta, direction = rng.normal(size=6), 0.7, rng.normal(size=6)
    point = program.dual(eta, v)

    def difference(f, h: float = 1e-6):  # type: ignore[no-untyped-def]
        return (f(h) - f(-h)) / (2 * h)

    along_v = difference(lambda h: program.dual(eta, v + h * direction).value)
    assert point.residual @ direction == pytest.approx(along_v, rel=1e-7)
    along_eta = difference(lambda h: program.dual(eta + h, v).value)
    assert 0.2 - point.divergence == pytest.approx(along_eta, rel=1e-7)
    curved = difference(lambda h: program.dual(eta, v + h * direction).residual)
    shifted = -(program.transpose @ direction) / eta
    np.testing.assert_allclose(-(program.matrix @ point.conjugate.hessian(shifted)), curved, atol=1e-7)


def test_dual_is_jointly_convex() -> None:
    mdp = random_mdp(0.9)
    program = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.2).program
    rng = np.random.default_rng(2)
    for _ in range(50):
        (v, w), (a, b) = rng.normal(size=(2, 6)), rng.uniform(0.1, 3, 2)
        middle = program.dual((a + b) / 2, (v + w) / 2).value
        assert middle <= (program.dual(a, v).value + program.dual(b, w).value) / 2 + 1e-12


def test_restart_gives_the_same_dual_as_discounting() -> None:
    """Restarting with probability 1 - gamma, in average reward, is discounting (Puterman 1994, section 5.3)."""
    mdp = random_mdp(0.9)
    restarted = MDP(0.9 * mdp.transitions.toarray() + 0.1 * mdp.mu0, mdp.rewards, gamma=1.0)
    q = mdp.occupancy(mdp.uniform_policy())
    a, b = optimum(mdp, q, 0.3), optimum(restarted, q, 0.3)
    assert a.objective == pytest.approx(b.objective, rel=1e-10)
    assert a.eta == pytest.approx(b.eta, rel=1e-8)
    np.testing.assert_allclose(a.value - a.value.mean(), b.value - b.value.mean(), atol=1e-8)
    np.testing.assert_allclose(a.occupancy, b.occupancy, atol=1e-10)


@pytest.mark.parametrize("side", ["primal", "dual"])
def test_posed_problems_are_labelled_and_in_reward_units(side: str) -> None:
    mdp = random_mdp(0.9)
    problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.2)
    posed = problem.to_cvxpy(side)
    assert {constraint.label for constraint in posed.constraints} == {"flow", "normalisation", "kl"}
    solution = solve(problem)
    assert posed.solve(solver="CLARABEL") == pytest.approx(solution.objective, abs=1e-6)
    by_label = {constraint.label: constraint for constraint in posed.constraints}
    if side == "primal":
        assert by_label["kl"].dual_value == pytest.approx(solution.eta, rel=1e-4)
        (occupancy,) = posed.variables()
        np.testing.assert_allclose(occupancy.value.reshape(mdp.rewards.shape), solution.occupancy, atol=1e-5)
    else:
        variables = {variable.name(): variable.value for variable in posed.variables()}
        assert variables["kl"] == pytest.approx(solution.eta, rel=1e-4)
        centred = variables["flow"] - variables["flow"].mean()
        np.testing.assert_allclose(centred, solution.value - solution.value.mean(), atol=1e-3)
        np.testing.assert_allclose(np.abs(by_label["flow"].dual_value), solution.occupancy.ravel(), atol=1e-5)
    with pytest.raises(ValueError, match="side must be one of"):
        problem.to_cvxpy("both")
