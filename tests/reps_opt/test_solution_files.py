"""A saved solution comes back with its problem: equal, and answering the same questions."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import PolynomialFeatures

import envs
from reps_opt import (
    REPS,
    Ball,
    Batch,
    ConditionalREPS,
    EpisodicREPS,
    Equal,
    ExactNaturalGradient,
    ExactPolicyGradient,
    ExactTRPO,
    Factor,
    FiniteHorizonREPS,
    Identity,
    LinearProgram,
    ORePS,
    Product,
    Program,
    SampleREPS,
    Solution,
    TrustRegionStep,
    solve,
    surrogate_step,
)
from reps_opt.divergences import KL, Alpha, ChiSquare, ConditionalKL, Quadratic, ReverseKL
from reps_opt.problems.occupancy_solution import OccupancySolution
from reps_opt.problems.sample_solution import SampleSolution

RNG = np.random.default_rng(0)
CHAIN = envs.single_chain().replace(state_labels=list("abcde"), action_labels=[("dx", 1), 0])
UNIFORM = CHAIN.uniform_policy()
Q = CHAIN.occupancy(UNIFORM)
TRAP = np.eye(5, 2)
RETURNS, FEATURES = RNG.normal(size=40), RNG.normal(size=(40, 2))
BATCH = Batch(RNG.normal(size=(40, 1)), np.zeros(40, dtype=int), RETURNS, RNG.normal(size=(40, 1)))
LAYERED = envs.layered((1, 2, 2), n_actions=2, seed=0)


def horizon(ball: str) -> Solution:
    return solve(FiniteHorizonREPS(CHAIN, UNIFORM, 3, 0.1, ball=ball))


def program(divergence: object, size: float = 0.1) -> Solution:
    rows = {"mean": Equal(np.arange(4.0)[None], [1.4])}
    return solve(Program(np.array([0.0, 2.0, 1.0, 3.0]), rows, Ball(divergence, radius=size)))


def online_step() -> Solution:
    return solve(ORePS(LAYERED.mdp, 2, n_episodes=5).step(LAYERED.losses(1, seed=1)[0]))


SOLUTIONS: dict[str, Callable[[], Solution]] = {
    "REPS": lambda: solve(REPS(CHAIN, Q, 0.5)),
    "REPS with budgets": lambda: solve(REPS(CHAIN, Q, 0.5, costs=[TRAP], budgets=[0.3])),
    "REPS with two balls": lambda: solve(REPS(CHAIN, Q, 0.5, entropy=1.0)),
    "REPS with a price": lambda: solve(REPS(CHAIN, Q, temperature=0.5)),
    "REPS with a slack ball": lambda: solve(REPS(CHAIN, Q, np.inf)),
    "REPS, one policy": lambda: solve(REPS(CHAIN, Q, 0.0)),
    "REPS infeasible": lambda: solve(REPS(CHAIN, Q, 0.5, costs=[TRAP], budgets=[-1.0])),
    "chi-square REPS": lambda: solve(REPS(CHAIN, Q, 0.5, divergence="chi2")),
    "alpha REPS": lambda: solve(REPS(CHAIN, Q, 0.5, divergence=("alpha", 0.5))),
    "LinearProgram": lambda: solve(LinearProgram(CHAIN)),
    "ConditionalREPS": lambda: solve(ConditionalREPS(CHAIN, UNIFORM, 0.1)),
    "shared horizon": lambda: horizon("shared"),
    "horizon a step": lambda: horizon("per_step"),
    "trajectory": lambda: horizon("trajectory"),
    "surrogate_step": lambda: surrogate_step(FiniteHorizonREPS(CHAIN, UNIFORM, 3, 0.1)),
    "ORePS.step": online_step,
    "ExactTRPO": lambda: solve(ExactTRPO(CHAIN, UNIFORM, 0.1)),
    "ExactNaturalGradient": lambda: solve(ExactNaturalGradient(CHAIN, UNIFORM, epsilon=0.1)),
    "ExactPolicyGradient": lambda: solve(
        ExactPolicyGradient(CHAIN, UNIFORM, epsilon=0.1, features=RNG.normal(size=(5, 2, 3)))
    ),
    "SampleREPS": lambda: solve(SampleREPS(RETURNS, FEATURES, 0.1)),
    "SampleREPS with a ridge": lambda: solve(SampleREPS(RETURNS, FEATURES, temperature=1.0, ridge=0.1)),
    "EpisodicREPS": lambda: solve(EpisodicREPS(RETURNS, FEATURES)),
    "TrustRegionStep": lambda: solve(TrustRegionStep([1.0, 2.0], np.eye(2), 0.1, [([1.0, 0.0], -0.1)])),
    "a step in a factor's metric": lambda: solve(TrustRegionStep([1.0, 2.0], Factor(FEATURES), 0.1, damping=0.1)),
    "a plain step": lambda: solve(TrustRegionStep([1.0, 2.0], Identity(), 0.1)),
    "Program": lambda: program(KL(np.full(4, 0.25))),
    "chi-square Program": lambda: program(ChiSquare(np.full(4, 0.25))),
    "alpha Program": lambda: program(Alpha(np.full(4, 0.25), 0.5)),
    "reverse Program": lambda: program(ReverseKL(np.full(4, 0.25))),
    "conditional Program": lambda: program(ConditionalKL(np.full(4, 0.25), np.array([0, 0, 1, 1]))),
    "quadratic Program": lambda: solve(Program([1.0, 2.0], {}, Ball(Quadratic(Identity(), 2), radius=0.1))),
}


@pytest.mark.filterwarnings("ignore:the effective sample size")
@pytest.mark.parametrize("ending", ["npz", "nc"])
@pytest.mark.parametrize("name", SOLUTIONS)
def test_what_is_loaded_is_what_was_saved(name: str, ending: str, tmp_path: Path) -> None:
    solution = SOLUTIONS[name]()
    again = Solution.load(solution.save(tmp_path / f"answer.{ending}"))
    assert type(again) is type(solution)
    assert again.status is solution.status
    assert dataclasses.astuple(again.certificate) == pytest.approx(
        dataclasses.astuple(solution.certificate), nan_ok=True
    )
    assert str(again) == str(solution)
    for key, (_, values) in solution.arrays().items():
        np.testing.assert_array_equal(again.arrays()[key][1], values, err_msg=key)
    if not name.endswith("Program"):  # programs compare by identity: they may hold any divergence
        assert again.replace(problem=solution.problem) == solution
    if not name.endswith("Program"):
        assert again.problem == solution.problem
    if solution.point is not None:
        assert not again.point.flags.writeable
        assert solve(again.problem).objective == pytest.approx(solution.objective, abs=1e-9)


def test_features_of_others_are_missed_with_a_warning(tmp_path: Path) -> None:
    features = PolynomialFeatures(2, include_bias=False).fit(BATCH.states)
    solution = solve(SampleREPS.from_batch(BATCH, features, gamma=0.9))
    path = solution.save(tmp_path / "answer.npz")
    with pytest.warns(UserWarning, match=r"problem\.features, sklearn\S+PolynomialFeatures, could not be stored"):
        again = SampleSolution.load(path)
    np.testing.assert_array_equal(again.value(features.transform(BATCH.states)), solution.value(BATCH.states))
    assert again.predicted_gain_error == solution.predicted_gain_error  # by the batch's episodes, which are stored


def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    by_product = solve(TrustRegionStep([1.0, 2.0], Product(lambda v: 2 * v), 0.1))
    with pytest.raises(ValueError, match=r"readings alone: solution\.problem\.metric\S* is a \S*function"):
        Solution.load(by_product.save(tmp_path / "product.npz"))
    by_factory = solve(REPS(CHAIN, Q, 0.1, divergence=lambda q: KL(q)))
    with pytest.raises(ValueError, match=r"solution\.problem\.divergence is a"):
        Solution.load(by_factory.save(tmp_path / "factory.nc"))
    with pytest.raises(TypeError, match="holds a SampleSolution, not a OccupancySolution"):
        OccupancySolution.load(solve(EpisodicREPS(RETURNS)).save(tmp_path / "samples.npz"))
    with pytest.raises(ValueError, match=r"must end in \.nc or \.npz"):
        Solution.load(by_product.save(tmp_path / "table.csv"))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="holds no solution"):
        Solution.load(tmp_path / "other.npz")
    (tmp_path / "other.nc").write_bytes(b"CDF\x01nothing")
    with pytest.raises(ValueError, match="holds no solution"):
        Solution.load(tmp_path / "other.nc")


@pytest.mark.parametrize(
    "kind", ["os:system", "reps_opt.__main__:app", "reps_opt.problems.reps:np", "reps_opt.storage:Path"]
)
def test_a_file_does_not_choose_what_is_made(kind: str, tmp_path: Path) -> None:
    tree = {"format": 1, "value": {"class": kind, "fields": {}}}
    inner = io.BytesIO()
    np.savez(inner, description=np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8))
    np.savez(tmp_path / "hostile.npz", solution=np.frombuffer(inner.getvalue(), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"is not a saved solution: .* no class that can be loaded"):
        Solution.load(tmp_path / "hostile.npz")
