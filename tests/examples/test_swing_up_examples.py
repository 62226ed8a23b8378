"""The swing-up examples learn, draw and report, with a budget of seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swing_up_gp", "swing_up_pixels"])
def test_swing_up(name: str, example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "up.png"
    (trial,) = example(name).main(n_trials=1, n_iterations=2, n_evaluated=3, plot=str(plot))
    assert trial.curve.shape == (3,)
    assert trial.seconds > 0
    assert trial.curve[-1] > trial.curve[0] + 10  # two updates take a third of the way
    assert plot.stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "published" in printed
    assert "s of CPU" in printed


def test_random_actions_have_the_noise_they_say(example: Any) -> None:
    module = example("swing_up_gp")
    policy = example("harness").random_actions(module.envs.SwingUp(), module.START_STD)
    mean, std = policy.predict(np.ones((1, 2)), return_std=True)
    np.testing.assert_allclose(mean, 0.0, atol=1e-12)
    np.testing.assert_allclose(std, module.START_STD)


def test_value_iteration_finds_the_best_swing(example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = example("best_possible").main(fineness=61, n_episodes=10)
    assert found["swing-up"] == pytest.approx(-19.8, abs=2.0)  # -19.86 on a grid four times as fine
    assert found["puddle world"] == pytest.approx(-5.72, abs=0.1)
    assert "planned" in capsys.readouterr().out


def test_interpolation_gives_back_a_bilinear_function(example: Any) -> None:
    grid = np.linspace(0, 1, 5), np.linspace(-2, 2, 9)
    values = 1 + 2 * grid[0][:, None] - grid[1] + 3 * grid[0][:, None] * grid[1]
    x, y = np.random.default_rng(0).uniform((0, -2), (1, 2), size=(20, 2)).T
    found = example("best_possible").corners(grid, np.column_stack([x, y])) @ values.ravel()
    np.testing.assert_allclose(found, 1 + 2 * x - y + 3 * x * y, rtol=1e-12)
