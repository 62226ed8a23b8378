r"""REPS over a finite horizon, with the ball around all steps, each step, or the trajectories.

Shapes: T steps, S states, A actions; policies, rewards and occupancies (T, S, A), values (T, S); k balls (1, or T).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.certify import Bound
from reps_opt.constraints import Block, Equal, Simplex
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL
from reps_opt.divergences.conditional_kl import ConditionalKL
from reps_opt.hints import Hints
from reps_opt.problems.flow_problem import UnrolledProblem
from reps_opt.problems.horizon_solution import FiniteHorizonSolution
from reps_opt.processes.flow import Flow
from reps_opt.processes.mdp import MDP
from reps_opt.processes.time_indexed import (
    as_time_indexed_policy,
    evaluate,
    nearest_policy,
    occupancy_of,
    soft_values,
)
from reps_opt.program import Program
from reps_opt.scale import Scale, ordinary_scale
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.newton import Newton
from reps_opt.solvers.soft_bellman import SoftBellman
from reps_opt.tolerances import LAST_PLACE, SOFT_START
from reps_opt.validation import FloatArray, as_count, as_scalar, check_shape, read_only
from reps_opt.values import cached_property, value

BALLS = ("shared", "per_step", "trajectory")


@value
class FiniteHorizonREPS(UnrolledProblem):
    r"""Relative entropy policy search over T steps, with time-indexed policies.

    .. math::
        \max_p\; \sum_t \gamma^t \langle p_t, r\rangle \quad\text{s.t.}\quad
        \textstyle\sum_a p_0(s,a) = \mu_0(s),\quad
        \sum_a p_{t+1}(s',a) = \sum_{s,a} p_t(s,a) P(s'|s,a) \;[V],\quad \text{and one of}

    .. math::
        \text{shared:}\;& \tfrac1T \textstyle\sum_t KL(p_t\|q_t) \le \epsilon \;[\eta] &\quad
        g &= \eta\epsilon + \mu_0'V_0 + \eta \log \tfrac1T\textstyle\sum_t \sum_{s,a} q_t e^{T\delta_t/\eta} \\
        \text{per step:}\;& KL(p_t\|q_t) \le \epsilon_t \;[\eta_t] &
        g &= \mu_0'V_0 + \textstyle\sum_t \eta_t\big(\epsilon_t + \log \sum_{s,a} q_t e^{\delta_t/\eta_t}\big) \\
        \text{trajectory:}\;& \textstyle\sum_t E_{p_t} \log \frac{\pi_t}{\pi_{q,t}} \le \epsilon \;[\eta] &
        g &= \eta\epsilon + \mu_0'V_0, \quad
        V_t = \eta \log \textstyle\sum_a \pi_{q,t}\, e^{(\gamma^t r + P V_{t+1})/\eta}

    with :math:`\delta_t = \gamma^t r + P V_{t+1} - V_t` and :math:`V_T = 0`. The trajectory's divergence is that of
    the distributions over whole trajectories, whose dynamics cancel. At equal epsilon the trajectory ball lies inside
    the balls a step, and these inside the shared one: a step's marginal diverges no more than the trajectory, and a
    mean no more than its largest term.

    Parameters
    ----------
    mdp
        The :class:`~reps_opt.MDP`: its rewards are weighted by ``gamma**t``, and with ``gamma == 1`` summed plainly.
    policy
        pi_q, that produced the data, (S, A) for all steps or (T, S, A); its occupancy q is computed exactly, so that
        every radius is feasible. Pairs that it never takes stay at zero.
    horizon
        T.
    epsilon
        Radius in nats (a mean over the steps for ``"shared"``, a step's for ``"per_step"``, where it can also be (T,),
        and the whole trajectory's for ``"trajectory"``). Zero leaves the reference, infinity makes the linear program.
    ball
        ``"shared"``, ``"per_step"`` or ``"trajectory"``.

    Raises
    ------
    TypeError, ValueError
        For a policy that is none, a horizon that is not a positive integer, an unknown ball, an epsilon
        that is negative, NaN, of the wrong shape, or zero in some steps only.

    References
    ----------
    Peters, Muelling, Altun (2010), *Relative entropy policy search*; Lioutikov, Paraschos, Peters, Neumann (2014),
    *Sample-based information-theoretic stochastic optimal control* (one joint ball a step).

    Examples
    --------
    >>> from reps_opt import FiniteHorizonREPS, MDP, solve
    >>> mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=1.0, on_done="absorb")
    >>> for ball in ("trajectory", "per_step", "shared"):
    ...     solution = solve(FiniteHorizonREPS(mdp, mdp.uniform_policy(), horizon=20, epsilon=0.1, ball=ball))
    ...     print(solution.status, round(solution.objective, 4))
    certified 0.0291
    certified 0.0638
    certified 0.0676
    """

    mdp: MDP
    policy: FloatArray
    horizon: int
    epsilon: float | FloatArray
    ball: str

    view = FiniteHorizonSolution
    axes = ("time", "state", "action")
    _renamed: ClassVar = {"reference": "policy"}

    def __init__(
        self, mdp: MDP, policy: ArrayLike, horizon: int, epsilon: ArrayLike = 0.1, ball: str = "shared"
    ) -> None:
        steps = as_count(horizon, "horizon")
        if ball not in BALLS:
            raise ValueError(f"ball must be one of {BALLS}, got {ball!r}")
        radii = self._radii(epsilon, ball, steps)
        self._assign(
            mdp=mdp,
            policy=read_only(as_time_indexed_policy(mdp, policy, steps, "policy")),
            horizon=steps,
            epsilon=float(radii[0]) if radii.size == 1 else read_only(radii),
            ball=ball,
        )

    @cached_property
    def log_policy(self) -> FloatArray:
        """Log of the policy (T, S, A)."""
        with np.errstate(divide="ignore"):
            return np.log(self.policy)

    @property
    def epsilon_array(self) -> FloatArray:
        """Radius of every ball (k,)."""
        return np.atleast_1d(self.epsilon)

    @property
    def reference_policy(self) -> FloatArray:
        """The policy (T, S, A) that produced the data."""
        return self.policy

    @cached_property
    def reference(self) -> FloatArray:
        """Its occupancy (T, S, A), exact."""
        return read_only(occupancy_of(self.mdp, self.policy))

    @cached_property
    def rewards(self) -> FloatArray:
        """Rewards (T, S, A), weighted by ``gamma**t``."""
        discounts = self.mdp.gamma ** np.arange(self.horizon)
        return read_only(discounts[:, None, None] * self.mdp.rewards)

    @staticmethod
    def _radii(epsilon: ArrayLike, ball: str, horizon: int) -> FloatArray:
        if ball != "per_step" or np.ndim(epsilon) == 0:
            radius = as_scalar(epsilon, "epsilon", low=0.0, infinite=True)
            return np.full(horizon if ball == "per_step" else 1, radius)
        check_shape(np.asarray(epsilon), "epsilon", (horizon,))
        each = [as_scalar(x, f"epsilon[{t}]", low=0.0, infinite=True) for t, x in enumerate(np.asarray(epsilon))]
        radii = np.array(each)
        if radii.min() <= LAST_PLACE < radii.max():
            raise ValueError(f"epsilon[{int(radii.argmin())}] is zero: radii must be positive in all steps, or in none")
        return radii

    @cached_property
    def flow(self) -> Flow:
        """Pairs that can carry mass: those where the reference has some."""
        return Flow(self.mdp, np.flatnonzero(self.reference > 0), self.horizon)

    @property
    def share(self) -> float:  # type: ignore[override]
        """What an occupancy is multiplied by to be the program's x: 1/T where that is on one simplex, else one."""
        return 1.0 / self.horizon if self.ball == "shared" else 1.0

    @cached_property
    def program(self) -> Program:
        """The :class:`~reps_opt.Program`, its objective the return.

        Over x = p / T with the shared ball; over p with a ball a step, on a product of T simplexes, and around the
        trajectories, whose divergence grows in proportion to p.
        """
        flow, q = self.flow, self.flow.pick(self.reference)
        rows: dict[str, Block] = {"flow": Equal(flow.matrix, self.share * flow.rhs)}
        hints = Hints(mass_implied=True, linear_limit=self._linear_limit, variable="occupancy")
        rewards, radii = flow.pick(self.rewards), self.epsilon_array
        if self.ball == "shared":
            ball = Ball(KL(self.share * q), radius=radii[0])
            return Program(self.horizon * rewards, rows, ball, hints=hints)
        if self.ball == "trajectory":
            policy = ConditionalKL(flow.pick(self.policy), flow.pair_node)
            domain = Simplex(mass=float(self.horizon))
            return Program(rewards, rows, Ball(policy, radius=radii[0]), domain, hints=hints)
        layers = [np.flatnonzero(flow.layer == t) for t in range(self.horizon)]
        balls = [Ball(KL(q[w]), radii[t], where=w, name=f"kl[{t}]") for t, w in enumerate(layers)]
        return Program(rewards, rows, balls, Simplex(flow.layer_starts), hints=hints)

    @cached_property
    def normalised(self) -> tuple[Program, Scale]:
        """The program in units of its own; with rewards out of all proportion, told where to start.

        The reference's mean and variance would then be the penalties' alone. Soft values at an eta of one unit are
        those of a policy that has left the penalties, at any size of theirs.
        """
        program, scale = super().normalised
        if self.ball == "trajectory" or ordinary_scale(program.objective) is None:
            return program, scale
        rewards = self.flow.spread(program.objective) * self.share
        values = soft_values(self.mdp, rewards, self.log_policy, SOFT_START)
        return program.warmed((SOFT_START, self.flow.pick_nodes(values) / self.share)), scale

    def default_solver(self) -> Solver:
        return SoftBellman() if self.ball == "trajectory" else Newton()

    def closed_form(self, program: Program) -> Answer | None:
        """Answer that needs no solver: a single point, rewards that are all the same, or every ball slack."""
        zeros, none = np.zeros(self.flow.nodes.size), np.zeros(self.epsilon_array.size)
        eta: Any = none if self.ball == "per_step" else 0.0
        if self.epsilon_array.max() <= LAST_PLACE:
            return Answer(math.inf, zeros, self.centre.point, "the ball holds a single point")
        if np.ptp(self.flow.pick(self.rewards)) == 0:
            return Answer(eta, self._values_of(program, self.policy), self.centre.point, "the rewards are constant")
        if self.ball == "per_step":
            assert program.hints.linear_limit is not None
            limit = program.hints.linear_limit()
            if all(ball.value(limit.point) <= ball.allowed for ball in program.balls):
                return Answer(eta, limit.multipliers, limit.point, "every ball is slack")
        return None

    def _values_of(self, program: Program, policy: FloatArray) -> FloatArray:
        """Multipliers (m,) of a program's flow that are a policy's exact values."""
        return self.flow.pick_nodes(evaluate(self.mdp, self.flow.spread(program.objective), policy))

    def _nearest(self, face: Flow) -> FloatArray:
        if self.ball == "trajectory":
            return face.occupancy(face.pick(nearest_policy(self.mdp, self.policy, face.kept)))
        q = face.pick(self.reference) / self.horizon
        rows = {"flow": Equal(face.matrix, face.rhs / self.horizon)}
        answer = Newton().solve(Program(np.zeros(q.size), rows, Ball(KL(q), price=1.0), hints=Hints(mass_implied=True)))
        assert answer.point is not None
        return self.horizon * self.share * answer.point

    # What the judge asks

    def bounds(self, program: Program, answer: Answer, point: FloatArray, divergences: list[float]) -> Iterator[Bound]:
        """Dual bounds that the answer offers; of balls that hold the reference alone, by Pinsker's inequality."""
        if np.ndim(answer.eta) or answer.eta != math.inf:
            yield from super().bounds(program, answer, point, divergences)
            return
        mean = float(program.objective @ self.centre.point)
        reach = math.sqrt(float(self.epsilon_array.max()) / 2) * float(np.ptp(program.objective)) * program.mass
        none: Any = np.full(len(program.balls), math.inf) if len(program.balls) > 1 else math.inf
        yield Bound(mean + reach, none, self._values_of(program, self.policy))

    def __repr__(self) -> str:
        radii = self.epsilon_array
        text = f"{radii[0]:g}" if (radii == radii[0]).all() else f"{radii.min():g} ... {radii.max():g}"
        size = f"{self.mdp.n_states} states, {self.mdp.n_actions} actions, gamma={self.mdp.gamma:g}"
        return f"FiniteHorizonREPS({size}, horizon={self.horizon}, {self.ball} epsilon={text})"
