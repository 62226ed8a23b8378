"""Trajectories drawn along a flow that is unrolled in time.

Shapes: n pairs and m nodes of the flow.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from reps_opt.processes.flow import Flow
from reps_opt.validation import FloatArray


class TrajectorySampler:
    """Trajectories by inverse cumulative sums, from an occupancy itself: its conditionals are the policy.

    The sums are lists: a draw among a few is three times as fast by ``bisect``.
    """

    def __init__(self, flow: Flow) -> None:
        self.horizon = flow.layer_starts.size
        self.first = np.append(flow.first_pairs, flow.pairs.size).tolist()
        arriving = flow.arriving
        self.ahead = [
            (arriving.indices[a:b].tolist(), arriving.data[a:b].cumsum().tolist())
            for a, b in zip(arriving.indptr, arriving.indptr[1:], strict=False)
        ]
        start = flow.rhs
        self.start = (np.flatnonzero(start).tolist(), start[start > 0].cumsum().tolist())

    @staticmethod
    def _draw(cumulative: list[float], uniform: float) -> int:
        return min(bisect_right(cumulative, uniform * cumulative[-1]), len(cumulative) - 1)

    def trajectory(self, occupancy: FloatArray, rng: np.random.Generator) -> list[int]:
        """Positions of the pairs visited, one a step, for the policy of an occupancy (n,)."""
        nodes, cumulative = self.start
        visited = []
        for u, w in rng.random((self.horizon, 2)).tolist():
            node = nodes[self._draw(cumulative, u)]
            begin, end = self.first[node], self.first[node + 1]
            visited.append(begin + self._draw(occupancy[begin:end].cumsum().tolist(), w))
            nodes, cumulative = self.ahead[visited[-1]]
        return visited
