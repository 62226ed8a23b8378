"""A posed CVXPY problem can be solved again with other numbers, and says what a new problem would."""

from __future__ import annotations

import numpy as np
import pytest

import envs
from reps_opt import (
    MDP,
    REPS,
    ConditionalREPS,
    Equal,
    FiniteHorizonREPS,
    LinearProgram,
    ORePS,
    Program,
    SampleREPS,
    Status,
    TrustRegionStep,
    solve,
)
from reps_opt.problem import Posed, Problem
from tests.test_table_of_programs import PROBLEMS

SIDES = ("primal", "dual")
CHAIN = envs.single_chain()
UNIFORM = CHAIN.uniform_policy()
RNG = np.random.default_rng(0)
OTHER_POLICY = RNG.dirichlet(np.ones(2), 5)
OTHER = MDP(CHAIN.transitions, CHAIN.rewards + RNG.normal(size=CHAIN.rewards.shape), CHAIN.gamma, CHAIN.mu0)
Q, OTHER_Q = CHAIN.occupancy(UNIFORM), CHAIN.occupancy(OTHER_POLICY)
RETURNS, FEATURES, BASE = RNG.normal(size=20), RNG.normal(size=(20, 2)), RNG.uniform(size=20)


def reps(divergence: object) -> tuple[Problem, Problem]:
    return REPS(CHAIN, Q, 0.1, divergence=divergence), REPS(OTHER, OTHER_Q, 0.15, divergence=divergence)


CASES = {
    "LinearProgram": lambda: (LinearProgram(CHAIN), LinearProgram(OTHER)),
    "REPS": lambda: reps("kl"),
    "chi2": lambda: reps("chi2"),
    "reverse_kl": lambda: reps("reverse_kl"),
    "alpha .5": lambda: reps(("alpha", 0.5)),
    "alpha 1.5": lambda: reps(("alpha", 1.5)),
    "alpha -1": lambda: reps(("alpha", -1.0)),
    "penalty": lambda: (REPS(CHAIN, Q, temperature=2.0), REPS(OTHER, OTHER_Q, temperature=2.0)),
    "budget": lambda: tuple(p.replace(costs=[np.eye(5, 2)], budgets=[0.3]) for p in reps("kl")),
    "entropy": lambda: tuple(p.replace(entropy=h) for p, h in zip(reps("kl"), (1.5, 1.6), strict=True)),
    "ConditionalREPS": lambda: (ConditionalREPS(CHAIN, UNIFORM, 0.1), ConditionalREPS(OTHER, OTHER_POLICY, 0.15)),
    "shared": lambda: (FiniteHorizonREPS(CHAIN, UNIFORM, 3, 0.1), FiniteHorizonREPS(OTHER, OTHER_POLICY, 3, 0.2)),
    "per_step": lambda: tuple(
        FiniteHorizonREPS(*data, ball="per_step") for data in ((CHAIN, UNIFORM, 3, 0.1), (OTHER, OTHER_POLICY, 3, 0.2))
    ),
    "trajectory": lambda: tuple(
        FiniteHorizonREPS(*data, ball="trajectory")
        for data in ((CHAIN, UNIFORM, 3, 0.1), (OTHER, OTHER_POLICY, 3, 0.2))
    ),
    "O-REPS": lambda: tuple(ORePS(CHAIN, 3, 10).step(-mdp.rewards / 10) for mdp in (CHAIN, OTHER)),
    "SampleREPS": lambda: (SampleREPS(RETURNS, FEATURES, 0.5), SampleREPS(RETURNS**2, FEATURES, 0.3)),
    "base weights": lambda: (SampleREPS(RETURNS, FEATURES), SampleREPS(RETURNS, FEATURES, base_weights=BASE)),
    "TrustRegionStep": lambda: (
        TrustRegionStep([1.0, 2.0], np.eye(2), 0.1, [([1.0, 0.0], -0.1)]),
        TrustRegionStep([2.0, 1.0], np.eye(2), 0.2, [([1.0, 0.0], -0.1)]),
    ),
}


