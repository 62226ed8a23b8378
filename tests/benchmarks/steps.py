"""The trust-region step against Cholesky, the whitened cone against CVXPY's plain one, TRPO against sb3-contrib.

Run it as ``python tests/benchmarks/steps.py``, with one BLAS thread (OMP_NUM_THREADS=1). Every row names what is timed,
its peer, wall and CPU time, the ratio of median CPU times, which a busy machine leaves alone, and the certified gap.

Shapes: P parameters; gradient (P,), metric F (P, P) the Fisher matrix of a linear-Gaussian policy's scores.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import cvxpy
import gymnasium
import numpy as np
import scipy
import scipy.linalg

from reps_opt import TrustRegionStep, solve
from reps_opt.solvers import CvxpyPrimal, Quadratic

SIZES = (100, 1000)
EPSILON = 0.01
SAMPLES_A_PARAMETER = 4
N_STATE, N_ACTION = 17, 6  # of the network's batch, as in a walking robot's


class Timing(NamedTuple):
    """Median seconds, wall and CPU, and the last value returned."""

    wall: float
    cpu: float
    value: Any


def timed(call: Callable[[], Any], repeats: int) -> Timing:
    """Median over repeats, after one call to warm up."""
    return interleaved([call], repeats)[0]


def interleaved(calls: list[Callable[[], Any]], repeats: int) -> list[Timing]:
    """The same of several calls in turn, so that what else the machine does falls on all of them."""
    values = [call() for call in calls]
    spent = np.zeros((repeats, len(calls), 2))
    for i in range(repeats):
        for j, call in enumerate(calls):
            began = time.perf_counter(), time.process_time()
            values[j] = call()
            spent[i, j] = time.perf_counter() - began[0], time.process_time() - began[1]
    medians = np.median(spent, axis=0)
    return [Timing(float(wall), float(cpu), value) for (wall, cpu), value in zip(medians, values, strict=True)]


def instance(size: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Scores (N, P), gradient (P,) and cost slope (P,) of a linear-Gaussian policy with P - 1 gains and one scale."""
    rng = np.random.default_rng(seed)
    n = SAMPLES_A_PARAMETER * size
    noise = rng.standard_normal(n)
    features = rng.standard_normal((n, size - 1)) * np.geomspace(1.0, 0.1, size - 1)
    scores = np.column_stack([features * noise[:, None], noise**2 - 1])
    gradient = scores.T @ rng.standard_normal(n) / n
    cost = scores.T @ rng.standard_normal(n) / n
    return scores, gradient, cost


def measure(size: int, repeats: int) -> list[str]:
    """Table rows of one size."""
    scores, gradient, slope = instance(size)
    F = scores.T @ scores / len(scores)
    cholesky = timed(lambda: scipy.linalg.cho_factor(F, lower=True), repeats)
    cases = {
        "TRPO step, closed form": lambda: solve(TrustRegionStep(gradient, F, EPSILON)),
        "CPO step, closed form": lambda: solve(TrustRegionStep(gradient, F, EPSILON, [(slope, -1e-3)])),
        "CPO step, conjugate gradient": lambda: solve(
            TrustRegionStep(gradient, F, EPSILON, [(slope, -1e-3)]), Quadratic("cg")
        ),
    }
    rows = [f"{size:5d}  {'Cholesky alone (SciPy)':<32}{1e3 * cholesky.wall:10.3f}{1e3 * cholesky.cpu:10.3f}"]
    for name, call in cases.items():
        rows.append(_row(size, name, timed(call, repeats), cholesky.cpu, "Cholesky"))
    problem = TrustRegionStep(gradient, F, EPSILON, [(slope, -1e-3)])
    solve(problem)  # factorised already, as in a line of cost budgets
    kept = timed(lambda: solve(TrustRegionStep(gradient, problem.metric, EPSILON, [(slope, -1e-3)])), repeats)
    rows.append(_row(size, "CPO step, factor kept", kept, cholesky.cpu, "Cholesky"))
    few = max(1, min(3, repeats))
    plain = timed(lambda: solve(TrustRegionStep(gradient, F, EPSILON, [(slope, -1e-3)]), CvxpyPrimal()), few)
    rows.append(_row(size, "CPO, CVXPY plain cone", plain, plain.cpu, "plain cone"))
    white = timed(lambda: solve(TrustRegionStep(gradient, F, EPSILON, [(slope, -1e-3)]), CvxpyPrimal(whiten=True)), few)
    rows.append(_row(size, "CPO, CVXPY whitened cone", white, plain.cpu, "plain cone"))
    return rows


def measure_network(repeats: int, batch: int = 2048) -> list[str]:
    """Policy part of one TRPO update of a 64 x 64 network: gradient, step and line search, the value fit left out."""
    from types import SimpleNamespace

    from policies import NeuralPolicy
    from reps_opt import TRPO

    rng = np.random.default_rng(0)
    states = rng.standard_normal((batch, N_STATE))
    policy = NeuralPolicy(max_iter=1, dtype="float32", random_state=0).fit(
        states, rng.standard_normal((batch, N_ACTION))
    )
    data = SimpleNamespace(states=states, actions=policy.sample(states, rng), rewards=np.zeros(batch))
    advantages = rng.standard_normal(batch)
    peer = mature_trpo(batch)
    if peer is not None:
        policy, data, advantages = peer.policy(policy), peer.batch, peer.advantages
    update = TRPO(exact_fisher=True, damping=1e-2)
    calls = [lambda: update._step(policy, data, advantages), *([peer.update] if peer is not None else [])]
    ours, *theirs = interleaved(calls, repeats)
    solution, F = ours.value.solution, policy.fisher_product(data.states)
    g = solution.problem.gradient

    def row(name: str, timing: Timing, s: Any, note: str) -> str:
        ratio = f"g's/sqrt(s'Fs) {g @ s / np.sqrt(s @ F(s)):.4f}"
        return f"{g.size:5d}  {name:<32}{1e3 * timing.wall:10.3f}{1e3 * timing.cpu:10.3f}   {ratio}, {note}"

    note = (
        f"{solution.stats['products']} products, {ours.value.trials} trials, gap bound {solution.certificate.gap:.0e}"
    )
    rows = [row("TRPO update, 64x64, batch 2048", ours, solution.step, note)]
    if peer is not None:
        note = f"CG {1e3 * peer.in_solver:.1f} ms wall; CPU {theirs[0].cpu / ours.cpu:.2f} times ours"
        rows.append(row("same in sb3-contrib", theirs[0], peer.step(), note))
    return rows


