"""The lambda of generalised advantages against the return: TRPO on Hopper, as in Schulman et al. (2016).

Between lambda = 0, which trusts the value function, and 1, which trusts the returns alone, lie bias and variance. Needs
the extras ``gp``, ``mujoco`` and ``cma``. Runs are kept in the folder ``--keep``: what was stopped goes on from there.

python examples/gae_lambda.py --plot lambda.png
"""

import time

import numpy as np
import typer
from joblib import Memory
from learning_curves import by_batches, curve, draw, report
from trpo_evaluation import EPSILON, GAMMA, start_policy

from reps_opt import TRPO

LAMBDAS = [0.0, 0.5, 0.9, 0.95, 0.98, 1.0]


def learn(task, gae_lambda, seed, n_steps):
    """The learning curve of one run, and its CPU seconds."""
    began = time.process_time()
    update = TRPO(epsilon=EPSILON, exact_fisher=True, gamma=GAMMA, gae_lambda=gae_lambda)
    found = by_batches(task, start_policy(task, seed), update, seed, n_steps)
    return curve(found, n_steps), time.process_time() - began


def main(
    task: str = "Hopper-v5",
    lambdas: list[float] = LAMBDAS,
    n_seeds: int = 3,
    n_steps: int = 30_000,
    keep: str | None = None,
    plot: str | None = None,
):
    """Learn with each lambda, print returns and CPU seconds, and draw the learning curves."""
    curves, run = {}, Memory(keep, verbose=0).cache(learn)
    print(f"TRPO on {task}, {n_steps} steps, {n_seeds} seeds: mean return of the last 20 episodes")
    for gae_lambda in lambdas:
        runs = [run(task, gae_lambda, seed, n_steps) for seed in range(n_seeds)]
        found = curves[task, f"lambda {gae_lambda:g}"] = np.array([returns for returns, _ in runs])
        report(f"lambda {gae_lambda:g}", found, [seconds for _, seconds in runs])
    if plot:
        draw(curves, n_steps, plot)
    return curves


if __name__ == "__main__":
    typer.run(main)
