r"""The flow that transitions of episodes obey, by how the episodes begin and end: feature differences and base weights.

Reweighted transitions stand for a stationary process only if what flows into every state flows out of it. Where the
recording of an episode ends, that has to be said: a termination is followed by a new start or by an absorbing state,
and what a time limit cuts off goes on unseen.

Shapes: N transitions of E episodes, d features; M = N + 1 rows where mass is absorbed, M = N where none is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.batch import Batch
from reps_opt.features import one_step, start_features, without_rounding
from reps_opt.tolerances import LONGEST_HORIZON, VISIBLE
from reps_opt.validation import FloatArray, as_float_array, as_scalar, check_nonnegative, read_only
from reps_opt.values import Value, value

ON_DONE = ("absorb", "restart")
STARTS = ("visited", "episodes")


@value
class SampleFlow(Value):
    r"""Rewards, feature differences and base weights of a batch, such that a flow reads ``sum_i w_i psi_i = 0``.

    Attributes
    ----------
    rewards : (M,) array
        r; zero in the absorbing state.
    differences : (M, d) or (M, d + 1) array
        psi; the last column is the absorbing state's indicator, where there is one.
    base : (M,) array
        b, summing to one.
    episode : (M,) array
        The episode of every row, counted from zero; the absorbed mass, to which all terminated ones contribute, has -1.
    gamma : float
    on_done, starts : str
        As :func:`sample_flow` was told, or chose.
    absorbs : bool
        Whether the last row is the absorbing state.
    terminal_shares : (E,) array
        Share of the absorbed mass that each episode brought; zeros where none is absorbed.
    given : (N,) array or None
        Base weights that the flow's own were multiplied with.
    """

    rewards: FloatArray
    differences: FloatArray
    base: FloatArray
    episode: np.ndarray
    gamma: float
    on_done: str
    starts: str
    absorbs: bool
    terminal_shares: FloatArray
    given: FloatArray | None = None

    def by_episode(self, values: FloatArray) -> FloatArray:
        """Sums of ``values`` (M,) over each episode (E,), the absorbed row shared out to those that ended in it."""
        n, n_episodes = self.rewards.size - self.absorbs, self.terminal_shares.size
        own = np.bincount(self.episode[:n], values[:n], n_episodes).astype(np.float64)
        return own + self.terminal_shares * values[-1] if self.absorbs else own

    def mean(self, values: FloatArray) -> tuple[float, float]:
        """Mean of ``values`` (N,) over the base weights, zero where mass is absorbed, and its error by episodes."""
        rows = np.append(values, 0.0) if self.absorbs else values
        found = float(self.base @ rows)
        return found, spread_of_sums(self.by_episode(self.base * (rows - found)))


def sample_flow(
    batch: Batch,
    features: Any,
    gamma: float | None = None,
    on_done: str | None = None,
    starts: str | None = None,
    embedding: Any = None,
    base_weights: ArrayLike | None = None,
) -> SampleFlow:
    r"""The flow of a batch; see :meth:`SampleREPS.from_batch` for what the arguments mean.

    .. math::
        \psi_i = \gamma \phi(s'_i) - \phi(s_i) + (1 - \gamma)\,\nu, \qquad
        \nu = \begin{cases} \text{mean of } \phi(s_0) & \text{episodes} \\
        \sum_i b_i (\phi(s_i) - \gamma \phi(s'_i)) / (1 - \gamma) & \text{visited} \end{cases}

    Examples
    --------
    Two episodes that fail after one step and after two: visits count gamma^t, and the absorbing state holds the rest.

    >>> from sklearn.preprocessing import FunctionTransformer
    >>> states = [[0.0], [0.0], [1.0]]
    >>> batch = Batch(states, [0, 1, 1], [1.0, 1.0, 1.0], [[1.0], [1.0], [2.0]], terminated=[True, False, True])
    >>> flow = sample_flow(batch, FunctionTransformer(), gamma=0.5)
    >>> flow.base.round(3), flow.rewards
    (array([0.25 , 0.25 , 0.125, 0.375]), array([1., 1., 1., 0.]))
    >>> bool(abs(flow.base @ flow.differences).max() < 1e-12)
    True
    """
    gamma = batch_gamma(batch) if gamma is None else as_scalar(gamma, "gamma", low=0.0, high=1.0, low_open=True)
    on_done = done_rule(on_done, gamma)
    starts = start_rule(starts, batch, gamma)
    absorbs = on_done == "absorb" and bool(batch.terminated.any())
    base = row_weights(batch, gamma, starts, base_weights)
    psi, size = one_step(batch, features, gamma, absorbs, embedding)
    rewards, start = batch.rewards, start_features(batch, features)
    shares = np.zeros(batch.n_episodes)
    episode = np.unique(batch.episode, return_inverse=True)[1]
    if absorbs:
        ended = base * batch.terminated
        shares = np.bincount(episode, ended, shares.size) / ended.sum()
        base = np.append(base, gamma * ended.sum() / (1 - gamma))
        rewards, episode = np.append(rewards, 0.0), np.append(episode, -1)
        psi = np.vstack([psi, np.append(np.zeros(psi.shape[1] - 1), -(1 - gamma))])  # it stays, as long as all go on
        start = np.append(start, 0.0)
    base = base / base.sum()
    psi = psi - base @ psi if starts == "visited" else psi + (1 - gamma) * start
    return SampleFlow(
        rewards=read_only(rewards.copy()),
        differences=read_only(without_rounding(psi, size)),
        base=read_only(base),
        episode=read_only(episode),
        gamma=gamma,
        on_done=on_done,
        starts=starts,
        absorbs=absorbs,
        terminal_shares=read_only(shares),
        given=None if base_weights is None else read_only(np.array(base_weights, dtype=np.float64)),
    )


def done_rule(on_done: str | None, gamma: float) -> str:
    """What follows a termination, by default: absorption where the future is discounted, else a new start."""
    if on_done is None:
        return "absorb" if gamma < 1 else "restart"
    if on_done not in ON_DONE:
        raise ValueError(f"on_done must be one of {ON_DONE}, got {on_done!r}")
    if on_done == "absorb" and gamma == 1:
        raise ValueError('on_done="absorb" needs gamma < 1: all mass ends in the absorbing state, on average')
    return on_done


def start_rule(starts: str | None, batch: Batch, gamma: float) -> str:
    """Where the process begins anew, by default: where episodes do, unless all that ends them is a cut.

    Terminations and random restarts make a batch the flow of its own start states. Where a limit alone ends episodes,
    what follows it is missing from that flow, and the states visited are told to be where it begins; so they are for
    average rewards, which know no start.
    """
    if starts is None:
        ends = batch.terminated.any() or batch.restarted.any()
        return "episodes" if ends and gamma < 1 else "visited"
    if starts not in STARTS:
        raise ValueError(f"starts must be one of {STARTS}, got {starts!r}")
    return starts


def batch_gamma(batch: Batch) -> float:
    """Discount factor from how long a batch's episodes last: ``1 - 1/T`` for cuts every T steps, at most 0.99.

    Restarts by probability say it exactly, ``1 - p``. Episodes that end in a termination say nothing of it; where there
    are no others, it is 0.99.
    """
    if batch.restarted.any():
        return 1.0 - max(float(np.mean(batch.restarted)), VISIBLE)
    horizon = float(LONGEST_HORIZON)
    cuts = int(batch.truncated.sum())
    if cuts:
        horizon = min(horizon, len(batch) / cuts)
    return 1.0 - 1.0 / max(horizon, 2.0)


def given_weights(base_weights: ArrayLike | None, n: int) -> FloatArray:
    """Validated base weights (n,) of any sum, even by default."""
    if base_weights is None:
        return np.ones(n)
    given = as_float_array(base_weights, "base_weights", (n,)).copy()
    check_nonnegative(given, "base_weights")
    if not given.any():
        raise ValueError("base_weights sum to zero: some sample must count")
    return given


def row_weights(batch: Batch, gamma: float, starts: str, base_weights: ArrayLike | None = None) -> FloatArray:
    r"""Base weights (N,) of a batch's transitions, of any sum.

    With ``starts="visited"`` they are even, or those given. With ``starts="episodes"`` the discounted visits are
    wanted: ``gamma^t`` at time t of an episode, divided by the chance that the recording went on so long, which random
    restarts with probability 1 - gamma make gamma^t too. Rows that do not follow each other have no time.
    """
    given = given_weights(base_weights, len(batch))
    if starts == "visited" or not are_chained(batch):
        return given
    return given * (gamma / recording_rate(batch, gamma)) ** batch.time


def recording_rate(batch: Batch, gamma: float) -> float:
    """Chance that a step is not the last recorded: one for a time limit, ``gamma`` for random cuts about so often."""
    if batch.restarted.any():
        lengths = batch.time[batch.restarted] + 1
    else:
        lengths = batch.time[batch.truncated] + 1
        if lengths.size < 3 or np.median(lengths) == lengths.max():  # a limit: most cuts come at the same time
            return 1.0
    rate = 1.0 - lengths.size / len(batch)
    noise = 2 * (1.0 - rate) / np.sqrt(lengths.size)
    return gamma if abs(rate - gamma) <= noise else rate


def spread_of_sums(sums: FloatArray) -> float:
    """Standard error of the total of what episodes (E,) bring beside their mean; NaN where there is but one to say."""
    n = sums.size
    return float(np.linalg.norm(sums)) * math.sqrt(n / (n - 1)) if n > 1 else math.nan


def are_chained(batch: Batch) -> bool:
    """Whether every transition begins where the one before it in its episode ended."""
    inside = np.flatnonzero(np.diff(batch.episode) == 0)
    return bool(np.array_equal(batch.states[inside + 1], batch.next_states[inside]))
