"""TRPO's exact steps: the best policy near the old one, at the old states and the old advantages.

Shapes: S states, A actions, T steps of a finite horizon; n pairs with mass in m states, or nodes.
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
from reps_opt.problems.horizon import FiniteHorizonREPS
from reps_opt.problems.policy_solution import PolicySolution
from reps_opt.processes.flow import Flow
from reps_opt.processes.mdp import MDP
from reps_opt.processes.time_indexed import bellman_error, evaluate
from reps_opt.program import Program
from reps_opt.result import Arrays
from reps_opt.solution import Solution
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.eta_search import EtaSearch
from reps_opt.solving import solve
from reps_opt.tolerances import CLOSE, HUGE, LAST_PLACE, ROUNDING, TINY
from reps_opt.validation import FloatArray, as_radius, read_only
from reps_opt.values import OldName, cached_property, value

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

    pairs, states = OldName("flow.pairs"), OldName("flow.nodes")

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


@value
class SurrogateSolution(Solution):
    """What a TRPO-style step does, and what it believes it does; see :class:`~reps_opt.Solution` for the rest.

    Attributes
    ----------
    policy : (T, S, A) array
    predicted_gain : float
        ``sum_t E_{mu_q,t} E_pi A_q,t``: the surrogate, in reward units. The true gain has the new states in it.
    policy_kl : float
        ``mean_t E_{mu_q,t} KL(pi_t || pi_q,t)``, in nats.
    eta : float
        Multiplier of the ball: the derivative of ``predicted_gain`` in its radius.
    """

    @cached_property
    def policy(self) -> FloatArray:
        """The new policy (T, S, A)."""
        data = self.problem.data
        if self.point is None:
            return read_only(np.full(data.policy.shape, math.nan))
        policy = np.array(data.policy)
        policy[data.flow.kept] = data.flow.conditional(self.point)
        return read_only(policy)

    @property
    def predicted_gain(self) -> float:
        """The surrogate, in reward units."""
        return self.objective

    @property
    def policy_kl(self) -> float:
        """Mean KL(new || old) of the policies under the old states, in nats."""
        return self.kl

    @property
    def gap(self) -> float:
        """Duality gap, in the certificate's unit."""
        return self.certificate.gap

    def arrays(self) -> Arrays:
        return {"policy": (("time", "state", "action"), self.policy)}


@value
class SurrogateProblem(StatewiseProblem):
    """The problem that :func:`surrogate_step` solves, from the data of one with a shared ball."""

    data: FiniteHorizonREPS

    view = SurrogateSolution

    @cached_property
    def advantage(self) -> FloatArray:
        """Advantage (n,) of the old policy over the pairs with mass."""
        data = self.data
        values = evaluate(data.mdp, data.rewards, data.policy)
        return data.flow.pick(bellman_error(data.mdp, data.rewards, values))

    @cached_property
    def program(self) -> Program:
        """The :class:`~reps_opt.Program` over x = mu_q pi / T."""
        flow, horizon = self.data.flow, self.data.horizon
        ball = NewOldKL(flow.pick(self.data.reference) / horizon, flow.pair_node)
        rows = {"states": Equal(flow.leaving.T.tocsr(), ball.mass)}
        hints = Hints(mass_implied=True, linear_limit=self._linear_limit, variable="occupancy")
        return Program(horizon * self.advantage, rows, Ball(ball, radius=self.data.epsilon_array[0]), hints=hints)

    def spread(self, x: FloatArray) -> FloatArray:
        """Values (n,) over the pairs with mass as an array (T, S, A) of mass one a step."""
        return self.data.spread(x)

    def pick(self, table: FloatArray) -> FloatArray:
        """An array (T, S, A) as the program's x (n,)."""
        return self.data.pick(table)

    def _linear_limit(self) -> Nearest:
        return self.best_actions(ROUNDING * max(float(np.ptp(self.program.objective)), TINY))

    def __repr__(self) -> str:
        return f"SurrogateProblem({self.data!r})"


def surrogate_step(problem: FiniteHorizonREPS) -> SurrogateSolution:
    r"""Maximise the surrogate within a ball around the policy, from the data of a problem with a shared ball.

    .. math::
        \max_\pi\; \sum_t \sum_s \mu_{q,t}(s) \sum_a \pi_t(a|s) A_{q,t}(s,a) \quad\text{s.t.}\quad
        \tfrac1T \textstyle\sum_t E_{\mu_{q,t}} KL(\pi_t\|\pi_{q,t}) \le \epsilon \;[\eta], \qquad
        \pi_t \propto \pi_{q,t}\, e^{T A_{q,t} / \eta}

    It is the shared ball's program with the flow replaced by the old state marginals: ``sum_a p_t = mu_q,t``.

    Raises
    ------
    ValueError
        If the problem's ball is another one.

    Examples
    --------
    >>> import envs
    >>> from reps_opt import FiniteHorizonREPS, surrogate_step
    >>> mdp = envs.single_chain()
    >>> problem = FiniteHorizonREPS(mdp, mdp.uniform_policy(), horizon=20, epsilon=0.5)
    >>> step = surrogate_step(problem)
    >>> print(round(step.predicted_gain, 2), round(step.policy_kl, 6))
    13.68 0.5
    """
    if problem.ball != "shared":
        raise ValueError(f"problem must have the shared ball, got {problem.ball!r}")
    return solve(SurrogateProblem(problem))
