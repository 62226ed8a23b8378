"""Solutions: frozen results that remember their problem and carry their certificate."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from reps_opt.certificate import Certificate
from reps_opt.validation import FloatArray

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray

    from reps_opt.problems.occupancy import OccupancyProblem


class Status(StrEnum):
    """How far an answer can be trusted, and what to do otherwise."""

    CERTIFIED = "certified"
    """Gap and residuals, computed from data, are within tolerance."""
    UNCERTIFIED = "uncertified"
    """The best point found; ``solution.message`` says what misses and what to try."""
    INFEASIBLE = "infeasible"
    """No point satisfies the constraints; ``solution.epsilon_min`` is the smallest radius that would do."""
    FAILED = "failed"
    """The solver broke off without a point; ``solution.message`` keeps what it said."""


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    r"""Answer to an occupancy problem on a finite MDP.

    Attributes
    ----------
    problem
        The problem answered.
    status : Status
    eta : float
        Multiplier of the divergence ball, in reward units a nat: the derivative of the optimum in epsilon. Zero where
        the ball is slack, infinite where it leaves a single point.
    value : (S,) array
        Multiplier of the flow: the value function V of :math:`\delta = r + \gamma P V - V`. Gauge: discounted, V is
        shifted until the multiplier of the normalisation is zero, which puts it on the scale of the ordinary
        (unnormalised) value function; average reward, V has mean zero under the new state distribution in each
        component. NaN in states that cannot carry mass.
    occupancy : (S, A) array
        The new state-action distribution p: the exact occupancy of ``policy``, inside the ball.
    policy : (S, A) array
        The new policy. In states without mass it is the reference's, uniform where that is silent too.
    objective : float
        Mean reward <p, r>; in penalty form less ``temperature * KL``.
    dual_objective : float
        Upper bound g(eta, V) on every policy's objective.
    duals : mapping
        Multipliers by constraint: ``flow`` (V), ``normalisation`` (lambda) and ``kl`` (eta), with the signs of
        :mod:`reps_opt.program`: each is the derivative of the optimum in its right-hand side.
    certificate : Certificate
    epsilon_min : float
        Smallest radius for which the problem is feasible: zero when the reference is.
    message : str
        What the solver said, and what to try when the answer is not certified.
    stats : mapping
        Iterations, factorisations, seconds.
    """

    problem: OccupancyProblem
    status: Status
    eta: float
    value: FloatArray
    occupancy: FloatArray
    policy: FloatArray
    objective: float
    dual_objective: float
    duals: Mapping[str, Any]
    certificate: Certificate
    epsilon_min: float = 0.0
    message: str = ""
    stats: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state_distribution(self) -> FloatArray:
        """New state distribution (S,)."""
        return self.occupancy.sum(axis=1)

    @property
    def kl(self) -> float:
        """Divergence reached, in nats."""
        return self.certificate.kl

    @property
    def bellman_error(self) -> FloatArray:
        """Bellman error (S, A) under ``value``; NaN where a next state has no value."""
        return self.problem.mdp.rewards + self._next_value() - self.value[:, None]

    def _next_value(self) -> FloatArray:
        mdp = self.problem.mdp
        known = np.isfinite(self.value)
        ahead = mdp.gamma * (mdp.transitions @ np.where(known, self.value, 0.0))
        ahead[(mdp.transitions @ (~known).astype(float)) > 0] = np.nan
        return ahead.reshape(mdp.rewards.shape)

    def rows(self) -> list[tuple[str, str]]:
        """Label and text of each line of the summary."""
        if self.status in (Status.INFEASIBLE, Status.FAILED):
            lines = [("status", str(self.status)), ("message", self.message)]
            return [*lines, ("epsilon_min", f"{self.epsilon_min:.9g}")]
        check = self.certificate
        ball = f"{self.kl:.9g}" + ("" if check.epsilon == float("inf") else f"   (epsilon {check.epsilon:g})")
        before = self.problem.reference_return
        reference = "" if np.isnan(before) else f"   (reference {before:.10g})"
        lines = [
            ("status", str(self.status)),
            ("objective", f"{self.objective:.10g}" + reference),
            ("dual objective", f"{self.dual_objective:.10g}"),
            ("gap", f"{check.gap:.1e} of the reward range"),
            ("eta", f"{self.eta:.9g}"),
            ("KL", ball),
            ("flow residual", f"{check.flow:.1e}"),
            ("solver", ", ".join(f"{k} {v}" for k, v in self.stats.items() if isinstance(v, str | int))),
            ("seconds", f"{self.stats.get('seconds', float('nan')):.3g}"),
        ]
        return [*lines, ("message", self.message)] if self.message else lines

    def __str__(self) -> str:
        width = max(len(label) for label, _ in self.rows())
        head = f"{type(self.problem).__name__} on {self.problem.mdp!r}"
        return "\n".join([head, *(f"  {label:<{width}}  {text}" for label, text in self.rows())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(label)}</th><td>{html.escape(text)}</td></tr>"
            for label, text in self.rows()
        )
        head = html.escape(f"{type(self.problem).__name__} on {self.problem.mdp!r}")
        return f"<table><caption>{head}</caption>{cells}</table>"

    def to_xarray(self) -> xarray.Dataset:
        """The arrays with named dimensions ``state`` and ``action``; the numbers as attributes."""
        import xarray

        pairs = ("state", "action")
        arrays: dict[str, Any] = {
            "value": ("state", self.value),
            "occupancy": (pairs, self.occupancy),
            "policy": (pairs, self.policy),
            "reward": (pairs, self.problem.mdp.rewards),
            "bellman_error": (pairs, self.bellman_error),
        }
        if self.problem.reference is not None:
            arrays["reference"] = (pairs, self.problem.reference)
        names = ("eta", "kl", "objective", "dual_objective", "epsilon_min")
        attributes: dict[str, Any] = {name: float(getattr(self, name)) for name in names}
        attributes |= {"status": str(self.status), "gap": self.certificate.gap, "gamma": self.problem.mdp.gamma}
        n_states, n_actions = self.policy.shape
        coordinates = {"state": np.arange(n_states), "action": np.arange(n_actions)}
        return xarray.Dataset(arrays, coordinates, attributes)

    def plot(self) -> matplotlib.figure.Figure:
        """Draw value and policy (on the map, where the MDP has one), the weights p/q and the duals."""
        from reps_opt.plotting import plot_solution

        return plot_solution(self)
