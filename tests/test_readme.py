"""The examples of the README and of the documentation's pages run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GENERATED = {"examples.md"}
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / ".docs").glob("*.md") if page.name not in GENERATED)]
BLOCKS = [
    pytest.param(block, id=f"{page.name} {place}")
    for page in PAGES
    for place, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_block(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, "a page", "exec"), {"__name__": "__main__"})
    expected = re.findall(r"# -> (.*)", block)
    printed = capsys.readouterr().out
    for text in expected:
        assert text in printed


def test_there_are_examples_and_two_commands() -> None:
    assert BLOCKS
    assert len(re.findall(r"```bash command\n", README)) == 2


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_linked_files_exist(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_readme_is_a_front_page() -> None:
    assert README.count("\n") <= 150