def hand_over(posed, other: Problem) -> None:  # type: ignore[no-untyped-def]
    """Give a posed problem the numbers of another."""
    program = other.program
    for name, parameter in posed.param_dict.items():
        kind, _, ball_name = name.partition("[")  # epsilon[kl[2]]
        ball = next((b for b in program.balls if b.name == ball_name[:-1]), program.balls[0])
        if kind in ("rewards", "gradient", "objective"):
            parameter.value = program.objective
        elif kind == "epsilon":
            parameter.value = ball.allowed
        elif kind in ("reference", "policy", "base_weights"):
            parameter.value = np.array(ball.divergence.reference)
        elif kind == "log_reference":
            parameter.value = np.log(ball.divergence.reference)
        else:
            assert "**" in kind  # it follows the reference by itself


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", CASES)
def test_other_numbers_give_what_a_new_problem_would(case: str, side: str) -> None:
    first, second = CASES[case]()
    posed = first.to_cvxpy(side)
    assert posed.is_dcp(dpp=True)
    posed.solve(solver="CLARABEL")
    if case != "base weights":  # rows are scaled by these
        hand_over(posed, second)
    else:
        posed.param_dict["base_weights"].value = BASE / BASE.sum()
        second = Posed(
            Program(RETURNS, {"features": Equal(first.program.matrix.T.array.T, np.zeros(2))}, second.program.balls)
        )
    tight = {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-10, "accept_unknown": True}
    optimum = posed.solve(solver="CLARABEL", **tight)
    expected = solve(second)
    assert expected.status is Status.CERTIFIED
    assert optimum == pytest.approx(expected.objective, abs=2e-7 * expected.certificate.unit)
    if case != "base weights":
        again = second.read(posed)
        assert again.status is Status.CERTIFIED, again
        assert np.max(again.eta) == pytest.approx(np.max(expected.eta), rel=1e-3)


@pytest.mark.parametrize("make", [pytest.param(make, id=f"{name} {i}") for i, (name, make) in enumerate(PROBLEMS)])
def test_every_row_of_the_table_keeps_the_rules(make) -> None:
    problem = make()
    for side in SIDES:
        posed = problem.to_cvxpy(side)
        assert posed.is_dcp(dpp=True)
        objective = {"occupancy": "rewards", "weights": "rewards", "step": "gradient"}[problem.program.hints.variable]
        np.testing.assert_array_equal(posed.param_dict[objective].value, problem.program.objective)


@pytest.mark.parametrize("make", [pytest.param(make, id=f"{name} {i}") for i, (name, make) in enumerate(PROBLEMS)])
def test_spread_and_pick_undo_each_other(make) -> None:
    problem = make()
    x = np.random.default_rng(0).uniform(size=problem.program.n)
    np.testing.assert_allclose(problem.pick(problem.spread(x)), x, rtol=1e-12)


def test_the_occupancy_is_read_as_a_table() -> None:
    mdp = MDP.from_gymnasium("CliffWalking-v1", gamma=0.9)  # some states cannot be reached
    problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.1)
    posed = problem.to_cvxpy()
    posed.solve(solver="CLARABEL")
    occupancy = problem.spread(posed.var_dict["occupancy"].value)
    assert occupancy.shape == mdp.rewards.shape
    np.testing.assert_allclose(occupancy, solve(problem).occupancy, atol=1e-5)
    np.testing.assert_allclose(problem.read(posed).value, solve(problem).value, rtol=1e-3)
    with pytest.raises(ValueError, match="coordinates"):
        REPS(CHAIN, Q, 0.1).read(posed)


def test_routes_take_constants() -> None:
    """Parameters cost time when a problem is solved once."""
    from reps_opt.solvers.cvxpy_conic import pose_dual, pose_primal

    program = REPS(CHAIN, Q, 0.1).program
    assert not pose_primal(program).problem.parameters()
    assert not pose_dual(program).problem.parameters()
