"""Every example runs, on a budget that a test can afford, and says what it promises."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> Any:
    """The ``main`` of an example."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


def test_solve_frozenlake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solution = example("solve_frozenlake")(plot=str(tmp_path / "lake.png"))
    printed = capsys.readouterr().out
    assert solution.certificate.ok(1e-8)
    for word in ("eta", "gap", "dual objective", "S←", "explicitly in CVXPY: certified"):
        assert word in printed
    assert (tmp_path / "lake.png").stat().st_size > 10_000


def test_inspect_duals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solutions = example("inspect_duals")(epsilons=np.geomspace(1e-3, 10, 7), plot=str(tmp_path / "duals.png"))
    etas = [solution.eta for solution in solutions]
    assert etas == sorted(etas, reverse=True)
    assert etas[-1] == 0.0
    assert all(solution.certificate.ok(1e-8) for solution in solutions)
    assert "the ball is slack" in capsys.readouterr().out
    assert (tmp_path / "duals.png").stat().st_size > 10_000


def test_constrained_mdp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "budgets.png"
    budgets, answers = example("constrained_mdp")(size=4, n_budgets=5, path=path)
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
