"""Weighted Gaussian-process policies beside scikit-learn and gpytorch: fit time, memory, latency, KL to the truth.

Run ``python tests/benchmarks/gp_policies.py [--peers]``; with ``--peers`` it takes about three minutes. Each case runs
in a process of its own, on one thread, so that its peak memory is its own: the rise of the resident set above what it
was with data and libraries loaded. With weights of one all solve the same problem, so that their KL can be compared;
with others, gpytorch's exact GP has them the only way it can, as noise sigma^2 / w.
"""

# ruff: noqa: E402 - threads are pinned before NumPy loads
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import multiprocessing
import resource
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from policies import GaussianProcessPolicy
from policies.gaussian import Gaussian

STATE_DIM, NOISE_STD, LOG_WEIGHT_STD = 4, 0.3, 0.8
ADAM_STEPS, SVGP_EPOCHS, SVGP_BATCH, SVGP_INDUCING = 100, 100, 512, 128
N_TEST, N_ACTIONS, N_PEER_ACTIONS = 2000, 2000, 50


def true_mean(states: np.ndarray) -> np.ndarray:
    """The known policy's mean; its standard deviation is NOISE_STD."""
    return np.sin(1.5 * states[:, 0]) + 0.5 * states[:, 1] * np.cos(states[:, 2]) + 0.2 * states[:, 3]


