"""Mutation testing of what every answer rests on: ``python -m tests.mutate`` (POSIX, since it forks).

Every comparison, operator, number and condition of the dual, the divergences, the certificate and the validation is
changed, one at a time; the tests must notice. Survivors are printed with their line, and those of ``EQUIVALENT`` with
the reason why no test can notice them. The sources on disk are never touched.

The tests are collected once, and once run as they are: which lines each of them executes is kept in a file. A mutant
lives in a child process forked from there, where its function gets the mutant's code; it is tried against the tests
that execute its function, those first that have killed most for the time they take. Outcomes are kept: what was tried
on a function that has not changed is not tried again, and ``--minutes`` does the work in pieces. What is no function's
code (a default, a constant of a module) is changed before the tests import it, in a process of its own.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import gc
import hashlib
import importlib
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, TextIO

from tests.equivalent_mutants import EQUIVALENT

ROOT = Path(__file__).parents[1]


def _tests(*names: str) -> list[str]:
    """Files of tests of the core, by name, from the root."""
    return [next((ROOT / "tests" / "reps_opt").rglob(f"test_{name}.py")).relative_to(ROOT).as_posix() for name in names]


MODULES = (
    "reps_opt.certify",
    "reps_opt.certificate",
    "reps_opt.program",
    "reps_opt.validation",
    "reps_opt.divergences.base",
)
POOL = [
    "tests/reps_opt/divergences",
    *_tests(
        "judge",
        "several_balls",
        "own_programs",
        "program",
        "distance",
        "conditional",
        "second_opinion",
        "sample_limits",
        "solution",
        "temperature",
        "samples",
        "bad_input",
        "reliability",
        "decimal_newton",
        "budgets",
        "steps",
        "segment",
    ),
    "tests/test_hard_rows.py",
    "tests/test_reported_inputs.py",
]
QUICK = _tests("program", "judge", "several_balls", "own_programs")
KEPT = 400
"""Tests that are kept for a line."""
TIMEOUT = 180
HEAVY = ("numpy", "scipy.sparse.linalg", "scipy.optimize", "scipy.special", "cvxpy", "pytest", "gymnasium", "sklearn")
OPTIONS = ["-q", "-p", "no:cacheprovider", "-o", "addopts=", "--no-header"]

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
            if isinstance(child, ast.AST) and not (_type_checking(child) or _alias(child) or _same_length(child)):
                yield from points(child)


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _same_length(node: ast.AST) -> bool:
    """Whether a node is ``strict=True``, which asserts something of a zip and decides nothing."""
    return isinstance(node, ast.keyword) and node.arg == "strict"


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


class Source:
    """A module's syntax tree, and which function each of its lines belongs to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = str(ROOT / Path(*name.split(".")).with_suffix(".py"))
        self.tree = ast.parse(Path(self.path).read_text(encoding="utf-8"))
        self.places: dict[int, tuple[str, int]] = {}
        self.bodies: dict[str, str] = {"": ""}
        self._walk(self.tree.body, "")

    def _walk(self, body: list[ast.stmt], within: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                self._walk(node.body, f"{within}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                place = within + node.name
                self.bodies[place] = hashlib.sha256(ast.unparse(node).encode()).hexdigest()[:12]
                for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                    self.places[line] = (place, line - node.lineno)

    def mutants(self) -> Iterator[tuple[str, int, ast.Module, str, tuple[str, int]]]:
        """Name, line, tree, state of its function, and place of every mutant; names stay when lines move."""
        seen: Counter[str] = Counter()
        for index in range(len(list(points(self.tree)))):
            tree, line, text = mutated(self.tree, index)
            place = self.places.get(line, ("", 0))
            label = f"{self.name}.{place[0]} {text}"
            seen[label] += 1
            name = label if seen[label] == 1 else f"{label} ({seen[label]})"
            yield name, line, tree, self.bodies[place[0]], place


class _Tracer:
    """A pytest plugin: the seconds of every test, and the lines of the modules that it executes."""

    def __init__(self, sources: list[Source], report: Path) -> None:
        self.sources, self.report = {source.path: source for source in sources}, report
        known = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {"seconds": {}, "lines": {}}
        self.seconds: dict[str, float] = known["seconds"]
        self.lines: dict[str, list[str]] = defaultdict(list, known["lines"])
        self.now: set[tuple[str, int]] = set()

    def _entered(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        return self._on_line if frame.f_code.co_filename in self.sources else None

    def _on_line(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        self.now.add((frame.f_code.co_filename, frame.f_lineno))
        return self._on_line

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.now, self.began = set(), time.perf_counter()
        sys.settrace(self._entered)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and report.passed:
            self.seconds[report.nodeid] = time.perf_counter() - self.began

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        sys.settrace(None)
        for path, line in self.now if nodeid in self.seconds else ():
            source = self.sources[path]
            if line in source.places:
                function, offset = source.places[line]
                self.lines[f"{source.name}:{function}:{offset}"].append(nodeid)

    def save(self) -> None:
        cheap = {line: sorted(tests, key=self.seconds.__getitem__)[:KEPT] for line, tests in self.lines.items()}
        self.report.write_text(json.dumps({"seconds": self.seconds, "lines": cheap}), encoding="utf-8")


class Tests:
    """A pytest plugin that tries mutants on the tests it has collected, in place of running these."""

    def __init__(self, sources: list[Source], report: Path, enough: float) -> None:
        self.sources, self.report, self.enough = sources, report, enough
        self.items: dict[str, Any] = {}
        self.kills: Counter[str] = Counter()
        self.work: Callable[[], None] = lambda: None
        self.pipe = -1

    def pytest_runtestloop(self, session: Any) -> bool:
        """Take the tests over."""
        self.items = {item.nodeid: item for item in session.items}
        known = json.loads(self.report.read_text(encoding="utf-8")) if self.report.exists() else {"seconds": {}}
        if unknown := [test for test in self.items if test not in known["seconds"]]:
            self._in_child(lambda: self._trace(unknown))
            known = json.loads(self.report.read_text(encoding="utf-8"))
        self.seconds: dict[str, float] = {k: v for k, v in known["seconds"].items() if k in self.items}
        self.lines: dict[str, list[str]] = known["lines"]
        self.functions = live_functions([source.name for source in self.sources])
        gc.freeze()
        self.work()
        return True

    def of(self, source: Source, place: tuple[str, int]) -> list[str]:
        """Tests that execute a function; for a line outside of any those of the module."""
        near = [k for k in self.lines if k.startswith(f"{source.name}:{place[0]}:" if place[0] else f"{source.name}:")]
        found = {test for line in near for test in self.lines[line] if test in self.seconds}
        return sorted(found, key=lambda test: -(self.kills[test] + 0.1) / (self.seconds[test] + 0.02))

    def judge(self, source: Source, tree: ast.Module, place: tuple[str, int]) -> str:
        """The test of its function that a mutant fails; empty where it passes them all, as far as the seconds go."""
        tests, left = [], self.enough
        for test in self.of(source, place):
            left -= self.seconds[test]
            if left > 0:
                tests.append(test)
        code = changed_code(source, tree, place[0])
        killer = self._afresh(source, tree, QUICK) if code is None else self._patched(source, code, tests)
        self.kills[killer] += bool(killer)
        return killer

    def _patched(self, source: Source, code: CodeType, tests: list[str]) -> str:
        def work() -> None:
            gc.disable()  # a collection would copy the whole heap, which is shared with the parent
            for function in self.functions[source.name, code.co_qualname]:
                function.__code__ = code
            self._run(tests)

        return self._in_child(work)

    def _afresh(self, source: Source, tree: ast.Module, tests: list[str]) -> str:
        """The same in a process that imports the mutant: slower, for what is no function's code."""

        def work() -> None:
            for name in [n for n in sys.modules if n.split(".")[0] in ("reps_opt", "policies", "envs", "tests")]:
                del sys.modules[name]
            sys.meta_path.insert(0, _Finder(source.name, source.path, tree))
            import pytest

            os._exit(int(pytest.main([*OPTIONS, "-x", *tests], plugins=[_FirstFailure(self.pipe)])))

        return self._in_child(work)

    def _in_child(self, work: Callable[[], None]) -> str:
        """What a child process says of its first failure; empty where there is none."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            self.pipe = write
            signal.alarm(TIMEOUT)
            with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.suppress(BaseException):
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
                work()
                os._exit(0)
            os._exit(70)
        os.close(write)
        with os.fdopen(read, encoding="utf-8") as pipe:
            failed = pipe.read()
        status = os.waitpid(child, 0)[1]
        return failed if failed or not status else "broken"

    def _run(self, tests: list[str]) -> None:
        for test in tests:
            item = self.items[test]
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)

    def _trace(self, tests: list[str]) -> None:
        """Run tests, in a child, and note what they execute beside what is known of others."""
        signal.alarm(0)
        self.pipe, tracer = -1, _Tracer(self.sources, self.report)
        self.items[tests[0]].config.pluginmanager.register(tracer)
        self._run(tests)
        tracer.save()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """The first failure of a mutant ends its child."""
        if report.failed and self.pipe >= 0:
            os.write(self.pipe, report.nodeid.encode())
            os._exit(1)


class _FirstFailure:
    """A pytest plugin that says which test fails."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            os.write(self.pipe, report.nodeid.encode())
            os._exit(1)


def changed_code(source: Source, tree: ast.Module, place: str) -> CodeType | None:
    """The code of a function that a mutant changes; None where it is no function's code that it changes."""
    codes = [_code_of(compile(t, source.path, "exec"), place) for t in (source.tree, tree)]
    return codes[1] if place and codes[0] != codes[1] else None


def _code_of(code: CodeType, place: str) -> CodeType | None:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_qualname == place:
                return inner
            if (found := _code_of(inner, place)) is not None:
                return found
    return None


def live_functions(modules: list[str]) -> dict[tuple[str, str], list[FunctionType]]:
    """The function objects of modules by module and name, whatever property or class holds them."""
    found: dict[tuple[str, str], list[FunctionType]] = defaultdict(list)
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__module__ in modules:
            found[thing.__module__, thing.__code__.co_qualname].append(thing)
    return found


def main(modules: list[str], every: int, folder: Path, minutes: float, enough: float) -> float:
    """Run the mutants; print survivors and counts; return the share killed or explained."""
    for heavy in HEAVY:
        importlib.import_module(heavy)
    import pytest

    folder.mkdir(parents=True, exist_ok=True)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    tests = Tests([Source(name) for name in MODULES], folder / "tests.json", enough)
    counts: Counter[str] = Counter()
    tests.work = lambda: counts.update(_try_all(tests, modules, every, folder / "results.json", minutes, out))
    pytest.main([*OPTIONS, "-m", "not slow", *POOL], plugins=[tests])
    print(f"all: {dict(counts)}", file=out, flush=True)
    return 1 - (counts["survived"] + counts["not tried"]) / max(counts.total(), 1)


def _try_all(tests: Tests, modules: list[str], every: int, results: Path, minutes: float, out: TextIO) -> Counter[str]:
    """What became of the mutants of each module."""
    known = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    tests.kills.update(killer for _, killer in known.values() if killer in tests.seconds)
    began, counts = time.perf_counter(), Counter[str]()
    for source in [source for source in tests.sources if source.name in modules]:
        own: Counter[str] = Counter()
        for name, line, tree, state, place in list(source.mutants())[::every]:
            if known.get(name, [None, ""])[0] != state:
                if time.perf_counter() - began > 60 * minutes:
                    own["not tried"] += 1
                    continue
                known[name] = [state, tests.judge(source, tree, place)]
                results.write_text(json.dumps(known, indent=0), encoding="utf-8")
            outcome = "killed" if known[name][1] else "explained" if name in EQUIVALENT else "survived"
            own[outcome] += 1
            if outcome != "killed":
                print(f"{outcome}: {source.path}:{line} {name}  {EQUIVALENT.get(name, '')}", file=out, flush=True)
        print(f"{source.name}: {dict(own)}, {time.perf_counter() - began:.0f} s", file=out, flush=True)
        counts += own
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", default=list(MODULES))
    parser.add_argument("--every", type=int, default=1, help="try every n-th place only")
    parser.add_argument("--folder", type=Path, default=ROOT / ".mutants", help="where tests and outcomes are kept")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long; go on another time")
    parser.add_argument("--seconds", type=float, default=60.0, help="tests that a mutant must survive")
    given = parser.parse_args()
    sys.exit(main(given.modules, given.every, given.folder, given.minutes, given.seconds) < 1)
