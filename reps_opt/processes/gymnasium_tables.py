"""Transition tables of Gymnasium's toy-text environments, read as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from reps_opt.validation import FloatArray, as_float_array

ON_DONE = ("absorb", "restart")


def read_table(env: Any, on_done: str, make_options: dict[str, Any]) -> dict[str, Any]:
    """Arguments ``P, r, mu0, layout`` of an :class:`~reps_opt.MDP` from ``env.unwrapped.P``.

    Next states that repeat within a row have their probabilities added. ``done`` belongs to the transition that
    carries it: the state it enters is made absorbing (or the transition is sent to the start distribution), whatever
    the table says may follow from there, since CliffWalking's and Taxi's tables let a terminal state be left.
    """
    if on_done not in ON_DONE:
        raise ValueError(f"on_done must be one of {ON_DONE}, got {on_done!r}")
    if isinstance(env, str):
        import gymnasium

        env = gymnasium.make(env, **make_options)
    elif make_options:
        raise TypeError(f"options {sorted(make_options)} need an environment id, got an environment")
    base = env.unwrapped
    table = getattr(base, "P", None)
    if table is None:
        raise ValueError(f"env must have a transition table env.unwrapped.P, which {type(base).__name__} has not")
    mu0 = as_float_array(base.initial_state_distrib, "env.unwrapped.initial_state_distrib", (len(table),))
    mu0 = mu0 / mu0.sum()
    P, r = _arrays(table, mu0, on_done)
    return {"P": P, "r": r, "mu0": mu0, "layout": _layout(base, len(table))}


def _arrays(table: Any, mu0: FloatArray, on_done: str) -> tuple[sp.csr_array, FloatArray]:
    n_states, n_actions = len(table), len(table[0])
    outcomes = [
        (s * n_actions + a, next_state, probability, reward, done)
        for s in range(n_states)
        for a in range(n_actions)
        for probability, next_state, reward, done in table[s][a]
    ]
    row, col = np.array([(o[0], o[1]) for o in outcomes]).T
    probability, reward, done = np.array([o[2:] for o in outcomes], dtype=float).T
    expected = np.bincount(row, weights=probability * reward, minlength=n_states * n_actions)
    ends = done > 0
    shape = (n_states * n_actions, n_states)
    if on_done == "restart":
        P = sp.coo_array((probability[~ends], (row[~ends], col[~ends])), shape=shape).tocsr()
        ending = np.bincount(row[ends], weights=probability[ends], minlength=shape[0])
        P = P + sp.csr_array(ending[:, None]) @ sp.csr_array(mu0[None, :])
    else:
        terminal = np.unique(col[ends])
        absorbing = np.isin(row // n_actions, terminal)
        P = sp.coo_array((probability[~absorbing], (row[~absorbing], col[~absorbing])), shape=shape)
        stay = (terminal[:, None] * n_actions + np.arange(n_actions)).ravel()
        P = (P + sp.coo_array((np.ones(stay.size), (stay, stay // n_actions)), shape=shape)).tocsr()
        expected[stay] = 0.0
    return P, np.reshape(expected, (n_states, n_actions)).astype(np.float64)


def _layout(base: Any, n_states: int) -> tuple[str, ...] | None:
    desc = getattr(base, "desc", None)
    if desc is not None and np.size(desc) == n_states:
        return tuple("".join(cell.decode() for cell in row) for row in np.asarray(desc))
    shape = getattr(base, "shape", None)
    if shape is None or np.prod(shape) != n_states:
        return None
    cells = np.full(n_states, ".")
    cells[-1] = "G"
    cells[np.ravel(getattr(base, "_cliff", np.zeros(n_states, dtype=bool)))] = "C"
    cells[np.flatnonzero(base.initial_state_distrib)] = "S"
    return tuple("".join(row) for row in cells.reshape(shape))
