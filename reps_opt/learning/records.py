"""Records of the improvement loop: what updates promised and what came of it, and when to stop, or to disbelieve."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from reps_opt.batch import Batch
from reps_opt.history import History
from reps_opt.learning.returns import cut_short
from reps_opt.result import Result
from reps_opt.tolerances import PROMISE_KEPT, REFUTED_IN_A_ROW
from reps_opt.validation import as_count, as_scalar


class Score(NamedTuple):
    """Mean undiscounted return of an episode, and mean reward of a step."""

    mean_return: float
    mean_reward: float

    @classmethod
    def of(cls, batch: Batch | None, cut: bool = False) -> Score:
        """The score of a batch's episodes, NaN without one; ``cut`` says that it ends where steps were enough.

        An episode that this cut short has no return yet: it is left out of the mean.
        """
        if batch is None:
            return cls(math.nan, math.nan)
        returns = batch.returns[:-1] if cut and cut_short(batch) else batch.returns
        return cls(float(returns.mean()), float(batch.rewards.mean()))


@dataclass(frozen=True, eq=False, repr=False)
class Record(Result):
    """One iteration: what it had, what it did, and what came of it.

    Attributes
    ----------
    index : int
        1 for the first update.
    policy
        The policy after the update; None in a record read back from a checkpoint, unless it is the last.
    values : mapping
        The numbers of :meth:`row`.
    update
        What the update returned, with its solution; None in a record read back.
    batch : Batch or None
        The transitions it was given; None in a record read back.
    """

    index: int
    policy: Any
    values: Mapping[str, Any]
    update: Any = None
    batch: Batch | None = None

    @property
    def old_return(self) -> float:
        """Return before the update: of the evaluation, or where there is none of this iteration's roll-outs."""
        return float(self.values["old_return"])

    @property
    def new_return(self) -> float:
        """Return after the update, as evaluated; without evaluation the next iteration's roll-outs tell it: NaN."""
        return float(self.values["return"])

    def row(self) -> dict[str, Any]:
        """The iteration as one row of a table.

        ``return``, ``reward``: mean undiscounted return and mean reward a step of the new policy in the evaluation;
        ``old_return``, ``batch_return``, ``batch_reward``: of the policy before, in the evaluation and in this
        iteration's own roll-outs, without an episode that ``n_steps`` cut short; ``predicted``: the gain the update
        promised, and where it is a gain in reward a step ``predicted_gain``, ``predicted_gain_error``, ``gain``,
        ``gain_error``: the promise over the samples it was made from and what the evaluation gave over them, each with
        its standard error by episodes; ``refuted``: promises in a row of which less than half was reached, two standard
        errors allowed; ``objective``, ``base_objective``: that of this iteration's roll-outs and of the samples, of
        which the gain is one, each with an error, the latter's zero where promise and gain share it, by the rule of
        ``gamma`` and ``starts``; ``kl_predicted``, ``kl``: the divergence of its program and the mean KL(new || old)
        that the new policy reached, in nats; ``kl_old_new``: the other way round, which a gradient step's line search
        holds to epsilon, NaN of a fitted policy; ``eta``, ``ess``, ``gap``, ``status``, ``accepted``, ``message``;
        ``steps``, ``episodes``: collected so far; ``seconds``: of wall time.
        """
        return {"iteration": self.index, **self.values}

    @property
    def title(self) -> str:
        return f"Iteration {self.index}"

    def numbers(self) -> dict[str, Any]:
        return self.row()

    def line(self) -> str:
        """Return, reward, divergence, eta and status in a line of text."""
        v = self.values
        text = f"return {v['return']:.6g} (roll-outs {v['batch_return']:.6g}), reward {v['reward']:.4g}"
        return f"{text}, KL {v['kl_predicted']:.3g} ({v['kl']:.3g} reached), eta {v['eta']:.3g}, {v['status']}"


@dataclass(frozen=True)
class NoImprovement:
    """Stopping rule: the last ``patience`` evaluations brought no return above the best before by ``tolerance``."""

    patience: int = 5
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        as_count(self.patience, "patience")
        as_scalar(self.tolerance, "tolerance", low=0.0)

    def __call__(self, history: History) -> str:
        """Why to stop, or nothing."""
        returns = history.returns
        if len(history) < self.patience or not returns[-self.patience :].max() <= (
            returns[: -self.patience].max() + self.tolerance
        ):
            return ""
        return f"no return above {returns[: -self.patience].max():.6g} in {self.patience} iterations"


