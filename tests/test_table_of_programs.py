"""The README's table "which algorithm is which program" says what the code poses."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest

import envs
import reps_opt
from reps_opt import (
    REPS,
    ConditionalREPS,
    EpisodicREPS,
    ExactNaturalGradient,
    ExactPolicyGradient,
    ExactTRPO,
    FiniteHorizonREPS,
    LinearProgram,
    ORePS,
    SampleREPS,
    Status,
    TrustRegionStep,
    solve,
)
from reps_opt.hints import Hints
from reps_opt.problem import Problem
from reps_opt.problems.policy_steps import SurrogateProblem
from reps_opt.program import Program
from reps_opt.solvers import CvxpyPrimal

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
TABLE = README.split("## Which algorithm is which program")[1].split("Routes:")[0]
HEADS = ("update", "x", "c", "A x = b", "divergence D", "class")

CHAIN = envs.single_chain()
UNIFORM = CHAIN.uniform_policy()
Q = CHAIN.occupancy(UNIFORM)
RNG = np.random.default_rng(0)
RETURNS, FEATURES = RNG.normal(size=20), RNG.normal(size=(20, 2))
TRAP = np.eye(5, 2)

PROBLEMS: list[tuple[str, Callable[[], Problem]]] = [  # the class cell's text, and problems of that row
    ("LinearProgram", lambda: LinearProgram(CHAIN)),
    ("REPS", lambda: REPS(CHAIN, Q, 0.1)),
    ("REPS", lambda: REPS(CHAIN, Q, 0.1, costs=[TRAP], budgets=[0.3])),
    ("REPS(divergence=...)", lambda: REPS(CHAIN, Q, 0.1, divergence="chi2")),
    ("REPS(divergence=...)", lambda: REPS(CHAIN, Q, 0.1, divergence=("alpha", 0.5))),
    ("REPS(divergence=...)", lambda: REPS(CHAIN, Q, 0.1, divergence="reverse_kl")),
    ("REPS", lambda: REPS(CHAIN, Q, temperature=1.0)),
    ("ConditionalREPS", lambda: ConditionalREPS(CHAIN, UNIFORM, 0.1)),
    ("ConditionalREPS", lambda: ConditionalREPS(CHAIN, UNIFORM, temperature=1.0)),
    ("REPS", lambda: REPS(CHAIN, Q, 0.1, entropy=1.5)),
    ("FiniteHorizonREPS", lambda: FiniteHorizonREPS(CHAIN, UNIFORM, 4)),
    ("FiniteHorizonREPS", lambda: FiniteHorizonREPS(CHAIN, UNIFORM, 4, ball="per_step")),
    ("FiniteHorizonREPS", lambda: FiniteHorizonREPS(CHAIN, UNIFORM, 3, [0.1, 0.2, 0.3], ball="per_step")),
    ("FiniteHorizonREPS", lambda: FiniteHorizonREPS(CHAIN, UNIFORM, 4, ball="trajectory")),
    ("surrogate_step", lambda: SurrogateProblem(FiniteHorizonREPS(CHAIN, UNIFORM, 4))),
    ("ORePS.step", lambda: ORePS(CHAIN, 4, 10).step(-CHAIN.rewards / 10)),
    ("ORePS.step", lambda: ORePS(CHAIN, 4, 10, learning_rate=100.0).step(np.eye(5, 2))),
    ("SampleREPS", lambda: SampleREPS(RETURNS, FEATURES)),
    ("SampleREPS", lambda: SampleREPS(RETURNS, FEATURES, temperature=0.5)),
    ("EpisodicREPS", lambda: EpisodicREPS(RETURNS)),
    ("EpisodicREPS", lambda: EpisodicREPS(RETURNS, FEATURES)),
    ("ExactTRPO", lambda: ExactTRPO(CHAIN, UNIFORM, 0.1)),
    ("ExactTRPO", lambda: ExactTRPO(CHAIN, UNIFORM, 0.1, direction="new||old")),
    ("ExactNaturalGradient", lambda: ExactNaturalGradient(CHAIN, UNIFORM, epsilon=0.1)),
    ("ExactPolicyGradient", lambda: ExactPolicyGradient(CHAIN, UNIFORM, epsilon=0.1)),
    ("TrustRegionStep", lambda: TrustRegionStep([1.0, 2.0], np.eye(2), 0.1)),
    ("TrustRegionStep", lambda: TrustRegionStep([1.0, 2.0], np.eye(2), 0.1, [([1.0, 0.0], -0.1)])),
]

VARIABLES = {"occupancy": ("(s,a)", "π(a|s)"), "weights": ("weights w",), "step": ("parameter step s",)}
"""How the table writes each variable of a program."""

ROWS = {
    "flow": "flow",
    "features": "feature",
    "policy": "Σ_a x = d(s)",
    "states": "Σ_a x = d(s)",
    "budgets": "budgets",
    "costs": "cost rows",
}
"""How the table names each block of rows, in the update's name or the constraints."""

DIVERGENCES = {
    "NoBall": "none",
    "KL": "KL",
    "Alpha": "E_q f(p/q)",
    "ConditionalKL": "log(π/π_q)",
    "OldNewKL": "KL(π_q ‖ π)",
    "NewOldKL": "KL(π ‖ π_q)",
    "Quadratic": "½",
}
"""How the table writes each divergence, by class or base class."""


