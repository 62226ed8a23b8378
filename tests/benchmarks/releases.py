"""This checkout beside another one, case by case in turn: is anything slower than it was?

git worktree add ../before v0.2.0
python -m tests.benchmarks.releases ../before

Each has a process of its own on one thread; they are asked for the same case in turn, so that what else the machine
does falls on both. Times are CPU seconds; the ratio that counts is that of the minima, which noise moves least.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import typer

from tests.benchmarks.cases import CASES
from tests.benchmarks.comparison import LEVEL, line, seconds

HERE = Path(__file__).parents[2]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
ROUNDS, SLOW_ROUNDS, SLOW = 15, 3, 2.0
"""Turns that each of both takes, and of what takes longer than so many seconds."""
HEADS = ("case", "now", "before", "ratio of minima", "of medians", "answer now", "before", "slower")


class Compared(NamedTuple):
    """Least and median CPU seconds of each turn (r, 2) of both, and what is known of their answers."""

    case: str
    now: np.ndarray
    before: np.ndarray
    answers: tuple[str, str]

    @property
    def ratio(self) -> float:
        """Minimum now over minimum before."""
        return float(self.now.min() / self.before.min())

    @property
    def slower(self) -> bool:
        """By more than a tenth; so is what broke down."""
        return not self.ratio <= LEVEL

    def cells(self) -> tuple[str, ...]:
        """The line's cells, see :data:`HEADS`."""
        medians = float(np.median(self.now[:, 1]) / np.median(self.before[:, 1]))
        mark = "SLOWER" if self.slower else ""
        now, before = seconds(float(self.now.min())), seconds(float(self.before.min()))
        return (self.case, now, before, f"{self.ratio:.2f}", f"{medians:.2f}", *self.answers, mark)


class Served:
    """A process that times cases of one checkout."""

    def __init__(self, checkout: Path) -> None:
        command = [sys.executable, "-P", str(Path(__file__).with_name("cases.py"))]
        clean = os.environ | ONE_THREAD | {"PYTHONPATH": str(checkout.resolve())}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=clean, stdin=pipe, stdout=pipe, text=True, cwd=checkout)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *raised: object) -> None:
        self.process.kill()
        self.process.communicate()

    def measure(self, case: str) -> tuple[float, float, str]:
        """Least and median CPU seconds of a case in one turn, and what is known of its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(case + "\n")
        self.process.stdin.flush()
        told = self.process.stdout.readline()
        if not told:
            raise RuntimeError(f"{case!r} broke down, see above")
        least, median, answer = json.loads(told)
        return least, median, answer


def compare(other: Path, cases: Sequence[str], rounds: int = ROUNDS) -> Iterator[Compared]:
    """Each case in turns; what takes seconds in a few rounds only."""
    with Served(HERE) as mine, Served(other) as theirs:
        for case in cases:
            found: list[Any] = []
            while len(found) < (rounds if not found or found[0][0][0] < SLOW else min(rounds, SLOW_ROUNDS)):
                turns = [(i, (mine, theirs)[i].measure(case)) for i in ((0, 1) if len(found) % 2 else (1, 0))]
                found.append([told for _, told in sorted(turns)])
            times = np.array([[told[:2] for told in both] for both in found])
            now, before = (told[2] for told in found[-1])
            yield Compared(case, times[:, 0], times[:, 1], (now, before))


def main(other: Path, only: list[str] | None = None, rounds: int = ROUNDS, table: Path | None = None) -> None:
    """Compare with OTHER, a checkout; --only keeps cases whose name contains a word, --table writes the lines too."""
    cases = [name for name in CASES if not only or any(word in name for word in only)]
    lines, slower = [line(HEADS), line("---" for _ in HEADS)], []
    print(*lines, sep="\n", flush=True)
    for found in compare(other, cases, rounds):
        lines.append(line(found.cells()))
        slower += [found.case] if found.slower else []
        print(lines[-1], flush=True)
        if table:
            table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"slower by more than a tenth: {', '.join(slower) or 'none'} (of {len(cases)})")


if __name__ == "__main__":
    typer.run(main)
