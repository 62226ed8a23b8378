"""REPS from samples: the weights of transitions, or of whole episodes by their returns.

Shapes: N samples, or episodes; d features.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.batch import Batch
from reps_opt.features import fitted
from reps_opt.hints import Nearest
from reps_opt.problems.sample_flow import sample_flow
from reps_opt.problems.sample_problem import SampleProblem, TransitionProblem, as_features, as_samples
from reps_opt.problems.value_features import value_features
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer
from reps_opt.threads import limited
from reps_opt.tolerances import ULPS, USUAL_RADIUS
from reps_opt.validation import FloatArray, as_radius, as_scalar, read_only
from reps_opt.values import cached_property, value


class SampleREPS(TransitionProblem):
    r"""Relative entropy policy search over the weights of sampled transitions.

    .. math::
        \max_w\; \langle w, r\rangle \quad\text{s.t.}\quad \textstyle\sum_i w_i\psi_i = 0\;[\theta],\quad
        \sum w = 1\;[\lambda],\quad KL(w\|b) \le \epsilon\;[\eta]

    .. math::
        \min_{\eta,\theta}\; g = \eta\epsilon + \eta\log\textstyle\sum_i b_i\, e^{(r_i + \theta'\psi_i)/\eta}
        \;\big[+ \tfrac12\,\text{ridge}\,|\theta|^2\big],
        \qquad w_i \propto b_i\, e^{(r_i + \theta'\psi_i)/\eta}

    With one sampled next state for each state and action this is biased where transitions are random: the dual tilts
    the dynamics too, as if luck could be chosen. ``from_batch(embedding=...)`` replaces the next state's features by
    their conditional mean, which removes the bias as far as that mean is right.

    Parameters
    ----------
    rewards
        r (N,).
    feature_differences
        psi (N, d): ``phi(s') - phi(s)`` (average reward), or ``gamma phi(s') + (1 - gamma) mean phi(s0) - phi(s)``
        (discounted, or restarts with probability 1 - gamma). An array, or a dask array larger than memory; an array
        of C-contiguous float64 is not copied, so leave it as it is while the problem is in use.
    epsilon
        Radius of the ball, in nats: 0.5 unless a temperature is given instead.
    base_weights
        b (N,), non-negative, of any positive sum: uniform by default. Samples of base weight zero stay at zero.
    ridge
        Softens the match: the primal loses ``|sum w psi|^2 / (2 ridge)`` instead of asking for zero, in reward units.
    temperature
        Instead of the ball a fixed eta > 0, in reward units a nat (penalty form).
    features
        phi, a fitted transformer, with which ``solution.value(states)`` maps states; it takes no part in solving.
    flow
        What ``from_batch`` knows of the batch's episodes, for readings of the solution; it takes no part in solving.

    Raises
    ------
    TypeError, ValueError
        For NaN, wrong shapes or dtypes, negative or all-zero base weights, a negative or NaN epsilon, one
        beside a temperature.

    Warns
    -----
    UserWarning
        When the effective sample size of the answer is below two.

    References
    ----------
    Peters, Muelling, Altun (2010), *Relative entropy policy search*, equations 8 and 9; van Hoof, Neumann, Peters
    (2017), *Non-parametric policy search with limited information loss*, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from reps_opt import SampleREPS, solve
    >>> rng = np.random.default_rng(0)
    >>> psi = rng.normal(size=(500, 3))
    >>> solution = solve(SampleREPS(psi @ [1.0, 0.0, 0.0] + rng.normal(size=500), psi, epsilon=0.5))
    >>> print(solution.status, round(solution.kl, 9))
    certified 0.5
    >>> bool(abs(solution.weights("sum") @ psi).max() < 1e-9)
    True
    """

    @classmethod
    def from_batch(
        cls,
        batch: Batch,
        features: Any = None,
        epsilon: float | None = None,
        *,
        gamma: float | None = None,
        on_done: str | None = None,
        starts: str | None = None,
        embedding: Any = None,
        base_weights: ArrayLike | None = None,
        ridge: float | None = None,
        temperature: float | None = None,
    ) -> SampleREPS:
        r"""The problem of a batch of transitions, its value function linear in features of the state.

        .. math::
            \psi_i = \gamma \phi(s'_i) - \phi(s_i) + (1 - \gamma)\,\nu

        nu is where the process begins anew, with probability 1 - gamma at every step; ``starts`` says from where.
        A truncated transition keeps the next state it was truncated in, which has a future.

        Parameters
        ----------
        batch
            A :class:`~reps_opt.Batch`.
        features
            phi: anything with ``transform(states) -> (n, d)``; fitted to the batch's states where it is not fitted.
            None for :func:`~reps_opt.problems.value_features.value_features`, which chooses them and a ridge.
        gamma
            Discount factor in (0, 1], or one less the probability of a restart; 1 means average reward. None takes it
            from the batch: ``1 - 1/T`` where the recording is cut every T steps, at most 0.99.
        on_done
            What follows a termination. ``"absorb"``: a state that is never left and pays nothing, so that the objective
            is ``1 - gamma`` times the discounted return, and a task that pays one a step until it fails has something
            to gain; its mass is a row of its own, the last, that no policy is fitted to. ``"restart"``: a new start;
            the objective is a mean reward a step. By default absorption, and a new start where gamma is 1.
        starts
            ``"visited"``, the default where a limit alone ends episodes, and for average rewards: nu is the mixture of
            start states and visited ones of which the base weights are the flow, so that the base weights need not fall
            along the episodes. ``"episodes"``, the default where some end in a termination or a random restart: nu is
            the mean of phi over the batch's start states; the base weights then fall as gamma^t where episodes run to a
            time limit or a termination, and stay even where they are cut at random with probability 1 - gamma, or have
            no end in sight.
        embedding
            A regressor with ``fit(X, Y)`` and ``predict(X)``, from states and actions side by side to the features of
            the next state: a :class:`~reps_opt.features.ConditionalMeanEmbedding`, an
            :class:`~reps_opt.features.EmpiricalModel`, or any of scikit-learn's. None takes the one next state seen.
            A regression's errors become errors of the flow: give a ridge with it, since matching many features exactly
            under a slightly wrong model can cost more than the bias it cures. Its price ``ridge |theta|^2 / 2`` should
            be small beside ``eta epsilon``, and theta is as large as the values: with rewards in the tens 1e-2 may do
            for gamma = 0.95, where 1e-5 is right for values in the thousands and 0.1 leaves no value function at all.
        base_weights
            Weights of the transitions (N,) before the flow's own, such as importance weights: even by default.
        ridge
            As for :class:`SampleREPS`; None for no ridge, or for the one that comes with features chosen here.
        epsilon, temperature
            As for :class:`SampleREPS`.
        """
        radius, price = as_radius(epsilon, temperature, default=USUAL_RADIUS)
        with limited():
            if features is None:
                base = None if base_weights is None else as_samples(base_weights, "base_weights")
                features = value_features(batch, gamma, on_done, starts, radius, price, base, ridge)
                ridge = features.ridge
            transformer = fitted(features, batch.states)
            flow = sample_flow(batch, transformer, gamma, on_done, starts, embedding, base_weights)
        return cls(flow.rewards, flow.differences, radius, flow.base, ridge or 0.0, price, transformer, flow)


@value
class EpisodicREPS(SampleProblem):
    r"""Episodic REPS: weights of whole episodes by their returns, with or without contexts.

    .. math::
        \max_w\; \langle w, R\rangle \quad\text{s.t.}\quad
        \big[\textstyle\sum_i w_i\phi(c_i) = \sum_i b_i\phi(c_i)\;[\theta],\big]\quad
        \sum w = 1,\quad KL(w\|b) \le \epsilon\;[\eta]

    .. math::
        \min_{\eta,\theta}\; \eta\epsilon + \eta\log\textstyle\sum_i b_i\,
        e^{(R_i - \theta'(\phi(c_i) - \bar\phi))/\eta}

    The weights of related methods are this problem too: MPO's and V-MPO's with advantages for returns (V-MPO with
    ``base_weights=top_half(advantages)``), AWR's with ``temperature``.

    Parameters
    ----------
    returns
        R (N,), one an episode.
    contexts
        phi(c) (N, d), features of each episode's context, or None.
    epsilon, base_weights, ridge, temperature
        As for :class:`SampleREPS`; importance weights are base weights.

    References
    ----------
    Daniel, Neumann, Peters (2012), *Hierarchical relative entropy policy search*, section 2; Kupcsik et al. (2013),
    *Data-efficient generalization of robot skills with contextual policy search*; Abdolmaleki et al. (2018), *Maximum
    a posteriori policy optimisation*, equation 10; Song et al. (2020), *V-MPO*, equations 3 and 4; Peng et al. (2019),
    *Advantage-weighted regression*, equation 8.

    Examples
    --------
    >>> from reps_opt import EpisodicREPS, solve
    >>> solution = solve(EpisodicREPS([0.0, 1.0, 2.0], epsilon=0.1))
    >>> solution.weights("sum").round(3)
    array([0.17, 0.3 , 0.53])
    """

    returns: FloatArray
    contexts: FloatArray | None
    epsilon: float | None
    base_weights: FloatArray
    ridge: float
    temperature: float | None

    def __init__(
        self,
        returns: ArrayLike,
        contexts: ArrayLike | None = None,
        epsilon: float | None = None,
        base_weights: ArrayLike | None = None,
        ridge: float = 0.0,
        temperature: float | None = None,
    ) -> None:
        r = as_samples(returns, "returns")
        phi = None if contexts is None else as_features(contexts, "contexts", r.size)
        shared = self._checked(r.size, epsilon, base_weights, ridge, temperature)
        self._assign(returns=read_only(r.copy()), contexts=phi, **shared)
        _ = self._equilibrated  # bad contexts are found here, not when solving

    @property
    def rewards(self) -> FloatArray:
        """R (N,): what takes the place of rewards."""
        return self.returns

    @cached_property
    def centre(self) -> Nearest:
        """The base weights: they match their own mean, whatever rounding leaves of it."""
        program = self.program
        return Nearest(program.divergence.reference, np.zeros(program.rhs.size), 0.0)

    def refute(self, program: Program, answer: Answer) -> str:
        """Nothing: the base weights are feasible."""
        return ""

    @cached_property
    def differences(self) -> Any:
        """mean phi - phi(c) (N, d)."""
        if self.contexts is None:
            return None
        phi = self.contexts
        differences = self.base_weights @ phi - phi
        differences[:, np.abs(differences).max(axis=0) <= ULPS * np.abs(phi).max(axis=0)] = 0.0
        return differences


def top_half(values: ArrayLike, fraction: float = 0.5) -> FloatArray:
    """Base weights (N,) that keep the best samples only, equally: one for the best ``fraction``, zero for the rest.

    Ties at the threshold are all kept. V-MPO takes the softmax of the upper half of the advantages.

    References
    ----------
    Song et al. (2020), *V-MPO: on-policy maximum a posteriori policy optimization*, section 4.1.

    Examples
    --------
    >>> top_half([3.0, 1.0, 2.0, 0.0])
    array([1., 0., 1., 0.])
    """
    array = as_samples(values, "values")
    share = as_scalar(fraction, "fraction", low=0.0, high=1.0, low_open=True)
    count = max(1, math.ceil(share * array.size))
    return (array >= np.partition(array, array.size - count)[array.size - count]).astype(np.float64)
