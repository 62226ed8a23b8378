"""What to make of an answer, from the problem's data alone: is the point feasible, and is a bound on all others near?

Nothing here calls the library's own arithmetic. The multipliers reported are taken for a guess: by weak duality any
guess gives a bound. Where that bound is not near enough, a conic solver is asked for a better point.

Shapes: n pairs (s, a) or samples; S states, A actions, T steps; N samples, d features; P parameters, k cost rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.optimize import linprog, minimize
from scipy.special import logsumexp, rel_entr

from reps_opt import REPS, ConditionalREPS, Solution, Status
from tests.hard import digits, supports
from tests.hard.cones import TIGHT, Pairs, cone, floor, pairs, power_of, sample_rows, value_range
from tests.hard.recipes import INCONSISTENT, Recipe, step_data
from tests.reps_opt.rational import gain, solve, tables, value

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


FLOWS = ("reps", "temperature", "f-divergence", "budgets", "conditional", "linear")
"""Families over a stationary flow, where any point's policy has an exact occupancy."""


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
    size = float(p @ np.abs(data.r))
    demand(-p.min(), 0.0, "negative mass")
    demand(abs(p.sum() - 1), MASS, "mass")
    demand((np.abs(data.flow @ p - data.start) / data.weight).sum(), FLOW, "flow")
    divergence = _divergence(solution, data, p)
    demand(divergence - epsilon if epsilon < math.inf else 0.0, BALL, "divergence beyond the ball")
    for cost, limit, span in zip(data.costs, data.limits, data.span, strict=True):
        demand((cost @ p - limit) / span, FLOW, "budget")
    price = problem.temperature or 0.0
    objective = float(data.r @ p) - (price * divergence if price else 0.0)
    unit = _unit(data.r, p, data.unit, float(solution.eta), divergence)
    unit = max(unit, price) if np.ptp(data.r[data.q > 0]) == 0 else unit
    demand(abs(objective - solution.objective), 1e-8 * unit + 1e-13 * (size + price), "objective misreported by")
    _policy_agrees(solution)
    if solution.eta == math.inf and isinstance(problem, ConditionalREPS) and divergence <= 1e-12:
        return _single_policy(solution, data)
    if solution.eta == math.inf and type(problem) is REPS and solution.epsilon_min == 0:
        return _single_point(p, data.q, epsilon, True)
    upper, rounding = _upper_bound(solution, data)
    demand(solution.objective - upper, GAP * unit + rounding, "objective above a dual bound by")
    if upper - solution.objective <= GAP * unit + rounding and rounding <= 100 * GAP * unit:
        return "dual bound"
    if _exactly_bounded(solution, unit, rounding=4 * np.finfo(float).eps * (size + price)):
        return "sixty digits"
    return _better_point(recipe, solution, unit)


def _exactly_bounded(solution: Any, unit: float, rounding: float) -> bool:
    """Whether a bound in sixty digits proves the answer; WrongError where it lies below the objective."""
    upper = digits.upper_bound(solution)
    demand(solution.objective - upper, 2e-8 * unit + rounding, "objective above a bound in sixty digits by")
    return upper - solution.objective <= GAP * unit + rounding


def _unit(r: np.ndarray, x: np.ndarray, usual: float, eta: float, divergence: float) -> float:
    """What a gap is compared with: the ordinary rewards' range, what the point takes, what the ball can change."""
    mean = float(r @ x) / float(x.sum())
    spreads = float(x @ np.abs(r - mean)), eta * math.sqrt(2 * max(divergence, 0.0)) if eta < math.inf else 0.0
    return max(usual, *spreads)


def _single_policy(solution: Any, data: Pairs) -> str:
    """Where there is one policy: its return in rational numbers; with average reward, where its mass may move between
    recurrent classes, a linear program over the states."""
    policy, (S, A), low = data.q, solution.policy.shape, floor(data.r)
    summed = abs(low) + float(solution.occupancy.ravel() @ np.abs(data.r))  # what nobody can avoid is rounded too
    allowed = 1e-6 + 1e-12 * summed / data.unit
    if solution.problem.mdp.gamma < 1 or _lost_in_tolerances(solution.problem):
        return _exact_return(solution, data, allowed)
    choose = np.kron(np.eye(S), np.ones((A, 1))) * policy[:, None]
    rows = np.vstack([(data.flow @ choose) / data.weight[:, None], np.ones((1, S))])
    best = linprog(-((data.r - low) @ choose) / data.unit, A_eq=rows, b_eq=np.append(data.start / data.weight, 1.0))
    if best.status != 0:
        return "nothing"
    demand(abs(-best.fun - (solution.objective - low) / data.unit), allowed, "off the one policy's best occupancy by")
    return "linear program"


