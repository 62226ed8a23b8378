"""Finite-horizon REPS: every ball against CVXPY, its dual against finite differences, and what must not matter."""

from __future__ import annotations

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.special import logsumexp

import envs
from reps_opt import MDP, REPS, FiniteHorizonREPS, solve, surrogate_step
from reps_opt.processes.time_indexed import backward_induction, bellman_error, evaluate, flow_residual, occupancy_of
from reps_opt.solution import Status
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, Newton, ScipyDual, SoftBellman
from reps_opt.solvers.path import layered_rows
from reps_opt.systems.base import DenseEquations
from reps_opt.systems.blocks import BlockEquations
from reps_opt.tolerances import DENSE_ROWS

BALLS = ("shared", "per_step", "trajectory")


def random_problem(seed: int, ball: str, epsilon: float | None = None, horizon: int | None = None) -> FiniteHorizonREPS:
    """A small random MDP, policy and radius; some transitions, actions and start states are left out."""
    rng = np.random.default_rng(seed)
    S, A = int(rng.integers(2, 6)), int(rng.integers(2, 4))
    T = int(rng.integers(1, 6)) if horizon is None else horizon
    P = rng.dirichlet(np.full(S, 0.5), size=(S, A))
    mdp = MDP(P, rng.standard_normal((S, A)), gamma=rng.choice([1.0, 0.9]), mu0=rng.dirichlet(np.full(S, 0.5)))
    policy = rng.dirichlet(np.ones(A), size=(T, S))
    if seed % 4 == 0:
        policy[:, 0] = np.eye(A)[0]
    radius = float(10 ** rng.uniform(-2.5, 0.5))
    return FiniteHorizonREPS(mdp, policy, T, radius if epsilon is None else epsilon, ball)


def conic_optimum(problem: FiniteHorizonREPS) -> float:
    posed = problem.to_cvxpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Clarabel may call its last digits inaccurate
        posed.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return float(posed.value)


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("first", range(0, 100, 20))
def test_random_problems_are_certified_and_agree_with_cvxpy(ball: str, first: int) -> None:
    for seed in range(first, first + 20):
        problem = random_problem(seed, ball)
        solution = solve(problem)
        assert solution.status is Status.CERTIFIED, (seed, solution)
        assert abs(solution.certificate.gap) <= 1e-8, seed
        unit = problem.horizon * np.ptp(problem.rewards[problem.flow.kept])
        assert abs(solution.objective - conic_optimum(problem)) <= 1e-7 * unit, seed
        np.testing.assert_allclose(solution.occupancy, occupancy_of(problem.mdp, solution.policy), atol=1e-12)
        assert np.abs(flow_residual(problem.mdp, solution.occupancy)).sum() <= 1e-12


@pytest.mark.parametrize("ball", BALLS)
def test_eta_is_the_derivative_of_the_optimum_in_the_radius(ball: str) -> None:
    for seed in range(1, 9):
        problem = random_problem(seed, ball, 0.1, horizon=3)
        solution = solve(problem)
        etas = np.atleast_1d(solution.eta)
        for k in range(etas.size):
            step = 1e-4 * np.eye(etas.size)[k]
            radii = [0.1 + sign * step if etas.size > 1 else float(0.1 + sign * step[0]) for sign in (1, -1)]
            up, down = (
                solve(FiniteHorizonREPS(problem.mdp, problem.reference_policy, 3, radius, ball)).objective
                for radius in radii
            )
            assert (up - down) / 2e-4 == pytest.approx(etas[k], rel=1e-4, abs=1e-4)


