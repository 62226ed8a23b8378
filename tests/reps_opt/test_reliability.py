"""Hard input: what the library promises about it, row by row. Bad input is in test_bad_input."""

from __future__ import annotations

import math

import numpy as np
import pytest

import envs
from reps_opt import MDP, REPS, LinearProgram, solve
from reps_opt.solution import Status
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, Newton, ScipyDual

ACCURACY = {"newton": 1e-7, "scipy": 1e-7, "cvxpy-primal": 3e-3, "cvxpy-dual": 3e-3}
"""Relative accuracy of multipliers: a conic solver's are good to the square root of its gap."""

ROUTES = {"newton": Newton(), "scipy": ScipyDual(), "cvxpy-primal": CvxpyPrimal(), "cvxpy-dual": CvxpyDual()}


def garnet(gamma: float = 0.9, seed: int = 5) -> MDP:
    return envs.garnet(8, 3, 3, seed=seed, gamma=gamma)


def uniform(mdp: MDP) -> np.ndarray:
    return mdp.occupancy(mdp.uniform_policy())


def with_rewards(mdp: MDP, rewards: np.ndarray) -> MDP:
    return MDP(mdp.transitions, rewards, mdp.gamma, mdp.mu0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of epsilon"),
        ({"epsilon": 1, "temperature": 1}, "exactly one of epsilon"),
        ({"epsilon": math.inf, "entropy": 0.1}, "entropy bounds a KL ball"),
        ({"epsilon": 1, "entropy": 0.1, "divergence": "chi2"}, "entropy bounds a KL ball"),
        ({"epsilon": 1, "costs": [np.ones((2, 2))]}, "costs and budgets go together"),
    ],
)
def test_options_that_do_not_go_together_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        REPS(envs.two_state(), np.ones((2, 2)), **options)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("gamma", [0.9, 1.0])
class TestEdgesOfTheBall:
    def test_zero_radius_leaves_the_reference(self, gamma: float, route: str) -> None:
        mdp = garnet(gamma)
        solution = solve(REPS(mdp, uniform(mdp), 0.0), ROUTES[route])
        assert solution.status is Status.CERTIFIED
        assert solution.eta == math.inf
        np.testing.assert_allclose(solution.occupancy, uniform(mdp), atol=1e-12)
        np.testing.assert_allclose(solution.policy, mdp.uniform_policy(), atol=1e-10)

    @pytest.mark.parametrize("epsilon", [100.0, 1e6, math.inf])
    def test_a_huge_radius_makes_the_linear_program(self, gamma: float, route: str, epsilon: float) -> None:
        mdp = garnet(gamma)
        solution = solve(REPS(mdp, uniform(mdp), epsilon), ROUTES[route])
        assert solution.status is Status.CERTIFIED
        assert solution.eta == 0.0
        best = mdp.solve_optimal().gain @ mdp.mu0
        assert solution.objective == pytest.approx(best, abs=1e-6 * np.ptp(mdp.rewards))
        if gamma < 1:
            np.testing.assert_allclose(solution.value, mdp.solve_optimal().value, atol=1e-5)

    def test_tiny_radius(self, gamma: float, route: str) -> None:
        mdp = garnet(gamma)
        for epsilon in (1e-4, 1e-6):
            solution = solve(REPS(mdp, uniform(mdp), epsilon), ROUTES[route])
            assert solution.status is Status.CERTIFIED
            assert solution.kl <= epsilon + 1e-9


@pytest.mark.parametrize("epsilon", [1e-8, 1e-10, 1e-12, 1e-14])
def test_radius_down_to_rounding(epsilon: float) -> None:
    mdp = garnet()
    solution = solve(REPS(mdp, uniform(mdp), epsilon))
    assert solution.status is Status.CERTIFIED
    expected = math.sqrt(2 * epsilon)  # eta KL-quadratic: the gain is proportional to sqrt(epsilon)
    gain = solution.objective - mdp.expected_return(mdp.uniform_policy())
    at_one = solve(REPS(mdp, uniform(mdp), 1e-6)).objective - mdp.expected_return(mdp.uniform_policy())
    assert gain / expected == pytest.approx(at_one / math.sqrt(2e-6), rel=0.02)