def _exact_return(solution: Any, data: Pairs, allowed: float) -> str:
    """Where there is one policy: its return a step, or the best of its gains, in rational numbers."""
    mdp, (S, A) = solution.problem.mdp, solution.policy.shape
    P, rewards = tables(mdp)
    rows = [[Fraction(w) for w in row] for row in np.where(data.q > 0, data.q, 0.0).reshape(S, A).tolist()]
    if not all(any(row) for row in rows):
        return "nothing"
    policy = [[w / sum(row) for w in row] for row in rows]
    chain = [[sum(policy[s][a] * P[s][a][t] for a in range(A)) for t in range(S)] for s in range(S)]
    earned = [sum(policy[s][a] * rewards[s][a] for a in range(A)) for s in range(S)]
    if mdp.gamma == 1:
        best = max(gain(chain, earned))
    else:
        gamma, start = Fraction(mdp.gamma), [Fraction(w) for w in mdp.mu0.tolist()]
        worth = zip(start, value(chain, earned, gamma), strict=True)
        best = (1 - gamma) * sum(w * v for w, v in worth) / sum(start)
    demand(abs(float(best - Fraction(solution.objective))) / data.unit, allowed, "off the one policy's return by")
    return "rational numbers"


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
    taken = solution.occupancy.ravel() > 1e-15
    largest = float(np.abs(v).max()) + float(np.abs(data.r[taken]).max()) + (problem.temperature or 0.0)
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


