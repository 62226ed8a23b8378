"""How time and memory grow with states and with samples, beside one pass over the data.

Each size is measured in a process of its own, whose peak memory over what it began with is the work's.

OMP_NUM_THREADS=1 PYTHONPATH=. python -m tests.benchmarks.growth --figure growth.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import envs
from reps_opt import MDP, REPS, SampleREPS, solve
from tests.benchmarks.comparison import Row, in_child, show, timed

STATES, QUICK_STATES = (100, 1_000, 10_000, 100_000, 1_000_000), (100, 400)
SAMPLES, QUICK_SAMPLES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000), (1_000, 4_000)
FEATURES, EPSILON = 10, 0.5
WORKS = ("exact REPS", "optimal policy", "sample dual")


class Point(NamedTuple):
    """One size of one kind of work."""

    work: str
    size: int
    seconds: float
    one_pass: float
    mib: float
    data_mib: float
    accuracy: str
    accurate: bool


def _grid(n_states: int) -> MDP:
    side = round(n_states**0.5)
    mdp = envs.gridworld((side, side), slip=0.2, gamma=0.95)
    rewards = np.random.default_rng(0).uniform(size=(mdp.n_states, 1)).repeat(4, axis=1)
    return MDP(mdp.transitions, rewards, 0.95)


def _on_grid(work: str, n_states: int) -> Point:
    """Exact REPS or the optimal policy; a pass is one product with the transitions."""
    mdp = _grid(n_states)
    q, values = mdp.occupancy(mdp.uniform_policy()), np.ones(mdp.n_states)
    run: Callable[[], Any] = (lambda: solve(REPS(mdp, q, EPSILON))) if work == WORKS[0] else mdp.solve_optimal
    P = mdp.transitions
    data = (P.data.nbytes + P.indices.nbytes + P.indptr.nbytes) / 2**20
    return _point(work, mdp.n_states, run, lambda: P @ values, data)


def _on_samples(work: str, n: int) -> Point:
    """The sample dual; a pass is one product with the features."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, FEATURES))
    rewards, theta = X[:, 0] + rng.normal(size=n), np.ones(FEATURES)
    run = lambda: solve(SampleREPS(rewards, X, epsilon=EPSILON))  # noqa: E731
    return _point(work, n, run, lambda: X @ theta, X.nbytes / 2**20)


def _point(work: str, size: int, run: Callable[[], Any], one_pass: Callable[[], Any], data: float) -> Point:
    (cost, check), mib = in_child(lambda: _measured(run, size))
    seconds = timed(one_pass, 5, warm=True).cpu
    return Point(work, size, cost, seconds, max(mib, 0.0), data, *check)


def _measured(run: Callable[[], Any], size: int) -> tuple[float, tuple[str, bool]]:
    cost = timed(run, 3 if size < 100_000 else 1, warm=size < 100_000)
    if not hasattr(cost.value, "certificate"):
        return cost.cpu, (f"residual {cost.value.residual:.0e}", cost.value.residual <= 1e-9)
    check = cost.value.certificate
    return cost.cpu, (f"gap {abs(check.gap):.0e}", str(cost.value.status) == "certified")


def points(quick: bool = False) -> Iterator[Point]:
    """Every work at every size."""
    for work in WORKS[:2]:
        for n_states in QUICK_STATES if quick else STATES:
            yield _on_grid(work, n_states)
    for n in QUICK_SAMPLES if quick else SAMPLES:
        yield _on_samples(WORKS[2], n)


def as_row(point: Point) -> Row:
    """A point as a line of the table: the limit stands where the peer would, its memory in the case."""
    case = f"{point.size:,}, {point.mib:.0f} MiB over data of {point.data_mib:.3g}"
    limit = ("one pass over the data", point.one_pass)
    return Row(f"growth, {point.work}", case, point.size, point.seconds, point.accuracy, point.accurate, *limit)


def rows(quick: bool = False, figure: Path | None = None) -> Iterator[Row]:
    """A row a size, and at the end the figure."""
    found = []
    for point in points(quick):
        found.append(point)
        yield as_row(point)
    if figure:
        draw(found, figure)


def draw(found: Sequence[Point], path: Path) -> None:
    """Time above and memory below, a column for states and one for samples; the limit is one pass, or the data."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9.5, 7), layout="constrained", sharex="col")
    for work, colour, column in zip(WORKS, ("C0", "C1", "C2"), (0, 0, 1), strict=True):
        mine = [point for point in found if point.work == work]
        if not mine:
            continue
        sizes = [point.size for point in mine]
        style = {"color": colour, "marker": "o", "markersize": 4}
        axes[0, column].loglog(sizes, [point.seconds for point in mine], label=work, **style)
        axes[1, column].loglog(
            sizes, [max(point.mib, 0.1) for point in mine], label=f"{work}, beside its data", **style
        )
        if work == WORKS[1]:
            continue
        limit = {"color": "black", "linestyle": "--"}
        axes[0, column].loglog(sizes, [point.one_pass for point in mine], label="one pass over the data", **limit)
        axes[1, column].loglog(sizes, [point.data_mib for point in mine], label="the data", **limit)
    axes[0, 0].set(ylabel="CPU seconds, one thread", title="states of a slippery grid, gamma .95")
    axes[0, 1].set(title=f"samples of {FEATURES} features, epsilon {EPSILON}")
    axes[1, 0].set(ylabel="MiB at the peak", xlabel="states")
    axes[1, 1].set(xlabel="samples")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw time and memory")
    arguments = parser.parse_args()
    show(rows(arguments.quick, arguments.figure))