class TestReference:
    def test_zeros_stay_zero_and_the_policy_there_is_the_references(self) -> None:
        mdp = garnet()
        policy = mdp.uniform_policy()
        policy[0] = [1.0, 0.0, 0.0]
        policy[3] = [0.5, 0.5, 0.0]
        q = mdp.occupancy(policy)
        solution = solve(REPS(mdp, q, 0.3))
        assert solution.status is Status.CERTIFIED
        assert (solution.occupancy[q == 0] == 0).all()
        np.testing.assert_array_equal(solution.policy[0], [1.0, 0.0, 0.0])
        assert solution.policy[3, 2] == 0.0

    def test_spread_over_many_orders_of_magnitude(self) -> None:
        mdp = garnet()
        for exponent in (5, 20, 60, 150, 300):
            policy = np.tile([1.0, 10.0**-exponent, 1e-3], (8, 1))
            policy /= policy.sum(axis=1, keepdims=True)
            for epsilon in (0.01, 0.5, 5.0):
                solution = solve(REPS(mdp, mdp.occupancy(policy), epsilon))
                assert solution.status is Status.CERTIFIED, (exponent, epsilon, solution)

    def test_inconsistent_is_infeasible_below_the_least_radius(self) -> None:
        mdp = garnet()
        q = np.random.default_rng(0).dirichlet(np.ones(24)).reshape(8, 3)
        solution = solve(REPS(mdp, q, 1e-3))
        assert solution.status is Status.INFEASIBLE
        assert solution.epsilon_min > 1e-3
        assert f"{solution.epsilon_min:.9g}" in solution.message
        assert "infeasible" in str(solution)
        assert solve(REPS(mdp, q, solution.epsilon_min * (1 - 1e-6))).status is Status.INFEASIBLE
        assert solve(REPS(mdp, q, solution.epsilon_min)).status is Status.CERTIFIED

    @pytest.mark.parametrize("route", ROUTES)
    @pytest.mark.parametrize("gamma", [0.9, 1.0])
    def test_inconsistent_is_solved_above_it(self, gamma: float, route: str) -> None:
        mdp = garnet(gamma)
        q = np.random.default_rng(0).dirichlet(np.ones(24)).reshape(8, 3)
        least = REPS(mdp, q, 1.0).epsilon_min
        for epsilon in (least + 1e-3, least + 0.2):
            solution = solve(REPS(mdp, q, epsilon), ROUTES[route])
            expected = solve(REPS(mdp, q, epsilon), CvxpyPrimal())
            assert solution.status is Status.CERTIFIED
            assert solution.objective == pytest.approx(expected.objective, abs=1e-6 * np.ptp(mdp.rewards))
            assert solution.kl == pytest.approx(epsilon, abs=1e-6)

    def test_least_radius_is_the_conic_solvers(self) -> None:
        import cvxpy as cp

        mdp = garnet()
        q = np.random.default_rng(0).dirichlet(np.ones(24)).reshape(8, 3)
        problem = REPS(mdp, q, 1.0)
        p = cp.Variable(24, nonneg=True)
        flow = problem.program.equalities["flow"]
        least = cp.Problem(
            cp.Minimize(cp.sum(cp.rel_entr(p, q.ravel()))), [flow.matrix @ p == flow.rhs, cp.sum(p) == 1]
        )
        assert problem.epsilon_min == pytest.approx(least.solve(solver="CLARABEL"), abs=1e-7)

    def test_support_that_carries_no_occupancy(self) -> None:
        """Only an action that leads out of the support has mass: no radius helps."""
        q = np.array([[0.0, 1.0], [0.0, 0.0]])  # two-state: action 1 in state 0 goes to state 1, where q is silent
        solution = solve(REPS(envs.two_state(mu0=[1.0, 0.0]), q, 10.0))
        assert solution.status is Status.INFEASIBLE
        assert solution.epsilon_min == math.inf
        assert "whatever epsilon" in solution.message

    def test_any_positive_sum_is_scaled_to_one(self) -> None:
        mdp = garnet()
        a, b = solve(REPS(mdp, uniform(mdp), 0.3)), solve(REPS(mdp, 1e4 * uniform(mdp), 0.3))
        np.testing.assert_allclose(a.occupancy, b.occupancy, atol=1e-14)

    def test_inputs_are_left_alone_and_any_layout_will_do(self) -> None:
        mdp = garnet()
        q = np.asfortranarray(uniform(mdp))
        q.flags.writeable = False
        before = q.copy()
        expected = solve(REPS(mdp, uniform(mdp), 0.3)).objective
        assert solve(REPS(mdp, q, 0.3)).objective == pytest.approx(expected, rel=1e-12)
        np.testing.assert_array_equal(q, before)
        assert solve(REPS(mdp, q.tolist(), np.float32(0.25))).status is Status.CERTIFIED
        exact = solve(REPS(mdp, q.astype(np.float32).astype(float), 0.3)).objective
        assert solve(REPS(mdp, q.astype(np.float32), 0.3)).objective == exact


