"""Where an MDP can come from besides arrays: environments, tables, lists of transitions, batches of samples."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import gymnasium

    from reps_opt.processes.builders import TransitionBatch


class Sources:
    """Constructors of an :class:`~reps_opt.MDP`, which takes what they read as its arguments."""

    if TYPE_CHECKING:

        def __init__(self, *args: Any, **parts: Any) -> None: ...

    @classmethod
    def from_gymnasium(
        cls, env: str | gymnasium.Env[Any, Any], gamma: float = 0.99, on_done: str | None = None, **kwargs: Any
    ) -> Self:
        """Read the transition table of a Gymnasium environment such as FrozenLake-v1, CliffWalking-v1 or Taxi-v4.

        Parameters
        ----------
        env
            An environment with ``env.unwrapped.P``, or the id of one. A wrapper that changes rewards by a function of
            the reward is applied; one that may change anything else is an error.
        gamma
            Discount factor in (0, 1]; 1 means average reward.
        on_done
            What follows a transition flagged ``done``: ``"absorb"``, the default, ends in an absorbing state with
            reward zero; ``"restart"`` continues from the start distribution. With ``gamma=1`` one of them must be
            given: in the long run every policy has ended, so that with absorbing ends all gains are zero.
        **kwargs
            Passed to :func:`gymnasium.make` when ``env`` is an id: ``is_slippery=True``, ``map_name="8x8"``.

        Returns
        -------
        MDP
            States that cannot be reached from the start are kept, and listed in ``mdp.unreachable``. A state that is
            entered both with and without ``done`` on the way from the start has an absorbing copy behind the others.

        Raises
        ------
        ValueError
            For an environment without a table, or whose table does not hold what its options or wrappers do.

        Examples
        --------
        >>> from reps_opt import MDP
        >>> mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=0.99)
        >>> mdp.n_states, mdp.n_actions, mdp.layout[0]
        (16, 4, 'SFFF')
        """
        from reps_opt.processes.builders import read_environment

        return cls(gamma=gamma, **read_environment(env, gamma, on_done, kwargs))

    @classmethod
    def from_table(
        cls,
        table: Any,
        gamma: float = 0.95,
        mu0: ArrayLike | Mapping[Hashable, float] | None = None,
        on_done: str | None = None,
        missing: str = "error",
    ) -> Self:
        """Build an MDP from ``{state: {action: [(probability, next state, reward, done), ...]}}``.

        Parameters
        ----------
        table
            Such a mapping, lists in place of either mapping, or any object with such a ``P`` (and perhaps an
            ``initial_state_distrib``). ``done`` may be left out. A state has the actions that it has a key for. Keys
            that are the integers from zero are indices; others become labels, in order of appearance.
        gamma
            Discount factor in (0, 1]; 1 means average reward.
        mu0
            Start distribution over the table's states: an array, or ``{state: probability}``. Uniform by default over
            the states that have actions.
        on_done
            As in :meth:`from_gymnasium`; with ``gamma=1`` it must be given where something ends.
        missing
            A state that is entered without ``done`` and has no actions is an ``"error"`` that names it, or
            ``"absorb"``: it is kept for ever without reward.

        Returns
        -------
        MDP
            The way in decides: a state entered with ``done`` by some and without by others has an absorbing copy,
            behind the table's states.

        Examples
        --------
        In state 0 one can only wait.

        >>> from reps_opt import MDP
        >>> table = {0: {0: [(1.0, 0, 0.0, False)]}, 1: {0: [(1.0, 0, 0.0, False)], 1: [(1.0, 1, 1.0, False)]}}
        >>> mdp = MDP.from_table(table, gamma=0.9, mu0=[0, 1])
        >>> mdp.solve_optimal().value.round(6), bool(mdp.allowed[0, 1])
        (array([ 0., 10.]), False)
        """
        from reps_opt.processes.builders import read_table

        return cls(gamma=gamma, **read_table(table, gamma, mu0, on_done, missing))

    @classmethod
    def from_transitions(
        cls,
        data: Any,
        actions: Any = None,
        next_states: Any = None,
        rewards: Any = None,
        *,
        weight: Any = None,
        probability: Any = None,
        gamma: float = 0.95,
        mu0: ArrayLike | Mapping[Hashable, float] | None = None,
        missing: str = "error",
    ) -> Self:
        """Build an MDP from a list of transitions, one a row; rows that repeat are counted.

        Parameters
        ----------
        data
            A DataFrame, or any mapping of columns: state (also called ``s`` or ``from``), action (``a``), next state
            (``next_state``, ``s2``, ``to``) and reward (``r``). Or the column of states, the others beside it.
        actions, next_states, rewards
            The other columns, where ``data`` is one.
        weight
            How often a row counts: a column, or its name; by default a column called ``weight`` or ``count``, or one.
        probability
            Probability of the row's next state, given state and action, in place of counts: a column or its name, by
            default one called ``probability`` or ``p``. The sum over each state and action must be one.
        gamma, mu0, missing
            As in :meth:`from_table`.

        Returns
        -------
        MDP
            With P = counts / counts of the pair, the weighted mean rewards, and the counts of the pairs in ``counts``.
            A pair without a row is not allowed. States and actions that are the integers from zero are indices; others
            become labels, in order of appearance.

        Examples
        --------
        >>> import pandas as pd
        >>> from reps_opt import MDP
        >>> rows = [("up", "climb", "top", 1.0), ("up", "climb", "up", 0.0), ("top", "rest", "up", 2.0)]
        >>> mdp = MDP.from_transitions(pd.DataFrame(rows, columns=["from", "action", "to", "reward"]))
        >>> mdp.state_labels, mdp.action_labels, mdp.allowed.tolist()
        (('up', 'top'), ('climb', 'rest'), [[True, False], [False, True]])
        """
        from reps_opt.processes.builders import read_transitions

        columns = (actions, next_states, rewards)
        return cls(gamma=gamma, **read_transitions(data, columns, weight, probability, mu0, missing))

    @classmethod
    def from_batch(
        cls,
        batch: TransitionBatch,
        gamma: float = 0.95,
        n_states: int | None = None,
        n_actions: int | None = None,
        on_done: str | None = None,
        missing: str = "error",
    ) -> Self:
        """The empirical model of a batch of transitions between finitely many states.

        Parameters
        ----------
        batch
            A :class:`~reps_opt.Batch` whose states and actions are integers from zero.
        gamma
            Discount factor in (0, 1]; 1 means average reward.
        n_states, n_actions
            How many there are; by default as many as the batch shows.
        on_done
            As in :meth:`from_gymnasium`, for ``batch.terminated``; restarts are drawn from the start states seen.
        missing
            As in :meth:`from_table`, for a state that the batch enters without leaving it.

        Returns
        -------
        MDP
            With frequencies for probabilities, mean rewards, the start states seen for ``mu0``, and in ``counts`` how
            often each pair was seen. Pairs never seen are not allowed. States that were not seen at all are left by
            nothing and entered by nothing; they stay where they are.

        Examples
        --------
        >>> from reps_opt import MDP, Batch
        >>> batch = Batch([0, 1, 0], [0, 1, 0], [0.0, 1.0, 0.0], [1, 0, 0])
        >>> mdp = MDP.from_batch(batch)
        >>> mdp
        MDP(2 states, 2 actions, gamma=0.95, 2 pairs not allowed, 2 pairs never seen)
        >>> int((mdp.counts == 0).sum())
        2
        """
        from reps_opt.processes.builders import read_batch

        return cls(gamma=gamma, **read_batch(batch, gamma, n_states, n_actions, on_done, missing))
