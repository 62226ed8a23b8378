"""The tables of an MDP as a value: frozen, comparable, hashable, picklable, and replaceable part by part.

Shapes: S states, A actions; transitions are CSR (S*A, S) with row index ``s*A + a``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from typing import Any, NoReturn, Self

import numpy as np
import scipy.sparse as sp

from reps_opt.processes import construction
from reps_opt.processes.elimination import Chain
from reps_opt.processes.graph import BoolArray, slim
from reps_opt.tolerances import DENSE_ENTRIES, DENSE_STATES
from reps_opt.validation import FloatArray, as_scalar, read_only
from reps_opt.values import cached_property

ANNOTATIONS = ("gamma", "mu0", "layout", "state_labels", "action_labels", "counts")
"""Parts that can be replaced without reading the tables anew."""

PARTS = ("transitions", "rewards", "allowed", *ANNOTATIONS)
"""What an MDP consists of: two with equal parts are equal."""


class Tables:
    """What an :class:`~reps_opt.MDP` consists of, see there for what each part is, and products with it."""

    transitions: sp.csr_array
    rewards: FloatArray
    gamma: float
    mu0: FloatArray
    allowed: BoolArray
    layout: tuple[str, ...] | None
    state_labels: tuple[Hashable, ...] | None
    action_labels: tuple[Hashable, ...] | None
    counts: FloatArray | None
    n_states: int
    n_actions: int

    def _annotate(self, **given: Any) -> None:
        """Check and set what stands beside the tables."""
        readers = {
            "gamma": lambda value: as_scalar(value, "gamma", low=0.0, high=1.0, low_open=True),
            "mu0": lambda value: construction.as_start(value, self.n_states),
            "layout": lambda value: construction.as_layout(value, self.n_states),
            "state_labels": lambda value: construction.as_labels(value, "state_labels", self.n_states),
            "action_labels": lambda value: construction.as_labels(value, "action_labels", self.n_actions),
            "counts": lambda value: construction.as_counts(value, self.allowed.shape),
        }
        self.__dict__.update({name: readers[name](value) for name, value in given.items()})

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(
            f"an MDP is a value and cannot be changed: mdp.replace({name}=...) makes another"
            if name in PARTS
            else f"an MDP is a value and cannot be changed: {name} cannot be set"
        )

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an MDP is a value and cannot be changed: {name} cannot be deleted")

    def replace(self, **changes: Any) -> Self:
        """Another MDP, some of what it consists of replaced: ``mdp.replace(gamma=0.9)``.

        Parameters
        ----------
        **changes
            Arguments of :class:`MDP` by name; ``transitions`` and ``rewards`` are other names of ``P`` and ``r``.

        Examples
        --------
        >>> from reps_opt import MDP
        >>> mdp = MDP([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]], [[1.0, 0.0], [0.0, 2.0]], order="SAS")
        >>> mdp.replace(gamma=0.5)
        MDP(2 states, 2 actions, gamma=0.5)
        """
        changes = {{"transitions": "P", "rewards": "r"}.get(name, name): value for name, value in changes.items()}
        if changes.keys() <= {*ANNOTATIONS, "r", "order"}:
            other = object.__new__(type(self))
            other.__dict__.update(self.__getstate__())
            order = changes.pop("order", None)
            if "r" in changes:
                rewards = construction.as_rewards(changes.pop("r"), order, self.transitions, self.allowed)
                other.__dict__["rewards"] = rewards
            other._annotate(**changes)
            return other
        kept: dict[str, Any] = {"P": self.transitions, "r": self.rewards, "allowed": self.allowed}
        kept |= {name: getattr(self, name) for name in ANNOTATIONS}
        if "P" in changes and np.shape(changes["P"]) != self.transitions.shape:
            kept["allowed"] = None
        return type(self)(**kept | changes)

    __replace__ = replace

    # Products with the tables

    @cached_property
    def _dense(self) -> FloatArray | None:
        """Transitions (S, A, S) of a small MDP, on which dense algebra is faster than sparse bookkeeping."""
        if self.n_states > DENSE_STATES or self.transitions.shape[0] * self.n_states > DENSE_ENTRIES:
            return None
        return self.transitions.toarray().reshape(self.n_states, self.n_actions, self.n_states)

    def _chain(self, policy: FloatArray) -> Chain:
        if self._dense is not None:
            return (policy[:, None, :] @ self._dense)[:, 0]
        n_pairs = self.n_states * self.n_actions
        starts = np.arange(0, n_pairs + 1, self.n_actions)
        choose = slim(sp.csr_array((policy.ravel(), np.arange(n_pairs), starts), shape=(self.n_states, n_pairs)))
        if (policy == 0).any():
            choose = choose.copy()
            choose.eliminate_zeros()
        return choose @ self.transitions

    def _bellman_error(self, value: FloatArray, level: float | FloatArray) -> FloatArray:
        error = (self.rewards - level) + (self.gamma * self._ahead(value) - value[:, None])
        return error if self._has_every_pair else np.where(self.allowed, error, -np.inf)

    def _ahead(self, value: FloatArray) -> FloatArray:
        """Expected value (S, A) of the next state."""
        if self._dense is not None:
            return self._dense @ value
        return (self.transitions @ value).reshape(self.rewards.shape)

    @cached_property
    def _has_every_pair(self) -> bool:
        return bool(self.allowed.all())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tables):
            return NotImplemented
        return self is other or (self._plain_parts() == other._plain_parts() and self._digest == other._digest)

    def __hash__(self) -> int:
        return hash((self._plain_parts(), self._digest))

    def _plain_parts(self) -> tuple[Any, ...]:
        return self.gamma, self.allowed.shape, self.layout, self.state_labels, self.action_labels

    @cached_property
    def _digest(self) -> bytes:
        """Fingerprint of the arrays: equal tables have equal bytes, and others collide with probability 2^-256."""
        found = hashlib.sha256()
        P = self.transitions
        counts = () if self.counts is None else (self.counts,)
        for part in (P.data, P.indices, P.indptr, self.rewards, self.mu0, self.allowed, *counts):
            found.update(np.ascontiguousarray(part).data)
        return found.digest()

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in (*PARTS, "n_states", "n_actions")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        construction.freeze(self.transitions)
        for name in ("rewards", "mu0", "allowed", "counts"):
            if state[name] is not None:
                self.__dict__[name] = read_only(state[name])
