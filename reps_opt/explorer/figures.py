"""Figures of the explorer's page: each is laid out once, and takes new numbers as the question changes.

Colours are those of :mod:`reps_opt.plotting`, which draws the same for paper.

Shapes: S states, A actions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import ColorBar, ColumnDataSource, HoverTool, LinearColorMapper
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


class StateFigure:
    """One number a state: on the map with its letters, or against the state's index."""

    def __init__(self, mdp: MDP, title: str, *, robust: bool = False, arrows: bool = False) -> None:
        self.robust = robust
        self.scale = LinearColorMapper(palette=Cividis256, nan_color="#ffffff")
        self.cells, self.arrows = ColumnDataSource(), ColumnDataSource({"x": [], "y": []})
        index = np.arange(mdp.n_states)
        if mdp.layout is None:
            self.moves = self.ended = None
            self.place = {"x": index.astype(float)}
            self.figure = figure(title=title, x_axis_label="state", **SIZE)
            colour = {"field": "number", "transform": self.scale}
            cells = self.figure.scatter("x", "number", size=6, color=colour, source=self.cells)
        else:
            width = len(mdp.layout[0])
            self.moves = action_moves(mdp) if arrows and mdp.n_states <= plotting.MOST_ARROWS else None
            self.ended = absorbing_states(mdp)
            self.place = {"x": (index % width).astype(float), "y": (index // width).astype(float)}
            self.letters = list("".join(mdp.layout))
            self.numbered = mdp.n_states <= plotting.MOST_NUMBERS
            self.figure, cells = self._map(title, width, len(mdp.layout))
        self.hover = HoverTool(renderers=[cells], tooltips=[])
        self.figure.add_tools(self.hover)

    def _map(self, title: str, width: int, height: int) -> tuple[Any, Any]:
        """Cells, hatched where the walk has ended, with letter, arrows and number."""
        ranges = {"x_range": (-0.5, width - 0.5), "y_range": (height - 0.5, -0.5)}
        plot = figure(title=title, match_aspect=True, **ranges, **SIZE)
        plot.axis.visible = plot.grid.visible = False
        colour = {"field": "number", "transform": self.scale}
        cells = plot.rect("x", "y", 1, 1, fill_color=colour, line_color=None, source=self.cells)
        ended = ColumnDataSource({axis: place[self.ended] for axis, place in self.place.items()})
        grey: dict[str, Any] = {"fill_color": "#dcdcdc", "line_color": None, "hatch_pattern": "/", "hatch_alpha": 0.25}
        plot.rect("x", "y", 1, 1, source=ended, **grey)
        plot.patches("x", "y", fill_color="white", line_color="black", line_width=0.5, source=self.arrows)
        size = f"{max(6, min(10, 56 // width))}pt"
        style: dict[str, Any] = {"text_color": "ink", "text_font_size": size, "source": self.cells}
        plot.text("x", "y", "letter", x_offset=-0.45 * 340 / width, text_baseline="bottom", **style)
        plot.text("x", "y", "shown", y_offset=0.47 * 340 / height, text_align="center", **style)
        plot.add_layout(ColorBar(color_mapper=self.scale, width=12), "right")
        return plot, cells

    def draw(self, values: FloatArray, hover: Columns, policy: FloatArray | None = None) -> None:
        """Show other numbers (S,), and what a pointer on a cell reads."""
        ended = np.zeros(values.size, dtype=bool) if self.ended is None else self.ended
        decided = np.isfinite(values) & ~ended
        low, high = plotting.colour_range(values[decided], self.robust)
        self.scale.update(low=low, high=high)
        columns: dict[str, Any] = {**self.place, **hover, "number": values}
        if self.ended is not None:
            bright = values > 0.6 * high + 0.4 * low
            columns |= {
                "letter": self.letters,
                "shown": plotting.short_numbers(values) if self.numbered else [""] * values.size,
                "ink": np.where(bright | ended | ~np.isfinite(values), "black", "white").tolist(),
            }
        self.cells.data = columns
        self.hover.tooltips = [(name.replace("_", " "), f"@{{{name}}}") for name in hover]
        if self.moves is not None and policy is not None:
            self.arrows.data = self._arrows(policy, decided)

    def _arrows(self, policy: FloatArray, shown: Any) -> dict[str, Any]:
        """Outlines of an arrow for each probable action of the states shown, as long as the action is probable."""
        assert self.moves is not None
        moving = np.abs(self.moves).max(axis=1) > 0
        state, action = np.nonzero(shown[:, None] & moving & (policy > plotting.LEAST_PROBABILITY))
        ahead = 0.4 * policy[state, action, None] * self.moves[action]
        aside = 0.3 * np.stack([-self.moves[action, 1], self.moves[action, 0]], axis=1)
        outline = ARROW[None, :, :1] * ahead[:, None] + ARROW[None, :, 1:] * aside[:, None]
        return {axis: list(self.place[axis][state, None] + outline[:, :, k]) for k, axis in enumerate("xy")}


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
