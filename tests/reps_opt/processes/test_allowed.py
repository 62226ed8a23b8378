"""Actions that a state does not have: never taken, by any policy, occupancy, problem or route, and never a penalty."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp

import envs
from envs import TabularEnv
from reps_opt import (
    MDP,
    REPS,
    ConditionalREPS,
    ExactNaturalGradient,
    ExactPolicyGradient,
    ExactTRPO,
    FiniteHorizonREPS,
    LinearProgram,
    ORePS,
    compare_policies,
    solve,
)
from tests.reps_opt.small_mdps import optimum


def case(seed: int, gamma: float) -> tuple[MDP, MDP]:
    """An MDP without some pairs, and its twin in which they repeat the first action that the state has."""
    rng = np.random.default_rng(seed)
    S, A = 5, 3
    P, r = rng.dirichlet(np.full(S, 0.4), (S, A)), rng.normal(size=(S, A))
    allowed = rng.random((S, A)) < 0.6
    allowed[np.arange(S), rng.integers(A, size=S)] = True
    mu0 = rng.dirichlet(np.ones(S))
    first = allowed.argmax(axis=1)
    twin_P = np.where(allowed[..., None], P, P[np.arange(S), first][:, None])
    twin_r = np.where(allowed, r, r[np.arange(S), first][:, None])
    held = np.where(allowed[..., None], P, np.nan)
    return MDP(held, np.where(allowed, r, np.inf), gamma, mu0, allowed=allowed), MDP(twin_P, twin_r, gamma, mu0)


@pytest.mark.parametrize("gamma", [0.9, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_evaluation_is_that_of_the_actions_there_are(seed: int, gamma: float) -> None:
    mdp, twin = case(seed, gamma)
    uniform = mdp.uniform_policy()
    assert (uniform[~mdp.allowed] == 0).all()
    for name in ("value", "gain", "occupancy", "state_distribution"):
        np.testing.assert_allclose(getattr(mdp, name)(uniform), getattr(twin, name)(uniform), atol=1e-13)
    advantage = mdp.advantage(uniform)
    assert (advantage[~mdp.allowed] == -np.inf).all()
    np.testing.assert_allclose(advantage[mdp.allowed], twin.advantage(uniform)[mdp.allowed], atol=1e-12)
    best, other = mdp.solve_optimal(), twin.solve_optimal()
    assert (best.policy[~mdp.allowed] == 0).all()
    np.testing.assert_allclose(best.gain, other.gain, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.9, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_linear_program_without_those_pairs(seed: int, gamma: float) -> None:
    mdp, _ = case(seed, gamma)
    x = cp.Variable((5, 3), nonneg=True)
    flat = cp.reshape(x, (15,), order="C")
    flow = cp.sum(x, axis=1) == (1 - gamma) * mdp.mu0 + gamma * (mdp.transitions.toarray().T @ flat)
    rows = [flow, cp.sum(x) == 1, cp.multiply(x, 1.0 * ~mdp.allowed) == 0]
    expected = optimum(cp.Maximize(cp.sum(cp.multiply(x, mdp.rewards))), rows)
    solution = solve(LinearProgram(mdp))
    assert solution.status == "certified"
    assert solution.objective == pytest.approx(expected, abs=1e-8)
    assert (solution.occupancy[~mdp.allowed] == 0).all()


def problems(mdp: MDP) -> dict[str, object]:
    pi = mdp.uniform_policy()
    q = mdp.occupancy(pi)
    return {
        "REPS": REPS(mdp, q, 0.1),
        "LinearProgram": LinearProgram(mdp),
        "ConditionalREPS": ConditionalREPS(mdp, pi, 0.1),
        "ExactTRPO": ExactTRPO(mdp, pi, 0.1),
        "FiniteHorizonREPS": FiniteHorizonREPS(mdp, pi, 4, 0.1),
        "trajectory": FiniteHorizonREPS(mdp, pi, 4, 0.1, ball="trajectory"),
        "natural gradient": ExactNaturalGradient(mdp, pi, epsilon=0.1),
        "plain gradient": ExactPolicyGradient(mdp, pi, epsilon=0.1),
    }


@pytest.mark.parametrize("gamma", [0.9, 1.0])
@pytest.mark.parametrize("name", list(problems(case(0, 0.9)[0])))
def test_every_problem_leaves_them_alone(name: str, gamma: float) -> None:
    for seed in range(3):
        mdp, twin = case(seed, gamma)
        pi = mdp.uniform_policy()
        own, other = solve(problems(mdp)[name]), solve(_twin(name, twin, pi))
        assert own.status == "certified"
        assert own.objective == pytest.approx(other.objective, abs=1e-7)
        policy = np.asarray(own.policy)
        assert (policy[..., ~mdp.allowed] == 0).all()


def _twin(name: str, twin: MDP, pi: np.ndarray) -> object:
    """The same problem on the twin, by a reference that leaves the repeated actions alone."""
    q = twin.occupancy(pi)
    return {
        "REPS": lambda: REPS(twin, q, 0.1),
        "LinearProgram": lambda: LinearProgram(twin),
        "ConditionalREPS": lambda: ConditionalREPS(twin, pi, 0.1),
        "ExactTRPO": lambda: ExactTRPO(twin, pi, 0.1),
        "FiniteHorizonREPS": lambda: FiniteHorizonREPS(twin, pi, 4, 0.1),
        "trajectory": lambda: FiniteHorizonREPS(twin, pi, 4, 0.1, ball="trajectory"),
        "natural gradient": lambda: ExactNaturalGradient(twin, pi, epsilon=0.1),
        "plain gradient": lambda: ExactPolicyGradient(twin, pi, epsilon=0.1),
    }[name]()


def test_online_learning_and_comparisons_leave_them_alone() -> None:
    mdp, _ = case(1, 0.9)
    run = ORePS(mdp, 3, 20).run(np.random.default_rng(0).random((20, 5, 3)))
    assert run.status == "certified"
    assert (run.occupancy(19)[:, ~mdp.allowed] == 0).all()
    assert (run.best_policy[run.problem.flow.kept.any(axis=2)][:, :].sum(axis=1) == 1).all()
    found = compare_policies(mdp, mdp.uniform_policy(), mdp.solve_optimal().policy)
    assert np.isfinite([found.surrogate, found.gain]).all()
    assert found.cpo_holds


def test_references_and_policies_outside_are_named() -> None:
    mdp = MDP(np.full((2, 2, 2), 0.5), np.zeros((2, 2)), allowed=[[True, False], [True, True]])
    spread = [[0.5, 0.5], [0.5, 0.5]]
    for call in (mdp.value, lambda p: ExactTRPO(mdp, p, 0.1)):
        with pytest.raises(ValueError, match=r"policy\[0, 1\] is 0\.5: state 0 does not have action 1"):
            call(spread)
    named = r"reference\[0, 1\] is .*: state 0 does not have action 1"
    with pytest.raises(ValueError, match=named):
        REPS(mdp, [[0.25, 0.25], [0.3, 0.2]], 0.1)
    with pytest.raises(ValueError, match=r"\[0, 1\] is 0\.5: state 0 does not have action 1"):
        FiniteHorizonREPS(mdp, spread, 3, 0.1)
    with pytest.raises(ValueError, match="state 0 does not have action 1"):
        mdp.value([1, 0])


def test_empty_rows_are_an_error_unless_wished() -> None:
    P = np.array([[[0.5, 0.5], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    with pytest.raises(ValueError, match="state 0, action 1 sums to 0: if the state does not have this action"):
        MDP(P, np.zeros((2, 2)))
    expected = MDP(P, np.zeros((2, 2)), allowed=[[True, False], [True, True]])
    assert MDP(P, np.zeros((2, 2)), allowed="rows") == expected
    assert MDP(sp.csr_array(P.reshape(4, 2)), np.zeros((2, 2)), allowed="rows") == expected
    assert repr(expected) == "MDP(2 states, 2 actions, gamma=0.95, 1 pairs not allowed)"


def test_the_range_of_rewards_is_that_of_the_pairs_there_are() -> None:
    mdp = MDP(np.ones((1, 3, 1)), [[5.0, 7.0, np.nan]], allowed=[[True, True, False]])
    assert (mdp.rewards.min(), mdp.rewards.max()) == (5.0, 7.0)


def test_a_walk_cannot_take_them_and_ends_where_all_there_is_stays() -> None:
    table = {0: {0: [(1.0, 1, 1.0, True)], 1: [(1.0, 0, 0.0, False)]}, 1: {0: [(1.0, 1, 0.0, False)]}}
    env = TabularEnv(MDP.from_table(table))
    env.reset(seed=0, options={"state": 0})
    assert env.step(0)[2]
    lacking = TabularEnv(MDP(np.ones((1, 2, 1)), [[1.0, 0.0]], allowed=[[True, False]]))
    lacking.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions\[0\] is 1: state 0 does not have it"):
        lacking.step(1)


def test_large_mdps_know_them_too() -> None:
    base = envs.gridworld((50, 50), slip=0.2, gamma=0.95)  # beyond the direct limit
    rng = np.random.default_rng(0)
    allowed = rng.random(base.rewards.shape) < 0.7
    allowed[:, 0] = True
    mdp = base.replace(allowed=allowed, r=rng.random(base.rewards.shape))
    best = mdp.solve_optimal()
    assert (best.policy[~allowed] == 0).all()
    assert mdp.bellman_error(best.value).max() <= 1e-10
