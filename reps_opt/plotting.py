"""Views of solutions: text for a terminal, matplotlib for a figure.

Shapes: S states, A actions; maps are drawn from ``mdp.layout``, rows of equal-length strings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from reps_opt.graph import BoolArray
from reps_opt.validation import FloatArray

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

    from reps_opt.mdp import MDP
    from reps_opt.problems.horizon_solution import FiniteHorizonSolution
    from reps_opt.problems.occupancy_solution import OccupancySolution

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
    moving = np.abs(shift).max(axis=2) > 1e-12
    typical = [np.median(shift[moving[:, a], a], axis=0) for a in range(mdp.n_actions) if moving[:, a].any()]
    moves = np.array(typical) if len(typical) == mdp.n_actions else np.zeros((mdp.n_actions, 2))
    largest = np.abs(moves).max(axis=1, keepdims=True)
    return np.where((np.abs(moves) == largest) & (largest > 0), np.sign(moves), 0.0)


def _absorbing(mdp: MDP) -> BoolArray:
    """States (S,) that no action leaves."""
    index = np.arange(mdp.n_states)
    stay = mdp.transitions[np.arange(mdp.n_states * mdp.n_actions), np.repeat(index, mdp.n_actions)]
    return np.all(np.asarray(stay).reshape(mdp.rewards.shape) >= 1.0, axis=1)


def text_map(solution: OccupancySolution, digits: int = 3) -> str:
    """Value and most probable action of every state on the map, for a terminal.

    A cell shows the map's letter, an arrow (where the state can be left) and the value; ``-`` where V is undefined.
    """
    mdp = solution.problem.mdp
    if mdp.layout is None:
        raise ValueError("solution must be of an MDP with a layout to be drawn on a map")
    arrows = [DIRECTIONS.get((int(x), int(y)), "?") for x, y in action_moves(mdp)]
    best, absorbing = solution.policy.argmax(axis=1), _absorbing(mdp)
    cells = []
    for state, letter in enumerate("".join(mdp.layout)):
        value = solution.value[state]
        number = f"{value:.{digits}f}" if np.isfinite(value) else "-"
        cells.append(f"{letter}{' ' if absorbing[state] else arrows[best[state]]}{number:>{digits + 4}}")
    width = len(mdp.layout[0])
    return "\n".join("  ".join(cells[i : i + width]) for i in range(0, len(cells), width))


def plot_solution(solution: OccupancySolution) -> matplotlib.figure.Figure:
    """Value with policy, new state distribution, weights p/q and duals, in four panels."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    _draw_states(axes[0, 0], solution, solution.value, "value V(s) and new policy", arrows=True)
    _draw_states(axes[0, 1], solution, solution.state_distribution, "new state distribution")
    _draw_weights(axes[1, 0], solution)
    _draw_duals(axes[1, 1], solution)
    figure.suptitle(solution.title)
    return figure


def _draw_states(
    axis: matplotlib.axes.Axes, solution: OccupancySolution, values: FloatArray, title: str, arrows: bool = False
) -> None:
    """One number a state: on the map as a heat map, otherwise against the state index."""
    mdp = solution.problem.mdp
    axis.set_title(title)
    if mdp.layout is None:
        axis.plot(np.arange(mdp.n_states), values, ".")
        axis.set_xlabel("state")
        return
    grid = values.reshape(len(mdp.layout), -1)
    image = axis.imshow(np.ma.masked_invalid(grid), cmap="viridis")
    axis.figure.colorbar(image, ax=axis, shrink=0.8)
    axis.set_xticks([])
    axis.set_yticks([])
    if mdp.n_states <= 400:
        for state, letter in enumerate("".join(mdp.layout)):
            y, x = divmod(state, grid.shape[1])
            axis.text(x - 0.42, y - 0.28, letter, color="white", fontsize=8)
    if arrows:
        _draw_policy(axis, solution, grid.shape[1])


def _draw_policy(axis: matplotlib.axes.Axes, solution: OccupancySolution, width: int) -> None:
    """An arrow for each action of each state that can be left, as long as the action is probable."""
    mdp = solution.problem.mdp
    moves = action_moves(mdp)
    drawn = np.isfinite(solution.value) & ~_absorbing(mdp)
    state, action = np.nonzero(drawn[:, None] & (solution.policy > 0.02))
    length = 0.45 * solution.policy[state, action]
    style: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1, "color": "white", "width": 0.006}
    x, y = state % width, state // width
    axis.quiver(x, y, length * moves[action, 0], length * moves[action, 1], **style)


def _draw_weights(axis: matplotlib.axes.Axes, solution: OccupancySolution) -> None:
    reference = solution.problem.reference
    axis.set_title("weights p/q, sorted")
    if reference is None:
        axis.plot(np.sort(solution.occupancy.ravel())[::-1])
        axis.set_title("occupancy p, sorted")
        return
    used = reference > 0
    ratio = np.sort(solution.occupancy[used] / reference[used])[::-1]
    axis.step(np.arange(ratio.size), ratio, where="mid")
    axis.axhline(1.0, color="grey", linewidth=0.8)
    axis.set_xlabel("state-action pair")
    if ratio.max() > 100:
        axis.set_yscale("symlog", linthresh=1e-3)


def _draw_duals(axis: matplotlib.axes.Axes, solution: OccupancySolution) -> None:
    """The numbers: objectives, gap, eta, KL and the multiplier of the normalisation."""
    axis.axis("off")
    axis.set_title("duals and certificate")
    check = solution.certificate
    lines = [
        ("status", f"{solution.status}"),
        ("objective", f"{solution.objective:.8g}"),
        ("dual objective", f"{solution.dual_objective:.8g}"),
        ("gap", f"{check.gap:.1e}"),
        ("eta  (kl)", f"{solution.eta:.6g}"),
        ("lambda  (normalisation)", f"{solution.duals['normalisation']:.6g}"),
        ("KL reached", f"{solution.kl:.6g}"),
        ("epsilon", f"{check.epsilon:g}"),
        ("flow residual", f"{check.flow:.1e}"),
    ]
    text = "\n".join(f"{label:<26}{value}" for label, value in lines)
    axis.text(0.02, 0.95, text, family="monospace", va="top", transform=axis.transAxes)


def plot_time_indexed(solution: FiniteHorizonSolution) -> matplotlib.figure.Figure:
    """Values and new state distribution over time, and what each step's ball reached and costs."""
    import matplotlib.pyplot as plt
    from scipy.special import rel_entr

    problem = solution.problem
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    tables = {"value V_t(s)": solution.value, "new state distribution": solution.occupancy.sum(axis=2)}
    for axis, (title, table) in zip(axes, tables.items(), strict=False):
        image = axis.imshow(np.ma.masked_invalid(table).T, aspect="auto", origin="lower")
        figure.colorbar(image, ax=axis)
        axis.set(title=title, xlabel="step t", ylabel="state")
    steps = np.arange(problem.horizon)
    joint = rel_entr(solution.occupancy, problem.reference).sum(axis=(1, 2))
    axes[2].bar(steps, joint, color="C0", label="KL(p_t || q_t)")
    if np.ndim(solution.eta):
        axes[2].plot(steps, problem.epsilon_array, "k_", label="epsilon_t")
        axes[2].twinx().plot(steps, solution.eta, "C1o-")
    axes[2].set(title="divergence of each step, in nats" + ("; eta (right)" if np.ndim(solution.eta) else ""))
    axes[2].set_xlabel("step t")
    axes[2].legend(fontsize="small")
    figure.suptitle(solution.title)
    return figure
