r"""Value features chosen from a batch: what REPS matches where nobody says what to match.

The sample dual is an upper bound on the gain of every policy whatever the value function, so the best value function is
the one with the lowest dual. Features are chosen by the dual of episodes that their value function was not fitted to:
features too coarse leave it high, and let the weights promise what no policy can do; features too fine raise it again,
for between the samples their values are anything.

Shapes: N transitions, d features; states (N, ds) or (N,).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from reps_opt.batch import Batch
from reps_opt.features import IDENTITY, as_columns
from reps_opt.problems.sample_flow import SampleFlow, batch_gamma, sample_flow, start_rule
from reps_opt.problems.sample_problem import TransitionProblem
from reps_opt.problems.sample_solution import SampleSolution
from reps_opt.solvers.newton import Newton
from reps_opt.solving import tried
from reps_opt.tolerances import (
    FEWEST_WAVES,
    FIRST_WIDTH,
    HALF_TURN,
    LONGEST_HORIZON,
    MOST_COLUMNS,
    MOST_COMPONENTS,
    MOST_DISCRETE_VALUES,
    MOST_SQUARED,
    MOST_WAVES,
    SELECTION_FOLDS,
    SELECTION_ROWS,
    USUAL_RADIUS,
    VALUE_RIDGE,
    WAVE_WIDTHS,
)
from reps_opt.validation import FloatArray, as_radius

ROUGH = Newton(tolerance=1e-4, slack_suspected=0.0)
"""Route of the trials: they are compared to a percent."""


@dataclass(frozen=True)
class ValueFeatures:
    """A feature map with how it was chosen; ``transform(states)`` gives phi (n, d).

    Attributes
    ----------
    kind : str
        ``"waves"`` (random Fourier features of standardised states, or of principal components), ``"quadratics"`` (of
        the same), ``"indicators"`` (one a discrete state), or ``"states as they are"`` (that are indicators already).
    width : float
        Of the waves, in standard deviations of the states; infinite for quadratics, NaN for indicators.
    n_features : int
        d.
    ridge : float
        That goes with them, see :class:`~reps_opt.SampleREPS`.
    angles : tuple of int
        Columns of the states that were taken for angles.
    trials : mapping
        Held-out dual less the base's mean reward, by width, in reward units; empty where there was no choice.
    """

    transformer: Any
    kind: str
    width: float
    n_features: int
    ridge: float
    trials: dict[float, float]
    angles: tuple[int, ...] = ()

    def transform(self, states: ArrayLike) -> FloatArray:
        """phi (n, d)."""
        return np.asarray(self.transformer.transform(as_columns(states)))

    def __str__(self) -> str:
        width = "" if not math.isfinite(self.width) else f" of width {self.width:.2g}"
        turns = f", columns {', '.join(map(str, self.angles))} as angles" if self.angles else ""
        return f"{self.n_features} {self.kind}{width}{turns}"


class _Trial(NamedTuple):
    """What features are tried with."""

    batch: Batch
    gamma: float | None
    on_done: str | None
    starts: str | None
    epsilon: float | None
    temperature: float | None
    base_weights: FloatArray | None
    ridge: float

    def flow(self, features: Any) -> SampleFlow:
        return sample_flow(self.batch, features, self.gamma, self.on_done, self.starts, None, self.base_weights)

    def select(self, episodes: np.ndarray) -> _Trial:
        """The same on some episodes, by position."""
        rows = np.isin(np.unique(self.batch.episode, return_inverse=True)[1], episodes)
        base = None if self.base_weights is None else self.base_weights[rows]
        return self._replace(batch=self.batch.select_episodes(episodes), base_weights=base)

    def solve(self, features: Any) -> SampleSolution:
        flow = self.flow(features)
        data = flow.rewards, flow.differences
        problem = TransitionProblem(*data, self.epsilon, flow.base, self.ridge, temperature=self.temperature, flow=flow)
        return tried(problem, ROUGH)


def value_features(
    batch: Batch,
    gamma: float | None = None,
    on_done: str | None = None,
    starts: str | None = None,
    epsilon: float | None = None,
    temperature: float | None = None,
    base_weights: FloatArray | None = None,
    ridge: float | None = None,
    seed: int = 0,
) -> ValueFeatures:
    r"""Value features of a batch, chosen from it; the arguments are those of :meth:`SampleREPS.from_batch`.

    Discrete states, and states that are indicators already, get a value each. Columns that are angles, which are
    within pi either way and go over to the other side in a step, count as their sines and cosines. States are
    standardised (more than 30 columns, such as pixels, reduced to principal components first), and get random Fourier
    features, or squares and products. Their width, or what they are, is what has the least dual on held-out episodes,

    .. math:: \eta \epsilon + \eta \log \textstyle\sum_i b_i e^{\min(\delta_i, \max \delta)/\eta}
              - \langle b, r \rangle, \qquad \delta = r + \psi'\theta

    with eta and theta of the other two thirds of the episodes, and delta up to the largest that occurs there: a few
    states far from all that was seen would else decide. The search starts at a width of middling size and goes
    downhill.

    Measured on Pendulum-v1, nine widths at each of four stages of a run: the policy fitted with the width of the least
    held-out dual gained from 76 to 100 per cent of what the best of the nine did; the widest four, which promise most,
    gained from all of it, early on, down to a loss of twice what they promised.

    Examples
    --------
    >>> import envs
    >>> from reps_opt import rollout
    >>> batch = rollout(envs.SwingUp(), n_episodes=10, seed=0)
    >>> features = value_features(batch, gamma=0.98)
    >>> features.kind, features.transform(batch.states).shape == (len(batch), features.n_features)
    ('waves', True)
    """
    seen = _seen(batch)
    if _are_indicators(seen):
        return ValueFeatures(IDENTITY, "states as they are", math.nan, seen.shape[1], ridge or 0.0, {})
    known = _few_rows(batch, seen)
    if known is not None:
        return ValueFeatures(_Rows(known), "indicators", math.nan, len(known), ridge or 0.0, {})
    starts = start_rule(starts, batch, batch_gamma(batch) if gamma is None else gamma)
    radius, price = as_radius(epsilon, temperature, default=USUAL_RADIUS)
    trial = _Trial(batch, gamma, on_done, starts, radius, price, base_weights, ridge or 0.0)
    flow, make, trials = trial.flow(IDENTITY), _make(batch, seed), dict[float, float]()
    angles = tuple(int(column) for column in make.angles)
    if ridge is None:
        trial = trial._replace(ridge=default_ridge(flow))
    width, some = make.widths[FIRST_WIDTH], _some(trial, seed)
    if batch.n_episodes < SELECTION_FOLDS or np.ptp(flow.rewards) == 0:
        return ValueFeatures(make(width), "waves", width, make.count, trial.ridge, trials, angles)
    width = _downhill(lambda width: held_out_dual(some, make(width), seed), make.widths, FIRST_WIDTH, trials)
    if make.columns <= MOST_SQUARED:
        trials[math.inf] = held_out_dual(some, make(math.inf), seed)
        width = width if trials[width] <= trials[math.inf] else math.inf
    features = make(width)
    kind = "waves" if width < math.inf else "quadratics"
    return ValueFeatures(features, kind, width, features.transform(seen[:1]).shape[1], trial.ridge, trials, angles)


def default_ridge(flow: SampleFlow) -> float:
    """A ridge whose price is small beside ``eta epsilon`` for values as large as rewards over ``1 - gamma``."""
    spread = math.sqrt(float(flow.base @ (flow.rewards - flow.base @ flow.rewards) ** 2))
    return VALUE_RIDGE * max(1.0 - flow.gamma, 1 / LONGEST_HORIZON) ** 2 / spread if spread > 0 else 0.0


def held_out_dual(trial: _Trial, features: Any, seed: int) -> float:
    """Mean over the folds of the dual on episodes left out, less the base's mean reward there, in reward units."""
    fold = np.random.default_rng(seed).permutation(trial.batch.n_episodes) % SELECTION_FOLDS
    values = []
    for k in range(SELECTION_FOLDS):
        solution = trial.select(np.flatnonzero(fold != k)).solve(features)
        if not solution.has_point or not solution.eta > 0:
            return math.inf
        flow = trial.select(np.flatnonzero(fold == k)).flow(features)
        theta = solution.theta
        if flow.absorbs != solution.problem.flow.absorbs:  # all of the few terminations are on one side
            theta = theta[:-1] if solution.problem.flow.absorbs else np.append(theta, 0.0)
        delta = np.minimum(flow.rewards + flow.differences @ theta, solution.bellman_error.max())
        tilted = solution.eta * logsumexp(delta / solution.eta, b=flow.base)
        room = 0.0 if trial.epsilon is None else solution.eta * trial.epsilon
        values.append(room + tilted - flow.base @ flow.rewards)
    return float(np.mean(values))


