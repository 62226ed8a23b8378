"""Ask what if of a grid of your own, in the browser: sliders for epsilon, gamma, slip and a budget, redrawn at once.

python examples/explore.py            # needs Bokeh: pip install -c constraints.txt ".[explore]"

Slip is what ``make`` says it is: here how often the wind has its way. For Gymnasium's tables no script is needed:
``python -m reps_opt explore FrozenLake-v1``.
"""

from __future__ import annotations

import typer

import envs
from reps_opt import MDP, explore

MAP = ["SFFFF", "FHFHF", "FFFFF", "FHFHF", "FFFFG"]


def make(slip: float) -> MDP:
    """The grid in which the wind blows a step to the side with probability slip."""
    return envs.gridworld(MAP, slip=slip, gamma=0.95)


def main(port: int = 0, browser: bool = True) -> None:
    """Serve the page on this machine until Ctrl-C."""
    explore(make, port=port, show=browser)


if __name__ == "__main__":
    typer.run(main)
