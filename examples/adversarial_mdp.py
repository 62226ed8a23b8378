"""O-REPS against an adversary: regret grows like the square root of the number of episodes, and stays under its bound.

The learning rate is the one the bound is proven with. It is small: until it has moved the policy, regret grows with T
itself, so that the slope over small T is above the bound's .5. Printed is the slope from each T to the next, in the
mean over the same random loop-free MDPs (L = 4 layers, |X| = 10 states, |A| = 2 actions) and means of the losses;
beyond 3,000 episodes fewer of them are played. Losses are coin flips of fixed means. With ``--adversary switching``
the means are redrawn five times: the slopes are the same with full information, while the slower learner under bandit
feedback is less committed when they switch, and from 10,000 episodes on beats every fixed policy on some MDPs.

python examples/adversarial_mdp.py --plot regret.png
"""

import time

import numpy as np
import typer
from drawing import band, figure_in

import envs
from reps_opt import ORePS
from reps_opt.plotting import COLOURS

LAYERS, N_ACTIONS = (1, 3, 3, 3), 2
EPISODES = [100, 316, 1000, 3162, 10_000, 31_623, 100_000]
FULL_COUNT, FEWEST = 3162, 5  # episodes up to which every seed is played, and seeds at least
ADVERSARY = "iid"  # or "switching", "walk"


def regrets(feedback: str, n_episodes: int, n_seeds: int, adversary: str) -> tuple[np.ndarray, float, float]:
    """Regret of each seed, the bound, and the largest duality gap of any projection."""
    count = min(n_seeds, max(FEWEST, n_seeds * FULL_COUNT // n_episodes))
    runs = []
    for seed in np.random.SeedSequence(0).spawn(count):
        mdp_seed, loss_seed, play_seed = seed.spawn(3)
        problem = envs.layered(LAYERS, N_ACTIONS, seed=mdp_seed)
        learner = ORePS(problem.mdp, problem.n_layers, n_episodes, feedback)
        run = learner.run(problem.losses(n_episodes, adversary, seed=loss_seed), np.random.default_rng(play_seed))
        runs.append((run.regret, run.bound, run.gaps.max()))
    values, bounds, gaps = np.transpose(runs)
    return values, bounds[0], gaps.max()


def report(episodes: list[int], rows: list[tuple[np.ndarray, float, float]]) -> np.ndarray:
    """Print the table; the slopes of log regret in log T from each T to the next, over the seeds that both have."""
    print(f"{'T':>7} {'seeds':>6} {'regret':>9} {'std':>8} {'worst':>9} {'bound':>9} {'gap':>8}   slope from before")
    slopes = np.full(len(episodes), np.nan)
    for i, (n_episodes, (values, bound, gap)) in enumerate(zip(episodes, rows, strict=True)):
        if i > 0:
            before = rows[i - 1][0][: len(values)]
            if min(values.mean(), before.mean()) > 0:  # against a switching adversary one may do better than any policy
                slopes[i] = np.log(values.mean() / before.mean()) / np.log(n_episodes / episodes[i - 1])
        spread = values.std(ddof=1) if len(values) > 1 else 0.0
        numbers = f"{values.mean():9.2f} {spread:8.2f} {values.max():9.2f} {bound:9.1f} {gap:8.1e} {slopes[i]:19.3f}"
        print(f"{n_episodes:7d} {len(values):6d} {numbers}")
    return slopes[1:]


def main(episodes: list[int] = EPISODES, n_seeds: int = 30, adversary: str = ADVERSARY, plot: str | None = None):
    """Print the tables, draw the figure, return the slopes by feedback."""
    slopes, played, began = {}, {}, time.process_time()
    for feedback in ("full", "bandit"):
        print(f"\n{feedback} feedback")
        played[feedback] = [regrets(feedback, n_episodes, n_seeds, adversary) for n_episodes in episodes]
        slopes[feedback] = report(episodes, played[feedback])
    print(f"\n{time.process_time() - began:.0f} s of CPU")
    if plot:
        with figure_in(plot, figsize=(6, 4)) as axis:
            for k, (feedback, rows) in enumerate(played.items()):
                means, ranges, bounds = zip(*[(v.mean(), (v.min(), v.max()), b) for v, b, _ in rows], strict=True)
                last = slopes[feedback][-1]
                band(axis, episodes, means, np.transpose(ranges), f"{feedback}: last slope {last:.2f}", k, marks=True)
                axis.plot(episodes, bounds, ":", color=COLOURS[k], label=f"{feedback}: bound, slope .5")
            axis.set(xlabel="episodes T", ylabel="regret: mean and range of the seeds", xscale="log", yscale="log")
            axis.set_title(f"O-REPS, {adversary} losses")
    return slopes


if __name__ == "__main__":
    typer.run(main)
