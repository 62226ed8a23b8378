"""The conditional-KL step on a finite MDP: a ball around the reference policy, weighted by the new states.

Shapes: S states, A actions; n pairs and m states that can carry mass.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.divergences.base import Divergence
from reps_opt.divergences.conditional_kl import ConditionalKL
from reps_opt.problems.occupancy import OccupancyProblem, as_reference
from reps_opt.processes.flow import Flow
from reps_opt.processes.markov import gain_and_bias
from reps_opt.processes.mdp import MDP
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer, Solver
from reps_opt.solvers.soft_bellman import SoftBellman, policy_value
from reps_opt.tolerances import CONSISTENT, LAST_PLACE, ROUNDING, TINY
from reps_opt.validation import FloatArray, as_radius, read_only
from reps_opt.values import cached_property, value


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
        gain, bias = gain_and_bias(flow.chain(policy), flow.node_sums(policy * program.objective))
        best = gain >= gain.max() - ROUNDING * float(np.ptp(program.objective))
        return Answer(np.inf, bias, flow.occupancy(policy, best * flow.node_sums(point)), words)

    def _project(self, flow: Flow) -> Answer:
        return SoftBellman().project(self._pose(flow, np.zeros(flow.pairs.size)))

    def default_solver(self) -> Solver:
        return SoftBellman()
