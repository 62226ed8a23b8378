"""TRPO with a 64 x 64 network on Gymnasium's Pendulum-v1: every step a certified trust-region problem.

python examples/trpo_pendulum.py --seeds 5 --plot pendulum.png
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from policies import NeuralPolicy
from reps_opt import TRPO, improve

BATCH = 2000  # steps an update: ten episodes
EPSILON = 0.02  # nats
GAMMA, TRACE = 0.9, 0.95
REPORTED = {10_000: -1213, 25_000: -1088, 50_000: -545, 75_000: -237, 100_000: -199}  # mature TRPO, last 20 episodes


def start_policy(seed: int) -> NeuralPolicy:
    """A network that is all but zero everywhere, with noise of half the torque's bound."""
    rng = np.random.default_rng(seed)
    angle, speed = rng.uniform(-np.pi, np.pi, 256), 4 * rng.normal(size=256)
    states = np.column_stack([np.cos(angle), np.sin(angle), speed])
    return NeuralPolicy(max_iter=1, random_state=seed).fit(states, rng.normal(size=(256, 1)))


def learn(seed: int, n_steps: int, verbose: bool = False) -> np.ndarray:
    """Steps and mean return of the last 20 episodes after each update (updates, 2)."""
    values = make_pipeline(StandardScaler(), RBFSampler(gamma=0.3, n_components=200, random_state=0), Ridge(0.1))
    update = TRPO(epsilon=EPSILON, gamma=GAMMA, gae_lambda=TRACE, value_model=values, damping=1e-2, exact_fisher=True)
    returns, curve = [], []
    run = improve(
        "Pendulum-v1", start_policy(seed), update, -(-n_steps // BATCH), n_steps=BATCH, seed=seed, progress=False
    )
    for record in run:
        returns += list(record.batch.returns)  # whole episodes of 200 steps
        curve.append((record.values["steps"], np.mean(returns[-20:])))
        if verbose and len(curve) % 10 == 1:
            print(f"{curve[-1][0]:6d} steps, return {curve[-1][1]:7.1f}, kl {record.values['kl']:.4f}, ", end="")
            print(f"eta {record.values['eta']:7.3f}, {record.update.trials} trials, {record.values['seconds']:.2f} s")
    return np.array(curve)


def main(n_seeds: int = 5, n_steps: int = 100_000, plot: str | None = None) -> np.ndarray:
    """Learn over several seeds, and print the table beside the mature figures."""
    curves = np.array([learn(seed, n_steps, verbose=seed == 0) for seed in range(n_seeds)])
    print("steps    " + "".join(f"seed {seed:<4d}" for seed in range(n_seeds)) + "mean    mature TRPO")
    for steps, reported in REPORTED.items():
        if steps <= curves[0, -1, 0]:
            now = curves[:, np.searchsorted(curves[0, :, 0], steps, side="right") - 1, 1]
            print(f"{steps:6d} " + "".join(f"{value:9.1f}" for value in now) + f"{now.mean():9.1f}{reported:9d}")
    if plot:
        _draw(curves, plot)
    return curves


def _draw(curves: np.ndarray, plot: str) -> None:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    axis.plot(curves[0, :, 0], curves[:, :, 1].T, color="C0", linewidth=0.7)
    axis.plot(curves[0, :, 0], curves[:, :, 1].mean(axis=0), color="C0", linewidth=2, label="mean of the seeds")
    axis.plot(list(REPORTED), list(REPORTED.values()), "kx", label="mature TRPO")
    axis.set(xlabel="environment steps", ylabel="return, last 20 episodes", title="TRPO on Pendulum-v1")
    axis.legend()
    figure.savefig(plot, dpi=120)
    plt.close(figure)
    print(f"figure written to {plot}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, dest="n_seeds")
    parser.add_argument("--plot", metavar="FILE", help="write a figure")
    main(**vars(parser.parse_args()))
