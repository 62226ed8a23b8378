"""Policies to start from: made from an environment's spaces, ready to act, and discrete states by one rule."""

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from sklearn.base import clone
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

import envs
from policies import (
    GaussianProcessPolicy,
    LinearGaussianPolicy,
    NeuralCategoricalPolicy,
    NeuralPolicy,
    RBFPolicy,
    SoftmaxPolicy,
    TabularPolicy,
    load,
)
from policies.spaces import read_observations
from policies.tolerances import UNBOUNDED
from reps_opt import rollout

BOX = spaces.Box(np.array([-1.0, -np.inf, -3e38]), np.array([3.0, np.inf, 3e38]), dtype=np.float64)
ACTIONS = spaces.Box(np.array([-2.0, -np.inf]), np.array([4.0, np.inf]), dtype=np.float64)
GAUSSIAN = {
    "linear": (LinearGaussianPolicy, {}),
    "linear-full": (LinearGaussianPolicy, {"covariance": "full"}),
    "rbf": (RBFPolicy, {"n_features": 7, "random_state": 0}),
    "fourier": (RBFPolicy, {"n_features": 7, "placement": "random", "random_state": 0}),
    "gp": (GaussianProcessPolicy, {}),
    "gp-sparse": (GaussianProcessPolicy, {"method": "sparse"}),
    "gp-scaled": (GaussianProcessPolicy, {"kernel": ConstantKernel(3.0) * RBF()}),
    "neural": (NeuralPolicy, {"hidden": (5,), "random_state": 0}),
}
CATEGORICAL = {
    "softmax": (SoftmaxPolicy, {}),
    "softmax-polynomial": (SoftmaxPolicy, {"features": "polynomial"}),
    "softmax-rbf": (SoftmaxPolicy, {"features": "rbf", "n_features": 7, "random_state": 0}),
    "softmax-fourier": (SoftmaxPolicy, {"features": "fourier", "n_features": 7, "random_state": 0}),
    "neural-categorical": (NeuralCategoricalPolicy, {"hidden": (5,), "random_state": 0}),
}
ALL = GAUSSIAN | CATEGORICAL


@pytest.mark.parametrize("name", GAUSSIAN)
def test_a_gaussian_starts_in_the_middle_of_the_actions(name):
    make, settings = GAUSSIAN[name]
    policy = make.from_spaces(BOX, ACTIONS, **settings)
    states = np.random.default_rng(0).normal(size=(50, 3))
    mean, std = policy.predict(states, return_std=True)
    np.testing.assert_allclose(mean, np.tile([1.0, 0.0], (50, 1)), atol=1e-12)
    np.testing.assert_allclose(std, np.tile([1.5, 0.5], (50, 1)), rtol=1e-12)
    wide = make.from_spaces(BOX, ACTIONS, initial_std=2.0, **settings)
    np.testing.assert_allclose(wide.predict(states, return_std=True)[1], np.tile([6.0, 2.0], (50, 1)), rtol=1e-12)
    np.testing.assert_allclose(policy.compile()(states[0]), [1.0, 0.0], atol=1e-12)
    assert policy.log_prob(states, mean).shape == (50,)


@pytest.mark.parametrize("name", CATEGORICAL)
def test_a_categorical_policy_starts_indifferent(name):
    make, settings = CATEGORICAL[name]
    policy = make.from_spaces(BOX, spaces.Discrete(3), **settings)
    states = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_allclose(policy.predict_proba(states), 1 / 3, rtol=1e-12)
    shifted = make.from_spaces(BOX, spaces.Discrete(2, start=5), **settings)
    assert set(shifted.sample(states, np.random.default_rng(0)).tolist()) == {5, 6}


@pytest.mark.parametrize("name", ALL)
def test_discrete_states_are_one_hot_whatever_their_shape(name):
    make, settings = ALL[name]
    actions = ACTIONS if name in GAUSSIAN else spaces.Discrete(3)
    policy = make.from_spaces(spaces.Discrete(4), actions, **settings)
    if hasattr(policy, "with_params"):
        policy = policy.with_params(policy.params + 0.1 * np.arange(len(policy.params)))
    indices = np.array([3, 0, 2, 3])
    answers = [
        policy.predict(s) for s in (indices, indices[:, None], indices[:, None].astype(float), np.eye(4)[indices])
    ]
    for each in answers[1:]:
        np.testing.assert_array_equal(each, answers[0])
    act = policy.compile()
    for state in (3, [3], np.int64(3), np.eye(4)[3]):
        np.testing.assert_allclose(act(state), answers[0][0], rtol=1e-12)
    with pytest.raises(ValueError, match=r"X\[1\] is 4: states must be one column of indices 0 .. 3"):
        policy.predict([[0], [4]])
    with pytest.raises(ValueError, match=r"X\[0\] is not one-hot"):
        policy.predict([[0.5, 0.5, 0.0, 0.0]])


