"""Roll-outs: every kind of environment and policy, the same data whoever steps them, nothing that never was."""

from __future__ import annotations

import re
from importlib.util import find_spec

import gymnasium
import joblib
import numpy as np
import pytest

import envs
from policies import LinearGaussianPolicy, NeuralPolicy, TabularPolicy
from reps_opt import MDP, Batch, RolloutError, rollout
from reps_opt.learning.checkpoints import describe
from reps_opt.learning.runs import State
from reps_opt.tolerances import AT_ONCE, DEEPEST_SETTING, EPISODES_A_TASK, LONGEST_EPISODE, LONGEST_HOLD, SIDE_BY_SIDE

FIELDS = ("states", "actions", "rewards", "next_states", "start_states", "terminated", "truncated", "episode")


def same(one: Batch, other: Batch) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in FIELDS)


def linear(n_states: int) -> LinearGaussianPolicy:
    rng = np.random.default_rng(0)
    return LinearGaussianPolicy().fit(rng.normal(size=(30, n_states)), rng.normal(size=30))


def chained(batch: Batch) -> bool:
    """Whether within an episode every next state is the state that follows."""
    inside = batch.episode[1:] == batch.episode[:-1]
    return np.array_equal(batch.next_states[:-1][inside], batch.states[1:][inside])


class Noisy:
    """A policy by protocol alone: normal actions."""

    def sample(self, states, rng):
        return rng.normal(size=(len(states), 1))

    def predict(self, states):
        return np.zeros((len(states), 1))


@pytest.mark.parametrize("env", [envs.SwingUp(horizon=20), "Pendulum-v1"], ids=["batched", "single"])
def test_policies_of_every_kind(env) -> None:
    width = 3 if isinstance(env, str) else 2
    policies = {
        "none": None,
        "estimator": linear(width),
        "protocol": Noisy(),
        "callable": lambda state, rng: 0.1 if rng is None else rng.normal(),
    }
    if find_spec("torch"):
        policies["neural"] = NeuralPolicy(hidden=(4,), max_iter=1).fit(np.eye(width), np.zeros(width))
    for name, policy in policies.items():
        batch = rollout(env, policy, n_episodes=2, max_steps=15, seed=1)
        assert batch.n_episodes == 2, name
        assert batch.actions.shape == (len(batch), 1), name
        assert np.unique(batch.actions).size > 10, name
        assert chained(batch), name
        assert batch.truncated.sum() == 2, name
        if name != "none":
            certain = rollout(env, policy, n_episodes=2, max_steps=15, seed=1, deterministic=True)
            assert np.array_equal(certain.start_states, batch.start_states), name
        if name == "callable":
            assert np.all(certain.actions == 0.1)


def test_recorded_actions_are_those_the_policy_drew_and_rewards_those_of_the_clipped_ones() -> None:
    policy = linear(2).with_params(np.r_[np.zeros(3), np.log(100.0)])
    env = envs.SwingUp(horizon=10, reset_probability=0.0)
    batch = rollout(env, policy, n_episodes=50, seed=0)
    assert np.abs(batch.actions).max() > env.max_torque
    moved = env.step_batch(batch.states, batch.actions, np.random.default_rng(0))
    np.testing.assert_allclose(moved.rewards, batch.rewards, rtol=1e-12)
    np.testing.assert_allclose(moved.next_states, batch.next_states, rtol=1e-12)
    drawn = policy.log_prob(batch.states, batch.actions)
    assert abs(drawn.mean() + 0.5 * np.log(2 * np.pi * np.e) + np.log(100.0)) < 0.15


def test_progress_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    rollout(envs.SwingUp(), n_episodes=2 * SIDE_BY_SIDE, max_steps=2, seed=0, progress=True)
    assert "roll out" in capsys.readouterr().err
    rollout(envs.SwingUp(), n_episodes=2 * SIDE_BY_SIDE, max_steps=2, seed=0)
    assert capsys.readouterr().err == ""


class Strange(gymnasium.Env):
    """Observes a dictionary."""

    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        return {"one": 1.0}, {}

    def step(self, action):
        return {"one": 1.0}, 0.0, False, False, {}


