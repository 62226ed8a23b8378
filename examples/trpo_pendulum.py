"""TRPO with a 64 x 64 network on Gymnasium's Pendulum-v1, from the task's own spaces.

python examples/trpo_pendulum.py --n-seeds 5 --seed 100 --plot pendulum.png
"""

import typer
from trpo_learning import study

from reps_opt import TRPO

BATCH = 1000  # steps an update: five episodes
REPORTED = {10_000: -1213, 25_000: -1088, 50_000: -545, 75_000: -237, 100_000: -199}  # mature TRPO, last 20 episodes


def update(done):
    """The same update from the first to the last."""
    return TRPO(gamma=0.9)


def main(n_seeds: int = 5, n_steps: int = 100_000, seed: int = 0, plot: str | None = None):
    """Learn over several seeds, and print the table beside the mature figures."""
    return study("Pendulum-v1", update, n_seeds, n_steps, BATCH, REPORTED, plot, seed)


if __name__ == "__main__":
    typer.run(main)
