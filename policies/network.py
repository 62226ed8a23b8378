"""A small tanh network in NumPy: outputs and per-sample Jacobians, no automatic differentiation needed.

Shapes: N samples, layer sizes (d, h1, .., o), P parameters in one flat vector: for each layer its matrix (in, out)
row by row, then its bias (out,).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reps_opt.validation import FloatArray


@dataclass(frozen=True)
class Network:
    """``x -> W_L'tanh(.. tanh(W_1'x + b_1) ..) + b_L`` for the flat parameters it is given.

    Examples
    --------
    >>> network = Network((2, 3, 1))
    >>> network.n_params
    13
    >>> network.output(np.zeros(13), np.ones((4, 2))).shape
    (4, 1)
    """

    sizes: tuple[int, ...]

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
        """Outputs at X (N, d), shape (N, o)."""
        return self._activations(params, X)[-1]

    def _activations(self, params: FloatArray, X: FloatArray) -> list[FloatArray]:
        layers = self.layers(params)
        values = [X]
        for i, (W, b) in enumerate(layers):
            linear = values[-1] @ W + b
            values.append(linear if i == len(layers) - 1 else np.tanh(linear))
        return values

    def pullback(self, params: FloatArray, X: FloatArray, seeds: FloatArray) -> FloatArray:
        """``seeds @ (d outputs / d params)`` sample by sample, by back-propagation.

        Parameters
        ----------
        params, X
            Parameters (P,) and inputs (N, d).
        seeds
            Rows in output space, shape (N, r, o); the identity gives the Jacobian itself.

        Returns
        -------
        ndarray
            Shape (N, r, P).
        """
        layers, values = self.layers(params), self._activations(params, X)
        n, r = seeds.shape[:2]
        rows = np.empty((n, r, self.n_params))
        end = self.n_params
        for i in range(len(layers) - 1, -1, -1):
            a, b = layers[i][0].shape
            start, middle = end - (a + 1) * b, end - b
            np.multiply(
                values[i][:, None, :, None], seeds[:, :, None, :], out=rows[:, :, start:middle].reshape(n, r, a, b)
            )
            rows[:, :, middle:end] = seeds
            if i:
                seeds = (seeds @ layers[i][0].T) * (1 - values[i] ** 2)[:, None, :]
            end = start
        return rows

    def fisher_product(
        self, params: FloatArray, X: FloatArray, seeds: FloatArray
    ) -> Callable[[FloatArray], FloatArray]:
        """``v -> sum over samples of J'(J v)`` with J = ``pullback``, never formed; two matrix products per layer.

        A layer's rows of J are outer products of its input and its seeds, so that ``J v`` sums ``input' V seeds``.
        Inputs and seeds are computed once; a product then costs O(N r P), and no memory for J.
        """
        layers, inputs = self.layers(params), self._activations(params, X)[:-1]
        pulled = [seeds]
        for i in range(len(layers) - 1, 0, -1):
            pulled.insert(0, (pulled[0] @ layers[i][0].T) * (1 - inputs[i] ** 2)[:, None, :])

        def product(v: FloatArray) -> FloatArray:
            moved = np.zeros(seeds.shape[:2])
            for (V, c), x, g in zip(self.layers(v), inputs, pulled, strict=True):
                moved += np.einsum("nrb,nb->nr", g, x @ V + c)
            out = np.empty(self.n_params)
            for (W, b), x, g in zip(self.layers(out), inputs, pulled, strict=True):
                back = np.einsum("nr,nrb->nb", moved, g)
                W[:] = x.T @ back
                b[:] = back.sum(axis=0)
            return out

        return product
