"""Values, gains, biases and occupancies against rational arithmetic, probabilities of all sizes among them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import envs
from reps_opt import MDP
from reps_opt.processes import markov
from tests.reps_opt import rational


def case(seed: int) -> tuple[MDP, np.ndarray]:
    """Two to six states, probabilities down to 1e-15 in a third of the cases, and a deterministic policy."""
    rng = np.random.default_rng(seed)
    S, A = int(rng.integers(2, 7)), 2
    P, decades = np.zeros((S, A, S)), rng.choice([0, 6, 15])
    for s, a in np.ndindex(S, A):
        ahead = rng.choice(S, rng.integers(1, S + 1), replace=False)
        weight = 10.0 ** -rng.uniform(0, decades, size=ahead.size)
        P[s, a, ahead] = weight / weight.sum()
    return MDP(P, rng.normal(size=(S, A)), 1.0, rng.dirichlet(np.ones(S))), rng.integers(A, size=S)


def chosen(mdp: MDP, actions: np.ndarray) -> tuple[list[list[Fraction]], list[Fraction], list[Fraction]]:
    """Chain, rewards and start distribution of a policy as fractions."""
    P, r = rational.tables(mdp)
    start = [Fraction(x) for x in mdp.mu0.tolist()]
    return (
        [P[s][a] for s, a in enumerate(actions)],
        [r[s][a] for s, a in enumerate(actions)],
        [x / sum(start) for x in start],
    )


def close(found: np.ndarray, exact: list[Fraction], rtol: float) -> None:
    """Every entry right in relative terms, zeros exactly."""
    for x, y in zip(found.tolist(), exact, strict=True):
        assert abs(Fraction(x) - y) <= Fraction(rtol) * abs(y)


@pytest.mark.parametrize("seed", range(30))
def test_average_reward(seed: int) -> None:
    mdp, actions = case(seed)
    P, r, start = chosen(mdp, actions)
    n, largest = len(r), max(abs(float(x)) for x in r)
    gain = rational.gain(P, r)
    assert mdp.gain(actions) == pytest.approx([float(x) for x in gain], abs=1e-14 * largest)
    visits = [rational.gain(P, [Fraction(int(i == j)) for j in range(n)]) for i in range(n)]
    law = [sum((p * x for p, x in zip(start, row, strict=True)), Fraction(0)) for row in visits]
    close(mdp.state_distribution(actions), law, 1e-13)
    h = [Fraction(x) for x in mdp.value(actions).tolist()] if np.ptp(mdp.gain(actions)) < 1e-9 else None
    if h is not None:
        missed = [float(r[i] - gain[i] + sum(P[i][j] * h[j] for j in range(n)) - h[i]) for i in range(n)]
        assert np.abs(missed).max() <= 1e-14 * max(1.0, max(abs(float(x)) for x in h))


@pytest.mark.parametrize("gamma", [0.9, 1 - 1e-9])
@pytest.mark.parametrize("seed", range(15))
def test_discounted(seed: int, gamma: float) -> None:
    mdp, actions = case(seed)
    mdp = mdp.replace(gamma=gamma)
    P, r, start = chosen(mdp, actions)
    n, discount = len(r), Fraction(gamma)
    value = rational.value(P, r, discount)
    assert mdp.value(actions) == pytest.approx([float(x) for x in value], abs=1e-12 * max(abs(float(x)) for x in value))
    visits = [rational.value(P, [Fraction(int(i == j)) for j in range(n)], discount) for i in range(n)]
    law = [(1 - discount) * sum((p * x for p, x in zip(start, row, strict=True)), Fraction(0)) for row in visits]
    close(mdp.state_distribution(actions), law, 1e-13)


@pytest.mark.parametrize("name", ["value", "advantage", "gain", "occupancy", "solve_optimal"])
def test_systems_keep_to_one_thread_of_blas(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[int] = set()

    def counts() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            used.update(counts())
            return function(*args, **options)

        return run

    for function in ("relative_value", "evaluate_average", "discounted_occupancy"):
        monkeypatch.setattr(markov, function, watched(getattr(markov, function)))
    mdp = envs.garnet(80, 3, 3, seed=0)
    with threadpool_limits(2, user_api="blas"):
        before, method = counts(), getattr(mdp, name)
        method() if name == "solve_optimal" else method(mdp.uniform_policy())
        assert counts() == before
    assert used == {1}


def test_a_large_grid_far_ahead_needs_no_factorisation(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a factorisation, of whatever fill")

    monkeypatch.setattr("scipy.sparse.linalg.splu", refuse)
    mdp = envs.gridworld((200, 200), slip=0.2, gamma=1 - 1e-5)
    mdp = mdp.replace(r=np.random.default_rng(1).uniform(size=mdp.rewards.shape))
    value = mdp.value(mdp.uniform_policy())
    ahead = (mdp.rewards.ravel() + mdp.gamma * (mdp.transitions @ value)).reshape(mdp.rewards.shape)
    np.testing.assert_allclose(ahead.mean(axis=1), value, rtol=1e-12)
