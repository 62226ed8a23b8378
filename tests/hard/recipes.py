"""Recipes of hard problems: a few words and numbers from which a whole problem is built, the same everywhere.

A recipe is what a failure report prints, what the file of frozen instances keeps, and what Hypothesis draws. Contents
come from uniform random numbers alone, whose stream NumPy keeps from version to version.

Shapes: S = ``size`` states and A = ``width`` actions; or ``size`` samples and ``width`` features; or ``size``
parameters and ``width`` cost rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from reps_opt import (
    MDP,
    REPS,
    ConditionalREPS,
    EpisodicREPS,
    Factor,
    FiniteHorizonREPS,
    LinearProgram,
    SampleREPS,
    TrustRegionStep,
)
from reps_opt.problem import Problem

TRANSITIONS = ("sparse", "dense", "deterministic", "periodic", "absorbing", "unreachable", "multichain", "slow")
TRANSITIONS += ("nearly decomposable",)
REWARDS = ("normal", "one goal", "ties", "constant", "potential", "penalty", "jackpot")
INCONSISTENT = ("inconsistent", "counts", "other gamma")
REFERENCES = ("policy", "uniform", "graded", "zeros", "deterministic", "tiny states", *INCONSISTENT)
GAMMAS = (0.5, 0.9, 0.99, 0.9999, 1.0, 1e-6, 1 - 1e-8, 1 - 1e-12)
SCALES = (1e-9, 1e-3, 1.0, 1e3, 1e9)
SHIFTS = (0.0, 1.0, 1e6)
FEATURES = ("normal", "duplicated", "constant", "scaled", "indicators", "heavy")
BASES = ("uniform", "random", "graded", "zeros")
METRICS = ("identity", "random", "ill-conditioned", "factor", "wide factor")
BALLS = ("shared", "per_step", "trajectory")
DIVERGENCES = ("chi2", "reverse_kl", "alpha 0.5", "alpha -1", "alpha 1.5", "alpha -3")
BUDGETS = ("random", "equality", "duplicate", "band", "never", "units", "zero and constant")
BUDGETS += ("outlier",)
COST_ROWS = ("random", "dependent", "opposite")
OUTLIER = 1e10


@dataclass(frozen=True)
class Recipe:
    """What a problem is made from; see the module for ``size`` and ``width``.

    Attributes
    ----------
    structure, reference, option
        Transitions, features or metric; the reference policy or base weights; what the family still asks for.
    scale, shift
        Rewards are ``scale * (rewards + shift)``.
    epsilon
        Radius in nats (or temperature in reward ranges, for the family ``temperature``).
    """

    family: str
    seed: int
    size: int
    width: int
    structure: str
    rewards: str
    reference: str
    epsilon: float
    gamma: float = 0.9
    scale: float = 1.0
    shift: float = 0.0
    option: str = ""

    @property
    def rng(self) -> Uniform:
        return Uniform(self.seed)

    def build(self) -> Problem:
        """The problem."""
        return FAMILIES[self.family](self)


class Uniform:
    """Random arrays from uniform numbers alone."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def uniform(self, *shape: int) -> np.ndarray:
        return self._rng.random(shape)

    def normal(self, *shape: int) -> np.ndarray:
        return ndtri(np.maximum(self.uniform(*shape), 1e-16))

    def simplex(self, *shape: int) -> np.ndarray:
        """Rows uniform on the simplex."""
        weight = -np.log1p(-self.uniform(*shape))
        return weight / weight.sum(axis=-1, keepdims=True)

    def index(self, n: int, *shape: int) -> np.ndarray:
        return np.minimum((n * self.uniform(*shape)).astype(int), n - 1)


