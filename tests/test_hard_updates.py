"""Hard batches, row by row, for every update: one line a row, judged from the batch and the policies.

Shapes: N transitions, P parameters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog
from sklearn.preprocessing import FunctionTransformer

from policies import LinearGaussianPolicy
from reps_opt import (
    CPO,
    ENAC,
    TRPO,
    Batch,
    EpisodicREPSUpdate,
    NaturalGradient,
    REPSUpdate,
    RewardWeightedRegression,
    VanillaGradient,
)

RADIUS = 0.02
IDENTITY = FunctionTransformer()
SIDEWAYS = CPO(epsilon=RADIUS, budget=0.5, costs=lambda batch: batch.states[:, 0] ** 2)


def free(batch: Batch) -> np.ndarray:
    """No costs (N,)."""
    return np.zeros(len(batch))


GRADIENTS: dict[str, Any] = {
    "vanilla": VanillaGradient(length=0.1),
    "vanilla by size": VanillaGradient(step_size=0.1),
    "natural": NaturalGradient(epsilon=RADIUS),
    "natural by size": NaturalGradient(step_size=0.1),
    "natural, raw": NaturalGradient(epsilon=RADIUS, standardise=False),
    "trpo": TRPO(epsilon=RADIUS),
    "cpo": CPO(epsilon=RADIUS, budget=1.0, costs=free),
    "enac": ENAC(epsilon=RADIUS),
}
FITS: dict[str, Any] = {
    "reps": REPSUpdate(fit=LinearGaussianPolicy(), features=IDENTITY, gamma=0.9, epsilon=0.3),
    "episodic": EpisodicREPSUpdate(fit=LinearGaussianPolicy(), epsilon=0.3),
    "contexts": EpisodicREPSUpdate(fit=LinearGaussianPolicy(), contexts=IDENTITY, epsilon=0.3),
    "regression": RewardWeightedRegression(fit=LinearGaussianPolicy(), epsilon=0.3),
    "by advantage": RewardWeightedRegression(fit=LinearGaussianPolicy(), epsilon=0.3, advantages=True),
}
UPDATES = GRADIENTS | FITS
POLICY = LinearGaussianPolicy().fit(np.eye(9, 2), np.random.default_rng(1).normal(size=(9, 1)))
SINGLE = ("episodic", "contexts")


def hard_batch(
    name: str, episodes: int = 25, steps: int = 6, rewards: str = "", scale: float = 1.0, shift: float = 0.0, states=""
) -> Batch:
    """A batch that the policy acted in; one transition an episode for updates of whole episodes."""
    rng = np.random.default_rng(3)
    if name in SINGLE:
        episodes, steps = episodes * steps, 1
    n = episodes * steps
    s = rng.normal(size=(n + 1, 2))
    if states == "duplicated":
        s[:, 1] = 2 * s[:, 0]
    elif states == "constant":
        s[:, 1] = 1.0
    elif states == "all constant":
        s[:] = 0.5
    a = POLICY.sample(s[:-1], rng)
    r = np.full(n, 0.7) if rewards == "constant" else -((a[:, 0] - s[:-1, 0]) ** 2) + 0.3 * s[:-1, 1]
    last = np.arange(n) % steps == steps - 1
    return Batch(s[:-1], a, scale * (r + shift), s[1:], truncated=last)


def step_of(result: Any, batch: Batch) -> np.ndarray:
    """What the update did, as an array: parameters moved, or the weights of the samples less the base's."""
    if hasattr(result.solution, "sample_weights"):
        return result.solution.sample_weights - result.solution.problem.base
    return result.policy.params - POLICY.params


def check_weights(name: str, solution: Any, batch: Batch) -> None:
    """Weights on the simplex, in the ball, that match the features and gain what they can be seen to."""
    w, problem = solution.sample_weights, solution.problem
    base, r = problem.base, problem.rewards
    assert w.min() >= 0
    assert abs(w.sum() - 1) <= 1e-9
    some = w > 0
    assert (w[some] * np.log(w[some] / base[some])).sum() <= 0.3 + 1e-7
    if name == "reps":
        psi = moves(batch)
        assert np.abs(w @ psi).max() <= 1e-8 * np.sqrt(base @ psi**2).max()
    else:  # the base itself may be chosen
        assert w @ r >= base @ r - 1e-9 * np.ptp(r) - 1e-13 * np.abs(r).max()


def moves(batch: Batch) -> np.ndarray:
    """What the weights of transitions must cancel (N, 2), for values linear in the state: as the batch's own do."""
    change = 0.9 * batch.next_states - batch.states
    moved = change - change.mean(axis=0)
    return np.where(np.abs(moved) > 1e-15, moved, 0.0)


def check_length(name: str, step: np.ndarray, batch: Batch) -> None:
    """The step's length is that of the setting, in the metric of the update."""
    if name == "vanilla":
        assert np.linalg.norm(step) == pytest.approx(0.1)
    elif name in ("natural", "natural, raw", "trpo", "cpo"):
        J = POLICY.fisher_factor(batch.states)
        length = 0.5 * float(np.sum((J @ step) ** 2)) / len(J)
        assert length <= RADIUS * (1 + 1e-6)
    elif name == "enac":
        J = POLICY.fisher_factor(batch.states)
        assert 0.5 * float(np.sum((J @ step) ** 2)) / len(J) == pytest.approx(RADIUS, rel=1e-6)


