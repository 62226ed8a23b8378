"""Checks at the boundary: every bad input becomes an error that names the argument, the index and what was expected."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reps_opt.tolerances import SINGLE_SUM_TOLERANCE, SUM_TOLERANCE


class InputError(ValueError):
    """A bad argument: a ValueError of the caller's making, which no solver's breakdown may be mistaken for."""


class UnsuitableError(ValueError):
    """A route was asked for a program that it cannot take: the caller's business, and no answer to a problem."""


FloatArray = NDArray[np.float64]
Figures = Callable[[], FloatArray]
"""Computes one number for each state (N,) when it is asked to."""
FLOAT64 = np.dtype(np.float64)
Dimension = int | str | None


def as_float_array(
    value: ArrayLike, name: str, shape: Sequence[Dimension] | None = None, finite: bool = True
) -> FloatArray:
    """Convert to a finite float64 array of the expected shape, or say what is wrong with it.

    Parameters
    ----------
    value
        Numbers: a list, or an array of any real dtype and memory layout. It is never written to.
    name
        The argument's name, for the error message.
    shape
        Expected length of each axis; a string or None in it stands for any length (the string names it in messages).
    finite
        Whether NaN and infinity are errors; a caller that says no looks for them where they count.

    Returns
    -------
    ndarray of float64
        The caller's own memory when it already is a float64 array: copy before writing.

    Raises
    ------
    TypeError
        If the values are not real numbers (object, complex or string dtype).
    ValueError
        If the shape is not the expected one, or a value is masked, NaN or infinite (the first index is given).

    Examples
    --------
    >>> as_float_array([[1, 2]], "reward", ("S", 2))
    array([[1., 2.]])
    >>> as_float_array([1.0, float("nan")], "reward")
    Traceback (most recent call last):
    reps_opt.validation.InputError: reward[1] is nan: every value must be finite
    """
    plain = type(value) is np.ndarray and value.dtype is FLOAT64
    array: FloatArray = value if plain else _converted(value, name)  # type: ignore[assignment]
    if shape is not None:
        check_shape(array, name, shape)
    if finite:
        check_finite(array, name)
    return array


def _converted(value: ArrayLike, name: str) -> FloatArray:
    """An array of float64 from what is none."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name} must be a rectangular array of numbers: {error}") from None
    check_real(array.dtype, name)
    if isinstance(value, np.ma.MaskedArray):
        check_unmasked(value, name)
    return array.astype(np.float64, copy=False)


def check_real(dtype: np.dtype[Any], name: str) -> None:
    """Raise TypeError unless the dtype is one of real numbers."""
    if dtype.kind not in "buif":
        raise TypeError(f"{name} must hold real numbers, got dtype {dtype}")


def check_unmasked(array: np.ma.MaskedArray[Any, Any], name: str) -> None:
    """Raise ValueError at the first entry that is masked: what lies under a mask is no number to go by."""
    hidden = np.ma.getmaskarray(array)
    if hidden.any():
        index = first_index(hidden)
        raise InputError(f"{name}{list(index) if index else ''} is masked: leave such rows out, or fill them")


def sums_to_one(totals: FloatArray, table: NDArray[Any]) -> bool:
    """Whether the sums of the rows of a table of probabilities are one, to what the table's precision explains.

    That is 1e-8, and some units of the last place where every number is one of single precision: in an array of that
    dtype, or in anything made from one.

    Examples
    --------
    >>> rows = np.array([[[0.1, 0.9]]], dtype=np.float32)
    >>> sums_to_one(rows.sum(axis=-1, dtype=float), rows)
    True
    >>> sums_to_one(np.array([1 + 2.2e-8]), np.array([0.1, 0.9 + 2.2e-8]))
    False
    """
    off = float(np.abs(totals - 1).max())
    if off <= SUM_TOLERANCE:
        return True
    return off <= SINGLE_SUM_TOLERANCE and bool(np.array_equal(table, np.asarray(table, dtype=np.float32)))


def check_shape(array: Any, name: str, shape: Sequence[Dimension]) -> None:
    """Raise ValueError unless ``array.shape`` fits ``shape``; strings and None fit any length."""
    found = array.shape
    if len(found) == len(shape):
        for want, got in zip(shape, found, strict=False):
            if want != got and isinstance(want, int):
                break
        else:
            return
    wanted = ", ".join("any" if want is None else str(want) for want in shape)
    raise InputError(f"{name} must have shape ({wanted}), got {tuple(found)}")


def check_finite(array: FloatArray, name: str) -> None:
    """Raise ValueError with the first index at which ``array`` is NaN or infinite."""
    if not all_finite(array):
        index = first_index(~np.isfinite(array))
        raise InputError(f"{name}{list(index) if index else ''} is {array[index]}: every value must be finite")


def all_finite(array: FloatArray) -> bool:
    """Whether no entry is NaN or infinite; counting takes half the time of ``all`` where there are few."""
    return np.count_nonzero(np.isfinite(array)) == array.size


def finite_vector(x: FloatArray) -> bool:
    """Whether no entry of a vector is NaN or infinite: its square is neither, which takes a quarter of the time of
    looking at each entry; or it is out of range itself."""
    return math.isfinite(x.dot(x)) or all_finite(x)


def check_nonnegative(array: FloatArray, name: str) -> None:
    """Raise ValueError with the first index at which ``array`` is negative."""
    if np.any(array < 0):
        index = first_index(array < 0)
        raise InputError(f"{name}{list(index) if index else ''} is {array[index]}: every value must be >= 0")


def check_spread(array: FloatArray, name: str) -> None:
    """Raise ValueError where the largest less the smallest value overflows, or a value is not finite."""
    low, high = float(array.min()), float(array.max())
    if not high - low < np.inf:
        check_finite(array, name)
        raise InputError(f"{name} must have a range below 1.8e308, got {low:g} to {high:g}")


def first_index(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """Index of the first True in row-major order."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))


