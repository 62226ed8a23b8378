"""Finite MDPs as environments: what is sampled is what the MDP says."""

import gymnasium
import numpy as np
import pytest

import envs
from envs import TabularEnv
from reps_opt import MDP


def test_next_states_have_the_mdps_probabilities():
    """Every pair of a random MDP, 4000 draws each, within five standard deviations of every probability."""
    mdp = envs.garnet(12, 3, branching=5, seed=0)
    env, n = TabularEnv(mdp), 4000
    pair = np.repeat(np.arange(36), n)
    following = env.step_batch(pair // 3, pair % 3, np.random.default_rng(1)).next_states
    counts = np.zeros((36, 12))
    np.add.at(counts, (pair, following), 1)
    P = mdp.transitions.toarray()
    assert (np.abs(counts / n - P) <= 5 * np.sqrt(P * (1 - P) / n)).all()


def test_starts_have_the_mdps_distribution():
    mu0 = np.array([0.0, 0.5, 0.2, 0.3, 0.0])
    mdp = MDP(np.tile(np.eye(5)[:, None], (1, 2, 1)), np.zeros((5, 2)), mu0=mu0)
    starts = TabularEnv(mdp).sample_starts(20_000, np.random.default_rng(0))
    frequency = np.bincount(starts, minlength=5) / 20_000
    assert (np.abs(frequency - mu0) <= 5 * np.sqrt(mu0 * (1 - mu0) / 20_000)).all()


def test_rewards_are_the_mdps():
    env = TabularEnv(envs.single_chain())
    rewards = env.step_batch(np.array([0, 0, 4, 4]), [0, 1, 0, 1], np.random.default_rng(0)).rewards
    assert rewards.tolist() == [0, 2, 10, 2]


def test_long_episodes_earn_the_average_reward():
    mdp = envs.riverswim(gamma=1.0)
    env, rng = TabularEnv(mdp), np.random.default_rng(3)
    policy = np.ones(6, dtype=np.int64)
    states, total = env.sample_starts(2000, rng), []
    for _ in range(400):
        step = env.step_batch(states, policy[states], rng)
        total.append(step.rewards.mean())
        states = step.next_states
    assert np.mean(total[100:]) == pytest.approx(mdp.expected_return(policy), rel=0.03)


def test_cutting_with_one_minus_gamma_visits_the_discounted_occupancy():
    mdp = envs.gridworld(["S..", "...", "..."], slip=0.3, gamma=0.9)
    env = TabularEnv(mdp, reset_probability=0.1)
    rng = np.random.default_rng(4)
    states, visits = env.sample_starts(4000, rng), np.zeros(9)
    for _ in range(200):
        visits += np.bincount(states, minlength=9)
        following = env.step_batch(states, rng.integers(4, size=4000), rng).next_states
        states = np.where(env.sample_cuts(4000, rng), env.sample_starts(4000, rng), following)
    expected = mdp.state_distribution(mdp.uniform_policy())
    np.testing.assert_allclose(visits / visits.sum(), expected, atol=0.01)


def test_goals_and_holes_end_episodes_but_walls_and_chains_do_not():
    env = TabularEnv(envs.gridworld(["SH", ".G"]))
    step = env.step_batch(np.array([0, 0, 2]), [2, 1, 2], np.random.default_rng(0))
    assert step.next_states.tolist() == [1, 2, 3]
    assert step.terminated.tolist() == [True, False, True]
    assert step.rewards.tolist() == [0, 0, 1]
    chain = TabularEnv(envs.single_chain())
    assert not chain.step_batch(np.array([4]), [0], np.random.default_rng(0)).terminated[0]


def test_average_reward_never_terminates():
    mdp = MDP(np.array([[[0.0, 1.0]], [[0.0, 1.0]]]), [[1.0], [0.0]], gamma=1.0, mu0=[1, 0])
    assert not TabularEnv(mdp).step_batch(np.array([0]), [0], np.random.default_rng(0)).terminated[0]


def test_frozen_lake_read_from_gymnasium_ends_where_gymnasium_does():
    env = TabularEnv(MDP.from_gymnasium("FrozenLake-v1", is_slippery=False))
    theirs = gymnasium.make("FrozenLake-v1", is_slippery=False)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        ours_now, theirs_now = env.reset(seed=seed)[0], theirs.reset(seed=seed)[0]
        for _ in range(30):
            assert ours_now == theirs_now
            action = int(rng.integers(4))
            ours_now, ours_reward, ours_end = env.step(action)[:3]
            theirs_now, theirs_reward, theirs_end = theirs.step(action)[:3]
            assert (ours_reward, ours_end) == (theirs_reward, theirs_end)
            if ours_end:
                break


def test_options_reach_the_mdp_through_gymnasium_make():
    envs.register()
    env = gymnasium.make("reps_opt/GridWorld-v0", layout=["S.G"], slip=0.1, gamma=0.5, horizon=7).unwrapped
    assert (env.mdp.n_states, env.gamma, env.horizon) == (3, 0.5, 7)


def test_the_map_is_drawn_cell_by_cell():
    env = TabularEnv(envs.gridworld(["S#", ".G"]), render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render().astype(int)
    assert picture.shape == (48, 48, 3)
    assert picture[12, 12].tolist() == [0, 0, 0]  # the walker
    assert picture[12, 36].max() < 100  # a wall
    assert picture[36, 36, 1] > picture[36, 36, 0]  # the goal is green
    assert picture[36, 12].tolist() == [255, 255, 255]


def test_states_without_a_map_fill_rows_of_twenty():
    env = TabularEnv(envs.lecture_chain(n_states=45))
    picture = env.draw(np.int64(23)).astype(int)
    assert picture.shape == (3 * 24, 20 * 24, 3)
    assert picture[24 + 12, 3 * 24 + 12].tolist() == [0, 0, 0]  # the walker: second row, fourth cell
    assert picture[48 + 12, 6 * 24 + 12].max() < 100  # beyond the last state
    assert TabularEnv(envs.two_state()).draw(np.int64(0)).shape == (24, 48, 3)


@pytest.mark.parametrize(
    ("states", "actions", "message"),
    [
        ([0, 1], [0, 4], r"actions\[1\] is 4"),
        ([0], [-1], r"actions\[0\] is -1"),
        ([0], [0.0], "actions must be integers"),
    ],
)
def test_bad_actions_are_named(states, actions, message):
    with pytest.raises(ValueError, match=message):
        TabularEnv(envs.gridworld()).step_batch(np.array(states), actions, np.random.default_rng(0))


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="mdp must be a"):
        TabularEnv(np.eye(3))
    with pytest.raises(ValueError, match=r'options\["state"\]'):
        TabularEnv(envs.two_state()).reset(options={"state": 2})