def weighted_data(n: int, weighted: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States, actions of the known policy, and weights: ones, or log-normal at ESS scale."""
    rng = np.random.default_rng(seed)
    states = rng.uniform(-2, 2, size=(n, STATE_DIM))
    weights = np.exp(LOG_WEIGHT_STD * rng.normal(size=n)) if weighted else np.ones(n)
    return states, true_mean(states) + NOISE_STD * rng.normal(size=n), weights * weights.sum() / np.sum(weights**2)


def mean_kl(mean: np.ndarray, std: np.ndarray, states: np.ndarray) -> float:
    """Average KL(truth ‖ fitted) over test states, in nats."""
    truth = Gaussian.diagonal(true_mean(states)[:, None], np.full((len(states), 1), NOISE_STD))
    return float(truth.kl(Gaussian.diagonal(mean[:, None], std[:, None])).mean())


def ours(method: str) -> Callable[..., Any]:
    """This package; every case returns (predict, act)."""

    def fit(states: np.ndarray, actions: np.ndarray, weights: np.ndarray) -> Any:
        policy = GaussianProcessPolicy(method=method, random_state=0).fit(states, actions, sample_weight=weights)
        return lambda X: policy.predict(X, return_std=True), policy.compile()

    return fit


def scikit_learn(states: np.ndarray, actions: np.ndarray, weights: np.ndarray) -> Any:
    """Exact GP with a learned noise level (WhiteKernel), which takes no weights."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel() * RBF(np.full(STATE_DIM, 2.0)) + WhiteKernel(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GaussianProcessRegressor(kernel, normalize_y=True).fit(states, actions)

    def predict(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return model.predict(Z, return_std=True)

    return predict, sampler(predict)


def gpytorch_exact(states: np.ndarray, actions: np.ndarray, weights: np.ndarray) -> Any:
    """Exact GP, noise sigma^2 / w with sigma^2 learned, Adam."""
    torch, gpytorch = torch_and_gpytorch()
    X, y, w = (torch.as_tensor(part) for part in (states, actions - actions.mean(), weights))

    class Model(gpytorch.models.ExactGP):
        def __init__(self) -> None:
            likelihood = gpytorch.likelihoods.FixedNoiseGaussianLikelihood(torch.ones_like(y))
            super().__init__(X, y, likelihood)
            self.mean_module = gpytorch.means.ZeroMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=STATE_DIM))
            self.log_noise = torch.nn.Parameter(torch.tensor(np.log(0.1)))

        def forward(self, x: Any) -> Any:
            self.likelihood.noise_covar.noise = self.log_noise.exp() / w
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    model = Model().double()
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(ADAM_STEPS):
        optimiser.zero_grad()
        loss = -objective(model(X), y)
        loss.backward()
        optimiser.step()
    model.eval()

    def predict(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            latent = model(torch.as_tensor(Z))
            variance = latent.variance + model.log_noise.exp()
        return latent.mean.numpy() + actions.mean(), variance.sqrt().numpy()

    return predict, sampler(predict)


def gpytorch_sparse(states: np.ndarray, actions: np.ndarray, weights: np.ndarray) -> Any:
    """Stochastic variational GP, each sample's expected log-likelihood times its weight, Adam on minibatches."""
    torch, gpytorch = torch_and_gpytorch()
    X, y, w = (torch.as_tensor(part) for part in (states, actions - actions.mean(), weights))

    class Model(gpytorch.models.ApproximateGP):
        def __init__(self) -> None:
            points = X[torch.randperm(len(X))[:SVGP_INDUCING]]
            posterior = gpytorch.variational.CholeskyVariationalDistribution(SVGP_INDUCING)
            super().__init__(gpytorch.variational.VariationalStrategy(self, points, posterior))
            self.mean_module = gpytorch.means.ZeroMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=STATE_DIM))

        def forward(self, x: Any) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    torch.manual_seed(0)
    model, likelihood = Model().double(), gpytorch.likelihoods.GaussianLikelihood().double()
    optimiser = torch.optim.Adam([*model.parameters(), *likelihood.parameters()], lr=0.02)
    for _ in range(SVGP_EPOCHS):
        for batch in torch.randperm(len(X)).split(SVGP_BATCH):
            optimiser.zero_grad()
            fit = (w[batch] * likelihood.expected_log_prob(y[batch], model(X[batch]))).mean()
            loss = model.variational_strategy.kl_divergence() / len(X) - fit
            loss.backward()
            optimiser.step()
    model.eval()

    def predict(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            latent = model(torch.as_tensor(Z))
            return latent.mean.numpy() + actions.mean(), (latent.variance + likelihood.noise).sqrt().numpy()

    return predict, sampler(predict)


def torch_and_gpytorch() -> Any:
    """Both modules, on one thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import gpytorch
        import torch
    torch.set_num_threads(1)
    return torch, gpytorch


def sampler(predict: Callable[..., Any]) -> Callable[..., Any]:
    """One state's action through a batch prediction."""

    def act(state: np.ndarray, rng: np.random.Generator) -> float:
        mean, std = predict(state[None])
        return mean[0] + std[0] * rng.standard_normal()

    return act


def resident_mib() -> float:
    """Peak resident set of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(fit: Callable[..., Any], n: int, weighted: bool, n_actions: int, repeats: int, queue: Any) -> None:
    """Medians of fit times and of an action's time, memory of the first fit, and KL, put on the queue."""
    fit(*weighted_data(200, weighted, seed=1))  # imports and warm-up
    data, before = weighted_data(n, weighted), resident_mib()
    wall, cpu, memory = [], [], 0.0
    for i in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        predict, act = fit(*data)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
        memory = resident_mib() - before if i == 0 else memory
    test = np.random.default_rng(9).uniform(-2, 2, size=(N_TEST, STATE_DIM))
    rng, times = np.random.default_rng(0), []
    for state in np.resize(test, (n_actions + 10, STATE_DIM)):
        start = time.perf_counter()
        act(state, rng)
        times.append(time.perf_counter() - start)
    latency = 1e6 * float(np.median(times[10:]))
    queue.put((float(np.median(wall)), float(np.median(cpu)), memory, latency, mean_kl(*predict(test), test)))


CASES: list[tuple[str, int, bool, Any, bool]] = [  # name, N, whether weighted, fit, whether it is a peer
    ("reps_opt auto (sparse)", 2000, False, ours("auto"), False),
    ("reps_opt exact", 2000, False, ours("exact"), False),
    ("reps_opt features", 2000, False, ours("features"), False),
    ("scikit-learn exact", 2000, False, scikit_learn, True),
    ("gpytorch exact, Adam", 2000, False, gpytorch_exact, True),
    ("reps_opt auto (sparse)", 2000, True, ours("auto"), False),
    ("reps_opt exact", 2000, True, ours("exact"), False),
    ("gpytorch exact, noise/w, Adam", 2000, True, gpytorch_exact, True),
    ("reps_opt auto (sparse)", 20000, True, ours("auto"), False),
    ("reps_opt features", 20000, True, ours("features"), False),
    ("gpytorch SVGP, w log-lik, Adam", 20000, True, gpytorch_sparse, True),
]


def main(peers: bool) -> None:
    """Print the table; ratios are of CPU time, to this package's "auto" on the same data."""
    names = ("numpy", "scipy", "scikit-learn", "torch", "gpytorch")
    print(f"Python {sys.version.split()[0]}, " + ", ".join(f"{name} {version(name)}" for name in names))
    heads = f"{'fit s':>8s} {'CPU s':>8s} {'ratio':>7s} {'MiB':>6s} {'act us':>9s} {'KL nats':>9s}"
    print(f"{'case':30s} {'N':>6s} {'weights':>7s} {heads}")
    context, reference = multiprocessing.get_context("fork"), 1.0
    for name, n, weighted, fit, is_peer in CASES:
        if is_peer and not peers:
            continue
        queue: Any = context.Queue()
        budget = (N_PEER_ACTIONS, 1) if is_peer else (N_ACTIONS, 3)
        child = context.Process(target=measure, args=(fit, n, weighted, *budget, queue))
        child.start()
        wall, cpu, memory, latency, kl = queue.get()
        child.join()
        reference = cpu if "auto" in name else reference
        figures = f"{wall:8.2f} {cpu:8.2f} {cpu / reference:7.1f} {memory:6.0f} {latency:9.1f} {kl:9.5f}"
        print(f"{name:30s} {n:6d} {'ESS' if weighted else 'ones':>7s} {figures}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="measure scikit-learn and gpytorch too")
    main(parser.parse_args().peers)
