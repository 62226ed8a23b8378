"""Mutation testing of what every answer rests on: ``python -m tests.mutate`` (POSIX, since it forks).

Every comparison, operator, number and condition of the dual, the divergences, the certificate and the validation is
changed, one at a time; the tests must notice. Survivors are printed with their line. Each mutant lives in a child
process forked from one that has imported the heavy libraries; the sources on disk are never touched.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MODULES = (
    "reps_opt.certify",
    "reps_opt.certificate",
    "reps_opt.program",
    "reps_opt.validation",
    "reps_opt.divergences.base",
)
QUICK = ["tests/reps_opt/test_own_programs.py", "tests/reps_opt/test_program.py"]
THOROUGH = [
    "tests/reps_opt/test_distance.py",
    "tests/reps_opt/test_conditional.py",
    "tests/reps_opt/test_second_opinion.py",
    "tests/reps_opt/test_sample_limits.py",
    "tests/reps_opt/test_solution.py",
    "tests/reps_opt/test_temperature.py",
    "tests/reps_opt/test_samples.py",
]
TIMEOUT = 120
HEAVY = ("numpy", "scipy.sparse.linalg", "scipy.optimize", "scipy.special", "cvxpy", "pytest", "gymnasium", "sklearn")

SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


class Point:
    """A place to mutate: where it is, what is changed, and how."""

    def __init__(self, node: ast.AST, change: str) -> None:
        self.node, self.change = node, change


def points(node: ast.AST) -> Iterator[Point]:
    """Places in a syntax tree, annotations and docstrings left out, in the order of the source."""
    if isinstance(node, ast.Compare):
        yield from (Point(node, f"op {i}") for i, op in enumerate(node.ops) if type(op) in SWAPS)
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS:
        yield Point(node, "op")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield Point(node, "drop")
    if isinstance(node, ast.If | ast.IfExp) and not _type_checking(node):
        yield Point(node, "negate")
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        yield Point(node, "value")
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or (
            isinstance(node, ast.AnnAssign) and name == "target"
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _type_checking(child) and not _alias(child):
                yield from points(child)


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _alias(node: ast.AST) -> bool:
    """Whether a statement only names a type, as ``Dimension = int | str`` does."""
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.BitOr)


def mutated(tree: ast.Module, index: int) -> tuple[ast.Module, int, str]:
    """A copy of the tree with its ``index``-th place changed; the line; what the line reads then."""
    tree = copy.deepcopy(tree)
    place = list(points(tree))[index]
    node, change = place.node, place.change
    if change.startswith("op "):
        node.ops[int(change[3:])] = SWAPS[type(node.ops[int(change[3:])])]()  # type: ignore[attr-defined]
    elif change == "op":
        node.op = SWAPS[type(node.op)]()  # type: ignore[attr-defined]
    elif change == "negate":
        node.test = ast.UnaryOp(ast.Not(), node.test)  # type: ignore[attr-defined]
    elif change == "value":
        value = node.value  # type: ignore[attr-defined]
        node.value = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else 2 * value + 1  # type: ignore[attr-defined]
    text = ast.unparse(ast.fix_missing_locations(node.operand if change == "drop" else node))  # type: ignore[attr-defined]
    if change == "drop":
        _Replace(node, node.operand).visit(tree)  # type: ignore[attr-defined]
    return ast.fix_missing_locations(tree), node.lineno, f"{change}: {text}"  # type: ignore[attr-defined]


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module in a mutated tree instead of on disk."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, fullname: str, path: object, target: object = None) -> object:
        return importlib.util.spec_from_loader(fullname, self, origin=self.path) if fullname == self.name else None

    def exec_module(self, module: object) -> None:
        exec(compile(self.tree, self.path, "exec"), module.__dict__)


def survives(name: str, path: str, tree: ast.Module, tests: list[str]) -> bool:
    """Whether the tests pass on a mutant, in a child process."""
    child = os.fork()
    if child == 0:
        signal.alarm(TIMEOUT)
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.suppress(BaseException):
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            sys.meta_path.insert(0, _Finder(name, path, tree))
            import pytest

            options = ["-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "--no-header"]
            os._exit(int(pytest.main([*options, *tests])))
        os._exit(70)
    return os.waitpid(child, 0)[1] == 0


def main(modules: list[str], every: int) -> float:
    """Run the mutants; print survivors and counts; return the share killed."""
    for heavy in HEAVY:
        importlib.import_module(heavy)
    began, killed, total = time.perf_counter(), 0, 0
    for name in modules:
        path = str(Path(__file__).parents[1] / Path(*name.split(".")).with_suffix(".py"))
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
        if not survives(name, path, tree, QUICK):
            raise RuntimeError("the tests fail without any mutation")
        count, dead = len(list(points(tree))), 0
        chosen = range(0, count, every)
        for index in chosen:
            mutant, line, text = mutated(tree, index)
            if survives(name, path, mutant, QUICK) and survives(name, path, mutant, THOROUGH):
                print(f"survived: {name}:{line} {text}", flush=True)
            else:
                dead += 1
        print(f"{name}: {dead} of {len(chosen)} mutants killed, {time.perf_counter() - began:.0f} s", flush=True)
        killed, total = killed + dead, total + len(chosen)
    print(f"all: {killed} of {total} mutants killed, {killed / total:.1%}")
    return killed / total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", default=list(MODULES))
    parser.add_argument("--every", type=int, default=1, help="try every n-th place only")
    given = parser.parse_args()
    sys.exit(main(given.modules, given.every) < 0.9)