def test_per_step_dual_derivatives_by_finite_differences() -> None:
    rng = np.random.default_rng(0)
    program = random_problem(3, "per_step", 0.2, horizon=4).normalised[0]
    eta, v = rng.uniform(0.2, 1.0, 4), rng.standard_normal(program.rhs.size)
    at, h = program.joint_dual(eta, v), 1e-6
    for k, e in enumerate(np.eye(4)):
        slope = (program.bound(eta + h * e, v) - program.bound(eta - h * e, v)) / (2 * h)
        assert slope == pytest.approx(program.radii[k] - at.divergences[k], abs=1e-8)
    for k, e in enumerate(np.eye(v.size)):
        slope = (program.bound(eta, v + h * e) - program.bound(eta, v - h * e)) / (2 * h)
        assert slope == pytest.approx(at.residual[k], abs=1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_the_trajectory_ball_is_one_soft_backup_for_its_eta(seed: int) -> None:
    problem = random_problem(seed, "trajectory", 0.1, horizon=4)
    solution = solve(problem)
    mdp, eta = problem.mdp, solution.eta
    if eta == 0:
        return
    with np.errstate(divide="ignore"):
        log_policy = np.log(problem.policy)
    values = backward_induction(mdp, problem.rewards, lambda t, q: eta * logsumexp(log_policy[t] + q / eta, axis=1))
    assert solution.dual_objective == pytest.approx(eta * 0.1 + mdp.mu0 @ values[0], rel=1e-9, abs=1e-10)
    reached = np.isfinite(solution.value)
    np.testing.assert_allclose(solution.value[reached], values[reached], atol=1e-8)


@pytest.mark.parametrize("ball", BALLS)
def test_the_new_policy_is_the_exponential_of_the_bellman_error(ball: str) -> None:
    for seed in (1, 2, 3, 5):
        problem = random_problem(seed, ball, 0.05, horizon=3)
        solution = solve(problem)
        temperature = np.reshape(solution.temperature, (-1, 1, 1))
        with np.errstate(invalid="ignore"):
            weight = np.where(problem.flow.kept, np.exp(solution.bellman_error / temperature), 0.0)
        q = problem.reference_policy if ball == "trajectory" else problem.reference
        p = solution.policy if ball == "trajectory" else solution.occupancy
        kept = problem.flow.kept
        np.testing.assert_allclose(p[kept], (q * weight)[kept], rtol=1e-5, atol=1e-9)


def test_balls_are_nested_at_equal_radius() -> None:
    for seed in range(30):
        objectives = [solve(random_problem(seed, ball)).objective for ball in ("trajectory", "per_step", "shared")]
        assert objectives[0] <= objectives[1] + 1e-7
        assert objectives[1] <= objectives[2] + 1e-7


def test_trajectory_kl_is_that_of_the_path_distributions() -> None:
    problem = random_problem(6, "trajectory", 0.3, horizon=3)
    solution, mdp = solve(problem), problem.mdp
    P = mdp.transitions.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)

    def paths(policy: np.ndarray) -> np.ndarray:
        last = policy[2]
        first = np.einsum("s,sa,sau->sau", mdp.mu0, policy[0], P)
        return np.einsum("sau,ub,ubw,wc->saubwc", first, policy[1], P, last)

    p, q = paths(solution.policy), paths(problem.reference_policy)
    assert p[p > 0] @ np.log(p[p > 0] / q[p > 0]) == pytest.approx(0.3, abs=1e-10)


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("penalty", [-1e6, -1e10, -1e15])
@pytest.mark.parametrize("radius", [0.8, 2.0])
def test_actions_that_cost_any_amount_are_as_good_as_forbidden(ball: str, penalty: float, radius: float) -> None:
    P = np.eye(2)[[[0, 1, 0], [0, 1, 1]]]
    epsilon = radius * (3 if ball == "trajectory" else 1)

    def problem(cost: float) -> FiniteHorizonREPS:
        mdp = MDP(P, [[0.0, 1.0, cost], [2.0, 0.0, cost]], gamma=0.9, mu0=[1.0, 0.0])
        return FiniteHorizonREPS(mdp, mdp.uniform_policy(), 3, epsilon, ball)

    free = problem(0.0)
    posed = free.to_cvxpy()
    (x,) = posed.variables()
    costly = np.flatnonzero(free.flow.pairs % 3 == 2)
    forbidden = type(posed)(posed.objective, [*posed.constraints, x[costly] == 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Clarabel may call its last digits inaccurate
        forbidden.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    solution = solve(problem(penalty))
    assert solution.status is Status.CERTIFIED
    assert solution.objective == pytest.approx(forbidden.value, abs=2e-6)


def test_one_step_from_one_state_is_a_bandit() -> None:
    rewards, q = np.array([[0.0, 1.0, 3.0]]), np.array([[0.2, 0.5, 0.3]])
    mdp = MDP(np.ones((1, 3, 1)), rewards, gamma=1.0)
    for ball in BALLS:
        solution = solve(FiniteHorizonREPS(mdp, q, 1, 0.2, ball))
        log_weight = np.log(q[0]) + rewards[0] / np.squeeze(solution.eta)
        np.testing.assert_allclose(solution.policy[0, 0], np.exp(log_weight - logsumexp(log_weight)), rtol=1e-6)
        assert solution.kl == pytest.approx(0.2, abs=1e-7)


@pytest.mark.parametrize("ball", BALLS)
def test_reward_scale_and_shift(ball: str) -> None:
    problem = random_problem(7, ball, 0.1, horizon=4)
    mdp = MDP(problem.mdp.transitions, 1e-6 * problem.mdp.rewards + 5.0, 1.0, problem.mdp.mu0)
    plain = MDP(problem.mdp.transitions, problem.mdp.rewards, 1.0, problem.mdp.mu0)
    a = solve(FiniteHorizonREPS(plain, problem.reference_policy, 4, 0.1, ball))
    b = solve(FiniteHorizonREPS(mdp, problem.reference_policy, 4, 0.1, ball))
    np.testing.assert_allclose(b.policy, a.policy, atol=1e-6)
    np.testing.assert_allclose(b.eta, 1e-6 * np.asarray(a.eta), rtol=1e-6)
    np.testing.assert_allclose(b.value - 5.0 * np.arange(4, 0, -1)[:, None], 1e-6 * a.value, atol=1e-12)


@pytest.mark.parametrize("ball", BALLS)
def test_permuted_states_and_a_duplicated_action(ball: str) -> None:
    problem = random_problem(5, ball, 0.1, horizon=3)
    mdp, policy = problem.mdp, problem.reference_policy
    a = solve(problem)
    P = mdp.transitions.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)
    order = np.random.default_rng(0).permutation(mdp.n_states)
    permuted = MDP(P[order][:, :, order], mdp.rewards[order], mdp.gamma, mdp.mu0[order])
    b = solve(FiniteHorizonREPS(permuted, policy[:, order], 3, 0.1, ball))
    np.testing.assert_allclose(b.policy, a.policy[:, order], atol=1e-6)
    doubled = MDP(
        np.concatenate([P, P[:, :1]], axis=1), np.hstack([mdp.rewards, mdp.rewards[:, :1]]), mdp.gamma, mdp.mu0
    )
    shared = np.concatenate([policy, 0.25 * policy[:, :, :1]], axis=2)
    shared[:, :, 0] *= 0.75
    c = solve(FiniteHorizonREPS(doubled, shared, 3, 0.1, ball))
    assert c.objective == pytest.approx(a.objective, abs=1e-7)
    np.testing.assert_allclose(c.policy[:, :, 0] + c.policy[:, :, -1], a.policy[:, :, 0], atol=1e-6)


@pytest.mark.parametrize("ball", BALLS)
def test_a_split_state_changes_nothing(ball: str) -> None:
    problem = random_problem(9, ball, 0.1, horizon=3)
    mdp, policy = problem.mdp, problem.reference_policy
    P = mdp.transitions.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)
    rows = np.append(np.arange(mdp.n_states), 0)  # state 0 and its twin take .3 and .7 of what arrives
    split = P[rows][:, :, rows].copy()
    split[:, :, 0] *= 0.3
    split[:, :, -1] *= 0.7
    mu0 = mdp.mu0[rows] * np.where(rows == 0, [0.3] + [1.0] * (mdp.n_states - 1) + [0.7], 1.0)
    twin = MDP(split, mdp.rewards[rows], mdp.gamma, mu0)
    a, b = solve(problem), solve(FiniteHorizonREPS(twin, policy[:, rows], 3, 0.1, ball))
    assert b.objective == pytest.approx(a.objective, abs=1e-7)
    np.testing.assert_allclose(b.policy[:, : mdp.n_states], a.policy, atol=1e-6)
    np.testing.assert_allclose(b.policy[:, -1], a.policy[:, 0], atol=1e-6)


