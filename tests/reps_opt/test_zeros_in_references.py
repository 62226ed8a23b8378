"""Several balls of which references have zeros, radii are zero or infinite, or are prices: beside a conic solver.

A zero keeps its coordinate out of every point of a finite divergence, so that the conic solver is given the coordinates
that are left; an infinite radius keeps nothing out.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import cvxpy as cp
import numpy as np
import pytest

from reps_opt import AtMost, Ball, Equal, Program, Status, solve
from reps_opt.constraints import Simplex
from reps_opt.divergences import KL, Alpha, ChiSquare, Quadratic, ReverseKL
from reps_opt.metrics import Identity
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, Newton, ScipyDual

TIGHT = {"solver": "CLARABEL"} | dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-11)
MARGIN = 1e-4
"""Where balls miss each other by less, a conic solver does not say whether they do."""

C = np.array([1.0, 2.0, 0.0, 3.0])
HOLED, EVEN = np.array([0.4, 0.3, 0.3, 0.0]), np.full(4, 0.25)


class Optimum(NamedTuple):
    """By how much some ball must be missed, the largest objective, and x."""

    missed: float
    value: float
    point: np.ndarray


def solved(problem: cp.Problem) -> None:
    """Solve as tightly as the solver can, which says where it could not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Solution may be inaccurate")
        problem.solve(**TIGHT)


def by_cone(program: Program) -> Optimum:
    """The same program as CVXPY says it, without the coordinates that zeros keep out."""
    n = program.objective.size
    where = [np.arange(n) if ball.where is None else ball.where for ball in program.balls]
    binding = [(ball, w) for ball, w in zip(program.balls, where, strict=True) if ball.radius != np.inf]
    out = [w[ball.divergence.reference == 0] for ball, w in binding]
    left = np.setdiff1d(np.arange(n), np.concatenate([np.zeros(0, dtype=int), *out]))
    starts = np.zeros(1, dtype=int) if program.starts is None else program.starts
    layer = np.searchsorted(starts, np.arange(n), side="right") - 1
    if np.unique(layer[left]).size < starts.size:
        return Optimum(np.inf, np.nan, np.zeros(n))
    x, over = cp.Variable(left.size, nonneg=True), cp.Variable()
    rows = [cp.sum(x[np.flatnonzero(layer[left] == g)]) == 1 for g in range(starts.size)]
    rows += [b.matrix[:, left] @ x == b.rhs for b in program.rows.values() if isinstance(b, Equal)]
    rows += [b.matrix[:, left] @ x <= b.rhs for b in program.rows.values() if isinstance(b, AtMost)]
    objective, beyond = program.objective[left] @ x, [over >= -1]
    for ball, w in binding:
        kept = np.isin(left, w)
        log_q = ball.divergence.log_reference[np.isin(w, left)]
        inside = x[np.flatnonzero(kept)]
        divergence = -cp.sum(cp.entr(inside)) - log_q @ inside
        if ball.price is not None:
            objective -= ball.price * divergence
        else:
            beyond.append(divergence <= ball.radius + over)
    phase = cp.Problem(cp.Minimize(over), rows + beyond)
    best = cp.Problem(cp.Maximize(objective), [*rows, *beyond, over <= 0])
    solved(phase)
    if phase.status.startswith("infeasible") or over.value > MARGIN:
        return Optimum(np.inf if over.value is None else float(over.value), np.nan, np.zeros(n))
    missed = float(over.value)
    solved(best)
    point = np.zeros(n)
    if x.value is not None:
        point[left] = x.value
    return Optimum(missed, float(best.value), point)


def distribution(rng: np.random.Generator, n: int) -> np.ndarray:
    """A distribution (n,) with zeros, or entries that nearly are, in some places."""
    q = rng.dirichlet(np.ones(n))
    holes = rng.random(n) < 0.3
    holes[rng.integers(n)] = False
    q[holes] = rng.choice([0.0, 0.0, 1e-300, 1e-20], holes.sum())
    return q / q.sum()


