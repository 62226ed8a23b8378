"""Linear, radial-basis and tabular fits against scikit-learn and closed forms."""

import numpy as np
import pytest
from scipy.linalg import helmert
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal, norm
from sklearn.linear_model import BayesianRidge, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler

from policies import LinearGaussianPolicy, RBFFeatures, RBFPolicy, TabularPolicy


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 4))
    return X, X @ [1.0, -1.0, 0.1, 0.0] + 0.5 + 0.7 * rng.normal(size=50), rng.exponential(size=50)


def test_given_ridge_is_scikit_learns(data):
    X, y, w = data
    scaler = StandardScaler().fit(X, sample_weight=w)
    oracle = make_pipeline(scaler, Ridge(alpha=2.5)).fit(X, y, standardscaler__sample_weight=w, ridge__sample_weight=w)
    np.testing.assert_allclose(LinearGaussianPolicy(ridge=2.5).fit(X, y, w).predict(X), oracle.predict(X), rtol=1e-10)
    plain = LinearGaussianPolicy(PolynomialFeatures(1, include_bias=False), ridge=2.5).fit(X, y, w)
    ridge = Ridge(alpha=2.5).fit(X, y, w)
    np.testing.assert_allclose(plain.coef_[:, 0], ridge.coef_, rtol=1e-10)
    assert plain.intercept_[0] == pytest.approx(ridge.intercept_, rel=1e-10)


def test_evidence_ridge_is_the_best_by_a_density_written_out(data):
    """N(0, v (Phi Phi'/ridge + I)) of the contrasts that the free intercept leaves, and the noise prior, maximised."""
    X, y, _ = data
    policy = LinearGaussianPolicy(features=PolynomialFeatures(1, include_bias=False)).fit(X, y)
    contrasts = helmert(50)
    power = np.sum((X - X.mean(axis=0)) ** 2) / 50

    def loss(log_ridge):
        K = np.eye(50) + X @ X.T / np.exp(log_ridge)
        C, z = contrasts @ K @ contrasts.T, contrasts @ y
        v = z @ np.linalg.solve(C, z) / 49
        prior = norm(np.log(0.1), 2.0).logpdf(log_ridge - np.log(power))
        return -multivariate_normal(cov=v * C).logpdf(z) - prior

    best = minimize_scalar(loss, bounds=(-10, 10), method="bounded", options={"xatol": 1e-10})
    assert np.log(policy.ridge_) == pytest.approx(best.x, abs=1e-5)
    constant = norm(0, 2.0).logpdf(0)
    assert policy.log_evidence_ == pytest.approx(-best.fun - constant, abs=1e-6)


def test_evidence_ridge_is_bayesian_ridges_on_many_samples(data):
    """Its evidence has no prior of the noise, nor a free intercept: on 5,000 samples neither matters."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(5000, 12))
    y = X @ rng.normal(size=12) + 2.0 * rng.normal(size=5000)
    policy = LinearGaussianPolicy(features=PolynomialFeatures(1, include_bias=False)).fit(X, y)
    oracle = BayesianRidge(alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, max_iter=10_000, tol=1e-12).fit(X, y)
    assert policy.ridge_ == pytest.approx(oracle.lambda_ / oracle.alpha_, rel=0.1)
    np.testing.assert_allclose(policy.coef_[:, 0], oracle.coef_, rtol=1e-4)
    assert policy.scale_[0, 0] == pytest.approx(oracle.alpha_**-0.5, rel=1e-3)


def test_rank_deficient_features_give_the_minimum_norm_fit(data):
    X, y, w = data
    policy = LinearGaussianPolicy(ridge=0.0).fit(np.hstack([X, X]), y, w)
    single = LinearGaussianPolicy(ridge=0.0).fit(X, y, w)
    assert policy.rank_ == 4
    np.testing.assert_allclose(policy.coef_[:4], policy.coef_[4:], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(policy.coef_[:4] * 2, single.coef_, rtol=1e-8, atol=1e-12)


def test_any_transformer_is_a_feature_map(data):
    X, y, w = data
    features = PolynomialFeatures(2, include_bias=False)
    policy = LinearGaussianPolicy(features=features).fit(X, y, w)
    identity = FunctionTransformer()
    direct = LinearGaussianPolicy(features=identity).fit(features.fit_transform(X), y, w)
    np.testing.assert_allclose(policy.predict(X), direct.predict(features.transform(X)), rtol=1e-12)
    assert policy.compile()(X[0]) == pytest.approx(policy.predict(X[:1])[0], rel=1e-12)


def test_full_covariance_finds_correlated_noise():
    rng = np.random.default_rng(1)
    X, L = rng.normal(size=(5000, 1)), np.array([[1.0, 0.0], [0.8, 0.6]])
    policy = LinearGaussianPolicy(covariance="full").fit(X, X + rng.normal(size=(5000, 2)) @ L.T)
    np.testing.assert_allclose(policy.scale_, L, atol=0.05)
    assert LinearGaussianPolicy().fit(X, X + rng.normal(size=(5000, 2)) @ L.T).scale_[1, 0] == 0


def test_power_of_likelihood_keeps_the_noise_that_divided_noise_loses():
    """Noise level by "likelihood to the power w" against "noise sigma^2/w", on REPS-like weights at ESS scale.

    Both estimates come from their own likelihood, maximised numerically over sigma; the policy is the first one's.
    """
    rng = np.random.default_rng(2)
    X = rng.normal(size=(3000, 2))
    y = X @ [1.0, -1.0] + 0.5 * rng.normal(size=3000)
    w = np.exp(2.0 * rng.normal(size=3000))
    w *= w.sum() / np.sum(w**2)
    policy = LinearGaussianPolicy().fit(X, y, w)
    squares = w * (y - policy.predict(X)) ** 2

    def fitted_noise(count):
        loss = lambda log_v: 0.5 * count * log_v + 0.5 * squares.sum() / np.exp(log_v)  # noqa: E731
        return np.sqrt(np.exp(minimize_scalar(loss, bounds=(-20, 5), method="bounded").x))

    power, divided = fitted_noise(w.sum()), fitted_noise(len(w))
    _, std = policy.predict(X[:1], return_std=True)
    assert std[0] == pytest.approx(0.5, rel=0.15)
    assert power == pytest.approx(std[0], rel=0.1)
    assert divided < 0.25


def test_rbf_centres_follow_the_weights():
    states = np.r_[np.linspace(0, 1, 50), np.linspace(10, 11, 50)][:, None]
    weights = np.r_[np.ones(50), np.zeros(50)]
    features = RBFFeatures(n_centres=5, random_state=0).fit(states, sample_weight=weights)
    assert features.centres_.max() <= 1


def test_rbf_learns_what_a_line_cannot():
    rng = np.random.default_rng(3)
    X = rng.uniform(-3, 3, size=(400, 1))
    y = np.sin(2 * X[:, 0]) + 0.1 * rng.normal(size=400)
    for placement in ("kmeans", "random"):
        policy = RBFPolicy(placement=placement, random_state=0).fit(X, y)
        grid = np.linspace(-2.8, 2.8, 50)[:, None]
        mean, std = policy.predict(grid, return_std=True)
        np.testing.assert_allclose(mean, np.sin(2 * grid[:, 0]), atol=0.1)
        np.testing.assert_allclose(std, 0.1, rtol=0.1)


def test_bumps_resolve_structure_of_a_thirty_second_of_the_spread():
    """Waves of a length of .08, a fifteenth of the states' standard deviation."""
    rng = np.random.default_rng(0)
    X, grid = rng.uniform(-2, 2, size=(800, 1)), rng.uniform(-2, 2, size=300)
    policy = RBFPolicy(n_features=150, random_state=0).fit(X, np.sin(80 * X[:, 0]) + 0.1 * rng.normal(size=800))
    assert np.sqrt(np.mean((policy.predict(grid[:, None]) - np.sin(80 * grid)) ** 2)) < 0.1


