"""Episodes as single decisions: choosing a controller's parameters, once an episode, is a one-step environment.

So :func:`~reps_opt.rollout` and :func:`~reps_opt.improve` serve direct policy search too.

Shapes: n episodes side by side; parameters (n, P), contexts (n, c), observations (n, m), actions (n, k).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reps_opt.learning.acting import as_actions, as_rows
from reps_opt.learning.rollouts import as_env, is_batched, rollout
from reps_opt.learning.stepping import step_limit
from reps_opt.tolerances import LONGEST_EPISODE
from reps_opt.validation import FloatArray, as_count, as_float_array, as_scalar

Returns = Callable[[FloatArray, FloatArray, np.random.Generator], ArrayLike]
Controller = Callable[[FloatArray, NDArray[Any]], ArrayLike]


class Outcome(NamedTuple):
    """The end of every episode: contexts again, returns (n,), terminated (n,) all true."""

    next_states: FloatArray
    rewards: FloatArray
    terminated: NDArray[np.bool_]


class ParameterSearch:
    """A one-step environment: the state is a context, the action a vector of parameters, the reward its return.

    Parameters
    ----------
    returns
        ``returns(parameters, contexts, rng)`` evaluates rows of parameters (n, P) in their contexts (n, c), (n,).
    n_params
        P.
    contexts
        ``contexts(n, rng)`` draws n contexts (n, c). None for a single context, the number zero.

    Examples
    --------
    Rosenbrock's function, and a Gaussian over its arguments:

    >>> from reps_opt import EpisodicREPSUpdate, History, improve
    >>> from policies import LinearGaussianPolicy
    >>> def rosenbrock(x, contexts, rng):
    ...     return -np.sum(100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2, axis=1)
    >>> task = ParameterSearch(rosenbrock, n_params=3)
    >>> start = lambda state, rng: rng.normal(size=3)
    >>> update = EpisodicREPSUpdate(fit=LinearGaussianPolicy(covariance="full"))
    >>> history = History(improve(task, start, update, 15, n_episodes=200, seed=0, evaluate=100))
    >>> bool(history.returns[-1] > -10 > history.returns[0])
    True
    """

    horizon = 1

    def __init__(
        self,
        returns: Returns,
        n_params: int,
        contexts: Callable[[int, np.random.Generator], ArrayLike] | None = None,
    ) -> None:
        from gymnasium.spaces import Box

        if not callable(returns):
            raise TypeError(f"returns must be callable as returns(parameters, contexts, rng), got {returns!r}")
        self.returns = returns
        self.contexts = contexts
        self.action_space = Box(-np.inf, np.inf, (as_count(n_params, "n_params"),), np.float64)

    @classmethod
    def of_controller(
        cls, env: Any, controller: Controller, n_params: int, gamma: float = 1.0, max_steps: int | None = None
    ) -> ParameterSearch:
        """The search for the parameters of a deterministic controller; the context is the first observation.

        Parameters
        ----------
        env
            As for :func:`~reps_opt.rollout`, but for vector environments; a batched one runs all episodes at once.
        controller
            ``controller(parameters, observations)``: actions (n, k) of rows of parameters (n, P) at rows (n, m).
        gamma
            Discount factor of the return, in [0, 1].
        max_steps
            Steps after which an episode ends.

        Examples
        --------
        >>> import envs
        >>> gains = lambda K, x: np.einsum("nij,nj->ni", K.reshape(-1, 3, 3), x)
        >>> env = envs.LQR()
        >>> task = ParameterSearch.of_controller(env, gains, n_params=9, gamma=env.gamma)
        >>> zero_gain = rollout(task, lambda state, rng: np.zeros(9), n_episodes=1, seed=0)
        >>> zero_gain.rewards.round(3)
        array([-8.864])
        """
        discount = as_scalar(gamma, "gamma", low=0.0, high=1.0)
        limit = LONGEST_EPISODE if max_steps is None else as_count(max_steps, "max_steps")
        return _ControllerSearch(env, controller, n_params, discount, limit)

    def sample_starts(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n contexts (n, c)."""
        if self.contexts is None:
            return np.zeros((n, 1))
        drawn = as_float_array(self.contexts(n, rng), "contexts")
        return drawn.reshape(n, -1)

    def observe(self, states: FloatArray) -> FloatArray:
        """The contexts themselves."""
        return states.copy()

    def step_batch(self, states: FloatArray, actions: FloatArray, rng: np.random.Generator) -> Outcome:
        """Evaluate rows of parameters in their contexts."""
        rewards = as_float_array(self.returns(actions, states, rng), "returns", (len(states),))
        return Outcome(states, rewards, np.ones(len(states), dtype=bool))

    def sample_cuts(self, n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """None: every episode is over."""
        return np.zeros(n, dtype=bool)


class _ControllerSearch(ParameterSearch):
    """Contexts are the start states of an environment, in which the controller then acts."""

    def __init__(self, env: Any, controller: Controller, n_params: int, gamma: float, limit: int) -> None:
        super().__init__(self._run, n_params)
        self.env, self.controller, self.gamma, self.limit = as_env(env), controller, gamma, limit

    def sample_starts(self, n: int, rng: np.random.Generator) -> FloatArray:
        if is_batched(self.env):
            return np.asarray(self.env.sample_starts(n, rng))
        return rng.integers(2**32, size=(n, 1)).astype(float)  # seeds of single episodes

    def observe(self, states: FloatArray) -> FloatArray:
        return as_rows(self.env.observe(states)) if is_batched(self.env) else np.zeros_like(states)

    def _run(self, params: FloatArray, states: FloatArray, rng: np.random.Generator) -> FloatArray:
        return self._at_once(params, states, rng) if is_batched(self.env) else self._in_turn(params, states)

    def _at_once(self, params: FloatArray, states: FloatArray, rng: np.random.Generator) -> FloatArray:
        total, running = np.zeros(len(states)), np.arange(len(states))
        for t in range(step_limit(self.env, self.limit)):
            seen = as_rows(self.env.observe(states))
            actions = as_actions(self.controller(params[running], seen), self.env.action_space, len(running))
            moved = self.env.step_batch(states, actions, rng)
            total[running] += self.gamma**t * moved.rewards
            going = ~(moved.terminated | self.env.sample_cuts(len(running), rng))
            states, running = moved.next_states[going], running[going]
            if not running.size:
                break
        return total

    def _in_turn(self, params: FloatArray, seeds: FloatArray) -> FloatArray:
        def episode(row: FloatArray, seed: float) -> float:
            batch = rollout(
                self.env,
                lambda state, rng: np.asarray(self.controller(row[None], np.asarray(state)[None]))[0],
                n_episodes=1,
                seed=int(seed),
                max_steps=self.limit,
            )
            return float(self.gamma ** np.arange(len(batch)) @ batch.rewards)

        return np.array([episode(row, seed) for row, seed in zip(params, seeds[:, 0], strict=True)])
