"""The lecture's examples run on a small budget, and say the numbers that they are about."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import envs
from reps_opt import ExactPolicyGradient, iterate


def drawn(path: Path) -> bool:
    return path.stat().st_size > 10_000


def test_small_policy_kl_large_state_kl(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "chain.png"
    steps = example("small_policy_kl_large_state_kl").main(n_grid=5, plot=str(plot))
    hardly, trpo, joint = (steps[name] for name in ("p = .51", "TRPO", "joint KL"))
    assert hardly.kl_new_old == pytest.approx(2.0e-4, abs=5e-6)
    assert hardly.state_kl == pytest.approx(0.486, abs=5e-4)
    assert trpo.old_return == pytest.approx(0.1985, abs=5e-5)
    assert trpo.kl_old_new == pytest.approx(5e-4, rel=1e-3)
    assert trpo.surrogate == pytest.approx(0.188, abs=5e-4)
    assert trpo.gain == pytest.approx(-0.046, abs=5e-4)
    assert joint.joint_kl == pytest.approx(0.05, abs=1e-9)
    assert joint.new_return == pytest.approx(0.2234, abs=5e-5)
    printed = capsys.readouterr().out
    assert "right half has mass 0.88" in printed
    assert "+0.188, gain -0.046" in printed
    assert drawn(plot)


def test_larger_steps(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "steps.png"
    table = example("larger_steps").main(n_curve=4, plot=str(plot))
    for epsilon, expected in {0.01: 1.494, 0.1: 2.147, 1.0: 5.085, 2.0: 7.168}.items():
        row = table[epsilon]
        assert row["REPS"] == pytest.approx(expected, abs=5e-4)
        assert row["REPS predicts"] == pytest.approx(row["REPS"], abs=1e-6)
        assert row["TRPO predicts"] < 2.415
        assert row["policy KL of REPS"] < epsilon
        assert row["REPS at that KL"] >= row["TRPO"] - 1e-6
    assert table[0.01]["REPS"] < table[0.01]["TRPO"]
    assert table[2.0]["REPS"] > 3 * table[2.0]["TRPO"]
    assert "1.255, of the best 8.145" in capsys.readouterr().out
    assert drawn(plot)


def test_plateau(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "plateau.png"
    needed = example("plateau").main(n_plain=1000, plot=str(plot))
    assert needed["natural gradient, step 1"] == 5
    assert needed["REPS, epsilon .1"] == 7
    assert needed["plain gradient, step 1"] > 1e6
    assert "passes 1.9 after 7 updates" in capsys.readouterr().out
    assert drawn(plot)


def test_plateau_takes_the_steps_of_the_plain_gradient(example: Any) -> None:
    """The example's two numbers against the update on the table, step by step; its flow against small steps."""
    plateau = example("plateau")
    mdp = envs.two_state(gamma=1.0)
    start = [[0.76, 0.24], [0.96, 0.04]]
    for step in iterate(mdp, start, lambda policy: ExactPolicyGradient(mdp, policy, step_size=1.0), 50):
        x, y = plateau.plain_steps(step.index)
        np.testing.assert_allclose(np.diag(step.policy), [1 / (1 + math.exp(-x)), 1 / (1 + math.exp(-y))], rtol=1e-10)
        assert plateau.plain(x, y)[0] == pytest.approx(step.comparison.new_return, rel=1e-12)
    clock, means = plateau.plain_flow()
    x, y = plateau.plain_steps(20_000, 1e-3)
    assert plateau.plain(x, y)[0] == pytest.approx(float(np.interp(20.0, clock, means)), abs=1e-3)
