"""Routes to the same answer: Newton and SciPy on the dual, CVXPY on the explicit primal and the explicit dual.

A program whose ball is quadratic has a route of its own, ``Quadratic``: one factorisation, or conjugate gradient.
"""

from typing import Any

import lazy_loader

_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

RENAMED = {"ScalarDual": "EtaSearch", "Statewise": "EtaSearch"}


def __getattr__(name: str) -> Any:
    if name in RENAMED:
        from reps_opt.validation import warn_renamed

        warn_renamed(name, RENAMED[name])
    return _attribute(RENAMED.get(name, name))
