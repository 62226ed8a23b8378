"""Learn to push a disc to a goal by REPS with a Gaussian-process policy, from samples alone.

A pusher touches the disc at one point: pushed straight, the disc slips away to the side. Prints the mean reward a step
over evaluation episodes on fixed seeds, exploration included, and the disc's distance to the goal, of 10 trials, beside
resting and a controller written by hand. The task is this library's own: there is no published figure.

python examples/pushing.py --plot pushing.png
"""

import argparse
import time

import numpy as np
from joblib import Parallel, delayed
from sklearn.kernel_approximation import RBFSampler
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import envs
from policies import GaussianProcessPolicy, LinearGaussianPolicy
from reps_opt import History, REPSUpdate, improve, rollout

N_TRIALS, N_ITERATIONS, N_EVALUATED = 10, 40, 100
FIRST, ADDED, KEPT = 60, 20, 60  # episodes of 50 steps
EPSILON = 1.0
START_STD = 0.05  # of the first, random steps, in m
N_FEATURES, WIDTH = 100, 1.0  # of the value function, in m


def relative(states):
    """The disc as seen from the pusher and from the goal (n, 4)."""
    return np.column_stack([states[:, 2:] - states[:, :2], states[:, 2:] - envs.Pushing().goal])


def value_features(batch):
    waves = RBFSampler(gamma=0.5 / WIDTH**2, n_components=N_FEATURES, random_state=0)
    return make_pipeline(FunctionTransformer(relative), waves).fit(batch.states)


def start_policy():
    """Steps without regard to the state, N(0, START_STD^2)."""
    anything = LinearGaussianPolicy().fit(np.eye(6, 4), np.eye(6, 2))
    return anything.with_params(np.r_[np.zeros(10), np.full(2, np.log(START_STD))])


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


def score(env, policy, n_episodes, **options):
    """Mean reward a step, and the disc's mean distance to the goal at the end."""
    batch = rollout(env, policy, n_episodes=n_episodes, seed=0, **options)
    last = batch.next_states[batch.truncated | batch.terminated]
    return batch.rewards.mean(), np.linalg.norm(last[:, 2:] - env.goal, axis=1).mean()


def trial(env, seed, n_iterations=N_ITERATIONS, n_evaluated=N_EVALUATED):
    """One trial: its records, its policy's reward and distance without exploration noise, its CPU seconds."""
    began = time.process_time()
    pusher = GaussianProcessPolicy(method="sparse", n_inducing=64, features=FunctionTransformer(relative))
    update = REPSUpdate(fit=pusher, features=value_features, gamma=env.gamma, epsilon=EPSILON, warm_start=True)
    budget = {"n_episodes": ADDED, "first": FIRST, "keep": KEPT, "reuse": "importance", "evaluate": n_evaluated}
    history = History(improve(env, start_policy(), update, n_iterations, seed=seed, progress=False, **budget))
    steady, distance = score(env, history.policy, n_evaluated, deterministic=True)
    return history, steady, distance, time.process_time() - began


def draw(env, curves, rested, handmade, history, path):
    """Learning curves; the way of the disc and of the pusher, by a trial's first and last mean steps."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    axes[0].plot(curves.T, color="C0", alpha=0.3)
    axes[0].plot(curves.mean(axis=0), color="C0", lw=2, label=f"mean of {len(curves)} trials")
    axes[0].axhline(handmade, color="C2", ls=":", label="written by hand")
    axes[0].axhline(rested, color="0.4", ls="--", label="resting")
    axes[0].set(xlabel="iteration", ylabel="mean reward a step", title="evaluation on fixed seeds")
    axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 0.2))
    for axis, record in zip(axes[1:], (history[0], history[-1]), strict=True):
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


def main(n_trials=N_TRIALS, n_iterations=N_ITERATIONS, n_evaluated=N_EVALUATED, n_jobs=1, plot=None):
    env = envs.Pushing()
    references = {"resting": lambda state, rng: np.zeros(2), "by hand": by_hand}
    known = {name: score(env, act, n_evaluated) for name, act in references.items()}
    trials = Parallel(n_jobs)(delayed(trial)(env, seed, n_iterations, n_evaluated) for seed in range(n_trials))
    histories, steady, distances, seconds = (list(column) for column in zip(*trials, strict=True))
    curves = np.array([[h[0].values["old_reward"], *(r.values["reward"] for r in h)] for h in histories])
    for seed, history in enumerate(histories):
        last = history[-1].row()
        print(
            f"trial {seed}: reward a step {curves[seed, 0]:.3f} -> {curves[seed, -1]:.3f} (without noise "
            f"{steady[seed]:.3f}, {distances[seed]:.2f} m from the goal), eta {last['eta']:.3f}, "
            f"KL {last['kl_predicted']:.3f}, ESS {last['ess']:.0f}, {seconds[seed]:.1f} s of CPU"
        )
    print(f"\n{'iteration':<12}{'mean':>8}{'std':>7}{'worst':>8}   over {n_trials} trials")
    for i in sorted({*range(0, n_iterations, 10), n_iterations}):
        print(f"{i:<12}{curves[:, i].mean():>8.3f}{curves[:, i].std():>7.3f}{curves[:, i].min():>8.3f}")
    print(f"{'no noise':<12}{np.mean(steady):>8.3f}{np.std(steady):>7.3f}{min(steady):>8.3f}", end="")
    print(f"   {np.mean(distances):.2f} m from the goal (worst trial {max(distances):.2f})")
    for name, (reward, distance) in known.items():
        print(f"{name:<12}{reward:>8.3f}   {distance:.2f} m from the goal")
    if plot:
        draw(env, curves, known["resting"][0], known["by hand"][0], histories[0], plot)
    return curves, np.array(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=N_TRIALS)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--plot", metavar="FILE", help="write a figure")
    arguments = parser.parse_args()
    main(arguments.trials, n_jobs=arguments.jobs, plot=arguments.plot)
