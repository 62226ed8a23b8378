"""The answer to a finite-horizon problem, and the way to it: policy, exact occupancy, bound, certificate.

Shapes: T steps, S states, A actions; policies and occupancies (T, S, A), values (T, S); k balls (1, or T).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reps_opt.certificate import Certificate
from reps_opt.problems.horizon_balls import DualReading
from reps_opt.problems.segment import first_inside
from reps_opt.processes.time_indexed import bellman_error, evaluate, flow_residual, occupancy_of
from reps_opt.result import Arrays
from reps_opt.solution import Solution, Status
from reps_opt.solvers.answer import Answer
from reps_opt.validation import FloatArray

if TYPE_CHECKING:
    from reps_opt.problems.horizon import FiniteHorizonREPS


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FiniteHorizonSolution(Solution):
    r"""Answer to a :class:`~reps_opt.FiniteHorizonREPS`; see :class:`~reps_opt.Solution` for what every answer has.

    Attributes
    ----------
    eta : float or (T,) array
        Multiplier of the ball, or of each step's: the derivative of ``objective`` in its radius.
    value : (T, S) array
        Multiplier V of the flow, with V zero after the last step and the multipliers of the masses absorbed, so that
        ``p_t = q_t exp(bellman_error_t / temperature_t)``; for the trajectory ball ``pi_t = pi_q exp(...)``. NaN in
        nodes without mass.
    occupancy : (T, S, A) array
        ``p_t(s, a)``, each step summing to one: the exact occupancy of ``policy``, inside the ball.
    policy : (T, S, A) array
        The new policy; in nodes that cannot carry mass it is the reference's.
    divergences : (k,) array
        Divergence of each ball, in nats.
    objective : float
        Expected sum of (discounted) rewards.
    """

    eta: float | FloatArray  # type: ignore[assignment]
    value: FloatArray
    occupancy: FloatArray
    policy: FloatArray
    divergences: FloatArray

    @property
    def temperature(self) -> float | FloatArray:
        """Reward units a nat in the exponent of the new policy: eta, or eta / T for the shared ball (a mean)."""
        return self.eta / self.problem.horizon if self.problem.ball.label == "shared" else self.eta

    @property
    def bellman_error(self) -> FloatArray:
        """Bellman error (T, S, A) under ``value``; NaN where the node has no value."""
        known = np.where(np.isfinite(self.value), self.value, 0.0)
        error = bellman_error(self.problem.mdp, self.problem.rewards, known)
        return np.where(np.isfinite(self.value)[:, :, None], error, np.nan)

    def rows(self) -> list[tuple[str, str]]:
        check, eta = self.certificate, np.atleast_1d(self.eta)
        numbers = ", ".join(f"{x:.5g}" for x in eta[:8]) + (", ..." if eta.size > 8 else "")
        reached = ", ".join(f"{x:.5g}" for x in self.divergences[:8]) + (", ..." if eta.size > 8 else "")
        lines = [
            ("status", str(self.status)),
            ("reference", f"{self.problem.reference_return:.10g}"),
            ("objective", f"{self.objective:.10g}"),
            ("dual objective", f"{self.dual_objective:.10g}"),
            ("gap", f"{check.gap:.1e} of the objective's range"),
            ("eta", numbers),
            ("divergence", f"{reached}   (epsilon {self.problem.epsilon_array[0]:g})"),
            ("residual", f"{check.flow:.1e}"),
            ("spent", f"{self.stats.get('route')}, {self.stats.get('seconds', math.nan):.3g} s"),
        ]
        return [*lines, ("message", self.message)] if self.message else lines

    def numbers(self) -> dict[str, Any]:
        return {**super().numbers(), "gamma": self.problem.mdp.gamma, "ball": self.problem.ball.label}

    def arrays(self) -> Arrays:
        """Over time, states and actions; with a ball a step also its ``eta`` and ``kl``."""
        pairs = ("time", "state", "action")
        arrays: dict[str, Any] = {
            "occupancy": (pairs, self.occupancy),
            "policy": (pairs, self.policy),
            "value": (pairs[:2], self.value),
            "reference": (pairs, self.problem.reference),
            "reward": (pairs, self.problem.rewards),
        }
        if np.ndim(self.eta):
            arrays |= {"eta": (pairs[:1], self.eta), "kl": (pairs[:1], self.divergences)}
        return arrays


def read_answer(problem: FiniteHorizonREPS, answer: Answer) -> FiniteHorizonSolution:
    """Certified solution from an answer to the normalised program."""
    if answer.point is None and answer.multipliers is None and not math.isfinite(answer.eta):
        return _failed(problem, answer)
    single = answer.eta == math.inf
    policies = [problem.reference_policy] if single else list(problem.ball.policies(answer))
    points = [_into_ball(problem, occupancy_of(problem.mdp, policy)) for policy in policies]
    best = int(np.argmax([np.sum(p * problem.rewards01) for p in points]))
    occupancy = points[best]
    reading = _single_point(problem) if single else problem.ball.read(answer)
    certificate = _certify(problem, occupancy, reading.upper)
    ok = certificate.ok()
    mass = occupancy.sum(axis=2, keepdims=True)
    policy = np.where(mass > 0, occupancy / np.where(mass > 0, mass, 1.0), policies[best])
    unit = problem.scale.factor * (problem.horizon if problem.ball.label == "shared" else 1)
    eta = reading.eta * unit
    steps_left = problem.horizon - np.arange(problem.horizon)[:, None]
    value = problem.scale.factor * reading.values + problem.scale.shift * steps_left
    advice = "" if ok else "; ".join([*certificate.reasons(), answer.message, "try another solver or a larger epsilon"])
    return FiniteHorizonSolution(
        problem=problem,
        status=Status.CERTIFIED if ok else Status.UNCERTIFIED,
        eta=float(eta[0]) if eta.size == 1 and problem.ball.label != "per_step" else eta,
        value=value,
        occupancy=occupancy,
        policy=policy,
        divergences=problem.ball.divergences(occupancy),
        objective=certificate.lower,
        dual_objective=certificate.upper,
        duals={"flow": value, "kl": eta},
        certificate=certificate,
        message=advice or answer.message,
        stats=dict(answer.stats),
    )


def _failed(problem: FiniteHorizonREPS, answer: Answer) -> FiniteHorizonSolution:
    nothing, nan = np.full(problem.reference.shape, np.nan), math.nan
    value = nothing[:, :, 0]
    return FiniteHorizonSolution(
        problem=problem,
        status=Status.FAILED,
        eta=nan,
        value=value,
        occupancy=nothing,
        policy=nothing,
        divergences=np.full(problem.epsilon_array.size, nan),
        objective=nan,
        dual_objective=nan,
        duals={"flow": value, "kl": nan},
        certificate=Certificate.unknown(float(problem.epsilon_array.min())),
        message=answer.message,
        stats=dict(answer.stats),
    )


def _single_point(problem: FiniteHorizonREPS) -> DualReading:
    """Reading where the balls hold the reference alone: its own values, and Pinsker's bound on what is left."""
    values = evaluate(problem.mdp, problem.rewards01, problem.reference_policy)
    mean = float(np.sum(problem.reference * problem.rewards01)) / problem.horizon
    reach = math.sqrt(float(problem.epsilon_array.max()) / 2)
    return DualReading(np.full(problem.epsilon_array.size, math.inf), values, mean + reach)


