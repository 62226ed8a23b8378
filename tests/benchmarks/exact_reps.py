"""Exact REPS against size, route by route, and the conditional-KL step beside it.

OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/exact_reps.py --sides 32 100 316
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np

import envs
from reps_opt import MDP, REPS, ConditionalREPS, Solution, solve
from reps_opt.solvers import CvxpyDual, ScipyDual
from reps_opt.solvers.answer import Solver
from tests.benchmarks.comparison import Cost, Goal, Row, growth, in_child, resident_mib, show, timed

GAMMA, SLIP = 0.95, 0.2
KINDS = {"grid": 0.5, "grid from a corner": 0.5, "grid with one distant goal": 0.3, "garnet": 0.5}
"""Kinds of graph, and the radius on each."""

SIDES, QUICK_SIDES = (32, 100, 316), (6, 10)
PEERS: dict[str, tuple[Solver, int]] = {
    "CVXPY, Clarabel": (CvxpyDual("CLARABEL"), 20_000),
    "CVXPY, SCS": (CvxpyDual("SCS"), 2_000),
    "SciPy, L-BFGS-B": (ScipyDual("L-BFGS-B"), 20_000),
}
"""Other routes to the same dual, and the largest S each is given."""

GAP = 1e-8
FASTER, LARGEST_GROWTH, MOST_MIB = 100.0, 1.2, 2048.0  # at S = 1e5
LONGEST = {"grid": 0.5, "grid from a corner": 2.0, "grid with one distant goal": 2.0, "garnet": 1.0}  # at S = 1e5
CONDITIONAL = 3.0  # times the joint-KL step


def graph(kind: str, side: int) -> MDP:
    """A slippery grid with a random reward a state, or one in a corner; started anywhere or there; or a Garnet."""
    if kind == "garnet":
        return envs.garnet(side * side, 4, 5, seed=0, gamma=GAMMA)
    mdp = envs.gridworld((side, side), slip=SLIP, gamma=GAMMA)
    first = np.eye(1, mdp.n_states)[0]
    worth = first if "goal" in kind else np.random.default_rng(0).uniform(size=mdp.n_states)
    start = first if kind == "grid from a corner" else None
    return MDP(mdp.transitions, worth[:, None].repeat(4, axis=1), GAMMA, start)


def accuracy(solution: Solution) -> str:
    """Gap in units of the reward range, and status where it is not certified."""
    status = "" if solution.status == "certified" else f", {solution.status}"
    off = abs(solution.kl - solution.problem.epsilon)
    return f"gap {solution.certificate.gap:.0e}, KL off {off:.0e}{status}"


def solved(mdp: MDP, q: np.ndarray, epsilon: float, route: Solver | None = None) -> Cost:
    """One solve of a problem made anew, so that nothing is kept from another route; the median of three where quick."""
    return timed(lambda: solve(REPS(mdp, q, epsilon), route), 3 if route is None and mdp.n_states < 50_000 else 1)


def rows(quick: bool = False, sides: Sequence[int] | None = None, largest_conic: int | None = None) -> Iterator[Row]:
    """A row a graph, size and peer; ``largest_conic`` is the largest S given to conic solvers."""
    sides = (QUICK_SIDES if quick else SIDES) if sides is None else sides
    for kind in KINDS:
        costs: dict[int, float] = {}
        for side in sides:
            mdp = graph(kind, side)
            q = mdp.occupancy(mdp.uniform_policy())
            ours = solved(mdp, q, KINDS[kind])
            costs[mdp.n_states] = ours.cpu
            conic = largest_conic if largest_conic is not None else (10**6 if kind == "grid" and not quick else 20_000)
            yield from _beside_peers(kind, mdp, q, ours, conic, costs)
            if kind == "grid":
                yield _conditional(mdp, q, ours, quick)


def _beside_peers(
    kind: str, mdp: MDP, q: np.ndarray, ours: Cost, largest_conic: int, costs: dict[int, float]
) -> Iterator[Row]:
    check = ours.value.certificate
    accurate = abs(check.gap) <= GAP and ours.value.status == "certified"
    common = (f"exact REPS, {kind}", f"S = {mdp.n_states:,}", mdp.n_states, ours.cpu, accuracy(ours.value), accurate)
    large = mdp.n_states > 50_000
    goals = (Goal("CPU s", ours.cpu, LONGEST[kind]),) if large else ()
    yield Row(*common, goals=goals + (_alone(mdp, q, costs) if kind == "grid" and large else ()))
    if "goal" in kind:  # no peer comes near an eta of 1e-7
        return
    for name, (route, largest) in PEERS.items():
        most = {"CVXPY, Clarabel": largest_conic, "CVXPY, SCS": min(largest, largest_conic)}.get(name, largest)
        if mdp.n_states > most or (name == "CVXPY, SCS" and kind != "grid"):  # elsewhere it takes minutes
            continue
        theirs = solved(mdp, q, KINDS[kind], route)
        wanted = name == "CVXPY, Clarabel" and kind == "grid" and mdp.n_states > 50_000
        faster = (Goal("times faster", theirs.cpu / ours.cpu, FASTER, least=True),) if wanted else ()
        yield Row(*common, peer=name, peer_cost=theirs.cpu, peer_accuracy=accuracy(theirs.value), goals=faster)


def _alone(mdp: MDP, q: np.ndarray, costs: dict[int, float]) -> tuple[Goal, ...]:
    """Goals at the largest size that need no peer: growth, memory."""
    peak = in_child(lambda: (solve(REPS(mdp, q, KINDS["grid"])).objective, resident_mib()))[0][1]
    slope = growth(list(costs), list(costs.values()))
    return Goal("exponent of S", slope, LARGEST_GROWTH), Goal("MiB in all", peak, MOST_MIB)


def _conditional(mdp: MDP, q: np.ndarray, joint: Cost, quick: bool) -> Row:
    policy = mdp.uniform_policy()
    ours = timed(lambda: solve(ConditionalREPS(mdp, policy, KINDS["grid"])), 1 if mdp.n_states > 50_000 else 3)
    gap = abs(ours.value.certificate.gap)
    return Row(
        "conditional-KL step, grid",
        f"S = {mdp.n_states:,}",
        mdp.n_states,
        ours.cpu,
        accuracy(ours.value),
        gap <= GAP and ours.value.status == "certified",
        "joint-KL REPS, here",
        joint.cpu,
        accuracy(joint.value),
        () if quick else (Goal("times the joint", ours.cpu / joint.cpu, CONDITIONAL),),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES), help="S is the square of these")
    parser.add_argument("--largest-conic", type=int, default=20_000, help="largest S given to the conic solver")
    arguments = parser.parse_args()
    show(rows(sides=arguments.sides, largest_conic=arguments.largest_conic))
