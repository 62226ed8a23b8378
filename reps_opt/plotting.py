"""Views of results: text for a terminal, matplotlib for a figure.

:func:`draw` is what ``result.plot()`` calls; a new kind of result registers its drawing here.

Shapes: S states, A actions, N samples, T steps or episodes; maps are drawn from ``mdp.layout``, rows of equal-length
strings.
"""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np

from reps_opt.exact_iteration import Iteration
from reps_opt.history import History
from reps_opt.learning.updates import PolicyUpdate
from reps_opt.policy_comparison import PolicyComparison
from reps_opt.problems.adversarial import OnlineRun
from reps_opt.problems.horizon_solution import FiniteHorizonSolution
from reps_opt.problems.occupancy_solution import OccupancySolution
from reps_opt.problems.policy_solution import PolicySolution
from reps_opt.problems.sample_solution import SampleSolution
from reps_opt.problems.step_solution import StepSolution
from reps_opt.processes.graph import BoolArray
from reps_opt.processes.mdp import MDP
from reps_opt.result import Result
from reps_opt.validation import FloatArray

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

MOST_COLOURS = 6
"""Actions up to which states are coloured by the most probable one."""

MOST_POINTS = 5_000
"""Points of a scatter plot; of more, evenly spaced ones are drawn."""

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


@singledispatch
def draw(result: Result) -> matplotlib.figure.Figure:
    """Draw a result of any kind; its summary alone where the kind has no drawing of its own, or there is no point."""
    figure, axes = _panels(1, width=6.0)
    _draw_summary(axes[0], result)
    _entitle(figure, result.title)
    return figure


def _entitle(figure: matplotlib.figure.Figure, title: str) -> None:
    """The title above all panels, broken to the figure's width."""
    import textwrap

    figure.suptitle(textwrap.fill(title, int(10 * figure.get_figwidth())), fontsize="medium")


