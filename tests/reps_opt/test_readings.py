"""What a new policy is worth by itself, beside what its ball has priced."""

from __future__ import annotations

import numpy as np
import pytest

import envs
from reps_opt import (
    MDP,
    REPS,
    ConditionalREPS,
    ExactNaturalGradient,
    ExactTRPO,
    FiniteHorizonREPS,
    LinearProgram,
    solve,
)

GARNET = {gamma: envs.garnet(6, 3, 3, seed=3, gamma=gamma) for gamma in (0.9, 1.0)}


def problems(mdp: MDP) -> list:
    uniform = mdp.uniform_policy()
    return [
        REPS(mdp, mdp.occupancy(uniform), 0.2),
        LinearProgram(mdp),
        ConditionalREPS(mdp, uniform, 0.1),
        ExactTRPO(mdp, uniform, 0.1),
        ExactNaturalGradient(mdp, uniform, epsilon=0.1),
    ]


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_values_of_the_new_policy_satisfy_its_bellman_equation(place: int, gamma: float) -> None:
    mdp = GARNET[gamma]
    solution = solve(problems(mdp)[place])
    pi, value = solution.policy, solution.policy_value
    gain = 0.0 if gamma < 1 else mdp.gain(pi)[0]
    ahead = (mdp.transitions @ value).reshape(6, 3)
    np.testing.assert_allclose(solution.q_values, mdp.rewards - gain + gamma * ahead, atol=1e-10)
    np.testing.assert_allclose((pi * solution.q_values).sum(axis=1), value, atol=1e-9)
    np.testing.assert_allclose(solution.advantage, solution.q_values - value[:, None], atol=1e-10)
    if gamma < 1:  # the objective is a mean reward, (1 - gamma) times a return
        mean = float(np.sum(mdp.occupancy(pi) * mdp.rewards))
        assert (1 - gamma) * mdp.mu0 @ value == pytest.approx(mean, rel=1e-10)


def test_without_a_ball_the_two_values_are_one() -> None:
    solution = solve(LinearProgram(GARNET[0.9]))
    np.testing.assert_allclose(solution.policy_value, solution.value, atol=1e-9)
    assert solution.advantage.max() <= 1e-9


def test_frozenlakes_goal_is_worth_nothing_more_and_its_price_is_another_matter() -> None:
    mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=0.99)
    solution = solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.5))
    assert solution.policy_value[15] >= 0
    assert solution.policy_value.argmax() == 14  # beside the goal
    assert solution.to_xarray()["policy_value"].dims == ("state",)
    np.testing.assert_array_equal(solution.to_xarray()["policy_value"], solution.policy_value)


@pytest.mark.parametrize("ball", ["shared", "per_step", "trajectory"])
def test_values_over_a_horizon(ball: str) -> None:
    mdp = GARNET[0.9]
    solution = solve(FiniteHorizonREPS(mdp, mdp.uniform_policy(), 4, 0.1, ball=ball))
    value, q = solution.policy_value, solution.q_values
    np.testing.assert_allclose((solution.policy * q).sum(axis=2), value, atol=1e-12)
    assert mdp.mu0 @ value[0] == pytest.approx(solution.objective, rel=1e-9)
    np.testing.assert_allclose(q[3], 0.9**3 * mdp.rewards, atol=1e-12)
    np.testing.assert_allclose(solution.advantage, q - value[:, :, None], atol=1e-12)