@pytest.mark.parametrize("name", ALL)
def test_what_was_made_from_discrete_spaces_is_refitted_and_saved_as_such(name, tmp_path):
    make, settings = ALL[name]
    actions = spaces.Box(-1.0, 1.0, (1,)) if name in GAUSSIAN else spaces.Discrete(3)
    policy = make.from_spaces(spaces.Discrete(4), actions, **settings)
    rng = np.random.default_rng(1)
    states = rng.integers(4, size=200)
    target = np.array([0.5, -0.5, 0.3, 0.0])[states]
    labels = np.array([0, 2, 0, 2])[states]  # action 1 never occurs
    fitted = clone(policy).fit(states, (target + 0.1 * rng.normal(size=200))[:, None] if name in GAUSSIAN else labels)
    fitted.save(tmp_path / "policy")
    again = load(tmp_path / "policy")
    if name in GAUSSIAN:
        np.testing.assert_allclose(again.predict(np.arange(4))[:, 0], [0.5, -0.5, 0.3, 0.0], atol=0.1)
    else:
        np.testing.assert_array_equal(again.predict(np.arange(4)), [0, 2, 0, 2])
        assert again.predict_proba(np.arange(4)).shape == (4, 3)
    assert np.all(np.isfinite(again.kl_divergence(policy, states)))


def test_tabular_starts_from_its_prior_and_takes_every_shape():
    policy = TabularPolicy.from_spaces(spaces.Discrete(4), spaces.Discrete(2))
    np.testing.assert_array_equal(policy.predict_proba(np.eye(4)), np.full((4, 2), 0.5))
    prior = TabularPolicy.from_spaces(spaces.Discrete(4), spaces.Discrete(2), prior=[0.2, 0.8])
    np.testing.assert_array_equal(prior.predict_proba([3]), [[0.2, 0.8]])
    assert prior.compile()(np.eye(4)[2]) == prior.compile()(2) == 1
    with pytest.raises(TypeError, match=r"TabularPolicy needs a Discrete observation_space"):
        TabularPolicy.from_spaces(BOX, spaces.Discrete(2))


@pytest.mark.parametrize("name", ["linear", "neural", "neural-categorical", "gp", "tabular"])
def test_start_policies_roll_out(name):
    """In an environment of Gymnasium's, in one of this project's, and in a vector environment of discrete states."""
    make, settings = (ALL | {"tabular": (TabularPolicy, {})})[name]
    if name in GAUSSIAN:
        for env in ("Pendulum-v1", envs.SwingUp()):
            batch = rollout(env, make.from_env(env, **settings), n_steps=30, seed=0)
            assert np.all(np.isfinite(batch.actions))
        return
    policy = make.from_env("FrozenLake-v1", **settings)
    batch = rollout("FrozenLake-v1", policy, n_steps=30, seed=0)
    assert np.all(np.isfinite(policy.log_prob(batch.states, batch.actions)))
    import gymnasium

    vector = SyncVectorEnv([lambda: gymnasium.make("FrozenLake-v1")] * 3)
    batch = rollout(vector, make.from_env(vector, **settings), n_steps=30, seed=0)
    assert set(np.unique(batch.actions)) <= {0, 1, 2, 3}


