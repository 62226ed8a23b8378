"""What problems over the weights of samples share: their program, its degenerate cases, and how it is solved.

Shapes: N samples, d features; n samples of positive base weight.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.divergences.base import KL
from reps_opt.problem import Problem
from reps_opt.problems.sample_limits import best_weights
from reps_opt.problems.sample_readback import read_infeasible, read_weights
from reps_opt.problems.sample_solution import SampleSolution
from reps_opt.program import Block, Centre, LinearLimit, Program, Scale
from reps_opt.rows import ArrayRows, Rows, as_rows, spectrum
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.newton import Newton
from reps_opt.solvers.quasi_newton import QuasiNewton, rows_to_start
from reps_opt.solvers.scalar_dual import ScalarDual
from reps_opt.validation import FloatArray, as_float_array, as_scalar, check_nonnegative, check_shape, read_only

MATCHED = 1e-11
"""1-norm of the residual, in features of root mean square one, up to which weights match the features."""

SINGLE_POINT = 1e-15
"""Radius, beyond the smallest feasible one, up to which the ball counts as a single point."""

EVEN = 1e-4
"""Least singular value, relative to the largest, for which the features are used as they are."""

DEPENDENT = 1e-12
"""Singular values below this fraction of the largest count as zero: their residual is below any tolerance."""


class SampleProblem(Problem):
    """What sample problems share: rewards, base weights, feature rows with unit columns, ball or penalty.

    ``rows`` holds ``-psi / column_scale`` (N, d), so that they read ``rows' w = 0`` with multiplier
    ``column_scale * theta``, signed as the flow of exact problems is. Dependent columns are replaced by a basis.
    """

    rewards: FloatArray
    base: FloatArray
    rows: Rows
    column_scale: FloatArray
    epsilon: float | None
    temperature: float | None
    ridge: float
    features: Any = None
    flow: Any = None
    """The :class:`~reps_opt.problems.sample_flow.SampleFlow` that the rows come from, where they come from a batch."""

    def _set(
        self,
        rewards: FloatArray,
        differences: Any,
        epsilon: float | None,
        base_weights: ArrayLike | None,
        temperature: float | None,
        ridge: float,
    ) -> None:
        self.rewards = read_only(rewards.copy())
        self.base = read_only(as_base(base_weights, rewards.size))
        self.temperature = None if temperature is None else as_scalar(temperature, "temperature", low=0, low_open=True)
        self.epsilon = None if temperature is not None else as_scalar(epsilon, "epsilon", low=0.0, infinite=True)
        self.ridge = as_scalar(ridge, "ridge", low=0.0)
        if differences is None:
            self.rows, self.column_scale = ArrayRows(np.zeros((rewards.size, 0))), np.zeros(0)
        else:
            self.rows, self.column_scale = _equilibrated(differences, self.base)

    @cached_property
    def support(self) -> np.ndarray:
        """Positions (n,) of the samples with positive base weight: the others keep weight zero."""
        return np.flatnonzero(self.base > 0)

    @cached_property
    def program(self) -> Program:
        """The :class:`~reps_opt.program.Program` over the supported samples, in reward units and unit columns."""
        whole = self.support.size == self.base.size
        rows = self.rows if whole else ArrayRows(self.rows.take(self.support))
        rows = rows.fresh() if self.basis is None else rows.combined(self.basis)
        d = rows.shape[1]
        return Program(
            self.rewards if whole else self.rewards[self.support],
            KL(self.base if whole else self.base[self.support]),
            self.epsilon,
            {"features": Block(rows.T, np.zeros(d))} if d else {},
            temperature=self.temperature,
            ridge=self.ridge / self.column_scale**2 if self.ridge and d else None,
            linear_limit=self._linear_limit,
            variable="weights",
        )

    @cached_property
    def normalised(self) -> tuple[Program, Scale]:
        """The program with rewards of range one, and how to undo the scaling."""
        return self.program.normalised()

    @cached_property
    def centre(self) -> Centre:
        """The weights that match the features closest to the base; of divergence infinity where none do."""
        program = self.program
        base = program.divergence.reference
        at_base = Centre(base, np.zeros(program.rhs.size), 0.0)
        if program.ridge is not None or np.abs(program.residual(base)).sum() <= MATCHED:
            return at_base
        answer = Newton().project(program)
        assert answer.point is not None
        assert answer.multipliers is not None
        least = -program.divergence.conjugate(-(program.transpose @ answer.multipliers)).value
        if least > program.divergence.largest:
            return replace(at_base, divergence=math.inf)
        return Centre(answer.point, answer.multipliers, max(least, 0.0))

    @property
    def epsilon_min(self) -> float:
        """Smallest radius at which some weights match the features; infinite when none do."""
        return self.centre.divergence

    @property
    def _needs_no_solver(self) -> bool:
        constant = np.ptp(self.program.objective) == 0 and self.program.ridge is None
        return constant or self.epsilon == 0 or self.program.n == 1

    @property
    def infeasible(self) -> bool:
        """Whether no weights within the ball match the features, where that decides before any solver runs."""
        if not self._needs_no_solver:
            return False
        least = self.centre.divergence
        return least == math.inf or (self.epsilon is not None and self.epsilon < least - MATCHED)

    def closed_form(self, program: Program) -> Answer | None:
        """Answer that needs no solver: a ball that holds one point, rewards all the same, or a single sample."""
        if not self._needs_no_solver:
            return None
        v = np.zeros(program.rhs.size)
        if program.ridge is not None:  # the point is given: its mismatch sets the multipliers
            v = -program.residual(self.centre.point) / program.ridge
        if self.epsilon is not None and self.epsilon - self.centre.divergence <= SINGLE_POINT and program.n > 1:
            return Answer(math.inf, v, self.centre.point, "the ball holds a single point")
        if program.temperature is not None:
            v = v + self.centre.multipliers * program.temperature
            return Answer(program.temperature, v, self.centre.point, "the rewards are constant")
        return Answer(0.0, v, self.centre.point, "the rewards are constant")

    @cached_property
    def _spectrum(self) -> tuple[FloatArray, FloatArray] | None:
        """Singular values (d,) of the rows and their directions (d, d); None where a few rows show them to be even."""
        n, d = self.rows.shape
        few = 2 * d + 64
        if d == 0:
            return None
        if n > 4 * few:
            some = self.rows.take(np.sort(np.random.default_rng(0).choice(n, few, replace=False)))
            singular, _ = spectrum(ArrayRows(some).triangle())
            if singular[-1] > EVEN * singular[0]:
                return None
        return spectrum(self.rows.triangle())

    @cached_property
    def null_space(self) -> FloatArray:
        """Orthonormal directions (d, k) of ``column_scale * theta`` that change nothing."""
        if self._spectrum is None:
            return np.zeros((self.column_scale.size, 0))
        singular, directions = self._spectrum
        return directions[:, singular <= DEPENDENT * singular[0]]

    @cached_property
    def basis(self) -> FloatArray | None:
        """Directions (d, rank) that the program is posed in, in which the rows are white; None for the features.

        Features that are nearly dependent, or quite, would cost the Gram matrices half of their digits.
        """
        if self._spectrum is None or self.ridge:
            return None
        singular, directions = self._spectrum
        kept = singular > DEPENDENT * singular[0]
        return None if singular[-1] > EVEN * singular[0] else directions[:, kept] * (singular[0] / singular[kept])

    def theta(self, multipliers: FloatArray) -> FloatArray:
        """Weights of the features (d,) from multipliers of the program's rows: the shortest that do the same."""
        scaled = multipliers if self.basis is None else self.basis @ multipliers
        theta = scaled / self.column_scale
        if self.basis is None:
            return theta
        null = np.linalg.qr(self.null_space / self.column_scale[:, None])[0]
        return theta - null @ (null.T @ theta)

    def solution(self, program: Program, answer: Answer) -> SampleSolution:
        return read_weights(self, program, answer)

    def infeasible_solution(self) -> SampleSolution:
        return read_infeasible(self)

    def default_solver(self) -> Solver:
        if self.column_scale.size == 0:
            return ScalarDual()
        few = None if self.ridge else rows_to_start(self.program.n, self.program.rhs.size, self.epsilon)
        return Newton(tolerance=5e-11, slack_suspected=1e-2) if few is None else QuasiNewton()

    def _linear_limit(self) -> LinearLimit:
        return best_weights(self.program)

    def to_cvxpy(self, side: str = "primal") -> Any:
        """The problem as a ``cvxpy.Problem`` to inspect, in reward units and in features of root mean square one.

        Parameters
        ----------
        side
            ``"primal"``: variable ``weights`` (n,), constraints labelled ``features``,
            ``normalisation`` and ``kl``. ``"dual"``: variables ``features`` (theta times the scale of the columns),
            ``normalisation`` and ``kl`` (eta).

        Returns
        -------
        cvxpy.Problem
            Made anew at every call.
        """
        from reps_opt.solvers.cvxpy_conic import pose

        return pose(self.program, side).problem

    def __repr__(self) -> str:
        ball = f"epsilon={self.epsilon:g}" if self.epsilon is not None else f"temperature={self.temperature:g}"
        ball += f", ridge={self.ridge:g}" if self.ridge else ""
        return f"{type(self).__name__}({self.rewards.size} samples, {self.column_scale.size} features, {ball})"


