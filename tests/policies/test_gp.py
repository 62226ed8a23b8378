"""The Gaussian-process policy against repeated data, scikit-learn, gpytorch, brute force and finite differences."""

import tracemalloc

import numpy as np
import pytest
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.stats import multivariate_normal, norm
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, ExpSineSquared, Matern, WhiteKernel

from policies import GaussianProcessPolicy, SquaredExponential
from policies.gaussian import Gaussian
from policies.gp_objectives import Problem, exact_loss, loo_loss, sparse_loss
from policies.gp_posterior import exact_posterior, sparse_posterior
from policies.gp_torch import GPyTorchKernel
from policies.kernels import central_differences, contract_diagonal, contract_gradient

ANGLES = SquaredExponential([1.0, 2.0, 0.5], periods=(np.inf, 3.0, np.inf), typical_scale=1.0)
KERNELS = {
    "ard": ANGLES,
    "tied": SquaredExponential(0.7),
    "sklearn": ConstantKernel(2.0) * Matern([1.0, 2.0, 0.5], nu=2.5),
}


def problem(n=25, k=2, seed=0, groups=None):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    Y = np.sin(X[:, :k]) + 0.2 * rng.normal(size=(n, k))
    return Problem(X, Y, rng.exponential(size=n), groups)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("loss", [exact_loss, lambda *a: sparse_loss(*a, problem().states[:8] + 0.1), loo_loss])
