r"""REPS over a finite horizon, with the ball around all steps, each step, or the trajectories.

Shapes: T steps, S states, A actions; policies, rewards and occupancies (T, S, A), values (T, S); k balls (1, or T).
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.problem import Problem
from reps_opt.problems.horizon_balls import BALLS, linear_limit
from reps_opt.problems.horizon_solution import FiniteHorizonSolution, read_answer
from reps_opt.processes.mdp import MDP
from reps_opt.processes.time_indexed import TimeIndexedFlow, as_time_indexed_policy, occupancy_of
from reps_opt.program import Scale
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.validation import FloatArray, as_count, as_scalar, check_shape, read_only

SINGLE_POINT = 1e-15
"""Radius up to which the ball counts as a single point."""


class FiniteHorizonREPS(Problem):
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
    reference
        The policy that produced the data, (S, A) for all steps or (T, S, A); its occupancy q is computed exactly, so
        that every radius is feasible. Pairs that it never takes stay at zero.
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
        For a reference that is not a policy, a horizon that is not a positive integer, an unknown ball, an epsilon
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

    def __init__(
        self, mdp: MDP, reference: ArrayLike, horizon: int, epsilon: ArrayLike = 0.1, ball: str = "shared"
    ) -> None:
        self.mdp = mdp
        self.horizon = as_count(horizon, "horizon")
        if ball not in BALLS:
            raise ValueError(f"ball must be one of {tuple(BALLS)}, got {ball!r}")
        self.reference_policy = read_only(as_time_indexed_policy(mdp, reference, self.horizon, "reference"))
        self.reference = read_only(occupancy_of(mdp, self.reference_policy))
        self.epsilon_array = read_only(self._radii(epsilon, ball))
        discounts = mdp.gamma ** np.arange(self.horizon)
        self.rewards = read_only(discounts[:, None, None] * mdp.rewards)
        self.ball = BALLS[ball](self)

    def _radii(self, epsilon: ArrayLike, ball: str) -> FloatArray:
        if ball != "per_step" or np.ndim(epsilon) == 0:
            radius = as_scalar(epsilon, "epsilon", low=0.0, infinite=True)
            return np.full(self.horizon if ball == "per_step" else 1, radius)
        check_shape(np.asarray(epsilon), "epsilon", (self.horizon,))
        each = [as_scalar(x, f"epsilon[{t}]", low=0.0, infinite=True) for t, x in enumerate(np.asarray(epsilon))]
        radii = np.array(each)
        if radii.min() <= SINGLE_POINT < radii.max():
            raise ValueError(f"epsilon[{int(radii.argmin())}] is zero: radii must be positive in all steps, or in none")
        return radii

    @property
    def epsilon(self) -> float | FloatArray:
        """Radius, or radii (T,), in nats."""
        return float(self.epsilon_array[0]) if self.epsilon_array.size == 1 else self.epsilon_array

    @property
    def routes(self) -> tuple[type, ...] | None:
        """Solvers that take this problem's dual; None where it is the core's program, and any of them does."""
        return self.ball.routes

    @cached_property
    def flow(self) -> TimeIndexedFlow:
        """Pairs that can carry mass: those where the reference has some."""
        return TimeIndexedFlow(self.mdp, self.reference > 0)

    @property
    def reference_return(self) -> float:
        """Expected sum of (discounted) rewards of the reference."""
        return float(np.sum(self.reference * self.rewards))

    @cached_property
    def scale(self) -> Scale:
        """Low end and range of a step's rewards, over the pairs that can carry mass."""
        seen = self.rewards[self.flow.kept]
        spread = float(np.ptp(seen))
        return Scale(float(seen.min()), spread if spread > 0 else 1.0)

    @cached_property
    def rewards01(self) -> FloatArray:
        """Rewards (T, S, A) in units of their range, from zero to one where mass can be."""
        return (self.rewards - self.scale.shift) / self.scale.factor

    @cached_property
    def normalised(self) -> tuple[Any, Scale]:
        """The ball's program in normalised rewards, and how the mean reward a step becomes the return."""
        return self.ball.program(), Scale(self.horizon * self.scale.shift, self.horizon * self.scale.factor)

    def default_solver(self) -> Solver:
        return self.ball.default_solver()

    def closed_form(self, program: Any) -> Answer | None:
        """Answer that needs no solver: a single point, rewards that are all the same, or every ball slack."""
        zeros, q = np.zeros(self.flow.nodes.size), self.flow.pick(self.reference)
        if self.epsilon_array.max() <= SINGLE_POINT:
            return Answer(math.inf, zeros, q, "the ball holds a single point")
        if np.ptp(self.rewards[self.flow.kept]) == 0:
            return Answer(0.0, zeros, q, "the rewards are constant")
        if self.ball.label == "per_step":
            limit = linear_limit(self)
            point = self.flow.spread(self.horizon * limit.point)
            if (self.ball.divergences(point) <= self.epsilon_array).all():
                return Answer(0.0, limit.multipliers, limit.point, "every ball is slack")
        return None

    def solution(self, program: Any, answer: Answer) -> FiniteHorizonSolution:
        return read_answer(self, answer)

    def to_cvxpy(self) -> Any:
        """The primal as a ``cvxpy.Problem`` in reward units, to inspect or to check by another route.

        Variable ``occupancy`` (n,): the pairs where the reference has mass, in order of (t, s, a); constraints labelled
        ``flow`` and ``kl`` (``kl[t]`` with a ball a step). The mass of every step follows from the flow.
        """
        from reps_opt.solvers.cvxpy_conic import pose_layers

        mass, gain = self.flow.block, self.flow.pick(self.rewards)
        tables = [self.flow.pairs[self.flow.layer == t] - t * self.mdp.rewards.size for t in range(self.horizon)]
        return pose_layers(gain, mass, tables, self.mdp.rewards.shape, self.ball.expressions, self.epsilon_array)

    def __repr__(self) -> str:
        radii = self.epsilon_array
        text = f"{radii[0]:g}" if (radii == radii[0]).all() else f"{radii.min():g} ... {radii.max():g}"
        size = f"{self.mdp.n_states} states, {self.mdp.n_actions} actions, gamma={self.mdp.gamma:g}"
        return f"FiniteHorizonREPS({size}, horizon={self.horizon}, {self.ball.label} epsilon={text})"
