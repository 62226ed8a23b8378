"""Arithmetic in decimal numbers of many digits, for what double precision cannot represent.

They are Python's own, in NumPy arrays of objects: for some thousand operations, not for millions.

Shapes: n numbers; a system is (n, n).
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.tolerances import DIGITS, ROUNDING

Numbers = Any
"""An array of decimal numbers."""

ZERO: Any = Decimal(0)  # as NumPy takes it: a number of no dtype
ONE: Any = Decimal(1)


@contextmanager
def many_digits(digits: int = DIGITS) -> Iterator[None]:
    """Decimal arithmetic of so many digits and any exponent, in which nothing raises."""
    context = decimal.Context(prec=digits, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX, traps=[])
    with decimal.localcontext(context):
        yield


def numbers(values: ArrayLike) -> Numbers:
    """The exact decimal value of every float of an array."""
    return each(Decimal, np.asarray(values, dtype=np.float64))


def zeros(*shape: int) -> Numbers:
    """An array of decimal zeros."""
    return np.full(shape, ZERO, dtype=object)


def each(function: Callable[[Any], Decimal], values: Any) -> Numbers:
    """A function of one number, of every entry of an array."""
    return np.frompyfunc(function, 1, 1)(values)


def solve(matrix: Numbers, rhs: Numbers, definite: bool = True) -> Numbers:
    """Solution of a positive semidefinite system, zero in rows that follow from others, or of a regular one.

    By elimination, the largest on the diagonal first, or in the column. Rows that follow from others leave a pivot of
    as many units of its last digit as floats leave of theirs.
    """
    n = rhs.size
    negligible = Decimal(ROUNDING / np.finfo(float).eps).scaleb(-decimal.getcontext().prec)
    size = each(lambda value: value.sqrt() if value > 0 else ONE, np.diagonal(matrix))
    left, right = matrix / np.outer(size, size), rhs / size
    order = np.arange(n)
    rank = n
    for k in range(n):
        pivots = np.diagonal(left)[k:] if definite else np.abs(left[k:, k])
        best = k + int(np.argmax(pivots))
        if not pivots[best - k] > negligible:
            rank = k
            break
        swap = [best, k]
        left[[k, best]], right[[k, best]] = left[swap], right[swap]
        if definite:
            left[:, [k, best]], order[[k, best]] = left[:, swap], order[swap]
        share = left[k + 1 :, k] / left[k, k]
        left[k + 1 :, k:] -= np.outer(share, left[k, k:])
        right[k + 1 :] -= share * right[k]
    found = zeros(n)
    for k in range(rank - 1, -1, -1):
        found[order[k]] = (right[k] - left[k, k + 1 : rank] @ found[order[k + 1 : rank]]) / left[k, k]
    return found / size
