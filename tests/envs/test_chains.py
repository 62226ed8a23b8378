"""Chains against textbook answers and closed forms."""

import numpy as np
import pytest

import envs


def kl(p, q):
    return float(np.sum(p * np.log(p / q)))


def test_two_state_reaches_its_known_returns():
    mdp = envs.two_state(gamma=1.0)
    # Kakade's start: staying with probabilities .76 and .04 is in state 0 four fifths of the time.
    policy = [[0.76, 0.24], [0.96, 0.04]]
    assert mdp.state_distribution(policy) == pytest.approx([0.8, 0.2], abs=1e-12)
    assert mdp.expected_return(policy) == pytest.approx(0.8 * 0.76 + 0.2 * 0.04 * 2, abs=1e-12)
    assert mdp.expected_return(mdp.solve_optimal().policy) == pytest.approx(2.0, abs=1e-12)


def test_single_chain_matches_the_published_figures():
    mdp = envs.single_chain()
    assert (mdp.n_states, mdp.n_actions, mdp.gamma) == (5, 2, 0.95)
    assert mdp.expected_return(mdp.uniform_policy()) == pytest.approx(1.255, abs=5e-4)
    best = mdp.solve_optimal().policy
    assert mdp.expected_return(best) == pytest.approx(10 * 0.95**4, abs=1e-9)
    assert (best.argmax(axis=1) == 0).all()


@pytest.mark.parametrize("always", [0, 1])
def test_single_chain_pays_what_its_definition_says(always):
    mdp = envs.single_chain(n_states=7, gamma=0.9, end_reward=3.0, return_reward=0.5)
    expected = 3.0 * 0.9**6 if always == 0 else 0.5
    assert mdp.expected_return(np.full(7, always)) == pytest.approx(expected, abs=1e-12)


def test_double_chain_has_two_ends_and_prefers_the_larger():
    mdp = envs.double_chain()
    assert mdp.n_states == 9
    assert mdp.unreachable.size == 0
    first, second = np.zeros(9, dtype=int), np.zeros(9, dtype=int)
    second[0] = 1
    assert mdp.expected_return(first) == pytest.approx(10 * 0.95**4, abs=1e-9)
    assert mdp.expected_return(second) == pytest.approx(5 * 0.95**4, abs=1e-9)
    assert mdp.expected_return(mdp.solve_optimal().policy) == pytest.approx(10 * 0.95**4, abs=1e-9)


def test_double_chain_returns_to_the_start_for_the_small_reward():
    mdp = envs.double_chain(length=3, gamma=1.0)
    back_and_forth = np.array([0, 1, 1, 1, 1, 1, 1])
    assert mdp.expected_return(back_and_forth) == pytest.approx(1.0, abs=1e-12)  # 0 and 2 in turn


def test_entering_the_second_chain_is_free():
    assert envs.double_chain().rewards[0].tolist() == [0.0, 0.0]


def test_lecture_chain_has_the_geometric_stationary_distribution():
    mdp = envs.lecture_chain()
    for p in (0.1, 0.3, 0.5, 0.51, 0.6, 0.9):
        ratio = (p / (1 - p)) ** np.arange(101)
        mu = mdp.state_distribution(np.tile([1 - p, p], (101, 1)))
        np.testing.assert_allclose(mu, ratio / ratio.sum(), rtol=1e-9)


def test_small_policy_kl_is_a_large_state_kl():
    mdp = envs.lecture_chain()
    old, new = np.tile([0.5, 0.5], (101, 1)), np.tile([0.49, 0.51], (101, 1))
    mu_old, mu_new = mdp.state_distribution(old), mdp.state_distribution(new)
    assert kl(new[0], old[0]) == pytest.approx(2.0e-4, abs=1e-6)
    assert kl(mu_new, mu_old) == pytest.approx(0.486, abs=5e-4)
    assert mu_new[51:].sum() == pytest.approx(0.88, abs=5e-3)


def test_lecture_chain_return_over_one_shared_probability():
    mdp = envs.lecture_chain()

    def expected_return(p):
        return mdp.expected_return(np.tile([1 - p, p], (101, 1)))

    grid = np.round(np.arange(0.5, 0.52, 1e-4), 4)
    returns = [expected_return(p) for p in grid]
    assert returns[0] == pytest.approx(0.1985, abs=5e-5)
    assert grid[int(np.argmax(returns))] == pytest.approx(0.5051, abs=1e-6)
    assert max(returns) == pytest.approx(0.2303, abs=5e-5)


def test_riverswim_has_the_current_of_the_paper():
    mdp = envs.riverswim(gamma=1.0)
    P = mdp.transitions.toarray().reshape(6, 2, 6)
    assert P[0, 1].tolist() == pytest.approx([0.7, 0.3, 0, 0, 0, 0])
    assert P[3, 1].tolist() == pytest.approx([0, 0, 0.1, 0.6, 0.3, 0])
    assert P[5, 1].tolist() == pytest.approx([0, 0, 0, 0, 0.7, 0.3])
    assert P[3, 0].tolist() == [0, 0, 1, 0, 0, 0]
    assert mdp.mu0.tolist() == [0, 0.5, 0.5, 0, 0, 0]
    assert mdp.rewards[0, 0] == 5.0
    assert mdp.rewards[5, 1] == pytest.approx(0.3 * 10_000)


def test_riverswim_upstream_gain_is_the_birth_and_death_chains():
    # Always right: detailed balance mu(s) right(s) = mu(s + 1) back(s + 1), solved by hand.
    mu = np.cumprod([1.0, 3.0, 3.0, 3.0, 3.0, 0.3 / 0.7])
    mu /= mu.sum()
    mdp = envs.riverswim(gamma=1.0)
    assert mdp.expected_return(np.ones(6, dtype=int)) == pytest.approx(mu[-1] * 3000.0, rel=1e-10)
    assert mdp.expected_return(np.zeros(6, dtype=int)) == pytest.approx(5.0, rel=1e-10)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: envs.single_chain(n_states=1), "n_states"),
        (lambda: envs.single_chain(n_states=5.0), "n_states"),
        (lambda: envs.single_chain(end_reward=np.nan), "end_reward"),
        (lambda: envs.double_chain(length=0), "length"),
        (lambda: envs.double_chain(end_rewards=(1.0,)), "end_rewards"),
        (lambda: envs.double_chain(end_rewards=(1.0, np.inf)), r"end_rewards\[1\]"),
        (lambda: envs.lecture_chain(reward_width=0.0), "reward_width"),
        (lambda: envs.lecture_chain(reward_centre="middle"), "reward_centre"),
        (lambda: envs.riverswim(n_states=2), "n_states"),
        (lambda: envs.riverswim(rewards=(1, 2, 3)), "rewards"),
        (lambda: envs.two_state(gamma=0.0), "gamma"),
        (lambda: envs.two_state(mu0=[0.5, 0.6]), "mu0"),
    ],
)
def test_bad_arguments_are_named(make, name):
    with pytest.raises((TypeError, ValueError), match=name):
        make()


def test_deterministic_names_the_entry_that_is_no_state():
    from envs.chains import deterministic

    with pytest.raises(ValueError, match=r"next_state\[1, 0\] is 7"):
        deterministic([[0, 1], [7, 0]], np.zeros((2, 2)))
    with pytest.raises(ValueError, match="next_state must be integers"):
        deterministic([[0.0, 1.0]], np.zeros((1, 2)))
