"""A verbose solver prints its way to the very answer that a silent one gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

import envs
from reps_opt import (
    REPS,
    ConditionalREPS,
    EpisodicREPS,
    ExactTRPO,
    FiniteHorizonREPS,
    SampleREPS,
    TrustRegionStep,
    solve,
)
from reps_opt.problem import Problem
from reps_opt.solvers import (
    CvxpyDual,
    CvxpyPrimal,
    EtaSearch,
    Newton,
    ScipyDual,
    ScipyPrimal,
    SoftBellman,
)

CHAIN = envs.single_chain()
UNIFORM = CHAIN.uniform_policy()
EPSILON = 0.2
RNG = np.random.default_rng(0)


def exact() -> Problem:
    return REPS(CHAIN, CHAIN.occupancy(UNIFORM), EPSILON)


CASES: dict[str, tuple[object, Callable[[], Problem], list[str]]] = {
    "Newton": (Newton(), exact, ["dual", "eta", "divergence", "residual", "step"]),
    "Newton on samples": (
        Newton(),
        lambda: SampleREPS(RNG.normal(size=50), RNG.normal(size=(50, 2)), EPSILON),
        ["dual", "eta", "divergence", "residual", "step"],
    ),
    "ScipyDual": (ScipyDual(), exact, ["dual", "eta", "divergence", "residual"]),
    "ScipyDual L-BFGS-B": (ScipyDual("L-BFGS-B"), exact, ["dual", "eta", "divergence", "residual"]),
    "ScipyDual trust-constr": (ScipyDual("trust-constr"), exact, ["dual", "eta", "divergence", "residual"]),
    "SoftBellman": (
        SoftBellman(),
        lambda: ConditionalREPS(CHAIN, UNIFORM, EPSILON),
        ["eta", "divergence", "bellman_error"],
    ),
    "EtaSearch by state": (EtaSearch(), lambda: ExactTRPO(CHAIN, UNIFORM, EPSILON), ["eta", "divergence", "excess"]),
    "EtaSearch without rows": (
        EtaSearch(),
        lambda: EpisodicREPS(RNG.normal(size=50), None, EPSILON),
        ["eta", "divergence"],
    ),
    "a trajectory ball": (
        SoftBellman(),
        lambda: FiniteHorizonREPS(CHAIN, UNIFORM, 4, EPSILON, ball="trajectory"),
        ["eta", "divergence", "bellman_error"],
    ),
    "several balls": (
        Newton(),
        lambda: FiniteHorizonREPS(CHAIN, UNIFORM, 4, EPSILON, ball="per_step"),
        ["dual", "barrier", "decrement"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_verbose_prints_a_table_and_changes_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    route, make, columns = CASES[name]
    problem = make()
    silent = solve(problem, route)  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""
    shown = solve(problem, dataclasses.replace(route, verbose=True))  # type: ignore[type-var,arg-type]
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "it"
    assert set(columns) <= set(header.split())
    assert all(len(row.split()) == len(header.split()) for row in rows)
    assert shown.objective == silent.objective
    solve(problem, route, verbose=True)  # type: ignore[arg-type]
    assert capsys.readouterr().out.splitlines() == [header, *rows]
    if "divergence" in columns and route not in (ScipyDual("L-BFGS-B"),):
        last = float(rows[-1].split()[header.split().index("divergence")])
        assert last == pytest.approx(EPSILON, abs=1e-4)


def test_the_default_route_is_shown_and_a_closed_form_has_nothing_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    solve(exact(), verbose=True)
    assert capsys.readouterr().out.split()[:3] == ["it", "dual", "eta"]
    solve(TrustRegionStep([1.0, 2.0], np.eye(2), EPSILON), verbose=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("route", [CvxpyPrimal(verbose=True), CvxpyDual("SCS", verbose=True)], ids=repr)
def test_conic_solvers_print_for_themselves(route: CvxpyPrimal, capfd: pytest.CaptureFixture[str]) -> None:
    solve(exact(), dataclasses.replace(route, verbose=False))
    assert capfd.readouterr().out == ""
    solve(exact(), route)
    assert "iter" in capfd.readouterr().out


def in_other_units(problem: Problem) -> Problem:
    """The same with rewards in thousands, and a constant added to each."""
    if isinstance(problem, SampleREPS | EpisodicREPS):
        name = "returns" if isinstance(problem, EpisodicREPS) else "rewards"
        return problem.replace(**{name: 1000 * problem.rewards + 7})
    return problem.replace(mdp=problem.mdp.replace(r=1000 * problem.mdp.rewards + 7))


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("ScipyDual")])
def test_a_trace_is_in_the_units_of_the_answer(name: str) -> None:
    route, make, columns = CASES[name]
    problem = make()
    solution = solve(in_other_units(problem), route)  # type: ignore[arg-type]
    plain = solve(problem, route)  # type: ignore[arg-type]
    first, last = solution.stats["trace"][0], solution.stats["trace"][-1]
    if "eta" in columns:
        assert last["eta"] == pytest.approx(solution.eta, rel=1e-3)
        assert first["eta"] == pytest.approx(1000 * plain.stats["trace"][0]["eta"], rel=1e-6)
    if "dual" in columns:
        assert last["dual"] == pytest.approx(solution.dual_objective, rel=1e-6)


def test_what_is_printed_is_in_the_units_of_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    for route in (Newton(), ScipyDual(), ScipyPrimal()):
        solution = solve(in_other_units(exact()), route, verbose=True)
        header, *rows = capsys.readouterr().out.splitlines()
        shown = dict(zip(header.split(), rows[-1].split(), strict=True))
        assert float(shown.get("dual", shown.get("objective"))) == pytest.approx(solution.objective, rel=1e-3)
        if "eta" in shown:
            assert float(shown["eta"]) == pytest.approx(solution.eta, rel=1e-3)
