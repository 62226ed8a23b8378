"""What an update did, and what every update asks of its policy and its batch.

Shapes: N transitions, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reps_opt.learning.gradients import ParametricPolicy
from reps_opt.learning.returns import Transitions
from reps_opt.learning.value_network import Memory, moments_of
from reps_opt.plotting import Panel
from reps_opt.result import Arrays, Result
from reps_opt.validation import FloatArray

NO_GRADIENT = "the gradient is zero"
"""Why an update leaves the policy as it is before there is anything to solve."""


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
        The trust-region problem behind it; None where there was nothing to learn. With damping it is posed in the
        units in which the metric has a unit diagonal, so that it does not depend on those of the observations.
    fraction : float
        Share of the solution's step that was taken, 0 where it was rejected.
    gain : float
        Surrogate gain of the policy returned, in units of the advantages; 0 where the step was rejected.
    kl, kl_old_new : float
        Mean KL(new || old) of the policy returned over the batch's states, in nats, and KL(old || new), which the line
        search of a trust region holds to its epsilon; 0 where the step was rejected.
    cost : float or array
        Surrogate expected cost of the policy returned (CPO), (k,) with several budgets; else NaN.
    trials : int
        Policies tried by the line search.
    message : str
        Why the step was rejected or shortened, and what is approximate; empty for a whole step.
    stats : mapping
        What the update measured on the way. Of an accepted gradient step ``predicted_gain`` and
        ``predicted_gain_error``: what it promises of the update's ``objective``, in reward units, and the standard
        error by episodes; ``optimism``: what was taken off the surrogate for it, as gained from noise;
        ``base_objective`` and ``base_objective_error``: the objective of the batch.
    step : (P,) array or None
        What was added to the parameters of the policy that the step was taken from; None where it was rejected.
    log_ratio : (N,) array or None
        ``log pi_new(a|s) - log pi(a|s)`` of the transitions; None where the step was rejected.
    units : (P,) array or float
        Units of the parameters in ``solution``: ``step = fraction * solution.step / units``.
    memory : mapping or None
        What the next update may know of this batch: give it as ``update(policy, batch, memory)``.
    """

    policy: Any
    accepted: bool
    solution: Any
    fraction: float = 0.0
    gain: float = 0.0
    kl: float = 0.0
    kl_old_new: float = 0.0
    cost: Any = math.nan
    trials: int = 0
    message: str = ""
    stats: Mapping[str, Any] = field(default_factory=dict)
    step: FloatArray | None = None
    log_ratio: FloatArray | None = None
    units: FloatArray | float = 1.0
    memory: Memory | None = None

    @property
    def title(self) -> str:
        step = "nothing to solve" if self.solution is None else repr(self.solution.problem)
        return f"PolicyUpdate by {step}"

    def panels(self) -> list[Panel]:
        """The problem behind the update, under what became of it."""
        return super().panels() if self.solution is None else [*self.solution.panels()[:-1], *super().panels()]

    def rows(self) -> list[tuple[str, str]]:
        what = f"accepted {self.fraction:.3g} of the step" if self.accepted else "rejected"
        lines = [
            ("step", f"{what}, {self.trials} tried" if self.trials else what),
            ("gain", f"{self.gain:.6g}   (surrogate, in units of the advantages)"),
            (
                "kl",
                f"{self.kl:.6g} nats   (new || old, over the batch's states; old || new {self.kl_old_new:.6g})",
            ),
        ]
        if "predicted_gain" in self.stats:
            promise, error = self.stats["predicted_gain"], self.stats["predicted_gain_error"]
            lines.insert(2, ("predicted gain", f"{promise:.4g} +- {error:.2g}   (of the objective, in reward units)"))
        if not np.isnan(self.cost).all():
            lines.append(("cost", "  ".join(f"{cost:.6g}" for cost in np.atleast_1d(self.cost))))
        if self.solution is not None:
            lines.append(("solution", f"{self.solution.status}, eta {self.solution.eta:.6g}"))
        return [*lines, ("message", self.message)] if self.message else lines

    def numbers(self) -> dict[str, Any]:
        names = ("accepted", "fraction", "gain", "kl", "kl_old_new", "cost", "trials", "message")
        numbers = {name: getattr(self, name) for name in names}
        if np.ndim(self.cost):
            del numbers["cost"]
            numbers |= {f"cost_{i}": float(cost) for i, cost in enumerate(self.cost)}
        return numbers

    def arrays(self) -> Arrays:
        """Those of the trust-region step behind it, before the line search."""
        return {} if self.solution is None else self.solution.arrays()


def check_parametric(policy: Any, who: str) -> None:
    """Raise TypeError unless the policy has what a gradient step asks for."""
    missing = [name for name in ("params", "with_params", "log_prob", "score_function") if not hasattr(policy, name)]
    if missing:
        raise TypeError(
            f"{who} needs a policy with {missing[0]}, got {policy!r}: start from one such as "
            "NeuralPolicy.from_env(env), or hand improve() the update itself"
        )


def possible_actions(policy: ParametricPolicy, batch: Transitions) -> Any:
    """Whether the policy can have drawn each action (N,): what has no probability has no ratio to go by."""
    with np.errstate(divide="ignore"):
        possible = policy.log_prob(batch.states, batch.actions) > -math.inf
    if not possible.any():
        raise ValueError("batch: every action has probability zero under the policy: it is another policy's")
    return possible


def branch(memory: Memory | None, name: str) -> Memory | None:
    """The part of a memory under a name; None where nothing is to be kept."""
    if memory is None:
        return None
    return {key.removeprefix(f"{name}."): value for key, value in memory.items() if key.startswith(f"{name}.")}


def under(name: str, memory: Memory | None) -> dict[str, Any]:
    """A memory under a name, beside which there is room for others: what :func:`branch` takes out again."""
    return {f"{name}.{key}": value for key, value in (memory or {}).items()}


def standardised(policy: Any, states: Any, memory: Memory | None) -> tuple[Any, dict[str, Any]]:
    """The same policy with inputs standardised by the states so far, and their moments to remember.

    A policy without ``standardised(states)``, or with discrete states, is returned as it is.
    """
    rows = np.asarray(states)
    if not hasattr(policy, "standardised") or rows.dtype.kind != "f" or rows.ndim != 2:
        return policy, {}
    moments = moments_of(branch(memory, "observations") or {}).grown(rows)
    two = np.stack([moments.centre - moments.deviation, moments.centre + moments.deviation])  # have these moments
    return policy.standardised(two), under("observations", moments._asdict())
