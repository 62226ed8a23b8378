"""The episodic natural actor-critic as an update: the natural gradient by one regression, then a step to the ball.

Shapes: N transitions, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

from reps_opt.learning.advantages import Transitions
from reps_opt.learning.gradients import ParametricPolicy, enac, fisher, mean_kl
from reps_opt.learning.policy_update import PolicyUpdate, check_parametric, possible_actions
from reps_opt.problems.step_solution import StepSolution
from reps_opt.problems.steps import TrustRegionStep
from reps_opt.solving import solve
from reps_opt.threads import limited
from reps_opt.validation import as_scalar


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
        scores = policy.score_function(batch.states, batch.actions)
        flags = batch.terminated, batch.truncated
        natural = enac(scores, batch.rewards, *flags, self.gamma, self.ridge, self.discounted_scores)
        metric = fisher(policy, batch.states)
        if not natural.any():
            return PolicyUpdate(policy, False, None, message="the natural gradient is zero")
        solution = solve(TrustRegionStep(metric.product(natural), metric, self.epsilon))
        assert isinstance(solution, StepSolution)
        if not solution.has_point:
            return PolicyUpdate(policy, False, solution, message=solution.message)
        new = policy.with_params(policy.params + solution.step)
        gain, note = solution.predicted_gain, solution.message
        kl, kl_old_new = (mean_kl(policy, new, batch.states, direction) for direction in ("new-old", "old-new"))
        return PolicyUpdate(new, True, solution, 1.0, gain, kl, kl_old_new, message=note, step=solution.step)
