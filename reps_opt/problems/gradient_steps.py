r"""Gradient steps of a softmax policy on a finite MDP, exact: plain and natural, in the logits or in shared features.

Shapes: S states, A actions; n = S A pairs; k features. ``scores`` J (n, k) are the rows
:math:`\sqrt{d(s)\pi(a|s)}\,\nabla\log\pi(a|s)'` and ``pull`` the same weights times the advantage (n,), so that the
Fisher matrix is :math:`F = J'J` and the gradient of the mean reward :math:`g = J' \text{pull}`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.metrics import Identity
from reps_opt.problems.policy_solution import GradientSolution
from reps_opt.problems.policy_steps import PolicyStep
from reps_opt.problems.steps import CLOSED_FORM, step_program
from reps_opt.processes.mdp import MDP
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer
from reps_opt.tolerances import ROUNDING
from reps_opt.validation import FloatArray, as_float_array, as_scalar, read_only
from reps_opt.values import cached_property, value


@value
class GradientStep(PolicyStep):
    r"""What exact gradient steps share: the program of a :class:`~reps_opt.TrustRegionStep`, g and F the exact ones.

    It is posed whitened, where the metric is the identity: the table's Fisher matrix (S A, S A), which is singular, is
    never formed. Subclasses give the whitened gradient and the way from z back to the parameters. The answer is
    ``z = y / eta`` for the whitened gradient y, with ``eta = |y| / sqrt(2 epsilon)``; a fixed step size is a fixed eta.
    """

    mdp: MDP
    policy: FloatArray
    step_size: float | None
    epsilon: float | None
    features: FloatArray | None

    view = GradientSolution

    def __init__(
        self,
        mdp: MDP,
        policy: ArrayLike,
        step_size: float | None = None,
        epsilon: float | None = None,
        features: ArrayLike | None = None,
    ) -> None:
        if (epsilon is None) == (step_size is None):
            raise ValueError("exactly one of step_size (fixed) and epsilon (ball) must be given")
        size = None if step_size is None else as_scalar(step_size, "step_size", low=0.0, low_open=True)
        radius = None if epsilon is None else as_scalar(epsilon, "epsilon", low=0.0, infinite=True)
        if radius == math.inf:
            raise ValueError("epsilon must be finite, got inf: a linear gain has no maximum without a ball")
        shape = mdp.rewards.shape
        phi = None if features is None else read_only(as_float_array(features, "features", (*shape, "k")))
        self._assign(mdp=mdp, policy=read_only(mdp.as_policy(policy)), step_size=size, epsilon=radius, features=phi)

    @property
    def temperature(self) -> float | None:  # type: ignore[override]
        """The price of the divergence that a fixed step size amounts to, in mean reward a nat."""
        horizon = 1 / (1 - self.mdp.gamma) if self.mdp.gamma < 1 else 1.0
        return None if self.step_size is None else 1 / (self.step_size * horizon)

    @cached_property
    def root_mass(self) -> FloatArray:
        r"""Weights (S, A): :math:`\sqrt{d(s)\pi(a|s)}`."""
        return np.sqrt(self.state_distribution[:, None] * self.policy)

    @cached_property
    def pull(self) -> FloatArray:
        """Weighted advantage (S, A); zero where all of it is rounding, which a ball would blow up to a whole step."""
        noise = np.abs(self.advantage)[self.root_mass > 0].max() <= self.rounding
        return (
            np.zeros_like(self.root_mass) if noise else self.root_mass * np.where(self.mdp.allowed, self.advantage, 0.0)
        )

    @cached_property
    def scores(self) -> FloatArray:
        """J (n, k): weighted score of the features' softmax, each row ``phi(s, a) - E_pi phi(s, .)`` times its root.

        A feature whose scores are all rounding, being the same for all actions of a state, has zeros.
        """
        assert self.features is not None
        centred = self.features - np.einsum("sa,sak->sk", self.policy, self.features)[:, None, :]
        size = np.abs(self.features).max(axis=(0, 1), initial=0.0)
        centred[:, :, np.abs(centred).max(axis=(0, 1), initial=0.0) <= ROUNDING * size] = 0.0
        return (self.root_mass[:, :, None] * centred).reshape(-1, self.features.shape[2])

    @cached_property
    def gradient(self) -> FloatArray:
        r"""Gradient g of the mean reward in the parameters, (S, A) or (k,): for the table :math:`d(s)\pi(a|s)A(s,a)`.

        The policy gradient theorem; times :math:`1/(1-\gamma)` it is that of the unnormalised return.
        """
        return self.root_mass * self.pull if self.features is None else self.scores.T @ self.pull.ravel()

    def whitened_gradient(self) -> FloatArray:
        """The gradient in coordinates z where the metric is the identity."""
        raise NotImplementedError

    def parameter_step(self, z: FloatArray, eta: float) -> FloatArray:
        """Change of the parameters, (S, A) or (k,), from the whitened step z at a given eta."""
        raise NotImplementedError

    @cached_property
    def program(self) -> Program:
        """The :class:`~reps_opt.program.Program` of a step, over the whitened one, in mean reward a step."""
        return step_program(self.whitened_gradient(), Identity(), self.epsilon, self.temperature)

    def closed_form(self, program: Program) -> Answer:
        """The step's closed form, whatever route is named: there is nothing for a solver to find."""
        answer = super().closed_form(program) or CLOSED_FORM.solve(program)
        return replace(answer, stats={"route": "closed form", "iterations": 0})


