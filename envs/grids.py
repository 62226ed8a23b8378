"""Grid worlds from a text map, built without a loop over states.

Shapes: S = height * width states in row-major order, A = 4 actions in Gymnasium's order left, down, right, up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from reps_opt.processes.mdp import MDP
from reps_opt.validation import FloatArray, as_count, as_scalar

MOVES = np.array([[0, -1], [1, 0], [0, 1], [-1, 0]])
"""(row, column) of each action: left, down, right, up, as in Gymnasium's FrozenLake."""

CELLS = {"S": "start", "F": "free", ".": "free", "G": "goal", "H": "hole", "#": "wall"}
"""What the characters of a map mean."""

ON_DONE = ("absorb", "restart")


def gridworld(
    layout: Sequence[str] | tuple[int, int] = (4, 4),
    slip: float = 0.0,
    gamma: float = 0.95,
    goal_reward: float = 1.0,
    hole_reward: float = 0.0,
    step_reward: float = 0.0,
    on_done: str = "absorb",
) -> MDP:
    """A grid world with four moves, a slippery floor, walls, holes and goals.

    A move goes in its own direction with probability ``1 - slip`` and to each side with ``slip / 2``; ``slip=2/3`` is
    Gymnasium's slippery FrozenLake. A move against a wall or off the map stays where it is.

    Parameters
    ----------
    layout
        Map of equal-length strings, one character a cell: ``S`` start, ``F`` or ``.`` free, ``G`` goal, ``H`` hole,
        ``#`` wall. Or ``(height, width)``: an open floor with the goal in the last cell. Episodes start in the ``S``
        cells with equal probability; on a map without any, in the free cells.
    slip
        Probability in [0, 1] of going sideways.
    gamma
        Discount factor in (0, 1]; 1 means average reward.
    goal_reward, hole_reward, step_reward
        Reward of entering a goal, of entering a hole, and of every other move.
    on_done
        What follows entering a goal or a hole: ``"absorb"`` stays there for ever with reward zero, ``"restart"`` goes
        back to a start cell in the same move, as average reward needs.

    Returns
    -------
    MDP
        With ``layout`` set to the map. Wall cells are states that nothing reaches.

    Raises
    ------
    TypeError, ValueError
        If the map has an unknown character (its place is given), rows of different length or no cell to start from,
        or another argument is outside its range.

    Examples
    --------
    >>> mdp = gridworld(["S.H", "..G"], slip=0.2, gamma=0.9)
    >>> mdp.n_states, mdp.n_actions, mdp.layout
    (6, 4, ('S.H', '..G'))
    >>> mdp.solve_optimal().policy.argmax(axis=1)[[0, 3, 4]]  # down, right, right
    array([1, 2, 2])
    """
    slip = as_scalar(slip, "slip", low=0.0, high=1.0)
    if on_done not in ON_DONE:
        raise ValueError(f"on_done must be one of {ON_DONE}, got {on_done!r}")
    rows = _as_map(layout)
    cells = np.array([list(row) for row in rows])
    kind = cells.ravel()
    mu0 = _start(kind)
    target = _targets(cells != "#")
    P = _transitions(target, slip)
    ends = (kind == "G") | (kind == "H")
    entering = np.full(kind.size, as_scalar(step_reward, "step_reward"))
    entering[kind == "G"] = as_scalar(goal_reward, "goal_reward")
    entering[kind == "H"] = as_scalar(hole_reward, "hole_reward")
    r = (P @ entering).reshape(-1, len(MOVES))
    r[ends] = 0.0
    P = _absorb(P, ends) if on_done == "absorb" else _restart(P, ends, mu0)
    return MDP(P, r, gamma=gamma, mu0=mu0, layout=rows)


def _as_map(layout: Sequence[str] | tuple[int, int]) -> tuple[str, ...]:
    if isinstance(layout, str) or not isinstance(layout, Sequence) or len(layout) == 0:
        raise TypeError(f"layout must be a list of strings or (height, width), got {layout!r}")
    if not isinstance(layout[0], str):
        if len(layout) != 2:
            raise ValueError(f"layout must be (height, width) or a list of strings, got {layout!r}")
        height, width = as_count(layout[0], "layout[0]"), as_count(layout[1], "layout[1]")
        return ("F" * width,) * (height - 1) + ("F" * (width - 1) + "G",)
    rows = tuple(str(row) for row in layout)
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ValueError(f"layout[{i}] has {len(row)} cells, layout[0] has {len(rows[0])}: rows must be equal")
        for j, cell in enumerate(row):
            if cell not in CELLS:
                known = ", ".join(f"{c} {meaning}" for c, meaning in CELLS.items())
                raise ValueError(f"layout[{i}][{j}] is {cell!r}: cells are {known}")
    return rows


def _start(kind: NDArray[np.str_]) -> FloatArray:
    start = kind == "S"
    if not start.any():
        start = (kind == "F") | (kind == ".")
    if not start.any():
        raise ValueError("layout must have a start cell S or a free cell to start from")
    return start / start.sum()


def _targets(open_floor: NDArray[np.bool_]) -> NDArray[np.int64]:
    """State (S, 4) that each move leads to from each cell, walls and the map's edge taken into account."""
    height, width = open_floor.shape
    row, column = np.divmod(np.arange(height * width), width)
    to_row = np.clip(row[:, None] + MOVES[:, 0], 0, height - 1)
    to_column = np.clip(column[:, None] + MOVES[:, 1], 0, width - 1)
    here = np.arange(height * width)[:, None]
    return np.where(open_floor[to_row, to_column], to_row * width + to_column, here)


def _transitions(target: NDArray[np.int64], slip: float) -> sp.csr_array:
    """Rows (S*4, S): action a goes to ``target[:, a]``, and slips to the two neighbouring directions."""
    turned = (np.arange(4)[:, None] + np.array([0, -1, 1])) % 4
    outcome = target[:, turned].reshape(-1, 3)
    probability = np.broadcast_to([1.0 - slip, slip / 2, slip / 2], outcome.shape)
    indptr = np.arange(0, outcome.size + 1, 3)
    P = sp.csr_array((probability.ravel(), outcome.ravel(), indptr), shape=(len(outcome), len(target)))
    P.sum_duplicates()
    return P


def _absorb(P: sp.csr_array, ends: NDArray[np.bool_]) -> sp.csr_array:
    """Replace the rows of the end states by self-loops."""
    end_rows = np.repeat(ends, len(MOVES))
    stay = sp.csr_array(
        (np.ones(end_rows.sum()), (np.flatnonzero(end_rows), np.flatnonzero(end_rows) // len(MOVES))), shape=P.shape
    )
    return sp.diags_array((~end_rows).astype(float), format="csr") @ P + stay


def _restart(P: sp.csr_array, ends: NDArray[np.bool_], mu0: FloatArray) -> sp.csr_array:
    """Send what would enter an end state to the start distribution; end states themselves restart too."""
    end_rows = np.repeat(ends, len(MOVES))
    ending = np.where(end_rows, 1.0, P @ ends.astype(float))
    keep_row = sp.diags_array((~end_rows).astype(float), format="csr")
    keep_column = sp.diags_array((~ends).astype(float), format="csr")
    return keep_row @ P @ keep_column + sp.csr_array(ending[:, None]) @ sp.csr_array(mu0[None, :])
