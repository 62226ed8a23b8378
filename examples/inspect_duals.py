"""Temperature, value and policy of FrozenLake's REPS update as the ball grows from almost nothing until it is slack.

python examples/inspect_duals.py --plot duals.png
"""

from __future__ import annotations

import numpy as np
import typer

from reps_opt import MDP, REPS, Solution, solve
from reps_opt.plotting import curves

GAMMA = 0.99
EPSILONS = np.geomspace(1e-3, 10.0, 41).tolist()


def main(epsilons: list[float] = EPSILONS, plot: str | None = None) -> list[Solution]:
    """Solve for every radius, print a table, and draw eta, the objective and the start state's policy."""
    mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=GAMMA)
    q = mdp.occupancy(mdp.uniform_policy())
    solutions = [solve(REPS(mdp, reference=q, epsilon=float(epsilon))) for epsilon in epsilons]
    start = int(mdp.mu0.argmax())
    print(" epsilon        eta         KL  objective    V(start)      gap  policy at the start (left, down, right, up)")
    for epsilon, s in list(zip(epsilons, solutions, strict=True))[:: max(1, len(solutions) // 14)]:
        policy = " ".join(f"{p:.3f}" for p in s.policy[start])
        print(
            f"{epsilon:8.3g} {s.eta:10.4g} {s.kl:10.4g} {s.objective:10.6f} {s.value[start]:11.5f} "
            f"{s.certificate.gap:8.0e}  {policy}"
        )
    print(f"beyond epsilon = {solutions[-1].kl:.4f} the ball is slack: eta = 0 and the answer is the linear program's")
    if plot:
        _draw(epsilons, solutions, start).savefig(plot, dpi=120)
        print(f"figure written to {plot}")
    return solutions


def _draw(epsilons: list[float], solutions: list[Solution], start: int):  # type: ignore[no-untyped-def]
    import matplotlib.pyplot as plt

    figure, ((top_left, top_right), (low_left, low_right)) = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    eta = {"eta": [s.eta for s in solutions]}
    curves(top_left, epsilons, eta, "temperature: reward that one more nat buys", logarithmic=True)
    curves(top_right, epsilons, {"mean reward": [s.objective for s in solutions]}, "objective")
    values = np.array([s.value for s in solutions])
    low_left.plot(epsilons, np.delete(values, start, axis=1), color="grey", linewidth=0.7)
    low_left.plot(epsilons, values[:, start], linewidth=2, label="start state")
    low_left.set(ylabel="V", title="value of every state")
    policies = np.array([s.policy[start] for s in solutions]).T
    names = ("left", "down", "right", "up")
    curves(low_right, epsilons, dict(zip(names, policies, strict=True)), "policy at the start state")
    for axis in figure.axes:
        axis.set(xlabel="epsilon (nats)", xscale="log")
        axis.axvline(solutions[-1].kl, color="grey", linestyle=":", label="slack from here on")
        axis.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    typer.run(main)