def random_program(seed: int) -> Program:
    """One to three simplexes; two or three balls, each over all of them or one; at times other rows."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 6, rng.choice([1, 1, 2, 3]))
    starts = np.append(0, np.cumsum(sizes)[:-1])
    n = int(sizes.sum())
    masses = np.repeat(np.eye(sizes.size), sizes, axis=1)
    balls = []
    for k in range(rng.integers(2, 4)):
        only = None if k == 0 or sizes.size == 1 or rng.random() < 0.5 else int(rng.integers(sizes.size))
        groups = range(sizes.size) if only is None else [only]
        q = np.concatenate([distribution(rng, int(sizes[g])) for g in groups])
        near = balls[0].divergence.reference if only is None and k and rng.random() < 0.5 else None
        if near is not None:  # most pairs of balls with holes in other places do not meet
            q = np.where((near > 0) & (q > 0), 0.7 * near + 0.3 * q, q)
        where = None if only is None else np.arange(starts[only], starts[only] + sizes[only])
        size: dict[str, float] = {"radius": float(rng.choice([0.02, 0.2, 1.0, 3.0, np.inf]))}
        if rng.random() < 0.2:
            size = {"price": float(rng.choice([0.01, 0.3, 2.0]))}
        balls.append(Ball(KL(q), where=where, name=f"ball {k}", **size))
    rows: dict[str, Any] = {} if sizes.size == 1 else {"masses": Equal(masses, np.ones(sizes.size))}
    if rng.random() < 0.3:
        a = rng.normal(size=(1, n))
        rows["cap"] = AtMost(a, a @ balls[0].divergence.reference + rng.choice([0.0, 0.1]))
    domain = None if sizes.size == 1 else Simplex(starts)
    return Program(rng.normal(size=n) * rng.choice([1.0, 100.0]), rows, balls, domain)


@pytest.mark.parametrize("part", range(4))
def test_random_programs_have_the_optimum_of_a_conic_solver(part: int) -> None:
    found = []
    for seed in range(40 * part, 40 * (part + 1)):
        program = random_program(seed)
        right, solution = by_cone(program), solve(program)
        if abs(right.missed) < MARGIN:
            continue
        expected = Status.INFEASIBLE if right.missed > 0 else Status.CERTIFIED
        assert solution.status is expected, (seed, right, solution)
        found.append(expected)
        if expected is Status.CERTIFIED:
            priced = [(eta, ball) for eta, ball in zip(solution.eta, program.balls, strict=True) if eta > 0]
            beyond = sum(eta * max(ball.value(right.point) - ball.allowed, 0.0) for eta, ball in priced if ball.binds)
            allowed = 2e-6 * np.ptp(program.objective) + beyond  # what the conic solver's point misses has its price
            assert solution.objective == pytest.approx(right.value, abs=allowed), seed
    assert min(map(found.count, (Status.INFEASIBLE, Status.CERTIFIED))) >= 5


def two(first: dict[str, float], second: dict[str, float], references: tuple[Any, Any] = (HOLED, EVEN)) -> Program:
    """A ball around each reference."""
    balls = (Ball(KL(q), name=n, **r) for q, n, r in zip(references, "ab", (first, second), strict=True))
    return Program(C, None, tuple(balls))


INFINITE = {"radius": np.inf}


def test_an_infinite_radius_keeps_no_coordinate_out_and_a_finite_one_does() -> None:
    one, other = solve(two(INFINITE, {"radius": 0.1})), solve(Program(C, None, Ball(KL(EVEN), 0.1)))
    assert one.status is Status.CERTIFIED
    np.testing.assert_allclose(one.point, other.point, atol=1e-9)
    assert one.eta == pytest.approx([0.0, other.eta], abs=1e-9)
    one, other = solve(two({"radius": 0.1}, INFINITE)), solve(Program(C, None, Ball(KL(HOLED), 0.1)))
    assert (one.status, one.point[3]) == (Status.CERTIFIED, 0.0)
    np.testing.assert_allclose(one.point, other.point, atol=1e-9)
    assert one.eta == pytest.approx([other.eta, 0.0], abs=1e-9)
    free = solve(two(INFINITE, INFINITE))
    assert (free.status, free.objective) == (Status.CERTIFIED, pytest.approx(3.0))


def test_what_zeros_make_impossible_is_said() -> None:
    near = np.log(4 / 3)  # nothing without the last coordinate is closer to the uniform distribution
    assert solve(two({"radius": 9.0}, {"radius": near - 1e-3})).status is Status.INFEASIBLE
    assert solve(two({"radius": 9.0}, {"radius": near + 1e-3})).status is Status.CERTIFIED
    apart = solve(two({"radius": 9.0}, {"price": 1.0}, (HOLED, np.array([0.0, 0.0, 0.0, 1.0]))))
    assert apart.status is Status.INFEASIBLE
    assert "no coordinate in common" in apart.message
    both = np.concatenate([HOLED, HOLED])
    second = Ball(KL(np.array([0.0, 0.0, 0.0, 1.0])), 1.0, where=np.arange(4, 8), name="second")
    masses = {"masses": Equal(np.repeat(np.eye(2), 4, axis=1), np.ones(2))}
    program = Program(np.tile(C, 2), masses, (Ball(KL(both), 1.0), second), Simplex(np.array([0, 4])))
    assert "no coordinate of simplex 1 in common" in solve(program).message


def test_prices_beside_radii_are_the_etas_of_their_balls() -> None:
    solution = solve(two({"price": 0.5}, {"radius": 0.4}))
    program = two({"price": 0.5}, {"radius": 0.4})
    right = by_cone(program)
    assert (solution.status, solution.eta[0]) == (Status.CERTIFIED, 0.5)
    assert solution.objective == pytest.approx(right.value, abs=1e-7)
    both = solve(two({"price": 0.5}, {"price": 0.1}))
    exponent = (C + 0.5 * np.log(np.maximum(HOLED, 1e-300)) + 0.1 * np.log(EVEN)) / 0.6
    weights = np.where(HOLED > 0, np.exp(exponent), 0.0)
    assert both.status is Status.CERTIFIED
    np.testing.assert_allclose(both.point, weights / weights.sum(), atol=1e-12)
    assert both.objective == pytest.approx(0.6 * np.log(weights.sum()), abs=1e-12)


def test_a_radius_of_zero_beside_another_ball_leaves_its_reference() -> None:
    apart = float(np.sum(HOLED[:3] * np.log(4 * HOLED[:3])))
    solution = solve(two({"radius": 0.0}, {"radius": apart + 0.1}))
    assert solution.status is Status.CERTIFIED
    np.testing.assert_allclose(solution.point, HOLED, atol=1e-7)
    assert solve(two({"radius": 0.0}, {"radius": apart - 0.01})).status is Status.INFEASIBLE


@pytest.mark.parametrize("route", [Newton(), CvxpyPrimal(), CvxpyDual(), ScipyDual()], ids=lambda r: type(r).__name__)
def test_every_route_knows_zeros(route: Any) -> None:
    program = two({"radius": 0.3}, {"radius": 0.4})
    solution = solve(program, route)
    assert (solution.status, solution.point[3]) == (Status.CERTIFIED, pytest.approx(0.0, abs=1e-8))
    assert solution.objective == pytest.approx(by_cone(program).value, abs=1e-6)


def test_a_divergence_that_has_no_choice_says_nothing_about_the_others() -> None:
    """One coordinate is left, so that its ball is exactly full whatever is chosen: any eta is as good as another."""
    last = np.array([0.0, 0.5])
    balls = (
        Ball(KL(np.append(EVEN, last)), 0.9),
        Ball(KL(np.array([0.5, 0.5])), np.log(2), None, np.array([4, 5]), "b"),
    )
    rows = {"masses": Equal(np.array([[1.0] * 4 + [0, 0], [0.0] * 4 + [1, 1]]), np.ones(2))}
    program = Program(np.append(C, [0.0, 1.0]), rows, balls, Simplex(np.array([0, 4])))
    solution = solve(program)
    assert solution.status is Status.CERTIFIED
    assert solution.objective == pytest.approx(by_cone(program).value, abs=2e-6)


def test_centrings_without_a_step_are_counted_as_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The barrier falls to nothing, or a barrier that is no number: either way the path ends."""
    from reps_opt.solvers import path

    monkeypatch.setattr(path, "_centre", lambda search, state, mu, budget, trace: (state, 0, "converged"))
    monkeypatch.setattr(path._Path, "goes_on", lambda self, state, mu: True)
    assert solve(two({"radius": 0.3}, {"radius": 0.4}), Newton(max_iterations=7)).stats["iterations"] == 7


