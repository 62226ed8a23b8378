"""The answer to a problem over the occupancy measure of a finite MDP."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import entr

from reps_opt import plotting
from reps_opt.divergences.base import group_max
from reps_opt.plotting import Panel
from reps_opt.processes.maps import drawn_on
from reps_opt.result import Arrays
from reps_opt.solution import Solution
from reps_opt.validation import FloatArray, read_only
from reps_opt.values import OldName, value

LEAST_VISIBLE = 1e-290
"""Mass of a state below which dividing by it would lose digits: its policy is read off the multipliers."""

TIGHT = 1e-9
"""Bellman error, in units of the largest value, up to which an action counts as optimal where eta is zero."""


@value
class OccupancySolution(Solution):
    r"""Answer to an occupancy problem; see :class:`~reps_opt.Solution` for what every answer has.

    Attributes
    ----------
    value : (S,) array
        Multiplier of the flow: the value function V of :math:`\delta = r + \gamma P V - V`. Gauge: discounted, V is
        shifted until the multiplier of the normalisation is zero, which puts it on the scale of the ordinary
        (unnormalised) value function; average reward, V has mean zero under the new state distribution in each
        component. NaN in states that cannot carry mass.
    occupancy : (S, A) array
        The new state-action distribution p: the exact occupancy of ``policy``, inside the ball.
    policy : (S, A) array
        The new policy. In states that cannot carry mass it is the reference's, uniform where that is silent too.
    objective : float
        Mean reward <p, r>; in penalty form less ``temperature * KL``.
    duals : mapping
        ``flow`` (V), ``normalisation`` (lambda), ``kl`` (eta) and, where there are any, ``budgets`` (nu) and
        ``entropy``.
    """

    @cached_property
    def occupancy(self) -> FloatArray:
        """The new state-action distribution p (S, A)."""
        if self.point is None:
            return read_only(np.full(self.problem.mdp.rewards.shape, math.nan))
        return read_only(self.problem.reduction.spread_pairs(self.point))

    @cached_property
    def policy(self) -> FloatArray:
        """The conditional (S, A) of the occupancy; without mass the softmax's, the reference's, else uniform."""
        problem, occupancy = self.problem, self.occupancy
        if self.point is None:
            return occupancy
        reduction = problem.reduction
        policy = np.array(problem.mdp.uniform_policy())
        reference = problem.reference_policy
        if reference is not None:
            known = reference.sum(axis=1) > 0
            policy[known] = reference[known]
        policy[reduction.states] = reduction.spread_pairs(self._elsewhere())[reduction.states]
        mass = occupancy.sum(axis=1, keepdims=True)
        return read_only(np.where(mass > LEAST_VISIBLE, occupancy / np.where(mass > 0, mass, 1.0), policy))

    def _elsewhere(self) -> FloatArray:
        """Policy (n,) for states that the occupancy does not visit: that of the dual's maximiser, or its limit."""
        program, reduction = self.problem.program, self.problem.reduction
        state, m = reduction.pair_state, reduction.states.size
        assert self.multipliers is not None
        if len(program.balls) > 1:
            return program.within(np.maximum(self.eta, 1e-300), self.multipliers, state, m)
        if self.eta > 0:
            return program.within(self.eta, self.multipliers, state, m)
        slack = program.slack(self.multipliers)
        top = group_max(slack, state, m)
        tight = slack >= top[state] - TIGHT * max(float(np.ptp(slack)), float(np.abs(self.multipliers).max()))
        return reduction.conditional(np.where(tight, program.divergence.reference, 0.0))

    @cached_property
    def _gauged(self) -> tuple[FloatArray, float]:
        """V (S,) and the multiplier of the normalisation, in the gauge that the class states."""
        problem = self.problem
        if self.multipliers is None:
            return read_only(np.full(problem.mdp.n_states, math.nan)), math.nan
        value = problem.program.by_name(self.multipliers)["flow"]
        normaliser = self._normaliser
        if problem.mdp.gamma < 1:
            value, normaliser = value + normaliser / (1 - problem.mdp.gamma), 0.0
        else:
            mass, label = problem.reduction.state_sums(self.point) + 1e-300, problem.reduction.component
            value = value - (np.bincount(label, weights=mass * value) / np.bincount(label, weights=mass))[label]
        return read_only(problem.reduction.spread_states(value)), normaliser

    @property
    def value(self) -> FloatArray:
        """The value function V (S,)."""
        return self._gauged[0]

    @property
    def duals(self) -> dict[str, Any]:
        named: dict[str, Any] = {"flow": self.value, "normalisation": self._gauged[1]}
        if self.problem.entropy is None:
            named |= {"kl": self.eta}
        else:
            named |= self._etas() if self.has_point else {"kl": math.nan, "entropy": math.nan}
        rows = self.problem.budget_rows
        if rows is not None:
            nothing = np.full(rows.limits.size, math.nan)
            found = nothing if self.multipliers is None else self.problem.program.by_name(self.multipliers)["budgets"]
            named["budgets"] = found / rows.span
        return named

    @property
    def violation(self) -> float:
        """Least amount, in the units of the costs, by which every budget would have to be raised for any occupancy on
        the reference's support to keep them; zero when some does."""
        return float(self.problem.violation)

    @property
    def nu(self) -> FloatArray:
        """Prices (K,) of the budgets, in reward a unit of cost: what the optimum gains per unit of budget."""
        return self.duals.get("budgets", np.zeros(0))

    @property
    def expected_costs(self) -> FloatArray:
        """Expected costs (K,) of the occupancy."""
        rows = self.problem.budget_rows
        return np.zeros(0) if rows is None else rows.costs @ self.occupancy.ravel()

    @property
    def entropy(self) -> float:
        """Entropy of the new state-action distribution, in nats."""
        return float(entr(self.occupancy).sum())

    @property
    def state_distribution(self) -> FloatArray:
        """New state distribution (S,)."""
        return self.occupancy.sum(axis=1)

    @property
    def predicted_gain(self) -> float:
        """Gain in mean reward over the reference; exact, whatever epsilon, where the reference is an occupancy."""
        return float(np.sum(self.occupancy * self.problem.mdp.rewards)) - self.problem.reference_return

    predicted_improvement = OldName("predicted_gain")

    @property
    def bellman_error(self) -> FloatArray:
        """Bellman error (S, A) under ``value``; NaN where the state or a next state has no value."""
        mdp = self.problem.mdp
        known = np.isfinite(self.value)
        ahead = mdp.gamma * (mdp.transitions @ np.where(known, self.value, 0.0))
        ahead[(mdp.transitions @ (~known).astype(float)) > 0] = np.nan
        return mdp.rewards + ahead.reshape(mdp.rewards.shape) - self.value[:, None]

    def rows(self) -> list[tuple[str, str]]:
        lines = super().rows()
        if self.has_point and np.isfinite(self.problem.reference_return):
            lines.insert(1, ("reference", f"{self.problem.reference_return:.10g}"))
        elif not self.has_point:
            lines.insert(1, ("epsilon_min", f"{self.epsilon_min:.9g}"))
        if self.has_point and self.nu.size:
            kept = zip(self.expected_costs, self.problem.budget_rows.limits, self.nu, strict=True)
            text = ", ".join(f"{cost:.6g} of {limit:g} at price {price:.6g}" for cost, limit, price in kept)
            lines.insert(-1, ("costs", text))
        return lines

    def panels(self) -> list[Panel]:
        """Value with policy, new state distribution, weights p/q, and the numbers."""
        if not self.has_point:
            return super().panels()
        mdp, reference = self.problem.mdp, self.problem.reference
        where = drawn_on(mdp)
        shares, title = self.occupancy.ravel(), "occupancy p, sorted"
        if reference is not None:
            used = reference > 0
            shares, title = self.occupancy[used] / reference[used], "weights p/q, sorted"
        spread = {"robust": True, **{k: v for k, v in where.items() if k != "terminal"}}
        return [
            Panel(
                lambda axis: plotting.states(axis, self.value, "value V and new policy", policy=self.policy, **where)
            ),
            Panel(lambda axis: plotting.states(axis, self.state_distribution, "new state distribution", **spread)),
            Panel(lambda axis: plotting.ratios(axis, shares, title, "state-action pair", even=reference is not None)),
            *super().panels(),
        ]

    def numbers(self) -> dict[str, Any]:
        return {**super().numbers(), "epsilon_min": float(self.epsilon_min), "gamma": self.problem.mdp.gamma}

    def arrays(self) -> Arrays:
        """Over states and actions; ``reference`` is left out where the problem has none."""
        pairs = ("state", "action")
        arrays: dict[str, Any] = {
            "occupancy": (pairs, self.occupancy),
            "policy": (pairs, self.policy),
            "value": (pairs[:1], self.value),
            "reward": (pairs, self.problem.mdp.rewards),
            "bellman_error": (pairs, self.bellman_error),
        }
        reference = self.problem.reference
        return arrays if reference is None else {**arrays, "reference": (pairs, reference)}
