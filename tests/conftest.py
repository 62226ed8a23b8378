"""Shared by all tests: no display for figures, names that are the same in every process, and less to look through."""

import gc
from collections.abc import Generator

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse an address in a test's name: the processes that share the suite would not find each other's tests."""
    for item in items:
        if " at 0x" in item.name:
            raise pytest.UsageError(f"{item.nodeid} has an address in its name: give its parameters ids")


def pytest_runtest_setup() -> None:
    """Have what draws from NumPy's own generator, as estimators without a random_state do, forget other tests."""
    np.random.seed(0)  # noqa: NPY002


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what is imported and collected out of every later search for garbage: a sixth of the suite's time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
