"""Comparisons of two policies, and the same update again and again: bounds that hold, and optima that are reached."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import envs
from reps_opt import (
    MDP,
    REPS,
    ExactNaturalGradient,
    ExactPolicyGradient,
    ExactTRPO,
    History,
    LinearProgram,
    Status,
    compare_policies,
    iterate,
    solve,
)

UPDATES: dict[str, tuple[Callable[[MDP, np.ndarray], object], int]] = {
    "reps": (lambda mdp, policy: REPS(mdp, mdp.occupancy(policy), 0.3), 60),
    "trpo": (lambda mdp, policy: ExactTRPO(mdp, policy, 0.1), 60),
    "trpo-new-old": (lambda mdp, policy: ExactTRPO(mdp, policy, 0.1, "new||old"), 60),
    "natural": (lambda mdp, policy: ExactNaturalGradient(mdp, policy, step_size=1.0), 300),
    "plain": (lambda mdp, policy: ExactPolicyGradient(mdp, policy, step_size=0.02), 30),
    "linear-program": (lambda mdp, policy: solve(LinearProgram(mdp)), 1),
}
CONVERGING = ("reps", "trpo", "trpo-new-old", "natural", "linear-program")


def random_policies(seed: int) -> tuple[MDP, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n_states, n_actions = int(rng.integers(2, 8)), int(rng.integers(2, 5))
    mdp = envs.garnet(n_states, n_actions, 2, seed=rng, gamma=float(rng.choice([0.3, 0.9, 0.99])))
    old = rng.dirichlet(np.ones(n_actions), size=n_states)
    near = (1 - 0.05) * old + 0.05 * rng.dirichlet(np.ones(n_actions), size=n_states)
    return mdp, old, near if seed % 2 else rng.dirichlet(np.ones(n_actions), size=n_states)


@pytest.mark.parametrize("seed", range(100))
def test_comparison_from_its_definitions(seed: int) -> None:
    mdp, old, new = random_policies(seed)
    found = compare_policies(mdp, old, new)
    p, q = mdp.occupancy(new), mdp.occupancy(old)
    assert found.gain == pytest.approx(float(np.sum((p - q) * mdp.rewards)), abs=1e-12)
    assert found.gain == pytest.approx(float(np.sum(p * mdp.advantage(old))), abs=1e-11)  # performance difference
    assert found.surrogate == pytest.approx(float(np.sum(q.sum(1)[:, None] * new * mdp.advantage(old))), abs=1e-12)
    assert found.joint_kl == pytest.approx(float(np.sum(p * np.log(p / q))), rel=1e-9)
    assert found.joint_kl == pytest.approx(found.state_kl + found.conditional_kl, rel=1e-12)
    rows = np.sum(old * np.log(old / new), axis=1)
    assert found.max_kl == pytest.approx(rows.max(), rel=1e-12)
    assert found.kl_old_new == pytest.approx(float(q.sum(1) @ rows), rel=1e-12)


@pytest.mark.parametrize("seed", range(100))
def test_bounds_hold_in_unnormalised_returns(seed: int) -> None:
    """The papers' bounds, written out on the unnormalised scale: they hold, and are those reported."""
    mdp, old, new = random_policies(seed)
    found, gamma, advantage = compare_policies(mdp, old, new), mdp.gamma, mdp.advantage(old)
    gain = float(mdp.mu0 @ (mdp.value(new) - mdp.value(old)))
    d = mdp.state_distribution(old)
    surrogate = float(d @ np.sum(new * advantage, axis=1)) / (1 - gamma)
    trpo = surrogate - 4 * np.abs(advantage).max() * gamma / (1 - gamma) ** 2 * found.max_kl
    expected = np.abs(np.sum(new * advantage, axis=1)).max()
    distance = float(d @ np.abs(new - old).sum(axis=1)) / 2
    cpo = surrogate - 2 * gamma * expected / (1 - gamma) ** 2 * distance
    assert found.trpo_bound == pytest.approx((1 - gamma) * trpo, rel=1e-9)
    assert found.cpo_bound == pytest.approx((1 - gamma) * cpo, rel=1e-9)
    assert gain >= trpo
    assert gain >= cpo - 1e-12
    assert found.trpo_holds
    assert found.cpo_holds


