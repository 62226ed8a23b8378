"""The lambda of generalised advantages against the return: TRPO on Hopper, as in Schulman et al. (2016).

Between lambda = 0, which trusts the value function, and 1, which trusts the returns alone, lie bias and variance.
The example needs the extras ``gp``, ``mujoco`` and ``cma``. Runs are kept in the folder ``--keep``: what was stopped
goes on from there.

python examples/gae_lambda.py --plot lambda.png
"""

import time

import typer
from learning_curves import GAMMA, by_batches, by_seeds, curve, draw, start_policy
from trpo_evaluation import EPSILON

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
    print(f"TRPO on {task}, {n_steps} steps, {n_seeds} seeds: mean return of the last 20 episodes, by lambda")
    curves = {(task, f"lambda {x:g}"): by_seeds(learn, task, x, n_seeds, n_steps, keep) for x in lambdas}
    if plot:
        draw(curves, n_steps, plot)
    return curves


if __name__ == "__main__":
    typer.run(main)
