"""Where feature rows come from: an array in memory, or a dask array of any size."""

from __future__ import annotations

from typing import Any

import numpy as np

from reps_opt.rows import ArrayRows, Rows


def as_rows(matrix: Any) -> Rows:
    """Rows of an array or of a dask array."""
    if isinstance(matrix, Rows):
        return matrix
    if isinstance(matrix, np.ndarray):
        return ArrayRows(np.ascontiguousarray(matrix))
    from reps_opt.dask_rows import DaskRows

    return DaskRows(matrix)
