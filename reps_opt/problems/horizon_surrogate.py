r"""The TRPO-style step of a finite horizon: old states, old advantages, and a ball around the policy alone.

Shapes: T steps, S states, A actions; policies (T, S, A); n pairs and m nodes that can carry mass.
"""

from __future__ import annotations

import math

import numpy as np

from reps_opt.constraints import Equal
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.policy_divergences import NewOldKL
from reps_opt.hints import Hints, Nearest
from reps_opt.problems.horizon import FiniteHorizonREPS
from reps_opt.problems.policy_steps import StatewiseProblem
from reps_opt.processes.time_indexed import bellman_error, evaluate
from reps_opt.program import Program
from reps_opt.result import Arrays
from reps_opt.solution import Solution
from reps_opt.solving import solve
from reps_opt.tolerances import ROUNDING, TINY
from reps_opt.validation import FloatArray, read_only
from reps_opt.values import cached_property, value


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