def _into_ball(problem: FiniteHorizonREPS, occupancy: FloatArray) -> FloatArray:
    """The occupancy itself inside the balls; outside, the first point towards the reference that is in all of them."""

    def excess(x: FloatArray) -> float:
        return float((problem.ball.divergences(x) - problem.epsilon_array).max())

    return first_inside(excess, occupancy, problem.reference)


def _certify(problem: FiniteHorizonREPS, occupancy: FloatArray, upper: float) -> Certificate:
    """Residuals over the whole MDP; the gap in units of the reward range, a step's mean."""
    scale = problem.normalised[1]
    lower = float(np.sum(occupancy * problem.rewards01)) / problem.horizon
    divergences = problem.ball.divergences(occupancy)
    worst = int(np.argmax(divergences - problem.epsilon_array)) if np.isfinite(problem.epsilon_array).all() else 0
    return Certificate(
        gap=upper - lower,
        flow=float(np.abs(flow_residual(problem.mdp, occupancy)).sum()),
        mass=float(np.abs(occupancy.sum(axis=(1, 2)) - 1).max()) if occupancy.min() >= 0 else math.inf,
        kl=float(divergences[worst]),
        epsilon=float(problem.epsilon_array[worst]),
        upper=scale.shift + scale.factor * upper,
        lower=scale.shift + scale.factor * lower,
    )
