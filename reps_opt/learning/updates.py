"""Gradient updates of a policy from a batch: vanilla, natural and TRPO, each one trust-region step away.

An update is settings only: ``update(policy, batch)`` returns a :class:`PolicyUpdate` and changes neither. The gradient
is that of the surrogate at the old policy, the metric is the policy's Fisher matrix by factors, and what becomes of the
step differs from update to update.

Shapes: N transitions, P parameters.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import InitVar, dataclass, replace
from typing import Any

import numpy as np

from reps_opt.batch import Batch
from reps_opt.learning.gradients import ParametricPolicy
from reps_opt.learning.policy_update import (
    NO_GRADIENT,
    PolicyUpdate,
    branch,
    check_parametric,
    possible_actions,
    standardised,
    under,
)
from reps_opt.learning.returns import Transitions, estimate_advantages
from reps_opt.learning.surrogates import FisherStep, Surrogate, fisher_step, gradient_promise, visits
from reps_opt.learning.value_network import Memory, ValueNetwork
from reps_opt.metrics import Identity
from reps_opt.problems.steps import TrustRegionStep
from reps_opt.solution import Status
from reps_opt.solvers.answer import Solver
from reps_opt.solving import solve
from reps_opt.threads import limited
from reps_opt.tolerances import INSIDE, ROUNDING, TINY
from reps_opt.validation import FloatArray, as_count, as_float_array, as_scalar, renamed

VALUES = ValueNetwork()
"""What advantages are measured against where nothing else is asked for."""


@dataclass(frozen=True, kw_only=True)
class GradientUpdate(ABC):
    """What all updates share.

    Parameters
    ----------
    gamma
        Discount factor in [0, 1].
    gae_lambda
        lambda of the generalised advantages, in [0, 1]; ``trace`` until 0.3.
    value_model
        What the advantages are measured against, see :func:`estimate_advantages`. By default a network that goes on
        learning from update to update, where :func:`~reps_opt.improve` hands its memory on.
    standardise
        Whether advantages are shifted and scaled to mean zero and standard deviation one.
    normalise
        Whether the inputs of a policy that can be ``standardised(states)``, as the networks can, follow the mean and
        spread of the observations so far: another parametrisation of the same policy, and saved with it.
    """

    gamma: float = 0.99
    gae_lambda: float = 0.95
    value_model: Any = VALUES
    standardise: bool = True
    normalise: bool = True
    trace: InitVar[float | None] = None

    needs_policy = True
    """That there must be a policy to start from: :func:`~reps_opt.improve` makes one from the environment's spaces."""

    def __post_init__(self, trace: float | None) -> None:
        renamed(self, gae_lambda=("trace", trace))
        as_scalar(self.gamma, "gamma", low=0.0, high=1.0)
        as_scalar(self.gae_lambda, "gae_lambda", low=0.0, high=1.0)

    def __call__(self, policy: ParametricPolicy, batch: Transitions, memory: Memory | None = None) -> PolicyUpdate:
        """Update a policy from a batch it was rolled out for; neither is changed.

        Parameters
        ----------
        memory
            What the last update kept (``PolicyUpdate.memory``), an empty mapping for the first; None to keep nothing.

        Raises
        ------
        TypeError
            For a policy without parameters and scores.
        ValueError
            Where the policy cannot have drawn a single action of the batch.
        """
        check_parametric(policy, type(self).__name__)
        with limited():
            return self._update(policy, batch, memory)

    def _update(self, policy: ParametricPolicy, batch: Transitions, memory: Memory | None) -> PolicyUpdate:
        rewards = as_float_array(batch.rewards, "batch.rewards", ("N",))
        estimate = estimate_advantages(
            batch, rewards, self.gamma, self.gae_lambda, self.value_model, branch(memory, "values")
        )
        current, moments = standardised(policy, batch.states, memory) if self.normalise else (policy, {})
        possible = possible_actions(current, batch)
        advantages, unit = self._scaled(estimate.advantages, estimate.values, possible)
        result = self._step(current, batch, advantages, memory)
        if result.accepted:
            gradient = result.solution.problem.gradient
            at = Surrogate(current, batch, advantages)
            told = gradient_promise(at, gradient, result, self.gamma, unit=unit)
            result = replace(result, stats={**result.stats, **told})
        if not possible.all():
            note = f"{np.sum(~possible)} of {possible.size} actions have probability zero under the policy: left out"
            result = replace(result, message="; ".join(filter(None, [result.message, note])))
        if memory is None:
            return replace(result, policy=result.policy if result.accepted else policy, memory=None)
        kept = {**under("values", estimate.memory), **moments, **(result.memory or {})}
        return replace(result, policy=result.policy if result.accepted else policy, memory=kept)

    def objective(self, batch: Batch, gamma: float | None = None, starts: str | None = None) -> tuple[float, float]:
        """What the predicted gain is a gain of, on a batch, and its standard error by episodes.

        It is ``1 - gamma`` times the discounted return, in reward units a step, over the visits that
        :class:`~reps_opt.REPSUpdate` counts; for gamma = 1 the return of an episode. ``starts`` is that of the update
        (``stats["starts"]``) where it was taken from another batch.
        """
        return visits(batch, self.gamma if gamma is None else gamma, starts).mean(batch.rewards)

    def _scaled(self, advantages: FloatArray, values: FloatArray, possible: Any) -> tuple[FloatArray, float]:
        """Advantages (N,) of what can happen and their unit; zeros where they are rounding, standardised if asked."""
        some = advantages[possible]
        spread, size = float(some.std()), float(np.abs(some).max())
        if spread <= ROUNDING * max(size, float(np.abs(values).max()), TINY):
            return np.zeros_like(advantages), 1.0
        if not self.standardise:
            return np.where(possible, advantages, 0.0), 1.0
        return np.where(possible, (advantages - some.mean()) / spread, 0.0), spread

    def _step(
        self, policy: ParametricPolicy, batch: Transitions, advantages: FloatArray, memory: Memory | None
    ) -> PolicyUpdate:
        """Update along the surrogate of these advantages (N,)."""
        at = Surrogate(policy, batch, advantages)
        return self._along(at) if at.gradient.any() else PolicyUpdate(policy, False, None, message=NO_GRADIENT)

    @abstractmethod
    def _along(self, at: Surrogate) -> PolicyUpdate:
        """Update along the surrogate's gradient, which is not zero."""


