"""Drawing on arrays: what the figures of results are made of.

Everything here takes arrays and matplotlib axes and knows nothing of problems; a result's ``panels()`` says which of
these draw it. Colours are told apart by everybody (Okabe and Ito 2008) and, by marker or hatch, in black and white.

Shapes: S states, A actions; maps are drawn from a layout, rows of equal-length strings.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours that the colour-blind tell apart."""

MARKERS = ("o", "s", "^", "D", "v", "P")
"""Markers beside the colours, for print in black and white."""

LINES = ("-", "--", ":", "-.")
"""Line styles, so that curves which coincide are both seen."""

MOST_COLOURS = len(COLOURS)
"""Actions up to which states are coloured by the most probable one."""

SMALLEST = 1e-12
"""Share of the largest value below which a logarithmic axis shows no decades: what is there counts as zero."""

MOST_POINTS = 5_000
"""Points of a scatter plot; of more, evenly spaced ones are drawn."""

MOST_NUMBERS = 100
"""Cells up to which a map has room for a number in each."""

MOST_ARROWS = 400
"""Cells up to which the arrows of a policy can be read."""

LEAST_PROBABILITY = 0.02
"""Probability of an action from which on it has an arrow."""


Panel = Callable[["matplotlib.axes.Axes"], None]
"""One axis of a figure: what draws it."""


def figure_of(panels: Sequence[Panel], title: str) -> matplotlib.figure.Figure:
    """A figure with the panels side by side, at most three in a row, under a title."""
    import matplotlib.pyplot as plt

    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = -(-len(panels) // columns)
    size = (4.6 * columns, 3.9 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for panel, axis in zip(panels, axes.flat, strict=False):
        panel(axis)
    for spare in axes.flat[len(panels) :]:
        spare.axis("off")
    figure.suptitle(textwrap.fill(title, int(10 * figure.get_figwidth())), fontsize="medium")
    figure.draw_without_rendering()  # ticks change with the first layout, and only the second leaves room for them
    return figure


def lines_of_text(axis: matplotlib.axes.Axes, rows: Sequence[tuple[str, str]]) -> None:
    """Labels and texts in two columns, broken where they are long."""
    axis.axis("off")
    axis.set_title("summary")
    width = max((len(label) for label, _ in rows), default=0) + 2
    lines = []
    for label, text in rows:
        kept = f"{text[:-2]}\u00a0s" if text.endswith(" s") else text  # a number of seconds stays beside its unit
        first, *more = textwrap.wrap(kept, 40) or [""]
        lines += [f"{label:<{width}}{first}", *(" " * width + line for line in more)]
    style: dict[str, Any] = {"family": "monospace", "fontsize": "small", "va": "top", "transform": axis.transAxes}
    axis.text(0.0, 0.98, "\n".join(lines), **style)


def states(
    axis: matplotlib.axes.Axes,
    values: FloatArray,
    title: str,
    *,
    layout: Sequence[str] | None = None,
    policy: FloatArray | None = None,
    moves: FloatArray | None = None,
    terminal: BoolArray | None = None,
    labels: Sequence[Any] | None = None,
    actions: Sequence[Any] | None = None,
    robust: bool = False,
) -> None:
    """One number a state (S,): on the map, or against the state's index, coloured by the most probable action.

    ``labels`` name the states and ``actions`` the actions, by default their indices.

    Terminal cells are hatched, and leave the colour scale to the states where a decision is taken; with ``robust`` the
    scale also ends where a single cell would swallow it.
    """
    axis.set_title(title)
    decided = np.isfinite(values) if terminal is None else np.isfinite(values) & ~terminal
    if layout is None:
        _points(axis, values, policy, labels, actions)
        return
    grid = np.reshape(values, (len(layout), -1))
    low, high = colour_range(values[decided] if decided.any() else values[np.isfinite(values)], robust)
    shown = axis.imshow(np.ma.masked_invalid(grid), cmap="cividis", vmin=low, vmax=high)
    axis.figure.colorbar(shown, ax=axis, shrink=0.8, extend="max" if robust and np.nanmax(values) > high else "neither")
    axis.set(xticks=[], yticks=[])
    _hatch(axis, terminal, grid.shape[1])
    if values.size <= MOST_NUMBERS:
        light = np.zeros(values.size, dtype=bool) if terminal is None else terminal
        _numbers(axis, np.where(light, np.nan, values), "".join(layout), (low, high), grid.shape[1])
    if policy is not None and moves is not None and values.size <= MOST_ARROWS:
        _arrows(axis, policy, moves, decided, grid.shape[1])


def colour_range(values: FloatArray, robust: bool) -> tuple[float, float]:
    """Ends of a colour scale; with ``robust`` the upper one is three times the third quartile of what is not zero."""
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if robust and (some := values[values > 0]).size:
        low, high = 0.0, min(high, 3 * float(np.quantile(some, 0.75)))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _hatch(axis: matplotlib.axes.Axes, terminal: BoolArray | None, width: int) -> None:
    from matplotlib.patches import Rectangle

    for state in np.flatnonzero(terminal) if terminal is not None else ():
        y, x = divmod(int(state), width)
        axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=True, fc="0.85", ec="0.5", hatch="///", lw=0.0))


