"""Shared by the tests of policies."""

import warnings

import pytest


@pytest.fixture(scope="session")
def gpytorch():
    """gpytorch, its imports' own deprecation warnings aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("gpytorch")