NOBODY_KNOWS = (math.nan, math.nan)


def promise_columns(
    update: Any, result: Any, evaluated: Batch | None, fresh: Batch, last: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The columns that tell a promise from what was reached, NaN where nobody knows.

    ``predicted_gain`` and ``predicted_gain_error``: the promise, over the samples the update was given, and its
    standard error by episodes. ``gain`` and ``gain_error``: what the evaluation gave, over the same samples, in the
    same units, the former left out where the update says no ``base_objective``. ``base_objective``: of the samples, by
    the rule ``gamma`` and ``starts``; ``base_objective_error`` is part of the gain's error, and zero where the promise
    rests on the same luck. ``objective``, ``objective_error``: of this iteration's own roll-outs, by the rule of the
    promise before, which they judge where nothing is evaluated.
    """
    stats: Mapping[str, Any] = getattr(result, "stats", {})
    rule = {"gamma": float(stats.get("gamma", math.nan)), "starts": str(stats.get("starts", ""))}
    base, base_error = (
        float(stats.get(f"base_objective{end}", other)) for end, other in (("", math.nan), ("_error", 0))
    )
    measures, promised = hasattr(update, "objective"), math.isfinite(base) and result.accepted
    before = rule if last is None else {name: last.get(name, rule[name]) for name in rule}
    judges = measures and (result.accepted if last is None else math.isfinite(last["base_objective"]))
    reached, error = NOBODY_KNOWS
    if measures and result.accepted and evaluated is not None:
        reached, error = _measured(update, evaluated, rule)
    objective, objective_error = _measured(update, fresh, before) if judges else NOBODY_KNOWS
    return {
        "predicted_gain": float(stats.get("predicted_gain", result.gain)) if promised else math.nan,
        "predicted_gain_error": float(stats.get("predicted_gain_error", math.nan)),
        **({} if math.isnan(base) else {"gain": reached - base}),
        "gain_error": math.hypot(error, base_error),
        "objective": objective,
        "objective_error": objective_error,
        "base_objective": base,
        "base_objective_error": base_error,
        **rule,
    }


def _measured(update: Any, batch: Batch, rule: Mapping[str, Any]) -> tuple[float, float]:
    """Objective and standard error of a batch in the terms of an update's promise."""
    return update.objective(batch, **{name: value for name, value in rule.items() if value == value and value != ""})


def refuted_in_a_row(row: Mapping[str, Any], last: Mapping[str, Any] | None, evaluated: bool) -> int:
    """How many promises in a row were refuted, the latest that can be judged among them.

    Without evaluation it is the promise before, judged by this iteration's roll-outs.
    """
    count = 0 if last is None else int(last.get("refuted", 0))
    if evaluated:
        return _next(count, row["predicted_gain"], row["gain"], row["predicted_gain_error"], row["gain_error"])
    if last is None or "base_objective" not in last:
        return 0
    gain, errors = row["objective"] - last["base_objective"], (row["objective_error"], last["base_objective_error"])
    return _next(count, last["predicted_gain"], gain, last["predicted_gain_error"], *errors)


def _next(count: int, promised: float, gain: float, *errors: float) -> int:
    """The count after a promise; one that cannot be judged, for want of an error too, leaves it."""
    margin = 2 * math.hypot(*errors)
    if not (math.isfinite(promised) and math.isfinite(gain) and math.isfinite(margin)):
        return count
    return count + 1 if gain + margin < min(PROMISE_KEPT * promised, promised) else 0


def refutation(count: int) -> str:
    """What there is to say of so many refuted promises in a row, with a warning the first time; or nothing."""
    if count < REFUTED_IN_A_ROW:
        return ""
    if count == REFUTED_IN_A_ROW:
        text = f"{REFUTED_IN_A_ROW} updates in a row gained less than half of what they promised: do not believe the "
        text += "next one; take a smaller epsilon or more samples, and with REPS finer value features, or a policy "
        text += "that can follow its weights"
        warnings.warn(text, UserWarning, stacklevel=4)
    return f"the last {count} promises were refuted"
