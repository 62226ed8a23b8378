r"""A KL ball with a further bound on the entropy, as one divergence.

.. math::
    KL(x\|q) \le \epsilon \;\text{ and }\; H(x) \ge \kappa
    \quad\Longleftrightarrow\quad D(x) = \max\big(KL(x\|q),\; \kappa + \epsilon - H(x)\big) \le \epsilon

An entropy bound is a second KL ball, around the uniform distribution. The maximum of the two is a maximum over mixtures
``(1 - tau) KL(x || q) + tau (kappa + epsilon - H(x))``, a single KL around the tilted reference
``q^(1 - tau) exp(-tau (kappa + epsilon))``, so that its conjugate is a log-sum-exp minimised over tau in [0, 1]. The
multiplier eta of the one ball is shared out: ``(1 - tau) eta`` for KL and ``tau eta`` for the entropy.

Shapes: n coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import entr, logsumexp

from reps_opt.divergences.base import KL, Conjugate, Divergence, softmax_within
from reps_opt.processes.graph import IntArray
from reps_opt.validation import FloatArray

MAX_ITERATIONS = 100
"""Safeguarded Newton steps for tau; bisection alone would need 52."""


@dataclass(frozen=True)
class TiltedConjugate(Conjugate):
    """Conjugate where both balls bind: tau adjusts itself, and takes the curvature of one direction away."""

    without_curvature: FloatArray

    @property
    def tilt(self) -> FloatArray:
        return self.without_curvature

    def hessian(self, direction: FloatArray) -> FloatArray:
        return super().hessian(direction) - self.tilt * (self.tilt @ direction)


class EntropyBoundedKL(Divergence):
    r"""Larger of ``KL(x || q)`` and ``entropy + epsilon - H(x)``, in nats.

    Parameters
    ----------
    reference
        q (n,), positive.
    entropy
        kappa: least entropy of x allowed, when the ball's radius is epsilon.
    epsilon
        The radius.

    Examples
    --------
    >>> import numpy as np
    >>> ball = EntropyBoundedKL(np.array([0.9, 0.1]), entropy=0.5, epsilon=0.2)
    >>> round(ball.value(np.array([0.9, 0.1])), 6)
    0.374917
    """

    centred = False

    def __init__(self, reference: FloatArray, entropy: float, epsilon: float) -> None:
        self._kl = KL(reference)
        self.reference = self._kl.reference
        self.level = entropy + epsilon
        self._log_reference = np.log(reference)
        self._contrast = -self.level - self._log_reference

    def value(self, x: FloatArray) -> float:
        return max(self._kl.value(x), self.level - float(entr(x).sum()))

    def conjugate(self, y: FloatArray) -> Conjugate:
        tau = self._share(y)
        exponent = y + self._log_reference + tau * self._contrast
        normaliser = float(logsumexp(exponent))
        point = np.exp(exponent - normaliser)
        if not 0 < tau < 1:
            return Conjugate(normaliser, point, point, normaliser)
        centred = point * (self._contrast - point @ self._contrast)
        return TiltedConjugate(normaliser, point, point, normaliser, centred / np.sqrt(centred @ self._contrast))

    def _share(self, y: FloatArray) -> float:
        """tau: root in [0, 1] of the mean contrast, which increases in tau, by Newton's method within a bracket."""
        low, high, tau = 0.0, 1.0, 0.0
        for step in range(MAX_ITERATIONS):
            exponent = y + self._log_reference + tau * self._contrast
            point = np.exp(exponent - exponent.max())
            point /= point.sum()
            mean = float(point @ self._contrast)
            if (step == 0 and mean >= 0) or (tau == 1.0 and mean <= 0):
                return tau
            low, high = (tau, high) if mean < 0 else (low, tau)
            variance = float(point @ (self._contrast - mean) ** 2)
            moved = tau - mean / variance if variance > 0 else 1.0
            moved = moved if low < moved < high else 1.0 if high == 1.0 and moved >= 1 else (low + high) / 2
            if abs(moved - tau) <= 1e-16:
                return moved
            tau = moved
        return tau

    def within(self, y: FloatArray, group: IntArray, n_groups: int) -> FloatArray:
        """Softmax of the tilted exponents within each group."""
        exponent = y + self._log_reference + self._share(y) * self._contrast
        return softmax_within(exponent, group, n_groups)[0]

    def multipliers(self, y: FloatArray, eta: float) -> dict[str, float]:
        """``kl``: derivative of the optimum in epsilon; ``entropy``: minus its derivative in the bound on H."""
        tau = self._share(y)
        return {"kl": (1 - tau) * eta, "entropy": tau * eta}

    def expression(self, cp: Any, x: Any) -> Any:
        return cp.maximum(cp.sum(cp.rel_entr(x, self.reference)), self.level - cp.sum(cp.entr(x)))

    def dual_constraints(self, cp: Any, slack: Any, eta: Any) -> dict[str, Any]:
        n = self.reference.size
        scaled = cp.Variable(n, name="partition")
        entropy = cp.Variable(name="entropy", nonneg=True)
        exponent = slack + eta * self._log_reference + entropy * self._contrast
        return {
            "kl": cp.ExpCone(exponent, eta * np.ones(n), scaled),
            "normalisation": cp.sum(scaled) <= eta,
            "entropy": entropy <= eta,
        }
