"""The conditional-KL step: against CVXPY, its limits, its one-dimensional dual, and where two components tie."""

import cvxpy as cp
import numpy as np
import pytest

import envs
from reps_opt import MDP, REPS, ConditionalREPS, Status, solve
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, Newton, ScipyDual
from tests.reps_opt.small_mdps import SAME_PROBLEM, by_both, changed, occupancy_set, optimum, random_case

RADII = [0.01, 0.1, 0.5, 1.0]


def conditional_of(occupancy):
    return occupancy / occupancy.sum(axis=1, keepdims=True)


def divergence(case, x):
    """Conditional KL in CVXPY, straight from its definition."""
    mass = np.kron(np.eye(case.mdp.n_states), np.ones((case.mdp.n_actions, case.mdp.n_actions)))
    return cp.sum(cp.rel_entr(x, cp.multiply(conditional_of(case.reference).ravel(), mass @ x)))


@pytest.mark.parametrize("part", range(4))
def test_a_hundred_random_problems_agree_with_cvxpy(part):
    for seed in range(25 * part, 25 * (part + 1)):
        case = random_case(seed)
        epsilon = RADII[(seed // 2) % 4]
        solution = solve(ConditionalREPS(case.mdp, case.reference, epsilon))
        x, flow = occupancy_set(case.mdp)
        ball = divergence(case, x) <= epsilon
        best = optimum(cp.Maximize(case.mdp.rewards.ravel() @ x), [*flow, ball])
        assert solution.certificate.ok(1e-8), (seed, solution)
        assert solution.objective == pytest.approx(best, abs=2e-7), seed
        assert solution.eta == pytest.approx(max(float(np.squeeze(ball.dual_value)), 0), abs=2e-4), seed


@pytest.mark.parametrize("part", range(2))
def test_a_fixed_temperature_agrees_with_cvxpy(part):
    for seed in range(15 * part, 15 * (part + 1)):
        case = random_case(seed)
        temperature = [0.02, 0.3, 3.0][seed % 3]
        solution = solve(ConditionalREPS(case.mdp, case.reference, temperature=temperature))
        x, flow = occupancy_set(case.mdp)
        objective = case.mdp.rewards.ravel() @ x - temperature * divergence(case, x)
        assert solution.certificate.ok(1e-8), (seed, solution)
        assert solution.objective == pytest.approx(optimum(cp.Maximize(objective), flow), abs=2e-7)
        assert solution.eta == pytest.approx(temperature, rel=1e-14)


@pytest.mark.parametrize("route", [CvxpyPrimal(), CvxpyDual()], ids=["primal", "dual"])
def test_the_explicit_routes_certify(route):
    for seed in range(4):
        case = random_case(seed)
        problem = ConditionalREPS(case.mdp, case.reference, 0.2)
        reference, solution = by_both(problem, route)
        np.testing.assert_allclose(solution.value, reference.value, atol=5e-3)


def test_the_value_solves_the_soft_bellman_equation():
    case = random_case(2)
    solution = solve(ConditionalREPS(case.mdp, case.reference, 0.3))
    action_value = case.mdp.rewards + case.mdp.gamma * (case.mdp.transitions @ solution.value).reshape(4, 3)
    weight = conditional_of(case.reference) * np.exp(action_value / solution.eta)
    np.testing.assert_allclose(solution.value, solution.eta * np.log(weight.sum(axis=1)), atol=1e-9)
    np.testing.assert_allclose(solution.policy, weight / weight.sum(axis=1, keepdims=True), atol=1e-9)


def test_multipliers_are_derivatives_of_the_optimum():
    case, h = random_case(4), 1e-5

    def value(mdp=case.mdp, epsilon=0.2):
        return solve(ConditionalREPS(mdp, conditional_of(case.reference), epsilon)).objective

    solution = solve(ConditionalREPS(case.mdp, conditional_of(case.reference), 0.2))
    assert (value(epsilon=0.2 + h) - value(epsilon=0.2 - h)) / (2 * h) == pytest.approx(solution.eta, rel=1e-6)
    move = case.rng.normal(size=(4, 3))
    ahead, behind = (value(changed(case.mdp, r=case.mdp.rewards + s * h * move)) for s in (1, -1))
    assert (ahead - behind) / (2 * h) == pytest.approx(np.sum(solution.occupancy * move), rel=1e-6)
    start = np.array([1.0, -1.0, 0.0, 0.0])
    ahead, behind = (value(changed(case.mdp, mu0=case.mdp.mu0 + s * h * start)) for s in (1, -1))
    expected = (1 - case.mdp.gamma) * (solution.value @ start)
    assert (ahead - behind) / (2 * h) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_limits_are_the_reference_policy_and_the_linear_program(seed):
    case = random_case(seed)
    still = solve(ConditionalREPS(case.mdp, case.reference, 0.0))
    assert still.certificate.ok(1e-8)
    np.testing.assert_allclose(still.policy, conditional_of(case.reference), atol=1e-12)
    best = solve(ConditionalREPS(case.mdp, case.reference, np.inf))
    assert best.eta == 0
    assert best.objective == pytest.approx(case.mdp.solve_optimal().gain @ case.mdp.mu0, abs=1e-9)
    slack = solve(ConditionalREPS(case.mdp, case.reference, best.kl + 1e-3))
    assert slack.eta == 0
    assert slack.certificate.ok(1e-8)
    binding = solve(ConditionalREPS(case.mdp, case.reference, best.kl - 1e-3))
    assert binding.eta > 0
    assert binding.certificate.ok(1e-8)


@pytest.mark.parametrize("seed", [4, 5])
def test_the_ball_holds_more_than_that_of_the_joint_kl(seed):
    case = random_case(seed)
    joint, conditional = (
        solve(REPS(case.mdp, case.reference, 0.1)),
        solve(ConditionalREPS(case.mdp, case.reference, 0.1)),
    )
    assert conditional.objective > joint.objective
    mu, mu_q = joint.state_distribution, case.reference.sum(axis=1)
    ratio = conditional_of(joint.occupancy) / conditional_of(case.reference)
    chain = np.sum(mu * np.log(mu / mu_q)) + np.sum(joint.occupancy * np.log(ratio))
    assert chain == pytest.approx(joint.kl, abs=1e-10)


@pytest.mark.parametrize("seed", [8, 9])
def test_rewards_in_other_units_scale_eta(seed):
    case = random_case(seed)
    solution = solve(ConditionalREPS(case.mdp, case.reference, 0.3))
    other = solve(ConditionalREPS(changed(case.mdp, r=1e5 * case.mdp.rewards - 3e6), case.reference, 0.3))
    assert other.eta == pytest.approx(1e5 * solution.eta, rel=1e-8)
    np.testing.assert_allclose(other.policy, solution.policy, atol=1e-8)


@pytest.mark.parametrize("same", SAME_PROBLEM)
@pytest.mark.parametrize("seed", [10, 11])
def test_the_same_problem_in_other_words_has_the_same_answer(seed, same):
    case = random_case(seed)
    other = SAME_PROBLEM[same](case)
    a = solve(ConditionalREPS(case.mdp, case.reference, 0.2))
    b = solve(ConditionalREPS(other.mdp, other.reference, 0.2))
    assert b.objective == pytest.approx(a.objective, abs=1e-9)
    assert b.eta == pytest.approx(a.eta, rel=1e-7)


@pytest.mark.filterwarnings("ignore:the MDP is multichain")
def test_components_that_tie_are_mixed_to_meet_the_ball():
    # two rooms without a door: room 0 pays .62 whatever is done, room 1 pays 1 for the rarer action
    P = np.zeros((2, 2, 2))
    P[0, :, 0] = P[1, :, 1] = 1.0
    mdp = MDP(P, [[0.62, 0.62], [0.0, 1.0]], gamma=1.0)
    policy = np.array([[0.5, 0.5], [0.5, 0.5]])
    for epsilon in (0.005, 0.02, 0.2):
        solution = solve(ConditionalREPS(mdp, policy, epsilon))
        x, flow = occupancy_set(mdp)
        ball = cp.sum(cp.rel_entr(x, 0.5 * np.kron(np.eye(2), np.ones((2, 2))) @ x)) <= epsilon
        best = optimum(cp.Maximize(mdp.rewards.ravel() @ x), [*flow, ball])
        assert solution.objective == pytest.approx(best, abs=1e-6)
        assert solution.status is Status.CERTIFIED, solution


def test_a_reference_policy_that_leaves_its_support_is_projected():
    # action 1 of state 0 leads to state 1, about which the reference says nothing
    P = np.zeros((2, 2, 2))
    P[0, 0, 0] = P[0, 1, 1] = P[1, 0, 0] = P[1, 1, 0] = 1.0
    mdp = MDP(P, [[0.0, 1.0], [0.0, 0.0]], gamma=0.9, mu0=[1, 0])
    problem = ConditionalREPS(mdp, [[0.25, 0.75], [0.0, 0.0]], 2.0)
    assert problem.epsilon_min == pytest.approx(np.log(4))
    assert solve(problem).status is Status.CERTIFIED
    assert solve(ConditionalREPS(mdp, [[0.25, 0.75], [0.0, 0.0]], 1.0)).status is Status.INFEASIBLE


def test_large_grids_are_solved_by_iteration():
    mdp = envs.gridworld((50, 50), slip=0.2)
    solution = solve(ConditionalREPS(mdp, mdp.uniform_policy(), 0.5))
    assert solution.certificate.ok(1e-8), solution
    assert solution.kl == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("route", [Newton(), ScipyDual()], ids=["newton", "scipy"])
def test_routes_that_need_a_smooth_dual_say_so(route):
    case = random_case(0)
    with pytest.raises(ValueError, match="use SoftBellman"):
        solve(ConditionalREPS(case.mdp, case.reference, 0.1), route)
