"""Exact evaluation against textbook answers and plain linear algebra."""

from __future__ import annotations

import warnings
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import scipy.sparse as sp

import envs
from reps_opt import MDP
from tests.reps_opt.instances import GAMMAS, INSTANCES, instance

RNG = np.random.default_rng(0)


def random_policy(mdp: MDP, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(mdp.n_actions), mdp.n_states)


def dense_chain(mdp: MDP, policy: np.ndarray) -> np.ndarray:
    return np.einsum("sa,sat->st", policy, mdp.transitions.toarray().reshape(mdp.n_states, mdp.n_actions, -1))


@pytest.mark.parametrize("name", INSTANCES)
def test_discounted_evaluation_solves_the_bellman_equation(name: str) -> None:
    mdp = instance(name, 0.95)
    policy = random_policy(mdp)
    P, r = dense_chain(mdp, policy), (policy * mdp.rewards).sum(axis=1)
    value = np.linalg.solve(np.eye(mdp.n_states) - 0.95 * P, r)
    scale = np.abs(value).max() + 1e-300
    np.testing.assert_allclose(mdp.value(policy), value, atol=1e-11 * scale)
    mu = 0.05 * np.linalg.solve(np.eye(mdp.n_states) - 0.95 * P.T, mdp.mu0)
    np.testing.assert_allclose(mdp.state_distribution(policy), mu, atol=1e-14)
    np.testing.assert_allclose(mdp.expected_return(policy), 0.05 * mdp.mu0 @ value, rtol=1e-10)
    advantage = mdp.advantage(policy)
    np.testing.assert_allclose((policy * advantage).sum(axis=1), 0, atol=1e-11 * scale)


@pytest.mark.parametrize("name", INSTANCES)
def test_average_evaluation_is_the_long_run_mean(name: str) -> None:
    mdp = instance(name, 1.0)
    policy = random_policy(mdp)
    P, r = dense_chain(mdp, policy), (policy * mdp.rewards).sum(axis=1)
    lazy = (np.eye(mdp.n_states) + P) / 2  # aperiodic, same stationary laws
    for _ in range(40):
        lazy = lazy @ lazy
        lazy /= lazy.sum(axis=1, keepdims=True)
    scale = np.abs(r).max()
    np.testing.assert_allclose(mdp.gain(policy), lazy @ r, atol=1e-6 * scale)
    np.testing.assert_allclose(mdp.state_distribution(policy), mdp.mu0 @ lazy, atol=1e-6)
    bias, gain = mdp.value(policy), mdp.gain(policy)
    np.testing.assert_allclose(r - gain + P @ bias, bias, atol=1e-9 * (np.abs(bias).max() + scale))
    np.testing.assert_allclose((policy * mdp.advantage(policy)).sum(axis=1), 0, atol=1e-9 * np.abs(bias).max())


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("name", INSTANCES)
def test_optimal_policy_leaves_no_advantage(name: str, gamma: float) -> None:
    mdp = instance(name, gamma)
    optimum = mdp.solve_optimal()
    scale = np.abs(mdp.rewards).max() / (1 - gamma if gamma < 1 else 0.01)
    assert optimum.residual <= 1e-10 * scale
    for seed in range(3):
        assert mdp.expected_return(random_policy(mdp, seed)) <= mdp.mu0 @ optimum.gain + 1e-10 * scale
    np.testing.assert_allclose(mdp.expected_return(optimum.policy), mdp.mu0 @ optimum.gain, atol=1e-10 * scale)


def test_large_mdps_take_the_iterative_path_to_the_same_answer() -> None:
    small = envs.gridworld((40, 40), slip=0.2, gamma=0.95)
    large = envs.gridworld((60, 60), slip=0.2, gamma=0.95)  # above the direct limit
    for mdp in (small, large):
        policy = random_policy(mdp)
        P = mdp.chain(policy)
        r = (policy * mdp.rewards).sum(axis=1)
        direct = sp.linalg.spsolve((sp.eye_array(mdp.n_states) - 0.95 * P).tocsc(), r)
        np.testing.assert_allclose(mdp.value(policy), direct, atol=1e-12)
        mu = mdp.state_distribution(policy)
        np.testing.assert_allclose(mu, 0.05 * mdp.mu0 + 0.95 * P.T @ mu, atol=1e-15)
        assert mdp.solve_optimal().residual <= 2e-11


def test_single_chain_textbook_numbers() -> None:
    mdp = envs.single_chain(gamma=0.95)
    assert round(mdp.expected_return(mdp.uniform_policy()), 3) == 1.255
    assert round(mdp.mu0 @ mdp.solve_optimal().gain, 3) == 8.145


