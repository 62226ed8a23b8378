"""What a Markov decision process can reach: the graph questions behind presolve and average-reward evaluation.

Shapes: S states, A actions; ``transitions`` is sparse (S*A, S) with row ``s*A + a``; ``allowed`` is a mask (S*A,)
of the state-action pairs in play.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse import csgraph

from reps_opt.tolerances import CLOSURE_STATES

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


def state_graph(transitions: sp.csr_array, allowed: BoolArray) -> sp.csr_array:
    """Adjacency (S, S) of "some allowed action moves s to s' with positive probability"."""
    n_states = transitions.shape[1]
    n_actions = transitions.shape[0] // n_states
    row = np.repeat(np.arange(transitions.shape[0]), np.diff(transitions.indptr))
    led = allowed[row] & (transitions.data > 0)
    source, target = row[led] // n_actions, transitions.indices[led]
    graph = sp.coo_array((np.ones(source.size, dtype=np.int8), (source, target)), shape=(n_states, n_states)).tocsr()
    graph.data[:] = 1
    return graph


def slim(matrix: sp.csr_array) -> sp.csr_array:
    """The matrix with indices of four bytes, where they fit: a product then reads a quarter less."""
    if max(*matrix.shape, matrix.nnz) > np.iinfo(np.int32).max or matrix.indices.dtype == np.int32:
        return matrix
    parts = matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)
    return sp.csr_array(parts, shape=matrix.shape)


def reachable_states(graph: Any, start: BoolArray) -> BoolArray:
    """States that a walk from ``start`` can visit, ``start`` included; the graph is a CSR matrix or an array."""
    if start.all():
        return start.copy()
    if sp.issparse(graph) and graph.shape[0] <= CLOSURE_STATES:
        graph = graph.toarray()
    if not sp.issparse(graph):
        reached, last = start.copy(), start
        while last.any():
            last = (graph[last] > 0).any(axis=0) & ~reached
            reached |= last
        return reached
    n_states = graph.shape[0]
    source = sp.csr_array(start[None, :].astype(np.int8))
    corner = sp.csr_array((n_states + 1, 1), dtype=np.int8)
    with_source = sp.hstack([sp.vstack([graph, source]), corner], format="csr")
    visited = csgraph.breadth_first_order(with_source, n_states, return_predecessors=False)
    reached = np.zeros(n_states + 1, dtype=bool)
    reached[visited] = True
    return reached[:-1]


def closed_pairs(transitions: sp.csr_array, allowed: BoolArray) -> BoolArray:
    """Drop, until nothing changes, every pair that can lead to a state in which no allowed pair is left."""
    n_states = transitions.shape[1]
    allowed = allowed.copy()
    while True:
        dead = ~allowed.reshape(n_states, -1).any(axis=1)
        if not dead.any():
            return allowed
        doomed = allowed & (transitions @ dead.astype(np.float64) > 0)
        if not doomed.any():
            return allowed
        allowed &= ~doomed


def end_components(transitions: sp.csr_array, allowed: BoolArray) -> tuple[BoolArray, IntArray]:
    """Maximal end components: where a stationary distribution of some policy on ``allowed`` can have its mass.

    Returns
    -------
    pairs : (S*A,) mask
        Allowed pairs that keep the process inside its component.
    component : (S,) int
        Component of each state, -1 for a state in none.

    References
    ----------
    de Alfaro (1997), *Formal verification of probabilistic systems*, section 3.3.
    """
    n_states = transitions.shape[1]
    pairs = allowed.copy()
    coo = transitions.tocoo()
    positive = coo.data > 0
    row, col = coo.row[positive], coo.col[positive]
    n_actions = transitions.shape[0] // n_states
    while True:
        _, label = csgraph.connected_components(state_graph(transitions, pairs), connection="strong")
        leaves = np.zeros(pairs.size, dtype=bool)
        leaves[row[label[row // n_actions] != label[col]]] = True
        if not (pairs & leaves).any():
            break
        pairs &= ~leaves
    component = np.full(n_states, -1, dtype=np.int64)
    alive = pairs.reshape(n_states, n_actions).any(axis=1)
    component[alive] = np.unique(label[alive], return_inverse=True)[1]
    return pairs, component


def recurrent_classes(chain: Any) -> IntArray:
    """Recurrent class of each state of a Markov chain (S, S), sparse or dense, -1 for a transient state."""
    if not sp.issparse(chain):
        if chain.shape[0] <= CLOSURE_STATES:
            return _classes_by_closure(chain)
        chain = sp.csr_array(chain)
    _, component = end_components(chain, np.ones(chain.shape[0], dtype=bool))
    return component


def _classes_by_closure(chain: NDArray[np.float64]) -> IntArray:
    """Recurrent classes from everything that every state leads to, by squaring: for small chains."""
    leads = (chain > 0) | np.eye(chain.shape[0], dtype=bool)
    while True:
        further = leads.astype(np.float32) @ leads.astype(np.float32) > 0
        if np.array_equal(further, leads):
            break
        leads = further
    recurrent = ~(leads & ~leads.T).any(axis=1)
    component = np.full(chain.shape[0], -1, dtype=np.int64)
    component[recurrent] = np.unique(leads[recurrent].argmax(axis=1), return_inverse=True)[1]
    return component
