"""Routes to the same answer: Newton and SciPy on the dual, CVXPY on the explicit primal and the explicit dual."""

from reps_opt._lazy import lazy_names

_ORIGIN = {
    "Newton": ".newton",
    "SoftBellman": ".soft_bellman",
    "ScipyDual": ".scipy_dual",
    "CvxpyPrimal": ".cvxpy_conic",
    "CvxpyDual": ".cvxpy_conic",
    "Answer": ".answer",
}

__all__ = [*_ORIGIN]
__getattr__, __dir__ = lazy_names(__name__, _ORIGIN)