def test_periodic_chain_has_its_stationary_distribution() -> None:
    mdp = MDP(np.roll(np.eye(3), 1, axis=1)[:, None, :], [[0.0], [0.0], [3.0]], gamma=1.0, mu0=[1, 0, 0])
    np.testing.assert_allclose(mdp.state_distribution([[1.0]] * 3), 1 / 3)
    assert mdp.expected_return([[1.0]] * 3) == pytest.approx(1.0)


def test_multichain_gain_depends_on_the_start_and_says_so() -> None:
    mdp = MDP(np.eye(2)[:, None, :], [[1.0], [3.0]], gamma=1.0, mu0=[0.25, 0.75])
    assert mdp.expected_return([[1.0]] * 2) == pytest.approx(2.5)
    np.testing.assert_allclose(mdp.gain([[1.0]] * 2), [1.0, 3.0])
    with pytest.warns(UserWarning, match="multichain"):
        mdp.value([[1.0]] * 2)


def test_nearly_decomposable_chain_keeps_every_digit() -> None:
    leak = 1e-13
    P = np.array([[1 - leak, leak], [3 * leak, 1 - 3 * leak]])[:, None, :]
    mu = MDP(P, np.zeros((2, 1)), gamma=1.0).state_distribution([[1.0]] * 2)
    np.testing.assert_allclose(mu, [0.75, 0.25], rtol=1e-3)  # 1 - 3e-13 itself is only good to 1e-3 of the leak


def test_rewards_on_the_next_state_are_averaged() -> None:
    P = RNG.dirichlet(np.ones(3), (3, 2))
    r = RNG.normal(size=(3, 2, 3))
    np.testing.assert_allclose(MDP(P, r).rewards, (P * r).sum(axis=2))
    np.testing.assert_allclose(MDP(sp.csr_array(P.reshape(6, 3)), r).rewards, (P * r).sum(axis=2))


@pytest.mark.parametrize("kind", [np.float32, np.int64, list, "fortran", "read-only", "sparse"])
def test_any_kind_of_numbers_gives_the_same_mdp_and_is_left_alone(kind: object) -> None:
    P, r = np.array([np.eye(2), np.eye(2)]), np.array([[1.0, 0.0], [0.0, 2.0]])
    before = P.copy()
    if kind == "fortran":
        given = (np.asfortranarray(P), np.asfortranarray(r))
    elif kind == "read-only":
        P.flags.writeable = r.flags.writeable = False
        given = (P, r)
    elif kind == "sparse":
        given = (sp.coo_matrix(P.reshape(4, 2)), r)
    elif kind is list:
        given = (P.tolist(), r.tolist())
    else:
        given = (P.astype(kind), r.astype(kind))
    mdp = MDP(*given, gamma=0.5)
    np.testing.assert_array_equal(mdp.transitions.toarray(), before.reshape(4, 2))
    np.testing.assert_array_equal(mdp.rewards, r)
    np.testing.assert_array_equal(P, before)


GOOD_P, GOOD_R = np.full((2, 2, 2), 0.5), np.zeros((2, 2))


