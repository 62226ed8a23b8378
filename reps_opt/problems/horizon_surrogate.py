r"""The TRPO-style step of a finite horizon: old states, old advantages, and a ball around the policy alone.

Shapes: T steps, S states, A actions; policies (T, S, A); n pairs and m nodes that can carry mass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reps_opt.divergences.base import KL
from reps_opt.processes.time_indexed import bellman_error, evaluate
from reps_opt.program import Block, LinearLimit, Program
from reps_opt.solvers.newton import Newton
from reps_opt.validation import FloatArray

if TYPE_CHECKING:
    from reps_opt.problems.horizon import FiniteHorizonREPS


class SurrogateStep(NamedTuple):
    """What a TRPO-style step does, and what it believes it does.

    Attributes
    ----------
    policy : (T, S, A) array
    predicted_gain : float
        ``sum_t E_{mu_q,t} E_pi A_q,t``: the surrogate, in reward units. The true gain has the new states in it.
    policy_kl : float
        ``mean_t E_{mu_q,t} KL(pi_t || pi_q,t)``, in nats.
    eta : float
        Multiplier of the ball: the derivative of ``predicted_gain`` in its radius.
    gap : float
        Duality gap of the surrogate's optimum, in units of the advantages' range, a step's mean.
    """

    policy: FloatArray
    predicted_gain: float
    policy_kl: float
    eta: float
    gap: float


def surrogate_step(problem: FiniteHorizonREPS) -> SurrogateStep:
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
    if problem.ball.label != "shared":
        raise ValueError(f"problem must have the shared ball, got {problem.ball.label!r}")
    flow, q, horizon = problem.flow, problem.reference, problem.horizon
    values = evaluate(problem.mdp, problem.rewards, problem.reference_policy)
    advantage = flow.pick(bellman_error(problem.mdp, problem.rewards, values))
    states = q.sum(axis=2).ravel()[flow.nodes] / horizon
    ball = KL(flow.pick(q) / horizon)
    best = np.full(states.size, -np.inf)
    np.maximum.at(best, flow.pair_node, advantage)
    tight = advantage >= best[flow.pair_node] - 1e-12 * max(float(np.ptp(advantage)), 1e-300)
    greedy = flow.pick(flow.conditional(flow.pick(q) * tight, problem.reference_policy)) * states[flow.pair_node]
    limit = LinearLimit(greedy, best, ball.value(greedy))
    rows = {"states": Block(flow.leaving.T.tocsr(), states)}
    epsilon = float(problem.epsilon_array[0])
    program = Program(advantage, ball, epsilon, rows, mass_implied=True, linear_limit=lambda: limit)
    normalised, scale = program.normalised()
    answer = Newton().solve(normalised)
    assert answer.point is not None
    assert answer.multipliers is not None
    policy = flow.conditional(answer.point, problem.reference_policy)
    point = flow.pick(policy) * states[flow.pair_node]
    gap = normalised.bound(answer.eta, answer.multipliers) - normalised.score(point)
    eta = horizon * scale.factor * answer.eta
    return SurrogateStep(policy, horizon * program.score(point), ball.value(point), eta, gap)
