"""The README's examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0][:40])
def test_python_block(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    expected = re.findall(r"# -> (.*)", block)
    printed = capsys.readouterr().out
    for text in expected:
        assert text in printed


def test_there_are_examples_and_two_commands() -> None:
    assert BLOCKS
    assert len(re.findall(r"```bash command\n", README)) == 2


def test_linked_files_exist() -> None:
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (root / target).exists(), target
