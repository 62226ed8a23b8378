"""Natural actor-critics beside plain gradients on the cart-pole of Peters and Schaal: who finds the best gains?

A linear policy with noise starts with gains up to a factor of two off that balance the pole. Every update takes one
step along an estimate from 30 roll-outs: of the natural gradient by eNAC or by LSTD-Q(lambda), of the plain one by
GPOMDP or REINFORCE. Gains are compared with the best of the linearised task, the published K*.

python examples/nac_cart_pole.py --plot cart_pole.png
"""

import time

import matplotlib.pyplot as plt
import numpy as np
import typer
from joblib import Parallel, delayed
from sklearn.preprocessing import PolynomialFeatures

import envs
from envs.cart_pole import Q, R
from reps_opt import ENAC, Factor, Identity, TrustRegionStep, gpomdp, natural_actor_critic, reinforce, rollout, solve
from reps_opt.plotting import COLOURS, LINES, whole_ticks

EPISODES, HORIZON = 30, 200  # an update, and steps of an episode: 3.3 s
STD = 3.0  # of the force, in N
SIZES = {"eNAC": 0.3, "NAC, LSTD-Q(λ)": 1.0, "GPOMDP": 3.0, "vanilla (REINFORCE)": 3.0}  # of steps along the estimates
EPSILON, LENGTH = 0.02, 2.0  # what shortens them: nats of a natural step, length of a plain one in units of the gains
LAMBDA = 0.9  # of the eligibility traces
K_STAR = np.array([5.71, 11.3, -82.1, -21.6])  # Peters and Schaal (2008)


class Gains:
    """The policy u ~ N(K x, STD^2), whose parameters are the gains alone: all that a gradient asks of a policy."""

    def __init__(self, gains):
        self.params = np.asarray(gains)

    def with_params(self, params):
        return Gains(params)

    def predict(self, states):
        return (states @ self.params)[:, None]

    def sample(self, states, rng):
        return self.predict(states) + STD * rng.standard_normal((len(states), 1))

    def log_prob(self, states, actions):
        return -((actions - self.predict(states))[:, 0] ** 2) / (2 * STD**2) - np.log(STD * np.sqrt(2 * np.pi))

    def score_function(self, states, actions):
        return (actions - self.predict(states)) / STD**2 * states

    def fisher_factor(self, states):
        return states / STD

    def kl_divergence(self, other, states):
        return ((self.predict(states) - other.predict(states)) ** 2)[:, 0] / (2 * STD**2)


def start_policy(seed, env):
    """Gains of K* times factors in [1/2, 2], drawn anew until they balance the pole in the linearised task."""
    rng, (A, B) = np.random.default_rng(seed), envs.linearise(env, np.zeros(4), np.zeros(1))
    while True:
        gains = K_STAR * 2.0 ** rng.uniform(-1, 1, size=4)
        if np.abs(np.linalg.eigvals(A + B @ gains[None])).max() < 1:
            return Gains(gains)


def step(policy, batch, method, env):
    """The next policy: a step of fixed size along the estimate, shortened to the ball of its metric."""
    scores, flags = policy.score_function(batch.states, batch.actions), (batch.terminated, batch.truncated)
    fisher = Factor(policy.fisher_factor(batch.states))
    if method == "eNAC":
        estimate = ENAC(gamma=env.gamma, epsilon=EPSILON)(policy, batch).solution
    elif method.startswith("NAC"):
        value = PolynomialFeatures(2)  # enough for the value of a linear controller
        features, following = value.fit_transform(batch.states), value.transform(batch.next_states)
        natural, _ = natural_actor_critic(scores, features, following, batch.rewards, *flags, env.gamma, LAMBDA)
        estimate = solve(TrustRegionStep(fisher.product(natural), fisher, EPSILON))
    else:
        gradient = (gpomdp if method == "GPOMDP" else reinforce)(scores, batch.rewards, *flags, env.gamma)
        estimate = solve(TrustRegionStep(gradient, Identity(), 0.5 * LENGTH**2))
    # the step to the boundary of the ball is the estimate over eta
    return policy.with_params(policy.params + estimate.step * min(1.0, SIZES[method] * estimate.eta))


def score(env, policy):
    """Discounted return of the mean action, in the mean over 50 starts."""
    batch = rollout(env, policy, 50, seed=0, deterministic=True)
    return float(env.gamma**batch.time @ batch.rewards) / 50


def learn(method, seed, n_updates):
    """Scores (n_updates + 1,) and the last gains (4,) of one run."""
    env = envs.CartPole(horizon=HORIZON)
    policy = start_policy(seed, env)
    scores = [score(env, policy)]
    for i in range(n_updates):
        batch = rollout(env, policy, EPISODES, seed=np.random.SeedSequence((seed, i)))
        policy = step(policy, batch, method, env)
        scores.append(score(env, policy))
    return np.array(scores), policy.params


def main(n_seeds: int = 30, n_updates: int = 20, jobs: int = 1, plot: str | None = None):
    """Learn by each method from the same starts, print returns and gains, and draw the learning curves."""
    env = envs.CartPole(horizon=HORIZON)
    A, B = envs.linearise(env, np.zeros(4), np.zeros(1))
    best = Gains(envs.riccati(A, B, np.diag(Q), [[R]], env.gamma).gain[0])
    print(f"K* of the linearised task {np.round(best.params, 2)}, its return {score(env, best):.3f}")
    runs = {}
    print(f"{'method':<20}{'start':>9}{'half':>9}{'last':>9}{'std':>8}{'worst':>9}   gains in the mean, (std)")
    for method in SIZES:
        began = time.process_time()
        curves, gains = zip(*Parallel(jobs)(delayed(learn)(method, s, n_updates) for s in range(n_seeds)), strict=True)
        curves, gains = np.array(curves), np.array(gains)
        last = f"{curves[:, -1].mean():9.3f}{curves[:, -1].std():8.3f}{curves[:, -1].min():9.3f}"
        shown = " ".join(f"{m:.1f} ({s:.1f})" for m, s in zip(gains.mean(axis=0), gains.std(axis=0), strict=True))
        print(f"{method:<20}{curves[:, 0].mean():9.3f}{curves[:, n_updates // 2].mean():9.3f}{last}   {shown}", end="")
        print(f"   {time.process_time() - began:.0f} s of CPU", flush=True)
        runs[method] = curves
    if plot:
        figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
        for (method, curves), colour, line in zip(runs.items(), COLOURS, LINES, strict=False):
            short = np.maximum(score(env, best) - curves, 1e-4)
            axis.semilogy(np.median(short, axis=0), label=method, color=colour, ls=line)
            axis.fill_between(range(n_updates + 1), *np.quantile(short, (0.1, 0.9), axis=0), alpha=0.2, color=colour)
        axis.set(xlabel=f"updates of {EPISODES} episodes", ylabel="return short of K*'s (median, 10-90 %)")
        whole_ticks(axis)
        axis.legend()
        figure.savefig(plot, dpi=120)
        plt.close(figure)
    return runs


if __name__ == "__main__":
    typer.run(main)
