"""Promised and reached gains of every task in one figure: REPS on Gymnasium's tasks, TRPO on some and on MuJoCo's.

Each run is one seed from the defaults, as the examples named below make it, and judges its promises by the roll-outs
that follow. A promise and a gain are of one objective, whose unit is a reward a step: the mean reward where a limit
alone ends episodes, elsewhere 1 - gamma times the discounted return. It needs the extras ``gp`` and ``mujoco``.

python examples/promises.py --plot promises.png
"""

import reps_on_gymnasium
import trpo_cartpole
import trpo_mujoco
import trpo_pendulum
import typer
from drawing import draw_promises
from trpo_learning import learn, told

TRPO = {
    "CartPole-v1": (trpo_cartpole, 50_000),
    "Pendulum-v1": (trpo_pendulum, 100_000),
    "InvertedPendulum-v5": (trpo_mujoco, 150_000),
    "Hopper-v5": (trpo_mujoco, 150_000),
    "Swimmer-v5": (trpo_mujoco, 150_000),
}  # where the update and the size of its batches stand, and the steps of a run


def main(
    reps: list[str] = reps_on_gymnasium.EVERY,
    trpo: list[str] = list(TRPO),  # noqa: B006
    seed: int = 200,
    share: float = 1.0,
    plot: str = "promises.png",
):
    """Make a share of each run, print what it promised and reached, and draw; returns the histories by panel."""
    histories = {f"REPS: {task}": [reps_on_gymnasium.learn(task, seed, share)[0]] for task in reps}
    for task in trpo:
        module, n_steps = TRPO[task]
        _, seconds, history, _ = learn(task, module.update, int(share * n_steps), module.BATCH, seed)
        print(f"TRPO, {task}, {seconds:.0f} s of CPU: {told(history)}", flush=True)
        histories[f"TRPO: {task}"] = [history]
    draw_promises(histories, plot)
    return histories


if __name__ == "__main__":
    typer.run(main)
