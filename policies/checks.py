"""Checks at the boundary of every policy and feature map: states, actions, weights, seeds.

Shapes: N states, d state dimensions. `X` and `y` are scikit-learn's names for states and actions.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from reps_opt.tolerances import HUGE, VISIBLE
from reps_opt.validation import FloatArray, as_float_array, check_finite, check_nonnegative, check_shape, first_index


def as_columns(states: Any) -> Any:
    """Whole numbers of shape (N,), discrete states as roll-outs give them, as one column (N, 1); all else as it is."""
    if isinstance(states, list | tuple | range) and len(states) and isinstance(states[0], int | np.integer):
        states = np.asarray(states)
    if isinstance(states, np.ndarray) and states.ndim == 1 and states.dtype.kind in "iu":
        return states[:, None]
    return states


def refuse_masked(array: Any, name: str) -> None:
    """Raise TypeError for an array with masked entries, which NumPy would hand on as if they were not masked."""
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        index = list(first_index(np.ma.getmaskarray(array)))
        raise TypeError(f"{name}{index} is masked: leave masked rows out before you pass the array")


def check_magnitude(array: FloatArray, name: str) -> None:
    """Raise ValueError for columns whose squares no float64 can hold: entries beyond 1e100, or none but tiny ones."""
    size = np.abs(array)
    if np.any(size > HUGE):
        index = first_index(size > HUGE)
        raise ValueError(
            f"{name}{list(index)} is {array[index]:g}: squares of numbers beyond 1e100 overflow, rescale it"
        )
    most = np.max(size, axis=0)
    tiny = (most > 0) & (most < 1 / HUGE)
    if np.any(tiny):
        column = int(np.argmax(tiny))
        where = f"{name}[:, {column}]" if array.ndim > 1 else name
        raise ValueError(
            f"{where} is at most {np.ravel(most)[column]:g}: squares of numbers below 1e-100 vanish, rescale it"
        )


def check_states(estimator: Any, states: ArrayLike, reset: bool = False, name: str = "X") -> FloatArray:
    """States as finite float64 (N, d), d fixed by ``reset``; the caller's array is never written to."""
    refuse_masked(states, name)
    checked: FloatArray
    if not reset and _are_plain(estimator, states):
        checked = states  # type: ignore[assignment]
    else:
        checked = validate_data(estimator, states, reset=reset, dtype=np.float64, ensure_all_finite=False)
    check_finite_values(checked, name)
    if reset:
        check_magnitude(checked, name)
    return checked


def _are_plain(estimator: Any, states: Any) -> bool:
    """Whether scikit-learn's checks, a good part of a small evaluation, could find nothing in these states."""
    if type(states) is not np.ndarray or states.dtype != np.float64 or states.ndim != 2 or len(states) == 0:
        return False
    return states.shape[1] == getattr(estimator, "n_features_in_", None) and not hasattr(estimator, "feature_names_in_")


def per_column(values: ArrayLike, name: str, d: int) -> FloatArray:
    """Positive numbers (d,), of one a column or one for all."""
    given = as_float_array(values, name)
    if np.any(given <= 0):
        raise ValueError(f"{name} must be > 0, got {values!r}")
    if given.size > 1:
        check_shape(given, name, (d,))
    return np.broadcast_to(given.ravel(), (d,)).copy()


def check_finite_values(array: FloatArray, name: str) -> None:
    """The core's finiteness check, in words that scikit-learn's own checks look for."""
    try:
        check_finite(array, name)
    except ValueError as error:
        raise ValueError(f"{error} (neither NaN nor inf)") from None


def check_weights(sample_weight: ArrayLike | None, n_samples: int) -> FloatArray:
    """Weights as float64 (N,): finite, non-negative, not all zero."""
    if sample_weight is None:
        return np.ones(n_samples)
    refuse_masked(sample_weight, "sample_weight")
    weights = as_float_array(sample_weight, "sample_weight", (n_samples,))
    check_nonnegative(weights, "sample_weight")
    if np.any(weights > HUGE):
        index = first_index(weights > HUGE)[0]
        raise ValueError(f"sample_weight[{index}] is {weights[index]:g}: sums of squares of such weights overflow")
    if not np.any(weights > 0):
        raise ValueError("sample_weight is zero everywhere: at least one sample needs a positive weight")
    return weights


def warn_of_weights(weights: FloatArray, name: str, against_prior: bool = True) -> None:
    """Warn when unequal weights leave fewer than two effective samples, (sum w)^2 / sum w^2, or when they sum to one.

    Probabilities are no powers of a likelihood: together they would say as little as one sample says `against_prior`.
    """
    relative = weights / np.max(weights)
    ess = float(np.sum(relative) ** 2 / np.sum(relative**2))
    if ess < 2 and np.count_nonzero(weights) > 1:
        warnings.warn(
            f"{name}: the weights leave an effective sample size of {ess:.2f}: lower epsilon, or collect more samples",
            UserWarning,
            stacklevel=4,
        )
    elif against_prior and ess > 3 and abs(float(np.sum(weights)) - 1) < VISIBLE:
        warnings.warn(
            f"{name}: the weights sum to one, so all {np.count_nonzero(weights)} samples count for one and the prior "
            f'prevails: let them sum to their effective sample size, {ess:.3g}, as solution.weights("ess") does',
            UserWarning,
            stacklevel=4,
        )


def random_source(random_state: Any) -> np.random.RandomState:
    """scikit-learn's generator for a seed; for None a fresh one of its own, never NumPy's global one."""
    return np.random.RandomState() if random_state is None else check_random_state(random_state)


def merge_repeats(rows: FloatArray, weights: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """First index of each distinct row, in lexicographic order, and the sum of its repetitions' weights.

    A repeated sample and a sample of twice the weight are the same data; after merging they are the same arrays too, so
    that iterative fits end at the same bits.

    Examples
    --------
    >>> merge_repeats(np.array([[2.0], [1.0], [2.0]]), np.array([1.0, 1.0, 3.0]))
    (array([1, 0]), array([1., 4.]))
    """
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first, np.bincount(group.reshape(-1), weights=weights).astype(np.float64)
