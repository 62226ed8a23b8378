"""Exact iteration on a finite MDP: the same update again and again, with everything a theorem speaks of in a table.

Shapes: S states, A actions; policies are (S, A).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from reps_opt.plotting import Panel
from reps_opt.policy_comparison import PolicyComparison, compare_policies
from reps_opt.problem import Problem
from reps_opt.processes.mdp import MDP
from reps_opt.progress import progress as show_progress
from reps_opt.result import Arrays, Result
from reps_opt.solution import Solution
from reps_opt.solving import solve
from reps_opt.validation import FloatArray, as_count, read_only

Update = Callable[[FloatArray], Problem | Solution]


@dataclass(frozen=True, eq=False, repr=False)
class Iteration(Result):
    """One update of an exact iteration.

    Attributes
    ----------
    index : int
        1 for the first update.
    policy : (S, A) array
        The policy after the update.
    solution : Solution
        The update's own answer, with eta, status and certificate.
    comparison : PolicyComparison
        The policy beside the one before.
    """

    index: int
    policy: FloatArray
    solution: Solution
    comparison: PolicyComparison

    @property
    def predicted(self) -> float:
        """Gain that the update expected, in mean reward a step."""
        return float(getattr(self.solution, "predicted_gain", math.nan))

    @property
    def old_return(self) -> float:
        """Mean reward a step before the update."""
        return self.comparison.old_return

    @property
    def new_return(self) -> float:
        """Mean reward a step after the update."""
        return self.comparison.new_return

    def row(self) -> dict[str, Any]:
        """The iteration as one row of a table: returns and gains in mean reward a step, divergences in nats."""
        compared = self.comparison.numbers()
        del compared["old_return"]
        return {
            "iteration": self.index,
            "return": compared.pop("new_return"),
            "predicted": self.predicted,
            "gain": compared.pop("gain"),
            **compared,
            "eta": self.solution.eta,
            "gap": self.solution.certificate.gap,
            "status": str(self.solution.status),
        }

    @property
    def title(self) -> str:
        return f"Iteration {self.index} with {self.solution.problem!r}"

    def rows(self) -> list[tuple[str, str]]:
        solved = [("status", str(self.solution.status)), ("eta", f"{self.solution.eta:.6g}")]
        return [*solved, ("predicted gain", f"{self.predicted:.6g}"), *self.comparison.rows()]

    def panels(self) -> list[Panel]:
        """The comparison of this update."""
        return self.comparison.panels()

    def line(self) -> str:
        """Return, gain promised and got, divergence and eta in a line of text."""
        compared, solved = self.comparison, self.solution
        text = f"return {compared.new_return:.6g}, predicted {self.predicted:+.3g}, got {compared.gain:+.3g}"
        return f"{text}, KL {compared.joint_kl:.3g}, eta {solved.eta:.3g}, {solved.status}"

    def numbers(self) -> dict[str, Any]:
        return self.row()

    def arrays(self) -> Arrays:
        return {"policy": (("state", "action"), self.policy)}


def iterate(
    mdp: MDP, policy: ArrayLike, update: Update, n_iterations: int, progress: bool | None = None
) -> Iterator[Iteration]:
    """Update a policy again and again, exactly; a generator that a loop may leave whenever it has seen enough.

    Parameters
    ----------
    mdp
        The :class:`~reps_opt.MDP` that the policy is evaluated on.
    policy
        Where to start: (S, A), or (S,) integers.
    update
        Maps a policy (S, A) to a problem, which is then solved by its default route, or to a solution, for those who
        choose the route themselves. All it takes of a solution is ``policy``, ``status`` and what a row shows.
    n_iterations
        Updates to make at most. An update without a point (infeasible, failed) is the last, its policy unchanged.
    progress
        Whether to show a bar; None for one where standard error is a terminal and more than a second goes by.

    Yields
    ------
    Iteration

    Raises
    ------
    TypeError, ValueError
        For a policy that is none or a count below one; an update that returns neither a problem nor a solution with a
        policy.

    Examples
    --------
    >>> from reps_opt import REPS, iterate
    >>> import envs
    >>> mdp = envs.single_chain()
    >>> update = lambda policy: REPS(mdp, mdp.occupancy(policy), epsilon=1.0)
    >>> for step in iterate(mdp, mdp.uniform_policy(), update, n_iterations=3):
    ...     print(step.index, round(step.comparison.new_return, 3), step.solution.status)
    1 5.085 certified
    2 8.145 certified
    3 8.145 certified
    """
    count = as_count(n_iterations, "n_iterations")
    current = mdp.as_policy(policy)
    for index in show_progress(range(1, count + 1), label="updates", show=progress):
        made = update(read_only(current))
        solution = solve(made) if isinstance(made, Problem) else made
        if not hasattr(solution, "policy"):
            raise TypeError(f"update must return a problem or a solution with a policy, got {type(made).__name__}")
        previous = current
        if solution.has_point:
            current = mdp.as_policy(solution.policy)
        yield Iteration(index, current, solution, compare_policies(mdp, previous, current))
        if not solution.has_point:
            return
