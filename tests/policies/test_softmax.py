"""The softmax policy's fit against scikit-learn's logistic regression, SciPy and quadrature; what it learns."""

import gymnasium
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PolynomialFeatures, StandardScaler

from policies import FourierFeatures, PolynomialStates, SoftmaxPolicy, multinomial
from policies.multinomial import weighted_multinomial


def data(n=150, d=3, n_actions=3, seed=0):
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(n, d)) * 10.0 ** np.arange(d) + 1
    logits = (states / 10.0 ** np.arange(d)) @ rng.normal(size=(d, n_actions))
    labels = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)
    return states, labels, rng.exponential(size=n)


@pytest.mark.parametrize("n_actions", [2, 3, 5])
@pytest.mark.parametrize("dense", [True, False])
def test_probabilities_are_scikit_learns(n_actions, dense, monkeypatch):
    """Its intercept penalised, as a regressor; two actions there share one column of gains, hence half the ridge."""
    if not dense:
        monkeypatch.setattr(multinomial, "CUBED", 0)
    states, labels, weights = data(n_actions=n_actions)
    scaler = StandardScaler().fit(states, sample_weight=weights)
    columns = np.column_stack([scaler.transform(states), np.ones(len(states))])
    for ridge in (1e-3, 1.0, 1e2):
        strength = (0.5 if n_actions == 2 else 1.0) * ridge
        oracle = LogisticRegression(C=1 / strength, fit_intercept=False, tol=1e-12, max_iter=10_000, solver="newton-cg")
        expected = oracle.fit(columns, labels, sample_weight=weights).predict_proba(columns)
        policy = SoftmaxPolicy(ridge=ridge).fit(states, labels, weights)
        np.testing.assert_allclose(policy.predict_proba(states), expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(policy.coef_.sum(axis=1), 0, atol=1e-10)


def test_any_transformer_is_a_feature_map():
    states, labels, weights = data(d=2)
    named = SoftmaxPolicy(features="polynomial", ridge=0.5).fit(states, labels, weights)
    scaled = StandardScaler().fit(states, sample_weight=weights).transform(states)
    pipeline = make_pipeline(FunctionTransformer(), PolynomialFeatures(2, include_bias=False))
    plain = SoftmaxPolicy(features=pipeline, ridge=0.5).fit(scaled, labels, weights)
    np.testing.assert_allclose(named.predict_proba(states), plain.predict_proba(scaled), rtol=1e-9)
    assert named.features_.transform(states).shape == (150, 5)
    sparse = SoftmaxPolicy(features=OneHotEncoder()).fit(labels[:, None], labels)
    assert sparse.score(labels[:, None], labels) == 1.0
    for features in ("rbf", FourierFeatures(20, random_state=0)):
        policy = SoftmaxPolicy(features=features, n_features=20, random_state=0).fit(states, labels, weights)
        np.testing.assert_allclose([policy.compile()(s) for s in states[:9]], policy.predict(states[:9]))


def test_polynomials_of_any_degree_are_scikit_learns():
    states, _, weights = data(d=3)
    features = PolynomialStates(degree=3).fit(states, sample_weight=weights)
    scaled = StandardScaler().fit(states, sample_weight=weights).transform(states)
    expected = PolynomialFeatures(3, include_bias=False).fit_transform(scaled)
    np.testing.assert_allclose(np.sort(features.transform(states)), np.sort(expected), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(features.compile()(states[4]), features.transform(states[4:5])[0], rtol=1e-12)


@pytest.mark.parametrize("ridge", [1e-6, 1.0])
def test_the_optimum_has_no_gradient_even_where_a_line_separates(ridge):
    """Separable labels, weights of 12 decades: the objective is as low as SciPy's, and its gradient is zero."""
    rng = np.random.default_rng(3)
    Phi = np.column_stack([rng.normal(size=(80, 2)), np.ones(80)])
    labels = (Phi[:, 0] > 0).astype(int) + (Phi[:, 0] > 1)
    weights = 10.0 ** rng.uniform(-6, 6, 80)
    found = weighted_multinomial(Phi, labels, weights, 3, ridge)

    def loss(flat):
        K = flat.reshape(3, 3)
        log_p = log_softmax(Phi @ K, axis=1)
        residual = np.exp(log_p) - np.eye(3)[labels]
        value = -weights @ log_p[np.arange(80), labels] + 0.5 * ridge * np.sum(K**2)
        return value, (Phi.T @ (weights[:, None] * residual) + ridge * K).reshape(-1)

    value, gradient = loss(found.coefficients.reshape(-1))
    rival = minimize(loss, found.coefficients.reshape(-1) * 0.9, jac=True, method="L-BFGS-B", options={"maxiter": 5000})
    assert value <= rival.fun * (1 + 1e-9)
    assert np.abs(gradient).max() <= 1e-6 * max(value, ridge)


@pytest.mark.parametrize(("n", "lost"), [(40, 0.12), (200, 0.02)])
def test_the_evidence_chooses_a_ridge_that_predicts(n, lost):
    """Held-out log-likelihood in 8 dimensions: near the best ridge of a grid, where the least one loses a nat."""
    losses = []
    for seed in range(5):
        states, labels, _ = data(n=2000, d=8, seed=seed)

        def held_out(ridge, states=states, labels=labels):
            policy = SoftmaxPolicy(ridge=ridge, n_actions=3).fit(states[:n], labels[:n])
            return policy.log_prob(states[n:], labels[n:]).mean()

        grid = [held_out(float(r)) for r in 10.0 ** np.arange(-2, 4)]
        losses.append([max(grid) - held_out("evidence"), max(grid) - grid[0]])
    assert np.max(losses, axis=0)[0] < lost
    assert n > 40 or np.mean(losses, axis=0)[1] > 4 * lost


def test_laplace_evidence_is_that_of_quadrature_in_one_dimension():
    """One regressor, two actions: the integral of likelihood times prior over the one gain."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 1))
    labels = (rng.random(200) < 1 / (1 + np.exp(-x[:, 0]))).astype(int)
    found = weighted_multinomial(x, labels, np.ones(200), 2, ridge=0.7)
    grid = np.linspace(-4, 4, 20_001)
    z = x * grid / np.sqrt(2)  # logits B H with H = (1, -1)/sqrt 2
    log_p = -np.logaddexp(0, np.where(labels[:, None] == 0, -2 * z, 2 * z)).sum(axis=0)
    prior = 0.5 * np.log(0.7 / (2 * np.pi)) - 0.35 * grid**2
    exact = np.log(np.sum(np.exp(log_p + prior - (log_p + prior).max())) * (grid[1] - grid[0])) + (log_p + prior).max()
    assert found.log_evidence == pytest.approx(exact, abs=0.02)


def test_actions_never_seen_keep_a_probability_that_shrinks_with_the_weights():
    states = np.random.default_rng(0).normal(size=(200, 2))
    labels = (states[:, 0] > 0).astype(int)
    shares = []
    for n in (10, 50, 200):
        policy = SoftmaxPolicy(n_actions=4).fit(states[:n], labels[:n])
        p = policy.predict_proba(states)
        shares.append(p[:, 2:].mean())
        np.testing.assert_allclose(p[:, 2], p[:, 3], rtol=1e-6)
        assert np.all(p > 0)
    assert 0 < shares[2] < shares[1] < shares[0] < 0.25
    with pytest.raises(ValueError, match=r"actions\[0\] is .*5.*not among the policy's actions"):
        SoftmaxPolicy(n_actions=4).fit(states[:3], [5, 0, 1])


def test_one_action_only():
    policy = SoftmaxPolicy().fit([[0.0], [1.0]], ["stay", "stay"])
    assert policy.predict_proba([[5.0]])[0, 0] == 1.0
    assert policy.compile()([5.0]) == "stay"


@pytest.mark.parametrize("env", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "FrozenLake-v1"])
@pytest.mark.parametrize("features", [None, "polynomial", "rbf", "fourier"])
def test_linear_and_kernel_controllers_exist_for_discrete_actions(env, features):
    """A start policy acts, is fitted to a heuristic's actions by weights, and imitates it."""
    start = SoftmaxPolicy.from_env(env, features=features, n_features=20, random_state=0)
    space = gymnasium.make(env).observation_space
    rng = np.random.default_rng(0)
    if hasattr(space, "n"):
        states = rng.integers(space.n, size=300)
        actions = states % len(start.classes_)
    else:
        states = rng.normal(size=(300, space.shape[0]))
        actions = (states[:, -1] > 0).astype(int)
    assert np.ptp(start.predict_proba(states)) < 1e-12
    fitted = clone(start).fit(states, actions, rng.exponential(size=300))
    kept = start.refit(states, actions).within(start, states, 0.05)
    assert kept.kl_divergence(start, states).mean() == pytest.approx(0.05, rel=1e-6)
    assert np.mean(fitted.predict(states) == actions) > (0.9 if features != "fourier" else 0.8)


@pytest.mark.parametrize("dense", [True, False])
def test_a_fit_around_a_policy_is_the_ridge_regression_of_what_it_adds(dense, monkeypatch):
    """Against L-BFGS on the logits added to the old ones, in standardised states."""
    if not dense:
        monkeypatch.setattr(multinomial, "CUBED", 0)
    states, labels, weights = data()
    old = SoftmaxPolicy(ridge=3.0).fit(*data(seed=1))
    new = SoftmaxPolicy(ridge=2.0).fit_around(old, states, labels, weights)
    columns = np.column_stack([StandardScaler().fit(states, sample_weight=weights).transform(states), np.ones(150)])
    known = np.log(old.predict_proba(states))

    def loss(flat):
        added = flat.reshape(4, 3)
        log_p = log_softmax(known + columns @ added, axis=1)
        residual = weights[:, None] * (np.exp(log_p) - np.eye(3)[labels])
        value = -weights @ log_p[np.arange(150), labels] + np.sum(added**2)
        return value, (columns.T @ residual + 2.0 * added).reshape(-1)

    best = minimize(loss, np.zeros(12), jac=True, tol=1e-12).x.reshape(4, 3)
    expected = np.exp(log_softmax(known + columns @ best, axis=1))
    np.testing.assert_allclose(new.predict_proba(states), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("features", [None, "rbf"])
def test_what_the_samples_do_not_say_stays_as_it_was(features):
    states, labels, weights = data()
    old = SoftmaxPolicy(features=features, random_state=0).fit(states, labels, weights)
    drawn = old.sample(states, np.random.default_rng(2))
    around = SoftmaxPolicy(features=features, random_state=0).fit_around(old, states, drawn)
    anew = SoftmaxPolicy(features=features, random_state=0).fit(states, drawn)
    assert around.kl_divergence(old, states).mean() < 0.5 * anew.kl_divergence(old, states).mean()
    again = SoftmaxPolicy(features=features, random_state=0, ridge=1e9).fit_around(old, states, drawn, weights)
    assert again.kl_divergence(old, states).mean() < 1e-3  # other weights place other features


def test_a_fit_around_needs_a_softmax_policy_with_the_actions():
    states, labels, _ = data()
    old = SoftmaxPolicy().fit(states, labels > 0)
    with pytest.raises(TypeError, match="old must be a SoftmaxPolicy, got StandardScaler"):
        SoftmaxPolicy().fit_around(StandardScaler().fit(states), states, labels)
    with pytest.raises(ValueError, match="not among the policy's actions"):
        SoftmaxPolicy().fit_around(old, states, labels)


def test_actions_of_several_numbers_are_refused_in_words():
    states, actions = np.zeros((6, 2)), np.ones((6, 3), int)
    with pytest.raises(ValueError, match=r"got shape \(6, 3\): number the combinations of MultiBinary"):
        SoftmaxPolicy().fit(states, actions)
