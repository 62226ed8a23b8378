"""REPS may take larger steps: its predicted gain is exact at any radius, while TRPO's surrogate saturates.

One exact update on the five-state chain from the uniform policy. REPS bounds the divergence of states and actions
together, ``KL(p||q) = KL(mu_p||mu_q) + E KL(pi||pi_q)``, and so takes the smaller step where radii are small and equal;
as the radius grows it reaches the optimum, where TRPO's prediction, made at the old states, has nothing more to offer.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import typer

import envs
from reps_opt import REPS, ExactTRPO, LinearProgram, compare_policies, solve

RADII = (0.01, 0.1, 1.0, 2.0)
CURVE = (-3.0, 0.75)


def main(radii: list[float] = RADII, n_curve: int = 40, plot: str | None = None) -> dict[float, dict[str, float]]:
    """Solve both updates at every radius, print and draw what they predict and get; returns the numbers."""
    mdp = envs.single_chain()
    old = mdp.uniform_policy()
    q = mdp.occupancy(old)

    def updates(epsilon: float) -> dict[str, float]:
        reps, trpo = solve(REPS(mdp, q, epsilon)), solve(ExactTRPO(mdp, old, epsilon))
        assert reps.certificate.ok()
        assert trpo.certificate.ok()
        same = solve(REPS(mdp, q, trpo.comparison.joint_kl))
        return {
            "REPS": mdp.expected_return(reps.policy),
            "REPS predicts": reps.objective,
            "policy KL of REPS": compare_policies(mdp, old, reps.policy).conditional_kl,
            "TRPO": trpo.comparison.new_return,
            "TRPO predicts": trpo.comparison.old_return + trpo.predicted_gain,
            "joint KL of TRPO": trpo.comparison.joint_kl,
            "REPS at that KL": same.objective,
        }

    start, best = mdp.expected_return(old), solve(LinearProgram(mdp)).objective
    ceiling = start + solve(ExactTRPO(mdp, old, np.inf)).predicted_gain
    table = {epsilon: updates(epsilon) for epsilon in radii}
    print(f"J of the uniform policy {start:.3f}, of the best {best:.3f}; TRPO's surrogate can promise {ceiling:.3f}")
    print("epsilon  " + "  ".join(f"{name:>17}" for name in table[radii[0]]))
    for epsilon, row in table.items():
        print(f"{epsilon:7g}  " + "  ".join(f"{value:17.3f}" for value in row.values()))

    grid = np.logspace(*CURVE, n_curve)
    curves = [updates(epsilon) for epsilon in grid]
    figure, axis = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for name, style in {"REPS": "C0", "TRPO": "C1", "TRPO predicts": "C1--"}.items():
        axis.semilogx(grid, [row[name] for row in curves], style, label=name)
    axis.semilogx(grid, [row["REPS predicts"] for row in curves], "k:", label="REPS predicts: the same")
    for level, name in {best: "optimum", start: "uniform policy"}.items():
        axis.axhline(level, color="0.6", lw=0.8)
        axis.annotate(name, (grid[-1], level), xytext=(0, 3), textcoords="offset points", ha="right")
    axis.set(xlabel="radius, each in its own divergence (nats)", ylabel="mean reward after one update")
    axis.legend(loc="center left", fontsize="small")
    if plot:
        figure.savefig(plot, dpi=150)
    plt.close(figure)
    return table


if __name__ == "__main__":
    typer.run(main)
