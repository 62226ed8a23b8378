"""Every argument of every environment and every maker of MDPs, spoiled: the error names it."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import envs
from tests.arguments import EITHER, Spoiled, bad_arguments, count, entry, kind, number, numbers

SYSTEM = {name: numbers(np.eye(2)) for name in "ABQR"}
GIVEN: dict[str, dict[str, Any]] = {
    "garnet": {"n_states": 3, "n_actions": 2, "branching": 2},
    "TabularEnv": {"mdp": envs.two_state()},
}
"""Arguments without a default."""

POINT = {"state": numbers(np.zeros(3)), "action": numbers(np.zeros(3)), "width": number(1e-5)}
BY_HAND = [
    entry("garnet", envs.garnet, n_states=count(3), n_actions=count(2), branching=count(2)),
    entry("riccati", envs.riccati, gamma=number(0.9), **SYSTEM),
    entry("LQR", lambda **k: envs.LQR(**k, start=0.5), **SYSTEM),
    entry("linearise", partial(envs.linearise, envs.LQR()), **POINT),
    entry("two_state", envs.two_state, mu0=numbers(np.array([0.5, 0.5]))),
    entry("double_chain", envs.double_chain, length=count(3)),
    entry("layered", envs.layered, n_actions=count(2)),
    entry("LayeredMDP", lambda **k: envs.layered((1, 2)).losses(seed=0, **k), n_episodes=count(2)),
    entry("Pushing", envs.Pushing, goal=numbers(np.array([0.5, 0.0]))),
    entry("Reaching", envs.Reaching, goal=numbers(np.array([0.5, 0.0]))),
]
NO_INPUT = {
    "BatchedEnv": "is the base of the others, whose options it checks",
    "register": "takes no argument",
}


@kind
def real(good: Any) -> Iterator[Spoiled]:
    """A number of any range: not NaN, and not a word."""
    yield "nan", math.nan, EITHER, "{}"
    yield "text", "0.1", EITHER, "{}"


@kind
def integer(good: Any) -> Iterator[Spoiled]:
    """A count of any range: neither zero nor a word or a fraction."""
    for value in (-1, 1.5, "2"):
        yield repr(value), value, EITHER, "{}"


@kind
def word(good: Any) -> Iterator[Spoiled]:
    """One of a few words."""
    yield "unknown", "neither", EITHER, "{} must be .*neither"


def from_signatures() -> Iterator[Any]:
    """An entry for every environment and maker, its numbers and words as its signature declares them."""
    kinds = {"float": real, "int": integer, "str": word, "int | None": integer, "str | None": word}
    for name in sorted(set(envs.__all__) - set(NO_INPUT) - {"LayeredMDP", "linearise", "riccati"}):
        parameters = inspect.signature(getattr(envs, name)).parameters.values()
        arguments = {p.name: kinds[p.annotation](p.default) for p in parameters if p.annotation in kinds}
        arguments = {k: v for k, v in arguments.items() if v.good is not inspect.Parameter.empty}
        call = getattr(envs, name)
        yield entry(name, lambda call=call, name=name, **k: call(**{**GIVEN.get(name, {}), **k}), **arguments)


ENTRIES = [*BY_HAND, *from_signatures()]


@pytest.mark.parametrize("case", bad_arguments(ENTRIES), ids=str)
def test_bad_input_is_named(case):
    with pytest.raises(case.errors) as caught:
        case.entry.call(**{**case.entry.good, case.argument: case.value})
    assert re.search(case.message, str(caught.value), flags=re.S), str(caught.value)


@pytest.mark.parametrize("name", sorted(envs.__all__))
def test_every_public_entry_is_in_the_table(name):
    assert (name in {each.name for each in ENTRIES}) != (name in NO_INPUT)