@pytest.mark.parametrize("ball", BALLS)
def test_extreme_radii(ball: str) -> None:
    problem = random_problem(2, ball, 0.0, horizon=4)
    solution = solve(problem)
    assert solution.status is Status.CERTIFIED
    np.testing.assert_allclose(solution.policy, problem.reference_policy, atol=1e-12)
    best = backward_induction(problem.mdp, problem.rewards, lambda t, action_values: action_values.max(axis=1))
    for epsilon in (50.0, np.inf):
        solution = solve(random_problem(2, ball, epsilon, horizon=4))
        assert solution.status is Status.CERTIFIED
        assert np.all(solution.eta == 0)
        assert solution.objective == pytest.approx(problem.mdp.mu0 @ best[0], abs=1e-9)
    tiny = solve(random_problem(2, ball, 1e-10, horizon=4))
    assert tiny.status is Status.CERTIFIED
    assert tiny.objective > problem.reference_return


@pytest.mark.parametrize("ball", BALLS)
def test_gymnasium_tables_from_tiny_to_slack(ball: str) -> None:
    for name in ("FrozenLake-v1", "CliffWalking-v1"):
        mdp = MDP.from_gymnasium(name, gamma=1.0, on_done="absorb")
        for epsilon in (1e-6, 0.1, 3.0):
            solution = solve(FiniteHorizonREPS(mdp, mdp.uniform_policy(), 10, epsilon, ball))
            assert solution.status is Status.CERTIFIED, (name, epsilon)
            assert solution.certificate.gap <= 1e-7
            assert np.isnan(solution.value[0]).sum() == (0 if ball == "trajectory" else mdp.n_states - 1)


