"""The trust-region step against Cholesky, the whitened cone against CVXPY's plain one, TRPO against sb3-contrib.

Run it as ``python tests/benchmarks/steps.py``, with one BLAS thread (OMP_NUM_THREADS=1). Times are medians of CPU time,
of calls that take turns, which a busy machine leaves alone.

Shapes: P parameters; gradient (P,), metric F (P, P) the Fisher matrix of a linear-Gaussian policy's scores.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import scipy.linalg

from reps_opt import TrustRegionStep, solve
from reps_opt.solvers import CvxpyPrimal, Quadratic
from tests.benchmarks.comparison import Cost, Goal, Row, installed, interleaved, missing, show, versions

SIZES, QUICK_SIZES = (100, 1000), (10, 30)
CHOLESKIES, CONE_MS, FASTER = 1.5, 66.0, 3.0  # goals: of the closed form, the whitened cone, the network's update
EPSILON = 0.01
SAMPLES_A_PARAMETER = 4
N_STATE, N_ACTION = 17, 6  # of the network's batch, as in a walking robot's


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


def measure(size: int, repeats: int, goals: bool = True) -> Iterator[Row]:
    """Rows of one size: closed forms beside Cholesky alone, the whitened cone beside the plain one."""
    scores, gradient, slope = instance(size)
    F = scores.T @ scores / len(scores)
    rows = [(slope, -1e-3)]
    factorised = TrustRegionStep(gradient, F, EPSILON, rows)
    solve(factorised)  # factorised already, as in a line of cost budgets
    cases: dict[str, Callable[[], Any]] = {
        "TRPO step, closed form": lambda: solve(TrustRegionStep(gradient, F, EPSILON)),
        "CPO step, closed form": lambda: solve(TrustRegionStep(gradient, F, EPSILON, rows)),
        "CPO step, factor kept": lambda: solve(TrustRegionStep(gradient, factorised.metric, EPSILON, rows)),
        "CPO step, conjugate gradient": lambda: solve(TrustRegionStep(gradient, F, EPSILON, rows), Quadratic("cg")),
    }
    for name, call in cases.items():
        ours, cholesky = interleaved([call, lambda: scipy.linalg.cho_factor(F, lower=True)], repeats)
        held = goals and "closed form" in name
        wanted = (Goal("times Cholesky", ours.cpu / cholesky.cpu, CHOLESKIES),) if held else ()
        yield _row(name, size, ours, "SciPy, Cholesky alone", cholesky, "the factor only", wanted)
    white, plain = interleaved(
        [lambda w=w: solve(TrustRegionStep(gradient, F, EPSILON, rows), CvxpyPrimal(whiten=w)) for w in (True, False)],
        max(1, min(3, repeats)),
    )
    wanted = (Goal("ms", 1e3 * white.cpu, CONE_MS),) if goals and size == max(SIZES) else ()
    yield _row("CPO step, whitened cone", size, white, "CVXPY, plain cone", plain, _quality(plain), wanted)


def _quality(cost: Cost) -> str:
    solution = cost.value
    return f"{solution.status}, gap {solution.certificate.gap:.0e}, KKT {solution.stationarity:.0e}"


def _row(name: str, size: int, ours: Cost, peer: str, theirs: Cost, accuracy: str, goals: tuple[Goal, ...]) -> Row:
    certified = ours.value.status == "certified"
    case = f"P = {size:,}"
    return Row(name, case, size, ours.cpu, _quality(ours), certified, peer, theirs.cpu, accuracy, goals)


def measure_network(repeats: int, batch: int = 2048, goals: bool = True) -> Iterator[Row]:
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
    calls = [lambda: update._step(policy, data, advantages, None), *([peer.update] if peer is not None else [])]
    ours, *theirs = interleaved(calls, repeats)
    solution, F = ours.value.solution, policy.fisher_product(data.states)
    g, s = solution.problem.gradient, solution.step

    def quality(s: Any) -> float:
        return float(g @ s / np.sqrt(s @ F(s)))

    spent = f"{solution.stats.get('products', 'no')} products, {ours.value.trials} trials"
    text, case = f"g's/sqrt(s'Fs) {quality(s):.4f}; {spent}", f"64 x 64 network, batch {batch:,}"
    row = Row("TRPO update, policy part", case, g.size, ours.cpu, text)
    if peer is None:
        yield replace(row, note=missing("sb3-contrib"))
        return
    reached = quality(peer.step())
    yield replace(
        row,
        accurate=quality(s) >= reached * (1 - 1e-3),
        peer="sb3-contrib, TRPO",
        peer_cost=theirs[0].cpu,
        peer_accuracy=f"g's/sqrt(s'Fs) {reached:.4f}; CG {1e3 * peer.in_solver:.1f} ms wall",
        goals=(Goal("times faster", theirs[0].cpu / ours.cpu, FASTER, least=True),) if goals else (),
    )


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


def rows(quick: bool = False, sizes: Sequence[int] | None = None, repeats: int = 21) -> Iterator[Row]:
    """All rows: steps by size, then the network's update."""
    if quick:
        for size in QUICK_SIZES:
            yield from measure(size, 1, goals=False)
        if installed("torch"):
            yield from measure_network(1, batch=128, goals=False)
        return
    for size in SIZES if sizes is None else sizes:
        yield from measure(size, repeats)
    yield from measure_network(min(repeats, 7))


def main(sizes: Sequence[int] = SIZES, repeats: int = 21) -> list[Row]:
    """Print the table, and return its rows."""
    print(f"Python {sys.version.split()[0]}, {versions('numpy', 'scipy', 'cvxpy', 'clarabel', 'sb3-contrib')}")
    return show(rows(sizes=sizes, repeats=repeats))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=21)
    main(repeats=parser.parse_args().repeats)
