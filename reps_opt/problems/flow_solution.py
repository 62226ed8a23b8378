"""What answers to problems over occupancies share: occupancy and policy, what that is worth, and how they move.

Where no formula says how a solution moves with its data, differences of solves next to it do: central ones at two
steps, extrapolated (Richardson 1911). The error is of the fourth order in the step, a thousandth of what the data can
move by, the cube root of what two solves may differ by, and they are certified.

Shapes: S states, A actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.divergences.base import group_max
from reps_opt.result import Arrays
from reps_opt.sensitivity import Sensitivity, check_given, check_has, check_interior, check_zero_sum
from reps_opt.solution import Solution, Status
from reps_opt.solving import solve
from reps_opt.tolerances import CLOSE, KINKED, TINY
from reps_opt.validation import FloatArray, InputError, UnsuitableError, as_float_array, read_only
from reps_opt.values import cached_property, value


@value
class FlowSolution(Solution):
    """Answer to a problem over occupancies; a table is (S, A), or (T, S, A) in time."""

    @property
    def value(self) -> FloatArray:
        """Multiplier of the flow, a table over the nodes."""
        raise NotImplementedError

    def _unknown(self) -> FloatArray:
        return read_only(np.full(self.problem.shape, math.nan))

    @cached_property
    def occupancy(self) -> FloatArray:
        """The new occupancy, a table."""
        if self.point is None:
            return self._unknown()
        return read_only(self.problem.flow.spread(self.point / self.problem.share))

    @cached_property
    def policy(self) -> FloatArray:
        """The conditional of the occupancy; without mass the dual maximiser's, the reference's, else uniform."""
        if self.point is None:
            return self._unknown()
        problem, flow, occupancy = self.problem, self.problem.flow, self.occupancy
        policy = np.array(np.broadcast_to(problem.mdp.uniform_policy(), problem.shape))
        if (reference := problem.reference_policy) is not None:
            known = reference.sum(axis=-1) > 0
            policy[known] = reference[known]
        if (elsewhere := self._elsewhere()) is not None:
            rows = policy.reshape(-1, problem.shape[-1])
            rows[flow.nodes] = flow.spread(elsewhere).reshape(rows.shape)[flow.nodes]
        mass = occupancy.sum(axis=-1, keepdims=True)
        return read_only(np.where(mass > TINY, occupancy / np.where(mass > 0, mass, 1.0), policy))

    def _elsewhere(self) -> FloatArray | None:
        """Policy (n,) for nodes that the occupancy does not visit: the dual maximiser's or its limit.

        None where several balls do not say: where all those of a step are slack, or none has room.
        """
        program, flow = self.problem.program, self.problem.flow
        if self.multipliers is None:
            return None
        if np.ndim(self.eta):
            if not np.all(np.isfinite(self.eta)) or not np.all(self.eta @ program.joint.covers > 0):
                return None
            return program.within(np.maximum(self.eta, TINY), self.multipliers, flow.pair_node, flow.nodes.size)
        if self.eta > 0:
            return program.within(self.eta, self.multipliers, flow.pair_node, flow.nodes.size)
        net = program.net(self.multipliers)
        top = group_max(net, flow.pair_node, flow.nodes.size)
        leeway = CLOSE * max(float(np.ptp(net)), float(np.abs(self.multipliers).max()))
        tight = net >= top[flow.pair_node] - leeway
        return flow.conditional(np.where(tight, program.divergence.reference, 0.0))

    def rows(self) -> list[tuple[str, str]]:
        lines = super().rows()
        if self.has_point and np.isfinite(self.problem.reference_return):
            lines.insert(1, ("reference", f"{self.problem.reference_return:.10g}"))
        return lines

    def arrays(self) -> Arrays:
        """Over the axes of a table; ``reference`` is left out where the problem has none."""
        problem, axes = self.problem, self.problem.axes
        arrays: dict[str, Any] = {
            "occupancy": (axes, self.occupancy),
            "policy": (axes, self.policy),
            "value": (axes[:-1], self.value),
            "reward": (axes, problem.rewards),
        }
        return arrays if problem.reference is None else {**arrays, "reference": (axes, problem.reference)}


NAMED = 8
"""States up to which a summary names the policy."""


class PolicyReadings(Solution):
    """Exact value, action values and advantage of a solution's ``policy``.

    On the scale of ordinary values: the expected discounted sum of rewards, ``1 / (1 - gamma)`` times the mean reward
    that objectives are in. With ``gamma = 1`` it is the bias, and the gain is taken off every reward.
    """

    if TYPE_CHECKING:

        @property
        def policy(self) -> FloatArray:
            """The new policy (S, A)."""

    @cached_property
    def policy_value(self) -> FloatArray:
        r"""Value (S,) of the new policy itself, :math:`E \sum_t \gamma^t r_t` from each state.

        The flow's multiplier ``value`` differs from it by what the ball costs: a state that the ball keeps the policy
        from may have a low ``value`` however much it pays.
        """
        return read_only(self.problem.mdp.value(self.policy))

    @cached_property
    def advantage(self) -> FloatArray:
        """Advantage (S, A) of the new policy: ``q_values - policy_value``; minus infinity for a missing action."""
        return read_only(self.problem.mdp.advantage(self.policy))

    @property
    def q_values(self) -> FloatArray:
        """Action values (S, A) of the new policy: ``r + gamma P policy_value``, with gamma = 1 less the gain.

        Those of a finite horizon are (T, S, A), the rewards of their own step included.
        """
        return self.advantage + self.policy_value[..., None]

    def sensitivity(
        self,
        rewards: ArrayLike | None = None,
        epsilon: ArrayLike | None = None,
        mu0: ArrayLike | None = None,
        temperature: float | None = None,
    ) -> Sensitivity:
        """How the optimum, eta, the policy, the occupancy and V move with the data: directional derivatives.

        By differences of four solves next to it. The old policy stays as it is; with rewards and start distribution
        move the occupancy, values and advantages that it is known by.

        Parameters
        ----------
        rewards
            Direction (S, A) in which the MDP's rewards move.
        epsilon, temperature
            Rate at which the radius, or in penalty form the temperature, moves; of a ball a step also (T,).
        mu0
            Direction (S,) in which the start distribution moves: it sums to zero, and is zero where no episode starts.

        Returns
        -------
        Sensitivity
            ``objective``, ``eta``, ``occupancy``, ``policy``, ``value`` and, of gradient steps, ``step``.

        Raises
        ------
        UnsuitableError
            Where the answer has no derivative: every ball slack, one of a single point, a kink; and for a step of a
            given size, which has neither radius nor temperature to move; and where a solve next to the solution is not
            certified.

        References
        ----------
        Richardson (1911), *The approximate arithmetical solution by finite differences*.

        Examples
        --------
        >>> import envs
        >>> from reps_opt import FiniteHorizonREPS, solve
        >>> mdp = envs.single_chain()
        >>> solution = solve(FiniteHorizonREPS(mdp, mdp.uniform_policy(), horizon=5, epsilon=0.1))
        >>> abs(solution.sensitivity(epsilon=1.0).objective - solution.eta) < 1e-6 * solution.eta
        True
        """
        check_interior(self.eta, self.point)
        move, unit = _moving(self.problem, rewards, epsilon, mu0, temperature)
        step = math.cbrt(CLOSE) * unit
        long, short = _differences(self, move, step), _differences(self, move, step / 2)
        for name, (first, second) in short.items():
            if name not in ("occupancy", "policy"):
                continue
            noise = CLOSE * _size(getattr(self, name))
            if _size(second) > max(KINKED * _size(long[name][1]), noise):
                raise UnsuitableError(f"the answer is degenerate: the {name} has a kink here, and no derivative")
        found = {name: (8 * short[name][0] - long[name][0]) / (3 * step) for name in short}
        dims = {name: tuple(dims) for name, (dims, _) in self.arrays().items()} | {"nu": ("budget",)}
        readings = {name: (dims[name], change) for name, change in found.items() if name in MOVING}
        eta = found["eta"]
        return Sensitivity(float(found["objective"]), float(eta) if np.ndim(eta) == 0 else eta, readings)

    def _policy_rows(self) -> list[tuple[str, str]]:
        """A line of the summary: the most probable action by its label, of the first states that have labels."""
        mdp, policy = self.problem.mdp, self.policy
        if mdp.state_labels is None and mdp.action_labels is None:
            return []
        states, actions = mdp.state_labels or range(mdp.n_states), mdp.action_labels or range(mdp.n_actions)
        named = [
            f"{state}: {actions[row.argmax()]} {row.max():.2g}"
            for state, row in islice(zip(states, policy, strict=True), NAMED)
        ]
        return [("policy", ", ".join(named) + (", ..." if mdp.n_states > NAMED else ""))]


MOVING = ("occupancy", "policy", "value", "nu", "step")
"""Readings that are followed, of those that a solution has."""


Move = Callable[[float], Any]


def _moving(problem: Any, rewards: Any, epsilon: Any, mu0: Any, temperature: Any) -> tuple[Move, float]:
    """The problem as a function of how far its data moved, and how far they can: the unit of a step."""
    mdp, changes, sizes = problem.mdp, dict[str, tuple[Any, Any]](), []
    check_given({"rewards": rewards, "epsilon": epsilon, "mu0": mu0, "temperature": temperature})
    for name, rate in (("epsilon", epsilon), ("temperature", temperature)):
        if rate is None:
            continue
        now: Any = getattr(problem, name) if name in {field.name for field in fields(problem)} else None
        check_has(now, name)
        direction = as_float_array(rate, name)
        if direction.shape not in ((), np.shape(now)):
            raise InputError(f"{name} must be a rate, or one for each of {np.shape(now)}, got {direction.shape}")
        changes[name] = (now, direction if direction.ndim or np.ndim(now) else float(direction))
        sizes.append(_room(np.broadcast_to(now, np.broadcast(now, direction).shape), direction))
    tables: dict[str, tuple[FloatArray, FloatArray]] = {}
    if rewards is not None:
        tables["r"] = (mdp.rewards, as_float_array(rewards, "rewards", mdp.rewards.shape))
        largest = float(np.abs(tables["r"][1]).max())
        sizes.append(float(np.ptp(mdp.rewards)) / largest if largest else np.inf)
    if mu0 is not None:
        tables["mu0"] = (mdp.mu0, _as_start_direction(mdp.mu0, mu0))
        sizes.append(_room(mdp.mu0, tables["mu0"][1]))

    def move(step: float) -> Any:
        moved = {name: now + step * direction for name, (now, direction) in changes.items()}
        if tables:
            moved["mdp"] = mdp.replace(**{name: now + step * direction for name, (now, direction) in tables.items()})
        return problem.replace(**moved)

    unit = min(sizes)
    return move, unit if np.isfinite(unit) and unit > 0 else 1.0


def _room(now: Any, direction: Any) -> float:
    """How far non-negative numbers can move either way before the first is zero."""
    size = np.broadcast_to(np.abs(direction), np.shape(now))
    moving = size > 0
    return float((np.asarray(now)[moving] / size[moving]).min(initial=np.inf))


def _as_start_direction(start: FloatArray, mu0: Any) -> FloatArray:
    direction = as_float_array(mu0, "mu0", start.shape)
    check_zero_sum(direction)
    empty = np.flatnonzero((direction != 0) & (start == 0))
    if empty.size:
        raise InputError(f"mu0[{empty[0]}] must be zero: no episode starts in state {empty[0]}, and fewer cannot")
    return direction


def _differences(solution: Any, move: Move, step: float) -> Mapping[str, tuple[FloatArray, FloatArray]]:
    """Half the central difference, and the second difference, of each reading."""
    up, down = (_read(_solved(solution, move(sign * step))) for sign in (1, -1))
    here = _read(solution)
    return {name: ((up[name] - down[name]) / 2, up[name] + down[name] - 2 * here[name]) for name in here}


def _solved(solution: Any, problem: Any) -> Solution:
    found: Any = solve(problem, start=solution if problem.takes_start else None)
    if found.status is not Status.CERTIFIED:
        raise UnsuitableError(f"a solution next to this one is {found.status}: {found.message}")
    return found


def _read(solution: Any) -> dict[str, FloatArray]:
    held = {*solution.arrays(), *(["nu"] if "budgets" in solution.duals else [])}
    names = [name for name in MOVING if name in held]
    readings = {name: np.asarray(getattr(solution, name)) for name in names}
    return {"objective": np.asarray(solution.objective), "eta": np.asarray(solution.eta), **readings}


def _size(array: FloatArray) -> float:
    return float(np.nansum(np.abs(array)))