@pytest.mark.parametrize("epsilon", [1.0, 3.0])
def test_balls_that_are_slack_in_some_steps_lose_no_accuracy_to_rounding(epsilon: float) -> None:
    mdp = MDP.from_gymnasium("CliffWalking-v1", gamma=1.0, on_done="absorb")
    solution = solve(FiniteHorizonREPS(mdp, mdp.uniform_policy(), 20, epsilon, "per_step"))
    assert (solution.eta < 1e-5).any()
    assert (solution.eta > 1e-2).any()
    assert solution.certificate.gap <= 1e-7


def test_rewards_are_discounted_from_the_first_step() -> None:
    mdp = MDP(np.ones((1, 2, 1)), [[1.0, 3.0]], gamma=0.5)
    uniform, best = (solve(FiniteHorizonREPS(mdp, [[0.5, 0.5]], 3, epsilon)) for epsilon in (0.0, np.inf))
    assert uniform.objective == pytest.approx(2 * 1.75)
    assert best.objective == pytest.approx(3 * 1.75)
    np.testing.assert_allclose(best.value[:, 0], [5.25, 2.25, 0.75])


def test_constant_rewards_keep_the_reference() -> None:
    mdp = envs.garnet(4, 2, 2, seed=0, gamma=1.0)
    flat = MDP(mdp.transitions, np.full((4, 2), 3.0), gamma=1.0)
    for ball in BALLS:
        solution = solve(FiniteHorizonREPS(flat, flat.uniform_policy(), 3, 0.1, ball))
        assert solution.status is Status.CERTIFIED
        assert solution.objective == pytest.approx(9.0)
        np.testing.assert_allclose(solution.policy, 0.5)


def test_radii_that_differ_by_step() -> None:
    base = random_problem(1, "per_step", 0.1, horizon=3)
    radii = np.array([0.3, 0.02, np.inf])
    problem = FiniteHorizonREPS(base.mdp, base.reference_policy, 3, radii, "per_step")
    solution = solve(problem)
    assert solution.status is Status.CERTIFIED
    assert (solution.divergences <= radii + 1e-9).all()
    assert abs(solution.objective - conic_optimum(problem)) <= 1e-7 * 3 * np.ptp(problem.rewards[problem.flow.kept])


