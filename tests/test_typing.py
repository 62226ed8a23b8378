"""What an editor and a type checker see: public names have types, and the README's snippets pass both checkers."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *(ROOT / ".docs" / f"{name}.md" for name in ("getting_started", "choosing", "mathematics")),
]
SNIPPETS = [s for page in PAGES for s in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)]

USER = """
import numpy as np
from typing_extensions import assert_type
from reps_opt import MDP, REPS, Ball, Program, Solution, solve
from reps_opt.divergences import KL
from reps_opt.problems.occupancy_solution import OccupancySolution
from reps_opt.solvers import CvxpyPrimal

mdp = MDP(np.ones((1, 2, 1)), [[0.0, 1.0]], gamma=0.9)
problem = REPS(mdp, reference=mdp.occupancy(mdp.uniform_policy()), epsilon=0.1)
assert_type(problem.replace(epsilon=0.05), REPS)
solution = solve(problem)
assert_type(solution, OccupancySolution)
assert_type(solve(problem, CvxpyPrimal("CLARABEL")), OccupancySolution)
print(solution.status, solution.eta, solution.value.shape, solution.certificate.gap)
assert_type(solve(Program(np.zeros(3), balls=Ball(KL(np.full(3, 1 / 3)), radius=0.1))), Solution)
"""

WRONG = """
from reps_opt import MDP, REPS, solve

mdp = MDP([[[1.0]]], [[0.0]], gama=0.9)
solve(REPS(mdp, [[1.0]], 0.1)).valeu
"""


OTHERS = """
[mypy-scipy.*,sklearn.*,cvxpy.*,gpytorch.*,torch.*,joblib.*,matplotlib.*,pandas.*,xarray.*,dask.*,bokeh.*]
follow_imports = skip
follow_imports_for_stubs = True
"""
"""Libraries whose types the snippets do not need, and which would take most of the time."""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A folder of a user's own, with a file a snippet."""
    (tmp_path / "user.py").write_text(USER)
    for place, snippet in enumerate(SNIPPETS):
        (tmp_path / f"readme_{place}.py").write_text(snippet)
    return tmp_path


def checked(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    files = sorted(path.name for path in folder.glob("*.py"))
    return subprocess.run([*command, *files], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_mypy_passes_a_users_files_and_notices_what_is_wrong(user: Path) -> None:
    (user / "wrong.py").write_text(WRONG)
    settings = user / "mypy.ini"
    settings.write_text(
        f"[mypy]\nignore_missing_imports = True\nmypy_path = {ROOT}\ncache_dir = {user / 'cache'}\n" + OTHERS
    )
    done = checked(user, sys.executable, "-m", "mypy", "--config-file", str(settings))
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert all(line.startswith("wrong.py:") for line in errors), done.stdout
    assert any('Unexpected keyword argument "gama"' in line for line in errors)
    assert any('has no attribute "valeu"' in line for line in errors)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is not installed")
def test_pyright_passes_a_users_files(user: Path) -> None:
    settings = {"extraPaths": [str(ROOT)], "reportMissingImports": False, "useLibraryCodeForTypes": False}
    (user / "pyrightconfig.json").write_text(json.dumps(settings))
    done = checked(user, "pyright", "--pythonpath", sys.executable)
    assert done.returncode == 0, done.stdout
