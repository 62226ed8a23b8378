"""What every environment promises, whichever it is: one parametrised suite."""

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs

IDS = envs.register()
PIXELS = [i for i in IDS if "Pixel" in i]


def make(env_id, **options):
    return gymnasium.make(env_id, disable_env_checker=True, **options).unwrapped


def sample_actions(env, n, rng):
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        return rng.integers(env.action_space.n, size=n)
    return rng.uniform(env.action_space.low, env.action_space.high, size=(n, *env.action_space.shape))


def visited_states(env, n, n_steps, rng):
    """States that n walkers reach after some steps, so that tests see more than start states."""
    states = env.sample_starts(n, rng)
    for _ in range(n_steps):
        states = env.step_batch(states, sample_actions(env, n, rng), rng).next_states
    return states


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_checker_finds_nothing(env_id):
    """Nothing but two remarks it makes on its own Pendulum and CartPole too: physical units, unbounded velocities."""
    env = make(env_id)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env)
    remarks = [str(w.message) for w in caught if "symmetric and normalized" not in str(w.message)]
    if env_id == "reps_opt/CartPole-v0":
        remarks = [remark for remark in remarks if "infinity" not in remark]
    assert not remarks


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("n_steps", [0, 7])
def test_a_batch_is_its_rows_bit_for_bit(env_id, n_steps):
    env = make(env_id)
    rng = np.random.default_rng(1)
    states = visited_states(env, 37, n_steps, rng)
    actions = sample_actions(env, 37, rng)
    together = env.step_batch(states, actions, np.random.default_rng(5))
    one_generator = np.random.default_rng(5)
    for i in range(37):
        alone = env.step_batch(states[i : i + 1], actions[i : i + 1], one_generator)
        for batch, single in zip(together, alone, strict=True):
            assert np.array_equal(batch[i], single[0])
        assert np.array_equal(env.observe(states)[i], env.observe(states[i : i + 1])[0])


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_step_is_the_batched_step_bit_for_bit(env_id):
    env = make(env_id)
    rng = np.random.default_rng(2)
    observation, _ = env.reset(seed=11)
    twin = np.random.default_rng(0)
    twin.bit_generator.state = np.random.Generator(np.random.PCG64(11)).bit_generator.state
    states = env.sample_starts(1, twin)
    assert np.array_equal(observation, env.observe(states)[0])
    for _ in range(25):
        action = sample_actions(env, 1, rng)
        batch = env.step_batch(states, action, twin)
        cut = env.sample_cuts(1, twin)
        observation, reward, terminated, truncated, _ = env.step(action[0])
        assert np.array_equal(observation, env.observe(batch.next_states)[0])
        assert (reward, terminated, truncated) == (batch.rewards[0], batch.terminated[0], cut[0])
        states = batch.next_states


@pytest.mark.parametrize("env_id", IDS)
def test_stepping_changes_neither_states_nor_actions(env_id):
    env = make(env_id)
    rng = np.random.default_rng(3)
    states, actions = visited_states(env, 8, 3, rng), sample_actions(env, 8, rng)
    for array in (states, actions):
        array.flags.writeable = False
    observations = env.observe(states)
    assert not np.shares_memory(observations, states)
    assert not np.shares_memory(env.step_batch(states, actions, rng).next_states, states)


@pytest.mark.parametrize("env_id", IDS)
def test_observations_stay_in_their_space(env_id):
    env = make(env_id)
    rng = np.random.default_rng(4)
    states = env.sample_starts(20, rng)
    for _ in range(30):
        states = env.step_batch(states, sample_actions(env, 20, rng), rng).next_states
        assert all(env.observation_space.contains(o) for o in env.observe(states))


@pytest.mark.parametrize("env_id", IDS)
def test_the_seed_decides_an_episode(env_id):
    def episode(seed):
        env, rng = make(env_id), np.random.default_rng(0)
        first, _ = env.reset(seed=seed)
        return [np.atleast_1d(first)] + [np.atleast_1d(env.step(sample_actions(env, 1, rng)[0])[0]) for _ in range(10)]

    assert all(np.array_equal(a, b) for a, b in zip(episode(7), episode(7), strict=True))


