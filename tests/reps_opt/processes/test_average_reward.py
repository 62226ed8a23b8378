"""Stationary laws, gains and biases where states are rare, classes are hardly ever left, or there are many states.

The oracles share no code with the library: closed forms of birth-death chains, rational arithmetic, the equations
themselves.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp

import envs
from reps_opt import MDP
from reps_opt.processes import dynamic_programming, elimination, markov
from reps_opt.processes.elimination import Elimination, factorised
from tests.reps_opt import rational


def line(n: int, up: float, down: float) -> sp.csr_array:
    """A walk on 0 ... n-1 that stays where it cannot go."""
    i = np.arange(n)
    rows, columns = np.r_[i, i, i], np.r_[np.minimum(i + 1, n - 1), np.maximum(i - 1, 0), i]
    chance = np.r_[np.full(n, up), np.full(n, down), np.full(n, 1 - up - down)]
    return sp.coo_array((chance, (rows, columns)), shape=(n, n)).tocsr()


def law(n: int, up: float, down: float) -> np.ndarray:
    """Its stationary law, proportional to (up / down)^i."""
    exponent = np.arange(n) * np.log(up / down)
    weight = np.exp(exponent - exponent.max())
    return weight / weight.sum()


def walk(n: int, up: float, down: float) -> MDP:
    """The walk with reward s/n and one action."""
    return MDP(line(n, up, down), (np.arange(n) / n)[:, None], 1.0)


@pytest.mark.parametrize(
    ("n", "up", "down", "gain"), [(301, 0.4, 0.3, 0.98671), (300, 0.4, 0.3, 0.98667), (301, 0.4, 0.2833333, 0.98861)]
)
def test_a_walk_whose_first_state_is_rare(n: int, up: float, down: float, gain: float) -> None:
    mdp, only = walk(n, up, down), np.zeros(n, dtype=int)
    assert mdp.gain(only) == pytest.approx(law(n, up, down) @ np.arange(n) / n, rel=1e-13)
    assert mdp.gain(only)[0] == pytest.approx(gain, abs=5e-6)
    assert mdp.solve_optimal().gain == pytest.approx(mdp.gain(only))
    np.testing.assert_allclose(mdp.state_distribution(only), law(n, up, down), rtol=1e-10)


def test_biased_walks_of_every_size_and_drift() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        n, (up, down) = int(rng.integers(200, 900)), rng.uniform(0.02, 0.49, 2)
        mdp, only = walk(n, up, down), np.zeros(n, dtype=int)
        mu = law(n, up, down)
        assert mdp.gain(only) == pytest.approx(mu @ np.arange(n) / n, rel=1e-9)
        large = mu > 1e-250
        np.testing.assert_allclose(mdp.occupancy(only)[large, 0], mu[large], rtol=1e-8)
        h, g = mdp.value(only), mdp.gain(only)
        np.testing.assert_allclose(mdp.rewards[:, 0] - g + mdp.chain(only) @ h - h, 0, atol=1e-13 * np.abs(h).max())


def test_a_policy_step_on_the_walk_has_the_gain_that_there_is() -> None:
    P = np.stack([line(301, 0.4, 0.3).toarray()] * 2, axis=1)
    r = np.zeros((301, 2))
    r[150:, 1] = 1
    mdp = MDP(P, r, 1.0)
    uniform = mdp.uniform_policy()
    assert mdp.gain(uniform) == pytest.approx(0.5, abs=1e-12)
    assert mdp.expected_return(uniform) == pytest.approx(0.5, abs=1e-12)
    assert mdp.solve_optimal().gain == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("side", [12, 40])
def test_a_drift_in_two_dimensions_has_the_product_law(side: int) -> None:
    across, along = line(side, 0.4, 0.1), line(side, 0.05, 0.45)
    P = 0.5 * sp.kron(across, sp.eye_array(side)) + 0.5 * sp.kron(sp.eye_array(side), along)
    mu = np.outer(law(side, 0.4, 0.1), law(side, 0.05, 0.45)).ravel()
    r = np.sin(np.arange(side**2))
    mdp = MDP(sp.csr_array(P), r[:, None], 1.0)
    only = np.zeros(side**2, dtype=int)
    assert np.abs(mdp.state_distribution(only) - mu).sum() <= 1e-13
    assert mdp.gain(only) == pytest.approx(mu @ r, abs=1e-13)


def river(n: int) -> MDP:
    """A river swim: downstream pays .005 at its end, upstream 1 at its, and swimming up succeeds one time in three."""
    i, r = np.arange(n), np.zeros((n, 2))
    r[0, 0], r[-1, 1] = 0.005, 1
    down = sp.coo_array((np.ones(n), (i, np.maximum(i - 1, 0))), shape=(n, n))
    return MDP([down.tocsr(), line(n, 0.35, 0.05)], r, 1.0)


@pytest.mark.parametrize("n", [6, 14, 15, 20, 25, 40, 80, 350, 2500])
def test_long_rivers_are_swum_to_the_end(n: int) -> None:
    up = law(n, 0.35, 0.05)[-1]
    best = river(n).solve_optimal()
    assert best.gain == pytest.approx(up, rel=1e-12)
    assert (best.policy[:, 1] == 1).all()


@pytest.mark.parametrize("n", [6, 14, 20, 40])
def test_rivers_are_swum_from_any_policy(n: int) -> None:
    best = dynamic_programming._multichain_policy_iteration(
        river(n), np.zeros(n, dtype=int)
    )  # biases up to 7^n on the way
    assert best.gain == pytest.approx(law(n, 0.35, 0.05)[-1], rel=1e-12)


def test_an_advantage_of_moving_beside_a_penalty() -> None:
    P = np.zeros((2, 3, 2))
    P[0, 0, 0] = P[0, 1, 1] = P[0, 2, 0] = 1
    P[1, :, 1] = 1
    mdp = MDP(P, [[0.05, 0, -1e8], [0.055] * 3], 1.0)
    assert mdp.solve_optimal().gain == pytest.approx([0.055, 0.055], rel=1e-12)


@pytest.mark.parametrize("leak", [1e-9, 1e-12, 1e-15])
def test_a_nearly_decomposable_chain_in_rationals(leak: float) -> None:
    P = np.array([[0.5, 0.5 - leak, leak, 0], [0.3, 0.7, 0, 0], [0, 3 * leak, 0.1, 0.9 - 3 * leak], [0, 0, 0.6, 0.4]])
    mdp = MDP(P[:, None], [[1.0], [2.0], [-1.0], [3.0]], 1.0)
    exact, r = rational.tables(mdp)
    only = [0] * 4
    gain = rational.gain([rows[0] for rows in exact], [row[0] for row in r])
    assert mdp.gain(only) == pytest.approx([float(x) for x in gain], rel=1e-13)
    ends = [Fraction(int(i == 3)) for i in range(4)]  # the mass of the last state is the gain of being paid there
    assert mdp.state_distribution(only)[3] == pytest.approx(
        float(rational.gain([rows[0] for rows in exact], ends)[0]), rel=1e-13
    )


def test_an_elimination_keeps_every_digit_of_a_slow_leak() -> None:
    n, leak = 6, np.array([0, 0, 1e-18, 0, 0, 0])
    P = np.full((n, n), 1 / (n - 1)) - np.eye(n) / (n - 1)
    rates = [[Fraction(x) for x in row] for row in P.tolist()]
    lost = [Fraction(x) for x in leak.tolist()]
    matrix = [[(sum(rates[i]) + lost[i]) * int(i == j) - rates[i][j] for j in range(n)] for i in range(n)]
    rhs = np.arange(1.0, n + 1)
    for transposed in (False, True):
        exact = [list(row) for row in zip(*matrix, strict=True)] if transposed else matrix
        expected = [float(x) for x in rational.solve(exact, [Fraction(x) for x in rhs.tolist()])]
        system = Elimination(P, leak)
        found = system.solve_transposed(rhs) if transposed else system.solve(rhs)
        np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_dense_banded_and_factorised_systems_agree() -> None:
    P = line(400, 0.3, 0.3)
    leak = np.zeros(400)
    leak[7] = 0.2
    rhs = np.random.default_rng(0).normal(size=(400, 2))
    matrix = np.eye(400) - P.toarray() + np.diag(leak)
    banded, dense = Elimination(P, leak), Elimination(P.toarray(), leak)
    assert banded.band < 5 < dense.band
    factor = factorised(P, leak)
    for system in (banded, dense, factor):
        np.testing.assert_allclose(matrix @ system.solve(rhs), rhs, atol=1e-9)
        np.testing.assert_allclose(matrix.T @ system.solve_transposed(rhs), rhs, atol=1e-9)


def test_a_chain_too_slow_and_too_wide_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elimination, "ELIMINATION_WORK", 0.0)
    P, leak = line(500, 0.3, 0.3), np.zeros(500)
    leak[0] = 1e-9
    with pytest.warns(UserWarning, match="mixes too slowly"):
        factorised(P, leak)


def test_a_leak_that_underflows_counts_as_the_slowest_there_is() -> None:
    system = Elimination(line(900, 0.45, 0.05), np.eye(900)[0] * 0.05)  # left after 9^900 steps
    assert system.saturated
    assert np.isfinite(system.solve(np.ones(900))).all()
    assert not Elimination(line(30, 0.45, 0.05), np.eye(30)[0] * 0.05).saturated


def queue(n: int, arrival: float, services: tuple[float, float], price: float) -> MDP:
    """Customers wait, which costs; the second service is faster, and costs more."""
    i = np.arange(n)
    P = sp.lil_array((2 * n, n))
    for a, service in enumerate(services):
        for ahead, chance in ((np.minimum(i + 1, n - 1), arrival), (np.maximum(i - 1, 0), service)):
            for s in i:
                P[2 * s + a, ahead[s]] += chance
        for s in i:
            P[2 * s + a, s] += 1 - arrival - service
    return MDP(P.tocsr(), -(i[:, None] / n) - np.array([0.0, price]), 1.0)


@pytest.mark.parametrize("n", [200, 700])
def test_overloaded_queues(n: int) -> None:
    mdp = queue(n, 0.4, (0.2, 0.35), 0.05)
    for actions, service in (([0] * n, 0.2), ([1] * n, 0.35)):
        cost = law(n, 0.4, service) @ (np.arange(n) / n) + 0.05 * actions[0]
        assert mdp.gain(actions) == pytest.approx(-cost, rel=1e-12)
    best = mdp.solve_optimal()
    assert best.gain.min() >= max(mdp.gain([0] * n)[0], mdp.gain([1] * n)[0])
    assert best.residual <= 1e-9
    assert mdp.gain(best.policy) == pytest.approx(best.gain, rel=1e-12)


def test_recurrent_classes_of_small_and_large_chains_agree() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        P = np.where(rng.random((30, 30)) < 0.05, rng.random((30, 30)), 0.0) + np.diag(np.full(30, 1e-3))
        own, sparse = markov.recurrent_classes(P), markov.recurrent_classes(sp.csr_array(P))
        assert ((own >= 0) == (sparse >= 0)).all()
        pairs = {(a, b) for a, b in zip(own, sparse, strict=True) if a >= 0}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_an_offset_of_the_rewards_costs_no_digits() -> None:
    mdp = envs.garnet(40, 3, 4, seed=3, gamma=1.0)
    moved = mdp.replace(r=mdp.rewards + 1e9)
    pi = mdp.uniform_policy()
    np.testing.assert_allclose(moved.value(pi), mdp.value(pi), atol=1e-5)  # the rewards themselves are rounded by 1e-7
    np.testing.assert_allclose(moved.gain(pi) - 1e9, mdp.gain(pi), atol=1e-6)
    assert (moved.solve_optimal().policy == mdp.solve_optimal().policy).all()


@pytest.mark.parametrize("kind", ["goal", "everywhere"])
def test_large_grids_leave_no_advantage(kind: str) -> None:
    mdp = envs.gridworld((50, 50), slip=0.2, gamma=1.0)
    if kind == "everywhere":
        mdp = mdp.replace(r=np.random.default_rng(0).random(mdp.rewards.shape))
    best = mdp.solve_optimal()
    ahead = (mdp.transitions @ best.gain).reshape(mdp.rewards.shape)
    assert (ahead - best.gain[:, None]).max() <= 1e-12
    tied = ahead >= best.gain[:, None] - 1e-12
    assert np.where(tied, mdp.bellman_error(best.value) - best.gain[:, None], -1).max() <= 1e-10


def test_a_prize_a_little_better_and_far_off_is_found_at_once() -> None:
    """Both ends of a walk are kept for ever once reached; the far one is 1,250 steps away, and worth 1.7 % more."""
    left, right = (line(500, up, 1 - up).toarray() for up in (0.3, 0.7))
    P = np.stack([left, right], axis=1)
    P[[0, -1]] = np.eye(500)[[0, -1], None]
    r = np.zeros((500, 2))
    r[0], r[-1] = 0.983, 1.0
    best = MDP(P, r, 1.0).solve_optimal()
    assert (best.policy[1:-1].argmax(axis=1) == 1).all()
    assert best.gain[1] == pytest.approx(0.983 + 0.017 * (1 - 3 / 7) / (1 - (3 / 7) ** 499), rel=1e-12)
    assert best.iterations <= 2


@pytest.mark.parametrize("leak", [1e-6, 1e-10, 1e-13])
@pytest.mark.parametrize("wide", [False, True])
def test_two_large_classes_that_hardly_meet_share_the_mass_by_their_leaks(leak: float, wide: bool) -> None:
    rng = np.random.default_rng(0)
    half = 200
    block = rng.dirichlet(np.ones(half), half) if wide else line(half, 0.3, 0.3).toarray()
    mu = np.linalg.lstsq(np.vstack([block.T - np.eye(half), np.ones(half)]), np.eye(half + 1)[-1], rcond=None)[0]
    P = np.kron(np.eye(2), block)
    P[0, 0] -= leak
    P[0, half] += leak  # one way in the time that the other takes to be left thrice
    P[half, half] -= 3 * leak
    P[half, 0] += 3 * leak
    mdp = MDP(np.maximum(P, 0)[:, None], np.repeat([0.0, 1.0], half)[:, None], 1.0)
    left = np.array([P[0, half], P[half, 0]])  # what is left of the leaks in double precision
    assert mdp.gain([0] * 2 * half) == pytest.approx(left[0] / left.sum(), rel=1e-4 if leak > 1e-7 else 1e-9)
    np.testing.assert_allclose(mdp.occupancy([0] * 2 * half)[:half, 0], 0.75 * mu, rtol=max(1e-9, 100 * leak))
