"""The sample dual over a feature matrix on disk: peak memory of the process, passes, accuracy.

    OMP_NUM_THREADS=1 python tests/benchmarks/out_of_core.py /path/for/a/4-GB-file [n_samples]

Blocks are read by ``np.fromfile``, so that peak memory is what the process itself holds, not a mapping of the file.
"""

import resource
import sys
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np

from reps_opt import SampleREPS, solve

N_FEATURES = 50
BLOCK = 100_000


def write(path, n):
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


def read(path, first, count):
    return np.fromfile(path, count=count * N_FEATURES, offset=8 * first * N_FEATURES).reshape(count, N_FEATURES)


def main(path, n):
    rewards = write(path, n)
    sizes = [(first, min(BLOCK, n - first)) for first in range(0, n, BLOCK)]
    task = dask.delayed(read, pure=False)
    blocks = [da.from_delayed(task(path, a, k), (k, N_FEATURES), np.float64) for a, k in sizes]
    began = time.perf_counter()
    solution = solve(SampleREPS(rewards, da.concatenate(blocks), epsilon=0.5))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(solution)
    print(f"{n} x {N_FEATURES}: {time.perf_counter() - began:.0f} s, peak memory {peak:.2f} GiB, matrix "
          f"{8 * n * N_FEATURES / 2**30:.2f} GiB, |KL - epsilon| {abs(solution.kl - 0.5):.0e}")  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(float(sys.argv[2])) if len(sys.argv) > 2 else 10_000_000)
