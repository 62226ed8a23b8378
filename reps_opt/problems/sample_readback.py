"""From a solver's answer to a solution over sample weights: point, bound, certificate, multipliers by name.

Everything here works in normalised rewards and unit columns until the last step. Shapes: N samples, d features; n
samples of positive base weight.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reps_opt.certificate import Certificate
from reps_opt.problems.sample_solution import SampleSolution
from reps_opt.program import Program
from reps_opt.rows import spending
from reps_opt.solution import Status
from reps_opt.solvers.answer import Answer
from reps_opt.solvers.newton import proves_infeasible
from reps_opt.solvers.scalar_dual import ScalarDual
from reps_opt.validation import FloatArray, read_only

if TYPE_CHECKING:
    from reps_opt.problems.sample_problem import SampleProblem

SMALL_ESS = 2.0
"""Effective sample size below which a policy fitted to the weights follows one or two samples."""

LOOSE = 1e-9
"""How far inside the ball a point must be for eta to be read as zero."""


OFF_SPHERE = 1e-9
"""Distance of the divergence from epsilon above which eta is looked for anew, the other multipliers fixed."""


class _Candidate(NamedTuple):
    """Weights (n,), the dual bound and where it was taken, and the certificate of the pair."""

    point: FloatArray
    eta: float
    multipliers: FloatArray
    certificate: Certificate


def read_weights(problem: SampleProblem, program: Program, answer: Answer) -> SampleSolution:
    """Certified solution from an answer to the normalised program; see :class:`SampleSolution`."""
    if _proves_infeasible(program, answer):
        return read_infeasible(problem)
    candidates = _candidates(problem, program, answer)
    if not candidates or candidates[0].certificate.flow > 1e-6:
        least = problem.epsilon_min
        if least == math.inf or (program.epsilon is not None and program.epsilon < least - 1e-9):
            return read_infeasible(problem)
    if not candidates:
        return _without_point(problem, Status.FAILED, answer.message, math.nan)
    return _solution(problem, program, candidates[0], answer)


def read_infeasible(problem: SampleProblem) -> SampleSolution:
    """The solution of a problem whose ball holds no weights that match the features."""
    least = problem.epsilon_min
    text = "some combination of the features moves one way in every sample: no weights match them, whatever epsilon"
    if least < math.inf:
        text = (
            f"no weights within epsilon = {problem.epsilon:g} match the features: it takes at least {least:.9g}; "
            "take more samples, fewer features, a ridge, or a larger epsilon"
        )
    return _without_point(problem, Status.INFEASIBLE, text, least)


def _proves_infeasible(program: Program, answer: Answer) -> bool:
    """A dual value below every feasible objective proves that nothing is feasible (weak duality)."""
    if answer.multipliers is None or not 0 <= answer.eta < math.inf:
        return False
    return proves_infeasible(program, answer.eta, program.bound(answer.eta, answer.multipliers))


def _candidates(problem: SampleProblem, program: Program, answer: Answer) -> list[_Candidate]:
    """The softmax of the dual and the solver's own point, each bounded and checked; the better one first."""
    v = answer.multipliers
    if v is None:
        found = [] if answer.point is None else [(math.inf, answer.eta, answer.point)]
        v = np.zeros(program.rhs.size)
    elif answer.eta == math.inf:
        found = [(_pinsker_bound(problem, program, v), math.inf, problem.centre.point)]
    else:
        found = _bounds_and_points(program, answer, v)
    checked = [_Candidate(p, eta, v, _certify(problem, program, p, upper, eta, v)) for upper, eta, p in found]
    return sorted(checked, key=lambda c: (len(c.certificate.reasons()), c.certificate.flow + c.certificate.gap))


def _bounds_and_points(program: Program, answer: Answer, v: FloatArray) -> list[tuple[float, float, FloatArray]]:
    """The least bound with each point on offer; an eta that misses the sphere is replaced by the best one for v."""
    bounds, points = [], []
    if answer.eta > 0:
        dual = program.dual(answer.eta, v)
        if program.epsilon is not None and abs(dual.divergence - program.epsilon) > OFF_SPHERE:
            best = ScalarDual().at_slack(program, dual.slack)
            dual = program.dual(best.eta, v) if best.eta > 0 else dual
        bounds.append((dual.value, dual.eta))
        points.append(dual.conjugate.point)
    if answer.point is not None and (not points or np.abs(answer.point - points[0]).sum() > 1e-9):
        points.append(np.maximum(answer.point, 0.0))
    epsilon = program.epsilon
    if epsilon is not None and (answer.eta == 0 or program.divergence.value(points[-1]) < epsilon - LOOSE):
        bounds.append((program.bound(0.0, v), 0.0))
    upper, eta = min(bounds)
    return [(upper, eta, point) for point in points]