def test_observed_states_set_the_scale():
    states = np.random.default_rng(0).normal(size=(300, 3)) * [1e-3, 1e3, 1.0] + [5.0, 0.0, 0.0]
    policy = NeuralPolicy.from_spaces(BOX, ACTIONS, states=states, hidden=(5,))
    np.testing.assert_allclose(policy.centre_, states.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(policy.spread_, states.std(axis=0), rtol=1e-10)
    rbf = RBFPolicy.from_spaces(BOX, ACTIONS, states=states, n_features=7, random_state=0)
    assert np.all(np.abs(rbf.features_.centres_ - states.mean(axis=0)) < 4 * states.std(axis=0))
    bounded = NeuralPolicy.from_spaces(BOX, ACTIONS, hidden=(5,))
    np.testing.assert_allclose(bounded.centre_, [1.0, 0.0, 0.0])
    np.testing.assert_allclose(bounded.spread_, [2 / np.sqrt(3), 1.0, 1.0])
    wide = spaces.Box(np.array([-0.7, -1.5]) * UNBOUNDED, np.array([0.7, 1.5]) * UNBOUNDED, dtype=np.float64)
    scaled = NeuralPolicy.from_spaces(wide, ACTIONS, hidden=(5,))
    np.testing.assert_allclose(scaled.spread_, [0.7 * UNBOUNDED / np.sqrt(3), 1.0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"states must have shape \(N, 3\), got \(300, 2\)"):
        NeuralPolicy.from_spaces(BOX, ACTIONS, states=states[:, :2])


@pytest.mark.parametrize("make", [NeuralPolicy, NeuralCategoricalPolicy])
def test_standardising_anew_changes_no_action(make):
    rng = np.random.default_rng(0)
    states = rng.normal(size=(200, 3)) * [1e-3, 1e2, 1.0] + [1.0, -2e2, 0.0]
    actions = ACTIONS if make is NeuralPolicy else spaces.Discrete(3)
    policy = make.from_spaces(BOX, actions, hidden=(6, 5), random_state=0)
    policy = policy.with_params(rng.normal(size=len(policy.params)))
    again = policy.standardised(states)
    assert policy.kl_divergence(again, states).max() < 1e-10
    np.testing.assert_allclose(again.spread_, states.std(axis=0))
    assert not np.shares_memory(again.params_, policy.params_)


@pytest.mark.parametrize(
    "space",
    [spaces.Dict({"a": BOX}), spaces.Tuple([BOX]), spaces.MultiBinary(3), spaces.MultiDiscrete([2, 3])],
    ids=lambda s: type(s).__name__,
)
@pytest.mark.parametrize("name", ALL)
def test_other_spaces_are_named(name, space):
    make, settings = ALL[name]
    actions = ACTIONS if name in GAUSSIAN else spaces.Discrete(3)
    with pytest.raises(
        TypeError, match=f"{make.__name__} needs a Box or Discrete observation_space, got .*{type(space).__name__}"
    ):
        make.from_spaces(space, actions, **settings)
    with pytest.raises(TypeError, match=f"{make.__name__} needs a .* action_space, got .*{type(space).__name__}"):
        make.from_spaces(BOX, space, **settings)


def test_the_wrong_kind_of_actions_says_who_takes_them():
    with pytest.raises(TypeError, match=r"NeuralPolicy needs a Box action_space, got Discrete\(2\): SoftmaxPolicy"):
        NeuralPolicy.from_env("CartPole-v1")
    with pytest.raises(TypeError, match=r"needs a Discrete action_space, got Box\(.*\): LinearGaussianPolicy"):
        NeuralCategoricalPolicy.from_env("Pendulum-v1")
    with pytest.raises(TypeError, match="env must have an observation_space"):
        NeuralPolicy.from_env(3)
    with pytest.raises(ValueError, match="observation_space must count from 0"):
        NeuralPolicy.from_spaces(spaces.Discrete(3, start=1), ACTIONS)
    with pytest.raises(ValueError, match="initial_std must be > 0"):
        NeuralPolicy.from_spaces(BOX, ACTIONS, initial_std=0.0)


@pytest.mark.parametrize("name", ALL)
def test_whole_numbers_are_one_column(name):
    """States (N,) as roll-outs of discrete spaces give them, where a policy was not told of the space."""
    make, settings = ALL[name]
    rng = np.random.default_rng(0)
    states, actions = rng.integers(5, size=40), rng.normal(size=40) if name in GAUSSIAN else rng.integers(2, size=40)
    policies = [make(**settings).fit(s, actions) for s in (states, states[:, None])]
    np.testing.assert_array_equal(policies[0].predict(states), policies[1].predict(states[:, None].astype(float)))


def test_features_are_placed_by_hundreds_of_states_and_by_few_images() -> None:
    policy = RBFPolicy.from_spaces(BOX, ACTIONS, n_features=500, random_state=0)
    assert policy.params.size > 2 * 500  # of two actions
    assert read_observations(spaces.Box(0, 255, (84, 84, 4)), None, "a policy").typical.nbytes < 9e6
