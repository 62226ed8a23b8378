"""Gradient updates of a policy from a batch: vanilla, natural, TRPO and CPO, each one trust-region step away.

An update is settings only: ``update(policy, batch)`` returns a :class:`PolicyUpdate` and changes neither. The gradient
is that of the surrogate at the old policy, the metric is the policy's Fisher matrix by factors, and what becomes of the
step differs from update to update.

Shapes: N transitions, P parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from reps_opt.learning.advantages import Transitions, estimate_advantages
from reps_opt.learning.gradients import NO_SPREAD, ParametricPolicy, fisher, surrogate, surrogate_gradient
from reps_opt.learning.returns import episodes
from reps_opt.metrics import Identity, Metric, Product
from reps_opt.problems.step_solution import StepSolution
from reps_opt.problems.steps import TrustRegionStep
from reps_opt.result import Arrays, Result
from reps_opt.solution import Status
from reps_opt.solvers.answer import Solver
from reps_opt.solvers.quadratic import Quadratic
from reps_opt.solving import solve
from reps_opt.validation import FloatArray, as_count, as_float_array, as_scalar

CHOLESKY_LIMIT = 1000
"""Smaller side of the Fisher factors up to which their matrix is factorised."""

BY_PRODUCTS = Quadratic("cg", rtol=1e-3, max_iterations=50)
"""Route for larger ones: products with the factors, as accurate as a sampled metric deserves."""

PRECONDITIONED = Quadratic("cg", rtol=0.1, max_iterations=50)
"""The same where the policy has a preconditioner: in its norm the error of a step costs the gain half its square."""


@dataclass(frozen=True, repr=False)
class PolicyUpdate(Result):
    """What an update did, measured on the batch.

    Attributes
    ----------
    policy
        The new policy; the old one where the step was rejected.
    accepted : bool
        Whether the policy changed.
    solution : Solution or None
        The trust-region problem behind it; None where there was nothing to learn.
    fraction : float
        Share of the solution's step that was taken, 0 where it was rejected.
    gain : float
        Surrogate gain of the policy returned, in units of the advantages; 0 where the step was rejected.
    kl : float
        Mean KL(old || new) of the policy returned over the batch's states, in nats; 0 where the step was rejected.
    cost : float
        Surrogate expected cost of the policy returned (CPO), else NaN.
    trials : int
        Policies tried by the line search.
    message : str
        Why the step was rejected or shortened; empty for a whole step.
    stats : mapping
        What the update measured on the way.
    """

    policy: Any
    accepted: bool
    solution: Any
    fraction: float = 0.0
    gain: float = 0.0
    kl: float = 0.0
    cost: float = float("nan")
    trials: int = 0
    message: str = ""
    stats: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        step = "nothing to solve" if self.solution is None else repr(self.solution.problem)
        return f"PolicyUpdate by {step}"

    def rows(self) -> list[tuple[str, str]]:
        what = f"accepted {self.fraction:.3g} of the step" if self.accepted else "rejected"
        lines = [
            ("step", f"{what}, {self.trials} tried" if self.trials else what),
            ("gain", f"{self.gain:.6g}   (surrogate, in units of the advantages)"),
            ("kl", f"{self.kl:.6g} nats   (old || new, mean over the batch's states)"),
        ]
        if not np.isnan(self.cost):
            lines.append(("cost", f"{self.cost:.6g}"))
        if self.solution is not None:
            lines.append(("solution", f"{self.solution.status}, eta {self.solution.eta:.6g}"))
        return [*lines, ("message", self.message)] if self.message else lines

    def numbers(self) -> dict[str, Any]:
        names = ("accepted", "fraction", "gain", "kl", "cost", "trials", "message")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> Arrays:
        """Those of the trust-region step behind it, before the line search."""
        return {} if self.solution is None else self.solution.arrays()


@dataclass(frozen=True, kw_only=True)
class GradientUpdate(ABC):
    """What all updates share.

    Parameters
    ----------
    gamma
        Discount factor in [0, 1].
    trace
        lambda of the generalised advantages, in [0, 1].
    value_model
        See :func:`estimate_advantages`.
    standardise
        Whether advantages are shifted and scaled to mean zero and standard deviation one.
    """

    gamma: float = 0.99
    trace: float = 0.95
    value_model: Any = None
    standardise: bool = True

    def __post_init__(self) -> None:
        as_scalar(self.gamma, "gamma", low=0.0, high=1.0)
        as_scalar(self.trace, "trace", low=0.0, high=1.0)

    def __call__(self, policy: ParametricPolicy, batch: Transitions) -> PolicyUpdate:
        """Update a policy from a batch it was rolled out for; neither is changed."""
        rewards = as_float_array(batch.rewards, "batch.rewards", ("N",))
        estimate = estimate_advantages(batch, rewards, self.gamma, self.trace, self.value_model)
        advantages = estimate.advantages
        spread, size = float(advantages.std()), float(np.abs(advantages).max())
        if spread <= NO_SPREAD * max(size, float(np.abs(estimate.values).max()), 1e-300):
            advantages = np.zeros_like(advantages)
        elif self.standardise:
            advantages = (advantages - advantages.mean()) / spread
        return self._step(policy, batch, advantages)

    @abstractmethod
    def _step(self, policy: ParametricPolicy, batch: Transitions, advantages: FloatArray) -> PolicyUpdate:
        """Update along the surrogate of these advantages (N,)."""


def _unchanged(policy: Any, solution: StepSolution | None, message: str, **more: Any) -> PolicyUpdate:
    return PolicyUpdate(policy, False, solution, message=message, **more)


def _taken(
    policy: ParametricPolicy, batch: Transitions, advantages: FloatArray, solution: StepSolution, fraction: float
) -> PolicyUpdate:
    """The policy after a fraction of the step, with its true surrogate gain and mean KL."""
    new = policy.with_params(policy.params + fraction * solution.step)
    if hasattr(policy, "compare"):
        log_ratio, kl = policy.compare(new, batch.states, batch.actions)
    else:
        log_ratio = new.log_prob(batch.states, batch.actions) - policy.log_prob(batch.states, batch.actions)
        kl = policy.kl_divergence(new, batch.states)
    gain = float(np.mean(np.expm1(log_ratio) * advantages))
    return PolicyUpdate(new, True, solution, fraction, gain, float(np.mean(kl)))


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

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of(length=self.length, step_size=self.step_size)

    def _step(self, policy: ParametricPolicy, batch: Transitions, advantages: FloatArray) -> PolicyUpdate:
        g = surrogate_gradient(policy, batch.states, batch.actions, advantages)
        if not g.any():
            return _unchanged(policy, None, "the gradient is zero")
        radius = 0.5 if self.length is None else 0.5 * self.length**2
        solution = solve(TrustRegionStep(g, Identity(), radius))
        assert isinstance(solution, StepSolution)
        fraction = 1.0 if self.step_size is None else self.step_size * solution.eta
        return _taken(policy, batch, advantages, solution, fraction)


@dataclass(frozen=True, kw_only=True)
class FisherUpdate(GradientUpdate):
    """What updates in the Fisher metric share.

    Parameters
    ----------
    damping
        Added to the diagonal of the Fisher matrix.
    exact_fisher
        Whether the policy's ``fisher_factor(states)`` is the metric, or its ``fisher_product(states)`` where it has one
        and products are what the solver takes; otherwise the scores of the actions taken are.
    solver
        Route for the step. None for Cholesky, or :data:`BY_PRODUCTS` where the smaller side of the factors exceeds
        :data:`CHOLESKY_LIMIT`.
    """

    damping: float = 1e-3
    exact_fisher: bool = False
    solver: Solver | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        as_scalar(self.damping, "damping", low=0.0)

    def _solve(
        self,
        policy: ParametricPolicy,
        batch: Transitions,
        gradient: FloatArray,
        epsilon: float,
        costs: list[tuple[FloatArray, float]] | None = None,
    ) -> StepSolution:
        solver = self.solver
        if solver is None:
            smaller = min(len(batch.rewards), gradient.size)
            solver = Quadratic() if smaller <= CHOLESKY_LIMIT else BY_PRODUCTS
        by_products = isinstance(solver, Quadratic) and solver.method == "cg"
        metric: Metric
        if by_products and self.exact_fisher and hasattr(policy, "fisher_product"):
            rough = getattr(policy, "fisher_preconditioner", None)
            metric = Product(policy.fisher_product(batch.states), 0.0, rough and rough(batch.states))
            if self.solver is None and rough:
                solver = PRECONDITIONED
        else:
            factor = fisher(policy, batch.states, None if self.exact_fisher else batch.actions)
            metric = Product(factor.product) if by_products else factor  # certified without a factorisation, too
        solution = solve(TrustRegionStep(gradient, metric, epsilon, costs, self.damping), solver)
        assert isinstance(solution, StepSolution)
        return solution


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size is None and self.epsilon is None:
            raise ValueError("at least one of step_size and epsilon must be given")
        if self.step_size is not None:
            as_scalar(self.step_size, "step_size", low=0.0, low_open=True)
        if self.epsilon is not None:
            as_scalar(self.epsilon, "epsilon", low=0.0, low_open=True)

    def _step(self, policy: ParametricPolicy, batch: Transitions, advantages: FloatArray) -> PolicyUpdate:
        g = surrogate_gradient(policy, batch.states, batch.actions, advantages)
        if not g.any():
            return _unchanged(policy, None, "the gradient is zero")
        solution = self._solve(policy, batch, g, 1.0 if self.epsilon is None else self.epsilon)
        if not solution.has_point:
            return _unchanged(policy, solution, solution.message)
        fraction = 1.0
        if self.step_size is not None:
            fraction = self.step_size * solution.eta / solution.lengthening  # the step is F^-1 g over eta
            fraction = fraction if self.epsilon is None else min(1.0, fraction)
        return _taken(policy, batch, advantages, solution, fraction)


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
        Factor in (0, 1) between trials.
    trials
        Largest number of trials.

    References
    ----------
    Schulman et al. (2015), *Trust region policy optimization*, appendix C.
    """

    epsilon: float = 0.01
    shrink: float = 0.8
    trials: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        as_scalar(self.epsilon, "epsilon", low=0.0, low_open=True)
        as_scalar(self.shrink, "shrink", low=0.0, high=1.0, low_open=True)
        as_count(self.trials, "trials")

    def _step(self, policy: ParametricPolicy, batch: Transitions, advantages: FloatArray) -> PolicyUpdate:
        g = surrogate_gradient(policy, batch.states, batch.actions, advantages)
        if not g.any():
            return _unchanged(policy, None, "the gradient is zero")
        solution = self._solve(policy, batch, g, self.epsilon)
        return self._search(policy, batch, advantages, solution, lambda trial: trial.gain > 0)

    def _search(
        self,
        policy: ParametricPolicy,
        batch: Transitions,
        advantages: FloatArray,
        solution: StepSolution,
        improves: Callable[[PolicyUpdate], bool],
    ) -> PolicyUpdate:
        """The first of the shrinking steps that improves and stays in the true ball."""
        if solution.status is Status.FAILED or not solution.step.any():
            return _unchanged(policy, solution, solution.message or "the step is zero")
        best_kl = np.inf
        for i in range(self.trials):
            trial = _taken(policy, batch, advantages, solution, self.shrink**i)
            best_kl = min(best_kl, trial.kl)
            if trial.kl <= self.epsilon and improves(trial):
                note = "" if i == 0 else f"the line search shortened the step {i} times"
                return replace(trial, trials=i + 1, message=note)
        why = "the mean KL stays above epsilon" if best_kl > self.epsilon else "the surrogate does not improve"
        return _unchanged(policy, solution, f"all {self.trials} trials were rejected: {why}", trials=self.trials)


