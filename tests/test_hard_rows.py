"""Hard input, row by row, for every family of problems it applies to: one line a row, judged from the data.

Bad input is in the test_*bad_input modules of each package; what else each row promises is tested beside the family.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from reps_opt import solve
from tests.hard.recipes import Recipe
from tests.hard.verdicts import judge

TABLE = {
    "reps": Recipe("reps", 1, 5, 3, "dense", "normal", "policy", 0.2),
    "temperature": Recipe("temperature", 1, 5, 3, "dense", "normal", "policy", 0.2),
    "chi2": Recipe("f-divergence", 1, 5, 3, "dense", "normal", "policy", 0.2, option="chi2"),
    "reverse_kl": Recipe("f-divergence", 1, 5, 3, "dense", "normal", "policy", 0.2, option="reverse_kl"),
    "alpha": Recipe("f-divergence", 1, 5, 3, "dense", "normal", "policy", 0.2, option="alpha 0.5"),
    "budgets": Recipe("budgets", 2, 5, 3, "dense", "normal", "policy", 0.2, option="ball"),
    "conditional": Recipe("conditional", 1, 5, 3, "dense", "normal", "policy", 0.2),
    "linear": Recipe("linear", 1, 5, 3, "dense", "normal", "policy", 0.2),
    "shared": Recipe("horizon", 1, 4, 3, "dense", "normal", "policy", 0.2, option="shared 4"),
    "per step": Recipe("horizon", 1, 4, 3, "dense", "normal", "policy", 0.2, option="per_step 4"),
    "trajectory": Recipe("horizon", 1, 4, 3, "dense", "normal", "policy", 0.2, option="trajectory 4"),
    "samples": Recipe("samples", 1, 150, 3, "normal", "normal", "random", 0.3),
    "ridge": Recipe("samples", 1, 150, 3, "normal", "normal", "random", 0.3, option="ridge"),
    "episodic": Recipe("episodic", 1, 60, 1, "normal", "normal", "random", 0.3),
    "contexts": Recipe("episodic", 1, 150, 3, "normal", "normal", "random", 0.3, option="contexts"),
    "step": Recipe("step", 1, 5, 2, "random", "normal", "uniform", 0.1),
}
JOINT = ["reps", "chi2", "reverse_kl", "alpha"]
FREE = [*JOINT, "temperature", "conditional"]
OCCUPANCY = [*FREE, "budgets"]
HORIZON = ["shared", "per step", "trajectory"]
SAMPLED = ["samples", "ridge", "episodic", "contexts"]
MATCHED = ["samples", "ridge", "contexts"]
REWARDED = [*OCCUPANCY, "linear", *HORIZON, *SAMPLED]
CERTAIN = ("certified",)
HONEST = ("certified", "uncertified")

ROWS: list[tuple[str, dict[str, Any], list[str], tuple[str, ...]]] = [
    ("epsilon = 0", {"epsilon": 0.0}, [*JOINT, "conditional", *HORIZON, "ridge", "episodic", "step"], CERTAIN),
    ("epsilon = 0 where the base does not match", {"epsilon": 0.0}, ["samples"], ("infeasible",)),
    ("epsilon 1e3", {"epsilon": 1e3}, [*JOINT, "conditional", "budgets", *HORIZON, *SAMPLED], CERTAIN),
    ("epsilon infinite", {"epsilon": math.inf}, [*JOINT, "conditional", "budgets", *HORIZON, *SAMPLED], CERTAIN),
    ("reference with zeros", {"reference": "zeros"}, [*OCCUPANCY, *HORIZON, *SAMPLED], CERTAIN),
    ("deterministic reference", {"reference": "deterministic"}, [*FREE, *HORIZON], CERTAIN),
    ("reference over thirty decades", {"reference": "graded"}, ["reps", "conditional", *HORIZON, "episodic"], HONEST),
    ("reference to underflow", {"reference": "tiny states"}, [*OCCUPANCY, *HORIZON], HONEST),
    ("no policy's reference, small ball", {"reference": "inconsistent", "epsilon": 1e-5}, JOINT, ("infeasible",)),
    ("no policy's reference, large ball", {"reference": "inconsistent", "epsilon": 5.0}, JOINT, CERTAIN),
    ("unreachable states", {"structure": "unreachable"}, [*OCCUPANCY, "linear", *HORIZON], CERTAIN),
    ("absorbing states", {"structure": "absorbing"}, [*OCCUPANCY, "linear", *HORIZON], CERTAIN),
    ("periodic chains", {"structure": "periodic", "gamma": 1.0}, [*FREE, "linear"], CERTAIN),
    ("multichain, average", {"structure": "multichain", "gamma": 1.0}, ["reps", "conditional", "linear"], CERTAIN),
    ("rewards by 1e-9", {"scale": 1e-9}, [*REWARDED, "step"], CERTAIN),
    ("rewards by 1e9", {"scale": 1e9}, [*REWARDED, "step"], CERTAIN),
    ("rewards shifted by 1e6", {"shift": 1e6}, REWARDED, CERTAIN),
    ("constant rewards", {"rewards": "constant"}, [*JOINT, "conditional", "linear", *HORIZON, *SAMPLED], CERTAIN),
    ("rewards no policy changes", {"rewards": "potential"}, [*FREE, "linear"], CERTAIN),
    ("one goal", {"rewards": "one goal"}, REWARDED, CERTAIN),
    ("ties", {"rewards": "ties"}, REWARDED, CERTAIN),
    ("one of each", {"size": 1, "width": 1}, [*OCCUPANCY, "linear", *HORIZON, "ridge", "episodic"], CERTAIN),
    ("one parameter", {"size": 1, "width": 0}, ["step"], CERTAIN),
    ("one action", {"width": 1}, [*FREE, "linear", *HORIZON], CERTAIN),
    ("duplicated features", {"structure": "duplicated"}, MATCHED, CERTAIN),
    ("constant features", {"structure": "constant"}, MATCHED, CERTAIN),
    ("features of any scale", {"structure": "scaled"}, ["samples", "contexts"], CERTAIN),
    ("indicator features", {"structure": "indicators"}, MATCHED, CERTAIN),
    ("metric ill-conditioned", {"structure": "ill-conditioned"}, ["step"], CERTAIN),
    ("fewer rows than parameters", {"structure": "wide factor"}, ["step"], CERTAIN),
]
CASES = [(row, name, changes, kinds) for row, changes, names, kinds in ROWS for name in names]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("row", "name", "changes", "kinds"), CASES, ids=[f"{row}-{name}" for row, name, *_ in CASES])
def test_row(row, name, changes, kinds):
    recipe = replace(TABLE[name], **changes)
    solution = solve(recipe.build())
    verdict = judge(recipe, solution)
    assert verdict.kind in kinds, (verdict, solution)
    if verdict.kind == "infeasible":
        assert recipe.epsilon < solution.epsilon_min
        assert f"{solution.epsilon_min:.6g}"[:6] in solution.message or solution.epsilon_min == math.inf
    if row == "epsilon = 0":
        assert solution.kl <= 1e-12
    if row == "epsilon infinite" and name not in HORIZON:
        assert solution.eta == 0.0
