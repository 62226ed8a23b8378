r"""What a gradient step promises in units of reward, by the performance difference lemma, and how far to believe it.

.. math:: J(\pi') - J(\pi) \approx \sum_i b_i \Big(\frac{\pi'(a_i|s_i)}{\pi(a_i|s_i)} - 1\Big) \hat A_i
          - \text{optimism}

with the visits b of the old policy, weighed as REPS weighs a batch: so both promises are gains of the same objective.
The step was chosen to make the sum large, noise of the advantages included, and a network of thousands of parameters
follows noise far enough to promise ten times what comes. That part, the optimism, is what the gradients of two disjoint
parts of the batch do not agree on.

Shapes: N transitions, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from reps_opt.batch import Batch
from reps_opt.conjugate_gradient import conjugate_gradient
from reps_opt.features import IDENTITY
from reps_opt.learning.gradients import surrogate_gradient
from reps_opt.learning.returns import Transitions, cut_short
from reps_opt.learning.surrogates import Surrogate
from reps_opt.metrics import Metric
from reps_opt.problems.sample_flow import sample_flow, spread_of_sums
from reps_opt.solution import Status
from reps_opt.tolerances import LOOSEST_ALONG_RTOL, TINY
from reps_opt.validation import FloatArray

Mean = Callable[[FloatArray], tuple[float, float]]
"""Of values (N,) of a batch's transitions, their mean over visits and its standard error by episodes."""


class Visits(NamedTuple):
    """How visits are weighed: the mean over them, and the rule for where the process begins that they stand for."""

    mean: Mean
    starts: str


def visits(batch: Transitions, gamma: float, starts: str | None = None) -> Visits:
    """The visits of a batch by which a discounted, or for gamma = 1 an undiscounted, objective counts.

    For gamma < 1 those of :func:`~reps_opt.problems.sample_flow.sample_flow` with absorption: the mean of the rewards
    is ``1 - gamma`` times the discounted return, in reward units a step. For gamma = 1 it is the return of an episode;
    one that the end of the recording cut short brings its rewards but is not counted as an episode.

    Examples
    --------
    >>> batch = Batch([0, 1, 0], [0, 0, 0], [1.0, 1.0, 1.0], [1, 2, 1], terminated=[False, True, True])
    >>> round(visits(batch, 1.0).mean(batch.rewards)[0], 6)
    1.5
    """
    whole = batch if isinstance(batch, Batch) else _as_batch(batch)
    if gamma < 1:
        flow = sample_flow(whole, IDENTITY, max(gamma, TINY), "absorb", starts)
        return Visits(flow.mean, flow.starts)
    number = np.unique(whole.episode, return_inverse=True)[1]
    counted = np.ones(whole.n_episodes)
    if cut_short(whole):
        counted[-1] = 0.0

    def mean(values: FloatArray) -> tuple[float, float]:
        sums = np.bincount(number, values)
        found = float(sums.sum() / counted.sum())
        return found, spread_of_sums(sums - found * counted) / float(counted.sum())

    return Visits(mean, "episodes")


