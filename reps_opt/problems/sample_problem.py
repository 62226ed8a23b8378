"""What problems over the weights of samples share: their program, its degenerate cases, and how it is solved.

Shapes: N samples, d features; n samples of positive base weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.certify import Residuals
from reps_opt.constraints import Equal
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL
from reps_opt.hints import Hints
from reps_opt.problem import Problem
from reps_opt.problems.sample_flow import given_weights
from reps_opt.problems.sample_limits import best_weights
from reps_opt.problems.sample_solution import SampleSolution
from reps_opt.program import Program
from reps_opt.rows import ArrayRows, Rows, spectrum, spending
from reps_opt.scale import Scale
from reps_opt.solution import Solution
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.eta_search import EtaSearch, best_eta
from reps_opt.solvers.newton import Newton
from reps_opt.solvers.quasi_newton import QuasiNewton, rows_to_start
from reps_opt.threads import limited
from reps_opt.tolerances import (
    CLOSE,
    EVEN_FEATURES,
    LAST_PLACE,
    ROUNDING,
    SAMPLES_SLACK,
    SAMPLES_TOLERANCE,
    SMALL_ESS,
    USUAL_RADIUS,
)
from reps_opt.validation import (
    FloatArray,
    as_float_array,
    as_radius,
    as_scalar,
    check_shape,
    check_spread,
    read_only,
)
from reps_opt.values import cached_property, value

WEIGHTS = Hints(variable="weights")


class SampleProblem(Problem):
    """What sample problems share: rewards, base weights, feature rows with unit columns, ball or penalty.

    Subclasses give ``differences``: psi (N, d), or None without features. ``feature_rows`` hold
    ``-psi / column_scale`` (N, d), so that they read ``rows' w = 0`` with multiplier ``column_scale * theta``, signed
    as the flow of exact problems is. Dependent columns are replaced by a basis.
    """

    view = SampleSolution

    base_weights: FloatArray
    epsilon: float | None
    temperature: float | None
    ridge: float
    features: Any = None
    flow: Any = None
    """The :class:`~reps_opt.problems.sample_flow.SampleFlow` that the rows come from, where they come from a batch."""

    if TYPE_CHECKING:  # a field of some, another name for one in others

        @property
        def rewards(self) -> FloatArray:
            """Rewards, or returns (N,)."""

    @property
    def differences(self) -> Any:
        """psi (N, d), or None without features."""
        raise NotImplementedError

    @staticmethod
    def _checked(
        n: int, epsilon: float | None, base_weights: ArrayLike | None, ridge: float, temperature: float | None
    ) -> dict[str, Any]:
        """The validated fields that all have."""
        radius, price = as_radius(epsilon, temperature, default=USUAL_RADIUS)
        base = given_weights(base_weights, n)
        base /= base.sum()
        return {
            "base_weights": read_only(base),
            "temperature": price,
            "epsilon": radius,
            "ridge": as_scalar(ridge, "ridge", low=0.0),
        }

    @property
    def base(self) -> FloatArray:
        """Base weights (N,), summing to one."""
        return self.base_weights

    @cached_property
    def _equilibrated(self) -> tuple[Rows, FloatArray]:
        """``-psi`` with columns of root mean square one under the base weights, and their scale (d,)."""
        if self.differences is None:
            return ArrayRows(np.zeros((self.rewards.size, 0))), np.zeros(0)
        rows = _as_rows(self.differences)
        with limited():
            rms, largest = rows.summary(self.base_weights)
        scale = np.where(rms > 0, rms, np.where(largest > 0, largest, 1.0))
        return rows.scaled(-1.0 / scale), scale

    @property
    def feature_rows(self) -> Rows:
        """``-psi / column_scale`` (N, d)."""
        return self._equilibrated[0]

    @property
    def column_scale(self) -> FloatArray:
        """Root mean square (d,) of the columns of psi under the base weights."""
        return self._equilibrated[1]

    @cached_property
    def support(self) -> np.ndarray:
        """Positions (n,) of the samples with positive base weight: the others keep weight zero."""
        return np.flatnonzero(self.base > 0)

    @cached_property
    def program(self) -> Program:
        """The :class:`~reps_opt.program.Program` over the supported samples, in reward units and unit columns."""
        whole = self.support.size == self.base.size
        rows = self.feature_rows if whole else ArrayRows(self.feature_rows.take(self.support))
        rows = rows.fresh() if self.basis is None else rows.combined(self.basis)
        d = rows.shape[1]
        reference = KL(self.base if whole else self.base[self.support])
        program = Program(
            self.rewards if whole else self.rewards[self.support],
            {"features": Equal(rows.T, np.zeros(d))} if d else {},
            Ball(reference, radius=self.epsilon, price=self.temperature),
            ridge=self.ridge / self.column_scale**2 if self.ridge and d else None,
            hints=WEIGHTS,
        )
        return program.hinted(linear_limit=partial(best_weights, program))  # of self it would be a circle of memory

    @cached_property
    def normalised(self) -> tuple[Program, Scale]:
        """The program in units of its own; where it starts nobody looks for a centre, which would cost a projection."""
        return self.program.normalised()

    @cached_property
    def _needs_no_solver(self) -> bool:
        constant = self.program.constant and self.program.ridge is None
        return constant or self.epsilon == 0 or self.program.n == 1

    def infeasible(self) -> str:
        """Why no weights within the ball match the features, where that decides before any solver runs."""
        return self._why_infeasible(ROUNDING) if self._needs_no_solver else ""

    def reconsider(self, program: Program) -> str:
        return self._why_infeasible(CLOSE)

    def _why_infeasible(self, margin: float) -> str:
        least = self.centre.divergence
        if least == math.inf:
            return (
                "some combination of the features moves one way in every sample: no weights match them, "
                "whatever epsilon; take more samples, fewer features, or a ridge"
            )
        if self.epsilon is None or self.epsilon >= least - margin:
            return ""
        return (
            f"no weights within epsilon = {self.epsilon:g} match the features: it takes at least {least:.9g}; "
            "take more samples, fewer features, a ridge, or a larger epsilon"
        )

    def closed_form(self, program: Program) -> Answer | None:
        """Answer that needs no solver: a ball that holds one point, rewards all the same, or a single sample."""
        if not self._needs_no_solver:
            return None
        v = np.zeros(program.rhs.size)
        if program.ridge is not None:  # the point is given: its mismatch sets the multipliers
            v = -program.residual(self.centre.point) / program.ridge
        if self.epsilon is not None and self.epsilon - self.centre.divergence <= LAST_PLACE and program.n > 1:
            return Answer(math.inf, v, self.centre.point, "the ball holds a single point")
        if program.temperature is not None:
            v = v + self.centre.multipliers * program.temperature
            return Answer(program.temperature, v, self.centre.point, "the rewards are constant")
        return Answer(0.0, v, self.centre.point, "the rewards are constant")

    @cached_property
    def _spectrum(self) -> tuple[FloatArray, FloatArray] | None:
        """Singular values (d,) of the rows and their directions (d, d); None where a few rows show them to be even."""
        n, d = self.feature_rows.shape
        few = 2 * d + 64
        if d == 0:
            return None
        with limited():
            if n > 4 * few:
                some = self.feature_rows.take(np.sort(np.random.default_rng(0).choice(n, few, replace=False)))
                singular, _ = spectrum(ArrayRows(some).triangle())
                if singular[-1] > EVEN_FEATURES * singular[0]:
                    return None
            return spectrum(self.feature_rows.triangle())

    @cached_property
    def null_space(self) -> FloatArray:
        """Orthonormal directions (d, k) of ``column_scale * theta`` that change nothing."""
        if self._spectrum is None:
            return np.zeros((self.column_scale.size, 0))
        singular, directions = self._spectrum
        return directions[:, singular <= ROUNDING * singular[0]]

    @cached_property
    def basis(self) -> FloatArray | None:
        """Directions (d, rank) that the program is posed in, in which the rows are white; None for the features.

        Features that are nearly dependent, or quite, would cost the Gram matrices half of their digits.
        """
        if self._spectrum is None or self.ridge:
            return None
        singular, directions = self._spectrum
        kept = singular > ROUNDING * singular[0]
        return (
            None if singular[-1] > EVEN_FEATURES * singular[0] else directions[:, kept] * (singular[0] / singular[kept])
        )

    def theta(self, multipliers: FloatArray) -> FloatArray:
        """Weights of the features (d,) from multipliers of the program's rows: the shortest that do the same."""
        scaled = multipliers if self.basis is None else self.basis @ multipliers
        theta = scaled / self.column_scale
        if self.basis is None:
            return theta
        null = np.linalg.qr(self.null_space / self.column_scale[:, None])[0]
        return theta - null @ (null.T @ theta)

    def polished(self, program: Program, answer: Answer) -> Answer:
        """The answer with the best eta for its other multipliers, where its own misses the sphere."""
        v, eta = answer.multipliers, answer.eta
        if v is None or program.epsilon is None or not 0 < eta < math.inf:
            return answer
        dual = program.dual(eta, v)
        if abs(dual.divergence - program.epsilon) <= CLOSE:
            return answer
        best = best_eta(program, dual.net)
        return replace(answer, eta=best) if best > 0 else answer

    def candidates(self, program: Program, answer: Answer) -> Iterator[FloatArray]:
        if answer.eta == math.inf and answer.multipliers is not None:
            yield self.centre.point
            return
        yield from super().candidates(program, answer)

    def residuals(self, program: Program, point: FloatArray) -> Residuals:
        """What the weights miss in all the columns given, even where the program has a basis of them."""
        found = super().residuals(program, point)
        if program.ridge is not None or self.basis is None:
            return found
        return found._replace(flow=float(np.abs(self.feature_rows.T @ self.spread(point)).sum()))

    def spread(self, point: FloatArray) -> FloatArray:
        """Weights (N,) of all samples from those (n,) of positive base weight."""
        if self.support.size == self.base.size:
            return point
        weights = np.zeros(self.base.size)
        weights[self.support] = point
        return weights

    def pick(self, table: FloatArray) -> FloatArray:
        """Weights (n,) of the samples with positive base weight."""
        return np.asarray(table, dtype=np.float64)[self.support]

    def warn(self, solution: Solution) -> str:
        assert isinstance(solution, SampleSolution)
        n = self.rewards.size
        if n == 1 or solution.ess >= SMALL_ESS:
            return ""
        return f"the effective sample size is {solution.ess:.2f} of {n}: take a smaller epsilon or more samples"

    def spent(self) -> dict[str, Any]:
        """What scaling, rank and basis cost, in Grams, where there are features."""
        if self.column_scale.size == 0:
            return {}
        grams = self.feature_rows.grams + (0.0 if self.basis is None else 1.0)
        return {"setup_gram_equivalents": spending(self.feature_rows.passes, grams)["gram_equivalents"]}

    def default_solver(self) -> Solver:
        if self.column_scale.size == 0:
            return EtaSearch()
        few = None if self.ridge else rows_to_start(self.program.n, self.program.rhs.size, self.epsilon)
        return Newton(tolerance=SAMPLES_TOLERANCE, slack_suspected=SAMPLES_SLACK) if few is None else QuasiNewton()

    def __repr__(self) -> str:
        ball = f"epsilon={self.epsilon:g}" if self.epsilon is not None else f"temperature={self.temperature:g}"
        ball += f", ridge={self.ridge:g}" if self.ridge else ""
        return f"{type(self).__name__}({self.rewards.size} samples, {self.column_scale.size} features, {ball})"


