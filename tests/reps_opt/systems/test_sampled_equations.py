"""Rows as an operator, and the systems of the sample dual solved by sampled preconditioners."""

from __future__ import annotations

import numpy as np
import pytest

from reps_opt import SampleREPS, solve
from reps_opt.constraints import Equal
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL
from reps_opt.program import Program
from reps_opt.rows import ArrayRows, spectrum
from reps_opt.solvers import Newton
from reps_opt.systems.choice import normal_equations
from reps_opt.systems.sampled import SampledEquations


def program_of(x, **more):
    n, d = x.shape
    return Program(
        x[:, 0], {"features": Equal(ArrayRows(x).T, np.zeros(d))}, Ball(KL(np.full(n, 1 / n)), radius=0.5), **more
    )


@pytest.mark.parametrize("n", [40, 20_000], ids=["all rows", "drawn rows"])
@pytest.mark.parametrize("ridge", [False, True])
def test_solves_the_weighted_covariance(n, ridge):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 5)) * [1, 10, 1, 0.1, 1] + 0.3
    w = rng.gamma(0.3, size=n)
    w /= w.sum()
    shift = np.full(5, 0.2) if ridge else None
    equations = normal_equations(program_of(x))
    assert isinstance(equations, SampledEquations)
    equations.update(w, np.ones(5, dtype=bool), shift)
    covariance = (x.T * w) @ x - np.outer(w @ x, w @ x) + (0.2 * np.eye(5) if ridge else 0)
    rhs = rng.normal(size=5)
    exact = np.linalg.solve(covariance, rhs)
    error = equations.solve(rhs, 1e-6) - exact
    assert error @ covariance @ error <= 1e-10 * (exact @ covariance @ exact)
    assert equations.stats["grams"] == pytest.approx(1.0 if n == 40 else 0.0, abs=0.2)


@pytest.mark.parametrize("products", [6, 7])
def test_all_rows_make_the_systems_after_one_that_took_more_products_than_a_gram_takes(products):
    rng = np.random.default_rng(0)
    n, d = 20_000, 40
    x, w, rhs = rng.normal(size=(n, d)), np.exp(3 * rng.normal(size=n)), rng.normal(size=d)
    w /= w.sum()
    equations = normal_equations(program_of(x))
    equations.update(w, np.ones(d, dtype=bool))
    for _ in range(products):
        equations.solve(rhs, 0.1)
    first = equations.stats
    assert first["linear_iterations"] == products
    equations.update(w, np.ones(d, dtype=bool))
    exact = np.linalg.solve((x.T * w) @ x - np.outer(w @ x, w @ x), rhs)
    assert equations.solve(rhs, 1e-8) == pytest.approx(exact, abs=1e-6 * np.abs(exact).max())
    direct = products > 6
    assert equations.exact == direct
    assert equations.stats["grams"] - first["grams"] == pytest.approx(1.0 if direct else 0.1, abs=0.02)
    assert (equations.stats["linear_iterations"] == products) == direct


def test_a_heavy_row_is_always_drawn():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50_000, 4))
    x[123] *= 1e3
    w = np.full(50_000, 1.0)
    w[7] = 5e4
    equations = normal_equations(program_of(x))
    equations.update(w / w.sum(), np.ones(4, dtype=bool))
    kept, _ = equations._draw(800)
    assert {7, 123} <= set(kept)
    assert 500 < kept.size < 1100


def test_rows_far_out_are_drawn_by_leverages_known_well_enough():
    """A few rows of heavy tails carry much of the curvature: those missed cost products, or even Gram matrices."""
    spent = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = rng.standard_t(2, size=(20_000, 40))
        rewards = rng.normal(size=20_000) + 0.3 * x @ rng.normal(size=40)
        spent.append(solve(SampleREPS(rewards, x, 1.5)).stats["gram_equivalents"])
    assert np.mean(spent) < 6.25  # 6.01, and 6.50 with four projections; what gathers the rows counts too


def test_grams_and_passes_are_counted():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5_000, 4))
    solution = solve(SampleREPS(x[:, 0] + rng.normal(size=5_000), x, 0.5))
    stats = solution.stats
    assert stats["gram_equivalents"] == pytest.approx(stats["grams"] + stats["passes"] / 20, abs=0.06)
    assert 0 < stats["gram_equivalents"] <= 5
    again = solve(solution.problem)
    assert again.stats["passes"] == stats["passes"]  # counted anew for every solve


def test_the_answer_does_not_depend_on_the_draw():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 6))
    problem = SampleREPS(x[:, 0] + rng.normal(size=20_000), x, 1.0)
    one, two = solve(problem), solve(problem, Newton(tolerance=1e-9))
    assert one.theta == pytest.approx(two.theta, abs=1e-7)
    assert (solve(problem).weights("sum") == one.weights("sum")).all()  # the draw is seeded: bit for bit the same


def test_rows_by_chunks():
    rng = np.random.default_rng(0)
    x, w, theta = rng.normal(size=(1_000, 7)), rng.uniform(size=1_000), rng.normal(size=7)
    rows = ArrayRows(x)
    assert len(rows.chunks(8 * 7 * 300)) == 4
    assert rows.gram(w) == pytest.approx((x.T * w) @ x)
    assert rows.spread(theta, w, 0.5) == pytest.approx((w * (x @ theta - 0.5)) @ x)
    rms, largest = rows.summary(w / w.sum())
    assert rms == pytest.approx(np.sqrt(w @ x**2 / w.sum()))
    assert largest == pytest.approx(np.abs(x).max(axis=0))
    singular, directions = spectrum(rows.triangle())
    assert singular == pytest.approx(np.linalg.svd(x)[1])
    assert np.linalg.norm(x @ directions, axis=0) == pytest.approx(singular)


def test_the_spectrum_of_few_rows_is_padded():
    singular, directions = spectrum(ArrayRows(np.ones((1, 3))).triangle())
    assert singular == pytest.approx([np.sqrt(3), 0, 0], abs=1e-12)
    assert directions.shape == (3, 3)


def test_a_ridge_needs_dense_rows():
    program = Program(np.ones(3), balls=Ball(KL(np.full(3, 1 / 3)), radius=0.5), ridge=np.zeros(0))
    with pytest.raises(ValueError, match="need dense rows"):
        Newton().solve(program)