def flow_residual(solution: SampleSolution, batch: Batch, seed: int = 1) -> float:
    r"""How far a solution's weights are from a flow, in finer features that they did not match: about one for a flow.

    .. math:: \big|\textstyle\sum_i w_i \psi'_i\big| \Big/ \sqrt{\textstyle\sum_i w_i^2 |\psi'_i|^2}

    with psi' of fresh waves half as wide as those of the value features, where these are waves.
    """
    flow, known = solution.problem.flow, solution.problem.features
    seen = _seen(batch)
    if _few_rows(batch, seen) is not None or _are_indicators(seen):
        return 0.0 if isinstance(known, ValueFeatures) else math.nan
    given = known.width if isinstance(known, ValueFeatures) else math.inf
    features = _make(batch, seed)(given / 2 if given < math.inf else None)
    fine = sample_flow(batch, features, flow.gamma, flow.on_done, flow.starts, base_weights=flow.given)
    w = solution.sample_weights
    noise = float(np.sqrt(w**2 @ np.square(fine.differences).sum(axis=1)))
    return float(np.linalg.norm(w @ fine.differences)) / noise if noise > 0 else 0.0


def _downhill(measure: Callable[[float], float], widths: list[float], place: int, trials: dict[float, float]) -> float:
    """The width of a local minimum, from ``place`` on in steps of one; every trial is written down."""

    def at(i: int) -> float:
        if not 0 <= i < len(widths):
            return math.inf
        if widths[i] not in trials:
            trials[widths[i]] = measure(widths[i])
        return trials[widths[i]]

    for step in (-1, 1):
        while at(place + step) < at(place):
            place += step
    return widths[place]


