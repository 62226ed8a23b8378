"""The page in a real browser: it answers a slider, says what ``solve`` says, and asks nothing of other machines."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from reps_opt import MDP, REPS, solve

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("bokeh")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [sys.executable, "-m", "reps_opt", "explore", "FrozenLake-v1", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        yield re.findall(r"http://\S+", said)[0]
        server.terminate()


@pytest.fixture(scope="module")
def page(url: str) -> Iterator[Any]:
    def complain(line: Any) -> None:
        if line.type in ("error", "warning"):
            page.complaints.append(line.text)

    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1320, "height": 880})
        page.asked, page.complaints = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", complain)
        page.goto(url)
        page.get_by_text("certified").wait_for()
        yield page
        browser.close()


def shown(page: Any, label: str) -> str:
    return page.locator(f"tr:has(th:text-is('{label}')) td").inner_text()


def expected(epsilon: float, divergence: str = "kl") -> float:
    mdp = MDP.from_gymnasium("FrozenLake-v1", 0.99)
    return solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), epsilon, divergence=divergence)).objective


def settled(page: Any, before: str) -> float:
    """The objective, once it is another than before."""
    objective = page.locator("tr:has(th:text-is('objective')) td")
    sync_api.expect(objective).not_to_have_text(before, timeout=20_000)
    return float(objective.inner_text())


def test_the_page_answers_a_slider_and_a_choice(page: Any) -> None:
    before = shown(page, "objective")
    assert float(before) == pytest.approx(expected(0.5), rel=1e-8)
    page.get_by_role("slider").first.press("ArrowRight")
    found = settled(page, before)
    epsilon = float(re.findall(r"epsilon ([\d.]+)", shown(page, "divergence"))[0])
    assert 0.5 < epsilon < 0.55
    assert found == pytest.approx(expected(epsilon), rel=1e-8)
    page.locator("select").first.select_option("chi-square")
    assert settled(page, f"{found:.10g}") == pytest.approx(expected(epsilon, "chi2"), rel=1e-8)


def test_nothing_is_asked_of_another_machine_and_nothing_is_complained_about(page: Any, url: str) -> None:
    assert [other for other in page.asked if not other.startswith(url)] == []
    assert page.complaints == []
