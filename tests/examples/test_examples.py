"""Every example runs, on a budget that a test can afford, and says what it promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


def test_solve_frozenlake(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solution = example("solve_frozenlake").main(plot=str(tmp_path / "lake.png"))
    printed = capsys.readouterr().out
    assert solution.certificate.ok(1e-8)
    for word in ("eta", "gap", "dual objective", "S←", "explicitly in CVXPY: certified"):
        assert word in printed
    assert (tmp_path / "lake.png").stat().st_size > 10_000


def test_inspect_duals(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    radii = np.geomspace(1e-3, 10, 7).tolist()
    solutions = example("inspect_duals").main(epsilons=radii, plot=str(tmp_path / "duals.png"))
    etas = [solution.eta for solution in solutions]
    assert etas == sorted(etas, reverse=True)
    assert etas[-1] == 0.0
    assert all(solution.certificate.ok(1e-8) for solution in solutions)
    assert "the ball is slack" in capsys.readouterr().out
    assert (tmp_path / "duals.png").stat().st_size > 10_000


def test_constrained_mdp(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "budgets.png"
    budgets, answers = example("constrained_mdp").main(size=4, n_budgets=5, plot=path)
    for solutions in answers.values():
        # the tightest budget may be out of the ball's reach, and is then said to be
        assert all(s.certificate.ok(1e-8) or s.epsilon_min > 0.5 for s in solutions)
        assert all(s.has_point for s in solutions[1:])
        prices = [s.nu[0] for s in solutions if s.has_point]
        assert np.all(np.diff(prices) <= 1e-9)  # the optimum is concave in the budget
        assert prices[0] > 0
        assert prices[-1] == 0
        assert all(s.expected_costs[0] <= d + 1e-9 for s, d in zip(solutions, budgets, strict=True) if s.has_point)
    assert "must be allowed" in capsys.readouterr().out
    assert path.stat().st_size > 10_000


def test_covariant_steps(example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = example("covariant_steps").main(n_seeds=4)
    np.testing.assert_allclose(found["natural"], found["natural"][0], rtol=1e-6)
    assert found["Euclidean"].max() > 1.5 * found["Euclidean"].min()
    assert np.all(found["angles"][:, 0] >= found["angles"][:, 1] * (1 - 1e-6))
    assert "lower bound" in capsys.readouterr().out


def test_covariant_paths(example: Any, tmp_path: Path) -> None:
    paths = example("covariant_paths").main(n_steps=20, plot=str(tmp_path / "paths.png"))
    np.testing.assert_allclose(paths["natural", "logits"], paths["natural", "first logit x 30"], rtol=1e-6)
    assert not np.allclose(paths["Euclidean", "logits"], paths["Euclidean", "first logit x 30"][:21], atol=0.1)
    assert (tmp_path / "paths.png").stat().st_size > 10_000


def test_nac_lqr(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curves = example("nac_lqr").main(n_seeds=2, n_epochs=6, plot=str(tmp_path / "lqr.png"))
    assert np.all(curves["eNAC"][:, -1] > -1.40)  # the optimum is -1.3141
    assert np.all(curves["eNAC"][:, -1] > curves["GPOMDP"][:, -1])
    assert np.all(curves["eNAC"] <= -1.3141 + 1e-3)
    assert "optimum -1.3141" in capsys.readouterr().out
    assert (tmp_path / "lqr.png").stat().st_size > 10_000


@pytest.fixture
def first_and_last(example: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """The module of an example, whose runs are scored at their first and last update alone: most of their time."""
    pytest.importorskip("torch")
    monkeypatch.setattr(example("trpo_learning"), "POINTS", 2)
    return example


def test_trpo_cartpole(first_and_last: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curves = first_and_last("trpo_cartpole").main(n_seeds=1, n_steps=10_000, plot=str(tmp_path / "pole.png"))
    assert curves[0, -1, 1] > 83  # mature TRPO at as many steps
    printed = capsys.readouterr().out
    assert "mature TRPO" in printed
    assert "kl 0.0" in printed
    assert (tmp_path / "pole.png").stat().st_size > 10_000


def test_trpo_pendulum(first_and_last: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curves = first_and_last("trpo_pendulum").main(n_seeds=1, n_steps=10_000, plot=str(tmp_path / "pendulum.png"))
    assert curves[0, -1, 1] > -1213  # mature TRPO at as many steps
    assert curves[0, -1, 1] > curves[0, 0, 1] + 100
    assert "mature TRPO" in capsys.readouterr().out
    assert (tmp_path / "pendulum.png").stat().st_size > 10_000


def test_bounds(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shares = example("bounds").main(n_seeds=2, n_updates=3, plot=str(tmp_path / "bounds.png"))
    for (name, epsilon, label), share in shares.items():
        assert share.shape == (2, 4)
        np.testing.assert_allclose(share[:, 0], 0.0, atol=1e-12)
        assert np.all(share <= 1 + 1e-9)
        if name == "garnet":  # rewards everywhere: both learn
            assert share[:, -1].min() > 0.4, (epsilon, label)
    joint = shares["single chain", 0.5, "joint bound (REPS)"]
    assert joint[:, 1].min() > 0.1
    assert "predicted" in capsys.readouterr().out
    assert (tmp_path / "bounds.png").stat().st_size > 10_000


def test_safe_grid(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curves = example("safe_grid").main(n_seeds=1, n_updates=30, plot=str(tmp_path / "safe.png"))
    assert curves["TRPO"][0, -1, 1] > 1.5  # of what the short way costs
    assert curves["CPO"][0, -10:, 1].mean() < 0.6  # the budget is 0.5
    assert curves["CPO"][0, -1, 0] > 0.55  # the optimum within the budget is 0.6572
    assert "0.6572" in capsys.readouterr().out
    assert (tmp_path / "safe.png").stat().st_size > 10_000