def gradient_promise(
    at: Surrogate,
    gradient: FloatArray,
    result: Any,
    gamma: float,
    *,
    unit: float = 1.0,
    starts: str | None = None,
    credited: Callable[[FloatArray], FloatArray] | None = None,
) -> dict[str, Any]:
    """The promise of an accepted step, its standard error by episodes, and the batch's own objective, for its stats.

    Parameters
    ----------
    at
        What the step ascends.
    gradient
        Its gradient (P,), in the units of the solution.
    result
        The update, with its ``log_ratio``, ``step``, ``units`` and ``solution``: no pass over the policy is made.
    unit
        A reward in units of the advantages.
    starts
        As for :func:`visits`.
    credited
        Which rows the gains of rows count at; by default their own.

    Returns
    -------
    dict
        ``predicted_gain`` and its error; ``optimism``, what was taken off the surrogate for it; ``base_objective`` and
        its error, the mean reward of the same visits; ``gamma`` and ``starts`` as :func:`visits` has them.
    """
    counted, advantages = visits(at.batch, gamma, starts), at.advantages
    credited = credited or (lambda rows: rows)
    with np.errstate(invalid="ignore", over="ignore"):
        gains = np.where(advantages == 0, 0.0, np.expm1(result.log_ratio) * advantages)
    gain, error = counted.mean(credited(unit * gains))
    noise = optimism(at, gradient, result)
    squares = advantages**2
    size = float(np.mean(squares)) or 1.0  # zero where a step lowers costs alone: nothing is promised then
    share = unit * counted.mean(credited(squares))[0] / size
    base, base_error = counted.mean(np.asarray(at.batch.rewards, dtype=np.float64))
    return {
        "predicted_gain": gain - share * noise.mean,
        "predicted_gain_error": math.hypot(error, share * noise.std),
        "optimism": share * noise.mean,
        "base_objective": base,
        "base_objective_error": base_error,
        "gamma": gamma,
        "starts": counted.starts,
    }


class Optimism(NamedTuple):
    """What of a step's gain is noise that the step follows, and the standard deviation of that estimate."""

    mean: float
    std: float


def optimism(at: Surrogate, gradient: FloatArray, result: Any) -> Optimism:
    r"""Optimism of a step ``s = alpha M g`` along its own gradient, in units of the advantages, per transition.

    .. math:: \alpha\,(g'Mg - 4\, g_1' M g_2), \qquad g = g_1 + g_2

    ``g_1`` and ``g_2`` are summed over halves of the rows, drawn at random. Their noise is independent, for scores are:
    given its state an action is drawn anew. So the second term is the gain that the signal has; it is unbiased, and
    may be negative. Halves of one size: only then what the signal shares with the noise cancels.
    """
    solution, n = result.solution, len(at.advantages)
    if n < 2 or solution.status is Status.INFEASIBLE:  # which follows the costs instead
        return Optimism(0.0, 0.0)
    some = np.sort(np.random.default_rng(n).permutation(n)[: n // 2])
    share = len(some) / n
    rows = at.batch.states[some], at.batch.actions[some], share * at.advantages[some]
    half = surrogate_gradient(at.policy, *rows) / result.units
    whole, agreed = _inverse_forms(solution.problem.damped_metric, gradient, half)
    gain = float(gradient @ (result.step * result.units))
    if not whole > 0 or gain == 0:
        return Optimism(0.0, 0.0)
    noise = gain * (1 - agreed / (share * (1 - share)) / whole)
    size = float(np.mean(at.advantages**2))
    each = 2 * result.kl_old_new * size / (n * abs(gain))  # of a direction that noise may take
    return Optimism(noise, 2 * math.sqrt(each * max(noise, each)))


def _inverse_forms(metric: Metric, gradient: FloatArray, part: FloatArray) -> tuple[float, float]:
    """``g'Mg`` and ``g_1'M(g - g_1)``, M the metric's inverse, or what is cheap and near it."""
    if not metric.by_products:
        solve: Callable[[FloatArray], FloatArray] = metric.solve
    elif metric.precondition is not None:
        solve = metric.precondition
    else:

        def solve(y: FloatArray) -> FloatArray:
            return conjugate_gradient(metric.product, y, LOOSEST_ALONG_RTOL).solution

    lifted = solve(gradient)
    return float(gradient @ lifted), float(part @ (lifted - solve(part)))


def _as_batch(batch: Transitions) -> Batch:
    terminated = np.asarray(batch.terminated, dtype=bool)
    truncated = np.asarray(batch.truncated, dtype=bool) & ~terminated
    rows = (batch.states, batch.actions, batch.rewards, batch.next_states)
    return Batch(*rows, terminated=terminated, truncated=truncated)
