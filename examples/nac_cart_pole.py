"""Natural actor-critics beside plain gradients on the cart-pole of Peters and Schaal: who finds the best gains?

A linear policy with noise starts with gains up to a factor of two off that balance the pole. Every update takes one
step along an estimate from 30 roll-outs: of the natural gradient by eNAC or by LSTD-Q(lambda), of the plain one by
GPOMDP or REINFORCE. Gains are compared with the best of the linearised task, the published K*.

python examples/nac_cart_pole.py --plot cart_pole.png
"""

import numpy as np
import typer
from drawing import draw_shortfalls
from gains import best_policy, start_policy
from harness import MILESTONES, milestones, over_seeds
from sklearn.preprocessing import PolynomialFeatures

import envs
from reps_opt import ENAC, Factor, Identity, TrustRegionStep, gpomdp, natural_actor_critic, reinforce, rollout, solve

EPISODES, HORIZON = 30, 200  # an update, and steps of an episode: 3.3 s
SIZES = {"eNAC": 0.3, "NAC, LSTD-Q(λ)": 1.0, "GPOMDP": 3.0, "vanilla (REINFORCE)": 3.0}  # of steps along the estimates
EPSILON, LENGTH = 0.02, 2.0  # what shortens them: nats of a natural step, length of a plain one in units of the gains
LAMBDA = 0.9  # of the eligibility traces


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


def learn(method, n_updates, seed):
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
    best, runs = best_policy(env), {}
    print(f"K* of the linearised task {np.round(best.params, 2)}, its return {score(env, best):.3f}")
    print(f"{'method':<20}{MILESTONES}   gains in the mean, (std)")
    for method in SIZES:
        found, seconds = over_seeds(learn, method, n_updates, n_seeds=n_seeds, jobs=jobs)
        curves, gains = (np.array(part) for part in zip(*found, strict=True))
        shown = " ".join(f"{m:.1f} ({s:.1f})" for m, s in zip(gains.mean(axis=0), gains.std(axis=0), strict=True))
        print(f"{method:<20}{milestones(curves)}   {shown}   {seconds:.0f} s of CPU", flush=True)
        runs[method] = curves
    if plot:
        draw_shortfalls(runs, score(env, best), plot, f"updates of {EPISODES} episodes")
    return runs


if __name__ == "__main__":
    typer.run(main)
