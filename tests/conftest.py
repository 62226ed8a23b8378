"""Shared by all tests: no display for figures, and names that are the same in every process."""

import matplotlib
import pytest

matplotlib.use("Agg")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse an address in a test's name: the processes that share the suite would not find each other's tests."""
    for item in items:
        if " at 0x" in item.name:
            raise pytest.UsageError(f"{item.nodeid} has an address in its name: give its parameters ids")
