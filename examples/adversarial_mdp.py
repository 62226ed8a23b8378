"""O-REPS against an adversary: regret grows like the square root of the number of episodes, and stays under its bound.

The learning rate is the one the bound is proven with. It is small: until it has moved the policy, regret grows with T
itself, so that the slope over all T is above the bound's .5 and falls towards it as T grows; both are printed.

A random loop-free MDP (L = 4 layers, |X| = 10 states, |A| = 2 actions), losses whose means are redrawn five times, full
information and bandit feedback, many seeds.

python examples/adversarial_mdp.py --adversary switching --plot regret.png
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import typer
from tqdm import tqdm

import envs
from reps_opt import ORePS

LAYERS = (1, 3, 3, 3)
N_ACTIONS = 2
EPISODES = (50, 100, 200, 400, 800, 1600, 3200)
N_SEEDS = 30
ADVERSARY = "switching"


def regrets(feedback: str, n_episodes: int, n_seeds: int, adversary: str) -> tuple[np.ndarray, float, float]:
    """Regret of each seed, the bound, and the largest duality gap of any projection."""
    seeds = np.random.SeedSequence(n_episodes).spawn(n_seeds)
    runs = []
    for seed in tqdm(seeds, desc=f"{feedback}, T = {n_episodes}", disable=None):
        mdp_seed, loss_seed, play_seed = seed.spawn(3)
        problem = envs.layered(LAYERS, N_ACTIONS, seed=mdp_seed)
        learner = ORePS(problem.mdp, problem.n_layers, n_episodes, feedback)
        losses = problem.losses(n_episodes, adversary, seed=loss_seed)
        runs.append(learner.run(losses, np.random.default_rng(play_seed)))
    return np.array([run.regret for run in runs]), runs[0].bound, max(run.gaps.max() for run in runs)


def main(
    episodes: list[int] = EPISODES, n_seeds: int = N_SEEDS, adversary: str = ADVERSARY, plot: str | None = None
) -> dict[str, float]:
    """Print the table, draw the figure, return the slope of log regret in log T by feedback."""
    slopes, axes = {}, None
    for feedback, colour in (("full", "C0"), ("bandit", "C1")):
        print(f"\n{feedback} feedback\n{'T':>6} {'regret':>9} {'std':>7} {'worst':>8} {'bound':>8} {'gap':>8}")
        rows = [regrets(feedback, n_episodes, n_seeds, adversary) for n_episodes in episodes]
        for n_episodes, (values, bound, gap) in zip(episodes, rows, strict=True):
            spread = values.std(ddof=1) if n_seeds > 1 else 0.0
            numbers = f"{values.mean():9.2f} {spread:7.2f} {values.max():8.2f} {bound:8.1f} {gap:8.1e}"
            print(f"{n_episodes:6d} {numbers}")
        table = np.array([values for values, _, _ in rows])
        slopes[feedback] = float(np.polyfit(np.log(episodes), np.log(table.mean(axis=1)), 1)[0])
        late = np.polyfit(np.log(episodes[-4:]), np.log(table.mean(axis=1)[-4:]), 1)[0]
        print(f"slope of log mean regret in log T: {slopes[feedback]:.3f}, over the last four T {late:.3f}")
        if plot:
            axes = plt.subplots(figsize=(6, 4), layout="constrained")[1] if axes is None else axes
            axes.loglog(episodes, table.mean(axis=1), colour, marker="o", label=f"{feedback}: {slopes[feedback]:.2f}")
            axes.fill_between(episodes, table.min(axis=1), table.max(axis=1), color=colour, alpha=0.2, lw=0)
            axes.loglog(
                episodes, [bound for _, bound, _ in rows], colour, ls="--", label=f"{feedback}: bound (slope .5)"
            )
    if plot and axes is not None:
        axes.set(
            xlabel="episodes T", ylabel="regret", title=f"O-REPS, {adversary} losses: mean and range of {n_seeds} seeds"
        )
        axes.legend(title="slope", fontsize="small")
        axes.figure.savefig(plot, dpi=120)
        plt.close(axes.figure)
    return slopes


if __name__ == "__main__":
    typer.run(main)
