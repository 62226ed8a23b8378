"""A small tanh network in NumPy: outputs and per-sample Jacobians, no automatic differentiation needed.

Shapes: N samples, layer sizes (d, h1, .., o), P parameters in one flat vector: for each layer its matrix (in, out)
row by row, then its bias (out,).
"""

from __future__ import annotations

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

    def jacobian(self, params: FloatArray, X: FloatArray) -> FloatArray:
        """Derivatives of every output in every parameter, by back-propagation, shape (N, o, P)."""
        layers, values = self.layers(params), self._activations(params, X)
        n, o = len(X), self.sizes[-1]
        upstream = np.broadcast_to(np.eye(o), (n, o, o))
        parts: list[FloatArray] = []
        for i in range(len(layers) - 1, -1, -1):
            matrix = values[i][:, None, :, None] * upstream[:, :, None, :]
            parts = [matrix.reshape(n, o, -1), upstream, *parts]
            if i:
                upstream = (upstream @ layers[i][0].T) * (1 - values[i] ** 2)[:, None, :]
        return np.concatenate(parts, axis=2)
