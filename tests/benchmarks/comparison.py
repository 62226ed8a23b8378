"""What every speed comparison says: the same work here and by a peer, its cost beside its accuracy, and the goal.

A part of the table is a module with ``rows(quick)``, which yields a :class:`Row` for each case and peer. A number
without the accuracy beside it does not count: a row whose answer is not accurate is behind, whatever it cost.
"""

from __future__ import annotations

import importlib.util
import math
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LEVEL = 1.1
"""Factor between what is reached and what was wanted, either way, that still counts as level."""

HEADS = ("work", "case", "here", "accuracy", "peer", "peer's", "its accuracy", "ratio", "goal", "verdict")


class Verdict(StrEnum):
    """How a row stands to its goal."""

    AHEAD = "ahead"
    LEVEL = "level"
    BEHIND = "behind"
    NONE = ""
    """There is no goal."""


class Cost(NamedTuple):
    """Median seconds of a call, wall and CPU, and the last value that it returned."""

    wall: float
    cpu: float
    value: Any


@dataclass(frozen=True)
class Goal:
    """A number that was to be at most, or at least, another."""

    what: str
    reached: float
    wanted: float
    least: bool = False

    @property
    def verdict(self) -> Verdict:
        """Ahead, level or behind, see :data:`LEVEL`."""
        if math.isnan(self.reached):
            return Verdict.NONE
        good, bad = (self.reached, self.wanted) if self.least else (self.wanted, self.reached)
        if good >= LEVEL * bad:
            return Verdict.AHEAD
        return Verdict.LEVEL if LEVEL * good >= bad else Verdict.BEHIND

    def __str__(self) -> str:
        return f"{self.what} {self.reached:.3g} ({'>=' if self.least else '<='} {self.wanted:g})"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    work, case : str
        What is done, and on what.
    size : int
        What the cost is drawn against.
    cost, peer_cost : float
        CPU seconds; NaN where nothing was measured.
    accuracy, peer_accuracy : str
    accurate : bool
        Whether the answer here is as accurate as the goal wants.
    peer : str
        Empty where nobody else does this.
    goals : tuple of Goal
    note : str
        For instance that a peer is not installed.
    """

    work: str
    case: str
    size: int
    cost: float
    accuracy: str
    accurate: bool = True
    peer: str = ""
    peer_cost: float = math.nan
    peer_accuracy: str = ""
    goals: tuple[Goal, ...] = ()
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times as long the peer takes."""
        return self.peer_cost / self.cost if self.cost > 0 else math.nan

    @property
    def verdict(self) -> Verdict:
        """The worst of the goals' verdicts."""
        found = [goal.verdict for goal in self.goals]
        if not self.accurate:
            return Verdict.BEHIND
        return next((v for v in (Verdict.BEHIND, Verdict.LEVEL, Verdict.AHEAD) if v in found), Verdict.NONE)

    def cells(self) -> tuple[str, ...]:
        """The line's cells, see :data:`HEADS`."""
        goals = "; ".join(str(goal) for goal in self.goals)
        ratio = "" if math.isnan(self.ratio) else f"{self.ratio:.3g}"
        accuracy = self.accuracy if self.accurate else f"{self.accuracy} NOT ACCURATE"
        peer = self.peer or self.note
        there = "" if math.isnan(self.peer_cost) else seconds(self.peer_cost)
        here = seconds(self.cost)
        return (self.work, self.case, here, accuracy, peer, there, self.peer_accuracy, ratio, goals, self.verdict)


def seconds(value: float) -> str:
    """A time as a person says it."""
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return "" if math.isnan(value) else f"{value / 1e-9:.3g} ns"


def timed(call: Callable[[], Any], repeats: int = 1, warm: bool = False) -> Cost:
    """Median over repeats, after a first call to warm up where wanted."""
    return interleaved([call], repeats, warm)[0]


def interleaved(calls: Sequence[Callable[[], Any]], repeats: int, warm: bool = True) -> list[Cost]:
    """Several calls in turn, so that what else the machine does falls on all of them."""
    values = [call() if warm else None for call in calls]
    spent = np.zeros((repeats, len(calls), 2))
    for i in range(repeats):
        for j, call in enumerate(calls):
            began = time.perf_counter(), time.process_time()
            values[j] = call()
            spent[i, j] = time.perf_counter() - began[0], time.process_time() - began[1]
    medians = np.median(spent, axis=0)
    return [Cost(float(wall), float(cpu), value) for (wall, cpu), value in zip(medians, values, strict=True)]


