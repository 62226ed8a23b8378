r"""One convex program for every update, and its dual.

.. math::
    \text{maximise}\quad \langle c, x\rangle \quad\text{s.t.}\quad
    A x = b \;[v], \quad C x \le d \;[\nu \ge 0], \quad D_k(x) \le \epsilon_k \;[\eta_k \ge 0],
    \quad x \ge 0,\; \mathbf 1'x = 1 \;[\lambda]

(the last two where the domain is the simplex; otherwise x is any vector)

.. math::
    \text{minimise}\quad g(\eta, v, \nu) = \eta'\epsilon + b'v + d'\nu
    + \Big(\sum_k \eta_k D_k\Big)^{\!*}\big(c - A'v - C'\nu\big),
    \qquad x = \nabla \Big(\sum_k \eta_k D_k\Big)^{\!*}\big(c - A'v - C'\nu\big)

With one ball the last term is :math:`\eta D^*((c - A'v - C'\nu)/\eta)`.

Shapes: n coordinates of x; m rows in all, equalities first; k balls; ``multipliers`` stacks v and nu (m,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import scipy.sparse as sp

from reps_opt.divergences.balls import Ball, JointConjugate, JointKL
from reps_opt.divergences.base import KL, Conjugate, Divergence, NoBall, softmax_within
from reps_opt.processes.graph import BoolArray, IntArray
from reps_opt.rows import Transposed
from reps_opt.validation import FloatArray, UnsuitableError, as_float_array, check_spread


@dataclass(frozen=True, eq=False)
class Block:
    """Linear constraints of one name: ``matrix`` (k, n) and ``rhs`` (k,).

    The matrix is sparse, an array, or the transpose of :class:`~reps_opt.rows.Rows`: dense, maybe larger than memory.
    """

    matrix: Any
    rhs: FloatArray

    @cached_property
    def alone(self) -> dict[tuple[str, bool], Any]:
        """The :class:`Stack` of this block alone, by its name and whether the domain is the simplex."""
        return {}

    @property
    def in_memory(self) -> Any:
        """The matrix as it is if sparse, else as an array."""
        return self.matrix if sp.issparse(self.matrix) or isinstance(self.matrix, np.ndarray) else self.matrix.T.array.T

    @property
    def dense(self) -> FloatArray:
        """The matrix as an array (k, n)."""
        matrix = self.in_memory
        return matrix.toarray() if sp.issparse(matrix) else matrix


class Equal(Block):
    """Rows ``matrix @ x == rhs``; their multipliers v have any sign."""


class AtMost(Block):
    """Rows ``matrix @ x <= rhs``; their multipliers nu are non-negative."""


@dataclass(frozen=True, eq=False)
class Simplex:
    """``x >= 0`` with mass one: altogether, or in each of several stretches of coordinates.

    Parameters
    ----------
    starts
        First coordinate (G,) of each stretch, increasing from zero; None for a single simplex. That each stretch has
        mass one must follow from the rows where there are several.
    mass
        What x sums to on a single simplex, where that is not one: then the divergence must grow in proportion to x, as
        a conditional KL does.
    """

    starts: IntArray | None = None
    mass: float = 1.0


class Space:
    """All of R^n."""


@dataclass(frozen=True)
class Scale:
    """The objective in other units: ``original = shift + factor * normalised``."""

    shift: float
    factor: float

    def original(self, normalised: float) -> float:
        """A value in the original units."""
        return self.shift + self.factor * normalised


PROPORTION = 1e-5
"""Typical deviation, as a share of the range, below which the range says nothing of the ordinary coefficients: a range
of one would leave them with less than ten digits."""

SAMPLED = 64
"""Coefficients looked at to see whether all of them must be."""


def ordinary_scale(c: FloatArray, extent: float | None = None) -> Scale | None:
    """Median of the coefficients and lower quartile of their distances from it; None where their range will do."""
    extent = float(np.ptp(c)) if extent is None else extent
    some = _spread(c[:: max(1, c.size // SAMPLED)]) if c.size > SAMPLED else None
    scale = some if some is not None and some.factor > PROPORTION * extent else _spread(c)
    return scale if scale is not None and scale.factor <= PROPORTION * extent else None


def _spread(c: FloatArray) -> Scale | None:
    middle = float(np.partition(c, c.size // 2)[c.size // 2])
    apart = usual_distance(c, middle)
    return Scale(middle, apart) if apart > 0 else None


def usual_distance(c: FloatArray, middle: float) -> float:
    """Lower quartile of how far those coefficients are from the middle that differ from it; zero if none does.

    Neither a single coefficient nor half of them can move it by what they cost.
    """
    apart = np.abs(c - middle)
    apart = apart[apart > 0]
    return float(np.partition(apart, apart.size // 4)[apart.size // 4]) if apart.size else 0.0


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True, eq=False)
class DualPoint:
    """The dual function of one ball at one (eta, multipliers), with everything its derivatives need.

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


