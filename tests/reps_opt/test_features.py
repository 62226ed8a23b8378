"""Features of samples, and the bias of single-sample next states with its remedies."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.linear_model import Ridge

from reps_opt import MDP, REPS, Batch, SampleREPS, Status, solve
from reps_opt.features import (
    ConditionalMeanEmbedding,
    EmpiricalModel,
    feature_differences,
    fitted,
    kernel_features,
    median_bandwidth,
)


class OneHot:
    """Indicator features of integer states."""

    def __init__(self, n_states):
        self.n_states = n_states

    def transform(self, states):
        return np.eye(self.n_states)[np.asarray(states)]


def slippery_chain(gamma, n_states=5):
    """Left or right, the wrong way with probability .3; the right end pays."""
    P = np.zeros((n_states, 2, n_states))
    for s in range(n_states):
        for a, move in enumerate((-1, 1)):
            P[s, a, np.clip(s + move, 0, n_states - 1)] += 0.7
            P[s, a, np.clip(s - move, 0, n_states - 1)] += 0.3
    r = np.zeros((n_states, 2))
    r[-1] = 1.0
    return MDP(P, r, gamma=gamma, mu0=np.eye(n_states)[0])


def sample(mdp, n, seed=0):
    """Transitions (s, a, s') drawn from the uniform policy's occupancy and the dynamics, with the occupancy."""
    rng = np.random.default_rng(seed)
    q = mdp.occupancy(mdp.uniform_policy())
    pairs = rng.choice(q.size, n, p=q.ravel())
    cumulative = np.cumsum(mdp.transitions.toarray(), axis=1)
    following = (rng.random((n, 1)) > cumulative[pairs]).sum(axis=1)
    states, actions = np.divmod(pairs, q.shape[1])
    return q, Batch(states, actions, mdp.rewards.ravel()[pairs], following, start_states=[0])


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_single_samples_are_biased_and_the_remedies_are_not(gamma):
    mdp = slippery_chain(gamma)
    q, batch = sample(mdp, 20_000)
    exact = solve(REPS(mdp, q, epsilon=0.3))

    def error(embedding):
        problem = SampleREPS.from_batch(batch, OneHot(5), 0.3, gamma=gamma, embedding=embedding)
        solution = solve(problem)
        assert solution.status == Status.CERTIFIED
        return solution.objective - exact.objective

    assert error(None) > 0.03  # the dual chose lucky transitions, and promises a return that no policy has
    assert abs(error(EmpiricalModel())) < 0.01
    assert abs(error(ConditionalMeanEmbedding(max_samples=1_000))) < 0.02
    assert abs(error(Ridge(1e-6))) > 0.02  # a linear model of the state is no remedy: what counts is the right mean


def test_single_samples_are_unbiased_where_the_dynamics_are_deterministic():
    P = np.zeros((4, 2, 4))
    for s in range(4):
        P[s, 0, (s + 1) % 4] = P[s, 1, s] = 1.0
    mdp = MDP(P, np.arange(8.0).reshape(4, 2), gamma=1.0)
    q, batch = sample(mdp, 20_000)
    exact = solve(REPS(mdp, q, epsilon=0.3))
    ours = solve(SampleREPS.from_batch(batch, OneHot(4), 0.3, gamma=1.0))
    assert ours.objective == pytest.approx(exact.objective, abs=0.05)
    value = ours.value(np.arange(4))
    assert value - value.mean() == pytest.approx(exact.value - exact.value.mean(), abs=0.15)


def test_exact_problem_from_weighted_samples():
    """Each pair once, weighted by q, with the model's next-state features: SampleREPS is then REPS itself."""
    mdp = slippery_chain(0.9)
    q = mdp.occupancy(mdp.uniform_policy())
    expected = mdp.transitions.toarray()
    psi = 0.9 * expected + 0.1 * mdp.mu0 - np.repeat(np.eye(5), 2, axis=0)
    ours = solve(SampleREPS(mdp.rewards.ravel(), psi, 0.3, base_weights=q.ravel()))
    exact = solve(REPS(mdp, q, epsilon=0.3))
    assert ours.objective == pytest.approx(exact.objective, abs=1e-9)
    assert ours.eta == pytest.approx(exact.eta, rel=1e-7)
    assert ours.weights("sum").reshape(5, 2) == pytest.approx(exact.occupancy, abs=1e-8)
    difference = ours.theta - exact.value
    assert difference == pytest.approx(np.full(5, difference.mean()), abs=1e-6)


def test_differences_after_ends_and_truncations():
    states, following = np.array([0, 1, 2, 3]), np.array([1, 2, 3, 4])
    batch = Batch(states, states, states * 1.0, following, terminated=states == 1, truncated=states == 3)
    psi = feature_differences(batch, OneHot(5), gamma=0.9)
    start = np.eye(5)[[0, 2]].mean(axis=0)
    ahead = np.array([np.eye(5)[1], start, np.eye(5)[3], np.eye(5)[4]])  # state 4 goes on, for it was cut off
    assert psi == pytest.approx(0.9 * ahead + 0.1 * start - np.eye(5)[states])


@pytest.mark.parametrize(
    "make", [lambda: RBFSampler(n_components=20, random_state=0), lambda: Nystroem(n_components=20)]
)
def test_any_transformer_serves(make):
    rng = np.random.default_rng(0)
    states = rng.normal(size=(400, 2))
    following = 0.8 * states + 0.6 * rng.normal(size=(400, 2))
    batch = Batch(states, rng.normal(size=400), -(states**2).sum(axis=1), following)
    transformer = make()
    solution = solve(SampleREPS.from_batch(batch, transformer, 0.5, gamma=0.95, starts="episodes"))
    assert solution.status == Status.CERTIFIED
    assert not hasattr(transformer, "n_features_in_")  # the caller's map is left unfitted
    assert solution.value([[0.0, 0.0]]) > solution.value([[2.0, 2.0]])
    ready = make().fit(states)
    assert fitted(ready, states) is ready


def test_kernel_features_span_the_kernel():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(40, 1))
    batch = Batch(states, states, states[:, 0], states)
    phi = kernel_features(batch, 40, bandwidth=0.1).transform(states)
    kernel = np.exp(-0.5 * (states - states.T) ** 2 / 0.1**2)
    assert phi @ phi.T == pytest.approx(kernel, abs=1e-6)


