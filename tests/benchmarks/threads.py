"""What a user gets who sets no thread variable while another process computes, beside one thread.

Every case is timed in two processes of its own, one with ``OMP_NUM_THREADS=1`` and one without any such variable, in
turn and always beside a process that multiplies matrices.

PYTHONPATH=. python -m tests.benchmarks.threads
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

import envs
from reps_opt import MDP, REPS, SampleREPS, rollout, solve
from tests.benchmarks.comparison import Goal, Row, show, timed

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What tells numerical libraries how many threads to use."""

ROUNDS, REPEATS = 3, 1
LARGEST_RATIO = 1.2
BUSY = "import numpy as np\nA = np.ones((200, 200))\nwhile True: A @ A"

Case = Callable[[], Any]


def taxi() -> Case:
    """Exact REPS on Gymnasium's Taxi."""
    mdp = MDP.from_gymnasium("Taxi-v4", gamma=0.99)
    q = mdp.occupancy(mdp.uniform_policy())
    return lambda: solve(REPS(mdp, q, 0.5)).objective


def grid(side: int) -> Case:
    """Exact REPS on a slippery grid."""
    mdp = envs.gridworld((side, side), slip=0.2, gamma=0.95)
    rewards = np.random.default_rng(0).uniform(size=(mdp.n_states, 1)).repeat(4, axis=1)
    mdp = MDP(mdp.transitions, rewards, 0.95)
    q = mdp.occupancy(mdp.uniform_policy())
    return lambda: solve(REPS(mdp, q, 0.5)).objective


def optimal(side: int) -> Case:
    """The optimal policy of a random graph."""
    mdp = envs.garnet(side * side, 4, 5, seed=0, gamma=0.95)
    return lambda: mdp.solve_optimal().gain.sum()


def samples(n: int) -> Case:
    """The sample dual with a hundred features."""
    rng = np.random.default_rng(0)
    r, X = rng.normal(size=n), rng.normal(size=(n, 100))
    return lambda: solve(SampleREPS(r, X, epsilon=0.5)).objective


def process(n: int) -> Case:
    """The fit of a Gaussian process to weighted samples in four dimensions."""
    from policies import GaussianProcessPolicy

    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4))
    y, w = np.sin(X).sum(axis=1) + 0.1 * rng.normal(size=n), rng.exponential(size=n)
    return lambda: GaussianProcessPolicy(random_state=0).fit(X, y, w).predict(X[:5]).sum()


def network(n: int) -> Case:
    """The fit of a network to samples in eight dimensions."""
    from policies import NeuralPolicy

    X = np.random.default_rng(0).normal(size=(n, 8))
    return lambda: NeuralPolicy(max_iter=30, random_state=0).fit(X, np.sin(X).sum(axis=1)).predict(X[:5]).sum()


def trusted(n_steps: int) -> Case:
    """One TRPO update of two networks of 64 x 64, policy and value fit, on a batch of noise."""
    from policies import NeuralPolicy
    from reps_opt import TRPO

    rng = np.random.default_rng(0)
    policy = NeuralPolicy(max_iter=5, random_state=0).fit(rng.normal(size=(100, 8)), rng.normal(size=(100, 2)))
    batch = rollout(Noise(), policy, n_steps=n_steps, seed=0)
    return lambda: TRPO()(policy, batch).policy.params.sum()


class Noise(gymnasium.Env):
    """Observations and rewards of noise: what the update is of costs nothing to collect."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (8,))
    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.normal(size=8), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.np_random.normal(size=8), float(self.np_random.normal()), False, self.steps == 100, {}


def rolled_out(n_steps: int) -> Case:
    """Roll-outs of a Gaussian process's controller on two workers."""
    from policies import GaussianProcessPolicy

    rng = np.random.default_rng(0)
    policy = GaussianProcessPolicy(random_state=0).fit(rng.normal(size=(300, 3)), rng.normal(size=300))
    return lambda: rollout("Pendulum-v1", policy, n_steps=n_steps, seed=0, n_jobs=2).rewards.sum()


CASES: dict[str, tuple[Callable[..., Case], tuple[int, ...], tuple[int, ...]]] = {
    "exact REPS, Taxi": (taxi, (), ()),
    "exact REPS, grid 1e4": (grid, (100,), (10,)),
    "exact REPS, grid 1e5": (grid, (316,), (12,)),
    "optimal policy, Garnet 1e5": (optimal, (316,), (20,)),
    "sample dual, 1e5 x 100": (samples, (100_000,), (2_000,)),
    "GP fit, N = 1000": (process, (1_000,), (60,)),
    "network fit, N = 4000": (network, (4_000,), (200,)),
    "TRPO update, 64 x 64, 2048 steps": (trusted, (2_048,), (200,)),
    "roll-outs of a GP, two workers": (rolled_out, (8_000,), (400,)),
}
"""Each case with its arguments, and those of a quick run."""


@contextmanager
def _busy() -> Iterator[None]:
    """A block beside which another process computes on one thread."""
    other = subprocess.Popen([sys.executable, "-c", BUSY], env=_environment(1))
    try:
        yield
    finally:
        other.kill()
        other.wait()


def _environment(threads: int | None) -> dict[str, str]:
    clean = {name: text for name, text in os.environ.items() if name not in VARIABLES}
    return clean if threads is None else clean | dict.fromkeys(VARIABLES, str(threads))


def _measured(name: str, quick: bool, threads: int | None) -> tuple[float, float, float]:
    """Wall and CPU seconds of a case, its workers' CPU left out, and its answer, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.threads", "--case", name, *(["--quick"] if quick else [])]
    told = subprocess.run(command, env=_environment(threads), check=True, capture_output=True, text=True)
    wall, cpu, answer = json.loads(told.stdout.splitlines()[-1])
    return wall, cpu, answer


def rows(quick: bool = False, names: Sequence[str] = tuple(CASES)) -> Iterator[Row]:
    """A row a case; the accuracy is that both answers are the same, bit for bit."""
    for name in names:
        with _busy():
            found = [[_measured(name, quick, n) for n in (None, 1)] for _ in range(1 if quick else ROUNDS)]
        wall, cpu = np.median(np.array(found)[..., 0], axis=0), np.median(np.array(found)[..., 1], axis=0)
        answers = {answer for both in found for _, _, answer in both}
        ratios = Goal("wall", wall[0] / wall[1], LARGEST_RATIO), Goal("CPU", cpu[0] / cpu[1], LARGEST_RATIO)
        same = "the same bit for bit" if len(answers) == 1 else "not the same"
        yield Row(
            "default threads, another process busy",
            name,
            1,
            float(wall[0]),
            same,
            len(answers) == 1,
            "one thread, wall time",
            float(wall[1]),
            same,
            () if quick else ratios,
        )


def _one(name: str, quick: bool) -> None:
    make, full, small = CASES[name]
    cost = timed(make(*(small if quick else full)), 1 if quick else REPEATS, warm=True)
    print(json.dumps([cost.wall, cost.cpu, float(cost.value)]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), help="time one case in this process, and print it as JSON")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), help="the cases to compare")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    arguments = parser.parse_args()
    if arguments.case:
        _one(arguments.case, arguments.quick)
    else:
        show(rows(arguments.quick, arguments.only))
