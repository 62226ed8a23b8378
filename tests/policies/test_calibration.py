"""The spread that a policy explores with, on the few effective samples that weights leave: against fresh actions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import clone

from policies import (
    GaussianProcessPolicy,
    LinearGaussianPolicy,
    NeuralCategoricalPolicy,
    NeuralPolicy,
    PolynomialStates,
    RBFPolicy,
    SoftmaxPolicy,
)

NOISE = 0.5
GAUSSIAN = {
    "linear": LinearGaussianPolicy(),
    "polynomial": LinearGaussianPolicy(features=PolynomialStates()),
    "rbf": RBFPolicy(random_state=0),
    "fourier": RBFPolicy(placement="random", random_state=0),
    "gp": GaussianProcessPolicy(random_state=0),  # exact up to a thousand samples
    "gp-sparse": GaussianProcessPolicy(method="sparse", n_inducing=60, random_state=0),
    "gp-features": GaussianProcessPolicy(method="features", random_state=0),
    "neural": NeuralPolicy(hidden=(16, 16), random_state=0),
}
CATEGORICAL = {
    "softmax": SoftmaxPolicy(n_actions=3),
    "softmax-rbf": SoftmaxPolicy(features="rbf", n_features=30, n_actions=3, random_state=0),
    "neural-categorical": NeuralCategoricalPolicy(hidden=(16, 16), n_actions=3, random_state=0),
}

# Medians over seeds: effective samples, least coverage of two standard deviations, range of std over the true noise.
BOUNDS = {20: (0.84, 0.75, 1.9), 100: (0.90, 0.85, 1.4), 1000: (0.93, 0.93, 1.12)}


def mean_action(name, states):
    first = states[:, 0] if name == "linear" else np.sin(2 * states[:, 0])
    return first - 0.5 * states[:, 1]


def samples(name, ess, seed, weighted):
    """States (N, 3), actions and weights of this effective sample size, at its scale."""
    rng = np.random.default_rng(seed)
    n = 3 * ess if weighted else ess
    weights = np.exp(rng.normal(size=n)) if weighted else np.ones(n)
    weights *= weights.sum() / np.sum(weights**2)
    states = rng.uniform(-1.5, 1.5, (n, 3))
    return states, mean_action(name, states) + NOISE * rng.normal(size=n), weights


@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("ess", BOUNDS)
@pytest.mark.parametrize("name", GAUSSIAN)
def test_two_standard_deviations_cover_fresh_actions(name, ess, weighted):
    coverage, ratio = [], []
    for seed in range({20: 7, 100: 3, 1000: 1}[ess]):
        policy = clone(GAUSSIAN[name]).fit(*samples(name, ess, seed, weighted))
        fresh, actions, _ = samples(name, 1000, 100 + seed, weighted=False)
        mean, std = policy.predict(fresh, return_std=True)
        coverage.append(np.mean(np.abs(actions - mean) <= 2 * std))
        ratio.append(np.sqrt(np.mean(std**2)) / NOISE)
    least, low, high = BOUNDS[ess]
    if name == "polynomial":
        high *= 1.2  # a sine is no polynomial: what it lacks is spread
    assert least <= np.median(coverage) <= 1.0
    assert low <= np.median(ratio) <= high
    assert min(ratio) > 0.5


@pytest.mark.parametrize("dimensions", [3, 6])
@pytest.mark.parametrize("name", ["rbf", "fourier", "polynomial", "neural"])
def test_noise_is_not_lost_where_there_are_more_features_than_samples(name, dimensions):
    """Twenty samples, thirty features; actions without a pattern: their spread is the noise."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        states, actions = rng.normal(size=(20, dimensions)), rng.normal(size=20)
        policy = clone(GAUSSIAN[name]).fit(states, actions)
        mean, std = policy.predict(rng.normal(size=(500, dimensions)), return_std=True)
        assert 0.6 < np.sqrt(np.mean(std**2)) / actions.std() < 2.5
        assert np.sqrt(np.mean(mean**2 + std**2)) > 0.8 * actions.std()


@pytest.mark.parametrize(("ess", "most"), [(20, 0.35), (100, 0.12), (1000, 0.05)])
@pytest.mark.parametrize("name", CATEGORICAL)
def test_probabilities_are_near_the_truth(name, ess, most):
    """Mean KL(truth || fit): nats lost by acting as if the fit were true. Without a pattern log 3 is all there is."""
    lost = []
    for seed in range(3 if ess < 1000 else 1):
        rng = np.random.default_rng(seed)
        states, fresh = rng.uniform(-1.5, 1.5, (ess, 3)), rng.uniform(-1.5, 1.5, (1000, 3))
        logits = [2 * s[:, :1] * [1.0, -1.0, 0.0] + s[:, 1:2] * [0.0, 1.0, 0.0] for s in (states, fresh)]
        labels = np.argmax(logits[0] + rng.gumbel(size=logits[0].shape), axis=1)
        policy = clone(CATEGORICAL[name]).fit(states, labels)
        truth = np.exp(logits[1]) / np.exp(logits[1]).sum(axis=1, keepdims=True)
        lost.append(np.mean(np.sum(truth * np.log(truth / policy.predict_proba(fresh)), axis=1)))
    assert np.median(lost) < most


def test_the_networks_noise_on_degenerate_data():
    """Repeated states, constant actions, two samples: a spread that is finite, positive, and says what it can."""
    few = NeuralPolicy(hidden=(8,), random_state=0).fit([[2.0], [3.0], [1.0], [2.0]], [3.0, -2.0, 3.0, 3.0])
    mean, std = few.predict([[1.0], [2.0], [3.0]], return_std=True)
    assert np.all(np.isfinite(mean))
    assert np.all((std > 0.1) & (std < 10))
    constant = NeuralPolicy(random_state=0).fit(np.arange(50.0)[:, None], np.full(50, 2.5))
    mean, std = constant.predict([[3.3], [90.0]], return_std=True)
    np.testing.assert_allclose(mean, 2.5, rtol=1e-6)
    np.testing.assert_allclose(std, 2.5e-6, rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair = NeuralPolicy(hidden=(4,), random_state=0).fit([[0.0], [1.0]], [0.0, 1.0])
    assert 0.1 < pair.predict([[0.5]], return_std=True)[1][0] < 5


def test_a_network_finds_a_sine_among_noise():
    """On 100 samples in 3 dimensions, weights even: a fifth of the error that an interpolating network makes."""
    states, actions, _ = samples("neural", 100, 0, weighted=False)
    fresh = np.random.default_rng(7).uniform(-1.5, 1.5, (1000, 3))
    policy = NeuralPolicy(random_state=0).fit(states, actions)
    assert np.sqrt(np.mean((policy.predict(fresh) - mean_action("neural", fresh)) ** 2)) < 0.3
