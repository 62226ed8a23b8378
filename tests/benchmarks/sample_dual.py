"""Speed of the sample dual against SciPy's L-BFGS-B on the same dual, with the accuracy of both beside it.

    OMP_NUM_THREADS=1 python tests/benchmarks/sample_dual.py [--large] [--no-peer]

A Gram-equivalent counts Gram matrices (of some of the rows: that fraction) plus a twentieth for every pass. ``Grams'
time`` is the whole CPU time, set-up (checks, scaling, rank) and certificate included, in units of one measured Gram
matrix: of ours, blocked and symmetric, which is the hardest unit there is, and of the plain ``(X * w[:, None]).T @ X``.
Times are medians of three after a warm-up, ratios those of CPU times.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from reps_opt import EpisodicREPS, SampleREPS, solve
from reps_opt.rows import ArrayRows
from reps_opt.solvers import ScalarDual

SIZES = [(10_000, 50), (100_000, 100)]
LARGE = (200_000, 300)
RADII = [0.01, 0.5, 2.0, 4.0]


def gaussian(n, d, rng):
    """Correlated Gaussian differences, rewards that they explain in part."""
    psi = rng.normal(size=(n, d)) @ (np.eye(d) + rng.normal(size=(d, d)) / np.sqrt(d))
    return psi[:, 0] + np.sin(psi[:, 1]) + rng.normal(size=n), psi


def transitions(n, d, rng):
    """Random Fourier features along one trajectory of a stable four-dimensional linear system."""
    actions = rng.normal(size=(n, 4))
    states = np.zeros((n + 1, 4))
    for i in range(n):
        states[i + 1] = 0.9 * states[i] + 0.5 * actions[i]
    phi = np.sqrt(2) * np.cos(states @ (0.8 * rng.normal(size=(4, d))) + rng.uniform(0, 2 * np.pi, d))
    return -(states[:-1] ** 2).sum(axis=1) - 0.1 * (actions**2).sum(axis=1), phi[1:] - phi[:-1]


def lbfgs(rewards, psi, epsilon):
    """The dual in (log eta, theta) with scaled columns and rewards, from eta = 1 and theta = 0."""
    c = (rewards - rewards.max()) / np.ptp(rewards)
    rows = psi / np.sqrt(np.mean(psi**2, axis=0))
    passes = 0

    def tilt(z):
        nonlocal passes
        passes += 1
        eta = np.exp(z[0])
        scaled = (c + rows @ z[1:]) / eta
        w = np.exp(scaled - scaled.max())
        log_mean = scaled.max() + np.log(w.mean())
        w /= w.sum()
        return eta, w, log_mean, float(w @ scaled) - log_mean, w @ rows

    def value(z):
        eta, _, log_mean, kl, missed = tilt(z)
        return eta * (epsilon + log_mean), np.concatenate([[eta * (epsilon - kl)], missed])

    options = {"ftol": 0.0, "gtol": 1e-12, "maxcor": 30, "maxiter": 20_000, "maxfun": 20_000}
    result = minimize(value, np.zeros(psi.shape[1] + 1), jac=True, method="L-BFGS-B", options=options)
    _, _, _, kl, missed = tilt(result.x)
    return passes, abs(kl - epsilon), float(np.abs(missed).sum())


def timed(work):
    began, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - began, time.process_time() - cpu


def median(work, repeats=3):
    """The result, and medians of wall and CPU time after a warm-up."""
    work()
    results, walls, cpus = zip(*[timed(work) for _ in range(repeats)], strict=True)
    return results[-1], float(np.median(walls)), float(np.median(cpus))


def compare(make, n, d, radii, peer):
    rewards, psi = make(n, d, np.random.default_rng(0))
    w = np.full(n, 1 / n)
    gram, plain = median(lambda: ArrayRows(psi).gram(w))[2], median(lambda: (psi * w[:, None]).T @ psi)[2]
    for epsilon in radii:
        solution, wall, cpu = median(lambda epsilon=epsilon: solve(SampleREPS(rewards, psi, epsilon)))
        stats, check = solution.stats, solution.certificate
        off = abs(check.kl - epsilon)
        line = (
            f"{make.__name__:<12}{n:>7} x {d:<4}{epsilon:>6}  {solution.status!s:<10}{stats.get('passes', 0):>5} passes"
        )
        line += f"{stats.get('grams', 0):>7.2f} Grams{stats.get('gram_equivalents', 0):>7.2f} equiv{wall:>8.3f} s"
        line += f"{cpu:>8.3f} cpu{cpu / gram:>6.1f} Grams' time, {cpu / plain:.1f} plain   |KL-eps| {off:.0e}  flow {check.flow:.0e}"
        if peer:
            (passes, off, missed), _, other = timed(lambda epsilon=epsilon: lbfgs(rewards, psi, epsilon))
            line += f" | L-BFGS-B {passes} passes {other:.2f} cpu, ratio {other / cpu:.1f}, {off:.0e}, {missed:.0e}"
        print(line, flush=True)


def episodic(n, scale):
    """Microseconds of the dual alone and of a certified solve, and SciPy's bounded Brent on the unscaled dual."""
    returns = scale * np.random.default_rng(0).normal(size=n)
    problem = EpisodicREPS(returns, epsilon=0.5)
    program, solver = problem.normalised[0], ScalarDual()
    top = returns.max()

    def brent():
        dual = lambda eta: eta * 0.5 + top + eta * np.log(np.mean(np.exp((returns - top) / eta)))  # noqa: E731
        return minimize_scalar(dual, bounds=(1e-8, 1e8), method="bounded", options={"xatol": 1e-10}).x

    def microseconds(work, repeats=300):
        return 1e6 * median(work, repeats)[1]

    solution = solve(problem)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        other, error = microseconds(brent, 50), abs(brent() / solution.eta - 1)
    dual, whole = microseconds(lambda: solver.solve(program)), microseconds(lambda: solve(problem))
    off = abs(solution.kl - 0.5)
    print(
        f"N {n:>5} scale {scale:.0e}   dual {dual:5.0f} us   certified solve {whole:5.0f} us   |KL-eps| {off:.0e}",
        end="",
    )
    print(f"   | bounded Brent {other:6.0f} us, relative error of eta {error:.0e}")


def main(sizes, radii, peer=True, scales=()):
    for make in (gaussian, transitions):
        for n, d in sizes:
            compare(make, n, d, radii, peer)
    for n in (100, 1_000):
        for scale in scales:
            episodic(n, scale)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--large", action="store_true", help="also 200,000 x 300")
    parser.add_argument("--no-peer", action="store_true")
    chosen = parser.parse_args()
    main([*SIZES, *([LARGE] if chosen.large else [])], RADII, not chosen.no_peer, (1e-8, 1.0, 1e8))
