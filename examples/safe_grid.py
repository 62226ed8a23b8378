"""Constrained policy optimisation on a small safety task, beside TRPO and the exact optimum under the same budget.

The short way to the goal leads over cells that cost one a step, the safe way around them. CPO keeps the expected
discounted cost of an episode within a budget; the linear program of the same MDP says what is possible.

python examples/safe_grid.py --plot safe.png
"""

import numpy as np
import typer
from drawing import figure_in

import envs
from policies import TabularPolicy
from reps_opt import CPO, TRPO, LinearProgram, improve, solve
from reps_opt.plotting import COLOURS, LINES

LAYOUT = ("FFFFF", "FFFFF", "SFFFG")
RISKY = (11, 12, 13)  # the cells between start and goal
SLIP, GAMMA, HORIZON = 0.1, 0.95, 60
BUDGET = 0.5  # expected discounted cost of an episode
EPSILON, N_EPISODES = 0.02, 100


def exactly(mdp, cost, policy):
    """Expected discounted return and cost of an episode."""
    occupancy = mdp.occupancy(policy)
    return np.array([np.sum(occupancy * mdp.rewards), np.sum(occupancy * cost)]) / (1 - mdp.gamma)


def learn(mdp, cost, update, n_updates, seed):
    """Return and cost, exact, of the policy after each update (n_updates, 2)."""
    start = TabularPolicy.from_probabilities(mdp.uniform_policy())
    env = envs.TabularEnv(mdp, horizon=HORIZON)
    run = improve(env, start, update, n_updates, n_episodes=N_EPISODES, seed=seed, progress=False)
    return np.array([exactly(mdp, cost, record.policy.probabilities_) for record in run])


def main(n_seeds: int = 5, n_updates: int = 60, plot: str | None = None):
    """Learn with and without the budget over several seeds, and print what came out."""
    mdp = envs.gridworld(LAYOUT, slip=SLIP, gamma=GAMMA, step_reward=-0.02)
    cost = np.zeros(mdp.rewards.shape)
    cost[list(RISKY)] = 1.0
    settings = {"gamma": GAMMA, "epsilon": EPSILON, "damping": 1e-3}
    updates = {
        "TRPO": TRPO(**settings),
        "CPO": CPO(**settings, budget=BUDGET, costs=lambda batch: np.isin(batch.states, RISKY).astype(float)),
    }
    curves = {k: np.array([learn(mdp, cost, u, n_updates, s) for s in range(n_seeds)]) for k, u in updates.items()}
    best = solve(LinearProgram(mdp, costs=[cost], budgets=[BUDGET * (1 - GAMMA)]))
    optima = {"TRPO": exactly(mdp, cost, mdp.solve_optimal().policy), "CPO": exactly(mdp, cost, best.policy)}
    print(f"budget {BUDGET:g}; {n_seeds} seeds, {n_updates} updates of {N_EPISODES} episodes; all figures are exact")
    print("update  return: mean   worst   optimum   cost: mean   worst   optimum   most over budget, last half")
    for name, runs in curves.items():
        (gain, paid), (best_gain, best_paid) = runs[:, -1].T, optima[name]
        over = max(runs[:, n_updates // 2 :, 1].max() - BUDGET, 0.0)
        print(f"{name:<6}{gain.mean():14.4f}{gain.min():8.4f}{best_gain:10.4f}", end="")
        print(f"{paid.mean():13.4f}{paid.max():8.4f}{best_paid:10.4f}{over:27.4f}")
    print(f"price of the budget at the optimum: {best.nu[0]:.4f} a unit of cost ({best.status})")
    if plot:
        draw(curves, optima, plot)
    return curves


def draw(curves, optima, plot):
    """Returns and costs of every seed, their means, the optima and the budget."""
    with figure_in(plot, 1, 2, dpi=110, figsize=(9, 4)) as axes:
        for k, (name, runs) in enumerate(curves.items()):
            for axis, values, optimum in zip(axes, runs.transpose(2, 0, 1), optima[name], strict=True):
                axis.plot(values.T, color=COLOURS[k], lw=0.5)
                axis.plot(values.mean(axis=0), color=COLOURS[k], ls=LINES[k], label=name)
                axis.axhline(optimum, color=COLOURS[k], ls=LINES[k + 2], label=f"optimum for {name}")
        axes[1].axhline(BUDGET, color="k", lw=0.8, label="budget")
        for axis, label in zip(axes, ("discounted return", "discounted cost"), strict=True):
            axis.set(xlabel=f"updates of {N_EPISODES} episodes", ylabel=label)


if __name__ == "__main__":
    typer.run(main)
