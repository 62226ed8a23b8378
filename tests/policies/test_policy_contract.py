"""The contract every policy keeps: scikit-learn's checks, methods that agree, bad input, compiled actors."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from policies import (
    GaussianProcessPolicy,
    LinearGaussianPolicy,
    NeuralCategoricalPolicy,
    NeuralPolicy,
    RBFPolicy,
    SoftmaxPolicy,
    TabularPolicy,
)

SMALL_NET = {"hidden": (8,), "max_iter": 60, "random_state": 0}

GAUSSIAN = {
    "linear": LinearGaussianPolicy(),
    "linear-full": LinearGaussianPolicy(covariance="full"),
    "rbf": RBFPolicy(n_features=10, random_state=0),
    "fourier": RBFPolicy(n_features=10, placement="random", random_state=0),
    "gp-exact": GaussianProcessPolicy(method="exact", random_state=0),
    "gp-sparse": GaussianProcessPolicy(method="sparse", n_inducing=20, random_state=0),
    "gp-features": GaussianProcessPolicy(method="features", n_inducing=50, random_state=0),
    "neural": NeuralPolicy(**SMALL_NET),
}
CATEGORICAL = {
    "tabular": TabularPolicy(),
    "softmax": SoftmaxPolicy(),
    "softmax-polynomial": SoftmaxPolicy(features="polynomial"),
    "softmax-rbf": SoftmaxPolicy(features="rbf", n_features=10, random_state=0),
    "neural-categorical": NeuralCategoricalPolicy(**SMALL_NET, alpha=1.0),  # the default needs more than three samples
}
POLICIES = GAUSSIAN | CATEGORICAL


def hasty(policy):
    """The same with a few steps of its search, where it has one: they are enough for every check."""
    return clone(policy).set_params(max_iter=5) if "max_iter" in policy.get_params() else policy


@parametrize_with_checks([hasty(policy) for policy in POLICIES.values()])
@pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.SkipTestWarning", "ignore::sklearn.exceptions.ConvergenceWarning"
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def data(name, n=40, seed=0):
    """States (n, 2), two actions (or labels), unequal weights."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(n, 2))
    mean = np.column_stack([np.sin(states[:, 0]), states[:, 1]])
    actions = mean + 0.3 * rng.normal(size=(n, 2))
    if name in CATEGORICAL:
        states, actions = np.round(states), (actions[:, 0] > 0).astype(int) + (actions[:, 1] > 1)
    return states, actions, rng.exponential(size=n)


@pytest.fixture(params=POLICIES)
def fitted(request):
    states, actions, weights = data(request.param)
    return clone(POLICIES[request.param]).fit(states, actions, sample_weight=weights), states, actions


def test_samples_have_the_density_they_claim(fitted):
    """Monte Carlo over samples: mean of log p - log q is the KL divergence, within five standard errors."""
    policy, states, actions = fitted
    other = clone(policy).fit(states[::2], actions[::2])
    rng = np.random.default_rng(1)
    tiled = np.repeat(states[:4], 4000, axis=0)
    drawn = policy.sample(tiled, rng)
    with np.errstate(invalid="ignore"):
        ratio = policy.log_prob(tiled, drawn) - other.log_prob(tiled, drawn)
    ratio = ratio.reshape(4, -1)
    kl = policy.kl_divergence(other, states[:4])
    finite = np.isfinite(kl)
    error = ratio.std(axis=1) / np.sqrt(ratio.shape[1])
    assert np.all(np.abs(ratio.mean(axis=1) - kl)[finite] <= 5 * error[finite] + 1e-12)
    assert np.all(policy.kl_divergence(policy, states) < 1e-10)


def test_shapes_and_reproducible_samples(fitted):
    policy, states, actions = fitted
    first = policy.sample(states, np.random.default_rng(3))
    np.testing.assert_array_equal(first, policy.sample(states, np.random.default_rng(3)))
    assert first.shape == actions.shape == policy.predict(states).shape
    assert policy.log_prob(states, actions).shape == (len(states),)


def test_compiled_actor_acts_as_the_policy(fitted):
    """Deterministic actions are the prediction; sampled ones have the policy's moments; pickling keeps both."""
    policy, states, _ = fitted
    act = pickle.loads(pickle.dumps(policy.compile()))
    for state, mean in zip(states[:5], policy.predict(states[:5]), strict=True):
        np.testing.assert_allclose(act(state), mean, rtol=1e-7, atol=1e-9)
    rng = np.random.default_rng(2)
    drawn = np.array([act(states[0], rng) for _ in range(4000)])
    many = np.repeat(states[:1], 4000, axis=0)
    expected = policy.sample(many, rng)
    error = np.sqrt((drawn.var(axis=0) + expected.var(axis=0)) / 4000)
    assert np.all(np.abs(drawn.mean(axis=0) - expected.mean(axis=0)) <= 5 * error)
    np.testing.assert_allclose(drawn.std(axis=0), expected.std(axis=0), rtol=0.12, atol=1e-12)


