"""Work that any release of the library does, timed in a process that is asked for it line by line.

Only public names that no release has changed: ``PYTHONPATH=some/checkout python -P tests/benchmarks/cases.py`` serves
that checkout, see :mod:`tests.benchmarks.releases`.
"""

from __future__ import annotations

import inspect
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np

import envs
from reps_opt import (
    MDP,
    REPS,
    TRPO,
    ConditionalREPS,
    EpisodicREPS,
    ExactTRPO,
    FiniteHorizonREPS,
    LinearProgram,
    ORePS,
    SampleREPS,
    TrustRegionStep,
    solve,
)
from reps_opt.solvers import Quadratic

Case = Callable[[], Any]

TURN, WINDOW = 0.05, 2e-4
"""CPU seconds that one turn takes at least, and each of the windows that it is measured in: so short a window often
finds the machine quiet, however busy it is."""


@lru_cache(maxsize=4)
def toy(name: str, **settings: Any) -> MDP:
    """A table of Gymnasium's."""
    return MDP.from_gymnasium(name, gamma=0.99, **settings)


def lake(size: int) -> MDP:
    return toy("FrozenLake-v1", map_name=f"{size}x{size}")


@lru_cache(maxsize=2)
def grid(side: int, corner: bool = False, goal: bool = False) -> MDP:
    """A slippery grid, started anywhere or in a corner; a random reward a state, or one there."""
    bare = envs.gridworld((side, side), slip=0.2, gamma=0.95)
    first = np.eye(1, bare.n_states)[0]
    worth = first if goal else np.random.default_rng(0).uniform(size=bare.n_states)
    return MDP(bare.transitions, worth[:, None].repeat(4, axis=1), 0.95, first if corner else None)


@lru_cache(maxsize=2)
def garnet(n: int) -> MDP:
    return envs.garnet(n, 4, 5, seed=0, gamma=0.95)


def reps(mdp: MDP, epsilon: float = 0.5) -> Case:
    q = mdp.occupancy(mdp.uniform_policy())
    return lambda: solve(REPS(mdp, q, epsilon))


def near_slack(mdp: MDP, share: float) -> Case:
    q = mdp.occupancy(mdp.uniform_policy())
    return reps(mdp, share * solve(REPS(mdp, q, 50.0)).kl)


def conditional(mdp: MDP) -> Case:
    return lambda: solve(ConditionalREPS(mdp, mdp.uniform_policy(), 0.5))


def linear(mdp: MDP) -> Case:
    return lambda: solve(LinearProgram(mdp))


def path(mdp: MDP) -> Case:
    """Fifty radii, each solved from nothing: what every release can do."""
    q = mdp.occupancy(mdp.uniform_policy())
    return lambda: [solve(REPS(mdp, q, epsilon)) for epsilon in np.geomspace(0.01, 1.0, 50)][-1]


def horizon(mdp: MDP, n_steps: int, ball: str) -> Case:
    return lambda: solve(FiniteHorizonREPS(mdp, mdp.uniform_policy(), n_steps, 0.1, ball))


def trpo(mdp: MDP, **settings: Any) -> Case:
    return lambda: solve(ExactTRPO(mdp, mdp.uniform_policy(), 0.05, **settings))


def online(layers: tuple[int, ...], feedback: str, episodes: int = 100) -> Case:
    drawn = envs.layered(layers, 2, seed=0)
    losses = drawn.losses(episodes, seed=1)
    return lambda: ORePS(drawn.mdp, drawn.n_layers, episodes, feedback).run(losses, seed=1, progress=False)


def episodes(n: int) -> Case:
    returns = np.random.default_rng(0).normal(size=n)
    return lambda: solve(EpisodicREPS(returns, epsilon=0.5))


def contexts(n: int) -> Case:
    rng = np.random.default_rng(0)
    returns, phi = rng.normal(size=n), rng.normal(size=(n, 3))
    return lambda: solve(EpisodicREPS(returns, phi, epsilon=0.5))


