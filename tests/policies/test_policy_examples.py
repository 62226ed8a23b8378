"""The examples run on a small budget, write their figure, and reach what they claim."""

import runpy
from pathlib import Path

import matplotlib as mpl
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def headless():
    mpl.use("agg")


def run(name, tmp_path, n_samples):
    plot = tmp_path / "figure.png"
    answer = runpy.run_path(str(EXAMPLES / name))["main"](n_samples=n_samples, plot=str(plot))
    assert plot.stat().st_size > 10_000
    return answer


def test_fit_gp_controller(tmp_path, capsys):
    divergences = run("fit_gp_controller.py", tmp_path, 200)
    assert divergences["Gaussian process"] < 0.1 < divergences["linear"]
    assert "effective sample size" in capsys.readouterr().out


def test_gp_from_images(tmp_path, capsys):
    errors = run("gp_from_images.py", tmp_path, 200)
    assert max(errors["GP, tied length-scale"], errors["GP on components"]) < 0.5 * errors["linear on components"]
    assert "RMS error" in capsys.readouterr().out
