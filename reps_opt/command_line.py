"""The command line: ``python -m reps_opt solve``, ``explore`` and ``doctor``."""

from __future__ import annotations

import inspect
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from reps_opt.explorer.asking import Explorer, Question
    from reps_opt.problems.occupancy_solution import OccupancySolution
    from reps_opt.processes.mdp import MDP
    from reps_opt.solvers.answer import Solver

EXIT_CODES = {"certified": 0, "uncertified": 1, "infeasible": 3, "failed": 4}
"""By status; 2 is left to wrong arguments, as the shell has it."""

EPSILON = 0.5

app = typer.Typer(help="Policy search as convex optimisation.", no_args_is_help=True, pretty_exceptions_enable=False)


class Route(StrEnum):
    """Routes to the same answer, by the names they have on the command line."""

    NEWTON = "newton"
    SCIPY = "scipy"
    LBFGS = "l-bfgs-b"
    CLARABEL = "clarabel"
    CLARABEL_DUAL = "clarabel-dual"
    SCS = "scs"
    SCS_DUAL = "scs-dual"


def _version(wanted: bool) -> None:
    if wanted:
        import reps_opt

        typer.echo(f"reps_opt {reps_opt.__version__}")
        raise typer.Exit(0)


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    """Policy search as convex optimisation."""


