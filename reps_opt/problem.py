"""What a problem is to :func:`reps_opt.solve`: data, a program, and the way back from a solver's answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from reps_opt.program import Program, Scale
from reps_opt.solution import Solution
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.newton import Newton


class Problem(ABC):
    """A problem holds data and states its mathematics; it does not know how it will be solved."""

    @property
    def infeasible(self) -> bool:
        """Whether no point satisfies the constraints, proven from the data before any solver runs."""
        return False

    @property
    def routes(self) -> tuple[type, ...] | None:
        """Solvers that take this problem's program; None where any of them does."""
        return None

    @property
    @abstractmethod
    def normalised(self) -> tuple[Program, Scale]:
        """The program with its objective scaled to range one, and how to undo that."""

    def closed_form(self, program: Program) -> Answer | None:
        """The answer to the normalised program where it needs no solver, else None."""
        return None

    def direct(self, solver: Solver) -> Answer | None:
        """The answer of a solver that takes the data as they are, no program posed; None where it takes a program.

        For problems so small that posing a program takes as long as solving it.
        """
        return None

    @abstractmethod
    def solution(self, program: Any, answer: Answer) -> Solution:
        """Read a solver's answer to the normalised program back in this problem's words, and certify it.

        ``program`` is None where the answer came by :meth:`direct`, from the data without a program.
        """

    def infeasible_solution(self) -> Solution:
        """What to return where ``infeasible`` holds."""
        raise NotImplementedError

    def warm_start(self, program: Program, solution: Solution) -> Program:
        """The normalised program, told to start from the solution of a nearby problem."""
        raise TypeError(f"start is not taken by {type(self).__name__}: its solvers have no use for one")

    def default_solver(self) -> Solver:
        """The route taken when none is named."""
        return Newton()