def as_scalar(
    value: Any,
    name: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    infinite: bool = False,
) -> float:
    """Convert to a float in the stated interval, or say what is wrong with it.

    Parameters
    ----------
    low, high
        The interval; closed, unless ``low_open`` leaves ``low`` itself out.
    infinite
        Whether an infinite value is legal.

    Raises
    ------
    TypeError
        If the value is not a real number.
    ValueError
        If it is NaN, infinite where that is not legal, or outside the interval.

    Examples
    --------
    >>> as_scalar(1, "gamma", low=0, high=1, low_open=True)
    1.0
    >>> as_scalar(-0.5, "epsilon", low=0)
    Traceback (most recent call last):
    reps_opt.validation.InputError: epsilon must be >= 0, got -0.5
    """
    if type(value) is float:
        if low < value < high or (value == low > -math.inf and not low_open):
            return value  # neither NaN nor infinite
    else:
        is_array = isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iuf"
        if not (is_array or isinstance(value, numbers.Real)) or isinstance(value, bool | np.bool_):
            raise TypeError(f"{name} must be a real number, got {type(value).__name__}")
    number = float(value)
    inside = (number > low if low_open else number >= low) and number <= high
    if math.isnan(number) or not inside or (math.isinf(number) and not infinite):
        bounds = [f"{'>' if low_open else '>='} {low:g}"] if low > -math.inf else []
        bounds += [f"<= {high:g}"] if high < math.inf else []
        bounds += ["finite"] if math.isinf(number) and not infinite and not number > high else []
        raise InputError(f"{name} must be {' and '.join(bounds) or 'a number'}, got {digits(number)}")
    return number


def digits(number: float) -> str:
    """A number in as few digits as tell it from every other: 6 where they do, up to 17."""
    short = f"{number:g}"
    return short if float(short) == number else repr(float(number))


def renamed(owner: Any, **names: tuple[str, Any]) -> None:
    """Give a frozen dataclass what an argument's old name was given, with a DeprecationWarning that says the new one.

    ``renamed(self, gae_lambda=("trace", trace))`` in ``__post_init__``, where trace is None unless somebody gave it.
    """
    for name, (old, value) in names.items():
        if value is not None:
            warn_renamed(old, name, stacklevel=4)
            object.__setattr__(owner, name, value)


def warn_renamed(old: str, new: str, stacklevel: int = 2) -> None:
    """Warn whoever called the caller that a name has changed; the old one goes with the next release."""
    text = f"{old} is called {new} now; the old name goes with the next release"
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel + 1)


def as_count(value: Any, name: str, low: int = 1) -> int:
    """Convert to an int of at least ``low``, or say what is wrong with it."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if value < low:
        raise InputError(f"{name} must be >= {low}, got {value}")
    return int(value)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view of the array, or the array itself where it is read-only."""
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def as_radius(
    epsilon: float | None, temperature: float | None, default: float | None = None
) -> tuple[float | None, float | None]:
    """A radius (ball) or a temperature (penalty), never both; ``default`` is the radius where neither is given."""
    if epsilon is None and temperature is None:
        epsilon = default
    if (epsilon is None) == (temperature is None):
        raise ValueError("exactly one of epsilon (ball) and temperature (penalty) must be given")
    if temperature is None:
        return as_scalar(epsilon, "epsilon", low=0.0, infinite=True), None
    return None, as_scalar(temperature, "temperature", low=0.0, low_open=True)