def samples(n: int, d: int, epsilon: float) -> Case:
    rng = np.random.default_rng(0)
    rewards, psi = rng.normal(size=n), rng.normal(size=(n, d))
    return lambda: solve(SampleREPS(rewards, psi, epsilon=epsilon))


def step(size: int, rows: int = 0, damping: float = 0.0) -> Case:
    rng = np.random.default_rng(0)
    root, gradient = rng.normal(size=(size, size)), rng.normal(size=size)
    fisher = root @ root.T / size + np.eye(size)
    costs = [(rng.normal(size=size), 0.001) for _ in range(rows)]
    return lambda: solve(TrustRegionStep(gradient, fisher, 0.01, costs, damping))


def _process(n: int) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    from policies import GaussianProcessPolicy

    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(n, 4))
    y = np.sin(1.5 * X[:, 0]) + 0.5 * X[:, 1] * np.cos(X[:, 2]) + 0.3 * rng.normal(size=n)
    return GaussianProcessPolicy(random_state=0), X, y, np.exp(0.8 * rng.normal(size=n))


def process_fit(n: int) -> Case:
    policy, X, y, weights = _process(n)
    return lambda: policy.fit(X, y, sample_weight=weights)


def process_action(n: int) -> Case:
    policy, X, y, weights = _process(n)
    act, rng = policy.fit(X, y, sample_weight=weights).compile(), np.random.default_rng(1)
    return lambda: act(X[0], rng)


def network_step(batch: int, fitted: bool) -> Case:
    """Policy part of one TRPO update of a 64 x 64 network, in single precision, to the accuracy that 0.2.0 had.

    Of a policy as a release fits it, whose standard deviations, actions and number of products differ from release to
    release; or of one that all have.
    """
    from policies import NeuralPolicy

    rng = np.random.default_rng(0)
    states = rng.standard_normal((batch, 17))
    policy = NeuralPolicy(max_iter=1, dtype="float32", random_state=0)
    policy = policy.fit(states, rng.standard_normal((batch, 6)))
    if not fitted:
        policy = policy.with_params(0.1 * rng.standard_normal(policy.params.size))
    data = SimpleNamespace(states=states, actions=policy.sample(states, rng), rewards=np.zeros(batch))
    route = Quadratic("cg", rtol=0.1, max_iterations=50)
    advantages, update = rng.standard_normal(batch), TRPO(exact_fisher=True, damping=1e-2, solver=route)
    more = [None] * (len(inspect.signature(update._step).parameters) - 3)  # a memory, for instance
    return lambda: update._step(policy, data, advantages, *more)


HORIZONS = ("shared", "per_step", "trajectory")
LAYERS = {20: (1, 3, 3, 3), 82: (1, 8, 8, 8, 8, 8), 242: (1, *(15,) * 8)}

