"""The finite MDPs that every exact route is held to, discounted and with average reward."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import envs
from reps_opt import MDP


def _gymnasium(name: str, **options: object) -> Callable[[float], MDP]:
    def build(gamma: float) -> MDP:
        return MDP.from_gymnasium(name, gamma=gamma, on_done="absorb" if gamma < 1 else "restart", **options)

    return build


INSTANCES: dict[str, Callable[[float], MDP]] = {
    "frozenlake-4x4": _gymnasium("FrozenLake-v1"),
    "frozenlake-8x8": _gymnasium("FrozenLake-v1", map_name="8x8"),
    "taxi": _gymnasium("Taxi-v4"),
    "cliff": _gymnasium("CliffWalking-v1"),
    "cliff-slippery": _gymnasium("CliffWalking-v1", is_slippery=True),
    "riverswim": lambda gamma: envs.riverswim(gamma=gamma),
    "garnet-20": lambda gamma: envs.garnet(20, 3, 4, seed=1, gamma=gamma),
    "garnet-60": lambda gamma: envs.garnet(60, 4, 2, seed=2, gamma=gamma),
    "two-state": lambda gamma: envs.two_state(gamma=gamma),
    "single-chain": lambda gamma: envs.single_chain(gamma=gamma),
    "double-chain": lambda gamma: envs.double_chain(gamma=gamma),
}

GAMMAS = (0.95, 1.0)


@cache
def instance(name: str, gamma: float) -> MDP:
    """Build an MDP once a run."""
    return INSTANCES[name](gamma)
