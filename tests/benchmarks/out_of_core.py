"""The sample dual over a feature matrix on disk: peak memory of the process, passes, accuracy.

    OMP_NUM_THREADS=1 python tests/benchmarks/out_of_core.py /path/for/a/4-GB-file [n_samples]

Blocks are read by ``np.fromfile``, so that peak memory is what the process itself holds, not a mapping of the file.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reps_opt import SampleREPS, solve
from tests.benchmarks.comparison import Cost, Goal, Row, in_child, installed, missing, resident_mib, show, timed

N_FEATURES = 50
BLOCK = 100_000
N_SAMPLES, QUICK_SAMPLES = 10_000_000, 20_000
EPSILON, KL_OFF, MOST_MIB = 0.5, 1e-10, 2048.0


def write(path: Path, n: int) -> np.ndarray:
    """Features of a stationary process, a block at a time; the first column explains the reward in part."""
    rng = np.random.default_rng(0)
    mix = np.eye(N_FEATURES) + 0.1 * rng.normal(size=(N_FEATURES, N_FEATURES))
    rewards = np.empty(n)
    with path.open("wb") as file:
        for first in range(0, n, BLOCK):
            block = rng.normal(size=(min(BLOCK, n - first), N_FEATURES)) @ mix
            rewards[first : first + len(block)] = block[:, 0] + rng.normal(size=len(block))
            block.tofile(file)
    return rewards


def read(path: Path, first: int, count: int) -> np.ndarray:
    return np.fromfile(path, count=count * N_FEATURES, offset=8 * first * N_FEATURES).reshape(count, N_FEATURES)


def measure(path: Path, rewards: np.ndarray) -> tuple[Cost, float]:
    """One solve over the file, and the peak resident set of the process, in MiB."""
    import dask
    import dask.array as da

    n = rewards.size
    sizes = [(first, min(BLOCK, n - first)) for first in range(0, n, BLOCK)]
    task = dask.delayed(read, pure=False)
    blocks = [da.from_delayed(task(path, a, k), (k, N_FEATURES), np.float64) for a, k in sizes]
    cost = timed(lambda: solve(SampleREPS(rewards, da.concatenate(blocks), epsilon=EPSILON)))
    solution = cost.value
    facts = {"kl": solution.kl, "flow": solution.certificate.flow, "status": str(solution.status)}
    return cost._replace(value={**facts, "passes": solution.stats.get("passes")}), resident_mib()


def row(cost: Cost, n: int, peak: float, goals: bool = True) -> Row:
    """The one row there is."""
    found, off = cost.value, abs(cost.value["kl"] - EPSILON)
    accuracy = f"{found['status']}, KL off {off:.0e}, flow {found['flow']:.0e}"
    return Row(
        "sample dual out of core",
        f"{n:,} x {N_FEATURES}, {8 * n * N_FEATURES / 2**30:.2f} GiB",
        n,
        cost.cpu,
        f"{accuracy}; {found['passes']} passes, {cost.wall:.0f} s wall",
        found["status"] == "certified" and off <= KL_OFF,
        goals=(Goal("MiB in all", peak, MOST_MIB),) if goals else (),
    )


def rows(quick: bool = False) -> Iterator[Row]:
    """Write the file, solve over it in a process of its own, remove it."""
    n = QUICK_SAMPLES if quick else N_SAMPLES
    if not installed("dask"):
        yield Row("sample dual out of core", f"{n:,} x {N_FEATURES}", n, float("nan"), "", note=missing("dask"))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.bin"
        rewards = write(path, n)
        cost, peak = measure(path, rewards) if quick else in_child(lambda: measure(path, rewards))[0]
    yield row(cost, n, peak, goals=not quick)


def main(path: Path, n: int) -> None:
    """Print the row of one size."""
    cost, peak = measure(path, write(path, n))
    show([row(cost, n, peak)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(float(sys.argv[2])) if len(sys.argv) > 2 else N_SAMPLES)
