"""Presolve for occupancy problems: which state-action pairs can carry mass at all, and the flow rows over them.

Shapes: S states and A actions of the MDP; n pairs and m states kept; flat pair index ``s*A + a``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from reps_opt.processes import markov
from reps_opt.processes.graph import BoolArray, IntArray, closed_pairs, end_components, reachable_states, state_graph
from reps_opt.processes.mdp import MDP
from reps_opt.program import Equal
from reps_opt.validation import FloatArray

if TYPE_CHECKING:
    from reps_opt.processes.dynamic_programming import OptimalPolicy

CONSISTENT = 1e-11
"""Largest 1-norm of the flow residual for which a reference counts as feasible itself."""

OWN = 1e-9
"""Largest distance of a feasible reference from the occupancy of its own policy, in the 1-norm."""

ROUNDING = 1e-15
"""Residual of the flow that is all rounding."""

START_RTOL = 1e-6
"""Relative residual of the value that solvers start from."""

LEAST_MASS = 1e-300
"""Mass of a pair that has underflowed."""


@dataclass(frozen=True)
class Reduction:
    """The pairs of an MDP that can carry mass, given the pairs allowed.

    Every feasible occupancy is zero outside them, and some feasible occupancy is positive on all of them, so that the
    dual of a program over them is attained.

    Attributes
    ----------
    pairs : (n,) int
        Flat indices of the pairs kept.
    states : (m,) int
        States kept: those of the pairs.
    component : (m,) int
        End component of each kept state (average reward); all zero when discounted.
    """

    mdp: MDP
    pairs: IntArray
    states: IntArray
    component: IntArray

    @cached_property
    def pair_state(self) -> IntArray:
        """Position in ``states`` of the state of each pair (n,)."""
        return np.searchsorted(self.states, self.pairs // self.mdp.n_actions)

    @cached_property
    def _arriving(self) -> sp.csr_array:
        """Transition probabilities (n, m) of the kept pairs into the kept states."""
        rows = self.mdp.transitions
        if self.pairs.size < rows.shape[0]:
            rows = rows[self.pairs]
        return rows if self.states.size == self.mdp.n_states else rows[:, self.states]

    def flow(self) -> Equal:
        """Flow rows ``sum_a p(s', a) - gamma sum p(s, a) P(s'|s, a) = (1 - gamma) mu0(s')``."""
        n, m = self.pairs.size, self.states.size
        leaving = sp.csr_array((np.ones(n), (np.arange(n), self.pair_state)), shape=(n, m))
        columns = leaving - self.mdp.gamma * self._arriving
        return Equal(columns.T.tocsr(), (1 - self.mdp.gamma) * self.mdp.mu0[self.states])

    def grounds(self) -> IntArray:
        """One state a component whose value can be fixed at zero (average reward); none when discounted."""
        if self.mdp.gamma < 1:
            return np.zeros(0, dtype=np.int64)
        return np.unique(self.component, return_index=True)[1]

    def optimum(self, rewards: FloatArray | None = None) -> tuple[OptimalPolicy, FloatArray]:
        """Optimal policy of the MDP made of the kept pairs, and the same policy as conditionals (n,) over them.

        The rewards (S*A,) are the MDP's unless others are given. An action not kept repeats one that is.
        """
        n_actions = self.mdp.n_actions
        first = np.searchsorted(self.pair_state, np.arange(self.states.size))
        table = np.repeat(self.pairs[first], n_actions).reshape(-1, n_actions)
        table[self.pair_state, self.pairs % n_actions] = self.pairs
        transitions = self.mdp.transitions[table.ravel()][:, self.states]
        reward = (self.mdp.rewards.ravel() if rewards is None else rewards)[table]
        start = self.mdp.mu0[self.states] if self.mdp.gamma < 1 else None
        best = MDP(transitions, reward, self.mdp.gamma, start).solve_optimal()
        chosen = table[np.arange(self.states.size), best.policy.argmax(axis=1)]
        return best, np.isin(self.pairs, chosen).astype(np.float64)

    def occupancy(self, policy: FloatArray, near: FloatArray | None = None) -> FloatArray:
        """Exact occupancy (n,) of conditionals (n,) over the kept pairs.

        ``near`` (m,) is a state distribution: where an iteration starts, and with average reward what says how much
        mass each recurrent class has.
        """
        chain = self.chain(policy)
        if self.mdp.gamma < 1:
            mu = markov.discounted_occupancy(chain, self.mdp.gamma, self.mdp.mu0[self.states], near)
        else:
            mu = _stationary(chain, near)
        return mu[self.pair_state] * policy

    def is_occupancy(self, point: FloatArray, missed: float) -> bool:
        """Whether a distribution (n,) that misses the flow by ``missed`` (1-norm) is the occupancy of its own policy.

        Rounding in the flow does not say so alone: where states are hardly ever left, a residual of 1e-12 may be that
        of a distribution a tenth of the mass away.
        """
        if missed > CONSISTENT:
            return False
        if missed <= max(ROUNDING, OWN * (1 - self.mdp.gamma)):  # |own - point| <= missed / (1 - gamma)
            return True
        own = self.occupancy(self.conditional(point), near=self.state_sums(point))
        return float(np.abs(own - point).sum()) <= OWN

    def conditional(self, point: FloatArray) -> FloatArray:
        """pi(a|s) = p(s, a) / sum_a p(s, a) (n,); uniform over the kept actions of a state without mass."""
        mass = self.state_sums(point)[self.pair_state]
        count = self.state_sums(np.ones_like(point))[self.pair_state]
        return np.where(mass > 0, point / np.where(mass > 0, mass, 1.0), 1.0 / count)

    def state_sums(self, values: FloatArray) -> FloatArray:
        """Sums (m,) of values (n,) over the actions of each kept state."""
        return np.bincount(self.pair_state, weights=values, minlength=self.states.size).astype(np.float64)

    def chain(self, policy: FloatArray) -> sp.csr_array:
        """Transition matrix (m, m) of a policy (n,) over the kept pairs."""
        n, m = self.pairs.size, self.states.size
        choose = sp.csr_array((policy, (self.pair_state, np.arange(n))), shape=(m, n))
        return (choose @ self._arriving).tocsr()

    def interior(self) -> FloatArray:
        """Occupancy (n,) of the policy that takes every kept action equally often: positive on all kept pairs."""
        policy = 1.0 / self.state_sums(np.ones(self.pairs.size))[self.pair_state]
        chain = self.chain(policy)
        if self.mdp.gamma < 1:
            mu = markov.discounted_occupancy(chain, self.mdp.gamma, self.mdp.mu0[self.states], graded=True)
        else:
            mu = markov.average_occupancy(chain, np.full(self.states.size, 1.0 / self.states.size))
        return np.maximum(mu[self.pair_state] * policy, LEAST_MASS)

    def value(self, weights: FloatArray) -> FloatArray:
        """Discounted value (m,) of the policy that chooses in proportion to the weights (n,), shifted to mean zero.

        It is where solvers start, and no more accurate than that needs. The shift is free: a constant added to the
        value changes nothing in the dual.
        """
        policy = weights / self.state_sums(weights)[self.pair_state]
        rewards = self.mdp.rewards.ravel()[self.pairs]
        reward = self.state_sums(policy * (rewards - rewards.min()))
        value = markov.discounted_solve(self.chain(policy), self.mdp.gamma, reward, rtol=START_RTOL)
        return value - value.mean()

    def spread_pairs(self, values: FloatArray, fill: float = 0.0) -> FloatArray:
        """Values (n,) of the kept pairs as an (S, A) array, ``fill`` elsewhere."""
        full = np.full(self.mdp.n_states * self.mdp.n_actions, fill)
        full[self.pairs] = values
        return full.reshape(self.mdp.n_states, self.mdp.n_actions)

    def spread_states(self, values: FloatArray, fill: float = np.nan) -> FloatArray:
        """Values (m,) of the kept states as an (S,) array, ``fill`` elsewhere."""
        full = np.full(self.mdp.n_states, fill)
        full[self.states] = values
        return full


def _stationary(chain: sp.csr_array, near: FloatArray | None) -> FloatArray:
    """Stationary distribution of a chain, its recurrent classes weighted by the mass of ``near``."""
    chain = sp.csr_array(chain)
    chain.eliminate_zeros()
    structure = markov.chain_structure(chain)
    inside = structure.component >= 0
    label = structure.component[inside]
    weight = np.ones(label.size) if near is None else near[inside]
    mass = np.bincount(label, weights=weight)
    mu = np.zeros(chain.shape[0])
    mu[inside] = (mass / mass.sum())[label] * structure.stationary[inside]
    return mu


def refill_underflow(mdp: MDP, reference: FloatArray) -> FloatArray:
    """Give the least mass there is to states that a flow-consistent reference leads to but has no mass in.

    In exact arithmetic such a state would have mass: in a large MDP it is a product of too many probabilities to be
    represented. Without it every pair on the way there would have to be ruled out.
    """
    silent: BoolArray = np.all(reference == 0, axis=1)
    if not silent.any() or np.abs(mdp.flow_residual(reference)).sum() > CONSISTENT:
        return reference
    pairs = ((reference > 0) | silent[:, None]) & mdp.allowed
    led_to = reachable_states(state_graph(mdp.transitions, pairs.ravel()), ~silent)
    filled = reference.copy()
    filled[(silent & led_to)[:, None] & mdp.allowed] = LEAST_MASS
    return filled


def reduce(mdp: MDP, allowed: BoolArray) -> Reduction | None:
    """Keep the pairs that can carry mass when only ``allowed`` pairs (S*A,) may; None when no occupancy is left.

    Discounted: pairs that lead out of the allowed set are dropped, then states that cannot be reached from ``mu0``.
    Average reward: the maximal end components are kept, since every stationary distribution lives on them.
    """
    component = np.zeros(mdp.n_states, dtype=np.int64)
    allowed = allowed & mdp.allowed.ravel()
    if mdp.gamma < 1:
        kept = closed_pairs(mdp.transitions, allowed)
        alive = kept.reshape(mdp.n_states, mdp.n_actions).any(axis=1)
        if (mdp.mu0[~alive] > 0).any():
            return None
        if not (mdp.mu0 > 0).all():
            reached = reachable_states(state_graph(mdp.transitions, kept), mdp.mu0 > 0)
            kept &= np.repeat(reached, mdp.n_actions)
    else:
        kept, component = end_components(mdp.transitions, allowed)
        if not kept.any():
            return None
    pairs = np.flatnonzero(kept)
    states = np.flatnonzero(kept.reshape(mdp.n_states, mdp.n_actions).any(axis=1))
    return Reduction(mdp, pairs, states, component[states])
