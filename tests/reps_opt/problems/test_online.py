"""O-REPS: each step against two independent answers, its dual, the sampler, hindsight and the bounds."""

from __future__ import annotations

import itertools
import warnings

import cvxpy as cp
import numpy as np
import pytest

import envs
from reps_opt import MDP, REPS, ORePS, solve
from reps_opt.problems.online import TrajectorySampler
from reps_opt.processes.time_indexed import bellman_error as time_indexed_bellman_error
from reps_opt.processes.time_indexed import flow_residual, occupancy_of
from reps_opt.solution import Status
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, Newton, ScipyDual
from reps_opt.solvers.answer import Solver


def learner(seed: int, layers: tuple[int, ...] = (1, 3, 3, 3), n_actions: int = 2, **options: object) -> ORePS:
    problem = envs.layered(layers, n_actions, seed=seed)
    return ORePS(problem.mdp, problem.n_layers, **{"n_episodes": 100, **options})


def random_occupancy(problem: ORePS, rng: np.random.Generator) -> np.ndarray:
    """Occupancy (L, S, A) of a random policy, over the pairs that can be visited."""
    L, S, A = problem.flow.shape
    return problem.flow.kept * occupancy_of(problem.mdp, rng.dirichlet(np.ones(A), size=(L, S)))


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_steps_agree_with_cvxpy(first: int) -> None:
    for seed in range(first, first + 25):
        rng = np.random.default_rng(seed)
        layers = (1, *rng.integers(1, 4, size=rng.integers(1, 4)))
        problem = learner(seed, layers, int(rng.integers(2, 4)), learning_rate=1.0)
        q, losses = random_occupancy(problem, rng), 3.0 * rng.random(problem.flow.shape)
        step = solve(problem.step(losses, q))
        flow, w, loss = problem.flow, problem.flow.pick(q), problem.flow.pick(losses)
        x = flow.pick(step.occupancy)
        p = cp.Variable(w.size, nonneg=True)
        posed = cp.Problem(cp.Maximize(-p @ loss - cp.sum(cp.rel_entr(p, w))), [flow.matrix @ p == flow.rhs])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            posed.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
        assert -x @ loss - x @ np.log(x / w) == pytest.approx(posed.value, abs=1e-8)
        np.testing.assert_allclose(x, p.value, atol=1e-4)
        np.testing.assert_allclose(step.log_occupancy, np.log(x), atol=1e-13)
        assert step.status is Status.CERTIFIED
        assert step.dual_objective - step.objective <= 1e-12
        assert np.abs(flow_residual(problem.mdp, step.occupancy)).sum() <= 1e-13


def test_a_step_is_reps_in_penalty_form() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        rate = float(rng.uniform(0.1, 2.0))
        problem = learner(seed, learning_rate=rate)
        loss, q = rng.random((10, 2)), random_occupancy(problem, rng)
        step = solve(problem.step(loss, q))
        mdp = MDP(problem.mdp.transitions, -loss, 1.0, problem.mdp.mu0)
        reps = solve(REPS(mdp, q.sum(axis=0), temperature=1 / rate))
        np.testing.assert_allclose(step.occupancy.sum(axis=0), 4 * reps.occupancy, atol=1e-9)


@pytest.mark.parametrize("solver", [Newton(), ScipyDual(), CvxpyPrimal(), CvxpyDual()], ids=lambda s: type(s).__name__)
def test_every_route_takes_a_step(solver: Solver) -> None:
    rng = np.random.default_rng(3)
    problem = learner(3)
    step = problem.step(rng.random((10, 2)), random_occupancy(problem, rng))
    fast, other = solve(step), solve(step, solver)
    assert fast.stats["route"] == "DensePenalty"
    assert other.status is Status.CERTIFIED
    assert other.objective == pytest.approx(fast.objective, abs=1e-7)
    np.testing.assert_allclose(other.occupancy, fast.occupancy, atol=1e-3)
    np.testing.assert_allclose(fast.policy.sum(axis=2), 1.0)


def test_a_large_step_goes_to_the_sparse_route() -> None:
    mdp = envs.garnet(150, 2, 3, seed=0)
    solution = solve(ORePS(mdp, 4, 10).step(np.random.default_rng(0).random((150, 2))))
    assert solution.stats["route"] == "Newton"
    assert solution.status is Status.CERTIFIED


