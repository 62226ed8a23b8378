"""Weigh samples of a noisy steering task by REPS: which ones to imitate, how sharply, and how few they become.

Prints eta, KL, gap and effective sample size for several epsilon, and draws the samples by weight.
"""

import warnings

import numpy as np
import typer

from reps_opt import Batch, SampleREPS, solve
from reps_opt.features import ConditionalMeanEmbedding, kernel_features

N_SAMPLES = 2_000
N_FEATURES = 30
GAMMA = 0.95
EPSILONS = (0.1, 0.5, 1.0, 2.0, 3.0)
RIDGE = 1e-2  # the embedding is an estimate: its errors are not matched exactly
SHOWN = 1.0


def sample_transitions(n_samples: int, seed: int = 0) -> Batch:
    """Positions x on a line, pushed by random actions and by noise; being near zero pays, pushing costs."""
    rng = np.random.default_rng(seed)
    states = np.zeros((n_samples + 1, 1))
    actions = rng.uniform(-1, 1, size=(n_samples, 1))
    for i in range(n_samples):
        states[i + 1] = 0.95 * states[i] + 0.5 * actions[i] + 0.2 * rng.normal()
    rewards = -(states[:-1, 0] ** 2) - 0.1 * actions[:, 0] ** 2
    return Batch(states[:-1], actions, rewards, states[1:], start_states=states[:1])


def draw(batch, solutions, path):
    """Samples by weight, and eta and ESS against epsilon."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    weights = solutions[SHOWN].weights("mean")
    order = np.argsort(weights)
    style = {"c": weights[order], "s": 4 + 12 * np.minimum(weights[order], 4), "cmap": "viridis", "vmax": 4}
    points = left.scatter(batch.states[order], batch.actions[order], **style)
    left.figure.colorbar(points, label="weight (mean one)", extend="max")
    left.set(xlabel="position x", ylabel="action", title=f"good and bad samples, epsilon = {SHOWN:g}")
    radii = list(solutions)
    right.plot(radii, [s.ess / len(batch) for s in solutions.values()], "o-", label="ESS / N")
    right.plot(radii, [s.eta / solutions[radii[0]].eta for s in solutions.values()], "s--", label="eta / largest eta")
    right.set(xlabel="epsilon (nats)", title="the price of a large step", xscale="log", ylim=(0, None))
    right.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(n_samples: int = N_SAMPLES, plot: str | None = None) -> dict:
    batch = sample_transitions(n_samples)
    features = kernel_features(batch, N_FEATURES)
    embedding = ConditionalMeanEmbedding(max_samples=1_000)  # the noise is not to be chosen
    solutions = {}
    print(f"{batch}\nmean reward of the samples {batch.rewards.mean():.3f}")
    for epsilon in EPSILONS:
        problem = SampleREPS.from_batch(batch, features, epsilon, gamma=GAMMA, embedding=embedding, ridge=RIDGE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # few samples carry the weight; the table says so
            s = solutions[epsilon] = solve(problem)
        print(
            f"epsilon {epsilon:<4g} {s.status!s:<10} mean reward {s.objective:7.3f}  eta {s.eta:7.4f}  "
            f"KL {s.kl:.6f}  gap {s.certificate.gap:.0e}  ESS {s.ess:6.1f}"
        )
    if plot:
        draw(batch, solutions, plot)
        print(f"figure written to {plot}")
    return solutions


if __name__ == "__main__":
    typer.run(main)
