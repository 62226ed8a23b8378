"""How a solution moves with its data where no formula is known: by differences of solves next to it.

Central differences at two steps, extrapolated (Richardson 1911): the error is of the fourth order in the step, a
thousandth of what the data can move by, the cube root of what two solves may differ by, and they are certified.

Shapes: S states, A actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from reps_opt.sensitivity import Sensitivity, check_given, check_has, check_interior, check_zero_sum
from reps_opt.solution import Solution, Status
from reps_opt.solving import solve
from reps_opt.tolerances import CLOSE, KINKED
from reps_opt.validation import FloatArray, InputError, UnsuitableError, as_float_array

MOVING = ("occupancy", "policy", "value", "nu", "step")
"""Readings that are followed, of those that a solution has."""


def differenced(solution: Any, rewards: Any, epsilon: Any, mu0: Any, temperature: Any) -> Sensitivity:
    """Directional derivatives of a solution's objective, multipliers, occupancy, policy and value.

    Parameters
    ----------
    solution
        Of a problem with an ``mdp``, and an ``epsilon`` or a ``temperature``.
    rewards, epsilon, mu0, temperature
        Directions in which the data move: (S, A), a rate (or one a ball), (S,) with sum zero, a rate.

    Raises
    ------
    UnsuitableError
        Where the answer has no derivative: every ball slack, one of a single point, a kink; and where a solve next to
        the solution is not certified.

    References
    ----------
    Richardson (1911), *The approximate arithmetical solution by finite differences*.
    """
    check_interior(solution.eta, solution.point)
    move, unit = _moving(solution.problem, rewards, epsilon, mu0, temperature)
    step = math.cbrt(CLOSE) * unit
    long, short = _differences(solution, move, step), _differences(solution, move, step / 2)
    for name, (first, second) in short.items():
        if name not in ("occupancy", "policy"):
            continue
        noise = CLOSE * _size(getattr(solution, name))
        if _size(second) > max(KINKED * _size(long[name][1]), noise):
            raise UnsuitableError(f"the answer is degenerate: the {name} has a kink here, and no derivative")
    found = {name: (8 * short[name][0] - long[name][0]) / (3 * step) for name in short}
    dims = {name: tuple(dims) for name, (dims, _) in solution.arrays().items()} | {"nu": ("budget",)}
    readings = {name: (dims[name], change) for name, change in found.items() if name in MOVING}
    eta = found["eta"]
    return Sensitivity(float(found["objective"]), float(eta) if np.ndim(eta) == 0 else eta, readings)


Move = Callable[[float], Any]


def _moving(problem: Any, rewards: Any, epsilon: Any, mu0: Any, temperature: Any) -> tuple[Move, float]:
    """The problem as a function of how far its data moved, and how far they can: the unit of a step."""
    mdp, changes, sizes = problem.mdp, dict[str, tuple[Any, Any]](), []
    check_given({"rewards": rewards, "epsilon": epsilon, "mu0": mu0, "temperature": temperature})
    for name, rate in (("epsilon", epsilon), ("temperature", temperature)):
        if rate is None:
            continue
        now: Any = getattr(problem, name) if name in {field.name for field in fields(problem)} else None
        check_has(now, name)
        direction = as_float_array(rate, name)
        if direction.shape not in ((), np.shape(now)):
            raise InputError(f"{name} must be a rate, or one for each of {np.shape(now)}, got {direction.shape}")
        changes[name] = (now, direction if direction.ndim or np.ndim(now) else float(direction))
        sizes.append(_room(np.broadcast_to(now, np.broadcast(now, direction).shape), direction))
    tables: dict[str, tuple[FloatArray, FloatArray]] = {}
    if rewards is not None:
        tables["r"] = (mdp.rewards, as_float_array(rewards, "rewards", mdp.rewards.shape))
        largest = float(np.abs(tables["r"][1]).max())
        sizes.append(float(np.ptp(mdp.rewards)) / largest if largest else np.inf)
    if mu0 is not None:
        tables["mu0"] = (mdp.mu0, _as_start_direction(mdp.mu0, mu0))
        sizes.append(_room(mdp.mu0, tables["mu0"][1]))

    def move(step: float) -> Any:
        moved = {name: now + step * direction for name, (now, direction) in changes.items()}
        if tables:
            moved["mdp"] = mdp.replace(**{name: now + step * direction for name, (now, direction) in tables.items()})
        return problem.replace(**moved)

    unit = min(sizes)
    return move, unit if np.isfinite(unit) and unit > 0 else 1.0


def _room(now: Any, direction: Any) -> float:
    """How far non-negative numbers can move either way before the first is zero."""
    size = np.broadcast_to(np.abs(direction), np.shape(now))
    moving = size > 0
    return float((np.asarray(now)[moving] / size[moving]).min(initial=np.inf))


def _as_start_direction(start: FloatArray, mu0: Any) -> FloatArray:
    direction = as_float_array(mu0, "mu0", start.shape)
    check_zero_sum(direction)
    empty = np.flatnonzero((direction != 0) & (start == 0))
    if empty.size:
        raise InputError(f"mu0[{empty[0]}] must be zero: no episode starts in state {empty[0]}, and fewer cannot")
    return direction


def _differences(solution: Any, move: Move, step: float) -> Mapping[str, tuple[FloatArray, FloatArray]]:
    """Half the central difference, and the second difference, of each reading."""
    up, down = (_read(_solved(solution, move(sign * step))) for sign in (1, -1))
    here = _read(solution)
    return {name: ((up[name] - down[name]) / 2, up[name] + down[name] - 2 * here[name]) for name in here}


def _solved(solution: Any, problem: Any) -> Solution:
    found: Any = solve(problem, start=solution if problem.takes_start else None)
    if found.status is not Status.CERTIFIED:
        raise UnsuitableError(f"a solution next to this one is {found.status}: {found.message}")
    return found


def _read(solution: Any) -> dict[str, FloatArray]:
    held = {*solution.arrays(), *(["nu"] if "budgets" in solution.duals else [])}
    names = [name for name in MOVING if name in held]
    readings = {name: np.asarray(getattr(solution, name)) for name in names}
    return {"objective": np.asarray(solution.objective), "eta": np.asarray(solution.eta), **readings}


def _size(array: FloatArray) -> float:
    return float(np.nansum(np.abs(array)))
