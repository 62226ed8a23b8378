r"""One convex program for every update, and its dual.

.. math::
    \text{maximise}\quad \langle c, x\rangle \quad\text{s.t.}\quad
    A x = b \;[v], \quad C x \le d \;[\nu \ge 0], \quad D(x) \le \epsilon \;[\eta \ge 0],
    \quad x \ge 0,\; \mathbf 1'x = 1 \;[\lambda]

(the last two where the divergence lives on the simplex; otherwise x is any vector)

.. math::
    \text{minimise}\quad g(\eta, v, \nu) = \eta\epsilon + b'v + d'\nu + \eta D^*\!\big((c - A'v - C'\nu)/\eta\big),
    \qquad x = \nabla D^*\!\big((c - A'v - C'\nu)/\eta\big)

Shapes: n coordinates of x; m rows in all, equalities first; ``multipliers`` stacks v and nu (m,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from reps_opt.divergences.base import KL, Conjugate, Divergence
from reps_opt.processes.graph import BoolArray, IntArray
from reps_opt.rows import Transposed
from reps_opt.validation import FloatArray


class Block(NamedTuple):
    """Named linear constraints: ``matrix @ x == rhs`` or ``matrix @ x <= rhs``, matrix (k, n), rhs (k,).

    The matrix is sparse, an array, or the transpose of :class:`~reps_opt.rows.Rows`: dense, maybe larger than memory.
    """

    matrix: Any
    rhs: FloatArray

    @property
    def in_memory(self) -> Any:
        """The matrix as it is if sparse, else as an array."""
        return self.matrix if sp.issparse(self.matrix) or isinstance(self.matrix, np.ndarray) else self.matrix.T.array.T

    @property
    def dense(self) -> FloatArray:
        """The matrix as an array (k, n)."""
        matrix = self.in_memory
        return matrix.toarray() if sp.issparse(matrix) else matrix


class Scale(NamedTuple):
    """Rewards in units of their range: ``original = shift + factor * normalised``."""

    shift: float
    factor: float


@dataclass(frozen=True)
class Centre:
    """The point of the constraints that is closest to the reference, in divergence.

    Attributes
    ----------
    point : (n,) array
        The reference itself where it satisfies the constraints.
    multipliers : (m,) array
        v0 with ``point = grad D*(-A'v0)``; zero for the reference itself.
    divergence : float
        D(point): the smallest radius for which the program is feasible.
    """

    point: FloatArray
    multipliers: FloatArray
    divergence: float


@dataclass(frozen=True)
class LinearLimit:
    """The eta -> 0 limit: the point of the linear program's optimal face that is closest to the reference.

    Attributes
    ----------
    point : (n,) array
        The point itself.
    multipliers : (m,) array
        Optimal multipliers of the linear program.
    divergence : float
        D(point): the smallest radius at which the ball is slack.
    """

    point: FloatArray
    multipliers: FloatArray
    divergence: float


@dataclass(frozen=True)
class DualPoint:
    """The dual function at one (eta, multipliers), with everything its derivatives need.

    Attributes
    ----------
    value : float
        g: an upper bound on the optimum, whatever the point.
    slack : (n,) array
        ``c - A'v - C'nu``: the Bellman error, where the rows are the flow.
    conjugate : Conjugate
        D* at ``slack / eta``; its ``point`` is the primal candidate x.
    residual : (m,) array
        ``(b, d) - (A, C) x``, plus ``ridge v`` where rows are softened: the gradient of g in the multipliers.
    divergence : float
        D(x); ``epsilon - divergence`` is dg/d eta.
    coupling : (m,) array or None
        ``(A, C) D*'' (slack / eta)``, where the evaluation gave it: how the residual moves with log eta.
    """

    eta: float
    multipliers: FloatArray
    value: float
    slack: FloatArray
    conjugate: Conjugate
    residual: FloatArray
    divergence: float
    coupling: FloatArray | None = None


@dataclass(frozen=True)
class Program:
    """A linear objective over a divergence ball with named linear constraints.

    Parameters
    ----------
    objective
        c (n,).
    divergence
        D; :class:`~reps_opt.divergences.NoBall` makes a linear program.
    epsilon
        Radius of the ball.
    equalities, inequalities
        Blocks by name. That x is non-negative and sums to one belongs to the divergence's domain.
    temperature
        A fixed eta > 0: then ``eta D(x)`` is subtracted from the objective instead of a ball (``epsilon`` is None).
    grounds
        Rows whose multiplier can be fixed at zero, one for each combination of rows that vanishes identically.
    mass_implied
        Whether some combination of the rows already says ``sum x = 1``.
    ridge
        Softens the rows, (m,) or None: the dual gains ``ridge v^2 / 2`` and the primal, instead of ``A x = b``, loses
        ``(b - A x)^2 / (2 ridge)``.
    linear_limit
        Computes the :class:`LinearLimit` of this program.
    centre
        The :class:`Centre`; None when the reference satisfies the constraints.
    variable
        What x is called where a reader sees it.
    start
        Multipliers (m,) to start from, sensible in rows without mass too: for a flow, the reference policy's value.
    warm
        Eta and multipliers (m,) of a nearby program's solution, to start from instead.
    """

    objective: FloatArray
    divergence: Divergence
    epsilon: float | None
    equalities: Mapping[str, Block] = field(default_factory=dict)
    inequalities: Mapping[str, Block] = field(default_factory=dict)
    temperature: float | None = None
    grounds: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    mass_implied: bool = False
    ridge: FloatArray | None = None
    linear_limit: Callable[[], LinearLimit] | None = None
    centre: Centre | None = None
    variable: str = "occupancy"
    start: FloatArray | None = None
    warm: tuple[float, FloatArray] | None = None

    @property
    def n(self) -> int:
        """Number of coordinates."""
        return self.objective.size

    @cached_property
    def matrix(self) -> Any:
        """All rows (m, n): equalities, then inequalities; a single block stays what it is, dense rows included."""
        blocks = [*self.equalities.values(), *self.inequalities.values()]
        if not blocks:
            return _no_rows(self.n)[0]
        if len(blocks) == 1 and not sp.issparse(blocks[0].matrix):
            return blocks[0].matrix
        matrices = [block.in_memory for block in blocks]
        sparse = [matrix if sp.issparse(matrix) else sp.csr_array(matrix) for matrix in matrices]
        return sp.vstack(sparse, format="csr")

    @cached_property
    def transpose(self) -> Any:
        """``matrix.T`` (n, m), in row order."""
        if not self.rhs.size:
            return _no_rows(self.n)[1]
        return self.matrix.T.tocsr() if sp.issparse(self.matrix) else self.matrix.T

    @cached_property
    def rhs(self) -> FloatArray:
        """Right-hand sides (m,)."""
        blocks = [*self.equalities.values(), *self.inequalities.values()]
        return np.concatenate([block.rhs for block in blocks]) if blocks else np.zeros(0)

    @cached_property
    def signed(self) -> BoolArray:
        """Rows (m,) whose multiplier must be >= 0: the inequalities."""
        n_equal = sum(block.rhs.size for block in self.equalities.values())
        return np.arange(self.rhs.size) >= n_equal

    @property
    def unbounded(self) -> bool:
        """Whether the ball holds the whole simplex, so that only the linear program is left."""
        return self.epsilon is not None and self.epsilon >= self.divergence.largest

    def by_name(self, multipliers: FloatArray) -> dict[str, FloatArray]:
        """Split stacked multipliers (m,) into one array a block."""
        blocks = {**self.equalities, **self.inequalities}
        ends = np.cumsum([block.rhs.size for block in blocks.values()])[:-1]
        return dict(zip(blocks, np.split(multipliers, ends), strict=True))

    def normalised(self) -> tuple[Program, Scale]:
        """The same program with its objective shifted and scaled to range one, and how to undo that.

        A constant shift of the objective is a constant on the simplex, and eta, v, nu scale with the objective. Off
        the simplex nothing is shifted, and the largest coefficient becomes one.
        """
        low, high = float(self.objective.min()), float(self.objective.max())
        if not self.divergence.simplex:
            low, high = 0.0, max(-low, high)
        softened = (
            abs(low) if self.ridge is not None else 0.0
        )  # constant rewards are a unit where a mismatch has a price
        factor = high - low or softened or 1.0
        shifted = replace(self, objective=self.objective - low)
        return self._with_rows(shifted).in_units_of(factor), Scale(low, factor)

    def in_units_of(self, unit: float) -> Program:
        """The same program with its objective, and with it eta, v and nu, divided by ``unit``."""
        limit = self.linear_limit
        scaled = replace(
            self,
            objective=self.objective / unit,
            temperature=None if self.temperature is None else self.temperature / unit,
            ridge=None if self.ridge is None else self.ridge * unit,
            linear_limit=None if limit is None else lambda: _scaled_limit(limit(), unit),
            start=None if self.start is None else self.start / unit,
            warm=None if self.warm is None else (self.warm[0] / unit, self.warm[1] / unit),
        )
        return self._with_rows(scaled)

    def _with_rows(self, other: Program) -> Program:
        """The other program, given the stacked rows of this one, which are the same."""
        for shared in ("matrix", "transpose", "rhs", "signed"):
            other.__dict__[shared] = getattr(self, shared)
        return other

    def fresh(self) -> Program:
        """The same program with dense rows of its own, whose memory is then one solve's business and one thread's."""
        if not isinstance(self.matrix, Transposed):
            return self
        (name, block), *_ = self.equalities.items()
        return replace(self, equalities={name: Block(block.matrix.T.fresh().T, block.rhs)})

    def warmed(self, warm: tuple[float, FloatArray]) -> Program:
        """The same program with a nearby solution's eta and multipliers to start from, in this program's units."""
        return self._with_rows(replace(self, warm=warm))

    def residual(self, x: FloatArray) -> FloatArray:
        """``(b, d) - (A, C) x`` (m,)."""
        return self.rhs - self.matrix @ x if self.rhs.size else np.zeros(0)

    def violation(self, x: FloatArray) -> float:
        """1-norm of what x misses in the rows: of the residual of equalities, of the excess over inequalities."""
        residual = self.residual(x)
        return float(np.abs(np.where(self.signed, np.minimum(residual, 0.0), residual)).sum())

    def slack(self, multipliers: FloatArray) -> FloatArray:
        """``c - A'v - C'nu`` (n,)."""
        return self.objective - self.transpose @ multipliers if multipliers.any() else self.objective.copy()

    def score(self, x: FloatArray) -> float:
        """Primal objective: ``<c, x>``, less ``temperature * D(x)`` in penalty form and the price of softened rows."""
        value = float(self.objective @ x)
        if self.ridge is not None:
            value -= float(np.sum(self.residual(x) ** 2 / self.ridge)) / 2
        return value if self.temperature is None else value - self.temperature * self.divergence.value(x)

    def dual(self, eta: float, multipliers: FloatArray) -> DualPoint:
        """Dual function and derivatives at ``eta > 0``; remembered until the next, for whoever certifies the answer."""
        last: DualPoint | None = self.__dict__.get("_last")
        if last is None or last.eta != eta or not np.array_equal(last.multipliers, multipliers):
            last = self._evaluate(eta, multipliers.copy())
            self.__dict__["_last"] = last
        return last

    def _evaluate(self, eta: float, multipliers: FloatArray) -> DualPoint:
        """The dual at one point; over dense rows in one pass."""
        if isinstance(self.matrix, Transposed) and isinstance(self.divergence, KL):
            tilted = self.transpose.tilt(multipliers, self.objective, self.divergence.log_reference, eta)
            conjugate = Conjugate(tilted.normaliser, tilted.point, tilted.point, tilted.normaliser)
            point = self._dual_point(eta, multipliers, tilted.slack, conjugate, self.rhs - tilted.total)
            return replace(point, coupling=tilted.coupling)
        slack = self.slack(multipliers)
        conjugate = self.divergence.conjugate(slack / eta)
        return self._dual_point(eta, multipliers, slack, conjugate, self.residual(conjugate.point))

    def _dual_point(
        self, eta: float, multipliers: FloatArray, slack: FloatArray, conjugate: Conjugate, residual: FloatArray
    ) -> DualPoint:
        """The dual's value and derivatives from the conjugate at ``slack / eta``."""
        value = float(self.rhs @ multipliers + eta * conjugate.value)
        if self.epsilon is not None:
            value += eta * self.epsilon
        shift = conjugate.value if self.divergence.simplex else 0.0  # taken inside <x, y> where x sums to one
        divergence = float(conjugate.point @ (slack / eta - shift)) - (conjugate.value - shift)
        if self.ridge is not None:
            value += float(self.ridge @ multipliers**2) / 2
            residual = residual + self.ridge * multipliers
        return DualPoint(eta, multipliers, value, slack, conjugate, residual, divergence)

    def bound(self, eta: float, multipliers: FloatArray) -> float:
        """Upper bound on the optimum from any ``eta >= 0`` and multipliers of the right sign (weak duality)."""
        if eta > 0:
            return self.dual(eta, multipliers).value
        softened = 0.0 if self.ridge is None else float(self.ridge @ multipliers**2) / 2
        return float(self.rhs @ multipliers) + self.divergence.support(self.slack(multipliers)) + softened

    def least_score(self, eta: float) -> float:
        """Lower bound on the score of every feasible point, in penalty form with eta for the temperature."""
        if self.ridge is not None:
            return -math.inf
        penalty = 0.0 if self.temperature is None else eta * self.divergence.largest
        return float(self.objective.min()) - penalty


@lru_cache(maxsize=8)
def _no_rows(n: int) -> tuple[sp.csr_array, sp.csr_array]:
    """Empty rows (0, n) and their transpose, kept: making them takes longer than a small dual without rows."""
    return sp.csr_array((0, n)), sp.csr_array((n, 0))


def _scaled_limit(limit: LinearLimit, factor: float) -> LinearLimit:
    return replace(limit, multipliers=limit.multipliers / factor)
