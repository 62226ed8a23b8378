"""Every argument of every public entry, spoiled in every way: the error names it; and any layout gives one answer."""

from __future__ import annotations

import re

import numpy as np
import pytest

import reps_opt
from tests.arguments import LAYOUTS, bad_arguments, frozen
from tests.reps_opt.entries import ENTRIES, NO_INPUT


@pytest.mark.parametrize("case", bad_arguments(ENTRIES), ids=str)
def test_bad_input_is_named(case):
    arguments = {**case.entry.good, case.argument: case.value}
    with pytest.raises(case.errors) as caught:
        case.entry.call(**arguments)
    assert re.search(case.message, str(caught.value), flags=re.S), str(caught.value)


LAID_OUT = [(entry, argument) for entry in ENTRIES if entry.outcome for argument in entry.arrays]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("entry", "argument"), LAID_OUT, ids=lambda x: getattr(x, "name", x))
def test_any_layout_gives_the_answer_of_a_float64_copy_and_is_left_alone(entry, argument, layout):
    good = {k: frozen(v) if isinstance(v, np.ndarray) else v for k, v in entry.good.items()}
    exact = frozen(np.asarray(entry.good[argument], dtype=np.float32).astype(float))
    other = LAYOUTS[layout](exact)
    if isinstance(other, np.ndarray):
        other.flags.writeable = False
    expected = entry.outcome(entry.call(**{**good, argument: exact}))
    np.testing.assert_allclose(entry.outcome(entry.call(**{**good, argument: other})), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", sorted(reps_opt.__all__))
def test_every_public_entry_is_in_the_table(name):
    assert (name in {entry.name for entry in ENTRIES}) != (name in NO_INPUT)