def mature_trpo(n_steps: int) -> Any:
    """sb3-contrib's TRPO with a batch of noise, or None where it is not installed; see :class:`Peer`."""
    try:
        import sb3_contrib.trpo.trpo
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    return Peer(sb3_contrib.trpo.trpo, n_steps)


class Noise(gymnasium.Env):
    """States and rewards of independent noise: what a step costs does not depend on them."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (N_STATE,))
    action_space = gymnasium.spaces.Box(-1, 1, (N_ACTION,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        return self.np_random.standard_normal(N_STATE).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        state = self.np_random.standard_normal(N_STATE).astype(np.float32)
        return state, float(self.np_random.standard_normal()), False, bool(self.np_random.random() < 0.005), {}


class Peer:
    """sb3-contrib's TRPO on one batch: its policy part alone, and what it found in our parametrisation."""

    def __init__(self, module: Any, n_steps: int) -> None:
        from types import SimpleNamespace

        self.found: list[Any] = []
        self.in_solver = 0.0
        solver = module.conjugate_gradient_solver

        def watched(product: Any, gradient: Any, **settings: Any) -> Any:
            began = time.perf_counter()
            direction = solver(product, gradient, **settings)
            self.in_solver, self.found = time.perf_counter() - began, [direction.numpy().astype(np.float64)]
            return direction

        module.conjugate_gradient_solver = watched
        self.model = module.TRPO("MlpPolicy", Noise(), n_steps=n_steps, n_critic_updates=0, seed=0, device="cpu")
        train = self.model.train
        self.model.train = lambda: None  # the first batch only
        self.model.learn(n_steps)
        self.model.train = train
        self.start = {name: value.clone() for name, value in self.model.policy.state_dict().items()}
        buffer = self.model.rollout_buffer
        columns = buffer.observations[:, 0], buffer.actions[:, 0], buffer.advantages[:, 0], np.zeros(n_steps)
        states, actions, advantages, rewards = (np.array(part, dtype=np.float64) for part in columns)
        self.batch = SimpleNamespace(states=states, actions=actions, rewards=rewards)
        self.advantages = (advantages - advantages.mean()) / advantages.std(ddof=1)

    def update(self) -> None:
        """The timed part, always from the same parameters."""
        self.model.policy.load_state_dict(self.start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it logs the mean loss of no critic updates
            self.model.train()

    def policy(self, like: Any) -> Any:
        """Its starting policy as one of ours: a copy of a fitted one with inputs and outputs left as they are."""
        ours = copy.copy(like)
        ours.centre_, ours.spread_ = np.zeros(N_STATE), np.ones(N_STATE)
        ours.offset_, ours.unit_ = np.zeros(N_ACTION), np.ones(N_ACTION)
        names = ("mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2", "action_net")
        parts = [self.start[f"{name}.{kind}"] for name in names for kind in ("weight", "bias")]
        return ours.with_params(_ours([self.start["log_std"], *parts]))

    def step(self) -> Any:
        """Its search direction as one of our parameter vectors."""
        sizes = [(N_ACTION,), (64, N_STATE), (64,), (64, 64), (64,), (N_ACTION, 64), (N_ACTION,)]
        ends = np.cumsum([np.prod(size) for size in sizes])[:-1]
        return _ours([part.reshape(size) for part, size in zip(np.split(self.found[0], ends), sizes, strict=True)])


def _ours(parts: list[Any]) -> Any:
    """One vector from log standard deviations and then (out, in) matrices and biases, in our order."""
    log_std, *rest = (np.asarray(part, dtype=np.float64) for part in parts)
    return np.concatenate([part.T.ravel() for part in (*rest, log_std)])


def _row(size: int, name: str, timing: Timing, peer: float, of: str) -> str:
    solution = timing.value
    return (
        f"{size:5d}  {name:<32}{1e3 * timing.wall:10.3f}{1e3 * timing.cpu:10.3f}"
        f"{timing.cpu / peer:9.3f} of {of:<12}{solution.certificate.gap:9.1e}"
        f"{solution.certificate.stationarity:12.1e}  {solution.status}"
    )


def main(sizes: tuple[int, ...] = SIZES, repeats: int = 21) -> list[str]:
    """Print the table, and return its rows."""
    print(f"python {sys.version.split()[0]}, numpy {np.__version__}, scipy {scipy.__version__}, ", end="")
    print(f"cvxpy {cvxpy.__version__} with Clarabel; ms, medians of {repeats} (cones: of 3 at most)")
    head = f"{'P':>5}  {'case':<32}{'wall':>10}{'cpu':>10}{'ratio':>9}    {'':<12}{'gap':>9}{'KKT':>12}"
    print(head)
    rows = [row for size in sizes for row in measure(size, repeats)] + measure_network(min(repeats, 7))
    print("\n".join(rows))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=21)
    main(repeats=parser.parse_args().repeats)
