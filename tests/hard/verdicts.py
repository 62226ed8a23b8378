"""What to make of an answer, from the problem's data alone: is the point feasible, and is a bound on all others near?

Nothing here calls the library's own arithmetic. The multipliers reported are taken for a guess: by weak duality any
guess gives a bound. Where that bound is not near enough, a conic solver is asked for a better point.

Shapes: n pairs (s, a) or samples; S states, A actions, T steps; N samples, d features; P parameters, k cost rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.special import logsumexp, rel_entr

from reps_opt import REPS, ConditionalREPS, Solution, Status
from tests.hard.cones import Pairs, cone, pairs, power_of, sample_rows, value_range
from tests.hard.recipes import Recipe, step_data

GAP, FLOW, MASS, BALL = 2e-6, 2e-8, 2e-9, 2e-7
"""Twice the tolerances that a certificate promises, for the rounding of a second computation."""

CONE = 2e-5
"""How much better than an answer a conic solver's point must be, in reward ranges, to contradict it."""


@dataclass(frozen=True)
class Verdict:
    """``kind`` is the answer's status, or ``"wrong"`` with the reasons; ``confirmed`` says by what."""

    kind: str
    reason: str = ""
    confirmed: str = ""


class WrongError(Exception):
    """The answer is contradicted by the data."""


def demand(value: float, limit: float, what: str) -> None:
    """Raise WrongError unless ``value <= limit``."""
    if not value <= limit:
        raise WrongError(f"{what}: {value:.3e} > {limit:.1e}")


def judge(recipe: Recipe, solution: Solution) -> Verdict:
    """The verdict on an answer to a recipe's problem."""
    check = {"samples": _samples, "episodic": _samples, "step": _step, "horizon": _horizon}.get(
        recipe.family, _occupancy
    )
    kind = str(solution.status)
    try:
        if solution.status is Status.CERTIFIED:
            return Verdict(kind, solution.message, check(recipe, solution))
        if solution.status is Status.INFEASIBLE:
            return Verdict(kind, solution.message, _infeasible(recipe, solution))
    except WrongError as error:
        return Verdict("wrong", f"{solution.status}, but {error}")
    return Verdict(kind, solution.message)


def soft_max(exponent: np.ndarray, reference: np.ndarray, eta: float) -> float:
    """``eta log sum q exp(x / eta)``, the largest x where eta is zero."""
    if eta == 0:
        return float(exponent[reference > 0].max())
    with np.errstate(divide="ignore"):
        return float(eta * logsumexp(np.log(reference) + exponent / eta))


# Occupancies


def _divergence(solution: Any, data: Pairs, p: np.ndarray) -> float:
    problem = solution.problem
    q = data.q
    if (p[q == 0] > 0).any():
        return math.inf
    if isinstance(problem, ConditionalREPS):
        mass = p.reshape(solution.policy.shape).sum(axis=1, keepdims=True)
        conditional = (p.reshape(solution.policy.shape) / np.where(mass > 0, mass, 1.0)).ravel()
        return float(p[p > 0] @ np.log(conditional[p > 0] / q[p > 0]))
    if not isinstance(problem, REPS):
        return 0.0
    alpha = power_of(problem)
    q = q / q.sum() if alpha is not None else q
    some = q > 0
    if alpha is None:
        return float(rel_entr(p[some], q[some]).sum())
    with np.errstate(divide="ignore", over="ignore"):
        if alpha == 0:
            return float(rel_entr(q[some], p[some]).sum())
        u = p[some] / q[some]
        return float((q[some] * (u**alpha - 1 - alpha * (u - 1))).sum()) / (alpha * (alpha - 1))


def _occupancy(recipe: Recipe, solution: Any) -> str:
    problem, data = solution.problem, pairs(solution.problem)
    p = solution.occupancy.ravel()
    epsilon = math.inf if problem.epsilon is None else problem.epsilon
    size = float(np.abs(data.r).max())
    demand(-p.min(), 0.0, "negative mass")
    demand(abs(p.sum() - 1), MASS, "mass")
    demand((np.abs(data.flow @ p - data.start) / data.weight).sum(), FLOW, "flow")
    divergence = _divergence(solution, data, p)
    demand(divergence - epsilon if epsilon < math.inf else 0.0, BALL, "divergence beyond the ball")
    for cost, limit, span in zip(data.costs, data.limits, data.span, strict=True):
        demand((cost @ p - limit) / span, FLOW, "budget")
    price = problem.temperature or 0.0
    objective = float(data.r @ p) - price * divergence
    demand(abs(objective - solution.objective), 1e-8 * data.unit + 1e-13 * (size + price), "objective misreported by")
    _policy_agrees(solution)
    if solution.eta == math.inf and type(problem) is REPS and recipe.reference != "inconsistent":
        return _single_point(p, data.q, epsilon, solution.epsilon_min == 0)
    upper, rounding = _upper_bound(solution, data)
    demand(solution.objective - upper, GAP * data.unit + rounding, "objective above a dual bound by")
    if upper - solution.objective <= GAP * data.unit + rounding and rounding <= 100 * GAP * data.unit:
        return "dual bound"
    return _better_point(recipe, solution)


