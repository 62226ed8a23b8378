"""Exact REPS against size, route by route, with the accuracy of each answer beside its cost.

OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/exact_reps.py --sides 32 100 316
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

import envs
from reps_opt import MDP, REPS, solve
from reps_opt.solvers import CvxpyDual, Newton, ScipyDual

GAMMA, EPSILON, SLIP = 0.95, 0.5, 0.2
LARGEST = {"Newton": 10**9, "ScipyDual L-BFGS-B": 20_000, "CvxpyDual CLARABEL": 20_000}
ROUTES = {"Newton": Newton(), "ScipyDual L-BFGS-B": ScipyDual("L-BFGS-B"), "CvxpyDual CLARABEL": CvxpyDual()}


def graph(kind: str, side: int) -> MDP:
    """A slippery grid, started anywhere or in a corner, or a Garnet with as many states; a random reward a state."""
    if kind == "garnet":
        return envs.garnet(side * side, 4, 5, seed=0, gamma=GAMMA)
    mdp = envs.gridworld((side, side), slip=SLIP, gamma=GAMMA)
    rewards = np.random.default_rng(0).uniform(size=(mdp.n_states, 1)).repeat(4, axis=1)
    corner = np.eye(1, mdp.n_states)[0] if kind == "grid from a corner" else None
    return MDP(mdp.transitions, rewards, GAMMA, corner)


def main(sides: list[int], largest_conic: int) -> None:
    """Print one row a graph, size and route: CPU and wall seconds, gap, KL error, ratio to Newton."""
    limits = {**LARGEST, "CvxpyDual CLARABEL": largest_conic}
    print(
        f"{'graph':<19}{'S':>7}  {'route':<20}{'CPU s':>8}{'wall s':>8}{'ratio':>7}  {'gap':>8}{'|KL-eps|':>10}  status"
    )
    for kind in ("grid", "grid from a corner", "garnet"):
        for side in sides:
            mdp = graph(kind, side)
            problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), EPSILON)
            ours = None
            for name, solver in ROUTES.items():
                if mdp.n_states > limits[name]:
                    continue
                fresh = REPS(mdp, problem.reference, EPSILON)
                cpu, wall = time.process_time(), time.perf_counter()
                solution = solve(fresh, solver)
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                ours = cpu if ours is None else ours
                print(
                    f"{kind:<19}{mdp.n_states:>7}  {name:<20}{cpu:>8.2f}{wall:>8.2f}{cpu / ours:>7.1f}  "
                    f"{solution.certificate.gap:>8.0e}{abs(solution.kl - EPSILON):>10.0e}  {solution.status}",
                    flush=True,
                )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 100, 316], help="S is the square of these")
    parser.add_argument("--largest-conic", type=int, default=20_000, help="largest S given to the conic solver")
    arguments = parser.parse_args()
    main(arguments.sides, arguments.largest_conic)
