r"""Updates that weigh samples and fit a policy to the weighted samples: REPS in its forms, and its kin.

An update is settings only: ``update(policy, batch, base_weights)`` returns a :class:`FittedUpdate`
and changes neither. Each says which sample problem it solves; what follows is the same for all: the problem's weights,
at the scale of their effective sample size, go into ``fit(states, actions, sample_weight)`` of a copy of ``fit``.

Shapes: N transitions.
"""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, replace
from typing import Any

import numpy as np

from reps_opt.batch import Batch
from reps_opt.features import IDENTITY, fitted, transformed
from reps_opt.learning.fits import fit_within
from reps_opt.learning.policy_update import PolicyUpdate
from reps_opt.learning.returns import estimate_advantages, returns_to_go
from reps_opt.problems.sample_flow import batch_gamma, done_rule, sample_flow, spread_of_sums
from reps_opt.problems.sample_problem import SampleProblem
from reps_opt.problems.sample_solution import SCALES, SampleSolution
from reps_opt.problems.samples import EpisodicREPS, SampleREPS
from reps_opt.problems.value_features import flow_residual
from reps_opt.solution import Status
from reps_opt.solvers.newton import Newton
from reps_opt.solving import tried, warn_of
from reps_opt.threads import limited
from reps_opt.tolerances import CHANCE, LARGEST_OFFSET, SLACK_ETA, UNMATCHED, USUAL_RADIUS, VISIBLE
from reps_opt.validation import FloatArray, as_radius, as_scalar, renamed

WARM = ("kernel", "noise")
"""Settings of a policy that its fitted namesakes (``kernel_``, ``noise_``) are good starting points for."""


@dataclass(frozen=True, repr=False)
class FittedUpdate(PolicyUpdate):
    """What an update by weighted fit did.

    ``solution`` is that of the sample problem, with eta, weights and certificate; ``gain`` the mean reward that it
    promises over the base weights', as far as the fit can follow; ``kl`` the KL(new || old) that the fit reached, in
    nats, averaged over the new distribution of states; NaN where the old policy has no density.
    """

    def rows(self) -> list[tuple[str, str]]:
        lines = [
            ("policy", "fitted anew" if self.accepted else "unchanged"),
            ("gain", f"{self.gain:.6g}   (promised, in reward a sample)"),
            ("kl", f"{self.kl:.6g} nats   (new || old, mean over the new states)"),
        ]
        if self.solution is not None:
            solved = self.solution
            lines.append(("solution", f"{solved.status}, eta {solved.eta:.6g}, KL of the weights {solved.kl:.6g}"))
        return [*lines, ("message", self.message)] if self.message else lines


