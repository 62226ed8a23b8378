"""Directional derivatives of solutions, by finite differences of solves anew."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import envs
from reps_opt import (
    MDP,
    REPS,
    AtMost,
    Ball,
    ConditionalREPS,
    EpisodicREPS,
    Equal,
    ExactNaturalGradient,
    ExactPolicyGradient,
    ExactTRPO,
    FiniteHorizonREPS,
    LinearProgram,
    Program,
    SampleREPS,
    TrustRegionStep,
    solve,
)
from reps_opt.divergences import KL
from reps_opt.problem import Problem
from reps_opt.solvers import Newton

STEP = 1e-4
RNG = np.random.default_rng(0)
GARNETS = {gamma: envs.garnet(6, 3, 3, seed=3, gamma=gamma) for gamma in (0.9, 1.0)}
DIRECTION = RNG.normal(size=(6, 3))
START = np.array([1.0, -1.0, 0.5, -0.5, 0.0, 0.0]) / 10
COSTS = RNG.uniform(size=(2, 6, 3))


def of(mdp: MDP, kind: str) -> Problem:
    reference = GARNETS[mdp.gamma].occupancy(GARNETS[mdp.gamma].uniform_policy())
    if kind == "conditional":
        return ConditionalREPS(mdp, mdp.uniform_policy(), 0.1)
    if kind == "conditional penalty":
        return ConditionalREPS(mdp, mdp.uniform_policy(), temperature=0.2)
    if kind == "penalty":
        return REPS(mdp, reference, temperature=0.2)
    if kind == "budgets":  # one of two binds
        spent = float(np.sum(solve(REPS(GARNETS[mdp.gamma], reference, 0.2)).occupancy * COSTS[0]))
        return REPS(mdp, reference, 0.2, costs=COSTS, budgets=[0.97 * spent, 0.9])
    if kind == "entropy":  # both balls bind
        return REPS(mdp, reference, 0.2, entropy=2.6)
    return REPS(mdp, reference, 0.2, divergence={"alpha": ("alpha", 0.5)}.get(kind, kind))


KINDS = ["kl", "penalty", "budgets", "chi2", "reverse_kl", "alpha", "conditional", "conditional penalty", "entropy"]
PARTS = ("rewards", "epsilon", "temperature", "mu0", "all")


def shifted(problem: Problem, part: str, h: float) -> Problem:
    mdp = problem.mdp
    if part in ("rewards", "all"):
        mdp = MDP(mdp.transitions, mdp.rewards + h * DIRECTION, mdp.gamma, mdp.mu0)
    if part in ("mu0", "all") and mdp.gamma < 1:
        mdp = MDP(mdp.transitions, mdp.rewards, mdp.gamma, mdp.mu0 + h * START)
    problem = problem.replace(mdp=mdp)
    if part in ("epsilon", "all") and problem.epsilon is not None:
        problem = problem.replace(epsilon=problem.epsilon + h)
    if part in ("temperature", "all") and problem.temperature is not None:
        problem = problem.replace(temperature=problem.temperature + h)
    return problem


def direction(problem: Problem, part: str) -> dict:
    given = {"rewards": DIRECTION, "epsilon": 1.0, "temperature": 1.0, "mu0": START}
    if problem.epsilon is None:
        del given["epsilon"]
    else:
        del given["temperature"]
    if problem.mdp.gamma == 1:
        del given["mu0"]
    return given if part == "all" else {part: given[part]} if part in given else {}


@pytest.mark.parametrize("gamma", [0.9, 1.0])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", KINDS)
def test_occupancy_problems_move_as_their_solves_do(kind: str, part: str, gamma: float) -> None:
    problem = of(GARNETS[gamma], kind)
    along = direction(problem, part)
    if not along:
        return
    found = solve(problem).sensitivity(**along)
    up, down = (solve(shifted(problem, part, sign * STEP)) for sign in (1, -1))
    assert up.certificate.ok(1e-8)
    assert down.certificate.ok(1e-8)
    for name in ("objective", "eta", "occupancy", "policy", "value", *(["nu"] if kind == "budgets" else [])):
        expected = (getattr(up, name) - getattr(down, name)) / (2 * STEP)
        size = max(float(np.max(np.abs(expected))), 1e-3)
        np.testing.assert_allclose(getattr(found, name), expected, atol=1e-4 * size, err_msg=name)
    data = found.to_xarray()
    assert data["policy"].dims == ("state", "action")
    assert data.attrs["objective"] == found.objective


def test_the_optimum_moves_by_the_multipliers() -> None:
    """Eta a nat, the occupancy a reward, and (1 - gamma) V a start: the mean reward is that much less than a return."""
    problem = of(GARNETS[0.9], "kl")
    solution = solve(problem)
    assert solution.sensitivity(epsilon=1.0).objective == pytest.approx(solution.eta, rel=1e-9)
    by_rewards = solution.sensitivity(rewards=DIRECTION).objective
    assert by_rewards == pytest.approx(np.sum(DIRECTION * solution.occupancy), rel=1e-9)
    by_start = solution.sensitivity(mu0=START).objective
    assert by_start == pytest.approx((1 - 0.9) * solution.value @ START, rel=1e-9)


@pytest.mark.parametrize("linear_solver", ["dense", "sparse", "cg"])
def test_states_that_cannot_carry_mass_stay(linear_solver: str) -> None:
    mdp = MDP.from_gymnasium("CliffWalking-v1", gamma=0.9)
    problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.1)
    found = solve(problem, Newton(linear_solver=linear_solver)).sensitivity(epsilon=1.0)
    up, down = (solve(problem.replace(epsilon=0.1 + sign * STEP)) for sign in (1, -1))
    expected = (up.occupancy - down.occupancy) / (2 * STEP)
    np.testing.assert_allclose(found.occupancy, expected, atol=1e-5 * np.abs(expected).max())
    lost = mdp.unreachable
    assert np.all(found.occupancy[lost] == 0)
    assert np.isnan(found.value[lost]).all()
    start = np.zeros(48)
    start[lost[0]], start[36] = 1.0, -1.0
    with pytest.raises(ValueError, match="cannot carry mass"):
        solve(problem).sensitivity(mu0=start)


RETURNS, FEATURES = RNG.normal(size=60), RNG.normal(size=(60, 3))
MOVED_RETURNS = RNG.normal(size=60)
SAMPLES = {
    "samples": SampleREPS(RETURNS, FEATURES, 0.5),
    "ridge": SampleREPS(RETURNS, 0.2 + FEATURES, 0.5, ridge=0.1),
    "penalty": SampleREPS(RETURNS, FEATURES, temperature=0.7),
    "dependent": SampleREPS(RETURNS, FEATURES @ np.array([[1.0, 0, 1], [0, 1, 1], [0, 0, 0]]), 0.5),
    "base": SampleREPS(RETURNS, FEATURES, 0.5, base_weights=np.arange(60.0)),
    "episodes": EpisodicREPS(RETURNS, epsilon=0.5),
    "contexts": EpisodicREPS(RETURNS, FEATURES, epsilon=0.5),
}


@pytest.mark.filterwarnings("ignore:the effective sample size")
@pytest.mark.parametrize("part", ["rewards", "size"])
@pytest.mark.parametrize("case", SAMPLES)
def test_weights_of_samples_move_as_their_solves_do(case: str, part: str) -> None:
    problem = SAMPLES[case]
    size = "epsilon" if problem.epsilon is not None else "temperature"
    name = "returns" if isinstance(problem, EpisodicREPS) else "rewards"

    def at(h: float):  # type: ignore[no-untyped-def]
        change = {name: RETURNS + h * MOVED_RETURNS} if part == "rewards" else {size: getattr(problem, size) + h}
        return solve(problem.replace(**change))

    found = solve(problem).sensitivity(**({"rewards": MOVED_RETURNS} if part == "rewards" else {size: 1.0}))
    up, down = at(STEP), at(-STEP)
    differences = {
        "objective": up.objective - down.objective,
        "eta": up.eta - down.eta,
        "weights": up.weights("sum") - down.weights("sum"),
    }
    if problem.column_scale.size:
        differences["theta"] = up.theta - down.theta
    for reading, difference in differences.items():
        expected = difference / (2 * STEP)
        largest = max(float(np.max(np.abs(expected))), 1e-3)
        np.testing.assert_allclose(getattr(found, reading), expected, atol=1e-4 * largest, err_msg=reading)


def test_where_there_is_no_derivative_it_is_said() -> None:
    mdp = GARNETS[0.9]
    q = mdp.occupancy(mdp.uniform_policy())
    with pytest.raises(ValueError, match="the ball is slack"):
        solve(REPS(mdp, q, 100.0)).sensitivity(epsilon=1.0)
    with pytest.raises(ValueError, match="the ball is slack"):
        solve(LinearProgram(mdp)).sensitivity(rewards=DIRECTION)
    with pytest.raises(ValueError, match="single point"):
        solve(REPS(mdp, q, 0.0)).sensitivity(epsilon=1.0)
    with pytest.raises(ValueError, match="no point"):
        solve(REPS(mdp, np.eye(6, 3)[::-1] + 1, 1e-9)).sensitivity(epsilon=1.0)
    with pytest.raises(ValueError, match="temperature does not move"):
        solve(REPS(mdp, q, 0.2)).sensitivity(temperature=1.0)
    with pytest.raises(ValueError, match="must be given"):
        solve(REPS(mdp, q, 0.2)).sensitivity()
    with pytest.raises(ValueError, match="mu0 must sum to zero"):
        solve(REPS(mdp, q, 0.2)).sensitivity(mu0=np.ones(6))
    with pytest.raises(ValueError, match="plays no part"):
        solve(of(GARNETS[1.0], "kl")).sensitivity(mu0=START)
    with pytest.raises(ValueError, match="slack or a point"):
        solve(ConditionalREPS(mdp, mdp.uniform_policy(), 100.0)).sensitivity(epsilon=1.0)
    with pytest.raises(ValueError, match="must be given"):
        solve(SAMPLES["samples"]).sensitivity()
    with pytest.raises(ValueError, match="temperature does not move"):
        solve(SAMPLES["samples"]).sensitivity(temperature=1.0)
    with pytest.raises(AttributeError, match="not 'weights'"):
        solve(REPS(mdp, q, 0.2)).sensitivity(epsilon=1.0).weights  # noqa: B018


def test_a_budget_that_just_binds_is_degenerate() -> None:
    free = solve(of(GARNETS[0.9], "kl"))
    spent = float(np.sum(free.occupancy * COSTS[0]))
    with pytest.raises(ValueError, match="degenerate"):
        solve(REPS(free.problem.mdp, free.problem.reference, 0.2, costs=COSTS[:1], budgets=[spent])).sensitivity(
            epsilon=1.0
        )


FAMILIES = {
    "shared": lambda mdp: FiniteHorizonREPS(mdp, mdp.uniform_policy(), 4, 0.1),
    "per step": lambda mdp: FiniteHorizonREPS(mdp, mdp.uniform_policy(), 4, [0.1, 0.2, 0.1, 0.05], ball="per_step"),
    "trajectory": lambda mdp: FiniteHorizonREPS(mdp, mdp.uniform_policy(), 4, 0.1, ball="trajectory"),
    "TRPO": lambda mdp: ExactTRPO(mdp, mdp.uniform_policy(), 0.1),
    "TRPO, new from old": lambda mdp: ExactTRPO(mdp, mdp.uniform_policy(), temperature=0.3, direction="new||old"),
    "natural gradient": lambda mdp: ExactNaturalGradient(mdp, mdp.uniform_policy(), epsilon=0.1),
    "gradient": lambda mdp: ExactPolicyGradient(mdp, mdp.uniform_policy(), step_size=0.1),
}


def moved(problem: Problem, along: dict, h: float) -> Problem:
    mdp = problem.mdp.replace(
        r=problem.mdp.rewards + h * along.get("rewards", 0.0), mu0=problem.mdp.mu0 + h * along.get("mu0", 0.0)
    )
    sizes = {name: getattr(problem, name) + h * rate for name, rate in along.items() if name not in ("rewards", "mu0")}
    return problem.replace(mdp=mdp, **sizes)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", FAMILIES)
def test_horizons_and_policy_steps_move_as_their_solves_do(kind: str, part: str) -> None:
    problem = FAMILIES[kind](GARNETS[0.9])
    given = {"rewards": DIRECTION, "epsilon": 1.0, "temperature": 1.0, "mu0": START}
    sizes = {field.name for field in dataclasses.fields(problem)} & {"epsilon", "temperature"}
    moving = ("rewards", "mu0", *(name for name in sizes if getattr(problem, name) is not None))
    given = {name: along for name, along in given.items() if name in moving}
    along = given if part == "all" else {part: given[part]} if part in given else {}
    if not along:
        return
    solution = solve(problem)
    found = solution.sensitivity(**along)
    up, down = (solve(moved(problem, along, sign * STEP)) for sign in (1, -1))
    for name in ("objective", "eta", "occupancy", "policy", "value"):
        expected = (getattr(up, name) - getattr(down, name)) / (2 * STEP)
        size = max(float(np.max(np.abs(expected))), 1e-3)
        np.testing.assert_allclose(getattr(found, name), expected, atol=2e-4 * size, err_msg=name)
    assert found.to_xarray()["policy"].dims == solution.to_xarray()["policy"].dims


def test_the_optimum_of_a_horizon_moves_by_its_multipliers() -> None:
    solution = solve(FAMILIES["per step"](GARNETS[0.9]))
    found = solution.sensitivity(epsilon=[0.0, 0.0, 1.0, 0.0])
    assert found.objective == pytest.approx(solution.eta[2], rel=1e-7)
    assert found.eta.shape == (4,)
    assert "eta" in found.to_xarray()
    by_rewards = solution.sensitivity(rewards=DIRECTION).objective
    discounted = np.tensordot(0.9 ** np.arange(4), solution.occupancy, 1)
    assert by_rewards == pytest.approx(float(np.sum(discounted * DIRECTION)), rel=1e-7)


def test_a_kink_is_no_derivative() -> None:
    mdp = GARNETS[0.9]
    solution = solve(FiniteHorizonREPS(mdp, mdp.uniform_policy(), 3, [0.1, 0.1, 50.0], ball="per_step"))
    assert solution.eta[2] == pytest.approx(0, abs=1e-6)
    assert np.isfinite(solution.sensitivity(epsilon=[1.0, 0.0, 0.0]).objective)  # one of several may be slack
    at_the_corner = solve(FiniteHorizonREPS(mdp, mdp.uniform_policy(), 3, 1e3, ball="trajectory"))
    with pytest.raises(ValueError, match="slack"):
        at_the_corner.sensitivity(epsilon=1.0)
    loose = solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.2))
    bound = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.2, entropy=loose.entropy)  # just binds
    with pytest.raises(ValueError, match="kink"):
        solve(bound).sensitivity(epsilon=1.0)


def test_what_does_not_move_is_named() -> None:
    mdp = GARNETS[0.9].replace(mu0=[0.5, 0.5, 0, 0, 0, 0])
    horizon, step = solve(FAMILIES["shared"](mdp)), solve(FAMILIES["gradient"](mdp))
    with pytest.raises(ValueError, match="temperature does not move"):
        step.sensitivity(temperature=1.0)
    with pytest.raises(ValueError, match="must be given"):
        horizon.sensitivity()
    with pytest.raises(ValueError, match=r"mu0\[2\] must be zero"):
        horizon.sensitivity(mu0=[1.0, 0, -1.0, 0, 0, 0])
    with pytest.raises(ValueError, match="mu0 must sum to zero"):
        horizon.sensitivity(mu0=[1.0, 0, 0, 0, 0, 0])
    with pytest.raises(ValueError, match="epsilon must be a rate"):
        horizon.sensitivity(epsilon=[1.0, 2.0])
    with pytest.raises(ValueError, match="single point"):
        solve(FiniteHorizonREPS(mdp, mdp.uniform_policy(), 3, 0.0)).sensitivity(epsilon=1.0)


OBJECTIVE = np.array([0.0, 2.0, 1.0, 3.0, -1.0, 2.5])


def own(h: float = 0.0, rhs: float = 0.0, radius: float = 0.1) -> Program:
    rows = {"mean": Equal(np.arange(6.0)[None], [2.2 + rhs]), "tail": AtMost(np.eye(6)[5:], [0.1 - rhs])}
    return Program(OBJECTIVE + h * MOVED_RETURNS[:6], rows, Ball(KL(np.full(6, 1 / 6)), radius=radius))


@pytest.mark.parametrize("part", ["objective", "rhs", "epsilon"])
def test_programs_of_ones_own_move_as_their_solves_do(part: str) -> None:
    given = {"objective": MOVED_RETURNS[:6], "rhs": {"mean": [1.0], "tail": [-1.0]}, "epsilon": 1.0}[part]
    found = solve(own()).sensitivity(**{part: given})
    name, base = {"objective": ("h", 0.0), "rhs": ("rhs", 0.0), "epsilon": ("radius", 0.1)}[part]
    up, down = (solve(own(**{name: base + sign * STEP})) for sign in (1, -1))
    for reading in ("objective", "eta", "point", "multipliers"):
        expected = (getattr(up, reading) - getattr(down, reading)) / (2 * STEP)
        size = max(float(np.max(np.abs(expected))), 1e-3)
        np.testing.assert_allclose(getattr(found, reading), expected, atol=1e-4 * size, err_msg=reading)


def test_what_is_not_available_is_named() -> None:
    solution = solve(own())
    with pytest.raises(ValueError, match="by name, of objective, rhs, epsilon, temperature, got rewards"):
        solution.sensitivity(rewards=OBJECTIVE)
    with pytest.raises(ValueError, match="got none"):
        solution.sensitivity()
    with pytest.raises(ValueError, match="no rows 'middle': the program has mean, tail"):
        solution.sensitivity(rhs={"middle": [1.0]})
    with pytest.raises(ValueError, match="temperature does not move"):
        solution.sensitivity(temperature=1.0)
    with pytest.raises(ValueError, match=r"smooth dual on the simplex, not .*Quadratic"):
        solve(TrustRegionStep([1.0, 2.0], np.eye(2), 0.1)).sensitivity(epsilon=1.0)
    balls = [Ball(KL(np.full(6, 1 / 6)), radius=0.2), Ball(KL(np.full(6, 1 / 6)), radius=0.3, name="other")]
    with pytest.raises(ValueError, match="difference two solves"):
        solve(Program(OBJECTIVE, own().rows, balls)).sensitivity(epsilon=1.0)