def _panels(n: int, width: float = 4.2, height: float = 3.8, per_row: int = 6) -> tuple[matplotlib.figure.Figure, Any]:
    """A figure with n panels, side by side, in rows of at most so many."""
    import matplotlib.pyplot as plt

    columns = min(n, per_row)
    rows = -(-n // columns)
    size = (width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for spare in axes.flat[n:]:
        spare.axis("off")
    return figure, axes.ravel()[:n]


@draw.register(OccupancySolution)
def plot_solution(solution: OccupancySolution) -> matplotlib.figure.Figure:
    """Value with policy, new state distribution, weights p/q and duals, in four panels."""
    if not solution.has_point:
        return draw.dispatch(Result)(solution)
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    mdp = solution.problem.mdp
    _draw_states(axes[0, 0], mdp, solution.value, "value V(s) and new policy", solution.policy)
    _draw_states(axes[0, 1], mdp, solution.state_distribution, "new state distribution")
    _draw_weights(axes[1, 0], solution)
    _draw_summary(axes[1, 1], solution)
    _entitle(figure, solution.title)
    return figure


def _draw_states(
    axis: matplotlib.axes.Axes, mdp: MDP, values: FloatArray, title: str, policy: FloatArray | None = None
) -> None:
    """One number a state: on the map as a heat map with the policy's arrows, otherwise against the index, by action."""
    axis.set_title(title)
    if mdp.layout is None:
        _draw_points(axis, values, policy)
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
    if policy is not None:
        _draw_policy(axis, mdp, policy, np.isfinite(values))


def _draw_points(axis: matplotlib.axes.Axes, values: FloatArray, policy: FloatArray | None) -> None:
    """Values (S,) against the state's index, coloured by the policy's most probable action where there are few."""
    states = np.arange(values.size)
    axis.set_xlabel("state")
    if policy is None or policy.shape[1] > MOST_COLOURS:
        axis.plot(states, values, ".")
        return
    best = policy.argmax(axis=1)
    for action in range(policy.shape[1]):
        axis.plot(states[best == action], values[best == action], ".", label=f"action {action}")
    axis.legend(fontsize="small")


def _draw_policy(axis: matplotlib.axes.Axes, mdp: MDP, policy: FloatArray, known: BoolArray) -> None:
    """An arrow for each action of each known state (S,) that can be left, as long as the action is probable."""
    assert mdp.layout is not None
    moves, width = action_moves(mdp), len(mdp.layout[0])
    drawn = known & ~_absorbing(mdp)
    state, action = np.nonzero(drawn[:, None] & (policy > 0.02))
    length = 0.45 * policy[state, action]
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


def _draw_summary(axis: matplotlib.axes.Axes, result: Result) -> None:
    """The lines of the summary, broken where they are long."""
    import textwrap

    axis.axis("off")
    axis.set_title("summary")
    rows = result.rows()
    width = max((len(label) for label, _ in rows), default=0) + 2
    lines = []
    for label, text in rows:
        first, *more = textwrap.wrap(text, 40) or [""]
        lines += [f"{label:<{width}}{first}", *(" " * width + line for line in more)]
    axis.text(
        0.0,
        0.98,
        "\n".join(lines),
        family="monospace",
        fontsize="small",
        va="top",
        transform=axis.transAxes,
        wrap=False,
    )


@draw.register(FiniteHorizonSolution)
def plot_time_indexed(solution: FiniteHorizonSolution) -> matplotlib.figure.Figure:
    """Values and new state distribution over time, and what each step's ball reached and costs."""
    if not solution.has_point:
        return draw.dispatch(Result)(solution)
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
    _entitle(figure, solution.title)
    return figure


@draw.register(SampleSolution)
def plot_samples(solution: SampleSolution) -> matplotlib.figure.Figure:
    """How far the weights concentrate, which rewards they prefer, and the numbers."""
    if not solution.has_point:
        return draw.dispatch(Result)(solution)
    figure, axes = _panels(3)
    weights, rewards = solution.weights("mean"), np.asarray(solution.problem.rewards)
    share = np.arange(1, weights.size + 1) / weights.size
    axes[0].plot(share, np.cumsum(np.sort(weights)[::-1]) / weights.size)
    axes[0].axvline(solution.ess / weights.size, color="C1", linestyle="--", label=f"ESS {solution.ess:.4g}")
    axes[0].set(title="weight of the heaviest samples", xlabel="share of the samples", ylabel="share of the weight")
    axes[0].legend(fontsize="small")
    shown = _thinned(weights.size)
    axes[1].plot(rewards[shown], weights[shown], ".", markersize=3, alpha=0.5)
    axes[1].axhline(1.0, color="grey", linewidth=0.8)
    axes[1].set(title="weights, mean one", xlabel="reward")
    if weights.max() > 100:
        axes[1].set_yscale("symlog", linthresh=1e-3)
    _draw_summary(axes[2], solution)
    _entitle(figure, solution.title)
    return figure


def _thinned(n: int) -> slice:
    return slice(None, None, max(1, n // MOST_POINTS))


@draw.register(StepSolution)
def plot_step(solution: StepSolution) -> matplotlib.figure.Figure:
    """The step's entries beside the gradient's, and the numbers."""
    figure, axes = _panels(2)
    problem = solution.problem
    for values, label, style in ((solution.step, "step", "o"), (problem.gradient, "gradient", "x")):
        size = float(np.abs(values).max()) or 1.0
        axes[0].plot(values[_thinned(values.size)] / size, style, markersize=3, label=f"{label} / {size:.3g}")
    axes[0].set(title="step and gradient, each over its largest entry", xlabel="parameter")
    axes[0].axhline(0.0, color="grey", linewidth=0.8)
    axes[0].legend(fontsize="small")
    _draw_summary(axes[1], solution)
    _entitle(figure, solution.title)
    return figure


@draw.register(PolicyUpdate)
def plot_update(update: PolicyUpdate) -> matplotlib.figure.Figure:
    """The trust-region step behind an update, under what became of it."""
    if update.solution is None:
        return draw.dispatch(Result)(update)
    figure = plot_step(update.solution)
    _entitle(figure, f"{update.title}: {update.rows()[0][1]}")
    return figure


@draw.register(PolicySolution)
def plot_policy_step(solution: PolicySolution) -> matplotlib.figure.Figure:
    """Advantages with the new policy, where its states move to, what its model left out, and the numbers."""
    if not solution.has_point:
        return draw.dispatch(Result)(solution)
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    mdp = solution.problem.mdp
    _draw_states(axes[0, 0], mdp, solution.value, "value of the old policy, new policy", solution.policy)
    moved = solution.occupancy.sum(axis=1) - solution.problem.state_distribution
    _draw_states(axes[0, 1], mdp, moved, "change of the state distribution")
    _draw_gains(axes[1, 0], solution.comparison)
    _draw_summary(axes[1, 1], solution)
    _entitle(figure, solution.title)
    return figure


def _draw_gains(axis: matplotlib.axes.Axes, compared: PolicyComparison) -> None:
    """Bars: the gain, what the surrogate promised and what the bounds guaranteed, where they are finite."""
    bars = {
        "gain": compared.gain,
        "surrogate": compared.surrogate,
        "TRPO\nbound": compared.trpo_bound,
        "CPO\nbound": compared.cpo_bound,
    }
    drawn = {name: value for name, value in bars.items() if np.isfinite(value)}
    axis.bar(list(drawn), list(drawn.values()), color=["C2", "C0", "C7", "C7"][: len(drawn)])
    axis.axhline(0.0, color="black", linewidth=0.8)
    reach = max(abs(compared.gain), abs(compared.surrogate)) or 1.0
    axis.set_ylim(-1.3 * reach, 1.3 * reach)  # the bounds are often below: their numbers tell
    for place, value in enumerate(drawn.values()):
        height = np.clip(value, -1.2 * reach, 1.1 * reach)
        axis.text(place, height, f"{value:.3g}", ha="center", va="bottom", fontsize="small")
    axis.set_title("gain in mean reward")
    axis.tick_params(axis="x", labelsize="small")


@draw.register(PolicyComparison)
def plot_comparison(compared: PolicyComparison) -> matplotlib.figure.Figure:
    """Gain beside its promises, and the divergences, in nats."""
    figure, axes = _panels(3)
    _draw_gains(axes[0], compared)
    names = ("joint_kl", "state_kl", "conditional_kl", "kl_new_old", "kl_old_new", "max_kl")
    values = [getattr(compared, name) for name in names]
    axes[1].barh(names, [value if np.isfinite(value) else 0.0 for value in values])
    axes[1].set(title="divergences", xlabel="nats")
    axes[1].invert_yaxis()
    _draw_summary(axes[2], compared)
    _entitle(figure, compared.title)
    return figure


@draw.register(Iteration)
def plot_iteration(step: Iteration) -> matplotlib.figure.Figure:
    """The comparison of one update."""
    figure = plot_comparison(step.comparison)
    _entitle(figure, step.title)
    return figure


HISTORY_PANELS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("gain of each update", ("predicted", "gain"), "linear"),
    ("divergence, in nats", ("joint_kl", "state_kl", "conditional_kl", "kl_predicted", "kl"), "log"),
    ("eta", ("eta",), "log"),
    ("effective sample size", ("ess",), "linear"),
    ("gap of the certificate", ("gap",), "log"),
)
"""Title, columns and scale of the panels of a history; a panel without any of its columns is left out."""


@draw.register(History)
def plot_history(history: History) -> matplotlib.figure.Figure:
    """Returns, gains promised and got, divergences, eta and effective sample size against the updates."""
    table = history.to_frame()
    known = {name for name in table.columns if table[name].dtype.kind == "f" and table[name].notna().any()}
    panels = [(title, [n for n in names if n in known], scale) for title, names, scale in HISTORY_PANELS]
    panels = [panel for panel in panels if panel[1]]
    figure, axes = _panels(1 + len(panels), per_row=3)
    axes[0].plot(np.arange(len(history) + 1), history.returns if history else [np.nan], ".-")
    axes[0].set(title="return", xlabel="updates")
    for axis, (title, names, scale) in zip(axes[1:], panels, strict=True):
        for name in names:
            column = table[name].clip(lower=1e-16) if scale == "log" else table[name]
            axis.plot(table.index, column, "x--" if "predicted" in name else ".-", label=name)
        axis.set(title=title, xlabel="update", yscale=scale)
        axis.legend(fontsize="small")
    _entitle(figure, history.title)
    return figure


@draw.register(OnlineRun)
def plot_online_run(run: OnlineRun) -> matplotlib.figure.Figure:
    """Regret beside what is proven of it, and the loss an episode beside the best fixed policy's."""
    figure, axes = _panels(2)
    episodes = np.arange(1, run.n_episodes + 1)
    axes[0].plot(episodes, run.cumulative_regret, label="regret")
    axes[0].plot(run.n_episodes, run.bound, "v", color="C3", label="bound after all episodes")
    axes[0].set(title="regret against the best fixed policy", xlabel="episode")
    axes[1].plot(episodes, np.cumsum(run.expected_losses) / episodes, label="mean expected loss so far")
    axes[1].axhline(run.best_loss / run.n_episodes, color="C2", linestyle="--", label="best fixed policy")
    axes[1].set(title="loss an episode", xlabel="episode")
    for axis in axes:
        axis.legend(fontsize="small")
    _entitle(figure, run.title)
    return figure
