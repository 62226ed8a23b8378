"""Walk around puddles, seeing only an image of oneself: REPS with value function and policy on 400 pixels.

Principal components of the images go ahead of both: of the random Fourier features that the value function is linear
in, and of the kernel of the Gaussian-process policy. Prints the expected reward a step from the corner of 10 trials
beside published ones: evaluation roll-outs on fixed seeds, exploration included, where the chance of a restart enters
as its expectation, (1 - gamma) sum gamma^t r_t.

From the corner, steps without aim never meet the goal, and every reward is the same: half of the roll-outs that are
learned from start anywhere. The papers do not say how theirs got there, nor the walker's largest step and noise. With
those of Sutton, as here, the best possible is -5.74, below the published figure. What is missing to it is lost in the
upright puddle: the walk takes the best number of steps, but cuts the puddle's lower end, presumably since a value that
is smooth in the blurred image cannot follow the edge.

python examples/puddle_pixels.py --plot puddle.png
"""

import argparse
import time

import numpy as np
from joblib import Parallel, delayed
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import RBFSampler
from sklearn.pipeline import make_pipeline

import envs
from policies import GaussianProcessPolicy, LinearGaussianPolicy
from reps_opt import REPSUpdate, improve, rollout

N_TRIALS, N_ITERATIONS, N_EVALUATED = 10, 20, 40
FIRST, ADDED, KEPT = 200, 50, 200  # roll-outs: with 30, hardly one meets the goal
EPSILON = 1.0
START_STD = 0.05  # of the first, random steps: as large as the largest
N_COMPONENTS, N_FEATURES, WIDTH = 8, 100, 0.08  # of the value function; the width is half the median distance of images
PUBLISHED = {"NP-REPS": -5.5, "DDPG": -6.6, "TRPO": -8.8}  # van Hoof et al. (2017), read off a figure
OPTIMUM = -5.74  # by value iteration on the state, a grid of 81 x 81 and 25 actions


class StartsAnywhere(envs.PixelPuddleWorld):
    """Half of the starts in the corner, half anywhere."""

    def __init__(self):
        super().__init__(start="uniform")

    def sample_starts(self, n, rng):
        return np.where(rng.random((n, 1)) < 0.5, 0.0, super().sample_starts(n, rng))


def start_policy(env):
    """Steps without regard to the image, N(0, START_STD^2)."""
    images = env.observe(np.random.default_rng(0).random((20, 2)))
    anything = LinearGaussianPolicy().fit(images, np.eye(20, 2))
    return anything.with_params(np.r_[np.zeros(anything.params.size - 2), np.full(2, np.log(START_STD))])


def reward(policy, n_episodes, horizon=120, **options):
    """Expected reward a step from the corner, (1 - gamma) sum gamma^t r_t: what restarts give on average."""
    endless, gamma = envs.PixelPuddleWorld(reset_probability=0.0, horizon=horizon), envs.PixelPuddleWorld().gamma
    rewards = rollout(endless, policy, n_episodes, seed=0, **options).rewards.reshape(n_episodes, horizon)
    return (1 - gamma) * rewards.mean(axis=0) @ gamma ** np.arange(horizon)


def trial(seed, n_iterations=N_ITERATIONS, n_evaluated=N_EVALUATED, first=FIRST):
    """One trial: its last record, rewards a step, the last of them without exploration noise, and its CPU seconds."""
    began, env = time.process_time(), StartsAnywhere()
    walker = GaussianProcessPolicy(method="sparse", n_inducing=64, features=PCA(N_COMPONENTS, random_state=0))
    waves = RBFSampler(gamma=0.5 / WIDTH**2, n_components=N_FEATURES, random_state=0)
    value = make_pipeline(PCA(N_COMPONENTS, random_state=0), waves)
    update = REPSUpdate(fit=walker, features=lambda batch: value.fit(batch.states), gamma=env.gamma, epsilon=EPSILON)
    curve = [reward(start := start_policy(env), n_evaluated)]
    budget = {"n_episodes": ADDED, "first": first, "keep": KEPT, "reuse": "importance"}
    for record in improve(env, start, update, n_iterations, seed=seed, progress=False, **budget):
        curve.append(reward(record.policy, n_evaluated))  # kept are numbers: a record holds 30 MB of images
    return record, curve, reward(record.policy, n_evaluated, deterministic=True), time.process_time() - began