@app.command()
def solve(
    env: Annotated[str, typer.Argument(help="id of a Gymnasium environment with a transition table")],
    epsilon: Annotated[float | None, typer.Option(help=f"radius of the KL ball in nats, by default {EPSILON}")] = None,
    temperature: Annotated[float | None, typer.Option(help="price of a nat instead of a ball")] = None,
    gamma: Annotated[float, typer.Option(help="discount factor; 1 is average reward, with restarts")] = 0.99,
    solver: Annotated[Route, typer.Option(help="route to the answer")] = Route.NEWTON,
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for gymnasium.make; may be repeated")] = None,
    plot: Annotated[Path | None, typer.Option(help="write a figure: .png, .pdf, .svg")] = None,
    save: Annotated[Path | None, typer.Option(help="write arrays and numbers: .nc, .npz or .csv")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="show the solver's iterations")] = False,
) -> None:
    """Improve the uniform policy of a Gymnasium table within a KL ball, exactly, and print the certified answer.

    Exit code 0 when the answer is certified, 1 uncertified, 2 for wrong arguments, 3 infeasible, 4 failed.
    """
    try:
        solution = _solution(env, epsilon, temperature, gamma, _route(solver, verbose), _options(option or []))
        typer.echo(_report(solution))
        if save is not None:
            typer.echo(f"answer written to {solution.save(save)}")
        if plot is not None:
            solution.plot().savefig(plot, dpi=120)
            typer.echo(f"figure written to {plot}")
    except (ValueError, TypeError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(EXIT_CODES[solution.status])


@app.command()
def explore(
    env: Annotated[str, typer.Argument(help="id of a Gymnasium environment with a transition table")],
    epsilon: Annotated[float, typer.Option(help="radius of the ball in nats that the page starts with")] = EPSILON,
    gamma: Annotated[float, typer.Option(help="discount factor that the page starts with, below 1")] = 0.99,
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for gymnasium.make; may be repeated")] = None,
    port: Annotated[int, typer.Option(help="port on this machine's loopback address; 0 takes a free one")] = 0,
    browser: Annotated[bool, typer.Option(help="open the page in the browser")] = True,
) -> None:
    """Ask what if, in the browser: sliders for epsilon, gamma, slip and budget, redrawn as they move."""
    from reps_opt.explorer.serving import explore as serve

    try:
        explorer, question = _exploring(env, epsilon, gamma, _options(option or []))
        serve(explorer, question, port=port, show=browser)
    except (ValueError, TypeError, OSError, ImportError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


@app.command()
def doctor() -> None:
    """Show versions, solvers and threads; test every route, policy and a roll-out; exit code 1 where one fails."""
    from reps_opt.doctor import examine

    found = examine()
    typer.echo(str(found))
    raise typer.Exit(0 if found.healthy else 1)


def _options(given: list[str]) -> dict[str, Any]:
    """Arguments of ``gymnasium.make``: values as JSON where they are, else words."""
    options = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"option must be NAME=VALUE, got {text!r}")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


def _made(env: str, options: dict[str, Any]) -> Any:
    """A Gymnasium environment; whatever it finds wrong with its id or options is said in one line."""
    import gymnasium

    try:
        return gymnasium.make(env, **options)
    except Exception as error:  # environments raise what they like: KeyError, AssertionError, their own
        given = " ".join(f"--option {name}={json.dumps(value)}" for name, value in options.items())
        raise ValueError(
            f"{env} cannot be made{given and f' with {given}'}: {type(error).__name__}: {error}"
        ) from error


def _exploring(env: str, epsilon: float, gamma: float, options: dict[str, Any]) -> tuple[Explorer, Question]:
    """An explorer of an environment, and what it is asked first.

    Slip is the environment's own where it has a ``success_rate``; else actions drawn evenly happen in its place.
    """
    from reps_opt.explorer.asking import Explorer, Question
    from reps_opt.processes.mdp import MDP

    made = _made(env, options)
    own = inspect.signature(type(made.unwrapped).__init__).parameters.get("success_rate")
    if own is None:
        return Explorer(MDP.from_gymnasium(made), name=env), Question(epsilon, gamma)

    def slippery(slip: float) -> MDP:
        return MDP.from_gymnasium(_made(env, {**options, "is_slippery": True, "success_rate": 1 - slip}))

    slip = 1 - options.get("success_rate", own.default) if options.get("is_slippery", True) else 0.0
    return Explorer(slippery, name=env), Question(epsilon, gamma, slip)


def _route(route: Route, verbose: bool) -> Solver:
    from reps_opt.solvers.newton import Newton
    from reps_opt.solvers.scipy_dual import ScipyDual

    if route is Route.NEWTON:
        return Newton(verbose=verbose)
    if route in (Route.SCIPY, Route.LBFGS):
        method = ScipyDual.method if route is Route.SCIPY else route.value
        return ScipyDual(method, verbose=verbose)
    from reps_opt.solvers.cvxpy_conic import CvxpyDual, CvxpyPrimal

    name, _, dual = route.value.partition("-")
    return (CvxpyDual if dual else CvxpyPrimal)(name.upper(), verbose=verbose)


def _solution(
    env: str, epsilon: float | None, temperature: float | None, gamma: float, route: Solver, options: dict[str, Any]
) -> OccupancySolution:
    from reps_opt.problems.reps import REPS
    from reps_opt.processes.mdp import MDP
    from reps_opt.solving import solve as solve_by

    if temperature is not None and epsilon is not None:
        raise ValueError("epsilon and temperature exclude each other: a ball, or a price")
    mdp = MDP.from_gymnasium(_made(env, options), gamma, "restart" if gamma == 1 else "absorb")
    reference = mdp.occupancy(mdp.uniform_policy())
    radius = EPSILON if epsilon is None and temperature is None else epsilon
    return solve_by(REPS(mdp, reference, radius, temperature=temperature), route)


def _report(solution: OccupancySolution) -> str:
    """Summary, map, and what the start is worth."""
    from reps_opt.explorer.asking import start_values
    from reps_opt.processes.maps import text_map

    parts, mdp = [str(solution)], solution.problem.mdp
    if solution.has_point and mdp.layout is not None:
        parts.append("value and most probable action:\n" + text_map(solution))
    if solution.has_point and mdp.gamma < 1:
        lines = [f"  {name:<14}  {value}" for name, value in start_values(solution)]
        parts.append("\n".join(["expected sum of discounted rewards from the start:", *lines]))
    return "\n\n".join(parts)