def changed(array: np.ndarray, index: tuple, value: float) -> np.ndarray:
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"P": changed(GOOD_P, (1, 0, 1), np.nan)}, ValueError, r"P\[1, 0, 1\] is nan"),
        ({"P": changed(GOOD_P, (1, 0, 1), np.inf)}, ValueError, r"P\[1, 0, 1\] is inf"),
        ({"P": changed(GOOD_P, (1, 0), [1.5, -0.5])}, ValueError, "negative probability -0.5 at state 1, action 0"),
        ({"P": changed(GOOD_P, (1, 1, 1), 0.6)}, ValueError, "state 1, action 1 sums to 1.1"),
        ({"P": np.full((2, 2, 3), 1 / 3)}, ValueError, "P must have shape"),
        ({"P": np.zeros((0, 2, 0))}, ValueError, "P must have shape"),
        ({"P": np.full((2, 2, 2), "a")}, TypeError, "P must hold real numbers"),
        ({"P": GOOD_P.astype(complex)}, TypeError, "P must hold real numbers"),
        ({"P": GOOD_P.astype(object)}, TypeError, "P must hold real numbers"),
        ({"P": [[[1.0], [1.0, 0.0]]]}, ValueError, "P must be a rectangular array"),
        ({"r": changed(GOOD_R, (0, 1), np.nan)}, ValueError, r"r\[0, 1\] is nan"),
        ({"r": np.zeros((2, 3))}, ValueError, r"r must have shape \(2, 2\)"),
        ({"r": np.zeros(4)}, ValueError, r"r must have shape \(2, 2\)"),
        ({"gamma": 0.0}, ValueError, "gamma must be > 0"),
        ({"gamma": 1.1}, ValueError, "gamma must be"),
        ({"gamma": float("nan")}, ValueError, "gamma must be"),
        ({"gamma": "0.9"}, TypeError, "gamma must be a real number"),
        ({"mu0": [0.5, 0.6]}, ValueError, "mu0 must sum to one"),
        ({"mu0": [1.5, -0.5]}, ValueError, r"mu0\[1\] is -0.5"),
        ({"mu0": [1.0]}, ValueError, r"mu0 must have shape \(2\)"),
        ({"layout": ["ab", "c"]}, ValueError, "layout must be equal-length strings"),
    ],
)
def test_bad_input_is_named(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MDP(**{"P": GOOD_P, "r": GOOD_R, "gamma": 0.9, **arguments})


def test_rows_within_the_tolerance_are_renormalised() -> None:
    mdp = MDP(GOOD_P * (1 + 4e-9), GOOD_R)
    np.testing.assert_array_equal(np.asarray(mdp.transitions.sum(axis=1)), 1.0)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ([[0.5, 0.6], [0.5, 0.5]], "policy row 0 must sum to one"),
        ([[0.5, 0.5]], "policy must have shape"),
        ([[1.5, -0.5], [0.5, 0.5]], r"policy\[0, 1\] is -0.5"),
        ([0, 2], "policy holds actions outside"),
    ],
)
def test_bad_policy_is_named(policy: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MDP(GOOD_P, GOOD_R).value(policy)


def test_a_deterministic_policy_may_be_given_by_its_actions() -> None:
    mdp = envs.two_state()
    np.testing.assert_allclose(mdp.value([0, 1]), mdp.value([[1, 0], [0, 1]]))


class TestFromGymnasium:
    """Tables are read so that done counts on the way in."""

    @pytest.mark.parametrize("name", ["FrozenLake-v1", "CliffWalking-v1", "Taxi-v4"])
    def test_terminal_states_absorb_without_reward(self, name: str) -> None:
        env = gymnasium.make(name)
        mdp = MDP.from_gymnasium(env, gamma=0.9)
        table = env.unwrapped.P
        terminal = {n for s in table for a in table[s] for _, n, _, done in table[s][a] if done}
        assert terminal
        for state in terminal:
            for action in range(mdp.n_actions):
                row = mdp.transitions[[state * mdp.n_actions + action]].toarray().ravel()
                assert row[state] == 1.0
                assert mdp.rewards[state, action] == 0.0

    def test_probabilities_of_repeated_next_states_accumulate(self) -> None:
        table = gymnasium.make("FrozenLake-v1").unwrapped.P
        mdp = MDP.from_gymnasium("FrozenLake-v1")
        assert sum(p for p, n, _, _ in table[0][0] if n == 0) == pytest.approx(2 / 3)
        assert mdp.transitions[0, 0] == pytest.approx(2 / 3)

    def test_restart_goes_back_to_the_start_in_the_same_step(self) -> None:
        mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=1.0, on_done="restart", is_slippery=False)
        before_goal, right = 14, 2
        row = mdp.transitions[[before_goal * 4 + right]].toarray().ravel()
        np.testing.assert_array_equal(row, mdp.mu0)
        assert mdp.rewards[before_goal, right] == 1.0
        assert set(mdp.unreachable) == {5, 7, 11, 12, 15}  # holes and goal are never stayed in

    def test_values_match_simulation(self) -> None:
        env = gymnasium.make("FrozenLake-v1")
        mdp = MDP.from_gymnasium(env, gamma=0.99)
        policy = mdp.solve_optimal().policy
        rng, returns = np.random.default_rng(0), []
        env.reset(seed=0)
        for _ in range(1500):
            state, _ = env.reset()
            total, discount, done = 0.0, 1.0, False
            while not done:
                state, reward, terminated, truncated, _ = env.step(int(rng.choice(4, p=policy[state])))
                total, discount, done = total + discount * reward, discount * 0.99, terminated or truncated
            returns.append(total)
        error = np.std(returns) / np.sqrt(len(returns))
        assert abs(np.mean(returns) - mdp.mu0 @ mdp.value(policy)) < 4 * error

    def test_unreachable_states_are_reported(self) -> None:
        mdp = MDP.from_gymnasium("Taxi-v4")
        assert "96 states unreachable" in repr(mdp)
        assert mdp.unreachable.size == 96

    def test_average_reward_asks_what_follows_an_end(self) -> None:
        with pytest.raises(ValueError, match=r"on_done must be given with gamma=1.*restart"):
            MDP.from_gymnasium("FrozenLake-v1", gamma=1)
        restarting = MDP.from_gymnasium("FrozenLake-v1", gamma=1, on_done="restart")
        table, h = gymnasium.make("FrozenLake-v1").unwrapped.P, np.zeros(16)
        for _ in range(5000):  # relative value iteration; h[0] is that of the start, where every end leads
            worth = [
                [sum(p * (r + h[0 if end else n]) for p, n, r, end in row) for row in table[s].values()] for s in table
            ]
            gain = max(worth[0]) - h[0]
            h = 0.5 * h + 0.5 * (np.max(worth, axis=1) - gain)
        assert restarting.solve_optimal().gain[0] == pytest.approx(gain, abs=1e-9)
        absorbing = MDP.from_gymnasium("FrozenLake-v1", gamma=1, on_done="absorb")
        assert absorbing.solve_optimal().gain.max() == 0

    def test_a_fickle_passenger_is_refused_and_a_steady_one_read(self) -> None:
        with pytest.raises(ValueError, match="fickle passenger"):
            MDP.from_gymnasium("Taxi-v4", fickle_passenger=True)
        assert MDP.from_gymnasium("Taxi-v4", fickle_passenger=False) == MDP.from_gymnasium("Taxi-v4")

    def test_wrappers_that_change_rewards_are_applied_from_the_inside(self) -> None:
        table = gymnasium.make("FrozenLake-v1")
        plain = MDP.from_gymnasium(table)
        tenfold = gymnasium.wrappers.TransformReward(table, lambda r: 10 * r)
        assert MDP.from_gymnasium(tenfold).rewards.max() == pytest.approx(10 / 3)
        shifted = gymnasium.wrappers.TransformReward(tenfold, lambda r: r - 1)
        found = MDP.from_gymnasium(shifted)
        acting = ~np.isin(np.arange(16), [5, 7, 11, 12, 15])
        np.testing.assert_allclose(found.rewards[acting], 10 * plain.rewards[acting] - 1)
        np.testing.assert_array_equal(found.rewards[~acting], 0)  # nothing is paid where the episode is over
        clipped = gymnasium.wrappers.ClipReward(table, 0.0, 0.5)
        np.testing.assert_allclose(MDP.from_gymnasium(clipped).rewards, 0.5 * plain.rewards)

    def test_wrappers_that_may_change_anything_are_refused(self) -> None:
        class Slower(gymnasium.Wrapper):
            def step(self, action):
                return self.env.step(0 if self.unwrapped.s == 3 else action)

        class Elsewhere(gymnasium.Wrapper):
            def reset(self, **options):
                return self.env.reset(**options)

        class Noisy(gymnasium.RewardWrapper):
            def reward(self, reward):
                return reward + np.random.default_rng().normal()

        env = gymnasium.make("FrozenLake-v1")
        sticky = gymnasium.wrappers.StickyAction(env, 0.1)
        for wrapped in (Slower(env), Elsewhere(env), sticky, gymnasium.wrappers.NormalizeReward(env)):
            with pytest.raises(ValueError, match=f"env is wrapped in {type(wrapped).__name__}"):
                MDP.from_gymnasium(wrapped)
        with pytest.raises(ValueError, match="more than a function of the reward"):
            MDP.from_gymnasium(Noisy(env))
        assert MDP.from_gymnasium(Slower(env).unwrapped) == MDP.from_gymnasium("FrozenLake-v1")

    def test_wrappers_that_only_watch_are_read_through(self) -> None:
        class Watching(gymnasium.Wrapper):
            pass

        env = gymnasium.wrappers.RecordEpisodeStatistics(Watching(gymnasium.make("FrozenLake-v1")))
        shown = gymnasium.wrappers.TransformObservation(env, lambda s: np.eye(16)[s], None)
        assert MDP.from_gymnasium(shown) == MDP.from_gymnasium("FrozenLake-v1")

    def test_ragged_tables_and_ends_that_are_also_passed_are_read_as_they_are(self) -> None:
        class Shop(gymnasium.Env):
            P: ClassVar = {0: {0: [(1, 1, 0, False)], 1: [(1, 1, 4, True)]}, 1: {0: [(1, 0, 1.5, False)]}}
            initial_state_distrib: ClassVar = [1.0, 0.0]

        mdp = MDP.from_gymnasium(Shop(), gamma=0.95)
        assert mdp.n_states == 3
        assert not mdp.allowed[1, 1]
        assert mdp.solve_optimal().value[0] == pytest.approx(0.95 * 1.5 / (1 - 0.95**2))

    def test_bad_arguments(self) -> None:
        with pytest.raises(ValueError, match="on_done must be one of"):
            MDP.from_gymnasium("FrozenLake-v1", on_done="stop")
        with pytest.raises(ValueError, match="transition table"):
            MDP.from_gymnasium("CartPole-v1")
        with pytest.raises(TypeError, match="need an environment id"):
            MDP.from_gymnasium(gymnasium.make("FrozenLake-v1"), is_slippery=False)


def test_arrays_of_an_mdp_cannot_be_written_to() -> None:
    mdp = envs.two_state()
    for array in (mdp.rewards, mdp.mu0, mdp.transitions.data):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


def test_evaluation_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        instance("taxi", 1.0).value(instance("taxi", 1.0).uniform_policy())
