"""A small tanh network in NumPy: outputs, gradients and Fisher products, no automatic differentiation needed.

Shapes: N samples, layer sizes (d, h1, .., o), P parameters in one flat vector: for each layer its matrix (in, out)
row by row, then its bias (out,).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from policies.tolerances import CURVATURE_FLOOR, NETWORK_CHUNK
from reps_opt.threads import limited
from reps_opt.validation import FloatArray


class Activations(NamedTuple):
    """What a pass over N samples leaves for derivatives.

    Attributes
    ----------
    inputs
        Of every layer, (N, in + 1) each, a column of ones behind them.
    slopes
        Derivative (N, h) of every hidden layer's tanh.
    """

    inputs: list[FloatArray]
    slopes: list[FloatArray]

    def part(self, chosen: slice) -> Activations:
        """Those of some samples: views."""
        return Activations([x[chosen] for x in self.inputs], [slope[chosen] for slope in self.slopes])


@dataclass(frozen=True)
class Network:
    """``x -> W_L'tanh(.. tanh(W_1'x + b_1) ..) + b_L`` for the flat parameters it is given.

    ``dtype`` is what it computes in; parameters come, and results go, in float64.

    Examples
    --------
    >>> network = Network((2, 3, 1))
    >>> network.n_params
    13
    >>> network.output(np.zeros(13), np.ones((4, 2))).shape
    (4, 1)
    """

    sizes: tuple[int, ...]
    dtype: str = "float64"

    @property
    def n_params(self) -> int:
        """Number P of parameters."""
        return sum((a + 1) * b for a, b in zip(self.sizes[:-1], self.sizes[1:], strict=True))

    def layers(self, params: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
        """Views of the flat vector as (matrix, bias) pairs."""
        pairs, start = [], 0
        for a, b in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            middle, end = start + a * b, start + (a + 1) * b
            pairs.append((params[start:middle].reshape(a, b), params[middle:end]))
            start = end
        return pairs

    def initial(self, rng: np.random.RandomState) -> FloatArray:
        """Matrices drawn with variance 1/in, zero biases, and a last layer of zeros: the network starts at zero."""
        params = np.zeros(self.n_params)
        for W, _ in self.layers(params)[:-1]:
            W[:] = rng.normal(scale=1 / np.sqrt(len(W)), size=W.shape)
        return params

    def output(self, params: FloatArray, X: FloatArray) -> FloatArray:
        """Outputs at X (N, d), shape (N, o); at one input (d,), shape (o,)."""
        *hidden, (W, b) = self.layers(params.astype(self.dtype, copy=False))
        X = X.astype(self.dtype, copy=False)
        for V, c in hidden:
            X = X @ V
            X += c  # in place: fresh memory costs more than the arithmetic
            np.tanh(X, out=X)
        return np.asarray(X @ W + b, dtype=np.float64)

    def forward(self, params: FloatArray, X: FloatArray) -> Activations:
        """The inputs of every layer at X (N, d), and the slopes; see :meth:`outputs` for what comes out."""
        n, widths = len(X), [*(size + 1 for size in self.sizes[:-1]), *self.sizes[1:-1]]
        ends = n * np.cumsum(widths)
        # One block, and in place: memory freed in pieces goes back to the system, and costs more than the arithmetic.
        parts = np.split(np.empty(ends[-1], self.dtype), ends[:-1])
        arrays = [part.reshape(n, width) for part, width in zip(parts, widths, strict=True)]
        inputs, slopes = arrays[: len(self.sizes) - 1], arrays[len(self.sizes) - 1 :]
        for x in inputs:
            x[:, -1] = 1.0
        inputs[0][:, :-1] = X
        for W, x, following, slope in zip(self._blocks(params)[:-1], inputs[:-1], inputs[1:], slopes, strict=True):
            np.matmul(x, W, out=slope)
            following[:, :-1] = np.tanh(slope, out=slope)
            np.multiply(slope, slope, out=slope)
            np.subtract(1, slope, out=slope)
        return Activations(inputs, slopes)

    def outputs(self, params: FloatArray, activations: Activations) -> FloatArray:
        """Outputs (N, o) of a pass with these parameters: :meth:`output`, up to rounding."""
        return np.asarray(activations.inputs[-1] @ self._blocks(params)[-1], dtype=np.float64)

    def _blocks(self, params: FloatArray) -> list[FloatArray]:
        """The flat vector as one matrix (in + 1, out) a layer, its bias last; views where the dtype is ours."""
        params = params.astype(self.dtype, copy=False)
        blocks, start = [], 0
        for a, b in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            end = start + (a + 1) * b
            blocks.append(params[start:end].reshape(a + 1, b))
            start = end
        return blocks

    def gradient(self, params: FloatArray, activations: Activations, seeds: FloatArray) -> FloatArray:
        """``sum over samples of (d outputs / d params)' seeds`` (P,), seeds (N, o), by one backward pass."""
        out = np.zeros(self.n_params, self.dtype)
        _pull(self._blocks(params), self._blocks(out), activations, seeds.astype(self.dtype, copy=False))
        return out.astype(np.float64, copy=False)

    def pullback(self, params: FloatArray, activations: Activations, seeds: FloatArray) -> FloatArray:
        """``seeds @ (d outputs / d params)`` sample by sample, by back-propagation.

        Parameters
        ----------
        params, activations
            Parameters (P,) and what their :meth:`forward` says of N samples.
        seeds
            Rows in output space, shape (N, r, o); the identity gives the Jacobian itself.

        Returns
        -------
        ndarray
            Shape (N, r, P).
        """
        layers, (inputs, slopes) = self._blocks(params), activations
        n, r = seeds.shape[:2]
        rows = np.empty((n, r, self.n_params))
        end = self.n_params
        for i in range(len(layers) - 1, -1, -1):
            start = end - layers[i].size
            out = rows[:, :, start:end].reshape(n, r, *layers[i].shape)
            np.multiply(inputs[i][:, None, :, None], seeds[:, :, None, :], out=out)
            if i:
                seeds = (seeds @ layers[i][:-1].T) * slopes[i - 1][:, None, :]
            end = start
        return rows

    def fisher_product(
        self, params: FloatArray, activations: Activations, curvature: FloatArray
    ) -> Callable[[FloatArray], FloatArray]:
        """``v -> sum over samples of J'C J v``, J = d outputs / d params never formed, C the ``curvature``.

        C is (N, o, o), or (o,) where it is diagonal and the same for all. Tangents forward, seeds backward: two matrix
        products a layer each, over chunks of samples that stay in cache.
        """
        layers, chunks = self._blocks(params), []
        curvature = curvature.astype(self.dtype, copy=False)
        for start in range(0, len(activations.inputs[0]), NETWORK_CHUNK):
            some = slice(start, start + NETWORK_CHUNK)
            chunks.append((activations.part(some), curvature if curvature.ndim == 1 else curvature[some]))

        @limited()
        def product(v: FloatArray) -> FloatArray:
            out = np.zeros(self.n_params, self.dtype)
            tangents, sums = self._blocks(v), self._blocks(out)
            for part, C in chunks:
                moved = _push(layers, tangents, part)
                _pull(layers, sums, part, moved * C if C.ndim == 1 else np.einsum("nij,nj->ni", C, moved))
            return out.astype(np.float64, copy=False)

        return product

    def kronecker_solve(
        self, params: FloatArray, activations: Activations, roots: FloatArray
    ) -> Callable[[FloatArray, float], FloatArray]:
        r"""``(y, damping) -> (F + damping I)^-1 y`` for an approximation of F, the mean of ``J'R'R J`` over samples.

        Layers are taken as independent, and within a layer its inputs x as independent of the seeds g = ``R J`` that
        are propagated back to it: each block of F becomes the Kronecker product of ``mean(x x')`` and ``mean(g g')``,
        which two small eigendecompositions invert for any damping.

        Parameters
        ----------
        params, activations
            Parameters (P,) and what their :meth:`forward` says of N samples.
        roots
            R (N, r, o), with ``R'R`` the curvature.

        References
        ----------
        Martens and Grosse (2015), *Optimizing neural networks with Kronecker-factored approximate curvature*.
        """
        layers, (inputs, slopes) = self._blocks(params), activations
        n, seeds = len(roots), roots.astype(self.dtype, copy=False)
        factors: list[tuple[FloatArray, FloatArray, FloatArray]] = []
        for i in range(len(layers) - 1, -1, -1):
            x, g = inputs[i], seeds.reshape(-1, seeds.shape[2])
            a, U = np.linalg.eigh(x.T @ x / n)
            b, V = np.linalg.eigh(g.T @ g / n)
            factors.insert(0, (U, V, np.maximum(a[:, None] * b, CURVATURE_FLOOR * a[-1] * b[-1])))
            if i:
                seeds = (g @ layers[i][:-1].T).reshape(*seeds.shape[:2], -1)
                seeds *= slopes[i - 1][:, None, :]

        def solve(y: FloatArray, damping: float) -> FloatArray:
            out = np.empty(self.n_params, self.dtype)
            for part, to, (U, V, curvature) in zip(self._blocks(y), self._blocks(out), factors, strict=True):
                turned = U.T @ part @ V
                turned /= curvature + damping
                np.matmul(U @ turned, V.T, out=to)
            return out.astype(np.float64, copy=False)

        return solve


def _push(layers: list[FloatArray], tangents: list[FloatArray], activations: Activations) -> FloatArray:
    """Derivative (N, o) of the outputs along a direction of the parameters."""
    inputs, slopes = activations
    moved = inputs[0] @ tangents[0]
    for W, V, x, slope in zip(layers[1:], tangents[1:], inputs[1:], slopes, strict=True):
        moved *= slope
        moved = moved @ W[:-1]
        moved += x @ V
    return moved


def _pull(layers: list[FloatArray], sums: list[FloatArray], activations: Activations, seeds: FloatArray) -> None:
    """Add the gradient of ``sum(seeds * outputs)`` in the parameters to ``sums``, back-propagating seeds (N, o)."""
    inputs, slopes = activations
    for i in range(len(layers) - 1, -1, -1):
        sums[i] += inputs[i].T @ seeds
        if i:
            seeds = seeds @ layers[i][:-1].T
            seeds *= slopes[i - 1]
