"""A small change of the policy is a large change of the state distribution: a long chain with one shared parameter.

Stepping right with probability p = .51 instead of .5 is hardly a change of the policy; but the chain's states move to
the right end. A TRPO step, which holds the states still, promises a gain and makes a loss; a bound on the joint
divergence, which counts the states, keeps its promise.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import typer
from scipy.optimize import brentq

import envs
from reps_opt import MDP, REPS, ExactNaturalGradient, compare_policies, solve

TRPO_DELTA, JOINT_EPSILON = 5e-4, 0.05
P_OLD, P_NEW, P_MAX = 0.5, 0.51, 0.52


def shared(mdp: MDP, p: float) -> np.ndarray:
    """The policy (S, 2) that steps right with probability p everywhere."""
    return np.tile([1 - p, p], (mdp.n_states, 1))


def main(n_states: int = 101, n_grid: int = 81, plot: str | None = None) -> dict:
    """Compare three steps from p = 1/2, print what each promises and gets, draw them; returns the comparisons."""
    mdp = envs.lecture_chain(n_states)
    old = shared(mdp, P_OLD)
    right = np.zeros((n_states, 2, 1))
    right[:, 1] = 1.0  # the logit of stepping right, shared by all states
    trpo = solve(ExactNaturalGradient(mdp, old, epsilon=TRPO_DELTA, features=right))

    def beyond(p: float) -> float:
        return compare_policies(mdp, old, shared(mdp, p)).joint_kl - JOINT_EPSILON

    p_joint = brentq(beyond, P_OLD, 0.6, xtol=1e-14)
    steps = {
        "p = .51": compare_policies(mdp, old, shared(mdp, P_NEW)),
        "TRPO": trpo.comparison,
        "joint KL": compare_policies(mdp, old, shared(mdp, p_joint)),
    }
    print(f"{n_states} states, J(.5) = {mdp.expected_return(old):.4f}")
    for name, found in steps.items():
        print(f"{name:9s} KL of policy {found.kl_new_old:.1e}, of states {found.state_kl:.3f}; ", end="")
        print(f"surrogate {found.surrogate:+.3f}, gain {found.gain:+.3f}, J {found.new_return:.4f}")
    mass = mdp.state_distribution(shared(mdp, P_NEW))[n_states // 2 + 1 :].sum()
    print(f"at p = .51 the right half has mass {mass:.2f}")
    free = solve(REPS(mdp, mdp.occupancy(old), JOINT_EPSILON))
    print(f"REPS with a free table, epsilon {JOINT_EPSILON:g}: J {free.objective:.4f}, gap {free.certificate.gap:.0e}")
    draw(mdp, old, np.linspace(P_OLD, P_MAX, n_grid), {"TRPO": trpo.policy[0, 1], "joint KL": p_joint})
    if plot:
        plt.savefig(plot, dpi=150)
    return steps


def draw(mdp: MDP, old: np.ndarray, grid: np.ndarray, marked: dict[str, float]) -> None:
    """State distributions, divergences and returns along the family."""
    path = [compare_policies(mdp, old, shared(mdp, p)) for p in grid]
    _, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for p, line in ((P_OLD, "-"), (P_NEW, "--")):
        axes[0].plot(mdp.state_distribution(shared(mdp, p)), line, label=f"p = {p:g}")
    axes[0].set(title="states", xlabel="state", ylabel="long-run probability", ylim=(0, None))
    axes[1].semilogy(grid[1:], [c.state_kl for c in path[1:]], label="state distribution")
    axes[1].semilogy(grid[1:], [c.kl_new_old for c in path[1:]], ls="--", label="policy, mean over states")
    axes[1].set(title="KL from p = .5", xlabel="p", ylabel="nats")
    axes[2].plot(grid, [c.new_return for c in path], label="return")
    axes[2].plot(grid, [c.old_return + c.surrogate for c in path], "--", label="TRPO's surrogate")
    for (name, p), mark in zip(marked.items(), "os", strict=True):
        axes[2].plot(p, mdp.expected_return(shared(mdp, p)), mark, label=f"{name} step")
    axes[2].set(title="what is promised, what comes", xlabel="p", ylabel="mean reward")
    for axis in axes:
        axis.legend(fontsize="small")


if __name__ == "__main__":
    typer.run(main)