class ExactNaturalGradient(GradientStep):
    r"""Natural policy gradient of a softmax policy: the steepest ascent where length is the Fisher metric's.

    .. math::
        \max_s\; g's \quad\text{s.t.}\quad \tfrac12 s'Fs \le \epsilon\;[\eta], \qquad
        \min_\eta\; \eta\epsilon + \frac{g'F^{+}g}{2\eta}, \qquad s = F^{+}g/\eta

    With a logit for each state and action, :math:`F^{+}g` is the advantage and

    .. math:: \pi_{new} \propto \pi\, e^{A/\eta} = \pi\, e^{\alpha A/(1-\gamma)}, \qquad
              \eta = \sqrt{\mathbb E_{d,\pi}[A^2] / (2\epsilon)} = (1-\gamma)/\alpha.

    With features it is the least-squares fit of the advantage by the scores (compatible approximation).

    Parameters
    ----------
    mdp
        The :class:`~reps_opt.MDP`; with ``gamma == 1``, average reward, of unichain policies.
    policy
        The old policy (S, A), or (S,) integers. Actions it never takes stay at zero.
    step_size
        alpha > 0: the parameters move by alpha times the natural gradient of the unnormalised return (of the mean
        reward where ``gamma == 1``).
    epsilon
        Instead: the radius, in nats, of the ball in the second-order model of the KL divergence.
    features
        phi (S, A, k) for :math:`\pi \propto \pi_{old}\, e^{\phi's}`; None for a logit a pair.

    Raises
    ------
    TypeError, ValueError
        For a policy that is none, a step size that is not positive, an epsilon that is negative, NaN or infinite, or
        features of the wrong shape.

    Notes
    -----
    ``objective`` is the linear gain in mean reward; ``kl`` is the model s'Fs/2, and ``comparison`` holds the real
    divergences. F is singular along logits shared by a state's actions: the step has mean zero there under pi.

    References
    ----------
    Kakade (2002), *A natural policy gradient*, theorem 1 and section 3; Agarwal, Kakade, Lee, Mahajan (2021), *On the
    theory of policy gradient methods*, lemma 15.

    Examples
    --------
    >>> from reps_opt import ExactNaturalGradient, solve
    >>> import envs
    >>> mdp = envs.single_chain()
    >>> solution = solve(ExactNaturalGradient(mdp, mdp.uniform_policy(), epsilon=0.01))
    >>> print(solution.status, round(solution.kl, 9), round(solution.comparison.kl_old_new, 4))
    certified 0.01 0.0096
    """

    @cached_property
    def _fit(self) -> FloatArray:
        """``F^+ g`` (k,): least squares of the weighted advantage on the scores."""
        return np.asarray(np.linalg.lstsq(self.scores, self.pull.ravel(), rcond=ROUNDING)[0], dtype=np.float64)

    def whitened_gradient(self) -> FloatArray:
        if self.features is None:
            return self.pull.ravel()
        return self.scores @ self._fit

    def parameter_step(self, z: FloatArray, eta: float) -> FloatArray:
        if self.features is None:
            return np.where(self.mdp.allowed, self.advantage, 0.0) / eta if eta > 0 else np.zeros_like(self.advantage)
        return self._fit / eta if eta > 0 else np.zeros_like(self._fit)


class ExactPolicyGradient(GradientStep):
    r"""Plain policy gradient of a softmax policy: the steepest ascent where length is that of the parameters.

    .. math::
        \max_s\; g's \quad\text{s.t.}\quad \tfrac12 |s|^2 \le \epsilon\;[\eta], \qquad
        \min_\eta\; \eta\epsilon + \frac{|g|^2}{2\eta}, \qquad s = g/\eta

    With a logit for each state and action, :math:`g = d(s)\pi(a|s)A(s,a)`: a state hardly visited, or an action hardly
    taken, hardly moves. The step depends on the parametrisation, which ``features`` may change.

    Parameters
    ----------
    mdp, policy, features
        As for :class:`ExactNaturalGradient`.
    step_size
        alpha > 0: the parameters move by alpha times the gradient of the unnormalised return (of the mean reward
        where ``gamma == 1``).
    epsilon
        Instead: the radius of the ball, half the squared length of the parameter step.

    Raises
    ------
    TypeError, ValueError
        As for :class:`ExactNaturalGradient`.

    References
    ----------
    Sutton, McAllester, Singh, Mansour (2000), *Policy gradient methods for reinforcement learning with function
    approximation*, theorem 1.

    Examples
    --------
    >>> from reps_opt import ExactPolicyGradient, solve
    >>> import envs
    >>> mdp = envs.single_chain()
    >>> solution = solve(ExactPolicyGradient(mdp, mdp.uniform_policy(), step_size=0.1))
    >>> bool(0 < solution.gain < 2 * solution.predicted_gain)
    True
    """

    def whitened_gradient(self) -> FloatArray:
        return self.gradient.ravel()

    def parameter_step(self, z: FloatArray, eta: float) -> FloatArray:
        return z.reshape(self.gradient.shape)
