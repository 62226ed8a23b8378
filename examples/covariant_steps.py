"""Euclidean steps depend on how a policy is parametrised, natural steps do not: Kakade's two-state problem.

One step from the same policy is taken under random linear reparametrisations of its logits. What it gains is the same
for the natural gradient, and anything for the Euclidean one; covariant_paths.py draws where many such steps lead.

python examples/covariant_steps.py
"""

import numpy as np
import typer
from scipy.special import rel_entr
from two_logits import EPSILON, START, policy, step

from envs import two_state

CONDITION = 4e3  # of the random linear reparametrisations


def mean_kl(mdp, old, new):
    """KL(old || new) in nats, averaged over the states of the old policy."""
    return mdp.state_distribution(old) @ rel_entr(old, new).sum(axis=1)


def main(n_seeds: int = 30):
    """Take one step under random reparametrisations; print and return the spread of what it gains."""
    mdp = two_state()
    gains, kls, angles = {"Euclidean": [], "natural": []}, {"Euclidean": [], "natural": []}, []
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        left, right = (np.linalg.qr(rng.normal(size=(2, 2)))[0] for _ in range(2))
        T = left @ np.diag([np.sqrt(CONDITION), 1 / np.sqrt(CONDITION)]) @ right
        for name, found in gains.items():
            reached, solution = step(mdp, START, T, natural=name == "natural")
            found.append(mdp.expected_return(policy(reached)) - mdp.expected_return(policy(START)))
            kls[name].append(mean_kl(mdp, policy(START), policy(reached)))
        g = solution.problem.gradient
        k = np.linalg.cond(solution.problem.metric.matrix)
        cosine = g @ solution.step / np.linalg.norm(g) / np.linalg.norm(solution.step)
        angles.append((cosine, 2 * np.sqrt(k) / (1 + k)))
    print(f"{n_seeds} random reparametrisations of condition {CONDITION:g}, one step, epsilon {EPSILON}")
    print("step        mean KL: least       most   gain in return: least       most")
    for name, found in gains.items():
        print(f"{name:<10}{min(kls[name]):17.3e}{max(kls[name]):11.3e}{min(found):24.6f}{max(found):11.6f}")
    print(f"natural step: eta {solution.eta:.4g}, KL {solution.predicted_kl:.3g}, gap {solution.certificate.gap:.0e}")
    slackest, tightest = max(a / b for a, b in angles), min(a / b for a, b in angles)
    print(f"cos(gradient, natural step) is {tightest:.3g} to {slackest:.3g} times its lower bound 2 sqrt(k) / (1 + k)")
    return {"angles": np.array(angles), **{name: np.array(found) for name, found in gains.items()}}


if __name__ == "__main__":
    typer.run(main)
