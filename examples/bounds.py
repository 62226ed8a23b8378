"""REPS-style joint bounds against a TRPO-style bound, from samples, over a finite horizon.

Every update sees a few episodes of its own policy, and the model they suggest. REPS bounds the new state-action
distribution of each step against the data's (Lioutikov et al. 2014); a TRPO-style step keeps the old states and old
advantages and bounds the policy only. Both get the same radius a step, and their policies are evaluated exactly.

python examples/bounds.py --plot bounds.png
"""

from __future__ import annotations

import numpy as np
import typer
from drawing import draw_shares
from time_indexed import SHARES, expected_return, frequencies, report_shares, tabular_episodes

import envs
from reps_opt import MDP, FiniteHorizonREPS, solve, surrogate_step

CASES = {
    "single chain": (envs.single_chain(), 20),
    "river swim": (envs.riverswim(), 20),
    "garnet": (envs.garnet(20, 3, 4, seed=1), 10),
}
EPSILONS = (0.05, 0.5)  # nats a step
N_EPISODES = 20  # an update
N_UPDATES = 12
BOUNDS = {"joint bound (REPS)": "per_step", "policy bound (TRPO)": "trpo"}


def update(known: MDP, policy: np.ndarray, epsilon: float, bound: str) -> tuple[np.ndarray, float]:
    """New policy (T, S, A) and predicted gain."""
    if bound == "trpo":
        step = surrogate_step(FiniteHorizonREPS(known, policy, len(policy), epsilon))
        return step.policy, step.predicted_gain
    solution = solve(FiniteHorizonREPS(known, policy, len(policy), epsilon, bound))
    return solution.policy, solution.objective - solution.problem.reference_return


def learn(mdp: MDP, horizon: int, epsilon: float, bound: str, n_updates: int, seed: int) -> np.ndarray:
    """Exact return before and predicted gain of each update (2, n_updates + 1); the last gain is NaN."""
    rng, rows = np.random.default_rng(seed), []
    policy = np.broadcast_to(mdp.uniform_policy(), (horizon, *mdp.rewards.shape))
    for _ in range(n_updates):
        known = frequencies(mdp, *tabular_episodes(mdp, policy, N_EPISODES, rng))
        value = expected_return(mdp, policy)
        policy, predicted = update(known, policy, epsilon, bound)
        rows.append((value, predicted))
    return np.array([*rows, (expected_return(mdp, policy), np.nan)]).T


def main(n_seeds: int = 30, n_updates: int = N_UPDATES, plot: str | None = None) -> dict:
    """Learn over several seeds, print the table, draw the curves, return the shares of the possible gain."""
    shares = {}
    for name, (mdp, horizon) in CASES.items():
        print(f"\n{name}, T = {horizon}, {N_EPISODES} episodes an update, {n_seeds} seeds")
        limit = solve(FiniteHorizonREPS(mdp, mdp.uniform_policy(), horizon, np.inf))
        print(SHARES)
        for epsilon in EPSILONS:
            for label, bound in BOUNDS.items():
                runs = np.array([learn(mdp, horizon, epsilon, bound, n_updates, seed) for seed in range(n_seeds)])
                share = report_shares(epsilon, label, runs[:, 1, 0], runs[:, 0], limit.objective)
                shares[name, epsilon, label] = share
                print()
    if plot:
        draw_shares({(f"{name}, epsilon {epsilon:g}", label): s for (name, epsilon, label), s in shares.items()}, plot)
    return shares


if __name__ == "__main__":
    typer.run(main)
