"""Figures say what is so: numbers where a decision is taken, ticks where something is counted, digits that differ."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from reps_opt import plotting


@pytest.fixture
def axis():
    figure, axis = plt.subplots()
    yield axis
    plt.close(figure)


def test_terminal_cells_are_hatched_and_have_a_letter_but_no_value(axis):
    values, terminal = np.array([0.1, 0.2, 0.3, -0.62]), np.array([False, False, False, True])
    plotting.states(axis, values, "V", layout=("SF", "FG"), terminal=terminal)
    assert [text.get_text() for text in axis.texts] == ["S", "0.1", "F", "0.2", "F", "0.3", "G", ""]
    assert [patch.get_hatch() for patch in axis.patches] == ["///"]
    assert axis.images[0].get_clim() == (0.1, 0.3)


def test_numbers_that_are_close_differ_where_their_colours_do():
    assert plotting.short_numbers(np.array([-97.6, -96.0, np.nan])) == ["-97.6", "-96", ""]
    assert plotting.short_numbers(np.array([0.276, 0.0712, 1e-20])) == ["0.28", "0.071", "0"]
    assert plotting.short_numbers(np.full(2, 97.123)) == ["97", "97"]


def test_counted_things_have_ticks_at_integers(axis):
    plotting.curves(axis, np.arange(3), {"gain": [1.0, 2.0, 0.5]}, "gain", "update")
    assert np.array_equal(axis.get_xticks(), np.round(axis.get_xticks()))


def test_zeros_stand_at_the_foot_of_a_logarithmic_axis(axis):
    plotting.curves(axis, np.arange(3), {"gap": [1.0, 1e-5, 0.0]}, "gap", logarithmic=True)
    assert axis.get_ylim()[0] == 0.0
    assert np.array_equal(axis.lines[0].get_ydata(), [1.0, 1e-5, 0.0])
    assert axis.yaxis.get_transform().transform(np.zeros(1)) == 0.0
