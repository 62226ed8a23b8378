"""Figures of policies; matplotlib is imported when one is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from reps_opt.validation import FloatArray, as_count, as_scalar

if TYPE_CHECKING:
    import matplotlib.axes

N_DRAWN = 200
STYLES = ("-", "--", "-.", ":")  # lines that differ in black and white as well


def draw_gaussian(
    policy: Any, span: FloatArray, dimension: int, deviations: float, ax: matplotlib.axes.Axes | None
) -> matplotlib.axes.Axes:
    """Mean and band of a policy with Gaussian actions; `span` (3, d) holds least, middle and largest state."""
    import matplotlib.pyplot as plt

    d, column = span.shape[1], as_count(dimension, "dimension", low=0)
    width = as_scalar(deviations, "deviations", low=0)
    if column >= d:
        raise ValueError(f"dimension must be below {d}, the number of state dimensions, got {column}")
    axis = plt.subplots(figsize=(5.5, 3.8), layout="constrained")[1] if ax is None else ax
    if policy.n_states is not None:
        at, states = np.arange(int(policy.n_states)), np.eye(int(policy.n_states))
        axis.locator_params(axis="x", integer=True)
        axis.set_xlabel("state")
    else:
        low, high = span[0, column], span[2, column]
        margin = 0.1 * (high - low) or 0.5
        at = np.linspace(low - margin, high + margin, N_DRAWN)
        states = np.repeat(span[1:2], N_DRAWN, axis=0)
        states[:, column] = at
        axis.set_xlabel("state" if d == 1 else f"state[{column}], the others at their mean")
    mean, std = (part.reshape(len(at), -1) for part in policy.predict(states, return_std=True))
    for j in range(mean.shape[1]):
        name = "mean action" if mean.shape[1] == 1 else f"action[{j}]"
        (line,) = axis.plot(at, mean[:, j], STYLES[j % len(STYLES)], label=name)
        band = {"alpha": 0.2, "color": line.get_color(), "linewidth": 0}
        axis.fill_between(at, mean[:, j] - width * std[:, j], mean[:, j] + width * std[:, j], **band)
    axis.set_ylabel(f"action, mean and {width:g} standard deviations")
    axis.set_title(type(policy).__name__)
    if mean.shape[1] > 1:
        axis.legend()
    return axis