@dataclass(frozen=True, kw_only=True)
class VanillaGradient(GradientUpdate):
    """The plain policy gradient: a step of fixed length, or of fixed size.

    Parameters
    ----------
    length
        Euclidean length of the step: the ball ``|s|^2 / 2 <= length^2 / 2``.
    step_size
        Instead: the factor of the gradient.
    """

    length: float | None = None
    step_size: float | None = None

    def __post_init__(self, trace: float | None) -> None:
        super().__post_init__(trace)
        if (self.length is None) == (self.step_size is None):
            raise ValueError("exactly one of length and step_size must be given")
        for name, value in (("length", self.length), ("step_size", self.step_size)):
            if value is not None:
                as_scalar(value, name, low=0.0, low_open=True)

    def _along(self, at: Surrogate) -> PolicyUpdate:
        radius = 0.5 if self.length is None else 0.5 * self.length**2
        solution = solve(TrustRegionStep(at.gradient, Identity(), radius))
        fraction = 1.0 if self.step_size is None else self.step_size * solution.eta
        return at.taken(FisherStep(solution, solution.step), fraction)


@dataclass(frozen=True, kw_only=True)
class FisherUpdate(GradientUpdate):
    """What updates in the Fisher metric share.

    Parameters
    ----------
    damping
        Added to the diagonal of the Fisher matrix, as a share of that diagonal: so the step does not depend on the
        units of the observations. Where products with the matrix are all that is used, as for networks, it is absolute,
        and the policy's inputs are standardised instead. None for 1e-3, and for 0.1 with products.
    exact_fisher
        Whether the policy's ``fisher_factor(states)`` is the metric, or its ``fisher_product(states)`` where it has one
        and products are what the solver takes; otherwise the scores of the actions taken are. None: where it has one.
    solver
        Route for the step. None for Cholesky, or for conjugate gradients where that would cost more.
    """

    damping: float | None = None
    exact_fisher: bool | None = None
    solver: Solver | None = None

    def __post_init__(self, trace: float | None) -> None:
        super().__post_init__(trace)
        if self.damping is not None:
            as_scalar(self.damping, "damping", low=0.0)

    def _solve(self, at: Surrogate, epsilon: float, costs: list[tuple[FloatArray, float]] | None = None) -> FisherStep:
        how = self.damping, self.exact_fisher, self.solver
        return fisher_step(at.policy, at.pairs, at.gradient, epsilon, costs, *how)