def test_the_new_occupancy_is_the_exponential_of_the_bellman_error() -> None:
    rng = np.random.default_rng(1)
    problem = learner(0)
    losses, q = rng.random((10, 2)), random_occupancy(problem, rng)
    step = solve(problem.step(losses, q))
    value = np.where(np.isnan(step.value), 0.0, step.value)
    error = time_indexed_bellman_error(problem.mdp, np.broadcast_to(-losses, problem.flow.shape), value)
    weight = q * np.exp(problem.learning_rate * error)
    np.testing.assert_allclose(step.occupancy, weight / weight.sum(axis=(1, 2), keepdims=True), atol=1e-9)


def test_dual_gradient_by_finite_differences() -> None:
    rng = np.random.default_rng(1)
    problem = learner(0)
    program = problem.step(rng.random((10, 2)), random_occupancy(problem, rng)).program
    eta, v = program.temperature, rng.standard_normal(10)
    gradient = program.dual(eta, v).residual
    for k, e in enumerate(1e-6 * np.eye(10)):
        slope = (program.bound(eta, v + e) - program.bound(eta, v - e)) / 2e-6
        assert slope == pytest.approx(gradient[k], abs=1e-7)


def test_a_constant_a_layer_ahead_is_a_gauge_because_the_start_term_is_kept() -> None:
    rng = np.random.default_rng(1)
    problem = learner(0)
    program = problem.step(rng.random((10, 2)), random_occupancy(problem, rng)).program
    v, to_come = rng.standard_normal(10), 4 - problem.flow.nodes // 10
    shifted = program.bound(program.temperature, v + 3.0 * to_come)
    assert shifted == pytest.approx(program.bound(program.temperature, v), abs=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e2, 1e4, 1e6])
def test_hard_steps_are_certified(size: float) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        problem = learner(seed, learning_rate=1.0)
        losses = np.zeros(problem.n_pairs)
        losses[rng.integers(0, losses.size, size=4)] = size  # one visited pair a layer, as under bandit feedback
        step = solve(problem.step(problem.flow.spread(losses), random_occupancy(problem, rng)))
        assert step.status is Status.CERTIFIED
        assert abs(step.dual_objective - step.objective) <= 1e-14 * max(size, 10.0)  # rounding of such an objective
        assert step.stats["iterations"] <= 30
        again = solve(problem.step(rng.random(problem.flow.shape), step.occupancy))
        assert again.status is Status.CERTIFIED
        assert abs(again.dual_objective - again.objective) <= 1e-12


@pytest.mark.parametrize("seed", range(8))
def test_rates_far_beyond_any_bound_leave_every_step_certified(seed: int) -> None:
    """Estimates of thousands of nats, references down to exp(-6000), policies that are zero in double precision."""
    problem = envs.layered((1, 3, 4, 2), 3, seed=seed)
    oreps = ORePS(problem.mdp, problem.n_layers, 150, "bandit", learning_rate=200.0)
    run = oreps.run(problem.losses(150, "switching", seed=seed), seed=seed)
    assert run.status is Status.CERTIFIED
    assert run.pair_occupancies.min() == 0.0
    for t in (0, 75, 149):
        assert np.abs(flow_residual(problem.mdp, run.occupancy(t))).sum() <= 1e-12


def test_pairs_whose_mass_has_underflowed_come_back() -> None:
    """Losses of 1e3 for an arm and then for the other: in the end the first is the better one again."""
    mdp = MDP(np.ones((1, 2, 1)), np.zeros((1, 2)), gamma=1.0)
    losses = np.repeat(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), [20, 40], axis=0)
    run = ORePS(mdp, 1, learning_rate=100.0).run(losses)
    assert run.pair_occupancies[19, 0] == 0.0
    assert run.pair_occupancies[-1, 0] == pytest.approx(1.0)
    assert run.status is Status.CERTIFIED


def test_the_first_occupancy_has_the_largest_entropy() -> None:
    for seed in range(20):
        problem = learner(seed)
        first = problem.flow.pick(problem.first_occupancy())
        q = problem.flow.pick(random_occupancy(problem, np.random.default_rng(seed)))
        assert -first @ np.log(first) >= -q @ np.log(q)
        assert q @ np.log(q / first) <= problem.horizon * problem.complexity