def _pinsker_bound(problem: SampleProblem, program: Program, v: FloatArray) -> float:
    """Bound for a ball that barely holds its centre: KL(w || centre) <= epsilon - epsilon_min, then Pinsker."""
    room = max((program.epsilon or 0.0) - problem.centre.divergence, 0.0)
    reach = math.sqrt(room / 2) * float(np.ptp(program.slack(v)))
    softened = 0.0 if program.ridge is None else float(program.ridge @ v**2) / 2
    return float(program.slack(v) @ problem.centre.point) + softened + reach


def _certify(
    problem: SampleProblem, program: Program, point: FloatArray, upper: float, eta: float, v: FloatArray
) -> Certificate:
    """Gap in reward ranges; what the point misses in rows and ball is priced by the multipliers and added to it."""
    residual = np.zeros(program.rhs.size)
    missed = 0.0
    if program.ridge is None:
        residual = program.residual(point)
        missed = _missed(problem, program, point, residual)
    divergence = program.divergence.value(point)
    lower = program.score(point)
    price = float(np.abs(v) @ np.abs(residual))
    if program.epsilon is not None and 0 < eta < math.inf:
        price += eta * max(divergence - program.epsilon, 0.0)
    scale = problem.normalised[1]
    return Certificate(
        gap=upper - lower + price,
        flow=missed,
        mass=abs(float(point.sum()) - 1.0) if point.min() >= 0 else math.inf,
        kl=divergence,
        epsilon=math.inf if program.epsilon is None else program.epsilon,
        upper=scale.shift + scale.factor * upper,
        lower=scale.shift + scale.factor * lower,
    )


def _missed(problem: SampleProblem, program: Program, point: FloatArray, residual: FloatArray) -> float:
    """1-norm of what the features miss, in all the columns given even where the program has a basis of them."""
    if problem.basis is None:
        return float(np.abs(residual).sum())
    weights = np.zeros(problem.base.size)
    weights[problem.support] = point
    return float(np.abs(problem.rows.T @ weights).sum())


def _solution(problem: SampleProblem, program: Program, best: _Candidate, answer: Answer) -> SampleSolution:
    scale, certificate = problem.normalised[1], best.certificate
    weights = np.zeros(problem.base.size)
    weights[problem.support] = best.point
    theta = scale.factor * problem.theta(best.multipliers)
    eta = best.eta * scale.factor
    ok = certificate.ok()
    advice = "" if ok else "; ".join([*certificate.reasons(), answer.message, "try another solver or a larger epsilon"])
    solution = SampleSolution(
        problem=problem,
        status=Status.CERTIFIED if ok else Status.UNCERTIFIED,
        eta=eta,
        objective=certificate.lower,
        dual_objective=certificate.upper,
        duals={"features": theta, "normalisation": _normaliser(problem, program, best), "kl": eta},
        certificate=certificate,
        message=advice or answer.message,
        stats={**answer.stats, **_setup(problem)},
        sample_weights=read_only(weights),
        theta=read_only(theta),
        rank=theta.size - problem.null_space.shape[1],
        epsilon_min=math.nan if "centre" not in problem.__dict__ else problem.epsilon_min,
    )
    if weights.size > 1 and solution.ess < SMALL_ESS:
        text = (
            f"the effective sample size is {solution.ess:.2f} of {weights.size}: take a smaller epsilon or more samples"
        )
        warnings.warn(text, UserWarning, stacklevel=5)
    return solution


def _setup(problem: SampleProblem) -> dict[str, float]:
    """What scaling, rank and basis cost, in Grams, where there are features."""
    if problem.rows.shape[1] == 0:
        return {}
    grams = problem.rows.grams + (0.0 if problem.basis is None else 1.0)
    return {"setup_gram_equivalents": spending(problem.rows.passes, grams)["gram_equivalents"]}


def _normaliser(problem: SampleProblem, program: Program, best: _Candidate) -> float:
    """Multiplier of the normalisation, in reward units."""
    if best.eta == math.inf:
        inner = float(program.slack(best.multipliers) @ best.point)
    elif best.eta > 0:
        inner = best.eta * program.dual(best.eta, best.multipliers).conjugate.normaliser
    else:
        inner = float(program.slack(best.multipliers).max())
    scale = problem.normalised[1]
    return scale.shift + scale.factor * inner


def _without_point(problem: SampleProblem, status: Status, message: str, epsilon_min: float) -> SampleSolution:
    nan = math.nan
    theta = np.full(problem.column_scale.size, nan)
    return SampleSolution(
        problem=problem,
        status=status,
        eta=nan,
        objective=nan,
        dual_objective=nan,
        duals={"features": theta, "normalisation": nan, "kl": nan},
        certificate=Certificate(
            nan, nan, nan, nan, problem.epsilon if problem.epsilon is not None else math.inf, nan, nan
        ),
        message=message,
        stats={},
        sample_weights=np.full(problem.base.size, nan),
        theta=theta,
        rank=theta.size - problem.null_space.shape[1],
        epsilon_min=epsilon_min,
    )
