"""Solve thousands of random hard problems and judge every answer from the data: ``python -m tests.hard_inputs``.

Prints a row a family: how many answers were certified, uncertified, infeasible, failed, wrong (contradicted by an
independent computation) or raised an exception. The last two must be zero. Every finding is printed as the recipe that
reproduces it: ``judge(recipe, solve(recipe.build()))``.

``--conic`` gives every problem whose answer is uncertified to a conic solver at 1e-9 too, posed in four ways, for ten
times the time that the answer took: one that it solves, by the same certificate, is printed and counted.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, seed, settings

from reps_opt import Problem, Solution, solve
from reps_opt.solvers import CvxpyDual, CvxpyPrimal
from reps_opt.solvers.choice import InRange
from tests.hard.recipes import Recipe
from tests.hard.verdicts import Verdict, judge
from tests.strategies import PROBLEMS

KINDS = ("certified", "uncertified", "infeasible", "failed", "wrong", "raised")
BAD = ("wrong", "raised")


def verdict_on(recipe: Recipe) -> tuple[Verdict, float]:
    """Build, solve and judge one recipe, and the seconds of its solve; what it raises or warns of is a finding too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", UserWarning)
        try:
            solution = solve(recipe.build())
        except Exception:
            return Verdict("raised", traceback.format_exc(limit=-2)), 0.0
    return judge(recipe, solution), solution.stats["seconds"]


NINE = {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9}
"""What the conic solver is asked for."""


def conic(recipe: Recipe, seconds: float) -> str:
    """How a conic solver gets an answer that the default route does not, in ten times the time; empty if it cannot.

    It is given the library's two explicit programs in its units, the primal in units of the objective's range, and in
    the problem's own.
    """
    problem, limit = recipe.build(), 10 * seconds
    in_nine = NINE | {"time_limit": limit}
    ways: dict[str, Callable[[], Solution]] = {
        "primal": lambda: solve(problem, CvxpyPrimal("CLARABEL", in_nine)),
        "dual": lambda: solve(problem, CvxpyDual("CLARABEL", in_nine)),
        "primal in units of the range": lambda: solve(problem, InRange(CvxpyPrimal("CLARABEL", in_nine))),
        "primal in its own units": lambda: by_hand(problem, limit),
    }
    for name, way in ways.items():
        began = time.perf_counter()
        with contextlib.suppress(Exception):
            if way().status == "certified" and time.perf_counter() - began < limit:
                return name
    return ""


def by_hand(problem: Problem, limit: float) -> Solution:
    """What a user's own call of the conic solver gives, read and certified."""
    posed = problem.to_cvxpy("primal")
    posed.solve(solver="CLARABEL", **NINE, time_limit=limit)
    return problem.read(posed)


def try_recipes(name: str, examples: int, start: int) -> list[Recipe]:
    """So many recipes of a family, the same for the same ``start``."""
    found: list[Recipe] = []
    silent = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @seed(start)
    @silent
    @given(PROBLEMS[name])
    def draw(recipe: Recipe) -> None:
        found.append(recipe)

    draw()
    return found


def main(examples: int, start: int, families: list[str], verbose: bool, ask_conic: bool) -> int:
    """Try ``examples`` recipes in all; return how many answers were wrong, raised, or left to a conic solver."""
    missed: list[str] = []
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    confirmed: Counter[str] = Counter()
    began = time.process_time()
    for i, name in enumerate(families):
        share = examples // len(families) + (i < examples % len(families))
        for recipe in try_recipes(name, share, start):
            verdict, seconds = verdict_on(recipe)
            counts[name][verdict.kind] += 1
            confirmed[verdict.confirmed] += verdict.kind in ("certified", "infeasible")
            if verdict.kind in BAD or (verbose and (verdict.kind in ("uncertified", "failed"))):
                print(f"{verdict.kind}: {recipe}\n    {verdict.reason}", file=sys.stderr, flush=True)
            if ask_conic and verdict.kind in ("uncertified", "failed") and (way := conic(recipe, seconds)):
                missed.append(way)
                print(f"a conic solver gets it ({way}): {recipe}", file=sys.stderr, flush=True)
    counts["all"] = sum(counts.values(), Counter())
    print(" ".join([f"{'family':<14}", *(f"{kind:>12}" for kind in KINDS)]))
    for name, row in counts.items():
        print(" ".join([f"{name:<14}", *(f"{row[kind]:>12}" for kind in KINDS)]))
    print("checked by", dict(confirmed), f"in {time.process_time() - began:.0f} s of CPU")
    if ask_conic:
        print(f"of the uncertified and failed a conic solver gets {len(missed)} {dict(Counter(missed)) or ''}")
    return sum(counts["all"][kind] for kind in BAD) + len(missed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=5000, help="problems in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", nargs="*", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--verbose", action="store_true", help="print uncertified and failed answers too")
    parser.add_argument("--conic", action="store_true", help="ask a conic solver what is uncertified")
    asked = parser.parse_args()
    sys.exit(main(asked.examples, asked.seed, asked.families, asked.verbose, asked.conic) > 0)
