"""The Gaussian process's own kernel, and how any kernel's gradient is contracted without forming it.

Shapes: N and M samples, d state dimensions, e embedded columns, H hyper-parameters; `G` (N, M) is the gradient of a
loss with respect to a kernel matrix. Kernels speak scikit-learn's protocol; `theta` (H,) holds logarithms of
hyper-parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.gaussian_process.kernels import (
    ConstantKernel,
    Hyperparameter,
    Kernel,
    NormalizedKernelMixin,
    Product,
    StationaryKernelMixin,
    Sum,
    WhiteKernel,
)

from policies.checks import per_column
from policies.tolerances import LOG_PRIOR_STD
from reps_opt.tolerances import LAST_PLACE
from reps_opt.validation import FloatArray, first_index


class SquaredExponential(StationaryKernelMixin, NormalizedKernelMixin, Kernel):
    """``k(x, z) = exp(-|(e(x) - e(z)) / length_scale|^2 / 2)``, with angles embedded on circles by e.

    Column j of finite period p becomes ``p/(2 pi) (cos, sin)(2 pi x_j / p)``, so that
    ``|e(x) - e(z)|^2 = (p/pi)^2 sin^2(pi (x_j - z_j)/p)``: MacKay's periodic kernel, with a length-scale in units of
    x_j.

    Parameters
    ----------
    length_scale
        A scalar ties all columns (images); shape (d,) gives each its own (automatic relevance determination).
    length_scale_bounds
        Search interval, in units of the state.
    periods
        Period of each column, infinite where it is not an angle, shape (d,); None for no angles.
    typical_scale
        Median of a log-normal prior on the length-scales, with log standard deviation sqrt(3); None for no prior.

    References
    ----------
    Rasmussen, Williams (2006), equations 5.1 and 4.31; MacKay (1998), Introduction to Gaussian processes, section 5.

    Examples
    --------
    >>> kernel = SquaredExponential(length_scale=1.0, periods=(2 * np.pi,))
    >>> kernel(np.array([[0.1]]), np.array([[0.1 + 2 * np.pi]]))
    array([[1.]])
    """

    def __init__(
        self,
        length_scale: ArrayLike = 1.0,
        length_scale_bounds: tuple[float, float] = (1e-5, 1e5),
        periods: ArrayLike | None = None,
        typical_scale: ArrayLike | None = None,
    ) -> None:
        self.length_scale = length_scale
        self.length_scale_bounds = length_scale_bounds
        self.periods = periods
        self.typical_scale = typical_scale

    @property
    def hyperparameter_length_scale(self) -> Hyperparameter:
        """scikit-learn's description of the one hyper-parameter."""
        return Hyperparameter("length_scale", "numeric", self.length_scale_bounds, max(np.size(self.length_scale), 1))

    def embedding(self, d: int) -> Embedding:
        """The map e divided by the length-scales, for states of d columns."""
        scale = per_column(self.length_scale, "length_scale", d)
        periods = np.full(d, np.inf) if self.periods is None else np.broadcast_to(check_periods(self.periods), (d,))
        plain, angle = np.flatnonzero(np.isinf(periods)), np.flatnonzero(np.isfinite(periods))
        frequency = 2 * np.pi / periods[angle]
        return Embedding(plain, 1 / scale[plain], angle, frequency, 1 / (frequency * scale[angle]))

    def embed(self, X: FloatArray) -> FloatArray:
        """Embedded columns divided by their length-scales, shape (N, e)."""
        return self.embedding(X.shape[1])(X)

    def __call__(self, X: ArrayLike, Y: ArrayLike | None = None, eval_gradient: bool = False) -> Any:
        """Kernel matrix (N, M) and, for Y None, its gradient (N, N, H) if asked."""
        X = np.atleast_2d(np.asarray(X, dtype=np.float64))
        K = self._from_embedded(self.embed(X), None if Y is None else self.embed(np.atleast_2d(Y)))
        if not eval_gradient:
            return K
        if Y is not None:
            raise ValueError("Y must be None where eval_gradient is True")
        columns = self.embed(X)
        squared = (columns[:, None, :] - columns[None, :, :]) ** 2
        return K, K[:, :, None] * self._per_hyperparameter(squared, X.shape[1])

    @staticmethod
    def _from_embedded(A: FloatArray, B: FloatArray | None) -> FloatArray:
        same = B is None
        centre = A.mean(axis=0)  # the distance is blind to shifts; its expansion into products is not
        A = A - centre
        B = A if B is None else B - centre
        K = A @ B.T
        K -= 0.5 * np.einsum("ne,ne->n", A, A)[:, None]
        K -= 0.5 * np.einsum("ne,ne->n", B, B)[None, :]
        np.minimum(K, 0.0, out=K)
        np.exp(K, out=K)
        if same:
            np.fill_diagonal(K, 1.0)
        return K

    def _per_hyperparameter(self, values: FloatArray, d: int) -> FloatArray:
        """Sum embedded columns (..., e) into hyper-parameters (..., H)."""
        if np.size(self.length_scale) == 1:
            return values.sum(axis=-1, keepdims=True)
        return values @ np.eye(d)[self.embedding(d).owner]

    def contract_gradient(self, X: FloatArray, Z: FloatArray | None, K: FloatArray, G: FloatArray) -> FloatArray:
        """``sum_ij G_ij d k(x_i, z_j) / d theta`` in O(N M e) time and no (N, M, H) array, shape (H,).

        ``dk/d log l = k (x - z)^2 / l^2``, expanded: with Q = G o K, ``sum_i Q_i. x_i^2 + sum_j Q_.j z_j^2 - 2 x'Q z``.
        """
        A = self.embed(X)
        B = A if Z is None else self.embed(Z)
        centre = A.mean(axis=0)
        A, B, Q = A - centre, B - centre, G * K
        columns = Q.sum(axis=1) @ A**2 + Q.sum(axis=0) @ B**2 - 2 * np.einsum("ne,ne->e", A, Q @ B)
        return self._per_hyperparameter(columns, X.shape[1])

    def log_prior(self) -> tuple[float, FloatArray]:
        """Log-density of the prior at theta, up to a constant, and its gradient (H,)."""
        if self.typical_scale is None:
            return 0.0, np.zeros(len(self.theta))
        z = (self.theta - np.log(np.asarray(self.typical_scale))) / LOG_PRIOR_STD
        return float(-0.5 * np.sum(z**2)), -z / LOG_PRIOR_STD

    def __repr__(self) -> str:
        return f"SquaredExponential(length_scale={np.array2string(np.asarray(self.length_scale), precision=3)})"