@dataclass(frozen=True, eq=False)
class JointDualPoint:
    """The dual function of several balls at one eta (k,) and multipliers; as :class:`DualPoint` is for one."""

    eta: FloatArray
    multipliers: FloatArray
    value: float
    slack: FloatArray
    conjugate: JointConjugate
    residual: FloatArray

    @property
    def divergences(self) -> FloatArray:
        """D_k(x) (k,)."""
        return self.conjugate.divergences


@dataclass(frozen=True, eq=False)
class Hints:
    """What a problem knows of its program beyond the data: it may save work, and decides no answer.

    Attributes
    ----------
    grounds
        Rows whose multiplier can be fixed at zero, one for each combination of rows that vanishes identically.
    mass_implied
        Whether some combination of the rows already says ``sum x = 1``.
    linear_limit
        Computes the :class:`LinearLimit` of this program, in its own units.
    centre
        The :class:`Centre`; None when the reference satisfies the constraints.
    variable
        What x is called where a reader sees it.
    start
        Multipliers (m,) to start from, sensible in rows without mass too: for a flow, the reference policy's value.
    warm
        Eta and multipliers (m,) of a nearby program's solution, to start from instead.
    inside
        Computes a point (n,) on the rows and inside the balls, for methods that start there.
    """

    grounds: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    mass_implied: bool = False
    linear_limit: Callable[[], LinearLimit] | None = None
    centre: Centre | None = None
    variable: str = "x"
    start: FloatArray | None = None
    warm: tuple[float, FloatArray] | None = None
    inside: Callable[[], FloatArray | None] | None = None

    def in_units_of(self, unit: float) -> Hints:
        """The same for a program whose objective has been divided by ``unit``."""
        if self is NO_HINTS:
            return self
        limit = self.linear_limit
        return replace(
            self,
            linear_limit=None if limit is None else lambda: _scaled_limit(limit(), unit),
            start=None if self.start is None else self.start / unit,
            warm=None if self.warm is None else (self.warm[0] / unit, self.warm[1] / unit),
        )


FEW_ENTRIES = 20_000
"""Entries of the rows up to which dense products take less time than a sparse one's bookkeeping (some 20 us)."""


