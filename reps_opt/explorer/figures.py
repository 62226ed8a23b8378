"""Figures of the explorer's page: each is laid out once, and takes new numbers as the question changes.

Colours are those of :mod:`reps_opt.plotting`, which draws the same for paper.

Shapes: S states, A actions.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, Div, HoverTool
from bokeh.palettes import Cividis256
from bokeh.plotting import figure

from reps_opt import plotting
from reps_opt.processes.maps import absorbing_states, action_moves
from reps_opt.processes.mdp import MDP
from reps_opt.validation import FloatArray

SIZE: dict[str, Any] = {"width": 470, "height": 400, "tools": "reset,save"}

FOOT = 0.3
"""Share of the smallest positive eta at which zeros stand, on an axis of decades."""

ARROW = np.array([[0.0, -0.1], [0.6, -0.1], [0.6, -0.28], [1.0, 0.0], [0.6, 0.28], [0.6, 0.1], [0.0, 0.1]])
"""Outline of an arrow of length one to the right."""

Columns = Mapping[str, Sequence[Any]]

MAP = 340
"""Pixels of a map's longer side."""

BAR = 24
"""Steps of colour in the bar beside a map."""


def state_figure(mdp: MDP, title: str, *, robust: bool = False, arrows: bool = False) -> StateMap | StatePoints:
    """Where one number a state is shown: on the map, or against the state's index where there is none."""
    return StatePoints(mdp, title) if mdp.layout is None else StateMap(mdp, title, robust=robust, arrows=arrows)


class StatePoints:
    """One number a state, against its index."""

    def __init__(self, mdp: MDP, title: str) -> None:
        self.index = np.arange(mdp.n_states)
        self.points = ColumnDataSource()
        self.figure = figure(title=title, x_axis_label="state", **SIZE)
        points = self.figure.scatter("x", "number", size=6, color=plotting.COLOURS[0], source=self.points)
        self.hover = HoverTool(renderers=[points], tooltips=[])
        self.figure.add_tools(self.hover)

    def draw(self, values: FloatArray, hover: Columns, policy: FloatArray | None = None) -> None:
        """Show other numbers (S,), and what a pointer on a point reads."""
        self.points.data = {**hover, "x": self.index, "number": values}
        self.hover.tooltips = [(name.replace("_", " "), f"@{{{name}}}") for name in hover]


class StateMap:
    """One number a state on the map, with its letters: an image in text, which browsers draw in a tenth of the time
    that a canvas takes for as many words and arrows."""

    def __init__(self, mdp: MDP, title: str, *, robust: bool = False, arrows: bool = False) -> None:
        assert mdp.layout is not None
        self.title, self.robust = title, robust
        self.width, self.height = len(mdp.layout[0]), len(mdp.layout)
        self.cell = MAP / max(self.width, self.height)
        self.moves = action_moves(mdp) if arrows and mdp.n_states <= plotting.MOST_ARROWS else None
        self.ended = absorbing_states(mdp)
        index = np.arange(mdp.n_states)
        self.place = np.stack([index % self.width, index // self.width], axis=1) * self.cell
        self.letters = [html.escape(letter) for letter in "".join(mdp.layout)]
        self.numbered = mdp.n_states <= plotting.MOST_NUMBERS
        self.figure = Div(width=SIZE["width"], height=SIZE["height"], disable_math=True)

    def draw(self, values: FloatArray, hover: Columns, policy: FloatArray | None = None) -> None:
        """Show other numbers (S,), and what a pointer on a cell reads."""
        decided = np.isfinite(values) & ~self.ended
        low, high = plotting.colour_range(values[decided], self.robust)
        parts = [*self._cells(values, low, high, hover), self._hatching()]
        if self.moves is not None and policy is not None:
            parts.append(self._arrows(policy, decided))
        size = max(8, min(13, round(75 / self.width)))
        style = f"text {{ font: {size}px sans-serif }} .n {{ text-anchor: middle }} .t {{ font: bold 13px sans-serif }}"
        self.figure.text = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE["width"]}" height="{SIZE["height"] - 10}">'
            f'<style>{style}</style><text class="t" x="10" y="18">{html.escape(self.title)}</text>'
            f'<g transform="translate(10,30)">{"".join(parts)}{self._bar(low, high)}</g></svg>'
        )

    def _cells(self, values: FloatArray, low: float, high: float, hover: Columns) -> Iterator[str]:
        """A square for each state, with its letter, its number and what a pointer reads."""
        with np.errstate(invalid="ignore"):
            level = np.clip(255 * (values - low) / (high - low), 0, 255)
        numbers = plotting.short_numbers(values) if self.numbered else [""] * values.size
        bright = ~np.isfinite(values) | self.ended | (level > 0.6 * 255)
        size = self.cell
        for state, (x, y) in enumerate(self.place):
            fill = "#dcdcdc" if self.ended[state] else Cividis256[int(level[state])] if level[state] >= 0 else "#fff"
            ink = "black" if bright[state] else "white"
            read = "\n".join(f"{name.replace('_', ' ')}: {column[state]}" for name, column in hover.items())
            yield (
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="{size:.1f}" fill="{fill}">'
                f"<title>{html.escape(read)}</title></rect>"
                f'<text x="{x + 3:.1f}" y="{y + 0.26 * size:.1f}" fill="{ink}">{self.letters[state]}</text>'
                f'<text class="n" x="{x + size / 2:.1f}" y="{y + size - 3:.1f}" fill="{ink}">{numbers[state]}</text>'
            )

    def _hatching(self) -> str:
        """Strokes across the cells where the walk has ended; they let a pointer through."""
        size, lines = self.cell, []
        for x, y in self.place[self.ended]:
            for long in np.array([0.25, 0.5, 0.75]) * size:
                rest = size - long
                lines.append(f"M{x:.1f} {y + long:.1f}l{long:.1f} {-long:.1f}")
                lines.append(f"M{x + long:.1f} {y + size:.1f}l{rest:.1f} {-rest:.1f}")
        return f'<path d="{"".join(lines)}" stroke="black" opacity="0.2" fill="none" pointer-events="none"/>'

    def _arrows(self, policy: FloatArray, shown: Any) -> str:
        """An arrow for each probable action of the states shown, as long as the action is probable."""
        assert self.moves is not None
        moving = np.abs(self.moves).max(axis=1) > 0
        state, action = np.nonzero(shown[:, None] & moving & (policy > plotting.LEAST_PROBABILITY))
        ahead = 0.36 * policy[state, action, None] * self.moves[action]
        aside = 0.3 * np.stack([-self.moves[action, 1], self.moves[action, 0]], axis=1)
        outline = ARROW[None, :, :1] * ahead[:, None] + ARROW[None, :, 1:] * aside[:, None]
        points = self.place[state, None] + self.cell * (np.array([0.5, 0.46]) + outline)
        drawn = "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in arrow) + "Z" for arrow in points)
        return f'<path d="{drawn}" fill="white" stroke="black" stroke-width="0.5" pointer-events="none"/>'

    def _bar(self, low: float, high: float) -> str:
        """The scale of colours, with its ends."""
        x, step = self.cell * self.width + 12, self.cell * self.height / BAR
        colours = [Cividis256[int(level)] for level in np.linspace(255, 0, BAR)]
        parts = [
            f'<rect x="{x:.1f}" y="{k * step:.1f}" width="12" height="{step + 0.5:.1f}" fill="{colour}"/>'
            for k, colour in enumerate(colours)
        ]
        ends = ((high, 9.0), ((low + high) / 2, BAR * step / 2), (low, BAR * step))
        return "".join([*parts, *(f'<text x="{x + 16:.1f}" y="{y:.1f}">{end:.3g}</text>' for end, y in ends)])


