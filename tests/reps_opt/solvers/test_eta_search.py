"""The one-dimensional dual: any scale, any radius, at any distance from the slack ball."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.optimize import brentq

from reps_opt import EpisodicREPS, SampleREPS, Status, solve
from reps_opt.solvers import EtaSearch


def eta_by_bisection(r, epsilon):
    """Root of KL(eta) = epsilon, in extended precision."""
    r = (r - r.max()).astype(np.longdouble)

    def excess(log_eta):
        scaled = r / np.exp(np.longdouble(log_eta))
        w = np.exp(scaled)
        w /= w.sum()
        return float(w @ scaled - np.log(np.mean(np.exp(scaled))) - epsilon)

    unit = np.log(float(np.ptp(r)))
    return float(np.exp(brentq(excess, unit - 12, unit + 12, xtol=1e-14, rtol=1e-14)))


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1.0, 1e4, 1e8])
@pytest.mark.parametrize("epsilon", [1e-4, 0.01, 0.5, 2.0, 4.0])
def test_eta_at_any_scale(scale, epsilon):
    r = scale * np.random.default_rng(0).normal(size=1_000)
    solution = solve(EpisodicREPS(r, epsilon=epsilon))
    assert solution.status == Status.CERTIFIED
    assert abs(solution.kl - epsilon) <= 1e-12
    assert solution.eta == pytest.approx(eta_by_bisection(r, epsilon), rel=1e-7)


@pytest.mark.parametrize("shift", [-1e6, 1e6])
def test_a_shift_changes_nothing(shift):
    r = np.random.default_rng(0).normal(size=100)
    assert solve(EpisodicREPS(r + shift)).eta == pytest.approx(solve(EpisodicREPS(r)).eta, rel=1e-8)


@pytest.mark.parametrize("seed", range(30))
def test_hard_returns_are_certified(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 300))
    kinds = [rng.normal(size=n), rng.standard_cauchy(n) ** 3, np.round(rng.normal(size=n)), -np.exp(20 * rng.random(n))]
    r = kinds[seed % 4]
    for epsilon in (1e-6, 0.3, 0.9 * np.log(n), np.log(n) - 1e-9, np.log(n)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an effective sample size below two
            solution = solve(EpisodicREPS(r, epsilon=epsilon))
        assert solution.status == Status.CERTIFIED, (epsilon, solution)


def test_few_evaluations():
    problem = EpisodicREPS(np.random.default_rng(0).normal(size=1_000), epsilon=0.5)
    assert solve(problem).stats["iterations"] <= 6


def test_takes_programs_without_rows_only():
    problem = SampleREPS([1.0, 2.0, 3.0], [[1.0], [-1.0], [0.5]], 0.1)
    with pytest.raises(ValueError, match="EtaSearch takes a KL ball without rows"):
        EtaSearch().solve(problem.normalised[0])
