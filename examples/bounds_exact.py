"""Joint bounds against a TRPO-style bound over a finite horizon, exactly.

REPS bounds the new state-action distribution against the old one (in the mean of all steps, or in each, as Lioutikov et
al. 2014 do), or the policy under the new states (the trajectory's KL); its predicted gain is the gain. A TRPO-style
step keeps the old states and old advantages and bounds the policy only: its gain is a surrogate's.
Run ``python examples/bounds_exact.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import envs
from reps_opt import MDP, FiniteHorizonREPS, solve
from reps_opt.divergences import KL
from reps_opt.program import Block, LinearLimit, Program
from reps_opt.solvers import Newton
from reps_opt.time_indexed import bellman_error, evaluate, occupancy_of

CASES = {
    "single chain": (envs.single_chain(), 20),
    "river swim": (envs.riverswim(), 20),
    "garnet": (envs.garnet(20, 3, 4, seed=1), 10),
}
EPSILONS = (0.01, 0.1, 0.5)
N_UPDATES = 25
BOUNDS = ("shared", "per_step", "trajectory", "trpo")
FIGURE = Path("bounds_exact.png")


def update(mdp: MDP, policy: np.ndarray, horizon: int, epsilon: float, bound: str) -> tuple[np.ndarray, float, float]:
    """New policy (T, S, A), predicted gain, and duality gap, of one update."""
    radius = epsilon * horizon if bound == "trajectory" else epsilon  # all of them nats a step
    problem = FiniteHorizonREPS(mdp, policy, horizon, radius, "shared" if bound == "trpo" else bound)
    if bound != "trpo":
        solution = solve(problem)
        return solution.policy, solution.objective - problem.reference_return, solution.certificate.gap
    flow, q = problem.flow, problem.reference  # the same program, but the flow gives way to the old state marginals
    advantage = flow.pick(bellman_error(mdp, problem.rewards, evaluate(mdp, problem.rewards, policy)))
    states = q.sum(axis=2).ravel()[flow.nodes] / horizon
    best = np.full(states.size, -np.inf)
    np.maximum.at(best, flow.pair_node, advantage)
    greedy = flow.conditional(flow.pick(q) * (advantage >= best[flow.pair_node] - 1e-12), policy)
    ball, point = KL(flow.pick(q) / horizon), flow.pick(greedy) * states[flow.pair_node]
    limit = LinearLimit(point, best, ball.value(point))
    rows = {"states": Block(flow.leaving.T.tocsr(), states)}
    program, scale = Program(advantage, ball, epsilon, rows, mass_implied=True, linear_limit=lambda: limit).normalised()
    answer = Newton().solve(program)
    gap = program.bound(answer.eta, answer.multipliers) - program.score(answer.point)
    gain = horizon * (scale.shift + scale.factor * program.score(answer.point))
    return flow.conditional(answer.point, policy), gain, gap


def divergences(policy: np.ndarray, reference: np.ndarray, mdp: MDP) -> tuple[float, float]:
    """Mean joint KL a step, and mean policy KL under the old states, in nats."""
    p, q = occupancy_of(mdp, policy), occupancy_of(mdp, reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        joint = np.where(p > 0, p * np.log(p / q), 0.0).sum()
        old = q.sum(axis=2, keepdims=True) * policy
        conditional = np.where(old > 0, old * np.log(policy / reference), 0.0).sum()
    return joint / len(policy), conditional / len(policy)


def curve(mdp: MDP, horizon: int, epsilon: float, bound: str, n_updates: int) -> np.ndarray:
    """Returns (n_updates + 1,) of repeated updates from the uniform policy; prints the first of them."""
    policy = np.broadcast_to(mdp.uniform_policy(), (horizon, *mdp.rewards.shape))
    rewards = mdp.gamma ** np.arange(horizon)[:, None, None] * mdp.rewards
    returns, worst = [float(np.sum(occupancy_of(mdp, policy) * rewards))], 0.0
    for k in range(n_updates):
        new, predicted, gap = update(mdp, policy, horizon, epsilon, bound)
        returns.append(float(np.sum(occupancy_of(mdp, new) * rewards)))
        worst = max(worst, gap)
        if k == 0:
            joint, conditional = divergences(new, policy, mdp)
            gain = returns[1] - returns[0]
            first = f"{predicted:9.4f} {gain:8.4f} {joint:8.4f} {conditional:8.4f}"
        policy = new
    best = solve(FiniteHorizonREPS(mdp, mdp.uniform_policy(), horizon, np.inf)).objective
    share = (np.array(returns) - returns[0]) / (best - returns[0])
    needed = next((str(k) for k, x in enumerate(share) if x >= 0.95), f"> {n_updates}")
    print(f"{epsilon:7g} {bound:>11} {first} {needed:>6} {share[-1]:7.3f} {worst:8.1e}")
    return share


def main(epsilons: tuple[float, ...] = EPSILONS, n_updates: int = N_UPDATES, figure: Path | None = FIGURE) -> dict:
    """Print the table, draw the learning curves, return them by case, epsilon and bound."""
    curves = {}
    for name, (mdp, horizon) in CASES.items():
        print(f"\n{name}, T = {horizon}: first update, then updates to 95 % of what can be gained")
        print("epsilon       bound predicted   actual joint KL  policy KL    95 %    last     gap")
        for epsilon in epsilons:
            for bound in BOUNDS:
                curves[name, epsilon, bound] = curve(mdp, horizon, epsilon, bound, n_updates)
    if figure is not None:
        fig, axes = plt.subplots(len(CASES), len(epsilons), figsize=(10, 7), sharex=True, sharey=True, squeeze=False)
        for (name, epsilon, bound), share in curves.items():
            ax = axes[list(CASES).index(name), epsilons.index(epsilon)]
            ax.plot(share, label=bound, ls="--" if bound == "trpo" else "-")
            ax.set_title(f"{name}, epsilon {epsilon:g}", fontsize="small")
        axes[0, 0].legend(fontsize="small")
        fig.supxlabel("updates")
        fig.supylabel("share of the possible gain")
        fig.tight_layout()
        fig.savefig(figure, dpi=130)
        plt.close(fig)
    return curves


if __name__ == "__main__":
    main(figure=Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURE)
