"""TRPO beside its variants and direct policy search on one network, as in Schulman et al. (2015), figure 4.

CartPole, Swimmer, Hopper and Walker2d (Gymnasium's MuJoCo tasks, v5); a tanh network of one hidden layer. Gradient
updates and reward-weighted regression see batches of 2,000 steps; CEM and CMA-ES try a network for one episode. The
steps that are fixed were chosen on one seed of CartPole and Hopper. It needs the extras ``gp``, ``mujoco`` and ``cma``.
Runs are kept in the folder ``--keep``: what was stopped goes on from there.

python examples/trpo_evaluation.py --plot evaluation.png
"""

import time

import typer
from learning_curves import GAMMA, by_batches, by_episodes, by_seeds, curve, draw, start_policy

from reps_opt import TRPO, NaturalGradient, RewardWeightedRegression, VanillaGradient

TASKS = ["CartPole-v1", "Swimmer-v5", "Hopper-v5", "Walker2d-v5"]
EPSILON = 0.01  # nats of a TRPO step
PENALTY = 1.0  # of the KL, in standard deviations of the advantage a nat
NATURAL_STEP, PLAIN_STEP = 0.5, 0.3  # factors of the natural and of the plain gradient
WEIGHTED = {"epsilon": 0.5, "advantages": True}  # of reward-weighted regression


def natural(step_size):
    return NaturalGradient(step_size=step_size, exact_fisher=True, gamma=GAMMA)


def fixed_penalty(policy, batch, memory=None):
    """Of four steps along the natural gradient the one of the greatest surrogate less PENALTY times KL."""
    more = {} if memory is None else {"memory": memory}
    trials = [natural(factor / PENALTY)(policy, batch, **more) for factor in (1.0, 0.5, 0.25, 0.125)]
    return max(trials, key=lambda trial: trial.gain - PENALTY * trial.kl_old_new)


UPDATES = {
    "TRPO": lambda network: TRPO(epsilon=EPSILON, exact_fisher=True, gamma=GAMMA),
    "TRPO, fixed penalty": lambda network: fixed_penalty,
    "natural gradient, fixed step": lambda network: natural(NATURAL_STEP),
    "TRPO, empirical Fisher": lambda network: TRPO(epsilon=EPSILON, exact_fisher=False, gamma=GAMMA),
    "vanilla gradient": lambda network: VanillaGradient(step_size=PLAIN_STEP, gamma=GAMMA),
    "reward-weighted regression": lambda network: RewardWeightedRegression(fit=network, gamma=GAMMA, **WEIGHTED),
}
SEARCHES = {"CEM": False, "CMA-ES": True}  # whether a covariance is learned
METHODS = [*UPDATES, *SEARCHES]


def learn(task, method, seed, n_steps):
    """The learning curve of one run, and its CPU seconds."""
    began, policy = time.process_time(), start_policy(task, seed)
    if method in SEARCHES:
        found = by_episodes(task, policy, SEARCHES[method], seed, n_steps)
    else:
        found = by_batches(task, policy, UPDATES[method](start_policy(task, seed, max_iter=50)), seed, n_steps)
    return curve(found, n_steps), time.process_time() - began


def main(
    tasks: list[str] = TASKS,
    methods: list[str] = METHODS,
    n_seeds: int = 3,
    n_steps: int = 30_000,
    jobs: int = 1,
    keep: str | None = None,
    plot: str | None = None,
):
    """Learn each task by each method, print returns and CPU seconds, and draw the learning curves."""
    curves = {}
    for task in tasks:
        print(f"\n{task}, {n_steps} steps, {n_seeds} seeds: mean return of the last 20 episodes")
        for method in methods:
            curves[task, method] = by_seeds(learn, task, method, n_seeds, n_steps, keep, jobs)
    if plot:
        draw(curves, n_steps, plot)
    return curves


if __name__ == "__main__":
    typer.run(main)