@pytest.mark.parametrize("alpha", [-1.0, 0.5, 1.5])
def test_what_is_not_solved_is_refused_by_name(alpha: float) -> None:
    holed = [Alpha(HOLED, alpha), ReverseKL(HOLED), ChiSquare(HOLED)]
    for divergence in holed:
        with pytest.raises(ValueError, match=r"balls\[0\].divergence.reference\[3\] is 0: every value must be > 0"):
            solve(Program(C, None, Ball(divergence, 0.1)))
    for other in (Alpha(EVEN, alpha), ChiSquare(EVEN), ReverseKL(EVEN), Quadratic(Identity(), 4)):
        with pytest.raises(ValueError, match=f"all are KL: ball 'b' is {type(other).__name__}"):
            solve(Program(C, None, (Ball(KL(HOLED), 0.1), Ball(other, 0.1, name="b"))))
    with pytest.raises(ValueError, match="names of their own: two are called 'kl'"):
        solve(Program(C, None, (Ball(KL(HOLED), 0.1), Ball(KL(EVEN), 0.1))))
    with pytest.raises(ValueError, match=r"balls\[0\].divergence.reference\[1\] is -0.5"):
        solve(Program(C, None, Ball(KL(np.array([0.5, -0.5, 0.5, 0.5]), np.zeros(4)), 0.1)))
    with pytest.raises(ValueError, match="must be positive somewhere"):
        solve(Program(C, None, Ball(KL(np.zeros(4)), 0.1)))