@pytest.mark.parametrize("name", GAUSSIAN)
def test_compiled_actor_keeps_bounds(name):
    states, actions, _ = data(name)
    act = clone(GAUSSIAN[name]).fit(states, actions[:, 0]).compile(low=-0.1, high=0.2)
    drawn = np.array([act(states[0], np.random.default_rng(i)) for i in range(50)])
    assert drawn.shape == (50,)
    assert drawn.min() == -0.1
    assert drawn.max() == 0.2


@pytest.mark.parametrize("name", GAUSSIAN)
def test_bounds_in_the_wrong_order_are_refused(name):
    states, actions, _ = data(name)
    with pytest.raises(ValueError, match="low must not exceed high"):
        clone(GAUSSIAN[name]).fit(states, actions).compile(low=1, high=0)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(40), "sample_weight is zero everywhere"),
        (np.r_[np.ones(39), -1], r"sample_weight\[39\] is -1"),
        (np.r_[np.nan, np.ones(39)], r"sample_weight\[0\] is nan"),
        (np.ones(39), "sample_weight must have shape"),
    ],
)
def test_bad_weights_are_named(name, weights, message):
    states, actions, _ = data(name)
    with pytest.raises(ValueError, match=message):
        clone(POLICIES[name]).fit(states, actions, sample_weight=weights)


@pytest.mark.parametrize("name", POLICIES)
def test_weights_of_26_decades_and_1e_minus_300_are_finite(name):
    """One dominant sample, many negligible ones, and all tiny at once: finite everywhere; zero weight is absence."""
    states, actions, _ = data(name)
    policy = clone(POLICIES[name])
    rng = np.random.default_rng(0)
    for weights in (10.0 ** rng.uniform(-13, 13, 40), np.full(40, 1e-300), np.r_[1.0, np.full(39, 1e-26)]):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*effective sample size", UserWarning)
            policy.fit(states, actions, sample_weight=weights)
        mean = policy.predict(states, return_std=True) if name in GAUSSIAN else (policy.predict_proba(states),)
        assert all(np.all(np.isfinite(part)) for part in mean)
        assert name in CATEGORICAL or mean[1].min() > 0
    kept = np.arange(40) < 30
    absent = clone(policy).fit(states[kept], actions[kept])
    policy.fit(states, actions, sample_weight=kept.astype(float))
    np.testing.assert_allclose(policy.predict(states[kept]), absent.predict(states[kept]), rtol=1e-9)


