"""The exact TRPO step on a finite MDP: the best policy near the old one, at the old states and the old advantages.

Shapes: S states, A actions; n pairs with mass (state visited, action taken) and m states visited by the old policy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.certify import Bound
from reps_opt.constraints import Equal
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.policy_divergences import NewOldKL, OldNewKL, PolicyDivergence
from reps_opt.hints import Hints, Nearest
from reps_opt.problem import Problem
from reps_opt.problems.policy_solution import PolicySolution
from reps_opt.processes.flow import Flow
from reps_opt.processes.mdp import MDP
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.eta_search import EtaSearch
from reps_opt.tolerances import CLOSE, HUGE, LAST_PLACE, ROUNDING
from reps_opt.validation import FloatArray, as_radius, read_only
from reps_opt.values import cached_property, value

DIRECTIONS: dict[str, type[PolicyDivergence]] = {"old||new": OldNewKL, "new||old": NewOldKL}


class StatewiseProblem(Problem):
    """A problem whose rows give the mass of every state: given eta, each state solves itself."""

    advice = "try the default solver"

    def default_solver(self) -> Solver:
        return EtaSearch()

    def candidates(self, program: Program, answer: Answer) -> Iterator[FloatArray]:
        """Points (n,) with the old state distribution: the closed form at the answer's eta, and the solver's own."""
        ball = program.divergence
        assert isinstance(ball, PolicyDivergence)
        if 0 < answer.eta < math.inf:
            below = program.objective - ball.state_max(program.objective)[ball.block]
            yield self._apart_from_zero(ball, ball.statewise(below / answer.eta).point)
        if answer.point is not None:
            own = np.maximum(answer.point, 0.0)
            total = ball.state_sums(own)[ball.block]
            share = np.where(total > 0, own / np.where(total > 0, total, 1.0), ball.conditional)
            own = ball.mass[ball.block] * share
            yield self._apart_from_zero(ball, own) if answer.eta > 0 else own

    @staticmethod
    def _apart_from_zero(ball: PolicyDivergence, point: FloatArray) -> FloatArray:
        """The point, no action of the old policy's support less likely than the smaller of :data:`LEAST` and it."""
        return ball.in_proportion(np.maximum(point / ball.mass[ball.block], np.minimum(ball.conditional, 1 / HUGE)))

    def best_actions(self, leeway: float) -> Nearest:
        """The best actions of every state, up to a leeway, in the old policy's proportions: the closest best policy."""
        ball, c = self.program.divergence, self.program.objective
        assert isinstance(ball, PolicyDivergence)
        top = ball.state_max(c)
        point = ball.in_proportion(np.where(c >= top[ball.block] - leeway, ball.conditional, 0.0))
        return Nearest(point, top, ball.value(point))

    def bounds(self, program: Program, answer: Answer, point: FloatArray, divergences: list[float]) -> Iterator[Bound]:
        """Dual bounds on offer: the answer's own multipliers, the best ones for its eta, and eta zero inside."""
        ball, c, eta = program.divergence, program.objective, answer.eta
        assert isinstance(ball, PolicyDivergence)
        top = ball.state_max(c)
        inside = program.epsilon is not None and divergences[0] <= program.epsilon - CLOSE
        if eta == 0 or inside:
            yield Bound(program.bound(0.0, top), 0.0, top)
        if eta == math.inf:
            assert program.epsilon is not None
            reach = math.sqrt(program.epsilon / 2) * float(np.ptp(c))  # Pinsker, in either direction
            yield Bound(float(c @ ball.reference) + reach, math.inf, top)
        elif eta > 0:
            multipliers = top + eta * ball.statewise((c - top[ball.block]) / eta).multipliers
            yield Bound(program.bound(eta, multipliers), eta, multipliers)
            if answer.multipliers is not None:
                yield Bound(program.bound(eta, answer.multipliers), eta, answer.multipliers)
        elif math.isnan(eta):
            yield Bound(math.inf, eta, np.full(top.size, np.nan))


