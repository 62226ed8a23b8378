"""What the TRPO examples share: runs of ``improve(task, None, TRPO(...))``, their table and their curves.

A network of 64 x 64 tanh units over the task's own spaces, values by a network that goes on learning: nothing is given
but the update and the steps of a batch. A score is the mean return of 20 episodes of the policy, whose steps do not
count, with exploration and by the mean or likeliest action alone; whole episodes of the batches would be the short
ones, which the end of a batch rarely cuts.
"""

import time

import matplotlib.pyplot as plt
import numpy as np

from reps_opt import History, Record, improve, rollout

EPISODES, POINTS = 20, 10  # of a score; scores along a run, beside those at the reported steps


def learn(task, make_update, n_steps, batch, seed, reported=(), verbose=False):
    """Steps and scores, exploring and without (points, 3), CPU seconds of learning, the history, of numbers alone, and
    the scores of the policy that did best in its own roll-outs, which costs no step more.

    ``make_update`` gets the share of the run that is done.
    """
    n_updates, done, curve, records, policies, spent = -(-n_steps // batch), [0], [], [], [], 0.0
    wanted = {*np.linspace(1, n_updates, POINTS).astype(int), *(-(-steps // batch) for steps in reported)}

    def update(policy, batch, memory=None):
        done[0] += 1
        return make_update((done[0] - 1) / n_updates)(policy, batch, memory)

    update.needs_policy, update.objective = True, make_update(0).objective

    def scores(policy):
        fresh = {"seed": np.random.SeedSequence((seed, 1)), "n_episodes": EPISODES}
        return [rollout(task, policy, **fresh, deterministic=alone).returns.mean() for alone in (False, True)]

    began = time.process_time()
    for record in improve(task, None, update, n_updates, n_steps=batch, seed=seed, progress=False):
        records.append(Record(record.index, None, record.values))
        policies.append(record.policy)
        if record.index in wanted:
            spent += time.process_time() - began
            curve.append((record.values["steps"], *scores(record.policy)))
            if verbose:
                line = f"return {curve[-1][1]:7.1f}, without exploration {curve[-1][2]:7.1f}, "
                line += f"kl {record.values['kl']:.4f}"
                print(f"{curve[-1][0]:6d} steps, {line}, {record.values['status']}, {record.update.trials} trials")
            began = time.process_time()
    spent, history = spent + time.process_time() - began, History(records)
    return np.array(curve), spent, history, scores(policies[history.best.index - 1])


def study(task, make_update, n_seeds, n_steps, batch, reported, plot=None, first=0):
    """Curves (seeds, points, 3) from the first seed on, beside what a mature implementation reaches, and drawn."""
    seeds = range(first, first + n_seeds)
    runs = [learn(task, make_update, n_steps, batch, seed, reported, verbose=seed == first) for seed in seeds]
    curves, kept = np.array([curve for curve, *_ in runs]), np.array([scores for *_, scores in runs])
    print(f"{task}, {n_steps} steps, {', '.join(f'{cpu:.0f}' for _, cpu, *_ in runs)} s of CPU")
    print("steps    " + "".join(f"seed {seed:<4d}" for seed in seeds) + "mean    mature TRPO")
    reached = {f"{steps:6d} ": known for steps, known in reported.items() if steps <= curves[0, -1, 0]}
    scores = {name: curves[:, np.searchsorted(curves[0, :, 0], int(name)), 1:] for name in reached} | {"kept   ": kept}
    for name, now in scores.items():
        for label, way, mature in ((name, 0, reached.get(name, "")), ("without", 1, "")):
            print(label + "".join(f"{value:9.1f}" for value in (*now[:, way], now[:, way].mean())) + f"{mature:>9}")
    for seed, (*_, history, _) in zip(seeds, runs, strict=True):
        print(f"seed {seed}: {told(history)}")
    if plot:
        _draw(task, curves, reported, plot)
    return curves


def told(history):
    """What a run promised and reached, in words."""
    table = history.to_frame().dropna(subset=["predicted_gain", "gain"])
    promised, reached = table["predicted_gain"].sum(), table["gain"].sum()
    error = np.sqrt((table["predicted_gain_error"] ** 2).sum())
    text = f"promised {promised:.3f} +- {error:.3f} a step in all, gained {reached:.3f}"
    return f"{text}; at most {table['refuted'].max()} promises in a row refuted"


def _draw(task, curves, reported, path):
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    axis.plot(curves[0, :, 0], curves[:, :, 1].T, color="C0", linewidth=0.7)
    axis.plot(curves[0, :, 0], curves[:, :, 1].mean(axis=0), color="C0", linewidth=2, label="mean of the seeds")
    axis.plot(list(reported), list(reported.values()), "kx", label="mature TRPO, last 20 episodes")
    axis.set(xlabel="environment steps", ylabel="mean return of 20 episodes", title=f"TRPO on {task}")
    axis.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"figure written to {path}")
