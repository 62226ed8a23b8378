"""Solve Gymnasium's FrozenLake exactly as a REPS problem, and show what comes out: duals, value, policy, certificate.

python examples/solve_frozenlake.py --epsilon 0.5 --plot frozenlake.png
"""

from __future__ import annotations

import typer

from reps_opt import MDP, REPS, Solution, solve, text_map
from reps_opt.solvers import CvxpyPrimal

GAMMA = 0.99
EPSILON = 0.5


def main(map_name: str = "4x4", epsilon: float = EPSILON, plot: str | None = None) -> Solution:
    """Improve the uniform policy within a KL ball of radius epsilon (nats), and print the answer."""
    mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=GAMMA, map_name=map_name)
    policy = mdp.uniform_policy()
    problem = REPS(mdp, reference=mdp.occupancy(policy), epsilon=epsilon)
    solution = solve(problem)
    print(solution)

    print("\nvalue and most probable action:")
    print(text_map(solution))

    start = mdp.mu0.argmax()
    optimum = mdp.solve_optimal()
    print("\nvalue of the start state (expected sum of discounted rewards):")
    print(f"  uniform policy  {mdp.value(policy)[start]:.5f}")
    print(f"  new policy      {mdp.value(solution.policy)[start]:.5f}")
    print(f"  optimal policy  {optimum.value[start]:.5f}")

    explicit = solve(problem, CvxpyPrimal("CLARABEL"))
    difference = abs(explicit.objective - solution.objective)
    print(f"\nthe same problem posed explicitly in CVXPY: {explicit.status}, objective differs by {difference:.1e}")
    if plot:
        solution.plot().savefig(plot, dpi=120)
        print(f"figure written to {plot}")
    return solution


if __name__ == "__main__":
    typer.run(main)
