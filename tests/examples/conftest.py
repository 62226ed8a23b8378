"""Examples are imported by name, as running them as scripts would."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """The module of an example."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module
