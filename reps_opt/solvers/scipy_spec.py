"""What ``scipy.optimize.minimize`` takes, by name, and how its result is read; both sides of a program make one.

Shapes: n coordinates of x; m rows; k balls; z the coordinates of one side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import NoBall
from reps_opt.processes.graph import IntArray
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer, etas_of
from reps_opt.tolerances import ROUNDED, SOLVED
from reps_opt.validation import FloatArray

Names = Mapping[str, Sequence[str]]
"""Names of coordinates and rows: the program's variable and blocks, each with what stands in brackets behind it."""


def trust_constr(barrier: tuple[float, float, float]) -> dict[str, float]:
    """Options of trust-constr: what ends its iterations is the gap, or the last barrier.

    A gradient of zero does not, for it may be that of an early barrier.
    """
    names = ("initial_barrier_parameter", "initial_barrier_tolerance", "initial_tr_radius")
    return {"gtol": 0.0, "xtol": ROUNDED, "barrier_tol": SOLVED, **dict(zip(names, barrier, strict=True))}


@dataclass(frozen=True)
class Spec(Mapping[str, Any]):
    """What ``scipy.optimize.minimize(**spec)`` takes, and the names of what is in it.

    Attributes
    ----------
    side : str
        ``"primal"`` or ``"dual"``.
    arguments : mapping
        ``fun``, ``jac``, ``hess`` or ``hessp``, ``x0``, ``bounds``, ``constraints``, ``method`` and ``options``.
    coordinates : tuple of str
        Name of each coordinate.
    constraint_names : tuple of str
        Name of each of ``spec["constraints"]``.
    parts : mapping
        Where each block of coordinates stands, by its name.

    Examples
    --------
    >>> import envs
    >>> from scipy.optimize import minimize
    >>> from reps_opt import REPS
    >>> mdp = envs.single_chain()
    >>> problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.1)
    >>> spec = problem.to_scipy("primal")
    >>> spec.coordinates[:2], spec.constraint_names
    (('occupancy[0, 0]', 'occupancy[0, 1]'), ('flow', 'normalisation', 'kl'))
    >>> result = minimize(**spec)
    >>> problem.read(spec, result).status
    <Status.CERTIFIED: 'certified'>
    """

    side: str
    arguments: Mapping[str, Any]
    coordinates: tuple[str, ...]
    constraint_names: tuple[str, ...]
    parts: Mapping[str, slice]
    maximiser: Callable[[Any], FloatArray] = field(repr=False)
    """The point x (n,) that a result of ``minimize`` stands for: itself, or what the dual's multipliers say."""
    kept: Mapping[str, IntArray] = field(default_factory=dict, repr=False)
    """Rows of each block that the primal poses: those that the others imply are left out."""

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arguments)

    def __len__(self) -> int:
        return len(self.arguments)

    def __repr__(self) -> str:
        held = ", ".join(self.constraint_names) or "bounds only"
        return f"Spec({self.side}: {len(self.coordinates)} coordinates, {held})"

    def answer(self, program: Program, result: Any) -> Answer:
        """What ``minimize`` found, as an answer to the program that was posed.

        Multipliers that the method does not report are left out: all but ``trust-constr`` on the primal.
        """
        z = np.asarray(result.x, dtype=np.float64)
        stats = {"iterations": int(result.get("nit", 0)), "evaluations": int(result.get("nfev", 0))}
        message = str(result.get("message", ""))
        if self.side == "primal":
            reported = result.get("v") if len(result.get("v", ())) >= len(self.constraint_names) else None
            found = {} if reported is None else dict(zip(self.constraint_names, reported, strict=False))
            found = spread(program, self.kept, found)
            return Answer(etas_of(program, found), multipliers(program, z, found), z, message, stats)
        found = {name: z[part] for name, part in self.parts.items()}
        stacked = program.stacked([found[name] for name in program.blocks])
        return Answer(etas_of(program, found), stacked, self.maximiser(result), message, stats)


def multipliers(program: Program, x: FloatArray, found: Mapping[str, Any]) -> FloatArray | None:
    """Multipliers (m,) of the rows; softened rows have those that their mismatch sets. None where some are missing."""
    if program.ridge is not None:
        return -program.residual(x) / program.ridge
    if any(name not in found for name in program.blocks):
        return None
    return program.stacked([found[name] for name in program.blocks])


def spread(program: Program, kept: Mapping[str, IntArray], found: Mapping[str, Any]) -> dict[str, Any]:
    """Multipliers by constraint, zero in the rows left out."""
    full = dict(found)
    for name, rows in kept.items():
        if name in found:
            full[name] = np.zeros(program.blocks[name].rhs.size)
            full[name][rows] = found[name]
    return full


def named(name: str, size: int, names: Names) -> list[str]:
    """``name[place]`` for each of a block's coordinates or rows."""
    return [f"{name}[{place}]" for place in names.get(name, range(size))]


def binding(program: Program) -> list[Ball]:
    """The balls whose radius can bind."""
    return [b for b in program.balls if not isinstance(b.divergence, NoBall) and b.allowed < math.inf]