def short_numbers(values: FloatArray) -> list[str]:
    """Two digits of each number, for a map's cells: zero for the rounding of zero, nothing for what is not finite.

    Numbers that are close beside their size have up to two digits more, so that they differ where the colours do.
    """
    known = np.isfinite(values)
    largest = float(np.abs(values[known]).max(initial=0.0))
    span = float(np.ptp(values[known])) if known.any() else 0.0
    digits = 2 + (min(2, max(0, int(np.log10(largest / span)))) if span > SMALLEST * largest else 0)
    zero = SMALLEST * largest
    shown = np.where(np.abs(values) > zero, values, 0.0)
    return [
        f"{number:.{digits}g}".replace("e-0", "e-") if finite else ""
        for number, finite in zip(shown, known, strict=True)
    ]


def _numbers(
    axis: matplotlib.axes.Axes,
    values: FloatArray,
    letters: str,
    ends: tuple[float, float],
    width: int,
) -> None:
    """The map's letter and the finite value in every cell, dark on light and light on dark, as large as fits."""
    texts = short_numbers(values)
    size = min(6.5, 370 / (width * max(1, *map(len, texts))))  # points: digits are .6 as wide as high, panels 260 wide
    for state, (letter, shown) in enumerate(zip(letters, texts, strict=True)):
        y, x = divmod(state, width)
        bright = not np.isfinite(values[state]) or values[state] > 0.6 * ends[1] + 0.4 * ends[0]
        colour = "black" if bright else "white"
        axis.text(x - 0.44, y - 0.26, letter, color=colour, fontsize=7)
        axis.text(x + 0.46, y + 0.42, shown, color=colour, fontsize=size, ha="right")


def _arrows(axis: matplotlib.axes.Axes, policy: FloatArray, moves: FloatArray, shown: BoolArray, width: int) -> None:
    """An arrow for each probable action of each state shown, as long as the action is probable."""
    state, action = np.nonzero(shown[:, None] & (policy > LEAST_PROBABILITY))
    length = 0.42 * policy[state, action]
    style: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.008, "headwidth": 3.5}
    x, y = state % width, state // width
    axis.quiver(x, y, length * moves[action, 0], length * moves[action, 1], color="white", ec="black", lw=0.4, **style)


def _points(
    axis: matplotlib.axes.Axes,
    values: FloatArray,
    policy: FloatArray | None,
    labels: Sequence[Any] | None,
    actions: Sequence[Any] | None,
) -> None:
    index = np.arange(values.size)
    axis.set_xlabel("state")
    if labels is not None and values.size <= 20:
        axis.set_xticks(index, [str(label) for label in labels], rotation=45, ha="right")
    else:
        whole_ticks(axis)
    if policy is None or policy.shape[1] > MOST_COLOURS:
        axis.plot(index, values, ".", color=COLOURS[0])
        return
    best = policy.argmax(axis=1)
    names = [f"action {action}" for action in range(policy.shape[1])] if actions is None else [*map(str, actions)]
    for action in range(policy.shape[1]):
        style: dict[str, Any] = {"color": COLOURS[action], "marker": MARKERS[action], "ls": "", "ms": 5}
        axis.plot(index[best == action], values[best == action], label=names[action], **style)
    axis.legend(fontsize="small")


def ratios(axis: matplotlib.axes.Axes, values: FloatArray, title: str, xlabel: str, *, even: bool = True) -> None:
    """Non-negative ratios, sorted; on a scale that shows zeros as zeros and has nothing below them.

    Without ``even`` there is no line at one, as for masses.
    """
    ordered = np.sort(values)[::-1]
    axis.step(np.arange(ordered.size), ordered, where="mid", color=COLOURS[0])
    if even:
        axis.axhline(1.0, color="0.5", lw=0.8)
    _from_zero(axis, values)
    axis.set(title=title, xlabel=xlabel)


def _from_zero(axis: matplotlib.axes.Axes, values: FloatArray) -> None:
    """Non-negative values on an axis that starts at zero; where they span decades, on a scale that has zero too."""
    if values.max(initial=0.0) > 100:
        axis.set_yscale("symlog", linthresh=1e-3)
    axis.set_ylim(bottom=0.0)


