"""Training of a network by L-BFGS on the full batch, and what its noise is on samples that it was not trained on.

A network of some thousand parameters interpolates the few effective samples that weights leave, and the spread of its
residuals then says nothing of the noise: so the noise is judged out of sample, by folds of the weight.

Shapes: N samples, o outputs, P parameters; `inputs` (N, d), `targets` (N, o), `weights` (N,) > 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from policies.categorical import Categorical
from policies.network import Network
from policies.tolerances import HELD_OUT_SAMPLES, NOISE_FOLDS, ROUGH_ITERATIONS
from reps_opt.rows import chunks
from reps_opt.tolerances import CLOSE, ROUNDED, VISIBLE
from reps_opt.validation import FloatArray

Loss = Callable[[FloatArray, Any], tuple[FloatArray, FloatArray]]
"""``loss(outputs, targets)``: values (N,), and their gradients in the outputs (N, o)."""


def squared_error(outputs: FloatArray, targets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``|outputs - targets|^2 / 2`` and its gradient."""
    error = outputs - targets
    return 0.5 * np.einsum("no,no->n", error, error), error


def cross_entropy(logits: FloatArray, indices: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
    """``-log pi(a)`` of one action index a sample, and its gradient in the logits."""
    distribution = Categorical.from_logits(logits)
    return -distribution.log_prob(indices), -distribution.surprise(indices)


@dataclass(frozen=True)
class Samples:
    """What a network is trained on."""

    inputs: FloatArray
    targets: Any
    weights: FloatArray

    def part(self, chosen: NDArray[Any] | slice) -> Samples:
        """Those at the positions, or under the mask."""
        return Samples(self.inputs[chosen], self.targets[chosen], self.weights[chosen])


def train(
    network: Network, start: FloatArray, loss: Loss, samples: Samples, ridge: float, max_iter: int
) -> tuple[FloatArray, int]:
    """Minimise ``sum_i w_i loss_i + ridge |params|^2 / 2`` from `start`; returns parameters (P,) and iterations.

    Where the activations of all samples do not fit in cache, single precision does what it can first: its tanh takes a
    fifth of the time.
    """
    scale = float(samples.weights.sum()) + ridge  # divided by it, the objective is of order one, whatever the weights
    parts = [samples.part(some) for some in chunks(len(samples.weights), sum(network.sizes))]
    n_iter = 0
    if len(parts) > 1:
        start, n_iter = _descend(Network(network.sizes, "float32"), start, loss, parts, ridge, scale, max_iter)
    params, more = _descend(Network(network.sizes), start, loss, parts, ridge, scale, max_iter - n_iter)
    return params, n_iter + more


def _descend(
    network: Network, start: FloatArray, loss: Loss, parts: list[Samples], ridge: float, scale: float, max_iter: int
) -> tuple[FloatArray, int]:
    """L-BFGS in the network's precision, on the objective divided by ``scale``."""
    if max_iter < 1:
        return start, 0
    scale, power = math.frexp(scale)  # weights of order one: single precision holds no others, and loses no digit
    parts = [replace(part, weights=np.ldexp(part.weights, -power)) for part in parts]
    ridge = math.ldexp(ridge, -power)

    def objective(params: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = 0.5 * ridge * float(params @ params), ridge * params
        for part in parts:
            passed = network.forward(params, part.inputs)
            values, seeds = loss(network.outputs(params, passed), part.targets)
            value += float(part.weights @ values)
            gradient += network.gradient(params, passed, part.weights[:, None] * seeds)
        return value / scale, gradient / scale

    tolerance = ROUNDED if network.dtype == "float64" else VISIBLE
    options = {"maxiter": max_iter, "maxfun": 2 * max_iter + 20, "ftol": tolerance, "gtol": tolerance}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    return found.x, int(found.nit)


def train_with_noise(
    network: Network, start: FloatArray, samples: Samples, alpha: float, max_iter: int, rng: np.random.RandomState
) -> tuple[FloatArray, int, FloatArray, float]:
    """Least squares under a prior of precision `alpha`, the noise known from samples held out.

    The posterior mode for noise variance v minimises ``sum_i w_i |e_i|^2 / 2 + alpha v |params|^2 / 2``, targets being
    standardised. A first round with v = 1 / alpha finds v by its size.

    Returns
    -------
    params, iterations, noise, ridge
        Parameters (P,), iterations of the last training, variances (o,), and ``alpha v``.
    """
    folds = split(samples.weights, rng)
    ridge = 1.0
    if folds:
        rough = min(max_iter, ROUGH_ITERATIONS)
        ridge = alpha * float(np.mean(_held_out(network, start, samples, ridge, rough, folds)))
    params, n_iter = train(network, start, squared_error, samples, ridge, max_iter)
    squares = (network.output(params, samples.inputs) - samples.targets) ** 2
    noise = samples.weights @ squares / samples.weights.sum()
    if folds:
        held_out, held = _held_out(network, start, samples, ridge, max_iter, folds), np.sum(folds, axis=0)
        paired = held @ squares / held.sum()
        # The same samples in and out of the fit: their own noise cancels in the ratio, which few of them can tell.
        noise = np.where(paired > 0, noise * np.maximum(held_out / np.where(paired > 0, paired, 1.0), 1.0), held_out)
    return params, n_iter, noise, ridge


def split(weights: FloatArray, rng: np.random.RandomState) -> list[FloatArray]:
    """Weights to hold out, (N,) a fold: folds of like weight, and as many as it takes to see the noise.

    Samples go whole, heavy and light dealt to all folds alike. Only where they weigh two and more on average are they
    copies of each other, merged: then a sample of weight two goes to two folds, as its copies would.

    Examples
    --------
    >>> folds = split(np.ones(10), np.random.RandomState(0))
    >>> len(folds), np.sum(folds, axis=0).tolist() == [1.0] * 10
    (5, True)

    Of 600 samples two fifths are enough.

    >>> np.sum(split(np.ones(600), np.random.RandomState(0)), axis=1)
    array([120., 120.])
    """
    n = len(weights)
    copies = np.ones(n, dtype=np.intp)
    if weights.sum() >= 2 * n:
        copies = np.clip(np.round(weights), 1, NOISE_FOLDS).astype(np.intp)
    row = np.repeat(np.arange(n), copies)
    n_folds = min(NOISE_FOLDS, len(row))
    if n_folds < 2:
        return []
    shares = (weights / copies)[row]
    fold = np.empty(len(row), dtype=np.intp)
    order = np.argsort(-weights[row], kind="stable")
    for first in range(0, len(row), n_folds):
        dealt = order[first : first + n_folds]
        fold[dealt] = rng.permutation(n_folds)[: len(dealt)]
    relative = shares / shares.max()
    ess = float(relative.sum() ** 2 / np.sum(relative**2))
    wanted = int(np.clip(np.ceil(HELD_OUT_SAMPLES * n_folds / ess), 1, n_folds))
    return [np.bincount(row, weights=shares * (fold == i), minlength=n).astype(np.float64) for i in range(wanted)]


def _held_out(
    network: Network, start: FloatArray, samples: Samples, ridge: float, max_iter: int, folds: list[FloatArray]
) -> FloatArray:
    """Mean square error (o,) on each fold of a network trained on the rest, in single precision."""
    single = Network(network.sizes, "float32")
    squares = np.zeros(samples.targets.shape[1])
    for held in folds:
        left = samples.weights - held > CLOSE * samples.weights
        rest = Samples(samples.inputs[left], samples.targets[left], (samples.weights - held)[left])
        scale = float(rest.weights.sum()) + ridge
        params, _ = _descend(single, start, squared_error, [rest], ridge, scale, max_iter)
        seen = held > 0
        squares += held[seen] @ (network.output(params, samples.inputs[seen]) - samples.targets[seen]) ** 2
    return squares / np.sum(folds)