class Stack:
    """The rows of a program on top of each other, computed when asked for and shared by programs that have the same.

    Parameters
    ----------
    rows
        Blocks by name.
    n
        Columns of each.
    simplex
        Whether arrays are made sparse for ``matrix``: solvers on the simplex take sparse rows.
    """

    def __init__(self, rows: Mapping[str, Block], n: int, simplex: bool) -> None:
        self.rows, self.n, self.simplex = rows, n, simplex

    @classmethod
    def of(cls, rows: Mapping[str, Block], n: int, simplex: bool) -> Stack:
        """The stack of some rows: of a single block the one that it remembers, whatever programs it is part of."""
        if not rows:
            return _no_rows(n, simplex)
        if len(rows) != 1:
            return cls(rows, n, simplex)
        ((name, block),) = rows.items()
        stack: Stack = block.alone.setdefault((name, simplex), cls(rows, n, simplex))
        return stack

    @cached_property
    def equalities(self) -> dict[str, Block]:
        return {name: block for name, block in self.rows.items() if not isinstance(block, AtMost)}

    @cached_property
    def inequalities(self) -> dict[str, Block]:
        return {name: block for name, block in self.rows.items() if isinstance(block, AtMost)}

    @cached_property
    def blocks(self) -> dict[str, Block]:
        return {**self.equalities, **self.inequalities}

    @cached_property
    def matrix(self) -> Any:
        """All rows (m, n): equalities, then inequalities; a single block that is no array stays what it is."""
        blocks = [*self.blocks.values()]
        if not blocks:
            return sp.csr_array((0, self.n))
        if len(blocks) == 1:
            matrix = blocks[0].matrix
            return sp.csr_array(matrix) if self.simplex and isinstance(matrix, np.ndarray) else matrix
        return sp.vstack([sp.csr_array(block.in_memory) for block in blocks], format="csr")

    @cached_property
    def transpose(self) -> Any:
        """``matrix.T`` (n, m), in row order."""
        if not self.rhs.size:
            return sp.csr_array((self.n, 0))
        return self.matrix.T.tocsr() if sp.issparse(self.matrix) else self.matrix.T

    @cached_property
    def table(self) -> FloatArray | None:
        """The rows as a dense array (m, n), where they are so few that a sparse one only costs more; else None."""
        if not 0 < self.rhs.size * self.n <= FEW_ENTRIES:
            return None
        matrices = [block.matrix for block in self.blocks.values()]
        if not all(sp.issparse(matrix) or (self.simplex and isinstance(matrix, np.ndarray)) for matrix in matrices):
            return None
        tables = [matrix.toarray() if sp.issparse(matrix) else np.ascontiguousarray(matrix) for matrix in matrices]
        return tables[0] if len(tables) == 1 else np.concatenate(tables)

    @cached_property
    def squares(self) -> sp.csc_array | None:
        """Matrix (m * m, n) whose product with weights is ``A diag(w) A'``, where that has few terms; else None."""
        columns, m = self.transpose, self.rhs.size
        width = np.diff(columns.indptr).astype(np.int64)
        terms = width**2
        if terms.sum() > MOST_TERMS:
            return None
        ends = np.append(0, np.cumsum(terms))
        column = np.repeat(np.arange(self.n), terms)
        place = np.arange(column.size) - ends[column]
        left, right = (columns.indptr[column] + side for side in np.divmod(place, width[column]))
        row = columns.indices[left].astype(np.int64) * m + columns.indices[right]
        return sp.csc_array((columns.data[left] * columns.data[right], row, ends), shape=(m * m, self.n))

    def gram(self, weights: FloatArray) -> FloatArray:
        """``A diag(w) A'`` (m, m) over all rows, an array of its own."""
        table, m = self.table, self.rhs.size
        if table is not None and m <= FEW_ROWS:
            return (table * weights) @ table.T
        if self.squares is not None:
            return (self.squares @ weights).reshape(m, m)
        product: FloatArray = (self.matrix @ (sp.diags_array(weights) @ self.transpose)).toarray()
        return product

    @cached_property
    def rhs(self) -> FloatArray:
        blocks = [*self.blocks.values()]
        if len(blocks) == 1:
            return blocks[0].rhs
        return np.concatenate([block.rhs for block in blocks]) if blocks else np.zeros(0)

    @cached_property
    def every_row(self) -> BoolArray:
        """A mask (m,) of all rows."""
        return np.ones(self.rhs.size, dtype=bool)

    @cached_property
    def signed(self) -> BoolArray:
        n_equal = sum(block.rhs.size for block in self.equalities.values())
        return np.arange(self.rhs.size) >= n_equal


