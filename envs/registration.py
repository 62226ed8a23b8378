"""Gymnasium ids for every environment here, registered only when asked for."""

from __future__ import annotations

from typing import Any

import gymnasium

NAMESPACE = "reps_opt"

CONTINUOUS = {
    "SwingUp": "envs.swing_up:SwingUp",
    "PixelSwingUp": "envs.swing_up:PixelSwingUp",
    "Reaching": "envs.reaching:Reaching",
    "PuddleWorld": "envs.puddle_world:PuddleWorld",
    "PixelPuddleWorld": "envs.puddle_world:PixelPuddleWorld",
    "LQR": "envs.lqr:LQR",
    "CartPole": "envs.cart_pole:CartPole",
    "Pushing": "envs.pushing:Pushing",
}

TABULAR: dict[str, dict[str, Any]] = {
    "TwoState": {"task": "two_state"},
    "SingleChain": {"task": "single_chain"},
    "DoubleChain": {"task": "double_chain"},
    "LectureChain": {"task": "lecture_chain"},
    "RiverSwim": {"task": "riverswim"},
    "GridWorld": {"task": "gridworld"},
    "Garnet": {"task": "garnet", "n_states": 100, "n_actions": 4, "branching": 5, "seed": 0},
    "Layered": {"task": "layered", "seed": 0},
}


def register() -> list[str]:
    """Register every environment with Gymnasium, under the namespace ``reps_opt/``.

    Ids that are registered already are left alone, so calling it again does no harm. Options go to
    ``gymnasium.make`` as keywords, as to the classes and functions themselves.

    Returns
    -------
    list of str
        All the ids, registered now or before.

    Examples
    --------
    >>> import envs, gymnasium
    >>> envs.register()[0]
    'reps_opt/SwingUp-v0'
    >>> gymnasium.make("reps_opt/SwingUp-v0", start="uniform").unwrapped.start
    'uniform'
    """
    specs: list[tuple[str, str, dict[str, Any]]] = [(name, entry, {}) for name, entry in CONTINUOUS.items()]
    specs += [(name, "envs.tabular:make_tabular", options) for name, options in TABULAR.items()]
    for name, entry_point, options in specs:
        full_id = f"{NAMESPACE}/{name}-v0"
        if full_id not in gymnasium.registry:
            gymnasium.register(full_id, entry_point=entry_point, kwargs=options)
    return [f"{NAMESPACE}/{name}-v0" for name, _, _ in specs]