def _better_point(recipe: Recipe, solution: Any, unit: float) -> str:
    """Raise WrongError where a conic solver finds a better point."""
    posed = cone(recipe, solution.problem)
    for settings in ({}, TIGHT, {"solver": "SCS", "eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 50_000}):
        best = posed.best(**settings)
        if math.isfinite(best):
            break
    else:
        return "nothing"
    rounding = 64 * np.finfo(float).eps * abs(posed.low) / posed.unit
    allowed = CONE * unit / posed.unit + rounding + 1e-9 * abs(best)  # of which the solver's tolerances are a share
    if (
        recipe.family in FLOWS and best - (solution.objective - posed.low) / posed.unit > allowed
    ):  # is it a point at all?
        p, data = _exact_occupancy(solution.problem, posed.x.value), pairs(solution.problem)
        divergence = _divergence(solution, data, p)
        over = (data.costs @ p - data.limits) / data.span
        if np.isnan(p).any() or divergence > posed.radius + BALL or over.max(initial=0.0) > FLOW:
            return "nothing"
        price = solution.problem.temperature or 0.0
        best = float((data.r - posed.low) @ p - (price * divergence if price else 0.0)) / posed.unit
    if solution.eta == math.inf:
        allowed += math.sqrt(2 * 5e-8) * unit / posed.unit  # what its tolerance on the radius is worth around a point
    demand(best - (solution.objective - posed.low) / posed.unit, allowed, "a conic solver does better by")
    return "cone"


def _infeasible(recipe: Recipe, solution: Any) -> str:
    """Raise WrongError where the reference is feasible, or a conic solver finds a point well inside the ball."""
    if recipe.family == "step" and recipe.epsilon == 0:
        demand(-step_data(recipe).levels.max(), 0.0, "no step is needed: the largest level is")
        return "levels"
    consistent = {"horizon": True, "conditional": True, "linear": True, "budgets": False, "step": False}
    consistent |= {"samples": False, "episodic": recipe.option == ""}
    if consistent.get(recipe.family, recipe.reference not in INCONSISTENT):
        raise WrongError("the reference itself is feasible")
    if recipe.family in FLOWS and supports.carries_none(solution.problem):
        return "graph"
    epsilon = solution.problem.epsilon
    if recipe.family == "f-divergence" and _beyond(solution.problem):
        return "dual bound"
    radius = 1.0 if recipe.family == "step" else 1e300 if epsilon is None else min(epsilon, 1e300)
    posed = cone(recipe, solution.problem)
    for settings in ({}, TIGHT):
        least = posed.least_divergence(**settings)
        if not math.isnan(least):
            break
    else:
        return "dual bound" if _least_divergence(recipe, solution.problem) > radius else "nothing"
    if _lost_in_tolerances(solution.problem) and radius - least > 1e-5 * (1 + abs(least)):
        p, data = _exact_occupancy(solution.problem, posed.x.value), pairs(solution.problem)
        least = _divergence(solution, data, p)
        if np.isnan(p).any() or least > radius or ((data.costs @ p - data.limits) / data.span).max(initial=0.0) > 1e-12:
            return "dual bound" if _least_divergence(recipe, solution.problem) > radius else "nothing"
    demand(radius - least, 1e-5 * (1 + abs(least)), "a point lies inside the ball by")
    return "cone"


def _beyond(problem: Any) -> bool:
    """Whether a lower bound on the divergence proves that the radius is too small."""
    return supports.least_divergence(problem) > problem.epsilon * (1 + 1e-9) + 1e-12


def _lost_in_tolerances(problem: Any) -> bool:
    """Whether a conic solver's residual of 1e-8 is as much as 1 - gamma, as the chance of ever leaving a part, or as
    what a cost out of all proportion would use up."""
    mdp = getattr(problem, "mdp", None)
    if mdp is None:
        return False
    if getattr(problem, "costs", None) is not None:
        data = pairs(problem)
        for cost, limit in zip(data.costs, data.limits, strict=True):
            apart = np.abs(cost - limit)
            if apart.max() > 1e6 * apart[apart > 0].min(initial=np.inf):
                return True
    return 0 < 1 - mdp.gamma < 1e-6 or (mdp.gamma == 1 and bool((mdp.transitions.data < 1e-6).any()))


def _exact_occupancy(problem: Any, found: np.ndarray) -> np.ndarray:
    """Occupancy (n,), in rational numbers, of the policy of a point over the reference's support."""
    mdp, data = problem.mdp, pairs(problem)
    S, A = mdp.rewards.shape
    x = np.zeros(S * A)
    x[data.q > 0] = np.maximum(found, 0.0)
    x = np.where(x.reshape(S, A).sum(axis=1, keepdims=True) > 1e-14, x.reshape(S, A), data.q.reshape(S, A))
    x = np.where(x.sum(axis=1, keepdims=True) > 0, x, 1.0)
    P, _ = tables(mdp)
    policy = [[Fraction(w) / sum(map(Fraction, row)) for w in row] for row in x.tolist()]
    chain = [[sum(policy[s][a] * P[s][a][t] for a in range(A)) for t in range(S)] for s in range(S)]
    gamma, start = Fraction(mdp.gamma), [Fraction(m) for m in mdp.mu0.tolist()]
    leaving = [[Fraction(s == t) - gamma * chain[s][t] for s in range(S)] for t in range(S)]
    begins = [(1 - gamma) * m / sum(start) for m in start]
    if gamma == 1:  # one row follows from the others
        leaving[-1], begins[-1] = [Fraction(1)] * S, Fraction(1)
    try:
        mu = solve(leaving, begins)
    except StopIteration:  # several recurrent classes: which of them has the mass is not the policy's to say
        return np.full(S * A, np.nan)
    return np.array([[float(mu[s] * policy[s][a]) for a in range(A)] for s in range(S)]).ravel()


def _least_divergence(recipe: Recipe, problem: Any) -> float:
    """A lower bound on the KL of every point of the rows from the reference, by its dual at whatever BFGS finds."""
    if recipe.family in ("samples", "episodic"):
        _, psi, q, ridge = sample_rows(recipe)
        if ridge:
            return 0.0
        rms = np.sqrt(q @ psi**2)
        rows, rhs, signed = (psi / np.where(rms > 0, rms, 1.0)).T, np.zeros(psi.shape[1]), 0
    elif type(problem) is REPS and power_of(problem) is None:
        data = pairs(problem)
        q = data.q
        rows = np.vstack([data.flow / data.weight[:, None], data.costs / data.span[:, None]])
        rhs, signed = np.append(data.start / data.weight, data.limits / data.span), data.limits.size
    else:
        return 0.0
    kept = q > 0
    rows, log_q = rows[:, kept], np.log(q[kept] / q.sum())

    def dual(v: np.ndarray) -> tuple[float, np.ndarray]:
        exponent = log_q - v @ rows
        total = float(logsumexp(exponent))
        return total + float(v @ rhs), rhs - rows @ np.exp(exponent - total)

    bounds = [(None, None)] * (rhs.size - signed) + [(0, None)] * signed
    found = minimize(dual, np.zeros(rhs.size), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000})
    return -float(found.fun)


# Samples


def _samples(recipe: Recipe, solution: Any) -> str:
    r, psi, base, ridge = sample_rows(recipe)
    w, eta, theta = solution.weights("sum"), float(solution.eta), solution.theta
    kept = base > 0
    unit, size = value_range(r[kept]), float(w @ np.abs(r))
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
    paid = float(np.sum((base @ psi) ** 2)) / (2 * ridge) if ridge else 0.0
    unit = max(_unit(r, w, unit, eta, divergence), paid)
    tolerance = 1e-8 * unit + 1e-13 * size + 1e-9 * abs(objective)
    demand(abs(objective - solution.objective), tolerance, "objective misreported by")
    if eta == math.inf:
        off = np.abs(base @ psi) / np.where(rms > 0, rms, 1.0)
        return _single_point(w, base, recipe.epsilon, bool(ridge) or float(off.max(initial=0.0)) <= 1e-12)
    radius = eta * recipe.epsilon if recipe.epsilon < math.inf else 0.0
    upper = radius + soft_max((r + psi @ theta)[kept], base[kept], eta) + 0.5 * ridge * float(theta @ theta)
    rounding = 64 * np.finfo(float).eps * (size + float(np.abs(psi * theta).max(initial=0.0)))
    demand(objective - upper, GAP * unit + rounding, "objective above a dual bound by")
    if upper - objective <= GAP * unit + rounding:
        return "dual bound"
    return _better_point(recipe, solution, unit)


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
    objective, size = float((r * p).sum()), float((np.abs(r) * p).sum())
    steepest = float(np.max(np.where(np.isfinite(solution.eta), solution.eta, 0.0)))
    unit = max(value_range(r[q > 0]) * T, _unit(r.ravel(), p.ravel(), 0.0, steepest, reached))
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