def resident_mib() -> float:
    """Peak resident set of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_child(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns in a process of its own, and by how many MiB the peak resident set rose there."""

    def run(queue: Any) -> None:
        before = resident_mib()
        try:
            queue.put((call(), resident_mib() - before))
        except BaseException as error:
            queue.put((RuntimeError(f"{type(error).__name__}: {error}"), math.nan))
            raise

    context = multiprocessing.get_context("fork")
    queue: Any = context.Queue()
    child = context.Process(target=run, args=(queue,))
    child.start()
    value, rise = queue.get()
    child.join()
    if isinstance(value, RuntimeError):
        raise value
    return value, rise


def installed(module: str) -> bool:
    """Whether a peer can be imported."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def missing(name: str) -> str:
    """The note of a row whose peer is not there."""
    return f"{name} is not installed"


def versions(*names: str) -> str:
    """Names with their versions, those that are installed."""
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def line(cells: Iterable[str]) -> str:
    """One line of a markdown table."""
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def show(rows: Iterable[Row]) -> list[Row]:
    """Print a table, each row as soon as it is measured, and return the rows."""
    print(line(HEADS))
    print(line("---" for _ in HEADS))
    done = []
    for row in rows:
        print(line(row.cells()), flush=True)
        done.append(row)
    return done


def markdown(rows: Sequence[Row]) -> str:
    """A table for each kind of work, under its name; columns in which nothing stands are left out."""
    text = []
    for kind, group in groupby(rows, key=lambda row: row.work.partition(",")[0]):
        cells = [row.cells() for row in group]
        filled = [i for i in range(len(HEADS)) if any(line_[i] for line_ in cells)]
        lines = [HEADS, ["---"] * len(HEADS), *cells]
        text.append(f"## {kind[:1].upper()}{kind[1:]}\n")
        text += [line(line_[i] for i in filled) for line_ in lines] + [""]
    return "\n".join(text)


def summary(rows: Sequence[Row]) -> str:
    """What is ahead of its goal, level with it and behind it, a line each."""
    lines = []
    for verdict in (Verdict.AHEAD, Verdict.LEVEL, Verdict.BEHIND):
        named = [row for row in rows if row.verdict is verdict]
        lines.append(f"{verdict}: {len(named)} rows")
        lines += [f"  {row.work}, {row.case}{f', beside {row.peer}' if row.peer else ''}" for row in named]
    lines.append(f"without a goal: {sum(row.verdict is Verdict.NONE for row in rows)} rows")
    return "\n".join(lines)


def growth(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Exponent of the cost in the size, by least squares in logarithms; NaN of fewer than two sizes."""
    if len(sizes) < 2:
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def draw(rows: Sequence[Row], path: Path) -> None:
    """Log-log figure of cost against size: a panel for every kind of work with two sizes or more."""
    import matplotlib.pyplot as plt

    works: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        lines = works.setdefault(row.work, {})
        lines.setdefault("here", {})[row.size] = row.cost
        if not math.isnan(row.peer_cost):
            lines.setdefault(row.peer, {})[row.size] = row.peer_cost
    drawn = {work: lines for work, lines in works.items() if len(lines["here"]) > 1}
    columns = min(3, max(1, len(drawn)))
    n_rows = max(1, math.ceil(len(drawn) / columns))
    figure, axes = plt.subplots(
        n_rows, columns, figsize=(4.5 * columns, 3.4 * n_rows), layout="constrained", squeeze=False
    )
    for axis in axes.flat[len(drawn) :]:
        axis.axis("off")
    for axis, (work, lines) in zip(axes.flat, drawn.items(), strict=False):
        for name, points in lines.items():
            sizes = sorted(points)
            style = {"color": "black", "linewidth": 2.0} if name == "here" else {"linestyle": "--"}
            axis.loglog(sizes, [points[size] for size in sizes], marker="o", label=name, markersize=4, **style)
        axis.set(title=work, xlabel="size", ylabel="CPU seconds")
        axis.legend(fontsize="x-small")
    figure.savefig(path, dpi=120)
    plt.close(figure)
