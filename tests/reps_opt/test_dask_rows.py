"""The same oracle over dask arrays, on threads and on a local cluster."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from reps_opt import SampleREPS, Status, progress, solve
from reps_opt.rows import ArrayRows

da = pytest.importorskip("dask.array")
from reps_opt.dask_rows import DaskRows  # noqa: E402


def draw(n=3000, d=6):
    rng = np.random.default_rng(0)
    psi = rng.normal(size=(n, d))
    return psi[:, 0] + rng.normal(size=n), psi


def test_every_pass_equals_the_one_in_memory():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(100, 3))
    theta, w, kept = rng.normal(size=3), rng.uniform(size=100), np.array([0, 7, 50, 51, 99])
    memory, lazy = ArrayRows(x), DaskRows(da.from_array(x, chunks=(33, 2)))
    for rows in (memory, lazy):
        rows.passes = rows.grams = 0
    assert lazy @ theta == pytest.approx(x @ theta)
    assert lazy.T @ w == pytest.approx(w @ x)
    assert lazy.spread(theta, w, 0.3) == pytest.approx((w * (x @ theta - 0.3)) @ x)
    assert lazy.gram(w) == pytest.approx((x.T * w) @ x)
    assert (lazy.passes, lazy.grams) == (2.0, 1.0)
    assert lazy.take(kept) == pytest.approx(x[kept])
    assert lazy.squared_lengths(np.eye(3)) == pytest.approx((x**2).sum(axis=1))
    assert np.abs(lazy.triangle()) == pytest.approx(np.abs(memory.triangle()))
    assert lazy.scaled(np.array([1, 2, 3.0])).array == pytest.approx(x * [1, 2, 3])
    assert lazy.combined(np.ones((3, 1))).array == pytest.approx(x.sum(axis=1, keepdims=True))
    for one, other in zip(memory.summary(w / w.sum()), lazy.summary(w / w.sum()), strict=True):
        assert one == pytest.approx(other)


@pytest.mark.parametrize("make", [ArrayRows, lambda x: DaskRows(da.from_array(x, chunks=(40, -1)))])
def test_scaled_rows_are_the_rows_of_scaled_columns(make):
    rng = np.random.default_rng(3)
    x, theta, w = rng.normal(size=(100, 3)), rng.normal(size=3), rng.uniform(size=100)
    factors = np.array([-2.0, 1e-20, 30.0])
    view, copy = make(x).scaled(factors), ArrayRows(x * factors)
    assert type(view) is not type(make(x))
    assert view @ theta == pytest.approx(copy @ theta)
    assert view.T @ w == pytest.approx(copy.T @ w)
    assert view.spread(theta, w, 0.3) == pytest.approx(copy.spread(theta, w, 0.3))
    assert view.gram(w) == pytest.approx(copy.gram(w))
    assert view.squared_lengths(np.eye(3)) == pytest.approx(copy.squared_lengths(np.eye(3)))
    assert view.combined(np.eye(3)).array == pytest.approx(copy.array)
    assert view.scaled(factors).array == pytest.approx(x * factors**2)
    assert np.abs(view.triangle()) == pytest.approx(np.abs(copy.triangle()))
    for one, other in zip(view.summary(w), copy.summary(w), strict=True):
        assert one == pytest.approx(other)
    for one, other in zip(view.tilt(theta, w, w, 0.5), copy.tilt(theta, w, w, 0.5), strict=True):
        assert one == pytest.approx(other)
    tiny = make(x).scaled(np.array([1e-200, 1.0, 1e200]))
    assert type(tiny) is type(make(x))  # their squares are beyond double precision: better copied
    assert tiny.array == pytest.approx(x * [1e-200, 1.0, 1e200])


@pytest.mark.parametrize("spread", [1.0, 1e3], ids=["even", "blocks that vanish beside others"])
def test_one_pass_gives_the_softmax_and_its_totals(spread):
    rng = np.random.default_rng(2)
    x, theta = rng.normal(size=(100, 3)), rng.normal(size=3)
    offset = spread * np.sort(rng.normal(size=100))
    base = rng.uniform(size=100) / 50
    net = offset - x @ theta
    y = np.log(base) + net / 0.7
    w = np.exp(y - y.max())
    w /= w.sum()
    s = net / 0.7
    for rows in (ArrayRows(x), DaskRows(da.from_array(x, chunks=(13, -1)))):
        tilted = rows.tilt(theta, offset, np.log(base), 0.7)
        assert rows.passes == 1.0
        assert tilted.net == pytest.approx(net)
        assert tilted.point == pytest.approx(w, abs=1e-15)
        assert tilted.normaliser == pytest.approx(y.max() + np.log(np.exp(y - y.max()).sum()), rel=1e-14)
        assert tilted.total == pytest.approx(w @ x, abs=1e-14)
        assert tilted.coupling == pytest.approx((w * (s - w @ s)) @ x, abs=1e-12)
        assert rows.total(tilted.point) is tilted.total
        assert rows.passes == 1.0


def test_an_evaluation_of_the_dual_is_one_map_reduce(monkeypatch):
    r, psi = draw(500, 3)
    program = SampleREPS(r, da.from_array(psi, chunks=(100, -1))).program
    rounds = []
    fold = DaskRows._fold
    monkeypatch.setattr(DaskRows, "_fold", lambda *given: rounds.append(given[1].__name__) or fold(*given))
    point = program.dual(0.8, np.array([0.1, -0.2, 0.3]))
    assert rounds == ["tilted_block"]
    assert program.dual(0.8, np.array([0.1, -0.2, 0.3])) is point
    same = SampleREPS(r, psi).program
    net = same.net(point.multipliers)
    assert point.value == pytest.approx(0.8 * 0.5 + 0.8 * same.divergence.conjugate(net / 0.8).value)
    assert point.residual == pytest.approx(same.residual(same.divergence.conjugate(net / 0.8).point))


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_out_of_core_is_the_same_answer_for_the_same_passes(epsilon):
    r, psi = draw()
    ours = solve(SampleREPS(r, psi, epsilon))
    lazy = solve(SampleREPS(r, da.from_array(psi, chunks=(700, -1)), epsilon))
    assert lazy.status == Status.CERTIFIED
    assert lazy.weights("sum") == pytest.approx(ours.weights("sum"), abs=1e-12)
    assert lazy.theta == pytest.approx(ours.theta, abs=1e-9)
    assert lazy.stats["passes"] == ours.stats["passes"]
    assert lazy.stats["grams"] == ours.stats["grams"]


def test_dependent_columns_out_of_core():
    r, psi = draw(500, 3)
    twice = np.hstack([psi, psi])
    lazy = solve(SampleREPS(r, da.from_array(twice, chunks=(200, -1))))
    assert (lazy.status, lazy.rank) == (Status.CERTIFIED, 3)
    assert lazy.theta == pytest.approx(solve(SampleREPS(r, twice)).theta, abs=1e-8)


def test_bad_values_are_found_with_their_place():
    r, psi = draw(100, 2)
    psi[61, 1] = np.nan
    with pytest.raises(ValueError, match=r"feature_differences\[61\]\[1\] is nan"):
        SampleREPS(r, da.from_array(psi, chunks=(20, -1)))
    with pytest.raises(ValueError, match="must have shape"):
        SampleREPS(r[1:], da.from_array(psi, chunks=(20, -1)))


def test_a_long_pass_shows_its_progress_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    rows = DaskRows(da.from_array(np.ones((40, 2)), chunks=(10, -1)))
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(progress, "PATIENCE", 0.0)
        rows.gram(np.ones(40))
        assert ("pass over the rows" in stream.getvalue()) == shown


@pytest.mark.slow
def test_on_a_local_cluster():
    distributed = pytest.importorskip("distributed")
    r, psi = draw(800, 4)
    expected = solve(SampleREPS(r, psi)).weights("sum")
    quiet = {"dashboard_address": None, "n_workers": 2, "threads_per_worker": 1}
    with distributed.LocalCluster(host="127.0.0.1", **quiet) as cluster, distributed.Client(cluster):
        solution = solve(SampleREPS(r, da.from_array(psi, chunks=(200, -1))))
    assert solution.weights("sum") == pytest.approx(expected, abs=1e-12)
