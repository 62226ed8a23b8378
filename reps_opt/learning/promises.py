"""What updates promise, and what came of it: the columns of a record, and when a run should not be believed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

from reps_opt.batch import Batch
from reps_opt.tolerances import PROMISE_KEPT, REFUTED_IN_A_ROW

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
