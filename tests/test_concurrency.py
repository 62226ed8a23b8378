"""Solves from threads and from processes give the sequential answer, bit for bit."""

from __future__ import annotations

import multiprocessing
import warnings
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from reps_opt import solve
from reps_opt.problem import Problem
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, ScipyDual
from reps_opt.threads import quietly
from tests.hard.recipes import Recipe

RECIPES = [
    *(Recipe("reps", seed, 6, 3, "sparse", "normal", "policy", 0.3, [0.9, 1.0][seed % 2]) for seed in range(8)),
    *(Recipe("f-divergence", seed, 4, 2, "dense", "normal", "policy", 0.2, option="chi2") for seed in range(2)),
    *(Recipe("budgets", seed, 4, 3, "dense", "normal", "policy", 0.3, option="ball") for seed in range(2)),
    *(Recipe("conditional", seed, 5, 3, "dense", "normal", "policy", 0.2) for seed in range(2)),
    *(
        Recipe("horizon", 0, 4, 2, "dense", "normal", "policy", 0.2, option=f"{ball} 4")
        for ball in ("shared", "per_step")
    ),
    *(Recipe("samples", seed, 200, 4, "normal", "normal", "random", 0.5) for seed in range(4)),
    *(Recipe("episodic", seed, 100, 3, "normal", "normal", "random", 0.5, option="contexts") for seed in range(2)),
    *(Recipe("step", seed, 6, 2, "random", "normal", "uniform", 0.1) for seed in range(2)),
]
NAMES = ("occupancy", "sample_weights", "policy", "step", "value", "theta", "nu")
ROUTES = (ScipyDual(), CvxpyPrimal(), CvxpyDual())


def bits(problem: Problem, solver: object = None) -> bytes:
    """Everything an answer consists of, as bytes."""
    solution = solve(problem, solver)
    arrays = [found for name in NAMES if isinstance(found := getattr(solution, name, None), np.ndarray)]
    assert arrays
    numbers = np.array([solution.objective, solution.dual_objective, *np.atleast_1d(solution.eta), solution.kl])
    return str(solution.status).encode() + b"".join(array.tobytes() for array in (*arrays, numbers))


def solved(recipe: Recipe) -> bytes:
    return bits(recipe.build())


def pools() -> dict[str, Executor]:
    spawned = multiprocessing.get_context("spawn")
    return {"8 threads": ThreadPoolExecutor(8), "2 processes": ProcessPoolExecutor(2, mp_context=spawned)}


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["8 threads", "2 processes"])
def test_pools_give_the_sequential_answers(pool):
    expected = [solved(recipe) for recipe in RECIPES]
    with pools()[pool] as executor:
        assert list(executor.map(solved, RECIPES)) == expected
        assert list(executor.map(solved, RECIPES[::-1])) == expected[::-1]


def shared_by_eight_threads(recipe: Recipe, route: object) -> None:
    """Caches fill while others read them; conic problems are posed anew each time."""
    expected = bits(recipe.build(), route)
    shared = recipe.build()
    with ThreadPoolExecutor(8) as executor:
        assert set(executor.map(lambda _: bits(shared, route), range(24))) == {expected}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: type(route).__name__)
@pytest.mark.parametrize("family", ["reps", "samples"])
def test_one_problem_shared_by_eight_threads_on_every_route(family, route):
    shared_by_eight_threads(next(recipe for recipe in RECIPES if recipe.family == family), route)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.family}-{recipe.seed}")
def test_one_problem_shared_by_eight_threads(recipe):
    shared_by_eight_threads(recipe, None)


def test_the_last_thread_to_leave_restores_the_warnings():
    first, second = quietly(), quietly()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    warnings.warn("unheard", UserWarning, stacklevel=1)
    second.__exit__(None, None, None)
    with pytest.raises(UserWarning, match="heard"):
        warnings.warn("heard", UserWarning, stacklevel=1)
