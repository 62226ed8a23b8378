"""Reach a point with a two-link arm by REPS with a Gaussian-process policy, from samples alone.

The papers' protocol: 30 roll-outs, 10 more an iteration, the latest 30 kept, epsilon 0.5. The value function is linear
in random Fourier features of the state. Prints the expected reward a step of 10 trials beside the published one:
evaluation roll-outs on fixed seeds, exploration included, where the chance of a restart enters as its expectation,
(1 - gamma) sum gamma^t r_t. The paper does not state its time step, on which every figure of this task depends: at
dt = 0.05 s, the default here, the best accelerations get about -0.74, at dt = 0.02 s about -1.5.

python examples/reaching.py --plot reaching.png
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

N_TRIALS, N_ITERATIONS, N_EVALUATED = 10, 20, 100
FIRST, ADDED, KEPT = 30, 10, 30  # roll-outs
EPSILON = 0.5
START_STD = 20.0  # of the first, random accelerations, in rad/s^2
N_FEATURES, WIDTH, SPEED = 100, 2.0, 5.0  # of the value function; a distance of 1 on the circle counts like SPEED rad/s
PUBLISHED = -1.6  # NP-REPS, van Hoof et al. (2017), read off a figure
OPTIMUM = -0.74  # (1 - gamma) sum gamma^t r_t of the best accelerations that gradient descent found from 48 starts


def on_circles(states):
    """Angles as points on circles, velocities in units of SPEED (n, 6)."""
    return np.column_stack([np.cos(states[:, :2]), np.sin(states[:, :2]), states[:, 2:] / SPEED])


def value_features(batch):
    waves = RBFSampler(gamma=0.5 / WIDTH**2, n_components=N_FEATURES, random_state=0)
    return make_pipeline(FunctionTransformer(on_circles), waves).fit(batch.states)


def start_policy():
    """Accelerations without regard to the state, N(0, START_STD^2)."""
    anything = LinearGaussianPolicy().fit(np.eye(6, 4), np.eye(6, 2))
    return anything.with_params(np.r_[np.zeros(10), np.full(2, np.log(START_STD))])


def reward(policy, n_episodes, horizon=150, **options):
    """Expected reward a step, (1 - gamma) sum gamma^t r_t: what restarts give on average."""
    endless, gamma = envs.Reaching(reset_probability=0.0, horizon=horizon), envs.Reaching().gamma
    rewards = rollout(endless, policy, n_episodes, seed=0, **options).rewards.reshape(n_episodes, horizon)
    return (1 - gamma) * rewards.mean(axis=0) @ gamma ** np.arange(horizon)


def trial(env, seed, n_iterations=N_ITERATIONS, n_evaluated=N_EVALUATED):
    """One trial: its records, rewards a step, that without exploration noise, and its CPU seconds."""
    began = time.process_time()
    arm = GaussianProcessPolicy(method="sparse", n_inducing=64, periods=[2 * np.pi, 2 * np.pi, np.inf, np.inf])
    update = REPSUpdate(fit=arm, features=value_features, gamma=env.gamma, epsilon=EPSILON, warm_start=True)
    start, curve = start_policy(), []
    budget = {"n_episodes": ADDED, "first": FIRST, "keep": KEPT, "reuse": "importance"}
    seen = {"callbacks": lambda record: curve.append(reward(record.policy, n_evaluated))}
    history = History(improve(env, start, update, n_iterations, seed=seed, progress=False, **budget, **seen))
    curve.insert(0, reward(start, n_evaluated))
    return history, curve, reward(history.policy, 1, deterministic=True), time.process_time() - began


def draw(env, curves, history, path):
    """Learning curves; the arm's path as the first and as the last policy of a trial move it."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(14, 4.5), layout="constrained")
    axes[0].plot(curves.T, color="C0", alpha=0.3)
    axes[0].plot(curves.mean(axis=0), color="C0", lw=2, label=f"mean of {len(curves)} trials")
    axes[0].axhline(PUBLISHED, color="0.4", ls="--", label="published, time step unknown")
    axes[0].axhline(OPTIMUM, color="C2", ls=":", label="best accelerations")
    axes[0].set(xlabel="iteration", ylabel="reward a step", title="evaluation on fixed seeds")
    axes[0].legend()
    for axis, record in zip(axes[1:], (history[0], history[-1]), strict=True):
        still = envs.Reaching(reset_probability=0.0, horizon=30)
        path_of = rollout(still, record.policy, n_episodes=1, seed=0, deterministic=True).states
        for states, colour in zip(path_of, plt.get_cmap("viridis")(np.linspace(0, 1, len(path_of))), strict=True):
            joints = np.vstack([np.zeros(2), env.elbow(states[None]), env.tip(states[None])])
            axis.plot(*joints.T, color=colour, lw=1, marker="o", ms=2)
        axis.plot(*env.tip(path_of).T, "k.-", lw=1, ms=4)
        axis.plot(*env.goal, "r*", ms=14)
        title = f"mean action after iteration {record.index}, 1.5 s"
        axis.set(title=title, aspect="equal", xlim=(-2, 2), ylim=(-2, 2.1))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(n_trials=N_TRIALS, n_iterations=N_ITERATIONS, n_evaluated=N_EVALUATED, n_jobs=1, plot=None):
    env = envs.Reaching()
    trials = Parallel(n_jobs)(delayed(trial)(env, seed, n_iterations, n_evaluated) for seed in range(n_trials))
    histories, curves, noiseless, seconds = (list(column) for column in zip(*trials, strict=True))
    for seed, history in enumerate(histories):
        last = history[-1].row()
        print(
            f"trial {seed}: reward a step {curves[seed][0]:.2f} -> {curves[seed][-1]:.2f} "
            f"(without noise {noiseless[seed]:.2f}), eta {last['eta']:.2f}, KL {last['kl_predicted']:.3f}, "
            f"ESS {last['ess']:.0f}, {seconds[seed]:.1f} s of CPU"
        )
    curves = np.array(curves)
    print(f"\n{'iteration':<12}{'mean':>8}{'std':>7}{'worst':>8}   over {n_trials} trials")
    for i in sorted({*range(0, n_iterations, 5), n_iterations}):
        print(f"{i:<12}{curves[:, i].mean():>8.2f}{curves[:, i].std():>7.2f}{curves[:, i].min():>8.2f}")
    print(f"{'no noise':<12}{np.mean(noiseless):>8.2f}{np.std(noiseless):>7.2f}{min(noiseless):>8.2f}")
    print(f"{'published':<12}{PUBLISHED:>8.2f}   time step unknown\n{'optimum':<12}{OPTIMUM:>8.2f}   at this time step")
    if plot:
        draw(env, curves, histories[0], plot)
    return curves, np.array(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=N_TRIALS)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--plot", metavar="FILE", help="write a figure")
    arguments = parser.parse_args()
    main(arguments.trials, n_jobs=arguments.jobs, plot=arguments.plot)
