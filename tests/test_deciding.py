"""The tool that finds numbers that decide nothing follows them through arithmetic and arrays."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal
from importlib import import_module

import numpy as np
import pytest

from tests.deciding import BY_BENCHMARK, COMPARED, DECIDED_BY, HOMES, ROOT, followed, loop


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


def test_a_number_decides_where_half_of_the_turns_would_not_do_or_double_would_go_on() -> None:
    def turns(limit: int, needed: int) -> bool:
        COMPARED.pop("x", None)
        for turn in loop(followed(limit, "x")):
            if turn + 1 == needed:
                break
        return COMPARED.pop("x")[1] > 0

    assert not turns(100, 10)
    assert turns(100, 60)
    assert turns(100, 1000)


def test_decimal_numbers_are_followed_and_what_is_looked_up_is_a_number() -> None:
    COMPARED.pop("x", None)
    number = followed((Decimal("0.1"), 2), "x")[0]
    assert number * np.array([Decimal(1)], dtype=object) == Decimal("0.1")
    assert COMPARED["x"] == [0, 0]
    assert 3 * number > Decimal("0.2")
    assert COMPARED.pop("x") == [1, 1]


def test_each_number_whose_test_is_known_exists_as_does_the_test() -> None:
    names = {name for home in HOMES for name in vars(import_module(home))}
    assert names > {*DECIDED_BY, *BY_BENCHMARK}
    assert not DECIDED_BY.keys() & BY_BENCHMARK.keys()
    assert all((ROOT / path).is_file() for path in BY_BENCHMARK.values())
    for test in DECIDED_BY.values():
        path, *functions = test.split("::")
        text = (ROOT / path).read_text("utf-8")
        assert all(f"def {name}(" in text or f"class {name}" in text for name in functions), test


def test_it_is_a_number_like_any_other() -> None:
    number, count = followed(0.1, "x"), followed(3, "x")
    COMPARED.pop("x", None)
    assert pickle.loads(pickle.dumps(number)) == 0.1
    assert copy.deepcopy(count) is count
    assert list(range(count)) == [0, 1, 2]
    assert type(pickle.loads(pickle.dumps(count))) is int
    assert f"{number:g}" == "0.1"
    COMPARED.pop("x", None)