@dataclass(frozen=True, kw_only=True)
class CPO(TRPO):
    r"""Constrained policy optimisation: TRPO with a budget for an expected discounted cost.

    The cost row is ``c + b.s <= 0``: c is the batch's mean discounted cost of an episode less the budget, b the
    gradient of that cost. Where no step in the ball meets it, the recovery step is taken, which lowers the cost.

    Parameters
    ----------
    budget
        Largest expected discounted cost of an episode.
    costs
        The cost of every transition (N,) from the batch; its ``costs`` by default.

    References
    ----------
    Achiam et al. (2017), *Constrained policy optimization*, section 6.
    """

    budget: float
    costs: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        as_scalar(self.budget, "budget")

    def _step(self, policy: ParametricPolicy, batch: Transitions, advantages: FloatArray) -> PolicyUpdate:
        paid = self.costs(batch) if self.costs is not None else batch.costs  # type: ignore[attr-defined]
        paid = as_float_array(paid, "costs", advantages.shape)
        parts = episodes(batch.terminated, batch.truncated)
        weight = self.gamma**parts.time / parts.n_episodes
        expected = float(weight @ paid)
        by_cost = estimate_advantages(batch, paid, self.gamma, self.trace, self.value_model).advantages
        by_cost = by_cost * weight * len(by_cost)  # so that its mean over rows is the change of an episode's cost
        g, b = (surrogate_gradient(policy, batch.states, batch.actions, a) for a in (advantages, by_cost))
        if not g.any() and not (expected > self.budget and b.any()):
            return _unchanged(policy, None, "the gradient is zero", cost=expected)
        solution = self._solve(policy, batch, g, self.epsilon, [(b, expected - self.budget)])
        recovering = solution.status is Status.INFEASIBLE
        old_log_prob = policy.log_prob(batch.states, batch.actions)

        def cost_of(trial: PolicyUpdate) -> float:
            change = surrogate(trial.policy, batch.states, batch.actions, by_cost, old_log_prob)
            return expected + change - float(np.mean(by_cost))

        def improves(trial: PolicyUpdate) -> bool:
            cost = cost_of(trial)
            if expected > self.budget:  # on the way back, or just over: lower it first
                return cost < expected
            return cost <= self.budget and trial.gain > 0

        update = self._search(policy, batch, advantages, solution, improves)
        cost = cost_of(update) if update.accepted else expected
        stats = {"expected_cost": expected, "recovering": recovering}
        return replace(update, cost=cost, stats=stats)


def _one_of(**settings: float | None) -> None:
    """Raise ValueError unless exactly one of the settings is given, and positive."""
    given = {name: value for name, value in settings.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"exactly one of {' and '.join(settings)} must be given")
    for name, value in given.items():
        as_scalar(value, name, low=0.0, low_open=True)
