"""Joint bounds against a TRPO-style bound over a finite horizon, exactly.

REPS bounds the new state-action distribution against the old one (in the mean of all steps, or in each, as Lioutikov et
al. 2014 do), or the policy under the new states (the trajectory's KL); its predicted gain is the gain. A TRPO-style
step keeps the old states and old advantages and bounds the policy only: its gain is a surrogate's.

python examples/bounds_exact.py --plot bounds_exact.png
"""

from __future__ import annotations

import numpy as np
import typer
from drawing import draw_shares
from scipy.special import rel_entr

import envs
from reps_opt import MDP, FiniteHorizonREPS, solve, surrogate_step

CASES = {
    "single chain": (envs.single_chain(), 20),
    "river swim": (envs.riverswim(), 20),
    "garnet": (envs.garnet(20, 3, 4, seed=1), 10),
}
EPSILONS = (0.01, 0.1, 0.5)  # nats a step
N_UPDATES = 25
BOUNDS = ("shared", "per_step", "trajectory", "trpo")


def update(mdp: MDP, policy: np.ndarray, horizon: int, epsilon: float, bound: str) -> tuple[np.ndarray, float, float]:
    """New policy (T, S, A), predicted gain, and duality gap, of one update."""
    if bound == "trpo":
        step = surrogate_step(FiniteHorizonREPS(mdp, policy, horizon, epsilon))
        return step.policy, step.predicted_gain, step.gap
    radius = epsilon * horizon if bound == "trajectory" else epsilon
    solution = solve(FiniteHorizonREPS(mdp, policy, horizon, radius, bound))
    return solution.policy, solution.objective - solution.problem.reference_return, solution.certificate.gap


def curve(mdp: MDP, horizon: int, epsilon: float, bound: str, n_updates: int) -> np.ndarray:
    """Share of the possible gain (n_updates + 1,) after repeated updates from uniform; prints the first of them."""
    reference = policy = np.broadcast_to(mdp.uniform_policy(), (horizon, *mdp.rewards.shape))
    best = FiniteHorizonREPS(mdp, reference, horizon, np.inf)
    q = best.reference
    returns, gaps = [best.reference_return], []
    for k in range(n_updates):
        policy, predicted, gap = update(mdp, policy, horizon, epsilon, bound)
        p = FiniteHorizonREPS(mdp, policy, horizon, np.inf).reference  # of the new policy
        returns.append(float(np.sum(p * best.rewards)))
        gaps.append(gap)
        if k == 0:  # mean KL a step: joint, and of the policy under the old states
            joint, conditional = rel_entr(p, q).sum(), rel_entr(q.sum(axis=2, keepdims=True) * policy, q).sum()
            first = (
                f"{predicted:9.4f} {returns[1] - returns[0]:9.4f} {joint / horizon:8.4f} {conditional / horizon:9.4f}"
            )
    share = (np.array(returns) - returns[0]) / (solve(best).objective - returns[0])
    needed = next((str(k) for k, x in enumerate(share) if x >= 0.95), f"> {n_updates}")
    print(f"{epsilon:7g} {bound:>11} {first} {needed:>6} {share[-1]:7.3f} {max(gaps):8.1e}")
    return share


def main(epsilons: list[float] = EPSILONS, n_updates: int = N_UPDATES, plot: str | None = None) -> dict:
    """Print the table, draw the learning curves, return them by case, epsilon and bound."""
    curves = {}
    for name, (mdp, horizon) in CASES.items():
        print(f"\n{name}, T = {horizon}: first update, then updates to 95 % of what can be gained")
        print("epsilon       bound predicted    actual joint KL policy KL   95 %    last      gap")
        for epsilon in epsilons:
            for bound in BOUNDS:
                curves[name, epsilon, bound] = curve(mdp, horizon, epsilon, bound, n_updates)
    if plot:
        draw_shares({(f"{name}, epsilon {e:g}", bound): s[None] for (name, e, bound), s in curves.items()}, plot)
    return curves


if __name__ == "__main__":
    typer.run(main)
