"""A run of the improvement loop: its settings, its start policy, and all that its next iteration needs.

Everything random in it is a function of the seed and the iteration's number, so the state holds no generator. The core
knows policies by protocol only, and imports none: those to start from are plug-ins, found by name when they are needed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

from reps_opt.batch import Batch
from reps_opt.learning.acting import check_policy
from reps_opt.learning.rollouts import as_env, rollout, spaces_of
from reps_opt.learning.stepping import child, name_of
from reps_opt.tolerances import FARTHER, LONGEST_HOLD
from reps_opt.validation import FloatArray, as_count

Update = Callable[..., Any]

REUSES = ("pool", "importance")

ROLLOUTS, EVALUATION, START = 0, 1, 2
"""First keys of the seed sequences: of iteration k's roll-outs; of the evaluation, which is the same each time; of the
policy to start from, where none is given."""


@dataclass(frozen=True)
class Run:
    """Settings of a run, checked when it is made: those of :func:`~reps_opt.improve`, by their names there."""

    env: Any
    policy: Any
    update: Update
    n_episodes: int | None
    n_steps: int | None
    first: int | Batch | None
    keep: int | None
    reuse: str
    seed: Any
    evaluate: int | None
    deterministic: bool
    max_steps: int | None
    n_jobs: int | None

    def __post_init__(self) -> None:
        if (self.n_episodes is None) == (self.n_steps is None):
            raise ValueError("one of n_episodes and n_steps must be given, and not both")
        check_policy(self.policy)
        if isinstance(self.update, type) or not callable(self.update):
            raise TypeError(f"update must be callable as update(policy, batch), got {self.update!r}")
        if self.deterministic and self.evaluate is None:
            raise ValueError("deterministic=True is how evaluations act, and there are none: give evaluate=10, say")
        if self.reuse not in REUSES:
            raise ValueError(f"reuse must be one of {REUSES}, got {self.reuse!r}")
        if self.reuse == "importance" and "base_weights" not in inspect.signature(self.update).parameters:
            kind = type(self.update).__name__
            raise TypeError(f"reuse='importance' needs an update that takes base_weights, got {kind}")
        for name in ("n_episodes", "n_steps", "first", "keep", "evaluate"):
            given = getattr(self, name)
            if given is not None and not isinstance(given, Batch):
                object.__setattr__(self, name, as_count(given, name))
        _ = self.start  # a space without a policy to start from is found here, not when rolling out

    @cached_property
    def root(self) -> np.random.SeedSequence:
        """The seed sequence that all others are keys of."""
        return self.seed if isinstance(self.seed, np.random.SeedSequence) else np.random.SeedSequence(self.seed)

    @cached_property
    def start(self) -> Any:
        """The policy to start from: the one given, or for an update that needs one, one for the environment's spaces.

        None for uniform actions.
        """
        itself = self.policy is None and getattr(self.update, "needs_policy", False)
        return start_policy(self.env, child(self.root, START)) if itself else self.policy

    def amount(self, index: int) -> dict[str, Any]:
        """What iteration ``index`` collects, as :func:`~reps_opt.rollout` takes it."""
        unit = "n_episodes" if self.n_steps is None else "n_steps"
        return {unit: getattr(self, unit) if index > 1 or self.first is None else self.first}

    def scaled_start(self, batch: Batch) -> Any:
        """The start policy; one made here has its inputs scaled by what it saw, and its actions stay."""
        if self.policy is not None or self.start is None:
            return self.start
        return start_policy(self.env, child(self.root, START), expected_states(batch))

    def collect(self, policy: Any, index: int, hold: int) -> Batch:
        """Iteration ``index``'s own roll-outs."""
        if index == 1 and isinstance(self.first, Batch):
            return self.first
        return self._roll_out(policy, **self.amount(index), seed=child(self.root, ROLLOUTS, index), hold=hold)

    def _roll_out(self, policy: Any, **options: Any) -> Batch:
        return rollout(self.env, policy, max_steps=self.max_steps, n_jobs=self.n_jobs, **options)

    def evaluation(self, policy: Any) -> Batch | None:
        """Roll-outs of the policy on the seeds of every evaluation; None where there is none."""
        if self.evaluate is None:
            return None
        seed = child(self.root, EVALUATION)
        return self._roll_out(policy, n_episodes=self.evaluate, seed=seed, deterministic=self.deterministic)


@dataclass(frozen=True)
class State:
    """All that the next iteration needs: what a checkpoint holds.

    ``pool`` are the roll-outs kept, each with the number of the iteration whose policy made it; ``policies`` are these
    policies by that number, the start policy being 0.
    """

    index: int
    pool: tuple[tuple[int, Batch], ...]
    policies: Mapping[int, Any]
    rows: tuple[Mapping[str, Any], ...] = field(default=())
    memory: Mapping[str, Any] | None = None

    @property
    def policy(self) -> Any:
        """The current policy."""
        return self.policies[self.index]

    @property
    def hold(self) -> int:
        """Steps that its actions are held for: one, doubled each time that uniform actions taught nothing."""
        idle = 0 if self.policy is not None else sum(not row["accepted"] for row in self.rows)
        return int(min(2**idle, LONGEST_HOLD))


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