def check(name: str, result: Any, batch: Batch) -> None:
    """Certified where something was solved, finite, in its ball, and what is reported is what was done."""
    if result.solution is not None and not is_infeasible(result.solution, batch):
        assert result.solution.status == "certified", (result, result.solution)
    if not result.accepted:
        assert result.policy is POLICY
        assert result.message
        assert (result.gain, result.kl, result.kl_old_new, result.fraction) == (0.0, 0.0, 0.0, 0.0)
        return
    new = result.policy
    assert np.isfinite(new.params).all()
    assert np.isfinite(new.log_prob(batch.states, batch.actions)).all()
    if name in FITS:
        check_weights(name, result.solution, batch)
        return
    assert result.kl_old_new == pytest.approx(POLICY.kl_divergence(new, batch.states).mean(), rel=1e-9, abs=1e-14)
    assert result.kl == pytest.approx(new.kl_divergence(POLICY, batch.states).mean(), rel=1e-9, abs=1e-14)
    check_length(name, new.params - POLICY.params, batch)
    if name in ("trpo", "cpo"):
        assert result.kl_old_new <= RADIUS
        assert result.gain > 0


def is_infeasible(solution: Any, batch: Batch) -> bool:
    """Whether a sample problem is called infeasible, and rightly: no weights match the features."""
    if solution.status != "infeasible":
        return False
    psi = moves(batch)
    rows = np.vstack([psi.T, np.ones(len(psi))])
    return linprog(np.zeros(len(psi)), A_eq=rows, b_eq=np.append(np.zeros(psi.shape[1]), 1.0)).status == 2


ROWS: list[tuple[str, dict[str, Any]]] = [
    ("as is", {}),
    ("one episode", {"episodes": 1}),
    ("one transition", {"episodes": 1, "steps": 1}),
    ("two transitions", {"episodes": 2, "steps": 1}),
    ("duplicated features", {"states": "duplicated"}),
    ("constant feature", {"states": "constant"}),
    ("constant features", {"states": "all constant"}),
    ("rewards by 1e-9", {"scale": 1e-9}),
    ("rewards by 1e9", {"scale": 1e9}),
    ("rewards shifted by 1e6", {"shift": 1e6}),
    ("constant rewards", {"rewards": "constant"}),
    ("constant rewards by 1e9", {"rewards": "constant", "scale": 1e9}),
    ("zero rewards", {"rewards": "constant", "scale": 0.0}),
]
CASES = [(row, name, changes) for row, changes in ROWS for name in UPDATES]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("row", "name", "changes"), CASES, ids=[f"{row}-{name}" for row, name, _ in CASES])
def test_row(row, name, changes):
    batch = hard_batch(name, **changes)
    before = POLICY.params.copy()
    result = UPDATES[name](POLICY, batch)
    np.testing.assert_array_equal(POLICY.params, before)
    check(name, result, batch)
    if row == "as is":
        assert result.accepted
        assert np.abs(step_of(result, batch)).max() > 1e-4


@pytest.mark.parametrize("scale", [1e-9, 1e9])
@pytest.mark.parametrize("name", UPDATES)
def test_the_scale_of_rewards_does_not_matter(name, scale):
    plain, scaled = hard_batch(name), hard_batch(name, scale=scale)
    first, second = UPDATES[name](POLICY, plain), UPDATES[name](POLICY, scaled)
    expected = step_of(first, plain)
    np.testing.assert_allclose(step_of(second, scaled), expected, atol=1e-9 * np.abs(expected).max())
    if name in FITS or name in ("natural, raw", "enac"):
        assert second.solution.eta == pytest.approx(scale * first.solution.eta, rel=1e-8)


@pytest.mark.parametrize("name", [name for name in UPDATES if name != "natural, raw"])
def test_a_shift_of_rewards_does_not_matter_where_all_episodes_are_one_step(name):
    plain, shifted = (hard_batch(name, 150, 1, shift=shift) for shift in (0.0, 1e6))
    expected = step_of(UPDATES[name](POLICY, plain), plain)
    moved = step_of(UPDATES[name](POLICY, shifted), shifted)
    np.testing.assert_allclose(moved, expected, atol=1e-8 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-9, 0.0), (1e9, 0.0), (1.0, 1e6), (1.0, -1e3), (0.0, 0.0)])
@pytest.mark.parametrize("name", UPDATES)
def test_nothing_is_learnt_from_constant_rewards(name, scale, shift):
    batch = hard_batch(name, 150, 1, rewards="constant", scale=scale, shift=shift)
    result = UPDATES[name](POLICY, batch)
    assert not result.accepted
    assert result.policy is POLICY
    assert ("zero" if name in GRADIENTS else "nothing to learn") in result.message
    assert result.gain == 0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rewards": "constant", "steps": 1},
        {"scale": 1e-9},
        {"scale": 1e9},
        {"states": "constant"},
        {"states": "all constant"},
        {"episodes": 1},
        {"episodes": 1, "steps": 1},
    ],
    ids=str,
)
def test_a_broken_budget_is_mended_first(changes):
    batch = hard_batch("cpo", **changes)
    steps = changes.get("steps", 6)
    paid = batch.states[:, 0] ** 2
    expected = float(0.99 ** (np.arange(len(batch)) % steps) @ paid) / batch.n_episodes
    result = SIDEWAYS(POLICY, batch)
    assert expected > 0.5
    assert result.stats["expected_cost"] == pytest.approx(expected)
    assert result.accepted
    assert result.cost < expected
    assert result.kl_old_new <= RADIUS
    J, step = POLICY.fisher_factor(batch.states), result.policy.params - POLICY.params
    assert 0.5 * float(np.sum((J @ step) ** 2)) / len(J) <= RADIUS * (1 + 1e-6)
