"""BLAS threads: limited while anybody is inside, restored when the last leaves."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
import scipy.linalg  # noqa: F401  brings a BLAS of its own
from threadpoolctl import threadpool_info, threadpool_limits

import envs
from policies import GaussianProcessPolicy, NeuralPolicy, RBFPolicy
from reps_opt import REPS, Program, SampleREPS, solve
from reps_opt.rows import ArrayRows
from reps_opt.solvers import Newton
from reps_opt.solvers.answer import Answer
from reps_opt.threads import in_parallel, limited


def counts() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_limits_nest_and_are_restored() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = counts()
        with limited():
            with limited():
                assert set(counts()) == {1}
            assert set(counts()) == {1}
        assert counts() == before


def test_limits_are_restored_after_an_error() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = counts()
        try:
            with limited():
                raise KeyError("within")
        except KeyError:
            pass
        assert counts() == before


def test_the_last_thread_to_leave_restores() -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with limited():
            inside.set()
            leave.wait(10)

    with threadpool_limits(2, user_api="blas"):
        before = counts()
        with limited():
            worker = threading.Thread(target=other)
            worker.start()
            assert inside.wait(10)
        assert set(counts()) == {1}
        leave.set()
        worker.join()
        assert counts() == before


def test_products_are_the_same_bit_for_bit() -> None:
    A = np.random.default_rng(0).normal(size=(300, 300))
    answers = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"), limited():
            answers.append(A @ A.T)
    assert np.array_equal(*answers)


def test_a_route_and_its_judge_work_on_one_thread() -> None:
    seen = []

    class Watched:
        def solve(self, program: Program) -> Answer:
            seen.append(counts())
            return Newton().solve(program)

    mdp = envs.single_chain()
    problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), epsilon=0.5)
    with threadpool_limits(2, user_api="blas"):
        before = counts()
        assert solve(problem, Watched()).status == "certified"
        assert counts() == before
    assert [set(found) for found in seen] == [{1}]


def test_a_solve_is_on_one_thread_from_looking_at_its_samples_on(monkeypatch) -> None:
    seen, qr = [], np.linalg.qr

    def watched(matrix, mode):
        seen.append(set(counts()))
        return qr(matrix, mode)

    monkeypatch.setattr(np.linalg, "qr", watched)
    rng = np.random.default_rng(0)
    with threadpool_limits(2, user_api="blas"):
        solve(SampleREPS(rng.normal(size=2_000), rng.normal(size=(2_000, 5))))
    assert seen
    assert all(found == {1} for found in seen)


def test_passes_on_several_threads_are_those_of_one_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    X, weights, theta = rng.normal(size=(60_000, 40)), rng.random(60_000), rng.normal(size=40)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            rows = ArrayRows(X)
            tilted = rows.tilt(theta, weights, -weights, 0.7)
            found.append([rows.gram(weights), rows.spread(theta, weights, 0.1), tilted.total, tilted.point])
    for one, two in zip(*found, strict=True):
        assert np.array_equal(one, two)
    np.testing.assert_allclose(found[0][0], (X * weights[:, None]).T @ X, rtol=1e-9, atol=1e-8)


SAMPLES = 30_000
"""So many that a sum of products by BLAS is taken by all its threads, each of some samples."""


def solution_readings() -> dict[str, object]:
    rng = np.random.default_rng(0)
    rewards, psi = rng.normal(size=SAMPLES), rng.normal(size=(SAMPLES, 5))
    solution = solve(SampleREPS(rewards, psi, base_weights=rng.random(SAMPLES), epsilon=0.5))
    names = ("ess", "predicted_gain", "predicted_gain_error", "flow_offset", "flow_offset_error", "epsilon_min")
    readings = {name: getattr(solution, name) for name in names}
    return readings | {"weights": solution.weights(), "divergences": solution.divergences, "theta": solution.theta}


def policy_readings() -> dict[str, object]:
    rng = np.random.default_rng(0)
    states, weights = rng.normal(size=(SAMPLES, 3)), rng.random(SAMPLES)
    actions = np.sin(states[:, :1]) + 0.1 * rng.normal(size=(SAMPLES, 1))
    process = GaussianProcessPolicy(n_inducing=20, max_iter=1, random_state=0).fit(states, actions, weights)
    bumps = RBFPolicy(n_features=20, random_state=0).fit(states, actions, weights)
    network = NeuralPolicy(hidden=(8,), max_iter=1, random_state=0).fit(states, actions, weights)
    return {
        "Gaussian process": process.predict(states[:500]),
        "bumps": bumps.predict(states[:500]),
        "network": network.predict(states),
        "gradient": network.score_product(states, actions, weights),
    }


@pytest.mark.parametrize("readings", [solution_readings, policy_readings])
def test_readings_are_the_same_bit_for_bit(readings) -> None:
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(readings())
    for name, one in found[0].items():
        assert np.array_equal(one, found[1][name]), name


def test_a_warning_is_looked_for_on_one_thread(monkeypatch) -> None:
    seen, look = [], SampleREPS.warn

    def watched(problem, solution):
        seen.append(set(counts()))
        return look(problem, solution)

    monkeypatch.setattr(SampleREPS, "warn", watched)
    with threadpool_limits(2, user_api="blas"):
        solve(SampleREPS(np.arange(4.0), np.eye(4)[:, :1] - 0.25, epsilon=0.1))
    assert seen == [{1}]


def test_parts_are_worked_on_at_once_and_not_within_one_another() -> None:
    together = threading.Barrier(2, timeout=10)

    def work(part: int) -> tuple[int, list[int], set[str]]:
        together.wait()  # nobody passes alone
        inner = in_parallel(lambda x: threading.current_thread().name, range(3))
        return part, counts(), set(inner) - {threading.current_thread().name}

    with threadpool_limits(2, user_api="blas"):
        assert list(in_parallel(work, [3, 4])) == [(3, [1] * len(counts()), set()), (4, [1] * len(counts()), set())]


def test_a_fork_has_threads_of_its_own() -> None:
    script = """
import multiprocessing, threadpoolctl
from reps_opt.threads import in_parallel

def squares(queue=None):
    found = list(in_parallel(lambda x: x * x, range(5)))
    return found if queue is None else queue.put(found)

with threadpoolctl.threadpool_limits(2, user_api="blas"):
    squares()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=squares, args=(queue,))
    child.start()
    print(queue.get(timeout=20))
    child.join()
"""
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert told.stdout.strip() == "[0, 1, 4, 9, 16]"


def test_torch_is_limited_where_it_is_loaded() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with limited():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