@pytest.mark.parametrize("route", [CvxpyPrimal(), CvxpyDual(), ScipyDual()])
def test_the_shared_ball_takes_every_route(route: object) -> None:
    problem = random_problem(3, "shared", 0.2, horizon=4)
    a, b = solve(problem), solve(problem, route)
    assert b.status is Status.CERTIFIED
    assert b.objective == pytest.approx(a.objective, abs=1e-6)
    np.testing.assert_allclose(b.value, a.value, atol=1e-3)


def test_other_balls_say_which_route_they_take() -> None:
    with pytest.raises(ValueError, match="several balls"):
        solve(random_problem(1, "per_step"), SoftBellman())
    with pytest.raises(ValueError, match="not smooth"):
        solve(random_problem(1, "trajectory"), Newton())
    for ball in BALLS:
        explicit = solve(random_problem(1, ball), CvxpyPrimal())
        assert explicit.status is Status.CERTIFIED
        assert explicit.objective == pytest.approx(solve(random_problem(1, ball)).objective, abs=1e-6)


def test_an_unfinished_search_is_never_called_certified() -> None:
    solution = solve(random_problem(3, "per_step", 0.3, horizon=4), Newton(max_iterations=1))
    assert solution.status is Status.UNCERTIFIED
    assert "duality gap" in solution.message
    assert solution.objective <= solution.dual_objective


def test_shared_ball_is_average_reward_reps_on_a_layered_mdp() -> None:
    layered = envs.layered(seed=3)
    rng = np.random.default_rng(0)
    mdp = MDP(layered.mdp.transitions, rng.random((10, 2)), 1.0, layered.mdp.mu0)
    a = solve(FiniteHorizonREPS(mdp, mdp.uniform_policy(), 4, 0.1))
    b = solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.1))
    assert a.objective == pytest.approx(4 * b.objective, rel=1e-9)
    assert a.eta == pytest.approx(4 * b.eta, rel=1e-7)
    np.testing.assert_allclose(a.occupancy.sum(axis=0), 4 * b.occupancy, atol=1e-8)


def test_surrogate_step_is_a_softmax_of_the_old_advantages() -> None:
    for seed in range(100):
        problem = random_problem(seed, "shared")
        step = surrogate_step(problem)
        T, epsilon, q = problem.horizon, problem.epsilon, problem.reference
        assert abs(step.gap) <= 1e-8, seed
        assert step.policy_kl <= epsilon + 1e-9
        values = evaluate(problem.mdp, problem.rewards, problem.reference_policy)
        advantage = bellman_error(problem.mdp, problem.rewards, values)
        old = q.sum(axis=2, keepdims=True)
        assert step.predicted_gain == pytest.approx((old * step.policy * advantage).sum(), abs=1e-10)
        if step.eta > 0:
            weight = problem.reference_policy * np.exp(T * advantage / step.eta)
            softmax = weight / weight.sum(axis=2, keepdims=True)
            np.testing.assert_allclose((old * step.policy), (old * softmax), atol=1e-7)
            assert step.policy_kl == pytest.approx(epsilon, abs=1e-8)
        else:
            best = np.where(problem.reference_policy > 0, advantage, -np.inf).max(axis=2, keepdims=True)
            assert step.predicted_gain == pytest.approx((old * best).sum(), abs=1e-9)


def test_surrogate_step_asks_for_the_shared_ball() -> None:
    with pytest.raises(ValueError, match="must have the shared ball"):
        surrogate_step(random_problem(1, "per_step"))


def test_evaluation_against_monte_carlo_free_recursion() -> None:
    problem = random_problem(8, "shared", horizon=5)
    values = evaluate(problem.mdp, problem.rewards, problem.reference_policy)
    assert problem.mdp.mu0 @ values[0] == pytest.approx(problem.reference_return, abs=1e-12)


