"""Which numbers decide anything: ``python -m pytest -p tests.deciding tests/reps_opt`` (slower by a seventh).

Every number that a module of the packages has a name for is replaced by one that carries its half and its double along,
through arithmetic and arrays. A comparison made with it is made thrice, and counted where the three do not agree. A
number whose comparisons always agreed decides nothing: no test can tell it from its half or its double. What is turned
into a plain number on the way (by a library, by ``float``) is not followed; such numbers are listed apart.

Of ``1 - 1e-5`` the distance from one is halved and doubled. A test that asks for the very type of a default may fail.
"""

from __future__ import annotations

import ast
import builtins
import importlib.abc
import importlib.machinery
import operator
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

NAME = re.compile(r"_?[A-Z][A-Z_0-9]+")
PACKAGES = ("reps_opt", "policies")
COMPARED: dict[str, list[int]] = defaultdict(lambda: [0, 0])
"""How often each number was compared, and how often the outcome hung on it."""


def followed(value: Any, name: str) -> Any:
    """A number, or a tuple of numbers, with half and double of it; anything else as it is."""
    if isinstance(value, tuple) and value and all(type(item) in (int, float) for item in value):
        return tuple(followed(item, name) for item in value)
    if type(value) not in (int, float):
        return value
    COMPARED[name]
    if isinstance(value, int):
        return FollowedInt(value, max(1, value // 2), 2 * value, frozenset([name]))
    low, high = (1 - (1 - value) / 2, 1 - 2 * (1 - value)) if 0.9 < value < 1 else (value / 2, value * 2)
    return FollowedFloat(value, low, high, frozenset([name]))


def _plain(x: Any) -> Any:
    return x.plain() if isinstance(x, Followed) else x


def thrice(function: Callable[..., Any], operands: Sequence[Any]) -> Any:
    """The function of the numbers, their halves and their doubles; a comparison of these is counted."""
    names = frozenset().union(*(x.names for x in operands if isinstance(x, Followed)))
    found = function(*map(_plain, operands))
    if found is NotImplemented:
        return found
    try:
        with np.errstate(all="ignore"):
            low, high = (
                function(*(getattr(x, side, x) if isinstance(x, Followed) else x for x in operands))
                for side in ("low", "high")
            )
    except (ArithmeticError, ValueError, TypeError):
        return found
    if np.asarray(found).dtype == bool:
        for name in names:
            COMPARED[name][0] += 1
            COMPARED[name][1] += not (np.array_equal(found, low) and np.array_equal(found, high))
        return found
    if isinstance(found, np.ndarray) and found.ndim:
        array = found.view(FollowedArray)
        array.low, array.high, array.names = low, high, names
        return array
    if not isinstance(found, int | float | np.integer | np.floating):
        return found
    kind = FollowedInt if isinstance(found, int | np.integer) else FollowedFloat
    return kind(found, low, high, names)


class Followed:
    """Half, double and origin of a number or an array."""

    low: Any = None
    high: Any = None
    names: frozenset[str] = frozenset()

    def plain(self) -> Any:
        raise NotImplementedError

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if (
            method == "__call__"
            and options.get("out") is None
            and not any(isinstance(v, Followed) for v in options.values())
        ):
            known = [_plain(x) if isinstance(x, Followed) and x.low is None else x for x in inputs]
            return thrice(lambda *operands: ufunc(*operands, **options), known)
        plain = {k: tuple(map(_plain, v)) if isinstance(v, tuple) else _plain(v) for k, v in options.items()}
        return getattr(ufunc, method)(*map(_plain, inputs), **plain)


class FollowedArray(Followed, np.ndarray):
    def plain(self) -> Any:
        return self.view(np.ndarray)

    def __array_finalize__(self, parent: Any) -> None:
        pass  # a part of a followed array is followed no further

    def __reduce__(self) -> Any:
        return self.plain().__reduce__()


def _number(base: type) -> type:
    """A number of this type that is followed."""

    def new(cls: type, value: Any, low: Any, high: Any, names: frozenset[str]) -> Any:
        made = base.__new__(cls, value)
        made.low, made.high, made.names = low, high, names
        return made

    def binary(name: str) -> Callable[[Any, Any], Any]:
        function = getattr(operator, name)
        return lambda a, b: (
            thrice(function, (a, b)) if isinstance(b, int | float | np.generic | np.ndarray) else NotImplemented
        )

    def reflected(name: str) -> Callable[[Any, Any], Any]:
        function = getattr(operator, name)
        return lambda a, b: (
            thrice(function, (b, a)) if isinstance(b, int | float | np.generic | np.ndarray) else NotImplemented
        )

    arithmetic = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
    methods: dict[str, Any] = {
        f"__{name}__": binary(name) for name in (*arithmetic, "lt", "le", "gt", "ge", "eq", "ne")
    }
    methods |= {f"__r{name}__": reflected(name) for name in arithmetic}
    methods |= {
        "__new__": new,
        "__neg__": lambda a: thrice(operator.neg, (a,)),
        "__abs__": lambda a: thrice(abs, (a,)),
        "__hash__": lambda a: hash(a.plain()),
        "__reduce__": lambda a: (base, (a.plain(),)),
        "__deepcopy__": lambda a, memo: a,
        "__array_priority__": 1000,
        "plain": lambda a: base.__pos__(a),
    }
    return type(f"Followed{base.__name__.title()}", (Followed, base), methods)


FollowedFloat, FollowedInt = _number(float), _number(int)


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with its named numbers followed."""

    def get_code(self, fullname: str) -> Any:
        tree = ast.parse(self.get_data(self.path))
        for node in tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and NAME.fullmatch(target.id) and getattr(node, "value", None) is not None:
                label = ast.Constant(f"{fullname}.{target.id}")
                call = ast.Call(ast.Name("__followed__", ast.Load()), [node.value, label], [])
                node.value = ast.copy_location(call, node.value)
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        if fullname.split(".")[0] not in PACKAGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


def pytest_configure() -> None:
    builtins.__followed__ = followed  # type: ignore[attr-defined]
    sys.meta_path.insert(0, _Finder())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for title, chosen in (
        ("compared, and never decided", lambda total, decided: total and not decided),
        ("never seen in a comparison", lambda total, decided: not total),
    ):
        names = sorted(name for name, counts in COMPARED.items() if chosen(*counts))
        terminalreporter.section(f"{len(names)} of {len(COMPARED)} numbers: {title}")
        for name in names:
            terminalreporter.write_line(f"{name} ({COMPARED[name][0]})")
