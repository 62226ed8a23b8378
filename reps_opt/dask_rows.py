"""Feature rows in a dask array: every pass is one map-reduce over its blocks, on threads or on a cluster.

The only module that imports dask, an optional extra. Vectors over the samples stay in this process's memory (eight
bytes a sample each); the matrix is read block by block. A product with the covariance is one map-reduce, and so is an
evaluation of the dual: every block takes its softmax relative to its own largest exponent, and merging rescales them.

Shapes: N samples, d features; the array is X (N, d), chunked along the samples only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np

import reps_opt.progress as bars
from reps_opt.rows import ArrayRows, Rows, Summary, TiltedBlock, block_summary, combined_summary, tilted_block
from reps_opt.validation import FloatArray, check_finite


class DaskRows(Rows):
    """Rows held in a dask array: memory-mapped files, Zarr or HDF5 stores, computations, a cluster's memory.

    The scheduler is whatever dask is set to: threads by default, a ``distributed.Client`` where one is active. A pass
    that takes longer than a second shows its progress on a terminal.

    Parameters
    ----------
    array
        X (N, d). Persist it first if computing it costs more than reading it.
    validate
        Check every value in a first pass.
    """

    def __init__(self, array: Any, validate: bool = True) -> None:
        super().__init__()
        self.lazy = array.rechunk({1: -1}).astype(np.float64)
        self.shape = tuple(array.shape)
        ends = np.cumsum([0, *self.lazy.chunks[0]])
        blocks = self.lazy.to_delayed().ravel()
        places = [(slice(int(a), int(b)), x) for a, b, x in zip(ends[:-1], ends[1:], blocks, strict=True)]
        self._pieces = [
            (place, block) for place, block in places if place.stop > place.start
        ]  # a mask leaves empty ones
        if validate:
            self._fold(_check, lambda place: (place.start,))

    def _fold(self, work: Callable[..., Any] | str, arguments: Callable[[slice], tuple]) -> list[Any]:
        """``work(block, *arguments(place))`` for every block, in order: one map over the blocks.

        A word is what the rows of a block do of that name.
        """
        task = dask.delayed(partial(_of_rows, work) if isinstance(work, str) else work, pure=False)
        with _bar():
            return list(dask.compute(*[task(block, *arguments(place)) for place, block in self._pieces]))

    def combined(self, directions: FloatArray) -> DaskRows:
        return DaskRows(self.lazy @ da.from_array(directions, chunks=-1), validate=False)

    def take(self, index: np.ndarray) -> FloatArray:
        def chosen(place: slice) -> tuple:
            first, last = np.searchsorted(index, (place.start, place.stop))
            return (index[first:last] - place.start,)

        return np.concatenate(self._fold("take", chosen))

    def summary(self, weights: FloatArray) -> Summary:
        return combined_summary(self._fold(block_summary, lambda place: (weights[place],)))

    def _combine(self, theta: FloatArray) -> FloatArray:
        return np.concatenate(self._fold("_combine", lambda place: (theta,)))

    def _total(self, weights: FloatArray) -> FloatArray:
        return np.sum(self._fold("_total", lambda place: (weights[place],)), axis=0)

    def _tilt(self, theta: FloatArray, offset: FloatArray, log_base: FloatArray, eta: float) -> list[TiltedBlock]:
        return self._fold(tilted_block, lambda place: (theta, offset[place], log_base[place], eta))

    def _spread(self, theta: FloatArray, weights: FloatArray, mean: float) -> FloatArray:
        return np.sum(self._fold("_spread", lambda place: (theta, weights[place], mean)), axis=0)

    def _gram(self, weights: FloatArray) -> FloatArray:
        return np.sum(self._fold("_gram", lambda place: (weights[place],)), axis=0)

    def _triangle(self) -> FloatArray:
        return ArrayRows(np.vstack(self._fold("_triangle", lambda place: ()))).triangle()


def _bar() -> AbstractContextManager[Any]:
    """A bar of the current pass, for a person who waits at a terminal; a cluster has its own dashboard instead."""
    if sys.stderr is None or not sys.stderr.isatty():
        return nullcontext()
    from tqdm.dask import TqdmCallback

    return TqdmCallback(desc="pass over the rows", delay=bars.PATIENCE, leave=False, dynamic_ncols=True)


def _check(block: FloatArray, first: int) -> None:
    if not np.isfinite(block).all():
        row = int(np.argmax(~np.isfinite(block).all(axis=1)))
        check_finite(block[row], f"feature_differences[{first + row}]")


def _of_rows(name: str, block: FloatArray, *arguments: Any) -> FloatArray:
    """What :class:`ArrayRows` of a block makes of the arguments."""
    return getattr(ArrayRows(np.ascontiguousarray(block)), name)(*arguments)
