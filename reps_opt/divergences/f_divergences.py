r"""The alpha family of f-divergences, chi-square and reverse KL among them.

.. math::
    D(x) = \sum_i q_i f(x_i / q_i), \qquad f(u) = \frac{u^\alpha - 1 - \alpha (u - 1)}{\alpha (\alpha - 1)},
    \qquad f'(u) = \frac{u^{\alpha - 1} - 1}{\alpha - 1}, \qquad f''(u) = u^{\alpha - 2}

All have f(1) = f'(1) = 0 and f''(1) = 1, so that near the reference they agree with KL, which is alpha -> 1, in nats.
The maximiser of ``<x, y> - D(x)`` over the simplex is ``x = q xi^p`` with ``xi = (1 + (alpha - 1)(y - lambda))_+`` and
``p = 1/(alpha - 1)``, lambda such that x sums to one; its curvature is ``w = q xi^(p - 1)``.

Shapes: n coordinates.

References
----------
Belousov, Peters (2017), *f-Divergence constrained policy improvement*, table 1 and equation 9.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
import scipy.sparse as sp

from reps_opt.divergences.base import KL, Conjugate, Divergence
from reps_opt.tolerances import FAR_NORMALISERS, LARGEST_EXPONENT, MOST_ITERATIONS, NORMALISER_STEP, ROUNDING, TINY
from reps_opt.validation import FloatArray, InputError, as_scalar, first_index, read_only


def as_alpha(alpha: float, name: str) -> float:
    """Validate an alpha, which must be at most two.

    Raises
    ------
    TypeError, ValueError
        If it is not a finite number, or above two.
    """
    number = as_scalar(alpha, name)
    if number > 2:
        raise ValueError(
            f"{name} must be <= 2, got {number:g}: above two the dual's curvature is infinite where a coordinate "
            "comes alive"
        )
    return number


def _log_sum(exponents: FloatArray) -> float:
    """``log sum exp`` of a few numbers, minus infinity among them, at a tenth of the cost of SciPy's general one."""
    top = float(exponents.max())
    return top + math.log(float(np.exp(exponents - top).sum())) if top > -math.inf else top


