"""Mixtures of a new and an old policy: natural parameters, monotone divergence, and a ball that is kept exactly."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.base import clone
from sklearn.preprocessing import PolynomialFeatures

from policies import (
    GaussianProcessPolicy,
    LinearGaussianPolicy,
    NeuralCategoricalPolicy,
    NeuralPolicy,
    RBFPolicy,
    SoftmaxPolicy,
    TabularPolicy,
)
from policies.mixtures import largest_share

GAUSSIAN = {
    "linear": LinearGaussianPolicy(),
    "linear-full": LinearGaussianPolicy(covariance="full"),
    "polynomial": LinearGaussianPolicy(features=PolynomialFeatures(2, include_bias=False)),
    "rbf": RBFPolicy(n_features=6, random_state=0),
    "fourier": RBFPolicy(n_features=6, placement="random", random_state=0),
}
CATEGORICAL = {
    "tabular": TabularPolicy(smoothing=0.3),
    "softmax": SoftmaxPolicy(ridge=0.1),
    "softmax-rbf": SoftmaxPolicy(features="rbf", n_features=7, ridge=0.1, random_state=0),
}
MIXABLE = GAUSSIAN | CATEGORICAL


def samples(name, seed, n=60):
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(n, 2))
    actions = np.sin((1 + seed) * states) + (0.3 + 0.2 * seed) * rng.normal(size=(n, 2))
    if name in CATEGORICAL:
        states, actions = np.round(states), (actions[:, 0] > 0.2 * seed).astype(int) + (actions[:, 1] > 1)
    return states, actions


@pytest.fixture(params=MIXABLE)
def pair(request):
    """An old policy, a new one of the same statistics, and states."""
    name = request.param
    old = clone(MIXABLE[name]).fit(*samples(name, 0))
    states, actions = samples(name, 1)
    return old.refit(states, actions), old, states


def test_log_densities_mix_up_to_the_normaliser(pair):
    """log pi_t(a|s) - t log pi_1(a|s) - (1 - t) log pi_0(a|s) is the same for every action."""
    new, old, states = pair
    actions = [new.sample(states, np.random.default_rng(seed)) for seed in range(5)]
    for share in (0.1, 0.5, 0.9):
        mixed = new.mixture(old, share)
        parts = [[policy.log_prob(states, action) for action in actions] for policy in (mixed, new, old)]
        excess = np.array(parts[0]) - share * np.array(parts[1]) - (1 - share) * np.array(parts[2])
        known = np.isfinite(excess).all(axis=0)
        assert known.mean() > 0.6
        np.testing.assert_allclose(excess[:, known] - excess[0, known], 0, atol=1e-8)
        assert type(mixed) is type(new)


def test_ends_are_the_policies_and_divergence_grows_at_every_state(pair):
    new, old, states = pair
    before = [policy.predict(states).copy() for policy in (new, old)]
    divergences = np.array([new.mixture(old, t).kl_divergence(old, states) for t in np.linspace(0, 0.999, 40)])
    assert np.all(np.diff(divergences, axis=0) >= -1e-10)
    np.testing.assert_allclose(divergences[0], 0, atol=1e-12)
    assert new.kl_divergence(new.mixture(old, 1), states).max() < 1e-12
    assert old.kl_divergence(new.mixture(old, 0), states).max() < 1e-12
    for policy, mean in zip((new, old), before, strict=True):
        np.testing.assert_array_equal(policy.predict(states), mean)


@pytest.mark.parametrize("epsilon", [1e-8, 1e-3, 0.1])
def test_the_ball_is_kept_and_used_up(pair, epsilon):
    new, old, states = pair
    weights = np.random.default_rng(2).exponential(size=len(states))
    kept = new.within(old, states, epsilon, sample_weight=weights)
    kl = weights @ kept.kl_divergence(old, states) / weights.sum()
    assert kl <= epsilon * (1 + 1e-9) + 1e-15
    assert kl >= epsilon * (1 - 1e-5) - 1e-15
    assert 0 < kept.mixture_share_ < 1


def test_what_is_inside_stays_and_a_ball_of_nothing_is_the_old_policy(pair):
    new, old, states = pair
    wide = new.within(old, states, np.inf)
    assert wide.mixture_share_ == 1.0
    assert new.kl_divergence(wide, states).max() < 1e-12
    none = new.within(old, states, 0.0)
    assert none.mixture_share_ == 0.0
    assert old.kl_divergence(none, states).max() < 1e-12
    with pytest.raises(ValueError, match="epsilon must be >= 0"):
        new.within(old, states, -1.0)
    with pytest.raises(ValueError, match="share must be >= 0 and <= 1"):
        new.mixture(old, 1.5)


def test_twelve_samples_in_eight_dimensions_stay_in_the_ball():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(12, 8))
    old = LinearGaussianPolicy().fit(rng.normal(size=(200, 8)), rng.normal(size=200))
    new = LinearGaussianPolicy(ridge=0.0).fit(states, 3 * rng.normal(size=12))
    assert new.kl_divergence(old, states).mean() > 2
    kept = new.within(old, states, 0.5)
    assert kept.kl_divergence(old, states).mean() == pytest.approx(0.5, rel=1e-9)


def test_a_gaussian_mixture_is_the_normalised_product_by_quadrature():
    states = np.linspace(-1, 1, 20)[:, None]
    rng = np.random.default_rng(0)
    old, new = (LinearGaussianPolicy().fit(states, s * states[:, 0] + s * rng.normal(size=20)) for s in (1.0, 0.3))
    moments = [np.ravel(policy.predict([[0.7]], return_std=True)) for policy in (new, old)]

    def density(a):
        return norm(*moments[0]).pdf(a) ** 0.3 * norm(*moments[1]).pdf(a) ** 0.7

    mass = quad(density, -20, 20, points=[moments[0][0]])[0]
    mixed = new.mixture(old, 0.3)
    for a in (-1.0, 0.0, 0.5):
        assert np.exp(mixed.log_prob([[0.7]], [a]))[0] == pytest.approx(density(a) / mass, rel=1e-8)


def test_impossible_actions():
    """What the old policy forbids stays forbidden; what the new one alone forbids fades with the share."""
    old = TabularPolicy.from_probabilities([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])
    new = TabularPolicy.from_probabilities([[0.0, 0.2, 0.8], [1.0, 0.0, 0.0]])
    assert new.kl_divergence(old, [0])[0] == np.inf
    for epsilon in (1e-3, 0.1, 0.6):
        kept = new.within(old, [[0], [1]], epsilon)
        assert kept.probabilities_[0, 2] == 0
        assert kept.kl_divergence(old, [[0], [1]]).mean() == pytest.approx(epsilon, rel=1e-6)


def test_tables_of_other_states_are_joined():
    old = TabularPolicy(smoothing=1.0).fit([[0.0], [1.0]], [0, 1])
    new = TabularPolicy(smoothing=1.0).fit([[1.0], [2.0]], [0, 1])
    mixed = new.mixture(old, 0.5)
    everywhere = [[0.0], [1.0], [2.0], [3.0]]
    root = np.sqrt(new.predict_proba(everywhere) * old.predict_proba(everywhere))
    np.testing.assert_allclose(mixed.predict_proba(everywhere), root / root.sum(axis=1, keepdims=True))


def test_diagonal_and_full_covariances_mix_to_full():
    states, actions = samples("linear", 0)
    old = LinearGaussianPolicy().fit(states, actions)
    new = LinearGaussianPolicy(covariance="full").fit(*samples("linear", 1))
    mixed = new.mixture(old, 0.4)
    precision = sum(share * np.linalg.inv(p.scale_ @ p.scale_.T) for share, p in ((0.4, new), (0.6, old)))
    np.testing.assert_allclose(np.linalg.inv(mixed.scale_ @ mixed.scale_.T), precision, rtol=1e-9)
    np.testing.assert_allclose(mixed.with_params(mixed.params).scale_, mixed.scale_, rtol=1e-12)


@pytest.mark.parametrize(
    ("policy", "labels"),
    [
        (GaussianProcessPolicy(max_iter=2), False),
        (NeuralPolicy(hidden=(3,), max_iter=2), False),
        (NeuralCategoricalPolicy(hidden=(3,), max_iter=2), True),
    ],
    ids=lambda p: type(p).__name__,
)
def test_families_without_mixtures_say_so(policy, labels):
    states, actions = samples("tabular" if labels else "linear", 0)
    old = clone(policy).fit(states, actions)
    with pytest.raises(NotImplementedError, match=f"{type(policy).__name__} has no mixtures with an old policy"):
        clone(policy).fit(states, actions).within(old, states, 0.1)
    with pytest.raises(NotImplementedError, match=f"{type(policy).__name__} has no mixtures with an old policy"):
        old.refit(states, actions)


def test_other_features_say_what_to_do():
    states, actions = samples("rbf", 0)
    old, new = RBFPolicy(random_state=0).fit(states, actions), RBFPolicy(random_state=1).fit(states[:50], actions[:50])
    with pytest.raises(NotImplementedError, match=r"fit by old\.refit\(states, actions, weights\)"):
        new.within(old, states, 0.1)
    with pytest.raises(NotImplementedError, match="no mixtures with a TabularPolicy"):
        new.mixture(TabularPolicy().fit(*samples("tabular", 0)), 0.5)
    with pytest.raises(ValueError, match="other must have actions of shape"):
        old.refit(states, actions[:, 0]).mixture(old, 0.5)


@pytest.mark.parametrize("radius", [1e-12, 1e-3, 2.0])
def test_the_largest_share_of_far_away_fits(radius):
    """A divergence c t^2 with c from 1e-3 to 1e30 has the share sqrt(radius / c)."""
    for c in 10.0 ** np.arange(1, 31, 5):
        share = largest_share(lambda t, c=c: c * t**2, radius)
        assert c * share**2 <= radius
        assert share == pytest.approx(min(np.sqrt(radius / c), 1), rel=1e-6)
