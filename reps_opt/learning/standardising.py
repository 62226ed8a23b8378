"""Inputs of a policy that follow the observations: mean and spread of all states so far.

Shapes: N states, d state dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reps_opt.learning.policy_update import branch, under
from reps_opt.learning.value_network import Memory, moments_of

NAME = "observations"
"""Of the moments in a memory."""


def standardised(policy: Any, states: Any, memory: Memory | None) -> tuple[Any, dict[str, Any]]:
    """The same policy with inputs standardised by the states so far, and their moments to remember.

    A policy without ``standardised(states)``, or with discrete states, is returned as it is.
    """
    rows = np.asarray(states)
    if not hasattr(policy, "standardised") or rows.dtype.kind != "f" or rows.ndim != 2:
        return policy, {}
    moments = moments_of(branch(memory, NAME) or {}).grown(rows)
    two = np.stack([moments.centre - moments.deviation, moments.centre + moments.deviation])  # have these moments
    return policy.standardised(two), under(NAME, moments._asdict())