class Alpha(Divergence):
    r"""Alpha divergence :math:`\sum_i q_i f_\alpha(x_i / q_i)`.

    Parameters
    ----------
    reference
        q (n,), positive. The mass by which it falls short of one is out of reach, and costs f(0) = 1/alpha.
    alpha
        At most 2 (:class:`ChiSquare`), but not 0 and 1, which are :class:`ReverseKL` and
        :class:`~reps_opt.divergences.KL`. Above one the maximiser has exact zeros, below one it has none. Above two
        ``w = q xi^(1/(alpha - 1) - 1)`` is infinite where a coordinate comes alive (xi = 0, and f'' = 0 there): the
        dual has a gradient but no bounded Hessian, Newton's method has nothing to solve with, and it is refused.

    Examples
    --------
    >>> import numpy as np
    >>> ball = Alpha(np.array([0.5, 0.5]), alpha=0.5)
    >>> conjugate = ball.conjugate(np.array([1.0, 0.0]))
    >>> round(float(conjugate.point @ [1.0, 0.0] - ball.value(conjugate.point) - conjugate.value), 12)
    0.0
    """

    parametric = True

    def __init__(self, reference: FloatArray, alpha: float) -> None:
        self.reference = read_only(reference)
        self.alpha = as_alpha(alpha, "alpha")
        if self.alpha == 1:
            raise ValueError("alpha = 1 is KL: ask for that")
        self.truncates = self.alpha > 1
        missing = 1.0 - float(reference.sum())
        self.lost = missing if abs(missing) > ROUNDING else 0.0

    def check(self, name: str) -> None:
        if not (self.reference > 0).all():
            (i,) = first_index(~(self.reference > 0))
            raise InputError(
                f"{name}.reference[{i}] is {self.reference[i]:g}: every value must be > 0 for {type(self).__name__}; "
                "KL takes zeros, elsewhere leave such coordinates out of the program"
            )

    @property
    def bounded(self) -> bool:
        return self.finite_at_zero or self.lost == 0

    @property
    def finite_at_zero(self) -> bool:
        return self.alpha > 0

    @property
    def _offset(self) -> float:
        """What the mass out of reach costs."""
        return self.lost / self.alpha if self.finite_at_zero else (math.inf if self.lost else 0.0)

    def value(self, x: FloatArray) -> float:
        if (x < 0).any():
            return math.inf
        q, alpha = self.reference, self.alpha
        with np.errstate(divide="ignore", over="ignore"):
            terms = q * (x / q) ** alpha - q - alpha * (x - q)
        return float(terms.sum()) / (alpha * (alpha - 1)) + self._offset

    def gradient(self, x: FloatArray) -> FloatArray:
        ratio = np.maximum(x, TINY) / self.reference
        return (ratio ** (self.alpha - 1) - 1) / (self.alpha - 1)

    def hessian(self, x: FloatArray) -> Any:
        return sp.diags_array((np.maximum(x, TINY) / self.reference) ** (self.alpha - 2) / self.reference)

    def reach(self, y: FloatArray, room: float, centre: FloatArray) -> float:
        """Pinsker's inequality for the family: the 1-norm is at most ``sqrt(2 D)`` for alpha in [-1, 2].

        Below, D_alpha(x || q) = D_(1-alpha)(q || x), and Lyapunov's inequality gives ``sqrt((1 - alpha) D)``
        (Gilardoni 2010, *On Pinsker's and Vajda's type inequalities for Csiszar's f-divergences*).
        """
        return math.sqrt(max(2.0, 1 - self.alpha) * room) / 2 * float(np.ptp(y))

    def conjugate(self, y: FloatArray) -> Conjugate:
        best = int(np.argmax(y))
        top = float(y[best])
        xi = self._normalised((self.alpha - 1) * (y - top), y == top)
        normaliser = top - (float(xi[best]) - 1) / (self.alpha - 1)
        positive = xi > 0
        base = np.where(positive, xi, 1.0)
        exponent = np.log(self.reference) + (1 / (self.alpha - 1) - 1) * np.log(base)
        weights = np.where(positive, np.exp(np.minimum(exponent, LARGEST_EXPONENT)), 0.0)
        point = weights * base
        point = point / point.sum()
        return Conjugate(normaliser + self._inner(point, xi), point, weights, normaliser)

    def _inner(self, point: FloatArray, xi: FloatArray) -> float:
        """``sum q f*(y - lambda)`` less the offset, with ``f* = (u^alpha - 1)/alpha`` and ``q u^alpha = x xi``."""
        return (float(point @ xi) - 1) / self.alpha

    def _normalised(self, shift: FloatArray, best: np.ndarray) -> FloatArray:
        """xi (n,) with ``sum q xi^p = 1``, as ``(zeta + shift)_+`` with zeta the xi of the best coordinate.

        Newton's method on the p-norm ``(sum q xi^p)^(1/p) = 1``, which is concave in zeta for p < 0, convex for
        p >= 1, and linear where one coordinate dominates: from the value that the best coordinates alone would need,
        it approaches from one side. Zeta as the unknown keeps xi accurate near the pole that alpha < 1 has.
        """
        log_q, p = np.log(self.reference), 1 / (self.alpha - 1)
        q = self.reference
        alone = float(q[best].sum()) ** (1 - self.alpha)  # zeta if the best coordinates had all the mass
        low, high = min(alone, 1.0), max(alone, 1.0)
        zeta = alone
        for _ in range(MOST_ITERATIONS):
            xi = np.maximum(zeta + shift, 0.0)
            log_xi = np.log(np.where(xi > 0, xi, 1.0))
            log_slopes = np.where(xi > 0, log_q + (p - 1) * log_xi, -np.inf)  # powers of 1e-200 have no other form
            log_total = _log_sum(log_slopes + log_xi)
            inverse_norm = math.exp(min(-log_total / p, LARGEST_EXPONENT))
            step = (inverse_norm - 1) * math.exp(min(log_total - _log_sum(log_slopes), LARGEST_EXPONENT))
            low, high = (zeta, high) if step > 0 else (low, zeta)
            moved = min(max(zeta + step, low), high)
            if abs(moved - zeta) <= NORMALISER_STEP * zeta:
                zeta = moved
                break
            # hundreds of decades from the pole: halve them, not the distance
            if not zeta / FAR_NORMALISERS < moved < FAR_NORMALISERS * zeta:
                moved = math.sqrt(low) * math.sqrt(high)
            zeta = moved
        return np.maximum(zeta + shift, 0.0)

    def expression(self, cp: Any, x: Any, reference: Any = None) -> Any:
        q, lost = self._given(cp, reference)
        alpha = self.alpha
        powers = cp.sum(cp.multiply(_powered(cp, q, 1 - alpha), cp.power(x, alpha)))
        constant = (cp.sum(q) + lost) * (alpha - 1) - alpha
        return powers / (alpha * (alpha - 1)) + constant / (alpha * (alpha - 1))

    def _given(self, cp: Any, reference: Any) -> tuple[Any, Any]:
        """The reference and the mass out of reach: constants, or a parameter and what it misses."""
        return (self.reference, self.lost) if reference is None else (reference, 1 - cp.sum(reference))

    def dual_constraints(self, cp: Any, y: Any, eta: Any, reference: Any = None) -> dict[str, Any]:
        r"""``alpha mu + sum q z <= eta`` with z beyond ``xi^beta eta^(1-beta)``, a power cone, ``beta = alpha p``.

        The inner normaliser mu stays a variable of its own: ``eta D*`` is the minimum over it.
        """
        alpha, q = self.alpha, self.reference if reference is None else reference
        xi = cp.Variable(q.size, name="xi", nonneg=True)
        z = cp.Variable(q.size, name="partition")
        mu = cp.Variable(name="inner_normalisation")
        level = eta + (alpha - 1) * (y - mu)
        total = alpha * mu + q @ z
        return {
            "kl": self._cone(cp, z, xi, eta * np.ones(q.size)),
            "positive": xi >= level if alpha > 1 else xi <= level,
            "normalisation": total <= eta if alpha > 0 else total >= eta,
        }

    def _cone(self, cp: Any, z: Any, xi: Any, eta: Any) -> Any:
        """That z (n,) is beyond ``xi^beta eta^(1-beta)``."""
        alpha, ones = self.alpha, np.ones(self.reference.size)
        if alpha > 1:
            return cp.PowCone3D(z, eta, xi, (alpha - 1) / alpha * ones)
        if alpha > 0:
            return cp.PowCone3D(z, xi, eta, (1 - alpha) * ones)
        return cp.PowCone3D(xi, eta, z, alpha / (alpha - 1) * ones)


