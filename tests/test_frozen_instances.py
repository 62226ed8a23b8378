"""Fifty hard instances, frozen with their optima by a conic solver: see ``tests/hard/freeze.py``."""

from __future__ import annotations

import json

import pytest

from reps_opt import solve
from tests.hard.freeze import FILE
from tests.hard.recipes import Recipe

INSTANCES = json.loads(FILE.read_text(encoding="utf-8"))


def name(instance: dict) -> str:
    recipe = instance["recipe"]
    return f"{recipe['family']}-{recipe['structure']}-{recipe['reference']}-{recipe['seed']}"


def test_there_are_fifty():
    assert len(INSTANCES) == 50
    assert len({name(instance) for instance in INSTANCES}) == 50


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("instance", INSTANCES, ids=name)
def test_status_and_objective(instance):
    recipe, expected, unit = Recipe(**instance["recipe"]), instance["objective"], instance["unit"]
    solution = solve(recipe.build())
    assert solution.status == instance["status"], solution
    if expected is not None:
        assert solution.objective == pytest.approx(expected, abs=1e-9 * unit, rel=1e-13)
