r"""The answer to a problem over the occupancy measure of a finite MDP, and how it moves with the problem's data.

Shapes: S states, A actions; n pairs and m states that can carry mass.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import scipy
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from numpy.typing import ArrayLike

from reps_opt import plotting
from reps_opt.divergences.base import KL
from reps_opt.divergences.conditional_kl import ConditionalKL
from reps_opt.plotting import Panel
from reps_opt.problems.flow_solution import FlowSolution, PolicyReadings
from reps_opt.processes.maps import drawn_on
from reps_opt.result import Arrays
from reps_opt.sensitivity import Moved, Sensitivity, as_rates, check_zero_sum, moved
from reps_opt.solution import Solution
from reps_opt.tolerances import TINY
from reps_opt.validation import FloatArray, InputError, UnsuitableError, as_float_array, read_only
from reps_opt.values import OldName, cached_property, value


@value
class OccupancySolution(PolicyReadings, FlowSolution):
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
            mass, label = problem.flow.node_sums(self.point) + TINY, problem.flow.components
            value = value - (np.bincount(label, weights=mass * value) / np.bincount(label, weights=mass))[label]
        return read_only(problem.flow.spread_nodes(value)), normaliser

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
        return read_only(self.duals.get("budgets", np.zeros(0)))

    @property
    def expected_costs(self) -> FloatArray:
        """Expected costs (K,) of the occupancy."""
        rows = self.problem.budget_rows
        return np.zeros(0) if rows is None else rows.costs @ self.occupancy.ravel()

    @property
    def entropy(self) -> float:
        """Entropy of the new state-action distribution, in nats."""
        return float(scipy.special.entr(self.occupancy).sum())

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

    def sensitivity(
        self,
        rewards: ArrayLike | None = None,
        epsilon: ArrayLike | None = None,
        mu0: ArrayLike | None = None,
        temperature: float | None = None,
    ) -> Sensitivity:
        """How the optimum, eta, the policy, the occupancy and V move with the data: directional derivatives.

        From one factorisation of the system that Newton's method solves at each step, anew at the solution; with an
        entropy bound, and for a conditional KL with gamma = 1, by differences of four solves instead. The
        reference stays as it is, as an array.

        Parameters
        ----------
        rewards
            Direction (S, A) in which the rewards move.
        epsilon, temperature
            Rate at which the radius, or in penalty form the temperature, moves.
        mu0
            Direction (S,) in which the start distribution moves: it sums to zero.

        Returns
        -------
        Sensitivity
            ``objective``, ``eta``, ``occupancy``, ``policy``, ``value`` and, with budgets, their prices ``nu``; of
            several directions given together, the sum. ``objective`` is ``<occupancy, rewards>``, ``eta * epsilon`` or
            ``(1 - gamma) * value @ mu0``: the mean reward is (1 - gamma) times what ``value`` is in.

        Raises
        ------
        UnsuitableError
            Where the answer has no derivative: a slack ball or one of a single point, a budget that holds with
            equality at no price.

        Examples
        --------
        >>> import envs
        >>> from reps_opt import REPS, solve
        >>> mdp = envs.single_chain()
        >>> problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.1)
        >>> moved = solve(problem).sensitivity(epsilon=1.0)
        >>> eta = solve(problem.replace(epsilon=0.1001)).eta, solve(problem.replace(epsilon=0.0999)).eta
        >>> abs(moved.eta - (eta[0] - eta[1]) / 2e-4) < 1e-3
        True
        """
        problem = self.problem
        change = along, d_epsilon, d_temperature, d_mu0 = as_change(problem, rewards, epsilon, temperature, mu0)
        program, flow = problem.program, problem.flow
        conditional = any(isinstance(ball.divergence, ConditionalKL) for ball in program.balls)
        if len(program.balls) > 1 or (conditional and problem.mdp.gamma == 1):
            return super().sensitivity(rewards, epsilon, mu0, temperature)
        if conditional:
            return _of_conditional(self, *change)
        rhs = np.zeros(program.rhs.size)
        rhs[: flow.nodes.size] = (1 - problem.mdp.gamma) * d_mu0[flow.nodes]
        found = moved(self, problem.pick(along), rhs, d_epsilon, d_temperature)
        readings: dict[str, Any] = {
            "occupancy": (("state", "action"), flow.spread(found.point)),
            "policy": (("state", "action"), flow.spread(_policy(self, found))),
            "value": (("state",), flow.spread_nodes(_value(self, found))),
        }
        if problem.budget_rows is not None:
            prices = program.by_name(found.multipliers)["budgets"]
            readings["nu"] = (("budget",), prices / problem.budget_rows.span)
        return Sensitivity(found.objective, found.eta, readings)

    def rows(self) -> list[tuple[str, str]]:
        lines = super().rows()
        if self.has_point:
            lines[-1:-1] = self._policy_rows()
        if self.has_point and self.nu.size:
            kept = zip(self.expected_costs, self.problem.budget_rows.limits, self.nu, strict=True)
            text = ", ".join(f"{cost:.6g} of {limit:g} at price {price:.6g}" for cost, limit, price in kept)
            lines.insert(-1, ("costs", text))
        return lines

    def _drawn(self) -> list[Panel]:
        """Value with policy, new state distribution and weights p/q."""
        mdp, reference = self.problem.mdp, self.problem.reference
        where = drawn_on(mdp)
        shares, title = self.occupancy.ravel(), "occupancy p, sorted"
        if reference is not None:
            used = reference > 0
            shares, title = self.occupancy[used] / reference[used], "weights p/q, sorted"
        spread = {"robust": True, **{k: v for k, v in where.items() if k != "terminal"}}
        return [
            lambda axis: plotting.states(axis, self.value, "value V and new policy", policy=self.policy, **where),
            lambda axis: plotting.states(axis, self.state_distribution, "new state distribution", **spread),
            lambda axis: plotting.ratios(axis, shares, title, "state-action pair", even=reference is not None),
        ]

    def numbers(self) -> dict[str, Any]:
        return {**super().numbers(), "epsilon_min": float(self.epsilon_min), "gamma": self.problem.mdp.gamma}

    def arrays(self) -> Arrays:
        """Over states and actions; ``reference`` is left out where the problem has none."""
        worth = self.policy_value if self.has_point else np.full(self.value.shape, math.nan)
        more = {"policy_value": (("state",), worth), "bellman_error": (("state", "action"), self.bellman_error)}
        return {**super().arrays(), **more}


def as_change(
    problem: Any, rewards: ArrayLike | None, epsilon: ArrayLike | None, temperature: float | None, mu0: ArrayLike | None
) -> tuple[FloatArray, float, float, FloatArray]:
    """A validated direction: rewards (S, A), radius, temperature and start distribution (S,), zero where they stay."""
    given = {"rewards": rewards, "epsilon": epsilon, "temperature": temperature, "mu0": mu0}
    radius, price = as_rates(problem, given)
    gain, start = np.zeros(problem.mdp.rewards.shape), np.zeros(problem.mdp.n_states)
    if mu0 is not None:
        start = as_float_array(mu0, "mu0", start.shape)
        _check_start(problem, start)
    return gain if rewards is None else as_float_array(rewards, "rewards", gain.shape), radius, price, start


def _check_start(problem: Any, mu0: FloatArray) -> None:
    """Refuse a change of the start distribution that leaves the distributions, or the states that can carry mass."""
    if problem.mdp.gamma == 1:
        raise UnsuitableError("mu0 plays no part where gamma is one")
    check_zero_sum(mu0)
    outside = np.setdiff1d(np.flatnonzero(mu0), problem.flow.nodes)
    if outside.size:
        raise InputError(f"mu0[{outside[0]}] must be zero: state {outside[0]} cannot carry mass")


def _policy(solution: Any, found: Moved) -> FloatArray:
    """Derivative (n,) of the conditionals: of a softmax, or of what carries mass."""
    program, flow = solution.problem.program, solution.problem.flow
    state = flow.pair_node
    if isinstance(program.divergence, KL):
        policy = program.within(solution.eta, solution.multipliers, state, flow.nodes.size)
        return policy * (found.scaled - flow.node_sums(policy * found.scaled)[state])
    mass = flow.node_sums(solution.point)[state]
    policy = flow.conditional(solution.point)
    moved_mass = flow.node_sums(found.point)[state]
    return np.where(mass > 0, (found.point - policy * moved_mass) / np.where(mass > 0, mass, 1.0), 0.0)


def _value(solution: Any, found: Moved) -> FloatArray:
    """Derivative (m,) of V in the gauge that the solution reports."""
    problem, flow = solution.problem, solution.problem.flow
    moved_value = problem.program.by_name(found.multipliers)["flow"]
    if problem.mdp.gamma < 1:
        return moved_value + found.normaliser / (1 - problem.mdp.gamma)
    value = problem.program.by_name(solution.multipliers)["flow"]
    label, mass = flow.components, flow.node_sums(solution.point)
    each = np.bincount(label, weights=mass)
    mean = np.bincount(label, weights=mass * value) / each
    change = np.bincount(label, weights=mass * moved_value + flow.node_sums(found.point) * (value - mean[label]))
    return moved_value - (change / each)[label]


class _SoftMove(NamedTuple):
    """How the soft value (m,), the policy (n,), the states (m,) and the divergence of a conditional step move."""

    value: FloatArray
    policy: FloatArray
    mass: FloatArray
    divergence: float


def _of_conditional(
    solution: Solution, rewards: FloatArray, d_epsilon: float, d_temperature: float, mu0: FloatArray
) -> Sensitivity:
    r"""Through the soft Bellman equation: :math:`(I - \gamma P_\pi) \dot V = \pi \dot r - KL_s\,\dot\eta`.

    The states' masses move by the transpose of the same matrix, which is factorised once.
    """
    problem, flow = solution.problem, solution.problem.flow
    gamma = problem.mdp.gamma
    assert gamma < 1
    if solution.point is None or not 0 < solution.eta < np.inf:
        raise UnsuitableError(f"the ball is slack or a point, eta being {solution.eta:g}: no derivative")
    program, eta, state = problem.program, float(solution.eta), flow.pair_node
    net = program.net(solution.multipliers)
    policy = program.within(eta, solution.multipliers, state, flow.nodes.size)
    log_ratio = np.log(policy) - program.divergence.log_reference
    each = flow.node_sums(policy * log_ratio)
    net = net - (net - eta * log_ratio)[np.unique(state, return_index=True)[1]][state]  # zero soft maxima
    mass = flow.node_sums(solution.point)
    system = spla.splu((sp.eye_array(mass.size) - gamma * sp.csc_array(flow.chain(policy))).tocsc())
    arriving = flow.arriving

    def move(rewards: FloatArray, d_eta: float, start: FloatArray) -> _SoftMove:
        value = system.solve(flow.node_sums(policy * rewards) - each * d_eta)
        error = rewards + gamma * (arriving @ value) - value[state]
        scaled = (error - net / eta * d_eta) / eta
        moved_policy = policy * (scaled - flow.node_sums(policy * scaled)[state])
        inflow = (1 - gamma) * start + gamma * (arriving.T @ (mass[state] * moved_policy))
        moved_mass = system.solve(inflow, trans="T")
        reached = float(moved_mass @ each + (mass[state] * moved_policy) @ log_ratio)
        return _SoftMove(value, moved_policy, moved_mass, reached)

    none, still = np.zeros(policy.size), np.zeros(mass.size)
    along, start, d_eta = problem.pick(rewards), mu0[flow.nodes], d_temperature
    if problem.epsilon is not None:
        d_eta = (d_epsilon - move(along, 0.0, start).divergence) / move(none, 1.0, still).divergence
    found = move(along, d_eta, start)
    value = problem.program.by_name(solution.multipliers)["flow"]
    objective = float(solution.point @ along) + eta * d_epsilon + (1 - gamma) * float(start @ value)
    objective -= d_temperature * float(mass @ each)
    readings: dict[str, Any] = {
        "occupancy": (("state", "action"), flow.spread(found.policy * mass[state] + policy * found.mass[state])),
        "policy": (("state", "action"), flow.spread(found.policy)),
        "value": (("state",), flow.spread_nodes(found.value)),
    }
    return Sensitivity(objective, d_eta, readings)
