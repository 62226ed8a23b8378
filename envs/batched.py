"""The one base class: an environment whose dynamics step any number of states at once.

Shapes: N states side by side, d state variables, k action variables, m observed numbers; states are (N, d), actions
(N, k), observations (N, m), rewards and flags (N,). Tabular environments have (N,) integer states and actions.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from reps_opt.validation import FloatArray, as_count, as_float_array, as_scalar

BoolArray = NDArray[np.bool_]


class Transition(NamedTuple):
    """What follows from states and actions: next states (N, d), rewards (N,), terminated (N,)."""

    next_states: NDArray[Any]
    rewards: FloatArray
    terminated: BoolArray


class BatchedEnv(gymnasium.Env[Any, Any]):
    """An environment defined by batched functions of the state, with Gymnasium's interface on top of them.

    A task says where episodes start (:meth:`sample_starts`), what a step does (``_advance``), what is seen of the
    state (:meth:`observe`) and how it is drawn (:meth:`draw`). All are functions of their arguments alone, so roll-outs
    may step thousands of states at once; Gymnasium's ``reset`` and ``step`` call the same functions with one state.

    Parameters
    ----------
    gamma
        The task's discount factor in (0, 1], for the learner: the environment itself never discounts. By default
        ``1 - reset_probability``.
    horizon
        Steps after which an episode is truncated; None for no limit.
    reset_probability
        Probability in [0, 1) that an episode is cut after any step. The cut is a truncation, not a termination:
        discounting by ``1 - reset_probability`` already accounts for it, so learners bootstrap there.
    render_mode
        None, or ``"rgb_array"``.

    Notes
    -----
    Actions outside the action space are clipped to it, also in the reward. Randomness comes from the generator passed
    in, row by row in one call a step, so N rows stepped at once equal the N rows stepped in turn with one generator.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 20}  # type: ignore[misc]
    gamma: float
    horizon: int | None
    reset_probability: float

    def __init__(
        self,
        *,
        gamma: float | None = None,
        horizon: int | None = None,
        reset_probability: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        self.reset_probability = as_scalar(reset_probability, "reset_probability", low=0.0, high=1.0)
        if self.reset_probability == 1.0:
            raise ValueError("reset_probability must be < 1, got 1")
        discount = 1.0 - self.reset_probability if gamma is None else gamma
        self.gamma = as_scalar(discount, "gamma", low=0.0, high=1.0, low_open=True)
        self.horizon = None if horizon is None else as_count(horizon, "horizon")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or one of {self.metadata['render_modes']}, got {render_mode!r}")
        self.render_mode = render_mode
        self._state: NDArray[Any] | None = None
        self._elapsed = 0

    @abstractmethod
    def sample_starts(self, n: int, rng: np.random.Generator) -> NDArray[Any]:
        """Draw n start states (n, d)."""

    @abstractmethod
    def _advance(self, states: NDArray[Any], actions: NDArray[Any], rng: np.random.Generator) -> Transition:
        """Step states with legal actions; must not write to its arguments."""

    @abstractmethod
    def draw(self, state: NDArray[Any]) -> NDArray[np.uint8]:
        """Draw one state as an RGB image (height, width, 3)."""

    def observe(self, states: NDArray[Any]) -> NDArray[Any]:
        """What the learner sees of the states (N, m): the states themselves, unless a task says otherwise."""
        return states.copy()

    def step_batch(self, states: NDArray[Any], actions: ArrayLike, rng: np.random.Generator) -> Transition:
        """Step N states at once.

        Parameters
        ----------
        states
            States (N, d), as :meth:`sample_starts` or an earlier step returned them.
        actions
            Actions (N, k), clipped to the action space.
        rng
            Source of the step's randomness, if the task has any.

        Raises
        ------
        TypeError, ValueError
            If the actions have another shape or dtype, or one is NaN or infinite (the first index is given).
        """
        return self._advance(states, self._as_actions(actions, len(states)), rng)

    def sample_cuts(self, n: int, rng: np.random.Generator) -> BoolArray:
        """Draw which of n episodes are cut after this step, each with ``reset_probability``."""
        if self.reset_probability == 0.0:
            return np.zeros(n, dtype=bool)
        return rng.random(n) < self.reset_probability

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start an episode, from a start state or from ``options["state"]``; see ``gymnasium.Env.reset``."""
        super().reset(seed=seed)
        if options and "state" in options:
            self._state = self._as_state(options["state"])
        else:
            self._state = self.sample_starts(1, self.np_random)[0]
        self._elapsed = 0
        return self.observe(self._state[None])[0], {}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Take one step: a batch of one; see ``gymnasium.Env.step``."""
        state = self._current()
        next_states, rewards, terminated = self.step_batch(state[None], np.asarray(action)[None], self.np_random)
        self._state = next_states[0]
        self._elapsed += 1
        cut = bool(self.sample_cuts(1, self.np_random)[0])
        truncated = cut or (self.horizon is not None and self._elapsed >= self.horizon)
        return self.observe(next_states)[0], float(rewards[0]), bool(terminated[0]), truncated, {}

    def render(self) -> NDArray[np.uint8] | None:
        """The current state as an RGB image (height, width, 3), if ``render_mode`` is ``"rgb_array"``."""
        return None if self.render_mode is None else self.draw(self._current())

    def _current(self) -> NDArray[Any]:
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call env.reset() before env.step() or env.render()")
        return self._state

    def _as_state(self, state: ArrayLike) -> NDArray[Any]:
        like = self.sample_starts(1, np.random.default_rng(0))[0]
        return as_float_array(state, 'options["state"]', like.shape).copy()

    def _as_actions(self, actions: ArrayLike, n: int) -> NDArray[Any]:
        box = self.action_space
        assert isinstance(box, spaces.Box)
        return np.clip(as_float_array(actions, "actions", (n, *box.shape)), box.low, box.high)


def box(low: ArrayLike, high: ArrayLike) -> spaces.Box:
    """A float64 Box of the shape of ``high``; one lower bound serves all its entries."""
    upper = np.asarray(high, dtype=np.float64)
    return spaces.Box(np.broadcast_to(np.asarray(low, dtype=np.float64), upper.shape), upper, dtype=np.float64)
