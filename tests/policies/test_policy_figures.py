"""Figures of policies show the mean and the spread that the policy acts with."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from gymnasium import spaces

from policies import GaussianProcessPolicy, LinearGaussianPolicy, NeuralPolicy, load


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_the_line_is_the_mean_and_the_band_the_deviation():
    rng = np.random.default_rng(0)
    states = rng.uniform(-2, 2, (40, 2))
    policy = GaussianProcessPolicy().fit(states, np.sin(states[:, 1]) + 0.1 * rng.normal(size=40))
    axis = policy.plot(dimension=1, deviations=1.0)
    at, drawn = axis.lines[0].get_data()
    assert at[0] < states[:, 1].min() < states[:, 1].max() < at[-1]
    probe = np.column_stack([np.full(len(at), states[:, 0].mean()), at])
    mean, std = policy.predict(probe, return_std=True)
    np.testing.assert_allclose(drawn, mean)
    outline = axis.collections[0].get_paths()[0].vertices
    assert outline[:, 1].max() == pytest.approx((mean + std).max())
    assert outline[:, 1].min() == pytest.approx((mean - std).min())
    assert axis.get_xlabel() == "state[1], the others at their mean"


def test_several_actions_discrete_states_and_given_axes(tmp_path):
    actions = spaces.Box(-1, 1, (2,))
    start = NeuralPolicy.from_spaces(spaces.Discrete(5), actions, hidden=(3,))
    _, axis = plt.subplots()
    assert start.plot(ax=axis) is axis
    assert axis.lines[0].get_xdata().tolist() == [0, 1, 2, 3, 4]
    assert len(axis.lines) == len(axis.collections) == 2
    assert {line.get_linestyle() for line in axis.lines} == {"-", "--"}
    fitted = LinearGaussianPolicy().fit([[0.0], [1.0], [5.0]], [0.0, 1.0, 2.0])
    fitted.save(tmp_path / "policy")
    again = load(tmp_path / "policy")
    np.testing.assert_array_equal(again.plot().lines[0].get_data(), fitted.plot().lines[0].get_data())
    wide = fitted.plot(states=[[-10.0], [10.0]])
    assert wide.lines[0].get_xdata()[0] < -10
    with pytest.raises(ValueError, match="dimension must be below 1"):
        fitted.plot(dimension=1)
