"""What the page draws, and how long the server takes to draw it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("bokeh")
from bokeh.document import Document

import envs
from reps_opt import MDP
from reps_opt.explorer.asking import CONDITIONAL, DIVERGENCES, Explorer, Question
from reps_opt.explorer.figures import StateMap, state_figure
from reps_opt.explorer.page import Page

SVG = "{http://www.w3.org/2000/svg}"


def drawn(mdp: MDP, values: np.ndarray) -> ElementTree.Element:
    shown = state_figure(mdp, "V & policy", arrows=True)
    assert isinstance(shown, StateMap)
    shown.draw(values, {"state": [f"<{s}>" for s in range(mdp.n_states)]}, mdp.uniform_policy())
    return ElementTree.fromstring(shown.figure.text)


def test_a_map_has_a_letter_a_number_and_a_tip_in_every_cell() -> None:
    mdp = MDP.from_gymnasium("FrozenLake-v1")
    values = np.append(np.linspace(0, 1, 15), np.nan)
    svg = drawn(mdp, values)
    words = [text.text for text in svg.iter(f"{SVG}text") if text.text]
    assert words[0] == "V & policy"
    assert words[1:5] == ["S", "0", "F", "0.071"]
    tips = [tip.text for tip in svg.iter(f"{SVG}title")]
    assert tips == [f"state: <{s}>" for s in range(16)]
    hatching, arrows = (path.get("d") or "" for path in svg.iter(f"{SVG}path"))
    assert hatching.count("M") == 5 * 6  # four holes and the goal
    assert arrows.count("M") == 11 * 4
    fills = [rect.get("fill") for rect in svg.iter(f"{SVG}rect")][:16]
    assert fills.count("#dcdcdc") == 5
    assert len(set(fills)) == 12  # values that differ have colours that do


def test_a_large_map_has_neither_numbers_nor_arrows() -> None:
    mdp = envs.gridworld((30, 30))
    svg = drawn(mdp, np.linspace(0, 1, 900))
    assert len([*svg.iter(f"{SVG}path")]) == 1
    assert len([text for text in svg.iter(f"{SVG}text") if text.text]) == 1 + 900 + 3  # title, letters, the scale


def test_without_a_map_there_are_points() -> None:
    mdp = envs.single_chain()
    shown = state_figure(mdp, "V")
    shown.draw(np.arange(5.0), {"state": list("abcde")})
    np.testing.assert_array_equal(shown.points.data["number"], np.arange(5.0))


MOVES: dict[str, Callable[[int], dict]] = {
    "epsilon": lambda k: {"epsilon": 0.3 * 1.2**k},
    "gamma": lambda k: {"gamma": 0.95 + 0.005 * k},
    "slip": lambda k: {"slip": 0.3 + 0.05 * k},
    "budget": lambda k: {"budget": 0.9 - 0.05 * k},
}


@pytest.mark.parametrize("map_name", ["4x4", "8x8"])
@pytest.mark.parametrize("divergence", [*DIVERGENCES])
def test_the_server_answers_a_slider_in_a_tenth_of_a_second(divergence: str, map_name: str) -> None:
    explorer = Explorer(lambda slip: MDP.from_gymnasium("FrozenLake-v1", map_name=map_name, success_rate=1 - slip))
    asked = Question(0.5, slip=2 / 3, divergence=divergence)
    page = Page(explorer, asked)
    page.lay_out(Document())
    for name, move in MOVES.items():
        if name == "budget" and divergence == CONDITIONAL:
            continue
        spent = []
        for k in range(5):
            page.question = replace(asked, **move(k))
            began = time.process_time()  # of the processor: other jobs' time is not the page's
            page.redraw()
            spent.append(time.process_time() - began)
        assert np.median(spent) < 0.1, (name, spent)
