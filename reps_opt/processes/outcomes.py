"""Lists of outcomes, "state, action, probability, next state, reward, done", and the MDP that they describe.

Shapes: K outcomes; S states and A actions. Transitions are CSR (S*A, S) with row ``s*A + a``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from reps_opt.processes import construction
from reps_opt.processes.graph import BoolArray, IntArray, reachable_states
from reps_opt.validation import FloatArray

ON_DONE = ("absorb", "restart")
MISSING = ("error", "absorb")
END = "{} (end)"
"""Label of the absorbing copy of a state."""


@dataclass(frozen=True)
class Outcomes:
    """What may follow a state and an action, one outcome a row.

    Attributes
    ----------
    state, action, next_state : (K,) int
    probability, reward : (K,) float
    done : (K,) bool
        Whether the process ends with the transition: its next state has no future.
    n_states, n_actions : int
    labels : tuple, or None
        Labels of the states; None where they are known by their index.
    """

    state: IntArray
    action: IntArray
    probability: FloatArray
    next_state: IntArray
    reward: FloatArray
    done: BoolArray
    n_states: int
    n_actions: int
    labels: tuple[Hashable, ...] | None = None

    @property
    def pair(self) -> IntArray:
        """Row ``s*A + a`` of each outcome."""
        return self.state * self.n_actions + self.action

    def select(self, rows: BoolArray) -> Outcomes:
        """Some of the outcomes (K,), of the same states and actions."""
        columns = ("state", "action", "probability", "next_state", "reward", "done")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def name(self, state: int) -> str:
        """A state as messages call it."""
        return repr(state if self.labels is None else self.labels[state])

    def acting(self) -> BoolArray:
        """States (S,) that have an action."""
        return np.bincount(self.state, minlength=self.n_states) > 0

    def ended(self) -> BoolArray:
        """States (S,) that are entered with the end of the process."""
        return np.bincount(self.next_state[self.done], minlength=self.n_states) > 0

    def alive(self, start: FloatArray) -> BoolArray:
        """States (S,) that the process can be in without having ended."""
        going = ~self.done & (self.probability > 0)
        edges = (np.ones(int(going.sum()), dtype=np.int8), (self.state[going], self.next_state[going]))
        graph = sp.coo_array(edges, shape=(self.n_states, self.n_states)).tocsr()
        return reachable_states(graph, start > 0)

    def staying(self) -> BoolArray:
        """States (S,) in which every outcome stays in the state and pays nothing."""
        moves = (self.next_state != self.state) | (self.reward != 0)
        return self.acting() & (np.bincount(self.state[moves], minlength=self.n_states) == 0)


def as_choice(on_done: str | None, gamma: float, ends: bool) -> str:
    """Validate what follows the end of an episode; average reward leaves no harmless default."""
    if on_done is None:
        if gamma == 1 and ends:
            raise ValueError(
                'on_done must be given with gamma=1 (average reward): "restart" goes on from the start distribution; '
                '"absorb" ends for good, so that every gain is that of the ends, zero (finite horizons ask for it)'
            )
        return "absorb"
    if on_done not in ON_DONE:
        raise ValueError(f"on_done must be one of {ON_DONE}, got {on_done!r}")
    return on_done


def as_tables(outcomes: Outcomes, start: FloatArray, on_done: str, missing: str) -> dict[str, Any]:
    """Arguments ``P, r, mu0, allowed, state_labels`` of an MDP from its outcomes and a start distribution (S,)."""
    if missing not in MISSING:
        raise ValueError(f"missing must be one of {MISSING}, got {missing!r}")
    _check_missing(outcomes, start, missing)
    if on_done == "absorb":
        outcomes = _split_ends(outcomes, start)
        start = np.append(start, np.zeros(outcomes.n_states - start.size))
    P, expected, allowed = _sums(outcomes, start if on_done == "restart" else None)
    shape = (outcomes.n_states, outcomes.n_actions)
    staying = ~allowed.any(axis=1)
    if on_done == "absorb":
        staying |= outcomes.ended()
    keeping = np.repeat(staying, shape[1])
    keep = np.flatnonzero(keeping)
    stay = sp.coo_array((np.ones(keep.size), (keep, keep // shape[1])), shape=P.shape)
    P = (sp.diags_array((~keeping).astype(np.float64)) @ P + stay).tocsr()
    return {
        "P": P,
        "r": np.where(keeping, 0.0, expected).reshape(shape),
        "mu0": start,
        "allowed": allowed | keeping.reshape(shape),
        "state_labels": outcomes.labels,
    }


def _check_missing(outcomes: Outcomes, start: FloatArray, missing: str) -> None:
    entered = np.zeros(outcomes.n_states, dtype=bool)
    entered[outcomes.next_state[~outcomes.done & (outcomes.probability > 0)]] = True
    lost = np.flatnonzero((entered | ((start > 0) & ~outcomes.ended())) & ~outcomes.acting())
    if lost.size and missing == "error":
        names = ", ".join(outcomes.name(int(s)) for s in lost[:5]) + (", ..." if lost.size > 5 else "")
        raise ValueError(
            f"missing actions: {names} can be entered, and nothing says what follows; "
            'missing="absorb" keeps such states for ever without reward'
        )


def _split_ends(outcomes: Outcomes, start: FloatArray) -> Outcomes:
    """Give a state that is also entered, or started in, without ending an absorbing copy for the ways in that end."""
    shared = np.flatnonzero(outcomes.ended() & outcomes.alive(start) & outcomes.acting() & ~outcomes.staying())
    if not shared.size:
        return outcomes
    place = np.full(outcomes.n_states, -1)
    place[shared] = outcomes.n_states + np.arange(shared.size)
    moved = outcomes.done & (place[outcomes.next_state] >= 0)
    names = [str(s) for s in (range(outcomes.n_states) if outcomes.labels is None else outcomes.labels)]
    return replace(
        outcomes,
        next_state=np.where(moved, place[outcomes.next_state], outcomes.next_state),
        n_states=outcomes.n_states + shared.size,
        labels=tuple(names + [END.format(names[s]) for s in shared]),
    )


def _sums(outcomes: Outcomes, restart: FloatArray | None) -> tuple[sp.csr_array, FloatArray, BoolArray]:
    """Transitions (S*A, S), expected rewards (S*A,), and the pairs (S, A) that have an outcome."""
    shape = (outcomes.n_states * outcomes.n_actions, outcomes.n_states)
    p, pair = outcomes.probability, outcomes.pair
    going = np.ones(p.size, dtype=bool) if restart is None else ~outcomes.done
    P = sp.coo_array((p[going], (pair[going], outcomes.next_state[going])), shape=shape).tocsr()
    if restart is not None:
        ending = np.bincount(pair[~going], weights=p[~going], minlength=shape[0])
        P = P + sp.csr_array(ending[:, None]) @ sp.csr_array(restart[None, :])
    total = np.bincount(pair, weights=p, minlength=shape[0])
    paid = np.bincount(pair, weights=p * outcomes.reward, minlength=shape[0])
    expected = np.where(total > 0, paid / np.where(total > 0, total, 1.0), 0.0)
    seen: BoolArray = np.bincount(pair, minlength=shape[0]).reshape(outcomes.n_states, -1) > 0
    return P, expected, seen


def as_start(
    mu0: ArrayLike | Mapping[Hashable, float] | None, outcomes: Outcomes, index: Mapping[Hashable, int]
) -> FloatArray:
    """A start distribution (S,) from an array or ``{state: probability}``; uniform over states that act by default."""
    if mu0 is None:
        acting = outcomes.acting()
        return acting / acting.sum()
    if not isinstance(mu0, Mapping):
        return construction.as_start(mu0, outcomes.n_states)
    start = np.zeros(outcomes.n_states)
    for state, probability in mu0.items():
        if state not in index:
            raise ValueError(f"mu0 names the state {state!r}, which there is not")
        start[index[state]] = probability
    return construction.as_start(start, outcomes.n_states)
