"""MDPs on a map: where actions go, which cells end, and a map in text.

Shapes: S states, A actions; a layout is rows of equal-length strings, one character a state.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reps_opt.processes.graph import BoolArray
from reps_opt.processes.mdp import MDP
from reps_opt.tolerances import ROUNDING
from reps_opt.validation import FloatArray

DIRECTIONS = {(-1, 0): "←", (0, 1): "↓", (1, 0): "→", (0, -1): "↑", (0, 0): "·"}


def action_moves(mdp: MDP) -> FloatArray:
    """Where each action goes on the map: median over states of its expected displacement, (A, 2) as (x, y), rounded.

    Read off the transitions, so that any numbering of the actions will do.
    """
    assert mdp.layout is not None
    width = len(mdp.layout[0])
    index = np.arange(mdp.n_states)
    place = np.stack([index % width, index // width], axis=1).astype(float)
    ahead = (mdp.transitions @ place).reshape(mdp.n_states, mdp.n_actions, 2)
    shift = ahead - place[:, None, :]
    moving = np.abs(shift).max(axis=2) > ROUNDING
    typical = [np.median(shift[moving[:, a], a], axis=0) for a in range(mdp.n_actions) if moving[:, a].any()]
    moves = np.array(typical) if len(typical) == mdp.n_actions else np.zeros((mdp.n_actions, 2))
    largest = np.abs(moves).max(axis=1, keepdims=True)
    return np.where((np.abs(moves) == largest) & (largest > 0), np.sign(moves), 0.0)


def absorbing_states(mdp: MDP) -> BoolArray:
    """States (S,) that no action leaves."""
    P = mdp.transitions
    state = np.repeat(np.arange(mdp.n_states), np.diff(P.indptr[:: mdp.n_actions]))
    return np.bincount(state[P.indices != state], minlength=mdp.n_states) == 0


def drawn_on(mdp: MDP) -> dict[str, Any]:
    """What :func:`reps_opt.plotting.states` needs to know of an MDP beside the values."""
    where: dict[str, Any] = {"layout": mdp.layout, "labels": mdp.state_labels, "actions": mdp.action_labels}
    if mdp.layout is not None:
        where |= {"moves": action_moves(mdp), "terminal": absorbing_states(mdp)}
    return where


def text_map(solution: Any, digits: int = 3) -> str:
    """Value and most probable action of every state, for a terminal: on the map, or a line a state where there is none.

    A cell shows the map's letter and, where it can be left, an arrow and the value; ``-`` where V is undefined. A
    line shows the labels of the state and of its most probable action, that action's probability, and the value.

    Parameters
    ----------
    solution
        Of a problem on an MDP, such as :class:`~reps_opt.REPS`.
    digits
        Digits after the point.

    Examples
    --------
    >>> from reps_opt import MDP, REPS, solve, text_map
    >>> mdp = MDP([[[1.0], [1.0]]], [[0.0, 1.0]], 0.5, state_labels=["here"], action_labels=["rest", "work"])
    >>> print(text_map(solve(REPS(mdp, [[0.5, 0.5]], epsilon=0.1))))
    here  work 0.72    1.228
    """
    mdp = solution.problem.mdp
    if mdp.layout is None:
        return _text_list(solution, digits)
    arrows = [DIRECTIONS.get((int(x), int(y)), "?") for x, y in action_moves(mdp)]
    best, absorbing = solution.policy.argmax(axis=1), absorbing_states(mdp)
    cells = []
    for state, letter in enumerate("".join(mdp.layout)):
        number = f"{solution.value[state]:.{digits}f}" if np.isfinite(solution.value[state]) else "-"
        shown = " " * (digits + 5) if absorbing[state] else f"{arrows[best[state]]}{number:>{digits + 4}}"
        cells.append(f"{letter}{shown}")
    width = len(mdp.layout[0])
    return "\n".join("  ".join(cells[i : i + width]) for i in range(0, len(cells), width))


def _text_list(solution: Any, digits: int) -> str:
    mdp = solution.problem.mdp
    best = solution.policy.argmax(axis=1)
    states = [str(label) for label in mdp.state_labels or range(mdp.n_states)]
    actions = [str(label) for label in mdp.action_labels or range(mdp.n_actions)]
    wide, wider = (max(map(len, names)) for names in (states, actions))
    return "\n".join(
        f"{state:<{wide}}  {actions[a]:<{wider}} {row[a]:.2f} {'-' if np.isnan(v) else f'{v:.{digits}f}':>{digits + 5}}"
        for state, a, row, v in zip(states, best, solution.policy, solution.value, strict=True)
    )
