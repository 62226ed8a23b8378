"""Examples use what users may: public names, one command line, nothing from the inside of the core."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))
OPEN = ("reps_opt", "reps_opt.divergences", "reps_opt.solvers", "reps_opt.features", "reps_opt.plotting")
MOST_LINES = 80
MOST_SHARED = 200


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_imports_nothing_from_inside_the_core(script: Path) -> None:
    found = [node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = [node.module or "" for node in found if isinstance(node, ast.ImportFrom)]
    modules += [name.name for node in found if isinstance(node, ast.Import) for name in node.names]
    assert [name for name in modules if name.startswith("reps_opt") and name not in OPEN] == []
    assert "argparse" not in modules


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_short(script: Path) -> None:
    """A script fits on a screen or two; a file that several share is one that does not run by itself."""
    text = script.read_text()
    most = MOST_LINES if "typer.run(main)" in text else MOST_SHARED
    assert len(text.splitlines()) <= most, "what is common belongs into harness.py, drawing.py and their kin"


def test_no_script_is_taken_for_a_file_that_others_share() -> None:
    texts = {script.stem: script.read_text() for script in SCRIPTS}
    shared = {name for name, text in texts.items() if "typer.run(main)" not in text}
    imported = {name for name in texts for text in texts.values() if f"from {name} import" in text}
    assert shared <= imported
