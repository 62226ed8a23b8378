"""Reductions of vectors: right, and the same bit for bit wherever in memory the vector lies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from reps_opt.vectors import inner, largest, least, one_norm


def everywhere(vector: np.ndarray) -> list[np.ndarray]:
    """The vector at eight places in a line of the cache."""
    found = []
    for place in range(8):
        room = np.empty(vector.size + 8)[place : place + vector.size]
        room[:] = vector
        found.append(room)
    return found


@pytest.mark.parametrize("n", [0, 1, 60, 300, 6000])
@pytest.mark.parametrize(
    ("reduced", "right"),
    [(one_norm, lambda x: np.abs(x).sum()), (lambda x: inner(x, x[::-1].copy()), lambda x: x @ x[::-1])],
)
def test_sums_are_right_and_the_same_everywhere(n: int, reduced: Callable, right: Callable) -> None:
    vector = np.random.default_rng(n).normal(size=n)
    found = [reduced(copy) for copy in everywhere(vector)]
    assert found[0] == pytest.approx(right(vector), rel=1e-12, abs=1e-12)
    assert len(set(found)) == 1


def test_ends() -> None:
    assert (largest(np.array([1.0, 3.0, -4.0])), least(np.array([1.0, 3.0, -4.0]))) == (3.0, -4.0)
