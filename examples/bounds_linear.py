"""The joint bound of REPS against a bound on the policy, on a noisy linear-quadratic task over a finite horizon.

As Lioutikov et al. (2014) have it: every update weighs the states and actions of some roll-outs, step by step, and fits
a linear-Gaussian policy to each step. Both bounds are the same program over the weights. The joint bound lets the
states move as learned models say (flow constraints in quadratic features), and its objective is the reward; the policy
bound keeps the features of the old states, and its objective is the old policy's advantage. Returns are exact.

python examples/bounds_linear.py --plot bounds_linear.png
"""

import time

import numpy as np
import typer
from harness import draw_shares
from sklearn.preprocessing import PolynomialFeatures

import envs
from policies import LinearGaussianPolicy
from reps_opt import SampleREPS, solve

HORIZON, DT, NOISE = 25, 0.2, 0.05  # a cart pushed on a line: place and velocity
N_EPISODES, START_STD = 60, 1.0  # an update; of the first forces
EPSILONS = [0.1, 0.5, 1.0]  # nats a step
RIDGE = 1e-6
BOUNDS = ("joint bound (REPS)", "policy bound (TRPO)")


def make_env():
    A, B = [[1, DT], [0, 1]], [[DT**2 / 2], [DT]]
    return envs.LQR(A, B, np.diag([1.0, 0.1]), [[0.1]], start=(1.0, 0.0), start_spread=0.2, noise=NOISE,
                    max_state=np.inf, max_action=100.0, gamma=1.0, horizon=HORIZON)  # fmt: skip


def roll_out(env, policies, rng):
    """States (T, N, 2), forces (T, N, 1) and rewards (T, N) of N episodes."""
    states, rows = env.sample_starts(N_EPISODES, rng), []
    for policy in policies:
        actions = policy.sample(states, rng)
        moved = env.step_batch(states, actions, rng)
        rows.append((states, actions, moved.rewards, moved.next_states))
        states = moved.next_states
    return (np.array(column) for column in zip(*rows, strict=True))


def weigh(states, actions, rewards, following, epsilon, bound):
    """Weights (T, N) of one update, its predicted gain in return, and its solution."""
    T, n = rewards.shape
    quadratic = PolynomialFeatures(2).fit(states[0])
    phi = np.array([quadratic.transform(x) for x in states])  # (T, N, d)
    both = [PolynomialFeatures(2).fit_transform(np.hstack([x, u])) for x, u in zip(states, actions, strict=True)]
    ahead = [f @ np.linalg.lstsq(f, quadratic.transform(y))[0] for f, y in zip(both, following, strict=True)]
    psi, objective = np.zeros((T, n, T + 1, phi.shape[2])), rewards
    for t in range(T):
        psi[t, :, t] = -phi[t] if bound == BOUNDS[0] else phi[t] - phi[t].mean(axis=0)
        if bound == BOUNDS[0]:
            psi[t, :, t + 1] = ahead[t]
    if bound == BOUNDS[0]:
        psi[:, :, 0] += phi[0].mean(axis=0) / T  # where every episode starts
    else:
        objective, value = np.zeros((T, n)), np.zeros(phi.shape[2])
        for t in reversed(range(T)):
            target = rewards[t] + ahead[t] @ value
            value = np.linalg.lstsq(phi[t], target)[0]
            objective[t] = target - phi[t] @ value
    solution = solve(SampleREPS(objective.ravel(), psi[:, :, :T].reshape(T * n, -1), epsilon, ridge=RIDGE))
    gain = T * (solution.weights("sum") @ objective.ravel() - objective.mean())
    return solution.weights("mean").reshape(T, n), gain, solution


def learn(env, epsilon, bound, seed, n_updates):
    """Exact returns (n_updates + 1,), the first predicted gain, and the largest duality gap."""
    rng = np.random.default_rng(seed)
    anything = LinearGaussianPolicy(ridge=1.0).fit(np.eye(3, 2), np.eye(3, 1))
    policies = [anything.with_params(np.r_[np.zeros(3), np.log(START_STD)])] * HORIZON
    returns, gains, gaps = [], [], []
    for _ in range(n_updates + 1):
        linear = [(p.coef_.T, p.intercept_, p.scale_ @ p.scale_.T) for p in policies]
        returns.append(env.expected_return(*zip(*linear, strict=True)))
        data = list(roll_out(env, policies, rng))
        weights, gain, solution = weigh(*data, epsilon, bound)
        fits = zip(data[0], data[1], weights, strict=True)
        policies = [LinearGaussianPolicy(ridge=RIDGE).fit(x, u, w) for x, u, w in fits]
        gains.append(gain)
        gaps.append(solution.certificate.gap)
    return np.array(returns), gains[0], max(gaps)


def main(n_seeds: int = 30, n_updates: int = 15, epsilons: list[float] = EPSILONS, plot: str | None = None):
    """Learn under both bounds, print what they promise and get, and draw the shares of the possible gain."""
    env = make_env()
    best, shares = env.expected_return(env.optimal_gains()), {}
    print(f"optimum {best:.3f}; {N_EPISODES} episodes an update, {n_seeds} seeds")
    print(
        f"{'epsilon':>7} {'bound':<20} predicted/actual gain, first   share: first  half   last +- error   worst    gap"
    )
    for epsilon in epsilons:
        for bound in BOUNDS:
            began = time.process_time()
            runs = [learn(env, epsilon, bound, seed, n_updates) for seed in range(n_seeds)]
            returns, promised = np.array([r[0] for r in runs]), np.mean([r[1] for r in runs])
            share = shares[epsilon, bound] = (returns - returns[:, :1]) / (best - returns[:, :1])
            first = f"{promised:12.2f} {np.diff(returns[:, :2]).mean():9.2f}"
            last = (
                f"{share[:, -1].mean():7.3f} +- {share[:, -1].std() / np.sqrt(n_seeds):.3f} {share[:, -1].min():7.3f}"
            )
            middle = f"{share[:, 1].mean():20.3f} {share[:, n_updates // 2].mean():6.3f}"
            print(f"{epsilon:7g} {bound:<20} {first} {middle} {last} {max(r[2] for r in runs):9.0e}", end="")
            print(f"   {time.process_time() - began:.0f} s of CPU", flush=True)
    if plot:
        draw_shares({(f"epsilon {e:g}", bound): share for (e, bound), share in shares.items()}, plot)
    return shares


if __name__ == "__main__":
    typer.run(main)