@dataclass(frozen=True, kw_only=True)
class WeightedFit(ABC):
    """What all of them share.

    Parameters
    ----------
    fit
        The policy to fit, such as ``GaussianProcessPolicy()``: a scikit-learn estimator whose ``fit`` takes
        ``sample_weight``. It is a prototype: every update fits a copy.
    epsilon
        Radius of the ball around the base weights, in nats: 0.5 unless a temperature is given instead.
    temperature
        Instead of the ball a fixed eta > 0, in reward units a nat.
    scale
        What the weights given to ``fit`` sum to: ``"ess"`` (the effective sample size), ``"mean"`` (their number) or
        ``"sum"`` (one).
    warm_start
        Whether kernel and noise of a Gaussian process start from those fitted last, instead of the prototype's.
    seed
        ``random_state`` of the copies whose prototype leaves it open, so that a run can be repeated bit for bit.
    """

    fit: Any
    epsilon: float | None = None
    temperature: float | None = None
    scale: str = "ess"
    warm_start: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        radius, _ = as_radius(self.epsilon, self.temperature, default=USUAL_RADIUS)
        object.__setattr__(self, "epsilon", radius)
        if isinstance(self.fit, type) or not hasattr(self.fit, "fit"):
            raise TypeError(f"fit must be a policy such as LinearGaussianPolicy(), got {self.fit!r}")
        if self.scale not in SCALES:
            raise ValueError(f"scale must be one of {tuple(SCALES)}, got {self.scale!r}")

    def __call__(self, policy: Any, batch: Batch, base_weights: FloatArray | None = None) -> FittedUpdate:
        """Update a policy from transitions; base weights (N,) are importance weights, say, and even by default."""
        with limited():
            idle, problem = self._nothing_to_learn(batch), None
            if not idle:
                problem = self._problem(batch, base_weights)
                if not np.ptp(problem.rewards) > 0:
                    idle = "there is nothing to learn: all samples are worth the same"
            if problem is None or idle:
                warnings.warn(idle, UserWarning, stacklevel=2)
                return FittedUpdate(policy, False, None, message=idle)
            solution = self._solve(problem)
            why = self._refusal(solution)
            if why:
                warnings.warn("an update was not taken, and none will be until this changes: " + why, stacklevel=2)
                return FittedUpdate(policy, False, solution, message=why)
            warn_of(solution)
            weights = solution.weights(self.scale)
            fit = fit_within(self._copy(policy), policy, batch, weights, self.epsilon)
            stats = {
                "ess": solution.ess,
                "predicted_gain_error": solution.predicted_gain_error,
                "flow_offset": solution.flow_offset,
                **({"base_objective": float(problem.base @ problem.rewards)} if hasattr(self, "objective") else {}),
                "share": fit.share,
                **self._stats(solution, batch),
            }
            notes = [fit.note, *self._doubts(solution, stats)]
            if solution.status is not Status.CERTIFIED:
                notes.append(f"taken uncertified, within its ball: {solution.message}")
            message = "; ".join(filter(None, notes))
            return FittedUpdate(
                fit.policy, True, solution, 1.0, solution.predicted_gain, fit.kl, message=message, stats=stats
            )

    def _solve(self, problem: SampleProblem) -> SampleSolution:
        return tried(problem)

    def _nothing_to_learn(self, batch: Batch) -> str:
        """Why there is nothing to gain from a batch, where that is known before any problem is posed; else empty."""
        return ""

    @staticmethod
    def _refusal(solution: SampleSolution) -> str:
        """Why a solution is no basis for an update; empty where it is."""
        if not solution.has_point:
            return (
                f"{solution.status}: {solution.message or f'the smallest feasible epsilon is {solution.epsilon_min}'}"
            )
        check = solution.certificate
        if check.kl > check.epsilon + VISIBLE * max(1.0, check.epsilon) or not check.flow <= UNMATCHED:
            return f"uncertified, and outside of its ball or its flow: {solution.message}"
        return ""

    def _doubts(self, solution: SampleSolution, stats: Mapping[str, Any]) -> list[str]:
        """What makes the promise doubtful, each also a warning."""
        return []

    def _stats(self, solution: SampleSolution, batch: Batch) -> dict[str, Any]:
        """What more there is to say of a solution."""
        return {}

    @abstractmethod
    def _problem(self, batch: Batch, base_weights: FloatArray | None) -> SampleProblem:
        """The problem whose weights are the fit's."""

    def _copy(self, policy: Any) -> Any:
        from sklearn.base import clone

        prototype = clone(self.fit)
        known = prototype.get_params(deep=False)
        if "random_state" in known and known["random_state"] is None:
            prototype.set_params(random_state=self.seed)
        if self.warm_start and type(policy) is type(prototype):
            fitted = {
                name: getattr(policy, f"{name}_") for name in WARM if name in known and hasattr(policy, f"{name}_")
            }
            prototype.set_params(**copy.deepcopy(fitted))
        return prototype


