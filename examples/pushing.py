"""Learn to push a disc to a goal by REPS with a Gaussian-process policy, from samples alone.

A pusher touches the disc at one point: pushed straight, the disc slips away to the side. Scores are mean rewards a step
of episodes on fixed seeds, beside resting and a controller written by hand. The task is this library's own: there is no
published figure.

python examples/pushing.py --plot pushing.png
"""

import matplotlib.pyplot as plt
import numpy as np
import typer
from harness import draw_curves, reward, study, waves
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
    features = waves(WIDTH, N_FEATURES, seen)
    return REPSUpdate(
        fit=pusher, features=features, gamma=env.gamma, starts="episodes", epsilon=EPSILON, warm_start=True
    )


def by_hand(state, rng):
    """Slide around the disc to the side opposite to the goal, and push the more, the better the line."""
    env = envs.Pushing()
    to_disc, to_goal = state[2:] - state[:2], env.goal - state[2:]
    distance, left = np.linalg.norm(to_disc), np.linalg.norm(to_goal)
    normal = to_disc / distance
    behind = to_disc - to_goal / max(left, 1e-9) * env.contact_distance
    aside = behind - (behind @ normal) * normal
    forward = distance - env.contact_distance + min(left, 0.1) * np.exp(-((np.linalg.norm(aside) / 0.1) ** 2))
    return np.clip(aside + normal * np.clip(forward, -0.1, 0.1), -0.1, 0.1)


def distance(env, policy, n_episodes, **options):
    """The disc's mean distance to the goal at the end, in m."""
    batch = rollout(env, policy, n_episodes=n_episodes, seed=0, **options)
    last = batch.next_states[batch.truncated | batch.terminated]
    return float(np.linalg.norm(last[:, 2:] - env.goal, axis=1).mean())


def draw(env, trials, known, path):
    """Learning curves; the way of the disc and of the pusher, by a trial's first and last mean steps."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    draw_curves(axes[0], trials, known)
    for axis, record in zip(axes[1:], (trials[0].first, trials[0].last), strict=True):
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
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(
    n_trials: int = 10, n_iterations: int = 40, n_evaluated: int = 100, seed: int = 0, jobs: int = 1, plot: str = ""
):
    env = envs.Pushing()
    acts = {"resting": lambda state, rng: np.zeros(2), "by hand": by_hand}
    known = {name: reward(env, act, n_evaluated) for name, act in acts.items()}

    how = {"n_trials": n_trials, "n_iterations": n_iterations, "n_evaluated": n_evaluated, "seed": seed, "jobs": jobs}
    trials = study(env, make_update, START_STD, known, **how, **EPISODES)
    ends = [distance(env, t.last.policy, n_evaluated, deterministic=True) for t in trials]
    print(f"the disc ends {np.mean(ends):.3f} m from the goal without noise (worst trial {max(ends):.3f}), ", end="")
    print(f"by hand {distance(env, by_hand, n_evaluated):.3f}")
    if plot:
        draw(env, trials, known, plot)
    return trials


if __name__ == "__main__":
    typer.run(main)