CASES: dict[str, Callable[[], Case]] = {
    "FrozenLake 4x4, REPS": lambda: reps(lake(4)),
    "FrozenLake 4x4, REPS, slack": lambda: near_slack(lake(4), 1.5),
    "FrozenLake 4x4, REPS, nearly slack": lambda: near_slack(lake(4), 0.9999),
    "FrozenLake 4x4, conditional": lambda: conditional(lake(4)),
    "FrozenLake 4x4, linear program": lambda: linear(lake(4)),
    "FrozenLake 4x4, optimal policy": lambda: lake(4).solve_optimal,
    "FrozenLake 8x8, REPS": lambda: reps(lake(8)),
    "FrozenLake 8x8, 50 radii": lambda: path(lake(8)),
    "Taxi, REPS": lambda: reps(toy("Taxi-v4")),
    "Garnet 200, REPS": lambda: reps(garnet(200)),
    "Garnet 200, optimal policy": lambda: garnet(200).solve_optimal,
    "FrozenLake 4x4, exact TRPO": lambda: trpo(lake(4)),
    "FrozenLake 8x8, exact TRPO": lambda: trpo(lake(8)),
    "FrozenLake 8x8, exact TRPO, new || old": lambda: trpo(lake(8), direction="new||old"),
    **{f"FrozenLake 4x4, horizon 20, {b}": partial(lambda b: horizon(lake(4), 20, b), b) for b in HORIZONS},
    **{f"FrozenLake 8x8, horizon 30, {b}": partial(lambda b: horizon(lake(8), 30, b), b) for b in HORIZONS},
    **{f"Taxi, horizon 20, {b}": partial(lambda b: horizon(toy("Taxi-v4"), 20, b), b) for b in HORIZONS},
    **{
        f"O-REPS, {n} pairs, {feedback}": partial(online, layers, feedback)
        for n, layers in LAYERS.items()
        for feedback in ("full", "bandit")
    },
    **{f"episodic, N = {n}": partial(episodes, n) for n in (50, 1_000, 100_000)},
    "contextual, N = 1000": partial(contexts, 1_000),
    "samples 2e4 x 50": partial(samples, 20_000, 50, 0.5),
    **{f"samples 1e5 x 100, epsilon {e}": partial(samples, 100_000, 100, e) for e in (0.5, 2.0)},
    **{f"step, P = {n}": partial(step, n) for n in (10, 100, 1_000)},
    "step, P = 100, damped": partial(step, 100, damping=0.1),
    **{f"step, P = {n}, one cost row": partial(step, n, 1) for n in (10, 100, 1_000)},
    "step, P = 100, three cost rows": partial(step, 100, 3),
    "GP fit, N = 2000": partial(process_fit, 2_000),
    "GP action, N = 2000": partial(process_action, 2_000),
    "TRPO update, 64 x 64, policy part": partial(network_step, 2_048, True),
    "TRPO update, 64 x 64, policy part, one policy": partial(network_step, 2_048, False),
    **{f"REPS, grid of {n**2:,}": partial(lambda n: reps(grid(n)), n) for n in (32, 100, 316)},
    **{f"REPS, corner of {n**2:,}": partial(lambda n: reps(grid(n, True)), n) for n in (32, 100, 316)},
    **{f"REPS, distant goal of {n**2:,}": partial(lambda n: reps(grid(n, goal=True), 0.3), n) for n in (32, 100, 316)},
    **{f"REPS, Garnet of {n:,}": partial(lambda n: reps(garnet(n)), n) for n in (1_024, 10_000, 99_856)},
    **{f"conditional, grid of {n**2:,}": partial(lambda n: conditional(grid(n)), n) for n in (32, 100, 316)},
    **{f"optimal policy, grid of {n**2:,}": partial(lambda n: grid(n).solve_optimal, n) for n in (32, 100, 316)},
}
"""Each case by name: what makes the work, its data included."""


def quality(value: Any) -> str:
    """Status of an answer that has one, and its gap in units of the objective: units of certificates have changed.

    Of an update, how much work its step and its line search took.
    """
    if hasattr(value, "trials"):
        return f"{value.solution.stats['products']} products, {value.trials} trials"
    found = getattr(value, "certificate", None)
    return "" if found is None else f"{value.status}, gap {abs(found.upper - found.lower):.0e}"


def serve() -> None:
    """Time the case named on each line of standard input; answer with least and median seconds and quality in JSON."""
    name, repeats = "", 1
    work: Case = dict
    for line in sys.stdin:
        try:
            if name != line.strip():
                name = line.strip()
                work = CASES[name]()
                work()
                repeats = 1 + int(WINDOW / max(_timed(work, 1)[0], 1e-7))
            told = _turn(work, repeats)
        except Exception as error:
            told = math.nan, math.nan, f"broke down: {error}"
        print(json.dumps(told), flush=True)


def _turn(work: Case, repeats: int) -> tuple[float, float, str]:
    """Least and median CPU seconds of the work in some windows, and the quality of its answer."""
    found = [_timed(work, repeats)]
    while repeats * sum(cpu for cpu, _ in found) < TURN:
        found.append(_timed(work, repeats))
    spent = [cpu for cpu, _ in found]
    return min(spent), float(np.median(spent)), quality(found[-1][1])


def _timed(work: Case, repeats: int) -> tuple[float, Any]:
    """CPU seconds of each of some repetitions, and what the last gave."""
    began = time.process_time()
    for _ in range(repeats):
        value = work()
    return (time.process_time() - began) / repeats, value


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve()