class Weights:
    """The weights p/q, sorted, beside the line of the reference."""

    def __init__(self) -> None:
        self.source = ColumnDataSource({"rank": [], "weight": [], "pair": []})
        tooltips = [("pair", "@pair"), ("p/q", "@weight")]
        self.figure = figure(title="weights p/q, sorted", x_axis_label="state-action pair", tooltips=tooltips, **SIZE)
        self.figure.step("rank", "weight", mode="center", color=plotting.COLOURS[0], source=self.source)
        self.figure.scatter("rank", "weight", size=4, color=plotting.COLOURS[0], source=self.source)
        self.figure.hspan(y=[1.0], line_color="gray")
        self.figure.y_range.start = 0.0

    def draw(self, reference: FloatArray, occupancy: FloatArray) -> None:
        """Show the ratios of the pairs that the reference holds."""
        state, action = np.nonzero(reference > 0)
        ratio = occupancy[state, action] / reference[state, action]
        order = np.argsort(-np.nan_to_num(ratio), kind="stable")
        pairs = [f"state {s}, action {a}" for s, a in zip(state[order], action[order], strict=True)]
        self.source.data = {"rank": np.arange(order.size), "weight": ratio[order], "pair": pairs}


class Etas:
    """Eta against epsilon over decades; zeros stand at the foot, as crosses."""

    def __init__(self) -> None:
        self.curve, self.zeros = (ColumnDataSource({"epsilon": [], "eta": []}) for _ in range(2))
        self.here = ColumnDataSource({"epsilon": [], "eta": []})
        self.foot = 1.0
        self.now = (1.0, np.nan)
        labels: dict[str, Any] = {"x_axis_label": "epsilon, nats", "y_axis_label": "eta: reward a nat"}
        labels |= {"x_axis_type": "log", "y_axis_type": "log", "title": "eta against epsilon (x: eta is zero)"}
        self.figure = figure(**labels, **SIZE)
        self.figure.line("epsilon", "eta", color=plotting.COLOURS[0], source=self.curve)
        self.figure.scatter("epsilon", "eta", size=5, color=plotting.COLOURS[0], source=self.curve)
        self.figure.scatter("epsilon", "eta", size=8, marker="x", color=plotting.COLOURS[0], source=self.zeros)
        style: dict[str, Any] = {"size": 12, "fill_color": None, "line_width": 2, "line_color": plotting.COLOURS[1]}
        self.figure.scatter("epsilon", "eta", marker="square", source=self.here, **style)

    def draw(self, found: Sequence[tuple[float, float]]) -> None:
        """Show the curve as far as it is known."""
        epsilon, eta = np.reshape(found, (-1, 2)).T
        some = eta > 0
        if some.any():
            self.foot = FOOT * float(eta[some].min())
        self.curve.data = {"epsilon": epsilon[some], "eta": eta[some]}
        nothing = eta == 0
        self.zeros.data = {"epsilon": epsilon[nothing], "eta": np.full(nothing.sum(), self.foot)}
        self.point(*self.now)

    def point(self, epsilon: float, eta: float) -> None:
        """Mark the radius that is asked for."""
        self.now = epsilon, eta
        known = np.isfinite(eta)
        self.here.data = {"epsilon": [epsilon] if known else [], "eta": [max(eta, self.foot)] if known else []}