class TestRewards:
    @pytest.mark.parametrize("route", ROUTES)
    @pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e3, 1e9])
    def test_scale(self, scale: float, route: str) -> None:
        mdp = garnet()
        plain = solve(REPS(mdp, uniform(mdp), 0.3), ROUTES[route])
        scaled = solve(REPS(with_rewards(mdp, scale * mdp.rewards), uniform(mdp), 0.3), ROUTES[route])
        assert scaled.status is Status.CERTIFIED
        assert scaled.objective == pytest.approx(scale * plain.objective, rel=1e-6)
        assert scaled.eta == pytest.approx(scale * plain.eta, rel=ACCURACY[route])
        np.testing.assert_allclose(scaled.value, scale * plain.value, rtol=ACCURACY[route])

    @pytest.mark.parametrize("route", ROUTES)
    @pytest.mark.parametrize("gamma", [0.9, 1.0])
    def test_shift(self, gamma: float, route: str) -> None:
        mdp = garnet(gamma)
        plain = solve(REPS(mdp, uniform(mdp), 0.3), ROUTES[route])
        shifted = solve(REPS(with_rewards(mdp, mdp.rewards + 1e6), uniform(mdp), 0.3), ROUTES[route])
        assert shifted.status is Status.CERTIFIED
        assert shifted.objective - 1e6 == pytest.approx(plain.objective, abs=1e-6)
        assert shifted.eta == pytest.approx(plain.eta, rel=ACCURACY[route])
        offset = 1e6 / (1 - gamma) if gamma < 1 else 0.0
        np.testing.assert_allclose(shifted.value - offset, plain.value, atol=max(ACCURACY[route], 1e-5))

    @pytest.mark.parametrize("route", ROUTES)
    @pytest.mark.parametrize("gamma", [0.9, 1.0])
    def test_constant_rewards_return_the_reference(self, gamma: float, route: str) -> None:
        mdp = with_rewards(garnet(gamma), np.full((8, 3), 7.0))
        solution = solve(REPS(mdp, uniform(mdp), 0.3), ROUTES[route])
        assert solution.status is Status.CERTIFIED
        assert solution.eta == 0.0
        assert solution.objective == pytest.approx(7.0)
        np.testing.assert_allclose(solution.occupancy, uniform(mdp), atol=1e-12)

    def test_rewards_that_no_policy_can_change_return_the_reference(self) -> None:
        """A potential difference: the return is the same under every policy (Ng, Harada and Russell 1999)."""
        mdp = garnet()
        potential = np.random.default_rng(0).normal(size=8)
        ahead = (mdp.transitions @ potential).reshape(8, 3)
        shaped = with_rewards(mdp, mdp.gamma * ahead - potential[:, None])
        solution = solve(REPS(shaped, uniform(mdp), 0.3))
        assert solution.status is Status.CERTIFIED
        np.testing.assert_allclose(solution.policy, mdp.uniform_policy(), atol=1e-6)


