"""The swing-up examples learn, draw and report, with a budget of seconds."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import an example by name, as running it as a script would."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


@pytest.mark.parametrize("name", ["swing_up_gp", "swing_up_pixels"])
def test_swing_up(name: str, example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curves, seconds = example(name).main(n_trials=1, n_iterations=3, n_evaluated=40, plot=str(tmp_path / "up.png"))
    assert curves.shape == (1, 4)
    assert seconds.shape == (1,)
    assert curves[0, -1] > curves[0, 0] + 10  # three updates take a third of the way
    assert (tmp_path / "up.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "published" in printed
    assert "s of CPU" in printed


def test_swing_up_starts_from_the_noise_it_says(example: Any) -> None:
    module = example("swing_up_gp")
    policy = module.start_policy(module.envs.SwingUp())
    mean, std = policy.predict(np.ones((1, 2)), return_std=True)
    np.testing.assert_allclose(mean, 0.0, atol=1e-12)
    np.testing.assert_allclose(std, module.START_STD)
