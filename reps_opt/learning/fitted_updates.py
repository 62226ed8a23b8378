r"""Updates that weigh samples and fit a policy to the weighted samples: REPS in its forms, and its kin.

An update is settings only: ``update(policy, batch, base_weights)`` returns a :class:`FittedUpdate`
and changes neither. Each says which sample problem it solves; what follows is the same for all: the problem's weights,
at the scale of their effective sample size, go into ``fit(states, actions, sample_weight)`` of a copy of ``fit``.

Shapes: N transitions.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from reps_opt.batch import Batch
from reps_opt.learning.advantages import estimate_advantages
from reps_opt.learning.returns import returns_to_go
from reps_opt.learning.updates import PolicyUpdate
from reps_opt.problems.episodes import EpisodicREPS
from reps_opt.problems.sample_problem import SampleProblem
from reps_opt.problems.sample_solution import SCALES, SampleSolution
from reps_opt.problems.samples import SampleREPS
from reps_opt.solving import solve
from reps_opt.validation import FloatArray, as_scalar

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
        Radius of the ball around the base weights, in nats.
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
    epsilon: float = 0.5
    temperature: float | None = None
    scale: str = "ess"
    warm_start: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        as_scalar(self.epsilon, "epsilon", low=0.0, infinite=True)
        if isinstance(self.fit, type) or not hasattr(self.fit, "fit"):
            raise TypeError(f"fit must be a policy such as LinearGaussianPolicy(), got {self.fit!r}")
        if self.temperature is not None:
            as_scalar(self.temperature, "temperature", low=0.0, low_open=True)
        if self.scale not in SCALES:
            raise ValueError(f"scale must be one of {tuple(SCALES)}, got {self.scale!r}")

    def __call__(self, policy: Any, batch: Batch, base_weights: FloatArray | None = None) -> FittedUpdate:
        """Update a policy from transitions; base weights (N,) are importance weights, say, and even by default."""
        solution = solve(self._problem(policy, batch, base_weights))
        assert isinstance(solution, SampleSolution)
        if not solution.has_point:
            why = f"{solution.status}: {solution.message or f'the smallest feasible epsilon is {solution.epsilon_min}'}"
            return FittedUpdate(policy, False, solution, message=why)
        new = self._copy(policy).fit(batch.states, batch.actions, sample_weight=solution.weights(self.scale))
        base = solution.problem.base
        gain = float(solution.sample_weights @ solution.problem.rewards - base @ solution.problem.rewards)
        kl = _weighted_kl(new, policy, batch, solution.sample_weights)
        return FittedUpdate(new, True, solution, 1.0, gain, kl, message=solution.message, stats={"ess": solution.ess})

    @abstractmethod
    def _problem(self, policy: Any, batch: Batch, base_weights: FloatArray | None) -> SampleProblem:
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


def _weighted_kl(new: Any, old: Any, batch: Batch, weights: FloatArray) -> float:
    """Mean KL(new || old) over the new distribution of states; NaN where the old policy has none to offer."""
    if not hasattr(old, "kl_divergence") or not hasattr(new, "kl_divergence"):
        return math.nan
    try:
        return float(weights @ new.kl_divergence(old, batch.states))
    except TypeError:  # one is Gaussian, the other categorical
        return math.nan


@dataclass(frozen=True, kw_only=True)
class REPSUpdate(WeightedFit):
    """Step-based REPS: a value function, the weights of transitions, a policy fitted to them.

    Parameters
    ----------
    features
        Value features: a transformer, fitted anew to every batch where it comes unfitted; or a function that makes one
        from a batch, such as :func:`reps_opt.features.kernel_features`.
    gamma
        Discount factor in (0, 1], one less the probability of a restart; 1 for average reward.
    embedding, ridge
        As for :meth:`SampleREPS.from_batch`.

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

    features: Any
    gamma: float
    embedding: Any = None
    ridge: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        as_scalar(self.gamma, "gamma", low=0.0, high=1.0, low_open=True)
        as_scalar(self.ridge, "ridge", low=0.0)

    def _problem(self, policy: Any, batch: Batch, base_weights: FloatArray | None) -> SampleProblem:
        features = self.features if hasattr(self.features, "transform") else self.features(batch)
        return SampleREPS.from_batch(
            batch,
            features,
            self.epsilon,
            gamma=self.gamma,
            embedding=self.embedding,
            base_weights=base_weights,
            ridge=self.ridge,
            temperature=self.temperature,
        )


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

    def _problem(self, policy: Any, batch: Batch, base_weights: FloatArray | None) -> SampleProblem:
        if batch.n_episodes < len(batch):
            raise ValueError("batch must have one transition an episode: roll out a reps_opt.ParameterSearch")
        phi = None
        if self.contexts is not None:
            from reps_opt.features import as_columns, fitted

            transformer = self.contexts if hasattr(self.contexts, "transform") else self.contexts(batch)
            phi = as_columns(fitted(transformer, batch.states).transform(batch.states), "contexts")
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
    trace, value_model
        Of these advantages, see :func:`reps_opt.learning.advantages.estimate_advantages`.

    References
    ----------
    Peters and Schaal (2007), *Reinforcement learning by reward-weighted regression for operational space control*;
    Peng et al. (2019), *Advantage-weighted regression*.
    """

    gamma: float = 0.99
    advantages: bool = False
    trace: float = 0.95
    value_model: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        as_scalar(self.gamma, "gamma", low=0.0, high=1.0)
        as_scalar(self.trace, "trace", low=0.0, high=1.0)

    def _problem(self, policy: Any, batch: Batch, base_weights: FloatArray | None) -> SampleProblem:
        if self.advantages:
            scores = estimate_advantages(batch, batch.rewards, self.gamma, self.trace, self.value_model).advantages
        else:
            scores = returns_to_go(batch.rewards, batch.terminated, batch.truncated, self.gamma)
        return EpisodicREPS(np.asarray(scores), None, self.epsilon, base_weights, temperature=self.temperature)
