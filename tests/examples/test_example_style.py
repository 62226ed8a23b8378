"""Examples use what users may: public names, one command line, nothing from the inside of the core."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))
OPEN = ("reps_opt", "reps_opt.divergences", "reps_opt.solvers", "reps_opt.features", "reps_opt.plotting")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_imports_nothing_from_inside_the_core(script: Path) -> None:
    found = [node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = [node.module or "" for node in found if isinstance(node, ast.ImportFrom)]
    modules += [name.name for node in found if isinstance(node, ast.Import) for name in node.names]
    assert [name for name in modules if name.startswith("reps_opt") and name not in OPEN] == []
    assert "argparse" not in modules
