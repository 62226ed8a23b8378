"""Garnets and layered MDPs: structure, distribution, seeds and size."""

import numpy as np
import pytest

import envs


def test_every_garnet_row_has_distinct_next_states():
    mdp = envs.garnet(40, 3, branching=7, seed=1)
    assert (np.diff(mdp.transitions.indptr) == 7).all()
    assert mdp.transitions.data.min() > 0


def test_garnet_next_states_are_uniform():
    mdp = envs.garnet(10, 2000, branching=4, seed=2)
    visits = np.bincount(mdp.transitions.indices, minlength=10) / (20_000 * 4)
    # 80,000 draws, standard deviation of each frequency below .0011: five of them either side.
    np.testing.assert_allclose(visits, 0.1, atol=0.0055)


def test_garnet_pairs_of_next_states_are_uniform():
    mdp = envs.garnet(5, 4000, branching=2, seed=3)
    pairs = np.sort(mdp.transitions.indices.reshape(-1, 2), axis=1)
    counts = np.bincount(pairs[:, 0] * 5 + pairs[:, 1])
    frequency = counts[counts > 0] / len(pairs)
    assert len(frequency) == 10
    np.testing.assert_allclose(frequency, 0.1, atol=0.011)  # five standard deviations of .0021


def test_branching_may_be_one_or_all():
    everything = envs.garnet(6, 2, branching=6, seed=0)
    assert everything.transitions.nnz == 72
    certain = envs.garnet(6, 2, branching=1, seed=0)
    assert (certain.transitions.data == 1).all()


def test_reward_density_is_the_fraction_of_pairs_with_a_reward():
    r = envs.garnet(2000, 5, branching=1, seed=4, reward_density=0.3).rewards
    assert np.mean(r != 0) == pytest.approx(0.3, abs=0.023)  # five standard deviations of .0046
    assert not envs.garnet(20, 2, branching=1, seed=4, reward_density=0.0).rewards.any()


def test_seeds_decide_everything():
    a, b, c = (envs.garnet(30, 2, branching=3, seed=s) for s in (5, 5, 6))
    assert (a.transitions != b.transitions).nnz == 0
    assert (a.rewards == b.rewards).all()
    assert (a.rewards != c.rewards).any()
    same = envs.garnet(30, 2, branching=3, seed=np.random.default_rng(5))
    assert (a.rewards == same.rewards).all()


def test_a_hundred_thousand_states():
    mdp = envs.garnet(100_000, 4, branching=5, seed=0)
    assert mdp.transitions.nnz == 2_000_000


def test_layers_lead_only_to_the_next_layer_and_close_the_cycle():
    problem = envs.layered(layer_sizes=(1, 4, 2, 3), n_actions=3, seed=0)
    mdp = problem.mdp
    assert problem.n_layers == 4
    row, column = mdp.transitions.nonzero()
    assert (problem.layer[column] == (problem.layer[row // 3] + 1) % 4).all()
    assert mdp.unreachable.size == 0


def test_the_cycles_occupancy_is_the_layered_one():
    problem = envs.layered(seed=1)
    policy = np.random.default_rng(0).dirichlet(np.ones(2), size=10)
    occupancy = problem.n_layers * problem.mdp.occupancy(policy)
    mass = np.bincount(problem.layer, weights=occupancy.sum(axis=1))
    np.testing.assert_allclose(mass, 1.0, atol=1e-12)
    # Forward through the layers, by hand.
    chain = problem.mdp.chain(policy).toarray()
    mu = np.eye(10)[0]
    for i in range(1, problem.n_layers):
        mu = mu @ chain
        np.testing.assert_allclose(occupancy.sum(axis=1)[problem.layer == i], mu[problem.layer == i], atol=1e-12)


@pytest.mark.parametrize("adversary", ["iid", "switching", "walk"])
def test_losses_lie_in_the_unit_interval_and_follow_the_seed(adversary):
    problem = envs.layered(seed=1)
    losses = problem.losses(200, adversary, seed=3)
    assert losses.shape == (200, 10, 2)
    assert losses.min() >= 0
    assert losses.max() <= 1
    assert losses.std() > 0.1
    assert (losses == problem.losses(200, adversary, seed=3)).all()
    assert (losses != problem.losses(200, adversary, seed=4)).any()


def test_switching_redraws_the_means_and_iid_keeps_them():
    problem = envs.layered(seed=1)

    def drifts(adversary):
        """Largest change of the mean loss from each quarter of the episodes to the next."""
        quarters = problem.losses(12_000, adversary, seed=0, n_switches=1).reshape(4, 3000, 10, 2).mean(axis=1)
        return np.abs(np.diff(quarters, axis=0)).max(axis=(1, 2))

    noise = 0.065  # five standard deviations of the difference of two means, sqrt(2 / 4 / 3000)
    assert (drifts("iid") < noise).all()
    assert (drifts("switching") > [0.0, 0.3, 0.0]).all()
    assert (drifts("switching")[[0, 2]] < noise).all()  # one switch, half-way


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: envs.garnet(0, 1, 1), "n_states"),
        (lambda: envs.garnet(5, 1.5, 1), "n_actions"),
        (lambda: envs.garnet(5, 2, 6), "branching"),
        (lambda: envs.garnet(5, 2, 2, reward_density=2.0), "reward_density"),
        (lambda: envs.layered(layer_sizes=(2, 3)), "layer_sizes"),
        (lambda: envs.layered(layer_sizes=()), "layer_sizes"),
        (lambda: envs.layered(layer_sizes=(1, 0)), r"layer_sizes\[1\]"),
        (lambda: envs.layered(n_actions=0), "n_actions"),
        (lambda: envs.layered(seed=0).losses(0), "n_episodes"),
        (lambda: envs.layered(seed=0).losses(5, "nasty"), "adversary"),
        (lambda: envs.layered(seed=0).losses(5, "switching", n_switches=0), "n_switches"),
    ],
)
def test_bad_arguments_are_named(make, name):
    with pytest.raises((TypeError, ValueError), match=name):
        make()
