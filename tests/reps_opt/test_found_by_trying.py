"""Inputs that once broke the library, found by ``python -m tests.hard_inputs``, kept."""

from __future__ import annotations

from math import inf

import pytest

from reps_opt import solve
from tests.hard.recipes import Recipe
from tests.hard.verdicts import judge

FIXED = {
    "one sample and a ridge": Recipe("samples", 3, 1, 3, "heavy", "one goal", "random", 0.2, option="ridge"),
    "no radius and a ridge": Recipe("samples", 305, 247, 4, "duplicated", "potential", "random", 0.0, option="ridge"),
    "no ball but a ridge": Recipe("samples", 161, 161, 4, "duplicated", "normal", "random", 1e3, option="ridge"),
    "all base weight on one sample": Recipe("samples", 29939, 17, 5, "constant", "ties", "graded", 1e3),
    "contexts of one sample": Recipe("episodic", 295, 123, 5, "duplicated", "ties", "graded", 1e3, option="contexts"),
    "actions taken once in 1e120": Recipe("reps", 52837, 7, 2, "slow", "normal", "tiny states", 1.0, 0.5, 1e3, 1e6),
    "the same, conditionally": Recipe("conditional", 37673765, 2, 2, "slow", "one goal", "graded", 1.0, 0.9, 1e3, 1.0),
    "the same in one step": Recipe(
        "horizon", 12441, 5, 4, "multichain", "one goal", "tiny states", 0.0318, 1.0, 1e-3, option="shared 1"
    ),
    "a best policy lost in rounding": Recipe(
        "horizon", 3, 4, 3, "nearly decomposable", "jackpot", "tiny states", inf, 0.99, 1e9, 1.0, "per_step 4"
    ),
    "a prize of 1e10 beside values of 1e22": Recipe(
        "linear", 2, 4, 4, "deterministic", "jackpot", "zeros", 0.0, 1 - 1e-12, 1.0, 1e6
    ),
    "a prize of 1e10 and a ball a step": Recipe(
        "horizon", 348445, 2, 2, "sparse", "jackpot", "uniform", 0.0002268022565288768, 0.99, 1e3, 1.0, "per_step 2"
    ),
    "values of 1e12 in a ball that binds": Recipe(
        "reps", 41477370, 5, 4, "absorbing", "normal", "graded", 1.000691014168259, 1 - 1e-12, 1e-9, 1.0
    ),
}


@pytest.mark.filterwarnings("ignore:the effective sample size")
@pytest.mark.parametrize("name", FIXED)
def test_is_certified_and_right(name):
    solution = solve(FIXED[name].build())
    assert judge(FIXED[name], solution).kind == "certified", solution


@pytest.mark.parametrize("seed", [4, 1529])
def test_base_weight_on_one_sample_that_nothing_matches_is_infeasible(seed):
    recipe = Recipe("samples", seed, seed % 5, seed % 5, "duplicated", "normal", "graded", 0.3)
    solution = solve(recipe.build())
    assert judge(recipe, solution).kind == "infeasible", solution


def test_tiny_constant_rewards_are_a_unit_where_a_mismatch_has_a_price():
    """The gap was once measured in ones, beside rewards of 1e-9, and called certified."""
    recipe = Recipe("samples", 271, 75, 5, "scaled", "constant", "random", 1.0, scale=1e-9, shift=1.0, option="ridge")
    assert judge(recipe, solve(recipe.build())).kind != "wrong"
    plain = Recipe("samples", 3, 75, 2, "normal", "constant", "uniform", 0.1, scale=1e-9, shift=1.0, option="ridge")
    assert judge(plain, solve(plain.build())).kind == "certified"


@pytest.mark.filterwarnings("ignore:the effective sample size")
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("episodic", 4, 4, 4, "indicators", "one goal", "zeros", 0.01, 0.9, 1e-3, 1.0, "contexts"),
        Recipe("episodic", 5, 5, 5, "indicators", "potential", "graded", 1.0, 0.9, 1e3, 0.0, "contexts"),
    ],
    ids=["as many contexts as episodes", "contexts whose episode has all the weight"],
)
def test_base_weights_match_their_own_contexts_whatever_rounding_says(recipe: Recipe) -> None:
    """Called infeasible until now, by a dual bound, or a combination of contexts, at the rounding of their mean."""
    problem = recipe.build()
    assert problem.epsilon_min == 0
    solution = solve(problem)
    assert solution.has_point
    assert judge(recipe, solution).kind == solution.status


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_point_that_leaves_out_a_return_of_minus_1e7_misses_the_contexts() -> None:
    """By a mass of 3e-13, worth as much as all the rest; its objective lay above the bound, and was certified."""
    recipe = Recipe("episodic", 4, 4, 4, "scaled", "penalty", "graded", 0.18117568823774988, 0.9, 1e-3, 0.0, "contexts")
    assert judge(recipe, solve(recipe.build())).kind != "wrong"


@pytest.mark.parametrize("seed", [1, 5349])
def test_costs_out_of_all_proportion_do_not_break_the_search_for_what_keeps_them(seed: int) -> None:
    """HiGHS called the search infeasible, which no search for the least excess is."""
    recipe = Recipe("budgets", seed, 6, 1, "slow", "jackpot", "uniform", 1e3, 1 - 1e-8, 1e-3, 0.0, "ball outlier")
    assert judge(recipe, solve(recipe.build())).kind == "infeasible"
