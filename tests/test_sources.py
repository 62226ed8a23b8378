"""What the sources say of themselves: files they name are there, and what is imported by name is listed."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = [
    path for folder in ("reps_opt", "policies", "envs", "examples", "tests") for path in (ROOT / folder).rglob("*.py")
]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / ".docs").rglob("*.md")]
PAGE = re.compile(r"(?<![\w/.:-])[A-Za-z_]+\.md\b")
NAMED = re.compile(r"(?<![\w/.:-])(?:[\w.-]+/)+[\w-]+\.(?:py|md|toml|json|ipynb|png)\b")


@cache
def nodes(path: Path) -> list[ast.AST]:
    return [*ast.walk(ast.parse(path.read_text("utf-8")))]


@cache
def docstrings(path: Path) -> list[str]:
    documented = (node for node in nodes(path) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef))
    return [text for node in documented if (text := ast.get_docstring(node))]


def test_files_that_docstrings_name_are_in_the_repository() -> None:
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        for text in docstrings(path)
        for name in NAMED.findall(text)
        if not any((base / name).exists() for base in (ROOT, path.parent, ROOT / "examples"))
    }
    assert not missing


def test_pages_that_docstrings_name_are_in_the_repository() -> None:
    known = {path.name for path in (*ROOT.glob("*.md"), *(ROOT / ".docs").rglob("*.md"))}
    named = {
        name: path.relative_to(ROOT) for path in SOURCES for text in docstrings(path) for name in PAGE.findall(text)
    }
    assert not {f"{path}: {name}" for name, path in named.items() if name not in known}


def test_links_of_pages_lead_somewhere() -> None:
    missing = {
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists()
    }
    assert not missing


def test_the_core_imports_by_name_only_its_plug_ins() -> None:
    """Import-linter does not see a name in a string: these places have one, and look for plug-ins or a saved class."""
    found = set()
    for path in (ROOT / "reps_opt").rglob("*.py"):
        for node in nodes(path):
            called = node.func if isinstance(node, ast.Call) else None
            if getattr(called, "id", getattr(called, "attr", "")) in ("import_module", "__import__"):
                found.add(path.relative_to(ROOT).as_posix())
    assert found == {"reps_opt/archive.py", "reps_opt/doctor.py", "reps_opt/learning/runs.py"}
