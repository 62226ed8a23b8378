"""Asking "what if" of a small MDP: a question is a few numbers, the answer a solution; a page in the browser asks.

The page (:mod:`reps_opt.explorer.page`) moves sliders and draws; everything it shows is computed here.

Shapes: S states, A actions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.problems.reps import REPS, ConditionalREPS
from reps_opt.processes.mdp import MDP
from reps_opt.solving import solve
from reps_opt.validation import FloatArray, as_float_array, as_scalar

if TYPE_CHECKING:
    from reps_opt.problems.occupancy_solution import OccupancySolution

CONDITIONAL = "KL of the policy alone"
DIVERGENCES: dict[str, Any] = {
    "KL": "kl",
    CONDITIONAL: None,
    "chi-square": "chi2",
    "alpha = 1/2 (Hellinger)": ("alpha", 0.5),
    "reverse KL": "reverse_kl",
}
"""Balls that can be chosen, by the names they have on the page."""

UNIFORM, HALF_OPTIMAL = "uniform", "half uniform, half optimal"

RADII = (1e-3, 10.0)
"""Ends of the radii (nats) that can be asked for, and over which eta is drawn."""

CURVE_POINTS = 17
"""Radii on the curve of eta: four a decade."""


@dataclass(frozen=True)
class Question:
    """What is asked: the problem that an :class:`Explorer` poses.

    Parameters
    ----------
    epsilon
        Radius of the ball, in nats.
    gamma
        Discount factor in (0, 1).
    slip
        How often another move happens than the one chosen, in [0, 1]; what that means is the explorer's ``make``.
    budget
        Bound on the expected cost as a share of what the reference costs; None leaves costs alone. The ball of the
        policy alone takes no budget.
    divergence
        A key of ``DIVERGENCES``.
    reference
        A key of the explorer's ``references``.
    """

    epsilon: float = 0.5
    gamma: float = 0.99
    slip: float = 0.0
    budget: float | None = None
    divergence: str = "KL"
    reference: str = UNIFORM

    def __post_init__(self) -> None:
        as_scalar(self.epsilon, "epsilon", low=0.0)
        if as_scalar(self.gamma, "gamma", low=0.0, high=1.0, low_open=True) == 1:
            raise ValueError("gamma must be < 1: the page compares discounted values")
        as_scalar(self.slip, "slip", low=0.0, high=1.0)
        if self.budget is not None:
            as_scalar(self.budget, "budget", low=0.0)
        if self.divergence not in DIVERGENCES:
            raise ValueError(f"divergence must be one of {', '.join(DIVERGENCES)}, got {self.divergence!r}")


def with_slip(mdp: MDP, slip: float) -> MDP:
    """The MDP in which, with this probability, an action drawn evenly from the state's is carried out instead.

    .. math:: P_{slip}(\\cdot|s,a) = (1 - slip)\\, P(\\cdot|s,a) + slip\\, \\tfrac1{|A(s)|}\\sum_b P(\\cdot|s,b)

    and the same for rewards.

    Examples
    --------
    >>> import numpy as np
    >>> from reps_opt import MDP
    >>> mdp = MDP(np.array([np.eye(2), np.eye(2)]), [[1.0, 0.0], [0.0, 2.0]], order="SAS")
    >>> with_slip(mdp, 0.5).rewards
    array([[0.75, 0.25],
           [0.5 , 1.5 ]])
    """
    if slip == 0:
        return mdp
    uniform, state = mdp.uniform_policy(), np.repeat(np.arange(mdp.n_states), mdp.n_actions)
    anyhow = mdp.chain(uniform)[state]
    rewards = np.where(mdp.allowed, mdp.rewards, 0.0)
    mixed = (1 - slip) * rewards + slip * np.sum(uniform * rewards, axis=1, keepdims=True)
    return mdp.replace(P=(1 - slip) * mdp.transitions + slip * anyhow, r=mixed, allowed=mdp.allowed)


@dataclass
class Explorer:
    """Answers questions about one small MDP, each from where the last answer stood.

    Parameters
    ----------
    make
        The MDP as a function of slip; or an MDP, to which :func:`with_slip` is applied.
    costs
        What a budget bounds, (S, A). By default a one in the states that the map calls ``H``; without such, at the
        pairs with the lowest reward; without either there is no budget to ask for.
    name
        What the page calls it.

    Examples
    --------
    >>> from reps_opt import MDP
    >>> explorer = Explorer(MDP.from_gymnasium("FrozenLake-v1"))
    >>> solution = explorer.answer(Question(epsilon=0.5))
    >>> print(solution.status, round(solution.kl, 9))
    certified 0.5
    """

    make: Callable[[float], MDP] | MDP
    costs: ArrayLike | None = None
    name: str = "an MDP"
    references: dict[str, Callable[[MDP], FloatArray]] = field(init=False)
    _last: tuple[Question, OccupancySolution] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        base = self.make
        slipped = (lambda slip: with_slip(base, slip)) if isinstance(base, MDP) else base
        self._mdp = lru_cache(maxsize=16)(slipped)
        first = self._mdp(0.0)
        self.cost_name, self._costs = _what_costs(first, self.costs)
        self.references = {UNIFORM: MDP.uniform_policy, HALF_OPTIMAL: _half_optimal}

    @property
    def has_costs(self) -> bool:
        """Whether there is anything for a budget to bound."""
        return self._costs is not None

    def mdp(self, question: Question) -> MDP:
        """The MDP that a question is about."""
        mdp = self._mdp(question.slip)
        return mdp if mdp.gamma == question.gamma else mdp.replace(gamma=question.gamma)

    def problem(self, question: Question) -> REPS | ConditionalREPS:
        """The problem that a question poses."""
        mdp = self.mdp(question)
        policy = self.references[question.reference](mdp)
        if question.divergence == CONDITIONAL:
            return ConditionalREPS(mdp, policy, question.epsilon)
        q = mdp.occupancy(policy)
        rows: dict[str, Any] = {}
        if question.budget is not None and self._costs is not None:
            rows = {"costs": [self._costs], "budgets": [question.budget * float(np.sum(q * self._costs))]}
        return REPS(mdp, q, question.epsilon, divergence=DIVERGENCES[question.divergence], **rows)

    def answer(self, question: Question) -> OccupancySolution:
        """The solution of the problem that a question poses."""
        alike = self._last is not None and self._last[0].divergence == question.divergence
        solution = _solved(self.problem(question), self._last[1] if alike and self._last else None)
        if solution.has_point:
            self._last = question, solution
        return solution

    def eta_curve(self, question: Question) -> Iterator[tuple[float, float]]:
        """Radius and eta, for radii over the whole range from the smallest on; NaN where nothing is feasible."""
        problem, last = self.problem(question), None
        for epsilon in np.geomspace(*RADII, CURVE_POINTS):
            solution = _solved(problem.at_radius(float(epsilon)), last)
            last = solution if solution.has_point else last
            yield float(epsilon), float(solution.eta) if solution.has_point else np.nan

    def keep(self, policy: ArrayLike) -> str:
        """Make a policy (S, A) one of the references, and say under which name."""
        name = f"new policy, taken {len(self.references) - 1}"
        kept = as_float_array(policy, "policy")
        self.references[name] = lambda mdp: kept
        return name


def _solved(problem: REPS | ConditionalREPS, last: OccupancySolution | None) -> OccupancySolution:
    return solve(problem, start=last if isinstance(problem, REPS) else None)


def _half_optimal(mdp: MDP) -> FloatArray:
    return 0.5 * mdp.uniform_policy() + 0.5 * mdp.solve_optimal().policy


def _what_costs(mdp: MDP, costs: ArrayLike | None) -> tuple[str, FloatArray | None]:
    """What a budget is about, in words and as a table (S, A); None where there is nothing to bound."""
    shape = mdp.rewards.shape
    if costs is not None:
        return "the costs given", as_float_array(costs, "costs", shape)
    holes = np.array([letter == "H" for letter in "".join(mdp.layout or ())], dtype=bool)
    if holes.any():
        return "time in the states H", np.repeat(holes.astype(float)[:, None], shape[1], axis=1)
    seen = mdp.rewards[mdp.allowed]
    if np.ptp(seen) == 0:
        return "nothing", None
    return f"pairs with reward {seen.min():g}", ((mdp.rewards == seen.min()) & mdp.allowed).astype(float)


def start_values(solution: OccupancySolution) -> list[tuple[str, str]]:
    """What the start is worth, in expected discounted rewards: of the uniform, the new and the optimal policy."""
    mdp = solution.problem.mdp
    values = {"uniform policy": mdp.mu0 @ mdp.value(mdp.uniform_policy())}
    if solution.has_point:
        values["new policy"] = mdp.mu0 @ mdp.value(solution.policy)
    values["optimal policy"] = mdp.mu0 @ mdp.solve_optimal().value
    return [(name, f"{value:.6g}") for name, value in values.items()]
