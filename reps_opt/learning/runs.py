"""A run of the improvement loop: its settings, and all that its next iteration needs.

Everything random in it is a function of the seed and the iteration's number, so the state holds no generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reps_opt.batch import Batch
from reps_opt.learning.records import Score
from reps_opt.learning.rollouts import rollout
from reps_opt.learning.start_policies import expected_states, start_policy
from reps_opt.learning.stepping import child
from reps_opt.tolerances import LONGEST_HOLD

Update = Callable[..., Any]

ROLLOUTS, EVALUATION, START = 0, 1, 2
"""First keys of the seed sequences: of iteration k's roll-outs; of the evaluation, which is the same each time; of the
policy to start from, where none is given."""


@dataclass(frozen=True)
class Run:
    """Settings of a run: how much to collect, to keep and to evaluate."""

    env: Any
    start: Any
    update: Update
    root: np.random.SeedSequence
    amount: Mapping[str, Any]
    first: Mapping[str, Any] | Batch
    keep: int | None
    reuse: str
    evaluate: int | None
    deterministic: bool
    options: Mapping[str, Any]
    seeded: bool
    given: Any = None
    """The policy that the caller gave: not the one started from where he gave none to an update that needs one."""

    @property
    def starts_itself(self) -> bool:
        """Whether the start policy was made here, from the environment's spaces."""
        return self.given is None and self.start is not None

    def scaled_start(self, batch: Batch) -> Any:
        """The start policy made here once more, its inputs scaled by what it saw; its actions stay."""
        return start_policy(self.env, child(self.root, START), expected_states(batch))

    def collect(self, policy: Any, index: int, hold: int) -> Batch:
        """Iteration ``index``'s own roll-outs."""
        size = self.first if index == 1 else self.amount
        if isinstance(size, Batch):
            return size
        seed = child(self.root, ROLLOUTS, index)
        return rollout(self.env, policy, **size, seed=seed, hold=hold, **self.options)

    def made(self, batch: Batch) -> Score:
        """The score of an iteration's own roll-outs."""
        return Score.of(batch, cut="n_steps" in self.amount)

    def evaluation(self, policy: Any) -> Batch | None:
        """Roll-outs of the policy on the seeds of every evaluation; None where there is none."""
        if self.evaluate is None:
            return None
        options = {**self.options, "deterministic": self.deterministic, "seed": child(self.root, EVALUATION)}
        return rollout(self.env, policy, n_episodes=self.evaluate, **options)

    def score(self, policy: Any) -> Score:
        """The policy's score in the evaluation; NaN where there is none."""
        evaluated = self.evaluation(policy)
        return Score(math.nan, math.nan) if evaluated is None else Score.of(evaluated)


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