def test_tabular_counts_weights_and_keeps_the_prior_elsewhere():
    policy = TabularPolicy(n_states=3, n_actions=2, smoothing=1.0, prior=[0.25, 0.75])
    policy.fit([0, 0, 1], [0, 1, 0], sample_weight=[2.0, 1.0, 3.0])
    np.testing.assert_allclose(policy.probabilities_, [[2.25 / 4, 1.75 / 4], [3.25 / 4, 0.75 / 4], [0.25, 0.75]])


def test_tabular_from_a_solutions_table():
    table = np.array([[0.2, 0.8], [1.0, 0.0]])
    policy = TabularPolicy.from_probabilities(table)
    np.testing.assert_allclose(policy.predict_proba([1, 0]), table[::-1])
    np.testing.assert_allclose(policy.with_params(policy.params).probabilities_, table, atol=1e-15)
    assert policy.compile()(1, np.random.default_rng(0)) == 0


def test_a_step_of_a_table_leaves_what_is_impossible_so():
    """Its logit stands for 1e-290: a step that lowers the others by 230 nats, 1e100, still does not wake it."""
    policy = TabularPolicy.from_probabilities([[0.5, 0.5, 0.0]])
    lowered = np.array([1.0, 1.0, 0.0]) * np.log(0.9e100)
    np.testing.assert_array_equal(policy.with_params(policy.params - lowered).probabilities_, [[0.5, 0.5, 0.0]])
    assert policy.with_params(policy.params - 1.1 * lowered).probabilities_[0, 2] > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TabularPolicy(n_states=2).fit([0, 2], [0, 1]), r"X\[1\] is 2"),
        (lambda: TabularPolicy(n_actions=2).fit([0, 1], [0, 2]), r"actions\[1\] is .*2"),
        (lambda: TabularPolicy.from_probabilities([[0.5, 0.4]]), r"probabilities\[0\] sums to 0.9"),
        (lambda: TabularPolicy(prior=[0.5, 0.4]).fit([0, 1], [0, 1]), "prior must sum to one"),
        (lambda: TabularPolicy().fit([0, 1], [0, 1]).score_function([5], [0]), r"states\[0\] was not in the data"),
        (lambda: LinearGaussianPolicy(ridge=-1).fit([[0.0]], [0.0]), "ridge must be >= 0"),
        (lambda: LinearGaussianPolicy(covariance="x").fit([[0.0]], [0.0]), "covariance must be 'diagonal' or 'full'"),
        (lambda: RBFPolicy(bandwidth=-1.0).fit([[0.0]], [0.0]), "bandwidth must be > 0"),
        (lambda: RBFPolicy(placement="x").fit([[0.0]], [0.0]), "placement must be 'kmeans' or 'random'"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
