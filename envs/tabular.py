"""Any finite MDP as a Gymnasium environment, from the same definition.

Shapes: N walkers; states and actions are (N,) integers; the MDP has S states and A actions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

import envs
from envs.batched import BatchedEnv, BoolArray, Transition
from envs.random_mdps import LayeredMDP
from envs.raster import Canvas, paint, to_rgb
from reps_opt.processes.maps import absorbing_states
from reps_opt.processes.mdp import MDP
from reps_opt.validation import FloatArray

IntArray = NDArray[np.int64]

CELL = 24
"""Pixels along a side of a drawn cell."""

ROW = 20
"""Cells in a drawn row, where the MDP has no map."""

COLOURS = {"G": (0.6, 0.85, 0.6), "H": (0.45, 0.65, 0.9), "C": (0.45, 0.65, 0.9), "#": (0.35, 0.35, 0.35)}
"""Goal, hole, cliff and wall; every other cell is white."""


class TabularEnv(BatchedEnv):
    """Walk through a finite MDP.

    The reward is the MDP's r(s, a). Entering a state that every action keeps for ever with reward zero, such as a goal
    or a hole, ends the episode (not with average reward, ``gamma = 1``, where staying there is what counts).

    Parameters
    ----------
    mdp
        The MDP to step.
    reset_probability
        Probability that an episode is cut after a step; ``1 - mdp.gamma`` makes the visits those of the discounted
        occupancy. Default 0.
    horizon, render_mode
        As for :class:`~envs.BatchedEnv`.

    Raises
    ------
    TypeError, ValueError
        If ``mdp`` is not an MDP, or another argument is outside its range; in a step, for an action that the state
        does not have.

    Examples
    --------
    >>> import envs
    >>> env = TabularEnv(envs.single_chain())
    >>> env.reset(seed=0)
    (np.int64(0), {})
    >>> env.step(0)
    (np.int64(1), 0.0, False, False, {})
    >>> env.step(1)
    (np.int64(0), 2.0, False, False, {})
    """

    def __init__(
        self,
        mdp: MDP,
        *,
        reset_probability: float = 0.0,
        horizon: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if not isinstance(mdp, MDP):
            raise TypeError(f"mdp must be a reps_opt.MDP, got {type(mdp).__name__}")
        super().__init__(gamma=mdp.gamma, horizon=horizon, reset_probability=reset_probability, render_mode=render_mode)
        self.mdp = mdp
        self.observation_space = spaces.Discrete(mdp.n_states)
        self.action_space = spaces.Discrete(mdp.n_actions)
        self._start_cdf = np.cumsum(mdp.mu0)
        P = mdp.transitions
        before = np.concatenate([[0.0], np.cumsum(P.data)])
        self._row_cdf = before[1:] - np.repeat(before[P.indptr[:-1]], np.diff(P.indptr))
        self._terminal = _terminal_states(mdp) if mdp.gamma < 1 else np.zeros(mdp.n_states, dtype=bool)

    def sample_starts(self, n: int, rng: np.random.Generator) -> IntArray:
        """Draw n start states (n,) from ``mdp.mu0``."""
        last = int(np.flatnonzero(self.mdp.mu0)[-1])
        return np.minimum(np.searchsorted(self._start_cdf, rng.random(n), side="right"), last).astype(np.int64)

    def _advance(self, states: IntArray, actions: IntArray, rng: np.random.Generator) -> Transition:
        P = self.mdp.transitions
        barred = ~self.mdp.allowed[states, actions]
        if barred.any():
            worst = int(np.argmax(barred))
            raise ValueError(
                f"actions[{worst}] is {actions[worst]}: state {states[worst]} does not have it (see mdp.allowed)"
            )
        row = states * self.mdp.n_actions + actions
        entry = _bisect(self._row_cdf, P.indptr[row], P.indptr[row + 1] - 1, rng.random(len(states)))
        next_states = P.indices[entry].astype(np.int64)
        return Transition(next_states, self.mdp.rewards[states, actions], self._terminal[next_states])

    def _as_actions(self, actions: ArrayLike, n: int) -> IntArray:
        return _as_indices(actions, "actions", n, self.mdp.n_actions)

    def _as_state(self, state: ArrayLike) -> NDArray[Any]:
        return _as_indices(np.asarray(state)[None], 'options["state"]', 1, self.mdp.n_states)[0]

    def draw(self, state: NDArray[Any]) -> NDArray[np.uint8]:
        """Draw the map as an RGB image, the walker in black; states without a map fill rows of twenty."""
        rows = self.mdp.layout or _rows(self.mdp.n_states)
        colour = np.array([[COLOURS.get(cell, (1.0, 1.0, 1.0)) for cell in row] for row in rows])
        picture = colour.repeat(CELL, axis=0).repeat(CELL, axis=1)
        picture[::CELL], picture[:, ::CELL] = 0.8, 0.8
        i, j = np.divmod(int(state), len(rows[0]))
        place = (slice(i * CELL, (i + 1) * CELL), slice(j * CELL, (j + 1) * CELL))
        picture[place] = paint(picture[place], Canvas(CELL, -1.0, 1.0).disc([0.0, 0.0], 0.6), (0.0, 0.0, 0.0))
        return to_rgb(picture)


def make_tabular(
    task: str,
    *,
    reset_probability: float = 0.0,
    horizon: int | None = None,
    render_mode: str | None = None,
    **options: Any,
) -> TabularEnv:
    """The environment of one of this package's MDPs: ``make_tabular("single_chain", gamma=0.9)``.

    Parameters
    ----------
    task
        Name of the function that builds the MDP.
    reset_probability, horizon, render_mode
        As for :class:`TabularEnv`.
    **options
        Passed to that function.
    """
    built = getattr(envs, task)(**options)
    mdp = built.mdp if isinstance(built, LayeredMDP) else built
    return TabularEnv(mdp, reset_probability=reset_probability, horizon=horizon, render_mode=render_mode)


def _rows(n_states: int) -> tuple[str, ...]:
    """A map for states that have none: rows of ``ROW`` cells, the last filled up with walls."""
    width = min(n_states, ROW)
    n_rows = -(-n_states // width)
    cells = "." * n_states + "#" * (n_rows * width - n_states)
    return tuple(cells[i * width : (i + 1) * width] for i in range(n_rows))


def _terminal_states(mdp: MDP) -> BoolArray:
    """States (S,) that every action they have keeps with certainty and reward zero."""
    return absorbing_states(mdp) & ~(mdp.allowed & (mdp.rewards != 0)).any(axis=1)


def _bisect(values: FloatArray, low: IntArray, high: IntArray, target: FloatArray) -> IntArray:
    """For each target, the first index in its own ``[low, high]`` whose value exceeds it, or ``high``."""
    low, high = low.astype(np.int64), high.astype(np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        right = (values[middle] <= target) & (low < high)
        low, high = np.where(right, middle + 1, low), np.where(right, high, np.minimum(middle, high))
    return low


def _as_indices(values: ArrayLike, name: str, n: int, bound: int) -> IntArray:
    array = np.asarray(values)
    if array.shape != (n,) or array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers of shape ({n},), got shape {array.shape}, dtype {array.dtype}")
    if n and (array.min() < 0 or array.max() >= bound):
        worst = int(np.argmax((array < 0) | (array >= bound)))
        raise ValueError(f"{name}[{worst}] is {array[worst]}: legal are 0 ... {bound - 1}")
    return array.astype(np.int64)
