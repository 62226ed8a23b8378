"""Swing up an underpowered pendulum by REPS with a Gaussian-process policy, from samples alone.

The protocol of van Hoof et al.: every iteration weighs the last 30 roll-outs by REPS, its value function linear in
random Fourier features of the state, and fits a Gaussian process to the weighted torques. Prints the learning curves'
numbers beside the published figure and the best possible one, which best_possible.py plans on the true dynamics.

python examples/swing_up_gp.py --seed 100 --plot swing_up.png
"""

import numpy as np
import typer
from drawing import beside_trials, walks
from harness import study, waves
from sklearn.preprocessing import FunctionTransformer

import envs
from policies import GaussianProcessPolicy, SquaredExponential
from reps_opt import REPSUpdate

ROLLOUTS = {"first": 30, "n_episodes": 10, "keep": 30}
EPSILON = 0.5
START_STD, HOLD = 30.0, 5  # N m of the first torques, and the steps for which each is held: shorter pushes explore too
# little, and one trial in six then only learns to lean on full torque
SPEED = 4.0  # rad/s that count as much as one radian
WIDTH, N_FEATURES, RIDGE = 0.45, 500, 1e-6  # of the value function: wider waves cannot follow its ridges
LENGTH_SCALE, BOUNDS = 1.0, (0.8, 1.25)  # of the policy; early on noise hides all structure, and would stretch it
KNOWN = {"published": -27.0, "planned": -19.9}  # NP-REPS at iteration 20, read off a figure; best_possible.py


def on_circle(states):
    """Angle as a point on the circle, velocity in units of SPEED (n, 3)."""
    return np.column_stack([np.cos(states[:, 0]), np.sin(states[:, 0]), states[:, 1] / SPEED])


def make_update(env):
    """REPS with a Gaussian process on the circle; weights of mean one, as the exploration is the fit's to shrink.

    Every restart begins hanging: with ``starts="visited"`` more trials unlearn what they could do by iteration 10.
    """
    circle = FunctionTransformer(on_circle)
    controller = GaussianProcessPolicy(SquaredExponential(LENGTH_SCALE, BOUNDS), features=circle)
    values = {"features": waves(WIDTH, N_FEATURES, circle), "ridge": RIDGE}
    return REPSUpdate(fit=controller, gamma=env.gamma, starts="episodes", epsilon=EPSILON, scale="mean", **values)


def draw(env, trials, known, path):
    """Learning curves; value function and mean torque of one trial over the phase plane, with five swings."""
    angle, velocity = np.meshgrid(np.linspace(-np.pi / 2, 1.5 * np.pi, 97)[:-1], np.linspace(-12, 12, 65))
    seen = env.observe(np.column_stack([angle.ravel(), velocity.ravel()]))
    solution, policy = trials[0].last.update.solution, trials[0].last.policy
    low, high = np.quantile(solution.value(trials[0].last.batch.states), [0.01, 0.99])  # beyond all samples a guess
    value = np.clip(solution.value(seen), low, high) - solution.value(env.observe(np.zeros((1, 2))))
    torque = np.clip(policy.predict(seen)[:, 0], -env.max_torque, env.max_torque)
    names = ("value - value upright, in reward", "mean torque / N m")
    with beside_trials(trials, known, path) as axes:
        for axis, surface, colours, name in zip(axes, (value, torque), ("viridis", "RdBu"), names, strict=True):
            mesh = axis.pcolormesh(angle, velocity, surface.reshape(angle.shape), cmap=colours, rasterized=True)
            axis.figure.colorbar(mesh, ax=axis, label=name)
            axis.plot(*np.concatenate(walks(env, policy, 5, 60)).T, "k.", ms=2)
            axis.set(xlabel="angle / rad (0 upright)", ylabel="velocity / rad/s")
            axis.set(xlim=(angle.min(), angle.max()), ylim=(-12, 12))


def main(
    n_trials: int = 10, n_iterations: int = 20, n_evaluated: int = 50, seed: int = 0, jobs: int = 1, plot: str = ""
):
    env = envs.SwingUp()

    how = {"n_trials": n_trials, "n_iterations": n_iterations, "n_evaluated": n_evaluated, "seed": seed, "jobs": jobs}
    trials = study(env, make_update, START_STD, KNOWN, hold=HOLD, **how, **ROLLOUTS)
    if plot:
        draw(env, trials, KNOWN, plot)
    return trials


if __name__ == "__main__":
    typer.run(main)
