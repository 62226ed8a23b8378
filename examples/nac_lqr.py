"""Episodic natural actor-critic on a three-dimensional LQR whose optimum is known, beside the plain gradient.

python examples/nac_lqr.py --plot lqr.png
"""

from __future__ import annotations

import numpy as np
import typer
from drawing import draw_shortfalls
from tqdm import tqdm

from envs import LQR
from policies import LinearGaussianPolicy
from reps_opt import ENAC, Identity, TrustRegionStep, gpomdp, rollout, solve

EPISODES_A_FIT = 25
FITS_AN_EPOCH = 4
EPSILON = 0.03  # nats a state and update, of the natural step
LENGTH = 0.05  # Euclidean length of the plain gradient's step
START_STD = 0.3


def step(policy, method, env, seed):  # type: ignore[no-untyped-def]
    """One fit and one step; natural steps are measured by the Fisher metric, plain ones by the identity."""
    batch = rollout(env, policy, n_episodes=EPISODES_A_FIT, seed=seed)
    if method == "eNAC":  # F^-1 g by regression: no F is inverted
        return ENAC(gamma=env.gamma, epsilon=EPSILON)(policy, batch).policy
    scores = policy.score_function(batch.states, batch.actions)
    gradient = gpomdp(scores, batch.rewards, batch.terminated, batch.truncated, env.gamma)
    solution = solve(TrustRegionStep(gradient, Identity(), 0.5 * LENGTH**2))
    return policy.with_params(policy.params + solution.step)


def evaluate(env, policy) -> float:  # type: ignore[no-untyped-def]
    """Discounted return of the mean action."""
    state, total = env.sample_starts(1, np.random.default_rng(0)), 0.0
    for t in range(env.horizon):
        moved = env.step_batch(state, policy.predict(state), np.random.default_rng(0))
        state, total = moved.next_states, total + env.gamma**t * moved.rewards[0]
    return total


def main(n_seeds: int = 30, n_epochs: int = 30, plot: str | None = None) -> dict[str, np.ndarray]:
    """Learn from zero gains over several seeds, print a table, and draw the learning curves."""
    env = LQR()
    curves = {}
    for method in ("eNAC", "GPOMDP"):
        runs = np.zeros((n_seeds, n_epochs))
        for seed in tqdm(range(n_seeds), desc=method, disable=None):
            policy = LinearGaussianPolicy.from_env(env).with_params(np.r_[np.zeros(12), np.full(3, np.log(START_STD))])
            for epoch in range(n_epochs):
                for fit in range(FITS_AN_EPOCH):
                    policy = step(policy, method, env, np.random.SeedSequence((seed, epoch, fit)))
                runs[seed, epoch] = evaluate(env, policy)
        curves[method] = runs
    print(f"return of the mean action, {n_seeds} seeds, {EPISODES_A_FIT * FITS_AN_EPOCH} episodes an epoch; ", end="")
    print(f"optimum {env.optimal_return():.4f}")
    print("epoch " + "".join(f"{method + ': mean':>15} (worst)" for method in curves))
    for epoch in sorted({1, *range(5, n_epochs + 1, 5), n_epochs}):
        cells = [f"{runs[:, epoch - 1].mean():15.4f} ({runs[:, epoch - 1].min():.3f})" for runs in curves.values()]
        print(f"{epoch:5d} " + "".join(cells))
    if plot:
        draw_shortfalls(curves, env.optimal_return(), plot, "epoch of 100 episodes", first=1, least=1e-6)
        print(f"figure written to {plot}")
    return curves


if __name__ == "__main__":
    typer.run(main)
