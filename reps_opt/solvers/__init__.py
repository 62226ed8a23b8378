"""Routes to the same answer: Newton and SciPy on the dual, CVXPY on the explicit primal and the explicit dual.

A program whose ball is quadratic has a route of its own, ``Quadratic``: one factorisation, or conjugate gradient.
"""

from reps_opt._lazy import lazy_names

_ORIGIN = {
    "Newton": ".newton",
    "ScipyDual": ".scipy_dual",
    "CvxpyPrimal": ".cvxpy_conic",
    "CvxpyDual": ".cvxpy_conic",
    "Quadratic": ".quadratic",
    "PerStepNewton": ".per_step",
    "SoftBackup": ".soft_backup",
    "Answer": ".answer",
}

__all__ = [*_ORIGIN]
__getattr__, __dir__ = lazy_names(__name__, _ORIGIN)
