"""Make ``frozen.json``: fifty hard instances with their optima by a conic solver at tight tolerances.

``python -m tests.hard.freeze`` draws recipes family by family and keeps those that Clarabel settles, to 1e-11, from
poses that share nothing with the library (``cones.py``). The library's own answers are printed beside, and decide
nothing.
"""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reps_opt import solve
from tests.hard.cones import TIGHT, cone
from tests.hard.recipes import Recipe
from tests.hard_inputs import try_recipes
from tests.strategies import PROBLEMS

FILE = Path(__file__).with_name("frozen.json")
EACH = 5
LEAST_RADIUS = 1e-3
"""Below, a conic solver's optimum is good to the square root of its tolerance only."""


def settled(recipe: Recipe) -> dict[str, Any] | None:
    """Status, optimum and its unit by the conic solver; None where it settles neither."""
    problem = recipe.build()
    posed = cone(recipe, problem)
    best = posed.best(**TIGHT)
    if math.isnan(best):
        return None
    if best == -math.inf:
        return {"status": "infeasible", "objective": None, "unit": posed.unit}
    return {"status": "certified", "objective": posed.low + posed.unit * best, "unit": posed.unit}


def chosen(family: str) -> list[dict[str, Any]]:
    """The first recipes of a family that are settled, one of each structure, at most one of them infeasible."""
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    for recipe in try_recipes(family, 200, 2026):
        small = recipe.epsilon < LEAST_RADIUS or recipe.size < 2 or recipe.rewards == "constant"
        if small or recipe.structure in seen or len(found) == EACH:
            continue
        answer = settled(recipe)
        if answer is None or (answer["status"] == "infeasible" and "infeasible" in [f["status"] for f in found]):
            continue
        seen.add(recipe.structure)
        found.append({"recipe": asdict(recipe), **answer})
    return found


def main() -> None:
    """Write the file, and show how the library does."""
    instances = [instance for family in PROBLEMS for instance in chosen(family)]
    FILE.write_text(json.dumps(instances, indent=1) + "\n", encoding="utf-8")
    for instance in instances:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            solution = solve(Recipe(**instance["recipe"]).build())
        off = math.nan if instance["objective"] is None else solution.objective - instance["objective"]
        print(instance["recipe"]["family"], instance["status"], solution.status, f"{off / instance['unit']:.1e}")


if __name__ == "__main__":
    main()
