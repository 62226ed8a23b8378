"""Routes to the same answer: Newton and SciPy on the dual, CVXPY on the explicit primal and the explicit dual.

A program whose ball is quadratic has a route of its own, ``Quadratic``: one factorisation, or conjugate gradient.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
