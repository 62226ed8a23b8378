r"""REPS over a finite horizon, with the ball around all steps, each step, or the trajectories.

Shapes: T steps, S states, A actions; policies and occupancies (T, S, A), values (T, S); n pairs and m nodes that can
carry mass; k balls (1, or T).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import scipy
from numpy.typing import ArrayLike

from reps_opt import plotting
from reps_opt.certify import Bound
from reps_opt.constraints import Block, Equal, Simplex
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL
from reps_opt.divergences.conditional_kl import ConditionalKL
from reps_opt.hints import Hints
from reps_opt.plotting import Panel
from reps_opt.problems.flow_problem import UnrolledProblem
from reps_opt.problems.flow_solution import FlowSolution, PolicyReadings
from reps_opt.processes.flow import Flow
from reps_opt.processes.mdp import MDP
from reps_opt.processes.time_indexed import (
    as_time_indexed_policy,
    bellman_error,
    evaluate,
    nearest_policy,
    occupancy_of,
    optimal_values,
    soft_values,
)
from reps_opt.program import Program
from reps_opt.result import Arrays
from reps_opt.scale import Scale, ordinary_scale
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.newton import Newton
from reps_opt.solvers.soft_bellman import SoftBellman
from reps_opt.tolerances import LAST_PLACE, SOFT_START, TINY
from reps_opt.validation import FloatArray, as_count, as_scalar, check_shape, read_only
from reps_opt.values import cached_property, value

BALLS = ("shared", "per_step", "trajectory")


@value
class FiniteHorizonSolution(PolicyReadings, FlowSolution):
    r"""Answer to a :class:`~reps_opt.FiniteHorizonREPS`; see :class:`~reps_opt.Solution` for what every answer has.

    Attributes
    ----------
    eta : float or (T,) array
        Multiplier of the ball, or of each step's: the derivative of ``objective`` in its radius.
    value : (T, S) array
        Multiplier V of the flow, with V zero after the last step and the multipliers of the masses absorbed, so that
        ``p_t = q_t exp(bellman_error_t / temperature_t)``; for the trajectory ball ``pi_t = pi_q exp(...)``. NaN in
        nodes without mass.
    occupancy : (T, S, A) array
        ``p_t(s, a)``, each step summing to one: the exact occupancy of ``policy``, inside the ball.
    policy : (T, S, A) array
        The new policy; in nodes that cannot carry mass it is the reference's.
    divergences : (k,) array
        Divergence of each ball, in nats.
    objective : float
        Expected sum of (discounted) rewards.
    """

    @cached_property
    def value(self) -> FloatArray:
        """V (T, S)."""
        problem = self.problem
        if self.multipliers is None:
            return read_only(np.full(problem.policy.shape[:2], math.nan))
        ahead = np.cumsum(self._normalisers()[::-1])[::-1]  # what the masses of this and later steps are priced at
        values = self.multipliers + ahead[problem.flow.nodes // problem.mdp.n_states]
        table = problem.share * problem.flow.spread_nodes(values)
        if problem.ball == "trajectory" and self.eta < math.inf:  # states that nothing leads to have a value too
            data = problem.mdp, problem.rewards
            elsewhere = (
                soft_values(*data, problem.log_policy, self.eta)
                if self.eta
                else optimal_values(*data, problem.policy > 0)
            )
            table = np.where(np.isnan(table), elsewhere, table)
        return read_only(table)

    @cached_property
    def policy_value(self) -> FloatArray:
        """Value (T, S) of the new policy itself: the rewards still to come, ``gamma**t`` included.

        ``value`` is what the ball has priced; this is the ordinary one.
        """
        return read_only(evaluate(self.problem.mdp, self.problem.rewards, self.policy))

    @cached_property
    def advantage(self) -> FloatArray:
        """Advantage (T, S, A) of the new policy: ``q_values - policy_value``."""
        return read_only(bellman_error(self.problem.mdp, self.problem.rewards, self.policy_value))

    def _normalisers(self) -> FloatArray:
        """Multiplier (T,) of the mass of every step."""
        problem, program = self.problem, self.problem.program
        assert self.multipliers is not None
        if problem.ball == "trajectory" or np.any(np.isinf(self.eta)):
            # the multipliers are exact values of the shifted rewards
            return np.full(problem.horizon, problem.normalised[1].shift / program.mass)
        return np.broadcast_to(program.normalisers(self.eta, self.multipliers), problem.horizon)

    @property
    def duals(self) -> dict[str, Any]:
        return {"flow": self.value, "kl": np.atleast_1d(self.eta)}

    @property
    def temperature(self) -> float | FloatArray:
        """Reward units a nat in the exponent of the new policy: eta, or eta / T for the shared ball (a mean)."""
        return self.eta * self.problem.share

    @property
    def bellman_error(self) -> FloatArray:
        """Bellman error (T, S, A) under ``value``; NaN where the node has no value."""
        known = np.where(np.isfinite(self.value), self.value, 0.0)
        error = bellman_error(self.problem.mdp, self.problem.rewards, known)
        return np.where(np.isfinite(self.value)[:, :, None], error, np.nan)

    def _drawn(self) -> list[Panel]:
        """Values and new state distribution over time, and what each step reached and costs."""
        problem = self.problem
        steps = np.arange(problem.horizon)
        joint = scipy.special.rel_entr(self.occupancy, problem.reference).sum(axis=(1, 2))
        columns, masses = {"KL(p_t || q_t)": joint}, self.occupancy.sum(axis=2)
        if np.ndim(self.eta):
            columns |= {"epsilon_t": np.minimum(problem.epsilon_array, 10 * joint.max() + TINY)}
        drawn = [
            lambda axis: plotting.image(axis, self.value, "value V_t(s)", "step t", "state"),
            lambda axis: plotting.image(axis, masses, "state distribution", "step t", "state"),
            lambda axis: plotting.curves(axis, steps, columns, "divergence of each step, in nats", "step t"),
        ]
        if np.ndim(self.eta):
            drawn.append(lambda axis: plotting.curves(axis, steps, {"eta_t": self.eta}, "price", "step t"))
        return drawn

    def numbers(self) -> dict[str, Any]:
        return {**super().numbers(), "gamma": self.problem.mdp.gamma, "ball": self.problem.ball}

    def arrays(self) -> Arrays:
        """Over time, states and actions; with a ball a step also its ``eta`` and ``kl``."""
        arrays = dict(super().arrays())
        if np.ndim(self.eta):
            arrays |= {"eta": (("time",), self.eta), "kl": (("time",), self.divergences)}
        return arrays


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
            policy=read_only(as_time_indexed_policy(mdp, policy, steps)),
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