def table() -> list[dict[str, str]]:
    """The rows by column; escaped bars are put back."""
    lines = [line.strip("| ") for line in TABLE.splitlines() if line.startswith("|")]
    cells = [[cell.strip().replace("\0", "|") for cell in line.replace(r"\|", "\0").split("|")] for line in lines]
    heads, _, *rows = cells
    assert tuple(heads) == HEADS
    return [dict(zip(HEADS, row, strict=True)) for row in rows]


def row_of(name: str) -> dict[str, str]:
    """The one row whose class cell holds this code."""
    (found,) = [row for row in table() if f"`{name}`" in row["class"]]
    return found


@pytest.mark.parametrize(("name", "make"), PROBLEMS, ids=lambda value: value if isinstance(value, str) else "")
def test_row_says_what_the_program_is(name: str, make: Callable[[], Problem]) -> None:
    row, program = row_of(name), make().normalised[0]
    assert isinstance(program, Program)
    assert any(text in row["x"] for text in VARIABLES[program.hints.variable]), program.hints.variable
    for block in program.blocks:
        assert ROWS[block] in row["A x = b"] + row["update"], block
    for ball in program.balls or [program.ball]:
        kinds = [kind.__name__ for kind in type(ball.divergence).__mro__ if kind.__name__ in DIVERGENCES]
        assert DIVERGENCES[kinds[0]] in row["divergence D"], kinds
    masses = ("normalisation", "sum w = 1", "time-indexed flow", "d(s)", "layered flow")
    assert program.simplex == any(text in row["A x = b"] for text in masses)


@pytest.mark.parametrize(("name", "make"), PROBLEMS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_row_goes_through_the_same_solve_and_the_same_certificate(name: str, make: Callable[[], Problem]) -> None:
    problem = make()
    solution = solve(problem)
    assert solution.status is Status.CERTIFIED, solution
    assert abs(solution.certificate.gap) <= 1e-8
    program = problem.program
    assert solution.point.shape == (program.n,)
    assert solution.multipliers.shape == program.rhs.shape
    # the certificate's two sides, from the program's own arithmetic and in its own units
    unit = solution.certificate.unit
    assert program.score(solution.point) == pytest.approx(solution.objective, abs=1e-9 * unit)
    assert program.bound(solution.eta, solution.multipliers) == pytest.approx(solution.dual_objective, abs=1e-7 * unit)
    assert all(ball.value(solution.point) <= ball.allowed + 1e-9 for ball in program.balls)
    assert program.violation(solution.point) <= 1e-9
    with pytest.raises(AttributeError, match="make another with"):
        problem.epsilon = 0.2


@pytest.mark.parametrize(("name", "make"), PROBLEMS, ids=lambda value: value if isinstance(value, str) else "")
def test_an_answer_to_any_row_is_a_value(name: str, make: Callable[[], Problem], tmp_path: Path) -> None:
    """It goes through pickle and joblib, and its arrays are read only."""
    solution = solve(make())
    joblib.dump(solution, tmp_path / "solution.joblib")
    for twin in (pickle.loads(pickle.dumps(solution)), joblib.load(tmp_path / "solution.joblib")):
        assert twin == solution
        assert twin.problem == solution.problem
    named = ("point", "multipliers", "value", "policy", "occupancy", "theta", "step", "nu")
    held = {reading: getattr(solution, reading, None) for reading in named}
    writeable = [r for r, array in held.items() if isinstance(array, np.ndarray) and array.flags.writeable]
    assert not writeable
    with pytest.raises(AttributeError, match="make another with"):
        solution.eta = 0.2


@pytest.mark.parametrize(("name", "make"), PROBLEMS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_program_of_the_table_is_solved_as_it_stands_too(name: str, make: Callable[[], Problem]) -> None:
    """A conic route on the bare program, without what its problem knows, finds the same optimum."""
    problem = make()
    expected = solve(problem)
    bare = replace(problem.program, hints=Hints())
    found = solve(bare, CvxpyPrimal())
    assert found.objective == pytest.approx(expected.objective, abs=3e-6 * expected.certificate.unit)


def test_every_class_of_the_table_is_public_and_every_public_problem_is_in_the_table() -> None:
    named = {name for row in table() for name in re.findall(r"`(\w+)", row["class"])}
    public = {name for name in reps_opt.__all__ if isinstance(getattr(reps_opt, name), type)}
    problems = {name for name in public if issubclass(getattr(reps_opt, name), Problem)}
    problems.discard("Problem")
    assert problems | {ORePS.__name__, "surrogate_step"} == named
    assert {re.split(r"[(.]", name)[0] for name, _ in PROBLEMS} == named


def test_every_row_is_held_to_the_code() -> None:
    tested = {name for name, _ in PROBLEMS}
    assert all(set(re.findall(r"`([^`]+)`", row["class"])) <= tested for row in table())


def test_the_gradient_updates_that_the_table_names_exist() -> None:
    (steps,) = [row for row in table() if "`TrustRegionStep`" in row["class"]]
    words = {
        "vanilla gradient": "VanillaGradient",
        "NPG": "NaturalGradient",
        "eNAC": "ENAC",
        "TRPO": "TRPO",
        "CPO": "CPO",
    }
    assert set(words) == set(steps["update"].split(", "))
    assert set(words.values()) <= set(reps_opt.__all__)
