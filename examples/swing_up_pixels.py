"""Swing up a pendulum by REPS and a Gaussian process from pixels: an image of 20 x 20 and its change, 800 numbers.

The protocol is that of swing_up_gp.py; nothing tells the learner of angle and velocity. Values are random Fourier
features of the pixels, the policy a Gaussian process on their principal components.

python examples/swing_up_pixels.py --seed 100 --plot pixels.png
"""

import numpy as np
import typer
from harness import study, waves
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from swing_up_gp import EPSILON, HOLD, ROLLOUTS, START_STD, draw

import envs
from policies import GaussianProcessPolicy, SquaredExponential
from reps_opt import REPSUpdate

CHANGE = 5.0  # a change of a pixel counts five times its brightness: 1/dt of 20 Hz over the state version's SPEED
WIDTH, N_FEATURES, RIDGE = 0.6, 600, 1e-7  # of the value function, its width in brightness over all pixels
LENGTH_SCALE, BOUNDS = 1.5, (0.6, 3.0)  # of the policy; rods that do not overlap all look equally far apart
N_COMPONENTS = 20  # keep 99.9 % of the variance
KNOWN = {"published": -28.0, "planned": -19.9}  # NP-REPS from pixels at iteration 20; best_possible.py


def enlarge_change(pixels):
    """The image, and its change counted CHANGE times (n, 800)."""
    image, change = np.hsplit(pixels, 2)
    return np.hstack([image, CHANGE * change])


def make_update(env):
    """REPS with a Gaussian process on the principal components of what was seen."""
    enlarged = FunctionTransformer(enlarge_change)
    components = make_pipeline(enlarged, PCA(N_COMPONENTS, random_state=0))
    controller = GaussianProcessPolicy(SquaredExponential(LENGTH_SCALE, BOUNDS), features=components)
    values = {"features": waves(WIDTH, N_FEATURES, enlarged), "ridge": RIDGE}
    return REPSUpdate(fit=controller, gamma=env.gamma, starts="episodes", epsilon=EPSILON, scale="mean", **values)


def main(
    n_trials: int = 10, n_iterations: int = 20, n_evaluated: int = 50, seed: int = 0, jobs: int = 1, plot: str = ""
):
    env = envs.PixelSwingUp()

    how = {"n_trials": n_trials, "n_iterations": n_iterations, "n_evaluated": n_evaluated, "seed": seed, "jobs": jobs}
    trials = study(env, make_update, START_STD, KNOWN, hold=HOLD, **how, **ROLLOUTS)
    if plot:
        draw(env, trials, KNOWN, plot)
    return trials


if __name__ == "__main__":
    typer.run(main)
