"""REPS-style joint bounds against a TRPO-style bound, from samples, over a finite horizon.

Every update sees a few episodes of its own policy, and the model they suggest. REPS bounds the new state-action
distribution of each step against the data's (Lioutikov et al. 2014); a TRPO-style step keeps the old states and old
advantages and bounds the policy only. Both get the same radius a step, and their policies are evaluated exactly.

python examples/bounds.py --plot bounds.png
"""

from __future__ import annotations

import numpy as np
import typer
from harness import draw_shares

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


def episodes(mdp: MDP, policy: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """States, actions and next states (T, n) of n episodes under a time-indexed policy (T, S, A)."""
    transitions = mdp.transitions.toarray().reshape(*mdp.rewards.shape, -1)
    state, rows = draw(np.tile(mdp.mu0, (n, 1)), rng), []
    for table in policy:
        action = draw(table[state], rng)
        following = draw(transitions[state, action], rng)
        rows.append((state, action, following))
        state = following
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def draw(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One index (n,) from each row (n, k)."""
    levels = probabilities.cumsum(axis=1)
    return np.argmax(levels > rng.random((len(levels), 1)) * levels[:, -1:], axis=1)


def model(mdp: MDP, states: np.ndarray, actions: np.ndarray, following: np.ndarray) -> MDP:
    """The frequencies of the data as an MDP; a pair that was never tried stays where it is and pays nothing."""
    counts = np.zeros((*mdp.rewards.shape, mdp.mu0.size))
    np.add.at(counts, (states, actions, following), 1.0)
    tried = counts.sum(axis=2, keepdims=True)
    still = np.broadcast_to(np.eye(mdp.mu0.size)[:, None, :], counts.shape)
    rewards = mdp.rewards * (tried[:, :, 0] > 0)
    return MDP(np.where(tried > 0, counts / np.maximum(tried, 1), still), rewards, mdp.gamma, mdp.mu0)


def update(known: MDP, policy: np.ndarray, epsilon: float, bound: str) -> tuple[np.ndarray, float]:
    """New policy (T, S, A) and predicted gain."""
    if bound == "trpo":
        step = surrogate_step(FiniteHorizonREPS(known, policy, len(policy), epsilon))
        return step.policy, step.predicted_gain
    solution = solve(FiniteHorizonREPS(known, policy, len(policy), epsilon, bound))
    return solution.policy, solution.objective - solution.problem.reference_return


def expected_return(mdp: MDP, policy: np.ndarray) -> float:
    """Exact discounted return of a time-indexed policy (T, S, A)."""
    return FiniteHorizonREPS(mdp, policy, len(policy), np.inf).reference_return


def learn(mdp: MDP, horizon: int, epsilon: float, bound: str, n_updates: int, seed: int) -> np.ndarray:
    """Exact return before and predicted gain of each update (2, n_updates + 1); the last gain is NaN."""
    rng, rows = np.random.default_rng(seed), []
    policy = np.broadcast_to(mdp.uniform_policy(), (horizon, *mdp.rewards.shape))
    for _ in range(n_updates):
        known = model(mdp, *episodes(mdp, policy, N_EPISODES, rng))
        value = expected_return(mdp, policy)
        policy, predicted = update(known, policy, epsilon, bound)
        rows.append((value, predicted))
    return np.array([*rows, (expected_return(mdp, policy), np.nan)]).T


def main(n_seeds: int = 30, n_updates: int = N_UPDATES, plot: str | None = None) -> dict:
    """Learn over several seeds, print the table, draw the curves, return the shares of the possible gain."""
    shares = {}
    for name, (mdp, horizon) in CASES.items():
        print(f"\n{name}, T = {horizon}, {N_EPISODES} episodes an update, {n_seeds} seeds")
        print(
            "epsilon bound                predicted/actual gain, first   share of the gain: worst update   half   last"
        )
        limit = FiniteHorizonREPS(mdp, mdp.uniform_policy(), horizon, np.inf)
        for epsilon in EPSILONS:
            for label, bound in BOUNDS.items():
                runs = np.array([learn(mdp, horizon, epsilon, bound, n_updates, seed) for seed in range(n_seeds)])
                gains = np.diff(runs[:, 0], axis=1)
                share = (runs[:, 0] - limit.reference_return) / (solve(limit).objective - limit.reference_return)
                first = f"{runs[:, 1, 0].mean():10.3f} {gains[:, 0].mean():8.3f}"
                worst = np.diff(share, axis=1).min(axis=1).mean()
                half, last = share[:, n_updates // 2], share[:, -1]
                error = last.std() / np.sqrt(n_seeds)
                print(
                    f"{epsilon:7g} {label:<20}{first}{worst:40.3f}{half.mean():12.3f}{last.mean():7.3f} +- {error:.3f}"
                )
                shares[name, epsilon, label] = share
    if plot:
        draw_shares({(f"{name}, epsilon {epsilon:g}", label): s for (name, epsilon, label), s in shares.items()}, plot)
    return shares


if __name__ == "__main__":
    typer.run(main)
