"""The NumPy network against torch, and what training reaches."""

import numpy as np
import pytest

from policies import LinearGaussianPolicy, NeuralCategoricalPolicy, NeuralPolicy
from policies.network import Network
from reps_opt.conjugate_gradient import conjugate_gradient


def test_outputs_and_jacobian_are_torchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    network = Network((3, 5, 4, 2))
    params, X = rng.normal(size=network.n_params), rng.normal(size=(6, 3))

    def forward(theta, x):
        for W, b in (layers := network.layers(theta)):
            x = x @ W + b
            x = x if W is layers[-1][0] else torch.tanh(x)
        return x

    theta = torch.tensor(params)
    np.testing.assert_allclose(network.output(params, X), forward(theta, torch.tensor(X)), rtol=1e-12)
    jacobian = torch.func.vmap(torch.func.jacrev(forward), in_dims=(None, 0))(theta, torch.tensor(X))
    identity = np.broadcast_to(np.eye(2), (6, 2, 2))
    np.testing.assert_allclose(
        network.pullback(params, network.forward(params, X), identity), jacobian, rtol=1e-10, atol=1e-14
    )


def test_training_reaches_a_stationary_point_of_the_weighted_posterior():
    rng = np.random.default_rng(1)
    X = rng.uniform(-2, 2, size=(200, 1))
    y, w = np.sin(2 * X[:, 0]) + 0.2 * rng.normal(size=200), rng.exponential(size=200)
    policy = NeuralPolicy(hidden=(10,), max_iter=2000, random_state=0).fit(X, y, w)
    noise = policy.ridge_ / policy.alpha  # in units of the actions' spread: what the network was trained at
    trained = policy.with_params(np.append(policy.params[:-1], 0.5 * np.log(noise)))
    gradient = w @ trained.score_function(X, y) - policy.alpha * policy.params
    assert np.abs(gradient[:-1]).max() < 1e-3 * w.sum()
    assert noise == pytest.approx(np.exp(2 * policy.params[-1]), rel=0.3)
    grid = np.linspace(-1.8, 1.8, 30)[:, None]
    mean, std = policy.predict(grid, return_std=True)
    assert np.abs(mean - np.sin(2 * grid[:, 0])).max() < 0.15
    assert std[0] == pytest.approx(0.2, rel=0.15)
    assert policy.score(X, y) > LinearGaussianPolicy().fit(X, y, w).score(X, y)


def test_without_hidden_layers_it_is_the_linear_policy():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(500, 2))
    y = X @ [1.0, -2.0] + 0.3 * rng.normal(size=500)
    neural = NeuralPolicy(hidden=(), alpha=1e-6, random_state=0).fit(X, y)
    linear = LinearGaussianPolicy(ridge=0.0).fit(X, y)
    np.testing.assert_allclose(neural.predict(X), linear.predict(X), atol=1e-4)
    assert linear.kl_divergence(neural, X).max() < 1e-4


def test_categorical_learns_probabilities():
    rng = np.random.default_rng(3)
    X = rng.uniform(-2, 2, size=(3000, 1))
    p = 1 / (1 + np.exp(-2 * X[:, 0]))
    policy = NeuralCategoricalPolicy(hidden=(8,), random_state=0).fit(X, rng.random(3000) < p)
    np.testing.assert_allclose(policy.predict_proba(X)[:, 1], p, atol=0.06)


def test_bad_options_are_named():
    with pytest.raises(ValueError, match=r"hidden\[1\] must be >= 1"):
        NeuralPolicy(hidden=(3, 0)).fit([[0.0]], [0.0])
    with pytest.raises(ValueError, match="alpha must be > 0"):
        NeuralPolicy(alpha=0).fit([[0.0]], [0.0])
    with pytest.raises(ValueError, match="dtype must be one of"):
        NeuralPolicy(dtype="float16").fit([[0.0]], [0.0])


