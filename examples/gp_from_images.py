"""A controller that sees pictures: Gaussian processes on the pixels of a pendulum, without its angle.

Two ways to tame a thousand pixels: one length-scale tied over all of them, or a few principal components ahead of the
kernel. Both learn a saturating torque from weighted, noisy demonstrations, beside a linear policy on the components.
"""

from __future__ import annotations

import time

import matplotlib.pyplot as plt
import numpy as np
import typer
from sklearn.decomposition import PCA

from policies import GaussianProcessPolicy, LinearGaussianPolicy

N_SAMPLES, SEED = 400, 0
SIZE, ROD_WIDTH, PIXEL_NOISE = 32, 1.5, 0.05  # pixels, pixels, and in units of full brightness
TORQUE_STD, N_COMPONENTS, N_GRID = 0.15, 6, 120


def torque(angles: np.ndarray) -> np.ndarray:
    """The demonstrated torque; angle zero is upright."""
    return 1.5 * np.tanh(3 * np.sin(2 * angles)) - 0.5 * np.sin(angles)


def pictures(angles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noisy pictures of a rod at each angle, flattened, shape (n, SIZE * SIZE)."""
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    x, y = np.meshgrid(axis, -axis)
    tip = 0.45 * SIZE * np.stack([np.sin(angles), np.cos(angles)])[:, :, None, None]
    along = np.clip((x * tip[0] + y * tip[1]) / np.sum(tip**2, axis=0), 0, 1)
    distance = np.hypot(x - along * tip[0], y - along * tip[1])
    clean = np.exp(-0.5 * (distance / ROD_WIDTH) ** 2)
    return (clean + PIXEL_NOISE * rng.normal(size=clean.shape)).reshape(len(angles), -1)


def main(n_samples: int = N_SAMPLES, plot: str | None = None) -> dict[str, float]:
    """Fit from pictures, print errors and times, draw torque over the hidden angle; returns RMS errors of the mean."""
    rng = np.random.default_rng(SEED)
    angles = rng.uniform(-np.pi, np.pi, n_samples)
    actions, weights = torque(angles) + TORQUE_STD * rng.normal(size=n_samples), rng.exponential(size=n_samples)
    images, grid = pictures(angles, rng), np.linspace(-np.pi, np.pi, N_GRID)
    seen = pictures(grid, rng)
    components = PCA(N_COMPONENTS, random_state=SEED)
    fits = {
        "linear on components": LinearGaussianPolicy(features=components),
        "GP, tied length-scale": GaussianProcessPolicy(random_state=SEED),
        "GP on components": GaussianProcessPolicy(features=components, random_state=SEED),
    }
    print(f"{n_samples} pictures of {SIZE} x {SIZE} pixels; torque noise {TORQUE_STD}")
    figure, axes = plt.subplots(1, len(fits) + 1, figsize=(14, 3.6), layout="constrained")
    axes[0].imshow(np.block([[images[i + j].reshape(SIZE, SIZE) for j in (0, 1)] for i in (0, 2)]), cmap="gray")
    axes[0].set(title="what the policy sees", xticks=[], yticks=[])
    errors = {}
    for axis, (name, policy) in zip(axes[1:], fits.items(), strict=True):
        start = time.perf_counter()
        mean, std = policy.fit(images, actions, sample_weight=weights).predict(seen, return_std=True)
        seconds = time.perf_counter() - start
        errors[name] = float(np.sqrt(np.mean((mean - torque(grid)) ** 2)))
        print(f"{name:22s} RMS error of the mean {errors[name]:.3f}, median std {np.median(std):.3f}, {seconds:.2f} s")
        axis.plot(grid, torque(grid), "k--", label="demonstrated")
        axis.plot(grid, mean, color="C0", label="mean from the picture")
        axis.fill_between(grid, mean - 2 * std, mean + 2 * std, color="C0", alpha=0.2, lw=0, label="± 2 std")
        axis.set(title=f"{name}: error {errors[name]:.2f}", xlabel="hidden angle", ylim=(-3, 3))
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    if plot is not None:
        figure.savefig(plot, dpi=120)
    plt.close(figure)
    return errors


if __name__ == "__main__":
    typer.run(main)
