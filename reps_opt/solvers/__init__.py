"""Routes to the same answer: Newton and SciPy on the dual, CVXPY on the explicit primal and the explicit dual.

A program whose ball is quadratic has a route of its own, ``Quadratic``: one factorisation, or conjugate gradient.
"""

from reps_opt._lazy import lazy_names

_ORIGIN = {
    "Answer": ".answer",
    "CvxpyDual": ".cvxpy_conic",
    "CvxpyPrimal": ".cvxpy_conic",
    "Newton": ".newton",
    "PerStepNewton": ".per_step",
    "Quadratic": ".quadratic",
    "QuasiNewton": ".quasi_newton",
    "ScalarDual": ".scalar_dual",
    "ScipyDual": ".scipy_dual",
    "SoftBackup": ".soft_backup",
    "SoftBellman": ".soft_bellman",
    "Statewise": ".statewise",
}

__all__ = [*_ORIGIN]
__getattr__, __dir__ = lazy_names(__name__, _ORIGIN)