def transitions(recipe: Recipe, rng: Uniform) -> np.ndarray:
    """P (S, A, S) of the kind asked for."""
    S, A = recipe.size, recipe.width
    kind = recipe.structure
    P = rng.simplex(S, A, S)
    if kind == "sparse":
        keep = rng.uniform(S, A, S) < 0.3
        np.put_along_axis(keep, rng.index(S, S, A, 1), True, axis=2)
        P = P * keep
    elif kind == "deterministic":
        P = np.eye(S)[rng.index(S, S, A)]
    elif kind == "periodic":
        steps = 1 + 2 * rng.index(max(S // 2, 1), S, A)  # odd steps around a ring
        P = np.eye(S)[(np.arange(S)[:, None] + steps) % S]
    elif kind == "absorbing":
        P[S // 2 :] = np.eye(S)[S // 2 :, None, :]
    elif kind == "unreachable":
        P[: S - 1, :, S - 1] = 0.0
    elif kind == "multichain":
        side = np.arange(S) % 2
        P = P * (side[:, None, None] == side)
    elif kind == "slow":
        P = 1e-7 * P + np.eye(S)[:, None, :]
    elif kind == "nearly decomposable":
        side = np.arange(S) % 2
        P = P * np.where(side[:, None, None] == side, 1.0, 1e-12)
    total = P.sum(axis=2, keepdims=True)
    return np.where(total > 0, P / np.where(total > 0, total, 1.0), np.eye(S)[:, None, :])


def table_of_rewards(recipe: Recipe, rng: Uniform, P: np.ndarray) -> np.ndarray:
    """r (S, A) of the kind asked for, before scale and shift."""
    S, A = recipe.size, recipe.width
    kind = recipe.rewards
    r = rng.normal(S, A)
    if kind == "one goal":
        r = np.zeros((S, A))
        r[-1, 0] = 1.0
    elif kind == "ties":
        r = np.round(r)
    elif kind == "constant":
        r = np.full((S, A), 0.7)
    elif kind == "potential":
        potential = rng.normal(S)
        r = recipe.gamma * P @ potential - potential[:, None]
    elif kind in ("penalty", "jackpot"):
        r[-1, -1] += OUTLIER if kind == "jackpot" else -OUTLIER
    return recipe.scale * (r + recipe.shift)


def mdp_of(recipe: Recipe, rng: Uniform) -> MDP:
    P = transitions(recipe, rng)
    r = table_of_rewards(recipe, rng, P)
    start = rng.simplex(recipe.size)
    if recipe.structure == "unreachable":
        start = np.append(start[:-1], 0.0) if recipe.size > 1 else start
    return MDP(P, r, recipe.gamma, start / start.sum())


def policy_of(recipe: Recipe, rng: Uniform) -> np.ndarray:
    """Reference policy (S, A) of the kind asked for."""
    S, A = recipe.size, recipe.width
    kind = recipe.reference
    policy = rng.simplex(S, A)
    if kind == "uniform":
        policy = np.ones((S, A))
    elif kind == "graded":
        policy = policy * 10.0 ** (-30 * rng.uniform(S, A))
    elif kind == "zeros":
        policy = policy * (rng.uniform(S, A) < 0.6)
        policy[np.arange(S), rng.index(A, S)] += 0.1
    elif kind == "deterministic":
        policy = np.eye(A)[rng.index(A, S)]
    elif kind == "tiny states":
        policy[:, 0] *= 1e-120
    return policy / policy.sum(axis=1, keepdims=True)


def reference_of(recipe: Recipe, rng: Uniform, mdp: MDP) -> np.ndarray:
    """Reference occupancy (S, A): that of the policy, or one that no policy has."""
    if recipe.reference == "inconsistent":
        return rng.simplex(recipe.size * recipe.width).reshape(recipe.size, recipe.width)
    if recipe.reference == "counts":
        return np.floor(4 * rng.uniform(recipe.size, recipe.width)) + np.eye(recipe.size, recipe.width)
    if recipe.reference == "other gamma":
        return mdp.replace(gamma=0.7).occupancy(policy_of(recipe, rng))
    return mdp.occupancy(policy_of(recipe, rng))


def spread(values: np.ndarray) -> float:
    """Range of the values, or one where they are all the same."""
    return float(np.ptp(values)) or 1.0


def _reps(recipe: Recipe) -> REPS:
    rng = recipe.rng
    mdp = mdp_of(recipe, rng)
    return REPS(mdp, reference_of(recipe, rng, mdp), recipe.epsilon)


def _penalty(recipe: Recipe) -> REPS:
    rng = recipe.rng
    mdp = mdp_of(recipe, rng)
    eta = min(max(recipe.epsilon, 1e-3), 1e3) * spread(mdp.rewards)
    return REPS(mdp, reference_of(recipe, rng, mdp), temperature=eta)


def _divergences(recipe: Recipe) -> REPS:
    rng = recipe.rng
    mdp = mdp_of(recipe, rng)
    name, _, number = recipe.option.partition(" ")
    divergence = (name, float(number)) if number else name
    return REPS(mdp, reference_of(recipe, rng, mdp), recipe.epsilon, divergence=divergence)


def _budgets(recipe: Recipe) -> Problem:
    rng = recipe.rng
    mdp = mdp_of(recipe, rng)
    reference = reference_of(recipe, rng, mdp)
    costs = rng.normal(2, recipe.size, recipe.width)[: 1 + recipe.seed % 2] * 10 ** (6 * rng.uniform() - 3)
    now = np.einsum("ksa,sa->k", costs, mdp.occupancy(mdp.uniform_policy()))
    limits = now + (rng.uniform(len(costs)) - 0.4) * np.ptp(costs, axis=(1, 2)) * 0.2
    ball, _, kind = recipe.option.partition(" ")
    costs, limits = _as_people_write_them(kind, costs, limits)
    if ball == "linear":
        return LinearProgram(mdp, costs, limits)
    return REPS(mdp, reference, recipe.epsilon, costs, limits)


def _as_people_write_them(kind: str, costs: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Costs (K, S, A) and limits (K,) with the redundancy, the units or the lack of room that users write."""
    c, d = costs[:1], limits[:1]
    if kind == "equality":
        return np.concatenate([c, -c]), np.concatenate([d, -d])
    if kind == "band":
        return np.concatenate([c, -c]), np.concatenate([d, -d + 1e-2 * np.ptp(c)])
    if kind == "duplicate":
        return np.concatenate([costs, c, 3 * c]), np.concatenate([limits, d + 0.1 * np.ptp(c), 3 * d])
    if kind == "zero and constant":
        return np.concatenate([costs, 0 * c, 0 * c + 2]), np.append(limits, [0.0, 2.0])
    if kind == "never":
        hazard = np.zeros_like(c)
        hazard[0, -1, -1] = 1.0
        return hazard, np.zeros(1)
    if kind == "outlier":  # an action that costs out of all proportion
        costs[0, -1, -1] += OUTLIER * np.ptp(c)
        return costs, limits
    if kind == "units":
        return np.concatenate([1e5 * c, 1e-5 * costs[-1:]]), np.append(1e5 * d, 1e-5 * limits[-1:])
    return costs, limits


def _conditional(recipe: Recipe) -> ConditionalREPS:
    rng = recipe.rng
    mdp = mdp_of(recipe, rng)
    return ConditionalREPS(mdp, policy_of(recipe, rng), recipe.epsilon)


def _linear(recipe: Recipe) -> LinearProgram:
    return LinearProgram(mdp_of(recipe, recipe.rng))


def _horizon(recipe: Recipe) -> FiniteHorizonREPS:
    rng = recipe.rng
    mdp = mdp_of(recipe, rng)
    ball, _, steps = recipe.option.partition(" ")
    return FiniteHorizonREPS(mdp, policy_of(recipe, rng), int(steps), recipe.epsilon, ball)


def base_weights(recipe: Recipe, rng: Uniform) -> np.ndarray | None:
    """Base weights (N,) of the kind asked for."""
    n = recipe.size
    weight = rng.uniform(n) + 1e-3
    if recipe.reference == "uniform":
        return None
    if recipe.reference == "graded":
        weight = 10.0 ** (-30 * rng.uniform(n))
    if recipe.reference == "zeros":
        weight = weight * (rng.uniform(n) < 0.7)
        weight[0] += 0.1
    return weight


def feature_matrix(recipe: Recipe, rng: Uniform) -> np.ndarray:
    """Feature rows (N, d) of the kind asked for."""
    n, d = recipe.size, recipe.width
    kind = recipe.structure
    psi = rng.normal(n, d)
    if kind == "duplicated" and d > 1:
        psi[:, 1] = 2 * psi[:, 0]
    elif kind == "constant":
        psi[:, 0] = 0.0
    elif kind == "scaled":
        psi = psi * 10.0 ** (12 * rng.uniform(d) - 6)
    elif kind == "indicators":
        psi = np.eye(d + 1)[rng.index(d + 1, n)] - np.eye(d + 1)[rng.index(d + 1, n)]
        psi = psi[:, :d]
    elif kind == "heavy":
        psi = psi**5
    return psi


def sampled_rewards(recipe: Recipe, rng: Uniform) -> np.ndarray:
    """Rewards (N,) of the kind asked for."""
    r = rng.normal(recipe.size)
    if recipe.rewards == "one goal":
        r = (np.arange(recipe.size) == 0).astype(float)
    elif recipe.rewards == "ties":
        r = np.round(r)
    elif recipe.rewards == "constant":
        r = np.full(recipe.size, 0.7)
    elif recipe.rewards in ("penalty", "jackpot"):
        r[-1] += OUTLIER if recipe.rewards == "jackpot" else -OUTLIER
    return recipe.scale * (r + recipe.shift)


class SampleData(NamedTuple):
    """Rewards (N,), feature rows (N, d) or None, base weights (N,) or None, and the ridge."""

    rewards: np.ndarray
    features: np.ndarray | None
    base: np.ndarray | None
    ridge: float = 0.0


def sample_data(recipe: Recipe) -> SampleData:
    """What a sample problem is made from; features are contexts in the family ``episodic``."""
    rng = recipe.rng
    r, phi, base = sampled_rewards(recipe, rng), feature_matrix(recipe, rng), base_weights(recipe, rng)
    if recipe.family == "episodic":
        return SampleData(r, phi if recipe.option == "contexts" else None, base)
    softness = 10 ** (4 * float(rng.uniform()) - 2)  # of a mismatch of the features' size, against the rewards' range
    ridge = softness * float(np.mean(phi**2)) / spread(r)
    return SampleData(r, phi, base, ridge if recipe.option == "ridge" else 0.0)


def _samples(recipe: Recipe) -> SampleREPS:
    data = sample_data(recipe)
    return SampleREPS(data.rewards, data.features, recipe.epsilon, data.base, data.ridge)


def _episodic(recipe: Recipe) -> EpisodicREPS:
    data = sample_data(recipe)
    return EpisodicREPS(data.rewards, data.features, recipe.epsilon, data.base)


def metric_of(recipe: Recipe, rng: Uniform) -> np.ndarray:
    """Rows J of the metric F = J'J / rows, of the kind asked for."""
    n = recipe.size
    if recipe.structure == "identity":
        return math.sqrt(n) * np.eye(n)
    rows = rng.normal(3 * n if recipe.structure != "wide factor" else max(n // 2, 1), n)
    if recipe.structure == "ill-conditioned":
        rows = rows * 10.0 ** (-4 * rng.uniform(n))
    return rows


class StepData(NamedTuple):
    """Rows J (m, P) of the metric, gradient (P,), slopes (k, P) and levels (k,) of the cost rows, damping."""

    rows: np.ndarray
    gradient: np.ndarray
    slopes: np.ndarray
    levels: np.ndarray
    damping: float


def step_data(recipe: Recipe) -> StepData:
    """What a step is made from; the levels are of the size that the ball can change."""
    rng = recipe.rng
    rows = metric_of(recipe, rng)
    radius = math.sqrt(2 * recipe.epsilon) if recipe.epsilon > 0 else 1.0
    gradient, slopes = recipe.scale * rng.normal(recipe.size), rng.normal(recipe.width, recipe.size)
    if recipe.reference == "dependent" and recipe.width > 1:
        slopes[-1] = 1e3 * (slopes[0] - 0.5 * slopes[1 % (recipe.width - 1)])
    if recipe.reference == "opposite" and recipe.width > 1:
        slopes[-1] = -2.0 * slopes[0]
    levels = radius * (rng.uniform(recipe.width) - 0.7)
    levels = (
        levels * np.linalg.norm(slopes, axis=1) / math.sqrt(recipe.size) if recipe.reference == "dependent" else levels
    )
    damping = 1e-3 if recipe.structure == "wide factor" or recipe.option == "damped" else 0.0
    return StepData(rows, gradient, slopes, levels, damping)


def _step(recipe: Recipe) -> TrustRegionStep:
    data = step_data(recipe)
    metric = Factor(data.rows) if "factor" in recipe.structure else data.rows.T @ data.rows / len(data.rows)
    costs = list(zip(data.slopes, data.levels, strict=True))
    return TrustRegionStep(data.gradient, metric, recipe.epsilon, costs, data.damping)


FAMILIES: dict[str, Callable[[Recipe], Problem]] = {
    "reps": _reps,
    "temperature": _penalty,
    "f-divergence": _divergences,
    "budgets": _budgets,
    "conditional": _conditional,
    "linear": _linear,
    "horizon": _horizon,
    "samples": _samples,
    "episodic": _episodic,
    "step": _step,
}
