"""The general linear oracle: a program without a ball, through HiGHS.

Shapes: n coordinates of x; m rows, equalities first.
"""

from __future__ import annotations

import numpy as np
import scipy
import scipy.sparse as sp

from reps_opt.hints import Nearest
from reps_opt.processes.graph import BoolArray
from reps_opt.program import Program
from reps_opt.tolerances import SOLVED
from reps_opt.validation import FloatArray

EXACT_LP = {"primal_feasibility_tolerance": SOLVED, "dual_feasibility_tolerance": SOLVED}
"""HiGHS at its most accurate: its own 1e-7 would be seen in a certificate."""


def highs_limit(program: Program) -> Nearest | None:
    """A vertex of the linear program's optimal face and its multipliers; None when HiGHS finds no optimum.

    The face may hold points closer to the reference than the vertex; where the optimum is unique there are none.
    """
    scaled, scale = program.normalised()
    equal = ~scaled.signed
    matrix, rhs = scaled.matrix, scaled.rhs
    ones = sp.csr_array(np.ones((1, scaled.n)))
    result = scipy.optimize.linprog(
        -scaled.objective,
        A_ub=matrix[np.flatnonzero(~equal)] if not equal.all() else None,
        b_ub=rhs[~equal] if not equal.all() else None,
        A_eq=sp.vstack([matrix[np.flatnonzero(equal)], ones], format="csr"),
        b_eq=np.append(rhs[equal], 1.0),
        method="highs-ds",
        options=EXACT_LP,
    )
    if result.x is None or result.status != 0:
        return None
    multipliers = np.zeros(rhs.size)
    multipliers[equal] = -result.eqlin.marginals[:-1]
    if not equal.all():
        multipliers[~equal] = np.maximum(-result.ineqlin.marginals, 0.0)
    point = np.maximum(result.x, 0.0)
    return Nearest(point, scale.factor * multipliers, program.divergence.value(point / point.sum()))


def can_have_mass(rows: FloatArray, rhs: FloatArray) -> BoolArray:
    """Which coordinates (n,) some ``x >= 0`` with ``rows' x = rhs`` for rows (n, m) can give mass; all where none is.

    The largest number of coordinates that are one or more on the cone of the x that satisfy the rows up to a factor.
    """
    n, m = rows.shape
    # max sum t : t <= 1, x = t + u, A x = factor * b, all non-negative
    equal = np.hstack([rows.T, rows.T, -rhs[:, None]])
    result = scipy.optimize.linprog(
        np.concatenate([-np.ones(n), np.zeros(n + 1)]),
        A_eq=equal,
        b_eq=np.zeros(m),
        bounds=[(0, 1)] * n + [(0, None)] * (n + 1),
        method="highs",
        options=EXACT_LP,
    )
    found = np.ones(n, dtype=bool) if result.x is None else result.x[:n] > 0.5
    return found if found.any() else np.ones(n, dtype=bool)
