"""TRPO with a 64 x 64 network on Gymnasium's CartPole-v1, from the task's own spaces.

Most batches of a good policy hold no fall: the value network remembers the edge from earlier ones, and the ball
shrinks, so that late steps follow less noise.

python examples/trpo_cartpole.py --n-seeds 5 --seed 100 --plot cartpole.png
"""

import typer
from trpo_learning import study

from reps_opt import TRPO

BATCH = 1000  # steps of a batch, two whole episodes
EPSILON, LAST_EPSILON = 0.02, 0.005  # nats, from the first to the last in a straight line
REPORTED = {10_000: 83, 25_000: 389, 50_000: 500}  # mature TRPO: steps, mean of the last 20 episodes


def update(done):
    """The update when this share of the run is done."""
    return TRPO(epsilon=EPSILON + (LAST_EPSILON - EPSILON) * done)


def main(n_seeds: int = 5, n_steps: int = 50_000, seed: int = 0, plot: str | None = None):
    """Learn over several seeds, and print the table beside the mature figures."""
    return study("CartPole-v1", update, n_seeds, n_steps, BATCH, REPORTED, plot, seed)


if __name__ == "__main__":
    typer.run(main)
