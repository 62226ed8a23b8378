"""The tool that finds numbers that decide nothing follows them through arithmetic and arrays."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from tests.deciding import COMPARED, followed


@pytest.mark.parametrize(
    ("question", "decided"),
    [
        (lambda number: number > 5.0, False),
        (lambda number: number > 0.07, True),
        (lambda number: np.float64(0.3) > 2 * number, True),
        (lambda number: (np.array([0.01, 0.07]) <= number * np.ones(2)).any(), True),
        (lambda number: np.abs(np.array([0.01, 3.0])) > number, False),
        (lambda number: -number > -0.15, True),
    ],
)
def test_a_number_decides_where_half_or_double_would_have_it_otherwise(question, decided: bool) -> None:
    COMPARED.pop("x", None)
    number = followed(0.1, "x")
    plain = question(0.1)
    assert np.array_equal(question(number), plain)
    assert COMPARED["x"][0] >= 1
    assert (COMPARED.pop("x")[1] > 0) == decided


def test_it_is_a_number_like_any_other() -> None:
    number, count = followed(0.1, "x"), followed(3, "x")
    COMPARED.pop("x", None)
    assert pickle.loads(pickle.dumps(number)) == 0.1
    assert copy.deepcopy(count) is count
    assert list(range(count)) == [0, 1, 2]
    assert type(pickle.loads(pickle.dumps(count))) is int
    assert f"{number:g}" == "0.1"
    COMPARED.pop("x", None)