@dataclass(frozen=True, kw_only=True)
class NaturalGradient(FisherUpdate):
    """The natural gradient with a fixed step, shortened where it would leave a ball.

    Parameters
    ----------
    step_size
        Factor of ``F^-1 g``; None for a step to the boundary of the ball.
    epsilon
        Largest quadratic KL of a step, in nats; None for no limit.
    """

    step_size: float | None = None
    epsilon: float | None = None

    def __post_init__(self, trace: float | None) -> None:
        super().__post_init__(trace)
        if self.step_size is None and self.epsilon is None:
            raise ValueError("at least one of step_size and epsilon must be given")
        if self.step_size is not None:
            as_scalar(self.step_size, "step_size", low=0.0, low_open=True)
        if self.epsilon is not None:
            as_scalar(self.epsilon, "epsilon", low=0.0, low_open=True)

    def _along(self, at: Surrogate) -> PolicyUpdate:
        step = self._solve(at, 1.0 if self.epsilon is None else self.epsilon)
        solution = step.solution
        if not solution.has_point:
            return PolicyUpdate(at.policy, False, solution, message=solution.message)
        fraction = 1.0
        if self.step_size is not None:
            fraction = self.step_size * solution.eta / solution.lengthening  # the step is F^-1 g over eta
            fraction = fraction if self.epsilon is None else min(1.0, fraction)
        return at.taken(step, fraction)


@dataclass(frozen=True, kw_only=True)
class TRPO(FisherUpdate):
    """Trust region policy optimisation: a natural step to the ball, then a line search on what it is a model of.

    A trial is accepted when the surrogate, by importance weights, improves and the true mean KL is at most epsilon.
    When none is, the old policy is returned and nothing is reported as taken.

    Parameters
    ----------
    epsilon
        Radius of the ball, in nats.
    shrink
        Factor in (0, 1) between trials that stay in the ball; one that leaves it is shortened to where the quadratic
        through its divergence meets the ball.
    trials
        Largest number of trials.

    References
    ----------
    Schulman et al. (2015), *Trust region policy optimization*, appendix C.
    """

    epsilon: float = 0.01
    shrink: float = 0.8
    trials: int = 10

    def __post_init__(self, trace: float | None) -> None:
        super().__post_init__(trace)
        as_scalar(self.epsilon, "epsilon", low=0.0, low_open=True)
        as_scalar(self.shrink, "shrink", low=0.0, high=1.0, low_open=True)
        as_count(self.trials, "trials")

    def _along(self, at: Surrogate) -> PolicyUpdate:
        return self._search(at, self._solve(at, self.epsilon), lambda trial: trial.gain > 0)

    def _search(self, at: Surrogate, step: FisherStep, improves: Callable[[PolicyUpdate], bool]) -> PolicyUpdate:
        """The first of the shrinking steps that improves and stays in the true ball."""
        solution = step.solution
        if solution.status is Status.FAILED or not step.direction.any():
            return PolicyUpdate(at.policy, False, solution, message=solution.message or "the step is zero")
        best_kl, fraction = np.inf, 1.0
        for i in range(self.trials):
            trial = at.taken(step, fraction, self.epsilon)
            best_kl = min(best_kl, trial.kl_old_new)
            if trial.kl_old_new <= self.epsilon and improves(trial):
                notes = [f"the line search shortened the step {i} times" if i else "", trial.message]
                return replace(trial, trials=i + 1, message="; ".join(filter(None, notes)))
            outside = self.epsilon < trial.kl_old_new < math.inf
            fraction *= INSIDE * math.sqrt(self.epsilon / trial.kl_old_new) if outside else self.shrink
        why = "the mean KL stays above epsilon" if best_kl > self.epsilon else "the surrogate does not improve"
        said = f"all {self.trials} trials were rejected: {why}"
        return PolicyUpdate(at.policy, False, solution, message=said, trials=self.trials)