def whole_ticks(axis: matplotlib.axes.Axes) -> None:
    """Ticks at integers only along x, as for what is counted."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def curves(
    axis: matplotlib.axes.Axes,
    x: Any,
    columns: Mapping[str, Any],
    title: str,
    xlabel: str = "",
    *,
    logarithmic: bool = False,
    errors: Mapping[str, Any] | None = None,
) -> None:
    """Curves over one x, each with a marker of its own; on a logarithmic axis zeros stand at its foot, as zeros."""
    drawn = {name: np.asarray(values, dtype=float) for name, values in columns.items()}
    for k, (name, values) in enumerate(drawn.items()):
        style: dict[str, Any] = {"color": COLOURS[k % MOST_COLOURS], "marker": MARKERS[k % MOST_COLOURS], "ms": 3}
        style |= {"lw": 1.0, "ls": LINES[k % len(LINES)]}
        spread = None if errors is None else errors.get(name)
        if spread is None:
            axis.plot(x, values, label=name, **style)
        else:
            axis.errorbar(x, values, yerr=spread, label=name, capsize=2, **style)
    if logarithmic:
        shown = [v[np.isfinite(v) & (v > 0)] for v in drawn.values()]
        positive = [v for v in shown if v.size]
        largest = max((float(v.max()) for v in positive), default=1.0)
        least = max(min((float(v.min()) for v in positive), default=1.0), SMALLEST * largest)
        axis.set_yscale("symlog", linthresh=least)
        axis.set_ylim(0.0, 3 * min(largest, 1e300))  # with room for the legend
    if np.issubdtype(np.asarray(x).dtype, np.integer):
        whole_ticks(axis)
    axis.set(title=title, xlabel=xlabel)
    axis.legend(fontsize="small")


def bars(axis: matplotlib.axes.Axes, values: Mapping[str, float], title: str, reach: float) -> None:
    """Bars with their numbers, cut where they go far beyond ``reach``."""
    drawn = {name: value for name, value in values.items() if np.isfinite(value)}
    hatches = ("", "//", "..", "xx", "\\\\")
    for place, (name, value) in enumerate(drawn.items()):
        axis.bar(name, value, color=COLOURS[place % MOST_COLOURS], hatch=hatches[place % len(hatches)], ec="white")
        height = float(np.clip(value, -1.2 * reach, 1.1 * reach))
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # a cut bar has its number inside
        axis.text(place, height, f"{value:.3g}", ha="center", va="bottom", fontsize="small", bbox=behind)
    axis.axhline(0.0, color="black", lw=0.8)
    axis.set_ylim(-1.3 * reach, 1.3 * reach)
    axis.set_title(title)
    axis.tick_params(axis="x", labelsize="small")


def long_bars(axis: matplotlib.axes.Axes, values: Mapping[str, float], title: str, xlabel: str) -> None:
    """Horizontal bars, the first on top; what is not finite has none."""
    lengths = [value if np.isfinite(value) else 0.0 for value in values.values()]
    axis.barh([*values], lengths, color=COLOURS[0])
    axis.set(title=title, xlabel=xlabel)
    axis.invert_yaxis()


def image(axis: matplotlib.axes.Axes, table: FloatArray, title: str, xlabel: str, ylabel: str) -> None:
    """A table as colours, its first axis along x."""
    shown = axis.imshow(np.ma.masked_invalid(table).T, aspect="auto", origin="lower", cmap="cividis")
    axis.figure.colorbar(shown, ax=axis)
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)


def concentration(axis: matplotlib.axes.Axes, weights: FloatArray, ess: float) -> None:
    """How much of the weight the heaviest samples have."""
    share = np.arange(1, weights.size + 1) / weights.size
    axis.plot(share, np.cumsum(np.sort(weights)[::-1]) / weights.sum(), color=COLOURS[0])
    axis.axvline(ess / weights.size, color=COLOURS[1], ls="--", label=f"ESS {ess:.4g}")
    axis.set(title="weight of the heaviest samples", xlabel="share of the samples", ylabel="share of the weight")
    axis.legend(fontsize="small")


def scatter(axis: matplotlib.axes.Axes, x: FloatArray, y: FloatArray, title: str, xlabel: str) -> None:
    """Non-negative y against x, thinned where there are very many."""
    shown = slice(None, None, max(1, x.size // MOST_POINTS))
    axis.plot(x[shown], y[shown], ".", ms=3, alpha=0.5, color=COLOURS[0])
    axis.axhline(1.0, color="0.5", lw=0.8)
    _from_zero(axis, y)
    axis.set(title=title, xlabel=xlabel)


def profiles(axis: matplotlib.axes.Axes, vectors: Mapping[str, FloatArray], title: str, xlabel: str) -> None:
    """Vectors of one length, each over its own largest entry."""
    for k, (name, values) in enumerate(vectors.items()):
        size = float(np.abs(values).max()) or 1.0
        shown = values[:: max(1, values.size // MOST_POINTS)]
        style: dict[str, Any] = {"color": COLOURS[k], "marker": MARKERS[k], "ls": "", "ms": 3}
        axis.plot(shown / size, label=f"{name} / {size:.3g}", **style)
    axis.axhline(0.0, color="0.5", lw=0.8)
    whole_ticks(axis)
    axis.set(title=title, xlabel=xlabel)
    axis.legend(fontsize="small")
