"""REPS on Gymnasium's own tasks, from its defaults: a policy to fit, and an amount of samples, are all that is said.

Value features, discount factor, what follows a termination and the ridge are chosen from every batch. Prints what
three policies of a run return in 100 fresh episodes, with exploration and by the mean or likeliest action alone: the
last one, the best by the roll-outs that updates learned from, which costs no step more, and the best by evaluations
without exploration, `History.best`. And how promises and gains compare: of what was promised over the run, how much
came, and how often the run says that its promises were refuted.

python examples/reps_on_gymnasium.py --tasks CartPole-v1 --seed 200 --n-trials 10 --plot promises.png
"""

import time
import warnings

import numpy as np
import typer
from drawing import draw_promises

from policies import GaussianProcessPolicy, SoftmaxPolicy
from reps_opt import History, REPSUpdate, improve, rollout

N_EVALUATED = 30  # episodes without exploration by which a policy is kept
N_EPISODES = 100  # of which a stated return is the mean, as Gymnasium's thresholds are
TASKS = {  # the policy to fit, the updates, what each of them sees, and the return to reach
    "Pendulum-v1": (GaussianProcessPolicy(), 20, {"n_episodes": 10, "keep": 30}, -250),
    "InvertedPendulum-v5": (GaussianProcessPolicy(), 10, {"n_steps": 2_000}, 1000),
    "MountainCarContinuous-v0": (GaussianProcessPolicy(), 10, {"n_episodes": 5, "keep": 15}, 90),
    "CartPole-v1": (SoftmaxPolicy(), 20, {"n_steps": 2_500}, 475),
    "Acrobot-v1": (SoftmaxPolicy(features="fourier", n_features=100), 15, {"n_episodes": 10}, -100),
}
HELD = {"MountainCarContinuous-v0": 16}  # steps of the first uniform actions: shorter ones do not reach the hill
EVERY = list(TASKS)
WAYS = [f"{kept}, {way}" for kept in ("last", "roll-outs", "evaluation") for way in ("exploring", "without")]


def learn(task, seed, share):
    """A trial with a share of the updates: its history, what its policies return in the :data:`WAYS`, CPU seconds."""
    fit, n_updates, amount, _ = TASKS[task]
    if task in HELD:
        amount = {**amount, "first": rollout(task, n_episodes=amount["n_episodes"], hold=HELD[task], seed=seed)}
    count, began = max(2, round(share * n_updates)), time.process_time()
    how = {**amount, "seed": seed, "evaluate": N_EVALUATED, "deterministic": True, "progress": False}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        history = History(improve(task, None, REPSUpdate(fit=fit), count, **how))
    seconds, table = time.process_time() - began, history.to_frame()
    own = table["batch_return"].to_numpy()[1:]  # each policy's roll-outs are the next update's; the last has none
    chosen = (history[-1], history[int(np.flatnonzero(own == own.max())[-1])], history.best)
    afresh = np.random.SeedSequence((seed, N_EPISODES))  # no episode of the run, nor of those that chose
    ends = [
        rollout(task, record.policy, N_EPISODES, seed=afresh, deterministic=alone).returns.mean()
        for record in chosen
        for alone in (False, True)
    ]
    told, refuted = table[["predicted_gain", "gain"]].dropna().sum(), sum("in a row" in str(w.message) for w in said)
    steps = ", ".join(str(record.values["steps"]) for record in chosen)
    print(f"{task} {seed}: {', '.join(f'{way} {end:.1f}' for way, end in zip(WAYS, ends, strict=True))}; ", end="")
    print(f"after {steps} steps; promised {told['predicted_gain']:.2f} in all, gained {told['gain']:.2f}; ", end="")
    print(f"{refuted} warnings of refuted promises; {seconds:.0f} s of CPU", flush=True)
    return history, ends, seconds


def main(tasks: list[str] = EVERY, n_trials: int = 10, seed: int = 200, share: float = 1.0, plot: str | None = None):
    """Returns (tasks, trials, ways); prints each, with mean, spread and worst, and how many reach the task's goal."""
    histories, returns = {}, []
    for task in tasks:
        histories[task], ends, seconds = zip(*(learn(task, seed + i, share) for i in range(n_trials)), strict=True)
        returns.append(ends)
        for way, values in zip(WAYS, np.transpose(ends), strict=True):
            spread = f"mean {values.mean():.1f}, std {values.std():.1f}, worst {values.min():.1f}"
            reached = f"{np.sum(values >= TASKS[task][-1])} of {n_trials} at {TASKS[task][-1]}"
            print(f"{task:<25}{way:<26} {' '.join(f'{value:.0f}' for value in values)}: {spread}; {reached}")
        print(f"{task:<25}{min(seconds):.0f} to {max(seconds):.0f} s of CPU a trial", flush=True)
    if plot:
        draw_promises(histories, plot)
    return np.array(returns)


if __name__ == "__main__":
    typer.run(main)
