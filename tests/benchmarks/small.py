"""Problems so small that what surrounds the arithmetic is what they cost, beside SciPy's BFGS on the dual by hand.

OMP_NUM_THREADS=1 PYTHONPATH=. python -m tests.benchmarks.small
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

import envs
from reps_opt import MDP, REPS, ConditionalREPS, LinearProgram, iterate, solve, solve_path
from tests.benchmarks.comparison import Cost, Goal, Row, show, timed

EPSILON = 0.5
RADII = np.geomspace(0.01, 1.0, 50)
UPDATES = 200
SOLVE_MS, GARNET_MS, GARNET_OPTIMUM_MS, PATH_MS = 0.5, 3.0, 1.0, 20.0
REPEATS = 21


def lake(name: str) -> MDP:
    """Gymnasium's FrozenLake."""
    return MDP.from_gymnasium("FrozenLake-v1", map_name=name, gamma=0.99)


def by_hand(mdp: MDP, q: np.ndarray) -> Cost:
    """The dual of REPS as one writes it down, in (log eta, V), by BFGS."""
    P, r, start = mdp.transitions.toarray(), mdp.rewards.ravel(), (1 - mdp.gamma) * mdp.mu0
    keep = q.ravel() > 0
    A = (np.repeat(np.eye(mdp.n_states), mdp.n_actions, axis=0) - mdp.gamma * P)[keep]
    r, weight = r[keep], q.ravel()[keep]

    def dual(z: np.ndarray) -> tuple[float, np.ndarray]:
        eta, v = np.exp(z[0]), z[1:]
        scaled = (r - A @ v) / eta
        top = logsumexp(scaled, b=weight)
        x = weight * np.exp(scaled - top)
        return eta * (EPSILON + top) + start @ v, np.append(eta * (EPSILON + top - x @ scaled), start - A.T @ x)

    def run() -> float:
        return float(minimize(dual, np.zeros(mdp.n_states + 1), jac=True, method="BFGS", options={"gtol": 1e-8}).fun)

    return timed(run, 5, warm=True)


def _gap(value: Any) -> tuple[str, bool]:
    solutions = value if isinstance(value, list) else [value]
    if not all(hasattr(solution, "certificate") for solution in solutions):
        return "exact", True
    worst = max(abs(solution.certificate.gap) for solution in solutions)
    return f"gap {worst:.0e}", all(solution.status == "certified" for solution in solutions)


def _row(case: str, work: Callable[[], Any], most_ms: float, quick: bool, peer: str = "", there: Any = None) -> Row:
    cost = timed(work, 3 if quick else REPEATS, warm=True)
    accuracy, accurate = _gap(cost.value)
    goals = () if quick else (Goal("ms", 1e3 * cost.cpu, most_ms),)
    other = (peer, there.cpu, there.value if isinstance(there.value, str) else "") if there is not None else ()
    return Row("small problems", case, 1, cost.cpu, accuracy, accurate, *other, goals=goals)


def rows(quick: bool = False) -> Iterator[Row]:
    """FrozenLake by every kind of problem, a Garnet, a path of radii and repeated updates."""
    small, lake8, random = lake("4x4"), lake("8x8"), envs.garnet(200, 4, 5, seed=0, gamma=0.95)
    q, uniform = small.occupancy(small.uniform_policy()), small.uniform_policy()
    limit = solve(REPS(small, q, 50.0)).kl
    hand = by_hand(small, q)
    difference = abs(hand.value - solve(REPS(small, q, EPSILON)).objective)
    hand = hand._replace(value=f"off by {difference:.0e}")
    solves = {
        "REPS": lambda: solve(REPS(small, q, EPSILON)),
        "REPS, slack ball": lambda: solve(REPS(small, q, 1.5 * limit)),
        "REPS, nearly slack": lambda: solve(REPS(small, q, 0.9999 * limit)),
        "conditional REPS": lambda: solve(ConditionalREPS(small, uniform, EPSILON)),
        "linear program": lambda: solve(LinearProgram(small)),
        "optimal policy": small.solve_optimal,
    }
    for name, work in solves.items():
        beside = ("SciPy BFGS, by hand", hand) if name == "REPS" else ()
        yield _row(f"FrozenLake 4x4, {name}", work, SOLVE_MS, quick, *beside)
    q_random, q8 = random.occupancy(random.uniform_policy()), lake8.occupancy(lake8.uniform_policy())
    yield _row("Garnet 200 x 4, REPS", lambda: solve(REPS(random, q_random, EPSILON)), GARNET_MS, quick)
    yield _row("Garnet 200 x 4, optimal policy", random.solve_optimal, GARNET_OPTIMUM_MS, quick)
    problem, radii = REPS(lake8, q8, EPSILON), RADII[::10] if quick else RADII
    cold = timed(lambda: [solve(problem.replace(epsilon=epsilon)) for epsilon in radii], 1 if quick else 5, warm=True)
    path = f"FrozenLake 8x8, a path of {radii.size} radii"
    yield _row(path, lambda: solve_path(problem, radii), PATH_MS, quick, f"{radii.size} cold solves", cold)
    yield _updates(lake8, 5 if quick else UPDATES)


def _updates(mdp: MDP, count: int) -> Row:
    """Repeated updates by ``iterate``, each compared with the policy before."""
    cost = timed(lambda: list(iterate(mdp, mdp.uniform_policy(), lambda p: REPS(mdp, mdp.occupancy(p), 1e-3), count)))
    certified = sum(step.solution.status == "certified" for step in cost.value)
    text = f"{certified} of {count} certified"
    return Row("small problems", f"FrozenLake 8x8, {count} updates compared", 1, cost.cpu, text, certified == count)


if __name__ == "__main__":
    show(rows())
