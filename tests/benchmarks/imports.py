"""What an import costs, in a fresh interpreter, beside the libraries this one could have pulled in."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks.comparison import Goal, Row, installed, missing, show

LONGEST = 0.3
PEERS = ("cvxpy", "sklearn", "torch")


def cost(module: str, repeats: int) -> float:
    """CPU seconds of ``import module``: the least of several, since nothing makes it quicker than it is."""
    code = f"import time; start = time.process_time(); import {module}; print(time.process_time() - start)"
    run = [sys.executable, "-W", "ignore", "-c", code]
    times = [subprocess.run(run, check=True, capture_output=True, text=True).stdout for _ in range(repeats)]
    return min(map(float, times))


def rows(quick: bool = False) -> Iterator[Row]:
    """A row a library."""
    ours = cost("reps_opt", 1 if quick else 5)
    goals = () if quick else (Goal("CPU s", ours, LONGEST),)
    yield Row("import reps_opt", "fresh interpreter", 1, ours, "", goals=goals)
    for module in PEERS[:1] if quick else PEERS:
        there = installed(module)
        theirs = cost(module, 1 if quick else 3) if there else math.nan
        note = "" if there else missing(module)
        yield Row(
            "import reps_opt", "fresh interpreter", 1, ours, "", peer=f"import {module}", peer_cost=theirs, note=note
        )


if __name__ == "__main__":
    show(rows())