def test_comparison_knows_support_and_average_reward() -> None:
    mdp = envs.single_chain()
    uniform, optimal = mdp.uniform_policy(), mdp.solve_optimal().policy
    towards = compare_policies(mdp, uniform, optimal)
    assert math.isfinite(towards.joint_kl)
    assert towards.kl_old_new == towards.max_kl == math.inf
    assert towards.trpo_bound == -math.inf
    assert towards.trpo_holds
    average = envs.single_chain(gamma=1.0)
    assert compare_policies(average, uniform, uniform).trpo_bound == -math.inf
    same = compare_policies(mdp, uniform, uniform)
    assert (same.gain, same.joint_kl, same.max_kl) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", CONVERGING)
@pytest.mark.parametrize("mdp_name", ["single-chain", "two-state", "garnet", "riverswim"])
def test_iteration_reaches_the_linear_program(name: str, mdp_name: str) -> None:
    mdp = {
        "single-chain": lambda: envs.single_chain(),
        "two-state": lambda: envs.two_state(),
        "garnet": lambda: envs.garnet(10, 3, 3, seed=4, gamma=0.9),
        "riverswim": lambda: envs.riverswim(),
    }[mdp_name]()
    update, limit = UPDATES[name]
    best = solve(LinearProgram(mdp)).objective
    unit = float(np.ptp(mdp.rewards))
    returns = []
    for step in iterate(mdp, mdp.uniform_policy(), lambda policy: update(mdp, policy), limit):
        assert step.solution.status is Status.CERTIFIED, step.solution
        assert step.comparison.trpo_holds
        assert step.comparison.cpo_holds
        returns.append(step.comparison.new_return)
        if returns[-1] >= best - 1e-6 * unit:
            break
    assert returns[-1] >= best - 1e-6 * unit, (returns[-1], best)
    assert returns[-1] <= best + 1e-9 * unit


def test_reps_predicts_its_gain_and_grows_at_every_step() -> None:
    mdp = envs.single_chain()
    history = History(iterate(mdp, mdp.uniform_policy(), lambda p: REPS(mdp, mdp.occupancy(p), 0.1), 20))
    table = history.to_frame()
    assert isinstance(table, pd.DataFrame)
    np.testing.assert_allclose(table["predicted"], table["gain"], atol=1e-9)
    assert (table["gain"] >= -1e-9).all()
    assert (table["joint_kl"] <= 0.1 + 1e-7).all()
    assert table["status"].eq("certified").all()
    assert (table["gap"].abs() <= 1e-6).all()
    np.testing.assert_allclose(table["return"], history.returns[1:])
    assert history.returns[0] == pytest.approx(1.2545, abs=5e-5)


def test_plain_gradient_grows_at_every_small_step() -> None:
    mdp = envs.single_chain()
    update, count = UPDATES["plain"]
    table = History(iterate(mdp, mdp.uniform_policy(), lambda policy: update(mdp, policy), count)).to_frame()
    assert (table["gain"] > 0).all()
    assert table[["trpo_holds", "cpo_holds"]].all(axis=None)
    assert table["status"].eq("certified").all()


