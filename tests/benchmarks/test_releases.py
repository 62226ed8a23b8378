"""Two releases side by side: here the same one twice."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import releases, runner
from tests.benchmarks.releases import HERE, Compared, compare


def found(now: float, before: float) -> Compared:
    return Compared("a case", np.full((2, 2), now), np.full((2, 2), before), ("certified", "certified"))


def test_a_row_is_slower_beyond_a_tenth_or_where_it_broke_down() -> None:
    assert not found(1.05, 1.0).slower
    assert found(1.2, 1.0).slower
    assert found(math.nan, 1.0).slower
    assert len(found(1.2, 1.0).cells()) == len(releases.HEADS)
    assert found(1.2, 1.0).cells()[-1] == "SLOWER"


def test_both_checkouts_are_timed_and_their_answers_told() -> None:
    (row,) = compare(HERE, ["episodic, N = 50"], rounds=2)
    assert row.now.shape == row.before.shape == (2, 2)
    assert np.all(row.now > 0)
    assert np.all(row.now[:, 0] <= row.now[:, 1])
    assert all(answer.startswith("certified, gap ") for answer in row.answers)


def test_a_case_that_breaks_down_is_a_row_and_the_next_goes_on() -> None:
    rows = list(compare(HERE, ["no such case", "step, P = 10"], rounds=1))
    assert math.isnan(rows[0].ratio)
    assert rows[0].answers[0].startswith("broke down")
    assert rows[1].ratio > 0


def test_the_whole_table_ends_with_the_other_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "CASES", {"step, P = 10": None})
    page = tmp_path / "t.md"
    runner.main(["--quick", "--only", "import", "--before", str(HERE), "--table", str(page)])
    assert page.read_text().splitlines()[-1].startswith("| step, P = 10 | ")
