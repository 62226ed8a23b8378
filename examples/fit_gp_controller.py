"""Fit controllers to weighted samples: linear, radial-basis and Gaussian-process policies side by side.

The samples come from a broad exploration policy; the weights, as REPS gives them, prefer actions near a better policy
that is unknown to the fit. A good fit recovers that policy: its mean, and how much it still explores.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import typer

from policies import GaussianProcessPolicy, LinearGaussianPolicy, RBFPolicy
from policies.gaussian import Gaussian

N_SAMPLES, SEED = 300, 0
STATE_LIMIT, EXPLORATION_STD, BETTER_STD = 3.0, 1.5, 0.4
N_GRID, DOT_AREA, ACTION_LIMIT = 200, 40.0, 3.0


def better_mean(states: np.ndarray) -> np.ndarray:
    """Mean of the policy that the weights prefer; its standard deviation is BETTER_STD."""
    return np.sin(2 * states[:, 0]) + 0.3 * states[:, 0]


def weighted_samples(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States (n, 1), actions (n,) of the exploration policy, and density ratios to the better one, at ESS scale."""
    states = rng.uniform(-STATE_LIMIT, STATE_LIMIT, size=(n, 1))
    better = Gaussian.diagonal(better_mean(states)[:, None], np.array([BETTER_STD]))
    explored = Gaussian.diagonal(np.zeros((n, 1)), np.array([EXPLORATION_STD]))
    actions = explored.sample(rng)
    weights = np.exp(better.log_prob(actions) - explored.log_prob(actions))
    return states, actions[:, 0], weights * weights.sum() / np.sum(weights**2)


def main(n_samples: int = N_SAMPLES, plot: str | None = None) -> dict[str, float]:
    """Fit three policies, print how near they come to the better one, draw them; returns their mean KL in nats."""
    states, actions, weights = weighted_samples(n_samples, np.random.default_rng(SEED))
    grid = np.linspace(-STATE_LIMIT, STATE_LIMIT, N_GRID)[:, None]
    truth = Gaussian.diagonal(better_mean(grid)[:, None], np.array([BETTER_STD]))
    fits = {
        "linear": LinearGaussianPolicy(),
        "radial basis": RBFPolicy(random_state=SEED),
        "Gaussian process": GaussianProcessPolicy(random_state=SEED),
    }
    print(f"{n_samples} samples, effective sample size {weights.sum():.0f}; better policy's std {BETTER_STD}")
    figure, axes = plt.subplots(1, len(fits), figsize=(12, 4), sharey=True, layout="constrained")
    divergences = {}
    for axis, (name, policy) in zip(axes, fits.items(), strict=True):
        mean, std = policy.fit(states, actions, sample_weight=weights).predict(grid, return_std=True)
        divergences[name] = float(truth.kl(Gaussian.diagonal(mean[:, None], std[:, None])).mean())
        print(f"{name:16s} KL(better ‖ fit) {divergences[name]:7.3f} nats, median std {np.median(std):.2f}")
        axis.scatter(states[:, 0], actions, s=DOT_AREA * weights / weights.max(), color="0.4", alpha=0.6, lw=0)
        axis.plot(grid[:, 0], better_mean(grid), "k--", label="better policy")
        axis.plot(grid[:, 0], mean, color="C0", label="fitted mean")
        axis.fill_between(grid[:, 0], mean - 2 * std, mean + 2 * std, color="C0", alpha=0.2, lw=0, label="± 2 std")
        axis.set(title=f"{name}: KL {divergences[name]:.3f} nats", xlabel="state", ylim=(-ACTION_LIMIT, ACTION_LIMIT))
    axes[0].set_ylabel("action (dot area: weight)")
    axes[0].legend(loc="upper left", fontsize="small")
    if plot is not None:
        figure.savefig(plot, dpi=120)
    plt.close(figure)
    return divergences


if __name__ == "__main__":
    typer.run(main)