class ChiSquare(Alpha):
    r"""Half the chi-square divergence, :math:`\tfrac12 \sum_i (x_i - q_i)^2 / q_i`: alpha = 2, with exact zeros in x.

    Parameters
    ----------
    reference
        q (n,), positive.

    Examples
    --------
    >>> import numpy as np
    >>> ChiSquare(np.full(3, 1 / 3)).conjugate(np.array([1.0, 0.5, -1.0])).point
    array([0.58333333, 0.41666667, 0.        ])
    """

    pinsker = True  # by Cauchy and Schwarz

    def __init__(self, reference: FloatArray) -> None:
        super().__init__(reference, 2.0)

    def expression(self, cp: Any, x: Any, reference: Any = None) -> Any:
        q, lost = self._given(cp, reference)
        ratio = cp.multiply(_powered(cp, q, -0.5), x)
        return cp.sum_squares(ratio) / 2 - cp.sum(x) + cp.sum(q) / 2 + lost / 2

    def _cone(self, cp: Any, z: Any, xi: Any, eta: Any) -> Any:
        """``z eta >= xi^2``, as the cone of second order that it is."""
        return cp.SOC(z + eta, cp.vstack([2 * xi, z - eta]), axis=0)


class ReverseKL(Alpha):
    r"""Reverse relative entropy :math:`KL(q\|x) = \sum_i q_i \log(q_i / x_i)`: alpha = 0, infinite where x vanishes.

    Parameters
    ----------
    reference
        q (n,), positive, and of sum one: mass out of reach makes it infinite everywhere.

    Examples
    --------
    >>> import numpy as np
    >>> round(ReverseKL(np.array([0.5, 0.5])).value(np.array([0.75, 0.25])), 6)
    0.143841
    """

    def __init__(self, reference: FloatArray) -> None:
        super().__init__(reference, 0.0)

    def value(self, x: FloatArray) -> float:
        if (x < 0).any():
            return math.inf
        return float(scipy.special.kl_div(self.reference, x).sum() + self.reference.sum() - x.sum()) + self._offset

    def gradient(self, x: FloatArray) -> FloatArray:
        return -self.reference / np.maximum(x, TINY)

    def _inner(self, point: FloatArray, xi: FloatArray) -> float:
        return -float(self.reference @ np.log(xi))

    def expression(self, cp: Any, x: Any, reference: Any = None) -> Any:
        return cp.sum(cp.rel_entr(self.reference if reference is None else reference, x))

    def dual_constraints(self, cp: Any, y: Any, eta: Any, reference: Any = None) -> dict[str, Any]:
        ones = np.ones(self.reference.size)
        mu = cp.Variable(name="inner_normalisation")
        spent = cp.rel_entr(eta * ones, eta * ones - y + mu)  # eta f*((y - mu) / eta)
        return {"normalisation": mu + (self.reference if reference is None else reference) @ spent <= 0}


def _powered(cp: Any, q: Any, exponent: float) -> Any:
    """A reference to a power; of a parameter a second one that follows it, as CVXPY's parametrised rules ask."""
    if isinstance(q, np.ndarray):
        return q**exponent
    return cp.CallbackParam(lambda: q.value**exponent, q.shape, nonneg=True, name=f"{q.name()}**{exponent:g}")


Factory = Callable[[FloatArray], Divergence]

NAMED: dict[str, Factory] = {"kl": KL, "chi2": ChiSquare, "reverse_kl": ReverseKL}
"""Divergences by the name that problems take."""


def divergence_factory(choice: str | tuple[str, float] | Factory) -> Factory:
    """What makes a divergence from its reference: a name of :data:`NAMED`, ``("alpha", a)``, or a callable.

    Raises
    ------
    TypeError, ValueError
        For a name that is not known, and an alpha that is not a number.

    Examples
    --------
    >>> divergence_factory(("alpha", 2)) is ChiSquare
    True
    """
    if callable(choice):
        return choice
    if isinstance(choice, tuple) and len(choice) == 2 and choice[0] == "alpha":
        alpha = as_alpha(choice[1], "divergence's alpha")
        special: dict[float, Factory] = {0.0: ReverseKL, 1.0: KL, 2.0: ChiSquare}
        return special.get(alpha) or (lambda reference: Alpha(reference, alpha))
    if isinstance(choice, str) and choice in NAMED:
        return NAMED[choice]
    raise ValueError(f'divergence must be one of {(*NAMED,)}, ("alpha", a) or a callable, got {choice!r}')
