"""Where Euclidean and natural steps lead on Kakade's two-state problem, under three scalings of the logits.

Euclidean steps take another way under every scaling, some of them along the plateau; natural steps take one way.

python examples/covariant_paths.py --plot paths.png
"""

import numpy as np
import typer
from drawing import figure_in
from scipy.special import logit
from two_logits import START, policy, step

from envs import two_state
from reps_opt.plotting import COLOURS, LINES, MARKERS

CLOSE = 0.97  # of the best return: where a path ends
SCALINGS = {"logits": (1.0, 1.0), "second logit x 30": (1.0, 1 / 30), "first logit x 30": (1 / 30, 1.0)}


def follow(mdp, scaling, natural, n_steps):
    """Probabilities of staying in either state (n, 2) along a path, and the return at its end."""
    logits = [START]
    while len(logits) <= n_steps and mdp.expected_return(policy(logits[-1])) < CLOSE * mdp.rewards.max():
        logits.append(step(mdp, logits[-1], np.diag(scaling), natural)[0])
    return np.array([np.diag(policy(x)) for x in logits]), mdp.expected_return(policy(logits[-1]))


def main(n_steps: int = 100, plot: str | None = None):
    """Follow both kinds of steps under each scaling, print how long they take, and draw their paths."""
    mdp, paths = two_state(), {}
    for scaling, factors in SCALINGS.items():
        for kind in ("Euclidean", "natural"):
            path, end = follow(mdp, factors, kind == "natural", n_steps)
            paths[kind, scaling] = path
            print(f"{kind:<10}steps in {scaling:<20} {len(path) - 1:3d} steps, return {end:.4f}")
    if plot:
        draw(mdp, paths, plot)
    return paths


def draw(mdp, paths, plot):
    """Paths over the probabilities of staying, a panel for each kind of step, on levels of the return."""
    grid = np.linspace(0.01, 0.99, 50)
    returns = [[mdp.expected_return(policy(logit([x, y]))) for x in grid] for y in grid]
    with figure_in(plot, 1, 2, figsize=(11, 5), sharey=True) as axes:
        for axis, kind in zip(axes, ("Euclidean", "natural"), strict=True):
            lines = axis.contour(grid, grid, returns, 12, colors="lightgrey")
            axis.clabel(lines, fontsize=7)
            for k, scaling in enumerate(SCALINGS):
                style = {"color": COLOURS[k], "ls": LINES[k], "marker": MARKERS[k], "ms": 3}
                axis.plot(*paths[kind, scaling].T, label=scaling, **style)
            axis.set(title=f"{kind} steps", xlabel="probability of staying in state 0")
        axes[0].set_ylabel("probability of staying in state 1")


if __name__ == "__main__":
    typer.run(main)
