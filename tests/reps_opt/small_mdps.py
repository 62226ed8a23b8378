"""Small random MDPs, what leaves their problems unchanged, and an independent pose of them in CVXPY.

Shapes: S states, A actions.
"""

import warnings
from typing import NamedTuple

import cvxpy as cp
import numpy as np

from reps_opt import MDP, Status, solve

TIGHT = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}


class Case(NamedTuple):
    """An MDP, a reference occupancy (S, A), a cost (S, A), and the generator that made them."""

    mdp: MDP
    reference: np.ndarray
    cost: np.ndarray
    rng: np.random.Generator


def random_case(seed, n_states=4, n_actions=3):
    """Discounted for even seeds, average reward for odd ones."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(n_states, 0.5), size=(n_states, n_actions))
    mdp = MDP(P, rng.normal(size=(n_states, n_actions)), [0.9, 1.0][seed % 2], rng.dirichlet(np.ones(n_states)))
    reference = mdp.occupancy(rng.dirichlet(np.full(n_actions, 2.0), size=n_states))
    return Case(mdp, reference, rng.normal(size=(n_states, n_actions)), rng)


def dense(mdp):
    return mdp.transitions.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)


def changed(mdp, r=None, mu0=None, P=None):
    """The MDP with some of its data replaced."""
    return MDP(
        mdp.transitions if P is None else P,
        mdp.rewards if r is None else r,
        mdp.gamma,
        mdp.mu0 if mu0 is None else mu0,
    )


def occupancy_set(mdp):
    """A CVXPY variable (S*A,) and the constraints that make it an occupancy, straight from the definition."""
    n = mdp.n_states * mdp.n_actions
    x = cp.Variable(n, nonneg=True)
    leaving = np.kron(np.eye(mdp.n_states), np.ones(mdp.n_actions))
    balance = (leaving - mdp.gamma * mdp.transitions.toarray().T) @ x == (1 - mdp.gamma) * mdp.mu0
    return x, [balance, cp.sum(x) == 1]


def optimum(objective, constraints):
    """Value of a CVXPY problem, solved tightly."""
    problem = cp.Problem(objective, constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tolerances beyond what the solver can always reach
        return problem.solve(solver="CLARABEL", accept_unknown=True, **TIGHT)


def by_both(problem, route):
    """The answers by the default route and by another, which is certified too, and as good."""
    reference, solution = solve(problem), solve(problem, route)
    assert solution.status is Status.CERTIFIED, solution
    assert abs(solution.objective - reference.objective) <= 1e-6, (reference, solution)
    return reference, solution


def permuted(case):
    """States and actions renamed: new state i is old state[i]."""
    mdp, rng = case.mdp, np.random.default_rng(5)
    state, action = rng.permutation(mdp.n_states), rng.permutation(mdp.n_actions)
    grid = np.ix_(state, action)
    P = dense(mdp)[np.ix_(state, action, state)]
    return Case(MDP(P, mdp.rewards[grid], mdp.gamma, mdp.mu0[state]), case.reference[grid], case.cost[grid], rng)


def with_duplicated_action(case, share=0.3):
    """Action 0 comes twice, and the reference splits its mass between the two."""
    mdp = case.mdp
    P = np.concatenate([dense(mdp), dense(mdp)[:, :1]], axis=1)
    both = [np.concatenate([a, a[:, :1]], axis=1) for a in (mdp.rewards, case.reference, case.cost)]
    both[1][:, 0] *= share
    both[1][:, -1] *= 1 - share
    return Case(MDP(P, both[0], mdp.gamma, mdp.mu0), both[1], both[2], case.rng)


def with_split_state(case, share=0.3):
    """State 0 comes twice, entered with probabilities ``share`` and ``1 - share``."""
    mdp = case.mdp
    P = np.concatenate([dense(mdp), dense(mdp)[:1]], axis=0)
    P = np.concatenate([P, (1 - share) * P[:, :, :1]], axis=2)
    P[:, :, 0] *= share
    both = [np.concatenate([a, a[:1]], axis=0) for a in (mdp.rewards, case.reference, case.cost)]
    mu0 = np.append(mdp.mu0, (1 - share) * mdp.mu0[0])
    mu0[0] *= share
    both[1][0] *= share
    both[1][-1] *= 1 - share
    return Case(MDP(P, both[0], mdp.gamma, mu0), both[1], both[2], case.rng)


SAME_PROBLEM = {"permuted": permuted, "duplicated action": with_duplicated_action, "split state": with_split_state}