class PolicyStep(Problem):
    """What steps from an old policy share: the MDP, the policy, and how far the step may go.

    ``epsilon`` is the radius of a ball in nats, ``temperature`` a fixed price of the divergence; exactly one is given.
    """

    mdp: MDP
    policy: FloatArray
    epsilon: float | None
    temperature: float | None

    @cached_property
    def state_distribution(self) -> FloatArray:
        """State distribution (S,) d of the old policy."""
        return self.mdp.state_distribution(self.policy)

    @cached_property
    def advantage(self) -> FloatArray:
        """Exact advantage (S, A) of the old policy."""
        return self.mdp.advantage(self.policy)

    @property
    def rounding(self) -> float:
        """Differences between advantages up to here are noise: a fraction of the largest value there can be."""
        horizon = 1 / (1 - self.mdp.gamma) if self.mdp.gamma < 1 else float(self.mdp.n_states)
        return ROUNDING * horizon * float(np.abs(self.mdp.rewards).max())

    def __repr__(self) -> str:
        size = f"epsilon={self.epsilon:g}" if self.epsilon is not None else f"temperature={self.temperature:g}"
        return f"{type(self).__name__}({self.mdp!r}, {size})"


@value
class ExactTRPO(PolicyStep, StatewiseProblem):
    r"""Trust-region policy step on a finite MDP, exact: old states, old advantages, a ball around the old policy.

    .. math::
        \max_\pi\; \sum_s d_q(s) \sum_a \pi(a|s) A(s,a) \quad\text{s.t.}\quad
        \textstyle\sum_a \pi(a|s) = 1\;[v_s],\quad
        \sum_s d_q(s)\, KL(\pi_q\|\pi) \le \epsilon\;[\eta]

    or, with ``direction="new||old"``, :math:`KL(\pi\|\pi_q)`. It is :class:`~reps_opt.REPS` with the advantage for a
    reward and the state distribution held at the old one: x(s, a) = d_q(s) pi(a|s), :math:`KL(x\|q)`, and in place of
    the flow the rows :math:`\sum_a x(s,a) = d_q(s)`. Given eta each state solves itself,

    .. math::
        \pi = \frac{\eta\,\pi_q}{v_s - A} \quad(\text{old}\|\text{new}), \qquad
        \pi = \pi_q\, e^{(A - v_s)/\eta} \quad(\text{new}\|\text{old}),

    .. math::
        \min_\eta\; g = \eta\epsilon + \textstyle\sum_s d_q(s) v_s(\eta) \;(\text{new}\|\text{old}), \qquad
        g = \eta\epsilon + \sum_s d_q(s)\Big[v_s(\eta) - \eta
        - \eta\textstyle\sum_a \pi_q \log\frac{v_s(\eta) - A}{\eta}\Big] \;(\text{old}\|\text{new}),

    with :math:`v_s(\eta)` from :math:`\sum_a \pi = 1`. The second is the natural gradient step of the softmax table
    with step size :math:`(1-\gamma)/\eta`.

    Parameters
    ----------
    mdp
        The :class:`~reps_opt.MDP`; with ``gamma == 1``, average reward, of unichain policies.
    policy
        The old policy (S, A), or (S,) integers. Actions it never takes stay at zero.
    epsilon
        Radius of the ball, in nats: 0 leaves the old policy, infinity takes the best actions.
    direction
        ``"old||new"``, TRPO's own, or ``"new||old"``.
    temperature
        Instead of ``epsilon``: a fixed eta > 0, in mean reward a nat (penalty form).

    Raises
    ------
    TypeError, ValueError
        For a policy that is none, a negative or NaN epsilon, an unknown direction; epsilon and temperature both
        given, or neither.

    Notes
    -----
    The multipliers ``duals["policy"]`` are in the gauge where that of ``sum x = 1``, which the rows imply, is zero: the
    derivative of the optimum in the old states' masses is a difference between two of them.

    The objective is the surrogate's gain in mean reward a step: (1 - gamma) times that of unnormalised returns. A
    temperature on the scale of unnormalised returns is to be multiplied by 1 - gamma.

    References
    ----------
    Schulman, Levine, Abbeel, Jordan, Moritz (2015), *Trust region policy optimization*, equations 12 and 14;
    Kakade (2002), *A natural policy gradient*, section 3.

    Examples
    --------
    >>> from reps_opt import ExactTRPO, solve
    >>> import envs
    >>> mdp = envs.single_chain()
    >>> solution = solve(ExactTRPO(mdp, mdp.uniform_policy(), epsilon=0.1))
    >>> print(solution.status, round(solution.kl, 9), solution.certificate.gap < 1e-8)
    certified 0.1 True
    >>> print(round(solution.predicted_gain, 3), round(solution.gain, 3))
    0.682 2.517
    """

    mdp: MDP
    policy: FloatArray
    epsilon: float | None
    direction: str
    temperature: float | None

    view = PolicySolution

    def __init__(
        self,
        mdp: MDP,
        policy: ArrayLike,
        epsilon: float | None = None,
        direction: str = "old||new",
        temperature: float | None = None,
    ) -> None:
        radius, price = as_radius(epsilon, temperature)
        if direction not in DIRECTIONS:
            raise ValueError(f"direction must be one of {tuple(DIRECTIONS)}, got {direction!r}")
        self._assign(
            mdp=mdp, policy=read_only(mdp.as_policy(policy)), epsilon=radius, direction=direction, temperature=price
        )

    @cached_property
    def flow(self) -> Flow:
        """The pairs with mass: actions the old policy takes in states it visits."""
        return Flow(self.mdp, np.flatnonzero(self.state_distribution[:, None] * self.policy > 0))

    @cached_property
    def program(self) -> Program:
        """The :class:`~reps_opt.program.Program` over x(s, a) = d(s) pi(a|s), in mean reward a step."""
        flow, objective = self.flow, self.flow.pick(self.advantage)
        reference = flow.pick(self.state_distribution[:, None] * self.policy)
        divergence = DIRECTIONS[self.direction](reference, flow.pair_node)
        below = divergence.state_max(objective)[flow.pair_node] - objective
        return Program(
            objective if below.max() > self.rounding else np.zeros_like(objective),
            {"policy": Equal(flow.leaving.T.tocsr(), divergence.mass)},
            Ball(divergence, radius=self.epsilon, price=self.temperature),
            hints=Hints(mass_implied=True, linear_limit=self._linear_limit, variable="occupancy"),
        )

    def spread(self, x: FloatArray) -> FloatArray:
        """Values (n,) over the pairs with mass as an array (S, A), zero elsewhere."""
        return self.flow.spread(x)

    def pick(self, table: FloatArray) -> FloatArray:
        """Entries (n,) of an array (S, A) at the pairs with mass."""
        return self.flow.pick(np.asarray(table, dtype=np.float64))

    def _linear_limit(self) -> Nearest:
        return self.best_actions(max(ROUNDING * float(np.abs(self.program.objective).max()), self.rounding))

    def closed_form(self, program: Program) -> Answer | None:
        """Answer that needs no solver: a ball that holds the old policy alone, or advantages all equal in a state."""
        ball = program.divergence
        assert isinstance(ball, PolicyDivergence)
        top = ball.state_max(program.objective)
        if self.epsilon is not None and self.epsilon <= LAST_PLACE:
            return Answer(math.inf, top, ball.reference, "the ball holds the old policy alone", {"iterations": 0})
        if np.all(program.objective == top[ball.block]) and self.temperature is None:
            return Answer(0.0, top, ball.reference, "the old policy is the best on its support", {"iterations": 0})
        return None

    def alone(self, states: np.ndarray, eta: float) -> FloatArray:
        """Rows of the new policy for states without mass: the step at a given eta, in each state for itself."""
        policy, advantage = self.policy[states], self.advantage[states]
        taken = np.nonzero(policy > 0)
        ball = DIRECTIONS[self.direction](policy[taken], taken[0])
        c = advantage[taken]
        below = c - ball.state_max(c)[ball.block]
        rows = np.zeros_like(policy)
        if eta > 0:
            rows[taken] = ball.statewise(below / eta).point
        else:
            best = np.where(below == 0, ball.conditional, 0.0)
            rows[taken] = best / ball.state_sums(best)[ball.block]
        return rows