MOST_TERMS = 500_000
"""Products of two entries of a column up to which ``A diag(w) A'`` is one product with all of them, made once."""

FEW_ROWS = 32
"""Rows of a dense table up to which two dense products take less time than that."""

NO_HINTS = Hints()
SIMPLEX = Simplex()
SPACE = Space()


@dataclass(frozen=True, eq=False, init=False)
class Program:
    r"""A linear objective over divergence balls with named linear constraints.

    Parameters
    ----------
    objective
        c (n,).
    rows
        Blocks by name: :class:`Equal` ``A x = b`` or :class:`AtMost` ``C x <= d``. That x is non-negative and sums to
        one belongs to the domain.
    balls
        A :class:`Ball`, or several; none makes a linear program.
    domain
        :class:`Simplex` or :class:`Space`; None takes that of the first ball's divergence, the simplex without balls.
    ridge
        Softens the rows, (m,) or None: the dual gains ``ridge v^2 / 2`` and the primal, instead of ``A x = b``, loses
        ``(b - A x)^2 / (2 ridge)``.
    hints
        What is known beyond the data.

    Raises
    ------
    TypeError, ValueError
        For arrays of the wrong shape or dtype, NaN, or blocks and balls that do not fit.

    Notes
    -----
    Multipliers: eta is the derivative of the optimum in a ball's radius, v and nu those in the right-hand sides.

    Examples
    --------
    The distribution on 0 ... 9 of mean 3 that is closest to the uniform one, by minimising a divergence at price one:

    >>> import numpy as np
    >>> from reps_opt import Ball, Program, solve
    >>> from reps_opt.divergences import KL
    >>> from reps_opt.program import Equal
    >>> x = np.arange(10.0)
    >>> rows = {"mean": Equal(x[None, :], np.array([3.0]))}
    >>> solution = solve(Program(np.zeros(10), rows, Ball(KL(np.full(10, 0.1)), price=1.0)))
    >>> print(solution.status, round(solution.point @ x, 9))
    certified 3.0
    """

    objective: FloatArray
    rows: Mapping[str, Block]
    balls: tuple[Ball, ...]
    domain: Simplex | Space
    ridge: FloatArray | None
    hints: Hints

    def __init__(
        self,
        objective: FloatArray,
        rows: Mapping[str, Block] | None = None,
        balls: Ball | Sequence[Ball] = (),
        domain: Simplex | Space | None = None,
        ridge: FloatArray | None = None,
        hints: Hints = NO_HINTS,
    ) -> None:
        several = _as_balls(balls)
        if domain is None:
            domain = SPACE if several and not several[0].divergence.simplex else SIMPLEX
        self.__dict__.update(
            objective=objective, rows=rows or {}, balls=several, domain=domain, ridge=ridge, hints=hints
        )

    @classmethod
    def checked(cls, program: Program) -> Program:
        """The same program, its arrays validated: what :func:`reps_opt.solve` does with one that a user made."""
        c = as_float_array(program.objective, "objective", ("n",))
        rows = {name: _checked_block(block, name, c.size) for name, block in program.rows.items()}
        for i, ball in enumerate(program.balls):
            size = c.size if ball.where is None else np.size(ball.where)
            if ball.divergence.reference.size != size:
                raise ValueError(
                    f"balls[{i}] must have a reference of {size} coordinates, got {ball.divergence.reference.size}"
                )
        m = sum(block.rhs.size for block in rows.values())
        ridge = None if program.ridge is None else as_float_array(program.ridge, "ridge", (m,))
        return replace(program, objective=c, rows=rows, ridge=ridge)

    @property
    def n(self) -> int:
        """Number of coordinates."""
        return self.objective.size

    @property
    def mass(self) -> float:
        """What x sums to: one, one for each simplex of several, or what the domain says."""
        if not isinstance(self.domain, Simplex):
            return 1.0
        return self.domain.mass if self.domain.starts is None else float(self.domain.starts.size)

    @property
    def simplex(self) -> bool:
        """Whether the domain is the simplex, or a product of simplexes."""
        return isinstance(self.domain, Simplex)

    @cached_property
    def _stack(self) -> Stack:
        return Stack.of(self.rows, self.objective.size, self.simplex)

    @property
    def equalities(self) -> dict[str, Block]:
        """The blocks ``A x = b`` by name."""
        return self._stack.equalities

    @property
    def inequalities(self) -> dict[str, Block]:
        """The blocks ``C x <= d`` by name."""
        return self._stack.inequalities

    @property
    def blocks(self) -> dict[str, Block]:
        """All blocks by name, in the order of the multipliers: equalities, then inequalities."""
        return self._stack.blocks

    def gram(self, weights: FloatArray) -> FloatArray:
        """``A diag(w) A'`` (m, m) over all rows, for weights (n,)."""
        return self._stack.gram(weights)

    @cached_property
    def ball(self) -> Ball:
        """The only ball; one that is no ball at all in a linear program.

        Raises
        ------
        ValueError
            If there are several.
        """
        balls = self.balls
        if len(balls) > 1:
            raise UnsuitableError("the program has several balls: use Newton, CvxpyPrimal or CvxpyDual")
        return balls[0] if balls else Ball(NoBall(self.n), math.inf)

    @property
    def divergence(self) -> Divergence:
        """D of the only ball."""
        return self.ball.divergence

    @property
    def epsilon(self) -> float | None:
        """Radius of the only ball; None in penalty form."""
        return self.ball.radius

    @property
    def temperature(self) -> float | None:
        """Price of the only ball's divergence; None where it has a radius."""
        return self.ball.price

    @cached_property
    def joint(self) -> JointKL:
        """All balls together, over the simplexes of the domain."""
        starts = self.domain.starts if isinstance(self.domain, Simplex) else None
        return JointKL(self.balls, np.zeros(1, dtype=np.int64) if starts is None else starts, self.n)

    def with_ball(self, ball: Ball, objective: FloatArray | None = None, **hints: Any) -> Program:
        """The same rows with another ball and, where given, another objective and other hints."""
        changed: dict[str, Any] = {} if objective is None else {"objective": objective}
        return self._changed(balls=(ball,), hints=replace(self.hints, **hints) if hints else self.hints, **changed)

    def flat(self, price: float = 1.0) -> Program:
        """The projection onto the rows: no objective, and the ball's divergence at a price."""
        return self.with_ball(Ball(self.divergence, price=price), objective=np.zeros(self.n), centre=None)

    def hinted(self, **hints: Any) -> Program:
        """The same program, some of its hints replaced."""
        return self._changed(hints=replace(self.hints, **hints))

    @property
    def matrix(self) -> Any:
        """All rows (m, n): equalities, then inequalities; sparse on the simplex unless they are dense by nature."""
        return self._stack.matrix

    @property
    def transpose(self) -> Any:
        """``matrix.T`` (n, m), in row order."""
        return self._stack.transpose

    @property
    def table(self) -> FloatArray | None:
        """The rows as a dense array (m, n), where they are so few that a sparse one only costs more; else None."""
        return self._stack.table

    def times(self, x: FloatArray) -> FloatArray:
        """``(A, C) x`` (m,) for x (n,)."""
        table = self._stack.table
        return self.matrix @ x if table is None else table @ x

    def pulled(self, multipliers: FloatArray) -> FloatArray:
        """``A'v + C'nu`` (n,) for multipliers (m,)."""
        table = self._stack.table
        return self.transpose @ multipliers if table is None else multipliers @ table

    @property
    def rhs(self) -> FloatArray:
        """Right-hand sides (m,)."""
        return self._stack.rhs

    @property
    def signed(self) -> BoolArray:
        """Rows (m,) whose multiplier must be >= 0: the inequalities."""
        return self._stack.signed

    @property
    def unbounded(self) -> bool:
        """Whether the ball holds the whole simplex, so that only the linear program is left."""
        return self.epsilon is not None and self.epsilon >= self.divergence.largest

    def by_name(self, multipliers: FloatArray) -> dict[str, FloatArray]:
        """Split stacked multipliers (m,) into one array a block."""
        blocks = self.blocks
        if not blocks:
            return {}
        ends = np.cumsum([block.rhs.size for block in blocks.values()])[:-1]
        return dict(zip(blocks, np.split(multipliers, ends), strict=True))

    def normalised(self) -> tuple[Program, Scale]:
        """The same program with its objective shifted and scaled, and how to undo that.

        A constant shift of the objective is a constant on the simplex, and eta, v, nu scale with the objective. The
        unit is the range of the coefficients, or where a few of them are out of all proportion (a penalty of -1e10)
        the lower quartile of how far they are from their median: the digits of the others must not drown. Off the
        simplex nothing is shifted, and the largest coefficient becomes one.
        """
        c = self.objective
        low, high = float(c.min()), float(c.max())
        if not self.simplex:
            low, high = 0.0, max(-low, high)
        elif high > low and (ordinary := ordinary_scale(c, high - low)) is not None:
            low, high = ordinary.shift, ordinary.shift + ordinary.factor
        if high - low == math.inf:
            check_spread(c, "objective")
        # constant rewards: what the reference pays for its mismatch is the unit where that has a price
        factor = high - low or self.mismatch or (abs(low) if self.ridge is not None else 0.0) or 1.0
        return self._rescaled(c - low if low else c, factor), Scale(low * self.mass, factor)

    @property
    def mismatch(self) -> float:
        """What the reference of the only ball pays for missing softened rows; zero where none are softened."""
        if self.ridge is None:
            return 0.0
        return float(np.sum(self.residual(self.divergence.reference) ** 2 / self.ridge)) / 2

    def in_units_of(self, unit: float) -> Program:
        """The same program with its objective, and with it eta, v and nu, divided by ``unit``."""
        return self._rescaled(self.objective, unit)

    def _rescaled(self, objective: FloatArray, unit: float) -> Program:
        """The same rows with an objective (n,), all of it in a new unit."""
        balls = self.balls
        if any(ball.price is not None for ball in balls):
            balls = tuple(b if b.price is None else replace(b, price=b.price / unit) for b in balls)
        return self._changed(
            objective=objective if unit == 1.0 else objective / unit,
            balls=balls,
            ridge=None if self.ridge is None else self.ridge * unit,
            hints=self.hints.in_units_of(unit),
        )

    def _changed(self, **changes: Any) -> Program:
        """A copy with other fields and the same rows; what was stacked of these is kept."""
        twin = object.__new__(Program)
        twin.__dict__.update(
            objective=self.objective,
            rows=self.rows,
            balls=self.balls,
            domain=self.domain,
            ridge=self.ridge,
            hints=self.hints,
            _stack=self._stack,
        )
        twin.__dict__.update(changes)
        if twin.balls is self.balls and "joint" in self.__dict__:
            twin.__dict__["joint"] = self.joint
        return twin

    def fresh(self) -> Program:
        """The same program with dense rows of its own, whose memory is then one solve's business and one thread's."""
        if not isinstance(self.matrix, Transposed):
            return self
        (name, block), *_ = self.equalities.items()
        return replace(self, rows={name: Equal(block.matrix.T.fresh().T, block.rhs)})

    def warmed(self, warm: tuple[float, FloatArray]) -> Program:
        """The same program with a nearby solution's eta and multipliers to start from, in this program's units."""
        return self.hinted(warm=warm)

    def residual(self, x: FloatArray) -> FloatArray:
        """``(b, d) - (A, C) x`` (m,)."""
        return self.rhs - self.times(x) if self.rhs.size else np.zeros(0)

    def missed(self, x: FloatArray) -> FloatArray:
        """What x misses in each row (m,): the residual of equalities; of inequalities the excess, as a negative."""
        residual = self.residual(x)
        return np.where(self.signed, np.minimum(residual, 0.0), residual) if self.inequalities else residual

    def violation(self, x: FloatArray) -> float:
        """1-norm of what x misses in the rows."""
        return float(np.abs(self.missed(x)).sum())

    def free(self, multipliers: FloatArray, residual: FloatArray) -> BoolArray:
        """Rows (m,) whose multiplier may move: all but inequalities held at zero by a positive residual."""
        if not self.inequalities:
            return self._stack.every_row
        return ~(self.signed & (multipliers <= 0) & (residual >= 0))

    def slack(self, multipliers: FloatArray) -> FloatArray:
        """``c - A'v - C'nu`` (n,)."""
        return self.objective - self.pulled(multipliers) if multipliers.any() else self.objective.copy()

    def score(self, x: FloatArray) -> float:
        """Primal objective: ``<c, x>``, less ``temperature * D(x)`` in penalty form and the price of softened rows."""
        value = float(self.objective @ x)
        if self.ridge is not None:
            value -= float(np.sum(self.residual(x) ** 2 / self.ridge)) / 2
        for ball in self.balls:
            if ball.price is not None:
                value -= ball.price * ball.value(x)
        return value

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
        value = float(self.rhs @ multipliers + self.mass * eta * conjugate.value)
        if self.epsilon is not None:
            value += eta * self.epsilon
        shift = conjugate.value if self.simplex else 0.0  # taken inside <x, y> where x sums to one
        divergence = float(conjugate.point @ (slack / eta - shift)) - (conjugate.value - shift)
        if self.ridge is not None:
            value += float(self.ridge @ multipliers**2) / 2
            residual = residual + self.ridge * multipliers
        return DualPoint(eta, multipliers, value, slack, conjugate, residual, divergence)

    def joint_dual(self, eta: FloatArray, multipliers: FloatArray) -> JointDualPoint:
        """Dual function and derivatives of several balls at eta (k,), positive in some ball of every simplex."""
        slack = self.slack(multipliers)
        conjugate = self.joint.conjugate(eta, slack)
        value = float(self.rhs @ multipliers + eta @ self.radii) + conjugate.value
        return JointDualPoint(eta, multipliers, value, slack, conjugate, self.residual(conjugate.point))

    @cached_property
    def radii(self) -> FloatArray:
        """Radius (k,) of each ball, no more than its divergence can be; zero in penalty form, which adds nothing."""
        return np.array([0.0 if b.radius is None else min(b.radius, b.divergence.largest) for b in self.balls])

    def _joint_bound(self, eta: FloatArray, multipliers: FloatArray) -> float:
        """The bound of several balls, also where all balls of a simplex are slack: its best coordinate counts there."""
        if not np.any(eta @ self.joint.covers <= 0):
            return self.joint_dual(eta, multipliers).value
        finite = eta > 0
        inner = self.normalisers(eta, multipliers).sum()
        return float(self.rhs @ multipliers + eta[finite] @ self.radii[finite] + inner)

    def normalisers(self, eta: float | FloatArray, multipliers: FloatArray) -> FloatArray:
        """Multipliers (G,) of the masses of the simplexes, those of the rows as they are, at a finite eta >= 0.

        Where all balls of a simplex are slack that is its best coordinate's slack.
        """
        if not isinstance(eta, np.ndarray):
            if eta == 0:
                return self.slack(multipliers).max(keepdims=True)
            return np.array([eta * self.dual(eta, multipliers).conjugate.normaliser])
        slack = self.slack(multipliers)
        bare = eta @ self.joint.covers <= 0
        top = np.maximum.reduceat(slack, self.joint.starts)
        lifted = np.where((self.joint.covers & bare).any(axis=1), 1.0, eta)  # a stand-in, its share taken out again
        joint = self.joint.conjugate(lifted, slack)
        return np.where(bare, top, joint.temperature * joint.log_partition)

    def within(self, eta: float | FloatArray, multipliers: FloatArray, group: IntArray, n_groups: int) -> FloatArray:
        """Conditionals (n,), within each group of coordinates, of the dual's maximiser at a finite eta > 0.

        For groups that are states they are the policy: a softmax of the Bellman error.
        """
        slack = self.slack(multipliers)
        if isinstance(eta, np.ndarray):
            return softmax_within(self.joint.conjugate(eta, slack).scaled, group, n_groups)[0]
        return self.divergence.within(slack / eta, group, n_groups)

    def bound(self, eta: float | FloatArray, multipliers: FloatArray) -> float:
        """Upper bound on the optimum from any ``eta >= 0`` and multipliers of the right sign (weak duality).

        Eta is a number with one ball, (k,) with several.
        """
        if isinstance(eta, np.ndarray) and eta.ndim:
            return self._joint_bound(eta, multipliers)
        if eta > 0:
            return self.dual(float(eta), multipliers).value
        softened = 0.0 if self.ridge is None else float(self.ridge @ multipliers**2) / 2
        return float(self.rhs @ multipliers) + self.mass * self.divergence.support(self.slack(multipliers)) + softened

    def least_divergence(self, multipliers: FloatArray) -> float:
        """Lower bound on D of every point that satisfies the rows, by weak duality: the dual of the projection."""
        pulled = self.transpose @ multipliers
        return float(-(self.rhs @ multipliers) - self.divergence.conjugate(-pulled).value)

    def least_score(self, eta: float) -> float:
        """Lower bound on the score of every feasible point, in penalty form with eta for the temperature."""
        if self.ridge is not None:
            return -math.inf
        least = float(self.objective.min())
        if len(self.balls) > 1:
            return least * self.joint.starts.size
        return least if self.temperature is None else least - eta * self.divergence.largest


