"""Euclidean steps depend on how a policy is parametrised, natural steps do not: Kakade's two-state problem.

python examples/covariant_steps.py --plot steps.png
"""

from __future__ import annotations

import numpy as np
import typer
from scipy.special import expit, logit, rel_entr

from envs import two_state
from reps_opt import Factor, Identity, TrustRegionStep, solve

EPSILON = 0.01  # nats; for the Euclidean step half a squared length
CONDITION = 4e3  # of the random linear reparametrisations
START = (0.76, 0.04)  # probability of staying in either state
CLOSE = 0.97  # of the best return: where a path ends
SCALINGS = {"logits": (1.0, 1.0), "second logit x 30": (1.0, 1 / 30), "first logit x 30": (1 / 30, 1.0)}


def policy(logits: np.ndarray) -> np.ndarray:
    """Stay probabilities by one logit a state; the action is the next state."""
    stay = expit(logits)
    return np.array([[stay[0], 1 - stay[0]], [1 - stay[1], stay[1]]])


def scores(pi: np.ndarray) -> np.ndarray:
    """Gradient of log pi(a|s) in the two logits (S, A, P)."""
    rows = np.zeros((2, 2, 2))
    rows[0, :, 0] = pi[0, 1], -pi[0, 0]
    rows[1, :, 1] = -pi[1, 1], pi[1, 0]
    return rows


def step(mdp, logits, T, natural):  # type: ignore[no-untyped-def]
    """One step in the parameters x of ``logits = T x``, carried back to the logits; and its solution."""
    pi = policy(logits)
    rows, occupancy = (scores(pi) @ T).reshape(4, -1), mdp.occupancy(pi).ravel()
    gradient = (occupancy * mdp.advantage(pi).ravel()) @ rows  # the policy gradient theorem
    metric = Factor(rows, occupancy) if natural else Identity()  # Fisher's, or Euclid's
    solution = solve(TrustRegionStep(gradient, metric, EPSILON))
    return logits + T @ solution.step, solution


def mean_kl(mdp, old, new):  # type: ignore[no-untyped-def]
    """KL(old || new) in nats, averaged over the states of the old policy."""
    return mdp.state_distribution(old) @ rel_entr(old, new).sum(axis=1)


def main(n_seeds: int = 30, n_steps: int = 100, plot: str | None = None) -> dict[str, np.ndarray]:
    """Take one step under random reparametrisations, print the spread, and draw the paths of three scalings."""
    mdp = two_state()
    start = logit(START)
    gains: dict[str, list[float]] = {"Euclidean": [], "natural": []}
    kls: dict[str, list[float]] = {name: [] for name in gains}
    angles = []
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        left, right = (np.linalg.qr(rng.normal(size=(2, 2)))[0] for _ in range(2))
        T = left @ np.diag([np.sqrt(CONDITION), 1 / np.sqrt(CONDITION)]) @ right
        for name, found in gains.items():
            reached, solution = step(mdp, start, T, natural=name == "natural")
            found.append(mdp.expected_return(policy(reached)) - mdp.expected_return(policy(start)))
            kls[name].append(mean_kl(mdp, policy(start), policy(reached)))
        g = solution.problem.gradient
        k = np.linalg.cond(solution.problem.metric.matrix)
        cosine = g @ solution.step / np.linalg.norm(g) / np.linalg.norm(solution.step)
        angles.append((cosine, 2 * np.sqrt(k) / (1 + k)))
    print(f"{n_seeds} random reparametrisations of condition {CONDITION:g}, one step, epsilon {EPSILON}")
    print("step        mean KL: least       most   gain in return: least       most")
    for name, found in gains.items():
        print(f"{name:<10}{min(kls[name]):17.3e}{max(kls[name]):11.3e}{min(found):24.6f}{max(found):11.6f}")
    print(f"natural step: eta {solution.eta:.4g}, KL {solution.predicted_kl:.3g}, gap {solution.certificate.gap:.0e}")
    slackest, tightest = max(a / b for a, b in angles), min(a / b for a, b in angles)
    print(f"cos(gradient, natural step) is {tightest:.3g} to {slackest:.3g} times its lower bound 2 sqrt(k) / (1 + k)")
    paths = {}
    for label, scaling in SCALINGS.items():
        for name in gains:
            logits, path = start, [start]
            while len(path) <= n_steps and mdp.expected_return(policy(logits)) < CLOSE * mdp.rewards.max():
                logits, _solution = step(mdp, logits, np.diag(scaling), natural=name == "natural")
                path.append(logits)
            paths[f"{name}, {label}"] = np.array([np.diag(policy(x)) for x in path])
            end = mdp.expected_return(policy(logits))
            print(f"{name:<10}steps in {label:<20} {len(path) - 1:3d} steps, return {end:.4f}")
    if plot:
        _draw(mdp, paths).savefig(plot, dpi=120)
        print(f"figure written to {plot}")
    return {"angles": np.array(angles), **{name: np.array(found) for name, found in gains.items()}, **paths}


def _draw(mdp, paths):  # type: ignore[no-untyped-def]
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained", sharey=True)
    grid = np.linspace(0.01, 0.99, 50)
    returns = [[mdp.expected_return(policy(logit([x, y]))) for x in grid] for y in grid]
    for axis, name in zip(axes, ("Euclidean", "natural"), strict=True):
        lines = axis.contour(grid, grid, returns, 12, colors="lightgrey")
        axis.clabel(lines, fontsize=7)
        chosen = {label: path for label, path in paths.items() if label.startswith(name)}
        for (label, path), marker in zip(chosen.items(), ("o-", "s--", "x:"), strict=True):
            axis.plot(path[:, 0], path[:, 1], marker, markersize=3, label=label.split(", ")[1])
        axis.set(title=f"{name} steps", xlabel="probability of staying in state 0")
        axis.legend(title="parametrisation")
    axes[0].set_ylabel("probability of staying in state 1")
    return figure


if __name__ == "__main__":
    typer.run(main)