def check_periods(periods: ArrayLike) -> FloatArray:
    """Periods as numbers > 0, infinite for columns that are no angles.

    Raises
    ------
    ValueError
        For None, NaN, or a number that is not positive among them, by its index.
    """
    given = np.asarray(periods, dtype=np.float64)
    wrong = ~(given > 0)  # NaN, and None that became it, among them
    if np.any(wrong):
        index = first_index(wrong)
        value = np.asarray(periods, dtype=object)[index]
        raise ValueError(
            f"periods{list(index) or ''} is {value}: a period is > 0, and np.inf for a column that is no angle"
        )
    return given


@dataclass(frozen=True)
class Embedding:
    """``[x_plain / l, r cos(f x_angle), r sin(f x_angle)]`` with r = 1/(f l): of rows of states, or of one state.

    `plain` and `angle` index columns; `scale`, `frequency` and `radius` are 1/l of the plain columns, f, and r.
    """

    plain: NDArray[np.intp]
    scale: FloatArray
    angle: NDArray[np.intp]
    frequency: FloatArray
    radius: FloatArray

    @property
    def owner(self) -> NDArray[np.intp]:
        """The column of the state that each embedded column comes from, shape (e,)."""
        return np.concatenate([self.plain, self.angle, self.angle])

    def __call__(self, X: FloatArray) -> FloatArray:
        if not self.angle.size:
            return X * self.scale
        phase = X[..., self.angle] * self.frequency
        columns = (X[..., self.plain] * self.scale, self.radius * np.cos(phase), self.radius * np.sin(phase))
        return np.concatenate(columns, axis=-1)


