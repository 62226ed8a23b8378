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

from reps_opt.validation import FloatArray, as_float_array, check_finite, check_nonnegative


def as_columns(states: Any) -> Any:
    """Whole numbers of shape (N,), discrete states as roll-outs give them, as one column (N, 1); all else as it is."""
    if isinstance(states, list | tuple | range) and len(states) and isinstance(states[0], int | np.integer):
        states = np.asarray(states)
    if isinstance(states, np.ndarray) and states.ndim == 1 and states.dtype.kind in "iu":
        return states[:, None]
    return states


def check_states(estimator: Any, states: ArrayLike, reset: bool = False, name: str = "X") -> FloatArray:
    """States as finite float64 (N, d), d fixed by ``reset``; the caller's array is never written to."""
    checked: FloatArray
    if not reset and _are_plain(estimator, states):
        checked = states  # type: ignore[assignment]
    else:
        checked = validate_data(estimator, states, reset=reset, dtype=np.float64, ensure_all_finite=False)
    check_finite_values(checked, name)
    return checked


def _are_plain(estimator: Any, states: Any) -> bool:
    """Whether scikit-learn's checks, a good part of a small evaluation, could find nothing in these states."""
    if type(states) is not np.ndarray or states.dtype != np.float64 or states.ndim != 2 or len(states) == 0:
        return False
    return states.shape[1] == getattr(estimator, "n_features_in_", None) and not hasattr(estimator, "feature_names_in_")


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
    weights = as_float_array(sample_weight, "sample_weight", (n_samples,))
    check_nonnegative(weights, "sample_weight")
    if not np.any(weights > 0):
        raise ValueError("sample_weight is zero everywhere: at least one sample needs a positive weight")
    return weights


def warn_if_few(weights: FloatArray, name: str) -> None:
    """Warn when unequal weights leave fewer than two effective samples, (sum w)^2 / sum w^2."""
    relative = weights / np.max(weights)
    ess = float(np.sum(relative) ** 2 / np.sum(relative**2))
    if ess < 2 and np.count_nonzero(weights) > 1:
        warnings.warn(
            f"{name}: the weights leave an effective sample size of {ess:.2f}: lower epsilon, or collect more samples",
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
