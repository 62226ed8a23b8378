"""What a repeated update leaves behind: a row an iteration, for a summary, a table and a figure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from reps_opt import plotting
from reps_opt.plotting import Panel
from reps_opt.result import Arrays, Result
from reps_opt.validation import FloatArray

if TYPE_CHECKING:
    import pandas

SHOWN = 10
"""Updates at either end of a history that its summary has a line for."""


PANELS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("gain of the objective, promised and got", ("predicted", "predicted_gain", "gain"), False),
    ("divergence, in nats", ("joint_kl", "state_kl", "conditional_kl", "kl_predicted", "kl", "kl_old_new"), True),
    ("eta", ("eta",), True),
    ("effective sample size", ("ess",), False),
    ("gap of the certificate", ("gap",), True),
)
"""Title and columns of a history's panels, and whether they are logarithmic; one without any column is left out."""


class History(Result, tuple[Any, ...]):
    """The iterations of :func:`~reps_opt.iterate` or :func:`~reps_opt.improve` in order, as a table and a figure.

    Of others it asks the ``policy`` after an update, the returns before and after it, ``old_return`` and
    ``new_return``, ``row()``, a mapping by column with its number under ``iteration``, and ``line()``, a line of text.

    Examples
    --------
    >>> from reps_opt import ExactNaturalGradient, iterate
    >>> import envs
    >>> mdp = envs.two_state()
    >>> update = lambda policy: ExactNaturalGradient(mdp, policy, step_size=0.1)
    >>> history = History(iterate(mdp, mdp.uniform_policy(), update, n_iterations=3))
    >>> list(history.to_frame()["trpo_holds"])
    [True, True, True]
    >>> history.returns.round(3)
    array([0.75 , 1.856, 1.95 , 1.95 ])
    >>> history.best.index
    3
    """

    __slots__ = ()

    def __new__(cls, iterations: Iterable[Any] = ()) -> History:
        return super().__new__(cls, tuple(iterations))

    @property
    def policy(self) -> Any:
        """The last policy."""
        return self[-1].policy

    @property
    def best(self) -> Any:
        """The entry whose policy did best, for runs that wander: ``history.best.policy`` is the one to keep.

        It is the entry after which :attr:`returns` is highest, and of equals the latest. So evaluations decide where
        there are any; otherwise each policy's own roll-outs for the next update do, which costs no step more, and tells
        a fall from a rise but not much else where they are a few episodes. Policies of unknown return (NaN), as the
        last one without evaluation, are best only where all are unknown, and then the last is. The policy before the
        first update is not among them. The highest of several noisy returns says too much of its policy: roll it out
        afresh to state a figure. A run resumed from a checkpoint still has it.

        Raises
        ------
        ValueError
            For a history without entries.

        Examples
        --------
        >>> from policies import SoftmaxPolicy
        >>> from reps_opt import REPSUpdate, improve, rollout
        >>> run = improve("CartPole-v1", None, REPSUpdate(fit=SoftmaxPolicy()), 4, n_steps=500, seed=0)
        >>> best = History(run).best  # chosen by the roll-outs that updates learned from
        >>> rollout("CartPole-v1", best.policy, 20, seed=1, deterministic=True).returns.mean() > 100
        np.True_
        """
        if not self:
            raise ValueError("best: the history has no entries")
        after = self.returns[1:]
        known = np.flatnonzero(after == np.nanmax(after)) if not np.isnan(after).all() else [-1]
        return self[int(known[-1])]

    @property
    def returns(self) -> FloatArray:
        """Returns before the first update and after each (iterations + 1,): mean reward a step in exact iterations.

        A policy that was not evaluated has the return of its own roll-outs for the next update; the last one none: NaN.
        """
        first = [self[0].old_return] if self else []
        later = [step.old_return for step in self[1:]] + [np.nan]
        after = [new if new == new else old for new, old in zip((s.new_return for s in self), later, strict=False)]
        return np.array(first + after)

    @property
    def title(self) -> str:
        known = self.returns[~np.isnan(self.returns)]
        ends = f", return {known[0]:.6g} to {known[-1]:.6g}" if known.size else ""
        return f"History of {len(self)} updates{ends}"

    def rows(self) -> list[tuple[str, str]]:
        """A line an update; of many, the first and the last ones."""
        shown = self if len(self) <= 2 * SHOWN else (*self[:SHOWN], None, *self[-SHOWN:])
        return [("...", "") if step is None else (str(step.index), step.line()) for step in shown]

    def panels(self) -> list[Panel]:
        """Returns, gains promised and got side by side, divergences, eta and effective sample size by update."""
        table = self.to_frame()
        known = {name for name in table.columns if table[name].dtype.kind == "f" and table[name].notna().any()}
        returns = {"return": self.returns if self else [np.nan]}
        drawn = [lambda axis: plotting.curves(axis, np.arange(len(self) + 1), returns, "return", "updates")]
        for title, names, logarithmic in PANELS:
            shown = [name for name in names if name in known]
            if "predicted_gain" in shown and "predicted" in shown:
                shown.remove("predicted")  # the same, or in units of the advantages
            columns = {name: table[name] for name in shown}
            if columns:
                errors = {name: table[f"{name}_error"] for name in columns if f"{name}_error" in known}
                curves = partial(plotting.curves, x=table.index, columns=columns, title=title, xlabel="update")
                drawn.append(partial(curves, logarithmic=logarithmic, errors=errors))
        return drawn

    def numbers(self) -> dict[str, Any]:
        returns = self.returns
        ends = {"first_return": float(returns[0]), "last_return": float(returns[-1])} if self else {}
        return {"n_updates": len(self), **ends}

    def arrays(self) -> Arrays:
        """The columns of :meth:`to_frame` over the updates, and every policy where policies are tables."""
        arrays: dict[str, Any] = {name: (("iteration",), column.to_numpy()) for name, column in self.to_frame().items()}
        if self and all(isinstance(step.policy, np.ndarray) for step in self):
            arrays["policy"] = (("iteration", "state", "action"), np.array([step.policy for step in self]))
        return arrays

    def to_frame(self) -> pandas.DataFrame:
        """A row an iteration."""
        import pandas

        table = pandas.DataFrame([step.row() for step in self])
        if "base_objective" in table:  # without evaluation the next roll-outs tell what was gained
            table["gain"] = table["gain"].fillna(table["objective"].shift(-1) - table["base_objective"])
        if "objective_error" in table:
            spread = np.hypot(table["objective_error"].shift(-1), table["base_objective_error"])
            table["gain_error"] = table["gain_error"].fillna(spread)
        return table.set_index("iteration") if len(self) else table
