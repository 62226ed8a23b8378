"""The trust-region step against Cholesky alone, and the whitened cone against CVXPY's plain one.

Run it as ``python tests/benchmarks/steps.py``, with one BLAS thread (OMP_NUM_THREADS=1). Every row names what is timed,
its peer, wall and CPU time, the ratio of median CPU times, which a busy machine leaves alone, and the certified gap.

Shapes: P parameters; gradient (P,), metric F (P, P) the Fisher matrix of a linear-Gaussian policy's scores.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import cvxpy
import numpy as np
import scipy
import scipy.linalg

from reps_opt import TrustRegionStep, solve
from reps_opt.solvers import CvxpyPrimal, Quadratic

SIZES = (100, 1000)
EPSILON = 0.01
SAMPLES_A_PARAMETER = 4


class Timing(NamedTuple):
    """Median seconds, wall and CPU, and the last value returned."""

    wall: float
    cpu: float
    value: Any


def timed(call: Callable[[], Any], repeats: int) -> Timing:
    """Median over repeats, after one call to warm up."""
    value = call()
    wall, cpu = [], []
    for _ in range(repeats):
        began, spent = time.perf_counter(), time.process_time()
        value = call()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - spent)
    return Timing(float(np.median(wall)), float(np.median(cpu)), value)


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
    states = rng.standard_normal((batch, 17))
    policy = NeuralPolicy(max_iter=1, random_state=0).fit(states, rng.standard_normal((batch, 6)))
    data = SimpleNamespace(states=states, actions=policy.sample(states, rng), rewards=np.zeros(batch))
    advantages = rng.standard_normal(batch)
    update = TRPO(exact_fisher=True, damping=1e-2)
    timing = timed(lambda: update._step(policy, data, advantages), repeats)
    solution = timing.value.solution
    products = solution.stats["products"]
    g, s = solution.problem.gradient, solution.step
    ratio = g @ s / np.sqrt(2 * solution.predicted_kl)
    return [
        f"{g.size:5d}  {'TRPO update, 64x64, batch 2048':<32}{1e3 * timing.wall:10.3f}{1e3 * timing.cpu:10.3f}   "
        f"{products} products, {timing.value.trials} trials, g's/sqrt(s'Fs) {ratio:.4f}, "
        f"gap {solution.certificate.gap:.0e} (bounded)"
    ]


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
