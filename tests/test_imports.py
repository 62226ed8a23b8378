"""Importing is cheap, and brings in only what is asked for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "gpytorch", "cvxpy", "sklearn", "matplotlib", "gymnasium", "pandas", "xarray")


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("package", ["reps_opt", "policies", "envs"])
def test_import_is_light(package: str) -> None:
    code = f"import sys, {package}; print([m for m in {HEAVY} if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_solving_a_problem_needs_neither_cvxpy_nor_what_else_takes_long_to_import() -> None:
    code = (
        "import sys, reps_opt as ro, numpy as np; mdp = ro.MDP(np.ones((1, 2, 1)), [[0.0, 1.0]]);"
        "ro.solve(ro.REPS(mdp, [[0.5, 0.5]], 0.1));"
        "print([m for m in ('cvxpy', 'sklearn', 'scipy.optimize', 'scipy.special') if m in sys.modules])"
    )
    assert run(code).strip() == "[]"


def test_import_takes_a_third_of_a_second_of_cpu_at_most() -> None:
    code = "import time; start = time.process_time(); import reps_opt; print(time.process_time() - start)"
    assert min(float(run(code)) for _ in range(3)) <= 0.3


def test_cvxpy_is_imported_in_one_place() -> None:
    root = Path(__file__).parents[1]
    modules = [path for package in ("reps_opt", "policies", "envs") for path in (root / package).rglob("*.py")]
    importing = [path.name for path in modules if re.search(r"^\s*(import|from) cvxpy", path.read_text(), flags=re.M)]
    assert importing == ["cvxpy_conic.py"]


@pytest.mark.parametrize("package", ["reps_opt", "reps_opt.solvers", "reps_opt.divergences", "policies", "envs"])
def test_public_names_load_and_unknown_ones_do_not(package: str) -> None:
    module = __import__(package, fromlist=["_"])
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)
    with pytest.raises(AttributeError, match=rf"^No {package} attribute Nothing$"):
        _ = module.Nothing