def _as_balls(balls: Ball | Sequence[Ball]) -> tuple[Ball, ...]:
    """The balls of a program."""
    several = (balls,) if isinstance(balls, Ball) else tuple(balls) if isinstance(balls, Iterable) else (balls,)
    for ball in several:
        if not isinstance(ball, Ball):
            raise TypeError(f"balls must be a Ball or several, got {type(ball).__name__}")
    return several


def _checked_block(block: Block, name: str, n: int) -> Block:
    """A block whose matrix fits n coordinates and whose right-hand side fits the matrix."""
    if not isinstance(block, Block):
        raise TypeError(f"rows[{name!r}] must be Equal(A, b) or AtMost(C, d), got {type(block).__name__}")
    rhs = as_float_array(block.rhs, f"rows[{name!r}].rhs", ("k",))
    if sp.issparse(block.matrix):
        matrix: Any = sp.csr_array(block.matrix)
        as_float_array(matrix.data, f"rows[{name!r}].matrix")
    elif hasattr(block.matrix, "T") and not isinstance(block.matrix, np.ndarray):
        matrix = block.matrix
    else:
        matrix = as_float_array(block.matrix, f"rows[{name!r}].matrix", (rhs.size, n))
    if tuple(matrix.shape) != (rhs.size, n):
        raise ValueError(f"rows[{name!r}] must have a matrix of shape ({rhs.size}, {n}), got {tuple(matrix.shape)}")
    return type(block)(matrix, rhs)


@lru_cache(maxsize=8)
def _no_rows(n: int, simplex: bool) -> Stack:
    """The stack of no rows, kept: looking through it takes as long as a small dual without rows."""
    return Stack({}, n, simplex)


def _scaled_limit(limit: LinearLimit, factor: float) -> LinearLimit:
    return replace(limit, multipliers=limit.multipliers / factor)