def test_median_bandwidth():
    assert median_bandwidth(np.zeros((5, 2))) == 1.0
    x = np.random.default_rng(0).normal(size=(3000, 3))
    assert median_bandwidth(10 * x) == pytest.approx(10 * median_bandwidth(x))


def test_leave_one_out_error_is_what_leaving_one_out_gives():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 2)), rng.normal(size=(30, 2))
    model = ConditionalMeanEmbedding(ridges=[0.3], widths=[1.0]).fit(x, y)
    kernel = model._kernel(model._inputs)
    centred, errors = y - y.mean(axis=0), []
    for i in range(30):
        rest = np.arange(30) != i
        beta = np.linalg.solve(kernel[np.ix_(rest, rest)] + 0.3 * np.eye(29), kernel[rest, i])
        errors.append((centred[i] - beta @ centred[rest]) ** 2)
    assert model.error_ == pytest.approx(np.mean(errors))


def test_embedding_chooses_little_noise_when_there_is_none():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(200, 2))
    clean = ConditionalMeanEmbedding().fit(x, np.sin(x))
    noisy = ConditionalMeanEmbedding().fit(x, np.sin(x) + rng.normal(size=x.shape))
    assert clean.ridge_ < noisy.ridge_
    with pytest.raises(ValueError, match="Y must have the 200 rows"):
        ConditionalMeanEmbedding().fit(x, x[1:])


def test_empirical_model_refuses_unseen_pairs():
    with pytest.raises(ValueError, match=r"X\[1\] is a state and action"):
        EmpiricalModel().fit([[0, 0]], [[1.0]]).predict([[0, 0], [1, 0]])