@pytest.mark.parametrize("adversary", ["iid", "switching", "walk"])
@pytest.mark.parametrize("feedback", ["full", "bandit"])
def test_regret_is_under_its_bound_and_every_step_certified(feedback: str, adversary: str) -> None:
    for seed in range(3):
        problem = envs.layered(seed=seed)
        oreps = ORePS(problem.mdp, problem.n_layers, 200, feedback)
        run = oreps.run(problem.losses(200, adversary, seed=seed), seed=seed)
        assert run.status is Status.CERTIFIED
        assert run.regret <= run.bound
        assert run.cumulative_regret[-1] == pytest.approx(run.regret, abs=1e-9)
        for t in (0, 57, 199):
            assert np.abs(flow_residual(problem.mdp, run.occupancy(t))).sum() <= 1e-12


@pytest.mark.parametrize("feedback", ["full", "bandit"])
def test_a_run_takes_the_steps_that_solve_takes(feedback: str) -> None:
    problem = envs.layered(seed=3)
    losses = problem.losses(6, seed=1)
    oreps = ORePS(problem.mdp, problem.n_layers, 6, feedback)
    episodes = list(oreps.play(losses, seed=2))
    flow, rng, sampler = oreps.flow, np.random.default_rng(2), TrajectorySampler(oreps.flow)
    for now, after, loss in zip(episodes, episodes[1:], losses, strict=False):
        estimate = flow.pick(np.broadcast_to(loss, flow.shape)).copy()
        if feedback == "bandit":
            visited = sampler.trajectory(now.occupancy, rng)
            estimate, seen = np.zeros_like(estimate), estimate
            estimate[visited] = seen[visited] / now.occupancy[visited]
        step = solve(oreps.step(flow.spread(estimate), flow.spread(now.occupancy)))
        np.testing.assert_allclose(flow.pick(step.occupancy), after.occupancy, atol=1e-14)
        assert now.certified
        assert now.gap == pytest.approx(oreps.learning_rate * (step.dual_objective - step.objective), abs=1e-14)


def test_bounds_are_the_papers() -> None:
    d = np.log(10 * 2 / 4)
    assert learner(0).bound(50) == pytest.approx(2 * 4 * np.sqrt(50 * d))
    assert learner(0, feedback="bandit").bound(50) == pytest.approx(2 * np.sqrt(4 * 20 * 50 * d))


def test_learning_rates_are_the_papers() -> None:
    d = np.log(10 * 2 / 4)
    assert learner(0).learning_rate == pytest.approx(np.sqrt(d / 100))
    assert learner(0, feedback="bandit").learning_rate == pytest.approx(np.sqrt(4 * d / (20 * 100)))
    assert learner(0, learning_rate=0.3).learning_rate == 0.3


def test_one_node_is_exponential_weights() -> None:
    losses = np.array([[[0.2, 0.9, 0.4]], [[0.7, 0.1, 0.3]], [[0.0, 0.0, 0.0]]])
    mdp = MDP(np.ones((1, 3, 1)), np.zeros((1, 3)), gamma=1.0)
    full = ORePS(mdp, 1, learning_rate=0.5).run(losses)
    weight = np.exp(-0.5 * losses[:2].sum(axis=0)[0])
    np.testing.assert_allclose(full.pair_occupancies[2], weight / weight.sum(), atol=1e-14)
    bandit = ORePS(mdp, 1, feedback="bandit", learning_rate=0.5).run(losses, seed=0)
    arms = [int(np.argmin(np.abs(losses[t, 0] - bandit.sampled_losses[t]))) for t in (0, 1)]
    q = np.full(3, 1 / 3)
    for t, arm in enumerate(arms):  # the loss seen, divided by the probability of seeing it
        q = q * np.exp(-0.5 * losses[t, 0, arm] / q[arm] * (np.arange(3) == arm))
        q /= q.sum()
        np.testing.assert_allclose(bandit.pair_occupancies[t + 1], q, atol=1e-14)


