"""Swing up a pendulum by REPS and a Gaussian process from pixels: an image of 20 x 20 and its change, 800 numbers.

The learner is that of swing_up_gp.py; nothing tells it of angle and velocity. Values are random Fourier features of
the pixels, the policy a Gaussian process on their principal components. It falls short of what is
published: most trials swing up from most starts, some only lean.

python examples/swing_up_pixels.py --trials 3 --plot pixels.png
"""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import RBFSampler
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from swing_up_gp import EPSILON, N_EVALUATED, N_ITERATIONS, N_TRIALS, command_line, study

import envs
from policies import GaussianProcessPolicy, SquaredExponential
from reps_opt import REPSUpdate

CHANGE = 5.0  # a change of a pixel counts five times its brightness: 1/dt of 20 Hz over the state version's SPEED
START_SPREAD = 1.0  # rad around hanging; at the task's 0.2 most trials only learn to lean on full torque, about -62
N_FEATURES, WIDTH, RIDGE = 400, 1.2, 1e-6  # of the value function, its width in brightness over all pixels
LENGTH_SCALE, BOUNDS = 2.0, (1.0, 4.0)  # of the policy; rods that do not overlap all look equally far apart below
N_COMPONENTS = 20  # keep 99.9 % of the variance
PUBLISHED = -28  # NP-REPS from pixels at iteration 20, van Hoof et al. (2015, 2017), read off figures


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


def main(n_trials=N_TRIALS, n_iterations=N_ITERATIONS, n_evaluated=N_EVALUATED, seed=0, plot=None):
    env = envs.PixelSwingUp(start_spread=START_SPREAD)
    return study(env, make_update, PUBLISHED, n_trials, n_iterations, n_evaluated, seed, plot)


if __name__ == "__main__":
    command_line(main, __doc__)
