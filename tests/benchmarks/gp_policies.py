"""Weighted Gaussian-process policies beside scikit-learn and gpytorch: fit time, memory, latency, KL to the truth.

Run ``python tests/benchmarks/gp_policies.py [--peers]``; with ``--peers`` it takes about three minutes. Each case runs
in a process of its own, on one thread, so that its peak memory is its own: the rise of the resident set above what it
was with data and libraries loaded. All solve the same problem, so that their KL can be compared: gpytorch's exact GP
has weights as noise sigma^2 / w, with the normaliser of a likelihood to the power w put back into its evidence (without
it the noise collapses). Adam runs until its KL, with weights of one, is about .002 nats above ours: 80 steps at rate
.3. More would help little: it is .0015 above after 200 steps; at rate .1 it is .005 above after 100.
"""

# ruff: noqa: E402 - threads are pinned before NumPy loads
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from policies import GaussianProcessPolicy
from policies.gaussian import Gaussian
from tests.benchmarks.comparison import (
    Cost,
    Goal,
    Row,
    in_child,
    installed,
    missing,
    resident_mib,
    show,
    timed,
    versions,
)

STATE_DIM, NOISE_STD, LOG_WEIGHT_STD = 4, 0.3, 0.8
ADAM_STEPS, ADAM_RATE, SVGP_EPOCHS, SVGP_BATCH, SVGP_INDUCING = 80, 0.3, 100, 512, 128
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
    """Exact GP on the weighted evidence, Adam."""
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
    optimiser = torch.optim.Adam(model.parameters(), lr=ADAM_RATE)
    for _ in range(ADAM_STEPS):
        optimiser.zero_grad()
        loss = -objective(model(X), y) - ((1 - w) / 2).mean() * model.log_noise
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


class Fit(NamedTuple):
    """What one case measured: medians of the fit, memory of the first, one action in microseconds, KL in nats."""

    cost: Cost
    mib: float
    action: float
    kl: float


def measure(fit: Callable[..., Any], n: int, weighted: bool, n_actions: int, repeats: int) -> Fit:
    """Medians of fit times and of an action's time, memory of the first fit, and KL."""
    fit(*weighted_data(200, weighted, seed=1))  # imports and warm-up
    data, before = weighted_data(n, weighted), resident_mib()
    first = timed(lambda: fit(*data))
    memory = resident_mib() - before
    cost = timed(lambda: fit(*data), repeats) if repeats > 1 else first
    predict, act = cost.value
    test = np.random.default_rng(9).uniform(-2, 2, size=(N_TEST, STATE_DIM))
    rng, times = np.random.default_rng(0), []
    for state in np.resize(test, (n_actions + 10, STATE_DIM)):
        start = time.perf_counter()
        act(state, rng)
        times.append(time.perf_counter() - start)
    action = 1e6 * float(np.median(times[10:]))
    return Fit(cost._replace(value=None), memory, action, mean_kl(*predict(test), test))


class Peer(NamedTuple):
    """Somebody else's fit, the module it needs, and by how many times ours is to be faster (NaN: no goal)."""

    name: str
    module: str
    fit: Callable[..., Any]
    faster: float


PEERS: dict[tuple[int, bool], list[Peer]] = {  # by N and whether weighted
    (2000, False): [
        Peer("scikit-learn, exact", "sklearn", scikit_learn, 10.0),
        Peer("gpytorch, exact, Adam", "gpytorch", gpytorch_exact, 50.0),
    ],
    (2000, True): [Peer("gpytorch, exact, weighted evidence, Adam", "gpytorch", gpytorch_exact, 50.0)],
    (20000, True): [Peer("gpytorch, SVGP, weighted likelihood", "gpytorch", gpytorch_sparse, math.nan)],
}
METHODS = {2000: ("auto", "exact", "features"), 20000: ("auto", "features")}
FIT_SECONDS, FIT_MIB, ACTION = {2000: 1.5, 20000: 5.0}, {20000: 110.0}, 20.0
WORSE_KL = 0.002
"""KL, in nats, by which a fit may be worse than the best peer's and still count as equal."""


def row(method: str, n: int, weighted: bool, ours: Fit, goals: bool) -> Row:
    """Our own row, without a peer."""
    wanted = [Goal("CPU s", ours.cost.cpu, FIT_SECONDS[n]), Goal("us an action", ours.action, ACTION)] if goals else []
    if goals and n in FIT_MIB:
        wanted.append(Goal("MiB", ours.mib, FIT_MIB[n]))
    return Row(
        f"weighted GP fit, {method}",
        f"N = {n:,}, {'ESS weights' if weighted else 'weights of one'}",
        n,
        ours.cost.cpu,
        f"KL {ours.kl:.5f}, {ours.mib:.0f} MiB; action {ours.action:.3g} us",
        goals=tuple(wanted) if method == "auto" else (),
    )


def beside(ours: Row, own: Fit, peer: Peer, theirs: Fit, goals: bool) -> Row:
    """The row of "auto" beside a peer's fit of the same data."""
    faster = Goal("times faster", theirs.cost.cpu / own.cost.cpu, peer.faster, least=True)
    return replace(
        ours,
        accurate=own.kl <= theirs.kl + WORSE_KL,
        peer=peer.name,
        peer_cost=theirs.cost.cpu,
        peer_accuracy=f"KL {theirs.kl:.5f}, {theirs.mib:.0f} MiB; action {theirs.action:.3g} us",
        goals=(faster,) if goals and not math.isnan(peer.faster) else (),
    )


def rows(quick: bool = False, peers: bool = True) -> Iterator[Row]:
    """A row a method, and a row a peer beside "auto", each measured in a process of its own (but where quick)."""
    cases = [(300, True)] if quick else [(2000, False), (2000, True), (20000, True)]
    apart = (lambda call: call()) if quick else (lambda call: in_child(call)[0])
    for n, weighted in cases:
        for method in ("auto",) if quick else METHODS[n]:
            fit = ours(method)
            found = apart(lambda fit=fit, n=n, w=weighted: measure(fit, n, w, 50 if quick else N_ACTIONS, 3))
            own = row(method, n, weighted, found, not quick)
            yield own
            beaten = PEERS.get((2000 if quick else n, weighted), []) if peers and method == "auto" else []
            for peer in beaten:
                if not installed(peer.module):
                    yield replace(own, note=missing(peer.module), goals=())
                    continue
                theirs = apart(lambda p=peer, n=n, w=weighted: measure(p.fit, n, w, N_PEER_ACTIONS, 1))
                yield beside(own, found, peer, theirs, not quick)


def main(peers: bool) -> list[Row]:
    """Print the table; ratios are of CPU time, to this package's "auto" on the same data."""
    print(f"Python {sys.version.split()[0]}, " + versions("numpy", "scipy", "scikit-learn", "torch", "gpytorch"))
    return show(rows(peers=peers))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="measure scikit-learn and gpytorch too")
    main(parser.parse_args().peers)
