"""Which system solves the normal equations of a program.

Shapes: n coordinates, m rows.
"""

from __future__ import annotations

import scipy.sparse as sp

from reps_opt.program import Program
from reps_opt.systems.base import DenseEquations, NormalEquations, SparseEquations, product_diagonal
from reps_opt.systems.iterative import ConjugateGradientEquations
from reps_opt.systems.sampled import SampledEquations
from reps_opt.tolerances import DENSE_ROWS, FACTORED_ROWS, ROUNDING
from reps_opt.validation import UnsuitableError

METHODS = ("auto", "dense", "sparse", "cg", "sampled")


def normal_equations(program: Program, method: str = "auto") -> NormalEquations:
    """Choose how the systems of a program are solved.

    ``dense`` Cholesky for few rows. Above that ``cg``, conjugate gradient, where the flow is discounted: scaled by the
    state masses alone the system's condition number is at most ``((1 + sqrt(gamma)) / (1 - sqrt(gamma)))**2`` at every
    feasible point, however unequal the masses, because a flow-consistent mu makes ``gamma P`` a contraction of factor
    ``sqrt(gamma)`` in the mu-weighted 2-norm. ``sparse`` LU otherwise: average reward needs it, and so do, up to some
    size, masses that fall off to nothing far from the start, where conjugate gradient's norm no longer looks but the
    exponential of the Bellman error does. Beyond that size Newton's method spreads a little mass evenly, so that the
    steps of such rows follow those of their neighbours.

    Where the rows are a feature matrix rather than sparse, ``sampled`` (:mod:`reps_opt.systems.sampled`),
    whatever else is asked for.
    """
    if program.rhs.size and not sp.issparse(program.matrix):
        return SampledEquations(program)
    if method == "auto":
        method = "dense" if program.rhs.size <= DENSE_ROWS else _for_many_rows(program)
    if program.ridge is not None or method == "sampled":
        raise UnsuitableError("a ridge and sampled equations need dense rows")
    if method == "cg":
        return ConjugateGradientEquations(program, _thinnest(program) <= ROUNDING)
    return DenseEquations(program) if method == "dense" else SparseEquations(program)


def _for_many_rows(program: Program) -> str:
    iterative = program.rhs.size > FACTORED_ROWS or _thinnest(program) > ROUNDING
    return "cg" if program.hints.mass_implied and iterative else "sparse"


def _thinnest(program: Program) -> float:
    """Least mass of a row under the reference."""
    return float(product_diagonal(program.matrix, program.divergence.reference).min())
