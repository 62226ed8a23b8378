"""REPS on Gymnasium's own tasks, from its defaults: a policy to fit, and an amount of samples, are all that is said.

Value features, discount factor, what follows a termination and the ridge are chosen from every batch. Prints what was
reached, with exploration and by the mean or likeliest action alone, and how promises and gains compare: of what was
promised over the run, how much came; and how often the run itself says that its promises were refuted.

python examples/reps_on_gymnasium.py --tasks CartPole-v1 --seed 100 --n-trials 10 --plot promises.png
"""

import time
import warnings

import numpy as np
import typer
from drawing import draw_promises

from policies import GaussianProcessPolicy, SoftmaxPolicy
from reps_opt import History, REPSUpdate, improve, rollout

N_EVALUATED = 30
TASKS = {  # the policy to fit, the updates, and what each of them sees
    "Pendulum-v1": (GaussianProcessPolicy(), 20, {"n_episodes": 10, "keep": 30}),
    "InvertedPendulum-v5": (GaussianProcessPolicy(), 10, {"n_steps": 2_000}),
    "MountainCarContinuous-v0": (GaussianProcessPolicy(), 10, {"n_episodes": 5, "keep": 15}),
    "CartPole-v1": (SoftmaxPolicy(), 20, {"n_steps": 2_500}),
    "Acrobot-v1": (SoftmaxPolicy(features="fourier"), 15, {"n_episodes": 10}),
}
HELD = {"MountainCarContinuous-v0": 16}  # steps of the first uniform actions: shorter ones do not reach the hill
EVERY = list(TASKS)


def learn(task, seed, share):
    """The history of one trial, its return without exploration, its CPU seconds; ``share`` of the updates are made."""
    fit, n_updates, amount = TASKS[task]
    if task in HELD:
        amount = {**amount, "first": rollout(task, n_episodes=amount["n_episodes"], hold=HELD[task], seed=seed)}
    count, began = max(1, round(share * n_updates)), time.process_time()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run = improve(task, None, REPSUpdate(fit=fit), count, **amount, seed=seed, evaluate=N_EVALUATED, progress=False)
        history = History(run)
    seconds, table = time.process_time() - began, history.to_frame()
    steady = rollout(task, history.policy, N_EVALUATED, seed=seed, deterministic=True).returns.mean()
    told = table[["predicted_gain", "gain"]].dropna().sum()
    refuted = sum("in a row" in str(warning.message) for warning in said)
    reached = f"return {history.returns[0]:.1f} -> {history.returns[-1]:.1f}, best {history.returns.max():.1f}"
    reached += f", without exploration {steady:.1f}"
    gains = f"promised {told['predicted_gain']:.2f} in all, gained {told['gain']:.2f}"
    print(f"{task} {seed}: {reached}, {table['steps'].iloc[-1]} steps; {gains}; ", end="")
    print(f"{refuted} warnings of refuted promises; {seconds:.0f} s of CPU", flush=True)
    return history, steady, seconds


def main(tasks: list[str] = EVERY, n_trials: int = 10, seed: int = 100, share: float = 1.0, plot: str | None = None):
    """Last returns (tasks, trials); prints mean, spread and worst of every task, exploration included and not."""
    histories = {}
    for task in tasks:
        found = [learn(task, seed + i, share) for i in range(n_trials)]
        histories[task], steady, seconds = zip(*found, strict=True)
        ends = np.array([history.returns[-1] for history in histories[task]])
        for name, values in (("with exploration", ends), ("without", np.array(steady))):
            print(f"{task:<25}{name:<17} mean {values.mean():.1f}, std {values.std():.1f}, worst {values.min():.1f}")
        print(f"{task:<25}{np.mean(seconds):.0f} s of CPU a trial", flush=True)
    if plot:
        draw_promises(histories, plot)
    return np.array([[history.returns[-1] for history in runs] for runs in histories.values()])


if __name__ == "__main__":
    typer.run(main)
