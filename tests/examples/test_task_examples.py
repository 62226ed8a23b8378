"""The examples that learn a task with the improvement loop learn it, on a budget of seconds, and draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import envs
from examples import puddle_pixels, pushing, reaching


def test_reaching(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curves, seconds = reaching.main(n_trials=1, n_iterations=8, n_evaluated=10, plot=tmp_path / "arm.png")
    assert curves.shape == (1, 9)
    assert curves[0, -1] > curves[0, 0] + 0.5
    assert np.all(curves < reaching.OPTIMUM)
    assert seconds[0] > 0
    assert "published" in capsys.readouterr().out
    assert (tmp_path / "arm.png").stat().st_size > 10_000


def test_the_expected_reward_is_that_of_restarts() -> None:
    """At rest the tip stays at (0, 2): every step costs the distance, whenever the restart comes."""
    assert reaching.reward(lambda state, rng: np.zeros(2), 2) == pytest.approx(-4.25, rel=5e-3)
    assert puddle_pixels.reward(lambda state, rng: np.zeros(2), 2) == pytest.approx(-10.0, rel=1e-2)


def test_pushing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curves, _ = pushing.main(n_trials=1, n_iterations=4, n_evaluated=20, plot=tmp_path / "push.png")
    assert curves[0, -1] > curves[0, 0] + 0.01
    assert "by hand" in capsys.readouterr().out
    assert (tmp_path / "push.png").stat().st_size > 10_000


def test_the_handwritten_pusher_brings_the_disc_home() -> None:
    reward, distance = pushing.score(envs.Pushing(), pushing.by_hand, 10)
    assert distance < 0.01
    assert reward > 0.5 * pushing.score(envs.Pushing(), lambda state, rng: np.zeros(2), 10)[0]


def test_puddle_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curves, _ = puddle_pixels.main(n_trials=1, n_iterations=3, n_evaluated=5, first=100, plot=tmp_path / "puddle.png")
    assert curves[0, -1] > curves[0, 0] + 0.5
    assert np.all(curves < puddle_pixels.OPTIMUM + 0.1)
    assert "value iteration" in capsys.readouterr().out
    assert (tmp_path / "puddle.png").stat().st_size > 10_000