def test_larger_steps_as_stated() -> None:
    """Claim 3, on the chain from the uniform policy: exact numbers, the saturated surrogate, smaller small steps."""
    mdp = envs.single_chain()
    policy = mdp.uniform_policy()
    q = mdp.occupancy(policy)
    assert mdp.expected_return(policy) == pytest.approx(1.255, abs=5e-4)
    assert solve(LinearProgram(mdp)).objective == pytest.approx(8.145, abs=5e-4)
    for epsilon, expected in {0.01: 1.494, 0.1: 2.147, 1.0: 5.085, 2.0: 7.168}.items():
        reps = solve(REPS(mdp, q, epsilon))
        assert reps.objective == pytest.approx(expected, abs=5e-4)
        assert mdp.expected_return(reps.policy) == pytest.approx(expected, abs=5e-4)
    # no policy at all is promised more than this by the surrogate, and what it promises is not what comes
    greedy = solve(ExactTRPO(mdp, policy, math.inf))
    promised = mdp.expected_return(policy) + greedy.predicted_gain
    assert promised == pytest.approx(2.4145, abs=5e-5)
    assert mdp.expected_return(greedy.policy) == pytest.approx(2.0, abs=5e-4)
    # at an equal small radius REPS, whose ball counts the states too, takes the smaller step
    small = 0.01
    reps, trpo = solve(REPS(mdp, q, small)), solve(ExactTRPO(mdp, policy, small, "new||old"))
    compared = compare_policies(mdp, policy, reps.policy)
    assert compared.conditional_kl < small
    assert compared.joint_kl == pytest.approx(small, abs=1e-9)
    assert trpo.comparison.joint_kl > 4 * small
    assert reps.objective < trpo.comparison.new_return


def test_update_may_be_any_callable_with_a_policy() -> None:
    mdp = envs.single_chain()
    step = next(iterate(mdp, mdp.uniform_policy(), lambda policy: solve(ExactTRPO(mdp, policy, 0.1)), 1))
    assert step.index == 1
    with pytest.raises(TypeError, match="update must return a problem or a solution"):
        next(iterate(mdp, mdp.uniform_policy(), lambda policy: policy, 1))
    with pytest.raises(ValueError, match="n_iterations must be >= 1"):
        next(iterate(mdp, mdp.uniform_policy(), lambda policy: policy, 0))


def test_update_cannot_write_into_the_policy() -> None:
    mdp = envs.single_chain()

    def spoil(policy: np.ndarray) -> ExactTRPO:
        policy[0, 0] = 1.0
        return ExactTRPO(mdp, policy, 0.1)

    with pytest.raises(ValueError, match="read-only"):
        next(iterate(mdp, mdp.uniform_policy(), spoil, 1))


def test_iteration_ends_where_an_update_has_no_point() -> None:
    mdp = envs.single_chain()
    elsewhere = np.zeros(mdp.rewards.shape)
    elsewhere[0, 0], elsewhere[4, 1] = 0.5, 0.5
    history = History(iterate(mdp, mdp.uniform_policy(), lambda policy: REPS(mdp, elsewhere, 1e-3), 5))
    assert len(history) == 1
    assert history[0].solution.status is Status.INFEASIBLE
    np.testing.assert_array_equal(history.policy, mdp.uniform_policy())


def test_average_reward_iteration_survives_the_plateau() -> None:
    """From stay probabilities (.76, .04): NPG passes 1.9 after 5 updates, REPS at epsilon = .1 after 7."""
    mdp = envs.two_state(gamma=1.0)
    start = [[0.76, 0.24], [0.96, 0.04]]
    natural = History(iterate(mdp, start, lambda p: ExactNaturalGradient(mdp, p, step_size=1.0), 30)).returns
    reps = History(iterate(mdp, start, lambda p: REPS(mdp, mdp.occupancy(p), 0.1), 30)).returns
    assert natural[0] == pytest.approx(0.624)
    assert int(np.argmax(natural > 1.9)) == 5
    assert int(np.argmax(reps > 1.9)) == 7
    assert natural[-1] == pytest.approx(2.0, abs=1e-9)
    assert reps[-1] == pytest.approx(2.0, abs=1e-6)
    for epsilon in (0.1, 1.0):
        trpo = History(iterate(mdp, start, lambda p, e=epsilon: ExactTRPO(mdp, p, e), 30))
        assert trpo.returns[-1] == pytest.approx(2.0, abs=1e-6)
        assert trpo.to_frame()["status"].eq("certified").all()
