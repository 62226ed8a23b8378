"""The page of the explorer: sliders on the left, what they lead to on the right; a Bokeh application on loopback.

A change of a slider changes the question; the answer is drawn into the figures that are there, and the curve of eta
follows, a few radii at a time, so that the next change need not wait for it.

Shapes: S states, A actions.
"""

from __future__ import annotations

import html
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bokeh.document import Document
from bokeh.layouts import column, row
from bokeh.models import Button, CustomJSTickFormatter, Div, Select, Slider

from reps_opt.explorer.asking import CONDITIONAL, DIVERGENCES, RADII, Explorer, Question, start_values
from reps_opt.explorer.figures import Etas, Weights, state_figure

if TYPE_CHECKING:
    from reps_opt.problems.occupancy_solution import OccupancySolution

CURVE_SECONDS = 0.03
"""How long a piece of the curve may take before the page looks whether something else was asked."""

NO_BUDGET = "no budget"

READ_EPSILON = "return Number((10 ** tick).toPrecision(3)) + ' nats'"
READ_GAMMA = "const left = 10 ** -tick; return (1 - left).toFixed(4) + ', ' + (1 / left).toPrecision(3) + ' steps'"
READ_BUDGET = "return Math.round(100 * tick) + ' %'"


class Page:
    """One visitor's page: what is asked, and the figures that hold the answer."""

    def __init__(self, explorer: Explorer, question: Question) -> None:
        self.explorer, self.question = explorer, question
        self.waiting = False
        self.curve_of: Question | None = None
        self.curve: Iterator[tuple[float, float]] = iter(())
        self.drawn: list[tuple[float, float]] = []
        mdp = explorer.mdp(question)
        self.value = state_figure(mdp, "value V, and the new policy", arrows=True)
        self.mass = state_figure(mdp, "new state distribution", robust=True)
        self.weights = Weights()
        self.etas = Etas()
        self.summary = Div(width=300)
        self.controls = self._controls()

    def lay_out(self, document: Document) -> None:
        """Put the page into a document, and answer the first question."""
        self.document = document
        document.title = f"reps_opt: {self.explorer.name}"
        left = column(*self.controls.values(), self.summary, width=310)
        top, bottom = row(self.value.figure, self.mass.figure), row(self.weights.figure, self.etas.figure)
        document.add_root(row(left, column(top, bottom)))
        self.redraw()

    def _controls(self) -> dict[str, Any]:
        asked, explorer = self.question, self.explorer
        low, high = (math.log10(radius) for radius in RADII)
        sliders = {
            "epsilon": _slider("epsilon", low, high, 0.02, math.log10(asked.epsilon), READ_EPSILON),
            "gamma": _slider("gamma", 0.3, 4.0, 0.02, -math.log10(1 - asked.gamma), READ_GAMMA),
            "slip": _slider("slip", 0.0, 1.0, 0.01, asked.slip, "return tick.toFixed(2)"),
            "budget": _slider("budget, of what the reference costs", 0.0, 1.0, 0.01, asked.budget or 0.5, READ_BUDGET),
        }
        costs = [NO_BUDGET, *([explorer.cost_name] if explorer.has_costs else [])]
        choices = {
            "divergence": Select(title="divergence", options=[*DIVERGENCES], value=asked.divergence),
            "reference": Select(title="reference policy", options=[*explorer.references], value=asked.reference),
            "cost": Select(title="budget on", options=costs, value=costs[0 if asked.budget is None else -1]),
        }
        keep = Button(label="take the new policy as the reference")
        keep.on_click(self.keep)
        for control in (*sliders.values(), *choices.values()):
            control.width = 300
            control.on_change("value", lambda attribute, old, new: self.ask())
        order = ("epsilon", "gamma", "slip", "divergence", "reference", "keep", "cost", "budget")
        return {name: ({**sliders, **choices, "keep": keep})[name] for name in order}

    def ask(self) -> None:
        """Read the question off the controls, and answer it as soon as there is time; later changes overtake it."""
        at = {name: control.value for name, control in self.controls.items() if name != "keep"}
        self.question = Question(
            epsilon=float(f"{10 ** at['epsilon']:.3g}"),
            gamma=float(1 - float(f"{10 ** -at['gamma']:.3g}")),
            slip=at["slip"],
            budget=None if at["cost"] == NO_BUDGET else at["budget"],
            divergence=at["divergence"],
            reference=at["reference"],
        )
        if not self.waiting:
            self.waiting = True
            self.document.add_next_tick_callback(self.redraw)

    def keep(self) -> None:
        """Make the new policy the reference."""
        policy = self.explorer.answer(self.question).policy
        name = self.explorer.keep(policy)
        self.controls["reference"].options = [*self.explorer.references]
        self.controls["reference"].value = name

    def redraw(self) -> None:
        """Answer the question, and draw everything but the curve, which follows."""
        self.waiting = False
        began, asked = time.perf_counter(), self.question
        try:
            solution = self.explorer.answer(asked)
        except ValueError as error:
            self.summary.text = f"<p>{html.escape(str(error))}</p>"
            return
        self.controls["budget"].disabled = asked.budget is None or asked.divergence == CONDITIONAL
        hover = _hover(solution) if solution.has_point else {}
        self.value.draw(solution.value, hover, solution.policy)
        self.mass.draw(solution.state_distribution, hover)
        self.weights.draw(solution.problem.reference, solution.occupancy)
        self.etas.point(asked.epsilon, solution.eta if solution.has_point else math.nan)
        seconds = time.perf_counter() - began
        rows = [*solution.rows(), *start_values(solution), ("answered in", f"{1e3 * seconds:.0f} ms")]
        self.summary.text = _table(rows)
        if self.curve_of != (about := replace(asked, epsilon=1.0)):
            self.curve_of, self.curve, self.drawn = about, self.explorer.eta_curve(asked), []
            self.document.add_next_tick_callback(self.draw_curve)

    def draw_curve(self) -> None:
        """Draw some more radii of the curve, and come back for the rest after whatever else was asked."""
        until = time.perf_counter() + CURVE_SECONDS
        for found in self.curve:
            self.drawn.append(found)
            if time.perf_counter() > until:
                self.document.add_next_tick_callback(self.draw_curve)
                break
        self.etas.draw(self.drawn)


def _slider(title: str, low: float, high: float, step: float, value: float, read: str) -> Slider:
    """A slider that shows what its position stands for, said in JavaScript."""
    return Slider(title=title, start=low, end=high, step=step, value=value, format=CustomJSTickFormatter(code=read))


def _hover(solution: OccupancySolution) -> dict[str, Sequence[Any]]:
    """What a pointer on a state reads: its numbers, and its actions' as lists."""
    mdp = solution.problem.mdp
    labels = mdp.state_labels or range(mdp.n_states)
    return {
        "state": [str(label) for label in labels],
        "V": _digits(solution.value),
        "mass": _digits(solution.state_distribution),
        "policy": [", ".join(row) for row in map(_digits, solution.policy)],
        "Bellman_error": [", ".join(row) for row in map(_digits, solution.bellman_error)],
    }


def _digits(numbers: Any) -> list[str]:
    return [f"{number:.4g}" for number in numbers]


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{html.escape(label)}</th><td>{html.escape(text)}</td></tr>" for label, text in rows)
    return f"<style>th {{ text-align: left; padding-right: 1em; vertical-align: top }}</style><table>{cells}</table>"
