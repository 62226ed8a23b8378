"""Flows: the rows hold for every occupancy and for nothing else, stationary and unrolled in time."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import envs
from reps_opt import MDP
from reps_opt.processes.flow import Flow
from reps_opt.processes.flow_values import optimum
from reps_opt.processes.time_indexed import occupancy_of
from reps_opt.tolerances import FEW_AHEAD

T = 4


def random_mdp(seed: int, gamma: float) -> MDP:
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(5, 0.3), size=(5, 3))
    return MDP(P, rng.standard_normal((5, 3)), gamma, mu0=rng.dirichlet(np.full(5, 0.5)))


def flows(seed: int) -> list[Flow]:
    """A discounted flow, one of average reward and an unrolled one; of each also the part that some pairs leave."""
    some = np.random.default_rng(seed).random((T, 5, 3)) < 0.8
    some[..., 0] = True
    made = [Flow.of(random_mdp(seed, gamma), some[0].ravel()) for gamma in (0.9, 1.0)]
    return [flow for flow in made if flow is not None] + [Flow.unrolled(random_mdp(seed, 0.9), some)]


def random_policy(flow: Flow, seed: int) -> np.ndarray:
    return flow.conditional(np.random.default_rng(seed).random(flow.pairs.size))


@pytest.mark.parametrize("seed", range(10))
def test_occupancies_satisfy_the_rows_and_give_their_policies_back(seed: int) -> None:
    for flow in flows(seed):
        policy = random_policy(flow, seed)
        occupancy = flow.occupancy(policy)
        assert np.abs(flow.matrix @ occupancy - flow.rhs).sum() <= 1e-13
        assert flow.missed(occupancy) <= 1e-13
        assert flow.off_mass(occupancy) <= 1e-13
        carried = flow.node_sums(occupancy)[flow.pair_node] > 1e-12
        np.testing.assert_allclose(flow.conditional(occupancy)[carried], policy[carried], atol=1e-9)
        assert flow.is_occupancy(occupancy, flow.missed(occupancy))
        assert flow.interior().min() > 0


@pytest.mark.parametrize("seed", range(10))
def test_an_unrolled_flow_is_small_or_large_alike(seed: int) -> None:
    mdp = envs.garnet(20, 3, 3, seed=seed)
    flow = Flow.unrolled(mdp, np.ones((30, 20, 3), dtype=bool))
    small = Flow.unrolled(mdp, np.ones((3, 20, 3), dtype=bool))
    for each in (flow, small):
        policy = random_policy(each, seed)
        np.testing.assert_allclose(
            each.occupancy(policy), each.pick(occupancy_of(mdp, each.spread(policy))), rtol=1e-12, atol=1e-300
        )
    assert flow.pairs.size * flow.nodes.size > FEW_AHEAD > small.pairs.size * small.nodes.size


@pytest.mark.parametrize("seed", range(10))
def test_the_optimum_is_better_than_any_policy_and_its_rows_are_tight(seed: int) -> None:
    for flow in flows(seed):
        rewards = np.random.default_rng(seed).standard_normal(flow.pairs.size)
        best = optimum(flow, rewards)
        error = rewards - flow.matrix.T @ best.value
        gain = best.gain[flow.pair_node] if flow.averages else 0.0
        assert (error - gain).max() <= 1e-9
        np.testing.assert_allclose((error - gain)[best.greedy > 0], 0.0, atol=1e-9)
        scored = rewards @ flow.occupancy(best.greedy, (best.gain >= best.gain.max() - 1e-12).astype(float))
        for other in range(20):
            assert rewards @ flow.occupancy(random_policy(flow, other)) <= scored + 1e-9


def test_a_part_of_a_flow_holds_the_pairs_that_are_left() -> None:
    mdp = MDP(np.eye(3)[[[0, 1], [2, 2], [2, 0]]], np.zeros((3, 2)), 0.9, mu0=[1.0, 0.0, 0.0])
    whole = Flow.of(mdp, np.ones(6, dtype=bool))
    assert whole is not None
    stays = whole.within(whole.pairs != 1)
    assert stays is not None
    assert stays.pairs.tolist() == [0]
    assert whole.within(whole.pairs > 1) is None
    unrolled = Flow.unrolled(mdp, np.ones((2, 3, 2), dtype=bool))
    assert unrolled.pairs.tolist() == [0, 1, 6, 7, 8, 9]
    onwards = unrolled.within(unrolled.pairs != 0)
    assert onwards is not None
    assert onwards.pairs.tolist() == [1, 8, 9]


def test_flows_are_values() -> None:
    for flow in flows(0):
        assert pickle.loads(pickle.dumps(flow)) == flow
        assert flow.spread_nodes(np.ones(flow.nodes.size)).shape == flow.shape[:-1]
        np.testing.assert_array_equal(flow.pick(flow.spread(np.arange(1.0, flow.pairs.size + 1))) > 0, True)
    with pytest.raises(AttributeError, match="make another"):
        flow.horizon = 3  # type: ignore[misc]


def test_a_loop_over_eight_sets_of_actions_finds_each_flow_again() -> None:
    mdp = envs.garnet(8, 2, 2, seed=0)
    closed = np.ones((8, *mdp.rewards.shape), dtype=bool)
    closed[range(8), range(8), 0] = False
    first, again = ([Flow.of(mdp, allowed.ravel()) for allowed in closed] for _ in range(2))
    assert all(one is other for one, other in zip(first, again, strict=True))
