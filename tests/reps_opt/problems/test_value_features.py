"""Features of values that suit a batch: which kind, how many, how wide, and how cheap their ridge is."""

from __future__ import annotations

import numpy as np
import pytest

from reps_opt import Batch
from reps_opt.problems.value_features import value_features


def walk(n: int, d: int, n_episodes: int = 1) -> Batch:
    """Steps of normal states, their first column the reward, in episodes of one length."""
    states = np.random.default_rng(0).normal(size=(n + 1, d))
    ends = np.arange(1, n + 1) % (n // n_episodes) == 0
    return Batch(states[:-1], np.zeros(n), states[:-1, 0], states[1:], truncated=ends)


@pytest.mark.parametrize(("n_values", "kind"), [(500, "indicators"), (501, "waves")])
def test_each_of_few_discrete_values_has_a_feature_of_its_own(n_values: int, kind: str) -> None:
    states = np.arange(n_values)
    batch = Batch(states, 0 * states, states / n_values, np.roll(states, 1))
    assert value_features(batch, gamma=0.9).kind == kind


@pytest.mark.parametrize(("n", "count"), [(80, 20), (800, 100), (4000, 250)])
def test_there_is_a_wave_for_eight_transitions_within_bounds(n: int, count: int) -> None:
    assert value_features(walk(n, 2), gamma=0.9).n_features == count


@pytest.mark.parametrize(("columns", "dimensions"), [(2, 2), (30, 30), (31, 10)])
def test_waves_are_half_a_deviation_wide_and_see_the_main_components_of_many_columns(
    columns: int, dimensions: int
) -> None:
    features = value_features(walk(80, columns), gamma=0.9)
    assert features.width == pytest.approx(0.5 * np.sqrt(dimensions / 2))


@pytest.mark.parametrize("gamma", [0.5, 0.98])
def test_the_ridge_costs_next_to_nothing_of_values_of_the_rewards_size(gamma: float) -> None:
    batch = walk(80, 2)
    spread = batch.rewards.std()
    price = value_features(batch, gamma=gamma).ridge * (spread / (1 - gamma)) ** 2 / 2
    assert 0 < price < 2e-4 * spread
