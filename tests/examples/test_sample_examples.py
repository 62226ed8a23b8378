"""The sample examples and benchmarks run, with a budget of seconds."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_samples_to_weights(example, tmp_path, capsys):
    solutions = example("samples_to_weights").main(400, str(tmp_path / "figure.png"))
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    sizes = [s.ess for s in solutions.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert all(s.status == "certified" for s in solutions.values())
    assert "ESS" in capsys.readouterr().out


def test_episodic_reps(example, capsys):
    results = example("episodic_reps").main(100, 30, 2, plot=None)
    for task in ("Rosenbrock-10D", "cart"):
        runs = results[task, "episodic REPS"]
        assert np.median(runs[:, -1]) > np.median(results[task, "cross-entropy"][:, -1])
    assert "Rosenbrock" in capsys.readouterr().out


def test_sample_dual_benchmark(capsys):
    load("tests/benchmarks/sample_dual.py").main([(500, 3)], [0.5], scales=[1.0])
    assert "L-BFGS-B" in capsys.readouterr().out


def test_out_of_core_benchmark(tmp_path, capsys):
    pytest.importorskip("dask")
    load("tests/benchmarks/out_of_core.py").main(tmp_path / "rows.bin", 250_000 // 50)
    assert "certified" in capsys.readouterr().out