class TestStructure:
    @pytest.mark.parametrize("route", ROUTES)
    def test_one_state_is_a_bandit_with_a_closed_form(self, route: str) -> None:
        mdp = MDP(np.ones((1, 3, 1)), [[0.0, 1.0, 3.0]], gamma=0.9)
        solution = solve(REPS(mdp, [[0.2, 0.5, 0.3]], 0.1), ROUTES[route])
        weight = np.array([0.2, 0.5, 0.3]) * np.exp(mdp.rewards[0] / solution.eta)
        assert solution.status is Status.CERTIFIED
        np.testing.assert_allclose(solution.policy[0], weight / weight.sum(), atol=ACCURACY[route])
        assert solution.kl == pytest.approx(0.1, abs=1e-6)

    @pytest.mark.parametrize("route", ROUTES)
    @pytest.mark.parametrize("gamma", [0.9, 1.0])
    def test_one_action_leaves_no_choice(self, gamma: float, route: str) -> None:
        mdp = envs.garnet(5, 1, 2, seed=0, gamma=gamma)
        solution = solve(REPS(mdp, uniform(mdp), 0.5), ROUTES[route])
        assert solution.status is Status.CERTIFIED
        np.testing.assert_allclose(solution.occupancy, uniform(mdp), atol=1e-12)

    @pytest.mark.parametrize("route", ROUTES)
    def test_unreachable_states_have_no_value(self, route: str) -> None:
        P = np.zeros((3, 2, 3))
        P[0, 0, 0] = P[0, 1, 1] = P[1, :, 0] = P[2, :, 0] = 1.0
        mdp = MDP(P, [[0, 1], [2, 0], [9, 9]], gamma=0.9, mu0=[1, 0, 0])
        solution = solve(REPS(mdp, uniform(mdp), 0.1), ROUTES[route])
        assert solution.status is Status.CERTIFIED
        assert np.isnan(solution.value[2])
        assert np.isfinite(solution.value[:2]).all()
        np.testing.assert_array_equal(solution.policy[2], [0.5, 0.5])

    @pytest.mark.parametrize("route", ROUTES)
    def test_absorbing_states(self, route: str) -> None:
        mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=0.9)
        solution = solve(REPS(mdp, uniform(mdp), 0.2), ROUTES[route])
        assert solution.status is Status.CERTIFIED
        assert solution.state_distribution[[5, 7, 11, 12, 15]].sum() > 0.2

    @pytest.mark.parametrize("route", ROUTES)
    def test_periodic_chain(self, route: str) -> None:
        P = np.zeros((4, 2, 4))
        P[[0, 1, 2, 3], 0, [1, 2, 3, 0]] = 1.0
        P[[0, 1, 2, 3], 1, [3, 2, 1, 0]] = 1.0
        P[3, 1, 0], P[3, 1, 2] = 0.0, 1.0
        mdp = MDP(P, np.arange(8.0).reshape(4, 2), gamma=1.0)
        solution = solve(REPS(mdp, uniform(mdp), 0.1), ROUTES[route])
        assert solution.status is Status.CERTIFIED
        assert solution.kl == pytest.approx(0.1, abs=1e-6)

    @pytest.mark.parametrize("route", ROUTES)
    def test_multichain_average_reward_is_certified_with_a_warning(self, route: str) -> None:
        P = np.kron(np.eye(2), np.ones((2, 2)) / 2).reshape(4, 1, 4).repeat(2, axis=1)
        mdp = MDP(P, [[0, 1], [1, 0], [2, 3], [0, 1]], gamma=1.0)
        with pytest.warns(UserWarning, match="multichain"):
            solution = solve(REPS(mdp, uniform(mdp), 0.2), ROUTES[route])
        assert solution.status is Status.CERTIFIED
        assert solution.state_distribution[2:].sum() > 0.5

    @pytest.mark.parametrize("gamma", [0.999, 0.99999])
    def test_discounts_near_one(self, gamma: float) -> None:
        mdp = garnet(gamma)
        for epsilon in (0.01, 0.5, 3.0):
            solution = solve(REPS(mdp, uniform(mdp), epsilon))
            assert solution.status is Status.CERTIFIED
            assert abs(solution.certificate.gap) <= 1e-8

    def test_linear_program_of_a_multichain_mdp_takes_the_best_component(self) -> None:
        mdp = MDP(np.eye(2)[:, None, :].repeat(2, axis=1), [[1.0, 0.0], [2.0, 3.0]], gamma=1.0)
        with pytest.warns(UserWarning, match="multichain"):
            solution = solve(LinearProgram(mdp))
        assert solution.status is Status.CERTIFIED
        assert solution.objective == pytest.approx(3.0)