@dataclass(frozen=True, kw_only=True)
class REPSUpdate(WeightedFit):
    """Step-based REPS: a value function, the weights of transitions, a policy fitted to them.

    Parameters
    ----------
    features
        Value features: a transformer, fitted anew to every batch where it comes unfitted; or a function that makes one
        from a batch, such as :func:`reps_opt.features.kernel_features`. None chooses them for every batch, see
        :func:`~reps_opt.problems.value_features.value_features`.
    gamma
        Discount factor in (0, 1], one less the probability of a restart; 1 for average reward. None takes it from the
        batch.
    on_done, starts, embedding, ridge
        As for :meth:`SampleREPS.from_batch`.

    Warns
    -----
    UserWarning
        Where every reward is the same; where no weights match the features; where the promise rests on a reference or
        on weights that are far from any flow. The update's ``message`` says the same.

    References
    ----------
    Peters, Muelling, Altun (2010), *Relative entropy policy search*, section 4; van Hoof, Neumann, Peters (2017),
    *Non-parametric policy search with limited information loss*, algorithm 1.

    Examples
    --------
    >>> import envs
    >>> from policies import LinearGaussianPolicy
    >>> from reps_opt import rollout
    >>> from sklearn.preprocessing import PolynomialFeatures
    >>> env = envs.LQR()
    >>> update = REPSUpdate(fit=LinearGaussianPolicy(), features=PolynomialFeatures(2), gamma=env.gamma)
    >>> result = update(None, rollout(env, n_episodes=50, seed=0))
    >>> print(result.accepted, result.solution.status, round(result.solution.kl, 6))
    True certified 0.5
    """

    features: Any = None
    gamma: float | None = None
    on_done: str | None = None
    starts: str | None = None
    embedding: Any = None
    ridge: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gamma is not None:
            as_scalar(self.gamma, "gamma", low=0.0, high=1.0, low_open=True)
        done_rule(self.on_done, 0.5 if self.gamma is None else self.gamma)
        if self.ridge is not None:
            as_scalar(self.ridge, "ridge", low=0.0)

    def _problem(self, batch: Batch, base_weights: FloatArray | None) -> SampleProblem:
        made = self.features is not None and not hasattr(self.features, "transform")
        return SampleREPS.from_batch(
            batch,
            self.features(batch) if made else self.features,
            self.epsilon,
            gamma=self.gamma,
            on_done=self.on_done,
            starts=self.starts,
            embedding=self.embedding,
            base_weights=base_weights,
            ridge=self.ridge,
            temperature=self.temperature,
        )

    def _solve(self, problem: SampleProblem) -> SampleSolution:
        """The problem's solution; for a softened match in a ball that hardly binds, that at the smallest eta.

        The limit of eta to zero is a quadratic program over the samples: dear, and sharper than samples deserve. Where
        the ball binds at the smallest eta it is not slack, and the limit is not looked at on the way either.
        """
        if problem.ridge and problem.epsilon is not None:
            spread = float(np.sqrt(problem.base @ (problem.rewards - problem.base @ problem.rewards) ** 2))
            solution = tried(problem.replace(epsilon=None, temperature=SLACK_ETA * spread))
            if solution.has_point and solution.kl <= problem.epsilon:
                return solution
            route = problem.default_solver()
            if solution.status is Status.CERTIFIED and isinstance(route, Newton):
                bound = tried(problem, replace(route, slack_suspected=0.0))
                if bound.status is Status.CERTIFIED:
                    return bound
        return tried(problem)

    def objective(self, batch: Batch, gamma: float | None = None, starts: str | None = None) -> tuple[float, float]:
        """Mean reward of the base weights of a batch's flow, and its standard error by episodes: see ``on_done``.

        ``gamma`` and ``starts`` are those of the update where they were taken from another batch.
        """
        flow = sample_flow(batch, IDENTITY, gamma or self.gamma, self.on_done, starts or self.starts)
        return flow.mean(batch.rewards)

    def _nothing_to_learn(self, batch: Batch) -> str:
        if np.ptp(batch.rewards) > 0:
            return ""
        same = "there is nothing to learn: all rewards are the same"
        absorbs = done_rule(self.on_done, batch_gamma(batch) if self.gamma is None else self.gamma) == "absorb"
        if absorbs and batch.terminated.any() and batch.rewards[0] != 0:
            lengths = np.unique(batch.episode, return_counts=True)[1]
            alike = np.ptp(lengths) == 0 and not batch.truncated.any()
            return f"{same}, and every episode ends after {lengths[0]} steps" if alike else ""
        return f'{same}; on_done="absorb" makes the length of an episode count' if batch.terminated.any() else same

    def _doubts(self, solution: SampleSolution, stats: Mapping[str, Any]) -> list[str]:
        doubts = []
        promised = max(solution.predicted_gain, solution.predicted_gain_error)
        if abs(solution.flow_offset) - CHANCE * solution.flow_offset_error > LARGEST_OFFSET * promised:
            visited = solution.problem.flow.starts == "visited"
            remedy = "take a smaller ridge" if visited else 'take starts="visited", a smaller ridge'
            doubts.append(
                "a good part of the predicted gain comes from a reference or weights that are no flow: "
                f"{remedy}, or the gamma of the restarts"
            )
        if stats["flow_residual"] > CHANCE:
            doubts.append(
                "the weights are far from any flow in finer features than those matched: the predicted gain will not "
                "be reached; take narrower or more value features, or features=None, which chooses them"
            )
        for text in doubts:
            warnings.warn(text, UserWarning, stacklevel=3)
        return doubts

    def _stats(self, solution: SampleSolution, batch: Batch) -> dict[str, Any]:
        chosen = {"features": str(solution.problem.features)} if self.features is None else {}
        flow = solution.problem.flow
        known = {"gamma": flow.gamma, "starts": flow.starts}
        return {"flow_residual": flow_residual(solution, batch), **known, **chosen}


