"""Speed of the sample dual against SciPy's L-BFGS-B on the same dual, and of episodic duals against public codes.

    OMP_NUM_THREADS=1 python tests/benchmarks/sample_dual.py [--large] [--no-peer]

A Gram-equivalent counts Gram matrices (of some of the rows: that fraction) plus a twentieth for every pass. ``Grams'
time`` is the whole CPU time, set-up (checks, scaling, rank) and certificate included, in units of one measured Gram
matrix: our own, blocked and symmetric, which is the hardest unit there is, and the plain ``(X * w[:, None]).T @ X``.
Ratios are of CPU times.
"""

from __future__ import annotations

import argparse
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from reps_opt import EpisodicREPS, SampleREPS, solve
from reps_opt.rows import ArrayRows
from reps_opt.solvers import EtaSearch
from tests.benchmarks.comparison import Goal, Row, installed, missing, seconds, show, timed

SIZES = [(10_000, 50), (100_000, 100)]
LARGE = (200_000, 300)
QUICK_SIZES = [(500, 5), (2_000, 10)]
RADII = [0.01, 0.5, 2.0, 4.0]
RADIUS, SCALES = 0.5, (1e-8, 1.0, 1e8)  # of episodic duals

GRAMS = {0.01: 5.0, 0.5: 5.0, 2.0: 15.0, 4.0: 40.0}
"""Gram-equivalents in all that a radius may take."""

PASSES = {0.5: 10.0, 4.0: 25.0}
"""Passes over 100 features."""

KL_OFF, FLOW, MICROSECONDS = 1e-10, 1e-10, 150.0


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


def compare(
    make: Callable[..., Any], n: int, d: int, radii: Sequence[float], peer: bool = True, goals: bool = True
) -> Iterator[Row]:
    """A row a radius: cost in seconds, in Gram-equivalents and in the time of one Gram, beside L-BFGS-B's."""
    rewards, psi = make(n, d, np.random.default_rng(0))
    w = np.full(n, 1 / n)
    gram, plain = timed(lambda: ArrayRows(psi).gram(w), 3, True).cpu, timed(lambda: (psi * w[:, None]).T @ psi, 3).cpu
    for epsilon in radii:
        ours = timed(lambda epsilon=epsilon: solve(SampleREPS(rewards, psi, epsilon)), 3, True)
        stats, check = ours.value.stats, ours.value.certificate
        off, spent = abs(check.kl - epsilon), stats.get("gram_equivalents", math.nan)
        parts = f"{stats.get('passes', 0)} passes, {stats.get('grams', 0):.2g} Grams"
        parts += f"; {ours.cpu / gram:.1f} Grams' time ({ours.cpu / plain:.1f} plain ones')"
        wanted = (Goal("Gram-equivalents", spent, GRAMS[epsilon]),) if epsilon in GRAMS else ()
        if d == 100 and epsilon in PASSES:
            wanted += (Goal("passes", stats["passes"], PASSES[epsilon]),)
        row = Row(
            f"sample dual, {make.__name__}, epsilon {epsilon:g}",
            f"{n:,} x {d}",
            n * d,
            ours.cpu,
            f"KL off {off:.0e}, flow {check.flow:.0e}; {parts}",
            off <= KL_OFF and check.flow <= FLOW and ours.value.status == "certified",
            goals=wanted if goals else (),
        )
        if peer:
            theirs = timed(lambda epsilon=epsilon: lbfgs(rewards, psi, epsilon))
            passes, other_off, missed = theirs.value
            quality = f"KL off {other_off:.0e}, flow {missed:.0e}; {passes} passes"
            row = replace(row, peer="SciPy, L-BFGS-B", peer_cost=theirs.cpu, peer_accuracy=quality)
        yield row


def brent(returns: np.ndarray) -> float:
    """eta by SciPy's bounded Brent on the unscaled dual, as episodic REPS is often written."""
    top = returns.max()
    dual = lambda eta: eta * RADIUS + top + eta * np.log(np.mean(np.exp((returns - top) / eta)))  # noqa: E731
    return float(minimize_scalar(dual, bounds=(1e-8, 1e8), method="bounded", options={"xatol": 1e-10}).x)


def mushroom_rl(returns: np.ndarray) -> float:
    """eta by MushroomRL's episodic REPS, its update without the fit that follows."""
    from mushroom_rl.algorithms.policy_search import REPS

    found = minimize(
        REPS._dual_function,
        np.ones(1),
        jac=REPS._dual_function_diff,
        bounds=((np.finfo(np.float32).eps, np.inf),),
        args=(RADIUS, returns, None),
    )
    return float(found.x[0])


def episodic(n: int, scale: float, repeats: int = 300, goals: bool = True) -> Iterator[Row]:
    """A row a peer: a certified solve of one episodic dual, the median of many, and the relative error of eta."""
    returns = scale * np.random.default_rng(0).normal(size=n)
    problem = EpisodicREPS(returns, epsilon=RADIUS)
    program, solver = problem.normalised[0], EtaSearch()
    ours = timed(lambda: solve(problem), repeats, warm=True)
    posed = timed(lambda: solve(EpisodicREPS(returns, epsilon=RADIUS)), repeats)
    dual = timed(lambda: solver.solve(program), repeats)
    off, eta = abs(ours.value.kl - RADIUS), ours.value.eta
    row = Row(
        f"episodic dual, N = {n:,}",
        f"returns of scale {scale:.0e}",
        n,
        ours.cpu,
        f"KL off {off:.0e}, certified; the dual alone {seconds(dual.cpu)}, posed too {seconds(posed.cpu)}",
        off <= KL_OFF and ours.value.status == "certified",
        goals=(Goal("us", 1e6 * ours.wall, MICROSECONDS),) if goals else (),
    )
    yield row if installed("mushroom_rl") else replace(row, note=missing("MushroomRL"))
    peers = {"SciPy, bounded Brent": brent, **({"MushroomRL": mushroom_rl} if installed("mushroom_rl") else {})}
    for name, find in peers.items():
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            theirs = timed(lambda find=find: find(returns), max(1, repeats // 6), warm=True)
        error = f"eta off by {abs(theirs.value / eta - 1):.0e}"
        yield replace(row, peer=name, peer_cost=theirs.cpu, peer_accuracy=error, goals=())


def rows(quick: bool = False, largest_beside: int = 10**9) -> Iterator[Row]:
    """All cases of the sampled dual in memory; ``largest_beside`` is the largest feature matrix given to L-BFGS-B."""
    for make in (gaussian, transitions):
        for n, d in QUICK_SIZES if quick else [*SIZES, LARGE]:
            yield from compare(make, n, d, [0.5] if quick else RADII, n * d <= largest_beside, not quick)
    for n in (100,) if quick else (100, 1_000):
        for scale in SCALES:
            yield from episodic(n, scale, 6 if quick else 300, goals=not quick)


def main(
    sizes: Sequence[tuple[int, int]], radii: Sequence[float], peer: bool = True, scales: Sequence[float] = ()
) -> list[Row]:
    """Print the rows of some sizes, radii and scales."""
    dual = (row for make in (gaussian, transitions) for n, d in sizes for row in compare(make, n, d, radii, peer))
    return show(itertools.chain(dual, (row for n in (100, 1_000) for scale in scales for row in episodic(n, scale))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--large", action="store_true", help="also 200,000 x 300")
    parser.add_argument("--no-peer", action="store_true")
    chosen = parser.parse_args()
    main([*SIZES, *([LARGE] if chosen.large else [])], RADII, not chosen.no_peer, SCALES)
