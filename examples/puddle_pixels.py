"""Walk around puddles, seeing only an image of oneself: REPS with value function and policy on 400 pixels.

Principal components of the images go ahead of both: of the random Fourier features that the value function is linear
in, and of the kernel of the Gaussian-process policy. Scores are from the corner.

From the corner, steps without aim never meet the goal, and every reward is the same: half of the roll-outs that are
learned from start anywhere. They end at the goal: whoever stays there is paid nothing whatever the action, and a policy
fitted to such actions stops short of it. The papers do not say how theirs got there, nor the walker's largest step and
noise. With those of Sutton, as here, best_possible.py gets -5.72 from the state, below the published figure.

python examples/puddle_pixels.py --plot puddle.png
"""

import numpy as np
import typer
from drawing import beside_trials, walks
from harness import study, waves
from sklearn.decomposition import PCA

import envs
from policies import GaussianProcessPolicy
from reps_opt import REPSUpdate

ROLLOUTS = {"n_episodes": 100, "keep": 400}
EPSILON = 0.5
START_STD = 0.05  # of the first, random steps: as large as the largest
N_COMPONENTS, N_INDUCING = 14, 128  # of the images, and states that the policy rests on
WIDTH, N_FEATURES, RIDGE = 0.05, 400, 1e-7  # of the value function: wider waves cannot follow the shores
KNOWN = {"NP-REPS, published": -5.5, "DDPG, published": -6.6, "TRPO, published": -8.8, "planned": -5.72}


def make_update(env):
    """REPS with a sparse Gaussian process on the principal components of what was seen."""
    seen = PCA(N_COMPONENTS, random_state=0)
    walker = GaussianProcessPolicy(method="sparse", n_inducing=N_INDUCING, features=seen)
    values = {"features": waves(WIDTH, N_FEATURES, seen), "ridge": RIDGE}
    return REPSUpdate(fit=walker, gamma=env.gamma, starts="episodes", epsilon=EPSILON, scale="mean", **values)


def draw(env, trials, path):
    """Learning curves; value and mean steps over the map, with walks from the corner; what the walker sees."""
    policy = trials[0].last.policy
    x, y = np.meshgrid(np.linspace(0.025, 0.975, 20), np.linspace(0.025, 0.975, 20))
    images = env.observe(np.column_stack([x.ravel(), y.ravel()]))
    value = trials[0].last.update.solution.value(images)
    steps = np.clip(policy.predict(images), -env.max_step, env.max_step)
    fine = np.meshgrid(np.linspace(0, 1, 101), np.linspace(0, 1, 101))
    depth = env.depth(np.column_stack([fine[0].ravel(), fine[1].ravel()])).reshape(101, 101)
    with beside_trials(trials, KNOWN, path) as (plan, seen):
        mesh = plan.pcolormesh(x, y, (value - value.max()).reshape(x.shape), rasterized=True)
        plan.figure.colorbar(mesh, ax=plan, label="value, below the best")
        plan.contour(*fine, depth, [1e-3], colors="white")
        plan.plot([0.8, 1], [1, 0.8], "w--")
        plan.quiver(x, y, *steps.T, color="white", angles="xy", scale_units="xy", scale=1.2, width=0.003)
        plan.plot(*np.moveaxis(walks(env, policy, 5, 40), 2, 0), "r.-", lw=1, ms=3)
        plan.set(title="value, mean steps, walks without exploration", aspect="equal", xlim=(0, 1), ylim=(0, 1))
        seen.imshow(env.observe(np.array([[0.3, 0.6]])).reshape(env.size, env.size), cmap="gray", extent=(0, 1, 0, 1))
        seen.set(title="what the walker sees at (0.3, 0.6)")


def main(
    n_trials: int = 10,
    n_iterations: int = 12,
    n_evaluated: int = 40,
    seed: int = 0,
    first: int = 200,  # with 30, hardly one meets the goal
    jobs: int = 1,
    plot: str = "",
):
    env, around = envs.PixelPuddleWorld(), envs.PixelPuddleWorld(start="mixed", terminate_at_goal=True)

    how = {"n_trials": n_trials, "n_iterations": n_iterations, "n_evaluated": n_evaluated, "seed": seed, "jobs": jobs}
    trials = study(env, make_update, START_STD, KNOWN, learn_in=around, first=first, **how, **ROLLOUTS)
    if plot:
        draw(env, trials, plot)
    return trials


if __name__ == "__main__":
    typer.run(main)
