"""Numbers that decide something stand in one module of a package, each with its reason; see ``tests/deciding.py``."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOMES = ("reps_opt/tolerances.py", "policies/tolerances.py")
DECIDE_NOTHING = {
    "reps_opt/plotting.py": "what is drawn",
    "reps_opt/explorer/": "what a page shows",
    "reps_opt/history.py": "what is printed",
    "reps_opt/problems/flow_solution.py": "what is printed",
    "reps_opt/solvers/trace.py": "what is printed",
    "reps_opt/progress.py": "when a bar is shown",
    "reps_opt/command_line.py": "exit codes",
    "reps_opt/archive.py": "the version of a format",
    "policies/storage.py": "the version of a format",
    "policies/drawing.py": "what is drawn",
}
"""Files, and folders, whose numbers no answer depends on."""

SOURCES = sorted(
    path
    for package in ("reps_opt", "policies")
    for path in (ROOT / package).rglob("*.py")
    if not path.relative_to(ROOT).as_posix().startswith((*HOMES, *DECIDE_NOTHING))
)


def numbers(node: ast.AST) -> Iterator[ast.Constant]:
    """Numbers from three up or broken that a node spells out, not as a field of what it makes: ``Newton(rtol=.1)``."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value not in (0, 1, 2):
        yield node
    if isinstance(node, ast.Call) and ast.unparse(node.func)[:1].isupper():
        if ast.unparse(node) not in ("Decimal(0)", "Decimal(1)"):
            yield from (
                text for text in node.args if isinstance(text, ast.Constant) and ast.unparse(node.func) == "Decimal"
            )
        return
    for child in ast.iter_child_nodes(node):
        yield from numbers(child)


def bound(body: list[ast.stmt]) -> Iterator[tuple[str, ast.Constant]]:
    """Names bound by these statements to what spells out a number."""
    for node in body:
        if isinstance(node, ast.Assign):
            yield from ((ast.unparse(node.targets[0]), number) for number in numbers(node.value))
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield from ((ast.unparse(node.target), number) for number in numbers(node.value))


def decisive(function: ast.FunctionDef) -> Iterator[ast.Constant]:
    """Sizes in a function's body that no arithmetic explains: floats from a thousandth down, and from a thousand up."""
    for statement in function.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Constant) and type(node.value) is float and not 1e-3 < (node.value or 1) < 1e3:
                yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_number_that_decides_stands_elsewhere(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    name = path.relative_to(ROOT).as_posix()
    stray = {target for target, _ in bound(tree.body)}
    assert not stray, f"{name} binds {stray}: they belong into {HOMES[name.startswith('policies')]}"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):  # fields are annotated, and their user's to set
            stray = {target for target, _ in bound([b for b in node.body if isinstance(b, ast.Assign)])}
            assert not stray, f"{name}: {node.name} binds {stray}"
        elif isinstance(node, ast.FunctionDef):
            found = [f"{number.value} in line {number.lineno}" for number in decisive(node)]
            assert not found, f"{name}: {node.name} decides by {found}, which have no name"


@pytest.mark.parametrize("home", HOMES)
def test_each_has_a_reason_and_one_name(home: str) -> None:
    body = ast.parse((ROOT / home).read_text("utf-8")).body
    first = next(place for place, node in enumerate(body) if isinstance(node, ast.Assign | ast.AnnAssign))
    names, reasons = body[first::2], body[first + 1 :: 2]
    assert len(names) == len(reasons)
    for node, reason in zip(names, reasons, strict=True):
        assert isinstance(node, ast.Assign | ast.AnnAssign)
        assert isinstance(reason, ast.Expr)
        assert isinstance(reason.value, ast.Constant)
        assert len(str(reason.value.value)) > 20, f"{ast.unparse(node)} has no reason"


def test_every_one_is_used() -> None:
    read = Counter(
        node.id
        for package in ("reps_opt", "policies")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    )
    for home in HOMES:
        named = {target for target, _ in bound(ast.parse((ROOT / home).read_text("utf-8")).body)}
        assert named
        assert not {name for name in named if not read[name]}, home
