"""Both sides of every program of the README's table stand explicitly in SciPy and in CVXPY, and say the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

import envs
from reps_opt import (
    MDP,
    REPS,
    AtMost,
    Ball,
    ConditionalREPS,
    Equal,
    LinearProgram,
    Program,
    SampleREPS,
    Status,
    TrustRegionStep,
    solve,
)
from reps_opt.divergences import KL, ChiSquare, ConditionalKL, Divergence, ReverseKL
from reps_opt.divergences.base import Conjugate
from reps_opt.divergences.f_divergences import Alpha
from reps_opt.divergences.policy_divergences import NewOldKL, OldNewKL
from reps_opt.problem import Posed, Problem
from reps_opt.solvers import ScipyDual, ScipyPrimal
from reps_opt.solvers.scipy_spec import Spec
from tests.test_table_of_programs import PROBLEMS

SIDES = ("primal", "dual")
KINDS = [pytest.param(make, id=f"{name} {i}") for i, (name, make) in enumerate(PROBLEMS)]

CHAIN = envs.single_chain()
Q = CHAIN.occupancy(CHAIN.uniform_policy())


def explicitly(problem: Problem, side: str) -> tuple[Spec, object]:
    spec = problem.to_scipy(side)
    return spec, minimize(**spec)


TIGHT = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10, "accept_unknown": True}


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@pytest.mark.parametrize("make", KINDS)
def test_both_libraries_and_both_sides_find_the_same(make) -> None:
    problem = make()
    expected = solve(problem)
    found = {"ScipyPrimal": solve(problem, ScipyPrimal())}
    for side in SIDES:
        found[f"scipy {side}"] = problem.read(*explicitly(problem, side))
        posed = problem.to_cvxpy(side)
        posed.solve(solver="CLARABEL", **TIGHT)
        found[f"cvxpy {side}"] = problem.read(posed)
    for name, solution in found.items():
        assert solution.status is Status.CERTIFIED, (name, solution)
        assert solution.objective == pytest.approx(expected.objective, abs=1e-6 * expected.certificate.unit), name
        assert type(solution) is type(expected)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("make", KINDS)
def test_derivatives_are_those_of_the_functions(make, side: str) -> None:
    """Gradients, Jacobians and Hessians by central differences, near the start."""
    spec = make().to_scipy(side)
    rng = np.random.default_rng(0)
    z = spec["x0"] * np.exp(0.1 * rng.normal(size=spec["x0"].size))
    direction = rng.normal(size=z.size) * (np.abs(z) + 0.01)
    h = 1e-6

    def slope(f):  # type: ignore[no-untyped-def]
        return (f(z + h * direction) - f(z - h * direction)) / (2 * h)

    size = max(1.0, float(np.abs(spec["jac"](z)).max()))
    assert spec["jac"](z) @ direction == pytest.approx(slope(spec["fun"]), abs=1e-6 * size)
    curved = spec["hessp"](z, direction) if "hessp" in spec else spec["hess"](z) @ direction
    np.testing.assert_allclose(curved, slope(spec["jac"]), atol=1e-5 * size)
    for constraint in spec["constraints"]:
        if hasattr(constraint, "fun"):
            np.testing.assert_allclose(np.atleast_2d(constraint.jac(z)) @ direction, slope(constraint.fun), atol=1e-5)
            prices = rng.uniform(size=np.size(constraint.fun(z)))
            moved = slope(lambda x: prices @ np.atleast_2d(constraint.jac(x)))  # noqa: B023
            np.testing.assert_allclose(constraint.hess(z, prices) @ direction, moved, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("make", KINDS)
def test_the_start_is_inside_and_everything_has_a_name(make) -> None:
    problem = make()
    primal, dual = (problem.to_scipy(side) for side in SIDES)
    program = problem.program
    assert len(primal.coordinates) == program.n
    assert len(dual.coordinates) == dual["x0"].size
    assert len(set(dual.coordinates)) == dual["x0"].size
    for spec in (primal, dual):
        assert len(spec.constraint_names) == len(spec["constraints"])
        covered = np.concatenate([np.arange(spec["x0"].size)[part] for part in spec.parts.values()])
        np.testing.assert_array_equal(covered, np.arange(spec["x0"].size))
    assert set(primal.constraint_names) >= set(program.blocks)
    x0 = primal["x0"]
    assert all(ball.value(x0) <= ball.allowed + 1e-12 for ball in program.balls)
    assert program.violation(x0) <= 1e-8
    if primal["bounds"] is not None:
        assert x0.min() > 0


def test_names_are_those_of_states_and_actions() -> None:
    mdp = MDP(np.full((2, 2, 2), 0.5), np.eye(2), 0.9, state_labels=["a", "b"], action_labels=["go", "stay"])
    problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.1, costs=[np.eye(2)], budgets=[0.6])
    primal, dual = (problem.to_scipy(side) for side in SIDES)
    assert primal.coordinates == ("occupancy[a, go]", "occupancy[a, stay]", "occupancy[b, go]", "occupancy[b, stay]")
    assert primal.constraint_names == ("flow", "budgets", "normalisation", "kl")
    assert dual.coordinates == ("kl", "flow[a]", "flow[b]", "budgets[0]")
    assert repr(primal) == "Spec(primal: 4 coordinates, flow, budgets, normalisation, kl)"
    assert dict(primal)["x0"] is primal["x0"]
    with pytest.raises(ValueError, match="side must be one of"):
        problem.to_scipy("both")
    with pytest.raises(ValueError, match="result must be"):
        problem.read(primal)
    with pytest.raises(ValueError, match="solve it first"):
        problem.read(problem.to_cvxpy())
    with pytest.raises(ValueError, match="posed must come from"):
        problem.read({"x": 1})


@pytest.mark.parametrize("gamma", [0.95, 1.0])
@pytest.mark.parametrize("kind", ["REPS", "LinearProgram", "infinite"])
def test_frozenlake_both_ways(kind: str, gamma: float) -> None:
    mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=gamma, on_done="restart")
    q = mdp.occupancy(mdp.uniform_policy())
    problem = LinearProgram(mdp) if kind == "LinearProgram" else REPS(mdp, q, 0.5 if kind == "REPS" else np.inf)
    expected = solve(problem)
    for solution in (solve(problem, ScipyPrimal()), problem.read(*explicitly(problem, "dual"))):
        assert solution.status is Status.CERTIFIED, solution
        assert solution.objective == pytest.approx(expected.objective, abs=1e-6 * expected.certificate.unit)
        if kind == "REPS":
            assert solution.eta == pytest.approx(expected.eta, rel=1e-3)
            np.testing.assert_allclose(solution.value, expected.value, atol=1e-2 * np.nanmax(expected.value))


def test_multipliers_read_are_in_the_gauge_reported() -> None:
    problem = REPS(CHAIN, Q, 0.1, costs=[np.eye(5, 2)], budgets=[0.3])
    expected = solve(problem)
    for side in SIDES:
        for solution in (problem.read(*explicitly(problem, side)),):
            np.testing.assert_allclose(solution.value, expected.value, rtol=1e-4)
            np.testing.assert_allclose(solution.nu, expected.nu, rtol=1e-4)
            np.testing.assert_allclose(solution.occupancy, expected.occupancy, atol=1e-5)
    step = TrustRegionStep([1.0, 2.0], np.diag([1.0, 3.0]), 0.1, [([1.0, 0.5], -0.1), ([0.3, 1.0], -0.2)])
    for side in SIDES:
        np.testing.assert_allclose(step.read(*explicitly(step, side)).nu, solve(step).nu, atol=1e-4)


def program(**changes: object) -> Program:
    """The distribution on 0 ... 9 with a mean of at most 3 near the uniform one that likes high squares."""
    x = np.arange(10.0)
    rows = {"mean": AtMost(x[None, :], np.array([3.0])), "even": Equal((x[None, :] % 2), np.array([0.4]))}
    fields: dict = {"objective": x**2, "rows": rows, "balls": Ball(KL(np.full(10, 0.1)), radius=0.5)}
    return Program(**{**fields, **changes})


@pytest.mark.parametrize(
    "balls",
    [
        Ball(KL(np.full(10, 0.1)), radius=0.5),
        Ball(ChiSquare(np.full(10, 0.1)), price=3.0),
        (Ball(KL(np.full(10, 0.1)), radius=0.5), Ball(KL(np.arange(1, 11) / 55), radius=0.9, name="other")),
        (Ball(KL(np.full(10, 0.1)), radius=0.5), Ball(KL(np.arange(1, 11) / 55), price=0.3, name="other")),
        (),
    ],
    ids=["ball", "price", "two", "ball and price", "none"],
)
def test_any_program_is_taken(balls) -> None:
    posed = program(balls=balls)
    before = [np.array(posed.objective), posed.rows["mean"].rhs.copy()]
    solution = solve(posed, ScipyPrimal())
    reference = Posed(posed).to_cvxpy()
    optimum = reference.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    assert solution.status is Status.CERTIFIED, solution
    assert solution.objective == pytest.approx(optimum, abs=2e-6 * 81)
    explicit = Posed(posed).read(*explicitly(Posed(posed), "dual"))
    assert explicit.dual_objective == pytest.approx(optimum, abs=2e-6 * 81)
    np.testing.assert_array_equal(before[0], posed.objective)
    np.testing.assert_array_equal(before[1], posed.rows["mean"].rhs)


class Plain(Divergence):
    """Half the squared distance from the reference, with nothing said beyond what a divergence must say."""

    def __init__(self, reference: np.ndarray) -> None:
        self.reference = reference

    def value(self, x):
        return float(np.sum((x - self.reference) ** 2) / 2)

    def conjugate(self, y):
        """The maximiser of <x, y> - D(x) on the simplex: the reference plus y, projected onto it."""
        z = np.sort(self.reference + y)[::-1]
        shift = (np.cumsum(z) - 1) / np.arange(1, z.size + 1)
        x = np.maximum(self.reference + y - shift[np.flatnonzero(z > shift)[-1]], 0.0)
        return Conjugate(float(x @ y) - self.value(x), x, (x > 0).astype(float), float(shift[0]))

    def expression(self, cp, x):
        return cp.sum_squares(x - self.reference) / 2

    def dual_constraints(self, cp, y, eta):
        raise NotImplementedError


@pytest.mark.parametrize("size", [{"radius": 0.08}, {"price": 30.0}], ids=str)
def test_a_divergence_that_knows_no_derivatives_gets_them_by_differences(size) -> None:
    posed = program(balls=Ball(Plain(np.full(10, 0.1)), **size))
    optimum = Posed(posed).to_cvxpy().solve(solver="CLARABEL")
    result = minimize(**Posed(posed).to_scipy())
    assert -result.fun == pytest.approx(optimum, rel=1e-4)


def test_a_ridge_stands_in_both_sides_too() -> None:
    rng = np.random.default_rng(0)
    problem = SampleREPS(rng.normal(size=30), 0.3 + rng.normal(size=(30, 2)), 0.3, ridge=0.1)
    expected = solve(problem)
    for solution in (solve(problem, ScipyPrimal()), *(problem.read(*explicitly(problem, side)) for side in SIDES)):
        assert solution.status is Status.CERTIFIED, solution
        np.testing.assert_allclose(solution.theta, expected.theta, rtol=1e-3)


def test_scipy_primal_and_dual_agree_on_the_multipliers() -> None:
    problem = REPS(CHAIN, Q, 0.1)
    primal, dual = solve(problem, ScipyPrimal()), solve(problem, ScipyDual())
    assert primal.eta == pytest.approx(dual.eta, rel=1e-5)
    np.testing.assert_allclose(primal.value, dual.value, rtol=1e-5)
    assert primal.stats["rounds"] == 1


def test_scipy_primal_says_when_it_is_not_done(capsys: pytest.CaptureFixture[str]) -> None:
    problem = REPS(CHAIN, Q, 0.1)
    solution = solve(problem, ScipyPrimal({"maxiter": 2}), verbose=True)
    assert solution.status is Status.UNCERTIFIED
    assert "optimality" in capsys.readouterr().out
    with pytest.raises(ValueError, match="pose the primal"):
        Posed(program(balls=Ball(ConditionalKL(np.full(10, 0.5), np.repeat(np.arange(5), 2)), radius=0.1))).replace(
            posed=program(
                balls=(
                    Ball(ConditionalKL(np.full(10, 0.5), np.repeat(np.arange(5), 2)), radius=0.1),
                    Ball(KL(np.full(10, 0.1)), radius=0.5, name="other"),
                )
            )
        ).to_scipy("dual")


BLOCK = np.array([0, 0, 1, 1, 1, 2])
WEIGHTS = np.array([0.1, 0.2, 0.15, 0.25, 0.05, 0.25])


@pytest.mark.parametrize(
    "divergence",
    [
        KL(WEIGHTS),
        ChiSquare(WEIGHTS),
        ReverseKL(WEIGHTS),
        Alpha(WEIGHTS, 0.5),
        Alpha(WEIGHTS, -1.0),
        ConditionalKL(np.array([1 / 3, 2 / 3, 0.3, 0.5, 0.2, 1.0]), BLOCK),
        OldNewKL(WEIGHTS, BLOCK),
        NewOldKL(WEIGHTS, BLOCK),
    ],
    ids=lambda d: type(d).__name__,
)
def test_gradients_and_hessians_of_divergences(divergence: Divergence) -> None:
    x = np.random.default_rng(0).uniform(0.1, 0.3, size=6)
    assert check_grad(divergence.value, divergence.gradient, x, epsilon=1e-7) < 1e-4
    np.testing.assert_allclose(Divergence.gradient(divergence, x), divergence.gradient(x), atol=1e-6)
    hessian = divergence.hessian(x) @ np.eye(6)
    for i, column in enumerate(np.eye(6)):
        h = 1e-6 * x[i]
        moved = (divergence.gradient(x + h * column) - divergence.gradient(x - h * column)) / (2 * h)
        np.testing.assert_allclose(hessian[:, i], moved, rtol=1e-5, atol=1e-5)


def test_the_conditional_step_starts_at_the_reference_policy() -> None:
    problem = ConditionalREPS(CHAIN, CHAIN.uniform_policy(), 0.1)
    np.testing.assert_allclose(problem.to_scipy()["x0"], Q.ravel(), atol=1e-12)