def _some(trial: _Trial, seed: int) -> _Trial:
    """At most so many transitions, in whole episodes drawn at random; three episodes at least."""
    lengths = np.unique(trial.batch.episode, return_counts=True)[1]
    if lengths.sum() <= SELECTION_ROWS:
        return trial
    order = np.random.default_rng(seed).permutation(lengths.size)
    kept = max(SELECTION_FOLDS, int(np.searchsorted(np.cumsum(lengths[order]), SELECTION_ROWS)))
    return trial.select(np.sort(order[:kept]))


def _seen(batch: Batch) -> FloatArray:
    """All states of a batch, as columns."""
    return np.concatenate([as_columns(states) for states in (batch.states, batch.next_states, batch.start_states)])


def _are_indicators(states: FloatArray) -> bool:
    """Whether every state is a row of zeros but for a single one, in more than one column."""
    return states.shape[1] > 1 and bool(np.isin(states, (0.0, 1.0)).all() and (states.sum(axis=1) == 1).all())


def _few_rows(batch: Batch, seen: FloatArray) -> FloatArray | None:
    """The distinct states seen, where states are integers of few values; else None."""
    if batch.states.dtype.kind not in "bui":
        return None
    known = np.unique(seen, axis=0)
    return known if len(known) <= MOST_DISCRETE_VALUES else None


@dataclass(frozen=True)
class _Waves:
    """Random Fourier features of scaled states, in one width or another; squares and products for an infinite one."""

    scalers: tuple[Any, ...]
    columns: int
    count: int
    seed: int
    angles: NDArray[np.intp]

    @property
    def widths(self) -> list[float]:
        return [width * math.sqrt(self.columns / 2) for width in WAVE_WIDTHS]

    def __call__(self, width: float | None = None) -> Any:
        """The features, fitted; of a fine width where none is said."""
        from sklearn.kernel_approximation import RBFSampler
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import PolynomialFeatures

        width = self.widths[FIRST_WIDTH] / 2 if width is None else width
        if width == math.inf:
            squares = PolynomialFeatures(2, include_bias=False).fit(np.zeros((1, self.columns)))
            return make_pipeline(*self.scalers, squares)
        sampler = RBFSampler(gamma=0.5 / width**2, n_components=self.count, random_state=self.seed)
        return make_pipeline(*self.scalers, sampler.fit(np.zeros((1, self.columns))))


def _make(batch: Batch, seed: int) -> _Waves:
    """Waves of a batch's states: of their standardised columns, or of many columns' principal components."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    angles = _angles(batch)
    unrolling = FunctionTransformer(partial(_unrolled, angles=angles))
    states = unrolling.transform(batch.states)
    count = int(np.clip(len(batch) // 8, FEWEST_WAVES, MOST_WAVES))
    if states.shape[1] <= MOST_COLUMNS:
        return _Waves((unrolling, StandardScaler().fit(states)), states.shape[1], count, seed, angles)
    components = PCA(min(MOST_COMPONENTS, *states.shape), random_state=seed).fit(states)
    unit = float(np.sqrt(components.explained_variance_[0])) or 1.0
    scalers = unrolling, components, FunctionTransformer(partial(_divided, unit=unit))
    return _Waves(scalers, components.n_components_, count, seed, angles)


def _divided(states: FloatArray, unit: float) -> FloatArray:
    return states / unit


def _angles(batch: Batch) -> NDArray[np.intp]:
    """Columns that hold angles: within half a turn either way, and going over to the other side in a step.

    A column that merely has this range moves by a half of it now and then; of an angle's steps none is so long, but for
    those that are all but a whole turn.
    """
    states, following = as_columns(batch.states), as_columns(batch.next_states)
    moved = np.abs(following - states)
    within = np.maximum(np.abs(states).max(axis=0), np.abs(following).max(axis=0)) <= HALF_TURN
    over = moved > 1.5 * math.pi
    return np.flatnonzero(within & over.any(axis=0) & ~((moved > 0.5 * math.pi) & ~over).any(axis=0))


def _unrolled(states: ArrayLike, angles: NDArray[np.intp]) -> FloatArray:
    """States in any shape that a batch has as columns, the angles among them as sines, and their cosines behind."""
    columns = as_columns(states).copy()
    turned = columns[:, angles]
    columns[:, angles] = np.sin(turned)
    return np.hstack([columns, np.cos(turned)])


@dataclass(frozen=True)
class _Rows:
    """Indicators of rows known; of another row, none."""

    known: FloatArray

    def transform(self, states: FloatArray) -> FloatArray:
        return (cdist(states, self.known) == 0).astype(np.float64)
