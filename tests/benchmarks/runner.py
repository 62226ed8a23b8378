"""The whole table of speed comparisons, one module after the other, as a page and a figure."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from tests.benchmarks import releases
from tests.benchmarks.comparison import HEADS, Row, draw, line, markdown, summary, versions

PARTS = {
    "small": "small",
    "steps": "steps",
    "exact": "exact_reps",
    "mdp": "plain_mdp",
    "samples": "sample_dual",
    "gp": "gp_policies",
    "growth": "growth",
    "threads": "threads",
    "disk": "out_of_core",
    "swing-up": "swing_up",
    "envs": "env_steps",
    "import": "imports",
}
"""Parts of the table by name, and the module of each."""

NO_OPTIONS: Mapping[str, Mapping[str, Any]] = {}

FEW_PEERS = {"exact": {"largest_conic": 2_000}, "samples": {"largest_beside": 10**6}}
"""What peers are given at most where there should be few: states, entries of features."""

PACKAGES = ("numpy", "scipy", "cvxpy", "clarabel", "scs", "quantecon", "scikit-learn", "torch", "gpytorch")
PEERS = ("sb3-contrib", "mushroom-rl", "gymnasium", "dask")


def rows(parts: Sequence[str], quick: bool, options: Mapping[str, Mapping[str, Any]] = NO_OPTIONS) -> Iterator[Row]:
    """The rows of some parts; one that breaks down is a row that is behind, and the rest go on."""
    for part in parts:
        try:
            yield from importlib.import_module(f"tests.benchmarks.{PARTS[part]}").rows(quick, **options.get(part, {}))
        except Exception as error:
            note = f"{type(error).__name__}: {error}"
            yield Row(part, "broke down", 1, float("nan"), note, accurate=False)


def beside(other: Path | None, quick: bool) -> Iterator[str]:
    """The lines of a table beside another checkout; none without one."""
    if other is None:
        return
    yield from (line(releases.HEADS), line("---" for _ in releases.HEADS))
    cases = [*releases.CASES][:: 10 if quick else 1]
    for found in releases.compare(other, cases, 2 if quick else releases.ROUNDS):
        yield line(found.cells())


def page(found: Sequence[Row], quick: bool, before: Sequence[str] = ()) -> str:
    """Versions and load, a table for each kind of work, what is ahead, level and behind, and another release."""
    machine = f"Python {platform.python_version()}, {versions(*PACKAGES, *PEERS)}; {os.cpu_count()} cores"
    size = "quick sizes, which have no goals" if quick else "CPU seconds of one thread, side by side in one run"
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    told = f"Written by `python -m tests.benchmarks` on {date.today()}, load averages {load} at the end: {size}."
    sections = [
        "# Speed, the tables",
        f"{told}\n{machine}.",
        markdown(found),
        f"## Summary\n\n```\n{summary(found)}\n```",
    ]
    if before:
        sections.append("\n".join(["## Beside the release before, in turns\n", *before]))
    return "\n\n".join(sections) + "\n"


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the parts asked for, print rows as they come, and write page and figure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: a minute instead of half an hour")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts of the table")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table as markdown")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw cost against size, log-log")
    parser.add_argument("--growth", type=Path, metavar="FILE", help="draw time and memory of the part of that name")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="at the end, another release in turns")
    parser.add_argument("--few-peers", action="store_true", help="leave out peers that take minutes")
    chosen = parser.parse_args(arguments)
    print(line(HEADS), line("---" for _ in HEADS), sep="\n", flush=True)
    found = []
    options: dict[str, Mapping[str, Any]] = {"growth": {"figure": chosen.growth}}
    if chosen.few_peers:
        options |= FEW_PEERS
    for row in rows(chosen.only, chosen.quick, options):
        print(line(row.cells()), flush=True)
        found.append(row)
        if chosen.table:  # anew after every row, so that a run which is stopped leaves what it has
            chosen.table.write_text(page(found, chosen.quick), encoding="utf-8")
    print(f"\n{summary(found)}\n")
    lines: list[str] = []
    for told in beside(chosen.before, chosen.quick):
        print(told, flush=True)
        lines.append(told)
        if chosen.table:
            chosen.table.write_text(page(found, chosen.quick, lines), encoding="utf-8")
    if chosen.figure:
        draw(found, chosen.figure)
    return found
