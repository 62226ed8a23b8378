"""Answers with more digits than floats: problems near gamma = 1 against rational numbers and independent bounds."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from reps_opt import MDP, REPS, ConditionalREPS, LinearProgram, Program, solve
from reps_opt.certify import bound_with_digits
from reps_opt.constraints import AtMost
from reps_opt.decimals import many_digits, numbers
from reps_opt.decimals import solve as solve_system
from reps_opt.solvers.answer import Answer
from reps_opt.solvers.decimal_newton import DecimalNewton
from reps_opt.validation import UnsuitableError
from tests.hard.recipes import Recipe
from tests.hard.verdicts import judge
from tests.reps_opt import rational

NEARLY_ONE = 1 - 1e-12

LOST = {
    "two classes": Recipe("reps", 424, 4, 4, "multichain", "one goal", "tiny states", 0.227, NEARLY_ONE, 1e-9, 1e6),
    "a penalty and couplings of 1e-12": Recipe(
        "temperature", 3, 3, 3, "nearly decomposable", "penalty", "zeros", 0.319, NEARLY_ONE, 1e3
    ),
    "a prize, slowly": Recipe("temperature", 293, 7, 4, "slow", "jackpot", "counts", 1.78, NEARLY_ONE, 1.0, 1.0),
    "one policy": Recipe("conditional", 2, 4, 2, "absorbing", "one goal", "uniform", 0.0, NEARLY_ONE, 1e-9, 1e6),
    "a binding conditional ball": Recipe(
        "conditional", 4646, 2, 4, "periodic", "penalty", "zeros", 0.706, NEARLY_ONE, 1e-3, 1e6
    ),
    "no ball": Recipe("linear", 7, 7, 4, "slow", "jackpot", "counts", 1.78, NEARLY_ONE, 1.0, 1.0),
    "reverse KL": Recipe(
        "f-divergence",
        1048576,
        5,
        2,
        "nearly decomposable",
        "ties",
        "uniform",
        0.0012,
        NEARLY_ONE,
        1e-9,
        0.0,
        "reverse_kl",
    ),
    "chi-square": Recipe(
        "f-divergence", 252, 4, 2, "nearly decomposable", "normal", "deterministic", 0.00375, 1.0, 1e3, 1.0, "chi2"
    ),
    "powers near a pole": Recipe(
        "f-divergence", 42258, 2, 4, "periodic", "one goal", "graded", 0.0228, 1 - 1e-8, 1e9, 0.0, "alpha -3"
    ),
    "never": Recipe(
        "budgets",
        44829179,
        7,
        2,
        "deterministic",
        "penalty",
        "deterministic",
        0.0126,
        NEARLY_ONE,
        1.0,
        0.0,
        "ball never",
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("recipe", LOST.values(), ids=LOST)
def test_what_floats_lose_is_certified_with_more_digits(recipe: Recipe) -> None:
    verdict = judge(recipe, solve(recipe.build()))
    assert verdict.kind == "certified", verdict


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_jackpot_of_contexts_takes_a_long_search() -> None:
    recipe = Recipe(
        "episodic", 7959530, 134, 1, "indicators", "jackpot", "graded", 26.371375244370338, 0.9, 1e9, 1.0, "contexts"
    )
    verdict = judge(recipe, solve(recipe.build()))
    assert verdict.kind == "certified", verdict


def test_a_linear_program_of_two_classes_is_right_to_all_digits() -> None:
    """Values of 1e12 in two classes that never meet, against every deterministic policy in rational numbers."""
    recipe = Recipe("linear", 424, 4, 4, "multichain", "one goal", "tiny states", 0.2, NEARLY_ONE, 1e-9, 1e6)
    problem = recipe.build()
    solution = solve(problem)
    best = rational.optimum(problem.mdp)
    weight = [Fraction(m) for m in problem.mdp.mu0.tolist()]
    exact = (1 - Fraction(NEARLY_ONE)) * sum(m * v for m, v in zip(weight, best, strict=True)) / sum(weight)
    assert solution.status == "certified"
    assert abs(solution.objective - float(exact)) <= 1e-6 * 1e-9
    assert solution.stats["route"] == "DecimalNewton"


def small(**changes: object) -> REPS:
    rng = np.random.default_rng(3)
    P, r = rng.dirichlet(np.ones(3), (3, 2)), rng.normal(size=(3, 2))
    mdp = MDP(P, r, 0.9)
    return REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.1).replace(**changes)


@pytest.mark.parametrize(
    "problem",
    [
        small(),
        small(epsilon=None, temperature=0.3),
        small(divergence="chi2"),
        small(divergence="reverse_kl"),
        small(divergence=("alpha", -1.0)),
        small(epsilon=1e3),
        small(epsilon=math.inf),
        ConditionalREPS(small().mdp, small().mdp.uniform_policy(), 0.1),
        ConditionalREPS(MDP(small().mdp.transitions, small().mdp.rewards, 1.0), small().mdp.uniform_policy(), 0.1),
        LinearProgram(small().mdp),
        LinearProgram(small().mdp, [small().mdp.rewards], [0.2]),
        small(costs=np.array([[[0, 1.0], [0, 1], [0, 1]]]), budgets=np.array([0.4])),
    ],
    ids=lambda problem: f"{type(problem).__name__}-{getattr(problem, 'divergence', '')}-{problem.epsilon}",
)
def test_it_finds_what_the_default_route_finds(problem: REPS) -> None:
    found, usual = solve(problem, DecimalNewton()), solve(problem)
    assert found.status == usual.status == "certified"
    assert abs(found.objective - usual.objective) < 1e-9
    assert abs(found.eta - usual.eta) < 1e-6 * max(1.0, usual.eta)
    assert found.certificate.gap < 1e-12


def test_a_bound_with_digits_is_a_bound_at_any_multipliers() -> None:
    problem, rng = small(), np.random.default_rng(0)
    program, best = problem.program, solve(problem).objective
    for _ in range(20):
        eta, v = Decimal(float(rng.exponential())), rng.normal(size=program.rhs.size)
        with many_digits():
            answer = Answer(float(eta), v, None, digits=(eta, np.append(numbers(v), Decimal(float(rng.normal())))))
        bound = bound_with_digits(program, answer)
        assert bound >= best
        assert bound >= program.bound(float(eta), v) - 1e-12  # which takes the best multiplier of the mass


def test_no_bound_comes_from_a_price_of_the_wrong_sign() -> None:
    program = small().program
    rows = {**program.rows, "cost": AtMost(np.ones((1, program.n)), np.array([2.0]))}
    program = replace(program, rows=rows)
    with many_digits():
        digits = (Decimal(1), np.append(numbers(np.append(np.zeros(3), -1.0)), Decimal(0)))
    assert bound_with_digits(program, Answer(1.0, np.zeros(4), None, digits=digits)) == math.inf


def test_programs_of_another_kind_are_refused() -> None:
    with pytest.raises(UnsuitableError, match="one simplex"):
        DecimalNewton().solve(Program(np.zeros(2), domain=None, balls=small(entropy=0.5).program.balls))


def test_rows_that_follow_from_others_get_no_multiplier() -> None:
    A = np.array([[2.0, 1, 3], [1, 2, 3], [3, 3, 6]])  # the third is the sum of the first two, so is the column
    with many_digits():
        found = solve_system(numbers(A), numbers([1.0, 1.0, 2.0]))
        again = solve_system(numbers(A[:2, :2]), numbers([1.0, 0.0]), definite=False)
        turned = solve_system(numbers([[0.0, 2.0], [1.0, 1.0]]), numbers([1.0, 3.0]), definite=False)
    assert np.abs(A @ found.astype(float) - [1, 1, 2]).max() < 1e-15
    assert (found.astype(float) == 0).any()
    assert np.abs(again.astype(float) - [2 / 3, -1 / 3]).max() < 1e-15
    np.testing.assert_array_equal(turned.astype(float), [2.5, 0.5])  # where no pivot stands on the diagonal
