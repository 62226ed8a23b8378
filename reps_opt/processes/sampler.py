"""Trajectories drawn along a flow that is unrolled in time.

Shapes: n pairs and m nodes of the flow.
"""

from __future__ import annotations

import numpy as np

from reps_opt.processes.flow import Flow
from reps_opt.validation import FloatArray


class TrajectorySampler:
    """Trajectories by inverse cumulative sums, from an occupancy itself: its conditionals are the policy."""

    def __init__(self, flow: Flow) -> None:
        self.horizon = flow.layer_starts.size
        self.first = np.append(flow.first_pairs, flow.pairs.size)
        arriving = flow.arriving
        self.ahead = [
            (arriving.indices[a:b], np.cumsum(arriving.data[a:b]))
            for a, b in zip(arriving.indptr, arriving.indptr[1:], strict=False)
        ]
        start = flow.rhs
        self.start = (np.flatnonzero(start), np.cumsum(start[start > 0]))

    @staticmethod
    def _draw(cumulative: FloatArray, uniform: float) -> int:
        return min(int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right")), cumulative.size - 1)

    def trajectory(self, occupancy: FloatArray, rng: np.random.Generator) -> list[int]:
        """Positions of the pairs visited, one a step, for the policy of an occupancy (n,)."""
        uniform = rng.random((self.horizon, 2))
        nodes, cumulative = self.start
        visited = []
        for u, w in uniform:
            node = nodes[self._draw(cumulative, u)]
            begin, end = self.first[node], self.first[node + 1]
            visited.append(int(begin) + self._draw(np.cumsum(occupancy[begin:end]), w))
            nodes, cumulative = self.ahead[visited[-1]]
        return visited