@dataclass(frozen=True, kw_only=True)
class EpisodicREPSUpdate(WeightedFit):
    """Episodic REPS, with or without contexts: whole episodes are weighed, their parameters refitted.

    The batch has one transition an episode: the state is its context, the action the parameters of a controller, the
    reward its return, as :class:`~reps_opt.ParameterSearch` makes them. ``fit`` is the distribution over parameters.

    Parameters
    ----------
    contexts
        Features of the context, a transformer or a function of the batch that makes one, that the weights keep the
        mean of; None to leave contexts free.
    ridge
        As for :class:`EpisodicREPS`.

    References
    ----------
    Kupcsik et al. (2013), *Data-efficient generalization of robot skills with contextual policy search*.
    """

    contexts: Any = None
    ridge: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        as_scalar(self.ridge, "ridge", low=0.0)

    def objective(self, batch: Batch) -> tuple[float, float]:
        """Mean return of the episodes of a batch, which the predicted gain is a gain of, and its standard error."""
        mean = float(batch.rewards.mean())
        return mean, spread_of_sums(batch.rewards - mean) / len(batch)

    def _problem(self, batch: Batch, base_weights: FloatArray | None) -> SampleProblem:
        if batch.n_episodes < len(batch):
            raise ValueError("batch must have one transition an episode: roll out a reps_opt.ParameterSearch")
        phi = None
        if self.contexts is not None:
            transformer = self.contexts if hasattr(self.contexts, "transform") else self.contexts(batch)
            phi = transformed(fitted(transformer, batch.states), batch.states)
        return EpisodicREPS(batch.rewards, phi, self.epsilon, base_weights, self.ridge, self.temperature)


@dataclass(frozen=True, kw_only=True)
class RewardWeightedRegression(WeightedFit):
    r"""Reward-weighted regression: transitions weighed by the exponential of their return to go, or of their advantage.

    .. math:: w_i \propto b_i\, e^{R_i / \eta}, \qquad R_i = \textstyle\sum_{t \ge t_i} \gamma^{t - t_i} r_t

    With ``temperature`` eta is fixed, as in the original; with ``epsilon`` it is the one that spends that many nats,
    whatever the scale of the rewards.

    Parameters
    ----------
    gamma
        Discount factor in [0, 1].
    advantages
        Whether values, regressed on the returns, are subtracted: advantage-weighted regression.
    gae_lambda, value_model
        Of these advantages, see :func:`reps_opt.learning.returns.estimate_advantages`; ``trace`` until 0.3.

    References
    ----------
    Peters and Schaal (2007), *Reinforcement learning by reward-weighted regression for operational space control*;
    Peng et al. (2019), *Advantage-weighted regression*.
    """

    gamma: float = 0.99
    advantages: bool = False
    gae_lambda: float = 0.95
    value_model: Any = None
    trace: InitVar[float | None] = None

    def __post_init__(self, trace: float | None) -> None:
        super().__post_init__()
        renamed(self, gae_lambda=("trace", trace))
        as_scalar(self.gamma, "gamma", low=0.0, high=1.0)
        as_scalar(self.gae_lambda, "gae_lambda", low=0.0, high=1.0)

    def _problem(self, batch: Batch, base_weights: FloatArray | None) -> SampleProblem:
        if self.advantages:
            scores = estimate_advantages(batch, batch.rewards, self.gamma, self.gae_lambda, self.value_model).advantages
        else:
            scores = returns_to_go(batch.rewards, batch.terminated, batch.truncated, self.gamma)
        return EpisodicREPS(np.asarray(scores), None, self.epsilon, base_weights, temperature=self.temperature)
