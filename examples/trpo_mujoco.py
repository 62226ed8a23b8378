"""TRPO with a 64 x 64 network on three of Gymnasium's MuJoCo tasks, from its defaults, beside a mature implementation.

It needs the extras ``gp`` and ``mujoco``.

python examples/trpo_mujoco.py --n-seeds 5 --seed 100
"""

import typer
from trpo_learning import study

from reps_opt import TRPO

BATCH = 2048  # steps an update
REPORTED = {
    "InvertedPendulum-v5": {25_000: 158, 50_000: 909, 100_000: 1000, 150_000: 1000},
    "Hopper-v5": {25_000: 254, 50_000: 487, 100_000: 970, 150_000: 1204},
    "Swimmer-v5": {25_000: 22, 50_000: 33, 100_000: 37, 150_000: 46},
}  # sb3-contrib 2.9's TRPO at its defaults: mean of the last 20 episodes and of three seeds, 58-89 s of CPU


def update(done):
    """The same update from the first to the last."""
    return TRPO()


def main(
    tasks: list[str] = list(REPORTED),  # noqa: B006
    n_seeds: int = 3,
    n_steps: int = 150_000,
    seed: int = 0,
    plot: str | None = None,
):
    """Learn each task over several seeds, print the tables beside the mature figures, and draw the curves."""
    run = (n_seeds, n_steps, BATCH)
    return {task: study(task, update, *run, REPORTED[task], plot and plot.format(task), seed) for task in tasks}


if __name__ == "__main__":
    typer.run(main)