@pytest.fixture(params=["gaussian", "categorical"])
def walker(request):
    """A policy of 12 state dimensions, its states and actions."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(600, 12))
    if request.param == "gaussian":
        policy = NeuralPolicy(hidden=(16, 16), max_iter=5, random_state=0).fit(states, states[:, :3])
    else:
        policy = NeuralCategoricalPolicy(hidden=(16, 16), max_iter=5, random_state=0).fit(
            states, rng.integers(3, size=600)
        )
    return policy, states, policy.sample(states, rng)


@pytest.mark.parametrize("damping", [1e-3, 1e-2])
def test_the_preconditioner_gains_more_with_as_many_products(walker, damping):
    policy, states, actions = walker
    product, rough = policy.fisher_product(states), policy.fisher_preconditioner(states)
    y, z = np.random.default_rng(1).normal(size=(2, len(policy.params)))
    assert y @ rough(z, damping) == pytest.approx(z @ rough(y, damping), rel=1e-8)
    assert y @ rough(y, damping) > 0
    g = policy.score_product(states, actions, np.random.default_rng(2).normal(size=len(states)))
    J = policy.fisher_factor(states)
    exact = np.linalg.solve(J.T @ J / len(J) + damping * np.eye(len(g)), g)

    def after(products, precondition):
        return conjugate_gradient(lambda v: product(v) + damping * v, g, 0.0, products, precondition).solution

    lost = [1 - g @ after(3, precondition) / (g @ exact) for precondition in (None, lambda r: rough(r, damping))]
    assert 0 < lost[1] < 0.5 * lost[0]
    assert g @ after(400, lambda r: rough(r, damping)) == pytest.approx(g @ exact, rel=1e-6)


def test_single_precision_agrees_to_seven_digits(walker):
    policy, states, actions = walker
    single = policy.with_params(policy.params)
    single.network_ = Network(policy.network_.sizes, "float32")
    w = np.random.default_rng(2).normal(size=len(states)) / len(states)
    v = np.random.default_rng(3).normal(size=len(policy.params))
    pairs = [
        (single.score_product(states, actions, w), policy.score_product(states, actions, w)),
        (single.fisher_product(states)(v), policy.fisher_product(states)(v)),
        (single.log_prob(states, actions), policy.log_prob(states, actions)),
    ]
    for low, high in pairs:
        assert low.dtype == np.float64
        np.testing.assert_allclose(low, high, atol=3e-6 * np.abs(high).max())
        assert np.any(low != high)


def answers(policy, states, actions):
    w, v = np.random.default_rng(2).normal(size=len(actions)), np.random.default_rng(3).normal(size=len(policy.params))
    other = policy.with_params(policy.params + 0.01)
    return [
        policy.log_prob(states, actions),
        *(figures() for figures in policy.comparison(states, actions)(other)),
        other.kl_divergence(policy, states),
        policy.score_function(states, actions),
        policy.score_product(states, actions, w),
        policy.fisher_factor(states),
        policy.fisher_product(states)(v),
        policy.fisher_preconditioner(states)(v, 0.1),
    ]


def test_seen_states_stand_for_the_states_bit_for_bit_whichever_policy_asks(walker):
    policy, states, actions = walker
    seen = policy.seen(states)

    def agrees(asks):
        for plain, known in zip(answers(asks, states, actions), answers(asks, seen, actions), strict=True):
            np.testing.assert_array_equal(plain, known)

    for asks in (policy, policy.with_params(0.5 * policy.params), policy.standardised(states[:100])):
        agrees(asks)
    np.testing.assert_array_equal(policy.standardised(seen).params, policy.standardised(states).params)
    agrees(policy.fit(states[:300], actions[:300]))  # the very object that saw them


def test_a_policy_without_a_network_sees_the_states_themselves():
    states = np.random.default_rng(0).normal(size=(50, 2))
    network = NeuralPolicy(hidden=(4,), max_iter=5, random_state=0).fit(states, states[:, 0])
    linear = LinearGaussianPolicy().fit(states, states[:, 0] + 0.1 * states[:, 1] ** 2)
    np.testing.assert_array_equal(
        network.kl_divergence(linear, network.seen(states)), network.kl_divergence(linear, states)
    )


def test_a_step_passes_its_states_through_the_old_network_once(walker, monkeypatch):
    policy, states, actions = walker
    passes = []
    forward = Network.forward
    monkeypatch.setattr(Network, "forward", lambda net, params, X: passes.append(len(X)) or forward(net, params, X))
    seen = policy.seen(states)
    answers(policy, seen, actions)
    assert passes == [len(states)]


def test_a_device_is_ignored_with_a_warning_at_the_line_that_fits():
    with pytest.warns(DeprecationWarning, match="device is ignored") as caught:
        NeuralPolicy(hidden=(2,), max_iter=1, device="cuda").fit([[0.0], [1.0]], [0.0, 1.0])
    assert {warning.filename for warning in caught} == {__file__}
