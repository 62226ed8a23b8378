"""The answer to a finite-horizon problem.

Shapes: T steps, S states, A actions; policies and occupancies (T, S, A), values (T, S); k balls (1, or T).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from reps_opt import plotting
from reps_opt.plotting import Panel
from reps_opt.problems.flow_solution import FlowSolution, PolicyReadings
from reps_opt.processes.time_indexed import bellman_error, evaluate, optimal_values, soft_values
from reps_opt.result import Arrays
from reps_opt.sensitivity import Sensitivity
from reps_opt.tolerances import TINY
from reps_opt.validation import FloatArray, read_only
from reps_opt.values import cached_property, value


@value
class FiniteHorizonSolution(PolicyReadings, FlowSolution):
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

    @cached_property
    def value(self) -> FloatArray:
        """V (T, S)."""
        problem = self.problem
        if self.multipliers is None:
            return read_only(np.full(problem.policy.shape[:2], math.nan))
        ahead = np.cumsum(self._normalisers()[::-1])[::-1]  # what the masses of this and later steps are priced at
        values = self.multipliers + ahead[problem.flow.nodes // problem.mdp.n_states]
        table = problem.share * problem.flow.spread_nodes(values)
        if problem.ball == "trajectory" and self.eta < math.inf:  # states that nothing leads to have a value too
            data = problem.mdp, problem.rewards
            elsewhere = (
                soft_values(*data, problem.log_policy, self.eta)
                if self.eta
                else optimal_values(*data, problem.policy > 0)
            )
            table = np.where(np.isnan(table), elsewhere, table)
        return read_only(table)

    @cached_property
    def policy_value(self) -> FloatArray:
        """Value (T, S) of the new policy itself: the rewards still to come, ``gamma**t`` included.

        ``value`` is what the ball has priced; this is the ordinary one.
        """
        return read_only(evaluate(self.problem.mdp, self.problem.rewards, self.policy))

    @cached_property
    def advantage(self) -> FloatArray:
        """Advantage (T, S, A) of the new policy: ``q_values - policy_value``."""
        return read_only(bellman_error(self.problem.mdp, self.problem.rewards, self.policy_value))

    @property
    def _shift(self) -> float:
        """What the objective's coefficients were shifted by."""
        return self.problem.normalised[1].shift / self.problem.program.mass

    def _normalisers(self) -> FloatArray:
        """Multiplier (T,) of the mass of every step."""
        problem, program = self.problem, self.problem.program
        assert self.multipliers is not None
        if problem.ball == "trajectory" or np.any(np.isinf(self.eta)):
            return np.full(problem.horizon, self._shift)  # the multipliers are exact values of the shifted rewards
        return np.broadcast_to(program.normalisers(self.eta, self.multipliers), problem.horizon)

    @property
    def duals(self) -> dict[str, Any]:
        return {"flow": self.value, "kl": np.atleast_1d(self.eta)}

    @property
    def temperature(self) -> float | FloatArray:
        """Reward units a nat in the exponent of the new policy: eta, or eta / T for the shared ball (a mean)."""
        return self.eta * self.problem.share

    @property
    def bellman_error(self) -> FloatArray:
        """Bellman error (T, S, A) under ``value``; NaN where the node has no value."""
        known = np.where(np.isfinite(self.value), self.value, 0.0)
        error = bellman_error(self.problem.mdp, self.problem.rewards, known)
        return np.where(np.isfinite(self.value)[:, :, None], error, np.nan)

    def sensitivity(
        self, rewards: ArrayLike | None = None, epsilon: ArrayLike | None = None, mu0: ArrayLike | None = None
    ) -> Sensitivity:
        """How the optimum, eta, the policy, the occupancy and V move with the data: directional derivatives.

        By differences of four solves (:mod:`reps_opt.problems.differences`). The old policy stays as it is; where the
        start distribution moves, the occupancy that it is compared by moves along.

        Parameters
        ----------
        rewards
            Direction (S, A) in which the MDP's rewards move.
        epsilon
            Rate at which the radius moves; with a ball a step also (T,).
        mu0
            Direction (S,) in which the start distribution moves: it sums to zero, and is zero where no episode starts.

        Returns
        -------
        Sensitivity
            ``objective``, ``eta``, ``occupancy``, ``policy`` and ``value``.

        Raises
        ------
        UnsuitableError
            Where the answer has no derivative: every ball slack, one of a single point, a kink.

        Examples
        --------
        >>> import envs
        >>> from reps_opt import FiniteHorizonREPS, solve
        >>> mdp = envs.single_chain()
        >>> solution = solve(FiniteHorizonREPS(mdp, mdp.uniform_policy(), horizon=5, epsilon=0.1))
        >>> abs(solution.sensitivity(epsilon=1.0).objective - solution.eta) < 1e-6 * solution.eta
        True
        """
        from reps_opt.problems.differences import differenced

        return differenced(self, rewards, epsilon, mu0)

    def _drawn(self) -> list[Panel]:
        """Values and new state distribution over time, and what each step reached and costs."""
        problem = self.problem
        steps = np.arange(problem.horizon)
        joint = scipy.special.rel_entr(self.occupancy, problem.reference).sum(axis=(1, 2))
        columns, masses = {"KL(p_t || q_t)": joint}, self.occupancy.sum(axis=2)
        if np.ndim(self.eta):
            columns |= {"epsilon_t": np.minimum(problem.epsilon_array, 10 * joint.max() + TINY)}
        drawn = [
            lambda axis: plotting.image(axis, self.value, "value V_t(s)", "step t", "state"),
            lambda axis: plotting.image(axis, masses, "state distribution", "step t", "state"),
            lambda axis: plotting.curves(axis, steps, columns, "divergence of each step, in nats", "step t"),
        ]
        if np.ndim(self.eta):
            drawn.append(lambda axis: plotting.curves(axis, steps, {"eta_t": self.eta}, "price", "step t"))
        return drawn

    def numbers(self) -> dict[str, Any]:
        return {**super().numbers(), "gamma": self.problem.mdp.gamma, "ball": self.problem.ball}

    def arrays(self) -> Arrays:
        """Over time, states and actions; with a ball a step also its ``eta`` and ``kl``."""
        arrays = dict(super().arrays())
        if np.ndim(self.eta):
            arrays |= {"eta": (("time",), self.eta), "kl": (("time",), self.divergences)}
        return arrays