@pytest.mark.parametrize("seed", range(40))
def test_metamorphic_properties(seed: int) -> None:
    """Affine rewards, permuted states and actions, a duplicated action: the answer moves along."""
    rng = np.random.default_rng(seed)
    gamma = 0.9 if seed % 2 else 1.0
    mdp = envs.garnet(6, 3, 3, seed=seed, gamma=gamma)
    policy = rng.dirichlet(np.ones(3), 6)
    epsilon = float(10 ** rng.uniform(-3, 0.3))
    base = solve(REPS(mdp, mdp.occupancy(policy), epsilon))
    assert base.status is Status.CERTIFIED

    a, b = rng.uniform(0.1, 10), rng.normal()
    affine = solve(REPS(with_rewards(mdp, a * mdp.rewards + b), mdp.occupancy(policy), epsilon))
    np.testing.assert_allclose(affine.occupancy, base.occupancy, atol=1e-7)
    assert affine.eta == pytest.approx(a * base.eta, rel=1e-6, abs=1e-12)

    states, actions = rng.permutation(6), rng.permutation(3)
    P = mdp.transitions.toarray().reshape(6, 3, 6)
    moved = MDP(P[states][:, actions][:, :, states], mdp.rewards[states][:, actions], gamma, mdp.mu0[states])
    permuted = solve(REPS(moved, moved.occupancy(policy[states][:, actions]), epsilon))
    np.testing.assert_allclose(permuted.occupancy, base.occupancy[states][:, actions], atol=1e-7)

    twice = MDP(np.concatenate([P, P[:, :1]], axis=1), np.hstack([mdp.rewards, mdp.rewards[:, :1]]), gamma, mdp.mu0)
    halves = np.hstack([policy, policy[:, :1]])
    halves[:, [0, 3]] /= 2
    doubled = solve(REPS(twice, twice.occupancy(halves), epsilon))
    merged = doubled.occupancy[:, :3].copy()
    merged[:, 0] += doubled.occupancy[:, 3]
    np.testing.assert_allclose(merged, base.occupancy, atol=1e-7)


