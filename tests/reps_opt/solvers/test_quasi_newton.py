"""The dual of many samples by way of a few: the same answer as Newton's, for fewer passes, and never a wrong one."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from reps_opt import SampleREPS, Status, solve
from reps_opt.solvers import Newton, QuasiNewton, quasi_newton
from reps_opt.solvers.quasi_newton import rows_to_start
from tests.benchmarks.sample_dual import transitions

NEWTON = Newton(tolerance=5e-11, slack_suspected=1e-2)


def draw(n, d, seed=0):
    rng = np.random.default_rng(seed)
    psi = rng.normal(size=(n, d)) @ (np.eye(d) + rng.normal(size=(d, d)) / np.sqrt(d))
    return psi[:, 0] + np.sin(psi[:, -1]) + rng.normal(size=n), psi


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 1.5, 4.0])
def test_the_default_for_many_rows_takes_fewer_passes_to_the_same_answer(epsilon):
    r, psi = draw(30_000, 20)
    kept = psi.copy()
    ours, newton = solve(SampleREPS(r, psi, epsilon)), solve(SampleREPS(r, psi, epsilon), NEWTON)
    assert (ours.stats["route"], ours.status) == ("QuasiNewton", Status.CERTIFIED)
    assert abs(ours.kl - epsilon) <= 1e-10
    assert ours.certificate.flow <= 1e-10
    assert ours.objective == pytest.approx(newton.objective, abs=1e-11 * np.ptp(r))
    assert ours.theta == pytest.approx(newton.theta, abs=1e-7)
    assert ours.stats["passes"] < newton.stats["passes"]
    assert ours.stats["gram_equivalents"] < 5
    assert (psi == kept).all()


def test_rows_that_few_hold_no_place_for_are_found_and_their_hessian_is_taken_anew(monkeypatch):
    """A dozen rows of weight 1e-6 match along a trajectory what no others do: drawn by weight, most are left out."""
    r, psi = transitions(10_000, 50, np.random.default_rng(0))
    problem = SampleREPS(r, psi, 4.0)
    ours, newton = solve(problem), solve(problem, NEWTON)
    assert (ours.stats["route"], ours.status) == ("QuasiNewton", Status.CERTIFIED)
    assert ours.objective == pytest.approx(newton.objective, abs=1e-11 * np.ptp(r))
    assert ours.weights("sum") == pytest.approx(newton.weights("sum"), abs=1e-9)
    assert ours.stats["iterations"] <= 7
    assert 3 * ours.stats["passes"] < newton.stats["passes"]
    monkeypatch.setattr(quasi_newton, "HALVING_PATIENCE", 1)  # one draw does not find them
    assert solve(problem).objective == pytest.approx(newton.objective, abs=1e-11 * np.ptp(r))


def test_the_hessian_of_all_rows_near_the_solution_saves_passes(monkeypatch):
    r, psi = draw(60_000, 40)
    ours = solve(SampleREPS(r, psi, 0.5))
    monkeypatch.setattr(quasi_newton, "REFRESHED", 0.0)
    without = solve(SampleREPS(r, psi, 0.5))
    assert ours.stats["passes"] <= 13 < without.stats["passes"]
    assert ours.objective == pytest.approx(without.objective, abs=1e-11 * np.ptp(r))


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_many_rows_with_rewards_of_any_scale(scale):
    r, psi = draw(30_000, 20)
    one, other = solve(SampleREPS(r, psi)), solve(SampleREPS(scale * r, psi))
    assert (other.stats["route"], other.status) == ("QuasiNewton", Status.CERTIFIED)
    assert other.eta == pytest.approx(scale * one.eta, rel=1e-9)
    assert other.theta == pytest.approx(scale * one.theta, rel=1e-7, abs=scale * 1e-9)


def test_many_rows_with_shifted_rewards_scaled_and_dependent_columns():
    r, psi = draw(30_000, 20)
    one = solve(SampleREPS(r, psi))
    columns = 10.0 ** np.random.default_rng(1).uniform(-3, 3, 20)
    cases = {
        "shifted": SampleREPS(r + 1e6, psi),
        "scaled": SampleREPS(r, psi * columns),
        "dependent": SampleREPS(r, np.column_stack([psi, psi[:, 0] - psi[:, 1], np.zeros(r.size)])),
    }
    for name, problem in cases.items():
        other = solve(problem)
        assert other.status == Status.CERTIFIED, name
        assert other.eta == pytest.approx(one.eta, rel=1e-7), name
        assert other.weights("sum") == pytest.approx(one.weights("sum"), abs=1e-10), name
    assert solve(cases["dependent"]).rank == 20
    off = solve(SampleREPS(r, psi + 0.5, 0.05))
    assert (off.status, off.epsilon_min > 0.05) == (Status.INFEASIBLE, True)


def hard(kind, rng, n, d):
    """Data of which a few rows say little."""
    psi = rng.normal(size=(n, d))
    r, base = psi[:, 0] + rng.normal(size=n), None
    if kind == "heavy-tailed features":
        psi = rng.standard_t(2, size=(n, d))
    elif kind == "uneven base":
        base = np.exp(2.5 * rng.normal(size=n))
    elif kind == "heavy-tailed rewards":
        r = rng.standard_cauchy(size=n)
    elif kind == "rare features":
        psi = (rng.random((n, d)) < 0.03) - 0.03
    elif kind == "off centre":
        psi = psi + 0.15
    elif kind == "three good samples":
        r = (np.arange(n) < 3) * 1.0
    return r, psi, base


KINDS = ["heavy-tailed features", "uneven base", "heavy-tailed rewards", "rare features", "off centre"]


@pytest.mark.parametrize("kind", [*KINDS, "three good samples"])
def test_what_a_few_rows_do_not_show_is_found_all_the_same(kind, monkeypatch):
    monkeypatch.setattr(quasi_newton, "FEWEST_VALUES", 0)
    monkeypatch.setattr(quasi_newton, "LARGEST_FEW_ROWS_SHARE", 1.0)
    started = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(400, 2000)), int(rng.integers(1, 6))
        r, psi, base = hard(kind, rng, n, d)
        epsilon = float(np.exp(rng.uniform(np.log(0.02), np.log(3.0))))
        started += rows_to_start(n, d, epsilon) is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an effective sample size below two
            ours = solve(SampleREPS(r, psi, epsilon, base), QuasiNewton())
            newton = solve(SampleREPS(r, psi, epsilon, base), NEWTON)
        assert ours.status == newton.status
        if ours.status == Status.CERTIFIED:
            assert ours.objective == pytest.approx(newton.objective, abs=1e-9 * np.ptp(r))
    assert started >= 4


def test_a_search_that_stalls_hands_over(monkeypatch):
    monkeypatch.setattr(quasi_newton, "FEWEST_VALUES", 0)
    r, psi = draw(3000, 4)
    solution = solve(SampleREPS(r, psi, 0.5), QuasiNewton(max_iterations=2))
    assert solution.status == Status.CERTIFIED
    assert abs(solution.kl - 0.5) <= 1e-10


def test_small_problems_ridges_and_penalties_go_to_newton():
    assert rows_to_start(10_000, 10, 0.5) is None
    assert rows_to_start(100_000, 100, 0.5) == 10_000
    assert rows_to_start(10_000, 50, 0.8) == 1_113  # e^.8 samples for one effective one
    assert rows_to_start(10_000, 50, 4.0) == 1_360  # they start with a smaller ball
    assert rows_to_start(100_000, 100, 4.0) == 10_000
    assert rows_to_start(100_000, 100, 0.006) == 25_000
    assert rows_to_start(100_000, 100, 0.004) is None  # more rows than are worth it
    assert rows_to_start(100_000, 100, 0.01) == 15_000  # fewer rows would hardly match their features in the ball
    assert rows_to_start(100_000, 100, 0.001) is None  # a few rows would be infeasible
    assert rows_to_start(100_000, 100, None) is None
    r, psi = draw(30_000, 20)
    assert solve(SampleREPS(r, psi, 0.5, ridge=0.1)).stats["route"] == "Newton"
    assert solve(SampleREPS(r, psi, temperature=1.0)).stats["route"] == "Newton"
    assert solve(SampleREPS(r, psi, 0.5, ridge=0.1), QuasiNewton()).status == Status.CERTIFIED
    with pytest.raises(ValueError, match="tolerance"):
        QuasiNewton(tolerance=0.0)
