"""One entry for every problem and every route."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from operator import lt
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.certify import Verdict, certify, rank, without_point
from reps_opt.problem import Posed, Problem
from reps_opt.program import Program
from reps_opt.progress import progress as show_progress
from reps_opt.solution import S_co, Solution, Status, Viewed
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.trace import in_units
from reps_opt.threads import limited
from reps_opt.tolerances import POINTS_AHEAD
from reps_opt.validation import InputError, UnsuitableError, as_float_array
from reps_opt.values import altered

BREAKDOWNS = (ArithmeticError, RuntimeError, LookupError, AssertionError, ValueError, np.linalg.LinAlgError)
"""How numerical libraries, and the assumptions made of them, give way on inputs beyond double precision."""

CERTAIN = (Status.CERTIFIED, Status.INFEASIBLE)
"""Verdicts that no other route can better."""

POSING = "posing the problem"


@overload
def solve(
    problem: Program, solver: Solver | str | None = None, start: Solution | None = None, verbose: bool = False
) -> Solution: ...


@overload
def solve(
    problem: Viewed[S_co], solver: Solver | str | None = None, start: Solution | None = None, verbose: bool = False
) -> S_co: ...


def solve(
    problem: Any, solver: Solver | str | None = None, start: Solution | None = None, verbose: bool = False
) -> Any:
    """Solve a problem by any route, and certify the answer from the problem's data.

    Parameters
    ----------
    problem
        For instance :class:`~reps_opt.REPS` or :class:`~reps_opt.LinearProgram`; or a :class:`~reps_opt.Program` of
        your own.
    solver
        A route from :mod:`reps_opt.solvers`: ``Newton()`` on the dual (the default), ``ScipyDual()``,
        ``CvxpyPrimal()`` or ``CvxpyDual()``; ``"CLARABEL"``, the name of a conic solver that CVXPY finds, is short for
        ``CvxpyPrimal("CLARABEL")``. It sees rewards shifted and scaled to range one.
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
    TypeError, ValueError
        For a route that the problem's kind of dual does not fit, a name that no conic solver has, or a start where none
        is taken.

    Examples
    --------
    >>> from reps_opt import MDP, REPS, solve
    >>> import numpy as np
    >>> mdp = MDP(np.ones((1, 2, 1)), [[0.0, 1.0]], gamma=0.9)
    >>> solution = solve(REPS(mdp, [[0.5, 0.5]], epsilon=0.1))
    >>> print(solution.status, solution.policy.round(4))
    certified [[0.2802 0.7198]]
    >>> print(solve(REPS(mdp, [[0.5, 0.5]], epsilon=0.1), "CLARABEL").policy.round(4))
    [[0.2802 0.7198]]
    """
    with limited():  # looking for what to warn of takes sums over all samples too
        solution = tried(problem, solver, start, verbose)
        warn_of(solution)
    return solution


def warn_of(solution: Solution) -> None:
    """Warn whoever called the caller of what to know of a solution that is taken."""
    if solution.has_point and (text := solution.problem.warn(solution)):
        warnings.warn(text, UserWarning, stacklevel=3)


def tried(
    problem: Any, solver: Solver | str | None = None, start: Solution | None = None, verbose: bool = False
) -> Any:
    """What :func:`solve` finds, without a warning: nobody may take it."""
    if not isinstance(problem, Problem):
        if isinstance(problem, Program):
            return tried(Posed(problem), solver, start, verbose)
        raise TypeError(f"problem must be a reps_opt problem such as REPS, or a Program, got {type(problem).__name__}")
    if isinstance(solver, str):
        solver = _by_name(solver)
    if solver is not None and (isinstance(solver, type) or not hasattr(solver, "solve")):
        raise TypeError(f"solver must be an instance such as Newton(), got {solver!r}")
    began = time.perf_counter()
    with limited():  # looking at a problem for its default route factorises samples too
        route = problem.default_solver() if solver is None else solver
        if verbose and is_dataclass(route) and "verbose" in {setting.name for setting in fields(route)}:
            route = replace(route, verbose=True)
        verdict, stats = _answer(problem, route, start, named=solver is not None)
        stats = {"route": type(route).__name__, **stats, **problem.spent(), "seconds": time.perf_counter() - began}
        return problem.view.of(problem, verdict, stats)


def _by_name(name: str) -> Solver:
    """The explicit primal through the conic solver of that name."""
    from reps_opt.solvers.cvxpy_conic import CvxpyPrimal, installed_solvers

    if name.upper() not in installed_solvers():
        raise ValueError(f"solver must be a route such as Newton() or one of {installed_solvers()}, got {name!r}")
    return CvxpyPrimal(name.upper())


Found = tuple[Verdict, Mapping[str, Any]]


@np.errstate(all="ignore")  # what overflows is for the certificate to see
def _answer(problem: Problem, route: Solver, start: Solution | None, named: bool) -> Found:
    """The verdict on what the route finds; where a numerical library breaks down, one that says so."""
    where = POSING
    answer = None
    try:
        why = problem.infeasible()  # it projects, by a route like any other
        if why:
            return without_point(problem, Status.INFEASIBLE, why), {}
        program, scale = problem.normalised
        program = program.fresh()
        if start is not None:
            program = problem.warm_start(program, start)
        answer = problem.closed_form(program)
        if answer is None and not named:
            answer = problem.known_answer(program)
        if answer is None:
            where = type(route).__name__
            answer = in_units(scale, route.solve, program)
        where = "evaluating the answer"
        found = certify(problem, program, scale, answer), answer.stats
    except (InputError, UnsuitableError):
        raise
    except BREAKDOWNS as error:
        found = _broken(problem, where, error), {}
    return found if named or where == POSING else _second_opinion(problem, found, answer)


def _broken(problem: Problem, where: str, error: Exception) -> Verdict:
    return without_point(problem, Status.FAILED, f"{where} broke down: {error or type(error).__name__}")


def _second_opinion(problem: Problem, found: Found, answer: Answer | None) -> Found:
    """The same verdict if it is certain; else the best of it and of what other routes find, where that is cheap.

    With more digits the values of 1e12 that gamma close to one leaves keep their differences. Conic solvers keep the
    primal point as a variable of its own, which masses of 1e-120 or a policy at the rounding of its exponent need. The
    certificate decides between them. What a closed form gave is not asked for again.
    """
    if found[0].status in CERTAIN:
        return found
    program, scale = problem.normalised
    for route in problem.second_solvers(answer):
        try:
            other = in_units(scale, route.solve, program.fresh())
            judged = certify(problem, program, scale, other), {"route": type(route).__name__, **other.stats}
        except UnsuitableError:
            continue
        except BREAKDOWNS as error:
            judged = _broken(problem, type(route).__name__, error), {"route": type(route).__name__}
        if judged[0].status in CERTAIN:
            return judged
        found = min(found, judged, key=lambda candidate: rank(candidate[0].certificate))
    return found


def solve_path(
    problem: Viewed[S_co],
    epsilons: ArrayLike,
    solver: Solver | str | None = None,
    start: Solution | None = None,
    progress: bool | None = None,
) -> list[S_co]:
    """Solve a problem at several radii, each from the solution of the last.

    Parameters
    ----------
    problem
        One with a radius ``epsilon``; its own radius is not solved for.
    epsilons
        Radii (k,), in any order. They are solved from the smallest to the largest, where what was found at one is near
        what is wanted at the next.
    solver
        As for :func:`solve`.
    start
        A solution to start the first one from.
    progress
        Whether to show a bar; None for one where standard error is a terminal and more than a second goes by.

    Returns
    -------
    list of Solution
        In the order of ``epsilons``; each is certified by itself, and equals what :func:`solve` finds.

    Raises
    ------
    TypeError, ValueError
        For a problem without a radius, and for radii that are not numbers (k,).

    Examples
    --------
    >>> from reps_opt import MDP, REPS, solve_path
    >>> mdp = MDP(np.ones((1, 2, 1)), [[0.0, 1.0]], gamma=0.9)
    >>> path = solve_path(REPS(mdp, [[0.5, 0.5]], epsilon=0.1), [0.2, 0.1, 0.05])
    >>> [round(solution.objective, 4) for solution in path]
    [0.8052, 0.7198, 0.6568]
    """
    if not isinstance(problem, Problem) or not hasattr(problem, "epsilon"):
        raise TypeError(f"problem must be a reps_opt problem with a radius epsilon, got {type(problem).__name__}")
    if problem.epsilon is None:
        raise ValueError("problem has a temperature and no radius: give it an epsilon")
    radii = as_float_array(epsilons, "epsilons", ("k",))
    found: dict[int, S_co] = {}
    known: list[Solution] = []
    for i in show_progress(np.argsort(radii, kind="stable").tolist(), label="radii", show=progress):
        there = problem.at_radius(float(radii[i]))
        ahead = _ahead(known, there.epsilon) if known else start
        with limited():
            found[i] = tried(there, solver, ahead if problem.takes_start else None)
            warn_of(found[i])
        known = [*known[1 - POINTS_AHEAD :], found[i]] if found[i].has_point else known
    return [found[i] for i in range(radii.size)]


def _ahead(known: Sequence[Solution], epsilon: float) -> Solution:
    """The last of the known solutions, its dual variables moved on to the next radius: along the polynomials in
    log epsilon through log eta and the multipliers of as many as that is steady with, where the sizes of the shares sum
    up to no more than those of evenly spaced radii, ``2^k - 1`` for k of them.
    """
    last = known[-1]
    if len(known) == 1:
        return last
    radii = [*(getattr(solution.problem, "epsilon", None) or 0.0 for solution in known), epsilon]
    growing = all(map(lt, [0.0, *radii], [*radii, math.inf]))
    if not growing or any(isinstance(s.eta, np.ndarray) or not 0 < s.eta < math.inf for s in known):
        return _ahead(known[1:], epsilon)
    at = [math.log(radius / epsilon) for radius in radii[:-1]]
    shares = [math.prod([other / (other - own) for other in at if other != own]) for own in at]
    if sum(map(abs, shares)) > 2**POINTS_AHEAD or any(s.multipliers is None for s in known):
        return _ahead(known[1:], epsilon)
    multipliers: list[Any] = [s.multipliers for s in known]
    log_eta = math.fsum(share * math.log(s.eta) for share, s in zip(shares, known, strict=True))
    return altered(last, eta=math.exp(log_eta), multipliers=np.dot(shares, multipliers))
