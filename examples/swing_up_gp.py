"""Swing up an underpowered pendulum by REPS with a Gaussian-process policy, from samples alone.

Every iteration weighs the last 30 roll-outs by REPS, its value function linear in random Fourier features of the state,
and fits a Gaussian process to the weighted torques. Prints the learning curve of 10 trials beside the published one.

python examples/swing_up_gp.py --plot swing_up.png
"""

import argparse
import time

import numpy as np
from sklearn.kernel_approximation import RBFSampler
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import envs
from policies import GaussianProcessPolicy, LinearGaussianPolicy, SquaredExponential
from reps_opt import History, REPSUpdate, improve

N_TRIALS, N_ITERATIONS, N_EVALUATED = 10, 20, 100
FIRST, ADDED, KEPT = 30, 10, 30  # roll-outs
EPSILON = 0.5
START_STD = 60.0  # of the first, random torques, in N m: clipped to 30 they pump in twice the energy of uniform ones
SPEED = 4.0  # rad/s that count as much as one radian
N_FEATURES, WIDTH, RIDGE = 200, 0.9, 1e-5  # of the value function: values are in the thousands, so the ridge is small
LENGTH_SCALE, BOUNDS = 1.0, (0.8, 1.25)  # of the policy; early on noise hides all structure, and would stretch it
PUBLISHED = -27  # NP-REPS at iteration 20, mean reward a step, van Hoof et al. (2015, 2017), read off figures


def on_circle(states):
    """Angle as a point on the circle, velocity in units of SPEED (n, 3)."""
    return np.column_stack([np.cos(states[:, 0]), np.sin(states[:, 0]), states[:, 1] / SPEED])


def value_features(batch):
    """Waves over the whole phase plane: bumps at states seen would leave holes, where V = 0 and weight leaks away."""
    waves = RBFSampler(gamma=0.5 / WIDTH**2, n_components=N_FEATURES, random_state=0)
    return make_pipeline(FunctionTransformer(on_circle), waves).fit(batch.states)


def make_update(env):
    """REPS with a Gaussian process on the circle."""
    kernel = SquaredExponential(LENGTH_SCALE, BOUNDS)
    controller = GaussianProcessPolicy(kernel, features=FunctionTransformer(on_circle))
    return REPSUpdate(fit=controller, features=value_features, gamma=env.gamma, epsilon=EPSILON, ridge=RIDGE)


def start_policy(env):
    """Torques without regard to what is seen, N(0, START_STD^2)."""
    n_seen = env.observation_space.shape[0]
    anything = LinearGaussianPolicy(ridge=1.0).fit(np.eye(3, n_seen), np.eye(3, 1))
    return anything.with_params(np.r_[np.zeros(n_seen + 1), np.log(START_STD)])


def learn(env, update, seed, n_iterations, n_evaluated):
    """The history of one trial, and its CPU seconds, evaluation included."""
    began = time.process_time()
    budget = {"n_episodes": ADDED, "first": FIRST, "keep": KEPT, "reuse": "importance", "evaluate": n_evaluated}
    history = History(improve(env, start_policy(env), update, n_iterations, seed=seed, progress=False, **budget))
    seconds, first, last = time.process_time() - began, history[0].row(), history[-1].row()
    print(
        f"trial {seed}: reward a step {first['old_reward']:.1f} -> {last['reward']:.1f}, eta {last['eta']:.2f}, "
        f"KL {last['kl_predicted']:.3f}, ESS {last['ess']:.0f}, {seconds:.0f} s of CPU",
        flush=True,
    )
    return history, seconds


def report(curves, published):
    """Print the rewards of all trials (trials, iterations + 1) beside the published one."""
    print(f"\n{'iteration':<12}{'mean':>8}{'std':>7}{'median':>8}{'worst':>8}   over {len(curves)} trials")
    for i in sorted({*range(0, curves.shape[1] - 1, 5), curves.shape[1] - 1}):
        at = curves[:, i]
        print(f"{i:<12}{at.mean():>8.1f}{at.std():>7.1f}{np.median(at):>8.1f}{at.min():>8.1f}")
    print(f"{'published':<12}{published:>8.1f}   at iteration 20, from -97")


def draw(env, curves, history, published, path):
    """Learning curves; value function and mean torque of one trial over the phase plane, with five swings."""
    import matplotlib.pyplot as plt

    angle, velocity = np.meshgrid(np.linspace(-np.pi / 2, 1.5 * np.pi, 97)[:-1], np.linspace(-12, 12, 65))
    seen = env.observe(np.column_stack([angle.ravel(), velocity.ravel()]))
    solution, rng = history[-1].update.solution, np.random.default_rng(0)
    low, high = np.quantile(solution.value(history[-1].batch.states), [0.01, 0.99])  # beyond all samples it is a guess
    value = np.clip(solution.value(seen), low, high) - solution.value(env.observe(np.zeros((1, 2))))
    torque = np.clip(history.policy.predict(seen)[:, 0], -env.max_torque, env.max_torque)
    swings = [env.sample_starts(5, rng)]
    for _ in range(60):
        swings.append(env.step_batch(swings[-1], history.policy.predict(env.observe(swings[-1])), rng).next_states)
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    axes[0].plot(curves.T, color="C0", alpha=0.3)
    axes[0].plot(curves.mean(axis=0), color="C0", lw=2, label=f"mean of {len(curves)} trials")
    axes[0].axhline(published, color="0.4", ls="--", label="published, iteration 20")
    axes[0].set(xlabel="iteration", ylabel="mean reward a step", title="evaluation on fixed seeds")
    axes[0].legend()
    names = ("value - value upright, in reward", "mean torque / N m")
    for axis, surface, colours, name in zip(axes[1:], (value, torque), ("viridis", "RdBu"), names, strict=True):
        mesh = axis.pcolormesh(angle, velocity, surface.reshape(angle.shape), cmap=colours, rasterized=True)
        figure.colorbar(mesh, ax=axis, label=name)
        axis.plot(*np.concatenate(swings).T, "k.", ms=2)
        axis.set(xlabel="angle / rad (0 upright)", ylabel="velocity / rad/s", ylim=(-12, 12))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def study(env, make_update, published, n_trials, n_iterations, n_evaluated, seed, plot):
    """Learn in some trials, report and draw; the rewards (trials, iterations + 1) and CPU seconds of each."""
    runs = [learn(env, make_update(env), seed + i, n_iterations, n_evaluated) for i in range(n_trials)]
    curves = np.array([[h[0].row()["old_reward"], *(record.row()["reward"] for record in h)] for h, _ in runs])
    report(curves, published)
    if plot:
        draw(env, curves, runs[0][0], published, plot)
    return curves, np.array([seconds for _, seconds in runs])


def main(n_trials=N_TRIALS, n_iterations=N_ITERATIONS, n_evaluated=N_EVALUATED, seed=0, plot=None):
    return study(envs.SwingUp(), make_update, PUBLISHED, n_trials, n_iterations, n_evaluated, seed, plot)


def command_line(main, doc):
    """Call ``main`` with what the command line says."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--trials", type=int, default=N_TRIALS, dest="n_trials")
    parser.add_argument("--seed", type=int, default=0, help="of the first trial; the next count up")
    parser.add_argument("--plot", metavar="FILE", help="write a figure")
    main(**vars(parser.parse_args()))


if __name__ == "__main__":
    command_line(main, __doc__)
