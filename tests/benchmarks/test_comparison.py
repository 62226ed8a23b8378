"""The speed table's own arithmetic, and a run of every part at its quick size."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks import comparison, runner, threads
from tests.benchmarks.comparison import Goal, Row, Verdict


def row(**changes: object) -> Row:
    given: dict = {"work": "a sum", "case": "N = 10", "size": 10, "cost": 0.5, "accuracy": "exact", **changes}
    return Row(**given)


@pytest.mark.parametrize(
    ("reached", "wanted", "least", "verdict"),
    [
        (1.0, 2.0, False, "ahead"),
        (2.0, 2.0, False, "level"),
        (2.1, 2.0, False, "level"),
        (3.0, 2.0, False, "behind"),
        (200.0, 100.0, True, "ahead"),
        (95.0, 100.0, True, "level"),
        (50.0, 100.0, True, "behind"),
        (math.nan, 100.0, True, ""),
    ],
)
def test_verdict_of_a_goal(reached: float, wanted: float, least: bool, verdict: str) -> None:
    assert Goal("s", reached, wanted, least).verdict == verdict


def test_a_row_is_as_good_as_its_worst_goal_and_no_better_than_its_answer() -> None:
    good, bad = Goal("s", 1.0, 2.0), Goal("MiB", 9.0, 2.0)
    assert row().verdict is Verdict.NONE
    assert row(goals=(good,)).verdict is Verdict.AHEAD
    assert row(goals=(good, bad)).verdict is Verdict.BEHIND
    assert row(goals=(good,), accurate=False).verdict is Verdict.BEHIND


def test_ratio_is_the_peers_time_over_ours() -> None:
    assert row(peer="another", peer_cost=5.0).ratio == 10.0
    assert math.isnan(row().ratio)


def test_page_has_a_line_a_row_and_says_who_is_behind() -> None:
    found = [row(goals=(Goal("s", 9.0, 2.0),), peer="a|b", peer_cost=1.0), row(note=comparison.missing("Peer"))]
    text = runner.page(found, quick=False)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(found)
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "behind: 1 rows\n  a sum, N = 10, beside a|b" in text
    assert "Peer is not installed" in text


def test_figure_has_a_panel_for_every_work_of_several_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    seen = []
    monkeypatch.setattr(plt, "close", seen.append)
    sizes = [row(size=size, cost=size / 100, peer="another", peer_cost=size / 10) for size in (10, 100)]
    comparison.draw([*sizes, row(work="one size only")], tmp_path / "figure.png")
    (figure,) = seen
    assert [axis.get_title() for axis in figure.axes if axis.get_title()] == ["a sum"]
    assert (tmp_path / "figure.png").stat().st_size > 5_000


def test_growth_is_the_exponent() -> None:
    assert comparison.growth([10, 100, 1000], [2.0, 20.0, 200.0]) == pytest.approx(1.0)
    assert math.isnan(comparison.growth([10], [2.0]))


def test_a_part_that_breaks_down_is_behind_and_the_rest_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(quick: bool) -> Iterator[Row]:
        yield row()
        raise RuntimeError("no such routine")

    monkeypatch.setattr("tests.benchmarks.imports.rows", broken)
    found = list(runner.rows(["import", "import"], quick=True))
    assert [r.case for r in found] == ["N = 10", "broke down"] * 2
    assert found[1].verdict is Verdict.BEHIND
    assert "no such routine" in found[1].accuracy


@pytest.mark.parametrize("part", [part for part in runner.PARTS if part not in ("gp", "disk", "threads")])
def test_quick_part(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = runner.main(
        ["--quick", "--only", part, "--table", str(tmp_path / "t.md"), "--figure", str(tmp_path / "t.png")]
    )
    assert found
    for each in found:
        assert each.cost > 0, each
        assert each.accurate, each
    lines = (tmp_path / "t.md").read_text().splitlines()
    assert sum(line.startswith("| ") and not line.startswith(("| work", "| ---")) for line in lines) == len(found)
    assert "without a goal" in capsys.readouterr().out


def test_threads_that_nobody_chose_change_no_answer() -> None:
    row = next(iter(threads.rows(quick=True)))
    assert row.accuracy == "the same bit for bit"
    assert row.cost > 0


def test_the_command_explains_itself() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--help"], check=True, capture_output=True, text=True
    ).stdout
    assert "--quick" in shown
