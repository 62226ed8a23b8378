"""Solve thousands of random hard problems and judge every answer from the data: ``python -m tests.hard_inputs``.

Prints a row a family: how many answers were certified, uncertified, infeasible, failed, wrong (contradicted by an
independent computation) or raised an exception. The last two must be zero. Every finding is printed as the recipe that
reproduces it: ``judge(recipe, solve(recipe.build()))``.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections import Counter, defaultdict

from hypothesis import HealthCheck, Phase, given, seed, settings

from reps_opt import solve
from tests.hard.recipes import Recipe
from tests.hard.verdicts import Verdict, judge
from tests.strategies import PROBLEMS

KINDS = ("certified", "uncertified", "infeasible", "failed", "wrong", "raised")
BAD = ("wrong", "raised")


def verdict_on(recipe: Recipe) -> Verdict:
    """Build, solve and judge one recipe; whatever it raises, or warns of numerically, is a finding too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", UserWarning)
        try:
            solution = solve(recipe.build())
        except Exception:
            return Verdict("raised", traceback.format_exc(limit=-2))
    return judge(recipe, solution)


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


def main(examples: int, start: int, families: list[str], verbose: bool) -> int:
    """Try ``examples`` recipes in all; return how many answers were wrong or raised."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    confirmed: Counter[str] = Counter()
    began = time.process_time()
    for i, name in enumerate(families):
        share = examples // len(families) + (i < examples % len(families))
        for recipe in try_recipes(name, share, start):
            verdict = verdict_on(recipe)
            counts[name][verdict.kind] += 1
            confirmed[verdict.confirmed] += verdict.kind in ("certified", "infeasible")
            if verdict.kind in BAD or (verbose and (verdict.kind in ("uncertified", "failed"))):
                print(f"{verdict.kind}: {recipe}\n    {verdict.reason}", file=sys.stderr, flush=True)
    counts["all"] = sum(counts.values(), Counter())
    print(" ".join([f"{'family':<14}", *(f"{kind:>12}" for kind in KINDS)]))
    for name, row in counts.items():
        print(" ".join([f"{name:<14}", *(f"{row[kind]:>12}" for kind in KINDS)]))
    print("checked by", dict(confirmed), f"in {time.process_time() - began:.0f} s of CPU")
    return sum(counts["all"][kind] for kind in BAD)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=5000, help="problems in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", nargs="*", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--verbose", action="store_true", help="print uncertified and failed answers too")
    given_arguments = parser.parse_args()
    sys.exit(
        main(given_arguments.examples, given_arguments.seed, given_arguments.families, given_arguments.verbose) > 0
    )
