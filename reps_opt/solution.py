"""Solutions: frozen results that remember their problem and carry their certificate."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from reps_opt.archive import pack, unpack
from reps_opt.certificate import Certificate
from reps_opt.plotting import Panel
from reps_opt.result import Arrays, Result, stored_bytes
from reps_opt.sensitivity import Sensitivity, check_has, movable, moved
from reps_opt.storage import MALFORMED
from reps_opt.threads import limited
from reps_opt.validation import FloatArray, UnsuitableError, as_float_array, as_scalar, read_only
from reps_opt.values import Value, cached_property, value

STORED = "solution"
"""What the stored solution is called in a file, beside its readings."""


class Status(StrEnum):
    """How far an answer can be trusted, and what to do otherwise."""

    CERTIFIED = "certified"
    """Gap and residuals, computed from data, are within tolerance."""
    UNCERTIFIED = "uncertified"
    """The best point found; ``solution.message`` says what misses and what to try."""
    INFEASIBLE = "infeasible"
    """No point satisfies the constraints; ``solution.epsilon_min`` is the smallest radius that would do."""
    FAILED = "failed"
    """The solver broke off without a point; ``solution.message`` keeps what it said."""


@value
class Solution(Value, Result):
    """The answer to a problem. A family's class adds readings of it: its primal and its multipliers by their names.

    Attributes
    ----------
    problem
        The problem answered.
    status : Status
    point : (n,) array or None
        x, in the coordinates of ``problem.program``; None where there is no point.
    eta : float or (k,) array
        Multiplier of the divergence ball, in units of the objective a nat: the derivative of the optimum in epsilon.
        Zero where the ball is slack, infinite where it leaves a single point. One a ball where there are several.
    multipliers : (m,) array or None
        Multipliers of all rows of ``problem.program``, equalities first, in units of the objective.
    certificate : Certificate
    message : str
        What the solver said, and what to try when the answer is not certified.
    stats : mapping
        Route, iterations, factorisations, seconds. Two solutions that differ in these alone are equal.
    """

    problem: Any
    status: Status
    point: FloatArray | None
    eta: Any
    multipliers: FloatArray | None
    certificate: Certificate
    message: str = ""
    stats: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, problem: Any, verdict: Any, stats: Mapping[str, Any]) -> Self:
        """The answer of which a :class:`~reps_opt.certify.Verdict` was given, its arrays read-only.

        It takes a tenth of the time of a dataclass's own way, which would be as much as a small step's.
        """
        point, eta, multipliers = verdict.point, verdict.eta, verdict.multipliers
        solution = object.__new__(cls)
        solution.__dict__.update(
            problem=problem,
            status=verdict.status,
            point=None if point is None else read_only(point),
            eta=read_only(eta) if isinstance(eta, np.ndarray) else eta,
            multipliers=None if multipliers is None else read_only(multipliers),
            certificate=verdict.certificate,
            message=verdict.message,
            stats=stats,
        )
        return solution

    def _whole(self) -> dict[str, bytes]:
        """Problem and answer; what cannot be stored is said instead."""
        stats = {name: part for name, part in self.stats.items() if isinstance(part, bool | int | float | str)}
        try:
            return {STORED: pack(self.replace(stats=stats), "solution")}
        except TypeError as error:
            return {STORED: str(error).encode()}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a solution, with its problem, that :meth:`Result.save` wrote to an ``.npz`` or ``.nc`` file.

        Nothing in the file is executed. It equals the solution that was saved, but for the trace in ``stats``. Features
        of states that are another library's are left out with a warning: ``value`` takes their rows then.

        Raises
        ------
        ValueError
            If it is no such file, or of a problem that cannot be stored, because it holds a function (a metric given by
            its product, a divergence by what makes it) or another library's object (a dask array).
        TypeError
            If the solution is of another class than the one asked for; ``Solution.load`` takes all.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from reps_opt import EpisodicREPS, Solution, solve
        >>> solution = solve(EpisodicREPS([0.0, 1.0, 2.0], epsilon=0.1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = Solution.load(solution.save(pathlib.Path(folder) / "answer.npz"))
        >>> again == solution, again.problem.epsilon
        (True, 0.1)
        """
        content = stored_bytes(path, STORED)
        if not content.startswith(b"PK"):
            raise ValueError(f"{os.fspath(path)} holds readings alone: {content.decode(errors='replace')}")
        try:
            found = unpack(content)
            found.__dict__["status"] = Status(found.status)
        except MALFORMED as error:
            raise ValueError(f"{os.fspath(path)} is not a saved solution: {error}") from None
        if not isinstance(found, cls):
            raise TypeError(f"{os.fspath(path)} holds a {type(found).__name__}, not a {cls.__name__}")
        return found

    @property
    def objective(self) -> float:
        """Objective of the feasible point reported."""
        return self.certificate.lower

    @property
    def dual_objective(self) -> float:
        """Upper bound on the objective of every feasible point."""
        return self.certificate.upper

    @property
    def kl(self) -> float:
        """Divergence reached, in nats; of several balls, of the one that misses most."""
        return self.certificate.kl

    @property
    @limited()
    def divergences(self) -> FloatArray:
        """Divergence (k,) of each ball, in nats."""
        balls = self.problem.program.balls
        return np.array([math.nan if self.point is None else ball.value(self.point) for ball in balls])

    @property
    def duals(self) -> dict[str, Any]:
        """Multipliers by constraint: each is the derivative of the optimum in its right-hand side."""
        program = self.problem.program
        rows = {name: np.full(block.rhs.size, math.nan) for name, block in program.blocks.items()}
        if self.multipliers is not None:
            rows = program.by_name(self.multipliers)
        return {**rows, **self._etas()}

    def _etas(self) -> dict[str, float]:
        """Eta of each ball, by the ball's name."""
        balls = self.problem.program.balls
        etas = np.broadcast_to(np.asarray(self.eta, dtype=np.float64), (len(balls),))
        return {ball.name: float(eta) for ball, eta in zip(balls, etas, strict=True)}

    @cached_property
    @limited()
    def _normaliser(self) -> float:
        """Multiplier of the mass of the only simplex, those of the rows as they are, in units of the objective."""
        if self.multipliers is None or self.point is None:
            return math.nan
        program = self.problem.program
        if np.ndim(self.eta) == 0 and self.eta == math.inf:
            return float(program.net(self.multipliers) @ self.point)
        return float(program.normalisers(self.eta, self.multipliers)[0])

    @limited()
    def sensitivity(self, *unnamed: Any, **directions: Any) -> Sensitivity:
        """How the answer to a program moves with its data: directional derivatives, from one factorisation.

        The solutions of problems take the data of these in place of the program's: rewards, for instance.

        Parameters
        ----------
        objective
            Direction (n,) in which the objective moves.
        rhs
            Directions in which right-hand sides move, by the name of their rows.
        epsilon, temperature
            Rate at which the radius of the ball, or its price, moves.

        Returns
        -------
        Sensitivity
            ``objective``, ``eta``, ``point`` and ``multipliers``.

        Raises
        ------
        UnsuitableError
            For a direction that there is not; where the answer has no derivative, being slack, a single point or
            degenerate; and where none is available: of several balls, and of balls off the simplex.

        Examples
        --------
        >>> from reps_opt import Ball, Program, solve
        >>> from reps_opt.divergences import KL
        >>> solution = solve(Program([0.0, 1.0, 2.0], balls=Ball(KL(np.full(3, 1 / 3)), radius=0.1)))
        >>> moved = solution.sensitivity(epsilon=1.0)
        >>> abs(moved.objective - solution.eta) < 1e-9, bool(abs(moved.point.sum()) < 1e-9)
        (True, True)
        """
        known = ("objective", "rhs", "epsilon", "temperature")
        wrong = [*map(repr, unnamed[:1]), *(name for name in directions if name not in known)]
        if wrong or not directions:
            raise UnsuitableError(
                f"sensitivity takes directions by name, of {', '.join(known)}, got {', '.join(wrong) or 'none'}"
            )
        program = movable(self)
        for name, now in (("epsilon", program.epsilon), ("temperature", program.temperature)):
            if name in directions:
                check_has(now, name, "program")
        objective = as_float_array(directions.get("objective", np.zeros(program.n)), "objective", (program.n,))
        rhs, place = np.zeros(program.rhs.size), program.by_name(np.arange(float(program.rhs.size)))
        for name, part in directions.get("rhs", {}).items():
            if name not in place:
                raise UnsuitableError(f"rhs has no rows {name!r}: the program has {', '.join(place) or 'none'}")
            rows = place[name].astype(int)
            rhs[rows] = as_float_array(part, f"rhs[{name!r}]", (rows.size,))
        rates = {name: as_scalar(directions.get(name, 0.0), name) for name in ("epsilon", "temperature")}
        found = moved(self, objective, rhs, **rates)
        readings = {"point": (("coordinate",), found.point), "multipliers": (("row",), found.multipliers)}
        return Sensitivity(found.objective, found.eta, readings)

    @property
    def epsilon_min(self) -> float:
        """Smallest radius for which the problem is feasible: zero when its reference is."""
        return float(self.problem.epsilon_min)

    @property
    def has_point(self) -> bool:
        """Whether there is a point to look at: certified or not, but neither infeasible nor failed."""
        return self.point is not None

    def rows(self) -> list[tuple[str, str]]:
        """Label and text of each line of the summary; subclasses add theirs."""
        lines = [("status", str(self.status))]
        if self.status is Status.INFEASIBLE:
            lines += [("epsilon_min", f"{self.epsilon_min:.9g}")]
        if self.has_point:
            check = self.certificate
            several = np.ndim(self.eta) > 0
            radii = [ball.allowed for ball in self.problem.program.balls] if several else [check.epsilon]
            if len(set(radii)) == 1:
                radii = radii[:1]
            ball = "" if radii == [math.inf] else f"   (epsilon {_listed(radii, 6)})"
            reached = _listed(self.divergences) if several else f"{check.kl:.9g}"
            lines += [
                ("objective", f"{self.objective:.10g}"),
                ("dual objective", f"{self.dual_objective:.10g}"),
                ("gap", f"{check.gap:.1e} in units of {check.unit:.3g}"),
                ("eta", _listed(self.eta) if several else f"{self.eta:.9g}"),
                ("divergence", f"{reached}{ball}"),
                ("residual", f"{check.flow:.1e}"),
            ]
        spent = ", ".join(f"{name} {value}" for name, value in self.stats.items() if isinstance(value, str | int))
        lines += [("spent", f"{spent}, {self.stats.get('seconds', math.nan):.3g} s")]
        return [*lines, ("message", self.message)] if self.message else lines

    @property
    def title(self) -> str:
        return repr(self.problem)

    def panels(self) -> list[Panel]:
        """What is drawn of its point, where it has one, and the numbers."""
        return [*(self._drawn() if self.has_point else ()), *super().panels()]

    def _drawn(self) -> list[Panel]:
        """What a figure shows of its point; subclasses say."""
        return []

    def numbers(self) -> dict[str, Any]:
        """Radius or temperature, eta, divergence, objectives, status and gap; subclasses add theirs."""
        found = {name: getattr(self, name) for name in ("eta", "kl", "objective", "dual_objective")}
        asked = {name: getattr(self.problem, name, None) for name in ("epsilon", "temperature")}
        numbers = {name: float(x) for name, x in {**asked, **found}.items() if x is not None and np.ndim(x) == 0}
        return {**numbers, "status": str(self.status), "gap": self.certificate.gap}

    def arrays(self) -> Arrays:
        """The point, over the coordinates; subclasses name theirs."""
        n = self.problem.program.n
        return {"point": (("coordinate",), np.full(n, math.nan) if self.point is None else self.point)}


S_co = TypeVar("S_co", bound=Solution, covariant=True)


class Viewed(Protocol[S_co]):
    """A problem as type checkers see it: one that says the class of its solution."""

    @property
    def view(self) -> type[S_co]:
        """The class of its solution."""
        ...


def _listed(numbers: Sequence[float] | FloatArray, digits: int = 5) -> str:
    """The first few of several numbers, in a line."""
    return ", ".join(f"{x:.{digits}g}" for x in numbers[:8]) + (", ..." if len(numbers) > 8 else "")
