"""Parameters, scores and Fisher factors of the parametric policies, against finite differences."""

import numpy as np
import pytest
from sklearn.base import clone, is_classifier

from policies import (
    LinearGaussianPolicy,
    NeuralCategoricalPolicy,
    NeuralPolicy,
    RBFPolicy,
    SoftmaxPolicy,
    TabularPolicy,
)

POLICIES = {
    "linear": LinearGaussianPolicy(),
    "linear-full": LinearGaussianPolicy(covariance="full"),
    "rbf": RBFPolicy(n_features=4, random_state=0),
    "tabular": TabularPolicy(smoothing=1.0),
    "softmax": SoftmaxPolicy(),
    "softmax-rbf": SoftmaxPolicy(features="rbf", n_features=4, random_state=0),
    "neural": NeuralPolicy(hidden=(3, 4), max_iter=20, random_state=0),
    "neural-categorical": NeuralCategoricalPolicy(hidden=(3,), max_iter=20, random_state=0),
}


@pytest.fixture(params=POLICIES)
def fitted(request):
    rng = np.random.default_rng(0)
    states, actions = rng.normal(size=(30, 2)), rng.normal(size=(30, 2))
    actions[:, 1] += 0.5 * actions[:, 0] + states[:, 0]
    if is_classifier(POLICIES[request.param]):
        states, actions = np.round(states), rng.integers(0, 3, 30)
    return clone(POLICIES[request.param]).fit(states, actions), states, actions


def test_parameters_round_trip_and_are_copies(fitted):
    policy, states, actions = fitted
    again = policy.with_params(policy.params)
    np.testing.assert_allclose(again.log_prob(states, actions), policy.log_prob(states, actions), rtol=1e-12)
    params = policy.params
    params += 1
    moved = policy.with_params(params + np.arange(len(params)))
    params[:] = np.nan
    assert np.all(np.isfinite(moved.params))
    assert np.all(np.isfinite(policy.params))
    assert moved.kl_divergence(policy, states).max() > 1e-3
    with pytest.raises(ValueError, match=r"params must have shape"):
        policy.with_params(params[:-1])


def test_score_is_the_gradient_of_the_log_density(fitted):
    policy, states, actions = fitted
    theta, h = policy.params, 1e-5
    score = policy.score_function(states, actions)
    for j in range(len(theta)):
        step = h * (np.arange(len(theta)) == j)
        up, down = (policy.with_params(theta + sign * step).log_prob(states, actions) for sign in (1, -1))
        np.testing.assert_allclose(score[:, j], (up - down) / (2 * h), rtol=1e-5, atol=1e-7)


def test_fisher_factor_is_the_hessian_of_the_mean_kl(fitted):
    policy, states, _ = fitted
    J, theta, h = policy.fisher_factor(states), policy.params, 1e-3
    F = J.T @ J / len(J)
    for direction in np.random.default_rng(1).normal(size=(8, len(theta))):
        up, down = (policy.kl_divergence(policy.with_params(theta + s * h * direction), states).mean() for s in (1, -1))
        assert direction @ F @ direction == pytest.approx((up + down) / h**2, rel=1e-3)


def test_fisher_product_is_that_of_the_factor(fitted):
    policy, states, _ = fitted
    J, v = policy.fisher_factor(states), np.random.default_rng(3).normal(size=len(policy.params))
    np.testing.assert_allclose(policy.fisher_product(states)(v), J.T @ (J @ v) / len(J), rtol=1e-10, atol=1e-12)


def test_score_product_is_that_of_the_scores(fitted):
    policy, states, actions = fitted
    w = np.random.default_rng(4).normal(size=len(states))
    expected = w @ policy.score_function(states, actions)
    np.testing.assert_allclose(policy.score_product(states, actions, w), expected, rtol=1e-10, atol=1e-12)


def test_compare_is_log_ratio_and_divergence(fitted):
    policy, states, actions = fitted
    other = policy.with_params(policy.params + 0.1)
    log_ratio, kl = policy.compare(other, states, actions)
    expected = other.log_prob(states, actions) - policy.log_prob(states, actions)
    np.testing.assert_allclose(log_ratio, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(kl, policy.kl_divergence(other, states))


def test_score_has_zero_mean_and_fisher_covariance(fitted):
    policy, states, _ = fitted
    rng = np.random.default_rng(2)
    tiled = np.repeat(states[:3], 4000, axis=0)
    score = policy.score_function(tiled, policy.sample(tiled, rng))
    error = score.std(axis=0) / np.sqrt(len(score))
    assert np.all(np.abs(score.mean(axis=0)) <= 5 * error + 1e-12)
    J = policy.fisher_factor(states[:3])
    np.testing.assert_allclose(
        score.T @ score / len(score), J.T @ J / len(J), atol=0.2 * np.sqrt(np.mean(score**2)) + 0.05
    )
