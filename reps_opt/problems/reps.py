"""Problems over the occupancy measure of a finite MDP: REPS, no ball at all, and a ball around the policy alone.

Shapes: S states, A actions; n pairs and m states that can carry mass (:mod:`reps_opt.processes.flow`).
"""

from __future__ import annotations

import math
import warnings
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL, Divergence, NoBall
from reps_opt.divergences.conditional_kl import ConditionalKL
from reps_opt.divergences.f_divergences import Factory, divergence_factory
from reps_opt.problems.budgets import as_budgets
from reps_opt.problems.occupancy import OccupancyProblem, as_reference
from reps_opt.processes.flow import Flow
from reps_opt.processes.graph import BoolArray, reachable_states, state_graph
from reps_opt.processes.markov import evaluate_average
from reps_opt.processes.mdp import MDP
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.soft_bellman import SoftBellman, policy_value
from reps_opt.tolerances import CONSISTENT, LAST_PLACE, ROUNDING, SINGLE_SUM_TOLERANCE, TINY
from reps_opt.validation import FloatArray, as_radius, as_scalar, read_only
from reps_opt.values import cached_property, value


@value
class REPS(OccupancyProblem):
    r"""Relative entropy policy search on a finite MDP.

    .. math::
        \max_p\; \langle p, r\rangle \quad\text{s.t.}\quad
        \textstyle\sum_a p(s',a) = (1-\gamma)\mu_0(s') + \gamma\sum_{s,a} p(s,a) P(s'|s,a) \;[V],\quad
        \sum p = 1\;[\lambda],\quad KL(p\|q) \le \epsilon\;[\eta]

    .. math::
        \min_{\eta, V}\; g = \eta\epsilon + (1-\gamma)\mu_0'V
        + \eta\log\textstyle\sum_{s,a} q\, e^{\delta_V/\eta},
        \qquad \delta_V = r + \gamma P V - V, \qquad p \propto q\, e^{\delta_V/\eta}

    With ``mdp.gamma == 1`` the flow is stationary: its right-hand side is zero, and ``mu0`` plays no part.

    Parameters
    ----------
    mdp
        The :class:`~reps_opt.MDP`.
    reference
        q (S, A): where the data come from, for instance ``mdp.occupancy(policy)``. Non-negative, of any positive sum
        (visit counts are fine): it is scaled to sum one. Pairs where it is zero stay at zero, except that states which
        a flow-consistent reference leads to, and whose mass has underflowed, count with mass TINY.
    epsilon
        Radius of the ball, in nats: 0 leaves the reference, infinity makes the linear program.
    temperature
        Instead of ``epsilon``: a fixed eta > 0, in reward units a nat (penalty form).
    costs
        Further rewards to be bounded (K, S, A), or a list of K arrays (S, A): rows ``<p, c_k> <= d_k`` [nu_k >= 0].
    budgets
        d (K,), one for each cost, on the scale of the mean reward ``<p, r>``.
    divergence
        What takes the place of KL in the ball: ``"kl"``, ``"chi2"``, ``"reverse_kl"``, ``("alpha", a)``, or a callable
        that makes a :class:`~reps_opt.divergences.Divergence` from its reference;
        see :mod:`reps_opt.divergences.f_divergences`.
    entropy
        Least entropy of the new state-action distribution, in nats: a second ball, around the uniform distribution.
        ``eta`` is then (2,): of the ball around the reference, and of the entropy, in ``duals`` by name; and
        ``certificate.kl`` is the divergence of the ball that has least room.

    Raises
    ------
    TypeError, ValueError
        For a reference of the wrong shape or dtype, with NaN, negative entries or sum zero; a negative or NaN
        epsilon; epsilon and temperature both given, or neither; costs and budgets that do not fit.

    References
    ----------
    Altman (1999), *Constrained Markov decision processes*, chapter 3 (budgets).
    Belousov, Peters (2017), *f-Divergence constrained policy improvement*, equation 9.
    Peters, Muelling, Altun (2010), *Relative entropy policy search*, equations 1-6 (the dual is their equation 8,
    for average reward).

    Examples
    --------
    >>> from reps_opt import MDP, REPS, solve
    >>> mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=0.99)
    >>> q = mdp.occupancy(mdp.uniform_policy())
    >>> solution = solve(REPS(mdp, reference=q, epsilon=0.5))
    >>> print(solution.status, round(solution.kl, 9), solution.certificate.gap < 1e-8)
    certified 0.5 True
    >>> solution.objective > mdp.expected_return(mdp.uniform_policy())
    True
    """

    mdp: MDP
    reference: FloatArray
    epsilon: float | None
    costs: FloatArray | None
    budgets: FloatArray | None
    temperature: float | None
    divergence: str | tuple[str, float] | Factory
    entropy: float | None

    def __init__(
        self,
        mdp: MDP,
        reference: ArrayLike,
        epsilon: float | None = None,
        costs: ArrayLike | None = None,
        budgets: ArrayLike | None = None,
        temperature: float | None = None,
        divergence: str | tuple[str, float] | Factory = "kl",
        entropy: float | None = None,
    ) -> None:
        radius, price = as_radius(epsilon, temperature)
        rows = as_budgets(costs, budgets, mdp.rewards.shape)
        factory = divergence_factory(divergence)
        if entropy is not None and (radius is None or radius == math.inf or factory is not KL):
            raise ValueError("entropy bounds a KL ball: it needs a finite epsilon and no other divergence")
        weights = as_reference(reference, mdp)
        _warn_of_policy(reference)
        self._assign(
            mdp=mdp,
            reference=weights,
            epsilon=radius,
            costs=None if rows is None else rows.table(mdp.rewards.shape),
            budgets=None if rows is None else rows.limits,
            temperature=price,
            divergence=divergence,
            entropy=None if entropy is None else as_scalar(entropy, "entropy"),
        )

    @cached_property
    def _weights(self) -> FloatArray:
        """The reference (S*A,) with the states that it lost to underflow given the least mass there is."""
        assert self.reference is not None
        return _refill_underflow(self.mdp, self.reference).ravel()

    def _allowed(self) -> np.ndarray:
        return self._weights > 0

    def _divergence(self, flow: Flow) -> Divergence:
        if self.epsilon == math.inf:
            return KL(self._weights[flow.pairs])  # no ball: it only picks the nearest of equally good answers
        return divergence_factory(self.divergence)(self._weights[flow.pairs])

    def reached(self, point: FloatArray, divergence: float) -> float:
        """The divergence of the kind asked for, also where an infinite radius leaves KL to pick the nearest optimum."""
        if self.epsilon != math.inf:
            return divergence
        return divergence_factory(self.divergence)(self._weights[self._known_flow.pairs]).value(point)

    def _balls(self, flow: Flow) -> list[Ball]:
        balls = super()._balls(flow)
        if self.entropy is not None:
            n = flow.pairs.size
            # H(p) >= entropy is a ball around the uniform distribution; below zero it would hold nothing
            room = max(math.log(n) - self.entropy, 0.0)
            balls.append(Ball(KL(np.full(n, 1.0 / n)), radius=room, name="entropy"))
        return balls

    def infeasible(self) -> str:
        if self.entropy is not None and self.flow is not None:
            most = math.log(self.flow.pairs.size)
            if self.entropy > most + CONSISTENT:
                return f"no distribution over the pairs has entropy >= {self.entropy:g}: the largest is {most:.9g}"
        return super().infeasible()


