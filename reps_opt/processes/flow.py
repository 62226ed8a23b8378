"""The flow of an MDP: which pairs can carry mass at all, the rows that say where it goes, and occupancies along it.

A flow is stationary, over pairs (s, a), or unrolled in time, over pairs (t, s, a): then every step is a layer, and
transitions lead from one layer to the next, and out after the last. Unrolled, every MDP is loop-free.

Shapes: S states and A actions of the MDP, T steps; n pairs and m nodes kept, the nodes being states s or (t, s); a
table is (S, A) over pairs and (S,) over nodes, or (T, S, A) and (T, S).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg.lapack import dtrtrs

from reps_opt.decimals import ONE, ZERO, Numbers, numbers
from reps_opt.processes import markov, time_indexed
from reps_opt.processes.graph import (
    BoolArray,
    IntArray,
    closed_pairs,
    end_components,
    reachable_states,
    slim,
    state_graph,
)
from reps_opt.processes.mdp import MDP
from reps_opt.tolerances import (
    CLOSE,
    CONSISTENT,
    FEW_AHEAD,
    FEW_ENTRIES,
    LAST_PLACE,
    REMEMBERED,
    TINY,
)
from reps_opt.validation import FloatArray
from reps_opt.values import Value, cached_property, value


@value
class Flow(Value):
    """The pairs of an MDP that can carry mass, and the flow rows over them.

    Every occupancy of the flow is zero outside the pairs, and some occupancy is positive on all of them, so that the
    dual of a program over them is attained.

    Attributes
    ----------
    pairs : (n,) int
        Flat indices of the pairs kept in a table, increasing.
    horizon : int or None
        T of a flow unrolled in time, None of a stationary one.
    component : (m,) int or None
        End component of each node, with average reward.
    """

    mdp: MDP
    pairs: IntArray
    horizon: int | None = None
    component: IntArray | None = None

    @classmethod
    def of(cls, mdp: MDP, allowed: BoolArray) -> Flow | None:
        """Keep the pairs that can carry mass when only ``allowed`` pairs (S*A,) may; None when no occupancy is left.

        Discounted: pairs that lead out of the allowed set are dropped, then states that cannot be reached from
        ``mu0``. Average reward: the maximal end components are kept, since every stationary distribution lives on them.
        """
        allowed = allowed & mdp.allowed.ravel()
        if mdp._dense is None:
            return cls._of(mdp, allowed)
        key, known = allowed.tobytes(), mdp._flows
        if key not in known:
            if len(known) >= REMEMBERED:
                known.clear()
            known[key] = cls._of(mdp, allowed)
        return known[key]

    @classmethod
    def _of(cls, mdp: MDP, allowed: BoolArray) -> Flow | None:
        if mdp.gamma == 1:
            kept, component = end_components(mdp.transitions, allowed)
            pairs = np.flatnonzero(kept)
            return cls(mdp, pairs, None, component[np.unique(pairs // mdp.n_actions)]) if pairs.size else None
        kept = closed_pairs(mdp.transitions, allowed)
        alive = kept.reshape(mdp.n_states, mdp.n_actions).any(axis=1)
        if (mdp.mu0[~alive] > 0).any():
            return None
        if not (mdp.mu0 > 0).all():
            reached = reachable_states(state_graph(mdp.transitions, kept), mdp.mu0 > 0)
            kept &= np.repeat(reached, mdp.n_actions)
        return cls(mdp, np.flatnonzero(kept))

    @classmethod
    def unrolled(cls, mdp: MDP, allowed: BoolArray) -> Flow:
        """Keep the pairs that are reached from ``mu0`` when only ``allowed`` pairs (T, S, A) may be taken.

        Whatever an allowed pair leads to must have an allowed pair itself.
        """
        kept = np.zeros_like(allowed)
        here = mdp.mu0 > 0
        for t, may in enumerate(allowed & mdp.allowed):
            kept[t] = may & here[:, None]
            here = (mdp.transitions.T @ kept[t].ravel().astype(float)) > 0
        return cls(mdp, np.flatnonzero(kept), allowed.shape[0])

    def within(self, allowed: BoolArray) -> Flow | None:
        """The part of the flow on which only ``allowed`` of its pairs (n,) may be taken; None when nothing is left."""
        table = self.spread(allowed.astype(np.float64)) > 0
        return Flow.of(self.mdp, table.ravel()) if self.horizon is None else Flow.unrolled(self.mdp, table)

    # Pairs and nodes

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a table over pairs: (S, A), or (T, S, A)."""
        shape = self.mdp.rewards.shape
        return shape if self.horizon is None else (self.horizon, *shape)

    @property
    def gamma(self) -> float:
        """What the flow is discounted by: the MDP's gamma, and nothing over a horizon."""
        return self.mdp.gamma if self.horizon is None else 1.0

    @property
    def averages(self) -> bool:
        """Whether the flow goes on for ever without discount: the rewards are then averaged."""
        return self.horizon is None and self.mdp.gamma == 1

    @cached_property
    def kept(self) -> BoolArray:
        """Mask of the pairs, as a table."""
        return self.spread(np.ones(self.pairs.size)) > 0

    @cached_property
    def nodes(self) -> IntArray:
        """Flat indices (m,) of the nodes in a table: those of the pairs."""
        node = self.pairs // self.mdp.n_actions
        return node[np.diff(node, prepend=-1) > 0]

    @cached_property
    def pair_node(self) -> IntArray:
        """Position in ``nodes`` of the node of each pair (n,)."""
        return np.cumsum(np.diff(self.pairs // self.mdp.n_actions, prepend=-1) > 0) - 1

    @cached_property
    def first_pairs(self) -> IntArray:
        """First pair (m,) of each node."""
        return np.searchsorted(self.pair_node, np.arange(self.nodes.size))

    @cached_property
    def layer(self) -> IntArray:
        """Step t of each pair (n,)."""
        return self.pairs // self.mdp.rewards.size

    @cached_property
    def layer_starts(self) -> IntArray:
        """First pair (T,) of each step."""
        return np.searchsorted(self.layer, np.arange(self.horizon or 1))

    def pick(self, table: FloatArray) -> FloatArray:
        """Values (n,) of the pairs of a table."""
        return table.ravel()[self.pairs]

    def pick_nodes(self, table: FloatArray) -> FloatArray:
        """Values (m,) of the nodes of a table."""
        return table.ravel()[self.nodes]

    def spread(self, values: FloatArray, fill: float = 0.0) -> FloatArray:
        """Values (n,) of the pairs as a table, ``fill`` elsewhere."""
        return _spread(values, self.pairs, self.shape, fill)

    def spread_nodes(self, values: FloatArray) -> FloatArray:
        """Values (m,) of the nodes as a table, NaN elsewhere."""
        return _spread(values, self.nodes, self.shape[:-1], np.nan)

    def node_sums(self, values: FloatArray) -> FloatArray:
        """Sums (m,) of values (n,) over the pairs of each node."""
        return np.bincount(self.pair_node, weights=values, minlength=self.nodes.size).astype(np.float64)

    def conditional(self, weights: FloatArray) -> FloatArray:
        """Policy (n,) in proportion to weights (n,) in each node, even where they vanish."""
        mass = self.node_sums(weights)[self.pair_node]
        even = 1.0 / self.node_sums(np.ones_like(weights))[self.pair_node]
        return np.where(mass > 0, weights / np.where(mass > 0, mass, 1.0), even)

    # Rows

    @cached_property
    def leaving(self) -> sp.csr_array:
        """Indicator (n, m) of the node that a pair belongs to."""
        n = self.pairs.size
        return slim(sp.csr_array((np.ones(n), self.pair_node, np.arange(n + 1)), shape=(n, self.nodes.size)))

    @cached_property
    def arriving(self) -> sp.csr_array:
        """Transition probabilities (n, m) from pairs to the nodes they lead to; zero rows where they lead out."""
        rows = self.mdp.transitions
        if self.horizon is None:
            rows = rows[self.pairs] if self.pairs.size < rows.shape[0] else rows
            return rows if self.nodes.size == self.mdp.n_states else rows[:, self.nodes]
        n_states = self.mdp.n_states
        position = np.full((self.horizon + 1) * n_states, -1)
        position[self.nodes] = np.arange(self.nodes.size)
        ahead = rows[self.pairs % self.mdp.rewards.size].tocoo()
        column = position[(self.layer[ahead.row] + 1) * n_states + ahead.col]
        inside = column >= 0
        shape = (self.pairs.size, self.nodes.size)
        return sp.csr_array((ahead.data[inside], (ahead.row[inside], column[inside])), shape=shape)

    @cached_property
    def _arriving_table(self) -> FloatArray | None:
        """``arriving`` as an array, where that is so small that a sparse one only costs more; else None."""
        if self.horizon is not None:
            return self.arriving.toarray() if self.pairs.size * self.nodes.size <= FEW_AHEAD else None
        dense = self.mdp._dense
        return None if dense is None else dense.reshape(-1, self.mdp.n_states)[np.ix_(self.pairs, self.nodes)]

    @cached_property
    def rows(self) -> sp.csr_array | sp.csc_array | FloatArray:
        """Rows (m, n): what leaves a node less (discounted) what arrives there; an array where small."""
        if self._arriving_table is None or self._arriving_table.size > FEW_ENTRIES:
            return self.matrix
        rows = -self.gamma * self._arriving_table.T
        rows[self.pair_node, np.arange(self.pairs.size)] += 1.0
        return np.ascontiguousarray(rows)

    @cached_property
    def matrix(self) -> sp.csr_array | sp.csc_array:
        """The same, sparse; of a stationary flow by columns, one a pair: who needs both orders shares the entries."""
        arriving = self.arriving if self.gamma == 1 else self.gamma * self.arriving
        matrix = (self.leaving - arriving).T
        return matrix if self.horizon is None else matrix.tocsr()

    @cached_property
    def rhs(self) -> FloatArray:
        """Their right-hand side (m,): what of ``mu0`` begins in a node, zero with average reward."""
        if self.horizon is None:
            return (1 - self.gamma) * self.mdp.mu0[self.nodes]
        start = np.zeros(self.nodes.size)
        first = self.nodes[self.nodes < self.mdp.n_states]
        start[: first.size] = self.mdp.mu0[first]
        return start

    def exact(self) -> tuple[Numbers, Numbers]:
        """Rows and right-hand side of a stationary flow in decimal numbers, all probabilities summing to one exactly.

        As floats they sum to one up to 1e-16, which beside 1 - gamma = 1e-12 is a ten-thousandth of the mass.
        """
        gamma, arriving = Decimal(self.gamma), numbers(self.arriving.toarray())
        rows = -gamma * (arriving / arriving.sum(axis=1, keepdims=True)).T
        rows[self.pair_node, np.arange(self.pairs.size)] += ONE
        begins = numbers(self.mdp.mu0[self.nodes])
        return rows, begins * ((ONE - gamma) / begins.sum()) if gamma < 1 else ZERO * begins

    @cached_property
    def memo(self) -> dict[str, Any]:
        """What problems compute of the flow alone, kept beside it for the next problem."""
        return {}

    def remembered(self, name: str, compute: Callable[..., Any], *given: Any) -> Any:
        """What is computed of some arrays or words, until it is asked for of others."""
        found = self.recalled(name, *given)
        if found is None:
            found = compute(*given)
            self.memo[name] = given, found
        return found

    def recalled(self, name: str, *given: Any) -> Any:
        """What has been computed of them; None where it was last asked for of others, or not at all."""
        known = self.memo.get(name)
        return None if known is None or not all(map(_equal, known[0], given)) else known[1]

    @cached_property
    def grounds(self) -> IntArray:
        """One node a component whose value can be fixed at zero (average reward); none otherwise."""
        if not self.averages:
            return np.zeros(0, dtype=np.int64)
        return np.unique(self.components, return_index=True)[1]

    @property
    def components(self) -> IntArray:
        """End component (m,) of each node."""
        return np.zeros(self.nodes.size, dtype=np.int64) if self.component is None else self.component

    def missed(self, occupancy: FloatArray) -> float:
        """1-norm of what an occupancy (n,) misses of the flow of the whole MDP, not only in the nodes kept."""
        table = self.spread(occupancy)
        whole = self.mdp.flow_residual(table) if self.horizon is None else time_indexed.flow_residual(self.mdp, table)
        return float(np.abs(whole).sum())

    def off_mass(self, occupancy: FloatArray) -> float:
        """How far the mass of an occupancy (n,), of every step of it, is from one; infinite with a negative entry."""
        if occupancy.min() < 0:
            return np.inf
        masses = occupancy.sum() if self.horizon is None else np.add.reduceat(occupancy, self.layer_starts)
        return float(np.abs(masses - 1).max())

    # Occupancies and values

    def chain(self, policy: FloatArray) -> markov.Chain:
        """Transition matrix (m, m) of a policy (n,)."""
        if self._arriving_table is not None:
            if self.pairs.size == self.nodes.size * self.mdp.n_actions:  # every action of every node
                actions = self._arriving_table.reshape(self.nodes.size, self.mdp.n_actions, -1)
                return (policy.reshape(self.nodes.size, 1, -1) @ actions)[:, 0]
            return np.add.reduceat(policy[:, None] * self._arriving_table, self.first_pairs, axis=0)
        n, m = self.pairs.size, self.nodes.size
        starts = np.append(self.first_pairs, n)
        choose = slim(sp.csr_array((policy, np.arange(n), starts), shape=(m, n)))
        return (choose @ self.arriving).tocsr()

    def occupancy(self, policy: FloatArray, near: FloatArray | None = None) -> FloatArray:
        """Exact occupancy (n,) of a policy (n,).

        ``near`` (m,) is a distribution over nodes: where an iteration starts, and with average reward what says how
        much mass each recurrent class has.
        """
        if self.horizon is not None and self._arriving_table is not None:
            # in order of time (I - P)' mu = mu0 is triangular
            mu = dtrtrs(-self.chain(policy).T, self.rhs, lower=1, unitdiag=1)[0]
            return np.asarray(mu[self.pair_node] * policy)
        if self.horizon is not None:
            return self.pick(time_indexed.occupancy_of(self.mdp, self.spread(policy)))
        chain = self.chain(policy)
        if self.averages:
            mu = markov.stationary(chain, near)
        else:
            mu = markov.discounted_occupancy(chain, self.gamma, self.mdp.mu0[self.nodes], near)
        return mu[self.pair_node] * policy

    def is_occupancy(self, point: FloatArray, missed: float) -> bool:
        """Whether a distribution (n,) that misses the flow by ``missed`` (1-norm) is the occupancy of its own policy.

        Rounding in the flow does not say so alone: where states are hardly ever left, a residual of 1e-12 may be that
        of a distribution a tenth of the mass away.
        """
        if missed > CONSISTENT:
            return False
        if missed <= max(LAST_PLACE, CLOSE * (1 - self.gamma)):  # |own - point| <= missed / (1 - gamma)
            return True
        own = self.occupancy(self.conditional(point), near=self.node_sums(point))
        return float(np.abs(own - point).sum()) <= CLOSE

    def interior(self) -> FloatArray:
        """Occupancy (n,) of the policy that takes every pair of a node equally often: positive on all pairs."""
        policy = self.conditional(np.ones(self.pairs.size))
        if self.horizon is not None:
            return np.maximum(self.occupancy(policy), TINY)
        chain = self.chain(policy)
        if self.averages:
            mu = markov.average_occupancy(chain, np.full(self.nodes.size, 1.0 / self.nodes.size))
        else:
            mu = markov.discounted_occupancy(chain, self.gamma, self.mdp.mu0[self.nodes], graded=True)
        return np.maximum(mu[self.pair_node] * policy, TINY)


def _equal(a: Any, b: Any) -> bool:
    return a is b or bool(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b)


def _spread(values: FloatArray, where: IntArray, shape: tuple[int, ...], fill: float) -> FloatArray:
    full = np.full(shape, fill)
    full.ravel()[where] = values
    return full
