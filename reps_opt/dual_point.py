"""The dual function at one point, with everything its derivatives need."""

from __future__ import annotations

import numpy as np

from reps_opt.divergences.balls import JointConjugate
from reps_opt.divergences.base import Conjugate
from reps_opt.validation import FloatArray
from reps_opt.values import frozen


@frozen(eq=False)
class DualPoint:
    """The dual function of one ball at one (eta, multipliers), with everything its derivatives need.

    Attributes
    ----------
    value : float
        g: an upper bound on the optimum, whatever the point.
    net : (n,) array
        ``c - A'v - C'nu``: the Bellman error, where the rows are the flow.
    scaled : (n,) array
        ``net / eta``, where the conjugate is taken.
    conjugate : Conjugate
        D* at ``net / eta``; its ``point`` is the primal candidate x.
    residual : (m,) array
        ``(b, d) - (A, C) x``, plus ``ridge v`` where rows are softened: the gradient of g in the multipliers.
    divergence : float
        D(x); ``epsilon - divergence`` is dg/d eta.
    coupling : (m,) array or None
        ``(A, C) D*'' (net / eta)``, where the evaluation gave it: how the residual moves with log eta.
    """

    eta: float
    multipliers: FloatArray
    value: float
    net: FloatArray
    scaled: FloatArray
    conjugate: Conjugate
    residual: FloatArray
    divergence: float
    coupling: FloatArray | None = None

    @property
    def divergences(self) -> FloatArray:
        """D(x) (1,), as several balls have one each."""
        return np.array([self.divergence])


@frozen(eq=False)
class JointDualPoint:
    """The dual function of several balls at one eta (k,) and multipliers; as :class:`DualPoint` is for one."""

    eta: FloatArray
    multipliers: FloatArray
    value: float
    net: FloatArray
    conjugate: JointConjugate
    residual: FloatArray

    @property
    def divergences(self) -> FloatArray:
        """D_k(x) (k,)."""
        return self.conjugate.divergences