def _warn_of_policy(reference: ArrayLike) -> None:
    """Say so where a table (S, A), a reference by its shape, is rather a policy by its sums."""
    rows = np.sum(np.asarray(reference, dtype=np.float64), axis=1)
    if rows.size > 1 and np.all(np.abs(rows - 1) <= SINGLE_SUM_TOLERANCE):
        text = "reference has rows that sum to one each, as a policy has: mdp.occupancy(policy) is what REPS takes"
        warnings.warn(text, UserWarning, stacklevel=4)


def _refill_underflow(mdp: MDP, reference: FloatArray) -> FloatArray:
    """Give the least mass there is to states that a flow-consistent reference leads to but has no mass in.

    In exact arithmetic such a state would have mass: in a large MDP it is a product of too many probabilities to be
    represented. Without it every pair on the way there would have to be ruled out.
    """
    silent: BoolArray = np.all(reference == 0, axis=1)
    if not silent.any() or np.abs(mdp.flow_residual(reference)).sum() > CONSISTENT:
        return reference
    pairs = ((reference > 0) | silent[:, None]) & mdp.allowed
    led_to = reachable_states(state_graph(mdp.transitions, pairs.ravel()), ~silent)
    filled = reference.copy()
    filled[(silent & led_to)[:, None] & mdp.allowed] = TINY
    return filled