def draw(curves, record, path):
    """Learning curves; value and mean steps over the map, with walks from the corner; what the walker sees."""
    import matplotlib.pyplot as plt

    env = envs.PixelPuddleWorld()
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    axes[0].plot(np.transpose(curves), color="C0", alpha=0.3)
    axes[0].plot(np.mean(curves, axis=0), color="C0", lw=2, label=f"mean of {len(curves)} trials")
    for (name, reward), style in zip(PUBLISHED.items(), ("--", "-.", ":"), strict=True):
        axes[0].axhline(reward, color="0.4", ls=style, label=f"{name}, published")
    axes[0].set(xlabel="iteration", ylabel="reward a step", title="evaluation from the corner, on fixed seeds")
    axes[0].legend()
    x, y = (np.linspace(0.025, 0.975, 20)[grid] for grid in np.meshgrid(range(20), range(20)))
    images = env.observe(np.column_stack([x.ravel(), y.ravel()]))
    value = record.update.solution.value(images)
    mesh = axes[1].pcolormesh(x, y, (value - value.max()).reshape(x.shape), rasterized=True)
    figure.colorbar(mesh, ax=axes[1], label="value, below the best")
    fine = np.meshgrid(np.linspace(0, 1, 101), np.linspace(0, 1, 101))
    depth = env.depth(np.column_stack([fine[0].ravel(), fine[1].ravel()])).reshape(101, 101)
    axes[1].contour(*fine, depth, [1e-3], colors="white")
    axes[1].plot([0.8, 1], [1, 0.8], "w--")
    steps = np.clip(record.policy.predict(images), -env.max_step, env.max_step)
    axes[1].quiver(x, y, *steps.T, color="white", angles="xy", scale_units="xy", scale=1.2, width=0.003)
    walks, rng = env.sample_starts(5, np.random.default_rng(0)), np.random.default_rng(0)
    places = [walks]
    for _ in range(40):
        walks = env.step_batch(walks, record.policy.predict(env.observe(walks)), rng).next_states
        places.append(walks)
    axes[1].plot(*np.moveaxis(places, 2, 0), "r.-", lw=1, ms=3)
    axes[1].set(title="value, mean steps, walks without exploration", aspect="equal", xlim=(0, 1), ylim=(0, 1))
    axes[2].imshow(env.observe(np.array([[0.3, 0.6]])).reshape(env.size, env.size), cmap="gray", extent=(0, 1, 0, 1))
    axes[2].set(title="what the walker sees at (0.3, 0.6)")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(n_trials=N_TRIALS, n_iterations=N_ITERATIONS, n_evaluated=N_EVALUATED, first=FIRST, n_jobs=1, plot=None):
    runs = Parallel(n_jobs)(delayed(trial)(seed, n_iterations, n_evaluated, first) for seed in range(n_trials))
    records, curves, noiseless, seconds = (list(column) for column in zip(*runs, strict=True))
    curves = np.array(curves)
    for seed, record in enumerate(records):
        last = record.row()
        print(
            f"trial {seed}: reward a step {curves[seed, 0]:.2f} -> {curves[seed, -1]:.2f} (without noise "
            f"{noiseless[seed]:.2f}), eta {last['eta']:.2f}, KL {last['kl_predicted']:.3f}, ESS {last['ess']:.0f}, "
            f"{seconds[seed]:.1f} s of CPU"
        )
    print(f"\n{'iteration':<12}{'mean':>8}{'std':>7}{'worst':>8}   over {n_trials} trials")
    for i in sorted({*range(0, n_iterations, 5), n_iterations}):
        print(f"{i:<12}{curves[:, i].mean():>8.2f}{curves[:, i].std():>7.2f}{curves[:, i].min():>8.2f}")
    print(f"{'no noise':<12}{np.mean(noiseless):>8.2f}{np.std(noiseless):>7.2f}{min(noiseless):>8.2f}")
    print(f"{'optimum':<12}{OPTIMUM:>8.2f}   of this environment, by value iteration on the state")
    for name, reward in PUBLISHED.items():
        print(f"{name:<12}{reward:>8.2f}   published")
    if plot:
        draw(curves, records[0], plot)
    return curves, np.array(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=N_TRIALS)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--plot", metavar="FILE", help="write a figure")
    arguments = parser.parse_args()
    main(arguments.trials, n_jobs=arguments.jobs, plot=arguments.plot)
