"""Sweeps over radii of finite horizons and rates of O-REPS: optima move as their multipliers say, from limit to limit.

The optimum V(epsilon) is concave with derivative eta, so that between two radii it rises by no more than the first eta
and no less than the second one says; over temperatures it is convex with derivative -KL. Neither uses a solver.

Shapes: T steps or L layers, S states, A actions.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import rel_entr

from reps_opt import MDP, REPS, FiniteHorizonREPS, ORePS, Status, TrustRegionStep, solve

SEEDS = range(6)
ROUNDING = 1e-9


def random_mdp(rng: np.random.Generator) -> tuple[MDP, np.ndarray]:
    """An MDP with a prize, a penalty or neither, and a policy."""
    S, A = int(rng.integers(2, 5)), int(rng.integers(2, 4))
    r = rng.normal(size=(S, A))
    policy = rng.dirichlet(np.ones(A), size=S)
    return MDP(rng.dirichlet(np.full(S, 0.5), size=(S, A)), r, 0.95), policy


@pytest.mark.parametrize("ball", ["shared", "per_step", "trajectory"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_horizons_optimum_rises_as_its_etas_say(ball: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mdp, policy = random_mdp(rng)
    limit = solve(FiniteHorizonREPS(mdp, policy, 3, np.inf, ball))
    radii = np.array([0.0, 1e-9, 1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999, 1.001, 2.0]) * max(float(limit.kl), 1e-2)
    found = [solve(FiniteHorizonREPS(mdp, policy, 3, epsilon, ball)) for epsilon in radii]
    assert [solution.status for solution in [*found, limit]] == [Status.CERTIFIED] * 11
    assert found[0].objective == pytest.approx(found[0].problem.reference_return, abs=1e-12)
    assert found[-1].objective == pytest.approx(limit.objective, abs=1e-9)
    assert np.sum(found[-1].eta) == 0
    for (low, near), (high, far) in pairwise(zip(radii, found, strict=True)):
        rise = far.objective - near.objective
        assert rise >= float(np.sum(far.eta)) * (high - low) - ROUNDING
        if np.isfinite(np.sum(near.eta)):
            assert rise <= float(np.sum(near.eta)) * (high - low) + ROUNDING


@pytest.mark.parametrize("estimates", [1.0, 1e4, 1e10])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_steps_optimum_falls_as_its_divergence_says(seed: int, estimates: float) -> None:
    """Losses divided by small probabilities, as bandits estimate them, at rates over twelve decades."""
    rng = np.random.default_rng(seed)
    mdp, policy = random_mdp(rng)
    rates = 10.0 ** np.arange(6, -7, -2)
    problems = [ORePS(mdp, 3, learning_rate=float(rate)) for rate in rates]
    losses = rng.random(problems[0].flow.shape)
    losses[-1, 0, 0] *= estimates
    q = solve(FiniteHorizonREPS(mdp, policy, 3, 0.0)).occupancy
    found = [solve(problem.step(losses, q)) for problem in problems]
    assert [step.status for step in found] == [Status.CERTIFIED] * len(rates)
    spent = [float(rel_entr(step.occupancy, q).sum()) for step in found]
    worth = [
        -float((step.occupancy * losses).sum()) - kl / rate for step, kl, rate in zip(found, spent, rates, strict=True)
    ]
    for i, j in pairwise(range(len(rates))):
        dearer = 1 / rates[j] - 1 / rates[i]
        slack = ROUNDING * (1 + abs(worth[i]) + 1 / rates[j])
        assert -spent[i] * dearer - slack <= worth[j] - worth[i] <= -spent[j] * dearer + slack
    assert np.abs(found[-1].occupancy - q).max() <= 2e-6 * estimates


@pytest.mark.parametrize(
    ("divergence", "own"),
    [
        ("kl", lambda p, q: rel_entr(p, q).sum()),
        ("chi2", lambda p, q: ((p - q) ** 2 / q).sum() / 2),
        ("reverse_kl", lambda p, q: rel_entr(q, p).sum()),
        (("alpha", 0.5), lambda p, q: 4 * (1 - np.sqrt(p * q).sum())),
        (("alpha", -1.0), lambda p, q: np.divide(q * q, p, out=np.full_like(q, np.inf), where=p > 0).sum() / 2 - 0.5),
    ],
    ids=["kl", "chi2", "reverse_kl", "alpha 0.5", "alpha -1"],
)
def test_without_a_radius_the_divergence_of_the_kind_asked_for_is_reported(divergence: object, own: object) -> None:
    mdp, policy = random_mdp(np.random.default_rng(1))
    q = mdp.occupancy(policy)
    solution = solve(REPS(mdp, q, np.inf, divergence=divergence))
    assert solution.status is Status.CERTIFIED
    assert solution.kl == pytest.approx(own(solution.occupancy, q), rel=1e-12)
    flat = solve(REPS(mdp.replace(rewards=np.zeros_like(mdp.rewards)), q, np.inf, divergence=divergence))
    assert flat.kl == pytest.approx(own(flat.occupancy, q), abs=1e-12)


@pytest.mark.parametrize("size", [1e-300, 1e-3, 1e150, 1e160, 1e300])
def test_the_smallest_radius_of_a_step_in_any_unit(size: float) -> None:
    """Rows ``c + b.s <= 0``: c^2 / 2 |b|^2 at least, which may overflow, and no sooner."""
    costs = [([1.0, 1.0], size), ([-1.0, 0.5], -size / 9)]
    step = TrustRegionStep([1.0, 0.0], np.eye(2), 0.1, costs[:1])
    with np.errstate(over="ignore"):
        right = np.float64(size) ** 2 / 4
    assert step.epsilon_min == pytest.approx(right, rel=1e-12)
    several = solve(TrustRegionStep([1.0, 0.0], np.eye(2), 0.1, costs))
    assert several.status is (Status.CERTIFIED if size < 1 else Status.INFEASIBLE)
    assert "contradict" not in several.message
    opposite = solve(TrustRegionStep([1.0, 0.0], np.eye(2), 0.1, [costs[0], ([-1.0, -1.0], -size / 9)]))
    assert "contradict" in opposite.message
