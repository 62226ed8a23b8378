"""Mending a point that misses a convex set: inside, as near to it as the segment allows, never beyond."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

from reps_opt.segment import first_inside


def test_a_point_inside_is_returned_itself() -> None:
    point = np.array([0.3, 0.4])
    assert first_inside(lambda x: float(x @ x) - 1.0, point, np.zeros(2)) is point


def test_the_anchor_is_returned_where_it_is_no_better() -> None:
    anchor = np.array([0.0, 2.0])
    assert first_inside(lambda x: float(x @ x) - 1.0, np.array([3.0, 0.0]), anchor) is anchor


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.floats(1e-12, 0.5))
def test_the_mended_point_is_inside_and_on_the_sphere(seed: int, epsilon: float) -> None:
    p, q = np.random.default_rng(seed).dirichlet(np.full(6, 0.3), size=2) + 1e-9
    p, q = p / p.sum(), q / q.sum()

    def excess(x: np.ndarray) -> float:
        return float(rel_entr(x, q).sum()) - epsilon

    mended = first_inside(excess, p, q)
    assert excess(mended) <= 0
    if excess(p) > 0:
        direction = p - q
        further = mended + 1e-6 * direction
        assert excess(further) > 0 or abs(excess(mended)) < 1e-12


@pytest.mark.parametrize("epsilon", [1e-3, 1.0, 40.0])
def test_an_infinite_excess_is_left_behind(epsilon: float) -> None:
    point, anchor = np.array([1.0, 0.0]), np.array([0.5, 0.5])

    def excess(x: np.ndarray) -> float:
        return math.inf if x.min() <= 0 else float(rel_entr(anchor, x).sum()) - epsilon

    mended = first_inside(excess, point, anchor)
    assert excess(mended) <= 0
    assert mended[1] > 0


@pytest.mark.parametrize("outside", [1e-13, 1e-9, 1e-7])
def test_next_to_the_set_a_few_evaluations_do(outside):
    """A metric in single precision misses its ball by 1e-8: thirty products more took longer than the step."""
    asked = []

    def excess(x):
        asked.append(x)
        return float(x @ x) - 1.0

    mended = first_inside(excess, np.array([math.sqrt(1 + outside), 0.0]), np.zeros(2))
    assert -1e-7 * outside - 1e-15 <= excess(mended) <= 0
    assert len(asked) <= 6