@pytest.mark.parametrize("groups", [None, np.arange(25) // 4])
def test_gradients_by_finite_differences(kernel, loss, groups):
    data, here = problem(groups=groups), np.append(kernel.theta, -1.0)
    numeric = central_differences(lambda t: loss(kernel.clone_with_theta(t[:-1]), t[-1], data)[0], here)
    np.testing.assert_allclose(loss(kernel, -1.0, data)[1], numeric, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", [*KERNELS.values(), DotProduct()])
def test_kernel_contractions(kernel):
    data, rng = problem(), np.random.default_rng(1)
    X, Z, G = data.states, data.states[:6] + 0.3, rng.normal(size=(25, 6))
    rectangular = contract_gradient(kernel, X, Z, kernel(X, Z), G)
    numeric = central_differences(lambda t: np.sum(G * kernel.clone_with_theta(t)(X, Z)), kernel.theta)
    np.testing.assert_allclose(rectangular, numeric, rtol=1e-6, atol=1e-7)
    square = G @ G.T
    numeric = np.einsum("ij,ijh->h", square, kernel(X, eval_gradient=True)[1])
    np.testing.assert_allclose(contract_gradient(kernel, X, None, kernel(X), square), numeric, rtol=1e-8)
    diagonal = contract_diagonal(kernel, X, G[:, 0])
    np.testing.assert_allclose(diagonal, contract_gradient(kernel, X, None, kernel(X), np.diag(G[:, 0])), atol=1e-6)


def test_evidence_of_integer_weights_is_that_of_repeated_data():
    """Against N(0, v (K + s I)) of the repeated samples, its scale v found by a numerical search."""
    data = problem(n=12, k=1)
    counts = np.random.default_rng(2).integers(0, 4, 12)
    kept = counts > 0
    X, y = data.states.repeat(counts, axis=0), data.actions[:, 0].repeat(counts)
    C = ANGLES(X) + 0.3 * np.eye(len(X))

    def loss(log_v):
        return -multivariate_normal(cov=np.exp(log_v) * C).logpdf(y)

    weighted = Problem(data.states[kept], data.actions[kept], counts[kept].astype(float))
    best = minimize_scalar(loss, bounds=(-10, 10), method="bounded", options={"xatol": 1e-10}).fun
    assert exact_loss(ANGLES, np.log(0.3), weighted)[0] == pytest.approx(best, rel=1e-10)


@pytest.mark.parametrize("method", ["exact", "sparse"])
def test_posterior_at_fixed_hyperparameters_is_scikit_learns(method):
    """Weights one: scikit-learn's exact GP at the same kernel, noise and scale; all samples as inducing states."""
    data = problem(n=60, k=1)
    y = data.actions[:, 0]
    kernel = RBF([1.0, 2.0, 0.5])
    policy = GaussianProcessPolicy(kernel, method=method, noise=0.3, optimize=False).fit(data.states, y)
    z = (y - y.mean()) / y.std()
    v = z @ np.linalg.solve(kernel(data.states) + 0.3 * np.eye(60), z) / 60
    oracle = GaussianProcessRegressor(v * kernel, alpha=v * 0.3, optimizer=None).fit(data.states, z)
    grid = np.random.default_rng(3).normal(size=(20, 3))
    mean, std = oracle.predict(grid, return_std=True)
    got, spread = policy.predict(grid, return_std=True)
    np.testing.assert_allclose(got, y.mean() + y.std() * mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(spread, y.std() * np.sqrt(std**2 + v * 0.3), rtol=1e-6)


def test_learned_hyperparameters_are_the_posterior_mode_by_scikit_learns_evidence():
    """scikit-learn's evidence plus our prior on the noise ratio is nowhere larger than at our optimum."""
    rng = np.random.default_rng(4)
    X = rng.uniform(-2, 2, size=(80, 2))
    y = np.sin(2 * X[:, 0]) + 0.3 * rng.normal(size=80)
    z = (y - y.mean()) / y.std()
    policy = GaussianProcessPolicy(SquaredExponential([1.0, 1.0])).fit(X, y)
    oracle = GaussianProcessRegressor(ConstantKernel() * RBF([1.0, 1.0]) + WhiteKernel(), random_state=0)
    oracle.set_params(n_restarts_optimizer=2).fit(X, z)

    def posterior(theta):
        log_ratio = theta[-1] - theta[0]
        return oracle.log_marginal_likelihood(theta) - 0.5 * ((log_ratio - np.log(0.1)) / 2.0) ** 2

    v = policy.posterior_.variance[0]
    ours = np.log([v, *policy.kernel_.length_scale, v * policy.noise_])
    rival = minimize(lambda t: -posterior(t), oracle.kernel_.theta, method="Nelder-Mead", options={"maxiter": 4000})
    assert posterior(ours) == pytest.approx(policy.objective_, rel=1e-8)
    assert posterior(ours) >= -rival.fun - 1e-4


@pytest.mark.parametrize(
    "loss", [exact_loss, lambda *a: sparse_loss(*a, problem(n=40).states)], ids=["exact", "sparse"]
)
def test_weighted_evidence_is_gpytorchs_with_divided_noise(gpytorch, loss):
    """Up to the normaliser that tells the two readings of a weight apart: (1 - w_i)/2 log(2 pi s) - log(w_i)/2."""
    torch = pytest.importorskip("torch")
    data, s = problem(n=40, k=1), 0.3
    kernel = SquaredExponential([1.0, 2.0, 0.5])
    C = torch.as_tensor(kernel(data.states)) + torch.diag(torch.as_tensor(s / data.weights))
    y = torch.as_tensor(data.actions[:, 0])
    v = float(y @ torch.linalg.solve(C, y)) / data.total
    density = gpytorch.distributions.MultivariateNormal(torch.zeros(40, dtype=torch.float64), v * C)
    w = data.weights
    normaliser = np.sum((1 - w) / 2 * np.log(2 * np.pi * s * v) - np.log(w) / 2)
    expected = -(float(density.log_prob(y)) + normaliser)
    assert loss(kernel, np.log(s), data)[0] == pytest.approx(expected, rel=1e-6)


def test_sparse_equals_exact_when_the_inducing_states_are_the_data():
    data = problem(n=50)
    options = {"random_state": 0, "n_inducing": 50}
    exact = GaussianProcessPolicy(method="exact", **options).fit(data.states, data.actions, data.weights)
    frozen = {"kernel": exact.kernel_, "noise": exact.noise_, "optimize": False}
    sparse = GaussianProcessPolicy(method="sparse", **options, **frozen).fit(data.states, data.actions, data.weights)
    grid = np.random.default_rng(5).normal(size=(50, 3))
    for one, other in zip(exact.predict(grid, return_std=True), sparse.predict(grid, return_std=True), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    bound, _ = sparse_loss(exact.kernel_, np.log(exact.noise_), data, data.states)
    assert bound == pytest.approx(exact_loss(exact.kernel_, np.log(exact.noise_), data)[0], rel=1e-6)


def test_weights_of_26_decades_against_60_digits():
    """The exact posterior mean, weights from 1e-13 to 1e13, against multiple-precision arithmetic."""
    mpmath = pytest.importorskip("mpmath")
    data, rng = problem(n=30, k=1), np.random.default_rng(12)
    data = Problem(data.states, data.actions, 10.0 ** rng.uniform(-13, 13, 30))
    grid, kernel = rng.normal(size=(10, 3)), SquaredExponential([1.0, 2.0, 0.5])
    with mpmath.workdps(60):
        C = mpmath.matrix(kernel(data.states).tolist()) + mpmath.diag([0.1 / w for w in data.weights])
        mean = mpmath.matrix(kernel(grid, data.states).tolist()) * mpmath.lu_solve(
            C, mpmath.matrix(data.actions.tolist())
        )
        expected = np.array([float(m) for m in mean])
    exact = exact_posterior(kernel, 0.1, data).moments(grid)[0][:, 0]
    np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    sparse = sparse_posterior(kernel, 0.1, data, data.states).moments(grid)[0][:, 0]
    np.testing.assert_allclose(sparse, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_bound_is_a_bound_and_tightens():
    data = problem(n=60)
    exact = exact_loss(ANGLES, -1.0, data)[0]
    bounds = [sparse_loss(ANGLES, -1.0, data, data.states[:m])[0] for m in (5, 15, 30, 60)]
    assert np.all(np.diff(bounds) < 0)
    assert bounds[-1] >= exact - 1e-5


def test_learned_sparse_and_features_agree_with_exact():
    rng = np.random.default_rng(6)
    X = rng.uniform(-2, 2, size=(600, 2))
    y = np.sin(2 * X[:, 0]) * X[:, 1] + 0.2 * rng.normal(size=600)
    w = rng.exponential(size=600)
    fit = {m: GaussianProcessPolicy(method=m, random_state=0).fit(X, y, w) for m in ("exact", "sparse", "features")}
    grid = rng.uniform(-2, 2, size=(200, 2))
    assert fit["exact"].kl_divergence(fit["sparse"], grid).mean() < 1e-4
    assert fit["exact"].kl_divergence(fit["features"], grid).mean() < 2e-2
    assert GaussianProcessPolicy().fit(X, y, w).method_ == "exact"


def test_loo_loss_by_leaving_out():
    """Brute force: refit without each sample (roll-out), and score what was left out."""
    for groups in (None, np.arange(14) // 3):
        data = problem(n=14, k=1, groups=groups)
        labels = np.arange(14) if groups is None else groups
        s, w = 0.2, data.weights
        residual, spread = np.empty(14), np.empty(14)
        for g in np.unique(labels):
            out, rest = labels == g, labels != g
            cross = ANGLES(data.states[out], data.states[rest])
            solved = np.linalg.solve(ANGLES(data.states[rest]) + np.diag(s / w[rest]), cross.T).T
            residual[out] = data.actions[out, 0] - solved @ data.actions[rest, 0]
            spread[out] = 1 - np.sum(solved * cross, axis=1) + s
        v = w @ (residual**2 / spread) / w.sum()
        expected = -w @ norm(scale=np.sqrt(v * spread)).logpdf(residual)
        assert loo_loss(ANGLES, np.log(s), data)[0] == pytest.approx(expected, rel=1e-9)


def test_leaving_out_rollouts_and_single_samples_are_different_criteria():
    """Roll-outs with an offset each: each fit is the better one by the held-out likelihood that it maximised."""
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(10), 8)
    X = np.linspace(0, 1, 80)[:, None]
    y = np.repeat(rng.normal(size=10), 8) + 0.1 * rng.normal(size=80)
    single = GaussianProcessPolicy(criterion="loo").fit(X, y)
    whole = GaussianProcessPolicy(criterion="loo").fit(X, y, groups=groups)
    z, ones = ((y - y.mean()) / y.std())[:, None], np.ones(80)

    def loss(policy, held_out):
        return loo_loss(policy.kernel_, np.log(policy.noise_), Problem(X, z, ones, held_out))[0]

    assert loss(whole, groups) < loss(single, groups) - 1
    assert loss(single, None) < loss(whole, None) - 1
    with pytest.raises(ValueError, match=r"groups must have shape \(80\)"):
        whole.fit(X, y, groups=groups[:-1])


def test_periodic_kernel_is_scikit_learns_and_joins_the_circle():
    X = np.random.default_rng(8).normal(size=(10, 1))
    ours = SquaredExponential(0.8, periods=(3.0,))
    theirs = ExpSineSquared(length_scale=2 * 0.8 * np.pi / 3.0, periodicity=3.0)
    np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-10)
    angle = np.linspace(-np.pi, np.pi, 60)[:, None]
    policy = GaussianProcessPolicy(periods=(2 * np.pi,)).fit(angle, np.sin(angle[:, 0]))
    assert policy.predict([[np.pi + 0.3]])[0] == pytest.approx(policy.predict([[-np.pi + 0.3]])[0], abs=1e-9)


def test_several_actions_share_one_factorisation_but_not_their_scale():
    data = problem(n=40, k=1)
    y = data.actions[:, 0]
    both = GaussianProcessPolicy().fit(data.states, np.column_stack([y, 100 * y + 7]), data.weights)
    mean, std = both.predict(data.states, return_std=True)
    np.testing.assert_allclose(mean[:, 1], 100 * mean[:, 0] + 7, rtol=1e-9)
    np.testing.assert_allclose(std[:, 1], 100 * std[:, 0], rtol=1e-9)


def test_power_of_likelihood_keeps_exploration_noise_that_divided_noise_loses():
    """REPS-like weights at ESS scale. The rival maximises the same evidence with the normaliser of "sigma^2 / w"."""
    rng = np.random.default_rng(9)
    X = rng.uniform(-2, 2, size=(400, 1))
    y = np.sin(X[:, 0]) + 0.4 * rng.normal(size=400)
    w = np.exp(2 * rng.normal(size=400))
    w *= w.sum() / np.sum(w**2)
    policy = GaussianProcessPolicy().fit(X, y, w)
    assert np.median(policy.predict(X, return_std=True)[1]) == pytest.approx(0.4, rel=0.2)
    signal = policy.predict(X)

    def divided(log_std):
        return -np.sum(norm(signal, np.exp(log_std) / np.sqrt(w)).logpdf(y))

    assert np.exp(minimize_scalar(divided, bounds=(-8, 2), method="bounded").x) < 0.2


@pytest.mark.filterwarnings("ignore:.*the weights sum to one")
def test_weights_at_ess_scale_come_nearest_to_the_tilted_policy():
    """Episodic REPS at epsilon = 2 nats: w = exp(r / eta). With reward -(a - m(s))^2 and actions drawn from N(0, 1),
    the tilted policy is Gaussian with precision 1 + 2/eta; KL to it, for weights at ESS, mean-one and sum-one scale.
    """
    divergences = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X, a, grid = rng.uniform(-1.5, 1.5, (300, 2)), rng.normal(size=300), rng.uniform(-1.5, 1.5, (300, 2))
        reward = -((a - np.sin(2 * X[:, 0])) ** 2)

        def weights(log_eta, r=reward):
            w = np.exp((r - r.max()) / np.exp(log_eta))
            return w / w.sum()

        def excess(log_eta, weights=weights):
            w = weights(log_eta)
            return np.sum(w * np.log(np.maximum(300 * w, 1e-300))) - 2.0

        log_eta = brentq(excess, -12, 5)
        w, precision = weights(log_eta), 1 + 2 / np.exp(log_eta)
        mean = 2 / np.exp(log_eta) / precision * np.sin(2 * grid[:, :1])
        tilted = Gaussian.diagonal(mean, np.array([precision**-0.5]))
        fits = [GaussianProcessPolicy().fit(X, a, w * scale) for scale in (1 / np.sum(w**2), 300, 1)]
        moments = [np.array(fit.predict(grid, return_std=True))[:, :, None] for fit in fits]
        divergences.append([tilted.kl(Gaussian.diagonal(*moment)).mean() for moment in moments])
    ess, mean_one, sum_one = np.mean(divergences, axis=0)
    assert ess < 0.25
    assert min(mean_one, sum_one) > 5 * ess


def test_gpytorch_kernel_with_priors(gpytorch):
    """gpytorch's RBF kernel gives scikit-learn's posterior; a prior moves the length-scale; the module is untouched."""
    plain = gpytorch.kernels.RBFKernel(ard_num_dims=3)
    tight = gpytorch.kernels.RBFKernel(lengthscale_prior=gpytorch.priors.LogNormalPrior(np.log(5.0), 0.01))
    data = problem(n=40)
    before = plain.raw_lengthscale.detach().clone()
    policy = GaussianProcessPolicy(plain).fit(data.states, data.actions, data.weights)
    assert bool((plain.raw_lengthscale == before).all())
    learned = policy.kernel_.module.lengthscale.detach().numpy()[0]
    same = GaussianProcessPolicy(RBF(learned), noise=policy.noise_, optimize=False)
    same.fit(data.states, data.actions, data.weights)
    np.testing.assert_allclose(policy.predict(data.states), same.predict(data.states), rtol=1e-6, atol=1e-8)
    sparse = GaussianProcessPolicy(plain, method="sparse", random_state=0).fit(data.states, data.actions, data.weights)
    np.testing.assert_allclose(policy.predict(data.states), sparse.predict(data.states), atol=2e-3)
    prior = GaussianProcessPolicy(tight).fit(data.states, data.actions, data.weights)
    assert prior.kernel_.module.lengthscale.item() == pytest.approx(5.0, rel=0.02)
    assert np.all(np.isfinite(policy.compile()(data.states[0], np.random.default_rng(0))))


def test_gpytorch_gradients_by_finite_differences(gpytorch):
    scaled = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=3))
    data, kernel = problem(), GPyTorchKernel(scaled)
    here = np.append(kernel.theta, -1.0)
    for loss in (exact_loss, lambda *a: sparse_loss(*a, data.states[:8] + 0.1)):
        numeric = central_differences(lambda t, f=loss: f(kernel.clone_with_theta(t[:-1]), t[-1], data)[0], here)
        np.testing.assert_allclose(loss(kernel, -1.0, data)[1], numeric, rtol=1e-5, atol=1e-6)


def test_images_through_a_tied_kernel_and_principal_components():
    """A bright spot's position on 24 pixels drives the action; the default kernel ties the pixels beyond 20."""
    rng = np.random.default_rng(10)
    position = rng.uniform(4, 20, size=200)
    images = np.exp(-0.5 * ((np.arange(24) - position[:, None]) / 2) ** 2) + 0.02 * rng.normal(size=(200, 24))
    actions = np.sin(position / 3) + 0.05 * rng.normal(size=200)
    tied = GaussianProcessPolicy().fit(images[:150], actions[:150])
    assert np.size(tied.kernel_.length_scale) == 1
    components = GaussianProcessPolicy(features=PCA(5)).fit(images[:150], actions[:150])
    for policy in (tied, components):
        assert np.abs(policy.predict(images[150:]) - np.sin(position[150:] / 3)).mean() < 0.06
        picture = images[160].reshape(4, 6)
        assert policy.compile()(picture) == pytest.approx(policy.predict(images[160:161])[0], rel=1e-9)


def test_large_data_is_sparse_by_itself_and_near_the_truth():
    rng = np.random.default_rng(11)
    X = rng.uniform(-2, 2, size=(6000, 2))
    y = np.sin(2 * X[:, 0]) + 0.3 * rng.normal(size=6000)
    w = np.exp(rng.normal(size=6000))
    w *= w.sum() / np.sum(w**2)
    policy = GaussianProcessPolicy(random_state=0).fit(X, y, w)
    assert policy.method_ == "sparse"
    grid = rng.uniform(-1.9, 1.9, size=(300, 2))
    mean, std = policy.predict(grid, return_std=True)
    assert np.abs(mean - np.sin(2 * grid[:, 0])).max() < 0.15
    np.testing.assert_allclose(std, 0.3, rtol=0.1)


@pytest.mark.parametrize(("rate", "error"), [(15, 0.12), (22, 0.15)])
def test_fast_oscillations_are_not_taken_for_noise(rate, error):
    rng = np.random.default_rng(13)
    X = rng.uniform(-3, 3, size=(400, 1))
    policy = GaussianProcessPolicy().fit(X, np.sin(rate * X[:, 0]) + 0.2 * rng.normal(size=400))
    grid = np.linspace(-2.9, 2.9, 100)[:, None]
    assert np.sqrt(np.mean((policy.predict(grid) - np.sin(rate * grid[:, 0])) ** 2)) < error


def test_of_ten_columns_it_finds_the_one_that_matters():
    """On forty samples, with a mean that is less wrong than a single action is noisy."""
    squares = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X, grid = rng.uniform(-1.5, 1.5, size=(40, 10)), rng.uniform(-1.5, 1.5, size=(500, 10))
        policy = GaussianProcessPolicy().fit(X, X[:, 0] + 0.1 * rng.normal(size=40))
        squares.append(np.mean((policy.predict(grid) - grid[:, 0]) ** 2))
    assert np.sqrt(np.mean(squares)) < 0.085


def test_samples_without_noise_are_followed_closely():
    X = np.random.default_rng(0).uniform(-2, 2, size=(60, 1))
    mean, std = GaussianProcessPolicy().fit(X, np.sin(2 * X[:, 0])).predict(X, return_std=True)
    np.testing.assert_allclose(mean, np.sin(2 * X[:, 0]), atol=1e-5)
    assert np.all(std < 2e-5)


def test_predictions_at_many_states_take_memory_for_some_at_a_time():
    """Of 20,000 states the kernel alone would take 46 MiB: it is made in parts of one, which stay in cache."""
    rng = np.random.default_rng(0)
    X, grid = rng.uniform(-2, 2, size=(300, 3)), rng.uniform(-2, 2, size=(20_000, 3))
    policy = GaussianProcessPolicy(method="exact", optimize=False).fit(X, np.sin(X[:, 0]))
    policy.predict(grid[:1], return_std=True)
    tracemalloc.start()
    policy.predict(grid, return_std=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4.5 * 2**20


def test_wide_bounds_do_not_stop_the_search():
    """The first step once went as far as they let it, and no further one was found."""
    rng = np.random.default_rng(0)
    X, found = rng.uniform(-2, 2, size=(200, 3)), []
    for bounds in ((1e-3, 1e4), (1e-90, 1e90)):
        kernel = SquaredExponential(np.ones(3), bounds, typical_scale=2.0)
        found.append(GaussianProcessPolicy(kernel).fit(X, np.sign(X[:, 0])).objective_)
    assert found[1] == pytest.approx(found[0], abs=1e-2)


def test_shifted_states_keep_their_distances():
    data = problem(n=40)
    here = GaussianProcessPolicy().fit(data.states, data.actions)
    there = GaussianProcessPolicy().fit(data.states + 1e6, data.actions)
    np.testing.assert_allclose(here.predict(data.states), there.predict(data.states + 1e6), atol=1e-3)
    np.testing.assert_allclose(
        there.compile()(data.states[0] + 1e6), there.predict(data.states[:1] + 1e6)[0], atol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method must be one of"),
        ({"criterion": "magic"}, "criterion must be one of"),
        ({"noise": 0.0}, "noise must be > 0"),
        ({"n_inducing": 0}, "n_inducing must be >= 1"),
        ({"periods": (1.0, 2.0)}, r"periods must have shape \(3\), got \(2,\)"),
        ({"method": "features", "kernel": Matern()}, "method 'features' needs"),
        ({"kernel": "rbf"}, "kernel must be a scikit-learn or gpytorch kernel, got str"),
    ],
)
def test_bad_options_are_named(options, message):
    data = problem()
    with pytest.raises((ValueError, TypeError), match=message):
        clone(GaussianProcessPolicy()).set_params(**options).fit(data.states, data.actions)


@pytest.mark.parametrize("noise", [1.0, 1e-4, 1e-8])
def test_held_out_loss_keeps_its_digits_where_noise_is_small(noise):
    """With a constant kernel K = 11' everything has a closed form: [A^-1]_ii = (1 - 1/(n + s))/s for A = K + s I."""
    rng = np.random.default_rng(3)
    n, y = 40, rng.normal(size=40)
    pull = (y - y.sum() / (n + noise)) / noise
    diagonal = (1 - 1 / (n + noise)) / noise
    residual, spread = pull / diagonal, 1 / diagonal
    v = np.mean(residual**2) / spread
    expected = 0.5 * n * (np.log(2 * np.pi * v * spread) + 1)
    problem = Problem(rng.uniform(size=(n, 1)), y[:, None], np.ones(n), None)
    loss, gradient = loo_loss(SquaredExponential([1e9], (1e-3, 1e12)), np.log(noise), problem)
    assert loss == pytest.approx(expected, rel=1e-7)
    step = 1e-2
    ends = [loo_loss(SquaredExponential([1e9], (1e-3, 1e12)), np.log(noise) + d, problem)[0] for d in (-step, step)]
    assert gradient[-1] == pytest.approx((ends[1] - ends[0]) / (2 * step), abs=1e-4)