def _single_point(found: np.ndarray, reference: np.ndarray, epsilon: float, feasible: bool) -> str:
    """Where eta is infinite: the reference itself, by Pinsker's inequality, if that is feasible."""
    if not feasible:
        return "nothing"
    demand(np.abs(found - reference).sum(), math.sqrt(2 * epsilon) + 1e-9, "off the reference, though eta is infinite,")
    return "reference"


def _policy_agrees(solution: Any) -> None:
    demand(np.abs(solution.policy.sum(axis=1) - 1).max(), 1e-9, "policy rows off one by")
    mass = solution.occupancy.sum(axis=1, keepdims=True)
    demand(np.abs(solution.policy * mass - solution.occupancy).max(), 1e-9, "policy and occupancy differ by")


def _upper_bound(solution: Any, data: Pairs) -> tuple[float, float]:
    """Dual bound at the multipliers reported, and the rounding in it; infinite where they give none."""
    problem, eta = solution.problem, float(solution.eta)
    gamma = problem.mdp.gamma
    V = solution.value
    known = np.isfinite(V)
    loose = ~known[np.arange(data.q.size) // problem.mdp.n_actions]
    leaving = data.flow[~known]
    dead = loose | ((leaving < 0).any(axis=0) if leaving.size else False) | (data.q == 0)
    if eta == math.inf or not _carries_nothing(data, dead & (data.q > 0)):
        return math.inf, 0.0
    v = np.where(known, V, 0.0)
    nu = np.asarray(solution.duals.get("budgets", np.zeros(0)))
    delta = (data.r - data.flow.T @ v - data.costs.T @ nu)[~dead]
    q = data.q[~dead]
    fixed = float(data.start @ v + data.limits @ nu)
    if problem.temperature is not None:
        eta = problem.temperature
    if problem.epsilon is not None and math.isfinite(problem.epsilon):
        fixed += eta * problem.epsilon
    largest = float(np.abs(v).max()) + float(np.abs(data.r).max()) + (problem.temperature or 0.0)
    rounding = 64 * np.finfo(float).eps * largest
    if isinstance(problem, ConditionalREPS) and eta > 0:
        state = (np.arange(data.q.size) // problem.mdp.n_actions)[~dead]
        return fixed + max(soft_max(delta[state == s], q[state == s], eta) for s in np.unique(state)), rounding
    alpha = power_of(problem) if isinstance(problem, REPS) else None
    if alpha is None or eta == 0:
        return fixed + soft_max(delta, q, eta), rounding
    normaliser = 0.0 if gamma < 1 else float(solution.duals["normalisation"])
    gone = data.q[dead & (data.q > 0)].sum() / data.q.sum()
    return fixed + normaliser + eta * _f_conjugate(q / data.q.sum(), gone, (delta - normaliser) / eta, alpha), rounding


def _f_conjugate(q: np.ndarray, gone: float, t: np.ndarray, alpha: float) -> float:
    """``sum q f*(t)``; coordinates held at zero, of total mass ``gone``, cost f(0)."""
    if alpha == 0:
        inside = 1 - t
        return math.inf if gone > 0 or (inside <= 0).any() else float(-(q @ np.log(inside)))
    xi = 1 + (alpha - 1) * t
    if alpha < 1 and (xi <= 0).any():
        return math.inf
    power = np.maximum(xi, 0.0) ** (alpha / (alpha - 1))
    return float(q @ ((power - 1) / alpha)) - (gone / alpha if alpha > 0 else (math.inf if gone else 0.0))


def _carries_nothing(data: Pairs, dead: np.ndarray) -> bool:
    """Whether no occupancy on the reference's support has mass on the pairs marked."""
    if not dead.any():
        return True
    bounds = [(0, None) if allowed else (0, 0) for allowed in data.q > 0]
    A = np.vstack([data.flow / data.weight[:, None], np.ones((1, data.q.size))])
    found = linprog(
        -dead.astype(float), A_eq=A, b_eq=np.append(data.start / data.weight, 1.0), bounds=bounds, method="highs"
    )
    return found.status == 0 and -found.fun <= 1e-9


# Infeasibility


def _better_point(recipe: Recipe, solution: Any) -> str:
    """Raise WrongError where a conic solver finds a better point."""
    posed = cone(recipe, solution.problem)
    best = posed.best()
    if math.isnan(best):
        return "nothing"
    rounding = 64 * np.finfo(float).eps * abs(posed.low) / posed.unit
    demand(best - (solution.objective - posed.low) / posed.unit, CONE + rounding, "a conic solver does better by")
    return "cone"


def _infeasible(recipe: Recipe, solution: Any) -> str:
    """Raise WrongError where the reference is feasible, or a conic solver finds a point well inside the ball."""
    if recipe.family == "step" and recipe.epsilon == 0:
        demand(-step_data(recipe).levels.max(), 0.0, "no step is needed: the largest level is")
        return "levels"
    consistent = {"horizon": True, "conditional": True, "linear": True, "budgets": False, "step": False}
    consistent |= {"samples": False, "episodic": recipe.option == ""}
    if consistent.get(recipe.family, recipe.reference != "inconsistent"):
        raise WrongError("the reference itself is feasible")
    least = cone(recipe, solution.problem).least_divergence()
    if math.isnan(least):
        return "nothing"
    epsilon = solution.problem.epsilon
    radius = 1.0 if recipe.family == "step" else 1e300 if epsilon is None else min(epsilon, 1e300)
    demand(radius - least, 1e-5 * (1 + abs(least)), "a point lies inside the ball by")
    return "cone"


# Samples


def _samples(recipe: Recipe, solution: Any) -> str:
    r, psi, base, ridge = sample_rows(recipe)
    w, eta, theta = solution.weights("sum"), float(solution.eta), solution.theta
    kept = base > 0
    unit, size = value_range(r[kept]), float(np.abs(r).max())
    rms = np.sqrt(base @ psi**2)
    demand(-w.min(), 0.0, "negative weight")
    demand(abs(w.sum() - 1), MASS, "mass")
    demand(float(w[~kept].sum()), 0.0, "weight where the base has none")
    missed = w @ psi
    if not ridge:
        demand(float((np.abs(missed) / np.where(rms > 0, rms, np.inf)).sum()), FLOW, "features")
    divergence = float(rel_entr(w[kept], base[kept]).sum())
    demand(divergence - recipe.epsilon if recipe.epsilon < math.inf else 0.0, BALL, "divergence beyond the ball")
    price = float(missed @ missed) / (2 * ridge) if ridge else 0.0
    objective = float(r @ w) - price
    size += price
    tolerance = 1e-8 * unit + 1e-13 * size + 1e-9 * abs(objective)
    demand(abs(objective - solution.objective), tolerance, "objective misreported by")
    if eta == math.inf:
        return _single_point(w, base, recipe.epsilon, bool(ridge) or np.abs(base @ psi).max(initial=0.0) == 0)
    radius = eta * recipe.epsilon if recipe.epsilon < math.inf else 0.0
    upper = radius + soft_max((r + psi @ theta)[kept], base[kept], eta) + 0.5 * ridge * float(theta @ theta)
    rounding = 64 * np.finfo(float).eps * (size + float(np.abs(psi * theta).max(initial=0.0)))
    demand(objective - upper, GAP * unit + rounding, "objective above a dual bound by")
    if upper - objective <= GAP * unit + rounding:
        return "dual bound"
    return _better_point(recipe, solution)


# Steps


def _step(recipe: Recipe, solution: Any) -> str:
    data = step_data(recipe)
    n = data.gradient.size
    F = data.rows.T @ data.rows / len(data.rows) + data.damping * np.eye(n)
    s, eta, nu = solution.step / solution.lengthening, float(solution.eta), solution.nu
    width = np.sqrt(2 * recipe.epsilon)
    inverse = np.linalg.inv(F)
    reach = width * np.sqrt(np.einsum("ki,ij,kj->k", data.slopes, inverse, data.slopes))
    unit = width * math.sqrt(data.gradient @ inverse @ data.gradient)
    demand(0.5 * s @ F @ s - recipe.epsilon, 1e-7 * recipe.epsilon, "divergence beyond the ball")
    for slope, level, far in zip(data.slopes, data.levels, reach, strict=True):
        demand(slope @ s + level, FLOW * (far + abs(level)), "cost row")
    objective = float(data.gradient @ s)
    demand(abs(objective - solution.objective), 1e-8 * unit, "objective misreported by")
    real = 0.5 * solution.step @ (F - data.damping * np.eye(n)) @ solution.step
    demand(real - recipe.epsilon, 1e-7 * recipe.epsilon, "step taken beyond the ball")
    if eta == math.inf:
        demand(unit, 0.0, "eta is infinite but the ball is not a point")
        return "dual bound"
    pulled = data.gradient - nu @ data.slopes
    square = float(pulled @ inverse @ pulled)
    upper = eta * recipe.epsilon - float(nu @ data.levels) + (square / (2 * eta) if eta > 0 else 0.0)
    if eta == 0 and square > (1e-6 * unit / width) ** 2 if width > 0 else False:
        upper = math.inf
    demand(abs(upper - objective), GAP * unit, "objective off a dual bound by")
    return "dual bound"


# Finite horizons


def _horizon(recipe: Recipe, solution: Any) -> str:
    problem = solution.problem
    mdp, T = problem.mdp, problem.horizon
    P = mdp.transitions.toarray()
    policy, reference = solution.policy, np.asarray(problem.reference_policy)
    r = mdp.gamma ** np.arange(T)[:, None, None] * mdp.rewards
    p, q = (_forward(P, mdp.mu0, table) for table in (policy, reference))
    demand(np.abs(p - solution.occupancy).max(), 1e-10, "occupancy is not the policy's by")
    conditional = np.array([(p[t].sum(axis=1)[:, None] * rel_entr(policy[t], reference[t])).sum() for t in range(T)])
    joint = np.array([rel_entr(p[t], q[t]).sum() for t in range(T)])
    label = recipe.option.split()[0]
    reached = {"shared": joint.mean(), "per_step": joint.max(), "trajectory": conditional.sum()}[label]
    demand(reached - recipe.epsilon if recipe.epsilon < math.inf else 0.0, BALL, "divergence beyond the ball")
    objective, unit = float((r * p).sum()), value_range(r[q > 0]) * T
    size = float(np.abs(r).max()) * T
    demand(abs(objective - solution.objective), 1e-8 * unit + 1e-13 * size, "objective misreported by")
    eta = np.broadcast_to(np.asarray(solution.eta, dtype=float), (T,))
    if np.isinf(eta).any():
        demand(np.abs(p - q).max(), 1e-7, "not the reference, though eta is infinite, by")
        return "reference"
    upper, largest = _horizon_bound(solution, label, P, r, q, reference, eta, recipe.epsilon)
    rounding = 64 * T * np.finfo(float).eps * (size + largest)
    demand(abs(upper - objective), GAP * unit + rounding, "objective off a dual bound by")
    return "dual bound"


def _forward(P: np.ndarray, start: np.ndarray, policy: np.ndarray) -> np.ndarray:
    """Occupancy (T, S, A) of a time-indexed policy."""
    p, mu = np.zeros(policy.shape), start
    for t, table in enumerate(policy):
        p[t] = mu[:, None] * table
        mu = p[t].ravel() @ P
    return p


def _horizon_bound(
    solution: Any,
    label: str,
    P: np.ndarray,
    r: np.ndarray,
    q: np.ndarray,
    policy: np.ndarray,
    eta: np.ndarray,
    epsilon: float,
) -> tuple[float, float]:
    T = len(r)
    V = np.vstack([np.where(np.isfinite(solution.value), solution.value, 0.0), np.zeros((1, r.shape[1]))])
    bound = float(solution.problem.mdp.mu0 @ V[0])
    for t in range(T):
        delta = r[t] + (P @ V[t + 1]).reshape(r[t].shape) - V[t][:, None]
        price = eta[t] / T if label == "shared" else eta[t]
        if label != "trajectory" or price == 0:
            bound += soft_max(delta.ravel(), q[t].ravel(), price)
        else:
            visited = np.flatnonzero(q[t].sum(axis=1) > 0)
            bound += max(soft_max(delta[s], policy[t, s], price) for s in visited)
    if epsilon < math.inf:
        bound += epsilon * (eta.sum() if label == "per_step" else eta[0])
    return bound, float(np.abs(V).max())
