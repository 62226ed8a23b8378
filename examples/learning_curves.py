"""Learning curves by steps of the environment: of updates from batches, and of searches over a policy's parameters.

A run is a list of pairs, the steps so far and the return of a whole episode, in order; a curve is the mean return of
the last 20 episodes at some numbers of steps, the published way of scoring.
"""

import cma
import gymnasium
import numpy as np
from drawing import band, figure_in
from joblib import Memory, Parallel, delayed

from policies import NeuralCategoricalPolicy, NeuralPolicy
from reps_opt import improve, rollout

HIDDEN = (32,)  # units of the network
GAMMA = 0.99
BATCH = 2000  # steps an update
POPULATION, ELITE, START_STD, LEAST_STD = 20, 4, 0.3, 0.02  # of the searches over parameters
GRID = 24  # points of a learning curve


def start_policy(task, seed, max_iter=200):
    """The network, the same for every method."""
    make = NeuralCategoricalPolicy if task.startswith("CartPole") else NeuralPolicy
    return make.from_env(task, hidden=HIDDEN, random_state=seed, max_iter=max_iter)


def by_batches(task, policy, update, seed, n_steps):
    """The run of an update; episodes that the end of a batch cuts off do not count."""
    longest, before, found = gymnasium.spec(task).max_episode_steps, 0, []
    for record in improve(task, policy, update, -(-n_steps // BATCH), n_steps=BATCH, seed=seed, progress=False):
        length = np.bincount(record.batch.episode)
        ends = length.cumsum() - 1
        whole = record.batch.terminated[ends] | (length == longest)
        found += zip(before + ends[whole] + 1, record.batch.returns[whole], strict=True)
        before += BATCH
    return found


def by_episodes(task, policy, covariance, seed, n_steps):
    """The run of CMA-ES, or with ``covariance=False`` of CEM: one episode of its mean actions tries a network."""
    rng, env, found, steps = np.random.default_rng(seed), gymnasium.make(task), [], 0
    mean, std = policy.params, np.full(policy.params.size, START_STD)
    search = cma.CMAEvolutionStrategy(mean, START_STD, {"seed": seed + 1, "popsize": POPULATION, "verbose": -9})
    while steps < n_steps:
        tried = search.ask() if covariance else list(mean + std * rng.normal(size=(POPULATION, mean.size)))
        returns = []
        for params in tried:
            drawn = np.random.SeedSequence((seed, steps))
            batch = rollout(env, policy.with_params(params), n_episodes=1, seed=drawn, deterministic=True)
            steps, returns = steps + len(batch), [*returns, batch.returns[0]]
            found.append((steps, returns[-1]))
        if covariance:
            search.tell(tried, -np.array(returns))
        else:
            best = np.array(tried)[np.argsort(returns)[-ELITE:]]
            mean, std = best.mean(axis=0), best.std(axis=0) + LEAST_STD
    return found


def curve(found, n_steps):
    """Mean return of the last 20 episodes at GRID numbers of steps up to the last; NaN before the first."""
    steps, returns = np.transpose(found)
    last = np.searchsorted(steps, np.linspace(n_steps / GRID, n_steps, GRID), side="right")
    return np.array([returns[max(0, i - 20) : i].mean() if i else np.nan for i in last])


def report(label, curves, seconds):
    """Print the returns half way and at the end, of every seed, and the mean CPU seconds."""
    last = ", ".join(f"{x:.0f}" for x in curves[:, -1])
    numbers = f"{curves[:, GRID // 2 - 1].mean():7.0f} half way {curves[:, -1].mean():7.0f} at the end ({last})"
    print(f"{label:<30}{numbers}   {np.mean(seconds):.0f} s of CPU", flush=True)


def by_seeds(learn, task, what, n_seeds, n_steps, keep, jobs=1):
    """Curves (seeds, GRID) of ``learn(task, what, seed, n_steps)``, reported; finished runs are kept in a folder."""
    kept = Memory(keep, verbose=0).cache(learn)
    runs = Parallel(jobs)(delayed(kept)(task, what, seed, n_steps) for seed in range(n_seeds))
    curves = np.array([found for found, _ in runs])
    report(what if isinstance(what, str) else f"{what:g}", curves, [seconds for _, seconds in runs])
    return curves


def draw(curves, n_steps, path):
    """A panel for each task, a line for each label: the mean over the seeds, and their range."""
    tasks = list(dict.fromkeys(task for task, _ in curves))
    rows = 1 if len(tasks) < 4 else 2
    columns = -(-len(tasks) // rows)
    steps = np.linspace(n_steps / GRID, n_steps, GRID)
    size = (4.5 * columns + 2, 3.8 * rows + 0.9)
    with figure_in(path, rows, columns, dpi=110, legends=False, figsize=size, squeeze=False, sharex=True) as axes:
        for (task, label), runs in curves.items():
            axis = axes.flat[tasks.index(task)]
            edges = runs.min(axis=0), runs.max(axis=0)
            band(axis, steps, runs.mean(axis=0), edges, label, len(axis.lines), marks=True)
            axis.set(title=task)
        for axis in axes[-1]:
            axis.set_xlabel("steps")
        figure = axes[0, 0].figure
        figure.supylabel("mean return of the last 20 episodes", fontsize="medium")
        names = axes[0, 0].get_legend_handles_labels()
        figure.legend(*names, loc="outside lower center", ncols=2 * columns, fontsize="small")