@value
class LinearProgram(OccupancyProblem):
    r"""The linear program of an MDP: the best occupancy, with no ball around any data.

    .. math:: \max_p\; \langle p, r\rangle \quad\text{s.t.}\quad \text{flow}\;[V],
              \quad \textstyle\sum p = 1\;[\lambda],\quad p \ge 0

    Its multiplier V is the optimal value function in every state that matters, and eta is zero. Actions that are
    equally good are taken with equal probability.

    Parameters
    ----------
    mdp
        The :class:`~reps_opt.MDP`. With ``gamma == 1`` the stationary distribution may choose its end component.
    costs, budgets
        Rows ``<p, c_k> <= d_k`` [nu_k >= 0], as in :class:`REPS`. A policy that keeps them may have to randomise, in
        at most as many states as there are budgets; HiGHS finds it.

    References
    ----------
    Puterman (1994), *Markov decision processes*, sections 6.9 and 8.8.

    Examples
    --------
    >>> from reps_opt import MDP, LinearProgram, solve
    >>> mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=0.99)
    >>> solution = solve(LinearProgram(mdp))
    >>> bool(abs(solution.value - mdp.solve_optimal().value).max() < 1e-9)
    True
    """

    mdp: MDP
    costs: FloatArray | None
    budgets: FloatArray | None

    reference = None
    epsilon = math.inf
    temperature = None

    def __init__(self, mdp: MDP, costs: ArrayLike | None = None, budgets: ArrayLike | None = None) -> None:
        rows = as_budgets(costs, budgets, mdp.rewards.shape)
        table, limits = (None, None) if rows is None else (rows.table(mdp.rewards.shape), rows.limits)
        self._assign(mdp=mdp, costs=table, budgets=limits)

    def _allowed(self) -> np.ndarray:
        return np.ones(self.mdp.rewards.size, dtype=bool)

    def _divergence(self, flow: Flow) -> Divergence:
        return NoBall(flow.pairs.size)

    def _on_face(self, tight: np.ndarray) -> FloatArray:
        return tight / np.count_nonzero(tight)


