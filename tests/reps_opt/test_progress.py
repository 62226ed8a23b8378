"""Progress bars pass items on unchanged, and appear only where somebody looks."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator

import pytest

from reps_opt.progress import progress


class Terminal(io.StringIO):
    """Standard error that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("show", [None, True, False])
def test_items_pass_in_order(show: bool | None) -> None:
    assert list(progress(range(7), show=show)) == list(range(7))


def test_no_bar_away_from_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    list(progress(range(3), label="episodes"))
    assert capsys.readouterr().err == ""


def test_no_bar_on_a_terminal_before_a_second_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    list(progress(range(3), label="episodes"))
    assert "episodes" not in terminal.getvalue()


def test_a_bar_that_is_asked_for_shows_label_and_total(capsys: pytest.CaptureFixture[str]) -> None:
    list(progress(iter("abc"), total=3, label="episodes", show=True))
    shown = capsys.readouterr().err
    assert "episodes" in shown
    assert "/3" in shown


def test_a_generator_is_read_lazily_and_closed_when_the_loop_is_left() -> None:
    seen: list[object] = []

    def source() -> Iterator[int]:
        try:
            for i in range(10):
                seen.append(i)
                yield i
        finally:
            seen.append("closed")

    bar = progress(source(), show=False)
    assert next(bar) == 0
    bar.close()
    assert seen == [0, "closed"]


def test_tqdm_is_loaded_only_for_a_bar() -> None:
    code = (
        "import sys; from reps_opt.progress import progress; list(progress([1], show=False));"
        "assert 'tqdm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
