"""TRPO with a 64 x 64 network on Gymnasium's CartPole-v1: every step a certified trust-region problem.

Most batches of a good policy hold no fall. Values fitted to such a batch alone forget that the edge is dangerous, and
the step follows noise until the pole falls again: so they are fitted to the latest batches, and the ball shrinks.

python examples/trpo_cartpole.py --seeds 5 --plot cartpole.png
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from policies import NeuralCategoricalPolicy
from reps_opt import TRPO, Batch, improve
from reps_opt.solvers import Quadratic

BATCH, REMEMBERED = 1000, 10  # steps of a batch, two whole episodes; earlier batches that the values are fitted to
EPSILON, LAST_EPSILON = 0.02, 0.005  # nats, from the first to the last in a straight line
GAMMA, TRACE = 0.99, 0.95
LIMIT = 500  # steps of an episode
TYPICAL = (1.0, 1.0, 0.1, 1.0)  # size of position, velocity, angle and its velocity, to scale the inputs by
REPORTED = {10_000: 83, 25_000: 389, 50_000: 500}  # mature TRPO: steps, mean of the last 20 episodes


def start_policy(seed: int) -> NeuralCategoricalPolicy:
    """A network that is all but indifferent between its two actions."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(256, 4)) * TYPICAL
    return NeuralCategoricalPolicy(max_iter=1, random_state=seed).fit(states, np.arange(256) % 2)


def whole_returns(batch: Batch) -> list[float]:
    """Returns of the episodes that ended by themselves, or at the environment's limit."""
    length = np.bincount(batch.episode)
    ended = np.bincount(batch.episode, weights=batch.terminated) > 0
    return list(batch.returns[ended | (length == LIMIT)])


class LastingValues(RegressorMixin, BaseEstimator):
    """A regressor that goes on from batch to batch: fitted to the latest batches, never cloned."""

    def __init__(self, regressor: Any, remembered: int) -> None:
        self.regressor, self.remembered = regressor, remembered
        self.batches: list[tuple[np.ndarray, np.ndarray]] = []

    def __sklearn_clone__(self) -> LastingValues:
        return self

    def fit(self, states: np.ndarray, returns: np.ndarray) -> LastingValues:
        if self.batches and self.batches[-1][0] is states:
            self.batches.pop()  # the same batch, with its cut episodes counted better
        self.batches = [*self.batches, (states, returns)][-1 - self.remembered :]
        self.regressor.fit(*map(np.concatenate, zip(*self.batches, strict=True)))
        return self

    def predict(self, states: np.ndarray) -> np.ndarray:
        return self.regressor.predict(states)


def learn(seed: int, n_steps: int, verbose: bool = False) -> np.ndarray:
    """Steps and mean return of the last 20 episodes after each update (updates, 2)."""
    values = make_pipeline(StandardScaler(), RBFSampler(gamma=0.1, n_components=200, random_state=0), Ridge(0.1))
    trpo = TRPO(
        gamma=GAMMA,
        gae_lambda=TRACE,
        value_model=LastingValues(values, REMEMBERED),
        damping=1e-2,
        exact_fisher=True,
        solver=Quadratic("cg", rtol=0.1, max_iterations=50),  # as accurate as a sampled metric deserves
    )
    returns: list[float] = []
    curve: list[tuple[float, float]] = []
    n_updates = -(-n_steps // BATCH)

    def update(policy: NeuralCategoricalPolicy, batch: Batch) -> Any:
        epsilon = EPSILON + (LAST_EPSILON - EPSILON) * len(curve) / n_updates
        return replace(trpo, epsilon=epsilon)(policy, batch)

    for record in improve(
        "CartPole-v1", start_policy(seed), update, n_updates, n_steps=BATCH, seed=seed, progress=False
    ):
        returns += whole_returns(record.batch)
        curve.append((record.values["steps"], np.mean(returns[-20:])))
        if verbose and len(curve) % 10 == 1:
            print(f"{curve[-1][0]:6d} steps, return {curve[-1][1]:6.1f}, kl {record.values['kl']:.4f}, ", end="")
            print(f"eta {record.values['eta']:7.3f}, {record.update.trials} trials, {record.values['seconds']:.2f} s")
    return np.array(curve)


def main(n_seeds: int = 5, n_steps: int = 50_000, plot: str | None = None) -> np.ndarray:
    """Learn over several seeds, and print the table beside the mature figures."""
    curves = np.array([learn(seed, n_steps, verbose=seed == 0) for seed in range(n_seeds)])
    print("steps    " + "".join(f"seed {seed:<4d}" for seed in range(n_seeds)) + "mean    mature TRPO")
    for steps, reported in REPORTED.items():
        if steps <= curves[0, -1, 0]:
            now = curves[:, np.searchsorted(curves[0, :, 0], steps, side="right") - 1, 1]
            print(f"{steps:6d} " + "".join(f"{value:9.1f}" for value in now) + f"{now.mean():9.1f}{reported:9d}")
    if plot:
        import matplotlib.pyplot as plt

        figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
        axis.plot(curves[0, :, 0], curves[:, :, 1].T, color="C0", linewidth=0.7)
        axis.plot(curves[0, :, 0], curves[:, :, 1].mean(axis=0), color="C0", linewidth=2, label="mean of the seeds")
        axis.plot(list(REPORTED), list(REPORTED.values()), "kx", label="mature TRPO")
        axis.set(xlabel="environment steps", ylabel="return, last 20 episodes", title="TRPO on CartPole-v1")
        axis.legend()
        figure.savefig(plot, dpi=120)
        print(f"figure written to {plot}")
    return curves


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, dest="n_seeds")
    parser.add_argument("--plot", metavar="FILE", help="write a figure")
    main(**vars(parser.parse_args()))
