"""What an MDP is made of, read from the forms people have it in and checked once.

Shapes: S states, A actions; transitions are CSR (S*A, S) with row index ``s*A + a``; rewards and masks are (S, A).
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from reps_opt.processes.graph import BoolArray, slim
from reps_opt.tolerances import SUM_TOLERANCE
from reps_opt.validation import (
    FloatArray,
    as_float_array,
    check_finite,
    check_nonnegative,
    check_real,
    check_shape,
    first_index,
    read_only,
    sums_to_one,
)

ORDERS = ("SAS", "ASS")
FROM_ROWS = "rows"


def is_per_action(table: Any) -> bool:
    """Whether a table is a list of SciPy sparse matrices, one an action."""
    return isinstance(table, list | tuple) and any(sp.issparse(part) for part in table)


def as_transitions(P: Any, order: str | None, allowed: Any) -> tuple[sp.csr_array, BoolArray]:
    """Read transition probabilities; return them as CSR (S*A, S), rows summing to one, and the pairs (S, A) there are.

    A row of a pair that is not allowed is not read, and empty in what is returned.
    """
    if order is not None and order not in ORDERS:
        raise ValueError(f"order must be one of {ORDERS}, got {order!r}")
    matrix, n_actions = _stored(P, order)
    n_states = matrix.shape[1]
    if order is None and n_states == n_actions > 1 and allowed is None and np.ndim(P) == 3:
        _warn_of_two_readings(P)
    mask = _as_allowed(allowed, matrix, n_states, n_actions)
    if not mask.all():
        matrix.data[~np.repeat(mask.ravel(), np.diff(matrix.indptr))] = 0.0
        matrix.eliminate_zeros()
    _check_entries(matrix, n_actions, order)
    _normalise(matrix, mask)
    return slim(matrix), mask


def _warn_of_two_readings(P: Any) -> None:
    """Ask for ``order`` where A = S and the two orders of a dense table say different things."""
    table = np.asarray(P)
    if not np.array_equal(table, table.swapaxes(0, 1)):
        warnings.warn(
            f"P of shape {table.shape} is read as (state, action, next state), and could be one matrix an action as "
            'well, as pymdptoolbox has it: say order="SAS" or order="ASS"',
            UserWarning,
            stacklevel=4,
        )


def _stored(P: Any, order: str | None) -> tuple[sp.csr_array, int]:
    """The numbers of P as a new CSR matrix (S*A, S) in float64, and the number of actions."""
    if is_per_action(P):
        return _per_action(P)
    if sp.issparse(P):
        check_real(P.dtype, "P")
        matrix = sp.csr_array(P, copy=True).astype(np.float64, copy=False)
        matrix.sum_duplicates()
        _check_rows(matrix.shape, order)
        return matrix, matrix.shape[0] // matrix.shape[1]
    table = as_float_array(P, "P", finite=False)
    if table.ndim == 2:  # (S*A, S), as for a sparse matrix
        _check_rows(table.shape, order)
        return sp.csr_array(table), table.shape[0] // table.shape[1]
    if order == "ASS":
        check_shape(table, "P", ("A", "S", table.shape[1] if table.ndim > 1 else 0))
        table = table.swapaxes(0, 1)
    elif table.ndim == 3 and table.shape[1] == table.shape[2] != table.shape[0]:
        raise ValueError(
            f"P must have shape (S, A, S), got {table.shape}: if it holds one matrix (S, S) an action, as "
            'pymdptoolbox has it, say order="ASS"'
        )
    else:
        check_shape(table, "P", ("S", "A", table.shape[0] if table.ndim else 0))
    n_states, n_actions = table.shape[:2]
    if not n_states or not n_actions:
        raise ValueError(f"P must have shape (S, A, S) or (S*A, S) with S, A >= 1, got {np.shape(P)}")
    return sp.csr_array(table.reshape(-1, n_states)), n_actions


def _check_rows(shape: tuple[int, int], order: str | None) -> None:
    if order == "ASS":
        raise ValueError(f'order="ASS" is for P of three dimensions, (A, S, S), got shape {shape}')
    if 0 in shape or shape[0] % shape[1]:
        raise ValueError(f"P must have shape (S, A, S) or (S*A, S) with S, A >= 1, got {shape}")


def _per_action(matrices: Sequence[Any], name: str = "P") -> tuple[sp.csr_array, int]:
    """Matrices (S, S), one an action, as rows ``s*A + a``."""
    parts = []
    for a, part in enumerate(matrices):
        check_real(part.dtype, f"{name}[{a}]")
        size = matrices[0].shape[0]
        check_shape(part, f"{name}[{a}]", (size, size))
        parts.append(sp.csr_array(part, dtype=np.float64))
    n_actions, n_states = len(parts), parts[0].shape[0]
    by_state = np.arange(n_actions * n_states).reshape(n_actions, n_states).T.ravel()
    stacked = sp.csr_array(sp.vstack(parts, format="csr")[by_state])
    stacked.sum_duplicates()
    return stacked, n_actions


def _as_allowed(allowed: Any, matrix: sp.csr_array, n_states: int, n_actions: int) -> BoolArray:
    shape = (n_states, n_actions)
    if allowed is None:
        return np.ones(shape, dtype=bool)
    if isinstance(allowed, str):
        if allowed != FROM_ROWS:
            raise ValueError(f'allowed must be a mask (S, A) or "{FROM_ROWS}", got {allowed!r}')
        held = np.flatnonzero(matrix.data)
        rows = np.searchsorted(matrix.indptr, held, side="right") - 1
        mask: BoolArray = np.bincount(rows, minlength=n_states * n_actions).reshape(shape) > 0
    else:
        given = as_float_array(allowed, "allowed", shape)
        if not np.isin(given, (0.0, 1.0)).all():
            raise ValueError("allowed must hold True and False, one a state and action")
        mask = given == 1.0
    without = ~mask.any(axis=1)
    if without.any():
        raise ValueError(
            f"allowed leaves state {int(np.argmax(without))} no action: every state needs one, if only to stay"
        )
    return mask


def _check_entries(matrix: sp.csr_array, n_actions: int, order: str | None) -> None:
    """Raise ValueError at the first entry that is not finite, and at the most negative one."""

    def place(entry: int) -> tuple[int, int, int]:
        row = int(np.searchsorted(matrix.indptr, entry, side="right")) - 1
        return row // n_actions, row % n_actions, int(matrix.indices[entry])

    data = matrix.data
    if not data.size:
        return
    if not np.isfinite(data).all():
        entry = int(np.argmax(~np.isfinite(data)))
        s, a, ahead = place(entry)
        index = (a, s, ahead) if order == "ASS" else (s, a, ahead)
        raise ValueError(f"P{list(index)} is {data[entry]}: every value must be finite")
    if data.min() < 0:
        entry = int(np.argmin(data))
        s, a, _ = place(entry)
        raise ValueError(f"P has a negative probability {data[entry]:g} at state {s}, action {a}")


def _normalise(matrix: sp.csr_array, allowed: BoolArray) -> None:
    """Scale the rows of allowed pairs to sum one, in place, and freeze the matrix."""
    total = matrix @ np.ones(matrix.shape[1])
    total[~allowed.ravel()] = 1.0
    if not sums_to_one(total, matrix.data):
        worst = int(np.argmax(np.abs(total - 1)))
        s, a = divmod(worst, allowed.shape[1])
        hint = f': if the state does not have this action, say so by allowed= (a mask, or "{FROM_ROWS}")'
        raise ValueError(
            f"P must have rows that sum to one: state {s}, action {a} sums to {total[worst]:.12g}"
            + (hint if total[worst] == 0 else "")
        )
    if (total != 1).any():
        matrix.data /= np.repeat(total, np.diff(matrix.indptr))
    matrix.eliminate_zeros()
    matrix.sort_indices()
    freeze(matrix)


def freeze(matrix: sp.csr_array) -> sp.csr_array:
    """Make the arrays of a sparse matrix read-only, with 32-bit indices where they suffice."""
    if matrix.indices.dtype != np.int32 and max(matrix.nnz, *matrix.shape) <= np.iinfo(np.int32).max:
        matrix.indices, matrix.indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False
    return matrix


def as_rewards(r: Any, order: str | None, transitions: sp.csr_array, allowed: BoolArray) -> FloatArray:
    """Read rewards: by pair (S, A), or by pair and next state, of which the expectation (S, A) is kept.

    What stands at a pair that is not allowed is not read. The least reward of the state's other actions stands there
    instead, so that neither the range nor the sum of the rewards is moved.
    """
    shape = allowed.shape
    if is_per_action(r) or (sp.issparse(r) and r.shape == transitions.shape != shape):
        by_next = _per_action(r, "r")[0] if is_per_action(r) else sp.csr_array(r)
        check_real(by_next.dtype, "r")
        if by_next.shape != transitions.shape:
            _complain(by_next.shape, shape)
        check_finite(by_next.data, "r.data")
        rewards = _expected(by_next, transitions, shape)
    elif np.ndim(r) == 3:
        table = as_float_array(r, "r", finite=False)
        by_next = table.swapaxes(0, 1) if order == "ASS" else table
        if by_next.shape != (*shape, shape[0]):
            _complain(table.shape, shape)
        by_next = by_next if allowed.all() else np.where(allowed[..., None], by_next, 0.0)
        check_finite(by_next.swapaxes(0, 1) if order == "ASS" else by_next, "r")
        rewards = _expected(by_next.reshape(transitions.shape), transitions, shape)
    else:
        table = as_float_array(r.toarray() if sp.issparse(r) else r, "r", finite=False)
        if table.shape != shape:
            _complain(table.shape, shape)
        rewards = np.where(allowed, table, 0.0)
        check_finite(rewards, "r")
    if not allowed.all():
        least = np.where(allowed, rewards, np.inf).min(axis=1, keepdims=True)
        rewards = np.where(allowed, rewards, least)
    return read_only(rewards + 0.0)  # no negative zeros: equal tables have equal bytes


def _complain(got: tuple[int, ...], shape: tuple[int, int]) -> None:
    raise ValueError(f"r must have shape {shape} or {(*shape, shape[0])} to fit P, got {got}")


def _expected(by_next: Any, transitions: sp.csr_array, shape: tuple[int, int]) -> FloatArray:
    """Row sums of P times r, entry by entry of P; nothing dense is formed."""
    return np.asarray(transitions.multiply(by_next).sum(axis=1), dtype=np.float64).reshape(shape)


def as_start(mu0: ArrayLike | None, n_states: int) -> FloatArray:
    """Read a start distribution (S,), by default uniform."""
    if mu0 is None:
        return read_only(np.full(n_states, 1.0 / n_states))
    return read_only(normalised_rows(as_float_array(mu0, "mu0", (n_states,)), "mu0"))


def normalised_rows(table: FloatArray, name: str) -> FloatArray:
    """Probabilities (..., n), rows scaled to sum one exactly; off by more than their precision explains is an error."""
    check_nonnegative(table, name)
    total = table.sum(axis=-1)
    if not sums_to_one(total, table):
        worst = np.unravel_index(int(np.argmax(np.abs(total - 1))), total.shape)
        row = "" if total.size == 1 else f" row {worst[0]}" if total.ndim == 1 else f"{[int(i) for i in worst]}"
        raise ValueError(f"{name}{row} must sum to one, got {total[worst]:.12g}")
    return table / total[..., None]


def check_within(table: FloatArray, allowed: BoolArray, name: str, tolerance: float = 0.0) -> None:
    """Raise ValueError at the first mass of a table (..., S, A) on an action that its state does not have."""
    outside = ~allowed & (table > tolerance)
    if outside.any():
        index = first_index(outside)
        raise ValueError(
            f"{name}{list(index)} is {table[index]:g}: state {index[-2]} does not have action {index[-1]} "
            "(see mdp.allowed)"
        )


def within_allowed(policy: FloatArray, allowed: BoolArray, name: str) -> FloatArray:
    """A policy (..., S, A) without mass on actions that a state does not have; more than rounding there is an error."""
    if allowed.all():
        return policy
    check_within(policy, allowed, name, SUM_TOLERANCE)
    inside = np.where(allowed, policy, 0.0)
    return inside / inside.sum(axis=-1, keepdims=True)


def as_layout(layout: Sequence[str] | None, n_states: int) -> tuple[str, ...] | None:
    """Read a map of the states: equal-length strings, one character a state."""
    if layout is None:
        return None
    rows = tuple(str(row) for row in layout)
    if len({len(row) for row in rows}) != 1 or sum(map(len, rows)) != n_states:
        raise ValueError(f"layout must be equal-length strings with {n_states} characters in all, one a state")
    return rows


def as_labels(labels: Any, name: str, n: int) -> tuple[Hashable, ...] | None:
    """Read labels, one a state or action and each once, as a tuple of Python objects."""
    if labels is None:
        return None
    if isinstance(labels, str):
        raise TypeError(f"{name} must be a sequence of labels, got a string")
    found = tuple(label.item() if isinstance(label, np.generic) else label for label in labels)
    if len(found) != n:
        raise ValueError(f"{name} must hold {n} labels, got {len(found)}")
    if len(set(found)) != n:
        twice = next(label for label in found if found.count(label) > 1)
        raise ValueError(f"{name} must name everything once, {twice!r} occurs more often")
    return found


def as_counts(counts: Any, shape: tuple[int, int]) -> FloatArray | None:
    """Read how many transitions an empirical model has of each pair (S, A)."""
    if counts is None:
        return None
    table = as_float_array(counts, "counts", shape)
    check_nonnegative(table, "counts")
    return read_only(table.copy())
