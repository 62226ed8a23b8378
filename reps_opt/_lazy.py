"""Lazy public names: a package lists where its names live, and pays for a module on first use (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping


def lazy_names(package: str, origin: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package whose public names are loaded on first use.

    Parameters
    ----------
    package
        The package's ``__name__``.
    origin
        Public name to the module that defines it, relative to the package: ``{"MDP": ".mdp"}``.
    """

    def __getattr__(name: str) -> object:
        if name not in origin:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(origin[name], package), name)

    def __dir__() -> list[str]:
        return sorted(origin)

    return __getattr__, __dir__
