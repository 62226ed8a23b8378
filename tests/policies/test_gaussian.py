"""Densities and divergences against SciPy's, and the trace-corrected covariance against its own expectation."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from policies.categorical import Categorical
from policies.gaussian import Gaussian, residual_scale
from policies.regression import weighted_ridge


def random_gaussian(rng, n=5, k=3):
    factors = np.tril(rng.normal(size=(n, k, k)))
    factors[:, range(k), range(k)] = np.exp(factors[:, range(k), range(k)])
    return Gaussian(rng.normal(size=(n, k)), factors)


def test_log_density_is_scipys():
    rng = np.random.default_rng(0)
    p, actions = random_gaussian(rng), rng.normal(size=(5, 3))
    expected = [multivariate_normal(m, L @ L.T).logpdf(a) for m, L, a in zip(p.mean, p.scale, actions, strict=True)]
    np.testing.assert_allclose(p.log_prob(actions), expected, rtol=1e-10)


def test_kl_is_the_textbook_formula():
    rng = np.random.default_rng(1)
    p, q = random_gaussian(rng), random_gaussian(rng)
    for i, kl in enumerate(p.kl(q)):
        S, T, e = p.scale[i] @ p.scale[i].T, q.scale[i] @ q.scale[i].T, q.mean[i] - p.mean[i]
        inverse = np.linalg.inv(T)
        expected = 0.5 * (
            np.trace(inverse @ S) + e @ inverse @ e - 3 + np.linalg.slogdet(T)[1] - np.linalg.slogdet(S)[1]
        )
        assert kl == pytest.approx(expected, rel=1e-10)


def test_a_factor_that_all_states_share_says_what_one_a_state_says():
    rng, n = np.random.default_rng(5), 5
    diagonal = [Gaussian.diagonal(rng.normal(size=(n, 3)), np.exp(rng.normal(size=3))) for _ in range(2)]
    full = Gaussian(rng.normal(size=(n, 3)), random_gaussian(rng, n=1).scale)

    def each(p):
        return Gaussian(p.mean, np.repeat(p.scale, n, axis=0))

    actions = rng.normal(size=(n, 3))
    for p in (*diagonal, full):
        np.testing.assert_allclose(p.log_prob(actions), each(p).log_prob(actions), rtol=1e-13)
        for q in (*diagonal, full):
            np.testing.assert_allclose(p.kl(q), each(p).kl(each(q)), rtol=1e-12)


def test_samples_have_mean_and_covariance():
    rng = np.random.default_rng(2)
    p = random_gaussian(rng, n=1)
    many = Gaussian(np.repeat(p.mean, 200_000, axis=0), p.scale).sample(rng)
    covariance = p.scale[0] @ p.scale[0].T
    np.testing.assert_allclose(np.cov(many.T), covariance, atol=0.02 * np.trace(covariance))
    np.testing.assert_allclose(many.mean(axis=0), p.mean[0], atol=5 * p.std.max() / np.sqrt(len(many)))
    np.testing.assert_allclose(p.std[0], np.sqrt(np.diag(covariance)))


@pytest.mark.parametrize("ridge", [0.0, 3.0])
def test_trace_is_that_of_the_explicit_smoother(ridge):
    """tr(W (I-H)(I-H)') with H written out, weights of ten decades among them."""
    rng = np.random.default_rng(3)
    Phi, y, w = rng.normal(size=(12, 3)), rng.normal(size=(12, 1)), 10.0 ** rng.uniform(-5, 5, 12)
    fit = weighted_ridge(Phi, y, w, ridge)
    center = Phi - w @ Phi / w.sum()
    H = np.ones((12, 1)) * w / w.sum() + center @ np.linalg.solve(
        center.T * w @ center + ridge * np.eye(3), center.T * w
    )
    np.testing.assert_allclose(H @ y, Phi @ fit.coefficients + fit.intercept, rtol=1e-7)
    leftover = np.eye(12) - H
    assert w @ fit.annihilated == pytest.approx(np.trace(np.diag(w) @ leftover @ leftover.T), rel=1e-6)


@pytest.mark.parametrize("full", [True, False])
def test_covariance_is_unbiased_under_any_weights(full):
    rng = np.random.default_rng(4)
    Phi, w = rng.normal(size=(8, 3)), 10.0 ** rng.uniform(-2, 0, 8)
    L = np.array([[1.0, 0.0], [0.8, 0.5]])
    covariances = []
    for _ in range(4000):
        y = Phi @ np.ones((3, 2)) + rng.normal(size=(8, 2)) @ L.T
        fit = weighted_ridge(Phi, y, w, 0.0)
        e = y - Phi @ fit.coefficients - fit.intercept
        scale = residual_scale(e, w, fit.annihilated, np.full(2, 1e-9), full)
        covariances.append(scale @ scale.T)
    expected = L @ L.T if full else np.diag(np.diag(L @ L.T))
    error = np.std(covariances, axis=0) / np.sqrt(len(covariances))
    assert np.all(np.abs(np.mean(covariances, axis=0) - expected) <= 5 * error + 1e-12)


def test_categorical_handles_impossible_actions():
    with np.errstate(divide="ignore"):
        p, q = Categorical(np.log([[1.0, 0.0]])), Categorical(np.log([[0.5, 0.5]]))
    assert p.kl(q)[0] == pytest.approx(np.log(2))
    assert q.kl(p)[0] == np.inf
    assert p.sample(np.random.default_rng(0))[0] == 0
