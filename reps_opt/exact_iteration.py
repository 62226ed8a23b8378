"""Exact iteration on a finite MDP: the same update again and again, with everything a theorem speaks of in a table.

Shapes: S states, A actions; policies are (S, A).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.mdp import MDP
from reps_opt.policy_comparison import PolicyComparison, compare_policies
from reps_opt.problem import Problem
from reps_opt.result import Arrays, Result
from reps_opt.solution import Solution
from reps_opt.solving import solve
from reps_opt.validation import FloatArray, as_count, read_only

if TYPE_CHECKING:
    import pandas

COMPARED = (
    "surrogate",
    "joint_kl",
    "state_kl",
    "conditional_kl",
    "kl_new_old",
    "kl_old_new",
    "max_kl",
    "trpo_bound",
    "trpo_holds",
    "cpo_bound",
    "cpo_holds",
)
"""Columns that come from the comparison of the new policy with the old."""

SHOWN = 10
"""Updates at either end of a history that its summary has a line for."""

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
        return float(getattr(self.solution, "predicted_improvement", math.nan))

    def row(self) -> dict[str, Any]:
        """The iteration as one row of a table: returns and gains in mean reward a step, divergences in nats."""
        compared = self.comparison
        return {
            "iteration": self.index,
            "return": compared.new_return,
            "predicted": self.predicted,
            "gain": compared.gain,
            **{name: getattr(compared, name) for name in COMPARED},
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

    def numbers(self) -> dict[str, Any]:
        return self.row()

    def arrays(self) -> Arrays:
        return {"policy": (("state", "action"), self.policy)}


class History(Result, tuple[Iteration, ...]):
    """The iterations in order; :meth:`to_frame` makes the table.

    Examples
    --------
    >>> from reps_opt import ExactNaturalGradient, iterate
    >>> import envs
    >>> mdp = envs.two_state()
    >>> update = lambda policy: ExactNaturalGradient(mdp, policy, step_size=0.1)
    >>> history = History(iterate(mdp, mdp.uniform_policy(), update, n_iterations=3))
    >>> list(history.to_frame()["trpo_holds"])
    [True, True, True]
    >>> history.returns.round(3)
    array([0.75 , 1.856, 1.95 , 1.95 ])
    """

    __slots__ = ()

    def __new__(cls, iterations: Iterable[Iteration] = ()) -> History:
        return super().__new__(cls, tuple(iterations))

    @property
    def policy(self) -> FloatArray:
        """The last policy (S, A)."""
        return self[-1].policy

    @property
    def returns(self) -> FloatArray:
        """Mean reward before the first update and after each (iterations + 1,)."""
        first = [self[0].comparison.old_return] if self else []
        return np.array(first + [step.comparison.new_return for step in self])

    @property
    def title(self) -> str:
        return f"History of {len(self)} updates" + (f", the last with {self[-1].solution.problem!r}" if self else "")

    def rows(self) -> list[tuple[str, str]]:
        """A line an update; of many, the first and the last ones."""
        shown = self if len(self) <= 2 * SHOWN else (*self[:SHOWN], None, *self[-SHOWN:])
        return [("...", "") if step is None else self._line(step) for step in shown]

    @staticmethod
    def _line(step: Iteration) -> tuple[str, str]:
        compared, solved = step.comparison, step.solution
        text = f"return {compared.new_return:.6g}, predicted {step.predicted:+.3g}, got {compared.gain:+.3g}"
        return str(step.index), f"{text}, KL {compared.joint_kl:.3g}, eta {solved.eta:.3g}, {solved.status}"

    def numbers(self) -> dict[str, Any]:
        returns = self.returns
        ends = {"first_return": float(returns[0]), "last_return": float(returns[-1])} if self else {}
        return {"n_updates": len(self), **ends}

    def arrays(self) -> Arrays:
        """The columns of :meth:`to_frame` over the updates, and every policy."""
        arrays: dict[str, Any] = {name: (("iteration",), column.to_numpy()) for name, column in self.to_frame().items()}
        if self:
            arrays["policy"] = (("iteration", "state", "action"), np.array([step.policy for step in self]))
        return arrays

    def to_frame(self) -> pandas.DataFrame:
        """A row an iteration, see :meth:`Iteration.row`."""
        import pandas

        table = pandas.DataFrame([step.row() for step in self])
        return table.set_index("iteration") if len(self) else table


def iterate(mdp: MDP, policy: ArrayLike, update: Update, n_iterations: int) -> Iterator[Iteration]:
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
    for index in range(1, count + 1):
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
