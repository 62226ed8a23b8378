"""What the figures of the examples share: curves of several runs with their spread, told apart in black and white."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from reps_opt.plotting import COLOURS, LINES, MARKERS, whole_ticks

MARKS = 8  # on a curve


@contextmanager
def figure_in(
    path: str, rows: int = 1, columns: int = 1, *, dpi: int = 120, legends: bool = True, **layout: Any
) -> Iterator[Any]:
    """Axes (rows, columns), or the only one; where the block ends they get legends, and the figure is written."""
    figure, axes = plt.subplots(rows, columns, layout="constrained", **layout)
    yield axes
    for axis in figure.axes if legends else ():
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize="small")
    figure.savefig(path, dpi=dpi)
    plt.close(figure)


def band(axis: Any, x: Any, centre: Any, edges: Any, label: str, k: int, *, marks: bool = False) -> None:
    """The k-th curve of an axis, in a colour and style of its own, within two edges (2, len(x))."""
    style = {"color": COLOURS[k % len(COLOURS)], "ls": LINES[k % len(LINES)]}
    if marks:
        every = max(1, len(x) // MARKS)
        hollow = {"mfc": "none"} if k >= len(MARKERS) else {}
        style |= {"marker": MARKERS[k % len(MARKERS)], "ms": 5, "markevery": (k % every, every), **hollow}
    axis.plot(x, centre, label=label, **style)
    axis.fill_between(x, *edges, alpha=0.15, color=style["color"], lw=0)


def middle(runs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Median of runs (runs, n), and the 10 % and 90 % quantiles (2, n)."""
    return np.median(runs, axis=0), np.quantile(runs, (0.1, 0.9), axis=0)


def draw_trials(axis: Any, trials: Sequence[Any], known: Mapping[str, float]) -> None:
    """The learning curves of all trials, their mean, and what is known as lines."""
    curves = np.array([t.curve for t in trials])
    axis.plot(curves.T, color="C0", alpha=0.3)
    mean = "the only trial" if len(trials) == 1 else f"mean of {len(trials)} trials"
    axis.plot(curves.mean(axis=0), color="C0", lw=2, label=mean)
    for (name, figure), style in zip(known.items(), ("--", ":", "-.", (0, (1, 4))), strict=False):
        axis.axhline(figure, color="0.4", ls=style, label=name)
    axis.set(xlabel="iteration", ylabel="reward a step", title="evaluation on fixed seeds")
    whole_ticks(axis)


@contextmanager
def beside_trials(trials: Sequence[Any], known: Mapping[str, float], path: str) -> Iterator[Any]:
    """Two more axes beside the trials' learning curves."""
    with figure_in(path, 1, 3, figsize=(15, 4.5)) as axes:
        draw_trials(axes[0], trials, known)
        yield axes[1:]


def draw_shares(shares: Mapping[tuple[str, str], np.ndarray], path: str) -> None:
    """Shares of the possible gain (seeds, updates + 1), a panel for each first key, a curve for each second."""
    titles = list(dict.fromkeys(title for title, _ in shares))
    columns = min(3, len(titles)) if len(titles) % 2 else 2
    rows = -(-len(titles) // columns)
    layout = {"figsize": (4 * columns, 2.8 * rows), "sharex": True, "sharey": True, "squeeze": False}
    with figure_in(path, rows, columns, dpi=110, legends=False, **layout) as axes:
        for (title, label), share in shares.items():
            axis = axes.flat[titles.index(title)]
            band(axis, range(share.shape[1]), *middle(share), label, len(axis.lines))
            axis.set_title(title, fontsize="medium")
            whole_ticks(axis)
        axes[0, 0].legend(fontsize="small")
        figure = axes[0, 0].figure
        figure.supxlabel("updates", fontsize="medium")
        spread = " (median, 10-90 %)" if max(map(len, shares.values())) > 1 else ""
        figure.supylabel(f"share of the possible gain{spread}", fontsize="medium")


def draw_shortfalls(
    runs: Mapping[str, np.ndarray], best: float, path: str, xlabel: str, *, first: int = 0, least: float = 1e-4
) -> None:
    """How far returns (runs, n) stay short of the best one, but by ``least``, from update number ``first`` on."""
    with figure_in(path, figsize=(7, 4.5)) as axis:
        for k, (label, curves) in enumerate(runs.items()):
            updates = np.arange(first, first + curves.shape[1])
            band(axis, updates, *middle(np.maximum(best - curves, least)), label, k)
        axis.set(xlabel=xlabel, ylabel="return short of the best (median, 10-90 %)", yscale="log")
        whole_ticks(axis)


def walks(env: Any, policy: Any, n_walks: int, n_steps: int) -> np.ndarray:
    """Places (n_steps + 1, n_walks, d) along roll-outs of the mean action that nothing cuts, from one seed."""
    rng = np.random.default_rng(0)
    places = [env.sample_starts(n_walks, rng)]
    for _ in range(n_steps):
        places.append(env.step_batch(places[-1], policy.predict(env.observe(places[-1])), rng).next_states)
    return np.array(places)


def draw_promises(histories, path):
    """Promised and reached gain of every update, summed over the run, and refuted updates marked; a panel a task.

    The band is the standard error of the sum of promises, their errors taken as independent.
    """
    columns = min(5, len(histories))
    rows = -(-len(histories) // columns)
    layout = {"figsize": (3.4 * columns, 2.8 * rows + 0.3), "squeeze": False}
    with figure_in(path, rows, columns, legends=False, **layout) as axes:
        for axis, (task, runs) in zip(axes.flat, histories.items(), strict=False):
            for i, history in enumerate(runs):
                _draw_sums(axis, history.to_frame(), labelled=i == 0)
            axis.set_title(task, fontsize="medium")
        for axis in axes.flat[len(histories) :]:
            axis.remove()
        axes[0, 0].legend(fontsize="small")
        figure = axes[0, 0].figure
        figure.supxlabel("thousand steps", fontsize="medium")
        figure.supylabel("sum of gains, reward a step", fontsize="medium")


def _draw_sums(axis, table, *, labelled):
    """The curves of a run: promised, reached, and where the run said that its promises are refuted."""
    at, said = table["steps"] / 1000, table["refuted"] >= 3  # in a row: from there the run says so
    known = table[["predicted_gain", "gain"]].notna().all(axis=1)
    sums = table[["predicted_gain", "gain"]].where(known, 0.0).cumsum()
    spread = np.sqrt((table["predicted_gain_error"].where(known, 0.0) ** 2).cumsum())
    promised = sums["predicted_gain"]
    axis.fill_between(at, promised - spread, promised + spread, color="C1", alpha=0.2, lw=0)
    for name, style, label in (("predicted_gain", "C1--", "promised"), ("gain", "C0-", "reached")):
        axis.plot(at, sums[name], style, lw=1.2, alpha=0.9, label=label if labelled else None)
    axis.plot(at[said], sums["gain"][said], "k.", ms=4, label="run says: refuted" if labelled else None)
