"""What a budget costs: the price of each unit of an expected-cost budget, and the return it buys.

A grid world whose shortest way leads past cells that are dear to stand on. For every budget the price is the slope of
the best return, and it falls to zero where the budget no longer binds; a policy that keeps the budget randomises.
"""

import matplotlib.pyplot as plt
import numpy as np
import typer

import envs
from reps_opt import REPS, LinearProgram, solve
from reps_opt.plotting import COLOURS, LINES, MARKERS

SIZE = 6
SLIP = 0.1
GAMMA = 0.95
EPSILON = 0.5
COST = 1.0


def dear_cells(size):
    """Cost (S,) of standing in a cell: a band across the middle of the grid, but for its last column."""
    cost = np.zeros((size, size))
    cost[size // 2, : size - 1] = COST
    return cost.ravel()


def sweep(mdp, q, cost, budgets, epsilon):
    """Answers of REPS and of the linear program at each budget."""
    ball = [solve(REPS(mdp, q, epsilon, costs=[cost], budgets=[d])) for d in budgets]
    line = [solve(LinearProgram(mdp, costs=[cost], budgets=[d])) for d in budgets]
    return {f"REPS, epsilon = {epsilon:g}": ball, "linear program": line}


def draw(answers, budgets):
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(6, 6), sharex=True, layout="constrained")
    for k, (label, solutions) in enumerate(answers.items()):
        style = {"color": COLOURS[k], "marker": MARKERS[k], "ls": LINES[k], "ms": 4}
        top.plot(budgets, [s.objective for s in solutions], label=label, **style)
        bottom.plot(budgets, [s.nu[0] for s in solutions], label=label, **style)
    top.set_ylabel("mean reward")
    bottom.set_ylabel("price nu: reward a unit of budget")
    bottom.set_yscale("symlog", linthresh=1e-3)
    bottom.set_xlabel("budget d: mean cost allowed")
    top.legend()
    return figure


def main(size: int = SIZE, epsilon: float = EPSILON, n_budgets: int = 25, plot: str | None = None):
    """Sweep the budget, print what it costs and what a unit of it is worth, and draw both."""
    mdp = envs.gridworld((size, size), slip=SLIP, gamma=GAMMA)
    q = mdp.occupancy(mdp.uniform_policy())
    cost = np.repeat(dear_cells(size)[:, None], mdp.n_actions, axis=1)
    free = solve(REPS(mdp, q, epsilon)), solve(LinearProgram(mdp))
    usual = [float(np.sum(cost * solution.occupancy)) for solution in free]
    impossible = solve(LinearProgram(mdp, costs=[cost], budgets=[0.0]))
    least = impossible.violation
    budgets = np.geomspace(1.02 * least, 1.1 * max(usual), n_budgets)
    answers = sweep(mdp, q, cost, budgets, epsilon)
    print(f"mean cost: reference {np.sum(cost * q):.4f}, REPS {usual[0]:.4f}, optimal policy {usual[1]:.4f}")
    print(f"budget 0 is {impossible.status}: at least {least:.6f} must be allowed")
    print(f"{'budget':>8}  {'route':<20} {'status':<10} {'mean cost':>9} {'reward':>10} {'price':>9} {'eta':>10}  gap")
    for label, solutions in answers.items():
        for d, s in list(zip(budgets, solutions, strict=True))[:: max(1, n_budgets // 6)]:
            numbers = f"{s.expected_costs[0]:9.5f} {s.objective:10.6f} {s.nu[0]:9.5f} {s.eta:10.3e}"
            print(f"{d:8.4f}  {label:<20} {s.status:<10} {numbers}  {s.certificate.gap:.0e}")
    figure = draw(answers, budgets)
    if plot:
        figure.savefig(plot, dpi=120)
    plt.close(figure)
    return budgets, answers


if __name__ == "__main__":
    typer.run(main)
