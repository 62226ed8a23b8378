"""Policies to start from where none is given: a network over the environment's spaces, that acts alike everywhere.

The core knows policies by protocol only, and imports none: these are plug-ins, found by name when they are needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from reps_opt.batch import Batch
from reps_opt.learning.rollouts import as_env, spaces_of
from reps_opt.learning.stepping import name_of
from reps_opt.tolerances import FARTHER
from reps_opt.validation import FloatArray

NETWORKS = {"Box": ("policies", "NeuralPolicy"), "Discrete": ("policies", "NeuralCategoricalPolicy")}
"""Module and class of the policy that acts in a space, by the space's name."""


def start_policy(env: Any, seed: np.random.SeedSequence, states: Any = None) -> Any:
    """A policy whose actions are spread over the environment's action space, the same at every state.

    Parameters
    ----------
    env
        An environment or its id.
    seed
        Of the network's first weights; those of its last layer are zero.
    states
        Observed states (N, d), by which its inputs are standardised: since it acts alike everywhere, its actions are
        those of the policy made without them.

    Raises
    ------
    TypeError
        For an action space that no network here acts in, named.
    """
    made = as_env(env)
    observed, acted = spaces_of(made)
    if isinstance(env, str):
        made.close()
    kind = type(acted).__name__
    if kind not in NETWORKS:
        raise TypeError(f"env {name_of(env)} acts in {acted}: no policy to start from acts in it, give one yourself")
    module, name = NETWORKS[kind]
    settings: dict[str, Any] = {"random_state": int(seed.generate_state(1)[0]), "hidden": (64, 64)}
    rows = None if states is None else np.asarray(states)
    if rows is not None and rows.dtype.kind == "f":
        settings["states"] = rows
    if kind == "Box":
        settings["initial_std"] = 1.0
    return getattr(import_module(module), name).from_spaces(observed, acted, **settings)


def expected_states(batch: Batch) -> Any:
    """States (N, d) to scale a start policy's inputs by: those seen, spread wider the more episodes were terminated.

    What comes before a fall is little of what a policy sees that does not fall: hidden units that are spread over the
    former alone would answer to the latter with their signs.
    """
    seen = np.asarray(batch.states)
    if seen.dtype.kind != "f":
        return seen
    centre, fallen = seen.mean(axis=0), float(batch.terminated.sum()) / batch.n_episodes
    widened: FloatArray = centre + FARTHER**fallen * (seen - centre)
    return widened