@pytest.mark.parametrize("name", GAUSSIAN)
def test_constant_states_and_constant_actions(name):
    """Constant states: the weighted mean and spread. Constant actions: that action, almost surely. One sample: it."""
    states, actions, _ = data(name)
    policy = clone(GAUSSIAN[name]).fit(np.ones((40, 2)), actions)
    mean, std = policy.predict([[1.0, 1.0]], return_std=True)
    np.testing.assert_allclose(mean[0], actions.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(std[0], actions.std(axis=0), rtol=0.1)
    mean, std = policy.fit(states, np.full((40, 2), 3.0)).predict(states, return_std=True)
    np.testing.assert_allclose(mean, 3.0, rtol=1e-6)
    assert np.all((std > 0) & (std < 1e-2))
    mean, std = policy.fit(states[:1], actions[:1]).predict(states[:1], return_std=True)
    np.testing.assert_allclose(mean[0], actions[0], rtol=1e-6)
    assert np.all(std > 0)


@pytest.mark.parametrize("name", GAUSSIAN)
def test_duplicates_count_as_often_as_they_come(name):
    """Samples twice and three times are samples of weight two and three; opposite actions in one state are its noise.

    The linear policies' covariance is the exception: its trace correction asks for how many independent samples the
    weights stand for, and a sample seen twice is two of them.
    """
    states, actions, _ = data(name)
    counts = np.random.default_rng(5).integers(1, 4, 40)
    policy = clone(GAUSSIAN[name])
    weighted = policy.fit(states, actions, sample_weight=counts.astype(float)).predict(states, return_std=True)
    policy.fit(states.repeat(counts, axis=0), actions.repeat(counts, axis=0))
    repeated = policy.predict(states, return_std=True)
    np.testing.assert_allclose(weighted[0], repeated[0], rtol=0, atol=1e-6)
    if isinstance(policy, LinearGaussianPolicy):
        assert np.all((repeated[1] < weighted[1]) & (weighted[1] < 1.2 * repeated[1]))
    else:
        np.testing.assert_allclose(weighted[1], repeated[1], rtol=0, atol=1e-6)
    here = np.repeat(states[:1], 30, axis=0)
    mean, std = policy.fit(here, np.resize([-1.0, 1.0], 30)).predict(states[:1], return_std=True)
    assert mean[0] == pytest.approx(0.0, abs=1e-6)
    assert std[0] == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("name", POLICIES)
def test_few_effective_samples_warn_and_three_are_enough(name):
    states, actions, _ = data(name)
    policy = clone(POLICIES[name])
    with pytest.warns(UserWarning, match=r"effective sample size of 1\.\d\d: lower epsilon") as caught:
        policy.fit(states, actions, sample_weight=np.r_[1.0, np.full(39, 1e-3)])
    assert {warning.filename for warning in caught} == {__file__}  # the caller's line, not one of the package
    weights = np.r_[np.ones(3), np.zeros(37)]
    policy.fit(states, actions, sample_weight=weights)
    if name in CATEGORICAL:
        np.testing.assert_array_equal(policy.predict(states[:3]), actions[:3])
    else:
        mean, std = policy.predict(states, return_std=True)
        assert np.all(np.isfinite(mean))
        assert np.all(std > 0)


@pytest.mark.parametrize("name", GAUSSIAN)
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_action_units_do_not_matter(name, scale):
    states, actions, weights = data(name)
    mean, std = clone(GAUSSIAN[name]).fit(states, actions, weights).predict(states, return_std=True)
    scaled = clone(GAUSSIAN[name]).fit(states, scale * actions, weights).predict(states, return_std=True)
    np.testing.assert_allclose(scaled[0] / scale, mean, rtol=0, atol=2e-3)
    np.testing.assert_allclose(scaled[1] / scale, std, rtol=2e-2)


@pytest.mark.parametrize("name", GAUSSIAN)
def test_state_units_do_not_matter(name):
    states, actions, weights = data(name)
    units = np.array([1e-6, 1e6])
    reference = clone(GAUSSIAN[name]).fit(states, actions, weights).predict(states)
    scaled = clone(GAUSSIAN[name]).fit(states * units, actions, weights).predict(states * units)
    np.testing.assert_allclose(scaled, reference, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", POLICIES)
def test_inputs_of_any_layout_give_one_answer_and_stay_unchanged(name):
    states, actions, weights = (np.float32(part) if part.dtype.kind == "f" else part for part in data(name))
    reference = clone(POLICIES[name]).fit(states.astype(float), actions, weights.astype(float))
    frozen = [np.asfortranarray(states), actions.copy(), weights.copy()]
    for part in frozen:
        part.flags.writeable = False
    policy = clone(POLICIES[name]).fit(*frozen)
    np.testing.assert_allclose(policy.predict(states), reference.predict(states), rtol=1e-12)
    lists = clone(POLICIES[name]).fit(states.tolist(), actions.tolist(), weights.tolist())
    np.testing.assert_allclose(lists.predict(states), reference.predict(states), rtol=1e-12)


@pytest.mark.parametrize("name", POLICIES)
def test_numpys_global_generator_is_left_alone(name):
    states, actions, _ = data(name)
    policy = clone(POLICIES[name])
    if "random_state" in policy.get_params():
        policy.set_params(random_state=None)
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the legacy state is what must not move
    policy.fit(states, actions).sample(states, np.random.default_rng(0))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_mismatched_policies_are_refused():
    states, actions, _ = data("linear")
    gaussian = LinearGaussianPolicy().fit(states, actions)
    with pytest.raises(TypeError, match="other must have a Gaussian distribution, got Categorical"):
        gaussian.kl_divergence(TabularPolicy().fit(states, actions[:, 0] > 0), states)
    with pytest.raises(ValueError, match="other must have actions of shape"):
        gaussian.kl_divergence(LinearGaussianPolicy().fit(states, actions[:, 0]), states)
    with pytest.raises(ValueError, match=r"actions must have shape \(40, 2\), got \(40,\)"):
        gaussian.log_prob(states, actions[:, 0])


def test_pipeline_and_cross_validation():
    states, actions, _ = data("linear")
    scores = cross_val_score(make_pipeline(StandardScaler(), LinearGaussianPolicy()), states, actions, cv=3)
    assert scores.min() > 0.6


def printed_by(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_loads_no_heavy_library():
    code = (
        "import sys, policies;"
        "print([m for m in ('torch', 'gpytorch', 'sklearn', 'cvxpy', 'scipy') if m in sys.modules])"
    )
    assert printed_by(code) == "[]"
    code = (
        "import sys, policies, numpy as np; x = np.arange(9.0)[:, None];"
        "policies.GaussianProcessPolicy().fit(x, np.sin(x)).compile();"
        "print([m for m in ('torch', 'gpytorch', 'cvxpy') if m in sys.modules])"
    )
    assert printed_by(code) == "[]"