def test_bad_input_is_named() -> None:
    mdp = envs.two_state()
    uniform = mdp.uniform_policy()
    with pytest.raises(ValueError, match="ball must be one of"):
        FiniteHorizonREPS(mdp, uniform, 3, 0.1, "both")
    with pytest.raises(ValueError, match="horizon must be >= 1"):
        FiniteHorizonREPS(mdp, uniform, 0)
    with pytest.raises(ValueError, match="epsilon must be >= 0"):
        FiniteHorizonREPS(mdp, uniform, 3, -0.1)
    with pytest.raises(ValueError, match=r"epsilon\[1\] must be >= 0, got nan"):
        FiniteHorizonREPS(mdp, uniform, 2, [0.1, np.nan], "per_step")
    with pytest.raises(ValueError, match=r"epsilon\[1\] is zero"):
        FiniteHorizonREPS(mdp, uniform, 2, [0.1, 0.0], "per_step")
    with pytest.raises(TypeError, match="epsilon must be a real number"):
        FiniteHorizonREPS(mdp, uniform, 2, [0.1, 0.2], "shared")
    with pytest.raises(ValueError, match=r"policy must have shape \(3, 2, 2\), got \(2, 2, 2\)"):
        FiniteHorizonREPS(mdp, np.tile(uniform, (2, 1, 1)), 3)
    with pytest.raises(ValueError, match=r"policy row 0 must sum to one, got 1\.1"):
        FiniteHorizonREPS(mdp, [[0.5, 0.6], [0.5, 0.5]], 3)


def test_a_deterministic_reference_leaves_no_choice() -> None:
    mdp = envs.riverswim()
    for ball in BALLS:
        solution = solve(FiniteHorizonREPS(mdp, np.zeros(mdp.n_states, dtype=int), 5, 1.0, ball))
        assert solution.status is Status.CERTIFIED
        assert solution.objective == pytest.approx(solution.problem.reference_return, abs=1e-12)


def test_float32_and_read_only_references_are_taken_as_they_are() -> None:
    mdp = envs.garnet(4, 2, 2, seed=0)
    table = np.tile(np.array([0.25, 0.75], dtype=np.float32), (3, 4, 1))
    table.flags.writeable = False
    a, b = (solve(FiniteHorizonREPS(mdp, q, 3, 0.1)) for q in (table, table.astype(float)))
    np.testing.assert_array_equal(a.policy, b.policy)


def test_many_rows_are_factored_in_blocks() -> None:
    mdp = envs.garnet(60, 3, 4, seed=0, gamma=1.0)
    problem = FiniteHorizonREPS(mdp, mdp.uniform_policy(), 10, 0.1, "per_step")
    program = problem.normalised[0]
    assert program.rhs.size > DENSE_ROWS
    starts = layered_rows(program)
    assert starts is not None
    single = program.with_ball(program.balls[0])
    dense, blocks = DenseEquations(single), BlockEquations(single, starts)
    rng = np.random.default_rng(0)
    weights, rhs = rng.random(program.objective.size), rng.standard_normal((program.rhs.size, 3))
    for equations in (dense, blocks):
        equations.update(weights, np.ones(rhs.shape[0], dtype=bool))
    expected = np.column_stack([dense.solve(column) for column in rhs.T])
    np.testing.assert_allclose(blocks.solve(rhs), expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(blocks.solve(rhs[:, 0]), expected[:, 0], rtol=1e-8, atol=1e-8)
    solution = solve(problem)
    assert solution.status is Status.CERTIFIED
    assert solution.certificate.gap <= 1e-8


@pytest.mark.parametrize("ball", BALLS)
def test_summary_figure_and_xarray(ball: str) -> None:
    figure = solve(random_problem(3, ball, 0.2, horizon=4)).plot()
    assert len(figure.axes) >= 5
    plt.close(figure)
    solution = solve(random_problem(3, "per_step", 0.2, horizon=4))
    assert "per_step epsilon=0.2" in str(solution)
    data = solution.to_xarray()
    assert data.policy.dims == ("time", "state", "action")
    assert data.attrs["ball"] == "per_step"
