"""Weights of whole episodes by their returns: episodic and contextual REPS, and the related methods' weights.

Shapes: N episodes, d context features.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reps_opt.hints import Nearest
from reps_opt.problems.sample_problem import SampleProblem, as_features, as_samples
from reps_opt.program import Program
from reps_opt.solvers.answer import Answer
from reps_opt.tolerances import ULPS
from reps_opt.validation import FloatArray, as_scalar, read_only
from reps_opt.values import cached_property, value


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