def as_samples(values: ArrayLike, name: str) -> FloatArray:
    """Numbers (N,), one a sample, at least one."""
    array = as_float_array(values, name, ("N",))
    if array.size == 0:
        raise ValueError(f"{name} is empty: at least one sample is needed")
    return array


def as_features(values: Any, name: str, n: int) -> Any:
    """A feature matrix (n, d): checked now if in memory, pass by pass if not."""
    if hasattr(values, "dask"):
        check_shape(values, name, (n, "d"))
        return values
    return as_float_array(values, name, (n, "d"))


def as_base(base_weights: ArrayLike | None, n: int) -> FloatArray:
    """Base weights (n,) that sum to one, uniform by default."""
    if base_weights is None:
        return np.full(n, 1.0 / n)
    base = as_float_array(base_weights, "base_weights", (n,))
    check_nonnegative(base, "base_weights")
    total = float(base.sum())
    if total == 0:
        raise ValueError("base_weights sum to zero: some sample must count")
    return base / total


def _equilibrated(differences: Any, base: FloatArray) -> tuple[Rows, FloatArray]:
    """``-psi`` with columns of root mean square one under the base weights, and their scale (d,)."""
    rows = as_rows(differences)
    summary = rows.summary(base)
    rms, largest = summary
    scale = np.where(rms > 0, rms, np.where(largest > 0, largest, 1.0))
    return rows.scaled(-1.0 / scale), scale
