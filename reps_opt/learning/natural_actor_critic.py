"""The episodic natural actor-critic as an update: the natural gradient by one regression, then a step to the ball.

Shapes: N transitions, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reps_opt.batch import Batch
from reps_opt.learning.gradients import ParametricPolicy, enac, fisher
from reps_opt.learning.policy_update import PolicyUpdate, check_parametric, possible_actions
from reps_opt.learning.returns import Transitions, episodes
from reps_opt.learning.surrogates import FisherStep, Surrogate, gradient_promise, visits
from reps_opt.problems.steps import TrustRegionStep
from reps_opt.solving import solve
from reps_opt.threads import limited
from reps_opt.validation import FloatArray, as_scalar


@dataclass(frozen=True, kw_only=True)
class ENAC:
    r"""Episodic natural actor-critic: regress returns on the episodes' scores, and step along the coefficients.

    .. math:: R_e \approx \psi_e'w + b, \qquad s = \arg\max_s\; (Fw)'s \;\text{ s.t. }\; \tfrac12 s'Fs \le \epsilon
              \quad\big(= w \sqrt{2\epsilon / w'Fw}\big)

    The coefficients w are ``F^-1 g`` without any F in the regression; F, the policy's own at the batch's states, says
    how long a step the ball allows. ``gain`` is g's, in units of the discounted return.

    Parameters
    ----------
    gamma
        Discount factor in [0, 1].
    epsilon
        Quadratic KL of the step, in nats a step of the process.
    ridge, discounted_scores
        As for :func:`reps_opt.learning.gradients.enac`.

    References
    ----------
    Peters and Schaal (2008), *Natural actor-critic*, table 3.

    Examples
    --------
    >>> import numpy as np
    >>> import envs
    >>> from policies import LinearGaussianPolicy
    >>> from reps_opt import rollout
    >>> env = envs.LQR()
    >>> policy = LinearGaussianPolicy().fit(np.eye(6, 3), np.eye(6, 3)[::-1])
    >>> result = ENAC(gamma=env.gamma, epsilon=0.03)(policy, rollout(env, policy, n_episodes=25, seed=0))
    >>> print(result.solution.status, round(result.solution.kl, 6))
    certified 0.03
    """

    gamma: float = 1.0
    epsilon: float = 0.01
    ridge: float = 1e-6
    discounted_scores: bool = True

    def __post_init__(self) -> None:
        as_scalar(self.gamma, "gamma", low=0.0, high=1.0)
        as_scalar(self.epsilon, "epsilon", low=0.0, low_open=True)
        as_scalar(self.ridge, "ridge", low=0.0)

    needs_policy = True
    """As :class:`~reps_opt.TRPO` does: :func:`~reps_opt.improve` makes one where none is given."""

    def __call__(self, policy: ParametricPolicy, batch: Transitions) -> PolicyUpdate:
        """Update a policy from episodes it was rolled out for; neither is changed."""
        check_parametric(policy, type(self).__name__)
        if not possible_actions(policy, batch).all():
            raise ValueError("batch: an action has probability zero under the policy: the episodes are another's")
        with limited():
            return self._update(policy, batch)

    def _update(self, policy: ParametricPolicy, batch: Transitions) -> PolicyUpdate:
        at = Surrogate(policy, batch, np.zeros(len(batch.rewards)))
        scores = policy.score_function(*at.pairs)
        flags = batch.terminated, batch.truncated
        natural = enac(scores, batch.rewards, *flags, self.gamma, self.ridge, self.discounted_scores)
        metric = fisher(policy, at.pairs.states)
        if not natural.any():
            return PolicyUpdate(policy, False, None, message="the natural gradient is zero")
        solution = solve(TrustRegionStep(metric.product(natural), metric, self.epsilon))
        if not solution.has_point:
            return PolicyUpdate(policy, False, solution, message=solution.message)
        result = at.taken(FisherStep(solution, solution.step), 1.0)
        result = replace(result, gain=solution.predicted_gain, message=solution.message)
        return replace(result, stats=self._promise(policy, batch, result))

    def objective(self, batch: Batch, gamma: float | None = None, starts: str | None = None) -> tuple[float, float]:
        """What the predicted gain is a gain of, and its error: :meth:`TRPO.objective`, from the start of episodes."""
        return visits(batch, self.gamma if gamma is None else gamma, starts or "episodes").mean(batch.rewards)

    def _promise(self, policy: ParametricPolicy, batch: Transitions, result: PolicyUpdate) -> dict[str, Any]:
        """The promise of a step: an episode's return over their mean is the advantage of each of its actions."""
        parts = episodes(batch.terminated, batch.truncated)
        returns = parts.sums(self.gamma**parts.time * batch.rewards)
        advantages = (returns - returns.mean())[parts.number]

        def credited(rows: FloatArray) -> FloatArray:  # discounted already, as seen from the start
            sums = np.zeros(len(rows))
            sums[parts.firsts] = parts.sums(rows)
            return sums

        at = Surrogate(policy, batch, advantages)
        return gradient_promise(at, at.gradient, result, self.gamma, starts="episodes", credited=credited)
