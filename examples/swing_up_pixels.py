"""Swing up a pendulum by REPS and a Gaussian process from pixels: an image of 20 x 20 and its change, 800 numbers.

The learner is that of swing_up_gp.py; nothing tells it of angle and velocity. Values are random Fourier features of
the pixels, the policy a Gaussian process on their principal components.

python examples/swing_up_pixels.py --trials 3 --plot pixels.png
"""

import argparse

import numpy as np
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import RBFSampler
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from swing_up_gp import EPSILON, N_EVALUATED, N_ITERATIONS, START_SPREAD, report, trial

import envs
from policies import GaussianProcessPolicy, SquaredExponential
from reps_opt import REPSUpdate

N_TRIALS = 10
CHANGE = 5.0  # a change of a pixel counts five times its brightness: 1/dt of 20 Hz over the state version's SPEED
N_FEATURES, WIDTH, RIDGE = 400, 1.2, 1e-6  # of the value function, its width in brightness over all pixels
LENGTH_SCALE, BOUNDS = 2.0, (1.0, 4.0)  # of the policy; rods that do not overlap all look equally far apart below
N_COMPONENTS = 20  # keep 99.9 % of the variance
PUBLISHED = {"start": -97, "NP-REPS from pixels, iteration 20": -28}  # van Hoof et al. (2015, 2017), read off figures


def enlarge_change(pixels):
    """The image, and its change counted CHANGE times (n, 800)."""
    image, change = np.hsplit(pixels, 2)
    return np.hstack([image, CHANGE * change])


def value_features(batch):
    """Random Fourier features of the pixels."""
    waves = RBFSampler(gamma=0.5 / WIDTH**2, n_components=N_FEATURES, random_state=0)
    return make_pipeline(FunctionTransformer(enlarge_change), waves).fit(batch.states)


def make_update(env):
    """REPS with a Gaussian process on the principal components of what was seen."""
    components = make_pipeline(FunctionTransformer(enlarge_change), PCA(N_COMPONENTS, random_state=0))
    controller = GaussianProcessPolicy(SquaredExponential(LENGTH_SCALE, BOUNDS), features=components)
    return REPSUpdate(fit=controller, features=value_features, gamma=env.gamma, epsilon=EPSILON, ridge=RIDGE)


def draw(env, curves, history, path):
    """Learning curves, what is seen, and the policy's mean torque over the states it cannot see."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    axes[0].plot(curves.T, color="C0", alpha=0.5)
    axes[0].axhline(PUBLISHED["NP-REPS from pixels, iteration 20"], color="0.4", ls="--", label="published")
    axes[0].set(
        xlabel="iteration", ylabel="mean reward a step", title=f"{len(curves)} trials, evaluation on fixed seeds"
    )
    axes[0].legend()
    seen = env.observe(np.array([[0.8, 5.0]]))[0].reshape(2 * env.size, env.size)
    axes[1].imshow(seen, cmap="gray")
    axes[1].set(title="one observation: image above, change below", xticks=[], yticks=[])
    angle, velocity = np.meshgrid(np.linspace(-np.pi / 2, 1.5 * np.pi, 81)[:-1], np.linspace(-12, 12, 65))
    torque = history.policy.predict(env.observe(np.column_stack([angle.ravel(), velocity.ravel()])))[:, 0]
    torque = np.clip(torque, -env.max_torque, env.max_torque).reshape(angle.shape)
    figure.colorbar(axes[2].pcolormesh(angle, velocity, torque, cmap="RdBu"), ax=axes[2], label="mean torque / N m")
    axes[2].set(xlabel="angle / rad (0 upright)", ylabel="velocity / rad/s", title="policy, from pixels")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(n_trials=N_TRIALS, n_iterations=N_ITERATIONS, n_evaluated=N_EVALUATED, plot=None, start_spread=START_SPREAD, seed=0):
    env = envs.PixelSwingUp(start_spread=start_spread)
    runs = [trial(env, make_update(env), seed + i, n_iterations, n_evaluated) for i in range(n_trials)]
    curves, seconds = report([history for history, _ in runs], PUBLISHED), np.array([cpu for _, cpu in runs])
    if plot:
        draw(env, curves, runs[0][0], plot)
    return curves, seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=N_TRIALS)
    parser.add_argument("--seed", type=int, default=0, help="of the first trial; the next count up")
    parser.add_argument("--start-spread", type=float, default=START_SPREAD, help="rad, around hanging")
    parser.add_argument("--plot", metavar="FILE", help="write a figure")
    arguments = parser.parse_args()
    main(arguments.trials, plot=arguments.plot, start_spread=arguments.start_spread, seed=arguments.seed)
