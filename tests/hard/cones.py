"""The problems of recipes posed in CVXPY from their data, by nobody's arithmetic but the conic solver's.

Scores are in units of the rewards' range, from zero: a conic solver's tolerances are absolute.

Shapes: n pairs (s, a) or samples; S states, A actions, T steps; N samples, d features; P parameters, k cost rows.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import cvxpy as cp
import numpy as np

from reps_opt import REPS, ConditionalREPS
from tests.hard.recipes import Recipe, sample_data, step_data

TIGHT = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}


class Cone(NamedTuple):
    """A posed problem: ``score`` to maximise, in units of ``unit`` above ``low``; its divergence and other rows."""

    score: Any
    divergence: Any
    rows: list[Any]
    radius: float
    low: float
    unit: float
    x: Any = None

    def best(self, **settings: Any) -> float:
        """The optimum, in normalised units."""
        ball = [self.divergence <= self.radius] if self.divergence is not None and self.radius < math.inf else []
        return optimum(cp.Maximize(self.score), self.rows + ball, **settings)

    def least_divergence(self, **settings: Any) -> float:
        """The smallest radius for which there is a point; zero where there is no divergence to speak of."""
        return optimum(cp.Minimize(0 if self.divergence is None else self.divergence), self.rows, **settings)


def value_range(values: np.ndarray) -> float:
    """Range of the ordinary values, one of 1e10 among them left out; their size where they are all the same."""
    usual = ordinary(values)
    return float(np.ptp(values[usual])) or max(float(np.abs(values[usual]).max()), 1e-300)


def ordinary(values: np.ndarray) -> np.ndarray:
    """Mask of the values that are not millions of usual distances from the median."""
    apart = np.abs(values - np.median(values))
    usual = float(np.quantile(apart[apart > 0], 0.25, method="lower")) if (apart > 0).any() else 0.0
    return apart <= 1e6 * usual


def floor(values: np.ndarray) -> float:
    """The least of the ordinary values: where scores count from."""
    return float(values[ordinary(values)].min())


def optimum(objective: Any, constraints: list[Any], solver: str = "CLARABEL", **settings: Any) -> float:
    """The conic solver's optimum, infinite where it finds no point; NaN where it claims neither."""
    problem = cp.Problem(objective, constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            problem.solve(solver=solver, **settings)
        except (cp.error.SolverError, ArithmeticError, ValueError):
            return math.nan
    return float(problem.value) if problem.status in ("optimal", "infeasible") else math.nan


@dataclass(frozen=True)
class Pairs:
    """A flow polytope over the pairs that the reference allows, ``flow @ p == start``, its rows of size ``weight``."""

    flow: np.ndarray
    start: np.ndarray
    weight: np.ndarray
    q: np.ndarray
    r: np.ndarray
    costs: np.ndarray
    limits: np.ndarray
    span: np.ndarray

    @property
    def unit(self) -> float:
        return value_range(self.r[self.q > 0])


def pairs(problem: Any) -> Pairs:
    """The polytope of an occupancy problem, from its MDP, reference and costs."""
    mdp = problem.mdp
    P = mdp.transitions.toarray()
    S, A = mdp.rewards.shape
    flow = np.kron(np.eye(S), np.ones(A)) - mdp.gamma * P.T
    weight = np.abs(flow).max(axis=1)  # a slow state's row is small: its residual must be, too
    weight = np.where(weight > 0, np.maximum(weight, 1e-8), 1.0)  # 1 - P(s|s) has no more digits than that
    q = np.ones(S * A) if problem.reference is None else np.asarray(problem.reference).ravel()
    if isinstance(problem, ConditionalREPS):
        q = np.asarray(problem.reference_policy).ravel()
    elif isinstance(problem, REPS) and recovers(problem):
        q = np.where(q == 0, problem._weights, q)  # states lost to underflow, as the class documents
    rows = problem.budget_rows
    costs = np.zeros((0, S * A)) if rows is None else np.asarray(rows.costs)
    limits = np.zeros(0) if rows is None else np.asarray(rows.limits)
    span = np.array([_cost_unit(c, d) for c, d in zip(costs, limits, strict=True)])
    return Pairs(flow, (1 - mdp.gamma) * mdp.mu0, weight, q, mdp.rewards.ravel(), costs, limits, span)


def _cost_unit(cost: np.ndarray, limit: float) -> float:
    """What a cost's ordinary entries, and its limit, are about."""
    if np.ptp(cost) == 0:
        return max(abs(limit), 1.0)
    return min(float(np.ptp(cost)), value_range(cost) + abs(limit - float(np.median(cost))))


def recovers(problem: REPS) -> bool:
    """Whether the problem gave mass to states that underflow had taken from the reference."""
    return bool(((problem._weights > 0) & (np.asarray(problem.reference).ravel() == 0)).any())


def power_of(problem: Any) -> float | None:
    """Alpha of the family of f-divergences; None for KL."""
    choice = getattr(problem, "divergence", "kl")
    return {"kl": None, "chi2": 2.0, "reverse_kl": 0.0}[choice] if isinstance(choice, str) else float(choice[1])


def posed(problem: Any, data: Pairs) -> tuple[Any, Any, list[Any]]:
    """CVXPY variable over the reference's support, its divergence (or None), and the linear constraints."""
    kept = np.flatnonzero(data.q > 0)
    x = cp.Variable(kept.size, nonneg=True)
    rows = [(data.flow[:, kept] / data.weight[:, None]) @ x == data.start / data.weight, cp.sum(x) == 1]
    if data.limits.size:
        rows.append((data.costs[:, kept] / data.span[:, None]) @ x <= data.limits / data.span)
    q = data.q[kept]
    if isinstance(problem, ConditionalREPS):
        state = kept // problem.mdp.n_actions
        sums = (state[:, None] == state).astype(float)
        return x, cp.sum(cp.rel_entr(x, cp.multiply(q, sums @ x))), rows
    if not isinstance(problem, REPS):
        return x, None, rows
    alpha, q = power_of(problem), q / q.sum()
    if alpha is None:
        return x, cp.sum(cp.rel_entr(x, q)), rows
    if alpha == 0:
        return x, cp.sum(cp.rel_entr(q, x)), rows
    power = cp.sum(cp.multiply(q ** (1 - alpha), cp.power(x, alpha)))
    return x, (power - 1) / (alpha * (alpha - 1)), rows


def sample_rows(recipe: Recipe) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Rewards (N,), feature differences (N, d) in columns of root mean square one, base weights, ridge."""
    data = sample_data(recipe)
    n = data.rewards.size
    base = np.full(n, 1.0 / n) if data.base is None else data.base / data.base.sum()
    psi = np.zeros((n, 0)) if data.features is None else data.features
    if recipe.family == "episodic":
        psi = base @ psi - psi
    return data.rewards, psi, base, data.ridge


def cone(recipe: Recipe, problem: Any) -> Cone:
    """The recipe's problem, posed."""
    return {"samples": _samples, "episodic": _samples, "step": _step, "horizon": _horizon}.get(
        recipe.family, _occupancy
    )(recipe, problem)


def _occupancy(recipe: Recipe, problem: Any) -> Cone:
    data = pairs(problem)
    x, divergence, rows = posed(problem, data)
    kept = data.q > 0
    low = floor(data.r[kept])
    score = ((data.r[kept] - low) / data.unit) @ x
    if problem.temperature is not None:
        score = score - problem.temperature / data.unit * divergence
    radius = math.inf if problem.epsilon is None else problem.epsilon
    return Cone(score, divergence, rows, radius, low, data.unit, x)


def _samples(recipe: Recipe, problem: Any) -> Cone:
    r, psi, base, ridge = sample_rows(recipe)
    kept = base > 0
    unit, low = value_range(r[kept]), floor(r[kept])
    rms = np.sqrt(base @ psi**2)
    x = cp.Variable(int(kept.sum()), nonneg=True)
    rows = [cp.sum(x) == 1]
    score = ((r[kept] - low) / unit) @ x
    if ridge:
        score = score - cp.sum_squares(psi[kept].T @ x) / (2 * ridge * unit)
    elif psi.size:
        rows.append((psi[kept] / np.where(rms > 0, rms, 1.0)).T @ x == 0)
    return Cone(score, cp.sum(cp.rel_entr(x, base[kept])), rows, recipe.epsilon, low, unit)


def _step(recipe: Recipe, problem: Any) -> Cone:
    """In whitened coordinates, ``F = L L'`` and ``z = L's / sqrt(2 epsilon)``: the ball is ``|z|^2 <= 1``."""
    data = step_data(recipe)
    n, width = data.gradient.size, math.sqrt(2 * recipe.epsilon) or 1.0
    lower = np.linalg.cholesky(data.rows.T @ data.rows / len(data.rows) + data.damping * np.eye(n))
    gain = np.linalg.solve(lower, data.gradient) * width
    slopes = np.linalg.solve(lower, data.slopes.T).T * width
    size = np.linalg.norm(slopes, axis=1)
    z = cp.Variable(n)
    unit = float(np.linalg.norm(gain)) or 1.0
    rows = [(slopes / size[:, None]) @ z + data.levels / size <= 0] if size.size else []
    return Cone((gain / unit) @ z, cp.sum_squares(z), rows, float(recipe.epsilon > 0), 0.0, unit)


def _horizon(recipe: Recipe, problem: Any) -> Cone:
    mdp, T = problem.mdp, problem.horizon
    P, (S, A) = mdp.transitions.toarray(), mdp.rewards.shape
    policy = np.asarray(problem.reference_policy)
    q, mu = np.zeros(policy.shape), mdp.mu0
    for t in range(T):
        q[t] = mu[:, None] * policy[t]
        mu = q[t].ravel() @ P
    x = [cp.Variable((S, A), nonneg=True) for _ in range(T)]
    rows = [cp.sum(x[0], axis=1) == mdp.mu0]
    rows += [cp.sum(b, axis=1) == P.T @ cp.reshape(a, (S * A,), order="C") for a, b in pairwise(x)]
    rows += [x[t][q[t] == 0] == 0 for t in range(T) if (q[t] == 0).any()]
    r = mdp.gamma ** np.arange(T)[:, None, None] * mdp.rewards
    low, unit = floor(r[q > 0]), value_range(r[q > 0])
    score = sum(cp.sum(cp.multiply((r[t] - low) / unit, x[t])) for t in range(T))
    ball = recipe.option.split()[0]
    if ball == "trajectory":
        arrivals = [cp.reshape(cp.sum(x[t], axis=1), (S, 1), order="C") @ np.ones((1, A)) for t in range(T)]
        each = [cp.sum(cp.rel_entr(x[t], cp.multiply(arrivals[t], policy[t] + (policy[t] == 0)))) for t in range(T)]
        return Cone(score, sum(each), rows, recipe.epsilon, T * low, unit)
    each = [cp.sum(cp.rel_entr(x[t], q[t] + (q[t] == 0))) for t in range(T)]
    divergence = sum(each) / T if ball == "shared" else cp.maximum(*each, 0)
    return Cone(score, divergence, rows, recipe.epsilon, T * low, unit)
