"""What the TRPO examples share: runs of ``improve(task, None, TRPO(...))``, their table and their curves.

A network of 64 x 64 tanh units over the task's own spaces, values by a network that goes on learning: nothing is given
but the update and the steps of a batch. Scores are mean returns of the last 20 whole episodes, exploration included.
"""

import time

import gymnasium
import matplotlib.pyplot as plt
import numpy as np

from reps_opt import improve


def whole_returns(batch, limit):
    """Returns of the episodes that ended by themselves, or at the environment's limit."""
    length = np.bincount(batch.episode)
    return list(batch.returns[batch.terminated[length.cumsum() - 1] | (length == limit)])


def learn(task, make_update, n_steps, batch, seed, verbose=False):
    """Steps and score after each update (updates, 2), and the CPU seconds; ``make_update`` gets the share done."""
    began, limit = time.process_time(), gymnasium.spec(task).max_episode_steps
    returns, curve, n_updates = [], [], -(-n_steps // batch)

    def update(policy, batch, memory=None):
        return make_update(len(curve) / n_updates)(policy, batch, memory)

    update.needs_policy = True
    for record in improve(task, None, update, n_updates, n_steps=batch, seed=seed, progress=False):
        returns += whole_returns(record.batch, limit)
        curve.append((record.values["steps"], np.mean(returns[-20:]) if returns else np.nan))
        if verbose and len(curve) % 10 == 1:
            print(f"{curve[-1][0]:6d} steps, return {curve[-1][1]:7.1f}, kl {record.values['kl']:.4f}, ", end="")
            print(f"{record.values['status']}, {record.update.trials} trials, {record.values['seconds']:.2f} s")
    return np.array(curve), time.process_time() - began


def study(task, make_update, n_seeds, n_steps, batch, reported, plot=None):
    """Curves (seeds, updates, 2) of some seeds, printed beside what a mature implementation reaches, and drawn."""
    runs = [learn(task, make_update, n_steps, batch, seed, verbose=seed == 0) for seed in range(n_seeds)]
    curves = np.array([curve for curve, _ in runs])
    seconds = [f"{cpu:.0f}" for _, cpu in runs]
    print(f"{task}, {n_steps} steps, {', '.join(seconds)} s of CPU")
    print("steps    " + "".join(f"seed {seed:<4d}" for seed in range(n_seeds)) + "mean    mature TRPO")
    for steps, known in reported.items():
        if steps <= curves[0, -1, 0]:
            now = curves[:, np.searchsorted(curves[0, :, 0], steps, side="right") - 1, 1]
            print(f"{steps:6d} " + "".join(f"{value:9.1f}" for value in now) + f"{now.mean():9.1f}{known:9d}")
    if plot:
        _draw(task, curves, reported, plot)
    return curves


def _draw(task, curves, reported, path):
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    axis.plot(curves[0, :, 0], curves[:, :, 1].T, color="C0", linewidth=0.7)
    axis.plot(curves[0, :, 0], curves[:, :, 1].mean(axis=0), color="C0", linewidth=2, label="mean of the seeds")
    axis.plot(list(reported), list(reported.values()), "kx", label="mature TRPO")
    axis.set(xlabel="environment steps", ylabel="return, last 20 episodes", title=f"TRPO on {task}")
    axis.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"figure written to {path}")
