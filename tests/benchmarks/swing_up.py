"""One trial of the swing-up with Gaussian-process policies, roll-outs and evaluation included."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.comparison import Goal, Row, show, timed

EXAMPLES, EXAMPLE = Path(__file__).parents[2] / "examples", "swing_up_gp"
N_ITERATIONS, N_EVALUATED = 20, 100
LONGEST, PUBLISHED = 60.0, 27.0  # CPU seconds; cost a step of NP-REPS after 20 iterations (van Hoof et al. 2015)


def rows(quick: bool = False) -> Iterator[Row]:
    """The one row there is, by the example's own ``main``."""
    n_iterations, n_evaluated = (1, 2) if quick else (N_ITERATIONS, N_EVALUATED)
    case = f"{n_iterations} iterations, {n_evaluated} evaluation roll-outs"
    sys.path.insert(0, str(EXAMPLES))  # where a script finds what examples share
    try:
        main = importlib.import_module(EXAMPLE).main
    finally:
        sys.path.remove(str(EXAMPLES))
    with contextlib.redirect_stdout(io.StringIO()):
        ours = timed(lambda: main(1, n_iterations, n_evaluated))
    reward = float(ours.value[0].curve[-1])
    goals = (Goal("CPU s", ours.cpu, LONGEST), Goal("cost a step", -reward, PUBLISHED))
    yield Row("swing-up, one trial", case, 1, ours.cpu, f"reward a step {reward:.1f}", goals=() if quick else goals)


if __name__ == "__main__":
    show(rows())