@pytest.mark.parametrize("env_id", IDS)
def test_an_episode_may_start_from_a_given_state(env_id):
    env = make(env_id)
    state = visited_states(env, 1, 5, np.random.default_rng(6))[0]
    observation, _ = env.reset(seed=0, options={"state": state})
    assert np.array_equal(observation, env.observe(state[None])[0])


@pytest.mark.parametrize("env_id", IDS)
def test_the_picture_shows_the_state(env_id):
    env = make(env_id, render_mode="rgb_array")
    rng = np.random.default_rng(8)
    a, b = visited_states(env, 1, 0, rng)[0], visited_states(env, 1, 12, rng)[0]
    env.reset(seed=0, options={"state": a})
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.std() > 0
    if not np.allclose(a, b):
        env.reset(seed=0, options={"state": b})
        assert (env.render() != picture).any()
    assert make(env_id).render_mode is None


@pytest.mark.parametrize("env_id", IDS)
def test_bad_actions_are_named(env_id):
    env = make(env_id)
    rng = np.random.default_rng(0)
    states, good = env.sample_starts(2, rng), sample_actions(env, 2, rng)
    with pytest.raises(ValueError, match="actions"):
        env.step_batch(states, good[:1], rng)
    bad = good.astype(float)
    bad.flat[-1] = np.nan
    with pytest.raises(ValueError, match="actions"):
        env.step_batch(states, bad, rng)


@pytest.mark.parametrize("env_id", [i for i in IDS if hasattr(make(i).action_space, "low")])
def test_actions_are_clipped_in_dynamics_and_reward(env_id):
    env = make(env_id)
    high = env.action_space.high[None]
    states = visited_states(env, 1, 2, np.random.default_rng(0))
    at_bound = env.step_batch(states, high, np.random.default_rng(1))
    beyond = env.step_batch(states, 10 * high, np.random.default_rng(1))
    assert all(np.array_equal(a, b) for a, b in zip(at_bound, beyond, strict=True))


@pytest.mark.parametrize("env_id", IDS)
def test_stepping_before_reset_is_an_error(env_id):
    env = make(env_id)
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        env.step(env.action_space.sample())


def test_the_horizon_truncates_and_does_not_terminate():
    env = envs.Reaching(horizon=3, reset_probability=0.0)
    env.reset(seed=0)
    flags = [env.step(np.zeros(2))[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]


def test_cuts_come_with_the_reset_probability_and_truncate():
    env = envs.SwingUp(reset_probability=0.02)
    cuts = env.sample_cuts(100_000, np.random.default_rng(0))
    assert cuts.mean() == pytest.approx(0.02, abs=0.0023)  # five standard deviations of .00044
    env.reset(seed=0)
    flags = [env.step(np.zeros(1))[2:4] for _ in range(400)]
    assert not any(terminated for terminated, _ in flags)
    assert 1 <= sum(truncated for _, truncated in flags) <= 22  # eight expected, five standard deviations
    assert env.gamma == pytest.approx(0.98)


@pytest.mark.parametrize("cls", [envs.SwingUp, envs.Reaching, envs.PuddleWorld])
@pytest.mark.parametrize(
    ("option", "value"), [("reset_probability", 1.0), ("reset_probability", -0.1), ("horizon", 0), ("render_mode", "x")]
)
def test_bad_common_options_are_named(cls, option, value):
    with pytest.raises((TypeError, ValueError), match=option):
        cls(**{option: value})


def test_register_twice_is_harmless():
    assert envs.register() == IDS
    assert all(i.startswith("reps_opt/") for i in IDS)


def test_importing_envs_is_light():
    code = (
        "import sys, envs; heavy = {'gymnasium', 'scipy', 'torch', 'cvxpy', 'sklearn'} & set(sys.modules);"
        "assert not heavy, heavy; envs.two_state(); assert 'gymnasium' not in sys.modules; import gymnasium;"
        "assert 'reps_opt/SwingUp-v0' not in gymnasium.registry; envs.register();"
        "assert 'reps_opt/SwingUp-v0' in gymnasium.registry"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^No envs attribute three_state$"):
        _ = envs.three_state
