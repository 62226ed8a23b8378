"""Inputs that used to be answered wrongly without a word: each has its right value, or an error that names it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, CompoundKernel, ConstantKernel, ExpSineSquared, Matern, WhiteKernel

from policies import (
    GaussianProcessPolicy,
    LinearGaussianPolicy,
    NeuralCategoricalPolicy,
    NeuralPolicy,
    RBFPolicy,
    SoftmaxPolicy,
    TabularPolicy,
)
from reps_opt import EpisodicREPS, solve

NET = {"hidden": (4,), "max_iter": 5, "random_state": 0}
GAUSSIAN = {
    "linear": LinearGaussianPolicy(),
    "rbf": RBFPolicy(n_features=5, random_state=0),
    "gp": GaussianProcessPolicy(max_iter=5),
    "neural": NeuralPolicy(**NET),
}
CATEGORICAL = {
    "tabular": TabularPolicy(),
    "softmax": SoftmaxPolicy(),
    "neural-categorical": NeuralCategoricalPolicy(**NET),
}
POLICIES = GAUSSIAN | CATEGORICAL


def data(name, n=30, d=2):
    rng = np.random.default_rng(0)
    states = rng.normal(size=(n, d))
    return states, states[:, 0] + 0.3 * rng.normal(size=n) if name in GAUSSIAN else np.arange(n) % 3


@pytest.mark.parametrize("name", POLICIES)
def test_masked_arrays_are_refused_where_something_is_masked(name):
    states, actions = data(name)
    masked = np.ma.masked_array(states, np.zeros(states.shape, bool))
    weights = np.ma.masked_array(np.ones(30), np.arange(30) == 3)
    policy = clone(POLICIES[name]).fit(masked, actions)
    masked[4, 1] = np.ma.masked
    with pytest.raises(TypeError, match=r"X\[4, 1\] is masked: leave masked rows out"):
        clone(policy).fit(masked, actions)
    with pytest.raises(TypeError, match=r"sample_weight\[3\] is masked"):
        clone(policy).fit(states, actions, weights)
    with pytest.raises(TypeError, match=r"y\[3\] is masked"):
        clone(policy).fit(states, np.ma.masked_array(actions, weights.mask))
    with pytest.raises(TypeError, match=r"states\[4, 1\] is masked"):
        policy.sample(masked, np.random.default_rng(0))
    with pytest.raises(TypeError, match=r"actions\[3\] is masked"):
        policy.log_prob(states, np.ma.masked_array(actions, weights.mask))


@pytest.mark.parametrize("name", POLICIES)
def test_numbers_whose_squares_do_not_exist_are_named(name):
    states, actions = data(name)
    clone(POLICIES[name]).fit(states, actions, np.full(30, 0.7e100))
    with pytest.raises(ValueError, match=r"sample_weight\[0\] is 1.5e\+100"):
        clone(POLICIES[name]).fit(states, actions, np.full(30, 1.5e100))
    for value, message in (
        (1e305, r"X\[0, 1\] is 1e\+305"),
        (1e-200, r"X\[:, 1\] is at most 1e-200"),
        (1e-320, "is at most 9.99"),
    ):
        spoiled = states.copy()
        spoiled[:, 1] = value
        with pytest.raises(ValueError, match=message):
            clone(POLICIES[name]).fit(spoiled, actions)
    with pytest.raises(ValueError, match=r"sample_weight\[0\] is 1e\+308"):
        clone(POLICIES[name]).fit(states, actions, np.full(30, 1e308))
    if name in GAUSSIAN:
        with pytest.raises(ValueError, match=r"y\[0\] is 1e\+200"):
            clone(POLICIES[name]).fit(states, np.full(30, 1e200))


@pytest.mark.parametrize("name", POLICIES)
def test_a_seed_is_no_generator(name):
    states, actions = data(name)
    with pytest.raises(TypeError, match=r"rng must be a generator such as np\.random\.default_rng\(0\), got 0"):
        clone(POLICIES[name]).fit(states, actions).sample(states, 0)


@pytest.mark.parametrize("name", POLICIES)
def test_weights_that_sum_to_one_over_many_samples_warn(name):
    states, actions = data(name)
    weights = np.random.default_rng(1).uniform(0.5, 1.0, 30)
    policy = clone(POLICIES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.fit(states, actions, weights * weights.sum() / np.sum(weights**2))
        policy.fit(states, actions, np.r_[1.0, np.zeros(29)])  # one sample of weight one
    if name == "tabular":  # it counts, without a prior
        policy.fit(states, actions, weights / weights.sum())
        policy.set_params(smoothing=0.1)
    with pytest.warns(
        UserWarning, match=r'the weights sum to one.*size, 2\d(\.\d)?, as solution\.weights\("ess"\) does'
    ):
        policy.fit(states, actions, weights / weights.sum())


def test_weights_of_an_episodic_problem_at_either_scale():
    rng = np.random.default_rng(0)
    states = rng.uniform(-2, 2, (400, 1))
    target = np.sin(2 * states[:, 0])
    actions = target + rng.normal(size=400)
    solution = solve(EpisodicREPS(-((actions - target) ** 2), epsilon=0.5))
    with pytest.warns(UserWarning, match="the weights sum to one"):
        poor = GaussianProcessPolicy().fit(states, actions, solution.weights("sum"))
    good = GaussianProcessPolicy().fit(states, actions, solution.weights("ess"))
    errors = [np.sqrt(np.mean((p.predict(states) - target) ** 2)) for p in (poor, good)]
    assert errors[0] > 0.5
    assert errors[1] < 0.1


@pytest.mark.parametrize("missing", [None, np.nan])
def test_a_period_that_is_missing_is_named(missing):
    states, actions = data("gp")
    with pytest.raises(ValueError, match=rf"periods\[1\] is {missing}: a period is > 0, and np\.inf"):
        GaussianProcessPolicy(periods=[2 * np.pi, missing]).fit(states, actions)
    with pytest.raises(ValueError, match=r"periods\[0\] is -1"):
        GaussianProcessPolicy(periods=[-1.0, np.inf]).fit(states, actions)
    plain = GaussianProcessPolicy(periods=[np.inf, np.inf], max_iter=5).fit(states, actions)
    np.testing.assert_allclose(
        plain.predict(states), GaussianProcessPolicy(max_iter=5).fit(states, actions).predict(states)
    )


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (Matern, r"kernel must be an instance, such as Matern\(\), got the class itself"),
        (CompoundKernel([RBF(), Matern()]), "kernel must be one kernel, got a CompoundKernel"),
        (WhiteKernel(), "kernel must be more than white noise"),
        (RBF() * WhiteKernel(), "kernel must add its WhiteKernel"),
        (WhiteKernel() ** 2, "kernel must add its WhiteKernel"),
    ],
    ids=["class", "compound", "white", "product", "power"],
)
def test_kernels_that_are_none_say_why(kernel, message):
    with pytest.raises(TypeError, match=message):
        GaussianProcessPolicy(kernel).fit(*data("gp"))


@pytest.mark.parametrize("method", ["exact", "sparse"])
@pytest.mark.parametrize(
    "kernel", [RBF() + WhiteKernel(0.3), WhiteKernel(0.3) + RBF(), RBF() + 3.0 * WhiteKernel(0.1)], ids=str
)
def test_white_noise_in_a_kernel_is_noise_as_scikit_learn_has_it(kernel, method):
    """On repeated states, where a function of the state would be shared by the repetitions."""
    rng = np.random.default_rng(0)
    states = np.repeat(rng.uniform(-3, 3, (12, 1)), 5, axis=0)
    actions = np.sin(states[:, 0]) + 0.3 * rng.normal(size=60)
    policy = GaussianProcessPolicy(kernel, method=method, optimize=False).fit(states, actions)
    z = (actions - actions.mean()) / actions.std()
    v = policy.posterior_.variance[0]
    oracle = GaussianProcessRegressor(ConstantKernel(v) * kernel, alpha=1e-12, optimizer=None).fit(states, z)
    grid = np.linspace(-3, 3, 20)[:, None]
    mean, std = oracle.predict(grid, return_std=True)  # at new states the white noise is in its deviation
    got, spread = policy.predict(grid, return_std=True)
    np.testing.assert_allclose(got, actions.mean() + actions.std() * mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(spread, actions.std() * std, rtol=1e-5)
    assert policy.noise_ == pytest.approx(0.3)


def test_periodic_kernels_on_repeated_states():
    """scikit-learn's posterior at the learned parameters; in two dimensions, where the kernel is none, an error."""
    rng = np.random.default_rng(1)
    states = np.repeat(rng.uniform(-3, 3, (8, 1)), 6, axis=0)
    actions = np.sin(states[:, 0]) + 0.2 * rng.normal(size=48)
    policy = GaussianProcessPolicy(ExpSineSquared(1.0, 6.0)).fit(states, actions)
    z = (actions - actions.mean()) / actions.std()
    v = policy.posterior_.variance[0]
    oracle = GaussianProcessRegressor(v * policy.kernel_, alpha=v * policy.noise_, optimizer=None).fit(states, z)
    grid = np.linspace(-3, 3, 20)[:, None]
    expected = actions.mean() + actions.std() * oracle.predict(grid)
    np.testing.assert_allclose(policy.predict(grid), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        GaussianProcessPolicy(ExpSineSquared()).fit(np.repeat(rng.uniform(-3, 3, (6, 2)), 10, axis=0), np.arange(60.0))


@pytest.mark.parametrize("method", ["exact", "sparse", "features"])
@pytest.mark.parametrize(
    ("unit", "offset"),
    [([1.0, 1e9], 0.0), ([1e-9, 1.0], 0.0), ([1.0, 1.0], 3e8), ([1e9, 1.0], [1e17, 3e8])],
    ids=["unit", "small-unit", "offset", "both"],
)
def test_units_and_offsets_of_columns_do_not_matter(method, unit, offset):
    rng = np.random.default_rng(0)
    states = rng.uniform(-1.5, 1.5, (400, 2))
    actions = np.sin(2 * states[:, 0]) + states[:, 1] + 0.1 * rng.normal(size=400)
    policy = GaussianProcessPolicy(method=method, n_inducing=60, random_state=0)
    plain = clone(policy).fit(states, actions)
    moved = clone(policy).fit(states * unit + offset, actions)
    assert moved.objective_ == pytest.approx(plain.objective_, abs=0.05)
    fresh = rng.uniform(-1.4, 1.4, (200, 2))
    truth = np.sin(2 * fresh[:, 0]) + fresh[:, 1]
    error = np.sqrt(np.mean((moved.predict(fresh * unit + offset) - truth) ** 2))
    assert error < (0.06 if method == "features" else 0.03)
    act = moved.compile()
    assert act(fresh[0] * unit + offset) == pytest.approx(moved.predict(fresh[:1] * unit + offset)[0], abs=1e-6)


def test_tables_in_single_precision():
    logits = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    table = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    policy = TabularPolicy.from_probabilities(table)
    np.testing.assert_allclose(policy.probabilities_.sum(axis=1), 1, rtol=0, atol=1e-15)
    np.testing.assert_allclose(policy.probabilities_, table, rtol=1e-6)
    TabularPolicy(prior=np.array([0.1, 0.9], np.float32), n_states=2, n_actions=2).fit([0], [1])
    with pytest.raises(ValueError, match="sums to"):
        TabularPolicy.from_probabilities(table * np.float32(1.001))


@pytest.mark.parametrize("name", CATEGORICAL)
def test_labels_as_one_column(name):
    states, labels = data(name)
    policy = clone(POLICIES[name]).fit(states, labels)
    np.testing.assert_array_equal(policy.log_prob(states, labels[:, None]), policy.log_prob(states, labels))
