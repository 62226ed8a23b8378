"""What the answers to problems over occupancies share: the occupancy, its policy, and what that is worth by itself.

Shapes: S states, A actions.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.divergences.base import group_max
from reps_opt.problems.differences import differenced
from reps_opt.result import Arrays
from reps_opt.sensitivity import Sensitivity
from reps_opt.solution import Solution
from reps_opt.tolerances import CLOSE, TINY
from reps_opt.validation import FloatArray, read_only
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


class PolicyReadings:
    """Exact value, action values and advantage of a solution's ``policy``.

    On the scale of ordinary values: the expected discounted sum of rewards, ``1 / (1 - gamma)`` times the mean reward
    that objectives are in. With ``gamma = 1`` it is the bias, and the gain is taken off every reward.
    """

    if TYPE_CHECKING:
        problem: Any

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

        By differences of four solves (:mod:`reps_opt.problems.differences`). The old policy stays as it is; with
        rewards and start distribution move the occupancy, values and advantages that it is known by.

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
            given size, which has neither radius nor temperature to move.

        Examples
        --------
        >>> import envs
        >>> from reps_opt import FiniteHorizonREPS, solve
        >>> mdp = envs.single_chain()
        >>> solution = solve(FiniteHorizonREPS(mdp, mdp.uniform_policy(), horizon=5, epsilon=0.1))
        >>> abs(solution.sensitivity(epsilon=1.0).objective - solution.eta) < 1e-6 * solution.eta
        True
        """
        return differenced(self, rewards, epsilon, mu0, temperature)

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
