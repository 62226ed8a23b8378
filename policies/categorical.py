"""Categorical action distributions: log-probability, divergence and samples.

Shapes: N states, A actions; `log_p` (N, A), each row the logarithm of probabilities that sum to one. Nats throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from reps_opt.tolerances import TINY
from reps_opt.validation import FloatArray


@dataclass(frozen=True)
class Categorical:
    """One categorical distribution over action indices per state.

    Examples
    --------
    >>> p = Categorical.from_logits(np.zeros((1, 2)))
    >>> p.log_prob(np.array([1]))
    array([-0.693])
    >>> p.kl(p)
    array([0.])
    """

    log_p: FloatArray

    @classmethod
    def from_logits(cls, logits: FloatArray) -> Categorical:
        """Softmax of each row of logits (N, A)."""
        return cls(log_softmax(logits, axis=1))

    @property
    def probabilities(self) -> FloatArray:
        """Probabilities, shape (N, A)."""
        return np.exp(self.log_p)

    def log_prob(self, indices: NDArray[np.intp]) -> FloatArray:
        """Log-probability of one action index per state, shape (N,); minus infinity for an impossible action."""
        return self.log_p[np.arange(len(self.log_p)), indices]

    def sample(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """One action index per state by inversion, shape (N,)."""
        cumulative = np.cumsum(self.probabilities, axis=1)
        level = rng.random((len(cumulative), 1)) * cumulative[:, -1:]
        return np.argmax(cumulative > level, axis=1)

    def surprise(self, indices: NDArray[np.intp]) -> FloatArray:
        """``e_a - p`` (N, A): the gradient of the log-probability of one action per state in the logits."""
        residual = -self.probabilities
        residual[np.arange(len(residual)), indices] += 1
        return residual

    def fisher_root(self) -> FloatArray:
        """R (N, A, A) with ``R'R = diag(p) - p p'``, the Fisher information in the logits: rows ``sqrt(p_a) (e_a -
        p)'``."""
        p = self.probabilities
        return np.sqrt(p)[:, :, None] * (np.eye(p.shape[1]) - p[:, None, :])

    def mixture(self, old: Categorical, share: float) -> Categorical:
        """The distribution proportional to ``self^share old^(1 - share)``, row by row, for a share below one.

        What ``old`` forbids stays forbidden; what ``self`` alone forbids counts as 1e-290, so that the mixture tends
        to ``old`` as the share tends to zero.
        """
        logits = share * np.maximum(self.log_p, np.log(TINY)) + (1 - share) * np.maximum(old.log_p, np.log(TINY))
        return Categorical.from_logits(np.where(old.log_p > -np.inf, logits, -np.inf))

    def kl(self, other: Categorical) -> FloatArray:
        """KL(self ‖ other) per state in nats, shape (N,); infinite where ``other`` forbids what ``self`` does."""
        possible = self.log_p > -np.inf
        difference = np.subtract(self.log_p, other.log_p, out=np.zeros_like(self.log_p), where=possible)
        return np.maximum(np.sum(self.probabilities * difference, axis=1), 0.0)
