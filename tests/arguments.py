"""What can be wrong with an argument, and what an entry must say to it; what may differ and must not matter.

A table lists every public entry once: how to call it, good arguments, and the kind of each. Every kind knows the ways
to spoil a good value, and what the error must be: it names the argument, and the index where there is one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import numpy as np

Spoiled = tuple[str, Any, tuple[type[Exception], ...], str]
"""What was done, the value, the errors allowed, and a pattern of the message; ``{}`` stands for the name."""

VALUE, EITHER = (ValueError,), (ValueError, TypeError)


@dataclass(frozen=True)
class Argument:
    """A good value of an argument, the ways to spoil it, and its name in messages where that is not its own."""

    good: Any
    spoiled: tuple[Spoiled, ...]
    shown: str = ""

    def called(self, shown: str) -> Argument:
        """The same, under another name in messages."""
        return replace(self, shown=shown)


def kind(ways: Callable[[Any], Iterator[Spoiled]]) -> Callable[[Any], Argument]:
    """Make a generator of ways to spoil a good value the kind of an argument."""
    return wraps(ways)(lambda good: Argument(good, tuple(ways(good))))


def _with(array: np.ndarray, index: int, value: float) -> np.ndarray:
    changed = np.array(array, dtype=float)
    changed.flat[index] = value
    return changed


@kind
def numbers(good: Any) -> Iterator[Spoiled]:
    """An array of finite numbers."""
    array = np.asarray(good, dtype=float)
    place = r"{}\[[\d, ]+\]" if array.ndim else "{}"
    yield "nan", _with(array, -1, math.nan), VALUE, f"{place} is nan"
    yield "infinite", _with(array, 0, math.inf), VALUE, f"{place} is inf"
    yield "another axis", array[None], VALUE, "{}"
    yield "objects", array.astype(object), EITHER, "{}"
    yield "complex", array.astype(complex), EITHER, "{}"
    yield "text", array.astype(str), EITHER, "{}"


@kind
def rows(good: Any) -> Iterator[Spoiled]:
    """An array of finite numbers, a row a sample: its length must be that of the others."""
    yield from numbers(good).spoiled
    yield "too short", np.asarray(good, dtype=float)[:-1], VALUE, ""


@kind
def non_negative(good: Any) -> Iterator[Spoiled]:
    """An array of finite numbers >= 0."""
    yield from numbers(good).spoiled
    yield "negative", _with(good, -1, -0.1), VALUE, r"{}\[[\d, ]+\] is -0.1"


@kind
def weights(good: Any) -> Iterator[Spoiled]:
    """Numbers >= 0, not all zero."""
    yield from non_negative(good).spoiled
    yield "all zero", np.zeros_like(np.asarray(good, dtype=float)), VALUE, "{} (sums? to|is) zero"


@kind
def distributions(good: Any) -> Iterator[Spoiled]:
    """Rows on the simplex."""
    yield from non_negative(good).spoiled
    yield "sum 1.1", 1.1 * np.asarray(good, dtype=float), VALUE, r"{}.*sums? to.*1\.1"


@kind
def transitions(good: Any) -> Iterator[Spoiled]:
    """Rows on the simplex, whose errors name state and action."""
    yield from numbers(good).spoiled
    negative = np.array(good, dtype=float)
    negative[1, 0, :2] = [1.5, -0.5]
    yield "negative", negative, VALUE, "{}.*negative probability -0.5 at state 1, action 0"
    yield "sum 1.1", _with(good, -1, np.asarray(good).flat[-1] + 0.1), VALUE, "{}.*state 1, action 1 sums to 1.1"


def _scalar(bad: tuple[float, ...]) -> Iterator[Spoiled]:
    for value in (*bad, math.nan):
        yield f"{value:g}", value, VALUE, f"{{}} must be .*, got {value:g}"
    for value in ("0.1", True, [0.1], 1j):
        yield repr(value), value, EITHER, "{}"


@kind
def number(good: Any) -> Iterator[Spoiled]:
    """A finite number."""
    yield from _scalar((math.inf, -math.inf))


@kind
def radius(good: Any) -> Iterator[Spoiled]:
    """A number >= 0, perhaps infinite."""
    yield from _scalar((-0.1, -math.inf))


@kind
def finite_radius(good: Any) -> Iterator[Spoiled]:
    """A finite number >= 0."""
    yield from _scalar((-0.1, math.inf))


@kind
def positive(good: Any) -> Iterator[Spoiled]:
    """A finite number > 0."""
    yield from _scalar((0.0, -0.1, math.inf))


@kind
def share(good: Any) -> Iterator[Spoiled]:
    """A number in (0, 1]."""
    yield from _scalar((0.0, -0.1, 1.1, math.inf))


@kind
def fraction(good: Any) -> Iterator[Spoiled]:
    """A number in [0, 1]."""
    yield from _scalar((-0.1, 1.1, math.inf))


@kind
def count(good: Any) -> Iterator[Spoiled]:
    """An integer >= 1."""
    for value in (0, -1):
        yield f"{value}", value, VALUE, f"{{}} must be .*, got {value}"
    for value in (1.5, "2", True, [2], math.nan):
        yield repr(value), value, EITHER, "{}"


@kind
def choice(good: Any) -> Iterator[Spoiled]:
    """One of a few words."""
    yield "unknown", "neither", VALUE, "{} must be .*neither"


@dataclass(frozen=True)
class Entry:
    """One public entry: how to call it with keyword arguments, as far as bad input must have been noticed.

    ``outcome`` makes of the call the numbers that must not depend on the layout of the arguments, where there are any.
    """

    name: str
    call: Callable[..., Any]
    outcome: Callable[[Any], Any] | None
    arguments: Mapping[str, Argument]

    @property
    def good(self) -> dict[str, Any]:
        """Arguments that work."""
        return {name: argument.good for name, argument in self.arguments.items()}

    @property
    def arrays(self) -> list[str]:
        """Arguments that are arrays of floats."""
        return [name for name, good in self.good.items() if isinstance(good, np.ndarray | list)]


def entry(name: str, call: Callable[..., Any], outcome: Callable[[Any], Any] | None = None, **kinds: Argument) -> Entry:
    """A line of a table of entries."""
    return Entry(name, call, outcome, kinds)


@dataclass(frozen=True)
class BadArgument:
    """A line of the expanded table: one argument of one entry, spoiled in one way."""

    entry: Entry
    argument: str
    label: str
    value: Any
    errors: tuple[type[Exception], ...]
    message: str

    def __str__(self) -> str:
        return f"{self.entry.name}-{self.argument}-{self.label}"


def bad_arguments(table: list[Entry]) -> list[BadArgument]:
    """Every way to spoil every argument of every entry."""
    return [
        BadArgument(each, name, label, value, errors, message.replace("{}", re.escape(argument.shown or name)))
        for each in table
        for name, argument in each.arguments.items()
        for label, value, errors, message in argument.spoiled
    ]


LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "float32": lambda a: a.astype(np.float32),
    "Fortran order": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed twice": lambda a: a[::-1].copy()[::-1],
    "list": lambda a: a.tolist(),
}
"""Other ways to write the same numbers down."""


def frozen(array: np.ndarray) -> np.ndarray:
    """A read-only copy, so that whoever writes to it is caught."""
    copy = np.array(array, dtype=float)
    copy.flags.writeable = False
    return copy