@value
class ConditionalREPS(OccupancyProblem):
    r"""Relative entropy policy search with a conditional KL, weighted by the new state distribution.

    .. math::
        \max_p\; \langle p, r\rangle \quad\text{s.t.}\quad \text{flow}\;[V],\quad \textstyle\sum p = 1\;[\lambda],\quad
        \sum_{s,a} p(s,a) \log\frac{\pi(a|s)}{\pi_q(a|s)} \le \epsilon\;[\eta]

    .. math::
        \min_\eta\; \eta\epsilon + (1-\gamma)\mu_0'V_\eta, \qquad
        V_\eta(s) = \eta\log\textstyle\sum_a \pi_q(a|s)\, e^{(r + \gamma P V_\eta)/\eta}, \qquad
        \pi \propto \pi_q\, e^{\delta_V/\eta}

    With ``mdp.gamma == 1`` the dual minimises ``eta epsilon + rho_eta``, rho the soft gain of
    ``V = eta log sum pi_q exp((r - rho + P V)/eta)``. The states may move freely, so that the ball holds more than that
    of :class:`~reps_opt.REPS`: ``KL(p||q) = KL(mu||mu_q) + sum p log(pi/pi_q)``.

    Parameters
    ----------
    mdp
        The :class:`~reps_opt.MDP`.
    policy
        pi_q (S, A), or an occupancy (S, A), of which the rows are normalised. Actions where it is zero stay
        at zero, and states whose row is zero are not entered.
    epsilon
        Radius of the ball, in nats: 0 leaves the reference policy, infinity makes the linear program.
    temperature
        Instead of ``epsilon``: a fixed eta > 0, in reward units a nat (an entropy-regularised MDP).

    Raises
    ------
    TypeError, ValueError
        As for :class:`~reps_opt.REPS`.

    Notes
    -----
    The dual is not smooth in V: routes are :class:`~reps_opt.solvers.SoftBellman` (the default),
    :class:`~reps_opt.solvers.CvxpyPrimal` and :class:`~reps_opt.solvers.CvxpyDual`.

    References
    ----------
    Neu, Jonsson, Gomez (2017), *A unified view of entropy-regularized Markov decision processes*, section 4.

    Examples
    --------
    >>> from reps_opt import MDP, ConditionalREPS, solve
    >>> mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=0.99)
    >>> solution = solve(ConditionalREPS(mdp, mdp.uniform_policy(), epsilon=0.1))
    >>> print(solution.status, round(solution.kl, 9), solution.certificate.gap < 1e-8)
    certified 0.1 True
    """

    mdp: MDP
    policy: FloatArray
    epsilon: float | None
    temperature: float | None

    costs = budgets = None
    _renamed: ClassVar = {"reference": "policy"}

    def __init__(
        self, mdp: MDP, policy: ArrayLike, epsilon: float | None = None, temperature: float | None = None
    ) -> None:
        radius, price = as_radius(epsilon, temperature)
        rows = as_reference(policy, mdp, "policy")
        total = rows.sum(axis=1, keepdims=True)
        self._assign(
            mdp=mdp, policy=read_only(rows / np.where(total > 0, total, 1.0)), epsilon=radius, temperature=price
        )

    @cached_property
    def reference(self) -> FloatArray:
        """Occupancy (S, A) of the reference policy, uniform in the states where it is silent."""
        silent = self.policy.sum(axis=1, keepdims=True) == 0
        return read_only(self.mdp.occupancy(np.where(silent, self.mdp.uniform_policy(), self.policy)))

    @property
    def reference_policy(self) -> FloatArray:
        return self.policy

    def _allowed(self) -> np.ndarray:
        return self.policy.ravel() > 0

    def _divergence(self, flow: Flow) -> Divergence:
        return ConditionalKL(flow.pick(self.policy), flow.pair_node)

    def _own_occupancy(self) -> FloatArray | None:
        """The occupancy of the reference policy; None where that leaves what can carry mass."""
        flow, policy = self._known_flow, self.program.divergence.reference
        if np.abs(flow.node_sums(policy) - 1).max() > CONSISTENT:
            return None
        return flow.occupancy(policy, flow.pick_nodes(self.reference.sum(axis=1)) + TINY)

    def closed_form(self, program: Program) -> Answer | None:
        """Answer that needs no solver: a ball that holds one policy, or rewards that are all the same."""
        if self.epsilon is not None and self.epsilon - self.centre.divergence <= LAST_PLACE:
            return self._single_policy(program)
        return super().closed_form(program)

    def _single_policy(self, program: Program) -> Answer:
        """The only policy there is; with average reward its mass goes where it gains most: that costs nothing."""
        flow, point, words = self._known_flow, self.centre.point, "the ball holds a single policy"
        if self.mdp.gamma < 1 or self.centre.divergence > 0:
            return Answer(np.inf, policy_value(program, flow.conditional(point)), point, words)
        policy = program.divergence.reference
        gain, bias, *_ = evaluate_average(flow.chain(policy), flow.node_sums(policy * program.objective))
        best = gain >= gain.max() - ROUNDING * float(np.ptp(program.objective))
        return Answer(np.inf, bias, flow.occupancy(policy, best * flow.node_sums(point)), words)

    def _project(self, flow: Flow) -> Answer:
        return SoftBellman().project(self._pose(flow, np.zeros(flow.pairs.size)))

    def default_solver(self) -> Solver:
        return SoftBellman()
