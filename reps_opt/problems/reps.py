"""Relative entropy policy search on a finite MDP: the occupancy measure in a divergence ball.

Shapes: S states, A actions; n pairs that can carry mass (:mod:`reps_opt.processes.flow`).
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL, Divergence
from reps_opt.divergences.f_divergences import Factory, divergence_factory
from reps_opt.problems.budgets import as_budgets
from reps_opt.problems.occupancy import OccupancyProblem, as_reference
from reps_opt.processes.flow import Flow
from reps_opt.processes.graph import BoolArray, reachable_states, state_graph
from reps_opt.processes.mdp import MDP
from reps_opt.tolerances import CONSISTENT, SINGLE_SUM_TOLERANCE, TINY
from reps_opt.validation import FloatArray, as_radius, as_scalar
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
