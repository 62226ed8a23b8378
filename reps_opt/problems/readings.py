"""What a new policy on a finite MDP is worth by itself, beside the multipliers that a ball has priced.

Shapes: S states, A actions.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from reps_opt.validation import FloatArray, read_only
from reps_opt.values import cached_property

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
