"""One entry for every problem and every route."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from reps_opt.problem import Problem
from reps_opt.program import Program
from reps_opt.solution import Solution
from reps_opt.solvers.answer import Answer, Solver

BREAKDOWNS = (ArithmeticError, RuntimeError, LookupError, AssertionError, np.linalg.LinAlgError)
"""How numerical libraries, and the assumptions made of them, give way on inputs beyond double precision."""


def solve(
    problem: Problem, solver: Solver | None = None, start: Solution | None = None, verbose: bool = False
) -> Solution:
    """Solve a problem by any route, and certify the answer from the problem's data.

    Parameters
    ----------
    problem
        For instance :class:`~reps_opt.REPS` or :class:`~reps_opt.LinearProgram`.
    solver
        A route from :mod:`reps_opt.solvers`: ``Newton()`` on the dual (the default), ``ScipyDual()``,
        ``CvxpyPrimal()`` or ``CvxpyDual()``. It sees rewards shifted and scaled to range one.
    start
        Solution of a nearby problem on the same MDP, to start from: another radius on a path, the last of repeated
        updates. It changes the cost, not the answer; used by ``Newton`` and ``ScipyDual`` on occupancy problems.
    verbose
        Print the route's iterations, the default route's too; a closed form has none.

    Returns
    -------
    Solution
        ``certified``, ``uncertified``, ``infeasible`` or ``failed``; it never raises for a solver's troubles.

    Raises
    ------
    TypeError
        For a route that the problem's kind of dual does not fit, or a start where none is taken.

    Examples
    --------
    >>> from reps_opt import MDP, REPS, solve
    >>> import numpy as np
    >>> mdp = MDP(np.ones((1, 2, 1)), [[0.0, 1.0]], gamma=0.9)
    >>> solution = solve(REPS(mdp, [[0.5, 0.5]], epsilon=0.1))
    >>> print(solution.status, solution.policy.round(4))
    certified [[0.2802 0.7198]]
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a reps_opt problem such as REPS, got {type(problem).__name__}")
    if solver is not None and (isinstance(solver, type) or not hasattr(solver, "solve")):
        raise TypeError(f"solver must be an instance such as Newton(), got {solver!r}")
    began = time.perf_counter()
    route = problem.default_solver() if solver is None else solver
    if problem.routes is not None and not isinstance(route, problem.routes):
        known = ", ".join(kind.__name__ for kind in problem.routes)
        raise TypeError(f"solver must be {known} for {problem!r}, whose dual is its own; got {type(route).__name__}")
    if verbose and is_dataclass(route) and "verbose" in {setting.name for setting in fields(route)}:
        route = replace(route, verbose=True)
    if problem.infeasible:
        solution = problem.infeasible_solution()
    elif start is None and (answer := _attempt(route, problem.direct, route)) is not None:
        solution = _read(problem, None, answer)
    else:
        program = problem.normalised[0]
        program = program.fresh() if isinstance(program, Program) else program
        if start is not None:
            program = problem.warm_start(program, start)
        answer = problem.closed_form(program) or _attempt(route, route.solve, program)
        solution = _read(problem, program, answer)
    stats = {"route": type(route).__name__, **solution.stats, "seconds": time.perf_counter() - began}
    return _with_stats(solution, stats)


def _with_stats(solution: Solution, stats: dict[str, Any]) -> Solution:
    """A copy with other statistics: ``dataclasses.replace`` would take as long as a small step's certificate."""
    twin: Solution = object.__new__(type(solution))
    twin.__dict__.update(solution.__dict__, stats=stats)
    return twin


def _attempt(route: Solver, find: Callable[[Any], Any], data: Any) -> Any:
    """What the route finds, or an answer without a point that keeps what the numerical library said."""
    try:
        return find(data)
    except BREAKDOWNS as error:
        return _broken(type(route).__name__, error)


def _read(problem: Problem, program: Program | None, answer: Answer) -> Solution:
    """The solution; where evaluating the answer breaks down, one without a point that says so."""
    try:
        return problem.solution(program, answer)
    except BREAKDOWNS as error:
        return problem.solution(program, _broken("evaluating the answer", error))


def _broken(where: str, error: Exception) -> Answer:
    return Answer(math.nan, None, None, f"{where} broke down: {error or type(error).__name__}")
