"""How good can a controller be? Value iteration on the two-dimensional states of the swing-up and the puddle world.

What learners from samples reach is to be compared with these figures: expected rewards a step of planned controllers,
rolled out on the true dynamics from the tasks' own starts.

python examples/best_possible.py
"""

import numpy as np
import scipy.sparse as sp
import typer
from harness import reward

import envs

N_DRAWS = 8  # of a step's noise: the same at every place


def corners(grid, places):
    """Bilinear interpolation on a grid (two axes) at places (n, 2), as a sparse matrix."""
    along = [(np.clip(x, g[0], g[-1]) - g[0]) / (g[1] - g[0]) for g, x in zip(grid, places.T, strict=True)]
    low = [np.minimum(x.astype(int), len(g) - 2) for g, x in zip(grid, along, strict=True)]
    part = [(1 - x + i, x - i) for x, i in zip(along, low, strict=True)]
    both = [(i, j) for i in (0, 1) for j in (0, 1)]
    columns = np.concatenate([(low[0] + i) * len(grid[1]) + low[1] + j for i, j in both])
    shares = np.concatenate([part[0][i] * part[1][j] for i, j in both])
    shape = (len(places), len(grid[0]) * len(grid[1]))
    return sp.csr_array((shares, (np.tile(np.arange(len(places)), 4), columns)), shape=shape)


def plan(env, grid, actions, tolerance=1e-3):
    """The controller ``act(states)`` of greatest value, by value iteration; in between the grid values are linear."""
    places = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 2)
    rewards, moves, n_draws = [], [], N_DRAWS if getattr(env, "noise", 0) else 1
    for action in np.repeat(actions, n_draws, axis=0):
        seed = np.random.default_rng(len(moves) % n_draws)  # the same noise for every action
        outcome = env.step_batch(places, np.tile(action, (len(places), 1)), seed)
        rewards.append(outcome.rewards)
        moves.append(corners(grid, outcome.next_states))
    shape = len(actions), n_draws, len(places)
    paid, moves = np.mean(np.reshape(rewards, shape), axis=1), sp.vstack(moves, format="csr")
    value, change = np.zeros(len(places)), np.inf
    while change > tolerance:
        action_values = paid + env.gamma * (moves @ value).reshape(shape).mean(axis=1)
        change = np.abs(action_values.max(axis=0) - value).max()
        value = action_values.max(axis=0)
    return lambda states: actions[np.argmax(corners(grid, states) @ action_values.T, axis=1)]


class Planned:
    """A policy that acts as planned."""

    def __init__(self, act):
        self.predict = act

    def sample(self, states, rng):
        return self.predict(states)


def main(fineness: int = 241, n_episodes: int = 100) -> dict[str, float]:
    """Plan on a grid of so many angles and velocities, and a third as many places; print and return the figures."""
    angle, velocity = np.linspace(-np.pi / 2, 1.5 * np.pi, fineness), np.linspace(-12, 12, fineness)
    side, step = np.linspace(0, 1, fineness // 3 + 1), np.linspace(-0.05, 0.05, 5)
    tasks = {
        "swing-up": (envs.SwingUp(), (angle, velocity), np.linspace(-30, 30, 31)[:, None]),
        "puddle world": (envs.PuddleWorld(), (side, side), np.array([[x, y] for x in step for y in step])),
    }
    found = {name: reward(env, Planned(plan(env, *how)), n_episodes) for name, (env, *how) in tasks.items()}
    for name, figure in found.items():
        print(f"{name:<14}{figure:8.2f}   expected reward a step of the planned controller")
    return found


if __name__ == "__main__":
    typer.run(main)
