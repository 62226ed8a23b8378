"""The joint bound of REPS against a bound on the policy, on a noisy linear-quadratic task over a finite horizon.

As Lioutikov et al. (2014) have it: every update weighs the states and actions of some roll-outs, step by step, and fits
a linear-Gaussian policy to each step. Both bounds are the same program over the weights. The joint bound lets the
states move as learned models say (flow constraints in quadratic features), and its objective is the reward; the policy
bound keeps the features of the old states, and its objective is the old policy's advantage. Returns are exact.

python examples/bounds_linear.py --plot bounds_linear.png
"""

import numpy as np
import typer
from drawing import draw_shares
from harness import over_seeds, random_actions
from time_indexed import SHARES, linear_episodes, old_advantages, quadratic_models, report_shares

import envs
from policies import LinearGaussianPolicy
from reps_opt import SampleREPS, solve

HORIZON, DT = 25, 0.2  # a cart pushed on a line: place and velocity
CART = {"start": (1.0, 0.0), "start_spread": 0.2, "noise": 0.05, "max_state": np.inf, "max_action": 100.0}
N_EPISODES, START_STD = 60, 1.0  # an update; of the first forces
EPSILONS = [0.1, 0.5, 1.0]  # nats a step
RIDGE = 1e-6
BOUNDS = ("joint bound (REPS)", "policy bound (TRPO)")


def weigh(states, actions, rewards, following, epsilon, bound):
    """Weights (T, N) of one update, its predicted gain in return, and its solution."""
    (T, n), joint = rewards.shape, bound == BOUNDS[0]
    phi, ahead = quadratic_models(states, actions, following)
    psi = np.zeros((T, n, T + 1, phi.shape[2]))
    for t in range(T):
        psi[t, :, t] = -phi[t] if joint else phi[t] - phi[t].mean(axis=0)
        psi[t, :, t + 1] = ahead[t] if joint else 0.0
    if joint:
        psi[:, :, 0] += phi[0].mean(axis=0) / T  # where every episode starts
    objective = rewards if joint else old_advantages(phi, ahead, rewards)
    solution = solve(SampleREPS(objective.ravel(), psi[:, :, :T].reshape(T * n, -1), epsilon, ridge=RIDGE))
    gain = T * (solution.weights("sum") @ objective.ravel() - objective.mean())
    return solution.weights("mean").reshape(T, n), gain, solution


def learn(env, epsilon, bound, n_updates, seed):
    """Exact returns (n_updates + 1,), the first predicted gain, and the largest duality gap."""
    rng = np.random.default_rng(seed)
    policies = [random_actions(env, START_STD)] * HORIZON
    returns, said = [], []
    for _ in range(n_updates + 1):
        linear = [(p.coef_.T, p.intercept_, p.scale_ @ p.scale_.T) for p in policies]
        returns.append(env.expected_return(*zip(*linear, strict=True)))
        data = linear_episodes(env, policies, N_EPISODES, rng)
        weights, gain, solution = weigh(*data, epsilon, bound)
        fits = zip(data[0], data[1], weights, strict=True)
        policies = [LinearGaussianPolicy(ridge=RIDGE).fit(x, u, w) for x, u, w in fits]
        said.append((gain, solution.certificate.gap))
    return np.array(returns), said[0][0], max(gap for _, gap in said)


def main(n_seeds: int = 30, n_updates: int = 15, epsilons: list[float] = EPSILONS, plot: str | None = None):
    """Learn under both bounds, print what they promise and get, and draw the shares of the possible gain."""
    motion = [[1, DT], [0, 1]], [[DT**2 / 2], [DT]]
    env = envs.LQR(*motion, np.diag([1.0, 0.1]), [[0.1]], gamma=1.0, horizon=HORIZON, **CART)
    best, shares = env.expected_return(env.optimal_gains()), {}
    print(f"optimum {best:.3f}; {N_EPISODES} episodes an update, {n_seeds} seeds")
    print(f"{SHARES}      gap")
    for epsilon in epsilons:
        for bound in BOUNDS:
            runs, seconds = over_seeds(learn, env, epsilon, bound, n_updates, n_seeds=n_seeds)
            returns, promised, gaps = (np.array(part) for part in zip(*runs, strict=True))
            shares[epsilon, bound] = report_shares(epsilon, bound, promised, returns, best)
            print(f" {gaps.max():8.0e}   {seconds:.0f} s of CPU", flush=True)
    if plot:
        draw_shares({(f"epsilon {e:g}", bound): share for (e, bound), share in shares.items()}, plot)
    return shares


if __name__ == "__main__":
    typer.run(main)