@pytest.mark.parametrize("seed", range(100))
def test_random_mdps_against_the_conic_solver(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gamma = [0.5, 0.9, 0.99, 1.0][seed % 4]
    mdp = envs.garnet(int(rng.integers(2, 9)), int(rng.integers(2, 4)), 2, seed=seed, gamma=gamma)
    q = mdp.occupancy(rng.dirichlet(np.ones(mdp.n_actions), mdp.n_states))
    epsilon = float(10 ** rng.uniform(-3, 0.5))
    solution, conic = solve(REPS(mdp, q, epsilon)), solve(REPS(mdp, q, epsilon), CvxpyPrimal())
    assert solution.status is Status.CERTIFIED
    assert abs(solution.certificate.gap) <= 1e-8
    spread = np.ptp(mdp.rewards)
    assert solution.objective >= conic.objective - 1e-9 * spread
    assert conic.status is not Status.CERTIFIED or abs(solution.objective - conic.objective) <= 1e-6 * spread


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("temperature", [0.01, 0.3, 10.0])
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_a_fixed_temperature_is_the_ball_it_reaches(gamma: float, temperature: float, route: str) -> None:
    mdp = garnet(gamma)
    penalised = solve(REPS(mdp, uniform(mdp), temperature=temperature), ROUTES[route])
    assert penalised.status is Status.CERTIFIED
    assert penalised.eta == pytest.approx(temperature)
    ball = solve(REPS(mdp, uniform(mdp), penalised.kl))
    np.testing.assert_allclose(ball.occupancy, penalised.occupancy, atol=max(1e-6, ACCURACY[route]))
    assert penalised.objective == pytest.approx(ball.objective - temperature * ball.kl, abs=1e-6)


class TestFoundByTrying:
    """Inputs that once broke the library, kept."""

    @pytest.mark.parametrize("gamma", [0.9999, 0.999999])
    @pytest.mark.parametrize("seed", range(3))
    def test_shifted_rewards_at_long_horizons(self, gamma: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        mdp = MDP(rng.dirichlet(np.ones(4), (4, 3)), rng.random((4, 3)) + 1e6, gamma)
        for problem in (LinearProgram(mdp), REPS(mdp, uniform(mdp), 5.0), REPS(mdp, uniform(mdp), 0.1)):
            assert solve(problem).status is Status.CERTIFIED

    def test_rewards_that_differ_by_a_billionth_of_their_size(self) -> None:
        P = np.array([[[0.0, 1], [0, 1]], [[1, 0], [1, 0]]])
        mdp = MDP(P, [[1 + 1e-9, 1], [1, 1 + 2e-9]], 1.0)
        assert solve(REPS(mdp, np.ones((2, 2)), math.inf)).status is Status.CERTIFIED

    @pytest.mark.parametrize("divergence", ["chi2", "reverse_kl", ("alpha", 0.5), ("alpha", -1)])
    @pytest.mark.parametrize("least", [1e-30, 1e-100, 1e-200])
    def test_tiny_references_of_f_divergences_are_certified_or_say_so(self, divergence: object, least: float) -> None:
        mdp = MDP(np.full((2, 2, 2), 0.5), [[0, 1], [1, 0.0]], 0.9)
        solution = solve(REPS(mdp, [[1, least], [1, 1]], 0.5, divergence=divergence))  # type: ignore[arg-type]
        assert solution.has_point
        assert solution.status is Status.CERTIFIED or "gap" in solution.message

    def test_an_infinite_radius_is_the_linear_program_for_every_divergence(self) -> None:
        P = np.zeros((3, 2, 3))
        P[:, :, 0] = 1
        mdp = MDP(P, np.arange(6.0).reshape(3, 2), 0.9, [1, 0, 0])
        for divergence in ("kl", "chi2", "reverse_kl", ("alpha", 0.5)):
            solution = solve(REPS(mdp, np.ones((3, 2)), math.inf, divergence=divergence))  # type: ignore[arg-type]
            assert solution.status is Status.CERTIFIED
            assert solution.objective == pytest.approx(1.0)

    def test_couplings_beyond_double_precision_do_not_raise(self) -> None:
        from reps_opt import ConditionalREPS

        mdp = MDP(np.array([[[1, 1e-17]], [[1e-17, 1]]]), [[0.0], [1.0]], 1.0)
        problem = ConditionalREPS(mdp, np.ones((2, 1)), 0.1)
        solution = solve(problem, problem.default_solver())
        assert solution.status is Status.FAILED
        assert "broke down" in solution.message
        assert solve(problem).status is not Status.CERTIFIED

    def test_what_is_not_a_problem_or_a_solver_is_named(self) -> None:
        problem = REPS(envs.two_state(), np.ones((2, 2)), 0.1)
        with pytest.raises(TypeError, match="problem must be"):
            solve("REPS")  # type: ignore[arg-type]
        for solver in (Newton, 3):
            with pytest.raises(TypeError, match="solver must be an instance"):
                solve(problem, solver)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"solver must be a route such as .*'CLARABEL'.*, got 'newton'"):
            solve(problem, "newton")
        assert solve(problem, "clarabel").stats["route"] == "CvxpyPrimal"
        with pytest.raises(TypeError, match="epsilon must be a real number"):
            REPS(envs.two_state(), np.ones((2, 2)), np.array(True))  # type: ignore[arg-type]
