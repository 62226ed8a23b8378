"""Learn to push a disc to a goal by REPS with a Gaussian-process policy, from samples alone.

A pusher touches the disc at one point: pushed straight, the disc slips away to the side. Scores are mean rewards a step
of episodes on fixed seeds, beside resting and a controller written by hand. The task is this library's own: there is no
published figure.

python examples/pushing.py --plot pushing.png
"""

import matplotlib.pyplot as plt
import numpy as np
import typer
from drawing import beside_trials
from harness import reward, study, waves
from sklearn.preprocessing import FunctionTransformer

import envs
from policies import GaussianProcessPolicy
from reps_opt import REPSUpdate, rollout

EPISODES = {"first": 60, "n_episodes": 20, "keep": 60}  # of 50 steps
EPSILON = 1.0
START_STD = 0.05  # of the first, random steps, in m
WIDTH, N_FEATURES = 1.0, 100  # of the value function, in m


def relative(states):
    """The disc as seen from the pusher and from the goal (n, 4)."""
    return np.column_stack([states[:, 2:] - states[:, :2], states[:, 2:] - envs.Pushing().goal])


def make_update(env):
    """REPS with a sparse Gaussian process, whose kernel starts from the one fitted last."""
    seen = FunctionTransformer(relative)
    pusher = GaussianProcessPolicy(method="sparse", n_inducing=64, features=seen)
    values = {"features": waves(WIDTH, N_FEATURES, seen), "gamma": env.gamma, "starts": "episodes"}
    return REPSUpdate(fit=pusher, epsilon=EPSILON, warm_start=True, **values)


def distance(env, policy, n_episodes, **options):
    """The disc's mean distance to the goal at the end, in m."""
    batch = rollout(env, policy, n_episodes=n_episodes, seed=0, **options)
    last = batch.next_states[batch.truncated | batch.terminated]
    return float(np.linalg.norm(last[:, 2:] - env.goal, axis=1).mean())


def draw(env, trials, known, path):
    """Learning curves; the way of the disc and of the pusher, by a trial's first and last mean steps."""
    with beside_trials(trials, known, path) as axes:
        for axis, record in zip(axes, (trials[0].first, trials[0].last), strict=True):
            shown = rollout(env, record.policy, n_episodes=4, seed=7, deterministic=True)
            for k in range(4):
                states = shown.states[shown.episode == k]
                axis.plot(*states[:, :2].T, f"C{k}.:", lw=1, ms=3)
                axis.plot(*states[:, 2:].T, f"C{k}-", lw=2)
                axis.add_patch(plt.Circle(states[-1, 2:], env.object_radius, color=f"C{k}", alpha=0.3))
                axis.add_patch(plt.Circle(states[-1, :2], env.pusher_radius, color=f"C{k}"))
            axis.plot(*env.goal, "r*", ms=14, zorder=5)
            title = f"after iteration {record.index}: pusher dotted, disc solid"
            axis.set(title=title, aspect="equal", xlim=(-1, 1), ylim=(-0.7, 0.7))


def main(
    n_trials: int = 10, n_iterations: int = 80, n_evaluated: int = 100, seed: int = 0, jobs: int = 1, plot: str = ""
):
    env = envs.Pushing()
    acts = {"resting": lambda state, rng: np.zeros(2), "by hand": env.by_hand}
    known = {name: reward(env, act, n_evaluated) for name, act in acts.items()}
    how = {"n_trials": n_trials, "n_iterations": n_iterations, "n_evaluated": n_evaluated, "seed": seed, "jobs": jobs}
    trials = study(env, make_update, START_STD, known, **how, **EPISODES)
    ends = [distance(env, t.last.policy, n_evaluated, deterministic=True) for t in trials]
    hand = distance(env, env.by_hand, n_evaluated)
    print(f"the disc ends {np.mean(ends):.3f} m from the goal without noise, by hand {hand:.3f}")
    if plot:
        draw(env, trials, known, plot)
    return trials


if __name__ == "__main__":
    typer.run(main)