@value
class TransitionProblem(SampleProblem):
    """Weights of sampled transitions that match features: :class:`~reps_opt.SampleREPS` without its batches."""

    spared = ("features",)  # a file of the solution may do without: they take no part in solving

    rewards: FloatArray
    feature_differences: Any
    epsilon: float | None
    base_weights: FloatArray
    ridge: float
    temperature: float | None
    features: Any
    flow: Any

    def __init__(
        self,
        rewards: ArrayLike,
        feature_differences: Any,
        epsilon: float | None = None,
        base_weights: ArrayLike | None = None,
        ridge: float = 0.0,
        temperature: float | None = None,
        features: Any = None,
        flow: Any = None,
    ) -> None:
        r = as_samples(rewards, "rewards")
        psi = as_features(feature_differences, "feature_differences", r.size)
        shared = self._checked(r.size, epsilon, base_weights, ridge, temperature)
        self._assign(rewards=read_only(r.copy()), feature_differences=psi, features=features, flow=flow, **shared)
        _ = self._equilibrated  # bad features are found here, not when solving

    @property
    def differences(self) -> Any:
        return self.feature_differences


def as_samples(values: ArrayLike, name: str) -> FloatArray:
    """Numbers (N,), one a sample, at least one."""
    array = as_float_array(values, name, ("N",), finite=False)
    if array.size == 0:
        raise ValueError(f"{name} is empty: at least one sample is needed")
    check_spread(array, name)
    return array


def as_features(values: Any, name: str, n: int) -> Any:
    """A feature matrix (n, d): checked now if in memory, pass by pass if not."""
    if hasattr(values, "dask"):
        return _checked_lazily(values, name, n)
    return as_float_array(values, name, (n, "d"))


def _checked_lazily(values: Any, name: str, n: int) -> Any:
    """A dask array (n, d) of real numbers, none of them masked."""
    if values.dtype.kind not in "biufO":
        raise TypeError(f"{name} must be real numbers, got a dask array of dtype {values.dtype}")
    if any(np.isnan(values.shape)):
        raise ValueError(f"{name} must have a known shape, got {values.shape}: call its compute_chunk_sizes()")
    if isinstance(values._meta, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked dask array: leave masked rows out, or fill them by da.ma.filled")
    check_shape(values, name, (n, "d"))
    return values


def _as_rows(differences: Any) -> Rows:
    """Rows of an array in memory, or of a dask array of any size."""
    if isinstance(differences, np.ndarray):
        return ArrayRows(np.ascontiguousarray(differences))
    from reps_opt.dask_rows import DaskRows

    return DaskRows(differences)
