r"""How the answer to an occupancy problem moves with rewards, radius, temperature and start distribution.

Shapes: S states, A actions; n pairs and m states that can carry mass.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from numpy.typing import ArrayLike

from reps_opt.divergences.base import KL
from reps_opt.divergences.conditional_kl import ConditionalKL
from reps_opt.sensitivity import Moved, Sensitivity, as_rates, check_movable, check_zero_sum, moved
from reps_opt.solution import Solution
from reps_opt.validation import FloatArray, InputError, UnsuitableError, as_float_array


class Change(NamedTuple):
    """A direction in a problem's data: rewards (S, A), radius, temperature, start distribution (S,)."""

    rewards: FloatArray
    epsilon: float
    temperature: float
    mu0: FloatArray


def as_change(
    problem: Any, rewards: ArrayLike | None, epsilon: float | None, temperature: float | None, mu0: ArrayLike | None
) -> Change:
    """A validated direction; parts that are None stay as they are."""
    given = {"rewards": rewards, "epsilon": epsilon, "temperature": temperature, "mu0": mu0}
    radius, price = as_rates(problem, given)
    mdp = problem.mdp
    start = np.zeros(mdp.n_states) if mu0 is None else as_float_array(mu0, "mu0", (mdp.n_states,))
    if mu0 is not None:
        _check_start(problem, start)
    return Change(
        np.zeros(mdp.rewards.shape) if rewards is None else as_float_array(rewards, "rewards", mdp.rewards.shape),
        radius,
        price,
        start,
    )


def _check_start(problem: Any, mu0: FloatArray) -> None:
    """Refuse a change of the start distribution that leaves the distributions, or the states that can carry mass."""
    if problem.mdp.gamma == 1:
        raise UnsuitableError("mu0 plays no part where gamma is one")
    check_zero_sum(mu0)
    outside = np.setdiff1d(np.flatnonzero(mu0), problem.flow.nodes)
    if outside.size:
        raise InputError(f"mu0[{outside[0]}] must be zero: state {outside[0]} cannot carry mass")


def sensitivity(solution: Any, change: Change) -> Sensitivity:
    """Directional derivatives of an occupancy solution's readings."""
    problem = solution.problem
    if isinstance(problem.program.balls[0].divergence, ConditionalKL):
        return _of_conditional(solution, change)
    check_movable(solution.eta, solution.point, problem.program)
    program, flow = problem.program, problem.flow
    rhs = np.zeros(program.rhs.size)
    rhs[: flow.nodes.size] = (1 - problem.mdp.gamma) * change.mu0[flow.nodes]
    found = moved(
        program,
        solution.eta,
        solution.multipliers,
        problem.pick(change.rewards),
        rhs,
        change.epsilon,
        change.temperature,
    )
    readings: dict[str, Any] = {
        "occupancy": (("state", "action"), flow.spread(found.point)),
        "policy": (("state", "action"), flow.spread(_policy(solution, found))),
        "value": (("state",), flow.spread_nodes(_value(solution, found))),
    }
    if problem.budget_rows is not None:
        prices = program.by_name(found.multipliers)["budgets"]
        readings["nu"] = (("budget",), prices / problem.budget_rows.span)
    return Sensitivity(found.objective, found.eta, readings)


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


def _of_conditional(solution: Solution, change: Change) -> Sensitivity:
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
    rewards, start = problem.pick(change.rewards), change.mu0[flow.nodes]
    d_eta = change.temperature
    if problem.epsilon is not None:
        d_eta = (change.epsilon - move(rewards, 0.0, start).divergence) / move(none, 1.0, still).divergence
    found = move(rewards, d_eta, start)
    value = problem.program.by_name(solution.multipliers)["flow"]
    objective = float(solution.point @ rewards) + eta * change.epsilon + (1 - gamma) * float(start @ value)
    objective -= change.temperature * float(mass @ each)
    readings: dict[str, Any] = {
        "occupancy": (("state", "action"), found.policy * mass[state] + policy * found.mass[state]),
        "policy": (("state", "action"), found.policy),
    }
    tables = {name: (dims, flow.spread(x)) for name, (dims, x) in readings.items()}
    return Sensitivity(objective, d_eta, {**tables, "value": (("state",), flow.spread_nodes(found.value))})
