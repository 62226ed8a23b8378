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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg.blas import dgemv

from reps_opt.constraints import SIMPLEX, SPACE, Block, Equal, Simplex, Space, Stack, checked_block
from reps_opt.divergences.balls import Ball, JointKL
from reps_opt.divergences.base import KL, Conjugate, Divergence, NoBall, softmax_within
from reps_opt.dual_point import DualPoint, JointDualPoint
from reps_opt.hints import NO_HINTS, Hints
from reps_opt.processes.graph import BoolArray, IntArray
from reps_opt.rows import Transposed
from reps_opt.scale import Scale, ordinary_scale
from reps_opt.tolerances import LAST_PLACE, TINY
from reps_opt.validation import FloatArray, UnsuitableError, as_float_array, check_spread
from reps_opt.values import altered, cached_property
from reps_opt.vectors import inner, least, one_norm


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
    >>> from reps_opt import Ball, Equal, Program, solve
    >>> from reps_opt.divergences import KL
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
        rows = {name: checked_block(block, name, c.size) for name, block in program.rows.items()}
        if len(program.balls) == 1 and program.starts is not None and program.starts.size > 1:
            raise ValueError(
                f"balls must be several over {program.starts.size} simplexes: one ball over all of them is one over "
                "a single simplex, that of x / their number, whose rows say what mass each stretch has"
            )
        for i, ball in enumerate(program.balls):
            size = c.size if ball.where is None else np.size(ball.where)
            if ball.divergence.reference.size != size:
                raise ValueError(
                    f"balls[{i}] must have a reference of {size} coordinates, got {ball.divergence.reference.size}"
                )
            ball.divergence.check(f"balls[{i}].divergence")
        names = [*rows, *(ball.name for ball in program.balls)]
        if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
            raise ValueError(f"balls and rows must have names of their own: two are called {twice!r}")
        m = sum(block.rhs.size for block in rows.values())
        ridge = None if program.ridge is None else as_float_array(program.ridge, "ridge", (m,))
        return replace(program, objective=c, rows=rows, ridge=ridge)

    @property
    def n(self) -> int:
        """Number of coordinates."""
        return self.objective.size

    @property
    def constant(self) -> bool:
        """Whether all coefficients of the objective are the same."""
        c = self.objective
        return bool(c[0] == c[-1] and np.ptp(c) == 0)

    @cached_property
    def lowest(self) -> float:
        """The least coefficient of the objective."""
        return float(self.objective.min())

    @property
    def mass(self) -> float:
        """What x sums to: one, one for each simplex of several, or what the domain says."""
        starts = self.domain.starts
        return self.domain.mass if starts is None else float(starts.size)

    @property
    def simplex(self) -> bool:
        """Whether the domain is the simplex, or a product of simplexes."""
        return isinstance(self.domain, Simplex)

    @property
    def starts(self) -> IntArray | None:
        """First coordinate (G,) of each simplex of several; None where there is one, or none."""
        return self.domain.starts

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
        return JointKL(self.balls, np.zeros(1, dtype=np.int64) if self.starts is None else self.starts, self.n)

    def with_ball(self, ball: Ball, objective: FloatArray | None = None, **hints: Any) -> Program:
        """The same rows with another ball and, where given, another objective and other hints."""
        changed: dict[str, Any] = {} if objective is None else {"objective": objective}
        return self._changed(balls=(ball,), hints=altered(self.hints, **hints) if hints else self.hints, **changed)

    def flat(self, price: float = 1.0) -> Program:
        """The projection onto the rows: no objective, and the ball's divergence at a price."""
        return self.with_ball(Ball(self.divergence, price=price), objective=np.zeros(self.n), centre=None)

    def hinted(self, **hints: Any) -> Program:
        """The same program, some of its hints replaced."""
        return self._changed(hints=altered(self.hints, **hints))

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

    @property
    def dense_rows(self) -> FloatArray:
        """All rows as an array (m, n) of its own, whatever their size: for looking at, and for SciPy."""
        return np.concatenate([*(block.dense for block in self.blocks.values()), np.zeros((0, self.n))])

    def times(self, x: FloatArray) -> FloatArray:
        """``(A, C) x`` (m,) for x (n,)."""
        table = self._stack.table
        return self.matrix @ x if table is None else table.dot(x)

    def pulled(self, multipliers: FloatArray) -> FloatArray:
        """``A'v + C'nu`` (n,) for multipliers (m,)."""
        table = self._stack.table
        return self.transpose @ multipliers if table is None else multipliers.dot(table)

    @cached_property
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

    def stacked(self, parts: Sequence[Any]) -> FloatArray:
        """Multipliers (m,) from one array a block, in the order of ``blocks``, those of inequalities cut at zero."""
        return self.cut(np.concatenate([np.ravel(part) for part in parts]) if parts else np.zeros(0))

    def cut(self, multipliers: FloatArray) -> FloatArray:
        """The same multipliers (m,), those of inequalities cut at zero."""
        return np.where(self.signed, np.maximum(multipliers, 0.0), multipliers)

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
        elif (ordinary := ordinary_scale(c, high - low)) is not None:
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
            balls = tuple(b if b.price is None else altered(b, price=b.price / unit) for b in balls)
        return self._changed(
            objective=objective if unit == 1.0 else objective / unit,
            balls=balls,
            ridge=None if self.ridge is None else self.ridge * unit,
            hints=self.hints.in_units_of(unit),
        )

    def _changed(self, **changes: Any) -> Program:
        """A copy with other fields and the same rows; what was stacked of these is kept."""
        twin = object.__new__(Program)
        twin.__dict__.update({name: self.__dict__[name] for name in self.__dataclass_fields__}, _stack=self._stack)
        twin.__dict__.update(changes)
        if twin.balls is self.balls and "joint" in self.__dict__:
            twin.__dict__["joint"] = self.joint
        return twin

    def fresh(self) -> Program:
        """The same program with dense rows of its own, whose memory is then one solve's business and one thread's."""
        if len(self.rows) != 1:
            return self
        ((name, block),) = self.rows.items()
        if not isinstance(block.matrix, Transposed):
            return self
        return replace(self, rows={name: Equal(block.matrix.T.fresh().T, block.rhs)})

    def warmed(self, warm: tuple[float, FloatArray]) -> Program:
        """The same program with a nearby solution's eta and multipliers to start from, in this program's units."""
        return self.hinted(warm=warm)

    def residual(self, x: FloatArray) -> FloatArray:
        """``(b, d) - (A, C) x`` (m,)."""
        table = self._stack.table
        if table is not None:
            return dgemv(-1.0, table.T, x, 1.0, self.rhs, trans=1)
        return self.rhs - self.times(x) if self.rhs.size else np.zeros(0)

    def missed(self, x: FloatArray) -> FloatArray:
        """What x misses in each row (m,): the residual of equalities; of inequalities the excess, as a negative."""
        residual = self.residual(x)
        return np.where(self.signed, np.minimum(residual, 0.0), residual) if self.inequalities else residual

    def violation(self, x: FloatArray) -> float:
        """1-norm of what x misses in the rows."""
        return one_norm(self.missed(x)) if self.rows else 0.0

    def free(self, multipliers: FloatArray, residual: FloatArray) -> BoolArray:
        """Rows (m,) whose multiplier may move: all but inequalities held at zero by a positive residual."""
        if not self.inequalities:
            return self._stack.every_row
        return ~(self.signed & (multipliers <= 0) & (residual >= 0))

    def net(self, multipliers: FloatArray) -> FloatArray:
        """``c - A'v - C'nu`` (n,): the objective net of what the rows charge."""
        table = self._stack.table
        if table is not None:
            return self.objective - multipliers.dot(table)
        return self.objective - self.pulled(multipliers) if np.count_nonzero(multipliers) else self.objective.copy()

    def score(self, x: FloatArray, divergences: Sequence[float] | None = None) -> float:
        """Primal objective: ``<c, x>``, less ``temperature * D(x)`` in penalty form and the price of softened rows.

        ``divergences`` are those of the balls at x, where they are known.
        """
        value = inner(self.objective, x)
        if self.ridge is not None:
            value -= float(np.sum(self.residual(x) ** 2 / self.ridge)) / 2
        for k, ball in enumerate(self.balls):
            if ball.price is not None:
                value -= ball.price * (ball.value(x) if divergences is None else divergences[k])
        return value

    def dual(self, eta: float, multipliers: FloatArray) -> DualPoint:
        """Dual function and derivatives at ``eta > 0``; remembered until the next, for whoever certifies the answer."""
        last: DualPoint | None = self.__dict__.get("_last")
        if last is None or last.eta != eta or np.count_nonzero(last.multipliers != multipliers):
            last = self._evaluate(eta, multipliers.copy())
            self.__dict__["_last"] = last
        return last

    def _evaluate(self, eta: float, multipliers: FloatArray) -> DualPoint:
        """The dual at one point; over dense rows in one pass."""
        coupling = None
        if isinstance(self.matrix, Transposed) and isinstance(self.divergence, KL):
            tilted = self.transpose.tilt(multipliers, self.objective, self.divergence.log_reference, eta)
            conjugate = Conjugate(tilted.normaliser, tilted.point, tilted.point, tilted.normaliser)
            net, scaled, coupling = tilted.net, tilted.net / eta, tilted.coupling
            residual = self.rhs - tilted.total
        else:
            net = self.net(multipliers)
            scaled = net / eta
            conjugate = self.divergence.conjugate(scaled)
            residual = self.residual(conjugate.point)
        value = inner(self.rhs, multipliers) + self.mass * eta * conjugate.value
        if self.epsilon is not None:
            value += eta * self.epsilon
        shift = conjugate.value if self.simplex else 0.0  # taken inside <x, y> where x sums to one
        divergence = inner(conjugate.point, scaled - shift) - (conjugate.value - shift)
        if self.ridge is not None:
            value += float(self.ridge @ multipliers**2) / 2
            residual = residual + self.ridge * multipliers
        return DualPoint(eta, multipliers, value, net, scaled, conjugate, residual, divergence, coupling)

    def joint_dual(self, eta: FloatArray, multipliers: FloatArray) -> JointDualPoint:
        """Dual function and derivatives of several balls at eta (k,), positive in some ball of every simplex."""
        net = self.net(multipliers)
        conjugate = self.joint.conjugate(eta, net)
        value = float(self.rhs @ multipliers + eta @ self.radii) + conjugate.value
        return JointDualPoint(eta, multipliers, value, net, conjugate, self.residual(conjugate.point))

    @cached_property
    def radii(self) -> FloatArray:
        """Radius (k,) of each ball, zero in penalty form, which adds nothing; a bound for a larger ball is one too.

        No more than leaves a ball slack that holds every point: infinity times a vanishing eta is no number. And larger
        by what is rounding: a ball of radius zero has no inside, and one whose divergence cannot be but its radius, as
        zeros leave a single coordinate, no eta that is not as good as any.
        """
        both = zip(self.balls, self.joint.largest, strict=True)
        return np.array([0.0 if b.radius is None else min(b.radius, most + 1) + LAST_PLACE for b, most in both])

    def normalisers(self, eta: float | FloatArray, multipliers: FloatArray) -> FloatArray:
        """Multipliers (G,) of the masses of the simplexes, those of the rows as they are, at a finite eta >= 0.

        Where all balls of a simplex are slack that is its best coordinate's net.
        """
        if not isinstance(eta, np.ndarray):
            if eta == 0:
                return self.net(multipliers).max(keepdims=True)
            return np.array([eta * self.dual(eta, multipliers).conjugate.normaliser])
        net = self.net(multipliers)
        bare = eta @ self.joint.covers <= 0
        net[self.joint.out_of_reach] = -np.inf
        top = np.maximum.reduceat(net, self.joint.starts)
        with np.errstate(divide="ignore", invalid="ignore"):  # of those without a temperature, not looked at
            joint = self.joint.conjugate(eta, net)
            return np.where(bare, top, joint.temperature * joint.log_partition)

    def within(self, eta: float | FloatArray, multipliers: FloatArray, group: IntArray, n_groups: int) -> FloatArray:
        """Conditionals (n,), within each group of coordinates, of the dual's maximiser at a finite eta > 0.

        For groups that are states they are the policy: a softmax of the Bellman error.
        """
        if isinstance(eta, np.ndarray):
            joint = self.joint.conjugate(eta, self.net(multipliers))
            return softmax_within(joint.scaled, group, n_groups)[0]
        best = self.dual(eta, multipliers)
        point = best.conjugate.point
        if least(point) > TINY:  # nothing has underflowed: no second pass over exponents
            return point / np.bincount(group, weights=point, minlength=n_groups)[group]
        return self.divergence.within(best.scaled, group, n_groups)

    def bound(self, eta: float | FloatArray, multipliers: FloatArray) -> float:
        """Upper bound on the optimum from any ``eta >= 0`` and multipliers of the right sign (weak duality).

        Eta is a number with one ball, (k,) with several.
        """
        if isinstance(eta, np.ndarray) and eta.ndim:
            if np.any(eta @ self.joint.covers <= 0):
                # all balls of a simplex are slack: its best coordinate counts there
                return float(self.rhs @ multipliers + eta @ self.radii + self.normalisers(eta, multipliers).sum())
            return self.joint_dual(eta, multipliers).value
        if eta > 0:
            return self.dual(float(eta), multipliers).value
        softened = 0.0 if self.ridge is None else float(self.ridge @ multipliers**2) / 2
        return float(self.rhs @ multipliers) + self.mass * self.divergence.highest(self.net(multipliers)) + softened

    def least_divergence(self, multipliers: FloatArray) -> float:
        """Lower bound on D of every point that satisfies the rows, by weak duality: the dual of the projection."""
        pulled = self.transpose @ multipliers
        return float(-(self.rhs @ multipliers) - self.divergence.conjugate(-pulled).value)

    def least_score(self, eta: float) -> float:
        """Lower bound on the score of every feasible point, in penalty form with eta for the temperature."""
        if self.ridge is not None:
            return -math.inf
        if len(self.balls) > 1:
            priced = sum(
                ball.price * most for ball, most in zip(self.balls, self.joint.largest, strict=True) if ball.price
            )
            return self.lowest * self.joint.starts.size - priced
        return self.lowest if self.temperature is None else self.lowest - eta * self.divergence.largest


def _as_balls(balls: Ball | Sequence[Ball]) -> tuple[Ball, ...]:
    """The balls of a program."""
    if isinstance(balls, Ball):
        return (balls,)
    several = tuple(balls) if isinstance(balls, Iterable) else (balls,)
    for ball in several:
        if not isinstance(ball, Ball):
            raise TypeError(f"balls must be a Ball or several, got {type(ball).__name__}")
    return several
