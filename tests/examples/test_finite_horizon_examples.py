"""The examples on layered and time-indexed flows run, say what they promise, and draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.mark.slow
def test_adversarial_mdp(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "regret.png"
    slopes = example("adversarial_mdp").main(episodes=[50, 200, 800], n_seeds=4, plot=str(plot))
    assert slopes["full"].shape == (2,)
    for feedback in ("full", "bandit"):
        assert 0.3 < slopes[feedback][-1] < 1.0
    assert plot.stat().st_size > 10_000
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()[:1].isdigit()]
    rows = [row for row in rows if len(row) == 8]
    assert [int(row[0]) for row in rows] == 2 * [50, 200, 800]
    for row in rows:
        _, seeds, mean, _, worst, bound, gap, _ = map(float, row)
        assert seeds == 4
        assert 0 < mean <= worst < bound
        assert gap < 1e-9


def test_bounds_exact(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bounds_exact = example("bounds_exact")
    cases = {name: bounds_exact.CASES[name] for name in ("single chain",)}
    monkeypatch.setattr(bounds_exact, "CASES", cases)
    curves = bounds_exact.main(epsilons=(0.5,), n_updates=4, plot=str(tmp_path / "bounds.png"))
    assert (tmp_path / "bounds.png").stat().st_size > 10_000
    for share in curves.values():
        assert share[-1] > 0.95
        assert (np.diff(share) >= -1e-6).all()
    first = {row[1]: row for row in map(str.split, capsys.readouterr().out.splitlines()) if row and row[0] == "0.5"}
    for bound in ("shared", "per_step", "trajectory"):
        assert float(first[bound][2]) == pytest.approx(float(first[bound][3]), abs=2e-4)
    assert abs(float(first["trpo"][2]) - float(first["trpo"][3])) > 1.0  # a surrogate is not the gain


def test_bounds_linear(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, plot = example("bounds_linear"), tmp_path / "bounds.png"
    shares = module.main(n_seeds=2, n_updates=4, epsilons=[0.5], plot=str(plot))
    for share in shares.values():
        assert share.shape == (2, 5)
        assert np.all(share[:, -1] > 0.9)
        assert np.all(share <= 1 + 1e-9)
    rows = {line[8:13]: line.split() for line in capsys.readouterr().out.splitlines() if line[4:7] == "0.5"}
    promised = {bound: float(row[4]) / float(row[5]) for bound, row in rows.items()}
    assert promised["joint"] == pytest.approx(1.0, abs=0.15)
    assert promised["polic"] > 3  # a surrogate is not the gain
    assert plot.stat().st_size > 10_000
