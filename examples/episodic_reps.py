"""Direct policy search by episodic REPS: Rosenbrock in ten dimensions, and a feedback controller of a cart.

A Gaussian over the parameters is sampled, its samples weighed by their returns and refitted. REPS finds the
temperature from epsilon; the cross-entropy method keeps the best tenth instead. Prints the return of both.

python examples/episodic_reps.py --plot episodic.png
"""

import numpy as np
import typer
from drawing import band, figure_in

from reps_opt import EpisodicREPS, solve, top_half

N_SAMPLES = 150
N_ITERATIONS = 120
EPSILON = 0.7
ELITE = 0.1
N_SEEDS = 5


def rosenbrock(x):
    """Negative Rosenbrock function of rows x (n, 10): zero at all ones."""
    return -np.sum(100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2, axis=1)


def cart(gains, horizon=100):
    """Return of linear feedback u = -K (x, v) for each row of gains (n, 2): an unstable cart, start (1, 0)."""
    x, v, total = np.ones(len(gains)), np.zeros(len(gains)), np.zeros(len(gains))
    for _ in range(horizon):
        u = np.clip(-gains[:, 0] * x - gains[:, 1] * v, -10, 10)
        total -= x**2 + 0.1 * v**2 + 0.01 * u**2
        x, v = np.clip(x + 0.05 * v, -10, 10), np.clip(v + 0.05 * (2 * x + u), -10, 10)
    return total


TASKS = {"Rosenbrock-10D": (rosenbrock, 10), "cart": (cart, 2)}
METHODS = {
    "episodic REPS": lambda returns: solve(EpisodicREPS(returns, epsilon=EPSILON)).weights("sum"),
    "cross-entropy": lambda returns: top_half(returns, ELITE) / top_half(returns, ELITE).sum(),
}


def search(objective, dimension, weigh, n_samples, n_iterations, seed):
    """Mean return of the search distribution at every iteration, the samples of the last two refitted."""
    rng = np.random.default_rng(seed)
    mean, covariance, history, kept = np.zeros(dimension), np.eye(dimension), [], []
    for _ in range(n_iterations):
        x = rng.multivariate_normal(mean, covariance, size=n_samples)
        kept = [*kept[-1:], (x, objective(x))]
        history.append(float(objective(mean[None])[0]))
        samples, returns = (np.concatenate(part) for part in zip(*kept, strict=True))
        w = weigh(returns)
        mean = w @ samples
        centred = samples - mean
        covariance = (centred.T * w) @ centred / (1 - np.sum(w**2)) + 1e-10 * np.eye(dimension)
    return history


def main(n_samples: int = N_SAMPLES, n_iterations: int = N_ITERATIONS, n_seeds: int = N_SEEDS, plot: str | None = None):
    """Search by each method from several seeds, print how far it gets, and draw the medians."""
    results = {}
    for task, (objective, dimension) in TASKS.items():
        for method, weigh in METHODS.items():
            runs = [search(objective, dimension, weigh, n_samples, n_iterations, seed) for seed in range(n_seeds)]
            results[task, method] = np.array(runs)
            last = results[task, method][:, -1]
            print(f"{task:<15} {method:<14} return: median {np.median(last):8.4g}, worst {last.min():8.4g}")
    if plot:
        with figure_in(plot, 1, 2, figsize=(11, 4)) as axes:
            for (task, method), runs in results.items():
                axis, below = axes[list(TASKS).index(task)], -runs
                edges = below.min(axis=0), below.max(axis=0)
                band(axis, range(n_iterations), np.median(below, axis=0), edges, method, len(axis.lines))
                axis.set(title=task, xlabel="iteration", ylabel="- return of the mean", yscale="log")
    return results


if __name__ == "__main__":
    typer.run(main)