def split_white_noise(kernel: Any) -> tuple[Any, float]:
    """A kernel without the white noise that is added to it, and the variance of that noise.

    scikit-learn's ``WhiteKernel`` is noise of each sample. As part of a kernel it would be a function of the state that
    differs at every other state: repeated samples would share it, and weights not count against it.

    Raises
    ------
    TypeError
        If the noise is a factor of something else than a constant, or all there is.

    Examples
    --------
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> split_white_noise(2.0 * RBF() + 0.5 * WhiteKernel(0.2))
    (1.41**2 * RBF(length_scale=1), 0.1)
    """
    rest, noise = _without_white(kernel)
    if rest is None:
        raise TypeError(f"kernel must be more than white noise, got {kernel}")
    return rest, noise


def _without_white(kernel: Any) -> tuple[Any, float]:
    if isinstance(kernel, WhiteKernel):
        return None, float(kernel.noise_level)
    if isinstance(kernel, Sum):
        parts = [_without_white(part) for part in (kernel.k1, kernel.k2)]
        kept, noise = [part for part, _ in parts if part is not None], sum(level for _, level in parts)
        return (kernel if not noise else Sum(*kept) if len(kept) == 2 else kept[0] if kept else None), noise
    if isinstance(kernel, Product):
        for constant, other in ((kernel.k1, kernel.k2), (kernel.k2, kernel.k1)):
            if isinstance(constant, ConstantKernel):
                rest, level = _without_white(other)
                scaled = kernel if not level else None if rest is None else Product(constant, rest)
                return scaled, float(constant.constant_value) * level
    if any(isinstance(part, WhiteKernel) for part in _parts(kernel)):
        raise TypeError(f"kernel must add its WhiteKernel, or scale it by a constant, got {kernel}")
    return kernel, 0.0


def _parts(kernel: Any) -> list[Any]:
    """The kernels that a scikit-learn kernel is made of, at any depth."""
    inner = [getattr(kernel, name) for name in ("k1", "k2", "kernel") if hasattr(kernel, name)]
    return [kernel, *(part for each in inner for part in _parts(each))] if isinstance(kernel, Kernel) else []


def contract_gradient(kernel: Any, X: FloatArray, Z: FloatArray | None, K: FloatArray, G: FloatArray) -> FloatArray:
    """``sum_ij G_ij d k(x_i, z_j) / d theta`` for any kernel, shape (H,).

    By the kernel's own contraction where it has one; else from scikit-learn's gradient array (Z None), else by central
    differences of the kernel matrix (rectangular ones, for which scikit-learn gives no gradient).
    """
    if hasattr(kernel, "contract_gradient"):
        return kernel.contract_gradient(X, Z, K, G)
    if Z is None:
        return np.einsum("ij,ijh->h", G, kernel(X, eval_gradient=True)[1])
    return central_differences(lambda theta: np.sum(G * kernel.clone_with_theta(theta)(X, Z)), kernel.theta)


def contract_diagonal(kernel: Any, X: FloatArray, g: FloatArray) -> FloatArray:
    """``sum_i g_i d k(x_i, x_i) / d theta``, shape (H,); zero for normalised kernels."""
    if isinstance(kernel, NormalizedKernelMixin):
        return np.zeros(len(kernel.theta))
    return central_differences(lambda theta: g @ kernel.clone_with_theta(theta).diag(X), kernel.theta)


def central_differences(function: Any, point: FloatArray) -> FloatArray:
    """Gradient of a scalar function by central differences, with the cube root of rounding as their step."""
    step = math.cbrt(LAST_PLACE)
    return np.array([(function(point + h) - function(point - h)) / (2 * step) for h in step * np.eye(len(point))])


def log_prior(kernel: Any) -> tuple[float, FloatArray]:
    """The kernel's log prior and gradient at its theta; flat for kernels without one."""
    return kernel.log_prior() if hasattr(kernel, "log_prior") else (0.0, np.zeros(len(kernel.theta)))