def test_regret_grows_slower_than_the_episodes() -> None:
    problem = envs.layered(seed=0)
    rates = []
    for n_episodes in (50, 800):
        run = ORePS(problem.mdp, 4, n_episodes).run(problem.losses(n_episodes, "iid", seed=1))
        rates.append(run.regret / n_episodes)
    assert rates[1] < 0.4 * rates[0]


def test_the_best_policy_in_hindsight_by_brute_force() -> None:
    problem = envs.layered((1, 2, 2), 2, seed=4)
    run = ORePS(problem.mdp, 3, 30).run(problem.losses(30, seed=5))
    total = run.losses.sum(axis=0)
    candidates = [
        float(
            (occupancy_of(problem.mdp, np.broadcast_to(np.eye(2)[list(actions)], (3, 5, 2))).sum(axis=0) * total).sum()
        )
        for actions in itertools.product((0, 1), repeat=5)
    ]
    assert run.best_loss == pytest.approx(min(candidates), abs=1e-12)


def test_bandit_trajectories_follow_the_occupancy() -> None:
    problem = learner(2, feedback="bandit")
    q = problem.flow.pick(random_occupancy(problem, np.random.default_rng(3)))
    sampler, rng = TrajectorySampler(problem.flow), np.random.default_rng(4)
    counts = np.zeros(q.size)
    n = 20_000
    for _ in range(n):
        counts[sampler.trajectory(q, rng)] += 1
    assert (np.abs(counts / n - q) <= 4.5 * np.sqrt(q * (1 - q) / n)).all()


def test_a_loss_that_is_constant_in_a_layer_changes_nothing() -> None:
    problem = envs.layered(seed=0)
    losses = 0.5 * problem.losses(20, seed=1)
    a = ORePS(problem.mdp, 4, 20).run(losses)
    b = ORePS(problem.mdp, 4, 20).run(losses + np.array([0.1, 0.2, 0.3, 0.4])[problem.layer][:, None])
    np.testing.assert_allclose(a.pair_occupancies, b.pair_occupancies, atol=1e-12)
    assert a.regret == pytest.approx(b.regret, abs=1e-10)


def test_any_mdp_is_loop_free_in_time() -> None:
    mdp = envs.garnet(5, 2, 2, seed=0)
    losses = np.random.default_rng(0).random((100, 5, 2))
    for feedback in ("full", "bandit"):
        run = ORePS(mdp, 3, 100, feedback).run(losses, seed=1)
        assert run.status is Status.CERTIFIED
        assert run.regret <= run.bound


def test_a_single_action_has_no_regret() -> None:
    run = learner(0, (1, 2), 1, n_episodes=10).run(envs.layered((1, 2), 1, seed=0).losses(10, seed=0))
    assert run.regret == pytest.approx(0.0, abs=1e-12)


def test_seeds_repeat_and_nothing_is_written() -> None:
    problem = envs.layered(seed=0)
    losses = problem.losses(30, seed=1)
    losses.flags.writeable = False
    runs = [ORePS(problem.mdp, 4, 30, "bandit").run(losses, seed=7) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].sampled_losses, runs[1].sampled_losses)
    assert "bound" in str(runs[0])


def test_bad_input_is_named() -> None:
    problem = envs.layered(seed=0)
    with pytest.raises(ValueError, match="feedback must be one of"):
        ORePS(problem.mdp, 4, 10, "semi")
    with pytest.raises(ValueError, match="n_episodes must be given"):
        ORePS(problem.mdp, 4)
    with pytest.raises(ValueError, match="learning_rate must be > 0"):
        ORePS(problem.mdp, 4, learning_rate=0.0)
    with pytest.raises(ValueError, match=r"losses\[0, 0, 1\] is 2.0: every loss must be in \[0, 1\]"):
        ORePS(problem.mdp, 4, 1).run(np.where(np.arange(20).reshape(1, 10, 2) == 1, 2.0, 0.0))
    with pytest.raises(ValueError, match="losses must hold n_episodes = 5 tables, got 4"):
        ORePS(problem.mdp, 4, 5).run(problem.losses(4, seed=0))
    with pytest.raises(ValueError, match="losses must have shape"):
        ORePS(problem.mdp, 4, 5).run(np.zeros((5, 3, 2)))