DICT = gymnasium.spaces.Dict({"one": gymnasium.spaces.Discrete(2)})


class Told(gymnasium.Env):
    """Does what it is told."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, observed=(0.0,), reward=0.0, info=None, answer=None, start=None, breaks_at=None, **spaces):
        self.observed, self.reward, self.info, self.answer, self.start = observed, reward, info or {}, answer, start
        self.breaks_at, self.n_steps = breaks_at, 0
        for name, space in spaces.items():
            setattr(self, name, space)

    def reset(self, seed=None, options=None):
        return (np.array([0.0]), {}) if self.start is None else self.start

    def step(self, action):
        self.n_steps += 1
        if self.n_steps == self.breaks_at:
            raise KeyError("broken")
        return self.answer or (self.observed, self.reward, False, self.n_steps % 4 == 0, self.info)


CASES = {
    "batched, episodes": (envs.SwingUp(), {"n_episodes": 2 * SIDE_BY_SIDE + 3, "max_steps": 4}),
    "batched, steps": (envs.SwingUp(), {"n_steps": 60 * AT_ONCE}),
    "tabular": (envs.TabularEnv(envs.riverswim(), horizon=9), {"n_steps": 400}),
    "single, episodes": ("CartPole-v1", {"n_episodes": 2 * EPISODES_A_TASK + 1}),
    "single, steps": ("CartPole-v1", {"n_steps": 130}),
}


@pytest.mark.parametrize("case", CASES)
def test_workers_and_backends_change_nothing(case: str) -> None:
    env, size = CASES[case]
    alone = rollout(env, **size, seed=7)
    assert same(alone, rollout(env, **size, seed=7))
    assert not same(alone, rollout(env, **size, seed=8))
    assert same(alone, rollout(env, **size, seed=np.random.SeedSequence(7), n_jobs=2))
    with joblib.parallel_config("threading", n_jobs=3):
        if not isinstance(env, gymnasium.Env) or "batched" in case or case == "tabular":
            assert same(alone, rollout(env, **size, seed=7))
    if "n_steps" in size:
        assert len(alone) == size["n_steps"]
        assert alone.truncated[-1] or alone.terminated[-1]
    assert chained(alone)


def test_a_dask_cluster_gives_the_same_data() -> None:
    distributed = pytest.importorskip("distributed")
    env, size = CASES["batched, episodes"]
    alone = rollout(env, **size, seed=7)
    quiet = {"dashboard_address": None, "silence_logs": 50}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, **quiet) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        assert same(alone, rollout(env, **size, seed=7))


def test_two_policies_under_one_seed_start_alike_and_are_cut_alike() -> None:
    env = envs.SwingUp()
    one, other = (rollout(env, policy, n_episodes=40, seed=3) for policy in (None, linear(2)))
    assert np.array_equal(one.episode, other.episode)
    assert np.array_equal(one.start_states, other.start_states)


def test_ends_and_cuts_are_kept_apart() -> None:
    pole = rollout("CartPole-v1", n_episodes=20, max_steps=25, seed=0)
    lengths = np.bincount(pole.episode)
    last = np.flatnonzero(np.r_[np.diff(pole.episode) > 0, True])
    assert np.array_equal(pole.truncated[last], (lengths == 25) & ~pole.terminated[last])
    assert 0 < pole.terminated.sum() < 20
    assert not np.any(pole.terminated & pole.truncated)
    swing = rollout(envs.SwingUp(horizon=30), n_episodes=200, seed=0)
    assert not swing.terminated.any()
    assert swing.truncated.sum() == 200
    assert np.bincount(swing.episode).max() == 30
    assert abs(np.mean(np.bincount(swing.episode) < 30) - (1 - 0.98**29)) < 0.12
    lake = rollout(envs.TabularEnv(envs.gridworld(["SFG"], gamma=0.9), horizon=50), n_episodes=30, seed=0)
    assert lake.terminated.any()
    assert np.all(lake.next_states[lake.terminated] == 2)


@pytest.mark.parametrize("mode", list(gymnasium.vector.AutoresetMode), ids=str)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_vector_environments_leave_out_what_never_happened(mode, n_envs: int) -> None:
    options = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": mode}}
    env = gymnasium.make_vec("CartPole-v1", num_envs=n_envs, **options)
    batch = rollout(env, n_episodes=7, seed=0)
    assert batch.n_episodes == 7
    assert batch.terminated.sum() == 7
    assert chained(batch)
    # CartPole's velocity changes by a fixed force each step: a jump to a start state would show
    assert np.abs(batch.next_states[:, 1] - batch.states[:, 1]).max() < 0.5
    assert np.all(np.abs(batch.start_states) <= 0.05)
    assert np.all(np.abs(batch.next_states[batch.terminated][:, [0, 2]]).max(axis=1) > 0.2)
    assert same(batch, rollout(env, n_episodes=7, seed=0))
    some = rollout(env, n_steps=101, seed=0)
    assert len(some) == 101
    assert np.array_equal(some.states[0], batch.states[0])


def test_a_time_limit_of_a_vector_environment_is_a_truncation() -> None:
    env = gymnasium.make_vec("Pendulum-v1", num_envs=2, vectorization_mode="sync")
    batch = rollout(env, n_episodes=4, seed=0)
    assert len(batch) == 800
    assert batch.truncated.sum() == 4
    assert not batch.terminated.any()


def test_ids_of_this_project_are_stepped_side_by_side() -> None:
    envs.register()
    assert same(rollout("reps_opt/SwingUp-v0", n_episodes=5, seed=0), rollout(envs.SwingUp(), n_episodes=5, seed=0))


def test_visits_of_a_restarting_walk_are_the_discounted_occupancy() -> None:
    mdp = envs.riverswim(gamma=0.9)
    policy = TabularPolicy.from_probabilities(mdp.uniform_policy())
    batch = rollout(envs.TabularEnv(mdp, reset_probability=0.1), policy, n_episodes=4000, seed=0)
    counts = np.zeros((mdp.n_states, mdp.n_actions))
    np.add.at(counts, (batch.states, batch.actions), 1.0)
    np.testing.assert_allclose(counts / counts.sum(), mdp.occupancy(mdp.uniform_policy()), atol=0.01)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "one of n_episodes and n_steps"),
        ({"n_episodes": 1, "n_steps": 1}, ValueError, "one of n_episodes and n_steps"),
        ({"n_episodes": 0}, ValueError, "n_episodes must be >= 1"),
        ({"n_steps": 1.5}, TypeError, "n_steps must be an integer"),
        ({"n_steps": 5, "max_steps": 0}, ValueError, "max_steps must be >= 1"),
        ({"n_steps": 5, "policy": 3}, TypeError, "policy must have sample"),
        ({"n_steps": 5, "policy": LinearGaussianPolicy}, TypeError, "policy must have sample"),
        ({"n_steps": 5, "policy": lambda s, rng: [1.0, 2.0]}, ValueError, r"policy must return 16 actions of shape"),
        ({"n_steps": 5, "env": 3}, TypeError, "env must be an environment"),
        ({"n_steps": 5, "env": Strange()}, TypeError, "env must observe numbers"),
        ({"n_steps": 5, "env": Told(observation_space=DICT)}, TypeError, r"env Told observes Dict.*FlattenObservation"),
        ({"n_steps": 5, "env": "Blackjack-v1"}, TypeError, r"env Blackjack-v1 observes Tuple"),
        ({"n_steps": 5, "env": Told(action_space=DICT)}, TypeError, r"env Told acts in Dict"),
        ({"n_steps": 5, "env": Told(observed=[[1.0], [1.0, 2.0]])}, TypeError, "env must observe numbers"),
        ({"n_steps": 5, "env": Told(answer=(0.0, 1.0, False, {}))}, TypeError, "env Told: step must return .* got 4"),
        ({"n_steps": 5, "env": Told(start=0.0)}, TypeError, r"env Told: reset must return \(observation, info\)"),
        ({"n_steps": 5, "env": Told(reward=np.ones(2))}, TypeError, "env Told: the reward must be a number"),
        ({"n_steps": 5, "env": Told(reward=np.nan)}, ValueError, "env Told: the reward is nan"),
        ({"n_steps": 5, "env": Told(info={"cost": np.inf})}, ValueError, "env Told: the cost is inf"),
        ({"n_steps": 5, "env": "CartPole-v1", "policy": lambda s, rng: 1.7}, ValueError, "whole numbers .* got 1.7"),
        ({"n_steps": 5, "env": "CartPole-v1", "policy": lambda s, rng: 2}, ValueError, r"of Discrete\(2\), got 2"),
        ({"n_steps": 5, "policy": lambda s, rng: [np.nan]}, ValueError, "action that is nan"),
        ({"n_steps": 5, "policy": lambda s, rng: ["left"]}, TypeError, "numbers as actions"),
        ({"n_steps": 5, "restart": 1.0}, ValueError, "restart must be below 1"),
        ({"n_steps": 5, "restart": -0.1}, ValueError, "restart must be >= 0"),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", str(value)),
)
def test_bad_input_is_named(arguments, error, message: str) -> None:
    arguments = {"env": envs.SwingUp(), "policy": None} | arguments
    with pytest.raises(error, match=message):
        rollout(**arguments)


def test_nothing_is_lost_when_an_environment_raises() -> None:
    with pytest.raises(RolloutError, match="env Told raised KeyError: 'broken' in episode 2 after 2 steps") as caught:
        rollout(Told(reward=1.0, breaks_at=11), n_episodes=8, seed=0)
    batch = caught.value.batch
    assert len(batch) == 10
    assert batch.n_episodes == 3
    assert batch.truncated.tolist() == [False, False, False, True] * 2 + [False, True]
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(RolloutError, match="nothing was rolled out before") as caught:
        rollout(Told(breaks_at=1), n_steps=20, seed=0)
    assert caught.value.batch is None


def test_nothing_is_lost_when_an_environment_of_many_raises() -> None:
    class Breaking(envs.SwingUp):
        def step_batch(self, states, actions, rng):
            if self.left == 0:
                raise ArithmeticError
            self.left -= 1
            return super().step_batch(states, actions, rng)

    env = Breaking(horizon=20, reset_probability=0.0)
    env.left = 3
    with pytest.raises(RolloutError, match="raised ArithmeticError in episode 0 after 3 steps") as caught:
        rollout(env, n_episodes=5, seed=0)
    assert len(caught.value.batch) == 15


def test_rewards_and_costs_are_read() -> None:
    batch = rollout(Told(reward=np.array([2.5]), info={"cost": np.array([0.5])}), n_steps=6, seed=0)
    assert batch.rewards.tolist() == [2.5] * 6
    assert batch.costs.tolist() == [0.5] * 6
    assert rollout(Told(), n_steps=6, seed=0).costs is None


def test_costs_of_vector_environments() -> None:
    env = gymnasium.vector.SyncVectorEnv([lambda: Told(info={"cost": 1.5}), Told])
    batch = rollout(env, n_episodes=2, seed=0)
    assert batch.costs.tolist() == [1.5] * 4 + [0.0] * 4


@pytest.mark.parametrize("space", [gymnasium.spaces.MultiBinary(3), gymnasium.spaces.MultiDiscrete([2, 5])], ids=str)
def test_uniform_actions_of_several_discrete_parts(space) -> None:
    actions = rollout(Told(action_space=space), n_steps=400, seed=0).actions
    assert all(space.contains(action.astype(space.dtype)) for action in actions)
    assert [np.unique(column).size for column in actions.T] == ([2, 2, 2] if actions.shape[1] == 3 else [2, 5])


@pytest.mark.parametrize(
    "env", ["CartPole-v1", "Pendulum-v1", envs.SwingUp(reset_probability=0.0)], ids=["cart", "pendulum", "batched"]
)
def test_restarts_by_probability(env) -> None:
    batch = rollout(env, n_steps=4000, restart=0.1, seed=0)
    assert chained(batch)
    assert np.all(batch.truncated[batch.restarted])
    chances = (~batch.terminated).sum()
    assert abs(batch.restarted.sum() - 0.1 * chances) < 4 * np.sqrt(0.09 * chances)
    assert same(batch, rollout(env, n_steps=4000, restart=0.1, seed=0, n_jobs=2))
    assert not rollout(env, n_steps=200, seed=0).restarted.any()


def test_restarts_of_own_environments_are_told_from_time_limits() -> None:
    batch = rollout(envs.SwingUp(horizon=30), n_episodes=200, seed=0)
    length = np.bincount(batch.episode)
    assert np.array_equal(batch.restarted[batch.ends][length < 30], np.ones((length < 30).sum(), dtype=bool))
    assert 0 < batch.restarted.sum() < 200 == batch.truncated.sum()


@pytest.mark.slow
def test_visits_of_any_environment_with_restarts_are_the_discounted_occupancy() -> None:
    env = gymnasium.make("FrozenLake-v1", is_slippery=True, max_episode_steps=10**6)
    mdp = MDP.from_gymnasium(env, gamma=0.8)
    batch = rollout(env, n_steps=10_000, restart=0.2, seed=0)
    weight = np.bincount(batch.states, minlength=16) / len(batch)
    exact = mdp.occupancy(mdp.uniform_policy()).sum(axis=1)
    alive = weight > 0  # a hole ends the episode: it is not visited, its mass is that of the absorbed
    np.testing.assert_allclose(weight[alive], exact[:16][alive] / exact[:16][alive].sum(), atol=0.02)


def test_restarts_of_vector_environments_need_copies_that_can_be_sent_back() -> None:
    options = {"vectorization_mode": "sync"}
    disabled = {"autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED}
    env = gymnasium.make_vec("CartPole-v1", num_envs=3, vector_kwargs=disabled, **options)
    batch = rollout(env, n_episodes=60, restart=0.1, seed=0)
    assert chained(batch)
    assert batch.restarted.any()
    assert np.all(np.abs(batch.start_states) <= 0.05)
    with pytest.raises(ValueError, match="restart needs a vector environment in the autoreset mode Disabled"):
        rollout(gymnasium.make_vec("CartPole-v1", num_envs=3, **options), n_episodes=6, restart=0.1, seed=0)


@pytest.mark.parametrize("case", ["side by side", "single", "NextStep", "SameStep"])
def test_actions_are_held(case: str) -> None:
    """Every third step draws anew, in each episode from its own start; steps between repeat the last action."""
    env: object = envs.SwingUp(horizon=20) if case == "side by side" else "Acrobot-v1"
    if case.endswith("Step"):
        mode = {"autoreset_mode": gymnasium.vector.AutoresetMode(case)}
        env = gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync", vector_kwargs=mode)
    batch = rollout(env, n_episodes=7, max_steps=40, hold=3, seed=0)
    drawn = batch.time % 3 == 0
    last = np.maximum.accumulate(np.where(drawn, np.arange(len(batch)), 0))
    assert np.array_equal(batch.actions, batch.actions[last])
    assert chained(batch)
    assert np.unique(batch.actions[drawn]).size > 1
    assert rollout(env, n_episodes=2, max_steps=9, seed=0).actions.dtype == batch.actions.dtype
    with pytest.raises(ValueError, match="hold must be"):
        rollout(env, n_episodes=1, hold=0)


class Endless(gymnasium.Env):
    """One state that no episode leaves."""

    observation_space = gymnasium.spaces.Discrete(1)
    action_space = gymnasium.spaces.Discrete(1)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
        return 0, 0.0, False, False, {}


def test_an_episode_that_nothing_ends_is_cut_off() -> None:
    batch = rollout(Endless(), n_episodes=1, seed=0)
    assert len(batch) == LONGEST_EPISODE
    assert batch.truncated.nonzero()[0].tolist() == [LONGEST_EPISODE - 1]


def test_actions_that_teach_nothing_are_held_ever_longer_up_to_a_limit() -> None:
    def hold(idle: int) -> int:
        return State(0, (), {0: None}, rows=({"accepted": False},) * idle).hold

    assert [hold(idle) for idle in range(5)] == [1, 2, 4, 8, 16]
    assert [hold(idle) for idle in (6, 7, 100)] == [LONGEST_HOLD] * 3 == [64] * 3


def test_settings_that_hold_each_other_are_described_to_some_depth() -> None:
    loop: list = []
    loop.append(loop)
    described = describe(loop)
    for _ in range(DEEPEST_SETTING):
        (described,) = described
    assert described == "list"
