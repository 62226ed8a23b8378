"""Optimal policies without a ball, beside QuantEcon's modified policy iteration and HiGHS on the linear program.

OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/plain_mdp.py
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

import envs
from reps_opt import MDP
from tests.benchmarks.comparison import Cost, Goal, Row, installed, missing, show, timed

GAMMA, SLIP = 0.99, 0.2
SIDES, QUICK_SIDES = (100, 316), (10, 16)
LARGEST_LP = 10_000
EQUAL, FASTER = 1.0, 10.0
RESIDUAL = 1e-9


def residual(mdp: MDP, value: np.ndarray) -> float:
    """Largest error of the Bellman optimality equation, in units of the reward range."""
    ahead = (mdp.transitions @ value).reshape(mdp.rewards.shape)
    return float(np.abs((mdp.rewards + mdp.gamma * ahead).max(axis=1) - value).max() / np.ptp(mdp.rewards))


def quantecon(mdp: MDP) -> Cost:
    """QuantEcon's modified policy iteration on the same sparse rows, its compilation left out."""
    import quantecon

    def run(of: MDP) -> Any:
        s, a = np.divmod(np.arange(of.rewards.size), of.n_actions)
        problem = quantecon.markov.DiscreteDP(of.rewards.ravel(), sp.csr_matrix(of.transitions), of.gamma, s, a)
        return problem.solve(method="modified_policy_iteration", epsilon=1e-6, max_iter=10_000)

    run(envs.gridworld((5, 5), slip=SLIP, gamma=GAMMA))
    return timed(lambda: run(mdp))


def highs(mdp: MDP) -> Cost:
    """HiGHS on the primal linear program in V: minimise its sum over ``V >= r + gamma P V``."""
    identity = sp.kron(sp.eye_array(mdp.n_states), np.ones((mdp.n_actions, 1)))
    rows = sp.csr_matrix(mdp.gamma * mdp.transitions - identity)
    cost = np.full(mdp.n_states, 1.0 / mdp.n_states)
    return timed(lambda: linprog(cost, A_ub=rows, b_ub=-mdp.rewards.ravel(), bounds=(None, None), method="highs"))


def rows(quick: bool = False) -> Iterator[Row]:
    """A row a size and peer."""
    for side in QUICK_SIDES if quick else SIDES:
        base = envs.gridworld((side, side), slip=SLIP, gamma=GAMMA)
        rewards = np.random.default_rng(0).uniform(size=(base.n_states, 1)).repeat(4, axis=1)
        mdp = MDP(base.transitions, rewards, GAMMA)
        ours = timed(mdp.solve_optimal)
        error = residual(mdp, ours.value.value)
        name = f"S = {mdp.n_states:,}"
        common = ("optimal policy, grid", name, mdp.n_states, ours.cpu, f"residual {error:.0e}", error <= RESIDUAL)
        if not installed("quantecon"):
            yield Row(*common, note=missing("QuantEcon"))
        else:
            theirs = quantecon(mdp)
            goal = Goal("times QuantEcon's", ours.cpu / theirs.cpu, EQUAL)
            yield Row(
                *common,
                peer="QuantEcon, modified policy iteration",
                peer_cost=theirs.cpu,
                peer_accuracy=f"residual {residual(mdp, theirs.value.v):.0e}",
                goals=() if quick else (goal,),
            )
        if mdp.n_states <= LARGEST_LP:
            theirs = highs(mdp)
            goal = Goal("times faster", theirs.cpu / ours.cpu, FASTER, least=True)
            yield Row(
                *common,
                peer="SciPy, HiGHS on the linear program",
                peer_cost=theirs.cpu,
                peer_accuracy=f"residual {residual(mdp, theirs.value.x):.0e}",
                goals=() if quick else (goal,),
            )


if __name__ == "__main__":
    show(rows())
